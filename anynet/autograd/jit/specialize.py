"""An operation on arrays of forms that come again and again, as machine code: a specialization.

A primitive that has been called with arrays of the same forms `WARMUP_CALLS` times is traced, with its gradient, as a whole
training step is by `anynet.compile`; the trace is compiled into a built-in function (`anynet_backends.jit.native_call`). It makes
the same calls on the same numbers, so that nothing but the time of the call changes. This takes NumPy and the extra
`numba`; what cannot be traced, or is no machine code, runs as before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from anynet import dtypes
from anynet.autograd.jit import blocked
from anynet.autograd.jit.recording import (
    Backward,
    ResultIsViewError,
    forget,
    record,
    same_layout,
    traceable_numpy,
)
from anynet_backends import Array
from anynet_backends.concurrency import fork_safe_lock, once
from anynet_backends.jit import native_call
from anynet_backends.jit.geometry import new_with_strides
from anynet_backends.jit.interpreter import TraceInterpreter
from anynet_backends.jit.iteration import is_elementwise
from anynet_backends.jit.memory_plan import aligned
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import ACTIVE, Trace, TracedArray, trace_lock

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
"""Bytes of the arguments: beyond, the calls cost little beside the work."""
_MAX_TOTAL: Final = 1 << 22
"""Bytes of the arguments and results, and of what lies between."""
_BLOCKED_BYTES: Final = 1 << 19
"""Bytes of the arguments beyond which functions go block by block, where they can."""
_WARMUP_CALLS_LARGE: Final = 3
_MAX_PAUSE: Final = 31
_MAX_FORMS, _MAX_FAILURES, _MAX_COUNTED, _MAX_TRIES = 32, 4, 256, 99
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


class Specialization:
    """One primitive, for one choice of metadata, but for arrays, and of inputs that require a gradient."""

    __slots__ = (
        "blocked",
        "call",
        "counts",
        "failures",
        "large_counts",
        "large_rounds",
        "longest",
        "meta",
        "need",
        "pause",
        "prim",
        "rounds",
        "table",
        "uncompilable",
    )

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
        self.large_counts: dict[Any, int] = {}
        self.failures = 0
        self.rounds = self.large_rounds = 0  # how often there were more forms than are kept
        self.pause = self.longest = 0  # how many calls are not counted, and how many they were the last time
        self.uncompilable = uncompilable
        self.table: native_call.DispatchTable | None = None
        self.blocked: dict[Any, blocked.BlockedFunction | None] = {}  # by the forms of the arrays
        self.call: Callable[..., Any] = _nothing

    def observe(self, data: list[Any]) -> Any:
        """Count a call with arrays for which nothing is compiled yet; after enough calls, compile and run it. None otherwise."""
        if self.pause:
            self.pause -= 1
            return None
        if self.prim.array_meta and any([type(x) is not type(data[0]) for x in data]):
            return None
        size = 0
        for x in data:
            size += x.nbytes
        if size > _BLOCKED_BYTES and self.prim.blockable and not self.prim.array_meta:
            made = self.observe_large(data)
            if made is not None:
                return made
        if size > self.prim.max_bytes:
            return None
        form = tuple([(x.shape, x.strides, x.dtype) for x in data])
        seen = self.counts.get(form, 0) + 1
        self.counts[form] = seen
        least = WARMUP_CALLS << self.rounds
        if seen < least or seen > least + _MAX_TRIES or not trace_lock.acquire(blocking=False):
            if len(self.counts) > _MAX_COUNTED:
                self.counts.clear()
            # of a form that came to nothing: the next calls are probably of such forms, too
            if seen > least + _MAX_TRIES and not self.blocked:
                self.longest = min(2 * self.longest + 1, _MAX_PAUSE)
                self.pause = self.longest
            else:
                self.longest = 0
            return None
        self.counts[form] = least + _MAX_TRIES
        try:
            plan = None if ACTIVE else _plan(self.prim, self.need, self.meta, data)
        except ResultIsViewError:
            plan = None
            _update_compilable(self.prim)
        except Exception:  # noqa: BLE001 - what cannot be traced runs as before
            plan = None
        finally:
            trace_lock.release()
        if plan is None:
            self.failures += 1
            if self.failures >= _MAX_FAILURES and self.table is None and not any(self.blocked.values()):
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
                self.rounds += 1
            self.table, self.call = table, table.call
        caches.filled = True
        return self.call(*data)

    def observe_large(self, data: list[Any]) -> Any:
        """`observe` for large arrays, on which the primitive runs block by block from the third call on, where it can."""
        form = tuple([(x.shape, x.strides, x.dtype) for x in data])
        found = self.blocked.get(form)
        if found is None:
            if form in self.blocked or not all([x.flags.aligned for x in data]):
                return None
            seen = self.large_counts.get(form, 0) + 1
            if len(self.large_counts) > _MAX_COUNTED:
                self.large_counts.clear()
            self.large_counts[form] = seen
            if seen < _WARMUP_CALLS_LARGE << self.large_rounds:
                return None
            if len(self.blocked) >= _MAX_FAILURES and not any(self.blocked.values()):
                return None
        if (found is None or found.missing is not None) and trace_lock.acquire(blocking=False):
            try:
                if ACTIVE:
                    return None
                found = blocked.plan(self.prim, self.need, self.meta, data, found)
            finally:
                trace_lock.release()
            if len(self.blocked) >= _MAX_FORMS and form not in self.blocked:
                # of more forms than are kept each must come more often each time, or all would be traced again and again
                self.blocked.clear()
                self.large_counts.clear()
                self.large_rounds += 1
            self.blocked[form] = found
            caches.filled = True
        return None if found is None else found(*data)


def _update_compilable(prim: Primitive[...]) -> None:
    """Give up on a primitive of which no specialization could be compiled."""
    prim.compilable = any(s.table or s.blocked for s in list(prim.specializations.values()))


def static_key(need: tuple[bool, ...] | None, meta: dict[str, Any]) -> Any:
    """Metadata as a key, in which 1, 1.0 and True differ, and 0.0 and -0.0; `UNHASHABLE` where they may change."""
    values = tuple(meta.values())
    kinds: list[Any] = []
    for value in values:
        kind: Any = type(value)
        if kind is tuple:  # mostly axes and shapes
            kind = _kinds(value)
            if kind is None:
                break
        elif kind not in _SIMPLE and (kind is not float or not value):
            break
        kinds.append(kind)
    else:
        return need, tuple(kinds), tuple(meta), values
    try:
        return need, *[(k, hashable(v)) for k, v in meta.items()]
    except TypeError:
        return UNHASHABLE


def _kinds(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The types in a tuple, or in tuples in it; None where there are others than simple ones."""
    kinds = tuple(map(type, values))
    if _SIMPLE.issuperset(kinds):
        return kinds
    if not _SIMPLE_OR_TUPLE.issuperset(kinds):
        return None
    inner = [_kinds(value) if kind is tuple else kind for kind, value in zip(kinds, values, strict=True)]
    return None if None in inner else tuple(inner)


