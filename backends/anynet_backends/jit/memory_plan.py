"""The memory plan: where each result of a program lies.

A result has its place for good. Results that are never needed at the same time share one: `lifetimes` says from which
instruction to which each is needed, and `plan_memory` gives them places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.instructions import Instruction, Variable, made_by
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["Lifetime", "aligned", "lifetimes", "plan_memory", "shaped"]


class Lifetime:
    """From which instruction to which the memory of a variable is needed."""

    __slots__ = ("first", "last", "variable")

    def __init__(self, variable: Variable, first: int) -> None:
        self.variable = variable
        self.first = first
        self.last = first


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
                found[r] = Lifetime(made[r], at)
            found[r].last = at
    return found


def plan_memory(needed: dict[int, Lifetime], scratch: Array | None = None) -> tuple[dict[int, Array], int]:
    """The arrays by their variables, and the bytes of all blocks. Greedy: each takes the smallest free block that is large enough,
    or a new one, of `scratch` where that is given."""
    arrays: dict[int, Array] = {}
    free: list[tuple[int, Array]] = []
    busy: list[tuple[int, int, Array]] = []
    total = 0
    for r, life in sorted(needed.items(), key=lambda item: item[1].first):
        size = max(-(-life.variable.nbytes // 64) * 64, 64)
        still: list[tuple[int, int, Array]] = []
        for last, n, block in busy:
            if last < life.first:
                free.append((n, block))
            else:
                still.append((last, n, block))
        busy = still
        fit = min(
            (i for i, (n, _) in enumerate(free) if size <= n <= 4 * size),
            key=lambda i: free[i][0],
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
            n, block = free.pop(fit)
        busy.append((life.last, n, block))
        arrays[r] = shaped(block, life.variable)
    return arrays, total


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
