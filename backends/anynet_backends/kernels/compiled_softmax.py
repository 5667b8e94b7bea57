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
from anynet_backends.jit.ir_builder import LANES, Function, Loop, Value, compiled, number
from anynet_backends.kernel_table import register_in
from anynet_backends.kernels.compiled_normalization import sums_of_run
from anynet_backends.memory.layout import axes_in_memory, inverse
from anynet_backends.memory.outputs import dense

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

_Body = Callable[..., Value]


def _exp(f: Function, x: Value) -> Value:
    return f.assigned("float", f"call float @an_exp({x})")


def _log(f: Function, x: Value) -> Value:
    return f.assigned("float", f"call float @an_log({x})")


def _larger(f: Function, x: Value, top: Value) -> Value:
    """The larger; a NaN may be lost, since its own exponential is one."""
    more = f.op("fcmp ogt", x, top, gives="i1")
    return f.assigned("float", f"select {more}, {x}, {top}")


# name: arrays, numbers, the array that is written, and what an element of it becomes
_LOOPS: Final[dict[str, tuple[str, str, str, _Body]]] = {
    "first": ("x y", "", "y", lambda f, x, y: x),
    "larger": ("x top", "", "top", lambda f, x, top: _larger(f, x, top)),
    "clear": ("y", "", "y", lambda f, y: _ZERO),
    "add": ("x y", "", "y", lambda f, x, y: f.op("fadd", y, x)),
    "reciprocal": ("y", "", "y", lambda f, y: f.op("fdiv", _ONE, y)),
    "log": ("y", "", "y", lambda f, y: _log(f, y)),
    "exp": ("x top y", "", "y", lambda f, x, top, y: _exp(f, f.op("fsub", x, top))),
    "times": ("y r", "", "y", lambda f, y, r: f.op("fmul", y, r)),
    "shift": ("x top log y", "", "y", lambda f, x, top, log, y: f.op("fsub", f.op("fsub", x, top), log)),
    "add_exp": (
        "x top part", "", "part", lambda f, x, top, part: f.op("fadd", part, _exp(f, f.op("fsub", x, top))),
    ),
    "add_product": ("g y part", "", "part", lambda f, g, y, part: f.op("fadd", part, f.op("fmul", g, y))),
    "back": ("g y total gx", "", "gx", lambda f, g, y, total, gx: _back(f, g, y, total)),
    "log_back": ("g y total gx", "", "gx", lambda f, g, y, total, gx: _log_back(f, g, y, total)),
    "row_exp": ("x y", "top", "y", lambda f, x, y, top: _exp(f, f.op("fsub", x, top))),
    "row_times": ("y", "r", "y", lambda f, y, r: f.op("fmul", y, r)),
    "row_shift": ("x y", "top log", "y", lambda f, x, y, top, log: f.op("fsub", f.op("fsub", x, top), log)),
    "row_back": ("g y gx", "total", "gx", lambda f, g, y, gx, total: _back(f, g, y, total)),
    "row_log_back": ("g y gx", "total", "gx", lambda f, g, y, gx, total: _log_back(f, g, y, total)),
}  # fmt: skip


def _back(f: Function, g: Value, y: Value, total: Value) -> Value:
    return f.op("fmul", y, f.op("fsub", g, total))


def _log_back(f: Function, g: Value, y: Value, total: Value) -> Value:
    return f.op("fsub", g, f.op("fmul", _exp(f, y), total))


def _loop(name: str) -> Function:
    """(arrays …, numbers …, n): a loop of `_LOOPS`."""
    arrays, numbers, out, body = _LOOPS[name]
    params = [("ptr noalias", a) for a in arrays.split()] + [("float", a) for a in numbers.split()]
    f = Function(name, *params, ("i64", "n"))
    with f.loop(number(0), f.argument("n")) as i:
        loaded = [f.load("float", f.argument(a), i) for a in arrays.split()]
        f.store(body(f, *loaded, *map(f.argument, numbers.split())), f.argument(out), i)
    return f