UNHASHABLE = "unhashable"
"""The key of metadata that may change."""
_SIMPLE = frozenset((int, bool, str, type(None), type(...), dtypes.DType))
_SIMPLE_OR_TUPLE = _SIMPLE | {tuple}


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


def _nothing(*_: Any) -> None:
    return None


def _plan(
    prim: Primitive[...], need: tuple[bool, ...] | None, meta: dict[str, Any], data: Sequence[Array]
) -> native_call.NativePlan | None:
    """What `prim` does with arrays of these forms, as a plan; None where it is no machine code."""
    trace = Trace(traceable_numpy(), MAX_BYTES)
    given = [trace.input(x, as_it_lies=True) for x in data]
    try:
        made = record(prim, need, meta, trace, given, prim.compute) if same_layout(given, data) else None
        if made is None:
            return None
        if made.backward is None:
            return _native_plan(trace, given, made.results, outputs=len(made.results))
        kept = made.backward.kept
        make = functools.partial(_plan_elsewhere, prim, need, meta, _forms(data), _identities(kept))
        back = _backward_plan(made.backward, make, by_rules=made.by_rules)
        if back is None:
            return None
        return _native_plan(trace, given, [*made.results, *kept], back, outputs=len(made.results))
    finally:
        forget(trace)


def _backward_plan(
    made: Backward, make: native_call.Make | None, *, by_rules: bool
) -> native_call.NativePlan | None:
    """The plan of a backward pass; `make` makes one for gradients that lie in memory in another way."""
    backward, kept, gs, grads = made
    if not by_rules:  # a kernel's backward pass, which the rules do not replace, takes copies
        return _native_plan(backward, [*kept, *gs], grads, gradients=len(gs))
    elementwise = all(is_elementwise(i.name) for i in backward.instructions)
    fit = native_call.same_order if elementwise else native_call.same_places
    return _native_plan(backward, [*kept, *gs], grads, gradients=len(gs), fit=fit, make=make)


