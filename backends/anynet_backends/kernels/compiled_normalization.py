"""Normalization as loops of machine code, for channels-first arrays and for rows.

An array is viewed as (A, B, M, L): `M` runs of `L` contiguous elements share a mean and a variance, of which there are A · B. There is
a weight and a bias per run, or per element of a run. Batch normalization is (channels, 1, batch, positions), group normalization
(batch, groups, channels of a group, positions), and layer normalization (blocks of rows, rows, 1, width). Each group is read for its
mean, its variance and the result while it stays in the cache. Sums are added in double precision from 64 parts of at most 64 elements;
their order does not depend on the processor or the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.ir_builder import (
    LANES,
    Function,
    Loop,
    LoopFunction,
    Operand,
    Value,
    compiled,
    elementwise,
    kinds,
)
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.outputs import dense
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS", "sums_of_run"]

Ints = tuple[int, ...]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported forms are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)

_CHUNK, _PARTS = 4096, 4


# ----- the loops over one run -----


def sums_of_run(name: str, t: str, arrays: str, *terms: str) -> Function:
    """(arrays …, n, m, totals): adds the sums over a run of `terms`, formulas of the arrays and of m, to totals, in double precision."""
    names, count = arrays.split(), len(terms)
    f = Function(name, *[("ptr noalias", a) for a in names], ("i64", "n"), (t, "m"), ("ptr noalias", "out"))
    vector = f"<{LANES} x {t}>"
    n, m, out = f.argument("n"), f.argument("m"), f.argument("out")
    wide = f.spread(m)

    def made(kind: str, i: Value) -> list[Value]:
        values = {a: f.load(kind, f.argument(a), i) for a in names} | {"m": m if kind == t else wide}
        return [f.formula(term, kind, **values) for term in terms]

    with f.loop(0, n, _CHUNK) as start:
        stop = f.smaller(f.op("add", start, _CHUNK), n)
        size = f.op("sub", stop, start)
        most = f.op("add", start, f.op("and", size, -LANES * _PARTS))
        full = f.op("add", start, f.op("and", size, -LANES))
        parts = [[f.variable(Value(vector, "zeroinitializer")) for _ in range(_PARTS)] for _ in range(count)]
        with f.loop(start, most, LANES * _PARTS) as i:
            for part in range(_PARTS):
                at = f.op("add", i, part * LANES)
                for k, term in enumerate(made(vector, at)):
                    f.add_to(parts[k][part], term)
        for first, second, third, fourth in parts:
            f.add_to(first, f.get(second, vector))
            f.add_to(third, f.get(fourth, vector))
            f.add_to(first, f.get(third, vector))
        with f.loop(most, full, LANES) as i:
            for k, term in enumerate(made(vector, i)):
                f.add_to(parts[k][0], term)
        singles = [f.variable(f.total(f.get(own[0], vector))) for own in parts]
        with f.loop(full, stop) as i:
            for k, term in enumerate(made(t, i)):
                f.add_to(singles[k], term)
        for k, single in enumerate(singles):
            here = f.formula("double(x)", t, x=f.get(single, t))
            f.store(f.op("fadd", f.load("double", out, k), here), out, k)
    return f


# ----- the loops over groups -----


class _Nest(LoopFunction):
    """A function over all groups: its arrays, sizes (A, B, M, L, and M, L for the sums) and offsets of groups."""

    def __init__(self, name: str, arrays: int) -> None:
        super().__init__(name, arrays, 6)
        self.steps = [[self.step(i, d) for d in range(3)] for i in range(arrays)]
        self.numbers = [self.load("double", self.data, i) for i in range(2)]

    def group(self, a: Value, b: Operand) -> list[Value]:
        """The addresses of the arrays for a group."""
        return [
            self.at(self.at(p, self.op("mul", a, s[0])), self.op("mul", b, s[1]))
            for p, s in zip(self.arrays, self.steps, strict=True)
        ]

    def run(self, places: list[Value], m: Value) -> list[Value]:
        """The addresses for one run."""
        return [self.at(p, self.op("mul", m, s[2])) for p, s in zip(places, self.steps, strict=True)]

    def narrow(self, x: Value, t: str) -> Value:
        """A double-precision number in the type of the arrays."""
        return x if t == "double" else self.assigned(t, f"fptrunc {x} to {t}")


_ZERO = Value("double", "0.0")


def _rate(f: Function, variance: Value, eps: Value) -> Value:
    root = f.assigned("double", f"call double @llvm.sqrt.f64({f.op('fadd', variance, eps)})")
    return f.op("fdiv", Value("double", "1.0"), root)


def _wide(f: Function, x: Value) -> Value:
    return f.formula("double(x)", x.type, x=x)


def _scaled(t: str) -> Function:
    return elementwise("scaled", t, "x y", "m a b", y="(x - m) * a + b")


def _pair(t: str) -> Function:
    return sums_of_run("pair", t, "g x", "g", "g * (x - m)")


def _forward(t: str, each: bool, centred: bool) -> tuple[Function, ...]:
    """(x, weight, bias, y, mean, variance); data: ε and the number of elements of a group."""
    total = sums_of_run("total", t, "x", "x")
    squares = sums_of_run("squares", t, "x", "(x - m) * (x - m)")
    apply = _scaled(t)
    if each:
        apply = elementwise("weighed", t, "x y w b", "m r", y="(x - m) * r * w + b")
    f = _Nest("forward", 6)
    rows, cols, runs, length, few, long = f.sizes
    eps, count = f.numbers
    none = Value(t, "0.0")
    with f.loop(0, rows) as a, f.loop(0, cols) as b:
        places = f.group(a, b)
        means, variances = places[4:]
        mean = none
        if centred:
            sum_ = f.variable(_ZERO)
            with f.loop(0, few) as m:
                f.call(total, f.run(places, m)[0], long, none, sum_)
            mean = f.narrow(f.op("fdiv", f.get(sum_, "double"), count), t)
        f.store(mean, means)
        spread = f.variable(_ZERO)
        with f.loop(0, few) as m:
            f.call(squares, f.run(places, m)[0], long, mean, spread)
        variance = f.op("fdiv", f.get(spread, "double"), count)
        f.store(f.narrow(variance, t), variances)
        rate = f.narrow(_rate(f, variance, eps), t)
        with f.loop(0, runs) as m:
            x, w, bias, y, _, _ = f.run(places, m)
            if each:
                f.call(apply, x, y, w, bias, mean, rate, length)
            else:
                f.call(apply, x, y, mean, f.op("fmul", rate, f.load(t, w)), f.load(t, bias), length)
    return total, squares, apply, f


def _backward(t: str, each: bool, centred: bool) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias); data as above. With a weight per run, the gradients of the
    weight and the bias are computed per run, otherwise per outermost block."""
    if each:
        pair = sums_of_run("pair", t, "g x w", "g * w", "g * w * (x - m)")
        apply = elementwise(
            "weighed_back", t, "g x y w gw gb", "m r shift slope",
            gw="gw + (x - m) * r * g", gb="gb + g", y="g * w * r - shift - (x - m) * slope",
        )  # fmt: skip
    else:
        pair = _pair(t)
        apply = elementwise("back", t, "g x y", "m a shift slope", y="g * a - shift - (x - m) * slope")
    f = _Nest("backward", 8)
    rows, cols, runs, length = f.sizes[:4]
    eps, count = f.numbers
    with f.loop(0, rows) as a:
        if each:
            for total in f.group(a, 0)[6:]:
                with f.loop(0, length) as i:
                    f.store(Value(t, "0.0"), total, i)
        with f.loop(0, cols) as b:
            places = f.group(a, b)
            mean = f.load(t, places[2]) if centred else Value(t, "0.0")
            rate = _rate(f, _wide(f, f.load(t, places[3])), eps)
            small = f.narrow(rate, t)
            of_g, of_gx = f.variable(_ZERO), f.variable(_ZERO)
            sums = f.variable(Value("[2 x double]", "zeroinitializer"))
            with f.loop(0, runs) as m:
                g, x, _, _, w, _, gw, gb = f.run(places, m)
                f.put(sums, Value("[2 x double]", "zeroinitializer"))
                f.call(pair, g, x, *([w] if each else []), length, mean, sums)
                one, two = f.load("double", sums, 0), f.load("double", sums, 1)
                if not each:
                    f.store(f.narrow(one, t), gb)
                    f.store(f.narrow(f.op("fmul", two, rate), t), gw)
                    own = _wide(f, f.load(t, w))
                    one, two = f.op("fmul", one, own), f.op("fmul", two, own)
                f.add_to(of_g, one)
                f.add_to(of_gx, two)
            share = f.op("fdiv", rate, count)
            shift = f.op("fmul", f.get(of_g, "double"), share) if centred else _ZERO
            slope = f.op("fmul", f.op("fmul", f.get(of_gx, "double"), share), f.op("fmul", rate, rate))
            shift, slope = f.narrow(shift, t), f.narrow(slope, t)
            shift = shift if centred else Value(t, "0.0")
            with f.loop(0, runs) as m:
                g, x, _, _, w, gx, gw, gb = f.run(places, m)
                if each:
                    f.call(apply, g, x, gx, w, gw, gb, mean, small, shift, slope, length)
                else:
                    f.call(apply, g, x, gx, mean, f.op("fmul", small, f.load(t, w)), shift, slope, length)
    return pair, apply, f


