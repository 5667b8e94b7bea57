"""Rows of a table: the gradient of a large one is the rows that were looked up, and not an array of its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.rows import sum_rows, sum_taken_rows
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS
from anynet_backends.memory.rows import Rows

__all__ = ["KERNELS", "RowSum"]

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_traceable = register_in(KERNELS, traceable=True)

LARGE: Final = 1 << 16
"""Elements from which on a table has such gradients."""


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
    y = weight.take(index, 0)
    if need is None:
        return y
    shape = weight.shape

    def pull(g: Array) -> tuple[Any, ...]:
        # lookups of one table may have several types
        places, values = index.reshape(-1).astype(np.intp, copy=False), g.reshape(-1, *shape[1:])
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


class RowSum:
    """A function of (values, index): zeros of `shape` with the values added to rows. `taken`: what it is of ``take(x, source)``."""

    __name__ = "sum_rows"

    def __init__(self, shape: tuple[int, ...], f: Callable[..., None] = sum_rows) -> None:
        self.shape, self.f = shape, f

    def __call__(self, x: Array, *indices: Array) -> Array:
        y = empty_output(self.shape, x.dtype)
        self.f(x, *indices, y)
        return y

    def calls(self, out: Array, *args: Array) -> list[Any]:
        """The calls of a program."""
        return [(self.f, (*args, out))]

    def of_taken(self) -> RowSum:
        """The function of (x, source, index) that gives the same for ``take(x, source)`` and the index."""
        return RowSum(self.shape, sum_taken_rows)


@_traceable
def scatter_rows(xp: Backend, x: Array, *, index: Array, shape: tuple[int, ...], need: Any) -> Any:
    """Zeros of `shape` with x[k] added to row index[k], without a copy of the zeros."""
    if x.dtype not in PLAIN_FLOATS or tuple(x.shape) != (index.shape[0], *shape[1:]) or not x.size:
        return NotImplemented
    y = xp.call(RowSum(tuple(shape)), x, index)
    return y if need is None else (y, lambda g: (xp.take(g, index, axis=0),))


@_traceable
def extreme_at(xp: Backend, x: Array, values: Array, *, index: Array, largest: bool, need: Any) -> Any:
    """NumPy's own loop; a compiled program, and a gradient, take the reference's way."""
    if not xp.eager or x.dtype != values.dtype:
        return NotImplemented
    y = x.copy()
    (np.maximum if largest else np.minimum).at(y, index, values)
    return y if need is None else (y, lambda g: NotImplemented)


@_traceable
def sparse_matmul(
    xp: Backend, values: Array, x: Array, *, rows: Array, columns: Array, count: int, need: Any
) -> Any:
    """The product where each row has as many values as the others, one behind the other: what they weigh is added up without a list."""
    if not xp.eager or not count or not x.size or values.dtype != x.dtype or x.dtype.kind != "f":
        return NotImplemented
    each = len(rows) // count
    if (
        not each
        or each * count != len(rows)
        or not (rows.reshape(count, each) == np.arange(count)[:, None]).all()
    ):
        return NotImplemented
    width, weights = x.shape[1], values.reshape(count, each, 1)
    y = np.zeros((count, width), x.dtype)  # in the order in which a list of rows is added to zeros
    for k in range(each):
        term = x.take(columns[k::each], 0)
        term *= weights[:, k]
        y += term
    if need is None:
        return y
    shape = x.shape

    def pull(g: Array) -> tuple[Any, ...]:
        wide = np.ascontiguousarray(g)[:, None, :]
        own = None
        if need[0]:
            taken = x.take(columns, 0).reshape(count, each, width)
            taken *= wide
            own = xp.sum(taken.reshape(-1, width), axis=1)
        if not need[1]:
            return own, None
        back = empty_output(shape, g.dtype)
        sum_rows((weights * wide).reshape(-1, width), columns, back)
        return own, back

    return y, pull
