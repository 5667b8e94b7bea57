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
from anynet_backends.jit.ir_builder import LANES, Function, Loop, Value, compiled, kinds, number
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.outputs import dense
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS", "sums_of_run"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported forms are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)

_CHUNK, _PARTS = 4096, 4


# ----- the loops over one run -----


def sums_of_run(name: str, t: str, arrays: int, count: int, terms: Any) -> Function:
    """(arrays …, n, m, totals): adds the sums of `terms` over a run to totals, in double precision. `terms` computes the terms from
    elements, or vectors of them, and from m."""
    params = [("ptr noalias", f"p{i}") for i in range(arrays)]
    f = Function(name, *params, ("i64", "n"), (t, "m"), ("ptr noalias", "out"))
    vector = f"<{LANES} x {t}>"
    given = [f.argument(f"p{i}") for i in range(arrays)]
    n, m, out = f.argument("n"), f.argument("m"), f.argument("out")
    wide = f.spread(m)
    with f.loop(number(0), n, _CHUNK) as start:
        stop = f.smaller(f.op("add", start, number(_CHUNK)), n)
        size = f.op("sub", stop, start)
        most = f.op("add", start, f.op("and", size, number(-LANES * _PARTS)))
        full = f.op("add", start, f.op("and", size, number(-LANES)))
        parts = [[f.variable(Value(vector, "zeroinitializer")) for _ in range(_PARTS)] for _ in range(count)]
        with f.loop(start, most, LANES * _PARTS) as i:
            for part in range(_PARTS):
                at = f.op("add", i, number(part * LANES))
                made = terms(f, [f.load(vector, p, at) for p in given], wide)
                for k, term in enumerate(made):
                    f.add_to(parts[k][part], term)
        for first, second, third, fourth in parts:
            f.add_to(first, f.get(second, vector))
            f.add_to(third, f.get(fourth, vector))
            f.add_to(first, f.get(third, vector))
        with f.loop(most, full, LANES) as i:
            for k, term in enumerate(terms(f, [f.load(vector, p, i) for p in given], wide)):
                f.add_to(parts[k][0], term)
        singles = [f.variable(f.total(f.get(own[0], vector))) for own in parts]
        with f.loop(full, stop) as i:
            for k, term in enumerate(terms(f, [f.load(t, p, i) for p in given], m)):
                f.add_to(singles[k], term)
        for k, single in enumerate(singles):
            here = f.get(single, t)
            here = here if t == "double" else f.assigned("double", f"fpext {here} to double")
            f.store(f.op("fadd", f.load("double", out, number(k)), here), out, number(k))
    return f


def _square(f: Function, loaded: list[Value], m: Value) -> list[Value]:
    c = f.op("fsub", loaded[0], m)
    return [f.op("fmul", c, c)]


def _pair(f: Function, loaded: list[Value], m: Value) -> list[Value]:
    """g and g (x − m), with a third array (g w) instead of g."""
    g = f.op("fmul", loaded[0], loaded[2]) if len(loaded) > 2 else loaded[0]
    return [g, f.op("fmul", g, f.op("fsub", loaded[1], m))]


def _each(name: str, t: str, arrays: str, numbers: str, body: Any) -> Function:
    """(arrays …, scalars …, n): `body` for each element of a run."""
    params = [("ptr noalias", a) for a in arrays.split()] + [(t, a) for a in numbers.split()]
    f = Function(name, *params, ("i64", "n"))
    values = [f.argument(a) for a in (*arrays.split(), *numbers.split())]
    with f.loop(number(0), f.argument("n")) as i:
        body(f, t, i, *values)
    return f


def _scaled(f: Function, t: str, i: Value, x: Value, y: Value, m: Value, a: Value, b: Value) -> None:
    """y = (x − m) a + b."""
    f.store(f.op("fadd", f.op("fmul", f.op("fsub", f.load(t, x, i), m), a), b), y, i)


def _weighed(
    f: Function, t: str, i: Value, x: Value, y: Value, w: Value, b: Value, m: Value, r: Value
) -> None:
    """y = (x − m) r w + b."""
    c = f.op("fmul", f.op("fsub", f.load(t, x, i), m), r)
    f.store(f.op("fadd", f.op("fmul", c, f.load(t, w, i)), f.load(t, b, i)), y, i)