def _given(t: str) -> tuple[Function, ...]:
    """(x, scale, shift, y) of given statistics, for runs alone: y = x scale + shift."""
    apply = _scaled(t)
    f = _Nest("given", 4)
    with f.loop(0, f.sizes[0]) as a, f.loop(0, f.sizes[1]) as b:
        x, scale, shift, y = f.group(a, b)
        f.call(apply, x, y, Value(t, "0.0"), f.load(t, scale), f.load(t, shift), f.sizes[3])
    return apply, f


def _given_back(t: str) -> tuple[Function, ...]:
    """(g, x, mean, scale, gradient of x, sums of g (x − mean) and of g for each run)."""
    pair, apply = _pair(t), elementwise("times", t, "g y", "a", y="g * a")
    f = _Nest("given_back", 7)
    with f.loop(0, f.sizes[0]) as a, f.loop(0, f.sizes[1]) as b:
        g, x, mean, scale, gx, products, totals = f.group(a, b)
        sums = f.variable(Value("[2 x double]", "zeroinitializer"))
        f.call(pair, g, x, f.sizes[3], f.load(t, mean), sums)
        f.store(f.narrow(f.load("double", sums, 0), t), totals)
        f.store(f.narrow(f.load("double", sums, 1), t), products)
        f.call(apply, g, gx, f.load(t, scale), f.sizes[3])
    return pair, apply, f


