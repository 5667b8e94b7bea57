"""Interpolation in an array's own order of axes, by products with the bands of the axes' matrices, or copies of pixels.

An axis is seen as the middle one of three, with all that comes before and after it in memory. Each output needs a few neighbouring
inputs, so the matrix of an axis is cut into blocks of rows, and a product takes the columns alone that such a block has: the work for
an output does not grow with the size of the image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.interpolation import Axis, places, weights
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import axes_in_memory, inverse
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)

ROWS: Final = 32
"""Rows of a matrix that one product has."""

Along = Callable[[Array, Array], None]
"""Writes into (before, m, after) what is made of (before, n, after)."""


@functools.lru_cache(maxsize=256)
def _bands(axis: Axis, back: bool, dtype: Any) -> tuple[tuple[slice, slice, Array], ...]:
    """Blocks of rows of the matrix or its transpose: rows, columns that are not zero, and that part of the matrix."""
    matrix = np.array(weights(axis), np.float64).reshape(axis[2], axis[1])
    matrix = np.ascontiguousarray((matrix.T if back else matrix).astype(dtype))
    made = []
    for start in range(0, len(matrix), ROWS):
        rows = slice(start, min(start + ROWS, len(matrix)))
        (used,) = np.nonzero(matrix[rows].any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
        made.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))
    return tuple(made)


def _by_products(axis: Axis, back: bool, x: Array, y: Array) -> None:
    for rows, columns, part in _bands(axis, back, x.dtype):
        if x.shape[2] == 1:
            np.matmul(x[:, columns, 0], part.T, out=y[:, rows, 0])
        else:
            np.matmul(part, x[:, columns], out=y[:, rows])


@functools.lru_cache(maxsize=256)
def _runs(axis: Axis) -> tuple[Array, Array, Array]:
    """The input of each output; the first output of each input, and how many it has."""
    taken = np.array(places(axis), np.intp)
    counts = np.bincount(taken, minlength=axis[1])
    return taken, np.concatenate(([0], counts.cumsum()[:-1])), counts


def _by_copies(axis: Axis, back: bool, x: Array, y: Array) -> None:
    taken, first, counts = _runs(axis)
    times = axis[2] // axis[1]
    if (counts == times).all():  # a whole number of outputs for each input
        many = x if back else y
        many = many.reshape(x.shape[0], axis[1], times, x.shape[2])
        if not back:
            for i in range(times):
                many[:, :, i] = x
        elif times == 1:
            y[...] = x
        else:
            np.add(many[:, :, 0], many[:, :, 1], out=y)
            for i in range(2, times):
                y += many[:, :, i]
        return
    if not back:
        np.take(x, taken, axis=1, out=y, mode="clip")  # "raise" copies `out`
        return
    y[...] = 0
    for i in range(int(counts.max())):
        (more,) = np.nonzero(counts > i)
        if len(more) == len(counts):
            y += x[:, first + i]
        else:
            y[:, more] += x[:, first[more] + i]


def _resample(x: Array, axes: tuple[Axis, ...], back: bool) -> Array:
    """x with its last axes interpolated, or with `back` the transpose of that, in the memory order of x."""
    lead = x.ndim - len(axes)
    order = axes_in_memory(x.strides)
    if not x.transpose(order).flags.c_contiguous:
        order = tuple(range(x.ndim))
    shape, now = list(x.shape), np.ascontiguousarray(x.transpose(order))
    for at, axis in enumerate(axes, lead):
        shape[at] = axis[1] if back else axis[2]
        place = order.index(at)
        before, after = math.prod(now.shape[:place]), math.prod(now.shape[place + 1 :])
        into = empty_output(tuple(shape), x.dtype, order).transpose(order)
        run = _by_copies if axis[0].startswith("nearest") else _by_products
        run(axis, back, now.reshape(before, -1, after), into.reshape(before, -1, after))
        now = into
    return now.transpose(inverse(order))


def _taken(x: Array, axes: tuple[Axis, ...], back: bool, need: Any) -> Any:
    products = any(not axis[0].startswith("nearest") for axis in axes)
    if not x.size or x.dtype.kind not in "fc" or (products and x.dtype not in PLAIN_FLOATS):
        return NotImplemented
    y = _resample(x, axes, back)
    return y if need is None else (y, lambda g: (_resample(g, axes, not back),))


@_kernel
def resample(xp: Backend, x: Array, *, axes: tuple[Axis, ...], need: Any) -> Any:
    """x (…, *n) with its last axes at other sizes."""
    return _taken(x, axes, False, need)


@_kernel
def resample_back(xp: Backend, x: Array, *, axes: tuple[Axis, ...], need: Any) -> Any:
    """x (…, *m) → (…, *n), the transpose of `resample`."""
    return _taken(x, axes, True, need)
