"""Adaptive pooling over uneven bins as loops of machine code, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F
from anynet_backends import get_backend
from anynet_backends.jit import availability
from anynet_backends.kernels import compiled_bins

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def draw(shape, dtype, order):
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=shape), 1).astype(dtype)  # with ties
    x.reshape(-1)[rng.integers(x.size, size=4)] = np.inf, -np.inf, np.nan, np.nan
    return x if order == "first" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("out", [(3, 4), (5, 7), (9, 2), (None, 4), (13, 20)])
@pytest.mark.parametrize("name", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_equals_the_reference(name, out, dtype, order):
    values = draw((2, 3, 7, 18), dtype, order)

    def run(on):
        with an.use_kernels(on):
            x = an.asarray(values, requires_grad=True)
            y = getattr(F, name)(x, out)
            y.backward(an.asarray(np.random.default_rng(1).normal(size=y.shape).astype(dtype)))
        return y.numpy(), x.grad.numpy()

    made, expected = run(True), run(False)
    tight = {"rtol": 2e-6, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-14, "atol": 1e-15}
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a, b, **tight)
    again = an.compile(lambda x: getattr(F, name)(x, out))(an.asarray(values)).numpy()
    np.testing.assert_array_equal(again, made[0])


@pytest.mark.parametrize("shape", [(3, 9), (1, 2, 9), (2, 3, 5, 9)])
@pytest.mark.parametrize("order", ["first", "last"])
def test_places_of_maxima(shape, order):
    x = draw(shape, "float32", order)
    out = (2, 4) if len(shape) == 4 else (4,)
    places = compiled_bins.KERNELS["bin_index"].forward(get_backend("numpy"), x, out=out, need=None)
    with an.use_kernels(False):
        f = F.adaptive_max_pool2d if len(shape) == 4 else F.adaptive_max_pool1d
        _, expected = f(an.asarray(x), out, return_indices=True)
    np.testing.assert_array_equal(places, expected.numpy())


def test_long_bins_are_left_to_numpy():
    x = np.ones((2, 200), np.float32)
    kernel, xp = compiled_bins.KERNELS["bin_mean"], get_backend("numpy")
    assert kernel.forward(xp, x, axis=-1, n=200, out=3, need=None) is NotImplemented
    np.testing.assert_array_equal(kernel.forward(xp, x, axis=-1, n=200, out=7, need=None), np.ones((2, 7)))
