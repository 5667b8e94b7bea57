"""A compiled step: a planned program with its guards, and how it is replayed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from anynet import random
from anynet.autograd.jit.host_callback import HostCall
from anynet.autograd.jit.outputs import Argument, ArgumentView, Output, build_result
from anynet.autograd.jit.trace_context import TraceContext
from anynet.autograd.pytree import LEAF
from anynet.tensor import Parameter, Tensor, mode, wrap
from anynet_backends import Array, machine
from anynet_backends import builtins as built_in
from anynet_backends.concurrency import once_property
from anynet_backends.jit.program import Program, owner, replay_observers
from anynet_backends.jit.tracer import COMPILING, TracedArray

__all__ = ["NOT_APPLICABLE", "Step"]

_new = Tensor.__new__
_GONE = (AttributeError, LookupError, NameError, ValueError)
NOT_APPLICABLE = object()
"""Sentinel: the fast path does not apply."""


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
            len(constants) == 1 and type(constants[0]) is Output and constants[0].tensor and structure is LEAF
        )
        self.given = [
            (x.value, x.shape, x.value.dtype, recording.given[x.var].strides) for x in recording.inputs
        ]
        self.places = context.places  # of the inputs among the arrays of a call
        self.variables = [(x, data, x.edge) for x, data in context.variables.values()]
        self.mode = context.mode if recording.mode_asked else None
        self.leaves = [
            (leaf, before is None)
            for leaf, before in context.leaves.values()
            if id(leaf) not in recording.forgotten
        ]
        stay = {
            id(leaf) for leaf, none in self.leaves if none and leaf.grad is None
        }  # none before, and none after
        self.after = [
            (leaf, leaf.grad)
            for leaf, _ in context.leaves.values()
            if not isinstance(getattr(leaf.grad, "_data", None), TracedArray) and id(leaf) not in stay
        ]
        self.fresh = [
            leaf
            for leaf, _ in context.leaves.values()
            if isinstance(getattr(leaf.grad, "_data", None), TracedArray)
        ]
        # what of the arguments is written in place: which input, and its place in the program
        self.written = [(i, x.value) for i, x in enumerate(recording.inputs) if x.var in recording.changed]
        self.bound = (
            context.bound
        )  # arguments that get a new array, attributes of modules that get a new Tensor: outputs
        self.kept = context.kept
        self.hazards = frozenset(id(owner(a)) for a in program.hazards)
        self.exposed = any(
            owner(a) is a for a in program.hazards
        )  # whether one of them may be an argument itself
        self.structure = structure
        self.results = functools.partial(build_result, self.fresh, structure, constants)

    def fits(self) -> bool:
        """Whether all is as it was assumed: arrays bound as before, gradients there or not, nothing else changed that the
        function may read."""
        for x, data, edge in self.variables:
            if x._data is not data or x.edge is not edge:
                return False
        for leaf, none in self.leaves:
            if (leaf.grad is None) is not none:
                return False
        return self.mode in (None, mode.recording) and self.guard.fits()

    def shares(self, arrays: list[Array]) -> bool:
        """Whether an argument lies in memory that is written while the program still reads its copy of it."""
        if self.written:
            owners = [id(owner(arrays[i])) for i in self.places]
            if len(set(owners)) < len(owners) or not all(
                arrays[self.places[i]].flags.writeable for i, _ in self.written
            ):
                return True
        return any(id(owner(a)) in self.hazards for a in arrays)

    @property
    def plain(self) -> bool:
        """Whether arguments are only read and are all different arrays, and nothing is drawn."""
        return (
            not (self.written or self.bound or self.kept or self.program.draws)
            and self.places == [*range(len(self.given))]
            and not any(type(c) in (Argument, ArgumentView) for c in self.constants)
        )

    @once_property
    def direct(self) -> Callable[[tuple[Any, ...]], Any]:
        """A function that replays what is written out here, without a loop: given the arguments, the result, or `NOT_APPLICABLE` where
        they, or what `fits` asks, are not as in the recording, or where somebody watches. A loop over a handful of arrays takes
        longer than a small network."""
        scope: dict[str, Any] = {
            "Tensor": Tensor,
            "new": _new,
            "ELSE": NOT_APPLICABLE,
            "active": COMPILING,
            "callers": replay_observers,
        }

        def name(x: Any) -> str:
            scope[f"x{len(scope)}"] = x
            return f"x{len(scope) - 1}"

        program, given = self.program, range(len(self.given))
        call = self._function()
        body = [f"if len(args) != {len(given)} or active or callers: return ELSE"]
        body += [f"{''.join(f'a{i}, ' for i in given)}= args"] if given else []
        for i, (value, shape, dtype, strides) in enumerate(self.given):
            body += [
                f"if type(a{i}) is not Tensor or a{i}.edge is not None: return ELSE",
                f"d{i} = a{i}._data",
            ]
            if call is None:
                body.append(
                    f"if type(d{i}) is not {name(type(value))} or d{i}.shape != {shape} or d{i}.dtype is not {name(dtype)} "
                    f"or d{i}.strides != {strides}: return ELSE"
                )
        changed, guard = self._tests(name), []
        if changed:  # a name or an item may be gone
            test = f"    if {' or '.join(changed)}: return ELSE"
            guard += ["try:", test, f"except {name(_GONE)}: return ELSE"]
        if self.hazards:
            inside = [f"{name(id)}({name(owner)}(d{i})) in {name(self.hazards)}" for i in given]
            if not self.exposed:  # what owns its memory is none of them
                inside = [f"d{i}.base is not None and {test}" for i, test in zip(given, inside, strict=True)]
            guard += [f"if {' or '.join(inside)}: return ELSE"] if inside else []
        if call is not None:  # it looks at the arrays itself
            program_args = ", ".join(f"d{i}" for i in given)
            run = f"z = {name(call)}({program_args})"
            if any(
                isinstance(f, machine.Segment) and f.waits for f, _ in program.segments
            ):  # in the same memory
                body += [*guard, f"with {name(self.lock)}:", f"    {run}"]
            else:
                body += [*guard, run]
            return _written([*body, "if z is None: return ELSE", *_wrapped("z")], scope)
        replay = guard  # within the lock: another thread may be in the middle of a step
        replay += [f"{name(put)}(..., d{i})" for i, put in enumerate(program.puts)]
        for f, args in program.fast:
            host: Any = f
            made = (host.function, host.args) if isinstance(host, HostCall) and host.plain else (f, args)
            replay.append(f"{name(made[0])}({', '.join(map(name, made[1]))})")
        replay += [f"{name(leaf)}.grad = {name(grad)}" for leaf, grad in self.after]
        copies = [
            f"{name(r)}{'' if live else '.copy()'}"
            for r, live in zip(program.results, program.live, strict=True)
        ]
        if self.single and not self.fresh:
            replay += _wrapped(copies[0])
        else:
            replay += [f"return {name(self.results)}([{', '.join(copies)}])"]
        return _written([*body, f"with {name(self.lock)}:", *(f"    {line}" for line in replay)], scope)

    def _tests(self, name: Callable[[Any], str]) -> list[str]:
        """Conditions in Python, of which one is true where `fits` is not."""
        tests = []
        for x, data, edge in self.variables:
            own = name(x)
            tests.append(f"{own}._data is not {name(data)}")
            if not isinstance(x, Parameter):  # of whose edges the guard is told
                tests.append(f"{own}.edge is not {name(edge)}")
        tests += [f"({name(leaf)}.grad is None) is not {none}" for leaf, none in self.leaves]
        if self.mode is not None:
            tests.append(f"{name(mode)}.recording is not {self.mode}")
        return tests + self.guard.tests(name)

    def _function(self) -> Callable[..., Array | None] | None:
        """The program as a built-in function of its arguments, where it is machine code alone and gives one array."""
        program = self.program
        if not self.single or self.fresh or self.after or not built_in.available():
            return None
        made = program.function(program.outputs)
        if made is None or made.gives != [len(made.arguments)] or machine.touched(made.rows) > machine.SMALL:
            return None
        table = built_in.Table()
        table.add(built_in.Plan(made.rows, made.arguments, made.results, ()))
        return table.call

    def run(self, leaves: list[Any], arrays: list[Array]) -> Any:
        """Replay, with the leaves of the arguments, and those of them that are arrays."""
        program = self.program
        inputs = [arrays[i] for i in self.places]
        drawn = random.next_mask(program.draws) if program.draws else ()
        try:
            results = program.run(inputs, *drawn)
        except BaseException:
            if drawn:  # a refused call leaves everything as it was
                random.give_back(program.draws, drawn[1])
            raise
        for leaf, grad in self.after:
            leaf.grad = grad
        return self.leave(leaves, inputs, results)

    def leave(self, leaves: list[Any], inputs: list[Array], results: list[Array]) -> Any:
        """What the function leaves in its arguments and in modules, and its result."""
        for i, value in self.written:
            inputs[i][...] = value
        for i, number in self.bound:
            leaves[i]._data = results[number]
        for module, attribute, number in self.kept:
            vars(module)[attribute] = wrap(results[number])
        return self.results(results, leaves)


def _wrapped(array: str) -> list[str]:
    """Lines that return an array as a Tensor: `wrap`, without a call."""
    return ["y = new(Tensor)", f"y._data = {array}", "y.edge = None", "return y"]


def _written(body: list[str], scope: dict[str, Any]) -> Callable[[tuple[Any, ...]], Any]:
    exec("def replay(args):\n" + "\n".join(f"    {line}" for line in body), scope)
    replay: Callable[[tuple[Any, ...]], Any] = scope.pop("replay")  # no circle that would outlive the step
    return replay
