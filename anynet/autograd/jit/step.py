"""A compiled step: a planned program with its guards, and how it is replayed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from anynet import streams
from anynet.autograd.jit.outputs import Argument, ArgumentView, Output, build_result
from anynet.autograd.jit.rebinding import bind, has_views_to_follow
from anynet.autograd.jit.replay_source import ReplaySource
from anynet.autograd.jit.trace_context import TraceContext, is_traced
from anynet.autograd.pytree import LEAF
from anynet.sparse_rows import SparseRows
from anynet.tensor import wrap
from anynet_backends import Array
from anynet_backends.concurrency import once_property, this_thread
from anynet_backends.jit.program import Program, owner

__all__ = ["Step"]


class Step:
    """A planned program with what it assumes of the world outside, and what it leaves there."""

    def __init__(
        self,
        context: TraceContext,
        program: Program,
        structure: Any,
        constants: list[Any],
        lock: threading.RLock,
    ) -> None:
        recording = context.recording
        self.program = program
        self.guard = context.guard
        self.guard.without(recording.captured)
        self.lock = lock  # the arrays of a program are there once
        self.constants = constants  # leaves of the result: a number of an output, or what it is
        self.single = (
            len(constants) == 1
            and type(constants[0]) is Output
            and constants[0].cls is not None
            and structure is LEAF
        )
        self.given = [
            (x.value, x.shape, x.value.dtype, recording.given[x.var].strides) for x in recording.inputs
        ]
        # Tensors from outside whose arrays are arguments, too, with the form of these, and what becomes of their views
        taken = context.rebinding.taken
        self.taken = [x for x, *_ in taken]
        self.forms = [
            (x, how, type(value), shape, dtype, strides)
            for (x, _, how), (value, shape, dtype, strides) in zip(
                taken, self.given[len(self.given) - len(taken) :], strict=True
            )
        ]
        self.classes = context.classes
        self.places = context.places  # of the inputs among the arrays of a call
        self.variables = [(x, data, x.edge) for x, data in context.variables.values()]
        self.mode = context.mode if recording.mode_asked else None
        self.leaves = [
            (leaf, before is None)
            for leaf, before in context.leaves.values()
            if id(leaf) not in recording.forgotten
        ]
        # without a gradient before and after
        stay = {id(leaf) for leaf, none in self.leaves if none and leaf.grad is None}
        self.after = [
            (leaf, leaf.grad)
            for leaf, _ in context.leaves.values()
            if not (
                is_traced(leaf.grad) or isinstance(leaf.grad, SparseRows) or id(leaf) in stay
            )  # rows are received on the host
        ]
        self.fresh = [leaf for leaf, _ in context.leaves.values() if is_traced(leaf.grad)]
        # what of the arguments is written in place: which input, and its place in the program
        self.written = [(i, x.value) for i, x in enumerate(recording.inputs) if x.var in recording.changed]
        # arguments and Tensors from outside that get a new array, attributes of modules that get a new Tensor: (what, number of the output)
        self.bound, self.rebound, self.kept = context.bound, context.rebound, context.kept
        self.hazards = frozenset(id(owner(a)) for a in program.hazards)
        # whether one of them may be an argument itself
        self.exposed = any(owner(a) is a for a in program.hazards)
        self.structure = structure
        self.results = functools.partial(build_result, self.fresh, structure, constants)

    def fits(self) -> bool:
        """Whether the guards hold: arrays bound as before, gradients there or not, nothing else changed that the function may
        read."""
        for x, data, edge in self.variables:
            if x._data is not data or x.edge is not edge:
                return False
        for leaf, none in self.leaves:
            if (leaf.grad is None) is not none:
                return False
        for x, how, kind, *form in self.forms:
            data = x._data
            same = type(data) is kind and [data.shape, data.dtype, data.strides] == form
            if not same or x.edge is not None or has_views_to_follow(x, how):
                return False
        return self.mode in (None, this_thread.recording) and self.guard.fits()

    def shares(self, arrays: list[Array]) -> bool:
        """Whether an argument lies in memory that is written while the program still reads its copy of it."""
        arrays = self._all(arrays)
        if self.written:
            owners = [id(owner(arrays[i])) for i in self.places]
            if len(set(owners)) < len(owners) or not all(
                arrays[self.places[i]].flags.writeable for i, _ in self.written
            ):
                return True
        return any(id(owner(a)) in self.hazards for a in arrays)

    def _all(self, arrays: list[Array]) -> list[Array]:
        """The arrays of a call, and those that Tensors from outside have now."""
        return [*arrays, *[x._data for x in self.taken]] if self.taken else arrays

    def with_taken(self, leaves: list[Any], arrays: list[Array]) -> tuple[list[Any], list[Array]]:
        """The leaves of the arguments and the arrays for the inputs of the program, with Tensors from outside that are among them."""
        everything = self._all(arrays)
        return [*leaves, *self.taken], [everything[i] for i in self.places]

    @property
    def plain(self) -> bool:
        """Whether arguments are only read and are all different arrays, and nothing is drawn."""
        return (
            not (self.written or self.bound or self.kept or self.taken or self.program.draws)
            and self.places == [*range(len(self.given))]
            and not any(type(c) in (Argument, ArgumentView) for c in self.constants)
        )

    @once_property
    def direct(self) -> Callable[[tuple[Any, ...]], Any]:
        """A function that replays without a loop: see `ReplaySource`."""
        return ReplaySource(self).compiled()

    def run(self, leaves: list[Any], arrays: list[Array]) -> Any:
        """Replay, with the leaves of the arguments, and those of them that are arrays."""
        program = self.program
        leaves, inputs = self.with_taken(leaves, arrays)
        drawn = streams.next_mask(program.draws) if program.draws else ()
        try:
            results = program.run(inputs, *drawn)
        except BaseException:
            if drawn:  # a refused call leaves everything as it was
                streams.give_back(program.draws, drawn[1])
            raise
        for leaf, grad in self.after:
            leaf.grad = grad
        return self.leave(leaves, inputs, results)

    def leave(self, leaves: list[Any], inputs: list[Array], results: list[Array]) -> Any:
        """What the function leaves in its arguments and in modules, and its result."""
        for i, value in self.written:
            inputs[i][...] = value
        made = self.results(results, leaves)  # views of arguments are those of the arrays that they had
        for i, number in self.bound:
            leaves[i]._data = results[number]
        for x, number, how in self.rebound:
            bind(x, results[number], how)
        for module, attribute, number, cls in self.kept:
            vars(module)[attribute] = wrap(results[number], cls)
        return made