_MANY: Final = 1 << 16
"""The number of elements of a matrix from which on oneDNN is faster for its columns, on several threads."""
_COLUMNS: Final = 512
"""Most columns of a block: their sums stay in the nearest cache."""
_ROWS: Final = 32
"""Elements of a column whose sum is taken before it is added in double precision."""


def _sums_of_columns(
    f: _Nest, t: str, add: Function, wide: Function, rows: list[Value], others: list[Value], count: int, width: Value
) -> list[Value]:  # fmt: skip
    """`count` sums of each column, in double precision: `add` adds rows of arrays to sums of `_ROWS` of them, `wide` these up."""
    n = f.sizes[1]
    totals = [f.variable(Value(f"[{_COLUMNS} x double]", "zeroinitializer")) for _ in range(count)]
    parts = [f.variable(Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")) for _ in range(count)]
    with f.loop(0, n, _ROWS) as start:
        with f.loop(start, f.smaller(f.op("add", start, _ROWS), n)) as r:
            at = [f.at(p, f.op("mul", r, f.steps[0][1])) for p in rows]
            f.call(add, *at, *others, *parts, width)
        for part, total in zip(parts, totals, strict=True):
            f.call(wide, part, total, width)
    return totals


def _columns(f: _Nest, a: Value) -> tuple[list[Value], Value]:
    """The addresses of the arrays for a block of columns, and its number of columns."""
    places = [f.at(p, f.op("mul", a, s[0])) for p, s in zip(f.arrays, f.steps, strict=True)]
    left = f.op("sub", f.sizes[2], f.op("mul", a, f.sizes[3]))
    return places, f.smaller(left, f.sizes[3])


def _add_wide(t: str) -> Function:
    return elementwise("add_wide", t, "x total:double", total="total + double(x)", x="0.0")


def _forward_rows(t: str) -> tuple[Function, Function, Function, Function]:
    """What a forward pass does to a row of columns: add it up, and its squares; add up sums; scale it."""
    return (
        elementwise("add_up", t, "x total", total="total + x"),
        elementwise("add_squares", t, "x m total", total="total + (x - m) * (x - m)"),
        _add_wide(t),
        elementwise("scaled_each", t, "x y m a b", y="(x - m) * a + b"),
    )


def _backward_rows(t: str) -> tuple[Function, Function, Function]:
    """What a backward pass does to a row of columns: add up the gradient and its products with x; add up sums; the gradient of x."""
    return (
        elementwise(
            "add_pairs", t, "g x m total product", total="total + g", product="product + g * (x - m)"
        ),
        _add_wide(t),
        elementwise("back_each", t, "g x y m a shift slope", y="g * a - shift - (x - m) * slope"),
    )


def _columns_forward(t: str) -> tuple[Function, ...]:
    """(x, weight, bias, y, mean, variance) for statistics of columns; sizes: blocks of columns, rows, columns,
    columns of a block."""
    add, squares, wide, apply = _forward_rows(t)
    f = _Nest("columns_forward", 6)
    rows, (eps, count) = f.sizes[1], f.numbers
    with f.loop(0, f.sizes[0]) as a:
        (x, weights, biases, y, means, variances), width = _columns(f, a)
        scale = f.variable(Value(f"[{_COLUMNS} x {t}]", "zeroinitializer"))
        [total] = _sums_of_columns(f, t, add, wide, [x], [], 1, width)
        with f.loop(0, width) as i:
            f.store(f.narrow(f.op("fdiv", f.load("double", total, i), count), t), means, i)
        [spread] = _sums_of_columns(f, t, squares, wide, [x], [means], 1, width)
        with f.loop(0, width) as i:
            variance = f.op("fdiv", f.load("double", spread, i), count)
            f.store(f.narrow(variance, t), variances, i)
            f.store(f.op("fmul", f.narrow(_rate(f, variance, eps), t), f.load(t, weights, i)), scale, i)
        with f.loop(0, rows) as r:
            at = [f.at(p, f.op("mul", r, f.steps[0][1])) for p in (x, y)]
            f.call(apply, *at, means, scale, biases, width)
    return add, squares, wide, apply, f


def _columns_backward(t: str) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias) for statistics of columns."""
    pairs, wide, apply = _backward_rows(t)
    f = _Nest("columns_backward", 8)
    rows, (eps, count) = f.sizes[1], f.numbers
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    with f.loop(0, f.sizes[0]) as a:
        (g, x, means, variances, weights, gx, gw, gb), width = _columns(f, a)
        scale, shift, slope = f.variable(row), f.variable(row), f.variable(row)
        total, product = _sums_of_columns(f, t, pairs, wide, [g, x], [means], 2, width)
        with f.loop(0, width) as i:
            rate = _rate(f, _wide(f, f.load(t, variances, i)), eps)
            one, two = f.load("double", total, i), f.load("double", product, i)
            f.store(f.narrow(one, t), gb, i)
            f.store(f.narrow(f.op("fmul", two, rate), t), gw, i)
            factor = f.op("fmul", rate, _wide(f, f.load(t, weights, i)))
            share = f.op("fdiv", factor, count)
            f.store(f.narrow(factor, t), scale, i)
            f.store(f.narrow(f.op("fmul", one, share), t), shift, i)
            f.store(f.narrow(f.op("fmul", f.op("fmul", two, share), f.op("fmul", rate, rate)), t), slope, i)
        with f.loop(0, rows) as r:
            at = [f.at(p, f.op("mul", r, f.steps[0][1])) for p in (g, x, gx)]
            f.call(apply, *at, means, scale, shift, slope, width)
    return pairs, wide, apply, f


class _Channels:
    """The columns of rows in which `fold` positions lie side by side, each with its channels, in groups: how numbers of columns and of
    groups go together. Sizes: samples, rows, columns, channels of a group, groups, `fold`."""

    def __init__(self, f: _Nest) -> None:
        self.f = f
        _, _, self.width, self.each, self.groups, self.fold = f.sizes
        self.channels = self.f.op("mul", self.each, self.groups)

    @contextlib.contextmanager
    def of(self, group: Value) -> Iterator[tuple[Value, Value]]:
        """A loop over the columns of a group, each with its channel."""
        f = self.f
        first = f.op("mul", group, self.each)
        with f.loop(0, self.fold) as j, f.loop(0, self.each) as i:
            channel = f.op("add", first, i)
            yield f.op("add", f.op("mul", j, self.channels), channel), channel

    def total(self, sums: Value, group: Value) -> Value:
        """The sum over the columns of a group."""
        f = self.f
        total = f.variable(_ZERO)
        with self.of(group) as (at, _):
            f.add_to(total, f.load("double", sums, at))
        return f.get(total, "double")


def _channels_forward(t: str) -> tuple[Function, ...]:
    """(x, weight, bias, y, mean, variance) for groups of channels that lie together, of each sample."""
    add, squares, wide, apply = _forward_rows(t)
    f = _Nest("channels_forward", 6)
    columns = _Channels(f)
    eps, count = f.numbers
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    with f.loop(0, f.sizes[0]) as a:
        x, weights, biases, y, means, variances = f.group(a, 0)
        mean, scale, shift = f.variable(row), f.variable(row), f.variable(row)
        [total] = _sums_of_columns(f, t, add, wide, [x], [], 1, columns.width)
        with f.loop(0, columns.groups) as k:
            value = f.narrow(f.op("fdiv", columns.total(total, k), count), t)
            f.store(value, means, k)
            with columns.of(k) as (at, _):
                f.store(value, mean, at)
        [spread] = _sums_of_columns(f, t, squares, wide, [x], [mean], 1, columns.width)
        with f.loop(0, columns.groups) as k:
            variance = f.op("fdiv", columns.total(spread, k), count)
            f.store(f.narrow(variance, t), variances, k)
            rate = f.narrow(_rate(f, variance, eps), t)
            with columns.of(k) as (at, channel):
                f.store(f.op("fmul", rate, f.load(t, weights, channel)), scale, at)
                f.store(f.load(t, biases, channel), shift, at)
        with f.loop(0, f.sizes[1]) as r:
            places = [f.at(p, f.op("mul", r, f.steps[0][1])) for p in (x, y)]
            f.call(apply, *places, mean, scale, shift, columns.width)
    return add, squares, wide, apply, f


def _channels_backward(t: str) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias) for groups of channels; those of weight and bias for each sample."""
    pairs, wide, apply = _backward_rows(t)
    f = _Nest("channels_backward", 8)
    columns = _Channels(f)
    eps, count = f.numbers
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    wide_row = Value(f"[{_COLUMNS} x double]", "zeroinitializer")
    with f.loop(0, f.sizes[0]) as a:
        g, x, means, variances, weights, gx, gw, gb = f.group(a, 0)
        mean, scale, shift, slope = (f.variable(row) for _ in range(4))
        with f.loop(0, columns.groups) as k, columns.of(k) as (at, _):
            f.store(f.load(t, means, k), mean, at)
        sums = _sums_of_columns(f, t, pairs, wide, [g, x], [mean], 2, columns.width)
        own = [f.variable(wide_row) for _ in sums]  # by channel
        with f.loop(0, columns.groups) as k:
            rate = _rate(f, _wide(f, f.load(t, variances, k)), eps)
            weighted = f.variable(_ZERO), f.variable(_ZERO)
            with columns.of(k) as (at, channel):
                w = _wide(f, f.load(t, weights, channel))
                for found, total, both in zip(sums, own, weighted, strict=True):
                    one = f.load("double", found, at)
                    f.store(f.op("fadd", f.load("double", total, channel), one), total, channel)
                    f.add_to(both, f.op("fmul", one, w))
            share = f.op("fdiv", rate, count)
            minus, side = (f.op("fmul", f.get(both, "double"), share) for both in weighted)
            side = f.op("fmul", side, f.op("fmul", rate, rate))
            with columns.of(k) as (at, channel):
                w = _wide(f, f.load(t, weights, channel))
                f.store(f.narrow(f.op("fmul", rate, w), t), scale, at)
                f.store(f.narrow(minus, t), shift, at)
                f.store(f.narrow(side, t), slope, at)
                f.store(f.narrow(f.load("double", own[0], channel), t), gb, channel)
                f.store(f.narrow(f.op("fmul", f.load("double", own[1], channel), rate), t), gw, channel)
        with f.loop(0, f.sizes[1]) as r:
            places = [f.at(p, f.op("mul", r, f.steps[0][1])) for p in (g, x, gx)]
            f.call(apply, *places, mean, scale, shift, slope, columns.width)
    return pairs, wide, apply, f


@functools.cache
def _addresses(t: str, each: bool, centred: bool) -> tuple[int, int]:
    return compiled(_forward(t, each, centred), "forward"), compiled(_backward(t, each, centred), "backward")


@functools.cache
def _column_addresses(t: str) -> tuple[int, int]:
    return compiled(_columns_forward(t), "columns_forward"), compiled(
        _columns_backward(t), "columns_backward"
    )


@functools.cache
def _channel_addresses(t: str) -> tuple[int, int]:
    return (
        compiled(_channels_forward(t), "channels_forward"),
        compiled(_channels_backward(t), "channels_backward"),
    )


# ----- the kernels -----


class _Form(NamedTuple):
    """How `normalize` sees an array: (A, B, M, L), the strides of x and of the weights along A, B, M in elements, and whether each
    element of a run has a weight of its own."""

    sizes: tuple[int, int, int, int]
    x: tuple[int, int, int]
    weights: tuple[int, int, int]
    each: bool


_SHORTEST: Final = 8
_BLOCKS: Final = 16


def _form(given: Ints, axes: Ints, shape: Ints | None) -> _Form | None:
    """For a contiguous array of a shape; None for an unsupported form. `shape`: the weights' axes, None without weights."""
    ndim = len(given)
    lead = ndim - len(axes)
    own = shape is not None and math.prod(shape) > 1
    if axes == tuple(range(lead, ndim)):  # the last axes
        rows, width = math.prod(given[:lead]), math.prod(given[lead:])
        kept = (*(1,) * lead, *given[lead:])
        if shape is None or not own or shape == kept:
            if own:
                blocks = math.gcd(rows, _BLOCKS)
                per = rows // blocks
                return _Form((blocks, per, 1, width), (per * width, width, 0), (0, 0, 0), True)
            return _Form((rows, 1, 1, width), (width, 0, 0), (0, 0, 0), False)
        # a weight per channel: axis 1, or axes 1 and 2 (groups, channels of a group)
        at = [i for i, n in enumerate(shape) if n > 1]
        if shape[1:2] == given[1:2] and lead == 2 and at[-1] == 1:  # a group is one channel
            n, c, places = given[0], given[1], math.prod(given[2:])
            return _Form((n, c, 1, places), (c * places, places, 0), (0, 1, 0), False)
        if lead == 2 and shape[1:3] == given[1:3] and at[-1] <= 2:
            n, groups, m, places = *given[:3], math.prod(given[3:])
            steps = groups * m * places, m * places, places
            return _Form((n, groups, m, places), steps, (0, m, 1), False)
        return None
    if axes == (0, *range(2, ndim)):
        n, c, places = given[0], given[1], math.prod(given[2:])
        if own and shape != (1, c, *(1,) * (ndim - 2)):
            return None
        return _Form((c, 1, n, places), (places, 0, c * places), (1, 0, 0), False)
    return None


class _Plan:
    """The loops for arrays of the shape `given`, with statistics of the shape `kept`.

    `x`, `w`, `stats`, `sums`: the strides, in elements, of x, of `weights` weights, of the statistics, and of the sums for the gradients of
    the weights, which have the shape `parts` and are to be added up along the axis `over`.
    """

    def __init__(
        self, addresses: tuple[int, int], sizes: Ints, *, x: Ints, w: Ints, stats: Ints, sums: Ints, given: Ints, kept: Ints, parts: Ints,
        dtype: Any, eps: float, count: int, weights: int, over: int | None, shared: bool = True,
    ) -> None:  # fmt: skip
        size = np.dtype(dtype).itemsize
        x, w, stats, sums = (tuple([step * size for step in steps]) for steps in (x, w, stats, sums))
        self.over = over
        self.ones, self.zeros = np.ones(weights, dtype), np.zeros(weights, dtype)
        data, work = np.array([eps, count], np.float64), 4 * math.prod(given) * size if shared else 0
        whole, small, each = ((shape, dtype) for shape in (given, kept, parts))
        forward, backward = addresses
        self.forward = Loop(forward, sizes, (x, w, w, x, stats, stats), data, work, (whole, small, small))
        self.backward = Loop(
            backward, sizes, (x, x, stats, stats, w, x, sums, sums), data, 2 * work, (whole, each, each)
        )

    def summed(self, xp: Backend, parts: Array, shape: Ints) -> Array:
        """The sums per weight, in its shape, of the sums per run or per block."""
        if self.over is not None:
            parts = xp.sum(parts, axis=self.over)
        return parts if parts.shape == shape else xp.reshape(parts, shape)


@functools.lru_cache(maxsize=256)
def _plan(
    given: Ints, axes: Ints, shape: Ints | None, dtype: Any, eps: float, centred: bool = True
) -> _Plan | None:
    form = _form(given, tuple(sorted(axes)), shape)
    if form is None or 0 in form.sizes:
        return None
    a, b, m, n = form.sizes
    if centred and b == 1 == n and axes[0] == 0 and len(given) == 2:
        if dtype == np.float32 and math.prod(given) >= _MANY and onednn.find() and onednn.threads() > 1:
            return None
        return _column_plan(given, dtype, eps)
    if n < _SHORTEST:
        return None
    parts: Ints = (a, n) if form.each else (a, b, m)
    own = (0, 1) if form.each else form.weights
    return _Plan(
        _addresses(kinds(dtype), form.each, centred),
        (*form.sizes, *((1, m * n) if m == 1 or form.x[2] == n else (m, n))),
        x=form.x, w=form.weights, stats=(b, 1), sums=(n,) if form.each else (b * m, m, 1),
        given=given, kept=tuple(1 if i in axes else k for i, k in enumerate(given)), parts=parts, dtype=dtype, eps=eps, count=m * n,
        weights=n if form.each else max(1, *(k * s for k, s in zip(parts, form.weights, strict=True))),
        over=next((i for i, k in enumerate(parts) if k > 1 and not own[i]), None),
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _column_plan(given: tuple[int, int], dtype: Any, eps: float) -> _Plan:
    """For a matrix whose columns have statistics, weight and bias of their own."""
    rows, columns = given
    most = _COLUMNS if onednn.threads() == 1 else _COLUMNS // 4
    block = next((b for b in range(most, 15, -1) if columns % b == 0), most)
    return _Plan(
        _column_addresses(kinds(dtype)),
        (-(-columns // block), rows, columns, block, 0, 0),
        x=(block, columns), w=(block,), stats=(block,), sums=(block,),
        given=given, kept=(1, columns), parts=(columns,), dtype=dtype, eps=eps, count=rows, weights=columns, over=None,
        # threads share blocks of one width: a part of the loop does not know that its last block is the last of all
        shared=columns % block == 0,
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _channel_plan(given: tuple[int, int, int], groups: int, kept: Ints, dtype: Any, eps: float) -> _Plan:
    """For images in memory as (samples, positions, channels) whose groups of channels share statistics."""
    samples, positions, channels = given
    fold = next(n for n in range(_COLUMNS // channels, 0, -1) if positions % n == 0)
    each = channels // groups
    return _Plan(
        _channel_addresses(kinds(dtype)),
        (samples, positions // fold, fold * channels, each, groups, fold),
        x=(positions * channels, fold * channels), w=(0,), stats=(groups,), sums=(channels,),
        given=given, kept=kept, parts=(samples, channels), dtype=dtype, eps=eps, count=positions * each, weights=channels, over=0,
    )  # fmt: skip


for _cached in (_plan, _column_plan, _channel_plan):
    after_fork(_cached.cache_clear)  # plans count on threads that a forked process does not have


@_kernel
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: Ints,
    eps: float,
    shape: Ints,
    split: Ints = (),
    centred: bool = True,
    need: Any,
) -> Any:
    """(x − mean) / √(variance + ε) · weight + bias, of arrays in C order, and of images whose channels lie together."""
    dtype, given = x.dtype, split or x.shape
    if dtype not in PLAIN_FLOATS or not availability.available():
        return NotImplemented
    if not x.flags.c_contiguous:
        if not centred or x.ndim < 3 or not x.size:
            return NotImplemented
        if not split and tuple(sorted(axes)) == (0, *range(2, x.ndim)):
            return _of_images(xp, x, (weight, bias), eps, shape, need)
        if tuple(sorted(axes)) != tuple(range(2, len(given))) or (split and split[3:] != x.shape[2:]):
            return NotImplemented
        return _of_groups(xp, x, (weight, bias), eps, given, shape, need)
    weighted = None if weight is None and bias is None else shape
    plan = _plan(given, axes, weighted, dtype, eps, centred)
    if plan is None:
        return NotImplemented
    return _run(xp, plan, x, (weight, bias), split, need)


Weights = tuple[Array | None, Array | None]


def _run(xp: Backend, plan: _Plan, x: Array, weights: Weights, split: Ints, need: Any) -> Any:
    weight, bias = weights
    for a in weights:
        if a is not None and (a.dtype != x.dtype or not a.flags.c_contiguous):
            return NotImplemented
    w = plan.ones if weight is None else weight
    v = xp.reshape(x, split) if split else x
    y, mean, variance = xp.call(plan.forward, v, w, plan.zeros if bias is None else bias)
    made = (xp.reshape(y, x.shape) if split else y), mean, variance
    if need is None:
        return made

    def pull(g: Array) -> tuple[Any, ...]:
        g = xp.reshape(dense(xp, g), split) if split else dense(xp, g)
        gx, gw, gb = xp.call(plan.backward, g, v, mean, variance, w)
        grads = (
            xp.reshape(gx, x.shape) if split else gx,
            plan.summed(xp, gw, weight.shape) if weight is not None and need[1] else None,
            plan.summed(xp, gb, bias.shape) if bias is not None and need[2] else None,
        )
        return grads[: len(need)]

    return made, pull


def _of_images(xp: Backend, x: Array, weights: Weights, eps: float, shape: Ints, need: Any) -> Any:
    """Batch normalization of images in memory as (batch, positions, channels): a matrix whose columns have statistics of their own.

    oneDNN would be up to a third quicker, but adds the elements of a channel in single precision one after the other: at 16,384 of them
    its results are 2e-6 away, PyTorch's and these 1e-7.
    """
    c, kept = x.shape[1], (1, x.shape[1], *(1,) * (x.ndim - 2))
    if any(w is not None for w in weights) and shape != kept:
        return NotImplemented
    plan = _column_plan((x.size // c, c), x.dtype, eps)
    return _channels_last(xp, plan, (x.size // c, c), kept, x, weights, need)


def _of_groups(
    xp: Backend, x: Array, weights: Weights, eps: float, given: Ints, shape: Ints, need: Any
) -> Any:
    """Group and instance normalization of images in memory as (batch, positions, channels). `given`: the shape with groups."""
    n, c, groups = x.shape[0], x.shape[1], given[1]
    own = (1, *given[1 : 3 if len(given) > x.ndim else 2])
    own = (*own, *(1,) * (len(given) - len(own)))
    if c > _COLUMNS or (any(w is not None for w in weights) and shape != own):
        return NotImplemented
    kept = (n, groups, *(1,) * (len(given) - 2))
    rows = (n, x.size // (n * c), c)
    plan = _channel_plan(rows, groups, kept, x.dtype, eps)
    return _channels_last(xp, plan, rows, kept, x, weights, need)


def _channels_last(
    xp: Backend, plan: _Plan, form: Ints, kept: Ints, x: Array, weights: Weights, need: Any
) -> Any:
    """What a plan for images with their channels last in memory gives: `form` is what it takes, `kept` the shape of the statistics."""
    last, first = (0, *range(2, x.ndim), 1), (0, x.ndim - 1, *range(1, x.ndim - 1))
    image, c = xp.permute_dims(x, last), x.shape[1]
    if not image.flags.c_contiguous:
        return NotImplemented

    def rows(a: Array) -> Array:
        return xp.reshape(dense(xp, xp.permute_dims(a, last)), form)

    def images(a: Array) -> Array:
        return xp.permute_dims(xp.reshape(a, image.shape), first)

    w, b = (None if a is None else xp.reshape(a, (c,)) for a in weights)
    made = _run(xp, plan, rows(x), (w, b), (), need)
    if made is NotImplemented:
        return made
    (y, *statistics), *pull = (made,) if need is None else made
    found = images(y), *(xp.reshape(s, kept) for s in statistics)
    if need is None:
        return found

    def back(g: Array) -> tuple[Any, ...]:
        gx, *parts = pull[0](rows(g))
        pairs = zip(parts, weights, strict=False)
        return images(gx), *(None if p is None or a is None else xp.reshape(p, a.shape) for p, a in pairs)

    return found, back


@functools.lru_cache(maxsize=256)
def _given_plan(shape: Ints, dtype: Any) -> tuple[Loop, Loop]:
    n, c, places = shape[0], shape[1], math.prod(shape[2:])
    size, t = np.dtype(dtype).itemsize, kinds(dtype)
    sizes, x, each, made = (
        (n, c, 1, places, 1, places),
        (c * places * size, places * size),
        (0, size),
        (c * size, size),
    )
    nothing, nbytes, whole, sums = np.zeros(2), 2 * n * c * places * size, (shape, dtype), ((n, c), dtype)
    forward, backward = compiled(_given(t), "given"), compiled(_given_back(t), "given_back")
    return (
        Loop(forward, sizes, (x, each, each, x), nothing, nbytes, (whole,)),
        Loop(backward, sizes, (x, x, each, each, x, made, made), nothing, 2 * nbytes, (whole, sums, sums)),
    )


after_fork(_given_plan.cache_clear)


@_kernel
def normalize_by(
    xp: Backend, x: Array, mean: Array, variance: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float,
    need: Any,
) -> Any:  # fmt: skip
    """Normalization with given statistics and gradients, of arrays in C order."""
    dtype = x.dtype
    if need is None or need[1] or need[2] or dtype not in PLAIN_FLOATS or not availability.available():
        return NotImplemented  # without gradients it is two calls, which a program fuses with the next ones
    arrays = [a for a in (mean, variance, weight, bias) if a is not None]
    if (
        not x.flags.c_contiguous
        or any(a.dtype != dtype for a in arrays)
        or math.prod(x.shape[2:]) < _SHORTEST
        or not x.size
    ):
        return NotImplemented
    rate = 1.0 / xp.sqrt(variance + eps)
    scale = rate if weight is None else rate * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    forward, backward = _given_plan(x.shape, dtype)
    y = xp.call(forward, x, scale, shift)

    def pull(g: Array) -> tuple[Any, ...]:
        gx, products, totals = xp.call(backward, dense(xp, g), x, dense(xp, mean), scale)
        gw = xp.sum(products, axis=0) * rate if len(need) > 3 and need[3] else None
        return (gx, None, None, gw, xp.sum(totals, axis=0) if need[-1] else None)[: len(need)]

    return y, pull
