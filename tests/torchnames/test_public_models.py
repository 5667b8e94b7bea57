"""Public model files with changed import lines: the losses of a few steps of training are PyTorch's, in both precisions."""

# ruff: noqa: E501 - the tables have the constructors and arguments of other people's code in one line each
from __future__ import annotations

import numpy as np
import pytest
from public_code import (
    close_in_float32,
    imported,
    of_precision,
    ported,
    repository,
    same_weights,
    started,
    without_chance,
)

import anynet.torch as ours
from torch_oracle import torch

IMAGES = [(4, 3, 32, 32)]
VIT = "image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64"
CIFAR = {
    "densenet": "DenseNet(Bottleneck, [1, 1, 1, 1], growth_rate=8)", "dla": "DLA()", "dla_simple": "SimpleDLA()",
    "dpn": "DPN({'in_planes': (32, 32, 64, 64), 'out_planes': (32, 32, 64, 64), 'num_blocks': (1, 1, 1, 1), 'dense_depth': (4, 4, 4, 4)})",
    "efficientnet": "EfficientNet({'num_blocks': [1, 2], 'expansion': [1, 6], 'out_channels': [16, 24], 'kernel_size': [3, 5], "
    "'stride': [1, 2], 'dropout_rate': 0.0, 'drop_connect_rate': 0.0})",
    "googlenet": "GoogLeNet()", "lenet": "LeNet()", "mobilenet": "MobileNet()", "mobilenetv2": "MobileNetV2()",
    "pnasnet": "PNASNet(CellB, num_cells=1, num_planes=8)", "preact_resnet": "PreActResNet18()",
    "regnet": "RegNet({'depths': [1, 1, 1, 1], 'widths': [8, 16, 24, 32], 'strides': [1, 1, 2, 2], 'group_width': 8, 'bottleneck_ratio': 1, "
    "'se_ratio': 0.25})",
    "resnet": "ResNet(BasicBlock, [1, 1, 1, 1])", "resnext": "ResNeXt(num_blocks=[1, 1, 1], cardinality=2, bottleneck_width=8)",
    "senet": "SENet(PreActBlock, [1, 1, 1, 1])",
    "shufflenetv2": "ShuffleNetV2(0.5)", "vgg": "VGG('VGG11')",
}  # fmt: skip
VITS = {
    "vit": f"ViT({VIT})", "simple_vit": f"SimpleViT({VIT})", "deepvit": f"DeepViT({VIT})", "cait": f"CaiT({VIT}, cls_depth=1)",
    "t2t": "T2TViT(dim=32, image_size=32, depth=1, heads=2, mlp_dim=64, num_classes=10, t2t_layers=((7, 4), (3, 2)))",
    "cct": "CCT(img_size=32, embedding_dim=32, n_conv_layers=1, num_layers=2, num_heads=2, mlp_ratio=2., num_classes=10, dropout_rate=0., "
    "attention_dropout=0., stochastic_depth_rate=0.)",
    "cross_vit": "CrossViT(image_size=32, num_classes=10, depth=1, sm_dim=16, sm_patch_size=8, sm_enc_depth=1, sm_enc_heads=2, sm_enc_mlp_dim=32, "
    "lg_dim=24, lg_patch_size=16, lg_enc_depth=1, lg_enc_heads=2, lg_enc_mlp_dim=32, cross_attn_depth=1, cross_attn_heads=2)",
    "pit": "PiT(image_size=32, patch_size=8, dim=16, num_classes=10, depth=(1, 1), heads=2, mlp_dim=32)",
    "levit": "LeViT(image_size=64, num_classes=10, stages=2, dim=(16, 24), depth=1, heads=(2, 3), mlp_mult=2)",
    "cvt": "CvT(num_classes=10, s1_emb_dim=8, s1_depth=1, s2_emb_dim=12, s2_depth=1, s2_heads=2, s3_emb_dim=16, s3_depth=1, s3_heads=2)",
    "twins_svt": "TwinsSVT(num_classes=10, s1_emb_dim=8, s1_patch_size=2, s1_local_patch_size=4, s1_global_k=4, s1_depth=1, s2_emb_dim=12, "
    "s2_patch_size=2, s2_local_patch_size=4, s2_global_k=4, s2_depth=1, s3_emb_dim=16, s3_patch_size=2, s3_local_patch_size=2, s3_global_k=2, "
    "s3_depth=1, s4_emb_dim=20, s4_patch_size=1, s4_local_patch_size=2, s4_global_k=2, s4_depth=1)",
    "regionvit": "RegionViT(dim=(8, 12, 16, 20), depth=(1, 1, 1, 1), window_size=2, num_classes=10)",
    "crossformer": "CrossFormer(num_classes=10, dim=(32, 32, 64, 64), depth=(1, 1, 1, 1), global_window_size=(4, 2, 1, 1), local_window_size=2)",
    "scalable_vit": "ScalableViT(num_classes=10, dim=8, heads=(2, 2, 2, 2), depth=(1, 1, 1, 1), ssa_dim_key=(4, 4, 4, 4), "
    "reduction_factor=(8, 4, 2, 1), window_size=(8, 4, None, None))",
    "sep_vit": "SepViT(num_classes=10, dim=8, dim_head=4, heads=(1, 2, 2, 2), depth=(1, 1, 1, 1), window_size=7)",
    "max_vit": "MaxViT(num_classes=10, dim_conv_stem=8, dim=8, dim_head=4, depth=(1, 1), window_size=2)",
    "nest": "NesT(image_size=32, patch_size=4, dim=12, heads=2, num_hierarchies=2, block_repeats=(1, 1), num_classes=10)",
    "mobile_vit": "MobileViT(image_size=(32, 32), dims=[12, 16, 20], channels=[4, 8, 8, 8, 8, 8, 12, 12, 16, 16, 24], num_classes=10, "
    "patch_size=(1, 1))",
    "xcit": f"XCiT({VIT}, cls_depth=1)",
    "vit_with_patch_merger": f"ViT({VIT}, patch_merge_layer=1, patch_merge_num_tokens=4)", "vit_for_small_dataset": f"ViT({VIT})",
    "parallel_vit": f"ViT({VIT}, num_parallel_branches=2)",
    "rvt": f"RvT({VIT})", "vit_with_patch_dropout": f"ViT({VIT}, patch_dropout=0.0)",
    "simple_vit_with_patch_dropout": f"SimpleViT({VIT}, patch_dropout=0.0)",
    "simple_vit_with_register_tokens": f"SimpleViT({VIT})", "simple_vit_with_qk_norm": f"SimpleViT({VIT})",
    "simple_vit_with_value_residual": f"SimpleViT({VIT})", "simple_vit_with_fft": f"SimpleViT({VIT}, freq_patch_size=8)",
    "simple_uvit": f"SimpleUViT({VIT})", "simple_flash_attn_vit": f"SimpleViT({VIT}, use_flash=True)", "normalized_vit": f"nViT({VIT})",
    "max_vit_with_registers": "MaxViT(num_classes=10, dim_conv_stem=8, dim=8, dim_head=4, depth=(1, 1), window_size=2)",
    "learnable_memory_vit": f"ViT({VIT})", "jumbo_vit": f"JumboViT({VIT}, num_jumbo_cls=1, jumbo_cls_k=2, jumbo_ff_mult=2)",
    "look_vit": "LookViT(image_size=32, num_classes=10, dim=16, depth=2, heads=2, dim_head=8, patch_size=8, highres_patch_size=4)",
    "vit_with_decorr": f"ViT({VIT})", "vit_with_keel_post_ln": f"ViT({VIT})",
}  # fmt: skip
SHAPES = {"levit": [(4, 3, 64, 64)], "regionvit": [(2, 3, 64, 64)], "crossformer": [(2, 3, 64, 64)], "scalable_vit": [(2, 3, 64, 64)],
          "sep_vit": [(1, 3, 224, 224)], "cvt": [(2, 3, 64, 64)],
          "mobilenetv2": [(16, 3, 32, 32)]}  # fmt: skip
