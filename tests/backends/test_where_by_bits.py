"""`where` of large arrays: the bits, the type and the memory order that NumPy's function gives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from anynet_backends.jit.numpy_calls import choose
from anynet_backends.memory import selection

SHAPES = [(20_000,), (3, 70, 101), (16_384,)]


def operands(shape, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    special = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    a.reshape(-1)[: special.size], b.reshape(-1)[-special.size :] = special, special
    return rng.random(shape) < 0.5, a, b


def same(made, wanted):
    assert (made.dtype, made.shape, made.strides) == (wanted.dtype, wanted.shape, wanted.strides)
    assert made.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_and_numbers(shape, dtype):
    condition, a, b = operands(shape, dtype)
    for x, y in ((a, b), (a, 0.0), (-0.0, b), (a, 3), (-np.inf, b), (a, np.nan), (b, -1e9), (a, True)):
        same(selection.where(condition, x, y), np.where(condition, x, y))


def test_bits_are_chosen_and_nothing_is_computed(monkeypatch):
    """It is this function's own way that is taken, and neither NaN nor infinity warns."""
    condition, a, b = operands((20_000,), np.float32)
    made = np.empty_like(a)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert selection.select(condition, a, b, made)
    same(made, np.where(condition, a, b))
    into = np.empty_like(a)
    choose(condition, a, 0.0, into)
    same(into, np.where(condition, a, 0.0))
    assert selection.select(condition, made, b, made)  # in place
    same(made, np.where(condition, a, b))


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1)])
def test_order_of_memory(order):
    condition, a, b = (x.transpose(order) for x in operands((30, 40, 50), np.float32))
    same(selection.where(condition, a, b), np.where(condition, a, b))
    same(selection.where(condition, a, 1.0), np.where(condition, a, 1.0))


def test_what_is_left_to_numpy():
    condition, a, b = operands((200, 100), np.float32)
    cases = [
        (condition, a, b.astype(np.float64)),
        (condition, np.ones((200, 100), np.int64), 2),
        (condition, a, b[0]),
        (condition[0], a, b),
        (condition, a, np.asfortranarray(b)),
        (condition, a, 3e38),
        (condition, a, np.float64(2.0)),
        (condition, 1.0, 2.0),
        (condition[:, ::2], a[:, ::2], b[:, ::2]),
        (condition.astype(np.int8), a, b),
        (condition[:0], a[:0], b[:0]),
        (np.True_, a, b),
    ]
    for case in cases:
        np.testing.assert_array_equal(selection.where(*case), np.where(*case), strict=True)
