"""Interpolation, fold and unfold: as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

nn, T, F, TF = an.nn, torch.nn, an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)


def agree(ours, theirs, x):
    a, t = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, u = ours(a), theirs(t)
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-11)
    an.sum(y**3).backward()
    (u**3).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-8, atol=1e-9)


SIZES = [{"size": 7}, {"size": 3}, {"size": 1}, {"scale_factor": 2.0}, {"scale_factor": 1.7}, {"scale_factor": 0.6},
         {"scale_factor": 1.7, "recompute_scale_factor": True}]  # fmt: skip
MODES = [(1, "linear"), (2, "bilinear"), (2, "bicubic"), (3, "trilinear")]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("corners", [None, True, False])
@pytest.mark.parametrize(("axes", "mode"), MODES)
def test_linear_and_cubic(axes, mode, corners, size):
    x = rng.normal(size=(2, 3, *(5, 4, 6)[:axes]))
    f = lambda home: lambda v: home.interpolate(v, mode=mode, align_corners=corners, **size)  # noqa: E731
    agree(f(F), f(TF), x)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_nearest_and_area(axes, mode, size):
    x = rng.normal(size=(2, 3, *(5, 4, 6)[:axes]))
    f = lambda home: lambda v: home.interpolate(v, mode=mode, **size)  # noqa: E731
    agree(f(F), f(TF), x)


@pytest.mark.parametrize("size", [(3, 9), (2, 2), (11, 13)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias(mode, size):
    x = rng.normal(size=(1, 2, 8, 10))
    f = lambda home: lambda v: home.interpolate(v, size, mode=mode, antialias=True)  # noqa: E731
    agree(f(F), f(TF), x)


@pytest.mark.parametrize(
    ("name", "args", "options", "shape"),
    [
        ("Upsample", (), {"scale_factor": 2}, (1, 2, 3, 4)),
        ("Upsample", ((5, 6),), {"mode": "bilinear", "align_corners": True}, (1, 2, 3, 4)),
        ("UpsamplingNearest2d", (), {"scale_factor": 3}, (1, 2, 3, 4)),
        ("UpsamplingBilinear2d", (), {"size": (5, 7)}, (1, 2, 3, 4)),
        ("Unfold", ((2, 3),), {}, (2, 3, 5, 6)),
        ("Unfold", (2,), {"dilation": 2, "padding": 1, "stride": (1, 2)}, (2, 3, 5, 6)),
        ("Unfold", (2,), {}, (3, 5, 6)),
        ("Fold", ((4, 5), 2), {}, (2, 12, 12)),
        ("Fold", ((4, 5), (2, 3)), {"padding": 1, "stride": 2, "dilation": 1}, (2, 18, 9)),
        ("Fold", ((4, 5), 2), {}, (12, 12)),
    ],
    ids=str,
)
def test_modules(name, args, options, shape):
    ours, theirs = getattr(nn, name)(*args, **options), getattr(T, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    agree(ours, theirs, rng.normal(size=shape))


def test_refusals():
    image = an.ones((1, 2, 4, 4))
    for make, error, message in (
        (lambda: F.interpolate(image), ValueError, "one of size and scale_factor"),
        (lambda: F.interpolate(image, 3, 2.0), ValueError, "one of size and scale_factor"),
        (lambda: F.interpolate(image, 3, mode="linear"), ValueError, "'bilinear', 'bicubic'; got 'linear'"),
        (lambda: F.interpolate(image, 3, align_corners=True), ValueError, "align_corners is for"),
        (lambda: F.interpolate(image, 3, antialias=True), ValueError, "antialias needs"),
        (lambda: F.interpolate(image, scale_factor=0.1), ValueError, r"the size \(0, 0\)"),
        (lambda: F.interpolate(image, 3, recompute_scale_factor=True), ValueError, "needs scale_factor"),
        (lambda: F.interpolate(an.ones((2, 3)), 3), ValueError, "one to three of space"),
        (lambda: F.unfold(image, 6), ValueError, "does not fit"),
        (lambda: F.unfold(an.ones(3), 1), ValueError, "batch, channels"),
        (lambda: F.fold(an.ones((1, 5, 9)), (4, 4), 2), ValueError, "input must be"),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (1, 2, 3, 0), "strided"], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(8, 15), (3, 70), (100, 5)], ids=str)
def test_any_order_in_memory_and_sizes_beyond_a_block(order, mode, size):
    """Matrices are cut into blocks of 32 rows; results keep the order of the input."""
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(2, 3, 4, 5))
    if order == "strided":
        x, order = np.repeat(plain, 2, axis=2)[:, :, ::2], (0, 1, 2, 3)
    else:
        x = np.ascontiguousarray(plain.transpose(order)).transpose(np.argsort(order))
    g = rng.normal(size=(2, 3, *size))
    ours, theirs = an.Tensor(x, requires_grad=True), torch.tensor(plain, requires_grad=True)
    y, wanted = (f(a, size, mode=mode) for f, a in ((F.interpolate, ours), (TF.interpolate, theirs)))
    y.backward(an.asarray(g))
    wanted.backward(torch.tensor(g))
    np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-12)
    assert y.numpy().transpose(order).flags.c_contiguous


def test_pixels_and_dtypes_that_are_not_averaged():
    x = np.array([[[[0.0, np.inf], [np.nan, 1.0]]]])
    y = F.interpolate(an.asarray(x), (4, 3)).numpy()
    np.testing.assert_array_equal(y, TF.interpolate(torch.tensor(x), (4, 3)).numpy())
    whole = an.asarray(np.arange(4, dtype=np.uint8).reshape(1, 1, 4))
    assert F.interpolate(whole, 6).tolist() == [[[0, 0, 1, 2, 2, 3]]]
    assert F.interpolate(whole, 6).dtype is an.uint8
    with pytest.raises(TypeError, match=r"mode 'linear' needs an input of a floating-point dtype, got uint8"):
        F.interpolate(whole, 6, mode="linear")
