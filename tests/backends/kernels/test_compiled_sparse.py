"""Products with a list of a matrix's elements as a loop of machine code, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.ops.sparse import sparse_matmul
from anynet_backends import get_backend
from anynet_backends.jit import availability
from anynet_backends.kernels import compiled_sparse

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 1), (7, 3), (40, 16), (40, 33), (5, 0), (1, 4)])
@pytest.mark.parametrize("kept", [0, 1, 90])
def test_equals_the_reference(shape, kept, dtype):
    draw = np.random.default_rng(0)
    rows, columns = draw.integers(0, 9, kept), draw.integers(0, shape[0], kept)
    values, x = draw.normal(size=kept).astype(dtype), draw.normal(size=shape).astype(dtype)
    weight = draw.normal(size=(9, shape[1])).astype(dtype)

    def run(on):
        with an.use_kernels(on):
            v, d = (
                an.asarray(values, requires_grad=True),
                an.asarray(np.asfortranarray(x), requires_grad=True),
            )
            y = sparse_matmul(v, d, rows=rows, columns=columns, count=9)
            y.backward(an.asarray(weight))
        return y.numpy(), v.grad.numpy(), d.grad.numpy()

    for a, b in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-6 if dtype == "float32" else 1e-14
        )


def test_what_it_does_not_take_is_left_to_the_reference():
    kernel, xp = compiled_sparse.KERNELS["sparse_matmul"], get_backend("numpy")
    at, x = np.array([0, 1]), np.ones((2, 2), np.float32)
    for values, rows in (
        (np.ones(2), at), (np.ones(2, np.float32), at.astype(np.int32)),
    ):  # fmt: skip
        assert kernel.forward(xp, values, x, rows=rows, columns=at, count=2, need=None) is NotImplemented


def test_lists_that_lie_apart_are_copied():
    kernel, xp = compiled_sparse.KERNELS["sparse_matmul"], get_backend("numpy")
    rows, x = np.array([0, 9, 1, 9])[::2], np.ones((2, 2), np.float32)
    y, pull = kernel.forward(
        xp, np.array([2, 3], np.float32), x, rows=rows, columns=rows, count=2, need=(True, True)
    )
    np.testing.assert_array_equal(y, [[2, 2], [3, 3]])
    values, gx = pull(np.array([[1, 0], [4, 5]], np.float32))
    np.testing.assert_array_equal(values, [1, 9])
    np.testing.assert_array_equal(gx, [[2, 0], [12, 15]])