_Form = tuple[tuple[int, ...], tuple[int, ...], Any]


def _forms(data: Sequence[Array]) -> list[_Form]:
    return [(x.shape, x.strides, x.dtype) for x in data]


def _identities(kept: Sequence[TracedArray]) -> list[tuple[int, _Form]]:
    """What is kept, as it is found again in another trace of the same function, which numbers its variables alike."""
    return [(x.var, form) for x, form in zip(kept, _forms([x.value for x in kept]), strict=True)]


def _plan_elsewhere(
    prim: Primitive[...], need: tuple[bool, ...] | None, meta: dict[str, Any], forms: list[_Form], kept: list[tuple[int, _Form]],
    layouts: native_call.Layouts,
) -> native_call.NativePlan | None:  # fmt: skip
    """The plan of the backward pass of `prim`, for the arrays that are `kept`, and gradients with these strides. BlockingIOError while
    something else is traced."""
    if any(s <= 0 for strides in layouts for s in strides):
        return None
    if ACTIVE or not trace_lock.acquire(blocking=False):
        raise BlockingIOError
    trace = Trace(traceable_numpy(), MAX_BYTES)
    try:
        given = [trace.input(new_with_strides(*form), as_it_lies=True) for form in forms]
        expected = iter(layouts)

        def gradient(y: TracedArray) -> TracedArray:
            return trace.input(new_with_strides(y.shape, next(expected), y.dtype), as_it_lies=True)

        with traceable_numpy().errstate():
            made = record(prim, need, meta, trace, given, prim.compute, gradient)
        back = None if made is None else made.backward
        if back is None or _identities(back.kept) != kept:
            return None
        if tuple([g.value.strides for g in back.given]) != layouts:
            return None
        return _backward_plan(back, None, by_rules=True)
    except Exception:  # noqa: BLE001 - what cannot be traced is left to the rules
        return None
    finally:
        forget(trace)
        trace_lock.release()


def _native_plan(
    recording: Trace,
    given: list[TracedArray],
    wanted: Sequence[TracedArray | None],
    back: native_call.NativePlan | None = None,
    *,
    outputs: int = 1,
    gradients: int = 0,
    fit: native_call.Fit | None = None,
    make: native_call.Make | None = None,
) -> native_call.NativePlan | None:
    """The plan of what has been recorded. A forward pass gives the first `outputs` of `wanted` and keeps the others for `back`; a backward
    pass, whose last arguments are so many `gradients` that `fit`, gives them all, and `make` makes it for others."""
    recording.inputs = given
    real = [x for x in wanted if x is not None]
    notes = TraceInterpreter(recording, given, real) if gradients else None
    made = Program(recording, real, scratch=_scratch()).function(wanted)
    if made is None:
        return None
    if not gradients and not (
        made.rows and made.gives[:outputs] == list(range(len(given), len(given) + outputs))
    ):
        return None
    everything = (*made.arguments, *made.results)
    if len(everything) > native_call.MAX_ARRAYS or sum(a.nbytes for a in everything) > _MAX_TOTAL:
        return None
    there = [x is not None for x in wanted]

    def plain(*arrays: Array) -> tuple[Array | None, ...]:
        found = iter(notes(*arrays))  # type: ignore[misc]
        return tuple(next(found) if it else None for it in there)

    gives = made.gives if gradients else made.gives[outputs:]
    return native_call.NativePlan(
        made.rows,
        made.arguments,
        made.results,
        gives,
        back,
        plain if gradients else None,
        outputs,
        gradients,
        fit,
        make,
    )


@once
def _scratch() -> Array:
    """Scratch memory shared by all compiled functions: each holds the GIL from when it enters its addresses until it is done,
    so only one runs at a time."""
    return aligned(_MAX_TOTAL)
