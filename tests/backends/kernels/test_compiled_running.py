"""Running sums and products as loops of machine code, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet_backends.jit import availability

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5,), 0), ((1, 6), 0), ((7, 1), 1), ((3, 4), 1), ((2, 3, 4), 1), ((40, 50), 0)]
)
def test_equals_the_reference_bit_by_bit(shape, axis, dtype, order, name):
    rng = np.random.default_rng(0)
    x, g = (np.asarray(rng.normal(size=shape), dtype, order=order) for _ in range(2))
    x.reshape(-1)[0] = 0  # a product has a gradient there, too

    def f(x):
        return getattr(an, name)(x, axis=axis)

    def run(on):
        with an.use_kernels(on):
            v = an.asarray(x, requires_grad=True)
            y = f(v)
            y.backward(an.asarray(g))
        return y.numpy(), v.grad.numpy()

    made = run(True)
    for a, b in zip(made, run(False), strict=True):
        np.testing.assert_array_equal(a, b)
    compiled = an.compile(f)
    for _ in range(3):
        np.testing.assert_array_equal(compiled(an.asarray(x)).numpy(), made[0])
