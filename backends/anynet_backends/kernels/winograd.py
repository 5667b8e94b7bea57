"""Convolution with fewer multiplications: minimal filtering (Winograd 1980) along the first spatial axis.

m outputs of a filter with r taps take N = m + r − 1 products in place of m r (Toom and Cook): with the Vandermonde matrices G (N × r) and
A (N × m) of N points, one of which is ∞, and B the inverse of the square one, transposed,

    y = Aᵀ [(G w) ⊙ (B x)],        ∂L/∂w = Gᵀ [(A g) ⊙ (B x)]

for N neighbouring inputs x and m outputs y. Here x, y and g are rows of an image (all further axes, and the batch), the products are
those of BLAS over channels and the kernel's positions along the other axes (columns, copied block by block), and the transforms
are small products, too. For three taps and four outputs that is half of the multiplications.

A tile's inputs are mixed, so that an infinity would spread, and rounding errors are relative to the largest of a tile, the larger the more
points it has. What is not finite is left to the columns, and so are sums of so few products that their own rounding errors are smaller:
within half a unit for each √n, those of a running sum of n products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.kernels.banded_convolution import Windows, around
from anynet_backends.memory.outputs import empty_output

__all__ = ["Tiles", "tile_for"]

Ints = tuple[int, ...]

POINTS: Final = (Fraction(0), *map(Fraction, (1, -1, 2, -2)), Fraction(1, 2), Fraction(-1, 2))
"""The finite points, in the order in which they are taken; with more, rounding errors grow beyond what is said of an operation."""

SIZES: Final = (4, 6, 8)
"""Points of a tile, with ∞."""

LEAST: Final = {4: (9, 256), 6: (1024, 1400), 8: (2250, 2048)}
"""For tiles of so many points, of how many products sums must be at least, those of a result and those of a weight's gradient. Measured for
numbers of a normal distribution, errors are up to 5, 17, 25 units, those of columns 7."""

SUM: Final = 256
"""Products that BLAS adds up one after the other. By itself it takes some 500, with errors half as large again."""

BLOCK: Final = 1 << 18
"""Elements of the columns that are copied at a time."""

TRANSFORM, COPY, RESULT, WEIGHT, CALL = 13, 8, 10, 24, 600
"""What an element of B x, of the columns, of the products and of a transformed weight takes, in multiplications of a product; and what
the small product that transforms a row takes beside it, for each of its points."""


class _Matrices(NamedTuple):
    g: Array
    b: Array
    a: Array  # transposed: m × N


def _solve(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a matrix."""
    n = len(rows)
    wide = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(rows)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if wide[k][i])
        wide[i], wide[pivot] = wide[pivot], wide[i]
        wide[i] = [v / wide[i][i] for v in wide[i]]
        for k in range(n):
            if k != i:
                wide[k] = [v - wide[k][i] * w for v, w in zip(wide[k], wide[i], strict=True)]
    return [row[n:] for row in wide]


def _vandermonde(n: int, width: int) -> list[list[Fraction]]:
    return [
        *([p**k for k in range(width)] for p in POINTS[: n - 1]),
        [Fraction(k == width - 1) for k in range(width)],
    ]


@functools.cache
def _matrices(n: int, taps: int, dtype: Any) -> _Matrices:
    """G, B and Aᵀ for n points, exact before they are rounded."""
    inverse = _solve(_vandermonde(n, n))
    b = [list(column) for column in zip(*inverse, strict=True)]
    scale = [Fraction(math.lcm(*(v.denominator for v in row))) for row in b]  # B of integers, the rest in G
    g = [[v / s for v in row] for row, s in zip(_vandermonde(n, taps), scale, strict=True)]
    whole = [[v * s for v in row] for row, s in zip(b, scale, strict=True)]
    a = _vandermonde(n, n + 1 - taps)
    return _Matrices(
        *(np.array(m, dtype=np.float64).astype(dtype) for m in (g, whole, list(zip(*a, strict=True))))
    )


