"""Max pooling, and sums of windows, in an array's own order of axes."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import axes_in_memory, inverse
from anynet_backends.memory.outputs import empty_output

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)

_MIN_BYTES: Final = 1 << 16
"""The bytes from which the sums of windows are made here where there is machine code: for less the reference becomes one function."""


@_kernel
def max_pool(
    xp: Backend, x: Array, *, out: Any, kernel: Any, stride: Any, pads: Any, dilation: Any, need: Any
) -> Any:
    """Max pooling; its gradient by masks, in place and in the memory layout of x."""
    if x.dtype.kind != "f" or x.size == 0 or any(lo or hi for lo, hi in pads) or math.prod(kernel) < 2:
        return NotImplemented
    keys = [
        (
            ...,
            *(
                slice(k * d, k * d + s * (o - 1) + 1, s)
                for k, d, s, o in zip(at, dilation, stride, out, strict=True)
            ),
        )
        for at in itertools.product(*map(range, kernel))
    ]
    order = axes_in_memory(x.strides)
    y = empty_output((*x.shape[: x.ndim - len(out)], *out), x.dtype, order)
    np.maximum(x[keys[0]], x[keys[1]], out=y)
    for key in keys[2:]:
        np.maximum(y, x[key], out=y)
    if need is None:
        return y
    disjoint = all(s >= d * (k - 1) + 1 for s, d, k in zip(stride, dilation, kernel, strict=True))

    def pull(g: Array) -> tuple[Any, ...]:
        gx = empty_output(x.shape, x.dtype, order)
        gx[...] = 0
        nan = bool(np.isnan(y.max()))
        free = None
        for key in keys:
            part = x[key]
            hit = part == y
            if nan:  # NaN counts as the largest
                hit |= np.isnan(part)
            if free is None:
                free = ~hit
            else:
                hit &= free
                free ^= hit
            if disjoint:
                np.multiply(g, hit, out=gx[key])
            else:
                gx[key] += g * hit
        return (gx,)

    return y, pull


@_kernel.having(min_bytes=_MIN_BYTES)
def window_spread(
    xp: Backend, g: Array, *, out: Any, kernel: Any, stride: Any, pads: Any, shape: Any, need: Any
) -> Any:
    """Each g added to all elements of its window."""
    if g.dtype.kind != "f" or not g.size or _small(g):
        return NotImplemented
    y = _spread(g, out, kernel, stride, pads, shape)
    return y if need is None else (y, lambda x: (_sums(x, out, kernel, stride, pads),))


@_kernel.having(min_bytes=_MIN_BYTES)
def window_sum(xp: Backend, x: Array, *, out: Any, kernel: Any, stride: Any, pads: Any, need: Any) -> Any:
    """The sum of each window."""
    if x.dtype.kind != "f" or not x.size or _small(x):
        return NotImplemented
    y = _sums(x, out, kernel, stride, pads)
    return y if need is None else (y, lambda g: (_spread(g, out, kernel, stride, pads, x.shape),))


def _small(x: Array) -> bool:
    return bool(x.nbytes < _MIN_BYTES) and availability.available()


def _spread(g: Array, out: Any, kernel: Any, stride: Any, pads: Any, shape: Any) -> Array:
    order, lead, v = axes_in_memory(g.strides), len(shape) - len(kernel), g
    sizes = [lo + n + hi for n, (lo, hi) in zip(shape[lead:], pads, strict=True)]
    for i, (n, k, s, size) in enumerate(zip(out, kernel, stride, sizes, strict=True)):
        if size == n * s == n and k == 1:
            continue
        y = empty_output((*v.shape[: lead + i], size, *v.shape[lead + i + 1 :]), g.dtype, order)
        if size != n * s or k != s:
            y[...] = 0
        for j in range(k):
            part = y[(*(slice(None),) * (lead + i), slice(j, j + s * (n - 1) + 1, s))]
            if k > s:
                part += v
            else:
                part[...] = v
        v = y
    inner = tuple(slice(lo, lo + n) for n, (lo, _) in zip(shape[lead:], pads, strict=True))
    v = v[(..., *inner)] if any(map(any, pads)) else v
    return v if v is not g else g.copy()


def _sums(x: Array, out: Any, kernel: Any, stride: Any, pads: Any) -> Array:
    order, lead, v = axes_in_memory(x.strides), x.ndim - len(kernel), x
    if any(map(any, pads)):
        sizes = [lo + n + hi for n, (lo, hi) in zip(x.shape[lead:], pads, strict=True)]
        v = np.zeros([(*x.shape[:lead], *sizes)[i] for i in order], x.dtype).transpose(inverse(order))
        within: list[Any] = [slice(lo, lo + n) for n, (lo, _) in zip(x.shape[lead:], pads, strict=True)]
        v[(..., *within)] = x
    for i, (n, k, s) in enumerate(zip(out, kernel, stride, strict=True)):
        ahead: tuple[Any, ...] = (slice(None),) * (lead + i)
        first, *others = (v[(*ahead, slice(j, j + s * (n - 1) + 1, s))] for j in range(k))
        if not others:
            v = first
            continue
        y = empty_output(first.shape, x.dtype, order)
        np.add(first, others[0], out=y)
        for part in others[1:]:
            y += part
        v = y
    return v if any(k > 1 for k in kernel) else v.copy()
