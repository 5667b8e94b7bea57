"""Convolutions with few filters to a group, depthwise ones above all, as products of BLAS.

Columns (im2col) make of each group a product with as many rows as it has filters; with one filter BLAS only adds up. Here the kernel's
positions along the first axis become a band matrix: for r rows of outputs and the t rows of inputs that they see, output row i has
w[k] at column i·stride + k·dilation, and zeros elsewhere. One product computes r rows of outputs from t rows of inputs, with
t / kernel times as many multiplications, which BLAS does ten times as fast. Only the kernel's positions along the other axes are copied.

A zero of the band times infinity is NaN, so inputs that are not finite are left to the columns (`fits`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS

__all__ = ["Bands", "Windows", "around", "finite", "fits"]

Ints = tuple[int, ...]

ROWS: Final = 16
"""The most rows of outputs that one product computes."""

BLOCK: Final = 1 << 18
"""Elements of the copies that are made at a time."""

CHANNELS: Final = 2
"""The most channels of groups with one filter each; with more the products over columns are as fast."""

TALL: Final = 9
FEW: Final = 4
"""A kernel that is so tall has a narrow band: this pays for up to so many filters and any number of channels."""


class Windows(NamedTuple):
    """The windows of a convolution: how many positions, outputs, elements from one to the next, elements of padding before the first, and
    elements from one position to the next there are along each axis; and the groups of channels."""

    kernel: Ints
    out: Ints
    stride: Ints
    low: Ints
    dilation: Ints
    groups: int

    @property
    def spans(self) -> Ints:
        """How many elements the windows see along each axis."""
        each = zip(self.kernel, self.out, self.stride, self.dilation, strict=True)
        return tuple([(o - 1) * s + (k - 1) * d + 1 for k, o, s, d in each])

    def moves(self, steps: list[int]) -> tuple[list[int], list[int]]:
        """How far apart in memory positions of the kernel are, and outputs, along all axes but the first, whose elements are `steps`
        apart."""
        return (
            [d * step for d, step in zip(self.dilation[1:], steps, strict=True)],
            [s * step for s, step in zip(self.stride[1:], steps, strict=True)],
        )


def around(x: Array, low: Ints, spans: Ints) -> Array:
    """x (channels, *spatial, n) from position −low on, `spans` long, padded with zeros."""
    if all(lo <= 0 and span - lo <= size for lo, span, size in zip(low, spans, x.shape[1:-1], strict=True)):
        return x[(slice(None), *(slice(-lo, span - lo) for lo, span in zip(low, spans, strict=True)))]
    made = np.zeros((len(x), *spans, x.shape[-1]), x.dtype)
    to, of = [slice(None)], [slice(None)]
    for lo, span, size in zip(low, spans, x.shape[1:-1], strict=True):
        first, last = max(0, -lo), min(size, span - lo)
        of.append(slice(first, max(first, last)))
        to.append(slice(first + lo, max(first, last) + lo))
    made[tuple(to)] = x[tuple(of)]
    return made


def finite(x: Array) -> bool:
    """Whether all of x is finite, and so small that its squares are."""
    flat = x.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(flat.dot(flat))


def fits(x: Array, filters: int, channels: int, kernel: Ints, groups: int) -> bool:
    """Whether a convolution of x with so many filters and channels to a group is faster this way, and x finite."""
    if len(kernel) < 2 or kernel[0] == 1 or x.dtype not in PLAIN_FLOATS:
        return False
    depthwise = groups > 1 and filters == 1 and channels <= CHANNELS
    if not depthwise and (kernel[0] < TALL or filters > FEW):
        return False
    return finite(x)


class Bands:
    """A convolution of x (channels, *spatial, n) by band matrices."""

    nbytes = 0

    def __init__(self, x: Array, windows: Windows) -> None:
        kernel, out, stride, _, dilation, self.groups = self.windows = windows
        self.x, self.out, self.kernel = x, out, kernel
        self.each = len(x) // self.groups
        self.tiles = -(-out[0] // ROWS)
        self.rows = -(-out[0] // self.tiles)
        self.taken = (self.rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1
        self.length = self.each * math.prod(kernel[1:]) * self.taken
        self.positions = math.prod(out[1:]) * x.shape[-1]
        self.count = max(1, BLOCK // (self.tiles * self.length * self.positions))

    def _copies(self) -> Iterator[tuple[slice, Array]]:
        """For each block of groups: (groups, tiles, channels · positions of the kernel · rows of inputs, positions)."""
        apart = self.rows * self.windows.stride[0]
        spans = ((self.tiles - 1) * apart + self.taken, *self.windows.spans[1:])
        for start in range(0, self.groups, self.count):
            block = slice(start, min(start + self.count, self.groups))
            part = around(self.x[block.start * self.each : block.stop * self.each], self.windows.low, spans)
            channel, row, *rest, item = part.strides
            groups, n = block.stop - block.start, part.shape[-1]
            shape = (groups, self.tiles, self.each, *self.kernel[1:], self.taken, *self.out[1:], n)
            inner, moved = self.windows.moves(rest)
            strides = (channel * self.each, row * apart, channel, *inner, row, *moved, item)
            copies = np.ascontiguousarray(np.lib.stride_tricks.as_strided(part, shape, strides))
            yield block, copies.reshape(groups, self.tiles, self.length, self.positions)

    def _band(self) -> Iterator[tuple[int, Array, Array]]:
        """For each position of the kernel along the first axis: rows of outputs and of inputs that it connects."""
        rows = np.arange(self.rows)
        for k in range(self.kernel[0]):
            yield k, rows, rows * self.windows.stride[0] + k * self.windows.dilation[0]

    def _shape(self, groups: int, filters: int) -> Ints:
        return (groups, filters, self.rows, self.each, math.prod(self.kernel[1:]), self.taken)

    def write(self, weight: Array, into: Array) -> None:
        """Write the convolution with weight (o, c / groups, *kernel) into `into` (o, *out, n)."""
        filters = len(weight) // self.groups
        w = weight.reshape(self.groups, filters, self.each, self.kernel[0], -1)
        band = np.zeros(self._shape(self.groups, filters), weight.dtype)
        for k, rows, taken in self._band():
            band[:, :, rows, :, :, taken] = w[None, :, :, :, k]
        band = band.reshape(self.groups, 1, filters * self.rows, self.length)
        whole = into.flags.c_contiguous and filters == 1 and self.tiles * self.rows == self.out[0]
        y = into.reshape(self.groups, self.tiles, self.rows, self.positions) if whole else None
        for block, copies in self._copies():
            if y is not None:
                np.matmul(band[block], copies, out=y[block])
                continue
            made = np.matmul(band[block], copies)
            made = made.reshape(len(made), self.tiles, filters, self.rows, *self.out[1:], -1)
            made = np.moveaxis(made, 1, 2)
            made = made.reshape(len(made) * filters, self.tiles * self.rows, *self.out[1:], -1)
            into[block.start * filters : block.stop * filters] = made[:, : self.out[0]]

    def weight_gradient(self, g: Array, shape: Ints) -> Array:
        """Σ over positions of x · g (o, *out, n), as a weight of that shape."""
        filters = len(g) // self.groups
        made = empty_output(shape, g.dtype)
        total = made.reshape(self.groups, filters, self.each, self.kernel[0], -1)
        missing = self.tiles * self.rows - self.out[0]
        for block, copies in self._copies():
            part = g[block.start * filters : block.stop * filters]
            if missing:
                part = np.concatenate(
                    (part, np.zeros((len(part), missing, *part.shape[2:]), g.dtype)), axis=1
                )
            part = part.reshape(-1, filters, self.tiles, self.rows, self.positions).swapaxes(1, 2)
            part = part.reshape(len(part), self.tiles, filters * self.rows, self.positions)
            product = np.matmul(part, copies.swapaxes(-1, -2)).sum(axis=1)
            product = product.reshape(self._shape(len(part), filters))
            for k, rows, taken in self._band():
                total[block, :, :, k] = product[:, :, rows, :, :, taken].sum(axis=0)
        return made
