"""A primitive on large arrays, block by block, with its backward pass (`anynet_backends.jit.blocks`).

The sums of a backward pass are taken in the order in which the gradients of the results lie in memory, so that there is a program for
each such layout: the first for one like the results', the others when they are asked for. Each program has to give the bits of the
calls that it stands for, on the arrays that it was traced with, before it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from anynet.autograd.jit.recording import forget, record, traceable_numpy
from anynet.autograd.rules import fit, run_rules
from anynet_backends import Array
from anynet_backends.jit import blocks
from anynet_backends.jit.tracer import TracedArray

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = ["BlockedFunction", "plan"]

_MAX_LAYOUTS: Final = 4
_Layout = tuple[tuple[int, ...], ...]
"""The strides of the gradients of the results."""


class BlockedFunction:
    """A function of large arrays, which gives the first `outputs` of what its program makes. The others are kept for the backward pass,
    whose programs are here by the strides of the gradients of the results; those that were asked for and are not here are `missing`."""

    __slots__ = ("backward", "missing", "outputs", "run")

    def __init__(self, run: blocks.Blocked, outputs: int) -> None:
        self.run, self.outputs = run, outputs
        self.backward: dict[_Layout, blocks.Blocked | None] = {}
        self.missing: _Layout | None = None

    def __call__(self, *data: Array) -> Any:
        made = self.run(*data)
        if made is None:
            return None
        n = self.outputs
        y = made[0] if n == 1 else tuple(made[:n])
        if self.backward:
            return y, functools.partial(self.pullback, made[n:])
        return y if n == 1 else (y, None)

    def pullback(self, kept: list[Array], g: Any) -> Any:
        """The gradients of the inputs; NotImplemented where they are left to the rules."""
        gs = g if type(g) is tuple else (g,)
        layout: Any = tuple([getattr(x, "strides", None) for x in gs])
        if None in layout:
            return NotImplemented
        back = self.backward.get(layout)
        if back is None:
            if layout not in self.backward and len(self.backward) < _MAX_LAYOUTS:
                self.missing = layout
            return NotImplemented
        made = back(*kept, *gs) if all([x.flags.aligned for x in gs]) else None
        return NotImplemented if made is None else tuple(made)


def plan(
    prim: Primitive[...],
    need: tuple[bool, ...] | None,
    meta: dict[str, Any],
    data: Sequence[Array],
    before: BlockedFunction | None,
) -> BlockedFunction | None:
    """The blocked program of `prim` on arrays of these forms; None where there is none. Where there is one already, `before`, it gets the
    backward pass that is missing."""
    layout = None if before is None else before.missing
    try:
        with traceable_numpy().errstate():  # who calls it is warned by the call itself
            made = _plan(prim, need, meta, data, layout)
    except Exception:  # noqa: BLE001 - what cannot be traced runs as before
        made = None
    if before is None or layout is None:
        return made
    back = None if made is None else made.backward.get(layout)
    if back is None and prim.made_of_operations:
        return None
    before.backward[layout] = back
    before.missing = None
    return before


def _plan(
    prim: Primitive[...], need: tuple[bool, ...] | None, meta: dict[str, Any], data: Sequence[Array], layout: _Layout | None
) -> BlockedFunction | None:  # fmt: skip
    compute = prim.traceable(list(data), need, meta)
    if compute is None:
        return None
    trace = blocks.BlockTrace(traceable_numpy())
    try:
        given = [trace.argument(x.shape, x.strides, x.dtype) for x in data]

        expected = iter(layout or ())

        def gradient(y: TracedArray) -> TracedArray:
            return trace.argument(y.shape, next(expected, y.value.strides), y.dtype)

        found = record(prim, need, meta, trace, given, compute, gradient)
        if found is None:
            return None
        results, backward, _ = found
        run, calls = blocks.blocked(trace, given, [*results, *(backward.kept if backward else ())])
        if backward is None and calls < 2 and run.threads == 1:
            return None  # a single call passes through memory once as it is
        reads = [*backward.kept, *backward.given] if backward else []
        pull = blocks.blocked(backward.trace, reads, backward.grads)[0] if backward else None
        function = BlockedFunction(run, len(results))
        if backward and pull:
            function.backward[tuple([g.value.strides for g in backward.given])] = pull
        return function if _same_as_eager(prim, need, meta, data, function) else None
    finally:
        forget(trace)


def _same_as_eager(
    prim: Primitive[...],
    need: tuple[bool, ...] | None,
    meta: dict[str, Any],
    data: Sequence[Array],
    function: BlockedFunction,
) -> bool:
    """Whether it gives what the calls give for these arrays, bit for bit, and in the same layout."""
    made = function.run(*data)
    y, pullback = prim.compute(list(data), need, meta)
    values = y if isinstance(y, tuple) else (y,)
    if made is None or not _same(made, values):
        return False
    for layout, back in function.backward.items():
        gs = tuple([blocks.laid_out(x, strides) for x, strides in zip(values, layout, strict=False)])
        g = gs[0] if prim.has_aux or not isinstance(y, tuple) else gs
        found = NotImplemented if pullback is None else pullback(g)
        if found is NotImplemented:
            rules = prim.plan_of(need)  # type: ignore[arg-type]
            pulled = dict(run_rules(rules, g, rules.keep(y, data, meta)))
        else:
            pulled = dict(enumerate(found))
        grads = [pulled.get(i) for i in range(len(data))]
        grads = [None if x is None else fit(x, like) for x, like in zip(grads, data, strict=True)]
        if back is None or not _same(back(*made[len(values) :], *gs) or (), grads):
            return False
    return True


def _same(made: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether arrays have the bits of others, and lie in memory as they do: NumPy's operators put a result in the place of a large operand
    that nobody else has, in the order of that, which a trace does not know."""
    if len(made) < len(wanted):
        return False
    for a, b in zip(made, wanted, strict=False):
        if (a is None) != (b is None):
            return False
        if a is not None and (_form(a) != _form(b) or not blocks.same_bits(a, b)):
            return False
    return True


def _form(a: Array) -> Any:
    return a.shape, a.dtype, [s for n, s in zip(a.shape, a.strides, strict=True) if n > 1]
