"""Softmax along an axis that is not the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.elementary import suited
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.memory.outputs import empty_output
from anynet_backends.numpy_namespace import same_float_dtype

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_maximum: Any = np.maximum.reduce
_sum: Any = np.add.reduce


@_kernel
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax along an axis that is not the last in memory, in blocks that stay in the cache."""
    axis %= x.ndim
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    if not same_float_dtype(x) or inner < 16 or n < 2 or not x.size or not x.flags.c_contiguous:
        return NotImplemented
    y = empty_output(x.shape, x.dtype)
    places, order, room = _in_columns(outer, n, inner, x, y)
    row = np.empty_like(room[:, :1])
    exp = suited(np.exp, x)
    for at in order:
        a, b = places(at)
        top = row[: a.shape[0], :, : a.shape[-1]]
        _maximum(a, 1, None, top, True)
        np.subtract(a, top, out=b)
        exp(b, out=b)
        _sum(b, 1, None, top, True)
        np.reciprocal(top, out=top)
        np.multiply(b, top, out=b)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Array]:
        gx = empty_output(x.shape, x.dtype)
        parts, order, room = _in_columns(outer, n, inner, np.ascontiguousarray(g), y, gx)
        row = np.empty_like(room[:, :1])
        for at in order:
            a, b, c = parts(at)
            some, width = a.shape[0], a.shape[-1]
            total, products = row[:some, :, :width], room[:some, :, :width]
            np.multiply(a, b, out=products)
            _sum(products, 1, None, total, True)
            np.subtract(a, total, out=products)
            np.multiply(products, b, out=c)
        return (gx,)

    return y, pull


def _in_columns(
    outer: int, n: int, inner: int, *arrays: Array
) -> tuple[Callable[[int], tuple[Array, ...]], range, Array]:
    """Blocks of arrays (outer, n, inner) over the whole axis n that stay in the cache: a function from a block's number to its slices,
    the numbers, and a temporary of one block."""
    width = min(inner, max(16, CACHE_BLOCK // 2 // n))
    across = -(-inner // width)
    some = max(1, min(outer, CACHE_BLOCK // 2 // (n * inner)))  # more than one only where width is inner
    cubes = [a.reshape(outer, n, inner) for a in arrays]

    def places(at: int) -> tuple[Array, ...]:
        i, j = at // across, at % across * width
        return tuple([c[i * some : (i + 1) * some, :, j : j + width] for c in cubes])

    return places, range(-(-outer // some) * across), np.empty((some, n, width), arrays[0].dtype)
