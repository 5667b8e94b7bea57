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


def test_parameters_before_the_first_call_are_an_error():
    net = nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(4))
    for use in (
        lambda: list(net.parameters()),
        net.state_dict,
        lambda: an.optim.SGD(net.parameters()),
        lambda: net.to("float64"),
    ):
        with pytest.raises(RuntimeError, match="LazyLinear at 1 has no parameters before its first call"):
            use()
    assert repr(net[1]) == "LazyLinear(4)"
    net.eval()
    net(an.ones((1, 2)))
    assert len(list(net.parameters())) == 4


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
    in_threads(*[lambda: found.append(layer(an.ones((2, 4))).tolist())] * 4)
    assert len(made) == 1
    assert all(y == layer(an.ones((2, 4))).tolist() for y in found)
    assert not layer.training
