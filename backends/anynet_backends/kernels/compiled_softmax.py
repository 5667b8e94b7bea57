"""Softmax and its logarithm as loops of machine code, along any axis.

In memory the array is (outer, n, inner), and the columns along n are independent. A tile of `_WIDTH` columns, or a row where inner
is 1, is read for its maxima, for its sums of exponentials and for the result while it stays in the cache; vectors hold
neighbouring numbers. Sums are added from parts of few numbers; their order does not depend on the processor or the number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.compiler import text_of
from anynet_backends.jit.elementary import multiplies_and_adds
from anynet_backends.jit.ir_builder import LANES, Function, Loop, LoopFunction, Value, compiled, elementwise
from anynet_backends.kernel_table import register_in
from anynet_backends.kernels.compiled_normalization import sums_of_run
from anynet_backends.memory.layout import inverse
from anynet_backends.memory.outputs import dense, in_memory_order, permuted

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported forms are left to the next kernel."""

_kernel = register_in(KERNELS, traceable=True)

_WIDTH: Final = 256
"""Columns of a tile."""
_ROWS: Final = 32
"""Numbers of a column whose sum is taken before it is added."""
_SHORTEST: Final = 8
"""Columns from which on they fill vectors."""
_PARTS: Final = 8
"""Parts that threads share where there is a single outer index."""
_LEAST: Final = 2 * LANES
"""Numbers of a row from which on they do."""
_ZERO: Final = Value("float", "0.0")
_ONE: Final = Value("float", "1.0")

# name: arrays, numbers, and what becomes of one of the arrays
_LOOPS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "first": ("x y", "", {"y": "x"}),
    "larger": (
        "x top",
        "",
        {"top": "x if x > top else top"},
    ),  # a NaN may be lost: its own exponential is one
    "clear": ("y", "", {"y": "0.0"}),
    "add": ("x y", "", {"y": "y + x"}),
    "reciprocal": ("y", "", {"y": "1.0 / y"}),
    "log": ("y", "", {"y": "log(y)"}),
    "exp": ("x top y", "", {"y": "exp(x - top)"}),
    "times": ("y r", "", {"y": "y * r"}),
    "shift": ("x top rest y", "", {"y": "x - top - rest"}),
    "add_exp": ("x top part", "", {"part": "part + exp(x - top)"}),
    "add_product": ("g y part", "", {"part": "part + g * y"}),
    "back": ("g y total gx", "", {"gx": "y * (g - total)"}),
    "log_back": ("g y total gx", "", {"gx": "g - exp(y) * total"}),
    "row_exp": ("x y", "top", {"y": "exp(x - top)"}),
    "row_times": ("y", "r", {"y": "y * r"}),
    "row_shift": ("x y", "top rest", {"y": "x - top - rest"}),
    "row_scaled": ("x y", "r", {"y": "x * r"}),
    "row_less": ("x y", "r a", {"y": "(x - a) * r"}),
    "row_back": ("g y gx", "total", {"gx": "y * (g - total)"}),
    "row_log_back": ("g y gx", "total", {"gx": "g - exp(y) * total"}),
}


def _function(name: str) -> Function:
    if name not in _LOOPS:
        return _others()[name]
    arrays, numbers, results = _LOOPS[name]
    return elementwise(name, "float", arrays, numbers, **results)


class _Tiles(LoopFunction):
    """A function over all tiles of `arrays` arrays; sizes: outer indices, n, columns, numbers from a row to the next."""

    def __init__(self, name: str, arrays: int) -> None:
        super().__init__(name, arrays, 4)
        self.outer, self.n, self.columns, self.distance = self.sizes
        self.steps = [self.step(i) for i in range(arrays)]
        self.used: dict[str, Function] = {}
        row = Value(f"[{_WIDTH} x float]", "zeroinitializer")
        self.top, self.totals, self.part = (self.variable(row) for _ in range(3))

    def run(self, name: str, *args: Value) -> None:
        """Call a loop of `_LOOPS`, or a function that is in use."""
        self.call(self.used.setdefault(name, _function(name)), *args)

    def functions(self) -> tuple[Function, ...]:
        """What is called, and the function itself."""
        return *self.used.values(), self

    def begin(self, outer: Value, column: Value | int) -> tuple[list[Value], Value]:
        """The addresses of the arrays for a tile, and its width."""
        places = [
            self.at(self.at(a, self.op("mul", outer, step)), column, "float")
            for a, step in zip(self.arrays, self.steps, strict=True)
        ]
        return places, self.smaller(self.op("sub", self.columns, column), _WIDTH)

    def row(self, places: list[Value], i: Value) -> list[Value]:
        """The addresses of a row of the tile."""
        return [self.at(p, self.op("mul", i, self.distance), "float") for p in places]

    def sums(self, places: list[Value], width: Value, add: Callable[[list[Value]], None]) -> None:
        """`totals` of the rows, which `add` adds to `part`."""
        self.run("clear", self.totals, width)
        with self.loop(0, self.n, _ROWS) as start:
            self.run("clear", self.part, width)
            with self.loop(start, self.smaller(self.op("add", start, _ROWS), self.n)) as i:
                add(self.row(places, i))
            self.run("add", self.part, self.totals, width)

    def sum_of(self, name: str, *arrays: Value, m: Value = _ZERO) -> Value:
        """The sum over a row."""
        total = self.variable(Value("double", "0.0"))
        self.put(total, Value("double", "0.0"))
        self.run(name, *arrays, self.n, m, total)
        return self.assigned("float", f"fptrunc {self.get(total, 'double')} to float")


