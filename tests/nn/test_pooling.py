"""Pooling against PyTorch, on the CPU and on array-api-strict, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F

DEVICES = ("cpu", "strict:device1")
SIZES = (9, 7, 6)

MAX = [
    {"kernel_size": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 2, "dilation": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True},
]
AVERAGE = [
    {"kernel_size": 2},
    {"kernel_size": 1},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "divisor_override": 3},
    {"kernel_size": 3, "padding": 1, "divisor_override": -2, "ceil_mode": True},
]
ADAPTIVE = [1, 2, 3, 4, 6, 10, (4, 7), (None, 2), (9, None), (3, 5), (12, 1)]


def both(torch, device, x, ours, theirs, rng, atol=1e-10):
    """Compare values, positions, gradients, shapes and dtypes."""
    mine = an.asarray(x, device=device, requires_grad=True)
    other = torch.tensor(x, requires_grad=True)
    y, z = ours(mine), theirs(other)
    if isinstance(z, tuple):
        (y, index), (z, places) = y, z
        assert index.dtype is an.int64
        assert index.device == device
        np.testing.assert_array_equal(index.numpy(), places.numpy())
    g = rng.standard_normal(z.shape).astype(x.dtype)
    z.backward(torch.tensor(g))
    y.backward(an.asarray(g, device=device))
    for got, want in ((y, z), (mine.grad, other.grad)):
        assert got.dtype.name == str(x.dtype)
        assert got.device == device
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=atol, atol=atol)


def example(rng, axes, dtype="float64"):
    """Few values, so that windows have ties; negative ones, so that padding must be −∞."""
    return rng.integers(-9, -3, (2, 3, *SIZES[:axes])).astype(dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("options", MAX, ids=str)
def test_max_pool_equals_torch(options, axes, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(0)
    name = f"max_pool{axes}d"
    for dtype, indices in (("float64", True), ("float32", False)):
        both(
            torch, device, example(rng, axes, dtype),
            lambda x, i=indices: getattr(F, name)(x, **options, return_indices=i),
            lambda x, i=indices: getattr(torch.nn.functional, name)(x, **options, return_indices=i),
            rng, 1e-10 if dtype == "float64" else 1e-5,
        )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("options", AVERAGE, ids=str)
def test_avg_pool_equals_torch(options, axes, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    if axes == 1 and "divisor_override" in options:
        pytest.skip("PyTorch's avg_pool1d has no divisor_override")
    rng = np.random.default_rng(1)
    name = f"avg_pool{axes}d"
    both(
        torch, device, rng.standard_normal((2, 3, *SIZES[:axes])),
        lambda x: getattr(F, name)(x, **options), lambda x: getattr(torch.nn.functional, name)(x, **options), rng,
    )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("size", ADAPTIVE, ids=str)
def test_adaptive_pools_equal_torch(size, axes, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    if axes == 1 and isinstance(size, tuple):
        size = (size[0] or SIZES[0],)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, *SIZES[:axes]))
    for kind, extra in (("avg", ()), ("max", ()), ("max", (True,))):
        name = f"adaptive_{kind}_pool{axes}d"
        both(
            torch, device, x,
            lambda x, n=name, e=extra: getattr(F, n)(x, size, *e),
            lambda x, n=name, e=extra: getattr(torch.nn.functional, n)(x, size, *e),
            rng,
        )  # fmt: skip


@pytest.mark.parametrize("axes", [1, 2])
def test_layers_equal_torch(axes):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, *SIZES[:axes]))
    size = (4,) if axes == 1 else (4, None)
    for kind, args, options in (
        ("MaxPool", (3,), {}),
        ("MaxPool", (3, 2, 1), {"ceil_mode": True, "return_indices": True}),
        ("AvgPool", (3,), {}),
        ("AvgPool", (3, 2), {"padding": 1, "count_include_pad": False, "ceil_mode": True}),
        ("AdaptiveAvgPool", (size,), {}),
        ("AdaptiveMaxPool", (size,), {"return_indices": True}),
    ):
        ours = getattr(an.nn, f"{kind}{axes}d")(*args, **options)
        theirs = getattr(torch.nn, f"{kind}{axes}d")(*args, **options)
        both(torch, "cpu", x, ours, theirs, rng)
        both(torch, "cpu", x[0], ours, theirs, rng)  # without a batch
        assert repr(ours).startswith(f"{kind}{axes}d(")


def distinct(rng, *shape):
    """Values far apart, so that a finite difference does not change which one is the largest."""
    return an.asarray(rng.permutation(np.prod(shape)).reshape(shape) / 10.0, requires_grad=True)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda x: F.max_pool2d(x, 2, dilation=2, ceil_mode=True),
        lambda x: F.adaptive_max_pool2d(x, (2, 3)),
        lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    ],
)  # fmt: skip
def test_second_order(f):
    x = distinct(np.random.default_rng(4), 1, 2, 5, 4)
    assert gradcheck(f, x)
    assert gradgradcheck(lambda x: f(x) ** 3, x)


def test_nan_and_infinity():
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    x = np.array([[[1.0, np.nan, 2.0, 3.0, -np.inf, -np.inf]]])
    mine, other = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, index = F.max_pool1d(mine, 2, return_indices=True)
    z, places = torch.nn.functional.max_pool1d(other, 2, return_indices=True)
    np.testing.assert_array_equal(y.detach().numpy(), z.detach().numpy())
    np.testing.assert_array_equal(index.numpy(), places.numpy())
    y.backward(an.ones_like(y))
    z.backward(torch.ones_like(z))
    np.testing.assert_array_equal(mine.grad.numpy(), other.grad.numpy())


def test_integers():
    x = an.asarray([[[3, -7, 5]]], dtype=an.int32)
    y = F.max_pool1d(x, 3, 1, 1)
    assert y.dtype is an.int32
    assert y.tolist() == [[[3, 5, 5]]]


@pytest.mark.parametrize("device", DEVICES)
def test_empty_batch(device):
    x = an.zeros((0, 3, 6, 6), device=device)
    for f in (
        lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.adaptive_max_pool2d(x, 3),
    ):  # fmt: skip
        v = an.asarray(x.data).requires_grad_()
        y = f(v)
        assert y.shape == (0, 3, 3, 3)
        an.sum(y).backward()
        assert v.grad.shape == x.shape


def test_non_contiguous_and_unchanged_inputs():
    base = np.random.default_rng(5).standard_normal((6, 7, 4, 3))
    x, before = base.transpose(3, 2, 1, 0)[:, ::2, ::-1], base.copy()
    for f in (lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 3, 1, 1)):
        np.testing.assert_array_equal(f(an.asarray(x)).numpy(), f(an.asarray(x.copy())).numpy())
    np.testing.assert_array_equal(base, before)
    one = an.asarray(x)
    assert not np.shares_memory(F.max_pool2d(one, 1).numpy(), base)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.max_pool2d(an.ones((3, 8)), 2), ValueError, "4 axes"),
        (lambda: F.max_pool2d(an.ones((1, 3, 4, 4)), 5), ValueError, "does not fit"),
        (lambda: F.max_pool2d(an.ones((1, 3, 4, 4)), 2, padding=2), ValueError, "half"),
        (lambda: F.max_pool2d(an.ones((1, 3, 4, 4)), 2, 0), ValueError, "stride"),
        (lambda: F.max_pool2d(an.ones((1, 3, 4, 4)), (2, 2, 2)), ValueError, "kernel_size"),
        (lambda: F.avg_pool1d(an.ones((1, 3, 4), dtype=an.int64), 2), TypeError, "floating"),
        (lambda: F.avg_pool2d(an.ones((1, 3, 4, 4)), 2, divisor_override=0), ValueError, "divisor_override"),
        (lambda: F.adaptive_avg_pool2d(an.ones((1, 3, 4, 4)), 0), ValueError, "output_size"),
        (lambda: F.adaptive_max_pool2d(an.ones((1, 3, 0, 4)), 2), ValueError, "empty"),
        (lambda: an.nn.MaxPool2d(2)(an.ones((4, 4))), an.nn.ShapeError, "4 axes"),
        (lambda: an.nn.AvgPool1d(2.0), TypeError, "kernel_size"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_adaptive_maxima_over_uneven_bins_in_vmap():
    """Gradients and directions that are batched where the maxima are not, and the other way round."""
    rng = np.random.default_rng(0)
    x = an.asarray(rng.normal(size=(3, 2, 4, 7, 8)))

    def f(x):
        return F.adaptive_max_pool2d(x, (3, 5))

    each = np.stack([f(a).numpy() for a in x])
    np.testing.assert_array_equal(an.vmap(f)(x).numpy(), each)

    y, pull = an.vjp(f, x[0])
    g = an.asarray(rng.normal(size=(4, *y.shape)))
    made = an.vmap(lambda g: pull(g)[0])(g).numpy()
    np.testing.assert_allclose(made, np.stack([pull(a)[0].numpy() for a in g]), rtol=1e-14)

    t = an.asarray(rng.normal(size=(4, *x.shape[1:])))
    made = an.vmap(lambda t: an.jvp(f, (x[0],), (t,))[1])(t).numpy()
    np.testing.assert_allclose(made, np.stack([an.jvp(f, (x[0],), (a,))[1].numpy() for a in t]), rtol=1e-14)
