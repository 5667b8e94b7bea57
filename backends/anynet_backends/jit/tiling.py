"""Functions of machine code that act element by element, carried out on large arrays block by block.

What a function does to each element was planned for vectors of `WIDTH` numbers (`anynet_backends.jit.program.Program.function`). Here
the vectors are moved over large arrays, so that what is read and what is written passes through memory once, and what is neither
stays in the cache.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import fork_safe_lock
from anynet_backends.jit import native_call, native_function, segment
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.ir_builder import Function, Value, compiled, number
from anynet_backends.memory.layout import axes_in_memory

__all__ = ["WIDTH", "Blocks", "dense_alike"]

WIDTH: Final = 1 << 12
"""Numbers in a block."""


def _over_blocks() -> tuple[Function, ...]:
    """(arrays …): sizes: numbers, numbers of a block, moves, rows; strides: bytes of a number of each array; data: address of the rows
    and, for each move, address of a cell, which array lies there and how far from its beginning. Answers the exceptions that were
    raised."""
    params = ("ptr", "args"), ("ptr", "dims"), ("ptr", "steps"), ("ptr", "data")
    f = Function("over_blocks", *params, gives="i64")
    args, dims, steps, data = (f.argument(name) for _, name in params)
    n, width, moves, rows = (f.load("i64", dims, number(i)) for i in range(4))
    table, work = (f.load("ptr", data, number(i)) for i in range(2))
    mask = Value("i32", str(native_call.floating_point_exceptions()))
    f.assigned("i32", f"call i32 @feclearexcept({mask})")
    last = f.op("sub", n, width)
    with f.loop(number(0), n, WIDTH) as at:
        start = f.smaller(at, last)
        with f.loop(number(0), moves) as k:
            move = f.at(data, f.op("add", f.op("mul", k, number(3)), number(2)), "i64")
            array = f.load("i64", move, number(1))
            distance = f.op(
                "add", f.op("mul", f.load("i64", steps, array), start), f.load("i64", move, number(2))
            )
            f.store(f.at(f.load("ptr", args, array), distance), f.load("ptr", move))
        f.assigned("i64", f"call i64 {work.name}({table}, i64 0, {rows})")
    raised = f.assigned("i32", f"call i32 @fetestexcept({mask})")
    f.assigned("i32", f"call i32 @feclearexcept({mask})")
    f.answer(f.assigned("i64", f"sext {raised} to i64"))
    return (f,)


@functools.cache
def _call() -> Any:
    declarations = "declare i32 @feclearexcept(i32)\ndeclare i32 @fetestexcept(i32)\n"
    place = compiled(_over_blocks(), "over_blocks", declarations)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 4)(place)


class Blocks:
    """Rows of machine code on `arguments` and `results`, which are vectors of WIDTH numbers, as a function of large arrays."""

    def __init__(
        self, rows: Sequence[segment.KernelCall], arguments: Sequence[Array], results: Sequence[Array]
    ) -> None:
        roots = (*arguments, *results)
        moves: list[int] = []
        self.held: list[Any] = []
        for row in rows:
            found, needed = segment.relocations(row, roots)
            moves += found
            self.held += needed
        self.table = np.array([row.cells for row in rows], np.int64)
        self.strides = np.array([a.itemsize for a in roots], np.int64)
        cells = (native_function.data_pointer(self.table), compiler().runtime["run_table"], *moves)
        self.cells = np.array(cells, np.int64)
        self.counts = WIDTH, len(moves) // 3, len(rows)
        self.types = [a.dtype for a in results]
        self.rest = native_function.data_pointer(self.strides), native_function.data_pointer(self.cells)
        self.places, self.address = ctypes.c_void_p * len(roots), native_function.fast_data_pointer()
        self.lock = fork_safe_lock()  # the rows are there once

    def __call__(self, *arrays: Array) -> list[Array] | None:
        """The results for arrays that lie alike in memory, without gaps; None where NumPy would warn, or while another thread is
        here."""
        like = arrays[0]
        made = [np.empty_like(like, dtype=t) for t in self.types]
        sizes = (ctypes.c_int64 * 4)(like.size, *self.counts)
        places = self.places(*map(self.address, (*arrays, *made)))
        if not self.lock.acquire(blocking=False):
            return None
        try:
            raised = _call()(places, sizes, *self.rest)
        finally:
            self.lock.release()
        return None if raised else made


def dense_alike(arrays: Sequence[Array]) -> bool:
    """Whether the arrays have one shape and one order in memory, without gaps."""
    first = arrays[0]
    if any(a.shape != first.shape or a.strides != first.strides or not a.flags.aligned for a in arrays):
        return False
    flags = first.flags
    return bool(flags.forc or first.transpose(axes_in_memory(first.strides)).flags.c_contiguous)
