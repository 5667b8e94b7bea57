"""How arrays lie in memory: whether two overlap, and the fewest loops over several of one shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.native_function import data_pointer

__all__ = [
    "broadcast_strides",
    "byte_range",
    "collapse_axes",
    "layout_of",
    "new_with_strides",
    "overlaps_partly",
    "span",
]


def layout_of(a: Array) -> Any:
    return data_pointer(a), a.shape, a.strides, a.dtype


def byte_range(a: Array) -> tuple[int, int]:
    """First address and the one behind the last."""
    low = high = data_pointer(a)
    for n, step in zip(a.shape, a.strides, strict=True):
        if step < 0:
            low += (n - 1) * step
        else:
            high += (n - 1) * step
    return low, high + a.itemsize


def span(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> int:
    """Bytes from the first number of such an array to the one behind the last; no stride is negative, no length 0."""
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + itemsize


def new_with_strides(shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Array:
    """An array of zeros with these strides, of which none is negative, in memory of its own."""
    whole = np.zeros(-(-span(shape, strides, dtype.itemsize) // dtype.itemsize), dtype)
    made: Array = np.lib.stride_tricks.as_strided(whole, shape, strides)
    return made


def overlaps_partly(written: Array, a: Array) -> bool:
    """Whether the two may share memory, but not element by element."""
    (lo, hi), (low, high) = byte_range(written), byte_range(a)
    if low >= hi or lo >= high or layout_of(written) == layout_of(a):
        return False
    # as columns of a matrix, they may lie beside each other in each row
    step = math.gcd(*written.strides, *a.strides)
    return not (step and written.itemsize <= (low - lo) % step <= step - a.itemsize)


def broadcast_strides(a: Array, shape: tuple[int, ...]) -> list[int]:
    """Its strides when broadcast to a shape."""
    lead = len(shape) - a.ndim
    own = [0 if n == 1 else s for n, s in zip(a.shape, a.strides, strict=True)]
    return [0] * lead + own


def collapse_axes(shape: tuple[int, ...], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The fewest loops over a shape, from the outermost in the memory of the first array inwards."""
    axes = sorted((i for i, n in enumerate(shape) if n != 1), key=lambda i: (-abs(strides[0][i]), i))
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for i in axes:
        n = shape[i]
        if dims and all(own[-1] == s[i] * n for own, s in zip(steps, strides, strict=True)):
            dims[-1] *= n
            for own, s in zip(steps, strides, strict=True):
                own[-1] = s[i]
        else:
            dims.append(n)
            for own, s in zip(steps, strides, strict=True):
                own.append(s[i])
    if not dims:
        return [1], [[0] for _ in strides]
    return dims, steps
