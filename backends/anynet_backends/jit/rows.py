"""Rows of arrays by a list of indices, taken and added to others: NumPy calls, and the machine code in their place."""

from __future__ import annotations

import functools

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.availability import available
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.ir_builder import Loop
from anynet_backends.jit.loop_ir import LETTERS
from anynet_backends.jit.numpy_calls import NumpyCall
from anynet_backends.jit.segment import KernelCall, LoopArgs
from anynet_backends.memory.reductions import PLAIN_FLOATS
from anynet_backends.memory.row_sums import add_to_rows

__all__ = ["add_rows", "row_calls", "sum_rows", "sum_taken_rows", "take_rows"]


def add_rows(array: Array, index: Array, values: Array) -> None:
    """``array[index[k]] += values[k]`` for each k, in place, in the order of the index."""
    if available() and _added(array, index, values):
        return
    n = len(array)
    flat = array.ndim > 1 and array.flags.c_contiguous and values.size >= 256
    if not flat or (index < -n).any() or (index >= n).any():
        np.add.at(array, index, values)  # which says what is outside
        return
    add_to_rows(array.reshape(n, -1), index, values.reshape(len(values), -1))


def _added(y: Array, index: Array, values: Array) -> bool:
    """`add_rows` by machine code; False, with y as it was, where that is left to NumPy."""
    if (
        y.dtype not in PLAIN_FLOATS
        or values.dtype != y.dtype
        or index.dtype.kind not in "iu"
        or index.ndim != 1
    ):
        return False
    if not (y.flags.c_contiguous and y.flags.aligned) or not index.size or not y.size:
        return False
    # what lies otherwise, such as a part of a wider gradient, is copied: that takes less than NumPy's way
    if index.dtype != np.int64 or not (index.flags.c_contiguous and index.flags.aligned):
        index = np.require(index, np.int64, ["C", "A"])
    if not (values.flags.c_contiguous and values.flags.aligned):
        values = np.require(values, None, ["C", "A"])
    # read as unsigned numbers, negative ones lie beyond the last row, too
    if values.shape != (len(index), *y.shape[1:]) or np.maximum.reduce(index.view(np.uint64)) >= len(y):
        return False
    _adding(len(index), y.size // len(y), LETTERS[y.dtype]).run(y, index, values)
    return True


@functools.lru_cache(maxsize=256)
def _adding(rows: int, width: int, letter: str) -> Loop:
    """The loop that adds so many rows to others."""
    return Loop(compiler().runtime[f"add_rows_{letter}"], (rows, width), ((), (), ()), np.zeros(1), 0, ())


def take_rows(x: Array, index: Array, out: Array) -> None:
    """``out[k] = x[index[k]]``."""
    np.take(x, index, 0, out, "raise")


def sum_rows(values: Array, index: Array, out: Array) -> None:
    """Zeros in `out`, with values[k] added to row index[k]."""
    out[...] = 0
    add_rows(out, index, values)


def sum_taken_rows(x: Array, source: Array, index: Array, out: Array) -> None:
    """Zeros in `out`, with x[source[k]] added to row index[k]: the sum over the edges of a graph, for which the rows that are taken need
    not be in memory."""
    sum_rows(np.take(x, source, axis=0), index, out)


def row_calls(call: NumpyCall) -> list[KernelCall] | None:
    """One of these calls as a machine function, which leaves indices that are not in range, or count from the end, to NumPy."""
    x, *indices, out = call.args
    for i in indices:
        if i.dtype != np.int64 or i.ndim != 1 or not i.size:
            return None
    arrays = (x, *indices, out)
    if (
        not out.size
        or x.dtype != out.dtype
        or not all(a.flags.c_contiguous and a.flags.aligned for a in arrays)
    ):
        return None
    n, width = len(indices[0]), out.size // len(out)
    if call.f is take_rows:
        function, dims = "take_rows", (n, width * x.itemsize, len(x))
    elif x.dtype not in PLAIN_FLOATS:
        return None
    else:
        function = f"{call.f.__name__}_{LETTERS[x.dtype]}"
        dims = (n, width, len(out), *((len(x),) if call.f is sum_taken_rows else ()))
    record = LoopArgs(arrays, dims, ())
    return [KernelCall(compiler().runtime[function], record, again=(call.f, call.args))]
