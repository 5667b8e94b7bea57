"""An operation on arrays of forms that come again and again, as machine code: a specialization.

A primitive that has been called with arrays of the same forms `WARMUP_CALLS` times is traced, with its gradient, as a whole
training step is by `anynet.compile`; the trace is compiled into a built-in function (`anynet_backends.jit.native_call`). It makes
the same calls on the same numbers, so that nothing but the time of the call changes. This takes NumPy and the extra
`numba`; what cannot be traced, or is no machine code, runs as before.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from anynet import dtypes
from anynet.autograd.rules import fit, run_rules
from anynet_backends import TYPES, Array, Backend, get_backend
from anynet_backends.concurrency import fork_safe_lock, once
from anynet_backends.jit import native_call, tiling
from anynet_backends.jit.instructions import Instruction, made_by
from anynet_backends.jit.interpreter import TraceInterpreter
from anynet_backends.jit.memory_plan import aligned, shaped
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import ACTIVE, Trace, TracedArray, trace_lock
from anynet_backends.jit.tracer_backend import TracerBackend

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = [
    "MAX_BYTES",
    "UNHASHABLE",
    "WARMUP_CALLS",
    "Specialization",
    "available",
    "caches",
    "hashable",
    "traceable_numpy",
    "static_key",
]

WARMUP_CALLS: int = 24
MAX_BYTES: Final = 1 << 20
"""Bytes of the arguments and results: beyond, the calls cost little beside the work."""
_TILED_BYTES: Final = 1 << 18
"""Bytes of the arguments beyond which functions that act on each element go block by block."""
_WARMUP_CALLS_LARGE: Final = 3
_MAX_FORMS, _MAX_FAILURES, _MAX_COUNTED, _MAX_TRIES = 32, 4, 256, 99
_Make = Callable[..., Any]
"""`_native_plan` or `_tiled`."""


available = native_call.available


class _Caches:
    """Everything that caches compiled specializations, in a dictionary `specializations`."""

    def __init__(self) -> None:
        self.owners: WeakSet[Any] = WeakSet()
        self.lock = fork_safe_lock()  # a set must not grow while it is iterated
        self.filled = False  # whether anything has been compiled yet

    def register(self, owner: Any) -> None:
        """Add the owner of a cache."""
        with self.lock:
            self.owners.add(owner)

    def invalidate_all(self) -> None:
        """Discard everything that has been compiled."""
        if self.filled:
            with self.lock:
                owners = list(self.owners)
            for owner in owners:
                owner.specializations.clear()


caches: Final = _Caches()


def traceable_numpy() -> Backend:
    """NumPy, whose arrays can be traced from now on."""
    tracer = _tracer()
    TYPES.setdefault(TracedArray, tracer)
    return tracer.base


@once
def _tracer() -> TracerBackend:
    return TracerBackend(get_backend("numpy"))


class Specialization:
    """One primitive, for one choice of metadata and of inputs that require a gradient."""

    __slots__ = ("call", "counts", "failures", "meta", "need", "prim", "table", "tiled", "uncompilable")

    def __init__(
        self,
        prim: Primitive[...],
        need: tuple[bool, ...] | None,
        meta: dict[str, Any],
        *,
        uncompilable: bool = False,
    ) -> None:
        self.prim = prim
        self.need = need
        self.meta = meta
        self.counts: dict[Any, int] = {}
        self.failures = 0
        self.uncompilable = uncompilable
        self.table: native_call.DispatchTable | None = None
        self.tiled: dict[Any, _TiledFunction | None] = {}  # by the types of the arrays
        self.call: Callable[..., Any] = _nothing

    def observe(self, data: list[Any]) -> Any:
        """Count a call with arrays for which nothing is compiled yet; after enough calls, compile and run it. None otherwise."""
        size = 0
        for x in data:
            size += x.nbytes
        if self.prim.elementwise and size > _TILED_BYTES:
            return self.observe_large(data)
        if size > self.prim.max_bytes:
            return None
        form = tuple([(x.shape, x.strides, x.dtype) for x in data])
        seen = self.counts.get(form, 0) + 1
        self.counts[form] = seen
        if seen < WARMUP_CALLS or seen > WARMUP_CALLS + _MAX_TRIES or not trace_lock.acquire(blocking=False):
            if len(self.counts) > _MAX_COUNTED:
                self.counts.clear()
            return None
        self.counts[form] = WARMUP_CALLS + _MAX_TRIES
        try:
            plan = None if ACTIVE else _plan(self.prim, self.need, self.meta, data)
        except Exception:  # noqa: BLE001 - what cannot be traced runs as before
            plan = None
        finally:
            trace_lock.release()
        if plan is None:
            self.failures += 1
            if self.failures >= _MAX_FAILURES and self.table is None:
                self.uncompilable = True
                _update_compilable(self.prim)
            return None
        if self.table is not None and len(self.table.plans) < _MAX_FORMS:
            self.table.add(plan)
        else:  # a call that is running in the old one keeps it
            table = native_call.DispatchTable()
            table.add(plan)
            if self.table is not None:
                self.counts.clear()
            self.table, self.call = table, table.call
        caches.filled = True
        return self.call(*data)

    def observe_large(self, data: list[Any]) -> Any:
        """`observe` for an element-wise primitive on large arrays, which runs block by block, from the third call on."""
        if not tiling.dense_alike(data):
            return None
        form = tuple([x.dtype for x in data])
        found = self.tiled.get(form)
        if found is None:
            seen = self.counts.get(form, 0) + 1
            self.counts[form] = seen
            if form in self.tiled or seen < _WARMUP_CALLS_LARGE or not trace_lock.acquire(blocking=False):
                return None
            try:
                vectors = [_ones(tiling.WIDTH, t) for t in form]
                found = None if ACTIVE else _plan(self.prim, self.need, self.meta, vectors, _tiled)
            except Exception:  # noqa: BLE001 - as above
                found = None
            finally:
                trace_lock.release()
            self.tiled[form] = found
            caches.filled = True
            if found is None:
                return None
        return found(*data)


def _update_compilable(prim: Primitive[...]) -> None:
    """Give up on a primitive of which no specialization could be compiled."""
    prim.compilable = any(s.table or s.tiled for s in list(prim.specializations.values()))


class _TiledFunction(NamedTuple):
    """A function of large arrays. `gives`: which of its arguments and, behind them, results it gives; -1 for None. With `back`, which
    does the same to what is given and a gradient behind it, the first is its result, and the others are kept for that."""

    tiled: tiling.Blocks
    gives: list[int]
    back: _TiledFunction | None

    def __call__(self, *data: Array) -> Any:
        made = self.tiled(*data)
        if made is None:
            return None
        everything = (*data, *made)
        given = [None if i < 0 else everything[i] for i in self.gives]
        return given[0] if self.back is None else (given[0], functools.partial(self.back.pullback, given[1:]))

    def pullback(self, kept: list[Array], g: Array) -> Any:
        """The gradients of the inputs."""
        if kept and g.strides != kept[0].strides:
            g = get_backend("numpy").arrange(g, kept[0])
        arrays = (*kept, g)
        made = self.tiled(*arrays) if tiling.dense_alike(arrays) else None
        if made is None:
            return NotImplemented
        everything = (*arrays, *made)
        return tuple([None if i < 0 else everything[i] for i in self.gives])


def static_key(need: tuple[bool, ...] | None, meta: dict[str, Any]) -> Any:
    """Metadata as a key, in which 1, 1.0 and True differ, and 0.0 and -0.0; `UNHASHABLE` where they may change."""
    kinds = tuple(map(type, meta.values()))
    if _SIMPLE.issuperset(kinds):
        return need, kinds, *meta.items()
    try:
        return need, *[(k, hashable(v)) for k, v in meta.items()]
    except TypeError:
        return UNHASHABLE


UNHASHABLE = "unhashable"
"""The key of metadata that may change."""
_SIMPLE = frozenset((int, bool, str, type(None), type(...)))


def hashable(value: Any) -> Any:
    """A value as part of a key; TypeError for one that may change."""
    kind = type(value)
    if kind in _SIMPLE:
        return kind, value
    if kind is float:
        return kind, value or repr(value)
    if kind is tuple:
        return tuple([hashable(v) for v in value])
    if kind is slice:
        return slice, hashable(value.start), hashable(value.stop), hashable(value.step)
    if isinstance(value, (dtypes.DType, native_call.DTYPE)):
        return value
    raise TypeError


def _ones(n: int, dtype: Any) -> Array:
    return get_backend("numpy").ones(n, dtype=dtype)


def _nothing(*_: Any) -> None:
    return None


def _plan(
    prim: Primitive[...],
    need: tuple[bool, ...] | None,
    meta: dict[str, Any],
    data: Sequence[Array],
    make: _Make | None = None,
) -> Any:
    """What `prim` does with arrays of these forms, as `make` makes it, else as a plan; None where it is no machine code."""
    recording = Trace(traceable_numpy(), MAX_BYTES)
    given = [recording.input(x) for x in data]
    if any(not x.size or x.value.strides != like.strides for x, like in zip(given, data, strict=True)):
        return None
    try:
        return _recorded(recording, prim, need, meta, given, make or _native_plan)
    finally:
        recording.inputs.clear()  # which refer to the recording
        recording.captured.clear()


def _recorded(
    recording: Trace, prim: Primitive[...], need: tuple[bool, ...] | None, meta: dict[str, Any], given: list[TracedArray],
    make: _Make,
) -> Any:  # fmt: skip
    ACTIVE.append(recording)
    try:
        made, pullback = prim.compute(given, need, meta)
        results = made if prim.has_aux else (made,)
        if not all(isinstance(x, TracedArray) for x in results):
            return None
        y = results[0]
        if any(x.var == y.variable.root for x in given):  # a view, which is made as fast
            _update_compilable(prim)
            return None
        end, grads = len(recording.instructions), None
        if need is not None and prim.rules:
            g = recording.input(y.value)
            grads = _gradients(prim, need, meta, given, made, pullback, g)
    finally:
        ACTIVE.pop()
    if grads is None:
        return make(recording, given, results, outputs=len(results))
    backward, kept = _behind(recording, given, end, [x for x in grads if x is not None])
    back = make(backward, [*kept, g], grads, alone=False)
    if back is None:
        return None
    del recording.instructions[end:]
    return make(recording, given, [*results, *kept], back, outputs=len(results))


def _gradients(
    prim: Primitive[...], need: tuple[bool, ...], meta: dict[str, Any], given: list[TracedArray], y: Any,
    pullback: Any, g: TracedArray
) -> list[TracedArray | None]:  # fmt: skip
    """The gradients of the inputs, as the engine would take them."""
    if pullback is not None:
        found = dict(enumerate(pullback(g)))
    else:
        plan = prim.plan_of(need)
        found = dict(run_rules(plan, g, plan.keep(y, given, meta)))
    grads: list[TracedArray | None] = []
    for i, like in enumerate(given):
        x = found.get(i)
        if x is not None and (x.shape != like.shape or x.dtype != like.dtype):
            x = fit(x, like)
        if (
            x is not None and x.variable.root != x.var and not x.flags.c_contiguous
        ):  # one number for many, mostly
            x = g.trace.call("astype", (x, x.dtype), {"copy": True})
        grads.append(x)
    return grads


def _behind(
    recording: Trace, given: list[TracedArray], end: int, grads: list[TracedArray]
) -> tuple[Trace, list[TracedArray]]:
    """A recording of the backward pass alone, which begins at the instruction `end`, and what it reads of the forward
    pass: inputs and results. Views and constants are not kept but made again."""
    needed = {v for x in grads for v in (x.var, x.variable.root)}
    notes: list[Instruction] = []
    kept: list[TracedArray] = []
    for at in range(len(recording.instructions) - 1, -1, -1):
        note = recording.instructions[at]
        made = [o for o in made_by(note) if o.var in needed or o.root in needed]
        written = at >= end and note.writes is not None and {note.writes, note.args[0].root} & needed
        if not made and not written:
            continue
        if at >= end or all(o.root != o.var or o.root in recording.constants for o in made):
            notes.append(copy.copy(note))
            needed.update(note.reads)
            needed.update(o.root for o in made)
        else:
            kept += [TracedArray(shaped(aligned(o.nbytes), o), o, recording) for o in made]
    backward = Trace(recording.base)
    backward.functions, backward.captured = recording.functions, recording.captured
    backward.constants, backward.count = recording.constants, recording.count
    backward.instructions = notes[::-1]
    return backward, [*(x for x in given if x.var in needed), *kept]


def _tiled(
    recording: Trace, given: list[TracedArray], wanted: Sequence[TracedArray | None], back: _TiledFunction | None = None, *,
    alone: bool = True, outputs: int = 1,
) -> _TiledFunction | None:  # fmt: skip
    """As `_native_plan`, for vectors that are moved over large arrays; None for a single call too, which passes through memory once
    as it is."""
    recording.inputs = given
    scratch = aligned(MAX_BYTES)
    program = Program(recording, [x for x in wanted if x is not None], scratch=scratch)
    made = program.function(wanted)
    if made is None or (alone and (made.gives[0] != len(given) or (back is None and len(program.calls) < 2))):
        return None
    if outputs > 1 or any(a.size != tiling.WIDTH for a in (*made.arguments, *made.results)):
        return None
    return _TiledFunction(tiling.Blocks(made.rows, made.arguments, made.results), made.gives, back)


def _native_plan(
    recording: Trace,
    given: list[TracedArray],
    wanted: Sequence[TracedArray | None],
    back: native_call.NativePlan | None = None,
    *,
    alone: bool = True,
    outputs: int = 1,
) -> native_call.NativePlan | None:
    """The plan of what has been recorded. A forward pass gives the first `outputs` of `wanted` and keeps the others for `back`;
    a backward pass, not `alone`, gives them all."""
    recording.inputs = given
    real = [x for x in wanted if x is not None]
    notes = None if alone else TraceInterpreter(recording, given, real)
    made = Program(recording, real, scratch=_scratch()).function(wanted)
    if made is None or (alone and made.gives[:outputs] != list(range(len(given), len(given) + outputs))):
        return None
    everything = (*made.arguments, *made.results)
    if len(everything) > native_call.MAX_ARRAYS or sum(a.nbytes for a in everything) > MAX_BYTES:
        return None
    if notes is None:
        return native_call.NativePlan(
            made.rows, made.arguments, made.results, made.gives[outputs:], back, outputs=outputs
        )
    for x in given:  # nor shall what is kept keep the arrays of the recording
        x.variable.value = None
    there = [x is not None for x in wanted]

    def plain(*arrays: Array) -> tuple[Array | None, ...]:
        found = iter(notes(*arrays))
        return tuple(next(found) if it else None for it in there)

    return native_call.NativePlan(made.rows, made.arguments, made.results, made.gives, back, plain)


@once
def _scratch() -> Array:
    """Scratch memory shared by all compiled functions: each holds the GIL from when it enters its addresses until it is done,
    so only one runs at a time."""
    return aligned(MAX_BYTES)
