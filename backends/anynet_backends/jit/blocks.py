"""A traced program carried out on large arrays block by block: all its calls on one block before the next.

`iteration` finds the axes along which the calls are independent. The trace is replayed on arrays of the form of one block, and what it
becomes, a table of machine functions, is moved over the large arrays: what is read and what is written passes through memory once, and
what is neither stays in the cache and is never allocated whole. Blocks are shared by OpenMP's threads. Sums along the blocks are taken
of each chunk of `ordered_sums` in the block that has it, and are added up behind the blocks, so that neither the blocks nor the threads
change the bits.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import fork_safe_lock
from anynet_backends.jit import native_function, ordered_sums, segment
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.geometry import byte_range, new_with_strides, span
from anynet_backends.jit.instructions import Instruction, Variable, substitute
from anynet_backends.jit.ir_builder import Function, LoopFunction, Value, compiled
from anynet_backends.jit.iteration import (
    CREATION,
    REDUCTIONS,
    Atom,
    Axes,
    NotBlocked,
    is_elementwise,
    needed_for,
    product,
    reduced_atoms,
    split_at,
    supported,
)
from anynet_backends.jit.memory_plan import aligned
from anynet_backends.jit.ordered_sums import Stage, reduced_axes
from anynet_backends.jit.parallel import LEAST_BLOCKS, SharedTable, team_for
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import Trace, TracedArray
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["BlockTrace", "Blocked", "NotBlocked", "blocked", "laid_out", "same_bits"]

_NUMBERS: Final = 1 << 13
"""Numbers of the largest array of a block, where axes can be cut so finely."""
_MOST_NUMBERS: Final = 1 << 16
_SHORTEST: Final = 32
"""Numbers of a row in memory, which is cut shorter only for blocks of more than `_MOST_NUMBERS`."""
_SCRATCH: Final = 1 << 21


class BlockTrace(Trace):
    """A trace of forms alone: its arrays have no values, element-wise functions are not computed, and it ends with the first function that
    no blocked program can have."""

    def call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], held: tuple[Any, ...] = ()
    ) -> Any:
        if not supported(name):
            raise NotBlocked(name)
        return super().call(name, args, kwargs, held)

    def compute(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Large results of element-wise functions are made, not computed: memory that nobody touches costs nothing."""
        arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
        if not is_elementwise(name) or not arrays or max(a.size for a in arrays) <= _NUMBERS:
            return super().compute(name, args, kwargs)
        few = [a[(slice(0, 1),) * a.ndim] if isinstance(a, np.ndarray) else a for a in args]
        like = super().compute(name, tuple(few), kwargs)
        if any(isinstance(a, np.ndarray) and np.may_share_memory(a, like) for a in few):
            return super().compute(name, args, kwargs)  # the array itself
        flags: Any = [*[["readonly"]] * len(arrays), ["writeonly", "allocate"]]
        form = np.nditer([*arrays, None], None, flags, [*[None] * len(arrays), like.dtype], "K")
        return form.operands[-1]

    def call_opaque(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], held: tuple[Any, ...] = ()
    ) -> Any:
        """Kernels are no part of a blocked program."""
        raise NotBlocked(name)

    def check(self, function: Callable[..., Any], arrays: tuple[Any, ...], within: int | None) -> None:
        raise NotBlocked("check")

    def host(self, function: Callable[[], Any], label: str, result: TracedArray | None = None) -> None:
        raise NotBlocked(label)

    def _about_to_write(self, target: TracedArray) -> None:
        raise NotBlocked("write")

    def argument(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> TracedArray:
        """An argument of this form, without values."""
        if any(s < 0 for s in strides) or 0 in shape:
            raise NotBlocked
        x = self.new(new_with_strides(shape, strides, dtype), held=True)
        self.inputs.append(x)
        self.given[x.var] = x.value
        return x


# ----- the plan -----


class _Root(NamedTuple):
    """An argument or result: the form of the whole, and for each atom that it is cut along, how far from each other the begins of blocks
    are: (atom, stride, numerator, denominator), of begins counted in the atom's own numbers."""

    variable: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    moves: list[tuple[Atom, int, int, int]]


class _Partial(NamedTuple):
    """A sum along the blocks: what they give of it, and the stages behind them."""

    root: _Root
    stages: list[tuple[Stage, bool]]  # each with whether only the sums of its chunks are to be added up
    instruction: Instruction


class _Cut:
    """A trace cut along some atoms, of which blocks take `extents` numbers, the last of them several."""

    def __init__(self, axes: Axes, over: list[Atom], extent: int, step: int) -> None:
        """`step`: how far the begins of blocks are from each other: more than `extent` only for the last one of an axis."""
        self.axes, self.over = axes, over
        self.extents = dict.fromkeys(over, 1) | {over[-1]: extent}
        self.steps = dict.fromkeys(over, 1) | {over[-1]: step}

    def extent(self, a: Atom) -> int:
        return self.extents.get(a, a.size)

    def shape(self, atoms: list[list[Atom]]) -> tuple[int, ...]:
        """The form that an array of these atoms has in a block, which must be the begin of each axis."""
        for own in atoms:
            begun = False
            for a in own:
                n = self.extent(a)
                if begun and n != a.size:
                    raise NotBlocked
                begun = begun or n > 1
        return tuple([product(own, self.extent) for own in atoms])

    def root(
        self, x: Any, shape: tuple[int, ...], strides: tuple[int, ...], atoms: list[list[Atom]]
    ) -> _Root:
        moves = []
        for step, own in zip(strides, atoms, strict=True):
            for at, a in enumerate(own):
                if a in self.extents:
                    moves.append((a, step * product(own[at + 1 :]), 1, 1))
        return _Root(x, shape, strides, moves)


class _Body:
    """The program of one block: the trace replayed on arrays of its form."""

    # Over 60 lines with what it calls, since all of it shares the arrays of the replay.
    def __init__(
        self, cut: _Cut, trace: Trace, block: list[Instruction], given: list[TracedArray], wanted: set[int], scratch: Array
    ) -> None:  # fmt: skip
        self.cut = cut
        self.trace = Trace(trace.base)
        self.trace.functions = dict(trace.functions)
        self.known: dict[int, TracedArray] = {}
        self.values = {x.var: x.value for x in trace.captured.values()}
        self.arguments: list[_Root] = []
        self.results: list[_Root] = []
        self.made: list[TracedArray] = []
        self.partials: dict[int, _Partial] = {}
        for x in given:
            root = cut.root(x.var, x.value.shape, x.value.strides, cut.axes.atoms(x.var))
            shape = cut.shape(cut.axes.atoms(x.var))
            made = self.trace.new(np.lib.stride_tricks.as_strided(x.value, shape, x.value.strides), held=True)
            self.trace.inputs.append(made)
            self.trace.given[made.var] = made.value
            self.known[x.var] = made
            self.arguments.append(root)
        for i in block:
            self._replay(i)
            out: Variable = i.out  # type: ignore[assignment]
            if out.var in wanted:
                made = self.known[out.var]
                if made.variable.root != made.var:
                    made = self.known[out.var] = self._call("astype", made, made.dtype, copy=True)
                root = cut.root(out.var, out.shape, out.strides, cut.axes.atoms(out.var))
                self._result(root, made)
        if not self.results:
            raise NotBlocked
        self._translate(scratch)

    def _result(self, root: _Root, made: TracedArray) -> None:
        if not root.moves:
            raise NotBlocked
        self.results.append(root)
        self.made.append(made)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> TracedArray:
        return self.trace.call(name, args, kwargs)  # type: ignore[no-any-return]

    def _value(self, x: Variable) -> Any:
        if x.var not in self.known:
            value = x.value if x.value is not None else self.values[x.var]
            self.known[x.var] = self.trace.capture(value)
        return self.known[x.var]

    def _replay(self, i: Instruction) -> None:
        out: Variable = i.out  # type: ignore[assignment]
        if i.name in CREATION:
            self.known[out.var] = self.trace.capture(out.value)
            return
        if i.name in ("sum", "mean"):
            made = self._sum(i)
            if made is not None:
                self.known[out.var] = made
            return
        args = substitute(i.args, Variable, self._value)
        kwargs = {k: substitute(v, Variable, self._value) for k, v in i.kwargs.items()}
        shape = self.cut.shape(self.cut.axes.atoms(out.var))
        if i.name in ("reshape", "broadcast_to"):
            made = self._call(i.name, args[0], shape)
        elif i.name == "arrange":
            made = args[0]
        else:
            made = self._call(i.name, *args, **kwargs)
        if made.shape != shape:
            raise NotBlocked
        self.known[out.var] = made

    def _sum(self, i: Instruction) -> TracedArray | None:
        """A sum by the stages that it has on the whole array; None where what comes after one of them is left for later."""
        cut, like = self.cut, i.args[0]
        x, atoms = self._value(like), cut.axes.atoms(like.var)
        moved = any(a in cut.extents for own in atoms for a in own)
        if not moved:
            return self._call(i.name, x, **i.kwargs)
        order = ordered_sums.order_of(like)
        if order is None or i.kwargs.get("dtype", like.dtype) not in (None, like.dtype):
            raise NotBlocked
        reduced = reduced_axes(like.ndim, i.kwargs.get("axis"))
        runs: list[tuple[Atom, bool]] = [(a, axis in reduced) for axis in order for a in atoms[axis]]
        full = ordered_sums.stages([a.size for a, _ in runs], [gone for _, gone in runs])
        y = x if order == tuple(range(like.ndim)) else self._call("permute_dims", x, order)
        for at, stage in enumerate(full):
            outer, run, inner = _around(runs, stage)
            form = tuple(product(part, cut.extent) for part in (outer, run, inner))
            cutting = [a for a in run if a in cut.extents and cut.extent(a) < a.size]
            if cutting:
                self._leave(i, full[at:], outer, run, inner, y, form, cutting)
                return None
            y = self._stage(y, Stage(form[0], form[1], form[2], stage.chunk))
            runs = [*((a, gone) for a, gone in runs if a not in run)]
        kept = [a for a in order if a not in reduced]
        if i.kwargs.get("keepdims", False):
            made = [[] if a in reduced else atoms[a] for a in order]
            back = inverse(order)
        else:
            made, back = [atoms[a] for a in kept], tuple(kept.index(a) for a in sorted(kept))
        y = self._call("reshape", y, cut.shape(made))
        if back != tuple(range(len(back))):
            y = self._call("permute_dims", y, back)
        if i.name == "mean":
            y = self._call("divide", y, float(like.size // max(i.out.size, 1)))  # type: ignore[union-attr]
        return y

    def _stage(self, y: TracedArray, stage: Stage, fold: bool = True) -> TracedArray:
        y = self._call("reshape", y, (stage.outer, stage.run, stage.inner))
        if not y.flags.c_contiguous:
            y = self._call("astype", y, y.dtype, copy=True)
        first, second = ordered_sums.loops(stage, y.dtype)
        y = self.trace.call_opaque("chunks", first, (y, y))
        return self.trace.call_opaque("fold", second, (y,)) if fold and second is not None else y

    def _leave(
        self, i: Instruction, rest: Sequence[Stage], outer: list[Atom], run: list[Atom], inner: list[Atom], y: TracedArray,
        form: tuple[int, ...], cutting: list[Atom],
    ) -> None:  # fmt: skip
        """A stage along the blocks: the sums of its chunks, or where blocks are no whole chunks what is to be added, as a result."""
        cut, stage, lead = self.cut, rest[0], run[0]
        beyond = product(run[1:])
        size = y.dtype.itemsize
        atoms = [*([a] for a in outer), [lead], *([a] for a in inner)]
        shape = [a.size for a in outer] + [stage.chunks] + [a.size for a in inner]
        whole = cutting == [lead] and not (cut.steps[lead] * beyond) % stage.chunk
        if whole:
            y = self._stage(y, Stage(form[0], form[1], form[2], stage.chunk), fold=False)
            numbers = -(-form[1] // stage.chunk)
        else:
            atoms = [[a] for a in (*outer, *run, *inner)]
            shape = [own[0].size for own in atoms]
            numbers = 0
        strides = [size * math.prod(shape[k + 1 :]) for k in range(len(shape))]
        root = cut.root(i.out, tuple(shape), tuple(strides), atoms)
        part = [numbers if whole and own == [lead] else cut.extent(own[0]) for own in atoms]
        if whole:
            root.moves[:] = [
                (a, strides[len(outer)], beyond, stage.chunk) if a is lead else (a, step, n, d)
                for a, step, n, d in root.moves
            ]
        y = self._call("astype", self._call("reshape", y, tuple(part)), y.dtype, copy=True)
        self._result(root, y)
        self.partials[i.out.var] = _Partial(  # type: ignore[union-attr]
            root, [(s, whole and k == 0) for k, s in enumerate(rest)], i
        )

    def _translate(self, scratch: Array) -> None:
        places = {}
        for root, x in zip(self.results, self.made, strict=True):
            if x.var in places:
                raise NotBlocked
            whole = _empty(root, x.dtype)
            places[x.var] = np.lib.stride_tricks.as_strided(whole, x.shape, root.strides)
        program = Program(self.trace, self.made, scratch=scratch, places=places)
        made = program.function(self.made)
        self.calls = len(program.calls)
        if made is None or program.extra:
            raise NotBlocked
        first = len(self.arguments)
        whole = [byte_range(a) for a in (*made.arguments, *made.results)]
        if any(lo < high and low < hi for (lo, hi), (low, high) in itertools.combinations(whole, 2)):
            raise NotBlocked  # an address says which of them it belongs to
        if made.gives != list(range(first, first + len(self.results))):
            raise NotBlocked
        own = [byte_range(a) for a in (*places.values(), scratch)]
        for call in program.calls:
            for a in call.writes:
                low, high = byte_range(a)
                if not any(lo <= low and high <= hi for lo, hi in own):
                    raise NotBlocked
        if any(row.cells[0] == compiler().runtime["onednn"] or row.again for row in made.rows):
            raise NotBlocked
        self.rows = made.rows
        self.roots = (*made.arguments, *made.results)
        self.scratch = scratch


def _around(runs: list[tuple[Atom, bool]], stage: Stage) -> tuple[list[Atom], list[Atom], list[Atom]]:
    """The atoms before, in and behind the run of a stage."""
    at, size = 0, 1
    while size < stage.outer:
        size *= runs[at][0].size
        at += 1
    end, size = at, 1
    while size < stage.run:
        size *= runs[end][0].size
        end += 1
    atoms = [a for a, _ in runs]
    return atoms[:at], atoms[at:end], atoms[end:]


def _empty(root: _Root, dtype: Any) -> Array:
    order = axes_in_memory(root.strides)
    made = np.empty([root.shape[i] for i in order], dtype).transpose(inverse(order))
    if any(n > 1 and a != b for n, a, b in zip(root.shape, made.strides, root.strides, strict=True)):
        raise NotBlocked
    return made


# ----- carrying it out -----


def _over_blocks() -> tuple[Function, ...]:
    """(addresses of roots, sizes, –, data): sizes: first block, the one behind the last, rows, moves, roots; data: the table of rows, what
    runs it, offsets of the roots for each block, a cell for the exceptions that are raised, and for each move the address of a cell, the
    root that it points into, and how far from its begin."""
    f = LoopFunction("over_blocks", 0, 5)
    args, (first, last, rows, moves, roots), data = f.argument("args"), f.sizes, f.data
    table, work, offsets, raised = (f.load("ptr", data, i) for i in range(4))
    mask = Value("i32", str(native_function.floating_point_exceptions()))
    f.assigned("i32", f"call i32 @feclearexcept({mask})")
    with f.loop(first, last) as block:
        here = f.at(offsets, f.op("mul", block, roots), "i64")
        with f.loop(0, moves) as k:
            move = f.at(data, f.op("add", f.op("mul", k, 3), 4), "i64")
            root = f.load("i64", move, 1)
            distance = f.op("add", f.load("i64", here, root), f.load("i64", move, 2))
            f.store(f.at(f.load("ptr", args, root), distance), f.load("ptr", move))
        f.assigned("i64", f"call i64 {work.name}({table}, i64 0, {rows})")
    found = f.assigned("i32", f"call i32 @fetestexcept({mask})")
    f.assigned("i32", f"call i32 @feclearexcept({mask})")
    f.store(f.assigned("i64", f"sext {found} to i64"), raised)
    return (f,)


@functools.cache
def _run_blocks() -> int:
    declarations = "declare i32 @feclearexcept(i32)\ndeclare i32 @fetestexcept(i32)\n"
    return compiled(_over_blocks(), "over_blocks", declarations)


_lock = fork_safe_lock()
"""Held while a blocked program runs: they share their scratch memory."""
_rooms: list[Array] = []


def _room(thread: int) -> Array:
    while len(_rooms) <= thread:
        _rooms.append(aligned(_SCRATCH))
    return _rooms[thread]


class _Part:
    """Some blocks of one body, for one thread: its rows with cells and scratch memory of their own."""

    def __init__(self, body: _Body, offsets: Array, blocks: tuple[int, int], thread: int) -> None:
        roots = (*body.roots, body.scratch)
        moved = native_function.data_pointer(_room(thread)) - native_function.data_pointer(body.scratch)
        moves: list[int] = []
        self.held: list[Any] = [offsets]  # and what is no root: these are not kept alive
        table = []
        for row in body.rows:
            places, dims, steps, arrays = row.record.held
            own = places.copy()
            for k, (root, offset) in enumerate(segment.offsets_in(places, roots)):
                if root < len(body.roots):
                    moves += [native_function.data_pointer(own) + 8 * k, root, offset]
                elif root == len(body.roots):
                    own[k] += moved
                else:
                    self.held.append(arrays[k])
            function, _, dims_at, steps_at, data, _ = row.cells
            table.append((function, native_function.data_pointer(own), dims_at, steps_at, data, 0))
            self.held.append((own, dims, steps, row.held))
        self.table = np.array(table, np.int64)
        self.raised = np.zeros(1, np.int64)
        pointer = native_function.data_pointer
        head = pointer(self.table), compiler().runtime["run_table"], pointer(offsets), pointer(self.raised)
        self.data = np.array((*head, *moves), np.int64)
        self.sizes = np.array((*blocks, len(table), len(moves) // 3, len(body.roots)), np.int64)

    def cells(self, args: int) -> tuple[int, ...]:
        pointer = native_function.data_pointer
        return _run_blocks(), args, pointer(self.sizes), 0, pointer(self.data), 0


class Blocked:
    """A program on large arrays: called with its arguments, it gives what is wanted, None where NumPy would warn or while another thread
    is here."""

    def __init__(
        self, bodies: list[tuple[_Body, Array]], results: list[tuple[_Root, Any]], finish: Callable[..., list[Any]], work: int
    ) -> None:  # fmt: skip
        self.results = [
            (r.shape, dtype, axes_in_memory(r.strides) if r.shape else ()) for r, dtype in results
        ]
        self.orders = [
            None if order == tuple(range(len(order))) else (tuple(shape[i] for i in order), inverse(order))
            for shape, _, order in self.results
        ]
        self.finish = finish
        if work >= LEAST_BLOCKS and any(dtype == np.float32 for _, dtype in results):
            onednn.works()  # its threads: nothing may have asked for the library so far
        team = team_for(work, LEAST_BLOCKS)
        many = sum(len(offsets) for _, offsets in bodies)
        threads = max(1, min(onednn.threads(), many // 2)) if team else 1
        self.address = native_function.fast_data_pointer()
        self.bases = np.zeros(len(bodies[0][0].roots), np.int64)
        self.parts: list[_Part] = []
        bounds = [0]
        for t in range(threads):
            for body, offsets in bodies:
                n = len(offsets)
                lo, hi = n * t // threads, n * (t + 1) // threads
                if hi > lo:
                    self.parts.append(_Part(body, offsets, (lo, hi), t))
            bounds.append(len(self.parts))
        at = self.address(self.bases)
        self.table = np.array([part.cells(at) for part in self.parts], np.int64)
        self.threads = threads
        self.shared = None if threads == 1 or team is None else SharedTable(self.table, bounds, team)

    def __call__(self, *given: Array) -> list[Any] | None:
        # an operation of NumPy on arrays without axes gives a scalar, which has no memory of an array's form
        given = tuple([a if type(a) is np.ndarray else np.asarray(a) for a in given])
        made = []
        for (shape, dtype, _), order in zip(self.results, self.orders, strict=True):
            made.append(
                np.empty(shape, dtype) if order is None else np.empty(order[0], dtype).transpose(order[1])
            )
        if not _lock.acquire(blocking=False):
            return None
        try:
            self.bases[:] = [self.address(a) for a in (*given, *made)]
            if self.shared is None:
                compiler().run_table(self.address(self.table), 0, len(self.parts))
            else:
                self.shared.run()
            if any(part.raised[0] for part in self.parts):
                return None
        finally:
            _lock.release()
        return self.finish(given, made)


def laid_out(values: Array, strides: tuple[int, ...]) -> Array:
    """An array of the shape of `values`, and of its numbers in some order, with these strides."""
    if values.strides == strides:
        return values
    size = span(values.shape, strides, values.itemsize) // values.itemsize
    return np.lib.stride_tricks.as_strided(np.resize(values, size), values.shape, strides)


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays of one form have the same bits."""
    kind = np.dtype(f"u{a.itemsize}") if a.itemsize <= 8 else None
    if kind is None or not all(n == 1 or s for x in (a, b) for n, s in zip(x.shape, x.strides, strict=True)):
        return bool(a.tobytes() == b.tobytes())
    return bool(np.array_equal(a.view(kind), b.view(kind)))


# ----- making it -----


def blocked(
    trace: Trace, given: list[TracedArray], wanted: Sequence[TracedArray | None]
) -> tuple[Blocked, int]:
    """The trace as a blocked program, and the number of its calls; NotBlocked where it cannot be one. The results are, one for
    each of `wanted`, arrays or None."""
    outputs = [x.variable for x in wanted if x is not None]
    instructions = needed_for(trace.instructions, {v for o in outputs for v in (o.var, o.root)})
    if not any(is_elementwise(i.name) for i in instructions):
        raise NotBlocked  # sums have threads of their own
    axes = Axes(instructions, [x.variable for x in given])
    variables = [x.variable for x in given] + [i.out for i in instructions]
    for over in _cuts(axes, variables, instructions):  # type: ignore[arg-type]
        found = split_at(instructions, axes, set(over))
        if found is None:
            continue
        block, late = found
        for extent in _extents(axes, over, block):
            try:
                return _with_cut(trace, given, wanted, instructions, axes, over, extent, block, late)
            except (NotBlocked, CompileError):
                continue
    raise NotBlocked


def _cuts(axes: Axes, variables: list[Variable], instructions: list[Instruction]) -> list[list[Atom]]:
    """Atoms to iterate over, so that the largest array of a block is small: the outermost in memory that may be, first as many as it
    takes, then fewer."""
    big = max(variables, key=lambda x: (x.size, -x.var))
    allowed = axes.once()
    own = axes.atoms(big.var)
    order = [a for axis in axes_in_memory(big.strides) for a in own[axis]]
    size = product(order)
    found: list[list[Atom]] = []
    for shortest in (_SHORTEST, 1):  # no block whose rows are short, if it can be small enough without
        over: list[Atom] = []
        left = size
        for at, a in enumerate(order):
            if left <= _NUMBERS or (left <= _MOST_NUMBERS and product(order[at + 1 :]) < shortest):
                break
            if a in allowed and split_at(instructions, axes, {*over, a}) is not None:
                over.append(a)
                left //= a.size
        found += [over[: k + 1] for k in range(len(over) - 1, -1, -1) if over[: k + 1] not in found]
    return found


def _extents(axes: Axes, over: list[Atom], block: list[Instruction]) -> list[int]:
    """How many numbers of the last atom a block may take: such that blocks are whole chunks of the sums along it, or as it comes."""
    last = over[-1]
    variables = {v for i in block for v in (*i.reads, i.out.var)}  # type: ignore[union-attr]
    rest = max(product([a for own in axes.atoms(v) for a in own if a not in over]) for v in variables)
    start = max(1, min(last.size, _NUMBERS // rest))
    together = 1
    for i in block:
        if i.name not in REDUCTIONS or last not in (gone := reduced_atoms(i, axes)):
            continue
        x = i.args[0]
        own = axes.atoms(x.var)
        runs = [(a, a in gone) for axis in axes_in_memory(x.strides) for a in own[axis]]
        for stage in ordered_sums.stages([a.size for a, _ in runs], [it for _, it in runs]):
            _, run, _ = _around(runs, stage)
            if last in run:
                together = math.lcm(together, stage.chunk // math.gcd(stage.chunk, product(run[1:])))
            runs = [(a, it) for a, it in runs if a not in run]
    whole = min(last.size, -(-start // together) * together)
    return [whole, start] if whole != start and whole <= 8 * start else [start]


def _with_cut(
    trace: Trace, given: list[TracedArray], wanted: Sequence[TracedArray | None], instructions: list[Instruction], axes: Axes,
    over: list[Atom], extent: int, block: list[Instruction], late: set[int],
) -> tuple[Blocked, int]:  # fmt: skip
    moved = {i.out.var for i in block if i.out.var not in late}  # type: ignore[union-attr]
    arguments = {x.var for x in given}
    roots = {x.variable.root for x in wanted if x is not None}
    own = {
        v for v in roots & moved if v not in arguments and any(a in over for s in axes.atoms(v) for a in s)
    }
    last = over[-1]
    whole, rest = last.size // extent, last.size % extent
    outer = list(itertools.product(*[range(a.size) for a in over[:-1]]))
    bodies: list[tuple[_Body, Array]] = []
    for size, begins in (
        (extent, range(0, whole * extent, extent)),
        (rest, range(whole * extent, last.size, extent)),
    ):
        if size and len(begins):
            body = _Body(_Cut(axes, over, size, extent), trace, block, given, own, _room(0))
            bodies.append((body, _offsets(body, over, outer, begins)))
    first = bodies[0][0]
    results = [(r, x.dtype) for r, x in zip(first.results, first.made, strict=True)]
    finish = _Finish(trace, given, wanted, instructions, first.results, first.partials)
    work = sum(segment.work_of(body.rows) * len(offsets) for body, offsets in bodies)
    return Blocked(bodies, results, finish, work), first.calls


def _offsets(body: _Body, over: list[Atom], outer: list[tuple[int, ...]], begins: range) -> Array:
    """For each block and root, how far from the begin of the root the block begins."""
    made = np.zeros((len(outer), len(begins), len(body.roots)), np.int64)
    counts = np.array(outer, np.int64).reshape(len(outer), len(over) - 1)
    along = np.array(begins, np.int64)
    for k, root in enumerate((*body.arguments, *body.results)):
        for a, step, n, d in root.moves:
            if a is over[-1]:
                made[:, :, k] += (along * n // d * step)[None, :]
            else:
                made[:, :, k] += (counts[:, over.index(a)] * step)[:, None]
    return made.reshape(-1, len(body.roots))


class _Finish:
    """What comes after the blocks: sums along them, what is computed from these, views."""

    def __init__(
        self, trace: Trace, given: list[TracedArray], wanted: Sequence[TracedArray | None], instructions: list[Instruction],
        results: list[_Root], partials: dict[int, _Partial],
    ) -> None:  # fmt: skip
        self.given = [x.var for x in given]
        self.results = [r.variable.var if isinstance(r.variable, Variable) else r.variable for r in results]
        self.partials = partials
        self.wanted = [None if x is None else x.var for x in wanted]
        known = {*self.given, *self.results}
        todo = needed_after(instructions, {v for v in self.wanted if v is not None}, known)
        self.steps = [(i, trace.functions[i.name]) for i in todo]
        self.captured = {x.var: x.value for x in trace.captured.values()}
        for i, _ in self.steps:
            for v in i.reads:
                self._check(v, known | {s.out.var for s, _ in self.steps})  # type: ignore[union-attr]
        self.simple = None if self.steps or partials else [
            None if v is None else [*self.given, *self.results].index(v) for v in self.wanted
        ]  # fmt: skip

    def _check(self, v: int, known: set[int]) -> None:
        if v not in known and v not in self.captured:
            raise NotBlocked

    def __call__(self, given: Sequence[Array], made: list[Array]) -> list[Any]:
        if self.simple is not None:
            everything = (*given, *made)
            return [None if k is None else everything[k] for k in self.simple]
        arrays = self.captured | dict(zip(self.given, given, strict=True))
        for v, a in zip(self.results, made, strict=True):
            arrays[v] = _finished(self.partials[v], a) if v in self.partials else a

        def place(x: Variable) -> Any:
            return arrays.get(x.var, x.value)

        for i, f in self.steps:
            kwargs = {k: substitute(v, Variable, place) for k, v in i.kwargs.items()}
            arrays[i.out.var] = np.asarray(f(*substitute(i.args, Variable, place), **kwargs))  # type: ignore[union-attr]
        return [None if v is None else arrays[v] for v in self.wanted]


def needed_after(instructions: list[Instruction], wanted: set[int], known: set[int]) -> list[Instruction]:
    """The instructions for what is wanted, from what is known."""
    needed, found = wanted - known, []
    for i in reversed(instructions):
        if i.out.var in needed:  # type: ignore[union-attr]
            found.append(i)
            needed.update(v for v in i.reads if v not in known)
    return found[::-1]


def _finished(partial: _Partial, made: Array) -> Array:
    """A sum, from what the blocks gave of it."""
    i, x = partial.instruction, partial.instruction.args[0]
    for stage, begun in partial.stages:
        first, fold = ordered_sums.loops(stage, made.dtype)
        if not begun:
            view = made.reshape(stage.outer, stage.run, stage.inner)
            made = first(view, view)
        if fold is not None:
            made = fold(made.reshape(stage.outer, stage.chunks, stage.inner))
    order = axes_in_memory(x.strides)
    reduced = reduced_axes(x.ndim, i.kwargs.get("axis"))
    y = ordered_sums.placed(made, x.shape, order, reduced, None, i.kwargs.get("keepdims", False))
    return np.asarray(np.true_divide(y, x.size // y.size)) if i.name == "mean" else y
