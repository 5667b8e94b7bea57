"""Attention, head by head."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends import machine
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import register_in
from anynet_backends.machine import at_once, repeat, set_where
from anynet_backends.memory.attention import scores_at_once
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.numpy_namespace import same_float_dtype

KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name of the primitive."""
_kernel = register_in(KERNELS)


@_kernel
def attention(
    xp: Backend,
    q: Array,
    k: Array,
    v: Array,
    mask: Array = None,
    *,
    scale: float,
    causal: bool = False,
    p: float = 0.0,
    seed: int = 0,
    step: int = 0,
    block: int = 256,
    need: Any,
) -> Any:
    """softmax(q kᵀ · scale + mask) v. Short sequences keep the scores for the gradient; longer ones have room for those of one
    head at a time, and make them again; beyond `memory.attention.ONE_HEAD` that is left to the reference, which never has them whole."""
    n, m = q.shape[-2], k.shape[-2]
    short = scores_at_once(n, m, block, need)
    if (
        p
        or short is None
        or not same_float_dtype(q, k, v)
        or q.shape[:-2] != k.shape[:-2]
        or not q.size
        or not k.size
    ):
        return NotImplemented
    mask = _causal(n, m) if causal else mask
    if mask is not None and np.broadcast_shapes((*q.shape[:-1], m), mask.shape) != (*q.shape[:-1], m):
        return NotImplemented
    heads, d = math.prod(q.shape[:-2]), v.shape[-1]
    queries, keys, values = (np.ascontiguousarray(a).reshape(heads, *a.shape[-2:]) for a in (q, k, v))
    dtype, train = q.dtype, need is not None
    # head by head is one call of machine code; else short sequences take all heads together
    apart = not short or (machine.available() and heads > 2)
    kept = train and short
    scaled, s = np.empty(queries.shape, dtype), np.empty((heads if kept or not apart else 1, n, m), dtype)
    y, total = empty_output((*q.shape[:-1], d), dtype), empty_output((*q.shape[:-1], 1), dtype)
    ys, totals = y.reshape(heads, n, d), total.reshape(heads, n, 1)
    factor = np.asarray(scale, dtype)
    hidden = np.zeros((1, 0), bool)
    if mask is not None:
        wide = np.broadcast_to(mask, (*q.shape[:-2], n, m))
        each: Array = wide.reshape(heads, n, m) if any(wide.strides[:-2]) else wide[(0,) * (q.ndim - 2)][None]
        hidden = ~each if each.dtype == bool else each.astype(dtype, copy=False)

    def places(t: int) -> tuple[Array, ...]:
        at, own = t % len(s), t % len(hidden)
        return queries[t], keys[t], values[t], scaled[t], s[at], ys[t], totals[t], hidden[own]

    if apart:
        repeat(_attend, places, range(heads), (factor,), (np.empty((n, 1), dtype), np.empty((n, 1), bool)))
    else:
        top, none = np.empty(totals.shape, dtype), np.empty(totals.shape, bool)
        _attend(at_once, queries, keys, values, scaled, s, ys, totals, hidden, factor, top, none)
    if need is None:
        return y, total

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        gy = np.ascontiguousarray(g[0]).reshape(heads, n, d)
        gs = np.ascontiguousarray(g[1]).reshape(heads, n, 1)
        every = not apart or (len(need) > 3 and need[3])
        ds = np.empty((heads if every else 1, n, m), dtype)
        dq, dk, dv = (empty_output(a.shape, dtype) for a in (q, k, v))
        made = [a.reshape(heads, *a.shape[-2:]) for a in (dq, dk, dv)]

        def around(t: int) -> tuple[Array, ...]:
            fixed = gy[t], gs[t], keys[t], values[t], scaled[t], s[t % len(s)], ys[t]
            return (*fixed, ds[t % len(ds)], *(a[t] for a in made))

        def again(t: int) -> tuple[Array, ...]:
            return (*around(t), totals[t], hidden[t % len(hidden)])

        room = np.empty((n, d), dtype), np.empty((n, 1), dtype)
        if not kept:
            repeat(_attend_again, again, range(heads), (factor,), room)
        elif apart:
            repeat(_attend_back, around, range(heads), (factor,), room)
        else:
            flat, thin = np.empty(gy.shape, dtype), np.empty(gs.shape, dtype)
            _attend_back(
                at_once,
                gy,
                gs,
                keys,
                values,
                scaled,
                s,
                ys,
                ds,
                made[0],
                made[1],
                made[2],
                factor,
                flat,
                thin,
            )
        scores = ds.reshape(*q.shape[:-1], m) if every else None
        return (dq, dk, dv, scores)[: len(need)]

    return (y, total), pull


def _attend(
    call: Any, q: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, total: Array, hidden: Array, factor: Array,
    top: Array, none: Array,
) -> None:  # fmt: skip
    """One head: s = softmax(q kᵀ · factor + mask), y = s v, total = log Σ exp."""
    masked = hidden.size > 0
    call(np.multiply, q, factor, scaled)
    call(np.matmul, scaled, k.swapaxes(-1, -2), s)
    if masked and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif masked:
        call(np.add, s, hidden, s)
    call(np.maximum.reduce, s, -1, None, top, True)
    if masked:  # a row in which all is hidden gives zeros
        call(np.equal, top, -np.inf, none)
        call(set_where, top, none, 0.0)
    call(np.subtract, s, top, s)
    call(np.exp, s, s)
    call(sum_by_dot, s, -1, None, total, True)
    if masked:
        call(np.equal, total, 0.0, none)
        call(set_where, total, none, 1.0)
    call(np.divide, s, total, s)
    call(np.matmul, s, v, y)
    call(np.log, total, total)
    call(np.add, total, top, total)


def _attend_back(
    call: Any, gy: Array, gs: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    call(np.multiply, gy, y, room)
    call(sum_by_dot, room, -1, None, inner, True)
    call(np.subtract, gs, inner, inner)
    call(np.matmul, gy, v.swapaxes(-1, -2), ds)
    call(np.add, ds, inner, ds)
    call(np.multiply, ds, s, ds)
    call(np.matmul, ds, k, dq)
    call(np.multiply, dq, factor, dq)
    call(np.matmul, ds.swapaxes(-1, -2), scaled, dk)
    call(np.matmul, s.swapaxes(-1, -2), gy, dv)


def _attend_again(
    call: Any, gy: Array, gs: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, total: Array, hidden: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    """The same, with the probabilities made again: e^{score − total}."""
    call(np.matmul, scaled, k.swapaxes(-1, -2), s)
    if hidden.size and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif hidden.size:
        call(np.add, s, hidden, s)
    call(np.subtract, s, total, s)
    call(np.exp, s, s)
    if (
        hidden.size and hidden.dtype != bool
    ):  # beside −1e9 the logarithm of a sum is lost in rounding: over their sum again
        call(sum_by_dot, s, -1, None, inner, True)
        call(np.maximum, inner, 1e-30, inner)
        call(np.divide, s, inner, s)
    _attend_back(call, gy, gs, k, v, scaled, s, y, ds, dq, dk, dv, factor, room, inner)


@functools.lru_cache(maxsize=8)
def _causal(n: int, m: int) -> Array:
    return np.tri(n, m, dtype=bool)
