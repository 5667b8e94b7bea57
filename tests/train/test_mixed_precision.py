"""`fit(precision=…)`: the scale of the loss, trainings beside PyTorch's, what is said and recorded, going on with the same bits."""

import json

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.train.precision import LossScale
from torch_oracle import torch

rng = np.random.default_rng(3)
X = rng.standard_normal((40, 4)).astype("f4")
Y = rng.integers(0, 3, 40)
MIXED = ("tf32", "mixed-bf16", "mixed-fp16")


def network():
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3))


def fit(net, data=(X, Y), **options):
    few = {"loss": "cross_entropy", "batch_size": 8, "progress": False, "device": "cpu"}
    return an.fit(net, data, **{**few, **options})


def bits(net):
    return {k: v.numpy().tobytes() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("options", [{}, {"init_scale": 2.0**124, "growth_interval": 3}, {"growth_factor": 3.0, "growth_interval": 2},
                                     {"backoff_factor": 0.25, "growth_interval": 5}])  # fmt: skip
def test_the_scale_follows_pytorchs_rules(options):
    scaler = torch.amp.GradScaler("cpu", **options)
    mine = LossScale(
        options.get("init_scale", 2.0**16), options.get("growth_factor", 2.0), options.get("backoff_factor", 0.5),
        options.get("growth_interval", 2000),
    )  # fmt: skip
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([p], lr=0.0)
    scaler.scale(p.sum())  # which makes its scale
    for finite in [True, True, False, *[True] * 14, False, False, *[True] * 9]:
        p.grad = torch.tensor([1.0, 1.0 if finite else float("inf")])
        scaler.step(optimizer)
        scaler.update()
        mine.update(finite)
        assert mine.value == scaler.get_scale()
        assert mine.good == scaler.state_dict()["_growth_tracker"]


def test_a_scale_out_of_range_is_refused():
    for options, message in (({"value": 0.0}, "value must be"), ({"growth": 1.0}, "growth must be"), ({"backoff": 1.0}, "backoff must be"),
                             ({"interval": 0}, "interval must be")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            LossScale(**options)
    with pytest.raises(ValueError, match="finite number above 0"):
        LossScale().load_state_dict({"value": float("nan"), "good": 0})


@pytest.mark.parametrize("name", ["mixed-bf16", "mixed-fp16"])
def test_weights_are_those_of_pytorchs_loop(name):
    an.random.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in net.state_dict().items()})
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    fit(net, precision=name, optimizer={"name": "sgd", "momentum": 0.9}, lr=0.1, batch_size=40, epochs=10)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=name == "mixed-fp16")
    kind = torch.float16 if name == "mixed-fp16" else torch.bfloat16
    x, y = torch.tensor(X), torch.tensor(Y)
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=kind):
            loss = torch.nn.functional.cross_entropy(theirs(x).float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    unit = 2.0**-8 if name == "mixed-bf16" else 2.0**-11
    for k, p in theirs.state_dict().items():
        moved = np.abs(p.numpy() - before[k]).max()
        assert np.abs(net.state_dict()[k].numpy() - p.numpy()).max() <= unit * moved


@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("compile", [False, True])
def test_a_program_gives_the_same_bits(precision, compile):
    net, other = network(), network()
    found = fit(net, precision=precision, epochs=3, lr=0.01, compile=compile)
    assert {p.dtype.name for p in net.parameters()} == {"float32"}
    fit(other, precision=precision, epochs=3, lr=0.01, compile=False)
    assert bits(net) == bits(other)
    exact = fit(network(), epochs=3, lr=0.01)
    np.testing.assert_allclose(found.column("loss"), exact.column("loss"), rtol=2e-2)
    assert found.column("loss") != exact.column("loss")


@pytest.mark.parametrize("precision", MIXED)
def test_going_on_gives_the_same_bits(tmp_path, precision):
    whole, halves = network(), network()
    data = (X * 30.0, Y)  # whose gradients overflow at first in float16
    fit(whole, data, precision=precision, epochs=4, run_dir=tmp_path / "whole")
    fit(halves, data, precision=precision, epochs=2, run_dir=tmp_path / "halves")
    halves = network()
    fit(halves, data, precision=precision, epochs=4, run_dir=tmp_path / "halves", resume=True)
    assert bits(whole) == bits(halves)
    last = [an.load(tmp_path / n / "last.safetensors")["updates"] for n in ("whole", "halves")]
    assert last[0].get("scale") == last[1].get("scale")
    assert ("scale" in last[0]) == (precision == "mixed-fp16")
    with pytest.raises(ValueError, match="precision"):
        fit(network(), data, epochs=5, run_dir=tmp_path / "halves", resume=True)


def test_what_is_computed_how_is_said_and_recorded(tmp_path, capsys):
    fit(network(), precision="mixed-bf16", run_dir=tmp_path / "r", progress=True)
    said = "precision mixed-bf16: linear layers, matrix products, convolutions, attention operands rounded to bfloat16"
    assert said in capsys.readouterr().out
    record = json.loads((tmp_path / "r" / "run.json").read_text(encoding="utf-8"))
    assert record["precision"] == "mixed-bf16"
    products = record["products"]
    assert (products["format"], products["emulated"], products["loss_scale"]) == ("bfloat16", True, None)
    assert products["parameters"] == "float32"
    fit(network(), run_dir=tmp_path / "s", progress=True)
    assert "precision" not in capsys.readouterr().out
    assert "products" not in json.loads((tmp_path / "s" / "run.json").read_text(encoding="utf-8"))


def test_a_backend_with_16_bits_computes_in_them():
    pytest.importorskip("torch", reason="PyTorch is a backend with bfloat16")
    from anynet.train.precision import said

    net, here = network(), network()
    fit(net, precision="mixed-bf16", device="torch:cpu", epochs=3, compile=False)
    fit(here, precision="mixed-bf16", epochs=3, compile=False)
    for k, v in net.state_dict().items():
        assert np.abs(v.numpy() - here.state_dict()[k].numpy()).max() < 1e-3
        assert v.dtype == "float32"
    assert not said("mixed-bf16", "torch:cpu")["emulated"]
    assert said("tf32", "torch:cpu")["emulated"]
    assert said("float64", "cpu") is None


@pytest.mark.parametrize(("name", "meant"), [("bfloat16", "mixed-bf16"), ("float16", "mixed-fp16")])
def test_the_names_of_formats_are_no_precision(name, meant):
    with pytest.raises(ValueError, match=f"got '{name}'; write '{meant}'"):
        fit(network(), precision=name)
