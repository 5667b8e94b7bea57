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
from anynet_backends.kernels.compiled_normalization import sums_of_run
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


def _inner_products(t: str) -> tuple[Function, ...]:
    """(g, x, rows, columns, values): values[k] = Σ g[rows[k]] · x[columns[k]], the gradient of the values; sizes: 1, values, width."""
    products = sums_of_run("products", t, "g x", "g * x")
    f = LoopFunction("inner_products", 5, 3)
    (g, x, rows, columns, values), (_, count, width) = f.arrays, f.sizes
    zero = Value("double", "0.0")
    total = f.variable(zero)
    with f.loop(0, count) as k:
        first = f.at(g, f.op("mul", f.load("i64", rows, k), width), t)
        second = f.at(x, f.op("mul", f.load("i64", columns, k), width), t)
        f.put(total, zero)
        f.call(products, first, second, width, Value(t, "0.0"), total)
        found = f.get(total, "double")
        f.store(found if t == "double" else f.assigned(t, f"fptrunc {found} to {t}"), values, k)
    return products, f


@functools.cache
def _address(t: str, inner: bool) -> int:
    return (
        compiled(_inner_products(t), "inner_products") if inner else compiled(_product(t), "sparse_product")
    )


@functools.lru_cache(maxsize=256)
def _loop(values: int, width: int, count: int, dtype: Any) -> Loop:
    shape = (count, width)
    sizes = (1, values, width, count * width)
    return Loop(_address(kinds(dtype), False), sizes, ((),) * 5, np.zeros(1, np.int64), 0, ((shape, dtype),))


@functools.lru_cache(maxsize=256)
def _inner_loop(values: int, width: int, dtype: Any) -> Loop:
    makes = (((values,), dtype),)
    return Loop(_address(kinds(dtype), True), (1, values, width), ((),) * 5, np.zeros(1, np.int64), 0, makes)


after_fork(_loop.cache_clear)
after_fork(_inner_loop.cache_clear)


@_kernel
def sparse_matmul(
    xp: Backend, values: Array, x: Array, /, *, rows: Array, columns: Array, count: int, need: Any
) -> Any:
    """The product, and its gradients: of x the product with the transpose, of each value a product of two rows."""
    plain = values.dtype in PLAIN_FLOATS and values.dtype == x.dtype and values.size and x.size
    if not plain or rows.dtype != np.int64 or columns.dtype != np.int64:
        return NotImplemented
    values, x, rows, columns = (dense(xp, a) for a in (values, x, rows, columns))
    n, width = values.shape[0], x.shape[1]
    y = xp.call(_loop(n, width, count, x.dtype), values, x, rows, columns)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g = dense(xp, g)
        own = xp.call(_inner_loop(n, width, x.dtype), g, x, rows, columns) if need[0] else None
        other = _loop(n, width, x.shape[0], x.dtype)
        return own, (xp.call(other, values, g, columns, rows) if need[1] else None)

    return y, pull
