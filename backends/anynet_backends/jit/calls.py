"""Calls that are not element-wise, as machine functions: products, sums, extrema, indexing, primitives of oneDNN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.jit import ordered_sums
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.fusion import choice_or_copy, constant_array, fuse
from anynet_backends.jit.geometry import broadcast_strides, collapse_axes, overlaps_partly
from anynet_backends.jit.loop_ir import LETTERS
from anynet_backends.jit.native_function import data_pointer
from anynet_backends.jit.numpy_calls import NumpyCall, gather, scatter, within
from anynet_backends.jit.rows import row_calls, sum_rows, sum_taken_rows, take_rows
from anynet_backends.jit.segment import KernelCall, LoopArgs, NativeSegment, nested_call
from anynet_backends.jit.ufuncs import inner_loop
from anynet_backends.memory.reductions import PLAIN_FLOATS, ones_vector, sum_by_dot
from anynet_backends.products import matmul

__all__ = ["finite_check", "kernel_calls", "primitive_of"]


_LONG: Final = 1 << 21


def finite_check(x: Array) -> Callable[[], bool] | None:
    """A function that says whether the memory of x holds finite numbers alone; None where that is left to NumPy, and to BLAS where
    threads share a long vector."""
    if x.dtype not in PLAIN_FLOATS or not (x.flags.c_contiguous and x.flags.aligned):
        return None
    if x.nbytes >= _LONG and onednn.team() is not None:
        return None
    row = KernelCall(
        compiler().runtime[f"not_finite_{LETTERS[x.dtype]}"],
        LoopArgs((x,), (x.size,), ()),
        again=(np.isfinite, (x,)),
    )
    segment = NativeSegment([row])

    def check() -> bool:
        return bool(segment.work(segment.place, 0, 1) == 1)  # the number of the row that failed, or of rows

    return check


def kernel_calls(call: NumpyCall, step: Any, scratch: Array) -> list[KernelCall] | None:
    """A call that is not element-wise as kernel calls; None where it is left to NumPy. `step`: its primitive of oneDNN, if it is one, and
    `scratch` the memory for that."""
    f: Any = call.f
    args = call.args
    if step is not None:
        return _primitive(scratch, *step)
    if f in (np.dot, np.matmul, matmul, onednn.matmul) and len(args) == 3:
        return _product(*args)
    if f is sum_by_dot:
        return _sum(*args)
    if getattr(f, "__name__", "") == "reduce" and getattr(f, "__self__", None) in (np.maximum, np.minimum):
        return _extremum(f.__self__, *args)
    if f in (gather, scatter):
        return _indexed(call)
    if f is within:
        return _checked_range(call)
    if f in (take_rows, sum_rows, sum_taken_rows):
        return row_calls(call)
    row = getattr(getattr(f, "__self__", None), "row", None)
    if row is not None:  # a `Loop` of machine code
        return [row(*args)]
    return None


def _product(a: Array, b: Array, out: Array) -> list[KernelCall] | None:
    if not (a.dtype == b.dtype == out.dtype and a.dtype in PLAIN_FLOATS):
        return None
    if a.ndim < 2 or b.ndim < 2 or not out.size or not a.size:
        return None
    (m, k), n = a.shape[-2:], b.shape[-1]
    lead = out.shape[:-2]
    size = a.itemsize
    for x in (a, b, out):
        down, right = x.strides[-2:]
        rows, cols = x.shape[-2:]
        by_rows = right == size and down >= cols * size and down % size == 0
        by_columns = down == size and right >= rows * size and right % size == 0
        if not (by_rows or (by_columns and x is not out)):
            return None
    dims, strides = collapse_axes(
        lead,
        [broadcast_strides(x[..., 0, 0], lead) for x in (out, a, b, out)],
    )
    if len(dims) > 1:
        return None
    letter = a.dtype.char
    found = inner_loop(np.matmul, f"{letter}{letter}->{letter}")
    if found is None:
        return None
    steps = (0, 0, 0, *a.strides[-2:], *b.strides[-2:], *out.strides[-2:])
    if dims[0] == 1:
        return [KernelCall(found[0], LoopArgs((a, b, out), (1, m, k, n), steps), found[1])]
    # NumPy's loop over a stack moves the addresses that it is given; the loop around it gives it copies
    outer = [s[0] for s in strides[1:]]
    return [nested_call(found, (a, b, out), dims, outer, (1, m, k, n), steps)]


def primitive_of(call: NumpyCall) -> tuple[onednn.Step, tuple[Array, ...]] | None:
    """The primitive of oneDNN that a call runs, created once more for the segment, and its arrays in order."""
    f: Any = call.f
    if f in (onednn.matmul, onednn.affine):  # two matrices or stacks, a vector to add perhaps, and the result
        a, b, *c, out = call.args
        plan = onednn.product(out, a, b, *c)
        return None if plan is None else (plan.step.another(plan), (a, b, out, *c))
    step = getattr(f, "__self__", None)
    return (step.another(), call.args) if type(step) is onednn.Step else None


def _primitive(scratch: Array, step: onednn.Step, operands: tuple[Array, ...]) -> list[KernelCall]:
    """A primitive of oneDNN."""
    data = step.cells()
    if step.room:
        operands = (scratch, *operands)
    return [
        KernelCall(
            compiler().runtime["onednn"],
            LoopArgs(operands, (step.count,), ()),
            data_pointer(data),
            held=(data, step),
        )
    ]


def _sum(x: Array, axis: Any, dtype: Any, out: Array | None, keepdims: bool) -> list[KernelCall] | None:
    """Where `sum_by_dot` takes a product with ones, that product; the sum of everything by NumPy's pairwise loop."""
    if dtype not in (None, x.dtype) or out is None or x.dtype not in PLAIN_FLOATS or out.dtype != x.dtype:
        return None
    if ordered_sums.order_of(x) is not None and x.flags.aligned and out.flags.aligned:
        return _sum_in_order(x, axis, out, keepdims)
    if not (
        x.flags.c_contiguous and out.flags.c_contiguous and x.size and x.flags.aligned and out.flags.aligned
    ):
        return None
    last = x.ndim - 1
    if (
        axis is None
        or (isinstance(axis, tuple) and len(axis) == x.ndim)
        or (x.ndim == 1 and axis in (0, -1, (0,), (-1,)))
    ):
        return _sum_of_all(x, out)
    if axis in (0, tuple(range(last))):
        rows = x.shape[0] if axis == 0 else x.size // x.shape[last]
        if rows > 1 << 16:
            return None
        flat = x.reshape(rows, -1)
        ones = ones_vector(rows, x.dtype).reshape(1, rows)
        return _product(ones, flat, out.reshape(1, -1))
    if axis in (-1, last, (last,), (-1,)):
        n = x.shape[last]
        if n > 1024:
            return None
        return _product(x.reshape(-1, n), ones_vector(n, x.dtype).reshape(n, 1), out.reshape(-1, 1))
    if isinstance(axis, tuple) and len(axis) > 1:  # neighbouring axes are one
        axes = sorted(a % x.ndim for a in axis)
        first, stop = axes[0], axes[-1] + 1
        if axes != list(range(first, stop)):
            return None
        x, axis = x.reshape(*x.shape[:first], -1, *x.shape[stop:]), first
    at = _single(axis, x.ndim)
    return None if not at else _row_by_row(np.add, x, at, out)


