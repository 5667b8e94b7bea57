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
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["Lifetime", "aligned", "lifetimes", "plan_lines", "plan_memory", "shaped"]


class Lifetime:
    """From which instruction to which the memory of a variable is needed. `over`: arrays that the first may overwrite by what it
    makes, where nothing else needs them."""

    __slots__ = ("first", "last", "over", "variable")

    def __init__(self, variable: Variable, first: int, over: frozenset[int]) -> None:
        self.variable = variable
        self.first = first
        self.last = first
        self.over = over


def lifetimes(
    instructions: Sequence[Instruction], root: dict[int, int], fixed: set[int]
) -> dict[int, Lifetime]:
    """The lifetimes of the variables that own memory, but for the `fixed`, whose memory is not the program's to choose."""
    found: dict[int, Lifetime] = {}
    made: dict[int, Variable] = {}
    for at, i in enumerate(instructions):
        outs = made_by(i)
        made |= {o.var: o for o in outs}
        for v in (*i.reads, *(o.var for o in outs)):
            r = root[v]
            if r in fixed:
                continue
            if r not in found:
                found[r] = Lifetime(made[r], at, _overwritable(i, root))
            found[r].last = at
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
    or a new one, of `scratch` where that is given. Numbers of other sizes have other blocks: a loop over both could not be fused."""
    arrays: dict[int, Array] = {}
    free: list[tuple[int, int, Array]] = []  # bytes of a number, of the block
    busy: list[tuple[int, int, int, int, Array]] = []  # needed until, by which variable
    total = 0
    for r, life in sorted(needed.items(), key=lambda item: item[1].first):
        size = max(-(-life.variable.nbytes // 64) * 64, 64)
        width = life.variable.dtype.itemsize
        still: list[tuple[int, int, int, int, Array]] = []
        for last, owner, *place in busy:
            if last < life.first or (last == life.first and owner in life.over):
                free.append(tuple(place))
            else:
                still.append((last, owner, *place))
        busy = still
        fit = min(
            (i for i, (w, n, _) in enumerate(free) if w == width and size <= n <= 4 * size),
            key=lambda i: free[i][1],
            default=None,
        )
        if fit is None:
            block = aligned(size) if scratch is None else scratch[total : total + size]
            if len(block) < size:
                msg = f"{total + size} bytes of scratch memory are needed, there are {len(scratch)}"  # type: ignore[arg-type]
                raise CompileError(msg)
            total += size
            n = size
        else:
            _, n, block = free.pop(fit)
        busy.append((life.last, r, width, n, block))
        arrays[r] = shaped(block, life.variable)
    return arrays, total


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
