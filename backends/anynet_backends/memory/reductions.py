"""Sums of NumPy arrays: of large ones by loops of machine code, where it is there; else as dot products with ones where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["PLAIN_FLOATS", "sum_by_dot", "ones_vector"]

PLAIN_FLOATS: Final = (np.dtype("float32"), np.dtype("float64"))
_reduce: Any = np.add.reduce
sum_in_order: Callable[..., Array | None] | None = None
"""The sum of a large array by machine code, or None: set by `anynet_backends.jit.ordered_sums`."""
_LARGE: Final = 1 << 18
_LONG: Final = 1 << 16
_ones: dict[tuple[int, Any], Array] = {}


def ones_vector(n: int, dtype: Any) -> Array:
    """A cached vector of n ones, read-only."""
    found = _ones.get((n, dtype))
    if found is None:
        if len(_ones) > 64:
            _ones.clear()
        found = _ones[n, dtype] = np.ones(n, dtype)
        found.flags.writeable = False
    return found


def _dot(a: Array, b: Array, out: Array | None = None) -> Array:
    """``np.dot(a, b, out)``. BLAS computes with whole vector registers, and what lies in their unused places may be anything: the flag for
    invalid values that this sets now and then says nothing of the operands."""
    with np.errstate(invalid="ignore"):
        found: Array = np.dot(a, b, out)
        return found


def sum_by_dot(x: Array, axis: Any, dtype: Any, out: Array | None, keepdims: bool) -> Array:
    """``np.add.reduce``, as a dot product with ones where possible: over the first axes or the last of a contiguous array BLAS takes
    half the time or less, and its rounding errors are smaller (it has many partial sums, where NumPy adds row to row)."""
    if dtype is not None and dtype == x.dtype:
        dtype = None
    if dtype is None and x.nbytes >= _LARGE and sum_in_order is not None:
        made = sum_in_order(x, axis, out, keepdims)
        if made is not None:
            return made
    if dtype is None and x.ndim > 1 and x.dtype in PLAIN_FLOATS and x.flags.c_contiguous:
        last = x.ndim - 1
        if axis == 0 or axis == _LEADING.get(last):
            rows = x.shape[0] if axis == 0 else x.size // (x.shape[last] or 1)
            if 0 < rows <= _LONG and x.size and (out is None or out.flags.c_contiguous):
                flat = x if last == 1 else x.reshape(rows, -1)
                if out is not None:
                    _dot(ones_vector(rows, x.dtype), flat, out.reshape(-1))
                    return out
                total = _dot(ones_vector(rows, x.dtype), flat)
                return total if last == 1 and not keepdims else total.reshape(_rest(x.shape, axis, keepdims))
        elif axis == -1 or axis == last or axis == (last,) or axis == (-1,):
            n = x.shape[last]
            if 0 < n <= 1024 and x.size and (out is None or out.flags.c_contiguous):
                flat = x if last == 1 else x.reshape(-1, n)
                if out is not None:
                    _dot(flat, ones_vector(n, x.dtype), out.reshape(-1))
                    return out
                total = _dot(flat, ones_vector(n, x.dtype))
                return total if last == 1 and not keepdims else total.reshape(_rest(x.shape, axis, keepdims))
    return _reduce(x, axis, dtype, out, keepdims)


_LEADING: Final = {n: tuple(range(n)) for n in range(1, 8)}


def _rest(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)
