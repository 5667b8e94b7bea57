"""The memory plan of a program: where each array lies, from the lifetimes of the results."""

from __future__ import annotations

import numpy as np

from anynet_backends.jit.instructions import Variable
from anynet_backends.protocol import Array
from anynet_backends.results import axes_in_memory, inverse

__all__ = ["aligned", "shaped"]


class _Place:
    """How long the memory of a result is needed: from which instruction to which."""

    __slots__ = ("first", "last")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first


def aligned(size: int) -> Array:
    """Bytes at a multiple of 64: a cache line, and what vector instructions like."""
    raw = np.empty(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def shaped(block: Array, like: Variable) -> Array:
    """A part of a block as an array in the shape, dtype and memory order of another."""
    order = axes_in_memory(like.strides)
    inner = tuple(like.shape[i] for i in order)
    flat = block[: like.nbytes].view(like.dtype) if like.nbytes else np.empty(0, like.dtype)
    array = flat.reshape(inner)
    return array.transpose(inverse(order)) if like.ndim > 1 else array
