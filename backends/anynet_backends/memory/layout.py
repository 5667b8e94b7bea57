"""The order of axes in memory."""

from __future__ import annotations

import functools

__all__ = ["axes_in_memory", "inverse"]


def axes_in_memory(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the outermost in memory inwards."""
    return tuple(sorted(range(len(strides)), key=lambda i: -abs(strides[i])))


@functools.lru_cache(maxsize=256)
def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(order.index(axis) for axis in range(len(order)))
