"""Weights of PyTorch, timm and Hugging Face load by name; what does not fit is said and refused."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import models
from anynet.models import load_weights
from anynet.nn.errors import StateError

TINY = {
    "image_size": 8,
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "mlp_dim": 12,
    "num_classes": 5,
}


def oracles() -> Any:
    pytest.importorskip("torch", reason="torch is the oracle")
    return importlib.import_module("models.torch_zoo")


def trained(theirs: Any, shape: tuple[int, ...]) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A PyTorch network whose statistics are not the initial ones, an input and its output."""
    import torch

    torch.manual_seed(1)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, 0.02, 0.3)
    x = torch.randn(shape)
    theirs.train()(x)
    with torch.no_grad():
        return theirs.eval(), x.numpy(), theirs(x).numpy()


def same_output(net: an.nn.Module, x: Any, expected: Any) -> None:
    with an.no_grad():
        got = net.eval()(an.asarray(x))
    assert got.dtype == an.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_torchvisions_resnet(block: str) -> None:
    zoo = oracles()
    cls = zoo.BasicBlock if block == "basic" else zoo.Bottleneck
    theirs, x, expected = trained(zoo.ResNet(cls, (2, 1), width=8), (3, 3, 40, 40))
    net = models.ResNet((2, 1), block, 10, width=8)
    assert list(net.state_dict()) == list(theirs.state_dict())  # the names, in their order
    report = load_weights(net, theirs.state_dict())
    assert (report.missing, report.unexpected) == ([], [])
    same_output(net, x, expected)


def test_resnet18_has_torchvisions_keys() -> None:
    """The keys of the published file resnet18-f37072fd.pth, from its rule: 122 of them."""
    zoo = oracles()
    theirs = zoo.ResNet(zoo.BasicBlock, (2, 2, 2, 2), 1000).state_dict()
    ours = models.resnet18().state_dict()
    assert len(ours) == 122
    assert {k: tuple(v.shape) for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}
    assert {"layer4.1.bn2.num_batches_tracked", "layer2.0.downsample.1.running_var", "fc.bias"} <= set(ours)


def test_torchvisions_densenet() -> None:
    zoo = oracles()
    theirs, x, expected = trained(zoo.DenseNet(4, (2, 3), 8, 10), (2, 3, 40, 33))
    options = {"growth_rate": 4, "block_config": (2, 3), "num_init_features": 8, "num_classes": 10}
    net = models.DenseNet(**options)
    assert list(net.state_dict()) == list(theirs.state_dict())
    load_weights(net, theirs.state_dict())
    same_output(net, x, expected)
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v
        for k, v in theirs.state_dict().items()
    }
    net = models.DenseNet(**options)
    report = load_weights(net, published)  # the names in densenet121-a639ec97.pth
    assert (report.missing, report.unexpected) == ([], [])
    same_output(net, x, expected)


def test_torchvisions_vit() -> None:
    zoo = oracles()
    theirs, x, expected = trained(zoo.ViT(8, 4, 2, 2, 8, 12, 5), (3, 3, 8, 8))
    net = models.ViT(**TINY)
    assert set(net.state_dict()) == set(theirs.state_dict())
    load_weights(net, theirs)  # the module itself
    same_output(net, x, expected)
    early = {
        k.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): v
        for k, v in theirs.state_dict().items()
    }
    net = models.ViT(**TINY)
    load_weights(net, early)
    same_output(net, x, expected)


@pytest.mark.parametrize("bilinear", [False, True])
def test_the_usual_unet(bilinear: bool) -> None:
    zoo = oracles()
    theirs, x, expected = trained(zoo.UNet(3, 2, 4, bilinear), (2, 3, 33, 32))
    net = models.UNet(3, 2, width=4, bilinear=bilinear)
    assert list(net.state_dict()) == list(theirs.state_dict())
    load_weights(net, theirs.state_dict())
    same_output(net, x, expected)


