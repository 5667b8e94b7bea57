"""Traces of a primitive and its backward pass, of which machine code is made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from anynet.autograd.rules import fit, run_rules
from anynet_backends import TYPES, Array, Backend, get_backend
from anynet_backends.concurrency import once
from anynet_backends.jit.instructions import Instruction, made_by
from anynet_backends.jit.memory_plan import aligned, shaped
from anynet_backends.jit.tracer import ACTIVE, Trace, TracedArray
from anynet_backends.jit.tracer_backend import TracerBackend

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = [
    "Backward", "Recorded", "ResultIsViewError", "backward_part", "forget", "record", "same_layout", "traceable_numpy",
]  # fmt: skip


def traceable_numpy() -> Backend:
    """NumPy, whose arrays can be traced from now on."""
    tracer = _tracer()
    TYPES.setdefault(TracedArray, tracer)
    return tracer.base


@once
def _tracer() -> TracerBackend:
    return TracerBackend(get_backend("numpy"))


def same_layout(given: Sequence[TracedArray], data: Sequence[Array]) -> bool:
    """Whether the copies that a trace has of its arguments lie in memory as these do, and there is something in them."""
    return all(x.size and x.value.strides == like.strides for x, like in zip(given, data, strict=True))


def forget(trace: Trace) -> None:
    """Let go of the arrays of a trace, which refer to it."""
    for x in trace.inputs:
        x.variable.value = None
    trace.inputs.clear()
    trace.captured.clear()


class Backward(NamedTuple):
    """A trace of a backward pass, the results of the forward pass that it reads, the gradients it is given, and those that it gives."""

    trace: Trace
    kept: list[TracedArray]
    given: list[TracedArray]
    grads: list[TracedArray | None]


class Recorded(NamedTuple):
    """What has been traced of a primitive: the results, and the backward pass where there is one. `by_rules`: without it the rules give
    the same gradients, and no kernel's pullback, nor a function that takes gradients in any layout."""

    results: Sequence[TracedArray]
    backward: Backward | None
    by_rules: bool = True


class ResultIsViewError(Exception):
    """The result is a view of an argument, which is made as fast without machine code."""


def record(
    prim: Primitive[...], need: tuple[bool, ...] | None, meta: dict[str, Any], trace: Trace, given: list[TracedArray],
    compute: Callable[..., Any], gradient: Callable[[TracedArray], TracedArray] | None = None,
) -> Recorded | None:  # fmt: skip
    """Trace `compute` and its backward pass, for what `gradient` makes of each result as that of the result. None where a result is no
    array of the trace. Behind the arguments stand in `given` the arrays among the metadata."""
    inputs = given[: len(given) - len(prim.array_meta)]
    meta = {**meta, **dict(zip(prim.array_meta, given[len(inputs) :], strict=True))}
    ACTIVE.append(trace)
    try:
        made, pullback = compute(inputs, need, meta)
        results = made if isinstance(made, tuple) else (made,)
        if not all(isinstance(x, TracedArray) for x in results):
            return None
        ys = results[:1] if prim.has_aux else results
        if any(x.var == y.variable.root for x in given for y in ys):
            raise ResultIsViewError
        if need is None or not prim.rules:
            return Recorded(results, None)
        end = len(trace.instructions)
        gs = [trace.input(y.value) if gradient is None else gradient(y) for y in ys]
        several = isinstance(made, tuple) and not prim.has_aux
        g = tuple(gs) if several else gs[0]
        with trace.base.errstate():  # these numbers are nobody's gradient
            found = gradients_of(prim, need, meta, inputs, made, pullback, g)
        grads = [None if x is None else _as_eager(x) for x in found]
    finally:
        ACTIVE.pop()
    by_rules = (pullback is None or prim.made_of_operations) and not prim.any_layout
    if any(x is not None and _stands_for_many(x) for x in grads):
        # machine code makes arrays, and what reads one has other bits than with the view that the rules give
        del trace.instructions[end:]
        return Recorded(results, None) if pullback is None else None
    backward, kept = backward_part(trace, given, end, [x for x in grads if x is not None])
    del trace.instructions[end:]
    return Recorded(results, Backward(backward, kept, gs, grads), by_rules)


def _stands_for_many(x: TracedArray) -> bool:
    """Whether one number of a view stands for many."""
    return any(n > 1 and not s for n, s in zip(x.shape, x.strides, strict=True))


def _as_eager(x: TracedArray) -> TracedArray:
    """A gradient, or a copy of it where it is a view out of order."""
    if x.variable.root != x.var and not x.flags.c_contiguous and not _stands_for_many(x):
        x = x.trace.call("astype", (x, x.dtype), {"copy": True})
    return x


def gradients_of(
    prim: Primitive[...], need: tuple[bool, ...], meta: dict[str, Any], given: Sequence[Any], y: Any, pullback: Any, g: Any
) -> list[Any]:  # fmt: skip
    """The gradients of the inputs, as the engine would take them; `g` is the gradient of the result, or a tuple of several."""
    if pullback is not None:
        found = dict(enumerate(pullback(g)))
    else:
        plan = prim.plan_of(need)
        found = dict(run_rules(plan, g, plan.keep(y, given, meta)))
    grads: list[Any] = []
    for i, like in enumerate(given):
        x = found.get(i)
        if x is not None and (x.shape != like.shape or x.dtype != like.dtype):
            x = fit(x, like)
        grads.append(x)
    return grads


def backward_part(
    recording: Trace, given: Sequence[TracedArray], end: int, grads: Sequence[TracedArray]
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
