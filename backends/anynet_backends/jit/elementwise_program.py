"""Element-wise functions of long vectors and numbers, in place: an optimizer's update as a program.

Each operation of such a function, by itself, would read and write the vectors once. The function is traced once, on short samples,
and becomes a program like any other; what the program does to a sample it does to vectors of any length: as one loop of machine
code over all of it, by all threads where it is long, or as NumPy calls block by block, so that temporaries stay in the cache.
Numbers (rates, powers of β) are 0-d arrays, so that one program serves every step. The bits are those of the array operations.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import once_property
from anynet_backends.jit import availability, numpy_calls, translation
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.native_function import data_pointer
from anynet_backends.jit.parallel import parallel_loops
from anynet_backends.jit.program import Program
from anynet_backends.jit.segment import KernelCall, LoopArgs, NativeSegment, loop_call
from anynet_backends.jit.tracer import ACTIVE, Trace
from anynet_backends.jit.tracer_backend import TracerBackend
from anynet_backends.memory.layout import CACHE_BLOCK

__all__ = ["ElementwiseProgram"]

WARMUP_CALLS: int = 24
"""Calls on short vectors before the loop is compiled: until then it would cost more than it saves."""
_WARMUP_CALLS_LARGE: Final = 3
_LARGE: Final = 1 << 18
_SAMPLE: Final = 16
_MAX_TEMPORARIES: Final = 64


class ElementwiseProgram:
    """What ``function(xp, vectors, numbers)`` does to each number of its vectors, which it changes in place but for those that
    `read_only` lists. `vectors` have the given types, `numbers` is a dict of 0-d arrays of one type by their names.

    Errors: CompileError where it reads a value, or does what is not element by element; TypeError where it writes into a
    vector that is read only."""

    def __init__(
        self,
        xp: TracerBackend,
        function: Callable[[Any, list[Any], dict[str, Any]], None],
        dtypes: Sequence[Any],
        names: Sequence[str],
        number: Any,
        read_only: Sequence[int] = (),
    ) -> None:
        self.samples = [np.ones(_SAMPLE, dtype) for dtype in dtypes]
        self.cells = [np.ones((), number) for _ in names]
        self.number = np.dtype(number)
        self.scratch = np.empty(_MAX_TEMPORARIES * _SAMPLE * 8, np.uint8)
        trace = Trace(xp.base)
        vectors = [trace.capture(a) for a in self.samples]
        numbers = {name: trace.capture(cell) for name, cell in zip(names, self.cells, strict=True)}
        trace.names = {x.var: name for name, x in numbers.items()}
        ACTIVE.append(trace)
        try:
            with xp.errstate():
                function(xp, vectors, numbers)
        finally:
            ACTIVE.pop()
        written = {i.args[0].root for i in trace.instructions if i.writes is not None}
        for i in read_only:
            if vectors[i].var in written:
                msg = "an element-wise update must not change the gradient g in place; write g = g + …, not g += …"
                raise TypeError(msg)
        program = Program(trace, [], scratch=self.scratch)
        self.calls = program.calls
        self._check(program.calls)

    @once_property
    def loop(self) -> KernelCall | None:
        """The loop of machine code, compiled when it is first asked for; None where the calls are not one loop."""
        return self._one_loop(self.calls) if availability.available() else None

    def _check(self, calls: Sequence[numpy_calls.NumpyCall]) -> None:
        """Refuse what is not element by element, or reads arrays from elsewhere."""
        known = {data_pointer(a) for a in (*self.samples, *self.cells)}
        low, high = byte_range(self.scratch)
        for call in calls:
            f: Any = getattr(call.f, "ufunc", call.f)
            simple = (isinstance(f, np.ufunc) and f.signature is None) or f in _ELEMENTWISE
            simple = simple or getattr(f, "__name__", "") == "fill"
            for a in (x for x in (*call.args, *call.writes) if isinstance(x, np.ndarray)):
                place = data_pointer(a)
                vector = a.shape == (_SAMPLE,) and (place in known or low <= place < high)
                simple = simple and (vector or (a.shape == () and not low <= place < high))
            if not simple:
                msg = (
                    f"{getattr(f, '__name__', f)} is not element by element, or reads an array from elsewhere"
                )
                raise CompileError(msg)

    def _one_loop(self, calls: Sequence[numpy_calls.NumpyCall]) -> KernelCall | None:
        """The calls as one loop of machine code over the samples and numbers alone, if they are."""
        segments = translation.translate(calls, self.samples)
        rows = [row for f, _ in segments if isinstance(f, NativeSegment) for row in f.rows]
        if len(segments) != 1 or len(rows) != 1 or rows[0].again is not None or rows[0].cells[4]:
            return None
        low, high = byte_range(self.scratch)
        return None if any(low <= data_pointer(a) < high for a in rows[0].arrays) else rows[0]

    def bind(self, vectors: Sequence[Array]) -> Callable[[Iterable[float]], None]:
        """The program on vectors of one length, which stay where they are: a function of the numbers. The first calls of the first
        such function run as NumPy calls, so that a short training compiles nothing."""
        numbers = np.zeros(len(self.cells), self.number)
        pack: Any = struct.Struct(
            f"{len(self.cells)}{self.number.char}"
        ).pack_into  # a third of an assignment's time
        cells = [numbers[i, ...] for i in range(len(self.cells))]
        warmup = WARMUP_CALLS
        if "loop" in vars(self):  # compiled already, or found not to be one loop
            warmup = 0
        elif sum(a.nbytes for a in vectors) > _LARGE:
            warmup = min(warmup, _WARMUP_CALLS_LARGE)
        run = _calls(self, vectors, cells) if warmup else _fastest(self, vectors, cells)

        def call(values: Iterable[float]) -> None:
            nonlocal run, warmup
            if warmup:
                warmup -= 1
                if not warmup:
                    run = _fastest(self, vectors, cells)
            try:
                pack(numbers, 0, *values)
            except OverflowError:  # beyond the type's largest
                with np.errstate(over="ignore"):
                    numbers[:] = [*values]
            run()

        return call


_ELEMENTWISE: Final = frozenset((np.copyto, numpy_calls.choose, numpy_calls.set_where))


def _fastest(
    program: ElementwiseProgram, vectors: Sequence[Array], cells: Sequence[Array]
) -> Callable[[], Any]:
    row = program.loop
    return _calls(program, vectors, cells) if row is None else _loop(program, row, vectors, cells)


def _loop(
    program: ElementwiseProgram, row: KernelCall, vectors: Sequence[Array], cells: Sequence[Array]
) -> Callable[[], Any]:
    """The loop over all of the vectors."""
    n = vectors[0].size
    there = {data_pointer(a): b for a, b in zip(program.samples, vectors, strict=True)}
    there |= {data_pointer(a): b for a, b in zip(program.cells, cells, strict=True)}
    _, _, steps, arrays = row.record.held
    moved = [there.get(data_pointer(a), a) for a in arrays]
    if not n:
        return _nothing
    over_all = loop_call(row.cells[0], LoopArgs(moved, (n,), [*steps]), (n,), each=2 * len(program.calls))
    return NativeSegment(parallel_loops([over_all])).run


def _calls(
    program: ElementwiseProgram, vectors: Sequence[Array], cells: Sequence[Array]
) -> Callable[[], None]:
    """The NumPy calls on one block after the other."""
    n = vectors[0].size
    width = min(n, CACHE_BLOCK)
    rooms: dict[int, Array] = {}
    samples = {data_pointer(a): b for a, b in zip(program.samples, vectors, strict=True)}
    numbers = {data_pointer(a): b for a, b in zip(program.cells, cells, strict=True)}

    def placed(x: Any, start: int, stop: int) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        place = data_pointer(x)
        if x.ndim == 0:
            return numbers.get(place, x)
        if place in samples:
            return samples[place][start:stop]
        if place not in rooms:  # one place may be for several types, one after the other
            rooms[place] = np.empty(width * 8, np.uint8)
        return rooms[place][: (stop - start) * x.itemsize].view(x.dtype)

    made: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    for start in range(0, n, max(width, 1)):
        stop = min(start + width, n)
        for made_of in program.calls:
            f: Any = made_of.f
            if getattr(f, "__name__", "") == "fill":
                f = placed(f.__self__, start, stop).fill
            made.append((f, tuple([placed(x, start, stop) for x in made_of.args])))

    def run() -> None:
        for f, args in made:
            f(*args)

    return run


def _nothing() -> None:
    return None
