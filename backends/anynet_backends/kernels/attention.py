"""Attention, head by head."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability
from anynet_backends.jit.numpy_calls import set_where
from anynet_backends.jit.scan import call_now, scan
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.attention import MIN_BYTES, scores_at_once, small
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.numpy_namespace import same_float_dtype
from anynet_backends.onednn import primitive
from anynet_backends.products import matmul

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


@_kernel.having(min_bytes=MIN_BYTES)
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
    """softmax(q kᵀ · scale + mask) v. Short sequences keep the scores for the gradient; longer ones hold those of one
    head at a time and recompute them; beyond `memory.attention.ONE_HEAD` the reference is used, which never holds a whole head."""
    n, m = q.shape[-2], k.shape[-2]
    short = scores_at_once(n, m, block, need)
    if small(q, k, block) and primitive.specializes():
        return NotImplemented
    if p or short is None or not same_float_dtype(q, k, v) or q.shape[:-2] != k.shape[:-2]:
        return NotImplemented
    if not q.size or not k.size:
        return NotImplemented
    mask = _causal(n, m) if causal else mask
    if mask is not None and np.broadcast_shapes((*q.shape[:-1], m), mask.shape) != (*q.shape[:-1], m):
        return NotImplemented
    heads = _Heads(q, k, v, mask, scale, short, train=need is not None)
    y = heads.forward()
    if need is None:
        return y
    every = not heads.by_head or (len(need) > 3 and need[3])
    return (y, heads.total), lambda g: heads.backward(g, every=every)[: len(need)]


class _Heads:
    """Attention of all heads: queries (heads, n, e), keys and values (heads, m, …), their scores and outputs."""

    def __init__(
        self, q: Array, k: Array, v: Array, mask: Array | None, scale: float, short: bool, train: bool
    ) -> None:
        self.shape, self.shapes, dtype = q.shape, (q.shape, k.shape, v.shape), q.dtype
        self.count, self.n, self.m = math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2]
        count, n, m = self.count, self.n, self.m
        self.q, self.k, self.v = (np.ascontiguousarray(a).reshape(count, *a.shape[-2:]) for a in (q, k, v))
        # head by head is one call of machine code; else short sequences take all heads together
        self.by_head = not short or (availability.available() and count > 2)
        self.train, self.kept = train, train and short
        self.scaled = np.empty(self.q.shape, dtype)
        self.s = np.empty((count if self.kept or not self.by_head else 1, n, m), dtype)
        self.y = empty_output((*q.shape[:-1], v.shape[-1]), dtype)
        self.total = empty_output((*q.shape[:-1], 1), dtype)
        self.ys, self.totals = self.y.reshape(count, n, v.shape[-1]), self.total.reshape(count, n, 1)
        self.factor = np.asarray(scale, dtype)
        self.hidden = np.zeros((1, 0), bool)
        if mask is not None:
            wide = np.broadcast_to(mask, (*q.shape[:-2], n, m))
            each: Array = (
                wide.reshape(count, n, m) if any(wide.strides[:-2]) else wide[(0,) * (q.ndim - 2)][None]
            )
            self.hidden = ~each if each.dtype == bool else each.astype(dtype, copy=False)

    def forward(self) -> Array:
        """The outputs; with them the logarithm of the sum of e^scores of each row, if the gradient is to be taken."""
        every = self.q, self.k, self.v, self.scaled, self.s, self.ys, self.totals, self.hidden
        dtype, n = self.y.dtype, self.n

        def places(t: int) -> tuple[Array, ...]:
            return tuple([a[t % len(a)] for a in every])

        if self.by_head:
            room = np.empty((n, 1), dtype), np.empty((n, 1), bool)
            body = _attend_and_log if self.train else _attend
            scan(body, places, range(self.count), (self.factor,), room)
        else:
            room = np.empty(self.totals.shape, dtype), np.empty(self.totals.shape, bool)
            (_attend_and_log if self.train else _attend)(call_now, *every, self.factor, *room)
        return self.y

    def backward(self, gy: Array, *, every: bool) -> tuple[Array, ...]:
        """The gradients of q, k and v, and that of the scores if those of `every` head are asked for."""
        count, n, dtype = self.count, self.n, self.y.dtype
        ds = np.empty((count if every else 1, n, self.m), dtype)
        outputs = tuple(empty_output(shape, dtype) for shape in self.shapes)
        arrays: tuple[Array, ...] = (
            np.ascontiguousarray(gy).reshape(self.ys.shape), self.k, self.v, self.scaled, self.s, self.ys, ds,
            *(a.reshape(count, *a.shape[-2:]) for a in outputs),
        )  # fmt: skip

        def places(t: int) -> tuple[Array, ...]:
            return tuple([a[t % len(a)] for a in arrays])

        def places_again(t: int) -> tuple[Array, ...]:
            return (*places(t), self.totals[t], self.hidden[t % len(self.hidden)])

        if self.by_head:
            room = np.empty(self.ys.shape[1:], dtype), np.empty((n, 1), dtype)
            body, where = (_attend_back, places) if self.kept else (_attend_again, places_again)
            scan(body, where, range(count), (self.factor,), room)
        else:
            room = np.empty(self.ys.shape, dtype), np.empty((count, n, 1), dtype)
            _attend_back(call_now, *arrays, self.factor, *room)  # type: ignore[call-arg]  # as many as `places` gives
        return (*outputs, ds.reshape(*self.shape[:-1], self.m) if every else None)


def _attend(
    call: Any, q: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, total: Array, hidden: Array, factor: Array,
    top: Array, none: Array,
) -> None:  # fmt: skip
    """One head: s = softmax(q kᵀ · factor + mask), y = s v, total = Σ exp."""
    masked = hidden.size > 0
    call(np.multiply, q, factor, scaled)
    call(matmul, scaled, k.swapaxes(-1, -2), s)
    if masked and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif masked:
        call(np.add, s, hidden, s)
    call(np.maximum.reduce, s, -1, None, top, True)
    if masked:  # a fully masked row gives zeros
        call(np.equal, top, -np.inf, none)
        call(set_where, top, none, 0.0)
    call(np.subtract, s, top, s)
    call(np.exp, s, s)
    call(sum_by_dot, s, -1, None, total, True)
    if masked:
        call(np.equal, total, 0.0, none)
        call(set_where, total, none, 1.0)
    call(np.divide, s, total, s)
    call(matmul, s, v, y)


def _attend_and_log(
    call: Any, q: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, total: Array, hidden: Array, factor: Array,
    top: Array, none: Array,
) -> None:  # fmt: skip
    """The same, and total = ln Σ exp."""
    _attend(call, q, k, v, scaled, s, y, total, hidden, factor, top, none)
    call(np.log, total, total)
    call(np.add, total, top, total)


def _attend_back(
    call: Any, gy: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    """The gradients of one head: ds of the scores, and from it dq, dk and dv."""
    call(np.multiply, gy, y, room)
    call(sum_by_dot, room, -1, None, inner, True)
    call(matmul, gy, v.swapaxes(-1, -2), ds)
    call(np.subtract, ds, inner, ds)
    call(np.multiply, ds, s, ds)
    call(matmul, ds, k, dq)
    call(np.multiply, dq, factor, dq)
    call(matmul, ds.swapaxes(-1, -2), scaled, dk)
    call(matmul, s.swapaxes(-1, -2), gy, dv)


def _attend_again(
    call: Any, gy: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, total: Array, hidden: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    """The same, with the probabilities recomputed: e^{score − total}."""
    call(matmul, scaled, k.swapaxes(-1, -2), s)
    if hidden.size and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif hidden.size:
        call(np.add, s, hidden, s)
    call(np.subtract, s, total, s)
    call(np.exp, s, s)
    # beside −1e9 the logarithm of the sum is lost in rounding: normalize again
    if hidden.size and hidden.dtype != bool:
        call(sum_by_dot, s, -1, None, inner, True)
        call(np.maximum, inner, 1e-30, inner)
        call(np.divide, s, inner, s)
    _attend_back(call, gy, k, v, scaled, s, y, ds, dq, dk, dv, factor, room, inner)


@functools.lru_cache(maxsize=8)
def _causal(n: int, m: int) -> Array:
    return np.tri(n, m, dtype=bool)
