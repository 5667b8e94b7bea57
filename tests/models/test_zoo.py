"""The networks of the zoo: known counts of parameters, shapes, PyTorch's outputs with the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import models


def count(net: an.nn.Module) -> int:
    return sum(p.size for p in net.parameters())


@pytest.mark.parametrize(
    ("make", "expected"),
    [  # the numbers that torchvision documents, and those of Y. Idelbayev's reproduction of the CIFAR networks
        (models.resnet18, 11_689_512),
        (models.resnet34, 21_797_672),
        (models.resnet50, 25_557_032),
        (models.resnet101, 44_549_160),
        (lambda: models.resnet50(groups=32, width_per_group=4), 25_028_904),
        (lambda: models.resnet50(width_per_group=128), 68_883_240),
        (models.resnet20, 269_722),
        (models.resnet32, 464_154),
        (models.resnet56, 853_018),
        (models.densenet121, 7_978_856),
        (models.densenet161, 28_681_000),
        (models.densenet169, 14_149_480),
        (models.densenet201, 20_013_928),
        (models.densenet100, 769_162),
        (models.vit_b_16, 86_567_656),
        (models.vit_b_32, 88_224_232),
        (lambda: models.UNet(3, 2), 31_037_698),
        (lambda: models.MLP(784, 10, hidden=(512, 512)), 784 * 512 + 512 + 512 * 512 + 512 + 5130),
    ],
    ids=[
        "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "resnet20", "resnet32", "resnet56",
        "densenet121", "densenet161", "densenet169", "densenet201", "densenet100", "vit_b_16", "vit_b_32", "unet", "mlp",
    ],
)  # fmt: skip
def test_known_numbers_of_parameters(
    make: Callable[[], an.nn.Module], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "kaiming_normal_",
        "kaiming_uniform_",
        "trunc_normal_",
        "normal_",
        "uniform_",
        "xavier_uniform_",
    ):
        monkeypatch.setattr(
            an.nn.init, name, lambda tensor, *_, **__: tensor
        )  # drawing 86 million numbers takes seconds
    assert count(make()) == expected


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        (lambda: models.MLP((4, 5), 3, hidden=(8,), norm="batch", dropout=0.5, activation="gelu"), (2, 4, 5), (2, 3)),
        (lambda: models.MLP(4, 1, hidden=(), activation="tanh"), (2, 4), (2, 1)),
        (lambda: models.MLP(4, 2, hidden=(3,), norm="layer", activation="leaky_relu"), (2, 4), (2, 2)),
        (lambda: models.ResNet((1, 1), "bottleneck", 7, width=8), (2, 3, 33, 40), (2, 7)),
        (lambda: models.resnet20(num_classes=4, in_channels=1, width=4), (2, 1, 32, 32), (2, 4)),
        (lambda: models.DenseNet(4, (2, 3), 8, dropout=0.1, num_classes=5), (2, 3, 33, 40), (2, 5)),
        (lambda: models.densenet100(4, 1, growth_rate=2, block_config=(2, 2, 2)), (2, 1, 16, 12), (2, 4)),
        (lambda: models.UNet(2, 3, width=4, depth=3), (1, 2, 17, 26), (1, 3, 17, 26)),
        (lambda: models.UNet(2, 3, width=4, depth=2, bilinear=True), (1, 2, 9, 8), (1, 3, 9, 8)),
        (lambda: models.ViT(8, 4, 1, 2, 8, 16, 0.1, 0.1, num_classes=5, in_channels=1), (2, 1, 8, 8), (2, 5)),
    ],
)  # fmt: skip
def test_shapes_gradients_and_devices(
    net: Any, shape: tuple[int, ...], expected: tuple[int, ...], xp_device: str
) -> None:
    an.random.manual_seed(0)
    made = net().to(xp_device)
    x = an.asarray(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape), device=xp_device)
    y = made(x)
    assert (y.shape, y.dtype) == (expected, an.float32)
    an.sum(y * y).backward()
    grads = {name: p.grad for name, p in made.named_parameters()}
    assert all(g is not None for g in grads.values()), [n for n, g in grads.items() if g is None]


def test_the_constructors_take_plain_data() -> None:
    options: dict[str, Any] = {
        "layers": [1, 1],
        "block": "basic",
        "num_classes": 3,
        "width": 4,
        "stem": "cifar",
        "shortcut": "padding",
    }
    assert count(models.ResNet(**json.loads(json.dumps(options)))) == count(models.ResNet(**options))
    assert (
        count(
            models.MLP(**json.loads(json.dumps({"in_features": (2, 3), "out_features": 2, "hidden": (4, 4)})))
        )
        == 58
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.MLP(0, 3), "MLP: in_features must be an integer ≥ 1, got 0"),
        (lambda: models.MLP(4, 3, hidden=(8, 0)), r"hidden\[1\] must be"),
        (lambda: models.MLP(4, 3, activation="reluu"), "unknown activation 'reluu'; did you mean 'relu'"),
        (lambda: models.MLP(4, 3, norm="group"), "norm must be None, 'batch' or 'layer'"),
        (lambda: models.MLP(4, 3, dropout=1.0), r"dropout must be in \[0, 1\)"),
        (lambda: models.ResNet(block="botleneck"), "block must be 'basic' or 'bottleneck'"),
        (lambda: models.ResNet(()), "layers must be an integer ≥ 1"),
        (lambda: models.DenseNet(compression=0.0), r"compression must be in \(0, 1\], got 0.0"),
        (lambda: models.DenseNet(block_config=(2, 0)), r"block_config\[1\] must be"),
        (lambda: models.DenseNet(stem="small"), "stem must be 'imagenet' or 'cifar', got 'small'"),
        (lambda: models.resnet18(groups=2), "groups and width_per_group are for bottleneck blocks"),
        (lambda: models.UNet(depth=0), "depth must be"),
        (lambda: models.UNet(1, 2, width=2)(an.zeros((1, 1, 15, 32))), "at least 16 rows and columns.*got 15×32"),
        (lambda: models.ViT(image_size=30), "patch_size must divide image_size"),
        (lambda: models.ViT(num_heads=7), "num_heads must divide hidden_dim"),
        (lambda: models.ViT(8, 4, 1, 2, 8, 8)(an.zeros((1, 3, 9, 9))), r"pictures must be \(n, channels, 8, 8\), got \(1, 3, 9, 9\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_zero_init_residual_begins_with_identities() -> None:
    net = models.ResNet((1, 1), num_classes=2, width=4, stem="cifar", zero_init_residual=True)
    assert [net.layer1[0].bn2.weight.tolist(), net.layer2[0].bn2.weight.tolist()] == [[0.0] * 4, [0.0] * 8]


def test_the_models_are_no_part_of_importing_anynet() -> None:
    import subprocess
    import sys

    code = "import sys, anynet; assert 'anynet.models' not in sys.modules; anynet.models.MLP; assert 'anynet.models' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
