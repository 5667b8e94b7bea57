"""Rows of a table: the gradient of a large one is the rows that were looked up, and not an array of its size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability, calls
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS
from anynet_backends.memory.rows import Rows

__all__ = ["KERNELS", "add_rows"]

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_traceable = register_in(KERNELS, traceable=True)

LARGE: Final = 1 << 16
"""Elements from which on a table has such gradients."""


def add_rows(array: Array, index: Array, values: Array) -> None:
    """``array[index[k]] += values[k]`` for each k, in place, in the order of the index (as fast as sorting and `reduceat`)."""
    if availability.available() and calls.add_rows(array, index, values):
        return
    n = len(array)
    flat = array.ndim > 1 and array.flags.c_contiguous and values.size >= 256
    if not flat or (index < -n).any() or (index >= n).any():
        np.add.at(array, index, values)  # which says what is outside
        return
    # NumPy is quick only where arrays have one axis: numbers at places of the flat array take a third to a fifth of the time, with the
    # same sums in the same order; in blocks, so that the places stay in cache
    width = array.size // n
    one, values = array.reshape(-1), values.reshape(len(values), width)
    starts, columns = index.astype(np.intp) * width, np.arange(width)
    rows = max(1, (1 << 16) // width)
    for first in range(0, len(starts), rows):
        places = starts[first : first + rows, None] + columns
        np.add.at(one, places.reshape(-1), values[first : first + rows].reshape(-1))


def _rows(
    xp: Backend,
    weight: Array,
    index: Array,
    *,
    padding: int | None,
    by_frequency: bool,
    sparse: bool,
    need: Any,
) -> Any:
    if weight.size < LARGE or weight.dtype.kind != "f" or type(index) is not np.ndarray or sparse:
        return NotImplemented
    y = np.take(weight, index, axis=0)
    if need is None:
        return y
    shape = weight.shape

    def pull(g: Array) -> tuple[Any, ...]:
        places, values = index.astype(np.intp, copy=False), g  # lookups of one table may have several types
        if padding is not None:
            kept = places != padding
            if not kept.all():
                places, values = places[kept], values[kept]
        if by_frequency:
            _, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
            values = values / counts[inverse][:, None].astype(values.dtype)
        return (Rows(xp, places, np.ascontiguousarray(values), shape),)[: len(need)]

    return y, pull


@_traceable
def embedding(xp: Backend, weight: Array, index: Array, /, *, need: Any, **options: Any) -> Any:
    """weight[index], of a large table; a compiled program takes the reference, whose gradient is an array."""
    return _rows(xp, weight, index, need=need, **options) if xp.eager else NotImplemented


@functools.lru_cache(maxsize=256)
def _scatter(shape: tuple[int, ...]) -> Callable[[Array, Array], Array]:
    """A function of (values, index): zeros of `shape` with the values added to rows."""

    def scatter(values: Array, index: Array) -> Array:
        y = empty_output(shape, values.dtype)
        y[...] = 0
        add_rows(y, index, values)
        return y

    return scatter


@_traceable
def scatter_rows(xp: Backend, x: Array, *, index: Array, shape: tuple[int, ...], need: Any) -> Any:
    """Zeros of `shape` with x[k] added to row index[k], without a copy of the zeros."""
    if x.dtype not in PLAIN_FLOATS or tuple(x.shape) != (index.shape[0], *shape[1:]) or not x.size:
        return NotImplemented
    y = xp.call(_scatter(tuple(shape)), x, index)
    return y if need is None else (y, lambda g: (xp.take(g, index, axis=0),))