_MOST_ROWS: Final = 16
"""Loops of a reduction along an axis that is not the last."""


def _single(axis: Any, ndim: int) -> int | None:
    """The one axis that is meant, if there is one."""
    if isinstance(axis, tuple):
        axis = axis[0] if len(axis) == 1 else None
    return None if axis is None else axis % ndim


def _row_by_row(f: np.ufunc, x: Array, axis: int, out: Array) -> list[KernelCall] | None:
    """A reduction along an axis that is not the last of a contiguous array, as NumPy does it: 0 (of sums) or the first row, and the
    others one by one."""
    n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    found = inner_loop(f, f"{x.dtype.char * 2}->{x.dtype.char}")
    outer = x.size // (n * inner)
    if found is None or (min(outer, n) > _MOST_ROWS and inner > 1):
        return None
    cubes, flat, size = x.reshape(outer, n, inner), out.reshape(outer, inner), x.itemsize
    first = 0 if f is np.add else 1
    made = _copied(cubes[:, 0] if first else 0.0, flat)
    if made is None or first == n:
        return made
    if inner == 1:  # the numbers of a row lie side by side
        arrays, steps = (flat, cubes[:, first:], flat), (size, n * size, size)
        made.append(nested_call(found, arrays, (outer,), steps, (n - first,), (0, size, 0), writes=(0, 2)))
        return made
    if outer > _MOST_ROWS:  # few numbers along the axis: each of them in all places
        apart = inner * size
        for k in range(first, n):
            arrays, steps = (flat, cubes[:, k], flat), (apart, n * apart, apart)
            made.append(nested_call(found, arrays, (outer,), steps, (inner,), (size,) * 3, writes=(0, 2)))
        return made
    for rows, place in zip(cubes, flat, strict=True):
        arrays, steps = (place, rows[first:], place), (0, inner * size, 0)
        made.append(nested_call(found, arrays, (n - first,), steps, (inner,), (size,) * 3))
    return made


