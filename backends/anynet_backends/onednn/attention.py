"""Attention: matrix products and softmax of oneDNN."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.attention import MIN_BYTES, scores_at_once, small
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.outputs import empty_output
from anynet_backends.onednn import primitive
from anynet_backends.onednn.layouts import all_float32
from anynet_backends.onednn.library import works
from anynet_backends.onednn.matmul import element_strides, products
from anynet_backends.onednn.primitive import DescriptorOwner, PlanCache, Step
from anynet_backends.onednn.softmax import softmaxes

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_REDUCE_MAX: Final = 0x2FFF2


class _Largest(DescriptorOwner):
    """The largest number of each row."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        x, y = self.layout((rows, width), (width, 1)), self.layout((rows, 1), (1, 1))
        nothing = ctypes.c_float(0.0)
        self.step = Step(
            self.dnnl, self.described("reduction", _REDUCE_MAX, x, y, nothing, nothing), src=x, dst=y
        )


_largest = PlanCache(_Largest)
_LEAST_PRODUCTS: Final = 1 << 16
"""The least number of multiplications for the scores from which on oneDNN is faster than NumPy."""


def _times(a: Array, b: Array, out: Array, factor: float = 1.0) -> None:
    """``out = factor · a b``."""
    plan = products(a.shape, a.strides, b.shape, b.strides, out.strides, False, factor)
    if plan is None:
        np.multiply(np.matmul(a, b), np.float32(factor), out)
    else:
        plan.step.run(a, b, out)


def _by_rows(a: Array) -> Array:
    """`a` itself if oneDNN can read it and its rows are contiguous; else a copy."""
    return a if a.strides[-1] == 4 and element_strides(a.shape, a.strides) else np.ascontiguousarray(a)


def _attend(
    q: Array, k: Array, mask: Array | None, scale: float, s: Array, total: Array | None = None
) -> None:
    """s = softmax(q kᵀ · scale + mask), and total = ln Σ e^{score} of each row: computed from the largest score and the largest
    softmax, which is e^{score − total}."""
    width = s.shape[-1]
    rows = s.size // width
    _times(q, k.swapaxes(-1, -2), s, scale)
    if mask is not None:
        np.add(s, mask, s)
    softmax = softmaxes((rows, width, 1), True).forward
    if total is None:
        softmax.run(s, s)
    else:
        largest = _largest(rows, width).step
        top, share = np.empty(rows, np.float32), np.empty(rows, np.float32)
        largest.run(s, top)
        softmax.run(s, s)
        largest.run(s, share)
        with np.errstate(divide="ignore"):  # a row with a NaN
            np.subtract(top, np.log(share, share), total.reshape(-1))


def _attend_back(
    gy: Array,
    q: Array,
    k: Array,
    v: Array,
    s: Array,
    ds: Array,
    made: Sequence[Array],
    scale: float,
) -> None:
    """Write the gradients of q, k and v into `made`, and that of the scores into ds."""
    width = s.shape[-1]
    _times(gy, v.swapaxes(-1, -2), ds)
    softmaxes((s.size // width, width, 1), True).gradient(s, ds, ds)
    _times(ds, k, made[0], scale)
    _times(ds.swapaxes(-1, -2), q, made[1], scale)
    _times(s.swapaxes(-1, -2), gy, made[2])


@_kernel.having(min_bytes=MIN_BYTES)
def attention(
    xp: Backend, q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float, causal: bool = False,
    p: float = 0.0, seed: int = 0, step: int = 0, block: int = 256, need: Any,
) -> Any:  # fmt: skip
    """softmax(q kᵀ · scale + mask) v in float32. Short sequences keep the scores for the gradient; longer ones hold those
    of one head at a time and recompute them. If the result has a NaN (from a fully masked row or from inputs that are not finite),
    the next kernel computes it all."""
    if p or not all_float32(q, k, v) or q.ndim < 2 or q.shape[:-2] != k.shape[:-2]:
        return NotImplemented
    (*lead, n, e), m, d = q.shape, k.shape[-2], v.shape[-1]
    short = scores_at_once(n, m, block, need)
    every = need is not None and len(need) > 3 and need[3]
    if short is None or min(n, m, e, d) < 2 or not works():
        return NotImplemented
    if q.size * m < _LEAST_PRODUCTS or (small(q, k, block) and primitive.specializes()):
        return NotImplemented
    if causal:
        mask = _causal(n, m)
    elif mask is not None:
        if np.broadcast_shapes((*q.shape[:-1], m), mask.shape) != (*q.shape[:-1], m):
            return NotImplemented
        mask = (
            np.where(mask, np.float32(0), np.float32(-np.inf))
            if mask.dtype == bool
            else mask.astype(np.float32)
        )
    q, k, v = _by_rows(q), _by_rows(k), _by_rows(v)
    y = empty_output((*lead, n, d), np.float32, axes_in_memory(q.strides))
    total = None if need is None else empty_output((*lead, n, 1), np.float32)
    parts: Sequence[Any] = [...] if short else list(np.ndindex(*lead))
    s = np.empty((*lead, n, m) if short else (n, m), np.float32)
    masks = None if mask is None else mask if short else np.broadcast_to(mask, (*lead, n, m))
    for at in parts:
        here = None if masks is None else masks if short else masks[at]
        _attend(q[at], k[at], here, scale, s, None if total is None else total[at])
        _times(s, v[at], y[at])
    if math.isnan(np.minimum.reduce(y, axis=None)):
        return NotImplemented
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        made = [empty_output(a.shape, np.float32, axes_in_memory(a.strides)) for a in (q, k, v)]
        gy = _by_rows(g)
        ds = np.empty_like(s)
        for at in parts:
            if not short:
                _attend(q[at], k[at], None if masks is None else masks[at], scale, s)
            _attend_back(gy[at], q[at], k[at], v[at], s, ds, [a[at] for a in made], scale)
        return (*made, ds if every else None)[: len(need)]

    return (y, total), pull


@functools.lru_cache(maxsize=8)
def _causal(n: int, m: int) -> Array:
    return np.where(np.tri(n, m, dtype=bool), np.float32(0), np.float32(-np.inf))
