"""Segments: tables of machine functions with their arguments, executed by one native call, without the interpreter."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import once
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.native_function import (
    MethodDefinition,
    data_pointer,
    fast_data_pointer,
    native_function,
)

__all__ = [
    "SMALL_BYTES",
    "KernelCall",
    "LoopArgs",
    "NativeSegment",
    "Parts",
    "bytes_touched",
    "loop_call",
    "nested_call",
    "relocations",
    "summary",
    "work_of",
]


class LoopArgs:
    """The arguments of a loop in memory: addresses of arrays, dimensions, strides in bytes."""

    __slots__ = ("addresses", "held")

    def __init__(self, arrays: Sequence[Array], dims: Sequence[int], steps: Sequence[int]) -> None:
        pointer = fast_data_pointer()
        places = np.array([pointer(a) for a in arrays], np.int64)
        sizes, strides = np.array(dims, np.int64), np.array(steps, np.int64)
        self.held = (places, sizes, strides, tuple(arrays))
        self.addresses = pointer(places), pointer(sizes), pointer(strides)


SMALL_BYTES: Final = 1 << 20
"""Segments that touch fewer bytes run without giving up the interpreter\'s lock."""


@once
def _run_segment() -> MethodDefinition:
    """The definition of the function that runs a table."""
    fast_data_pointer()
    without_arguments = 0x4
    return MethodDefinition(b"segment", compiler().runtime["run_segment"], without_arguments, None)


def bytes_touched(rows: Sequence[KernelCall]) -> int:
    """The bytes of all arrays of some calls."""
    return sum(a.nbytes for row in rows for a in row.arrays)


def work_of(rows: Sequence[KernelCall]) -> int:
    """The work of some calls: their bytes, where no more is known."""
    return sum(max(bytes_touched([row]), row.parts.work if row.parts else 0) for row in rows)


class NativeSegment:
    """A table of kernel calls, executed by one native call; an entry that rejects its arguments falls back to NumPy, which raises or does
    it. `run` is the same as a function that keeps all that it needs alive."""

    def __init__(self, rows: list[KernelCall]) -> None:
        self.rows = rows
        self.count = len(rows)
        self.table = np.array([row.cells for row in rows], np.int64)
        self.place = data_pointer(self.table)
        self.work = compiler().run_table
        # whether it gives up the interpreter's lock, so that other threads run before it ends
        self.waits = any(row.again for row in rows) or bytes_touched(rows) >= SMALL_BYTES
        self.run: Callable[[], Any] = (
            self
            if self.waits
            else native_function(
                ctypes.addressof(_run_segment()),
                struct.pack("<qq", self.place, self.count),
                (self.table, rows),
            )
        )

    def __call__(self) -> None:
        at = self.work(self.place, 0, self.count)
        while at < self.count:
            f, args = self.rows[at].again
            f(*args)
            at = self.work(self.place, at + 1, self.count)


def summary(code: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> str:
    """How much of a program is machine code, in words."""
    segments = [f for f, _ in code if isinstance(f, NativeSegment)]
    if not segments:
        return ""
    rows = sum(s.count for s in segments)
    return (
        f" ({rows} functions of machine code in {len(segments)} segments, {len(code) - len(segments)} calls)"
    )


class Parts(NamedTuple):
    """How a call is made for a part of its outermost axis alone: the function with its data, the bytes from one index of that axis to the
    next in each argument, and which arguments it writes. `whole`: for one index it may touch all of an argument up to the next. `work`:
    how much the whole call is, in bytes that are moved in that time, where each index is a part of its own; 0: no call for threads."""

    function: int
    data: int
    steps: tuple[int, ...]
    writes: frozenset[int]
    whole: bool = False
    work: int = 0


class KernelCall:
    """A function pointer with its arguments. `again`: the NumPy call that it stands for, if it may reject them; `parts`: how it is made in
    parts, where its outermost axis (the first of its dimensions) allows that; `places`: where the addresses of its arrays stand; `held`:
    what else must live as long as it."""

    __slots__ = ("again", "arrays", "cells", "held", "parts", "places", "record")

    def __init__(
        self,
        function: int,
        record: LoopArgs,
        data: int = 0,
        again: Any = None,
        held: Any = None,
        parts: Parts | None = None,
    ) -> None:
        self.cells = (function, *record.addresses, data, int(again is not None))
        self.again = again
        self.record, self.held = record, held
        self.arrays: tuple[Array, ...] = record.held[-1]
        self.parts = parts
        self.places: list[tuple[Array, tuple[Array, ...]]] = [(record.held[0], self.arrays)]


def offsets_in(places: Array, roots: Sequence[Array]) -> list[tuple[int, int]]:
    """For each address the number of the root that contains it, and the offset; else (number of roots, the address)."""
    bounds = [byte_range(a) for a in roots]
    starts = [*(data_pointer(a) for a in roots), 0]
    which = [
        next((i for i, (lo, hi) in enumerate(bounds) if lo <= place < hi), len(roots)) for place in places
    ]
    return [(root, int(place) - starts[root]) for root, place in zip(which, places, strict=True)]


def relocations(row: KernelCall, roots: Sequence[Array]) -> tuple[list[int], list[Any]]:
    """The cells of a call's arguments that point into roots, as (address of the cell, root, offset) …, and what must be kept alive as
    long as the call is used, without the roots."""
    found: list[int] = []
    held: list[Any] = [*row.record.held[:-1], row.held]
    for places, arrays in row.places:
        held.append(places)
        for i, (root, offset) in enumerate(offsets_in(places, roots)):
            if root < len(roots):
                found += [data_pointer(places) + 8 * i, root, offset]
            else:
                held.append(arrays[i])
    return found, held


_SHORTEST: Final = 64
"""Numbers of the outermost axis of a loop that threads share."""


def loop_call(
    function: int,
    record: LoopArgs,
    dims: Sequence[int],
    data: int = 0,
    writes: Sequence[int] = (),
    each: int = 0,
) -> KernelCall:
    """The call of a loop over elements, which writes the arguments of these numbers. `each`: what is computed for one element, in bytes
    that are moved in that time."""
    work = sum(a.nbytes for a in record.held[-1]) + each * math.prod(dims)
    steps = tuple(record.held[2][:: len(dims)].tolist())
    parts = Parts(function, data, steps, frozenset(writes), work=work if dims[0] >= _SHORTEST else 0)
    return KernelCall(function, record, data, parts=parts)


def nested_call(
    loop: tuple[int, int], arrays: Sequence[Array], times: Sequence[int], outer: Sequence[int], dims: Sequence[int],
    steps: Sequence[int], writes: Sequence[int] = (),
) -> KernelCall:  # fmt: skip
    """The call of a loop around an inner loop: `times` times, with the arguments moved on by `outer` strides. `writes`: the numbers of
    those that it writes, if it may be made in parts."""
    data = np.array(loop, np.int64)
    record = LoopArgs(arrays, (*times, len(arrays), *dims), (*outer, *steps))
    function, place = compiler().runtime["nested_loop"], data_pointer(data)
    parts = Parts(function, place, tuple(outer), frozenset(writes)) if writes else None
    return KernelCall(function, record, place, held=data, parts=parts)
