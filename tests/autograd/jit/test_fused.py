"""Functions of several operations as one built-in function."""

import numpy as np
import pytest

import anynet as an
from anynet.autograd.jit import specialize
from anynet.autograd.jit.fused import FusedFunction, fused
from anynet.autograd.primitive import use_kernels

F = an.nn.functional
pytestmark = pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)


LOSSES = {
    "mse_loss": {}, "l1_loss": {}, "huber_loss": {"delta": 0.7}, "smooth_l1_loss": {"beta": 0.3}, "soft_margin_loss": {},
    "binary_cross_entropy_with_logits": {}, "log_cosh_loss": {},
}  # fmt: skip


def pair(shape, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return tuple(an.asarray(rng.normal(size=shape).astype(dtype), requires_grad=True) for _ in range(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_the_bits_of_their_operations(name, reduction, shape, dtype):
    loss, options = getattr(F, name), {"reduction": reduction, **LOSSES[name]}
    for seed in range(5):
        found = []
        for f in (loss, loss.__wrapped__):
            x, t = pair(shape, seed, dtype)
            t = an.asarray(np.sign(t.numpy())) if name == "soft_margin_loss" else t
            y = f(x, t, **options)
            an.sum(y * y).backward()
            found.append([y.detach(), x.grad, t.grad] if t.requires_grad else [y.detach(), x.grad])
        for a, b in zip(*found, strict=True):
            assert a.dtype is b.dtype
            assert np.array_equal(a.numpy(), b.numpy())


def test_it_is_one_node():
    x, t = pair((8, 3))
    labels = [F.mse_loss(x, t.detach()).edge.label for _ in range(4)]
    assert labels == ["mean", "mse_loss", "mse_loss", "mse_loss"]
    with use_kernels(False):
        assert F.mse_loss(x, t.detach()).edge.label == "mean"
    assert F.mse_loss(x.detach(), t.detach()).edge is None
    with an.no_grad():
        assert F.mse_loss(x, t).edge is None


def test_other_arguments_are_taken_as_before():
    x, t = pair((4,))
    for _ in range(4):
        assert F.mse_loss(x, [0.0] * 4).item() == pytest.approx(an.mean(x * x).item())
        assert F.mse_loss(x, t.numpy(), "sum").item() == pytest.approx(an.sum((x - t) ** 2).item())
        assert F.mse_loss(x, target=t).item() == pytest.approx(an.mean((x - t) ** 2).item())
        assert F.mse_loss(x, t, weight=an.ones(4)).item() == pytest.approx(an.mean((x - t) ** 2).item())
        with pytest.raises(
            ValueError, match=r"mse_loss: input and target must have equal shapes, got \(4,\) and \(1, 4\)"
        ):
            F.mse_loss(x, an.ones((1, 4)))
        with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'avg'"):
            F.mse_loss(x, t, "avg")
        with pytest.raises(TypeError):
            F.mse_loss(x)
        assert F.mse_loss(x, an.astype(t, "float64")).dtype is an.float32


def test_gradients_of_gradients():
    x, t = pair((6,))
    for _ in range(3):
        F.huber_loss(x, t)

    def f(v):
        return F.huber_loss(v, t.detach(), delta=0.7)

    for _ in range(3):
        h = an.hessian(f)(x.detach())
    expected = np.diag((np.abs(x.numpy() - t.numpy()) < 0.7) / 6.0)
    np.testing.assert_allclose(h.numpy(), expected, atol=1e-6)
    x.grad = None
    y = F.mse_loss(x, t)
    y.backward(create_graph=True)
    an.sum(x.grad * x.grad).backward()
    assert y.edge.label in ("mean", "mse_loss")


def test_options_are_told_apart():
    x, t = pair((5,))
    for _ in range(3):
        a, b, c = (F.huber_loss(x, t, "sum", delta).item() for delta in (1, 0.25, 1.0))
        assert a == c != b


def test_what_cannot_be_recorded_runs_as_it_is():
    seen = []

    @fused(1)
    def doubled(x):
        seen.append(float(x[0]))
        return x * 2

    for i in range(6):
        assert doubled(an.asarray([1.0 * i]))[0].item() == 2.0 * i
    assert [s for s in seen if s] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_result_that_needs_no_gradient():
    cut = FusedFunction("cut", lambda xs: (xs[0] * 2).detach())
    (x,) = pair((3,))[:1]
    for _ in range(4):
        y = cut([x])
        assert y is None or not y.requires_grad


def test_kernels_of_others_are_taken_up():
    """A kernel that is registered later replaces what has been made."""
    (x,) = pair((3,))[:1]
    one = FusedFunction("tanh", lambda xs: an.tanh(xs[0]))
    for _ in range(3):
        y = one([x])
    assert y is not None
    specialize.caches.invalidate_all()
    assert one([x]) is None
    assert one([x]) is not None
