"""The order of axes in memory, and how much of an array stays in the cache."""

from __future__ import annotations

import functools

__all__ = ["CACHE_BLOCK", "axes_in_memory", "inverse"]

CACHE_BLOCK = 1 << 15
"""Elements of a pass over long arrays: a handful of float32 blocks stay in the second-level cache."""


def axes_in_memory(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes in memory order, the outermost first."""
    return tuple(sorted(range(len(strides)), key=lambda i: -abs(strides[i])))


@functools.lru_cache(maxsize=256)
def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation."""
    return tuple(order.index(axis) for axis in range(len(order)))
