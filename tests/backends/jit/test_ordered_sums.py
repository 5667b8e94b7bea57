"""Sums of large arrays: accurate, and in an order that depends on the form alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from anynet_backends.jit import availability, ir_builder, ordered_sums
from anynet_backends.memory.reductions import sum_by_dot

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")

SHAPES = [(70000, 3), (16, 32, 17, 19), (300001,), (64, 1500), (3, 1700, 33), (2, 1, 40000), (5000, 31)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_axes(shape, dtype):
    """Along each set of axes, of arrays in two orders."""
    base = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for x in (base, np.ascontiguousarray(base.T).T):
        for n in range(1, x.ndim + 1):
            for axes in itertools.combinations(range(x.ndim), n):
                for keep in (False, True):
                    y = sum_by_dot(x, axes, None, None, keep)
                    want = np.add.reduce(x.astype(np.longdouble), axes, keepdims=keep)
                    assert (y.shape, y.dtype) == (want.shape, dtype)
                    scale = np.abs(x).sum(axes, keepdims=keep)
                    assert np.max(np.abs(y - want) / scale) < 8 * np.finfo(dtype).eps
                    out = np.empty_like(y)
                    assert sum_by_dot(x, axes, x.dtype, out, keep) is out
                    assert out.tobytes() == y.tobytes()


def test_special_values():
    x = np.ones((400, 300), np.float32)
    x[3, 7], x[5, 9], x[6, 0], x[6, 1] = np.inf, np.nan, np.inf, -np.inf
    rows = sum_by_dot(x, 1, None, None, False)
    np.testing.assert_array_equal(rows[[0, 3, 5, 6]], [300, np.inf, np.nan, np.nan])
    columns = sum_by_dot(x, 0, None, None, False)
    np.testing.assert_array_equal(columns[[0, 7, 9, 50]], [np.inf, np.inf, np.nan, 400])


def test_what_is_left_to_numpy():
    x = np.ones((400, 600), np.float32)
    for other in (
        x[:, ::2],
        x[::-1],
        x.astype(np.float16),
        x.astype(np.int64),
        np.broadcast_to(x[:1], x.shape),
    ):
        assert ordered_sums.sum_in_order(other, 0, None, False) is None
    assert ordered_sums.sum_in_order(x[:, None], 1, None, False) is None  # there is nothing to add


def test_stages():
    """From the innermost run of axes, where it is long, else from the outermost."""
    assert ordered_sums.stages([8, 16, 100], [True, False, True]) == [(128, 100, 1, 4096), (1, 8, 16, 32)]
    assert ordered_sums.stages([8, 16, 4], [True, False, True]) == [(1, 8, 64, 32), (16, 4, 1, 4096)]
    assert ordered_sums.stages([10, 2000], [True, False]) == [(1, 10, 2000, 8)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_a_known_length_have_the_bits_of_any_length(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    for n in range(1, ordered_sums._KNOWN + 2):
        x = rng.normal(size=(5, n, 1)).astype(dtype)
        stage = ordered_sums.Stage(5, n, 1, ordered_sums.CHUNK)
        known, _ = ordered_sums.loops(stage, np.dtype(dtype))
        found = known(x, x)
        any_length = ordered_sums._address("row", ordered_sums.kinds(dtype))
        monkeypatch.setattr(known, "alone", (ir_builder._call(any_length), known.alone[1]))
        expected = known(x, x)
        assert found.tobytes() == expected.tobytes(), n
