"""The order of axes in memory, how much of an array stays in the cache, and copies into another order."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["CACHE_BLOCK", "Reorders", "axes_in_memory", "in_order", "inverse", "reorders"]

CACHE_BLOCK = 1 << 15
"""Elements of a pass over long arrays: a handful of float32 blocks stay in the second-level cache."""


def axes_in_memory(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes in memory order, the outermost first."""
    return tuple(sorted(range(len(strides)), key=lambda i: -abs(strides[i])))


@functools.lru_cache(maxsize=256)
def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation."""
    return tuple(order.index(axis) for axis in range(len(order)))


class Reorders:
    """How many arrays were copied into another order of axes for a kernel, and their bytes, since the process began."""

    calls = 0
    bytes = 0

    def note(self, array: Array) -> None:
        """One more. (Threads may lose a count: it is for profiles.)"""
        self.calls += 1
        self.bytes += array.nbytes


reorders: Final = Reorders()


def in_order(array: Array, order: tuple[int, ...]) -> Array:
    """NumPy's array with its axes in this order, dense in memory: a view where it is stored so, else a copy."""
    view = array.transpose(order)
    if view.flags.c_contiguous:
        return view
    reorders.note(array)
    return np.ascontiguousarray(view)