def _back(
    f: Function,
    t: str,
    i: Value,
    g: Value,
    x: Value,
    y: Value,
    m: Value,
    a: Value,
    shift: Value,
    slope: Value,
) -> None:
    """y = g a − shift − (x − m) slope."""
    side = f.op("fmul", f.op("fsub", f.load(t, x, i), m), slope)
    f.store(f.op("fsub", f.op("fsub", f.op("fmul", f.load(t, g, i), a), shift), side), y, i)


def _weighed_back(
    f: Function, t: str, i: Value, g: Value, x: Value, y: Value, w: Value, gw: Value, gb: Value, m: Value, r: Value,
    shift: Value, slope: Value,
) -> None:  # fmt: skip
    """y = g w r − shift − (x − m) slope, gw += g (x − m) r, gb += g."""
    u, c = f.load(t, g, i), f.op("fsub", f.load(t, x, i), m)
    f.store(f.op("fadd", f.load(t, gw, i), f.op("fmul", f.op("fmul", c, r), u)), gw, i)
    f.store(f.op("fadd", f.load(t, gb, i), u), gb, i)
    a = f.op("fmul", f.op("fmul", u, f.load(t, w, i)), r)
    f.store(f.op("fsub", f.op("fsub", a, shift), f.op("fmul", c, slope)), y, i)


# ----- the loops over groups -----


class _Nest:
    """A function over all groups: its arrays, sizes (A, B, M, L, and M, L for the sums) and offsets of groups."""

    def __init__(self, name: str, arrays: int) -> None:
        kinds = ("ptr", "args"), ("ptr", "dims"), ("ptr", "steps"), ("ptr", "data")
        self.f = f = Function(name, *kinds, gives="i64")
        self.arrays = [f.load("ptr", f.argument("args"), number(i)) for i in range(arrays)]
        self.sizes = [f.load("i64", f.argument("dims"), number(i)) for i in range(6)]
        self.steps = [
            [f.load("i64", f.argument("steps"), number(6 * i + d)) for d in range(3)] for i in range(arrays)
        ]
        self.data = [f.load("double", f.argument("data"), number(i)) for i in range(2)]

    def group(self, a: Value, b: Value) -> list[Value]:
        """The addresses of the arrays for a group."""
        f = self.f
        return [
            f.at(f.at(p, f.op("mul", a, s[0])), f.op("mul", b, s[1]))
            for p, s in zip(self.arrays, self.steps, strict=True)
        ]

    def run(self, places: list[Value], m: Value) -> list[Value]:
        """The addresses for one run."""
        return [self.f.at(p, self.f.op("mul", m, s[2])) for p, s in zip(places, self.steps, strict=True)]

    def narrow(self, x: Value, t: str) -> Value:
        """A double-precision number in the type of the arrays."""
        return x if t == "double" else self.f.assigned(t, f"fptrunc {x} to {t}")


_ZERO = Value("double", "0.0")


def _rate(f: Function, variance: Value, eps: Value) -> Value:
    root = f.assigned("double", f"call double @llvm.sqrt.f64({f.op('fadd', variance, eps)})")
    return f.op("fdiv", Value("double", "1.0"), root)


def _wide(f: Function, x: Value) -> Value:
    return x if x.type == "double" else f.assigned("double", f"fpext {x} to double")


def _forward(t: str, each: bool, centred: bool) -> tuple[Function, ...]:
    """(x, weight, bias, y, mean, variance); data: ε and the number of elements of a group."""
    total = sums_of_run("total", t, 1, 1, lambda f, loaded, m: loaded)
    squares = sums_of_run("squares", t, 1, 1, _square)
    apply = (
        _each("weighed", t, "x y w b", "m r", _weighed)
        if each
        else _each("scaled", t, "x y", "m a b", _scaled)
    )
    nest = _Nest("forward", 6)
    f = nest.f
    rows, cols, runs, length, few, long = nest.sizes
    eps, count = nest.data
    none = Value(t, "0.0")
    with f.loop(number(0), rows) as a, f.loop(number(0), cols) as b:
        places = nest.group(a, b)
        means, variances = places[4:]
        mean = none
        if centred:
            sum_ = f.variable(_ZERO)
            with f.loop(number(0), few) as m:
                f.call(total, nest.run(places, m)[0], long, none, sum_)
            mean = nest.narrow(f.op("fdiv", f.get(sum_, "double"), count), t)
        f.store(mean, means)
        spread = f.variable(_ZERO)
        with f.loop(number(0), few) as m:
            f.call(squares, nest.run(places, m)[0], long, mean, spread)
        variance = f.op("fdiv", f.get(spread, "double"), count)
        f.store(nest.narrow(variance, t), variances)
        rate = nest.narrow(_rate(f, variance, eps), t)
        with f.loop(number(0), runs) as m:
            x, w, bias, y, _, _ = nest.run(places, m)
            if each:
                f.call(apply, x, y, w, bias, mean, rate, length)
            else:
                f.call(apply, x, y, mean, f.op("fmul", rate, f.load(t, w)), f.load(t, bias), length)
    return total, squares, apply, f


