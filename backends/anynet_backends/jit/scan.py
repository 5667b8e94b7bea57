"""Scans: a body of NumPy calls that is repeated, over time steps or blocks of long arrays, as one native call."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import after_fork, fork_safe_lock
from anynet_backends.jit.availability import available
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.elementary import suited
from anynet_backends.jit.native_function import data_pointer, fast_data_pointer
from anynet_backends.jit.segment import PARALLEL_BYTES, KernelCall, offsets_in
from anynet_backends.jit.translation import native_segments

__all__ = ["RelocatableSegment", "call_now", "scan"]


class RelocatableSegment:
    """A relocatable segment: the calls on `roots` with other base addresses patched in, for arrays of the same shapes, strides and
    types, as many times as there are rows of addresses."""

    def __init__(self, rows: list[KernelCall], roots: Sequence[Array]) -> None:
        which: list[int] = []
        offsets: list[int] = []
        self.firsts: list[int] = []
        # dimensions, strides and arrays that are not roots: the roots are not kept alive
        self.held: list[Any] = []
        for row in rows:
            self.firsts.append(len(which))
            places, dims, steps, arrays = row.held[0]
            self.held.append((dims, steps, row.held[1]))
            for (root, offset), array in zip(offsets_in(places, roots), arrays, strict=True):
                which.append(root)
                offsets.append(offset)
                if root == len(roots):
                    self.held.append(array)
        self.which, self.offsets = np.array(which), np.array(offsets, np.int64)
        self.cells = np.array([row.cells for row in rows], np.int64)
        # primitives of oneDNN have memory objects, which belong to one run at a time
        stateful = compiler().runtime["onednn"]
        self.lock = fork_safe_lock() if any(row.cells[0] == stateful for row in rows) else None

    def bind(self, bases: Array, bounds: Sequence[int] = (), kept: Any = None) -> Callable[[], None]:
        """A function that runs all repetitions. `bases`: the addresses of the roots, a row for each repetition. `bounds`: the bounds of
        the parts that run in parallel. `kept` lives as long as the result."""
        times = len(bases)
        full = np.zeros((times, bases.shape[1] + 1), np.int64)
        full[:, :-1] = bases
        places = np.take(full, self.which, axis=1)
        places += self.offsets
        table = np.empty((times, *self.cells.shape), np.int64)
        table[...] = self.cells
        first = np.array(self.firsts, np.int64) * 8 + data_pointer(places)
        np.add(first, np.arange(times, dtype=np.int64)[:, None] * (places.shape[1] * 8), out=table[:, :, 1])
        work, at, count, lock = compiler().run_table, data_pointer(table), times * len(self.cells), self.lock
        team = onednn.team() if len(bounds) > 2 else None
        if team is None:

            def run(*held: Any) -> None:
                if lock is None:
                    work(at, 0, count)
                else:
                    with lock:
                        work(at, 0, count)

            return functools.partial(run, self, table, places, kept)  # which it keeps alive
        edges = np.array(bounds, np.int64) * len(self.cells)
        cells = np.array((at, data_pointer(edges), len(bounds) - 1, *team), np.int64)
        parts, all_of_it = compiler().run_parallel, data_pointer(cells)

        def run_parts(*held: Any) -> None:
            parts(all_of_it)

        return functools.partial(run_parts, self, table, places, edges, cells, kept)


_segments: OrderedDict[Any, RelocatableSegment | None] = OrderedDict()


_translation_lock = fork_safe_lock()


_MOST_SEGMENTS: Final = 128
after_fork(_segments.clear)  # some hold calls that rely on threads


def scan(
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
    the calls are translated once for these shapes, and the whole scan is one call of machine code."""
    segment = _cached(body, places, order, held, scratch) if len(order) > 2 and available() else None
    if segment is None:
        for t in order:
            body(call_now, *places(t), *held, *scratch)
        return
    _bound(segment, places, order, held, scratch, apart)()


def _bound(
    segment: RelocatableSegment,
    places: Callable[[int], tuple[Array, ...]],
    order: Sequence[int],
    held: tuple[Array, ...],
    scratch: tuple[Array, ...],
    apart: bool,
) -> Callable[[], None]:
    """A function that runs all repetitions; in parallel parts, each with scratch memory of its own, where they are `apart` and large."""
    size = sum(a.nbytes for a in places(order[1])) * len(order) if apart else 0
    parts = min(onednn.threads(), len(order) // 3) if size >= PARALLEL_BYTES and segment.lock is None else 1
    if parts < 2:
        return segment.bind(_bases(places, order, (*held, *scratch)), kept=scratch)
    bounds = [len(order) * i // parts for i in range(parts + 1)]
    rooms = [scratch, *(tuple([np.empty_like(a) for a in scratch]) for _ in range(parts - 1))]
    bases = [
        _bases(places, order[i:j], (*held, *room))
        for i, j, room in zip(bounds[:-1], bounds[1:], rooms, strict=True)
    ]
    return segment.bind(np.concatenate(bases), bounds, rooms)


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
    roots = (*second, *held, *scratch)
    key = (body, tuple([(a.shape, a.strides, a.dtype.char, a.flags.aligned) for a in roots]))
    with _translation_lock:
        if key not in _segments:
            _segments[key] = _translated(body, second, held, scratch)
            if len(_segments) > _MOST_SEGMENTS:
                _segments.popitem(last=False)
        return _segments[key]


def _translated(
    body: Callable[..., None], places: tuple[Array, ...], held: tuple[Array, ...], scratch: tuple[Array, ...]
) -> RelocatableSegment | None:
    calls: list[Any] = []
    roots = (*places, *held, *scratch)
    body(lambda f, *args: calls.append((suited(f, args[0]), args)), *roots)
    segments = native_segments(calls, (*places, *held))
    return RelocatableSegment([row for s in segments for row in s.rows], roots) if segments else None


def call_now(f: Callable[..., Any], *args: Any) -> None:
    """Make a call: what the body of a scan is called with where it is not translated."""
    if f is np.maximum or f is np.minimum:  # the only ones that NumPy wants to be given their output by name
        a, b, out = args
        f(a, b, out=out)
    else:
        suited(f, args[0])(*args)