OTHERS = {
    "vit_1d": ("ViT(seq_len=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64)", [(4, 3, 32)]),
    "simple_vit_1d": ("SimpleViT(seq_len=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64)", [(4, 3, 32)]),
    "vit_3d": ("ViT(image_size=16, image_patch_size=8, frames=4, frame_patch_size=2, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64)",
               [(2, 3, 4, 16, 16)]),
    "simple_vit_3d": ("SimpleViT(image_size=16, image_patch_size=8, frames=4, frame_patch_size=2, num_classes=10, dim=32, depth=2, heads=2, "
                      "mlp_dim=64)", [(2, 3, 4, 16, 16)]),
    "cct_3d": ("CCT(img_size=16, num_frames=4, embedding_dim=32, n_conv_layers=1, frame_kernel_size=3, num_layers=1, num_heads=2, mlp_ratio=2., "
               "num_classes=10)", [(2, 3, 4, 16, 16)]),
    "vivit": ("ViViT(image_size=16, image_patch_size=8, frames=4, frame_patch_size=2, num_classes=10, dim=32, spatial_depth=1, temporal_depth=1, "
              "heads=2, mlp_dim=64)", [(2, 3, 4, 16, 16)]),
}  # fmt: skip
CNV, UNT = "facebookresearch/ConvNeXt", "milesial/Pytorch-UNet"
FILES = {
    **{
        f"cifar: {n}": ("kuangliu/pytorch-cifar", f"models.{n}", e, SHAPES.get(n, IMAGES))
        for n, e in CIFAR.items()
    },
    **{
        f"vit: {n}": ("lucidrains/vit-pytorch", f"vit_pytorch.{n}", e, SHAPES.get(n, IMAGES))
        for n, e in VITS.items()
    },
    **{f"vit: {n}": ("lucidrains/vit-pytorch", f"vit_pytorch.{n}", *e) for n, e in OTHERS.items()},
    "convnext": (
        CNV,
        "models.convnext",
        "ConvNeXt(num_classes=10, depths=[1, 1, 1, 1], dims=[8, 12, 16, 20])",
        IMAGES,
    ),
    "convnext, isotropic": (
        CNV,
        "models.convnext_isotropic",
        "ConvNeXtIsotropic(num_classes=10, depth=2, dim=16)",
        IMAGES,
    ),
    "unet": (UNT, "unet.unet_model", "UNet(3, 4)", [(2, 3, 16, 16)]),
}