def _forward(log: bool) -> tuple[Function, ...]:
    """(x, y)."""
    t = _Tiles("forward", 2)
    top, total = t.top, t.totals
    with t.loop(0, t.outer) as outer, t.loop(0, t.columns, _WIDTH) as column:
        places, width = t.begin(outer, column)
        t.run("first", places[0], top, width)
        with t.loop(1, t.n) as i:
            t.run("larger", t.row(places, i)[0], top, width)

        def add(row: list[Value]) -> None:
            if log:
                t.run("add_exp", row[0], top, t.part, width)
            else:
                t.run("exp", row[0], top, row[1], width)
                t.run("add", row[1], t.part, width)

        t.sums(places, width, add)
        t.run("log" if log else "reciprocal", total, width)
        with t.loop(0, t.n) as i:
            x, y = t.row(places, i)
            if log:
                t.run("shift", x, top, total, y, width)
            else:
                t.run("times", y, total, width)
    return t.functions()


def _backward(log: bool) -> tuple[Function, ...]:
    """(g, y, gx): y (g − Σ g y), or for the logarithm g − eʸ Σ g."""
    t = _Tiles("backward", 3)
    with t.loop(0, t.outer) as outer, t.loop(0, t.columns, _WIDTH) as column:
        places, width = t.begin(outer, column)
        if log:
            t.sums(places, width, lambda row: t.run("add", row[0], t.part, width))
        else:
            t.sums(places, width, lambda row: t.run("add_product", row[0], row[1], t.part, width))
        with t.loop(0, t.n) as i:
            g, y, gx = t.row(places, i)
            t.run("log_back" if log else "back", g, y, t.totals, gx, width)
    return t.functions()


# ----- rows -----


def _top() -> Function:
    """(x, n, out): the largest of n numbers, at least `LANES` of them."""
    f = Function("top", ("ptr noalias", "x"), ("i64", "n"), ("ptr noalias", "out"))
    x, n = f.argument("x"), f.argument("n")
    vector = f"<{LANES} x float>"
    tops = [f.variable(f.load(vector, x)) for _ in range(2)]

    def compare(top: Value, i: Value) -> None:
        a, b = f.load(vector, x, i), f.get(top, vector)
        more = f.op("fcmp ogt", a, b, gives=f"<{LANES} x i1>")
        f.put(top, f.assigned(vector, f"select {more}, {a}, {b}"))

    with f.loop(LANES, f.op("sub", n, 2 * LANES - 1), 2 * LANES) as i:
        for k, top in enumerate(tops):
            compare(top, f.op("add", i, k * LANES))
    for back in (2 * LANES, LANES):  # what is left, with some that have been
        compare(tops[0], f.op("sub", n, back))
    place = f.variable(f.get(tops[0], vector))
    second = f.variable(f.get(tops[1], vector))
    best = f.variable(f.load("float", x))
    for some in (place, second):
        with f.loop(0, LANES) as i:
            values = {"a": f.load("float", some, i), "b": f.get(best, "float")}
            f.put(best, f.formula("a if a > b else b", "float", **values))
    f.store(f.get(best, "float"), f.argument("out"))
    return f


@functools.cache
def _others() -> dict[str, Function]:
    total = sums_of_run("total", "float", "x", "x")
    products = sums_of_run("products", "float", "g y", "g * y")
    shifted = sums_of_run("shifted", "float", "x", "x - m")
    return {f.name: f for f in (_top(), _short_top(), total, products, shifted)}


