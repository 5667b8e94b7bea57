"""Parallel regions: neighbouring calls of a segment that are independent along their outermost axis, shared by threads.

A loop of its own is worth OpenMP's threads where it is long. Here they begin and end once for a run of calls (loops over elements, sums
of rows), each with a part of the common axis, in which it makes all of them. A part of a loop computes what the whole loop computes
there, so that the bits are the same.

Whether calls are independent is read from the addresses: along the axis each array is a row of pieces, equally far from each other. What
one call writes and another touches must not overlap, or the pieces of the two must lie in the same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.jit import segment
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.native_function import data_pointer
from anynet_backends.jit.segment import KernelCall, LoopArgs, bytes_touched

__all__ = ["parallel_regions"]

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
        if len(self.rows) < 2 or bytes_touched(self.rows) < segment.PARALLEL_BYTES:
            return self.rows
        return [_shared(self.rows, self.n, team)]


def parallel_regions(rows: Sequence[KernelCall]) -> list[KernelCall]:
    """The calls, with those in a row that are independent along an axis as one, if there are threads to share them."""
    team = onednn.team() if bytes_touched(rows) >= segment.PARALLEL_BYTES else None
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
    return int(row.held[0][1][0])


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
    held: list[object] = [rows]
    moved: list[tuple[Array, tuple[Array, ...]]] = []
    for t in range(threads):
        first, last = n * t // threads, n * (t + 1) // threads
        for row in rows:
            assert row.parts is not None
            places, sizes, _, _ = row.held[0]
            per = _length(row) // n
            here, part = places + np.array(row.parts.steps, np.int64) * (first * per), sizes.copy()
            part[0] = (last - first) * per
            function, data = row.parts.function, row.parts.data
            table.append((function, data_pointer(here), data_pointer(part), row.cells[3], data, 0))
            held.append(part)
            moved.append((here, row.arrays))
    cells = np.array(table, np.int64)
    bounds = np.array([t * len(rows) for t in range(threads + 1)], np.int64)
    about = np.array((data_pointer(cells), data_pointer(bounds), threads, *team), np.int64)
    arrays = {id(a): a for row in rows for a in row.arrays}
    made = KernelCall(
        compiler().runtime["parallel_table"],
        LoopArgs(tuple(arrays.values()), (), ()),
        data_pointer(about),
        held=(held, cells, bounds, about),
    )
    made.places = moved
    return made
