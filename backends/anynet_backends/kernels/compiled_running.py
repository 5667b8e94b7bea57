"""Running sums and products, and their gradients, as loops of machine code along any axis.

In memory the array is (outer, n, inner). Each number is made of the one before it, as NumPy makes them; where inner is 1 the one before
stays in a register, else rows are added to rows.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import after_fork
from anynet_backends.jit import availability
from anynet_backends.jit.ir_builder import Function, Loop, LoopFunction, compiled, elementwise, kinds
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.layout import inverse
from anynet_backends.memory.outputs import dense, in_memory_order, permuted
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["KERNELS"]

KERNELS: dict[str, Any] = {}
"""By the name of the primitive that they replace; unsupported arguments are left to the reference."""

_kernel = register_in(KERNELS, traceable=True)

# name: arrays, the first number of a column, and each of the others: p is the one before, or behind it where the loop runs back
_LOOPS = {
    "sum": ("x y", "x", "p + x"),
    "product": ("x y", "x", "p * x"),
    "back": ("x y", "x", "p + x"),
    "slopes": ("g x y", "g", "g + z * p"),  # z: the factor behind, which the one before was made of
}


def _along(t: str, name: str, single: bool) -> tuple[Function, ...]:
    """(arrays …, y) of the form (outer, n, inner); sizes: outer, n, inner."""
    words, first, next_ = _LOOPS[name]
    inputs, reverse = words.split()[:-1], name in ("back", "slopes")
    behind = name == "slopes"
    f = LoopFunction("running", len(inputs) + 1, 3)
    outer, n, inner = f.sizes
    steps = [f.step(i) for i in range(len(f.arrays))]
    names = [*inputs, "p", *(["z"] if behind else [])]
    start = elementwise("begin", t, " ".join([*inputs, "y"]), y=first)
    go = elementwise("go", t, " ".join([*names, "y"]), y=next_)
    with f.loop(0, outer) as o:
        bases = [f.at(a, f.op("mul", o, s)) for a, s in zip(f.arrays, steps, strict=True)]
        begin = f.op("mul", f.op("sub", n, 1), inner) if reverse else f.op("mul", inner, 0)
        if single:
            values = {a: f.load(t, b, begin) for a, b in zip(inputs, bases, strict=False)}
            one = f.formula(first, t, **values)
            f.store(one, bases[-1], begin)
            last = f.variable(one)
        else:
            f.call(start, *[f.at(b, begin, t) for b in bases], inner)
        with f.loop(1, n) as i:
            k = f.op("sub", f.op("sub", n, 1), i) if reverse else i
            here = f.op("mul", k, inner)
            there = f.op("add", here, inner) if reverse else f.op("sub", here, inner)
            if single:
                values = {a: f.load(t, b, here) for a, b in zip(inputs, bases, strict=False)}
                values["p"] = f.get(last, t)
                if behind:
                    values["z"] = f.load(t, bases[1], there)
                made = f.formula(next_, t, **values)
                f.store(made, bases[-1], here)
                f.put(last, made)
            else:
                places = [f.at(b, here, t) for b in bases]
                more = [f.at(bases[-1], there, t), *([f.at(bases[1], there, t)] if behind else [])]
                f.call(go, *places[:-1], *more, places[-1], inner)
    return start, go, f


@functools.cache
def _address(t: str, name: str, single: bool) -> int:
    return compiled(_along(t, name, single), "running")


@functools.lru_cache(maxsize=256)
def _loop(name: str, shape: tuple[int, ...], at: int, dtype: Any) -> Loop:
    size = np.dtype(dtype).itemsize
    outer, n, inner = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])
    arrays = len(_LOOPS[name][0].split())
    step = (n * inner * size,)
    function = _address(kinds(dtype), name, inner == 1)
    nbytes = arrays * size * math.prod(shape)
    return Loop(function, (outer, n, inner), [step] * arrays, np.zeros(1), nbytes, ((shape, dtype),))


after_fork(_loop.cache_clear)


def _taken(x: Array, dtype: Any) -> bool:
    return bool(dtype is None and x.dtype in PLAIN_FLOATS and x.ndim and x.size and availability.available())


@_kernel
def cumulative_sum(xp: Backend, x: Array, *, axis: int, dtype: Any = None, need: Any) -> Any:
    """Sums of all up to each; the gradient is that of all behind it."""
    if not _taken(x, dtype):
        return NotImplemented
    v, order = in_memory_order(xp, x)
    at, home, kind = order.index(axis % x.ndim), inverse(order), x.dtype
    y = permuted(xp, xp.call(_loop("sum", v.shape, at, kind), v), home)
    if need is None:
        return y
    back = _loop("back", v.shape, at, kind)
    return y, lambda g: (permuted(xp, xp.call(back, dense(xp, permuted(xp, g, order))), home),)


@_kernel
def cumulative_prod(xp: Backend, x: Array, *, axis: int, dtype: Any = None, need: Any) -> Any:
    """Products of all up to each. The gradient has no division, as the reference's has none."""
    if not _taken(x, dtype):
        return NotImplemented
    v, order = in_memory_order(xp, x)
    at, home, kind = order.index(axis % x.ndim), inverse(order), x.dtype
    y = xp.call(_loop("product", v.shape, at, kind), v)
    if need is None:
        return permuted(xp, y, home)
    slopes = _loop("slopes", v.shape, at, kind)
    ahead = (slice(None),) * at

    def pull(g: Array) -> tuple[Array]:
        gx = xp.call(slopes, dense(xp, permuted(xp, g, order)), v)
        gx[(*ahead, slice(1, None))] *= y[(*ahead, slice(None, -1))]
        return (permuted(xp, gx, home),)

    return permuted(xp, y, home), pull
