"""A trace as a program for CUDA: its element-wise calls and sums as few kernels, what else it calls as calls of the library between them.

What is wanted, and what the other calls read, is computed when it is first needed, from what is in memory then; all between is
computed anew where it is used, in registers. Results that range over the same axes, and sums over the same axes of the same rows, share a
kernel. A result that depends on sums over different axes is computed behind them. Few long sums are taken in parts, by two kernels. Views
are no work: a kernel reads an array through its strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.cuda_axes import DIFFERENT, align, cut, in_order, is_sum, sums_before
from anynet_backends.jit.cuda_capture import random_address
from anynet_backends.jit.cuda_expressions import SHORT
from anynet_backends.jit.cuda_operands import Cluster, Operand, contiguous, loop_letter
from anynet_backends.jit.cuda_program import Environment, Form, Program, Step, compiled, freeing, grid_of
from anynet_backends.jit.cuda_source import KernelText
from anynet_backends.jit.device_trace import EXTRA, as_view
from anynet_backends.jit.instructions import Instruction, Variable, collect, made_by, substitute
from anynet_backends.jit.iteration import REDUCTIONS, Atom, Axes, NotBlocked, is_elementwise

__all__ = ["lower"]

_LONG: Final = 1 << 13
_MOST_PARTS: Final = 256
_ENOUGH_BLOCKS: Final = 256
"""Blocks that keep a GPU busy: sums of fewer rows are taken in parts, where they are long."""
_WIDE: Final = 1 << 30
_DRAWN_IN_PLACE: Final = 1 << 14
"""Random words up to which each is drawn where it is used: that saves a launch, and takes eight times the work of drawing all in a row."""
_SHAPED: Final = frozenset(("reshape", "expand_dims", "squeeze"))
_FILLED: Final = frozenset(("zeros", "ones", "full", "arange"))
_REARRANGED: Final = frozenset(
    ("reshape", "expand_dims", "squeeze", "permute_dims", "transpose", "matrix_transpose", "broadcast_to")
)


def is_fused(call: Instruction) -> bool:
    """Whether a kernel may compute a call."""
    out = call.out
    if call.kind != "call" or not isinstance(out, Variable) or not out.size:
        return False
    if call.name in REDUCTIONS:
        x = call.args[0]
        kinds = "eEfd" if call.name == "mean" else "eEfdbBhHiIlLqQ"
        return isinstance(x, Variable) and out.dtype.char in kinds and x.dtype.char in "?eEfdbBhHiIlLqQ"
    if call.name == "arange":
        return out.dtype.kind in "iu"
    if call.name in EXTRA:
        return out.dtype.char in "fd"
    return (is_elementwise(call.name) or call.name in _FILLED) and loop_letter(call) is not None


class _Lowering:
    """The steps of a program, as they are found in the order of the trace."""

    def __init__(
        self, xp: Any, functions: dict[str, Callable[..., Any]], instructions: Sequence[Instruction], given: Sequence[Variable],
        forms: Sequence[Form],
    ) -> None:  # fmt: skip
        self.xp, self.cupy, self.functions = xp, xp.native, functions
        self.instructions = list(instructions)
        self.operands: dict[int, Operand] = {}
        self.slots: dict[int, int] = {}  # of arrays, by variable
        self.stand_ins: dict[int, Array] = {}
        self.views: dict[
            int, tuple[int, Instruction]
        ] = {}  # of arrays, which are made where a call reads them
        self.pending: dict[int, Instruction] = {}
        self.variables: dict[int, Variable] = {}
        self.copies: dict[int, int] = {}  # of what lies apart in memory
        self.steps: list[Step] = []
        self.uses: list[tuple[int, ...]] = []  # the slots that each step reads
        self.launches = 0
        self.size = 0
        self.next = -1  # numbers of variables that the trace does not have
        for x, form in zip(given, forms, strict=True):
            self._in_memory(x, form.strides)

    def slot(self) -> int:
        self.size += 1
        return self.size - 1

    def _in_memory(self, x: Variable, strides: Sequence[int] | None = None) -> int:
        """The slot of an array that is there from now on."""
        steps = contiguous(x.shape) if strides is None else tuple(strides)
        self.slots[x.var] = at = self.slot()
        self.operands[x.var] = Operand(at, 0, steps, x)
        self.variables[x.var] = x
        place = np.empty(1, x.dtype)
        self.stand_ins[x.var] = np.lib.stride_tricks.as_strided(
            place, x.shape, [s * x.dtype.itemsize for s in steps]
        )
        self.pending.pop(x.var, None)
        return at

    # ---- the order of the trace ----

    def run(self, wanted: Sequence[Variable], own: Sequence[Variable]) -> None:
        """Take all instructions, so that what is wanted is in memory, each of `own` in its own."""
        need = self._needed(wanted)
        order = [i for i in self.instructions if any(o.var in need for o in made_by(i))]
        self.required = {x.var for x in wanted}
        self.own = {x.var for x in own}
        for i in order:
            if i.kind == "call" and not is_fused(i) and not self._is_view(i):
                self.required |= {v.var for v in self._read_by(i)}
        self.required |= self._bases(order)
        self.factors = {
            v.var
            for i in order
            if i.name == "matmul"
            for v in i.args
            if isinstance(v, Variable) and v.ndim > 2
        }
        for i in self._early(order):
            out: Any = i.out
            if self._is_view(i) and not _whole(i) and i.args[0].var in self.pending:
                self._flush()
            if i.kind == "random":
                self._random(i)
            elif self._is_view(i) and i.args[0].var in self.operands and self._view(i):
                continue
            elif is_fused(i) or (
                i.kind == "call" and i.name in _REARRANGED | {"getitem"} and self._is_view(i)
            ):
                self.pending[out.var] = i
                self.variables[out.var] = out
            elif i.kind == "call":
                self._call(i)
            else:
                raise NotBlocked(i.name)
        self._flush()

    def _early(self, order: Sequence[Instruction]) -> list[Instruction]:
        """The instructions with all that kernels do before the calls that they need not wait for."""
        made = {o.var for i in order for o in made_by(i)}
        done: set[int] = set()
        left, found = list(order), []
        while left:
            rest = []
            for i in left:
                calls = i.kind != "random" and not is_fused(i) and not self._is_view(i)
                if calls or any(v in made and v not in done for v in i.reads):
                    rest.append(i)
                else:
                    found.append(i)
                    done.update(o.var for o in made_by(i))
            if len(rest) == len(left):  # the next call
                found.append(rest.pop(0))
                done.update(o.var for o in made_by(found[-1]))
            left = rest
        return found

    def _needed(self, wanted: Sequence[Variable]) -> set[int]:
        need = {x.var for x in wanted}
        for i in reversed(self.instructions):
            if any(o.var in need for o in made_by(i)):
                need.update(i.reads)
        return need

    @staticmethod
    def _is_view(i: Instruction) -> bool:
        known = i.kind == "call" and i.name in _REARRANGED | {"getitem", "moveaxis", "flip"}
        return (
            known
            and bool(i.args)
            and isinstance(i.args[0], Variable)
            and isinstance(i.out, Variable)
            and len(i.reads) == 1
        )

    def _bases(self, order: Sequence[Instruction]) -> set[int]:
        """What has to be in memory because a part of it is taken, or it is turned round."""
        return {i.args[0].var for i in order if self._is_view(i) and not _whole(i)}

    def _read_by(self, call: Instruction) -> list[Variable]:
        """What a call of the library reads: of a matrix that is turned round, the matrix."""
        made = {o.var: i for i in self.instructions for o in made_by(i)}
        found = []
        for v in call.reads:
            i = made.get(v)
            while (
                i is not None
                and self._is_view(i)
                and i.name in ("matrix_transpose", "transpose")
                and i.args[0].ndim == 2
            ):
                v = i.args[0].var
                i = made.get(v)
            if i is not None:
                found.append(next(o for o in made_by(i) if o.var == v))
        return found

    # ---- steps ----

    def _view(self, i: Instruction) -> bool:
        """An array in memory, seen otherwise; False where it would have to be copied."""
        out: Any = i.out
        source = self.operands[i.args[0].var]
        stand_in = self.stand_ins[i.args[0].var]
        found = as_view(i.name, self.functions[i.name], stand_in, *i.args[1:], **i.kwargs)
        if found is None:
            if i.name == "moveaxis":
                raise NotBlocked(i.name)
            return False
        offset = (
            found.__array_interface__["data"][0] - stand_in.__array_interface__["data"][0]
        ) // found.itemsize
        strides = tuple(s // found.itemsize for s in found.strides)
        self.operands[out.var] = Operand(source.root, source.offset + offset, strides, out)
        self.stand_ins[out.var] = found
        self.views[out.var] = (i.args[0].var, i)
        self.variables[out.var] = out
        if out.var in self.factors and strides != contiguous(out.shape):
            self._copy(out)
        return True

    def _copy(self, x: Variable) -> None:
        """Have a factor of a product of stacks copied, which the library would do by itself, one by one."""
        made = self._new(x.shape, x.dtype)
        self.copies[x.var] = made.var
        self.pending[made.var] = Instruction("call", "astype", (x, x.dtype), {}, made)
        self.variables[made.var] = made
        self.required.add(made.var)

    def array(self, v: int) -> int:
        """The slot of an array, which is made where it is a view."""
        if v in self.slots:
            return self.slots[v]
        if v not in self.views:
            i = self.pending[v]  # a transposed matrix
            source, function = self.array(i.args[0].var), self._function(i)
        else:
            base, i = self.views[v]
            source, function = self.array(base), self._function(i)
        self.slots[v] = at = self.slot()

        def step(environment: Environment) -> None:
            environment[at] = function(environment[source])

        self._append(step, (source,))
        return at

    def _append(self, step: Step, reads: Sequence[int]) -> None:
        self.steps.append(step)
        self.uses.append(tuple(reads))

    def _function(self, i: Instruction) -> Callable[..., Any]:
        """A function of the library with everything but the first array."""
        args, kwargs, name = i.args[1:], i.kwargs, i.name
        if name == "getitem":
            return lambda x: x[args[0]]
        f = {"transpose": lambda x: x.T}.get(name) or getattr(self.xp, name)
        return lambda x: f(x, *args, **kwargs)

    def _call(self, i: Instruction) -> None:
        """A call of the library."""
        self._flush()
        if i.name.startswith(("linalg.", "fft.")):
            f = getattr(getattr(self.xp, i.name.partition(".")[0]), i.name.partition(".")[2])
        elif i.name == "power":
            f = _power
        elif i.name == "getitem":
            f = _getitem
        else:
            f = getattr(self.xp, i.name, None)
        if f is None:
            raise NotBlocked(i.name)
        xp, cupy = self.xp, self.cupy

        def place(x: Variable) -> _Slot:
            if x.var in self.copies:
                return _Slot(self.array(self.copies[x.var]))
            if x.var in self.slots or x.var in self.views or x.var in self.pending:
                return _Slot(self.array(x.var))
            if x.value is None or x.ndim:
                raise NotBlocked("constant")
            return x.value.item()  # type: ignore[no-any-return]

        args = substitute(i.args, Variable, place)
        kwargs = {k: substitute(v, Variable, place) for k, v in i.kwargs.items()}
        kwargs = {k: v for k, v in kwargs.items() if k != "device"}
        outs = made_by(i)
        slots = [self._in_memory(o) for o in outs]
        several = isinstance(i.out, tuple)
        self.launches += 1

        def step(environment: Environment) -> None:
            def filled(x: _Slot) -> Any:
                return environment[x.at]

            y = f(
                *substitute(args, _Slot, filled),
                **{k: substitute(v, _Slot, filled) for k, v in kwargs.items()},
            )
            for at, one in zip(slots, y if several else (y,), strict=True):
                one = xp.asarray(one)
                environment[at] = one if one.flags.c_contiguous else cupy.ascontiguousarray(one)

        read: list[_Slot] = []
        collect((args, tuple(kwargs.values())), _Slot, read)
        self._append(step, [x.at for x in read])

    def _random(self, i: Instruction) -> None:
        _, stream, _, n, _, offset = i.args
        out: Any = i.out
        if offset is None:
            raise NotBlocked("random")
        if n <= _DRAWN_IN_PLACE:
            self.pending[out.var] = Instruction("call", "random_words", (stream, offset), {}, out)
            self.variables[out.var] = out
            return
        at = self._in_memory(out)
        bits, device_of = self.xp.random_bits, self.xp.device_of
        self.launches += 1

        def step(environment: Environment) -> None:
            seed, now = environment[-1]
            environment[at] = bits(seed, stream, now + offset, n, device_of(environment[0]))

        self._append(step, (0,))

    # ---- kernels ----

    def _flush(self) -> None:
        """Compute what is required of what is pending; of what differs in its shape alone one array, which serves the others."""
        wanted: list[Variable] = []
        again: list[tuple[Variable, Variable]] = []
        firsts: dict[int, Variable] = {}
        owned: set[int] = set()
        for x in [self.variables[v] for v in self.pending if v in self.required]:
            base = self._reshaped(x.var)
            first = firsts.setdefault(base, x)
            if first is x or (x.var in self.own and base in owned):
                wanted.append(x)
            else:
                again.append((x, first))
            if x.var in self.own:
                owned.add(base)
        self._materialise(wanted)
        for x, first in again:
            self._see(first, x)

    def _reshaped(self, v: int) -> int:
        """The pending array that has the numbers of this one in their order."""
        while (i := self.pending.get(v)) is not None and i.name in _SHAPED and i.args[0].var in self.pending:
            v = i.args[0].var
        return v

    def _see(self, source: Variable, x: Variable) -> None:
        """An array as another one, which is in memory in C order, in its own shape."""
        at = self.operands[source.var]
        steps = contiguous(x.shape)
        self.operands[x.var] = Operand(at.root, at.offset, steps, x)
        self.stand_ins[x.var] = np.reshape(self.stand_ins[source.var], x.shape, copy=False)
        self.views[x.var] = source.var, Instruction("call", "reshape", (source, x.shape), {}, x)
        self.pending.pop(x.var, None)

    def _slice(self, wanted: Sequence[Variable]) -> list[Instruction]:
        """The pending calls that something is computed by, down to what is in memory."""
        need, found = {x.var for x in wanted}, []
        for v, i in reversed(self.pending.items()):
            if v in need and v not in self.operands:
                found.append(i)
                need.update(i.reads)
        return found[::-1]

    def _materialise(self, wanted: list[Variable]) -> None:
        for _ in range(64):
            wanted = [x for x in wanted if x.var not in self.operands]
            if not wanted:
                return
            calls = self._slice(wanted)
            known = {o.var for i in calls for o in made_by(i)}
            reads = {v for i in calls for v in i.reads if v not in known and v in self.operands}
            axes = Axes(calls, [self.operands[v].variable for v in sorted(reads)])
            align(calls, [self.operands[v] for v in sorted(reads)], wanted, axes)
            if axes.twice():
                self._turn(calls)
                continue
            over, sums = sums_before(calls, axes)
            first = [
                self.variables[v]
                for x in wanted
                if over[x.var] is DIFFERENT
                for v in cut(x.var, self.pending, over, sums)
            ]
            if first:
                self._materialise(list({x.var: x for x in first}.values()))
                continue
            for group, gone in self._groups(wanted, over, axes):
                self._kernel(group, axes, gone)
        raise NotBlocked("order")

    def _turn(self, calls: Sequence[Instruction]) -> None:
        """The first array that is seen otherwise, in memory, where it meets itself seen as it is: as one operand it would have one place in
        both."""
        view = next((i for i in calls if self._is_view(i)), None)
        if view is None:
            raise NotBlocked("axes")
        self._materialise([view.args[0]])
        if not self._view(view):
            raise NotBlocked("axes")
        self.pending.pop(view.out.var, None)  # type: ignore[union-attr]

    @staticmethod
    def _groups(
        wanted: Sequence[Variable], over: dict[int, Any], axes: Axes
    ) -> list[tuple[list[Variable], frozenset[Atom]]]:
        """The results of each kernel, with what it sums over."""
        groups: dict[Any, tuple[list[Variable], frozenset[Atom]]] = {}
        for x in sorted(wanted, key=lambda x: not over[x.var]):
            own = frozenset(a for axis in axes.atoms(x.var) for a in axis)
            gone = over[x.var] or frozenset()
            for (rows, has), (members, _) in groups.items():
                if (gone == has and own - has == rows) or (not gone and own == rows | has):
                    members.append(x)
                    break
            else:
                groups[own - gone, gone] = ([x], gone)
        return list(groups.values())

    def _kernel(self, wanted: list[Variable], axes: Axes, gone: frozenset[Atom], parts: int = 0) -> None:
        """A kernel for results; few long sums come in parts first."""
        wanted = [x for x in wanted if x.var not in self.operands]
        if not wanted:
            return
        calls = self._slice(wanted)
        rows = {a: None for x in wanted for own in axes.atoms(x.var) for a in own if a not in gone}
        reduced = in_order(gone, calls, axes)
        length, count = math.prod(a.size for a in reduced), math.prod(a.size for a in rows)
        cluster = Cluster(calls, self.operands, wanted, axes, list(rows), reduced, parts)
        spans = [x.size * max(parts, 1) for x in wanted]
        for o in self._read(calls):
            steps = zip(o.variable.shape, o.strides, strict=True)
            spans.append(1 + o.offset + sum((n - 1) * abs(s) for n, s in steps))
        text = KernelText(cluster, max(*spans, length) >= _WIDE)
        blocks = -(-count // 32) if text.across else count
        if gone and not parts and length >= _LONG and blocks < _ENOUGH_BLOCKS:
            self._in_parts(calls, axes, gone, min(_MOST_PARTS, length >> 10))
            return
        self._launch(text, wanted, parts)

    def _read(self, calls: Sequence[Instruction]) -> list[Operand]:
        return [self.operands[v] for v in {v for i in calls for v in i.reads} if v in self.operands]

    def _launch(self, text: KernelText, wanted: Sequence[Variable], parts: int) -> None:
        kernel, (grid, threads), form = compiled(self.cupy, text.text), grid_of(text), text.form()
        reads = tuple(o.root for o in text.used)
        made = []
        for x in wanted:
            shape, dtype = x.shape, x.dtype
            if parts:
                shape, dtype = (parts, *shape), np.dtype(np.float32) if dtype.char in SHORT else dtype
                x = self._new(shape, dtype)
            made.append((self._in_memory(x), shape, dtype))
        empty, draws = self.cupy.empty, text.draws
        self.launches += 1

        def step(environment: Environment) -> None:
            args = [environment[i] for i in reads]
            for at, shape, dtype in made:
                environment[at] = y = empty(shape, dtype)
                args.append(y)
            if draws:
                seed, now = environment[-1]
                args += random_address(seed, now)
            kernel(grid, threads, (*args, form))

        self._append(step, reads)

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Variable:
        self.next -= 1
        like = np.lib.stride_tricks.as_strided(
            np.empty(1, dtype), shape, [s * dtype.itemsize for s in contiguous(shape)]
        )
        return Variable(like, self.next, self.next, False)

    def _in_parts(self, calls: Sequence[Instruction], axes: Axes, gone: frozenset[Atom], parts: int) -> None:
        """The first sums in parts, whose sums stand for them from then on."""
        known = {i.out.var: i for i in calls}  # type: ignore[union-attr]

        def depends(v: int) -> bool:
            i = known.get(v)
            return i is not None and (is_sum(i, axes) or any(map(depends, i.reads)))

        firsts = [i for i in calls if is_sum(i, axes) and not any(map(depends, i.reads))]
        sums: list[Any] = [i.out for i in firsts]
        slots = self.size
        self._kernel(sums, axes, gone, parts)
        made = [o.variable for o in self.operands.values() if o.root >= slots and o.variable.var < 0]
        for i, part in zip(firsts, made, strict=True):
            out: Any = i.out
            source: Variable = i.args[0]
            over = source.size // out.size if i.name == "mean" else 0
            name = "sum" if i.name == "mean" else i.name
            self.pending[out.var] = Instruction("call", name, (part,), {"axis": 0, "over": over}, out)


def _whole(i: Instruction) -> bool:
    """Whether a view of all of an array, which keeps the order along its axes."""
    if i.name == "getitem":
        key = i.args[1] if isinstance(i.args[1], tuple) else (i.args[1],)
        return all(k is None or k is ... or (isinstance(k, slice) and k == slice(None)) for k in key)
    return i.name in _REARRANGED


class _Slot(NamedTuple):
    at: int


def _power(x: Any, y: Any) -> Any:
    return x**y


def _getitem(x: Any, key: Any) -> Any:
    return x[key]


def lower(
    xp: Any, functions: dict[str, Callable[..., Any]], instructions: Sequence[Instruction], given: Sequence[Variable],
    forms: Sequence[Form], wanted: Sequence[Variable | None],
    own: Sequence[Variable] | None = None,
) -> Program:  # fmt: skip
    """A program on arrays of these forms; NotBlocked where there is none. `own`: what is wanted in memory of its own (None: all); the rest
    may be other shapes of the same memory."""
    plan = _Lowering(xp, functions, instructions, given, forms)
    real = [x for x in wanted if x is not None]
    plan.run(real, real if own is None else own)
    slots = [None if x is None else plan.array(x.var) for x in wanted]
    return Program(freeing(plan.steps, plan.uses, slots), plan.size + 1, slots, plan.launches)