class _Tiles:
    """A function over all tiles of `arrays` arrays; sizes: outer indices, n, columns, numbers from a row to the next."""

    def __init__(self, name: str, arrays: int) -> None:
        params = ("ptr", "args"), ("ptr", "dims"), ("ptr", "steps"), ("ptr", "data")
        self.f = f = Function(name, *params, gives="i64")
        self.arrays = [f.load("ptr", f.argument("args"), number(i)) for i in range(arrays)]
        self.outer, self.n, self.columns, self.distance = (
            f.load("i64", f.argument("dims"), number(i)) for i in range(4)
        )
        self.steps = [f.load("i64", f.argument("steps"), number(4 * i)) for i in range(arrays)]
        self.used: dict[str, Function] = {}
        row = Value(f"[{_WIDTH} x float]", "zeroinitializer")
        self.top, self.total, self.part = (f.variable(row) for _ in range(3))

    def call(self, name: str, *args: Value) -> None:
        """Call a loop of `_LOOPS`, or a function that is in use."""
        self.f.call(self.used.setdefault(name, _loop(name) if name in _LOOPS else _others()[name]), *args)

    def functions(self) -> tuple[Function, ...]:
        """What is called, and the function itself."""
        return *self.used.values(), self.f

    def begin(self, outer: Value, column: Value) -> tuple[list[Value], Value]:
        """The addresses of the arrays for a tile, and its width."""
        f = self.f
        places = [
            f.at(f.at(a, f.op("mul", outer, step)), column, "float")
            for a, step in zip(self.arrays, self.steps, strict=True)
        ]
        return places, f.smaller(f.op("sub", self.columns, column), number(_WIDTH))

    def row(self, places: list[Value], i: Value) -> list[Value]:
        """The addresses of a row of the tile."""
        return [self.f.at(p, self.f.op("mul", i, self.distance), "float") for p in places]

    def sums(self, places: list[Value], width: Value, add: Callable[[list[Value]], None]) -> None:
        """`total` of the rows, which `add` adds to `part`."""
        f = self.f
        self.call("clear", self.total, width)
        with f.loop(number(0), self.n, _ROWS) as start:
            self.call("clear", self.part, width)
            with f.loop(start, f.smaller(f.op("add", start, number(_ROWS)), self.n)) as i:
                add(self.row(places, i))
            self.call("add", self.part, self.total, width)

    def sum_of(self, name: str, *arrays: Value) -> Value:
        """The sum over a row."""
        f = self.f
        total = f.variable(Value("double", "0.0"))
        self.call(name, *arrays, self.n, _ZERO, total)
        return f.assigned("float", f"fptrunc {f.get(total, 'double')} to float")


def _forward(log: bool) -> tuple[Function, ...]:
    """(x, y)."""
    t = _Tiles("forward", 2)
    f, top, total = t.f, t.top, t.total
    with f.loop(number(0), t.outer) as outer, f.loop(number(0), t.columns, _WIDTH) as column:
        places, width = t.begin(outer, column)
        t.call("first", places[0], top, width)
        with f.loop(number(1), t.n) as i:
            t.call("larger", t.row(places, i)[0], top, width)

        def add(row: list[Value]) -> None:
            if log:
                t.call("add_exp", row[0], top, t.part, width)
            else:
                t.call("exp", row[0], top, row[1], width)
                t.call("add", row[1], t.part, width)

        t.sums(places, width, add)
        t.call("log" if log else "reciprocal", total, width)
        with f.loop(number(0), t.n) as i:
            x, y = t.row(places, i)
            if log:
                t.call("shift", x, top, total, y, width)
            else:
                t.call("times", y, total, width)
    return t.functions()


