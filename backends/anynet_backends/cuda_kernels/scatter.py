"""Adding values to rows by index, as the gradient of an embedding does: the index is sorted, and each row adds up its values in the order
in which they came. Nothing is added atomically.

The sorted values are cut into chunks of about √n, so that a row that is named n times takes 2√n additions behind one another: first each
chunk adds up its runs of one row, and writes those that lie in it as a whole; then the runs that go over several chunks are joined.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import wide
from anynet_backends.kernel_table import Kernel, KernelTable

__all__ = ["KERNELS", "add_rows"]

KERNELS: KernelTable = {}

_FORM: Final = "int64 entries, int64 length, int64 rows, int64 width"
_SOURCES: Final = {
    "anynet_row_numbers": (
        "S index, int64 rows", "int64 row", "row = (long long)index < 0 ? (long long)index + rows : (long long)index",
    ),
    "anynet_add_runs": (
        f"raw T v, raw int64 index, raw int64 order, {_FORM}",
        "raw T y, raw A parts",
        """
        const long long chunk = i / width, column = i % width, begin = chunk * length;
        const long long end = begin + length < entries ? begin + length : entries;
        long long row = index[order[begin]];
        bool open = begin > 0 && index[order[begin - 1]] == row;  // the run began in a chunk before
        A sum = A(0);
        for (long long k = begin; k < end; ++k) {
            sum += A(v[order[k] * width + column]);
            const bool last = k + 1 == entries;
            const long long next = last ? 0 : index[order[k + 1]];
            const bool on = !last && next == row;
            if (on && k + 1 < end) continue;
            if (open || on) parts[(chunk * 2 + (open ? 0 : 1)) * width + column] = sum;
            else if (row >= 0 && row < rows) y[row * width + column] = T(A(y[row * width + column]) + sum);
            open = false;
            sum = A(0);
            row = next;
        }
        """,
    ),
    "anynet_join_runs": (
        f"raw A parts, raw int64 index, raw int64 order, {_FORM}",
        "raw T y",
        """
        const long long chunk = i / width, column = i % width, begin = chunk * length;
        long long at = begin + length;
        if (at < entries) {
            const long long row = index[order[at]];
            const bool here = index[order[at - 1]] == row  // it goes on from this chunk, and began in it
                && !(begin > 0 && index[order[begin]] == row && index[order[begin - 1]] == row);
            if (here && row >= 0 && row < rows) {
                A sum = parts[(chunk * 2 + 1) * width + column];
                for (; at < entries && index[order[at]] == row; at += length) sum += parts[at / length * 2 * width + column];
                y[row * width + column] = T(A(y[row * width + column]) + sum);
            }
        }
        """,
    ),
}  # fmt: skip
"""Name → inputs, outputs, body."""


@functools.cache
def _compiled(name: str) -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*_SOURCES[name], name)


def add_rows(cupy: Any, y: Array, index: Array, values: Array) -> Array:
    """y, contiguous, with values[k] added to row index[k] in place. What is out of range is dropped: refusing it would wait."""
    entries, rows, width = index.size, len(y), math.prod(y.shape[1:])
    if not entries or not y.size:
        return y
    index = _compiled("anynet_row_numbers")(index, rows)
    order = cupy.argsort(index, kind="stable").astype(np.int64, copy=False)
    length = max(16, math.isqrt(entries))
    chunks = -(-entries // length)
    parts = cupy.empty((2 * chunks, width), wide(y.dtype))
    form = (entries, length, rows, width)
    _compiled("anynet_add_runs")(
        cupy.ascontiguousarray(values), index, order, *form, y, parts, size=chunks * width
    )
    if chunks > 1:
        _compiled("anynet_join_runs")(parts, index, order, *form, y, size=(chunks - 1) * width)
    return y


def _scatter_rows(xp: Backend, x: Array, *, index: Array, shape: tuple[int, ...]) -> Any:
    if index.ndim != 1 or x.shape != (index.size, *shape[1:]):
        return NotImplemented
    return add_rows(xp.native, xp.native.zeros(shape, x.dtype), index, x)


KERNELS["scatter_rows"] = Kernel(_scatter_rows)