def losses(net, arrays, targets, torch, kind, steps=2):
    """The loss of each of a few steps of SGD, and the sums of the gradients of the last one."""
    net = without_chance(net.to(kind))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    net.train()
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        y = net(*(torch.tensor(a, dtype=kind) for a in arrays))
        y = y[0] if isinstance(y, tuple) else y
        if y.dim() == 2:
            loss = torch.nn.functional.cross_entropy(y, torch.tensor(targets[: len(y)]))
        else:
            loss = (y**2).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found, [float(p.grad.double().abs().sum()) for p in net.parameters() if p.grad is not None]


@pytest.mark.filterwarnings("ignore")  # what the code's authors leave
@pytest.mark.parametrize("name", FILES)
def test_a_model_file_trains_as_with_pytorch(name, tmp_path):
    folder, module, expression, shapes = FILES[name]
    source = repository(folder)
    draw = np.random.default_rng(3)
    arrays = [draw.normal(size=shape) for shape in shapes]
    targets = draw.integers(0, 10, size=16)
    expected, found, gradients, mine_gradients, state = {}, {}, {}, {}, None
    there, here = imported(source, module, torch), imported(ported(source, tmp_path), module, ours)
    for kind in ("float64", "float32"):
        with of_precision(kind, torch, ours):
            started(torch)
            theirs = eval(expression, dict(vars(there)))
            mine = eval(expression, dict(vars(here)))
            state = state or {k: v.clone() for k, v in theirs.state_dict().items()}
            theirs.load_state_dict(state)
            same_weights(mine, theirs)
            expected[kind], gradients[kind] = losses(theirs, arrays, targets, torch, getattr(torch, kind))
            found[kind], mine_gradients[kind] = losses(mine, arrays, targets, ours, getattr(ours, kind))
    assert len(mine_gradients["float32"]) == len(gradients["float32"])
    np.testing.assert_allclose(mine_gradients["float64"], gradients["float64"], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found["float64"], expected["float64"], rtol=1e-10)
    close_in_float32(found["float32"], expected["float32"], expected["float64"])