def _backward(t: str, each: bool, centred: bool) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias); data as above. With a weight per run, the gradients of the
    weight and the bias are computed per run, otherwise per outermost block."""
    pair = sums_of_run("pair", t, 3 if each else 2, 2, _pair)
    apply = (
        _each("weighed_back", t, "g x y w gw gb", "m r shift slope", _weighed_back)
        if each
        else _each("back", t, "g x y", "m a shift slope", _back)
    )
    nest = _Nest("backward", 8)
    f = nest.f
    rows, cols, runs, length = nest.sizes[:4]
    eps, count = nest.data
    with f.loop(number(0), rows) as a:
        if each:
            for total in nest.group(a, number(0))[6:]:
                with f.loop(number(0), length) as i:
                    f.store(Value(t, "0.0"), total, i)
        with f.loop(number(0), cols) as b:
            places = nest.group(a, b)
            mean = f.load(t, places[2]) if centred else Value(t, "0.0")
            rate = _rate(f, _wide(f, f.load(t, places[3])), eps)
            small = nest.narrow(rate, t)
            of_g, of_gx = f.variable(_ZERO), f.variable(_ZERO)
            sums = f.variable(Value("[2 x double]", "zeroinitializer"))
            with f.loop(number(0), runs) as m:
                g, x, _, _, w, _, gw, gb = nest.run(places, m)
                f.put(sums, Value("[2 x double]", "zeroinitializer"))
                f.call(pair, g, x, *([w] if each else []), length, mean, sums)
                one, two = f.load("double", sums, number(0)), f.load("double", sums, number(1))
                if not each:
                    f.store(nest.narrow(one, t), gb)
                    f.store(nest.narrow(f.op("fmul", two, rate), t), gw)
                    own = _wide(f, f.load(t, w))
                    one, two = f.op("fmul", one, own), f.op("fmul", two, own)
                f.add_to(of_g, one)
                f.add_to(of_gx, two)
            share = f.op("fdiv", rate, count)
            shift = f.op("fmul", f.get(of_g, "double"), share) if centred else _ZERO
            slope = f.op("fmul", f.op("fmul", f.get(of_gx, "double"), share), f.op("fmul", rate, rate))
            shift, slope = nest.narrow(shift, t), nest.narrow(slope, t)
            shift = shift if centred else Value(t, "0.0")
            with f.loop(number(0), runs) as m:
                g, x, _, _, w, gx, gw, gb = nest.run(places, m)
                if each:
                    f.call(apply, g, x, gx, w, gw, gb, mean, small, shift, slope, length)
                else:
                    f.call(apply, g, x, gx, mean, f.op("fmul", small, f.load(t, w)), shift, slope, length)
    return pair, apply, f


def _times(f: Function, t: str, i: Value, g: Value, y: Value, a: Value) -> None:
    """y = g a."""
    f.store(f.op("fmul", f.load(t, g, i), a), y, i)


def _given(t: str) -> tuple[Function, ...]:
    """(x, scale, shift, y) of given statistics, for runs alone: y = x scale + shift."""
    apply = _each("scaled", t, "x y", "m a b", _scaled)
    nest = _Nest("given", 4)
    f = nest.f
    with f.loop(number(0), nest.sizes[0]) as a, f.loop(number(0), nest.sizes[1]) as b:
        x, scale, shift, y = nest.group(a, b)
        f.call(apply, x, y, Value(t, "0.0"), f.load(t, scale), f.load(t, shift), nest.sizes[3])
    return apply, f


def _given_back(t: str) -> tuple[Function, ...]:
    """(g, x, mean, scale, gradient of x, sums of g (x − mean) and of g for each run)."""
    pair, apply = sums_of_run("pair", t, 2, 2, _pair), _each("times", t, "g y", "a", _times)
    nest = _Nest("given_back", 7)
    f = nest.f
    with f.loop(number(0), nest.sizes[0]) as a, f.loop(number(0), nest.sizes[1]) as b:
        g, x, mean, scale, gx, products, totals = nest.group(a, b)
        sums = f.variable(Value("[2 x double]", "zeroinitializer"))
        f.call(pair, g, x, nest.sizes[3], f.load(t, mean), sums)
        f.store(nest.narrow(f.load("double", sums, number(0)), t), totals)
        f.store(nest.narrow(f.load("double", sums, number(1)), t), products)
        f.call(apply, g, gx, f.load(t, scale), nest.sizes[3])
    return pair, apply, f


_MANY: Final = 1 << 16
"""The number of elements of a matrix from which on oneDNN is faster for its columns, on several threads."""
_COLUMNS: Final = 512
"""Most columns of a block: their sums stay in the nearest cache."""
_ROWS: Final = 32
"""Elements of a column whose sum is taken before it is added in double precision."""


def _increase(f: Function, total: Value, i: Value, x: Value) -> None:
    f.store(f.op("fadd", f.load(x.type, total, i), x), total, i)


def _add_up(f: Function, t: str, i: Value, x: Value, total: Value) -> None:
    """total += x."""
    _increase(f, total, i, f.load(t, x, i))


def _add_wide(f: Function, t: str, i: Value, x: Value, total: Value) -> None:
    """total += x, in double precision; x = 0."""
    _increase(f, total, i, _wide(f, f.load(t, x, i)))
    f.store(Value(t, "0.0"), x, i)


def _add_squares(f: Function, t: str, i: Value, x: Value, m: Value, total: Value) -> None:
    """total += (x − m)²."""
    c = f.op("fsub", f.load(t, x, i), f.load(t, m, i))
    _increase(f, total, i, f.op("fmul", c, c))


def _add_pairs(
    f: Function, t: str, i: Value, g: Value, x: Value, m: Value, total: Value, product: Value
) -> None:
    """total += g, product += g (x − m)."""
    u = f.load(t, g, i)
    _increase(f, total, i, u)
    _increase(f, product, i, f.op("fmul", u, f.op("fsub", f.load(t, x, i), f.load(t, m, i))))


def _sums_of_columns(
    nest: _Nest, t: str, add: Function, wide: Function, rows: list[Value], others: list[Value], count: int, width: Value
) -> list[Value]:  # fmt: skip
    """`count` sums of each column, in double precision: `add` adds rows of arrays to sums of `_ROWS` of them, `wide` these up."""
    f, n = nest.f, nest.sizes[1]
    totals = [f.variable(Value(f"[{_COLUMNS} x double]", "zeroinitializer")) for _ in range(count)]
    parts = [f.variable(Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")) for _ in range(count)]
    with f.loop(number(0), n, _ROWS) as start:
        with f.loop(start, f.smaller(f.op("add", start, number(_ROWS)), n)) as r:
            at = [f.at(p, f.op("mul", r, nest.steps[0][1])) for p in rows]
            f.call(add, *at, *others, *parts, width)
        for part, total in zip(parts, totals, strict=True):
            f.call(wide, part, total, width)
    return totals


def _scaled_each(f: Function, t: str, i: Value, x: Value, y: Value, m: Value, a: Value, b: Value) -> None:
    """y = (x − m) a + b."""
    c = f.op("fmul", f.op("fsub", f.load(t, x, i), f.load(t, m, i)), f.load(t, a, i))
    f.store(f.op("fadd", c, f.load(t, b, i)), y, i)


def _back_each(
    f: Function, t: str, i: Value, g: Value, x: Value, y: Value, m: Value, a: Value, shift: Value, slope: Value
) -> None:  # fmt: skip
    """y = g a − shift − (x − m) slope."""
    side = f.op("fmul", f.op("fsub", f.load(t, x, i), f.load(t, m, i)), f.load(t, slope, i))
    u = f.op("fmul", f.load(t, g, i), f.load(t, a, i))
    f.store(f.op("fsub", f.op("fsub", u, f.load(t, shift, i)), side), y, i)


def _columns(nest: _Nest, a: Value) -> tuple[list[Value], Value]:
    """The addresses of the arrays for a block of columns, and its number of columns."""
    f = nest.f
    places = [f.at(p, f.op("mul", a, s[0])) for p, s in zip(nest.arrays, nest.steps, strict=True)]
    left = f.op("sub", nest.sizes[2], f.op("mul", a, nest.sizes[3]))
    return places, f.smaller(left, nest.sizes[3])


def _forward_rows(t: str) -> tuple[Function, Function, Function, Function]:
    """What a forward pass does to a row of columns: add it up, and its squares; add up sums; scale it."""
    return (
        _each("add_up", t, "x total", "", _add_up),
        _each("add_squares", t, "x m total", "", _add_squares),
        _each("add_wide", t, "x total", "", _add_wide),
        _each("scaled_each", t, "x y m a b", "", _scaled_each),
    )


def _backward_rows(t: str) -> tuple[Function, Function, Function]:
    """What a backward pass does to a row of columns: add up the gradient and its products with x; add up sums; the gradient of x."""
    return (
        _each("add_pairs", t, "g x m total product", "", _add_pairs),
        _each("add_wide", t, "x total", "", _add_wide),
        _each("back_each", t, "g x y m a shift slope", "", _back_each),
    )


def _columns_forward(t: str) -> tuple[Function, ...]:
    """(x, weight, bias, y, mean, variance) for statistics of columns; sizes: blocks of columns, rows, columns,
    columns of a block."""
    add, squares, wide, apply = _forward_rows(t)
    nest = _Nest("columns_forward", 6)
    f = nest.f
    rows, (eps, count) = nest.sizes[1], nest.data
    with f.loop(number(0), nest.sizes[0]) as a:
        (x, weights, biases, y, means, variances), width = _columns(nest, a)
        scale = f.variable(Value(f"[{_COLUMNS} x {t}]", "zeroinitializer"))
        [total] = _sums_of_columns(nest, t, add, wide, [x], [], 1, width)
        with f.loop(number(0), width) as i:
            f.store(nest.narrow(f.op("fdiv", f.load("double", total, i), count), t), means, i)
        [spread] = _sums_of_columns(nest, t, squares, wide, [x], [means], 1, width)
        with f.loop(number(0), width) as i:
            variance = f.op("fdiv", f.load("double", spread, i), count)
            f.store(nest.narrow(variance, t), variances, i)
            f.store(f.op("fmul", nest.narrow(_rate(f, variance, eps), t), f.load(t, weights, i)), scale, i)
        with f.loop(number(0), rows) as r:
            at = [f.at(p, f.op("mul", r, nest.steps[0][1])) for p in (x, y)]
            f.call(apply, *at, means, scale, biases, width)
    return add, squares, wide, apply, f


def _columns_backward(t: str) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias) for statistics of columns."""
    pairs, wide, apply = _backward_rows(t)
    nest = _Nest("columns_backward", 8)
    f = nest.f
    rows, (eps, count) = nest.sizes[1], nest.data
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    with f.loop(number(0), nest.sizes[0]) as a:
        (g, x, means, variances, weights, gx, gw, gb), width = _columns(nest, a)
        scale, shift, slope = f.variable(row), f.variable(row), f.variable(row)
        total, product = _sums_of_columns(nest, t, pairs, wide, [g, x], [means], 2, width)
        with f.loop(number(0), width) as i:
            rate = _rate(f, _wide(f, f.load(t, variances, i)), eps)
            one, two = f.load("double", total, i), f.load("double", product, i)
            f.store(nest.narrow(one, t), gb, i)
            f.store(nest.narrow(f.op("fmul", two, rate), t), gw, i)
            factor = f.op("fmul", rate, _wide(f, f.load(t, weights, i)))
            share = f.op("fdiv", factor, count)
            f.store(nest.narrow(factor, t), scale, i)
            f.store(nest.narrow(f.op("fmul", one, share), t), shift, i)
            f.store(
                nest.narrow(f.op("fmul", f.op("fmul", two, share), f.op("fmul", rate, rate)), t), slope, i
            )
        with f.loop(number(0), rows) as r:
            at = [f.at(p, f.op("mul", r, nest.steps[0][1])) for p in (g, x, gx)]
            f.call(apply, *at, means, scale, shift, slope, width)
    return pairs, wide, apply, f


