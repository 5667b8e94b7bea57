"""Parts of a program as machine code: what the extra `numba` brings to compiled steps.

A planned program (`anynet_backends.jit.program.Program`) is a list of NumPy calls on arrays that stay where they are. Here
its longest runs of simple calls become *segments*: tables of machine functions with their arguments, worked off by one
call, without the interpreter.

- Functions of NumPy's own are called through the inner loops that their ufuncs hold (the public struct
  `PyUFuncObject`): the same code on the same memory, so the same bits. `matmul` is one of them.
- Neighbouring element-wise calls over one shape become a *chain*: one loop, compiled by LLVM (`anynet_backends.jit.compiler`),
  that reads each input once and stores only what is read afterwards. Sums, products, quotients and roots are rounded as
  by IEEE 754, none is contracted or reordered, so a chain too gives NumPy's bits.
- What remains (kernels, optimizers' Python, unusual indexing) is called as before, between segments.

``ANYNET_NUMBA=off`` leaves all this alone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import after_fork, fork_safe_lock, has_gil, immortal, once
from anynet_backends.config import NUMBA
from anynet_backends.jit.compiler import MOST_AXES, MOST_OPERANDS, compiler
from anynet_backends.jit.loop_ir import CASTS, LETTERS, RULES, SIZE, FusedLoop, LoopOp
from anynet_backends.memory.reductions import PLAIN_FLOATS, ones_vector, sum_by_dot

__all__ = [
    "SMALL", "Call", "Method", "Record", "Row", "Segment", "add_rows", "address", "at_once", "available", "choose",
    "fused", "gather", "installed", "method", "moves", "problem", "quick_address", "repeat", "scatter", "set_where",
    "summary", "touched", "translate", "within",
]  # fmt: skip


def installed() -> bool:
    """Whether the extra `numba` is installed, fits, and is not switched off. (Cheap: LLVM is not loaded for it.)"""
    return NUMBA() and not _unfit()


def available() -> bool:
    """Whether there is machine code: as `installed`, and LLVM works."""
    return NUMBA() and not _failed()


def problem() -> str:
    """Why there is no machine code, or ""."""
    return _failed() if NUMBA() else "switched off (ANYNET_NUMBA)"


@once
def _unfit() -> str:
    if not has_gil():
        return (
            "this Python is free-threaded (it has no global interpreter lock), which machine code counts on"
        )
    if importlib.util.find_spec("llvmlite") is None:
        return "not installed: pip install 'anynet-nn[numba]'"
    if sys.byteorder != "little" or not _loops_fit():
        return "objects of this Python and NumPy do not lie in memory as is expected"
    return ""


@once
def _failed() -> str:
    if _unfit():
        return _unfit()
    try:
        compiler()
    except Exception as error:  # noqa: BLE001 - a library that does not load, or is another version
        return f"LLVM does not work here: {type(error).__name__}: {error}"
    return ""


# ----- NumPy's inner loops -----


class _UFunc(ctypes.Structure):
    """The head of `PyUFuncObject` (numpy/ufuncobject.h), unchanged since NumPy 1.0."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
    )


_Function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


@functools.cache
def _loop(ufunc: np.ufunc, types: str) -> tuple[int, int] | None:
    """(address of the inner loop, its data) of a ufunc for types such as "ff->f"; None where it has no such loop."""
    head = _UFunc.from_address(id(ufunc))
    if types not in ufunc.types:
        return None
    i = ufunc.types.index(types)
    address = head.functions[i]
    return None if address is None else (address, head.data[i] or 0)


def _loops_fit() -> bool:
    """Whether the struct is where it is expected: asked of its plain numbers, and of one loop."""
    if sys.implementation.name != "cpython" or hasattr(sys, "getobjects"):
        return False
    for ufunc in (np.add, np.matmul, np.tanh):
        head = _UFunc.from_address(id(ufunc))
        if (head.nin, head.nout, head.nargs, head.ntypes) != (
            ufunc.nin,
            ufunc.nout,
            ufunc.nargs,
            ufunc.ntypes,
        ):
            return False
        if head.name != ufunc.__name__.encode():
            return False
    found = _loop(np.add, "dd->d")
    if found is None:
        return False
    a, b, out = np.arange(3.0), np.ones(3), np.zeros(3)
    record = Record((a, b, out), (3,), (8, 8, 8))
    _Function(found[0])(*record.addresses, found[1])
    return bool((out == a + b).all())


class Record:
    """The arguments of a loop in memory: addresses of arrays, dimensions, strides in bytes."""

    __slots__ = ("addresses", "held")

    def __init__(self, arrays: Sequence[Array], dims: Sequence[int], steps: Sequence[int]) -> None:
        places = np.array([address(a) for a in arrays], np.int64)
        sizes, strides = np.array(dims, np.int64), np.array(steps, np.int64)
        self.held = (places, sizes, strides, tuple(arrays))
        self.addresses = address(places), address(sizes), address(strides)


