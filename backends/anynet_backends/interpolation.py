"""Interpolation along an axis, as numbers: which inputs each output is made of, and with which weights."""

from __future__ import annotations

import functools
import math

__all__ = ["Axis", "places", "weights"]

Axis = tuple[str, int, int, float, bool, bool]
"""Kind ("nearest", "nearest-exact", "linear" or "cubic"), length of the input and of the output, distance of two outputs in the input,
whether the centres of the corner pixels stay where they are, and whether the filter widens where the image shrinks."""


def _cubic(t: float, a: float) -> float:
    """Keys' kernel of cubic convolution (1981)."""
    t = abs(t)
    if t < 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0


@functools.lru_cache(maxsize=256)
def places(axis: Axis) -> tuple[int, ...]:
    """The input that each output repeats: ⌊i · scale⌋, or ⌊(i + ½) · scale⌋."""
    kind, n, m, scale, _, _ = axis
    half = 0.5 if kind == "nearest-exact" else 0.0
    return tuple(min(math.floor((i + half) * scale), n - 1) for i in range(m))


@functools.lru_cache(maxsize=256)
def weights(axis: Axis) -> tuple[tuple[float, ...], ...]:
    """The matrix (m, n) of a linear or cubic axis."""
    kind, n, m, scale, align_corners, antialias = axis
    rows = [[0.0] * n for _ in range(m)]
    if align_corners:
        scale = (n - 1) / (m - 1) if m > 1 else 0.0
    for i, row in enumerate(rows):
        if antialias:  # a wider filter where the image shrinks
            wide = max(scale, 1.0)
            reach = wide * (1.0 if kind == "linear" else 2.0)
            centre = scale * (i + 0.5)
            first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), n)
            for j in range(first, last):
                t = (j - centre + 0.5) / wide
                row[j] = max(1.0 - abs(t), 0.0) if kind == "linear" else _cubic(t, -0.5)
            total = math.fsum(row)
            row[:] = [w / total for w in row]
            continue
        place = i * scale if align_corners else (i + 0.5) * scale - 0.5
        if kind == "linear":
            place = max(place, 0.0)
            low = min(math.floor(place), n - 1)
            part = place - low
            row[low] += 1.0 - part
            row[min(low + 1, n - 1)] += part
        else:
            low = math.floor(place)
            for j in range(low - 1, low + 3):
                row[min(max(j, 0), n - 1)] += _cubic(place - j, -0.75)
    return tuple(map(tuple, rows))
