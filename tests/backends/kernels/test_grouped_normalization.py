"""Group and instance normalization by NumPy against the reference, in every order of axes in memory."""

import itertools

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import PRIMITIVES
from anynet_backends import get_backend
from anynet_backends.kernels import grouped_normalization
from anynet_backends.kernels.grouped_normalization import normalize_groups

xp = get_backend("numpy")
ORDERS = [None, (0, 2, 3, 1), (1, 2, 3, 0), (3, 1, 0, 2), "strided"]


def stored(x, order):
    if order is None:
        return x
    if order == "strided":
        return np.repeat(x, 2, axis=2)[:, :, ::2]
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def how(kind, shape):
    """The array that the kernel gets, its axes, and the shape of the weights there."""
    n, c, *rest = shape
    if kind == "group":
        return (n, 2, c // 2, *rest), (2, 3, 4), (1, 2, c // 2, 1, 1)
    if kind == "instance":
        return shape, (2, 3), (1, c, 1, 1)
    return shape, (1, 3), (1, 1, rest[0], 1)  # statistics over axes apart, weights for another


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("kind", ["group", "instance", "apart"])
@pytest.mark.parametrize("small", [False, True], ids=["whole", "in blocks"])
def test_as_the_reference(kind, order, small, monkeypatch):
    if small:
        monkeypatch.setattr(grouped_normalization, "CACHE_BLOCK", 7)
        monkeypatch.setattr(grouped_normalization, "ROW", 4)
    rng = np.random.default_rng(0)
    for shape, weighted in itertools.product(((2, 4, 3, 6), (1, 2, 5, 7), (3, 6, 1, 1)), (True, False)):
        x = stored(rng.normal(3.0, 2.0, size=shape), order)
        g = rng.normal(size=shape)
        split, axes, each = how(kind, shape)
        w, b = (rng.normal(size=each).reshape(-1) for _ in range(2)) if weighted else (None, None)
        need = (True, True, True)[: 3 if weighted else 1]
        made, pull = normalize_groups(x.reshape(split), w, b, need, axes=axes, eps=0.1, shape=each)
        expected = PRIMITIVES["normalize"].reference(
            xp, x.reshape(split), w, b, axes=axes, eps=0.1, shape=each
        )
        for ours, wanted in zip(made, expected, strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-11, atol=1e-12)
        tensors = [an.Tensor(a, requires_grad=True) for a in (x.reshape(split), w, b) if a is not None]
        with an.use_kernels(False):
            y = PRIMITIVES["normalize"](*tensors, axes=axes, eps=0.1, shape=each)[0]
            y.backward(an.asarray(g.reshape(split)))
        for ours, tensor in zip(pull(g.reshape(split)), tensors, strict=True):
            assert ours.shape == tensor.shape
            np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_results_keep_the_order_of_memory():
    """What a convolution stores channels last the next one finds channels last."""
    x = stored(np.ones((2, 4, 5, 5), np.float32), (0, 2, 3, 1))
    (y, *_), pull = normalize_groups(x, None, None, (True,), axes=(2, 3), eps=1e-5, shape=(1, 4, 1, 1))
    assert y.strides == pull(x)[0].strides == x.strides


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_a_pixel_spoils_its_own_group_alone(value):
    x = stored(np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32), (0, 2, 3, 1))
    x[0, 1, 2, 2] = value
    with np.errstate(all="ignore"):
        y, *_ = normalize_groups(x, None, None, None, axes=(2, 3), eps=1e-5, shape=(1, 4, 1, 1))
    assert np.isfinite(np.delete(y.reshape(8, -1), 1, axis=0)).all()
    assert not np.isfinite(y[0, 1]).all() or value == 1e30
