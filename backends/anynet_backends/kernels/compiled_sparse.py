"""Products with a matrix of which the elements are a list, as a loop of machine code: one row of the result at a time grows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit.ir_builder import Function, Loop, LoopFunction, Value, compiled, elementwise, kinds
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.outputs import dense
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported arguments are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)


def _product(t: str) -> tuple[Function, ...]:
    """(values, x, rows, columns, y): y = 0, and then y[rows[k]] += values[k] · x[columns[k]]; sizes: 1, values, width, numbers in y."""
    add = elementwise("add", t, "x y", "v", y="y + x * v")
    f = LoopFunction("sparse_product", 5, 4)
    (values, x, rows, columns, y), (_, count, width, total) = f.arrays, f.sizes
    with f.loop(0, total) as i:
        f.store(Value(t, "0.0"), y, i)
    with f.loop(0, count) as k:
        source = f.at(x, f.op("mul", f.load("i64", columns, k), width), t)
        target = f.at(y, f.op("mul", f.load("i64", rows, k), width), t)
        f.call(add, source, target, f.load(t, values, k), width)
    return add, f


@functools.cache
def _address(t: str) -> int:
    return compiled(_product(t), "sparse_product")


@functools.lru_cache(maxsize=256)
def _loop(values: int, width: int, count: int, dtype: Any) -> Loop:
    shape = (count, width)
    sizes = (1, values, width, count * width)
    return Loop(_address(kinds(dtype)), sizes, ((),) * 5, np.zeros(1, np.int64), 0, ((shape, dtype),))


after_fork(_loop.cache_clear)


@_kernel
def sparse_matmul(
    xp: Backend, values: Array, x: Array, /, *, rows: Array, columns: Array, count: int, need: Any
) -> Any:
    """The product, and the gradient of x as that with the transpose; that of the values is a sum over two gathered arrays."""
    plain = (
        values.dtype in PLAIN_FLOATS and values.dtype == x.dtype and type(rows) is type(columns) is np.ndarray
    )
    if (
        not plain
        or rows.dtype != np.int64
        or columns.dtype != np.int64
        or not (rows.flags.c_contiguous and columns.flags.c_contiguous)
    ):
        return NotImplemented
    loop = _loop(values.shape[0], x.shape[1], count, x.dtype)
    y = xp.call(loop, dense(xp, values), dense(xp, x), rows, columns)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        back = None
        if need[1]:
            other = _loop(values.shape[0], x.shape[1], x.shape[0], x.dtype)
            back = xp.call(other, dense(xp, values), dense(xp, g), columns, rows)
        if not need[0]:
            return None, back
        return xp.sum(xp.take(g, rows, axis=0) * xp.take(x, columns, axis=0), axis=1), back

    return y, pull
