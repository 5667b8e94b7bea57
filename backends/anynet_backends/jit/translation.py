"""Translation: the NumPy calls of a program become segments of machine code.

Element-wise calls are fused (`fusion`), others are called as machine functions (`calls`), and what remains (kernels in Python,
host callbacks, unusual indexing) is called as before, between the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.calls import kernel_calls, primitive_of
from anynet_backends.jit.compiler import MOST_OPERANDS
from anynet_backends.jit.fusion import ElementwiseCall, elementwise_call, fuse, ufunc_call
from anynet_backends.jit.geometry import byte_range, layout_of, overlaps_partly
from anynet_backends.jit.numpy_calls import CallList, NumpyCall, output_index
from anynet_backends.jit.printing import call_lines, print_pass
from anynet_backends.jit.segment import KernelCall, NativeSegment

__all__ = ["Translator", "native_segments", "translate"]


def native_segments(
    calls: Sequence[tuple[Callable[..., Any], Sequence[Any]]], kept: Sequence[Array]
) -> list[NativeSegment]:
    """Calls (function, arguments …, output) as segments, or an empty list where one of them is no machine function."""
    known = [
        NumpyCall(
            f, tuple(args), tuple(a for a in args if isinstance(a, np.ndarray)), (args[output_index(f)],)
        )
        for f, args in calls
    ]
    code = translate(known, kept)
    segments = [f for f, _ in code if isinstance(f, NativeSegment) and not any(row.again for row in f.rows)]
    return segments if len(segments) == len(code) else []


MOST_FUSED = 32
"""Calls in one loop."""


def translate(
    calls: Sequence[NumpyCall], kept: Sequence[Array]
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The calls, with segments in place of those that can be machine code. `kept`: arrays that are read after the program, or that its
    Python calls may read."""
    code = Translator(calls, kept).code()
    print_pass("segments", "program", lambda: call_lines(_rows(code)))
    return code


def _rows(code: CallList) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for f, args in code:
        if isinstance(f, NativeSegment):
            yield from ((f"  machine function {row.cells[0]:x}", row.arrays) for row in f.rows)
        else:
            yield f, args


class Translator:
    """Walks through the calls: fuses element-wise ones while it can, and collects kernel calls for the next segment."""

    def __init__(self, calls: Sequence[NumpyCall], kept: Sequence[Array]) -> None:
        self.calls = calls
        self.kept = [byte_range(a) for a in kept if a.size]
        self.reads = [[byte_range(a) for a in call.reads if a.size] for call in calls]
        self.steps = [primitive_of(call) for call in calls]
        self.scratch = np.empty(max((step[0].room for step in self.steps if step), default=0), np.uint8)
        self.done: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.rows: list[KernelCall] = []
        self.pending: list[ElementwiseCall] = []
        # the calls that are pending, and the number of the last
        self.waiting: list[NumpyCall] = []
        self.last = -1

    def code(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        for at, call in enumerate(self.calls):
            element = elementwise_call(call)
            if element is not None:
                if not element.out.size:
                    continue
                if self.pending and not self._joins(element):
                    self._flush()
                self.pending.append(element)
                self.waiting.append(call)
                self.last = at
                continue
            rows = kernel_calls(call, self.steps[at], self.scratch)
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
            self.done.append((NativeSegment(self.rows), ()))
            self.rows = []

    def _joins(self, new: ElementwiseCall) -> bool:
        """Whether one loop may do the pending elements and this one, element by element: memory that one writes and
        another touches must be the same element of the same array."""
        if not new.letter or not self.pending[-1].letter:
            return False
        if new.out.shape != self.pending[0].out.shape or len(self.pending) >= MOST_FUSED:
            return False
        arrays = {layout_of(a) for e in (*self.pending, new) for a in (*e.inputs, e.out)}
        if len(arrays) > MOST_OPERANDS:
            return False
        for e in self.pending:
            if any(overlaps_partly(e.out, a) for a in (*new.inputs, new.out)) or any(
                overlaps_partly(new.out, a) for a in e.inputs
            ):
                return False
        return True

    def _flush(self) -> None:
        pending, self.pending = self.pending, []
        waiting, self.waiting = self.waiting, []
        if not pending:
            return
        found = ufunc_call(pending[0]) if len(pending) == 1 else None
        if found is None and pending[0].letter:
            found = fuse(pending, self._wanted)
        if found is not None:
            self.rows += found
            return
        self._close()
        self.done += [(call.f, call.args) for call in waiting]

    def _wanted(self, a: Array) -> bool:
        """Whether a result of a fused loop is read afterwards."""
        low, high = byte_range(a)
        whole = high - low == a.size * a.itemsize
        for at in range(self.last + 1, len(self.calls)):
            if any(lo < high and low < hi for lo, hi in self.reads[at]):
                return True
            if whole and any(
                byte_range(w) == (low, high) and w.nbytes == high - low
                for w in self.calls[at].writes
                if w.size
            ):
                return False
        return any(lo < high and low < hi for lo, hi in self.kept)
