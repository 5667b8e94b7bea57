"""Softmax."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.memory.outputs import empty_output
from anynet_backends.onednn import primitive
from anynet_backends.onednn.layouts import Ints, all_float32, contiguous, contiguous_strides
from anynet_backends.onednn.primitive import INFERENCE, TRAINING, DescriptorOwner, PlanCache, Step

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


class _Softmax(DescriptorOwner):
    """Softmax along the middle of three axes."""

    def __init__(self, shape: Ints, training: bool) -> None:
        super().__init__()
        self.shape = shape
        md = self.layout(shape, contiguous_strides(shape))
        pd = self.described("softmax_forward", TRAINING if training else INFERENCE, _ACCURATE, md, md, 1)
        self.forward = Step(self.dnnl, pd, src=md, dst=md)
        self.backward: Step | None = None
        if training:
            back = self.described("softmax_backward", _ACCURATE, md, md, md, 1, pd)
            if not self.dnnl.is_reference(back):
                self.backward = Step(self.dnnl, back, dst=md, diff_dst=md, diff_src=md)

    def gradient(self, y: Array, g: Array, gx: Array) -> None:
        """Write the gradient of the input into gx, which may be g, from the results y and their gradient g; all contiguous."""
        if self.backward is not None:
            self.backward.run(y, g, gx)
        else:
            _gradient(*(a.reshape(self.shape[:2]) for a in (y, g, gx)))


def _gradient(y: Array, g: Array, gx: Array) -> None:
    """gx = y (g − Σ g y) for each row, in blocks that stay in the cache: the library has it for AVX-512 alone."""
    block = max(1, CACHE_BLOCK // y.shape[1])
    for start in range(0, len(y), block):
        part = slice(start, start + block)
        np.subtract(g[part], np.vecdot(g[part], y[part])[:, None], out=gx[part])
        np.multiply(gx[part], y[part], out=gx[part])


_ACCURATE: Final = 0x30000
softmaxes = PlanCache(_Softmax)
LEAST_SIZE: Final = 1 << 12
"""The least number of elements of softmax and pooling from which on oneDNN is faster."""


_SHORT: Final = 32
"""Numbers of a row below which a loop over all rows is quicker, up to `_FEW` elements."""
_FEW: Final = 1 << 15


@_kernel.having(min_bytes=4 * _FEW)
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax in float32. (Its log-softmax has errors of 6 ulp and is not used.)"""
    if x.size < LEAST_SIZE or not all_float32(x):
        return NotImplemented
    axis %= x.ndim
    if x.shape[axis] < _SHORT and x.size < _FEW and primitive.specializes():
        return NotImplemented
    if math.prod(x.shape[axis + 1 :]) > 1:  # the library has only its reference implementation
        return NotImplemented
    plan = softmaxes((math.prod(x.shape[:axis]), x.shape[axis], 1), need is not None)
    if plan is None:
        return NotImplemented
    x, y = contiguous(x), empty_output(x.shape, np.float32)
    plan.forward.run(x, y)
    # the library returns a single NaN for a row with NaN and infinity
    if math.isnan(np.minimum.reduce(y, axis=None)):
        y[np.broadcast_to(np.isnan(y).any(axis=axis, keepdims=True), y.shape)] = np.nan
    if need is None:
        return y

    def pull(g: Array) -> tuple[Array]:
        gx = empty_output(y.shape, np.float32)
        plan.gradient(y, contiguous(g), gx)
        return (gx,)

    return y, pull
