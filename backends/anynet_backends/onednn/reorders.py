"""Copies of arrays into the memory layout that a primitive needs."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.layout import in_order, reorders
from anynet_backends.onednn.layouts import (
    FLOAT32,
    FROM_CHANNELS_LAST,
    TO_CHANNELS_LAST,
    Ints,
    channels_last_strides,
    contiguous_strides,
    empty_channels_last,
    is_channels_last,
)
from anynet_backends.onednn.library import pointer_value
from anynet_backends.onednn.primitive import DescriptorOwner, PlanCache, Step

LEAST_SIZE: Final = 1 << 13
"""The least number of elements from which on oneDNN copies faster than NumPy, three to five times where rows are a power of two."""


class _Reorder(DescriptorOwner):
    """(n, c, *spatial) in C order → channels last."""

    def __init__(self, shape: Ints) -> None:
        super().__init__()
        plain = self.layout(shape, contiguous_strides(shape))
        self.step = self.reorder(plain, self.layout(shape, channels_last_strides(shape)))


_reorders = PlanCache(_Reorder)


def _plan(a: Array) -> _Reorder | None:
    """The plan that copies `a`, where that is faster than NumPy."""
    if a.size < LEAST_SIZE or not a.flags.c_contiguous or a.dtype != FLOAT32:
        return None
    found: _Reorder | None = _reorders(a.shape)
    return found


def channels_last(a: Array) -> Array:
    """`a` itself if it is stored channels last, else a copy that is."""
    if a.transpose(TO_CHANNELS_LAST[a.ndim]).flags.c_contiguous:
        return a
    plan = _plan(a)
    if plan is None:
        return in_order(a, TO_CHANNELS_LAST[a.ndim]).transpose(FROM_CHANNELS_LAST[a.ndim])
    reorders.note(a)
    image = empty_channels_last(a.shape)
    plan.step.run(a, image)
    return image


def channels_last_calls(x: Array) -> tuple[Array, list[Any]]:
    """`x` stored channels last, and the calls that copy it there, if it is not."""
    if is_channels_last(x):
        return x, []
    image, plan = empty_channels_last(x.shape), _plan(x)
    return image, [(np.copyto, (image, x)) if plan is None else (plan.step.another(plan).run, (x, image))]


class Reorder(DescriptorOwner):
    """Copies between an array in a layout of its own and a buffer in that which a primitive needs; `backward`: from the buffer."""

    step: Step | None = None

    def __init__(self, plain: Any, wanted: int, backward: bool = False) -> None:
        super().__init__()
        if not self.dnnl.equal(plain, wanted):
            both = ctypes.c_void_p(pointer_value(plain)), ctypes.c_void_p(wanted)
            self.step = self.reorder(*(both[::-1] if backward else both))
            self.elements = self.dnnl.size(wanted) // 4 + 16

    def buffer(self) -> Array:
        """Memory in the layout of the primitive."""
        return np.empty(self.elements, np.float32)

    def to(self, a: Array) -> Array:
        """What the primitive reads: `a`, or a copy, which the caller keeps alive while it is used."""
        if self.step is None:
            return a
        made = self.buffer()
        self.step.run(a, made)
        return made