def _sum_in_order(x: Array, axis: Any, out: Array, keepdims: bool) -> list[KernelCall] | None:
    rows: list[KernelCall] = []

    def run(loop: Any, *arrays: Array) -> Array:
        shape, dtype = loop.makes[0]
        made = np.empty(shape, dtype)
        rows.append(loop.row(*arrays, made))
        return made

    made = ordered_sums.sum_in_order(x, axis, None, keepdims, run)
    last = None if made is None else _copied(made, out)
    return None if last is None else [*rows, *last]


def _sum_of_all(x: Array, out: Array) -> list[KernelCall] | None:
    """Zero, and then NumPy's pairwise sum."""
    found = inner_loop(np.add, f"{x.dtype.char * 2}->{x.dtype.char}")
    if found is None:
        return None
    start = _copied(0.0, out)
    record = LoopArgs((out, x, out), (x.size,), (0, x.itemsize, 0))
    return None if start is None else [*start, KernelCall(found[0], record, found[1])]


def _extremum(
    f: np.ufunc, x: Array, axis: Any, dtype: Any, out: Array | None, keepdims: bool
) -> list[KernelCall] | None:
    """The largest or smallest of each row, or of all: the first number, then NumPy's loop over the others."""
    if dtype is not None or out is None or x.dtype not in PLAIN_FLOATS or out.dtype != x.dtype or not x.size:
        return None
    if not (x.ndim and out.flags.c_contiguous and x.flags.aligned and out.flags.aligned):
        return None
    last, size = x.ndim - 1, x.itemsize
    whole = axis is None or (isinstance(axis, tuple) and len(axis) == x.ndim)
    if whole or axis in (-1, last, (last,), (-1,)):
        if whole and not x.flags.c_contiguous:
            return None
        rows = _as_rows(x.reshape(1, -1) if whole else x, out)
    elif x.flags.c_contiguous and (at := _single(axis, x.ndim)) is not None:
        return _row_by_row(f, x, at, out)
    else:
        return None
    found = inner_loop(f, f"{x.dtype.char * 2}->{x.dtype.char}")
    if found is None or rows is None:
        return None
    n, flat = rows.shape[1], out.reshape(-1)
    made = _copied(rows[:, 0], flat)
    if made is not None and n > 1:
        arrays = (flat, rows[:, 1:], flat)
        outer, inner = (size, rows.strides[0], size), (0, size, 0)
        made.append(nested_call(found, arrays, (len(flat),), outer, (n - 1,), inner, writes=(0, 2)))
    return made


def _as_rows(x: Array, out: Array) -> Array | None:
    """An array as a matrix of its last axis, whose numbers lie side by side, with a row for each number of `out`; None where the rows are
    not equally far apart."""
    lead = x.shape[:-1]
    dims, (_, strides) = collapse_axes(lead, [out.reshape(lead).strides, x.strides[:-1]])
    if len(dims) > 1 or x.strides[-1] != x.itemsize or (dims[0] > 1 and strides[0] < x.itemsize):
        return None
    return np.lib.stride_tricks.as_strided(x, (*dims, x.shape[-1]), (strides[0], x.itemsize))


def _copied(source: Any, out: Array) -> list[KernelCall] | None:
    """``out = source``, as a loop of its own."""
    copy = choice_or_copy("copy", (source,), out)
    return None if copy is None else fuse([copy], lambda _: True)


def _indexed(call: NumpyCall) -> list[KernelCall] | None:
    """`gather` and `scatter` of a matrix with two lists of indices."""
    x, i, j, other = call.args
    values = other if isinstance(other, np.ndarray) else constant_array(other, x.dtype)
    if values is None or x.dtype not in PLAIN_FLOATS or values.dtype != x.dtype or x.ndim != 2:
        return None
    plain = all(a.ndim == 1 and a.dtype == np.int64 and a.flags.c_contiguous for a in (i, j)) and len(
        i
    ) == len(j)
    if (
        not plain
        or values.shape not in ((), (1,), i.shape)
        or not all(a.flags.aligned for a in (x, i, j, values))
    ):
        return None
    if overlaps_partly(x, values) and call.f is scatter:
        return None
    step = values.strides[0] if values.shape == i.shape and values.ndim else 0
    function = compiler().runtime[f"{call.f.__name__}_{LETTERS[x.dtype]}"]
    record = LoopArgs((x, i, j, values), (len(i), *x.shape), (*x.strides, step))
    return [KernelCall(function, record, again=(call.f, call.args))]


def _checked_range(call: NumpyCall) -> list[KernelCall] | None:
    """`within` of indices that lie one after the other."""
    x, length, _ = call.args
    if x.dtype != np.int64 or not (x.flags.c_contiguous and x.flags.aligned):
        return None
    record = LoopArgs((x,), (x.size, length), ())
    return [KernelCall(compiler().runtime["within"], record, again=(call.f, call.args))]