class _Channels:
    """The columns of rows in which `fold` positions lie side by side, each with its channels, in groups: how numbers of columns and of
    groups go together. Sizes: samples, rows, columns, channels of a group, groups, `fold`."""

    def __init__(self, nest: _Nest) -> None:
        self.f = nest.f
        _, _, self.width, self.each, self.groups, self.fold = nest.sizes
        self.channels = self.f.op("mul", self.each, self.groups)

    @contextlib.contextmanager
    def of(self, group: Value) -> Iterator[tuple[Value, Value]]:
        """A loop over the columns of a group, each with its channel."""
        f = self.f
        first = f.op("mul", group, self.each)
        with f.loop(number(0), self.fold) as j, f.loop(number(0), self.each) as i:
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
    nest = _Nest("channels_forward", 6)
    f, columns = nest.f, _Channels(nest)
    eps, count = nest.data
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    with f.loop(number(0), nest.sizes[0]) as a:
        x, weights, biases, y, means, variances = nest.group(a, number(0))
        mean, scale, shift = f.variable(row), f.variable(row), f.variable(row)
        [total] = _sums_of_columns(nest, t, add, wide, [x], [], 1, columns.width)
        with f.loop(number(0), columns.groups) as k:
            value = nest.narrow(f.op("fdiv", columns.total(total, k), count), t)
            f.store(value, means, k)
            with columns.of(k) as (at, _):
                f.store(value, mean, at)
        [spread] = _sums_of_columns(nest, t, squares, wide, [x], [mean], 1, columns.width)
        with f.loop(number(0), columns.groups) as k:
            variance = f.op("fdiv", columns.total(spread, k), count)
            f.store(nest.narrow(variance, t), variances, k)
            rate = nest.narrow(_rate(f, variance, eps), t)
            with columns.of(k) as (at, channel):
                f.store(f.op("fmul", rate, f.load(t, weights, channel)), scale, at)
                f.store(f.load(t, biases, channel), shift, at)
        with f.loop(number(0), nest.sizes[1]) as r:
            places = [f.at(p, f.op("mul", r, nest.steps[0][1])) for p in (x, y)]
            f.call(apply, *places, mean, scale, shift, columns.width)
    return add, squares, wide, apply, f


