"""Padding with an array's own values (reflect, replicate, circular), in the array's own order of axes.

As loops of machine code, row by row: a padded array is a list of rows along its last axis in memory. One table has the source row of
each, another the source positions of the elements before and after it. Without the compiler the borders are copied axis by axis, a
row or column at a time.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.ir_builder import Function, Loop, Value, compiled, kinds, number
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.layout import axes_in_memory, inverse
from anynet_backends.memory.outputs import dense, empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported arguments are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)
_Pairs = tuple[tuple[int, int], ...]


def _row(name: str, t: str, *, add: bool) -> Function:
    """(from, to, n): copies a row, or adds it."""
    f = Function(name, ("ptr noalias", "a"), ("ptr noalias", "b"), ("i64", "n"))
    a, b = f.argument("a"), f.argument("b")
    with f.loop(number(0), f.argument("n")) as i:
        value = f.load(t, a, i)
        f.store(f.op("fadd", f.load(t, b, i), value) if add else value, b, i)
    return f


def _over_rows(t: str, *, back: bool) -> tuple[Function, ...]:
    """(array, padded array), or with `back` (padded array, array); sizes: blocks, padded rows per block, length of a row, elements
    before and after it, elements per block; data: the offset of each row in its block, in elements, and the positions of the ends."""
    row = _row("row", t, add=back)
    params = ("ptr", "args"), ("ptr", "dims"), ("ptr", "steps"), ("ptr", "data")
    f = Function("over_rows", *params, gives="i64")
    args, dims, steps, data = (f.argument(name) for _, name in params)
    blocks, rows, length, before, after, inside = (f.load("i64", dims, number(i)) for i in range(6))
    ends = f.at(data, rows, "i64")
    behind = f.op("add", before, length)
    width = f.op("add", behind, after)
    first, second = (f.load("ptr", args, number(i)) for i in range(2))
    one, two = (f.load("i64", steps, number(6 * i)) for i in range(2))
    with f.loop(number(0), blocks) as block:
        a, b = f.at(first, f.op("mul", block, one)), f.at(second, f.op("mul", block, two))
        plain, padded = (b, a) if back else (a, b)
        if back:
            with f.loop(number(0), inside) as i:
                f.store(Value(t, "0.0"), plain, i)
        with f.loop(number(0), rows) as r:
            inner = f.at(plain, f.load("i64", data, r), t)
            outer = f.at(padded, f.op("mul", r, width), t)
            middle = f.at(outer, before, t)
            f.call(row, *((middle, inner) if back else (inner, middle)), length)
            for start, count, offset in ((number(0), before, number(0)), (behind, after, before)):
                with f.loop(number(0), count) as j:
                    place = f.load("i64", ends, f.op("add", offset, j))
                    at = f.op("add", start, j)
                    if back:
                        f.store(f.op("fadd", f.load(t, inner, place), f.load(t, outer, at)), inner, place)
                    else:
                        f.store(f.load(t, inner, place), outer, at)
    return row, f


@functools.cache
def _address(t: str, back: bool) -> int:
    return compiled(_over_rows(t, back=back), "over_rows")


def _place(i: int, size: int, mode: str) -> int:
    """The position in an axis of length `size` that a position i, which may be outside, repeats."""
    if mode == "circular":
        return i % size
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    return -i if i < 0 else 2 * (size - 1) - i if i >= size else i


class _Plan:
    """The calls for arrays of one shape."""

    def __init__(self, shape: tuple[int, ...], pairs: _Pairs, mode: str, dtype: Any) -> None:
        size, t = np.dtype(dtype).itemsize, kinds(dtype)
        lead = next((i for i, pair in enumerate(pairs[:-1]) if any(pair)), len(shape) - 1)
        self.padded = tuple(lo + n + hi for n, (lo, hi) in zip(shape, pairs, strict=True))
        n, (lo, hi) = shape[-1], pairs[-1]
        starts, step = np.zeros(1, np.int64), n
        for axis in range(len(shape) - 2, lead - 1, -1):
            before, after = pairs[axis]
            along = [_place(i, shape[axis], mode) * step for i in range(-before, shape[axis] + after)]
            starts = (np.array(along, np.int64)[:, None] + starts).reshape(-1)
            step *= shape[axis]
        ends = [_place(i, n, mode) for i in itertools.chain(range(-lo, 0), range(n, n + hi))]
        data = np.concatenate((starts, np.array(ends, np.int64)))
        blocks, rows = math.prod(shape[:lead]), len(starts)
        sizes = (blocks, rows, n, lo, hi, step)
        steps = (step * size,), (rows * (lo + n + hi) * size,)
        nbytes = blocks * (steps[0][0] + steps[1][0])
        padded, given = (self.padded, dtype), (shape, dtype)
        self.forward = Loop(_address(t, False), sizes, steps, data, nbytes, (padded,))
        self.backward = Loop(_address(t, True), sizes, steps[::-1], data, nbytes, (given,))


_plan = functools.lru_cache(maxsize=256)(_Plan)
after_fork(_plan.cache_clear)  # plans count on threads that a forked process does not have


def _keys(shape: tuple[int, ...], pairs: _Pairs, mode: str) -> list[tuple[Any, Any]]:
    """Pairs of keys of the padded array, target and source, in the order in which they are copied."""
    made: list[tuple[Any, Any]] = []
    keys = [slice(lo, lo + n) for n, (lo, _) in zip(shape, pairs, strict=True)]
    for axis, (n, (lo, hi)) in enumerate(zip(shape, pairs, strict=True)):
        for at in (*range(-lo, 0), *range(n, n + hi)):
            to, of = list(keys), list(keys)
            to[axis], of[axis] = lo + at, lo + _place(at, n, mode)  # type: ignore[call-overload]
            made.append((tuple(to), tuple(of)))
        keys[axis] = slice(None)
    return made


def _around(x: Array, pairs: _Pairs, mode: str) -> Array:
    """x padded, axis by axis."""
    y = empty_output(tuple(lo + n + hi for n, (lo, hi) in zip(x.shape, pairs, strict=True)), x.dtype)
    y[tuple(slice(lo, lo + n) for n, (lo, _) in zip(x.shape, pairs, strict=True))] = x
    for to, of in _keys(x.shape, pairs, mode):
        y[to] = y[of]
    return y


def _folded(g: Array, shape: tuple[int, ...], pairs: _Pairs, mode: str) -> Array:
    """The transpose of `_around`."""
    y = g.copy()
    for to, of in reversed(_keys(shape, pairs, mode)):
        y[of] += y[to]
    return np.ascontiguousarray(y[tuple(slice(lo, lo + n) for n, (lo, _) in zip(shape, pairs, strict=True))])


def _by_numpy(x: Array, pairs: _Pairs, mode: str, need: Any) -> Any:
    order = axes_in_memory(x.strides)
    back = inverse(order)
    inner = tuple(pairs[i] for i in order)
    v = x.transpose(order)
    y = _around(v, inner, mode).transpose(back)
    if need is None:
        return y
    return y, lambda g: (_folded(g.transpose(order), v.shape, inner, mode).transpose(back),)


@_kernel
def pad_around(xp: Backend, x: Array, *, pairs: _Pairs, mode: str, need: Any) -> Any:
    """x padded with its own values."""
    dtype = x.dtype
    if dtype not in PLAIN_FLOATS or not x.size:
        return NotImplemented
    if not availability.available():
        return _by_numpy(x, pairs, mode, need) if xp.eager else NotImplemented
    order = axes_in_memory(x.strides)
    if not x.flags.c_contiguous and not xp.permute_dims(x, order).flags.c_contiguous:
        x, order = dense(xp, x), tuple(range(x.ndim))
    back = inverse(order)
    v = xp.permute_dims(x, order)
    plan = _plan(v.shape, tuple(pairs[i] for i in order), mode, dtype)
    y = xp.permute_dims(xp.call(plan.forward, v), back)
    if need is None:
        return y
    return y, lambda g: (xp.permute_dims(xp.call(plan.backward, dense(xp, xp.permute_dims(g, order))), back),)
