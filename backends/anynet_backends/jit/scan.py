"""Scans: a body of NumPy calls that is repeated, over time steps or blocks of long arrays, as one native call."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import after_fork, fork_safe_lock
from anynet_backends.jit.availability import available
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.elementary import suited
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.native_function import data_pointer, fast_data_pointer
from anynet_backends.jit.parallel import SharedTable, parallel_loops, threads_for
from anynet_backends.jit.segment import KernelCall, offsets_in
from anynet_backends.jit.translation import native_segments

__all__ = ["RelocatableSegment", "call_now", "scan", "scan_stacks"]


class RelocatableSegment:
    """A relocatable segment: the calls on `roots` with other base addresses patched in, for arrays of the same shapes, strides and
    types, as many times as there are rows of addresses."""

    def __init__(self, rows: list[KernelCall], roots: Sequence[Array]) -> None:
        which: list[int] = []
        offsets: list[int] = []
        self.firsts: list[int] = []
        # dimensions, strides and arrays that are not roots: the roots are not kept alive
        self.held: list[Any] = []
        # primitives of oneDNN have memory objects, and loops their temporaries, which belong to one run at a time
        stateful = any(row.cells[0] == compiler().runtime["onednn"] for row in rows)
        for row in rows:
            self.firsts.append(len(which))
            places, dims, steps, arrays = row.record.held
            self.held.append((dims, steps, row.held))
            for (root, offset), array in zip(offsets_in(places, roots), arrays, strict=True):
                which.append(root)
                offsets.append(offset)
                if root == len(roots):
                    self.held.append(array)
                    stateful = stateful or array.flags.writeable
        self.which, self.offsets = np.array(which), np.array(offsets, np.int64)
        self.cells = np.array([row.cells for row in rows], np.int64)
        self.lock: Any = fork_safe_lock() if stateful else nullcontext()

    def table(self, bases: Array, out: Array) -> Array:
        """Write the calls of all repetitions into a table. `bases`: the addresses of the roots, a row for each repetition. The result holds
        the addresses that the table has."""
        full = np.zeros((len(bases), bases.shape[1] + 1), np.int64)
        full[:, :-1] = bases
        places = np.take(full, self.which, axis=1)
        places += self.offsets
        first = np.array(self.firsts, np.int64) * 8 + data_pointer(places)
        out[...] = self.cells
        np.add(
            first, np.arange(len(bases), dtype=np.int64)[:, None] * (places.shape[1] * 8), out=out[:, :, 1]
        )
        return places


def _run(segments: Sequence[RelocatableSegment], bases: Array, bounds: Sequence[int]) -> None:
    """Run all repetitions; those between two bounds by one segment, and the segments, if there are several, in parallel."""
    table = np.empty((len(bases), *segments[0].cells.shape), np.int64)
    kept = [
        segment.table(bases[i:j], table[i:j])
        for segment, i, j in zip(segments, bounds[:-1], bounds[1:], strict=True)
    ]
    rows, at, team = len(segments[0].cells), data_pointer(table), onednn.team()
    with segments[0].lock:
        if len(kept) == 1 or team is None:
            compiler().run_table(at, 0, len(bases) * rows)
            return
        SharedTable(table, [i * rows for i in bounds], team).run()


_segments: OrderedDict[Any, Any] = OrderedDict()


_translation_lock = fork_safe_lock()


_MOST_SEGMENTS: Final = 128
_LEAST_STACKS: Final = 1 << 18
"""Bytes of stacks that threads share: products and exponentials of each matrix."""
after_fork(_segments.clear)  # some hold calls that rely on threads


def scan(
    body: Callable[..., None],
    places: Callable[[int], tuple[Array, ...]],
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...] = (),
) -> None:
    """``body(call, *places(t), *held, *scratch)`` for each t in order, where `call` makes the NumPy call that it is
    given. `held` is the same at each t and carries values on.
    `scratch` is for temporaries, with undefined contents.

    The places of successive t have equal shapes and, but for the first and the last, equal distances. Where places
    overlap, they do so in one way for each `body` and each set of forms. With the extra,
    the calls are translated once for these shapes, and the whole scan is one call of machine code."""
    segment = _cached(body, places, order, held, scratch) if len(order) > 2 and available() else None
    if segment is None:
        for t in order:
            body(call_now, *places(t), *held, *scratch)
        return
    _run([segment], _bases(places, order, (*held, *scratch)), (0, len(order)))


def scan_stacks(
    body: Callable[..., None],
    stacks: tuple[Array, ...],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...] = (),
) -> None:
    """``body(call, *matrices, *held, *scratch)`` for the matrices of stacks that have the same leading axes, in any order of memory, and
    do not depend on each other. A step of 0 is for what all share: numbers that are read, or room for temporaries. As `scan` otherwise;
    large stacks are shared by threads, each with room of its own and products that BLAS makes."""
    lead = stacks[0].shape[:-2]
    first = tuple([a[(0,) * len(lead)] for a in stacks])
    parts = min(threads_for(sum(a.nbytes for a in stacks), _LEAST_STACKS), math.prod(lead))
    segments = _segments_apart(body, first, held, scratch, parts) if available() else None
    if segments is None:
        for at in np.ndindex(lead):
            body(call_now, *[a[at] for a in stacks], *held, *scratch)
        return
    pointer, same = fast_data_pointer(), (*held, *scratch)
    bases: Array = np.array([pointer(a) for a in (*stacks, *same)], np.int64)
    for axis, n in enumerate(lead):
        steps = np.array([*[a.strides[axis] for a in stacks], *(0,) * len(same)], np.int64)
        bases = bases[..., None, :] + np.arange(n)[:, None] * steps
    bases = bases.reshape(-1, bases.shape[-1])
    bounds = [len(bases) * i // parts for i in range(parts + 1)]
    rooms = {
        i: a for i, a in enumerate(first) if stacks[i].flags.writeable and not any(stacks[i].strides[:-2])
    }
    rooms |= dict(enumerate(scratch, len(stacks) + len(held)))
    kept = [{i: np.empty_like(a) for i, a in rooms.items()} for _ in range(parts - 1)]
    for lower, upper, own in zip(bounds[1:-1], bounds[2:], kept, strict=True):
        bases[lower:upper, list(own)] = [pointer(a) for a in own.values()]
    _run(segments, bases, bounds)


def _bases(
    places: Callable[[int], tuple[Array, ...]], order: Sequence[int], same: tuple[Array, ...]
) -> Array:
    """The addresses of the places, and of what is the same, for each t in order."""
    pointer = fast_data_pointer()
    one, two, three, last = (
        np.array([pointer(a) for a in places(t)], np.int64) for t in (*order[:3], order[-1])
    )
    bases = np.empty((len(order), len(one) + len(same)), np.int64)
    bases[:, : len(one)] = two + np.arange(-1, len(order) - 1, dtype=np.int64)[:, None] * (three - two)
    bases[0, : len(one)], bases[-1, : len(one)] = one, last
    bases[:, len(one) :] = [pointer(a) for a in same]
    return bases


def _cached(
    body: Callable[..., None],
    places: Any,
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
) -> RelocatableSegment | None:
    first, second, last = (places(t) for t in (order[0], order[1], order[-1]))
    if any(len({(a.shape, a.strides) for a in same}) > 1 for same in zip(first, second, last, strict=True)):
        return None
    return _segment_of(body, second, held, scratch)


def _segment_of(
    body: Callable[..., None], places: tuple[Array, ...], held: tuple[Array, ...], scratch: tuple[Array, ...]
) -> RelocatableSegment | None:
    key = body, _forms((*places, *held, *scratch))
    found: RelocatableSegment | None = _known(key, lambda: _translated(body, places, held, scratch))
    return found


def _segments_apart(
    body: Callable[..., None],
    places: tuple[Array, ...],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
    parts: int,
) -> list[RelocatableSegment] | None:
    """A segment for each of so many threads, made of arrays that do not overlap, as these may."""

    def make() -> list[RelocatableSegment] | None:
        alone = tuple([_elsewhere(a) for a in places])
        made = [_translated(body, alone, held, scratch, parts > 1) for _ in range(parts)]
        return None if None in made else [segment for segment in made if segment is not None]

    found: list[RelocatableSegment] | None = _known((body, parts, _forms((*places, *held, *scratch))), make)
    return found


def _forms(arrays: Sequence[Array]) -> tuple[Any, ...]:
    return tuple([(a.shape, a.strides, a.dtype.char, a.flags.aligned) for a in arrays])


def _elsewhere(a: Array) -> Array:
    """An array of the same form in memory of its own."""
    low, high = byte_range(a)
    return np.ndarray(
        a.shape, a.dtype, np.empty(max(high - low, 0), np.uint8), data_pointer(a) - low, a.strides
    )


def _known(key: Any, make: Callable[[], Any]) -> Any:
    with _translation_lock:
        if key not in _segments:
            _segments[key] = make()
            if len(_segments) > _MOST_SEGMENTS:
                _segments.popitem(last=False)
        return _segments[key]


def _translated(
    body: Callable[..., None],
    places: tuple[Array, ...],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
    apart: bool = False,
) -> RelocatableSegment | None:
    calls: list[Any] = []
    roots = (*places, *held, *scratch)

    def note(f: Callable[..., Any], *args: Any) -> None:
        # a primitive of oneDNN shares its memory objects and its threads
        calls.append((np.matmul if apart and f is onednn.matmul else suited(f, args[0]), args))

    body(note, *roots)
    segments = native_segments(calls, (*places, *held))
    rows = [row for s in segments for row in s.rows]
    return RelocatableSegment(rows if apart else parallel_loops(rows), roots) if segments else None


def call_now(f: Callable[..., Any], *args: Any) -> None:
    """Make a call: what the body of a scan is called with where it is not translated."""
    if f is np.maximum or f is np.minimum:  # the only ones that NumPy wants to be given their output by name
        a, b, out = args
        f(a, b, out=out)
    else:
        suited(f, args[0])(*args)
