"""Batch and layer normalization."""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.onednn.layouts import (
    Ints,
    all_float32,
    channels_last_strides,
    contiguous,
    contiguous_strides,
    empty_channels_last,
)
from anynet_backends.onednn.primitive import BACKWARD, TRAINING, DescriptorOwner, PlanCache, Step
from anynet_backends.onednn.reorders import channels_last

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_SCALE_AND_SHIFT: Final = 0x2 | 0x4


class _Normalization(DescriptorOwner):
    """Batch normalization of (n, c, *spatial), or layer normalization of (rows, c): over `rows` or over c."""

    def __init__(self, x: Ints, layer: bool, eps: float, weighted: bool, training: bool) -> None:
        super().__init__()
        kind = "layer" if layer else "batch"
        flags = ctypes.c_uint(_SCALE_AND_SHIFT if weighted else 0)
        strides = channels_last_strides(x) if len(x) > 2 else contiguous_strides(x)
        md, each = self.layout(x, strides), self.layout(x[1:2], (1,))
        stats = self.layout(x[:1], (1,)) if layer else each
        rest = (*([stats] if layer else []), ctypes.c_float(eps), flags)
        pd = self.described(f"{kind}_normalization_forward", TRAINING, md, md, *rest)
        weights = {"scale": each, "shift": each} if weighted else {}
        self.forward = Step(self.dnnl, pd, src=md, dst=md, mean=stats, variance=stats, **weights)
        if not training:
            return
        back = self.described(f"{kind}_normalization_backward", BACKWARD, md, md, md, *rest, pd)
        weights = {
            "scale": each,
            **({"shift": each} if layer else {}),
            "diff_scale": each,
            "diff_shift": each,
        }
        weights = weights if weighted else {}
        self.backward = Step(
            self.dnnl, back, src=md, mean=stats, variance=stats, diff_dst=md, diff_src=md, **weights
        )


_normalizations = PlanCache(_Normalization)
_LEAST_SIZE: Final = 1 << 13
"""The least number of elements from which on oneDNN is faster."""


@_kernel
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: Ints,
    eps: float,
    shape: Ints,
    split: Ints = (),
    centred: bool = True,
    need: Any,
) -> Any:
    """Batch and layer normalization in float32."""
    if (
        split
        or not centred
        or not all_float32(x, weight, bias)
        or (weight is None) != (bias is None)
        or not 2 <= x.ndim <= 5
        or x.size < _LEAST_SIZE
    ):
        return NotImplemented
    axes = tuple(sorted(axes))
    lead = x.ndim - len(axes)
    layer = axes == tuple(range(lead, x.ndim)) and x.flags.c_contiguous
    batch = not layer and axes == (0, *range(2, x.ndim))
    weights = math.prod(x.shape[lead:]) if layer else x.shape[1]
    if not (layer or batch) or (weight is not None and (weight.size != weights or bias.size != weights)):  # type: ignore[union-attr]
        return NotImplemented
    if weight is not None and tuple(shape) != ((*(1,) * lead, *x.shape[lead:]) if layer else _channel(x)):
        return NotImplemented
    rows = math.prod(x.shape[:lead])
    inner = (rows, x.size // rows) if layer else x.shape
    plan = _normalizations(inner, layer, eps, weight is not None, need is not None)
    if plan is None:
        return NotImplemented
    y: Array
    if layer or x.ndim == 2:
        image, y = contiguous(x), empty_output(x.shape, np.float32)
    else:
        image, y = channels_last(x), empty_channels_last(x.shape)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean, variance = empty_output(kept, np.float32), empty_output(kept, np.float32)
    w = () if weight is None else (contiguous(weight), contiguous(bias))
    plan.forward.run(image, y, mean, variance, *w)
    if need is None:
        return y, mean, variance

    def pull(g: Array) -> tuple[Any, ...]:
        g = contiguous(g) if layer or x.ndim == 2 else channels_last(g)
        gx = empty_output(x.shape, np.float32) if layer or x.ndim == 2 else empty_channels_last(x.shape)
        made = tuple(empty_output(a.shape, np.float32) for a in w)
        plan.backward.run(image, mean, variance, g, gx, *(w if layer else w[:1]), *made)
        return (gx, *(made or (None, None)))[: len(need)]

    return (y, mean, variance), pull


def _channel(x: Array) -> Ints:
    return (1, x.shape[1], *(1,) * (x.ndim - 2))
