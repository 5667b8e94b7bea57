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
from anynet_backends.jit.ir_builder import Function, Loop, LoopFunction, Value, compiled, elementwise, kinds
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.layout import axes_in_memory, inverse
from anynet_backends.memory.outputs import dense, empty_output, in_memory_order, permuted
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported arguments are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)
_Pairs = tuple[tuple[int, int], ...]


def _over_rows(t: str, *, back: bool) -> tuple[Function, ...]:
    """(array, padded array), or with `back` (padded array, array); sizes: blocks, padded rows per block, length of a row, elements
    before and after it, elements per block; data: the offset of each row in its block, in elements, and the positions of the ends."""
    row = elementwise("row", t, "x y", y="y + x" if back else "x")
    f = LoopFunction("over_rows", 2, 6)
    (first, second), (blocks, rows, length, before, after, inside), data = f.arrays, f.sizes, f.data
    ends = f.at(data, rows, "i64")
    behind = f.op("add", before, length)
    width = f.op("add", behind, after)
    one, two = f.step(0), f.step(1)
    with f.loop(0, blocks) as block:
        a, b = f.at(first, f.op("mul", block, one)), f.at(second, f.op("mul", block, two))
        plain, padded = (b, a) if back else (a, b)
        if back:
            with f.loop(0, inside) as i:
                f.store(Value(t, "0.0"), plain, i)
        with f.loop(0, rows) as r:
            inner = f.at(plain, f.load("i64", data, r), t)
            outer = f.at(padded, f.op("mul", r, width), t)
            middle = f.at(outer, before, t)
            f.call(row, *((middle, inner) if back else (inner, middle)), length)
            for start, count, offset in ((0, before, 0), (behind, after, before)):
                with f.loop(0, count) as j:
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
    v, order = in_memory_order(xp, x)
    back = inverse(order)
    plan = _plan(v.shape, tuple(pairs[i] for i in order), mode, dtype)
    y = permuted(xp, xp.call(plan.forward, v), back)
    if need is None:
        return y
    return y, lambda g: (permuted(xp, xp.call(plan.backward, dense(xp, permuted(xp, g, order))), back),)