def huggingface_vit(state: dict[str, Any]) -> dict[str, Any]:
    """torchvision's names as ViTForImageClassification's."""
    out = {}
    for name, value in state.items():
        layer = re.fullmatch(r"encoder\.layers\.encoder_layer_(\d+)\.(.+)", name)
        if not layer:
            new = name.replace("class_token", "vit.embeddings.cls_token").replace(
                "conv_proj", "vit.embeddings.patch_embeddings.projection"
            )
            new = new.replace("encoder.pos_embedding", "vit.embeddings.position_embeddings").replace(
                "encoder.ln", "vit.layernorm"
            )
            out[new.replace("heads.head", "classifier")] = value
            continue
        base, rest = f"vit.encoder.layer.{layer[1]}", layer[2]
        if rest.startswith("self_attention.in_proj_"):
            kind, width = rest.rpartition("_")[2], value.shape[0] // 3
            for i, part in enumerate(("query", "key", "value")):
                out[f"{base}.attention.attention.{part}.{kind}"] = value[i * width : (i + 1) * width]
            continue
        for a, b in (
            ("ln_1", "layernorm_before"), ("ln_2", "layernorm_after"), ("self_attention.out_proj", "attention.output.dense"),
            ("mlp.0", "intermediate.dense"), ("mlp.3", "output.dense"),
        ):  # fmt: skip
            if rest.startswith(a):
                out[f"{base}.{b}{rest[len(a) :]}"] = value
    return out


def timm_vit(state: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in state.items():
        new = re.sub(r"encoder\.layers\.encoder_layer_(\d+)", r"blocks.\1", name)
        for a, b in (
            ("class_token", "cls_token"), ("conv_proj", "patch_embed.proj"), ("encoder.pos_embedding", "pos_embed"), ("encoder.ln", "norm"),
            ("heads.head", "head"), (".ln_1", ".norm1"), (".ln_2", ".norm2"), ("self_attention.in_proj_", "attn.qkv."),
            ("self_attention.out_proj", "attn.proj"), ("mlp.0", "mlp.fc1"), ("mlp.3", "mlp.fc2"),
        ):  # fmt: skip
            new = new.replace(a, b)
        out[new] = value
    return out


@pytest.mark.parametrize("foreign", [huggingface_vit, timm_vit])
def test_foreign_names_of_the_vit(foreign: Any) -> None:
    an.random.manual_seed(3)
    net = models.ViT(**TINY)
    an.nn.init.normal_(net.heads[0].weight)
    state = foreign({k: v.numpy() for k, v in net.state_dict().items()})
    assert not set(state) & set(net.state_dict())
    other = models.ViT(**TINY)
    report = load_weights(other, state)
    assert len(report.loaded) == len(net.state_dict())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[name].numpy(), err_msg=name)


def test_hugging_faces_names_of_the_resnet() -> None:
    an.random.manual_seed(3)
    net = models.ResNet((1, 2), "bottleneck", 4, width=8)
    state = {}
    words = {"conv": "convolution", "bn": "normalization"}
    for name, value in net.state_dict().items():
        new = name.replace("fc.", "classifier.1.")
        if found := re.fullmatch(r"layer(\d+)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
            stage, block, kind, at, leaf = found.groups()
            new = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(at) - 1}.{words[kind]}.{leaf}"
        elif found := re.fullmatch(r"layer(\d+)\.(\d+)\.downsample\.(\d)\.(\w+)", name):
            stage, block, at, leaf = found.groups()
            new = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{list(words.values())[int(at)]}.{leaf}"
        elif found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
            new = f"resnet.embedder.embedder.{words[found[1]]}.{found[2]}"
        state[new] = value.numpy()
    other = models.ResNet((1, 2), "bottleneck", 4, width=8)
    load_weights(other, state)
    np.testing.assert_array_equal(
        other.layer2[0].downsample[0].weight.numpy(), net.layer2[0].downsample[0].weight.numpy()
    )
    np.testing.assert_array_equal(other.layer2[1].conv3.weight.numpy(), net.layer2[1].conv3.weight.numpy())


# ----- files -----


