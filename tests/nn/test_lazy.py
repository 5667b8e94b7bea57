"""Lazy layers become, at their first call, the layer that PyTorch's become."""

import time

import numpy as np
import pytest

import anynet as an
from anynet import nn

CASES = [
    ("LazyLinear", (3,), (2, 5)), ("LazyLinear", (3, False), (2, 4, 5)),
    ("LazyConv1d", (3, 2), (2, 4, 6)), ("LazyConv1d", (4, 3, 2, 1, 1, 2), (4, 6)), ("LazyConv2d", (3, 2), (2, 4, 5, 5)),
    ("LazyConv3d", (3, 2), (1, 2, 3, 3, 3)), ("LazyConvTranspose1d", (3, 2), (2, 4, 5)),
    ("LazyConvTranspose2d", (3, 2, 2), (2, 4, 3, 3)), ("LazyConvTranspose3d", (2, 2), (1, 2, 2, 2, 2)),
    ("LazyBatchNorm1d", (), (4, 3)), ("LazyBatchNorm1d", (1e-3,), (4, 3, 2)), ("LazyBatchNorm2d", (), (4, 3, 2, 2)),
    ("LazyBatchNorm3d", (1e-5, 0.2), (2, 3, 2, 2, 2)), ("LazyInstanceNorm1d", (1e-5, 0.1, True), (2, 3, 4)),
    ("LazyInstanceNorm2d", (), (2, 3, 4, 4)), ("LazyInstanceNorm3d", (1e-5, 0.1, True, True), (2, 3, 2, 2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "shape"), CASES)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_becomes_the_layer(name, args, shape):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours(an.asarray(x))
    theirs(torch.tensor(x))
    assert type(ours) is getattr(nn, name.removeprefix("Lazy"))
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    for training in (True, False):
        a, b = ours.train(training)(an.asarray(x)), theirs.train(training)(torch.tensor(x))
        assert np.allclose(a.numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_modes_are_kept_and_training_works():
    net = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(1)).eval()
    net(an.ones((2, 3)))
    assert not net[1].training
    optimizer = an.optim.Adam(net.train().parameters())
    x = an.asarray(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    before = [p.numpy().copy() for p in net.parameters()]
    an.mean(net(x) ** 2).backward()
    optimizer.step()
    assert len(before) == 6
    assert all((p.numpy() != b).any() for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adagrad", "RMSprop", "AdamW"])
def test_an_optimizer_made_before_the_first_call_trains_the_layer(optimizer):
    """The parameters are those that the layer has afterwards: the numbers are those of a layer that was never lazy."""
    options = {"lr": 0.1, **({"momentum": 0.9} if optimizer in ("SGD", "RMSprop") else {})}
    x = an.asarray(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    ends = []
    for lazy in (True, False):
        an.random.manual_seed(3)
        net = nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2) if lazy else nn.Linear(4, 2))
        if lazy:
            early = list(net.parameters())
        made = getattr(an.optim, optimizer)(net.parameters(), **options)
        for _ in range(3):
            made.zero_grad()
            an.sum(net(x) ** 2).backward()
            made.step()
        ends.append([p.numpy() for p in net.parameters()])
        if lazy:
            assert [id(p) for p in early] == [id(p) for p in net.parameters()]
            assert {type(p) for p in early} == {nn.Parameter}
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "args", "shape"), CASES)
def test_a_state_gives_the_size(name, args, shape):
    made, lazy = getattr(nn, name)(*args), getattr(nn, name)(*args)
    x = an.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    made(x)
    state = {f"0.{k}": v for k, v in made.state_dict().items()}
    net = nn.Sequential(lazy).eval()
    before = an.random.get_state()
    bad = {k: an.zeros((*v.shape, 2)) if v.shape else v for k, v in state.items()}
    if len(state):
        with pytest.raises(nn.StateError, match="nothing was changed"):
            net.load_state_dict(bad)
        assert lazy.waiting
        net.load_state_dict(state)
        assert type(net[0]) is getattr(nn, name.removeprefix("Lazy"))
        assert not net[0].training
    assert an.random.get_state() == before
    np.testing.assert_array_equal(net(x).numpy(), made.eval()(x).numpy())


def test_before_the_first_call():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(4))
    plain = an.random.get_state()
    assert net[1].out_features == 4
    assert net[1].in_features == 0
    assert [type(p).__name__ for p in net[1].parameters()] == ["UninitializedParameter"] * 2
    weight = net[1].weight
    for ask in (lambda: weight.shape, lambda: weight.numpy(), lambda: net.summary(), lambda: weight.size):
        with pytest.raises(RuntimeError, match="no shape before the layer's first call"):
            ask()
    with pytest.raises(RuntimeError, match="LazyLinear at 1 has no state"):
        net.state_dict()
    with pytest.raises(nn.StateError, match=r"missing 1\.weight"):
        net.load_state_dict({"0.weight": an.zeros((3, 2)), "0.bias": an.zeros(3)})
    assert repr(net[1]) == "LazyLinear(4)"
    net.to("float64").requires_grad_(False).eval()
    weight.requires_grad = True
    assert an.random.get_state() == plain
    y = net(an.ones((1, 2), dtype=an.float64))
    assert y.dtype == an.float64
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, False]
    assert net[1].weight is weight
    assert weight.shape == (4, 3)


@pytest.mark.parametrize("device", ["strict:device1", "torch:cpu"])
def test_devices(device):
    if device == "torch:cpu":
        pytest.importorskip("torch", reason="torch:cpu needs torch")
    for layer, x in (
        (nn.LazyLinear(2), an.ones((1, 3), device=device)),
        (nn.LazyLinear(2).to(device), an.ones((1, 3), device=device)),
        (nn.LazyBatchNorm1d(device=device), an.ones((2, 3), device=device)),
    ):
        assert layer(x).device == device
        assert layer.weight.device == device


def test_bad_arguments_and_inputs():
    with pytest.raises(TypeError, match=r"LazyLinear.*in_features"):
        nn.LazyLinear(in_features=3, out_features=2)
    with pytest.raises(TypeError, match="LazyConv1d"):
        nn.LazyConv1d(3)
    layer = nn.LazyBatchNorm1d()
    with pytest.raises(ValueError, match="too few axes"):
        layer(an.ones(3))
    assert layer(an.ones((2, 3))).shape == (2, 3)


def test_threads_that_call_it_first_get_one_layer(in_threads, monkeypatch):
    made = []

    class Slow(nn.Linear):
        def __init__(self, *args, **kwargs):
            made.append(args)
            time.sleep(0.02)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(nn.LazyLinear, "_layer", Slow)
    layer, found = nn.LazyLinear(3).eval(), []
    made.clear()  # that of the size 1, which tells what the layer has
    in_threads(*[lambda: found.append(layer(an.ones((2, 4))).tolist())] * 4)
    assert len(made) == 1
    assert all(y == layer(an.ones((2, 4))).tolist() for y in found)
    assert not layer.training
