"""Softmax, whichever kernel takes it, against the reference in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((64, 100), -1),
        ((64, 100), 0),
        ((4, 5, 300), 1),
        ((2, 3000), 1),
        ((8, 16, 4, 16), -2),
        ((300, 16), -1),
        ((3, 500, 24), -1),
    ],
)
@pytest.mark.parametrize("order", ["plain", "turned"])
def test_softmax_equals_the_reference_in_double(shape, axis, order):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=shape) * 5).astype(np.float32)
    if order == "turned":
        values = np.ascontiguousarray(values.T).T
    g = rng.normal(size=shape)

    def run(dtype):
        x = an.Tensor(values.astype(dtype))
        x.requires_grad_()
        y = F.softmax(x, axis)
        y.backward(an.asarray(g.astype(dtype)))
        return y.detach().numpy(), x.grad.numpy()

    for mine, expected in zip(run(np.float32), run(np.float64), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(
        an.compile(lambda x: F.softmax(x, axis))(an.asarray(values)).numpy(), run(np.float32)[0]
    )


def test_softmax_of_what_is_not_finite():
    x = np.zeros((10, 500), np.float32)
    x[0, 3], x[1], x[2], x[3, 4], x[4, :400], x[5, 0] = np.nan, np.nan, -np.inf, np.inf, -np.inf, 3e38
    with np.errstate(all="ignore"):
        y = F.softmax(an.asarray(x), -1).numpy()
        expected = F.softmax(an.asarray(x.astype(np.float64)), -1).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert np.isnan(y[:4]).all()
    assert np.isfinite(y[4:]).all()
