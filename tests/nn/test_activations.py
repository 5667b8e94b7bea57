"""Every activation against PyTorch's: values and gradients at ordinary, extreme and kink points, shapes, errors, reprs."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

F, nn, T, TF = an.nn.functional, an.nn, torch.nn, torch.nn.functional

MODULES = [
    (nn.CELU, T.CELU, [(), (0.5,), (2.0,)]),
    (nn.GLU, T.GLU, [(), (0,), (1,)]),
    (nn.SELU, T.SELU, [()]),
    (nn.Hardshrink, T.Hardshrink, [(), (1.0,), (0.0,)]),
    (nn.Hardsigmoid, T.Hardsigmoid, [()]),
    (nn.Hardswish, T.Hardswish, [()]),
    (nn.Hardtanh, T.Hardtanh, [(), (-2.0, 0.5)]),
    (nn.LogSigmoid, T.LogSigmoid, [()]),
    (nn.Mish, T.Mish, [()]),
    (nn.PReLU, T.PReLU, [(), (4, 0.1)]),
    (nn.ReLU6, T.ReLU6, [()]),
    (nn.Softmin, T.Softmin, [(0,), (1,), (-1,)]),
    (nn.Softshrink, T.Softshrink, [(), (0.1,)]),
    (nn.Softsign, T.Softsign, [()]),
    (nn.Tanhshrink, T.Tanhshrink, [()]),
    (nn.Threshold, T.Threshold, [(0.1, 20.0), (0.0, 0.0)]),
]
CASES = [(ours, theirs, args) for ours, theirs, all_args in MODULES for args in all_args]
rng = np.random.default_rng(0)
INPUTS = {
    "ordinary": rng.normal(size=(6, 4, 2)) * 3,
    "kinks": np.asarray([-6.0, -3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 3.0, 6.0, 0.1, -0.1, 0.2])[:, None]
    * np.ones((1, 4)),
    "extreme": np.asarray([[-1e4, 1e4, -300.0, 300.0], [-50.0, 50.0, 1e-8, -1e-8]]),
    "empty": np.zeros((0, 4)),
    "strided": rng.normal(size=(8, 8, 2))[::2, ::2],
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("ours", "theirs", "args"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_as_pytorch(ours, theirs, args, kind):
    x = INPUTS[kind]
    mine, other = ours(*args).double(), theirs(*args).double()
    a, t = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, u = mine(a), other(t)
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-12)
    an.sum(y * y).backward()
    (u * u).sum().backward()
    if kind == "kinks" and ours is nn.Hardshrink and args == (0.0,):
        return
    # PyTorch's hardsigmoid multiplies by a float32 of 1/6 in float64 too
    limit = 1e-7 if ours is nn.Hardsigmoid else 1e-9
    np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=limit, atol=limit)
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-9)
    assert repr(mine) == repr(other)


@pytest.mark.parametrize(("ours", "args"), [(o, a) for o, _, a in CASES], ids=str)
def test_second_order(ours, args):
    x = an.asarray(rng.uniform(0.15, 0.45, (4, 4)) * np.sign(rng.normal(size=(4, 4))), requires_grad=True)
    assert an.gradcheck(ours(*args).double(), x)
    assert an.gradgradcheck(lambda x: ours(*args).double()(x) ** 2, x)


def test_dtypes_stay():
    for ours, _, args in CASES:
        for dtype in (an.float32, an.float64):
            assert ours(*args).to(dtype)(an.ones((4, 4), dtype=dtype)).dtype is dtype, ours


def test_softmax2d():
    x = rng.normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(
        nn.Softmax2d()(an.asarray(x)).numpy(), T.Softmax2d()(torch.tensor(x)).numpy(), rtol=1e-12
    )
    with pytest.raises(nn.ShapeError, match="expected 4 axes"):
        nn.Softmax2d()(an.ones((2, 3)))


def test_rrelu(xp_device):
    x = an.asarray(rng.normal(size=(50, 40)), device=xp_device)
    layer = nn.RReLU(0.1, 0.3)
    an.random.manual_seed(3)
    y = layer(x).numpy()
    plain = x.numpy()
    ratio = (y / plain)[plain < 0]
    assert 0.1 <= ratio.min() < 0.11
    assert 0.29 < ratio.max() <= 0.3
    assert (y[plain >= 0] == plain[plain >= 0]).all()
    an.random.manual_seed(3)
    assert (nn.RReLU(0.1, 0.3)(an.asarray(plain)).numpy() == y).all()
    np.testing.assert_allclose(
        layer.eval()(x).numpy(), T.RReLU(0.1, 0.3).eval()(torch.tensor(plain)).numpy(), rtol=1e-12
    )
    a = an.asarray(plain, requires_grad=True)
    an.random.manual_seed(3)
    an.sum(F.rrelu(a, 0.1, 0.3, True)).backward()
    np.testing.assert_allclose(a.grad.numpy()[plain < 0], ratio, rtol=1e-9)


def test_refusals():
    for make, message in (
        (lambda: nn.Hardtanh(1.0, 1.0), "min_val must be less than max_val"),
        (lambda: F.hardtanh(an.ones(2), 2.0, 1.0), "min_val must be at most max_val"),
        (lambda: nn.Softshrink(-1.0), "lambd must be ≥ 0"),
        (lambda: F.softshrink(an.ones(2), -1.0), "lambd must be ≥ 0, got -1.0"),
        (lambda: F.celu(an.ones(2), 0.0), "alpha must not be 0"),
        (lambda: F.glu(an.ones(3)), "must be even, got 3"),
        (lambda: F.prelu(an.ones((2, 3)), an.ones(2)), r"must have shape \(1,\) or \(3,\)"),
        (lambda: F.rrelu(an.ones(2), 0.5, 0.1), "lower must be ≤ upper"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_softmax_of_many_axes_asks_for_dim(name):
    with pytest.raises(ValueError, match=rf"{name}: an input of shape \(2, 3, 4\) needs `dim`"):
        getattr(F, name)(an.ones((2, 3, 4)))