@functools.lru_cache(maxsize=1024)
def tile_for(
    filters: int, channels: int, kernel: Ints, out: Ints, n: int, stride: int, dilation: int, gradient: bool
) -> int:
    """The points of a tile with which a convolution with so many filters and channels to a group takes least, or 0: the columns.
    `gradient`: what is asked for is the weight's."""
    taps, columns, row = kernel[0], math.prod(kernel[1:]), math.prod(out[1:]) * n
    if taps < 2 or stride > 1:
        return 0
    best, least = 0, channels * columns * out[0] * (filters * taps + COPY)
    products = math.prod(out) * n if gradient else channels * taps * columns
    for points in SIZES:
        if points <= taps or products < LEAST[points][gradient]:
            continue
        rows = points * dilation * -(-out[0] // (dilation * (points + 1 - taps)))
        cost = rows * (
            filters * channels * columns
            + channels * (TRANSFORM + CALL // row + columns * COPY)
            + filters * (RESULT + CALL // row)
        )
        cost += points * filters * channels * columns * WEIGHT // row
        if cost < least:
            best, least = points, cost
    return best


def _multiply(a: Array, b: Array, out: Array, *, more: bool = False) -> None:
    """``out = a b``, or ``out += a b``, by sums of at most `SUM` products, that are added up."""
    parts = -(-a.shape[-1] // SUM)
    for part in range(parts):
        lower, upper = (a.shape[-1] * i // parts for i in (part, part + 1))
        these = a[..., lower:upper], b[..., lower:upper, :]
        if part or more:
            np.add(out, np.matmul(*these), out)
        else:
            np.matmul(*these, out=out)


class Tiles:
    """A convolution of x (channels, *spatial, n) by tiles of its rows; with a dilation d a tile has every d-th row."""

    def __init__(self, x: Array, points: int, windows: Windows) -> None:
        kernel, out, _, low, dilation, self.groups = self.windows = windows
        self.out, self.kernel, self.points = out, kernel, points
        self.apart = dilation[0]
        self.matrices = _matrices(points, kernel[0], x.dtype)
        self.size = points + 1 - kernel[0]
        self.count = -(-out[0] // (self.size * self.apart))
        self.rows = self.count * self.size * self.apart  # of outputs, with those beyond the last
        spans = (self.rows + (kernel[0] - 1) * self.apart, *windows.spans[1:])
        self.image = np.ascontiguousarray(around(x, low, spans))
        self.nbytes = self.image.nbytes
        self.exact_enough = (
            math.prod(out) * x.shape[-1] >= LEAST[points][True]
        )  # for the weight's gradient, too
        self.each, self.positions = len(x) // self.groups, math.prod(out[1:]) * x.shape[-1]
        self.length = self.each * math.prod(kernel[1:])
        step = max(1, BLOCK // (self.groups * self.length * self.positions * self.apart))
        self.blocks = [slice(i, min(i + step, self.count)) for i in range(0, self.count, step)]

    def _columns(self, block: slice) -> Iterator[tuple[int, Array]]:
        """For each point: (groups, kernel's positions · channels, positions) of the transformed tiles of a block."""
        image, count, apart = self.image, block.stop - block.start, self.apart
        inner, tiles = image.shape[2:], count * apart
        channel, row, *rest, item = image.strides
        seen = np.lib.stride_tricks.as_strided(
            image[:, block.start * self.size * apart :],
            (len(image), count, apart, self.points, math.prod(inner)),
            (channel, row * self.size * apart, row, row * apart, item),
        )
        made = np.empty((self.points, self.groups, self.each, tiles, *inner), image.dtype)
        flat = made.reshape(self.points, len(image), count, apart, -1)
        np.matmul(self.matrices.b, seen, out=np.moveaxis(flat, 0, -2))
        shape = (self.groups, *self.kernel[1:], self.each, tiles, *self.out[1:], inner[-1])
        _, group, channel, tile, *rest, item = made.strides
        inside, moved = self.windows.moves(rest)
        strides = (group, *inside, channel, tile, *moved, item)
        copies = np.empty((self.groups, self.length, tiles * self.positions), image.dtype)
        for point, part in enumerate(made):
            copies.reshape(shape)[...] = np.lib.stride_tricks.as_strided(part, shape, strides)
            yield point, copies

    def _tiled(self, y: Array, block: slice) -> Array:
        """Rows of outputs (o, *out, n) as (o, tiles, dilation, rows of a tile, positions)."""
        tiled = y.reshape(len(y), self.count, self.size, self.apart, self.positions)
        return tiled[:, block].swapaxes(2, 3)

    def write(self, weight: Array, into: Array) -> None:
        """Write the convolution with weight (o, c / groups, *kernel) into `into` (o, *out, n)."""
        filters, p = len(weight) // self.groups, self.positions
        taps = np.moveaxis(weight, (2, 1), (0, -1))
        w = np.matmul(self.matrices.g, taps.reshape(len(taps), -1))
        w = w.reshape(self.points, self.groups, filters, self.length)
        whole = into.flags.c_contiguous and self.rows == self.out[0]
        y = into if whole else np.empty((len(into), self.rows, *into.shape[2:]), into.dtype)
        room = np.empty(self.points * len(weight) * (self.blocks[0].stop * self.apart * p), into.dtype)
        for block in self.blocks:
            count = block.stop - block.start
            products = room[: self.points * len(weight) * count * self.apart * p]
            products = products.reshape(self.points, self.groups, filters, -1)
            for point, columns in self._columns(block):
                _multiply(w[point], columns, products[point])
            products = products.reshape(self.points, len(weight), count, self.apart, p)
            np.matmul(self.matrices.a, np.moveaxis(products, 0, -2), out=self._tiled(y, block))
        if not whole:
            into[...] = y[:, : self.out[0]]

    def weight_gradient(self, g: Array, shape: Ints) -> Array:
        """Σ over positions of x · g (o, *out, n), as a weight of that shape."""
        filters, p = len(g) // self.groups, self.positions
        if self.rows > self.out[0]:
            padded = np.zeros((len(g), self.rows, *g.shape[2:]), g.dtype)
            padded[:, : self.out[0]] = g
            g = padded
        total = np.zeros((self.points, self.groups, self.length, filters), g.dtype)
        for block in self.blocks:
            made = np.empty((self.points, len(g), block.stop - block.start, self.apart, p), g.dtype)
            np.matmul(self.matrices.a.T, self._tiled(g, block), out=np.moveaxis(made, 0, -2))
            flat = made.reshape(self.points, self.groups, filters, -1)
            for point, columns in self._columns(block):
                _multiply(columns, flat[point].swapaxes(1, 2), total[point], more=True)
        found = np.matmul(self.matrices.g.T, total.reshape(self.points, -1))
        found = found.reshape(shape[2], self.groups, *shape[3:], self.each, filters)
        y = empty_output(shape, g.dtype)
        y.reshape(self.groups, filters, *shape[1:])[...] = np.moveaxis(found, (-1, -2, 0), (1, 2, 3))
        return y