def test_files_folders_and_indices(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="writes the files")
    from safetensors.numpy import save_file

    an.random.manual_seed(5)
    net = models.MLP(3, 2, hidden=(4,))
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    save_file(state, one / "model.safetensors")
    names = list(state)
    save_file({k: state[k] for k in names[:2]}, many / "model-00001-of-00002.safetensors")
    save_file({k: state[k] for k in names[2:]}, many / "model-00002-of-00002.safetensors")
    index = many / "model.safetensors.index.json"
    where = {k: f"model-0000{1 + (i > 1)}-of-00002.safetensors" for i, k in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for source in (one / "model.safetensors", str(one), many, index):
        other = models.MLP(3, 2, hidden=(4,))
        assert len(load_weights(other, source).loaded) == 4
        np.testing.assert_array_equal(other[0].weight.numpy(), net[0].weight.numpy())
    index.write_text(json.dumps({"weight_map": {names[0]: "../one/model.safetensors"}}))
    with pytest.raises(ValueError, match="which is not one of weights beside it"):
        load_weights(net, many)
    index.write_text(json.dumps({"weight_map": {"other": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match="has 'other', but it has not"):
        load_weights(net, many)
    index.write_text("[]")
    with pytest.raises(ValueError, match="is no index"):
        load_weights(net, many)
    index.unlink()
    with pytest.raises(ValueError, match="several"):
        load_weights(net, many)


def test_pickles_and_what_is_no_file_are_answered_with_what_to_do(tmp_path: Path) -> None:
    net = models.MLP(3, 2)
    for name in ("a.pt", "pytorch_model.bin", "a.pth"):
        (tmp_path / name).write_bytes(b"\x80\x02")
        with pytest.raises(ValueError, match=r"it is|it ends|is damaged"):
            load_weights(net, tmp_path / name)
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match=r"is a pickle, which could run anything and is not read"):
        load_weights(net, tmp_path / "a.pkl")
    with pytest.raises(
        FileNotFoundError, match=r"hf_hub_download\('timm/resnet18\.a1_in1k', 'model\.safetensors'"
    ):
        load_weights(net, "timm/resnet18.a1_in1k")
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no \*.safetensors and no pytorch_model.bin, but a.pkl"):
        load_weights(net, tmp_path)
    with pytest.raises(TypeError, match="must be a path, a state dict or a module, got int"):
        load_weights(net, 3)


def test_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    net = torch.nn.Sequential(torch.nn.Linear(3, 2))
    for path in (tmp_path / "net.pt", tmp_path / "pytorch_model.bin", tmp_path / "checkpoint.ckpt"):
        torch.save({"state_dict": net.state_dict()} if path.suffix == ".ckpt" else net.state_dict(), path)
        ours = an.nn.Sequential(an.nn.Linear(3, 2))
        assert load_weights(ours, path).loaded == ["0.weight", "0.bias"]
        assert ours[0].weight.tolist() == net[0].weight.tolist()
    other = an.nn.Sequential(an.nn.Linear(3, 2))
    load_weights(other, tmp_path)  # the folder: pytorch_model.bin
    assert other[0].weight.tolist() == net[0].weight.tolist()
    torch.save(net, tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="is no data and is not run"):
        load_weights(other, tmp_path / "whole.pt")


def test_files_are_mapped(tmp_path: Path) -> None:
    from anynet_backends import safetensors_io

    net = models.MLP(3, 2, hidden=(4,))
    an.save(tmp_path / "net.safetensors", net.state_dict())
    found, metadata = safetensors_io.load(tmp_path / "net.safetensors", mapped=True)
    again, same = safetensors_io.load(tmp_path / "net.safetensors")
    assert metadata == same
    assert found.keys() == again.keys()
    for name, value in found.items():
        assert not value.flags.writeable
        assert not value.flags.owndata
        assert (value.dtype, value.shape, value.tolist()) == (
            again[name].dtype,
            again[name].shape,
            again[name].tolist(),
        )
    data = bytearray((tmp_path / "net.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="is damaged: the SHA-256"):
        safetensors_io.load(tmp_path / "bad.safetensors", mapped=True)


# ----- what does not fit -----


def test_missing_and_unexpected_names() -> None:
    net = models.MLP(3, 2, hidden=(4,))
    before = net.state_dict()["0.weight"].tolist()
    state = {k: v.numpy() + 1 for k, v in net.state_dict().items()}
    state["2.weigth"] = state.pop("2.weight")
    with pytest.raises(
        StateError, match=r"(?s)missing 2.weight.*unexpected 2.weigth \(did you mean 2.weight\?\)"
    ):
        load_weights(net, state)
    assert net.state_dict()["0.weight"].tolist() == before
    report = load_weights(net, state, strict=False)
    assert (report.missing, report.unexpected, report.loaded) == (
        ["2.weight"],
        ["2.weigth"],
        ["0.weight", "0.bias", "2.bias"],
    )
    assert "3 tensors loaded" in str(report)
    assert "1 missing in the weights, left as they were: 2.weight" in str(report)
    with pytest.raises(StateError, match="no name fits"):
        load_weights(net, {"a": np.zeros(3)}, strict=False)


def test_a_head_of_another_size() -> None:
    old, net = models.resnet20(num_classes=10, width=4), models.resnet20(num_classes=3, width=4)
    head = net.fc.weight.tolist()
    with pytest.raises(StateError, match=r"fc.weight: got shape \(10, 16\), expected \(3, 16\); head='new'"):
        load_weights(net, old)
    report = load_weights(net, old, head="new")
    assert report.kept == ["fc.weight", "fc.bias"]
    assert net.fc.weight.tolist() == head
    assert net.conv1.weight.tolist() == old.conv1.weight.tolist()
    without = {k: v for k, v in old.state_dict().items() if not k.startswith("fc.")}
    assert load_weights(net, without, head="new").kept == ["fc.weight", "fc.bias"]
    grey = models.resnet20(num_classes=3, in_channels=1, width=4)
    with pytest.raises(StateError, match=r"conv1\.weight: got shape"):  # another size elsewhere is no head
        load_weights(grey, old, head="new")
    with pytest.raises(ValueError, match="head must be 'same' or 'new'"):
        load_weights(net, old, head="keep")


def test_rename_and_prefixes() -> None:
    net = models.MLP(3, 2, hidden=(4,))
    state = {k: v.numpy() * 0 + 7 for k, v in net.state_dict().items()}
    report = load_weights(net, {f"module.model.{k}": v for k, v in state.items()})
    assert report.prefix == "module.model."
    assert net[0].bias.tolist() == [7.0] * 4
    at = {
        "first.weight": "0.weight",
        "first.bias": "0.bias",
        "head.w": "2.weight",
        "head.b": "2.bias",
        "ema.x": "0.bias",
    }
    renamed = {new: state[name] for new, name in at.items()}
    rename = {"first.": "0.", "head.w": "2.weight", "head.b": "2.bias", "ema.": None}
    assert load_weights(net, renamed, rename=rename).ignored == ["ema.x"]
    assert load_weights(
        net, state, rename=lambda name: None if name == "2.bias" else name, strict=False
    ).missing == ["2.bias"]
    with pytest.raises(ValueError, match=r"'nothing\.', with which no name of the weights begins"):
        load_weights(net, state, rename={"nothing.": ""})
    with pytest.raises(ValueError, match=r"calls both '0.weight' and '0.bias' 'x'"):
        load_weights(net, state, rename=lambda name: "x")
    assert len(load_weights(net, {"state_dict": state, "epoch": 3}).loaded) == 4


def test_old_files_lack_the_counters_of_batch_norms() -> None:
    net = models.resnet20(width=4)
    old = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert load_weights(net, old).missing == []


def test_values_take_the_models_dtype() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch has bfloat16")
    net = an.nn.Sequential(an.nn.Linear(3, 2))
    state = {
        "0.weight": torch.full((2, 3), 1.5, dtype=torch.bfloat16),
        "0.bias": torch.ones(2, dtype=torch.float16, requires_grad=True),
    }
    load_weights(net, state)
    assert net[0].weight.dtype == net[0].bias.dtype == an.float32
    assert (net[0].weight.tolist()[0], net[0].bias.tolist()) == ([1.5] * 3, [1.0, 1.0])


def test_of_a_whole_training_state_the_network_is_taken() -> None:
    net = models.MLP(3, 2)
    tree = {"model": dict(net.state_dict()), "epoch": 2}
    other = models.MLP(3, 2)
    load_weights(other, tree)
    assert other[0].weight.tolist() == net[0].weight.tolist()
