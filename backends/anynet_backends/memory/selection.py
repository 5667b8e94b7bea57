"""``where`` of large arrays by their bits."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["select", "where"]

_LARGE: Final = 1 << 13
"""Elements from which on it is faster."""

_BLOCK: Final = 1 << 14
"""Elements that stay in the cache together."""


def select(condition: Array, a: Any, b: Any, out: Array) -> bool:
    """``out = where(condition, a, b)`` for numbers and arrays in the memory order of `out`, as b ^ ((a ^ b) & mask).

    NumPy's loop takes a branch for each element, which costs ten times as much where nobody can guess it. False, and nothing is written,
    where these arrays are small or otherwise.
    """
    dtype = out.dtype
    if condition.size < _LARGE or dtype not in PLAIN_FLOATS or condition.dtype != bool:
        return False
    bits: Any = np.int32 if dtype.itemsize == 4 else np.int64
    order = axes_in_memory(out.strides)
    flags, into = _dense(condition, condition.dtype, out.shape, order), _dense(out, dtype, out.shape, order)
    x, y = _dense(a, dtype, out.shape, order), _dense(b, dtype, out.shape, order)
    if flags is None or into is None or x is None or y is None:
        return False
    flags, into, x, y = flags.view(np.int8), into.view(bits), x.view(bits), y.view(bits)
    mask = np.empty(min(_BLOCK, into.size), bits)
    for start in range(0, into.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        target = into[part]
        m = mask[: target.size]
        m[...] = flags[part]
        np.negative(m, out=m)
        p, q = (v[part] if v.ndim else v for v in (x, y))
        np.bitwise_and(m, np.bitwise_xor(p, q), out=m)
        np.bitwise_xor(m, q, out=target)
    return True


def _dense(v: Any, dtype: Any, shape: tuple[int, ...], order: tuple[int, ...]) -> Array | None:
    """A number, or an array that is dense in this order, as a vector of one dtype."""
    if type(v) in (int, float):
        exact = (
            abs(v) <= 2**63 or v != v or abs(v) == math.inf
        )  # others are left to NumPy, which says where they overflow
        return np.asarray(v, dtype) if exact else None
    if type(v) is not np.ndarray or v.dtype != dtype or v.shape != shape:
        return None
    view = v.transpose(order)
    return view.reshape(-1) if view.flags.c_contiguous else None


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """`np.where`."""
    if type(condition) is np.ndarray and condition.size >= _LARGE:
        like = x1 if type(x1) is np.ndarray and x1.shape == condition.shape else x2
        if type(like) is np.ndarray and like.shape == condition.shape:
            out = np.empty_like(like)
            if select(condition, x1, x2, out):
                return out
    return np.where(condition, x1, x2)