def _channels_backward(t: str) -> tuple[Function, ...]:
    """(g, x, mean, variance, weight, gradients of x, weight, bias) for groups of channels; those of weight and bias for each sample."""
    pairs, wide, apply = _backward_rows(t)
    nest = _Nest("channels_backward", 8)
    f, columns = nest.f, _Channels(nest)
    eps, count = nest.data
    row = Value(f"[{_COLUMNS} x {t}]", "zeroinitializer")
    wide_row = Value(f"[{_COLUMNS} x double]", "zeroinitializer")
    with f.loop(number(0), nest.sizes[0]) as a:
        g, x, means, variances, weights, gx, gw, gb = nest.group(a, number(0))
        mean, scale, shift, slope = (f.variable(row) for _ in range(4))
        with f.loop(number(0), columns.groups) as k, columns.of(k) as (at, _):
            f.store(f.load(t, means, k), mean, at)
        sums = _sums_of_columns(nest, t, pairs, wide, [g, x], [mean], 2, columns.width)
        own = [f.variable(wide_row) for _ in sums]  # by channel
        with f.loop(number(0), columns.groups) as k:
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
                f.store(nest.narrow(f.op("fmul", rate, w), t), scale, at)
                f.store(nest.narrow(minus, t), shift, at)
                f.store(nest.narrow(side, t), slope, at)
                f.store(nest.narrow(f.load("double", own[0], channel), t), gb, channel)
                f.store(nest.narrow(f.op("fmul", f.load("double", own[1], channel), rate), t), gw, channel)
        with f.loop(number(0), nest.sizes[1]) as r:
            places = [f.at(p, f.op("mul", r, nest.steps[0][1])) for p in (g, x, gx)]
            f.call(apply, *places, mean, scale, shift, slope, columns.width)
    return pairs, wide, apply, f