def _short_top() -> Function:
    """(x, n, out): the largest of n numbers, of which there may be few."""
    f = Function("short_top", ("ptr noalias", "x"), ("i64", "n"), ("ptr noalias", "out"))
    best = f.variable(f.load("float", f.argument("x")))
    with f.loop(1, f.argument("n")) as i:
        values = {"a": f.load("float", f.argument("x"), i), "b": f.get(best, "float")}
        f.put(best, f.formula("a if a > b else b", "float", **values))
    f.store(f.get(best, "float"), f.argument("out"))
    return f


def _row_forward(log: bool) -> tuple[Function, ...]:
    """(x, y)."""
    t = _Tiles("forward", 2)
    n = t.n
    with t.loop(0, t.outer) as outer:
        x, y = t.begin(outer, 0)[0]
        t.run("top", x, n, t.part)
        top = t.load("float", t.part)
        t.run("row_exp", x, y, top, n)
        total = t.sum_of("total", y)
        if log:
            t.run("row_shift", x, y, top, t.formula("log(x)", "float", x=total), n)
        else:
            t.run("row_times", y, t.op("fdiv", _ONE, total), n)
    return t.functions()


def _row_backward(log: bool) -> tuple[Function, ...]:
    """(g, y, gx), as `_backward`."""
    t = _Tiles("backward", 3)
    with t.loop(0, t.outer) as outer:
        g, y, gx = t.begin(outer, 0)[0]
        total = t.sum_of("total", g) if log else t.sum_of("products", g, y)
        t.run("row_log_back" if log else "row_back", g, y, gx, total, t.n)
    return t.functions()


@functools.cache
def _address(log: bool, back: bool, rows: bool) -> int:
    make = (_row_backward if back else _row_forward) if rows else (_backward if back else _forward)
    functions = make(log)
    return compiled(functions, functions[-1].name, text_of("elementary.ll"))


class _Plan:
    """The calls for arrays (outer, n, inner)."""

    def __init__(self, shape: tuple[int, ...], at: int, log: bool) -> None:
        outer, n, inner = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])
        parts = 1
        if outer == 1:
            parts = next((p for p in range(_PARTS, 1, -1) if inner % (LANES * p) == 0), 1)
        columns = inner // parts
        sizes = (outer * parts, n, columns, inner)
        step = (4 * (columns if outer == 1 else n * inner),)
        makes, none = ((shape, np.float32),), np.zeros(1)
        nbytes = 4 * math.prod(shape)
        # an exponential is the work of six numbers that are moved
        forward, backward = 8 * nbytes, (9 if log else 3) * nbytes
        self.forward = Loop(_address(log, False, inner == 1), sizes, [step] * 2, none, forward, makes)
        self.backward = Loop(_address(log, True, inner == 1), sizes, [step] * 3, none, backward, makes)


_plan = functools.lru_cache(maxsize=256)(_Plan)
after_fork(_plan.cache_clear)  # plans count on threads that a forked process does not have


def _along(xp: Backend, x: Array, axis: int, log: bool, need: Any) -> Any:
    axis %= x.ndim
    if x.dtype != np.float32 or not x.size or not availability.available() or not multiplies_and_adds():
        return NotImplemented
    v, order = in_memory_order(xp, x)
    at, back = order.index(axis), inverse(order)
    n, inner = v.shape[at], math.prod(v.shape[at + 1 :])
    if n < 2 or (n < _LEAST if inner == 1 else inner < _SHORTEST):
        return NotImplemented
    plan = _plan(v.shape, at, log)
    y = xp.call(plan.forward, v)
    if need is None:
        return permuted(xp, y, back)

    def pull(g: Array) -> tuple[Array]:
        return (permuted(xp, xp.call(plan.backward, dense(xp, permuted(xp, g, order)), y), back),)

    return permuted(xp, y, back), pull


@_kernel
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax."""
    return _along(xp, x, axis, False, need)


@_kernel
def log_softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Its logarithm."""
    return _along(xp, x, axis, True, need)


# ----- the cross-entropy of rows -----