def _backward(log: bool) -> tuple[Function, ...]:
    """(g, y, gx): y (g − Σ g y), or for the logarithm g − eʸ Σ g."""
    t = _Tiles("backward", 3)
    f = t.f
    with f.loop(number(0), t.outer) as outer, f.loop(number(0), t.columns, _WIDTH) as column:
        places, width = t.begin(outer, column)
        if log:
            t.sums(places, width, lambda row: t.call("add", row[0], t.part, width))
        else:
            t.sums(places, width, lambda row: t.call("add_product", row[0], row[1], t.part, width))
        with f.loop(number(0), t.n) as i:
            g, y, gx = t.row(places, i)
            t.call("log_back" if log else "back", g, y, t.total, gx, width)
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

    with f.loop(number(LANES), f.op("sub", n, number(2 * LANES - 1)), 2 * LANES) as i:
        for k, top in enumerate(tops):
            compare(top, f.op("add", i, number(k * LANES)))
    for back in (2 * LANES, LANES):  # what is left, with some that have been
        compare(tops[0], f.op("sub", n, number(back)))
    place = f.variable(f.get(tops[0], vector))
    second = f.variable(f.get(tops[1], vector))
    best = f.variable(f.load("float", x))
    for some in (place, second):
        with f.loop(number(0), number(LANES)) as i:
            f.put(best, _larger(f, f.load("float", some, i), f.get(best, "float")))
    f.store(f.get(best, "float"), f.argument("out"))
    return f


@functools.cache
def _others() -> dict[str, Function]:
    total = sums_of_run("total", "float", 1, 1, lambda f, loaded, m: loaded)
    products = sums_of_run("products", "float", 2, 1, lambda f, loaded, m: [f.op("fmul", *loaded)])
    return {f.name: f for f in (_top(), total, products)}


def _row_forward(log: bool) -> tuple[Function, ...]:
    """(x, y)."""
    t = _Tiles("forward", 2)
    f, n = t.f, t.n
    with f.loop(number(0), t.outer) as outer:
        x, y = t.begin(outer, number(0))[0]
        t.call("top", x, n, t.part)
        top = f.load("float", t.part)
        t.call("row_exp", x, y, top, n)
        total = t.sum_of("total", y)
        if log:
            t.call("row_shift", x, y, top, _log(f, total), n)
        else:
            t.call("row_times", y, f.op("fdiv", _ONE, total), n)
    return t.functions()


def _row_backward(log: bool) -> tuple[Function, ...]:
    """(g, y, gx), as `_backward`."""
    t = _Tiles("backward", 3)
    f = t.f
    with f.loop(number(0), t.outer) as outer:
        g, y, gx = t.begin(outer, number(0))[0]
        total = t.sum_of("total", g) if log else t.sum_of("products", g, y)
        t.call("row_log_back" if log else "row_back", g, y, gx, total, t.n)
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
        self.forward = Loop(_address(log, False, inner == 1), sizes, [step] * 2, none, 2 * nbytes, makes)
        self.backward = Loop(_address(log, True, inner == 1), sizes, [step] * 3, none, 3 * nbytes, makes)


_plan = functools.lru_cache(maxsize=256)(_Plan)
after_fork(_plan.cache_clear)  # plans count on threads that a forked process does not have


def _along(xp: Backend, x: Array, axis: int, log: bool, need: Any) -> Any:
    axis %= x.ndim
    if x.dtype != np.float32 or not x.size or not availability.available() or not multiplies_and_adds():
        return NotImplemented
    order = axes_in_memory(x.strides)
    if x.flags.c_contiguous or not xp.permute_dims(x, order).flags.c_contiguous:
        x, order = dense(xp, x), tuple(range(x.ndim))
    at, back = order.index(axis), inverse(order)
    v = _in_order(xp, x, order)
    n, inner = v.shape[at], math.prod(v.shape[at + 1 :])
    if n < 2 or (n < _LEAST if inner == 1 else inner < _SHORTEST):
        return NotImplemented
    plan = _plan(v.shape, at, log)
    y = xp.call(plan.forward, v)
    if need is None:
        return _in_order(xp, y, back)

    def pull(g: Array) -> tuple[Array]:
        return (_in_order(xp, xp.call(plan.backward, dense(xp, _in_order(xp, g, order)), y), back),)

    return _in_order(xp, y, back), pull


def _in_order(xp: Backend, x: Array, order: tuple[int, ...]) -> Array:
    """x with its axes in an order; x itself where they are, since views are no results of compiled calls."""
    return x if order == tuple(range(x.ndim)) else xp.permute_dims(x, order)


@_kernel
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax."""
    return _along(xp, x, axis, False, need)


@_kernel
def log_softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Its logarithm."""
    return _along(xp, x, axis, True, need)