@functools.cache
def _address(t: str, each: bool, centred: bool, back: bool) -> int:
    write = _backward if back else _forward
    return compiled(write(t, each, centred), "backward" if back else "forward")


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


def _form(given: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...] | None) -> _Form | None:
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
    """The loops for arrays of one shape."""

    def __init__(
        self,
        form: _Form,
        given: tuple[int, ...],
        kept: tuple[int, ...],
        dtype: Any,
        eps: float,
        centred: bool,
    ) -> None:
        a, b, m, n = form.sizes
        size, t = np.dtype(dtype).itemsize, kinds(dtype)
        sums = (1, m * n) if m == 1 or form.x[2] == n else (m, n)
        x, w = ([step * size for step in steps] for steps in (form.x, form.weights))
        stats = (b * size, size)
        parts: tuple[int, ...] = (a, n) if form.each else (a, b, m)
        steps = (n * size,) if form.each else (b * m * size, m * size, size)
        own = (0, 1) if form.each else form.weights
        self.over = next((i for i, k in enumerate(parts) if k > 1 and not own[i]), None)
        weights = n if form.each else max(1, *(k * s for k, s in zip(parts, form.weights, strict=True)))
        self.ones, self.zeros = np.ones(weights, dtype), np.zeros(weights, dtype)
        sizes, data, nbytes = (*form.sizes, *sums), np.array([eps, m * n]), 2 * a * b * m * n * size
        forward, backward = (_address(t, form.each, centred, back) for back in (False, True))
        whole, small, sums_ = (given, dtype), (kept, dtype), (parts, dtype)
        self.forward = Loop(forward, sizes, (x, w, w, x, stats, stats), data, nbytes, (whole, small, small))
        self.backward = Loop(
            backward, sizes, (x, x, stats, stats, w, x, steps, steps), data, 2 * nbytes, (whole, sums_, sums_)
        )

    def summed(self, xp: Backend, parts: Array, shape: tuple[int, ...]) -> Array:
        """The sums per weight, in its shape, of the sums per run or per block."""
        if self.over is not None:
            parts = xp.sum(parts, axis=self.over)
        return parts if parts.shape == shape else xp.reshape(parts, shape)


