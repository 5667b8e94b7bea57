"""Convolution: by products over columns (im2col), or directly where each output has one input channel (depthwise) or the work is small.

Columns are (channels · kernel, batch · positions) for each group. The output of the product, (filters, batch · positions), is brought
into the order of its shape as the bias is added; the gradient of the output goes the other way, and serves both products of the
backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, window_counts
from anynet_backends.cuda_kernels.convolution_sources import CONVOLUTION
from anynet_backends.cuda_kernels.launch import FLOATS, threads_for, wide
from anynet_backends.cuda_kernels.products import accumulate
from anynet_backends.cuda_kernels.windows import Ints, strides_of, window
from anynet_backends.kernel_table import Kernel, KernelTable, register_in

__all__ = ["KERNELS", "Limits", "Pairs", "bias_gradient"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

Pairs = tuple[tuple[int, int], ...]


class Limits:
    """From where on something else is done."""

    direct = 1 << 22
    """Multiplications up to which no product is made: about as long as two launches take."""
    kept = 64 << 20
    """Bytes of columns that are kept for the backward pass; more are made again."""
    part = 1 << 30
    """Bytes of columns that exist at once: a larger batch is computed in parts."""


class _Convolution:
    """One convolution: x (n, c, *size), weight (o, c / groups, *kernel) → (n, o, *out), and its transposes."""

    def __init__(
        self, xp: Backend, dtype: Any, n: int, channels: int, filters: int, size: Ints, kernel: Ints, stride: Ints, padding: Pairs,
        dilation: Ints, groups: int,
    ) -> None:  # fmt: skip
        self.xp, self.cupy, self.dtype, self.letter = xp, xp.native, dtype, dtype.char
        self.n, self.channels, self.filters, self.groups = n, channels, filters, groups
        self.inputs, self.outputs = channels // groups, filters // groups
        self.size, self.kernel, self.axes = size, kernel, len(kernel)
        self.out = window_counts(size, kernel, stride, padding, dilation)
        self.each, self.taps = math.prod(self.out), math.prod(kernel)
        self.window = window(self.out, size, kernel, stride, dilation, [lo for lo, _ in padding])
        self.direct = self.inputs == 1 or n * filters * self.each * self.inputs * self.taps <= Limits.direct
        self.sample = channels * self.taps * self.each * dtype.itemsize  # bytes of one sample's columns

    def parts(self) -> Iterator[slice]:
        """The parts of the batch that are computed at once."""
        step = max(1, Limits.part // self.sample)
        return (slice(i, min(i + step, self.n)) for i in range(0, self.n, step))

    def columns(self, x: Array) -> Array:
        """im2col: (groups, c / groups · kernel, n · positions)."""
        n, rows = len(x), self.channels * self.taps
        made = self.cupy.empty((rows, n * self.each), self.dtype)
        CONVOLUTION["columns"].each(
            self.letter, self.channels * n * self.each, x, made, n, self.channels, *strides_of(x, self.axes), *self.window,
        )  # fmt: skip
        return made.reshape(self.groups, rows // self.groups, -1)

    def product(self, a: Array, b: Array) -> Array:
        """The products of each group; of one group as one of matrices, for which nothing is copied, whoever multiplies."""
        return self.xp.matmul(a[0], b[0])[None] if self.groups == 1 else self.xp.matmul(a, b)

    def forward(
        self, x: Array, weight: Array, bias: Array | None, keep: bool = False
    ) -> tuple[Array, Array | None]:
        """The output, and the columns where they are to be kept and small enough."""
        y = self.cupy.empty((self.n, self.filters, *self.out), self.dtype)
        if self.direct:
            CONVOLUTION["conv_direct"].each(
                self.letter, y.size, x, weight, bias, y, self.n, self.inputs, self.outputs, self.groups,
                *strides_of(x, self.axes), *self.window, count=x.size,
            )  # fmt: skip
            return y, None
        columns = None
        for part in self.parts():
            columns = self.columns(x[part])
            rows = self.product(weight.reshape(self.groups, self.outputs, -1), columns)
            to = y[part]
            CONVOLUTION["conv_bias"].each(
                self.letter, to.size, rows, bias, to, len(to), self.filters, self.each
            )
        return y, columns if keep and self.sample * self.n <= min(Limits.kept, Limits.part) else None

    def rows(self, g: Array) -> Array:
        """(n, o, *out) → (groups, o / groups, n · positions)."""
        made = self.cupy.ascontiguousarray(g.transpose(1, 0, *range(2, g.ndim)))
        return made.reshape(self.groups, self.outputs, -1)

    def gradients(
        self,
        g: Array,
        x: Array | None,
        weight: Array | None,
        columns: Array | None = None,
        bias: bool = False,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Those of x, where the weight is given, of the weight, where x is, and of the bias; g is (n, o, *out)."""
        if self.direct:
            return self.directly(g, x, weight, bias)
        return self.by_products(g, x, weight, columns, bias)

    def directly(
        self, g: Array, x: Array | None, weight: Array | None, bias: bool
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The same without products."""
        gx = gw = gb = None
        form = (self.n, self.inputs, self.outputs)
        if weight is not None:
            gx = self.cupy.empty((self.n, self.channels, *self.size), self.dtype)
            CONVOLUTION["conv_direct_x"].each(
                self.letter, gx.size, g, weight, gx, *form, self.groups, *strides_of(g, self.axes), *self.window, count=g.size,
            )  # fmt: skip
        if x is not None or bias:
            if x is not None:
                gw = self.cupy.empty((self.filters, self.inputs, *self.kernel), self.dtype)
            gb = self.cupy.empty(self.filters, self.dtype) if bias else None
            elements = 0 if gw is None else gw.size
            blocks, at = elements + (self.filters if bias else 0), g if x is None else x
            CONVOLUTION["conv_direct_weight"](
                self.letter, blocks, threads_for(self.n * self.each, blocks), g, at, gw, gb, elements, *form,
                *strides_of(g, self.axes), *strides_of(at, self.axes), *self.window, count=max(g.size, at.size),
            )  # fmt: skip
        return gx, gw, gb

    def by_products(
        self, g: Array, x: Array | None, weight: Array | None, columns: Array | None, bias: bool
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The same by two products for each part of the batch."""
        gx = gw = gb = None
        kind = wide(self.dtype)
        if weight is not None:
            gx = self.cupy.empty((self.n, self.channels, *self.size), self.dtype)
            transposed = weight.reshape(self.groups, self.outputs, -1).transpose(0, 2, 1)
        for part in self.parts():
            rows = self.rows(g[part])
            if x is not None:
                known = self.columns(x[part]) if columns is None else columns
                columns_first = known.transpose(0, 2, 1)
                if gw is None:
                    gw = self.product(rows, columns_first).astype(kind, copy=False)
                else:
                    accumulate(self.cupy, self.xp.matmul, rows, columns_first, gw)
            if bias:
                total = rows.reshape(self.filters, -1).sum(axis=1, dtype=kind)
                gb = total if gb is None else gb + total
            if gx is not None:
                self.from_columns(self.product(transposed, rows), gx[part])
        if gw is not None:
            gw = gw.astype(self.dtype, copy=False).reshape(self.filters, self.inputs, *self.kernel)
        return gx, gw, None if gb is None else gb.astype(self.dtype, copy=False)

    def from_columns(self, columns: Array, x: Array) -> None:
        """col2im: the sum of what the columns have of each element of x."""
        CONVOLUTION["from_columns"].each(
            self.letter, x.size, columns, x, len(x), self.channels, *self.window, count=columns.size // self.taps
        )  # fmt: skip


def bias_gradient(xp: Backend, g: Array) -> Array:
    """(n, o, *out) → (o,)."""
    out = g.shape[2:]
    ones = (1,) * len(out)
    one = _Convolution(
        xp, g.dtype, len(g), g.shape[1], g.shape[1], out, ones, ones, ((0, 0),) * len(out), ones, g.shape[1]
    )
    gradient: Array = one.directly(g, None, None, True)[2]
    return gradient


def _taken(kernel: Ints, *arrays: Array | None) -> bool:
    known = [a for a in arrays if a is not None]
    dtype = known[0].dtype
    return len(kernel) <= 3 and dtype.char in FLOATS and all(a.dtype == dtype and a.size for a in known)


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int,
    need: Any,
) -> Any:  # fmt: skip
    """x (n, c, *size), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out)."""
    if not _taken(weight.shape[2:], x, weight, bias):
        return NotImplemented
    one = _Convolution(
        xp, x.dtype, x.shape[0], x.shape[1], len(weight), x.shape[2:], weight.shape[2:], stride, padding, dilation, groups
    )  # fmt: skip
    if min(one.out) < 1:
        return NotImplemented
    cupy = xp.native
    weight, bias = cupy.ascontiguousarray(weight), None if bias is None else cupy.ascontiguousarray(bias)
    y, columns = one.forward(x, weight, bias, keep=need is not None and need[1])
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        found = one.gradients(
            g, x if need[1] else None, weight if need[0] else None, columns, len(need) > 2 and need[2]
        )
        return found[: len(need)]

    return y, pull


