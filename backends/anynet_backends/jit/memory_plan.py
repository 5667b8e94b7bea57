"""The memory plan: where each result of a program lies.

A result has its place for good. Results that are never needed at the same time share one: `lifetimes` says from which
instruction to which each is needed, and `plan_memory` gives them places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.instructions import Instruction, Variable, collect, made_by
from anynet_backends.jit.passes import streaming
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["Lifetime", "aligned", "lifetimes", "plan_lines", "plan_memory", "shaped"]


class Lifetime:
    """From which instruction to which the memory of a variable is needed. `over`: arrays that the first may overwrite by what it
    makes, where nothing else needs them. `runs`: the runs of `streaming` instructions in which the first and the last are."""

    __slots__ = ("first", "last", "over", "runs", "variable")

    def __init__(self, variable: Variable, first: int, over: frozenset[int], run: int) -> None:
        self.variable = variable
        self.first = first
        self.last = first
        self.over = over
        self.runs = run, run

    @property
    def form(self) -> tuple[int, int]:
        """How its memory is cut along its outermost axis."""
        x = self.variable
        return (x.shape[0] if x.shape else 1), x.nbytes


def lifetimes(
    instructions: Sequence[Instruction], root: dict[int, int], fixed: set[int]
) -> dict[int, Lifetime]:
    """The lifetimes of the variables that own memory, but for the `fixed`, whose memory is not the program's to choose."""
    found: dict[int, Lifetime] = {}
    made: dict[int, Variable] = {}
    run = 0
    for at, i in enumerate(instructions):
        run += not streaming(i)
        outs = made_by(i)
        made |= {o.var: o for o in outs}
        for v in (*i.reads, *(o.var for o in outs)):
            r = root[v]
            if r in fixed:
                continue
            if r not in found:
                found[r] = Lifetime(made[r], at, _overwritable(i, root), run)
            found[r].last, found[r].runs = at, (found[r].runs[0], run)
    return found


def _overwritable(instruction: Instruction, root: dict[int, int]) -> frozenset[int]:
    """The arrays that a function of NumPy reads number by number, each where it writes one: those in the form of its result."""
    out = instruction.out
    ufunc = getattr(np, instruction.name, None)
    if (
        instruction.kind != "call"
        or not isinstance(out, Variable)
        or not isinstance(ufunc, np.ufunc)
        or ufunc.signature
    ):
        return frozenset()
    found: list[Variable] = []
    collect(instruction.args, Variable, found)
    alike = {
        x.var
        for x in found
        if (x.shape, x.strides, x.dtype) == (out.shape, out.strides, out.dtype) and root[x.var] == x.var
    }
    return frozenset(alike - {root[x.var] for x in found if x.var not in alike})


def plan_memory(needed: dict[int, Lifetime], scratch: Array | None = None) -> tuple[dict[int, Array], int]:
    """The arrays by their variables, and the bytes of all blocks. Greedy: each takes the smallest free block that is large enough,
    or a new one, of `scratch` where that is given. Numbers of other sizes have other blocks: a loop over both could not be fused.
    So have arrays of other forms in one run of `streaming` instructions: threads could not share their loops (`parallel`)."""
    arrays: dict[int, Array] = {}
    free: list[_Block] = []
    busy: list[_Block] = []
    total = 0
    for r, life in sorted(needed.items(), key=lambda item: item[1].first):
        size = max(-(-life.variable.nbytes // 64) * 64, 64)
        gone = [b for b in busy if b.ends_before(life)]
        free += gone
        busy = [b for b in busy if b not in gone]
        fitting = [b for b in free if b.takes(life, size, apart=scratch is None)]
        if fitting:
            block = min(fitting, key=lambda b: len(b.memory))
            free.remove(block)
        else:
            memory = aligned(size) if scratch is None else scratch[total : total + size]
            if len(memory) < size:
                msg = f"{total + size} bytes of scratch memory are needed, there are {len(scratch)}"  # type: ignore[arg-type]
                raise CompileError(msg)
            total += size
            block = _Block(memory)
        block.owner, block.life = r, life
        busy.append(block)
        arrays[r] = shaped(block.memory, life.variable)
    return arrays, total


class _Block:
    """Memory that variables have one after the other, and which has it now."""

    __slots__ = ("life", "memory", "owner")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.owner = -1
        self.life: Lifetime

    def ends_before(self, life: Lifetime) -> bool:
        """Whether what lies here is needed no more when this one begins."""
        last = self.life.last
        return last < life.first or (last == life.first and self.owner in life.over)

    def takes(self, life: Lifetime, size: int, apart: bool) -> bool:
        """Whether a variable of so many bytes may be the next."""
        before = self.life
        if before.variable.dtype.itemsize != life.variable.dtype.itemsize:
            return False
        if not size <= len(self.memory) <= 4 * size:
            return False
        return not apart or before.runs[1] < life.runs[0] or before.form == life.form


def plan_lines(needed: dict[int, Lifetime], places: dict[int, Array], total: int) -> list[str]:
    """The plan as text: which block each variable lies in, and for how long."""
    blocks: dict[int, int] = {}
    lines = []
    for var, life in sorted(needed.items(), key=lambda item: item[1].first):
        block = blocks.setdefault(places[var].__array_interface__["data"][0], len(blocks))
        lines.append(
            f"%{var}: {life.variable.nbytes} bytes in block {block}, instructions {life.first} to {life.last}"
        )
    return [f"{total} bytes in {len(blocks)} blocks", *lines]


def aligned(size: int) -> Array:
    """Bytes at a multiple of 64: a cache line, as vector instructions want it."""
    raw = np.empty(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def shaped(block: Array, like: Variable) -> Array:
    """A part of a block as an array in the shape, dtype and memory order of another."""
    order = axes_in_memory(like.strides)
    inner = tuple(like.shape[i] for i in order)
    flat = block[: like.nbytes].view(like.dtype) if like.nbytes else np.empty(0, like.dtype)
    array = flat.reshape(inner)
    return array.transpose(inverse(order)) if like.ndim > 1 else array