class _ColumnPlan(_Plan):
    """The loops for matrices whose columns have statistics, weight and bias of their own."""

    over: int | None = None

    def __init__(self, given: tuple[int, ...], kept: tuple[int, ...], dtype: Any, eps: float) -> None:
        rows, columns = given
        size, t = np.dtype(dtype).itemsize, kinds(dtype)
        self.ones, self.zeros = np.ones(columns, dtype), np.zeros(columns, dtype)
        most = _COLUMNS if onednn.threads() == 1 else _COLUMNS // 4
        block = next((b for b in range(most, 15, -1) if columns % b == 0), most)
        sizes = (-(-columns // block), rows, columns, block, 0, 0)
        x, each = (block * size, columns * size), (block * size,)
        # threads share blocks of one width: a part of the loop does not know that its last block is the last of all
        data, nbytes = np.array([eps, rows]), 2 * rows * columns * size if columns % block == 0 else 0
        forward = compiled(_columns_forward(t), "columns_forward")
        backward = compiled(_columns_backward(t), "columns_backward")
        whole, small, sums = (given, dtype), (kept, dtype), ((columns,), dtype)
        self.forward = Loop(
            forward, sizes, (x, each, each, x, each, each), data, nbytes, (whole, small, small)
        )
        self.backward = Loop(
            backward, sizes, (x, x, each, each, each, x, each, each), data, 2 * nbytes, (whole, sums, sums)
        )


class _ChannelPlan(_Plan):
    """The loops for images in memory as (samples, positions, channels) whose groups of channels share statistics."""

    def __init__(
        self, given: tuple[int, int, int], groups: int, kept: tuple[int, ...], dtype: Any, eps: float
    ) -> None:
        samples, positions, channels = given
        size, t = np.dtype(dtype).itemsize, kinds(dtype)
        self.ones, self.zeros = np.ones(channels, dtype), np.zeros(channels, dtype)
        self.over = 0
        fold = next(n for n in range(_COLUMNS // channels, 0, -1) if positions % n == 0)
        each = channels // groups
        sizes = (samples, positions // fold, fold * channels, each, groups, fold)
        x, w = (positions * channels * size, fold * channels * size), (0,)
        stats, sums = (groups * size,), (channels * size,)
        data, nbytes = np.array([eps, positions * each]), 2 * math.prod(given) * size
        forward = compiled(_channels_forward(t), "channels_forward")
        backward = compiled(_channels_backward(t), "channels_backward")
        whole, small, own = (given, dtype), (kept, dtype), ((samples, channels), dtype)
        self.forward = Loop(forward, sizes, (x, w, w, x, stats, stats), data, nbytes, (whole, small, small))
        self.backward = Loop(
            backward, sizes, (x, x, stats, stats, w, x, sums, sums), data, 2 * nbytes, (whole, own, own)
        )


@functools.lru_cache(maxsize=256)
def _plan(
    given: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...] | None, dtype: Any, eps: float, centred: bool = True
) -> _Plan | None:  # fmt: skip
    form = _form(given, tuple(sorted(axes)), shape)
    if form is None or 0 in form.sizes:
        return None
    if centred and form.sizes[1] == 1 == form.sizes[3] and axes[0] == 0 and len(given) == 2:
        if dtype == np.float32 and math.prod(given) >= _MANY and onednn.find() and onednn.threads() > 1:
            return None
        return _column_plan(given, dtype, eps)
    if form.sizes[3] < _SHORTEST:
        return None
    kept = tuple(1 if i in axes else n for i, n in enumerate(given))
    return _Plan(form, given, kept, dtype, eps, centred)


@functools.lru_cache(maxsize=256)
def _column_plan(given: tuple[int, ...], dtype: Any, eps: float) -> _ColumnPlan:
    return _ColumnPlan(given, (1, given[1]), dtype, eps)


@functools.lru_cache(maxsize=256)
def _channel_plan(
    given: tuple[int, int, int], groups: int, kept: tuple[int, ...], dtype: Any, eps: float
) -> _ChannelPlan:
    return _ChannelPlan(given, groups, kept, dtype, eps)


for _cached in (_plan, _column_plan, _channel_plan):
    after_fork(_cached.cache_clear)  # plans count on threads that a forked process does not have


@_kernel
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: tuple[int, ...],
    eps: float,
    shape: tuple[int, ...],
    split: tuple[int, ...] = (),
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
            return _of_images(xp, x, weight, bias, eps, shape, need)
        if tuple(sorted(axes)) != tuple(range(2, len(given))) or (split and split[3:] != x.shape[2:]):
            return NotImplemented
        return _of_groups(xp, x, weight, bias, eps, given, shape, need)
    weighted = None if weight is None and bias is None else shape
    plan = _plan(given, axes, weighted, dtype, eps, centred)
    if plan is None:
        return NotImplemented
    return _run(xp, plan, x, weight, bias, split, need)


def _run(
    xp: Backend,
    plan: _Plan,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    split: tuple[int, ...],
    need: Any,
) -> Any:
    for a in (weight, bias):
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


def _of_images(
    xp: Backend,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    shape: tuple[int, ...],
    need: Any,
) -> Any:
    """Batch normalization of images in memory as (batch, positions, channels): a matrix whose columns have statistics of their own.

    oneDNN would be up to a third quicker, but adds the elements of a channel in single precision one after the other: at 16,384 of them
    its results are 2e-6 away, PyTorch's and these 1e-7.
    """
    c, kept = x.shape[1], (1, x.shape[1], *(1,) * (x.ndim - 2))
    if (weight is not None or bias is not None) and shape != kept:
        return NotImplemented
    plan = _column_plan((x.size // c, c), x.dtype, eps)
    return _channels_last(xp, plan, (x.size // c, c), kept, x, weight, bias, need)


def _of_groups(
    xp: Backend,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    given: tuple[int, ...],
    shape: tuple[int, ...],
    need: Any,
) -> Any:
    """Group and instance normalization of images in memory as (batch, positions, channels). `given`: the shape with groups."""
    n, c, groups = x.shape[0], x.shape[1], given[1]
    own = (1, *given[1 : 3 if len(given) > x.ndim else 2])
    if c > _COLUMNS or (
        (weight is not None or bias is not None) and shape != (*own, *(1,) * (len(given) - len(own)))
    ):
        return NotImplemented
    kept = (n, groups, *(1,) * (len(given) - 2))
    rows = (n, x.size // (n * c), c)
    plan = _channel_plan(rows, groups, kept, x.dtype, eps)
    return _channels_last(xp, plan, rows, kept, x, weight, bias, need)


def _channels_last(
    xp: Backend,
    plan: _Plan,
    form: tuple[int, ...],
    kept: tuple[int, ...],
    x: Array,
    weight: Array | None,
    bias: Array | None,
    need: Any,
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

    w, b = (None if a is None else xp.reshape(a, (c,)) for a in (weight, bias))
    made = _run(xp, plan, rows(x), w, b, (), need)
    if made is NotImplemented:
        return made
    (y, *statistics), *pull = (made,) if need is None else made
    found = images(y), *(xp.reshape(s, kept) for s in statistics)
    if need is None:
        return found

    def back(g: Array) -> tuple[Any, ...]:
        gx, *parts = pull[0](rows(g))
        pairs = zip(parts, (weight, bias), strict=False)
        return images(gx), *(None if p is None or a is None else xp.reshape(p, a.shape) for p, a in pairs)

    return found, back


@functools.lru_cache(maxsize=256)
def _given_plan(shape: tuple[int, ...], dtype: Any) -> tuple[Loop, Loop]:
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
