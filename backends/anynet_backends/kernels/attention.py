"""Attention, head by head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability
from anynet_backends.jit.numpy_calls import set_where
from anynet_backends.jit.scan import call_now, scan_stacks
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.numpy_namespace import same_float_dtype
from anynet_backends.onednn import matmul

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)

_MIN_BYTES: Final = 1 << 20
"""The bytes of arguments up to which small attention is to be specialized."""
_SMALL: Final = 1 << 21
_ONE_HEAD: Final = 1 << 20
"""How many scores of one head may be held at a time."""


def _small(q: Array, k: Array, v: Array, block: int) -> bool:
    """Whether the reference as one built-in function is faster, by the multiplications for the scores; larger arrays are in none."""
    n, m = q.shape[-2], k.shape[-2]
    nbytes = sum(a.size * a.dtype.itemsize for a in (q, k, v))
    return bool(q.size * m < _SMALL and max(n, m) <= block and nbytes <= _MIN_BYTES)


def _scores_at_once(n: int, m: int, block: int, need: Any) -> bool | None:
    """Whether the (n, m) scores of all heads are kept for the gradient (True, for short sequences) or those of one head are held at a
    time and recomputed (False); None where one head is too large, or where a long sequence needs the gradient of its mask, which is as
    large as all scores."""
    if n * m <= block * block:
        return True
    masked = need is not None and len(need) > 3 and need[3]
    return False if n * m <= _ONE_HEAD and block >= 256 and not masked else None


@_kernel.having(min_bytes=_MIN_BYTES)
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
    head at a time and recompute them; beyond `_ONE_HEAD` the reference is used, which never holds a whole head."""
    n, m = q.shape[-2], k.shape[-2]
    short = _scores_at_once(n, m, block, need)
    if availability.available() and _small(q, k, v, block):
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
    """Attention of all heads: queries (…, n, e), keys and values (…, m, …), their scores and outputs."""

    def __init__(
        self, q: Array, k: Array, v: Array, mask: Array | None, scale: float, short: bool, train: bool
    ) -> None:
        self.shapes, dtype = (q.shape, k.shape, v.shape), q.dtype
        lead, n, m = q.shape[:-2], q.shape[-2], k.shape[-2]
        self.q, self.k, self.v = _by_rows(q), _by_rows(k), _by_rows(v)
        self.orders = [axes_in_memory(a.strides) for a in (self.q, self.k, self.v)]
        # head by head is one call of machine code; else short sequences take all heads together
        self.by_head = not short or availability.available()
        self.train, self.kept = train, train and short
        self.scaled = np.empty(q.shape, dtype)
        self.s = self.scores(self.kept)
        self.y = empty_output((*q.shape[:-1], v.shape[-1]), dtype, self.orders[0])
        self.total = empty_output((*q.shape[:-1], 1), dtype)
        self.factor = np.asarray(scale, dtype)
        hidden: Array = np.zeros((1, 0), bool)
        if mask is not None:
            hidden = ~mask if mask.dtype == bool else mask.astype(dtype, copy=False)
            hidden = np.ascontiguousarray(np.broadcast_to(hidden, (*hidden.shape[:-2], n, m)))
        self.hidden = np.broadcast_to(hidden, (*lead, *hidden.shape[-2:]))

    def scores(self, every: bool) -> Array:
        """A place for the scores of `every` head, or one that all share, where they are taken one by one."""
        shape, dtype = (*self.q.shape[:-1], self.k.shape[-2]), self.q.dtype
        if every or not self.by_head:
            return np.empty(shape, dtype)
        one = np.empty(shape[-2:], dtype)
        return np.lib.stride_tricks.as_strided(one, shape, (*(0,) * (len(shape) - 2), *one.strides))

    def run(self, body: Callable[..., None], stacks: tuple[Array, ...], *rooms: tuple[int, Any]) -> None:
        """Run a body on stacks, with a room of so many columns and this type for each of `rooms`."""
        rows = self.q.shape[-2:-1] if self.by_head else self.q.shape[:-1]
        scratch = tuple([np.empty((*rows, columns), dtype) for columns, dtype in rooms])
        if self.by_head:
            scan_stacks(body, stacks, (self.factor,), scratch)
        else:
            body(call_now, *stacks, self.factor, *scratch)

    def forward(self) -> Array:
        """The outputs; with them the logarithm of the sum of e^scores of each row, if the gradient is to be taken."""
        stacks = self.q, self.k, self.v, self.scaled, self.s, self.y, self.total, self.hidden
        self.run(_attend_and_log if self.train else _attend, stacks, (1, self.y.dtype), (1, bool))
        return self.y

    def backward(self, gy: Array, *, every: bool) -> tuple[Array, ...]:
        """The gradients of q, k and v, and that of the scores if those of `every` head are asked for."""
        dtype = self.y.dtype
        ds = self.scores(every)
        outputs = [empty_output(s, dtype, o) for s, o in zip(self.shapes, self.orders, strict=True)]
        stacks = _by_rows(gy), self.k, self.v, self.scaled, self.s, self.y, ds, *outputs
        rooms = (self.y.shape[-1], dtype), (1, dtype)
        if self.kept or not self.by_head:
            self.run(_attend_back, stacks, *rooms)
        else:
            self.run(_attend_again, (*stacks, self.total, self.hidden), *rooms)
        return (*outputs, ds if every else None)


def _by_rows(a: Array) -> Array:
    """`a` itself if its matrices are stored by rows; else a copy."""
    down, right = a.strides[-2:]
    plain = right == a.itemsize and down >= right * a.shape[-1] and not down % right
    return a if plain and a.flags.aligned else np.ascontiguousarray(a)


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