def address(a: Array) -> int:
    """Where the numbers of an array lie."""
    return int(a.__array_interface__["data"][0])


def quick_address() -> Callable[[Array], int]:
    """The fastest `address` that there is."""
    _direct()
    return address


def _faster_address() -> None:
    """From now on `address` is a built-in function that reads the array's struct, if it gives the same: it takes a tenth
    of the time, and every call of machine code needs several addresses."""
    global address
    with_one_argument = 0x8
    definition = Method(b"address", compiler().fixed["place"], with_one_argument, None)
    built = method(ctypes.addressof(immortal(definition)), None)
    sample = np.arange(6.0)[1::2]
    if built(sample) == address(sample):
        address = built


# ----- calls that a segment knows, beside NumPy's own -----


def choose(condition: Array, a: Any, b: Any, out: Array) -> None:
    """``out = where(condition, a, b)``."""
    np.copyto(out, b, "unsafe")
    np.copyto(out, a, "unsafe", where=condition)


def gather(x: Array, i: Array, j: Array, out: Array) -> None:
    """``out = x[i, j]``."""
    out[...] = x[i, j]


def scatter(x: Array, i: Array, j: Array, value: Any) -> None:
    """``x[i, j] = value``."""
    x[i, j] = value


def within(x: Array, length: int, refuse: Callable[[Array], None]) -> None:
    """``refuse(x)``, which need not be asked where all of x lies from 0 to length − 1."""
    refuse(x)


def set_where(x: Array, mask: Array, value: Any) -> None:
    """``x[mask] = value`` for one number."""
    np.copyto(x, value, "unsafe", where=mask)


