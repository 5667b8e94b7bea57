"""Parallel regions: neighbouring calls of a segment that are independent along their outermost axis, shared by threads.

OpenMP's threads begin and end once for a run of calls (loops over elements, sums of rows), each with a part of the common axis, in
which it makes all of them; a long loop has them for itself. A part of a loop computes what the whole loop computes there, so that the
bits are the same, and a floating-point exception that any thread meets is one of the calling thread.

Whether calls are independent is read from the addresses: along the axis each array is a row of pieces, equally far from each other. What
one call writes and another touches must not overlap, or the pieces of the two must lie in the same places.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import once
from anynet_backends.jit.compiler import MOST_AXES, MOST_OPERANDS, compiler, text_of
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.native_function import data_pointer, floating_point_exceptions
from anynet_backends.jit.segment import KernelCall, LoopArgs, bytes_touched, work_of

__all__ = [
    "LEAST_ALONE",
    "LEAST_BLOCKS",
    "SharedTable",
    "parallel_loops",
    "parallel_regions",
    "shared_loop",
    "team_for",
    "threads_for",
]

LEAST_ALONE: Final = 1 << 19
"""The work of one call (`segment.Parts.work`) that is worth threads: they begin and end in the time that 150 KB take, and another thread
has what it reads in no cache of its own."""
_LEAST_REGION: Final = 1 << 18
"""The work of several, most of whose arrays each thread makes itself."""
LEAST_BLOCKS: Final = 3 << 19
"""The work of a program on blocks, all of whose calls a thread makes on each."""
_MANY: Final = 8
"""So many threads are worth it for that; more of them for as much more."""
_LEAST: Final = 16
"""Numbers of the common axis."""
_MOST_CALLS: Final = 64
_SMALL_CALL: Final = 1 << 15
"""Bytes of the arrays of a call that is made as it is: its axes would cut those of larger ones."""


class _Pieces(NamedTuple):
    """An array along the common axis: where the first piece begins, its bytes, how far the next one is, the end of the last."""

    low: int
    extent: int
    step: int
    high: int
    written: bool


class _Region:
    """Calls that are independent along an axis of `n` numbers."""

    def __init__(self) -> None:
        self.rows: list[KernelCall] = []
        self.pieces: set[_Pieces] = set()
        self.n = 0

    def joins(self, row: KernelCall) -> bool:
        """Append a call, if it is independent of the others along the axis."""
        if row.parts is None or row.again is not None or len(self.rows) == _MOST_CALLS:
            return False
        n = math.gcd(self.n, _length(row))
        if n < _LEAST or bytes_touched([row]) < _SMALL_CALL:
            return False
        own = _pieces([row], n)
        others = self.pieces if n == self.n else _pieces(self.rows, n)
        if own is None or others is None or not _independent(own, own | others):
            return False
        self.n, self.pieces = n, own | others
        self.rows.append(row)
        return True

    def calls(self, team: tuple[int, int, int]) -> list[KernelCall]:
        """The calls as one, if they are worth the threads."""
        if len(self.rows) < 2 or team_for(work_of(self.rows), _LEAST_REGION) is None:
            return parallel_loops(self.rows)
        return [_shared(self.rows, self.n, team)]


def threads_for(work: int, least: int | None = None) -> int:
    """How many threads share work that is worth them from `least` on, or as a call by itself is: all or one."""
    least = LEAST_ALONE if least is None else least
    count = onednn.threads() if work >= least else 1
    return count if work * _MANY >= least * count else 1


def team_for(work: int, least: int | None = None) -> tuple[int, int, int] | None:
    """What starts the threads for such work (`onednn.team`), if it is worth them."""
    return onednn.team() if threads_for(work, least) > 1 else None


@once
def _runtime() -> dict[str, int]:
    """The functions of parallel.ll."""
    values = {"OPERANDS": MOST_OPERANDS, "AXES": MOST_AXES, "EXCEPTIONS": floating_point_exceptions()}
    code = text_of("structs.ll") + text_of("parallel.ll", **values)
    return compiler().functions(code, ("parallel_loop", "run_parallel", "parallel_table"))


def shared_loop() -> int:
    """The address of a function that makes a call on all threads, for data of (its function and data, arguments, axes, team)."""
    return _runtime()["parallel_loop"]


@once
def _run() -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_int64)(_runtime()["run_parallel"])


class SharedTable:
    """A table of calls for all threads, which stays where it is; those between two bounds are made by one thread."""

    def __init__(self, table: Array, bounds: Sequence[int], team: tuple[int, int, int]) -> None:
        places = np.array(bounds, np.int64)
        about = (
            data_pointer(table),
            data_pointer(places),
            len(places) - 1,
            *team,
            compiler().runtime["run_table"],
        )
        self.about = np.array(about, np.int64)
        self.held = table, places
        self.address = data_pointer(self.about)

    def run(self) -> None:
        """Make the calls."""
        _run()(self.address)


def parallel_loops(rows: Sequence[KernelCall]) -> list[KernelCall]:
    """The calls, with those that are worth it by themselves on all threads."""
    return [_on_threads(row) for row in rows]


def _on_threads(row: KernelCall) -> KernelCall:
    parts = row.parts
    team = team_for(parts.work) if parts is not None else None
    # threads that write between each other's numbers would wait for each other's lines of the cache
    if parts is None or team is None or _pieces([row], _length(row)) is None:
        return row
    places, sizes, _, _ = row.record.held
    cells = np.array((parts.function, parts.data, len(places), len(sizes), *team), np.int64)
    return KernelCall(shared_loop(), row.record, data_pointer(cells), held=(row.held, cells), parts=parts)


def parallel_regions(rows: Sequence[KernelCall]) -> list[KernelCall]:
    """The calls, with those in a row that are independent along an axis as one, if there are threads to share them."""
    work = work_of(rows)
    if work >= _LEAST_REGION:
        onednn.works()  # its threads: nothing may have asked for the library so far
    team = team_for(work, _LEAST_REGION)
    if team is None:
        return list(rows)
    done: list[KernelCall] = []
    region = _Region()
    for row in rows:
        if region.joins(row):
            continue
        done += region.calls(team)
        region = _Region()
        if not region.joins(row):
            done.append(row)
    return [*done, *region.calls(team)]


def _length(row: KernelCall) -> int:
    """Of the outermost axis."""
    return int(row.record.held[1][0])


def _pieces(rows: Sequence[KernelCall], n: int) -> set[_Pieces] | None:
    """The arrays of calls along an axis of n numbers; None where one cannot be cut so."""
    found: set[_Pieces] = set()
    for row in rows:
        assert row.parts is not None
        for i, (a, single) in enumerate(zip(row.arrays, row.parts.steps, strict=True)):
            low, high = byte_range(a)
            step, written = single * (_length(row) // n), i in row.parts.writes
            extent = high - low - (n - 1) * step
            if step < 0 or extent <= 0 or (written and extent > step):
                return None
            if row.parts.whole and step:
                extent = max(extent, step)
            found.add(_Pieces(low, extent, step, high, written))
    return found


def _independent(new: set[_Pieces], everything: set[_Pieces]) -> bool:
    """Whether no part of the calls with these new arrays touches what another part writes, or writes what it touches."""
    for a in new:
        for b in everything:
            if not (a.written or b.written) or a.high <= b.low or b.high <= a.low:
                continue
            together = max(a.low + a.extent, b.low + b.extent) - min(a.low, b.low)
            if a.step != b.step or together > a.step:
                return False
    return True


def _shared(rows: Sequence[KernelCall], n: int, team: tuple[int, int, int]) -> KernelCall:
    """One call that makes all of these, each thread for its part of the axis."""
    threads = min(onednn.threads(), n)
    table: list[tuple[int, ...]] = []
    held: list[object] = [(row.record.held[2], row.held) for row in rows]
    moved: list[tuple[Array, tuple[Array, ...]]] = []
    for t in range(threads):
        first, last = n * t // threads, n * (t + 1) // threads
        for row in rows:
            assert row.parts is not None
            places, sizes, _, _ = row.record.held
            per = _length(row) // n
            here, part = places + np.array(row.parts.steps, np.int64) * (first * per), sizes.copy()
            part[0] = (last - first) * per
            function, data = row.parts.function, row.parts.data
            table.append((function, data_pointer(here), data_pointer(part), row.cells[3], data, 0))
            held.append(part)
            moved.append((here, row.arrays))
    cells = np.array(table, np.int64)
    whole = SharedTable(cells, [t * len(rows) for t in range(threads + 1)], team)
    arrays = {id(a): a for row in rows for a in row.arrays}
    record = LoopArgs(tuple(arrays.values()), (), ())
    made = KernelCall(_runtime()["parallel_table"], record, whole.address, held=(held, whole))
    made.places = moved
    return made