def _losses(short: bool, smoothing: bool) -> tuple[Function, ...]:
    """(x, index, p, loss): the softmax of each row, and ln Σ exp(x) − x[index]; with `smoothing` b of that and a of Σ (ln Σ exp(x) − x). 0
    where the index is negative. data: a, b, and how many numbers a row has."""
    t = _Tiles("losses", 4)
    share, rest, count = (t.load("float", t.data, i) for i in range(3))
    with t.loop(0, t.outer) as outer:
        x, index, p, loss = t.begin(outer, 0)[0]
        t.run("short_top" if short else "top", x, t.n, t.part)
        top = t.load("float", t.part)
        t.run("row_exp", x, p, top, t.n)
        total = t.sum_of("total", p)
        t.run("row_times", p, t.op("fdiv", _ONE, total), t.n)
        logarithm = t.formula("log(x)", "float", x=total)
        place = t.load("i64", index)
        ignored = t.op("icmp slt", place, 0, gives="i1")
        safe = t.assigned("i64", f"select {ignored}, i64 0, {place}")
        found = t.formula("s - (x - m)", "float", s=logarithm, x=t.load("float", x, safe), m=top)
        if smoothing:
            values = {
                "s": logarithm,
                "z": t.sum_of("shifted", x, m=top),
                "l": found,
                "a": share,
                "b": rest,
                "n": count,
            }
            found = t.formula("b * l + a * (s * n - z)", "float", **values)
        t.store(t.assigned("float", f"select {ignored}, {_ZERO}, {found}"), loss)
    return t.functions()


def _slopes(smoothing: bool) -> tuple[Function, ...]:
    """(p, index, g, gx): g (p − one-hot), with `smoothing` g (p − a − b one-hot); 0 where the index is negative."""
    t = _Tiles("slopes", 4)
    share, rest = (t.load("float", t.data, i) for i in range(2))
    with t.loop(0, t.outer) as outer:
        p, index, g, gx = t.begin(outer, 0)[0]
        place, own = t.load("i64", index), t.load("float", g)
        ignored = t.op("icmp slt", place, 0, gives="i1")
        live = t.assigned("i64", f"select {ignored}, i64 0, {t.n}")
        if smoothing:
            t.run("row_less", p, gx, own, share, live)
            own = t.op("fmul", own, rest)
        else:
            t.run("row_scaled", p, gx, own, live)
        t.run("clear", t.at(gx, live, "float"), t.op("sub", t.n, live))
        safe = t.assigned("i64", f"select {ignored}, i64 0, {place}")
        there = t.at(gx, safe, "float")
        before = t.load("float", there)
        t.store(t.assigned("float", f"select {ignored}, {before}, {t.op('fsub', before, own)}"), there)
    return t.functions()


@functools.cache
def _losses_address(back: bool, short: bool, smoothing: bool) -> int:
    functions = _slopes(smoothing) if back else _losses(short, smoothing)
    return compiled(functions, functions[-1].name, text_of("elementary.ll"))


class _LossPlan:
    """The calls for so many rows of n numbers."""

    def __init__(self, rows: int, n: int, smoothing: float) -> None:
        smooth = smoothing != 0.0
        sizes, wide = (rows, n, 1, n), (4 * n,)
        data = np.array((smoothing / n, 1 - smoothing, n), np.float32)
        whole = ((rows, n), np.float32)
        forward = _losses_address(False, n < _LEAST, smooth)
        self.forward = Loop(
            forward, sizes, (wide, (8,), wide, (4,)), data, 8 * rows * n, (whole, ((rows,), np.float32))
        )
        back = _losses_address(True, False, smooth)
        self.backward = Loop(back, sizes, (wide, (8,), (4,), wide), data, 8 * rows * n, (whole,))


_loss_plan = functools.lru_cache(maxsize=256)(_LossPlan)
after_fork(_loss_plan.cache_clear)


@_kernel
def cross_entropy_rows(
    xp: Backend, x: Array, index: Array, weight: Array = None, /, *, smoothing: float = 0.0, need: Any
) -> Any:
    """The losses with the softmax, of which the gradient is made without another exponential."""
    if (
        x.dtype != np.float32 or index.dtype != np.int64 or not x.size or (weight is not None and smoothing)
        or not availability.available() or not multiplies_and_adds()
    ):  # fmt: skip
        return NotImplemented
    plan = _loss_plan(*x.shape, float(smoothing))
    index = dense(xp, index)
    p, loss = xp.call(plan.forward, dense(xp, x), index)
    weights = None
    if weight is not None:
        ignored = index < 0
        weights = xp.where(ignored, 0.0, xp.take(weight, xp.where(ignored, 0, index), axis=0))
        loss = loss * weights
    if need is None:
        return loss

    def pull(g: Array) -> tuple[Any, ...]:
        g = g if weights is None else g * weights
        return (xp.call(plan.backward, p, index, dense(xp, g)),) + (None,) * (len(need) - 1)

    return loss, pull
