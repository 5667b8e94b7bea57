"""Products with a matrix of which only some elements are kept: a list of values with their rows and columns."""

from __future__ import annotations

from typing import Any

from anynet.autograd.primitive import primitive
from anynet.ops.elementwise import conj
from anynet.ops.indexing import gather_rows
from anynet.ops.reductions import sum as sum_
from anynet_backends import Array, Backend

__all__ = ["sparse_matmul"]


@primitive
def sparse_matmul(
    xp: Backend, values: Array, x: Array, /, *, rows: Array, columns: Array, count: int
) -> Array:
    """A x of the (count, n) matrix A that has values[k] at (rows[k], columns[k]), zeros elsewhere, and the sum where several have one
    place; x is (n, width). `rows` and `columns` are plain arrays of integers, known to be in range."""
    terms = xp.expand_dims(values, axis=1) * xp.take(x, columns, axis=0)
    zeros = xp.zeros((count, x.shape[1]), dtype=terms.dtype, device=xp.native_device(xp.device_of(x)))
    return xp.index_add(zeros, rows, terms)


def _values_rule(g: Any, x: Any, rows: Array, columns: Array) -> Any:
    return sum_(gather_rows(g, index=rows) * conj(gather_rows(x, index=columns)), axis=1)


def _x_rule(g: Any, values: Any, x_shape: tuple[int, ...], rows: Array, columns: Array) -> Any:
    return sparse_matmul(conj(values), g, rows=columns, columns=rows, count=x_shape[0])


sparse_matmul.vjp(values=_values_rule, x=_x_rule)
sparse_matmul.array_meta = ("rows", "columns")
