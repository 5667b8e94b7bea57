"""Sums of large arrays as loops of machine code, in an order that depends on the form of the array alone.

Neither the number of threads nor the blocks in which a function is carried out (`anynet_backends.jit.blocks`) change the bits: a sum
is a row of *stages* on the array in its memory order, each over one run of neighbouring axes. A stage adds chunks of its run, of `CHUNK`
numbers one after the other in memory (in 64 parts) or of 8 to 32 rows (row to row), and a second one adds what these give, in double
precision, from the first to the last.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.ir_builder import LANES, Function, Loop, LoopFunction, Value, compiled, kinds
from anynet_backends.memory import reductions
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = [
    "CHUNK",
    "LEAST_BYTES",
    "Stage",
    "loops",
    "order_of",
    "placed",
    "reduced_axes",
    "stages",
    "sum_in_order",
]

CHUNK: Final = 4096
"""Numbers of a row that are added in the precision of the array."""
LEAST_BYTES: Final = 1 << 18
"""Bytes of an array from which its sums are taken here."""
_SHORT: Final = 32
"""A row of fewer numbers is not worth a loop of its own, while there are other axes to be added."""
_PARTS: Final = 4
_KNOWN: Final = 64
"""A row of fewer numbers has code of its own: the loop would cost more than the sums."""


class Stage(NamedTuple):
    """Sums over one run of axes of an array that is seen as (outer, run, inner): `chunk` numbers of the run at a time. `inner` is 1 where
    the run is the innermost."""

    outer: int
    run: int
    inner: int
    chunk: int

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.run // self.chunk)


def reduced_axes(ndim: int, axis: Any) -> tuple[int, ...]:
    """The axes of a reduction as numbers from 0."""
    if axis is None:
        return tuple(range(ndim))
    return tuple([a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))])


def stages(sizes: list[int], reduced: list[bool]) -> list[Stage]:
    """The stages of the sum over the `reduced` ones of the axes of these sizes, which lie in memory in this order."""
    runs: list[tuple[int, bool]] = []
    for n, gone in zip(sizes, reduced, strict=True):
        if n == 1:
            continue
        if runs and runs[-1][1] == gone:
            runs[-1] = (runs[-1][0] * n, gone)
        else:
            runs.append((n, gone))
    found: list[Stage] = []
    while any(gone for _, gone in runs):
        last, innermost = runs[-1]
        at = next(i for i, (_, gone) in enumerate(runs) if gone)
        if innermost and (last >= _SHORT or at == len(runs) - 1):
            at = len(runs) - 1
        inner = math.prod(n for n, _ in runs[at + 1 :])
        chunk = CHUNK if inner == 1 else 32 if inner <= 512 else 16 if inner <= 1024 else 8
        found.append(Stage(math.prod(n for n, _ in runs[:at]), runs[at][0], inner, chunk))
        runs = _joined([*runs[:at], *runs[at + 1 :]])
    return found


def _joined(runs: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    joined: list[tuple[int, bool]] = []
    for n, gone in runs:
        if joined and joined[-1][1] == gone:
            joined[-1] = (joined[-1][0] * n, gone)
        else:
            joined.append((n, gone))
    return joined


# ----- the loops -----


def _over_chunks(name: str, t: str, body: Any, short: int) -> Function:
    """(x, origin, result): sizes: A, B, numbers of a chunk, numbers of the run, inner; strides along A and B, and of the run. A chunk that
    begins less than its numbers before the end of its run, which begins at `origin`, is shorter. `short`: the numbers of each run, which is
    one chunk, or 0: LLVM then knows them."""
    f = LoopFunction(name, 3, 5)
    (x, origin, out), (many, per, chunk, run, inner) = f.arrays, f.sizes
    moves = [[f.step(i, d) for d in range(3)] for i in range(3)]
    step = moves[0][2]

    def moved(place: Value, which: int, a: Value, b: Value) -> Value:
        return f.at(f.at(place, f.op("mul", a, moves[which][0])), f.op("mul", b, moves[which][1]))

    with f.loop(0, many) as a, f.loop(0, per) as b:
        here, start, to = moved(x, 0, a, b), moved(origin, 1, a, b), moved(out, 2, a, b)
        n: Any = short
        if not short:
            first, second = (f.assigned("i64", f"ptrtoint {p} to i64") for p in (here, start))
            done = f.op("sdiv", f.op("sub", first, second), step)
            n = f.smaller(chunk, f.op("sub", run, done))
        body(f, t, here, to, n, inner, step)
    return f


def _row(f: Function, t: str, x: Value, out: Value, n: Any, inner: Value, step: Value) -> None:
    """out = Σ of n numbers: in 64 parts, which are added in pairs; a rest joins them where it has their width."""
    vector = f"<{LANES} x {t}>"
    parts = [f.variable(Value(vector, "zeroinitializer")) for _ in range(_PARTS)]
    most, full = f.op("and", n, -LANES * _PARTS), f.op("and", n, -LANES)
    with f.loop(0, most, LANES * _PARTS) as i:
        for k, part in enumerate(parts):
            f.add_to(part, f.load(vector, x, f.op("add", i, k * LANES)))
    with f.loop(most, full, LANES) as i:
        f.add_to(parts[0], f.load(vector, x, i))
    first, second, third, fourth = (f.get(part, vector) for part in parts)
    total = f.op("fadd", f.op("fadd", first, second), f.op("fadd", third, fourth))
    lanes, done = LANES, full
    while lanes > 1:
        lanes //= 2
        total = f.op("fadd", f.lanes(total, 0, lanes), f.lanes(total, lanes, lanes))
        kind, sum_ = total.type, f.variable(total)
        end = f.op("and", n, -lanes)
        with f.loop(done, end, lanes) as i:
            f.add_to(sum_, f.load(kind, x, i))
        total, done = f.get(sum_, kind), end
    f.store(total, out)


_WIDE: Final = 1024
"""Numbers of a row from which on rows are added in memory, as they come: registers would take them from too many pages."""


def _rows(f: Function, t: str, x: Value, out: Value, n: Any, inner: Value, step: Value) -> None:
    """out[j] = Σ of n rows, one after the other."""
    wide = f.op("and", inner, -_WIDE)
    with f.loop(0, wide, _WIDE) as start:
        end, vector = f.op("add", start, _WIDE), f"<{LANES} x {t}>"
        with f.loop(start, end, LANES) as j:
            f.store(f.load(vector, x, j), out, j)
        with f.loop(1, n) as r:
            row = f.at(x, f.op("mul", r, step))
            with f.loop(start, end, LANES) as j:
                f.store(f.op("fadd", f.load(vector, out, j), f.load(vector, row, j)), out, j)
    start, lanes, count = wide, LANES, _PARTS
    while lanes:
        kind, end = (t if lanes == 1 else f"<{lanes} x {t}>"), f.op("and", inner, -lanes * count)
        with f.loop(start, end, lanes * count) as j:
            at = [f.op("add", j, k * lanes) for k in range(count)]
            totals = [f.variable(f.load(kind, x, i)) for i in at]
            with f.loop(1, n) as r:
                row = f.at(x, f.op("mul", r, step))
                for total, i in zip(totals, at, strict=True):
                    f.add_to(total, f.load(kind, row, i))
            for total, i in zip(totals, at, strict=True):
                f.store(f.get(total, kind), out, i)
        lanes, count, start = (lanes if count > 1 else lanes // 2), 1, end


def _fold(t: str) -> Function:
    """(parts, result): sizes: A, chunks, inner; strides along A, and of the chunks: the sums of the chunks, in double precision."""
    f = LoopFunction("fold", 2, 3)
    (x, out), (many, count, inner) = f.arrays, f.sizes
    of_x, step, of_out = f.step(0), f.step(0, 1), f.step(1)
    with f.loop(0, many) as a:
        here, to = f.at(x, f.op("mul", a, of_x)), f.at(out, f.op("mul", a, of_out))
        start: Any = 0
        for lanes in (LANES, 1):
            kind, wide = (t, "double") if lanes == 1 else (f"<{lanes} x {t}>", f"<{lanes} x double>")
            end = f.op("and", inner, -lanes)
            with f.loop(start, end, lanes) as j:
                total = f.variable(Value(wide, "0.0" if lanes == 1 else "zeroinitializer"))
                with f.loop(0, count) as k:
                    value = f.load(kind, f.at(here, f.op("mul", k, step)), j)
                    f.add_to(total, value if kind == wide else f.assigned(wide, f"fpext {value} to {wide}"))
                sum_ = f.get(total, wide)
                f.store(sum_ if kind == wide else f.assigned(kind, f"fptrunc {sum_} to {kind}"), to, j)
            start = end
    return f


@functools.cache
def _address(name: str, t: str, short: int = 0) -> int:
    if name == "fold":
        return compiled((_fold(t),), name)
    return compiled((_over_chunks(name, t, _row if name == "row" else _rows, short),), name)


@functools.lru_cache(maxsize=1024)
def loops(stage: Stage, dtype: Any) -> tuple[Loop, Loop | None]:
    """The loop over the chunks of a stage, from (outer, run, inner), which it takes twice, to (outer, chunks, inner), and the one that
    adds these up, where there are several."""
    outer, run, inner, chunk = stage
    size, t, count = np.dtype(dtype).itemsize, kinds(dtype), stage.chunks
    row, nothing = inner * size, np.zeros(1)
    made = (outer, count, inner)
    if outer > 1:
        many, per = outer, count
        steps = (run * row, chunk * row, row), (run * row, 0, 0), (count * row, row, 0)
    else:  # threads share the chunks
        many, per = count, 1
        steps = (chunk * row, 0, row), (0, 0, 0), (row, 0, 0)
    nbytes = outer * run * row
    name = "row" if inner == 1 else "rows"
    short = run if inner == 1 and run < _KNOWN else 0
    first = Loop(
        _address(name, t, short), (many, per, chunk, run, inner), steps, nothing, nbytes, ((made, dtype),)
    )
    if count == 1:
        return first, None
    width = (
        64 if outer == 1 and inner % 64 == 0 else inner
    )  # threads share the columns, where there is one row of them
    many, of_x = (outer, count * row) if outer > 1 else (inner // width, width * size)
    moves = (of_x, row), (width * size if outer == 1 else row, 0)
    form = ((outer, 1, inner), dtype)
    return first, Loop(
        _address("fold", t), (many, count, width), moves, nothing, outer * count * row, (form,)
    )


after_fork(loops.cache_clear)  # they count on threads that a forked process does not have


def order_of(x: Any) -> tuple[int, ...] | None:
    """The axes of a large array in memory order, if its sums are taken here: of real numbers, without gaps."""
    if x.nbytes < LEAST_BYTES or x.dtype not in PLAIN_FLOATS:
        return None
    expected, order = x.dtype.itemsize, axes_in_memory(x.strides)
    for i in order[::-1]:
        if x.shape[i] != 1:
            if x.strides[i] != expected:
                return None
            expected *= x.shape[i]
    return order


def sum_in_order(
    x: Array, axis: Any, out: Array | None, keepdims: bool, run: Callable[..., Array] = Loop.__call__
) -> Array | None:
    """The sum along axes; None where that is left to NumPy. ``run(loop, arrays …)`` is what is done with each loop."""
    order = order_of(x)
    if order is None or not x.flags.aligned or not availability.available():
        return None
    made = x
    reduced = reduced_axes(x.ndim, axis)
    for stage in _stages_of(x.shape, order, reduced):
        view = made.transpose(order) if made is x else made
        view = view.reshape(stage.outer, stage.run, stage.inner)
        first, fold = loops(stage, x.dtype)
        made = run(first, view, view)
        if fold is not None:
            made = run(fold, made)
    return None if made is x else placed(made, x.shape, order, reduced, out, keepdims)


@functools.lru_cache(maxsize=1024)
def _stages_of(shape: tuple[int, ...], order: tuple[int, ...], reduced: tuple[int, ...]) -> tuple[Stage, ...]:
    return tuple(stages([shape[i] for i in order], [i in reduced for i in order]))


def placed(
    made: Array, shape: tuple[int, ...], order: tuple[int, ...], reduced: tuple[int, ...], out: Array | None, keepdims: bool
) -> Array:  # fmt: skip
    """The result in the shape and order of axes that NumPy gives it."""
    kept = [i for i in order if i not in reduced]
    if keepdims:
        made = made.reshape([1 if i in reduced else shape[i] for i in order])
        made = made.transpose([order.index(i) for i in range(len(shape))])
    else:
        made = made.reshape([shape[i] for i in kept])
        made = made.transpose([kept.index(i) for i in sorted(kept)])
    if out is None:
        return made
    out[...] = made
    return out


reductions.sum_in_order = sum_in_order
