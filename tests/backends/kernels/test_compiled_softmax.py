"""Softmax and its logarithm as loops of machine code, against the reference in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F
from anynet_backends import get_backend
from anynet_backends.jit import availability
from anynet_backends.kernels import compiled_softmax

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")

FORMS = {  # shape, axis
    "columns": ((3, 5, 8), 1),
    "columns in tiles": ((2, 33, 300), 1),
    "many rows of few columns": ((2, 70, 3, 3), 1),
    "parts of columns": ((1, 21, 512), 1),
    "first axis": ((40, 9), 0),
    "rows": ((7, 33), 1),
    "rows of two vectors": ((2, 3, 32), -1),
    "long rows": ((3, 5000), 1),
}


def draw(shape, order, special):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, size=shape).astype(np.float32)
    if special:
        for value in (np.inf, -np.inf, np.nan):
            x.reshape(-1)[rng.integers(x.size, size=2)] = value
        x[(slice(0, 1), *(slice(None),) * (x.ndim - 1))] = -np.inf
    if order == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return x[..., ::1] if order != "strided" else np.repeat(x, 2, axis=-1)[..., ::2]


def both(f, x, g):
    x = an.asarray(x, requires_grad=True)
    y = f(x)
    y.backward(an.asarray(g))
    return y.numpy(), x.grad.numpy()


@np.errstate(invalid="ignore")  # short rows are left to NumPy, which warns of ∞ − ∞
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("order", ["as it is", "channels last", "strided"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("form", list(FORMS))
def test_forms(form, name, order, special):
    shape, axis = FORMS[form]
    x = draw(shape, order, special)
    g = np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def f(x):
        return getattr(F, name)(x, axis)

    made = both(f, x, g)
    with an.use_kernels(False):
        expected = both(f, x.astype(np.float64), g.astype(np.float64))
    for a, b in zip(made, expected, strict=True):
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite].astype(np.float32))
        np.testing.assert_allclose(a[finite], b[finite], rtol=2e-5, atol=2e-6)
    compiled = an.compile(f)
    for _ in range(3):
        np.testing.assert_array_equal(compiled(an.asarray(x)).numpy(), made[0])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_takes_what_fills_vectors(name):
    kernel = compiled_softmax.KERNELS[name]
    xp = get_backend("numpy")
    for shape, axis, takes in (
        ((3, 4, 8), 1, True),
        ((3, 4, 7), 1, False),
        ((3, 32), 1, True),
        ((3, 31), 1, False),
        ((3, 1, 40), 1, False),
        ((0, 4, 8), 1, False),
    ):
        made = kernel.forward(xp, np.ones(shape, np.float32), axis=axis, need=None)
        assert (made is not NotImplemented) == takes, shape
    assert kernel.forward(xp, np.ones((3, 4, 8)), axis=1, need=None) is NotImplemented


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": True}])
@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (4, 31), (6, 33), (3, 1000)])
def test_cross_entropy_of_rows(shape, options):
    rng = np.random.default_rng(0)
    x, t = rng.normal(0, 3, shape).astype(np.float32), rng.integers(0, shape[1], shape[0])
    x[-1] = np.nan  # which an ignored row may hold
    t[-1] = -100
    g = rng.normal(size=shape[0]).astype(np.float32)
    kept = slice(0, -1)

    def f(x):
        more = (
            {"weight": an.asarray(np.linspace(0.5, 2, shape[1]), dtype=x.dtype)}
            if "weight" in options
            else options
        )
        return F.cross_entropy(x, an.asarray(t), reduction="none", **more)

    made = both(f, x, g)
    with an.use_kernels(False):
        expected = both(f, x.astype(np.float64), g.astype(np.float64))
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a[kept], b[kept], rtol=2e-5, atol=2e-6)
        assert not a[-1].any()
    compiled = an.compile(f)
    for _ in range(3):
        np.testing.assert_array_equal(compiled(an.asarray(x)).numpy(), made[0])
