"""Max pooling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.outputs import empty_output

KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


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
    order = tuple(sorted(range(x.ndim), key=lambda i: (-x.strides[i], i)))
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
