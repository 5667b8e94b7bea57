"""A program: a trace after the passes, with its memory, lowered to NumPy calls, which a replay makes.

Each result has its place in memory for good, views of these places are made once, and what is left is a flat list of calls
that write into their places. Replaying it allocates nothing but the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from anynet_backends.array_api import Array
from anynet_backends.concurrency import ThreadStack, once_property
from anynet_backends.jit import availability, native_function, segment, translation
from anynet_backends.jit.borrowing import LEAST_BYTES, borrowed
from anynet_backends.jit.instructions import Instruction, Origin, listing, made_by
from anynet_backends.jit.lowering import Lowering
from anynet_backends.jit.memory_plan import aligned, lifetimes, plan_lines, plan_memory, shaped
from anynet_backends.jit.numpy_calls import CallList
from anynet_backends.jit.parallel import parallel_regions
from anynet_backends.jit.passes import (
    eliminate_common_subexpressions,
    eliminate_dead_code,
    find_hazards,
    fold_constants,
    forward_stores,
    fuse_taken_rows,
    hoist_checks,
    hoist_small,
    memory_roots,
    writes,
    written_roots,
)
from anynet_backends.jit.printing import Printer, call_lines
from anynet_backends.jit.tracer import Trace, TracedArray
from anynet_backends.memory import allocator

__all__ = ["NativeBody", "Program", "owner", "replay_observers"]


class NativeBody(NamedTuple):
    """A program that is machine code alone, as the body of a function: see `anynet_backends.jit.native_call.NativePlan`."""

    rows: list[segment.KernelCall]
    arguments: list[Array]
    results: list[Array]
    gives: list[int]


replay_observers: ThreadStack[Callable[[str, Callable[..., Any], tuple[Any, ...]], None]] = ThreadStack(
    "replay_observers"
)
"""Observers that make each call of a replay, given the name of its instruction (the profiler)."""


class Program:
    """A trace after the passes, with planned memory: `run` replays it."""

    def __init__(
        self, trace: Trace, traced: list[TracedArray], *, scratch: Array | None = None, places: Mapping[int, Array] | None = None
    ) -> None:  # fmt: skip
        """`traced`: what the program returns. `scratch`: memory for all that lives only within a run. `places`: arrays for results, by
        their variables."""
        self.places = places or {}
        self.trace = trace
        self.seed = self.step = 0
        self.draws = trace.draws
        self.arrays: dict[int, Array] = {}  # variable → its array, for good
        self.result_roots: set[int] = set()  # the variables whose arrays are results and nothing else
        self.root = memory_roots(trace)
        self.printer = Printer()
        self._print("trace", trace.instructions)
        instructions, self.outputs = eliminate_common_subexpressions(
            trace.instructions, [x.variable for x in traced], self.root
        )
        self._print("common", instructions)
        instructions = eliminate_dead_code(instructions, self.outputs, self.root, trace)
        self._print("dead", instructions)
        self.instructions = hoist_checks(instructions, self.root)
        self._print("checks", self.instructions)
        self._lower(*self._optimized(), scratch)
        self.results = [self.arrays[o.var] for o in self.outputs]
        # results that lie in an array from outside are returned as they are, the others as copies
        self.live = [self.root[o.var] in trace.outside for o in self.outputs]
        self.recorded = len(trace.instructions)
        trace.instructions.clear()
        if scratch is None:
            allocator.give_back()

    def _print(self, name: str, instructions: Sequence[Instruction]) -> None:
        self.printer.show(name, lambda: listing(instructions, self.trace.names))

    def _optimized(self) -> tuple[list[Instruction], set[int]]:
        """The instructions without what is computed once or written elsewhere at once, and the variables whose memory is fixed: from
        outside, arguments, constants, results."""
        trace, root = self.trace, self.root
        fixed = {x.var for x in (*trace.captured.values(), *trace.inputs)}
        self.arrays |= {x.var: x.value for x in (*trace.captured.values(), *trace.inputs)}
        made = {o.var: o for i in self.instructions for o in made_by(i)}
        for r in {root[o.var] for o in self.outputs}.intersection(
            made
        ):  # results share their memory with nothing
            fixed.add(r)
            self.result_roots.add(r)
            self.arrays[r] = self.places[r] if r in self.places else shaped(aligned(made[r].nbytes), made[r])
        instructions, constants = fold_constants(self.instructions, root)
        self._print("constants", instructions)
        for o in constants:
            fixed.add(root[o.var])
            self.result_roots.discard(root[o.var])
            self.arrays[o.var] = o.value
        instructions, forwarded = forward_stores(instructions, root, trace, fixed)
        self._print("stores", instructions)
        fixed |= forwarded.keys()
        instructions = fuse_taken_rows(instructions, root, trace, fixed)
        self._print("rows", instructions)
        self.arrays |= {v: store.view for v, store in forwarded.items()}
        self.hazards = find_hazards(instructions, root, trace, forwarded)  # before anything is moved
        if any(self._may_borrow(x) for x in trace.inputs) and (forwarded or any(map(writes, instructions))):
            self.hazards = list(trace.outside.values())
        instructions = hoist_small(instructions, root, trace, forwarded)
        self._print("small", instructions)
        return instructions, fixed

    def _lower(self, instructions: list[Instruction], fixed: set[int], scratch: Array | None) -> None:
        """Plan the memory of the other variables, and lower the instructions."""
        trace = self.trace
        needed = lifetimes(instructions, self.root, fixed)
        planned, self.peak = plan_memory(needed, scratch)
        self.printer.show("memory", lambda: plan_lines(needed, planned, self.peak))
        self.arrays |= planned
        outside = tuple(x.value for x in trace.captured.values())
        outside += tuple(x.value for x in trace.inputs if x.var in trace.changed)
        lowering = Lowering(trace, self.root, self.arrays, self._draw, outside)
        for instruction in instructions:
            lowering.lower(instruction)
        self.extra = lowering.extra
        self.peak += self.extra
        self.text, self.labels, self.calls = lowering.text, lowering.labels, lowering.calls
        self.origins = lowering.origins
        self.code: CallList = [(call.f, call.args) for call in self.calls]
        self.printer.show("calls", lambda: call_lines(self.code))
        self.kept = (*outside, *(self.arrays[o.var] for o in self.outputs))

    @once_property
    def segments(self) -> CallList:
        """The calls, with machine code in place of what it can do."""
        if not availability.available():
            return self.code
        code = translation.translate(self.calls, self.kept)
        return [
            (
                segment.NativeSegment(parallel_regions(f.rows))
                if isinstance(f, segment.NativeSegment)
                else f,
                args,
            )
            for f, args in code
        ]

    def _may_borrow(self, x: TracedArray) -> bool:
        """Whether an argument may be read where it lies, if machine code alone reads it: a large one that is neither changed nor shown by a
        result, and that nothing on the host is given."""
        if x.value.nbytes < LEAST_BYTES or x.var in self.trace.changed or not availability.available():
            return False
        given = (v for i in self.instructions if i.kind in ("host", "check", "random") for v in i.reads)
        shown = (o.var for o in self.outputs)
        return all(self.root[v] != x.var for v in (*given, *shown))

    @once_property
    def puts(self) -> list[Callable[[Any, Array], None]]:
        """What puts each argument in its place, called as ``place[...] = argument`` is."""
        found = [borrowed(x.value, self.segments) if self._may_borrow(x) else None for x in self.trace.inputs]
        return [
            x.value.__setitem__ if put is None else put  # half the time of np.copyto
            for x, put in zip(self.trace.inputs, found, strict=True)
        ]

    @once_property
    def fast(self) -> CallList:
        """The calls of a replay."""
        return [(f.run if isinstance(f, segment.NativeSegment) else f, args) for f, args in self.segments]

    def function(self, wanted: Sequence[Any]) -> NativeBody | None:
        """What a built-in function of the arguments needs; None where the program is more than machine code, where it
        writes into arrays that are not its own (the function may have to be done again), or where what it gives is no
        whole array of its own or an argument. `wanted` has None where it gives nothing."""
        written = written_roots(self.instructions, self.root)
        given = [x.variable for x in self.trace.inputs]
        outside = (x.var for x in (*self.trace.inputs, *self.trace.captured.values()))
        if not availability.available() or not written.isdisjoint(outside):
            return None
        segments = translation.translate(self.calls, self.kept)
        own_rows = [f.rows if isinstance(f, segment.NativeSegment) else None for f, _ in segments]
        if None in own_rows:
            return None
        places = {x.var: i for i, x in enumerate(given)}  # of arguments and results, by their variables
        roots: set[int] = set()
        results: list[Array] = []
        slots: list[int] = []
        variables = iter(self.outputs)
        for x in wanted:
            out = None if x is None else next(variables)
            if out is not None and out.var not in places:
                root, array = self.root[out.var], self.arrays[out.var]
                own = self.arrays[root]
                whole = array.nbytes == own.nbytes and native_function.data_pointer(
                    array
                ) == native_function.data_pointer(own)
                if (
                    root in places
                    or root in roots
                    or root not in self.result_roots
                    or not whole
                    or not array.nbytes
                ):
                    return None
                roots.add(root)
                places[out.var] = len(given) + len(results)
                results.append(array)
            slots.append(-1 if out is None else places[out.var])
        rows = [row for some in own_rows for row in some or ()]
        return NativeBody(rows, [x.value for x in self.trace.inputs], results, slots)

    def _draw(
        self, target: Array, key: int, stream: int, step: int, n: int, device: str, offset: int | None
    ) -> None:
        """Fill an array with random words; with an `offset`, counted from the step of this replay."""
        if offset is not None:
            key, step = self.seed, self.step + offset
        target[...] = self.trace.base.random_bits(key, stream, step, n, device)

    def run(self, inputs: list[Array], seed: int = 0, step: int = 0) -> list[Array]:
        """Replay; the results are fresh copies, but for those that lie in arrays from outside."""
        self.seed, self.step = seed, step
        observed = bool(replay_observers and replay_observers.own)
        puts = [x.value.__setitem__ for x in self.trace.inputs] if observed else self.puts
        for put, new in zip(puts, inputs):  # noqa: B905 - equal by construction
            put(..., new)
        if observed:
            for label, (f, args) in zip(self.labels, self.code, strict=True):
                replay_observers.own[-1](label, f, args)
        else:
            for f, args in self.fast:
                f(*args)
        return [r if live else r.copy("K") for r, live in zip(self.results, self.live)]  # noqa: B905 - equal by construction

    def __str__(self) -> str:
        head = (
            f"program of {len(self.text)} instructions, {len(self.code)} calls{segment.summary(self.segments)}, "
            f"{self.peak / 1024:.0f} KiB of memory; recorded {self.recorded}"
        )
        return "\n".join([head, *self._lines()])

    def _lines(self) -> Iterator[str]:
        """The instructions, under what they come from: the layers forward, whose gradient is taken backward, what is updated."""
        before = Origin()
        for line, origin in zip(self.text, self.origins, strict=True):
            if origin.phase != before.phase:
                yield f"  {origin.phase or 'other'}"
            if origin != before and origin.phase:
                yield f"    {self._heading(origin)}"
            before = origin
            yield f"      {line}" if origin.phase else f"  {line}"

    def _heading(self, origin: Origin) -> str:
        where = f" in {origin.layer}" if origin.layer else ""
        if origin.phase == "backward":
            line = "" if origin.of is None else f" {self.trace.names.get(origin.of, f'%{origin.of}')} ="
            return f"derivative of{line} {origin.operation}{where}"
        return f"{origin.operation}{where}".strip() or "outside of layers"


def owner(array: Any) -> Any:
    """The object whose memory an array is a part of."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array