def add_rows(y: Array, index: Array, values: Array) -> bool:
    """``numpy.add.at(y, index, values)`` for the rows of y; False, with y as it was, where that is left to NumPy."""
    if y.dtype not in PLAIN_FLOATS or values.dtype != y.dtype or index.dtype != np.int64 or index.ndim != 1:
        return False
    if (
        not all(a.flags.c_contiguous and a.flags.aligned for a in (y, index, values))
        or not index.size
        or not y.size
    ):
        return False
    if values.shape != (len(index), *y.shape[1:]) or index.min() < 0 or index.max() >= len(y):
        return False
    function = compiler().fixed[f"add_rows_{LETTERS[y.dtype]}"]
    Segment([Row(function, Record((y, index, values), (len(index), y.size // len(y)), ()))])()
    return True


class Call(NamedTuple):
    """A call of a program: ``f(*args)``, and the arrays whose memory it reads and writes."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    reads: tuple[Array, ...]
    writes: tuple[Array, ...]


def _output(f: Any) -> int:
    """Which argument of a call is written."""
    if f in (np.copyto, set_where, scatter):
        return 0
    return 3 if f is sum_by_dot or getattr(f, "__name__", "") == "reduce" else -1


def fused(calls: Sequence[tuple[Callable[..., Any], Sequence[Any]]], kept: Sequence[Array]) -> list[Segment]:
    """Calls (function, arguments …, output) as segments, or an empty list where one of them is no machine function."""
    known = [
        Call(f, tuple(args), tuple(a for a in args if isinstance(a, np.ndarray)), (args[_output(f)],))
        for f, args in calls
    ]
    code = translate(known, kept)
    segments = [f for f, _ in code if isinstance(f, Segment) and not any(row.again for row in f.rows)]
    return segments if len(segments) == len(code) else []


SMALL: Final = 1 << 20
"""Segments that touch fewer bytes run without giving up the interpreter's lock."""

SHARED: Final = 1 << 21
"""Loops over so many bytes and more are worth all threads."""
_PARTS: Final = 64


class Method(ctypes.Structure):
    """`PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@once
def _direct() -> Method:
    """The definition of the function that works a table off."""
    _faster_address()
    without_arguments = 0x4
    return Method(b"segment", compiler().fixed["direct"], without_arguments, None)


def method(definition: int, owner: Any, held: Any = None) -> Callable[..., Any]:
    """A built-in function from the address of its definition, which lives forever, with its `self` and what else lives as
    long as it: to call one takes a tenth of the time of a call through ctypes."""
    made: Callable[..., Any] = _new_function()(
        definition, owner, held
    )  # `held` is in the place of the name of a module
    return made


@functools.cache
def _new_function() -> Callable[..., Any]:
    form = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    return form(("PyCFunction_NewEx", ctypes.pythonapi))


def touched(rows: Sequence[Row]) -> int:
    """The bytes of all arrays of some rows."""
    return sum(a.nbytes for row in rows for a in row.arrays)


class Segment:
    """A table of machine functions; a row that refuses its arguments is left to NumPy, which raises or does it.

    `run` does what a call does, and holds what it takes."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.count = len(rows)
        self.table = np.array([row.cells for row in rows], np.int64)
        self.place = address(self.table)
        self.work = compiler().work
        # whether other threads run between its beginning and its end
        self.waits = any(row.again for row in rows) or touched(rows) >= SMALL
        self.run: Callable[[], Any] = (
            self
            if self.waits
            else method(
                ctypes.addressof(_direct()), struct.pack("<qq", self.place, self.count), (self.table, rows)
            )
        )

    def __call__(self) -> None:
        at = self.work(self.place, 0, self.count)
        while at < self.count:
            f, args = self.rows[at].again
            f(*args)
            at = self.work(self.place, at + 1, self.count)


def summary(code: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> str:
    """What of a program is machine code, in words."""
    segments = [f for f, _ in code if isinstance(f, Segment)]
    if not segments:
        return ""
    rows = sum(s.count for s in segments)
    return (
        f" ({rows} functions of machine code in {len(segments)} segments, {len(code) - len(segments)} calls)"
    )


class Row:
    """A machine function with its arguments; `again`: the NumPy call that it stands for, if it may refuse."""

    __slots__ = ("again", "arrays", "cells", "held")

    def __init__(
        self, function: int, record: Record, data: int = 0, again: Any = None, held: Any = None
    ) -> None:
        self.cells = (function, *record.addresses, data, int(again is not None))
        self.again = again
        self.held = (record.held, held)
        self.arrays: tuple[Array, ...] = record.held[-1]


def _origins(places: Array, roots: Sequence[Array]) -> list[tuple[int, int]]:
    """For each address the root in which it lies and how far from its beginning; or (how many roots there are, it)."""
    bounds = [_bounds(a) for a in roots]
    starts = [*(address(a) for a in roots), 0]
    which = [
        next((i for i, (lo, hi) in enumerate(bounds) if lo <= place < hi), len(roots)) for place in places
    ]
    return [(root, int(place) - starts[root]) for root, place in zip(which, places, strict=True)]


def moves(row: Row, roots: Sequence[Array]) -> tuple[list[int], list[Any]]:
    """Which cells of a row's arguments lie in roots, as (address of the cell, root, distance from its beginning) …, and
    what must live as long as the row is used, without the roots."""
    places, dims, steps, arrays = row.held[0]
    found: list[int] = []
    held: list[Any] = [places, dims, steps, row.held[1]]
    for i, (root, offset) in enumerate(_origins(places, roots)):
        if root < len(roots):
            found += [address(places) + 8 * i, root, offset]
        else:
            held.append(arrays[i])
    return found, held


class Template:
    """A segment for arrays that lie elsewhere each time: made from calls on `roots`, worked off on arrays of the same
    shapes, strides and types, as often as there are rows of addresses."""

    def __init__(self, rows: list[Row], roots: Sequence[Array]) -> None:
        which: list[int] = []
        offsets: list[int] = []
        self.firsts: list[int] = []
        self.held: list[
            Any
        ] = []  # dimensions, strides and arrays that are no roots; the roots themselves are let go
        for row in rows:
            self.firsts.append(len(which))
            places, dims, steps, arrays = row.held[0]
            self.held.append((dims, steps, row.held[1]))
            for (root, offset), array in zip(_origins(places, roots), arrays, strict=True):
                which.append(root)
                offsets.append(offset)
                if root == len(roots):
                    self.held.append(array)
        self.which, self.offsets = np.array(which), np.array(offsets, np.int64)
        self.cells = np.array([row.cells for row in rows], np.int64)
        stateful = compiler().fixed[
            "onednn"
        ]  # whose memory objects are these rows' own, for one run at a time
        self.lock = fork_safe_lock() if any(row.cells[0] == stateful for row in rows) else None

    def bind(self, bases: Array, bounds: Sequence[int] = (), kept: Any = None) -> Callable[[], None]:
        """What runs all repetitions. `bases`: the addresses of the roots' places, a row for each repetition. `bounds`:
        where the parts begin, and the last ends, that run at the same time. `kept` lives as long as the result."""
        times = len(bases)
        full = np.zeros((times, bases.shape[1] + 1), np.int64)
        full[:, :-1] = bases
        places = np.take(full, self.which, axis=1)
        places += self.offsets
        table = np.empty((times, *self.cells.shape), np.int64)
        table[...] = self.cells
        first = np.array(self.firsts, np.int64) * 8 + address(places)
        np.add(first, np.arange(times, dtype=np.int64)[:, None] * (places.shape[1] * 8), out=table[:, :, 1])
        work, at, count, lock = compiler().work, address(table), times * len(self.cells), self.lock
        team = onednn.team() if len(bounds) > 2 else None
        if team is None:

            def run(*held: Any) -> None:
                if lock is None:
                    work(at, 0, count)
                else:
                    with lock:
                        work(at, 0, count)

            return functools.partial(run, self, table, places, kept)  # which must not be let go
        edges = np.array(bounds, np.int64) * len(self.cells)
        cells = np.array((at, address(edges), len(bounds) - 1, *team), np.int64)
        parts, all_of_it = compiler().parts, address(cells)

        def run_parts(*held: Any) -> None:
            parts(all_of_it)

        return functools.partial(run_parts, self, table, places, edges, cells, kept)


_templates: OrderedDict[Any, Template | None] = OrderedDict()
_translating = fork_safe_lock()
_TEMPLATES: Final = 128
after_fork(_templates.clear)  # some hold calls that count on threads


def repeat(
    body: Callable[..., None],
    places: Callable[[int], tuple[Array, ...]],
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...] = (),
    *,
    apart: bool = False,
) -> None:
    """``body(call, *places(t), *held, *scratch)`` for each t in order, where `call` makes the NumPy call that it is
    given. `held` is the same at each t and carries values on, unless the times are `apart`: then they may run at once.
    `scratch` is for temporaries, with undefined contents.

    The places of successive t have equal shapes and, but for the first and the last, equal distances. Where places
    overlap, they do so in one way for each `body` and each set of forms. With the extra,
    the calls are translated once for these shapes, and the whole repetition is one call of machine code."""
    template = _template(body, places, order, held, scratch) if len(order) > 2 and available() else None
    if template is None:
        for t in order:
            body(at_once, *places(t), *held, *scratch)
        return
    _bound(template, places, order, held, scratch, apart)()


def repetition(
    body: Callable[..., None],
    places: Callable[[int], tuple[Array, ...]],
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...] = (),
    *,
    apart: bool = False,
) -> Callable[[], None] | None:
    """What `repeat` would run, of three times or more, for as long as `held` and the arrays of the places live; None where
    it is no machine code."""
    template = _translated(body, places(order[1]), held, scratch)
    return None if template is None else _bound(template, places, order, held, scratch, apart)


def _bound(
    template: Template,
    places: Callable[[int], tuple[Array, ...]],
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
    apart: bool,
) -> Callable[[], None]:
    """What runs all repetitions; in parts, each with scratch memory of its own, where they are `apart` and large."""
    size = sum(a.nbytes for a in places(order[1])) * len(order) if apart else 0
    parts = min(onednn.threads(), len(order) // 3) if size >= SHARED and template.lock is None else 1
    if parts < 2:
        return template.bind(_bases(places, order, (*held, *scratch)), kept=scratch)
    bounds = [len(order) * i // parts for i in range(parts + 1)]
    rooms = [scratch, *(tuple([np.empty_like(a) for a in scratch]) for _ in range(parts - 1))]
    bases = [
        _bases(places, order[i:j], (*held, *room))
        for i, j, room in zip(bounds[:-1], bounds[1:], rooms, strict=True)
    ]
    return template.bind(np.concatenate(bases), bounds, rooms)


def _bases(
    places: Callable[[int], tuple[Array, ...]], order: Sequence[int], same: tuple[Array, ...]
) -> Array:
    """The addresses of the places, and of what is the same, for each t in order."""
    one, two, three, last = (
        np.array([address(a) for a in places(t)], np.int64) for t in (*order[:3], order[-1])
    )
    bases = np.empty((len(order), len(one) + len(same)), np.int64)
    bases[:, : len(one)] = two + np.arange(-1, len(order) - 1, dtype=np.int64)[:, None] * (three - two)
    bases[0, : len(one)], bases[-1, : len(one)] = one, last
    bases[:, len(one) :] = [address(a) for a in same]
    return bases


def _template(
    body: Callable[..., None],
    places: Any,
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
) -> Template | None:
    first, second, last = (places(t) for t in (order[0], order[1], order[-1]))
    if any(len({(a.shape, a.strides) for a in same}) > 1 for same in zip(first, second, last, strict=True)):
        return None
    roots = (*second, *held, *scratch)
    key = (body, tuple([(a.shape, a.strides, a.dtype.char, a.flags.aligned) for a in roots]))
    with _translating:
        if key not in _templates:
            _templates[key] = _translated(body, second, held, scratch)
            if len(_templates) > _TEMPLATES:
                _templates.popitem(last=False)
        return _templates[key]


def _translated(
    body: Callable[..., None], places: tuple[Array, ...], held: tuple[Array, ...], scratch: tuple[Array, ...]
) -> Template | None:
    calls: list[Any] = []
    roots = (*places, *held, *scratch)
    body(lambda f, *args: calls.append((f, args)), *roots)
    segments = fused(calls, (*places, *held))
    return Template([row for s in segments for row in s.rows], roots) if segments else None


def at_once(f: Callable[..., Any], *args: Any) -> None:
    """Make a call: what a body of `repeat` is given where it is not translated."""
    if f is np.maximum or f is np.minimum:  # the only ones that NumPy wants to be given their output by name
        a, b, out = args
        f(a, b, out=out)
    else:
        f(*args)


class _Element(NamedTuple):
    """An element-wise call: function, the type it works in, inputs, output."""

    name: str
    letter: str
    inputs: tuple[Array, ...]
    out: Array
    ufunc: np.ufunc | None


_MOST_OPS = 32


def translate(
    calls: Sequence[Call], kept: Sequence[Array]
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The calls with their runs of simple ones as segments. `kept`: arrays that are read after the program, or that
    its Python calls may read."""
    return _Weaver(calls, kept).code()


class _Weaver:
    def __init__(self, calls: Sequence[Call], kept: Sequence[Array]) -> None:
        self.calls = calls
        self.kept = [_bounds(a) for a in kept if a.size]
        self.reads = [[_bounds(a) for a in call.reads if a.size] for call in calls]
        self.steps = [_step(call) for call in calls]
        self.scratch = np.empty(max((step[0].room for step in self.steps if step), default=0), np.uint8)
        self.done: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.rows: list[Row] = []
        self.pending: list[_Element] = []
        self.waiting: list[Call] = []  # what the pending elements stand for
        self.last = -1  # the call that the last pending one stands for

    def code(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        for at, call in enumerate(self.calls):
            element = _element(call)
            if element is not None:
                if not element.out.size:
                    continue
                if self.pending and not self._joins(element):
                    self._flush()
                self.pending.append(element)
                self.waiting.append(call)
                self.last = at
                continue
            rows = _rows(call, self.steps[at], self.scratch)
            self._flush()
            if rows is None:
                self._close()
                self.done.append((call.f, call.args))
            else:
                self.rows += rows
        self._flush()
        self._close()
        return self.done

    def _close(self) -> None:
        if self.rows:
            self.done.append((Segment(self.rows), ()))
            self.rows = []

    # ----- chains -----

    def _joins(self, new: _Element) -> bool:
        """Whether one loop may do the pending elements and this one, element by element: memory that one writes and
        another touches must be the same element of the same array."""
        if new.ufunc is not None or self.pending[-1].ufunc is not None:
            return False
        if new.out.shape != self.pending[0].out.shape or len(self.pending) >= _MOST_OPS:
            return False
        arrays = {_identity(a) for e in (*self.pending, new) for a in (*e.inputs, e.out)}
        if len(arrays) > MOST_OPERANDS:
            return False
        for e in self.pending:
            if any(_clash(e.out, a) for a in (*new.inputs, new.out)) or any(
                _clash(new.out, a) for a in e.inputs
            ):
                return False
        return True

    def _flush(self) -> None:
        pending, self.pending = self.pending, []
        waiting, self.waiting = self.waiting, []
        if not pending:
            return
        found = _own_loop(pending[0]) if len(pending) == 1 else None
        if found is None and pending[0].ufunc is None:
            found = _chain(pending, self._wanted)
        if found is not None:
            self.rows += found
            return
        self._close()
        self.done += [(call.f, call.args) for call in waiting]

    def _wanted(self, a: Array) -> bool:
        """Whether what a chain has written is read afterwards."""
        low, high = _bounds(a)
        whole = high - low == a.size * a.itemsize
        for at in range(self.last + 1, len(self.calls)):
            if any(lo < high and low < hi for lo, hi in self.reads[at]):
                return True
            if whole and any(
                _bounds(w) == (low, high) and w.nbytes == high - low for w in self.calls[at].writes if w.size
            ):
                return False
        return any(lo < high and low < hi for lo, hi in self.kept)


def _chain(pending: list[_Element], wanted: Callable[[Array], bool]) -> list[Row] | None:
    """Elements as one loop, which stores what is wanted; None where that takes too many axes."""
    numbers: dict[Any, int] = {}
    arrays: list[Array] = []

    def operand(a: Array) -> int:
        key = _identity(a)
        if key not in numbers:
            numbers[key] = len(arrays)
            arrays.append(a)
        return numbers[key]

    ops: list[LoopOp] = []
    latest: dict[int, int] = {}  # operand → the op whose value it has
    for e in pending:
        args = []
        for a in e.inputs:
            i = operand(a)
            args.append(("op", latest[i]) if i in latest else ("in", i))
        ops.append(LoopOp(e.name, e.letter, tuple(args)))
        latest[operand(e.out)] = len(ops) - 1
    stores = [(i, number) for i, number in latest.items() if wanted(arrays[i])]
    used: set[int] = {i for i, _ in stores}
    needed = {number for _, number in stores}
    for number in range(len(ops) - 1, -1, -1):
        if number in needed:
            needed |= {i for source, i in ops[number].args if source == "op"}
            used |= {i for source, i in ops[number].args if source == "in"}
    if not stores:
        return []
    shape = pending[0].out.shape
    order = sorted(used)
    first = stores[0][0]
    dims, strides = _collapse(shape, [_strides(arrays[i], shape) for i in (first, *order)])
    strides = strides[1:]
    if len(dims) > MOST_AXES:
        return None
    place = {i: n for n, i in enumerate(order)}
    kinds = []
    for i, steps in zip(order, strides, strict=True):
        letter = LETTERS[arrays[i].dtype]
        inner = steps[-1]
        kinds.append((letter, "c" if inner == SIZE[letter] else "0" if inner == 0 else "s"))
    new = {old: n for n, old in enumerate(sorted(needed))}
    text = tuple(
        LoopOp(
            ops[old].name,
            ops[old].letter,
            tuple((source, place[i] if source == "in" else new[i]) for source, i in ops[old].args),
        )
        for old in sorted(needed)
    )
    chain = FusedLoop(
        tuple(kinds), text, tuple((place[i], new[number]) for i, number in stores), len(dims) - 1
    )
    record = Record([arrays[i] for i in order], dims, [s for steps in strides for s in steps])
    return [_loop_row(compiler().functions(chain.code(), ("kernel",))["kernel"], record, dims)]


def _identity(a: Array) -> Any:
    return address(a), a.shape, a.strides, a.dtype


def _bounds(a: Array) -> tuple[int, int]:
    """First address and the one behind the last."""
    low = high = address(a)
    for n, step in zip(a.shape, a.strides, strict=True):
        if step < 0:
            low += (n - 1) * step
        else:
            high += (n - 1) * step
    return low, high + a.itemsize


def _clash(written: Array, a: Array) -> bool:
    """Whether the two share memory, but not element by element."""
    (lo, hi), (low, high) = _bounds(written), _bounds(a)
    return low < hi and lo < high and _identity(written) != _identity(a)


def _strides(a: Array, shape: tuple[int, ...]) -> list[int]:
    """Its strides when broadcast to a shape."""
    lead = len(shape) - a.ndim
    own = [0 if n == 1 else s for n, s in zip(a.shape, a.strides, strict=True)]
    return [0] * lead + own


def _collapse(shape: tuple[int, ...], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The fewest loops over a shape, from the outermost in the memory of the first array inwards."""
    axes = sorted((i for i, n in enumerate(shape) if n != 1), key=lambda i: (-abs(strides[0][i]), i))
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for i in axes:
        n = shape[i]
        if dims and all(own[-1] == s[i] * n for own, s in zip(steps, strides, strict=True)):
            dims[-1] *= n
            for own, s in zip(steps, strides, strict=True):
                own[-1] = s[i]
        else:
            dims.append(n)
            for own, s in zip(steps, strides, strict=True):
                own.append(s[i])
    if not dims:
        return [1], [[0] for _ in strides]
    return dims, steps


def _element(call: Call) -> _Element | None:
    """A call as an element-wise function, if it is one that chains or loops know."""
    f: Any = getattr(call.f, "ufunc", call.f)
    args = call.args
    if f is np.copyto and (len(args) == 3 or args[0].dtype == getattr(args[1], "dtype", None)):
        return _checked("copy", (args[1],), args[0])
    if f is choose:
        return _checked("where", args[:3], args[3])
    if f is set_where and isinstance(args[1], np.ndarray) and args[1].shape == args[0].shape:
        return _checked("where", (args[1], args[2], args[0]), args[0])
    if getattr(f, "__name__", "") == "fill" and isinstance(getattr(f, "__self__", None), np.ndarray):
        return _checked("copy", (args[0],), f.__self__)
    if isinstance(f, np.ufunc) and f.nout == 1 and f.signature is None and len(args) == f.nin + 1:
        out = args[-1]
        if isinstance(out, np.ndarray):
            return _of_ufunc(f, args[:-1], out)
    return None


def _good(*arrays: Array) -> bool:
    return all(a.dtype in LETTERS and a.flags.aligned for a in arrays)


def _checked(name: str, inputs: tuple[Any, ...], out: Any) -> _Element | None:
    """A choice or a copy, whose values are cast to the type of `out`."""
    if not isinstance(out, np.ndarray) or not _good(out) or not out.flags.writeable:
        return None
    letter = LETTERS[out.dtype]
    ready = []
    for place, x in enumerate(inputs):
        truth = name == "where" and place == 0
        a = x if isinstance(x, np.ndarray) else _constant(x, np.dtype(bool) if truth else out.dtype)
        if a is None or not _good(a):
            return None
        own = LETTERS[a.dtype]
        if (truth and own != "?") or not (truth or own == letter or (own, letter) in CASTS):
            return None
        ready.append(a)
    if any(_clash(out, a) for a in ready) or any(len(a.shape) > out.ndim for a in ready):
        return None
    return _Element(name, letter, tuple(ready), out, None)


def _constant(x: Any, dtype: np.dtype[Any]) -> Array | None:
    if not isinstance(x, (bool, int, float, np.generic)):
        return None
    made = np.asarray(x).astype(dtype)
    made.flags.writeable = False
    return made


def _of_ufunc(f: np.ufunc, inputs: tuple[Any, ...], out: Array) -> _Element | None:
    if (
        not all(isinstance(x, (np.ndarray, np.generic, bool, int, float)) for x in inputs)
        or not out.flags.writeable
    ):
        return None
    asked = tuple(x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x) for x in inputs)
    try:
        types = f.resolve_dtypes((*asked, None))
    except TypeError:
        return None
    if types[-1] != out.dtype or not out.flags.aligned:
        return None
    ready = [
        x if isinstance(x, np.ndarray) else _constant(x, t) for x, t in zip(inputs, types[:-1], strict=True)
    ]
    arrays = [a for a in ready if a is not None and a.flags.aligned]
    if (
        len(arrays) < len(ready)
        or any(_clash(out, a) for a in arrays)
        or any(a.ndim > out.ndim for a in arrays)
    ):
        return None
    letters = {LETTERS.get(t) for t in types[:-1]}
    name = f.__name__
    if len(letters) == 1 and _good(out, *arrays):
        letter = letters.pop()
        known = letter is not None and (
            name in RULES[letter] or (letter in "fd" and name in ("maximum", "minimum"))
        )
        fits = all(LETTERS[a.dtype] == letter or (LETTERS[a.dtype], letter) in CASTS for a in arrays)
        if letter is not None and known and fits:
            return _Element(name, letter, tuple(arrays), out, None)
    if any(a.dtype != t for a, t in zip(arrays, types, strict=False)) or out.dtype.kind not in "fiub":
        return None
    return _Element("".join(t.char for t in types[:-1]) + "->" + types[-1].char, "", tuple(arrays), out, f)


def _own_loop(e: _Element) -> list[Row] | None:
    """An element-wise call by the ufunc's own loop: one row where the arrays are one vector, or one a row of few."""
    if e.ufunc is None:
        return None
    found = _loop(e.ufunc, e.name)
    if found is None:
        return None
    arrays = (*e.inputs, e.out)
    shape = e.out.shape
    dims, strides = _collapse(shape, [_strides(a, shape) for a in (e.out, *arrays)])
    strides = strides[1:]
    if len(dims) == 1:
        return [_loop_row(found[0], Record(arrays, dims, [s[0] for s in strides]), dims, found[1])]
    if len(dims) == 2 and len(arrays) <= 4:
        return [_nested(found, arrays, dims[:1], [s[0] for s in strides], dims[1:], [s[1] for s in strides])]
    return None


def _loop_row(function: int, record: Record, dims: Sequence[int], data: int = 0) -> Row:
    """A loop over elements as a row; each of OpenMP's threads takes a part where that is worth it."""
    arrays: tuple[Array, ...] = record.held[-1]
    team = onednn.team() if sum(a.nbytes for a in arrays) >= SHARED and dims[0] >= _PARTS else None
    if team is None:
        return Row(function, record, data)
    cells = np.array((function, data, len(arrays), len(dims), *team), np.int64)
    return Row(compiler().fixed["shared"], record, address(cells), held=cells)


def _nested(
    loop: tuple[int, int], arrays: Sequence[Array], times: Sequence[int], outer: Sequence[int], dims: Sequence[int],
    steps: Sequence[int],
) -> Row:  # fmt: skip
    """A row that calls an inner loop `times` times, its arguments moved on by `outer`."""
    data = np.array(loop, np.int64)
    record = Record(arrays, (*times, len(arrays), *dims), (*outer, *steps))
    return Row(compiler().fixed["nest"], record, address(data), held=data)


# ----- products, sums, indexing -----


def _rows(call: Call, step: Any, scratch: Array) -> list[Row] | None:
    """Any other call that machine functions can do, as rows of a table. `step`: what `_step` says of it; `scratch`: memory
    for that."""
    f: Any = call.f
    args = call.args
    if f in (np.dot, np.matmul) and len(args) == 3:
        return _product(*args)
    if step is not None:
        return _primitive(scratch, *step)
    if f is sum_by_dot:
        return _sum(*args)
    if getattr(f, "__name__", "") == "reduce" and getattr(f, "__self__", None) in (np.maximum, np.minimum):
        return _extremum(f.__self__, *args)
    if f in (gather, scatter):
        return _indexed(call)
    if f is within:
        return _checked_range(call)
    row = getattr(getattr(f, "__self__", None), "row", None)
    if row is not None:  # a `Loop` of machine code
        return [row(*args)]
    return None


def _product(a: Array, b: Array, out: Array) -> list[Row] | None:
    if not (a.dtype == b.dtype == out.dtype and a.dtype in PLAIN_FLOATS) or not out.flags.c_contiguous:
        return None
    if a.ndim < 2 or b.ndim < 2 or not out.size or not a.size:
        return None
    (m, k), n = a.shape[-2:], b.shape[-1]
    lead = out.shape[:-2]
    size = a.itemsize
    for x in (a, b):
        down, right = x.strides[-2:]
        rows, cols = x.shape[-2:]
        by_rows = right == size and down >= cols * size and down % size == 0
        if not (by_rows or (down == size and right >= rows * size and right % size == 0)):
            return None
    dims, strides = _collapse(
        lead,
        [_strides(x[..., 0, 0], lead) for x in (out, a, b, out)],
    )
    if len(dims) > 1:
        return None
    letter = a.dtype.char
    found = _loop(np.matmul, f"{letter}{letter}->{letter}")
    if found is None:
        return None
    steps = (0, 0, 0, *a.strides[-2:], *b.strides[-2:], *out.strides[-2:])
    if dims[0] == 1:
        return [Row(found[0], Record((a, b, out), (1, m, k, n), steps), found[1])]
    # NumPy's loop over a stack moves the addresses that it is given; the loop around it gives it copies
    outer = [s[0] for s in strides[1:]]
    return [_nested(found, (a, b, out), dims, outer, (1, m, k, n), steps)]


def _step(call: Call) -> tuple[onednn.Step, tuple[Array, ...]] | None:
    """The primitive of oneDNN that a call is, made once more for the rows, and its arrays in order."""
    f: Any = call.f
    if f in (onednn.matmul, onednn.affine):  # two matrices or stacks, a vector to add perhaps, and the result
        a, b, *c, out = call.args
        plan = onednn.product(out, a, b, *c)
        return None if plan is None else (plan.step.another(plan), (a, b, out, *c))
    step = getattr(f, "__self__", None)
    return (step.another(), call.args) if type(step) is onednn.Step else None


def _primitive(scratch: Array, step: onednn.Step, operands: tuple[Array, ...]) -> list[Row]:
    """A primitive of oneDNN."""
    data = step.cells()
    if step.room:
        operands = (scratch, *operands)
    return [
        Row(
            compiler().fixed["onednn"],
            Record(operands, (step.count,), ()),
            address(data),
            held=(data, step),
        )
    ]


def _sum(x: Array, axis: Any, dtype: Any, out: Array | None, keepdims: bool) -> list[Row] | None:
    """Where `sum_by_dot` takes a product with ones, that product; the sum of everything by NumPy's pairwise loop."""
    if dtype is not None or out is None or x.dtype not in PLAIN_FLOATS or out.dtype != x.dtype:
        return None
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
    return None


def _sum_of_all(x: Array, out: Array) -> list[Row] | None:
    """Zero, and then NumPy's pairwise sum."""
    found = _loop(np.add, f"{x.dtype.char * 2}->{x.dtype.char}")
    if found is None:
        return None
    start = _copied(0.0, out)
    record = Record((out, x, out), (x.size,), (0, x.itemsize, 0))
    return None if start is None else [*start, Row(found[0], record, found[1])]


def _extremum(
    f: np.ufunc, x: Array, axis: Any, dtype: Any, out: Array | None, keepdims: bool
) -> list[Row] | None:
    """The largest or smallest of each row: the first number, then NumPy's loop over the others."""
    if dtype is not None or out is None or x.dtype not in PLAIN_FLOATS or out.dtype != x.dtype or not x.size:
        return None
    if not (x.flags.c_contiguous and out.flags.c_contiguous and x.flags.aligned and out.flags.aligned):
        return None
    last = x.ndim - 1
    if x.ndim < 2 or axis not in (-1, last, (last,), (-1,)):
        return None
    found = _loop(f, f"{x.dtype.char * 2}->{x.dtype.char}")
    if found is None:
        return None
    n, size = x.shape[last], x.itemsize
    rows, flat = x.reshape(-1, n), out.reshape(-1)
    made = _copied(rows[:, 0], flat)
    if made is not None and n > 1:
        arrays = (flat, rows[:, 1:], flat)
        made.append(_nested(found, arrays, (len(flat),), (size, n * size, size), (n - 1,), (0, size, 0)))
    return made


def _copied(source: Any, out: Array) -> list[Row] | None:
    """``out = source``, as a chain of its own."""
    copy = _checked("copy", (source,), out)
    return None if copy is None else _chain([copy], lambda _: True)


def _indexed(call: Call) -> list[Row] | None:
    """`gather` and `scatter` of a matrix with two lists of indices."""
    x, i, j, other = call.args
    values = other if isinstance(other, np.ndarray) else _constant(other, x.dtype)
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
    if _clash(x, values) and call.f is scatter:
        return None
    step = values.strides[0] if values.shape == i.shape and values.ndim else 0
    function = compiler().fixed[f"{call.f.__name__}_{LETTERS[x.dtype]}"]
    record = Record((x, i, j, values), (len(i), *x.shape), (*x.strides, step))
    return [Row(function, record, again=(call.f, call.args))]


def _checked_range(call: Call) -> list[Row] | None:
    """`within` of indices that lie one after the other."""
    x, length, _ = call.args
    if x.dtype != np.int64 or not (x.flags.c_contiguous and x.flags.aligned):
        return None
    record = Record((x,), (x.size, length), ())
    return [Row(compiler().fixed["within"], record, again=(call.f, call.args))]
