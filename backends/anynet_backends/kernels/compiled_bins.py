"""Means over bins of different lengths along an axis, their transpose, and the places of maxima, as loops of machine code.

In memory the array is (before, n, after). A table has the bins' bounds, or for the transpose those of the bins that an element is in.
Maxima are found plane by plane.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.ir_builder import Function, Loop, LoopFunction, Value, compiled, elementwise, kinds
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.layout import inverse
from anynet_backends.memory.outputs import dense, in_memory_order, permuted
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported arguments are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)

_LONGEST: Final = 64
"""Numbers of a bin beyond which the sum is left to NumPy, whose rounding errors grow less."""
_HIGHEST: Final = (1 << 31) - 1
_PLACES: Final = (1 << 32) - 1
"""The most places that a key has room for."""


def _over_bins(t: str, *, back: bool, single: bool) -> tuple[Function, ...]:
    """(x, y) with the axes (before, from, after) and (before, to, after); sizes: before, from, to, after; data: for each of `to` the first
    of `from` that it is made of, then for each the one behind the last, with `back` the length of each bin, too. `single`: `after` is 1."""
    texts = {"clear": "0.0", "add": "y + x", "share": "y + x / d", "divide": "y / d"}
    rows = {name: elementwise(name, t, "x y", "d", y=text) for name, text in texts.items()}
    f = LoopFunction("over_bins", 2, 4)
    (first, second), (before, _, to, after), data = f.arrays, f.sizes, f.data
    one, two = f.step(0), f.step(1)
    stops = f.at(data, to, "i64")
    lengths = f.at(stops, to, "i64")
    zero = Value(t, "0.0")

    def length(count: Value) -> Value:
        return f.assigned(t, f"sitofp {count} to {t}")

    with f.loop(0, before) as p:
        a, b = f.at(first, f.op("mul", p, one)), f.at(second, f.op("mul", p, two))
        with f.loop(0, to) as j:
            start, stop = f.load("i64", data, j), f.load("i64", stops, j)
            target = f.at(b, f.op("mul", j, after), t)
            size = length(f.op("sub", stop, start))
            total = f.variable(zero)
            if not single:
                f.call(rows["clear"], a, target, zero, after)
            with f.loop(start, stop) as k:
                d = length(f.load("i64", lengths, k)) if back else zero
                if single:
                    value = f.load(t, a, k)
                    f.add_to(total, f.op("fdiv", value, d) if back else value)
                else:
                    source = f.at(a, f.op("mul", k, after), t)
                    f.call(rows["share" if back else "add"], source, target, d, after)
            if single:
                value = f.get(total, t)
                f.store(value if back else f.op("fdiv", value, size), target)
            elif not back:
                f.call(rows["divide"], a, target, size, after)
    return *rows.values(), f


@functools.cache
def _address(t: str, back: bool, single: bool) -> int:
    return compiled(_over_bins(t, back=back, single=single), "over_bins")


def _bounds(n: int, out: int) -> tuple[list[int], list[int]]:
    """Starts and ends of the bins."""
    return [i * n // out for i in range(out)], [-(-(i + 1) * n // out) for i in range(out)]


class _Plan:
    """The calls for arrays of one shape, from n elements to the means of bins along the axis `at`, and back."""

    def __init__(self, shape: tuple[int, ...], at: int, n: int, out: int, dtype: Any) -> None:
        t, size = kinds(dtype), np.dtype(dtype).itemsize
        before, after = math.prod(shape[:at]), math.prod(shape[at + 1 :])
        starts, stops = _bounds(n, out)
        bins = np.array((*starts, *stops), np.int64)
        # the bins that have element k: from the first that ends behind it to the last that begins before it
        first = np.searchsorted(stops, np.arange(n), "right")
        last = np.searchsorted(starts, np.arange(n), "right")
        lengths = np.subtract(stops, starts)
        members = np.concatenate((first, last, lengths)).astype(np.int64)
        whole, short = ((*shape[:at], m, *shape[at + 1 :]) for m in (n, out))
        long, few = (n * after * size,), (out * after * size,)
        nbytes = size * before * after * (n + out)
        single = after == 1
        self.mean = Loop(
            _address(t, False, single), (before, n, out, after), (long, few), bins, nbytes, ((short, dtype),)
        )
        self.spread = Loop(
            _address(t, True, single),
            (before, out, n, after),
            (few, long),
            members,
            nbytes,
            ((whole, dtype),),
        )


_plan = functools.lru_cache(maxsize=256)(_Plan)
after_fork(_plan.cache_clear)  # plans count on threads that a forked process does not have


def _along(xp: Backend, x: Array, axis: int, n: int, out: int, back: bool, need: Any) -> Any:
    dtype = x.dtype
    if dtype not in PLAIN_FLOATS or not x.size or not availability.available() or n > out * _LONGEST:
        return NotImplemented
    v, order = in_memory_order(xp, x)
    home = inverse(order)
    plan = _plan(v.shape, order.index(axis % x.ndim), n, out, dtype)
    there, again = (plan.spread, plan.mean) if back else (plan.mean, plan.spread)
    y = permuted(xp, xp.call(there, v), home)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Array]:
        return (permuted(xp, xp.call(again, dense(xp, permuted(xp, g, order))), home),)

    return y, pull


@_kernel
def bin_mean(xp: Backend, x: Array, *, axis: int, n: int, out: int, need: Any) -> Any:
    """The means of `out` bins along an axis of n elements."""
    return _along(xp, x, axis, n, out, False, need)


@_kernel
def bin_spread(xp: Backend, g: Array, *, axis: int, n: int, out: int, need: Any) -> Any:
    """The transpose of `bin_mean`."""
    return _along(xp, g, axis, n, out, True, need)


def _key(f: Function, value: Value, place: Value) -> Value:
    """A whole number that orders numbers and places as the maximum does: NaN above all, of equal numbers the first place."""
    zero = Value("float", "0.0")
    bits = f.assigned("i32", f"bitcast {f.op('fadd', value, zero)} to i32")  # -0 has become 0
    sign = f.op("and", f.op("ashr", bits, Value("i32", "31")), Value("i32", str(_HIGHEST)))
    order = f.op("xor", bits, sign)
    nan = f.op("fcmp uno", value, value, gives="i1")
    order = f.assigned("i32", f"select {nan}, i32 {_HIGHEST}, {order}")
    wide = f.op("shl", f.assigned("i64", f"sext {order} to i64"), 32)
    return f.op("or", wide, f.op("sub", _PLACES, place))


def _larger(f: Function, a: Value, b: Value) -> Value:
    more = f.op("icmp sgt", a, b, gives="i1")
    return f.assigned("i64", f"select {more}, {a}, {b}")


def _largest() -> tuple[Function, ...]:
    """(x, places) of planes (rows, columns); sizes: planes, rows, columns, bins of rows, bins of columns; data: for the rows and then for
    the columns the begins of the bins and their ends."""
    f = LoopFunction("largest", 2, 5)
    (first, second), (planes, _, width, down, across), data = f.arrays, f.sizes, f.data
    one, two = f.step(0), f.step(1)
    row_stops = f.at(data, down, "i64")
    starts = f.at(row_stops, down, "i64")
    stops = f.at(starts, across, "i64")
    with f.loop(0, planes) as p:
        x, places = f.at(first, f.op("mul", p, one)), f.at(second, f.op("mul", p, two))
        with f.loop(0, down) as i, f.loop(0, across) as j:
            best = f.variable(-(1 << 63))
            start, stop = f.load("i64", starts, j), f.load("i64", stops, j)
            with f.loop(f.load("i64", data, i), f.load("i64", row_stops, i)) as r:
                row = f.op("mul", r, width)
                with f.loop(start, stop) as c:
                    here = f.op("add", row, c)
                    key, before = _key(f, f.load("float", x, here), here), f.get(best, "i64")
                    f.put(best, _larger(f, key, before))
            place = f.op("and", f.get(best, "i64"), _PLACES)
            f.store(f.op("sub", _PLACES, place), places, f.op("add", f.op("mul", i, across), j))
    return (f,)


@functools.cache
def _largest_address() -> int:
    return compiled(_largest(), "largest")


def _index_plan(shape: tuple[int, ...], out: tuple[int, ...]) -> Loop:
    down, across = (1, *out)[-2:]
    rows, columns = (1, *shape[len(shape) - len(out) :])[-2:]
    planes = math.prod(shape[: len(shape) - len(out)])
    table = [*_bounds(rows, down), *_bounds(columns, across)]
    steps = (rows * columns * 4,), (down * across * 8,)
    nbytes = planes * (steps[0][0] + steps[1][0])
    makes = (((*shape[: len(shape) - len(out)], *out), np.int64),)
    sizes = (planes, rows, columns, down, across)
    data = np.concatenate(table).astype(np.int64)
    return Loop(_largest_address(), sizes, steps, data, nbytes, makes)


_index = functools.lru_cache(maxsize=256)(_index_plan)
after_fork(_index.cache_clear)


@_kernel
def bin_index(xp: Backend, x: Array, *, out: tuple[int, ...], need: Any) -> Any:
    """Where the largest element of each bin is, of one or two axes."""
    if x.dtype != np.float32 or not availability.available() or len(out) > 2 or not 0 < x.size <= _PLACES:
        return NotImplemented
    return xp.call(_index(x.shape, out), dense(xp, x))