def _conv_transpose(
    xp: Backend,
    z: Array,
    weight: Array,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    shape: Ints,
) -> Any:
    """z (n, o, *out), weight (o, c / groups, *kernel) → (n, c, *shape)."""
    if not _taken(weight.shape[2:], z, weight) or 0 in shape:
        return NotImplemented
    channels = weight.shape[1] * groups
    one = _Convolution(
        xp, z.dtype, len(z), channels, len(weight), shape, weight.shape[2:], stride, padding, dilation, groups
    )
    if one.out != z.shape[2:]:
        return NotImplemented
    return one.gradients(z, None, xp.native.ascontiguousarray(weight))[0]


def _conv_weight(
    xp: Backend, x: Array, z: Array, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int, shape: Ints
) -> Any:
    """x (n, c, *size), z (n, o, *out) → (o, c / groups, *shape)."""
    if not _taken(shape, x, z) or 0 in shape:
        return NotImplemented
    one = _Convolution(
        xp, x.dtype, x.shape[0], x.shape[1], z.shape[1], x.shape[2:], shape, stride, padding, dilation, groups
    )
    return NotImplemented if one.out != z.shape[2:] else one.gradients(z, x, None)[1]


KERNELS["conv_transpose"], KERNELS["conv_weight"] = Kernel(_conv_transpose), Kernel(_conv_weight)
