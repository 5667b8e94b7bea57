"""Convolution with NumPy alone: BLAS products over columns (im2col) that are never materialized as a whole.

im2col copies every element of x once for each position of the kernel. Here copies are made for the kernel's positions along all
axes but the first, in the order (row, positions, channel, …): the rows that a kernel of height k covers are then adjacent in
memory, and the columns of an output row are k rows of copies, viewed as one matrix. For a 3×3 kernel that is a third of the memory
and of the copies. Where rows are too short for a product of their own, all positions are copied and the image counts as one row.

`conv`, its transpose in x and its transpose in the weight share these parts; each is the gradient of the others.

Kernels with two rows or more that step by one row take fewer multiplications by tiles of rows (`winograd`), kernels with few filters to a
group are products with band matrices (`banded_convolution`), where both operands are finite.

The gradient of x is a convolution, too: for stride 1, of the gradient with the flipped kernel; for stride s, one for each remainder
of the position modulo s, with the kernel's positions that contribute to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, window_counts
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.kernels.banded_convolution import Bands, Windows, around, finite, fits
from anynet_backends.kernels.winograd import Tiles, tile_for
from anynet_backends.memory.layout import in_order
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import PLAIN_FLOATS, sum_by_dot

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""


_kernel = register_in(KERNELS)

Ints = tuple[int, ...]

ROW = 512
"""The least length of an output row, times the rows of the kernel (copies that are saved), that has a product of its own."""

THIN, SHORT = 32, 1024
"""With fewer filters than this, products are too thin for BLAS; one product for all rows of the kernel is not, and adding up its
parts costs less if rows are not longer than this."""

FEW = 16
"""With fewer channels than this, the gradient of x is faster from whole columns."""

BLOCK = 1 << 21
"""Elements of those columns that are computed at a time."""

KEEP_BYTES = 64 * 2**20
"""Columns up to this size are kept from the forward pass for the gradient of the weight; larger ones are recomputed."""


class _Columns:
    """The columns of x (channels, *spatial, n) for a kernel: (groups, rows, kernel · channels, positions). `single`: those
    of one row of the kernel, for each row of x that it covers."""

    __slots__ = ("matrix", "nbytes", "single")

    def __init__(self, x: Array, windows: Windows) -> None:
        kernel, out, stride, low, dilation, groups = windows
        each, n = x.shape[0] // groups, x.shape[-1]
        if math.prod(kernel) == max(stride) == 1 and out == x.shape[1:-1] and not any(low):
            self.matrix = self.single = x.reshape(groups, 1, each, -1)
            self.nbytes = 0
            return
        if (
            kernel[0] == 1 or dilation[0] > 1 or math.prod(out[1:]) * n * kernel[0] < ROW
        ):  # the image as one row
            x, out, kernel = x[:, None], (1, *out), (1, *kernel)
            stride, low, dilation = (1, *stride), (0, *low), (1, *dilation)
            windows = Windows(kernel, out, stride, low, dilation, groups)
        spans = windows.spans
        image, tall, rows = around(x, low, spans), kernel[0], spans[0]
        channel, row, *rest, item = image.strides
        inner, moved = windows.moves(rest)
        made = np.empty((groups, rows, *kernel[1:], each, *out[1:], n), x.dtype)
        made[...] = np.lib.stride_tricks.as_strided(
            image, made.shape, (channel * each, row, *inner, channel, *moved, item)
        )
        columns, positions = math.prod(kernel[1:]) * each, math.prod(out[1:]) * n
        group, row, item = made.strides[0], made.strides[1], made.itemsize
        self.single = made.reshape(groups, rows, columns, positions)
        self.matrix = np.lib.stride_tricks.as_strided(
            made,
            (groups, out[0], tall * columns, positions),
            (group, row * stride[0], positions * item, item),
        )
        self.nbytes = made.nbytes


_Form = _Columns | Bands | Tiles


def _form(x: Array, other: Array, filters: int, windows: Windows, gradient: bool = False) -> _Form:
    """What a convolution of x multiplies its weight with, or, for the weight's `gradient`, the result's, in the fastest form; `other` is
    what it is multiplied with."""
    kernel, out, stride, _, dilation, groups = windows
    each, channels = filters // groups, len(x) // groups
    if fits(x, each, channels, kernel, groups):
        return Bands(x, windows)
    points = tile_for(each, channels, kernel, out, x.shape[-1], stride[0], dilation[0], gradient)
    if points and x.dtype in PLAIN_FLOATS and finite(x) and finite(other):
        return Tiles(x, points, windows)
    return _Columns(x, windows)


def _convolve(x: Array, weight: Array, into: Array, windows: Windows) -> _Form:
    """Write the convolution of x (c, *spatial, n) into `into` (o, *out, n)."""
    groups, stride = windows.groups, windows.stride
    columns = _form(x, weight, len(weight), windows)
    if not isinstance(columns, _Columns):
        columns.write(weight, into)
        return columns
    _, rows, length, positions = columns.matrix.shape
    filters, tall = len(weight) // groups, length // columns.single.shape[2]
    w = np.moveaxis(weight, 1, -1)
    y = into if into.flags.c_contiguous else np.empty(into.shape, into.dtype)
    by_row = y.reshape(groups, filters, rows, positions).transpose(0, 2, 1, 3)
    if tall > 1 == stride[0] and filters <= min(THIN, length // tall) and positions <= SHORT:
        w = w.reshape(groups, filters, tall, -1).swapaxes(1, 2).reshape(groups, 1, tall * filters, -1)
        parts = np.matmul(w, columns.single)
        each = [parts[:, i : i + rows, i * filters : (i + 1) * filters] for i in range(tall)]
        np.add(each[0], each[1], out=by_row)
        for part in each[2:]:
            by_row += part
    else:
        np.matmul(w.reshape(groups, 1, filters, -1), columns.matrix, out=by_row)
    if y is not into:
        into[...] = y
    return columns


def _weight_gradient(columns: _Form, g: Array, shape: Ints) -> Array:
    """Σ over rows and positions of columns · g (o, *out, n), as a weight of that shape."""
    if isinstance(columns, Tiles) and not (columns.exact_enough and finite(g)):
        columns = _Columns(columns.image, columns.windows._replace(low=(0,) * len(columns.out)))
    if not isinstance(columns, _Columns):
        return columns.weight_gradient(g, shape)
    groups, rows, _length, positions = columns.matrix.shape
    by_row = g.reshape(groups, -1, rows, positions).transpose(0, 2, 3, 1)
    product = np.matmul(columns.matrix, by_row)
    total = product[:, 0] if rows == 1 else product.sum(axis=1)
    total = total.reshape(groups, *shape[2:], shape[1], -1)
    made = empty_output(shape, g.dtype)
    made.reshape(groups, -1, *shape[1:])[...] = np.moveaxis(total, (-1, -2), (1, 2))
    return made


def _phases(
    size: int, low: int, k: int, stride: int, dilation: int
) -> Iterator[tuple[slice, slice, int, int]]:
    """For each remainder of a position modulo the stride: the positions, the kernel's positions that contribute to them (reversed), and
    the padding and dilation of the convolution of the gradient with those."""
    common = math.gcd(stride, dilation)
    step, apart = stride // common, dilation // common
    for q in range(min(stride, size)):
        first = next((i for i in range(min(step, k)) if (q + low - i * dilation) % stride == 0), None)
        if first is None:
            yield slice(q, None, stride), slice(0, 0), 0, 1
            continue
        last = first + (k - 1 - first) // step * step
        places = slice(last, first - step if first >= step else None, -step)
        yield slice(q, None, stride), places, -((q + low - last * dilation) // stride), apart


def _valid(out: int, size: int, stride: int, start: int) -> tuple[slice, slice]:
    """The outputs o whose input o · stride + start exists, and those inputs."""
    first = max(0, -(start // stride)) if start < 0 else 0
    last = min(out, (size - 1 - start) // stride + 1)
    if first >= last:
        return slice(0, 0), slice(0, 0)
    return slice(first, last), slice(first * stride + start, (last - 1) * stride + start + 1, stride)


def _scatter(g: Array, w: Array, into: Array, windows: Windows) -> None:
    """The same for few channels, where a product for each position of the kernel would be too thin: one product computes the columns,
    w (groups, *kernel, c / groups, o / groups) times g, which are then scattered (col2im)."""
    groups, each, out = len(w), w.shape[-2], g.shape[1:-1]
    kernel = w.shape[1:-2]
    w = w.reshape(groups, -1, w.shape[-1])
    g = g.reshape(groups, -1, out[0], math.prod(g.shape[2:]))
    image = into.reshape(groups, each, *into.shape[1:])
    image[...] = 0
    step = max(1, BLOCK // (w.shape[1] * g.shape[3]))
    for top in range(0, out[0], step):
        part = g[:, :, top : top + step]
        count = part.shape[2]
        columns = np.matmul(w, part.reshape(groups, part.shape[1], -1))
        columns = columns.reshape(groups, *kernel, each, count, *out[1:], into.shape[-1])
        for place in itertools.product(*map(range, kernel)):
            to, of = [slice(None)] * 2, [slice(None)]
            for o, size, k, s, lo, d in zip(
                (count, *out[1:]),
                into.shape[1:-1],
                place,
                windows.stride,
                windows.low,
                windows.dilation,
                strict=True,
            ):
                start = k * d - lo + (top * s if len(of) == 1 else 0)
                taken, places = _valid(o, size, s, start)
                of.append(taken)
                to.append(places)
            here = image[tuple(to)]
            here += columns[(slice(None), *place, *of)]


def _input_gradient(g: Array, weight: Array, into: Array, windows: Windows) -> None:
    """Write the transpose of the convolution, applied to g (o, *out, n), into `into` (c, *spatial, n)."""
    kernel, _, stride, low, dilation, groups = windows
    w = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    if weight.shape[1] < min(FEW, len(weight) // (2 * groups)):
        _scatter(g, np.moveaxis(w, (1, 2), (-2, -1)), into, windows)
        return
    w = w.reshape(len(into), -1, *weight.shape[2:])
    axes = zip(into.shape[1:-1], low, kernel, stride, dilation, strict=True)
    for phase in itertools.product(*(_phases(*axis) for axis in axes)):
        to, places, pads, apart = zip(*phase, strict=True)
        part, own = into[(slice(None), *to)], w[(slice(None), slice(None), *places)]
        if own.size:
            own_windows = Windows(own.shape[2:], part.shape[1:-1], (1,) * len(low), pads, apart, groups)
            _convolve(g, own, part, own_windows)
        else:
            part[...] = 0


@_kernel
def conv(
    xp: Backend,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Ints,
    padding: Any,
    dilation: Ints,
    groups: int,
    need: Any,
) -> Any:
    """x (n, c, *spatial), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out), with the batch last in memory."""
    if x.dtype.kind != "f" or weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        return NotImplemented
    out = window_counts(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    if min(out) < 1 or not x.size or not weight.size:
        return NotImplemented
    order = (*range(1, x.ndim), 0)
    windows = Windows(weight.shape[2:], out, stride, tuple([lo for lo, _ in padding]), dilation, groups)
    image = in_order(x, order)
    y = empty_output((len(x), len(weight), *out), x.dtype, order)
    rows = y.transpose(order)
    columns = _convolve(image, weight, rows, windows)
    if bias is not None:
        rows += bias.reshape(-1, *(1,) * (x.ndim - 1))
    if need is None:
        return y
    kept = columns if need[1] and columns.nbytes <= KEEP_BYTES else None
    source = image if need[1] and kept is None else None
    del columns, image

    def pull(g: Array) -> tuple[Array | None, ...]:
        gx = gw = gb = None
        g = in_order(g, order)
        if need[0]:
            gx = empty_output(x.shape, x.dtype, order)
            _input_gradient(g, weight, gx.transpose(order), windows)
        if need[1]:
            again = kept or _form(source, g, len(weight), windows, gradient=True)
            gw = _weight_gradient(again, g, weight.shape)
        if len(need) > 2 and need[2]:
            gb = sum_by_dot(g.reshape(len(g), -1), 1, None, None, False)
        return (gx, gw, gb)[: len(need)]

    return y, pull


def _between(
    x: Ints, weight: Ints, z: Ints, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> Windows | None:
    """The windows of the convolution of arrays of the shapes x and weight, if its result has the shape z; None where it has not, or where
    one of them is empty."""
    out = window_counts(x[2:], weight[2:], stride, padding, dilation)
    if (x[0], weight[0], *out) != tuple(z) or x[1] != weight[1] * groups or 0 in (*x, *weight, *z):
        return None
    return Windows(tuple(weight[2:]), out, stride, tuple([lo for lo, _ in padding]), dilation, groups)


@_kernel
def conv_transpose(xp: Backend, z: Array, weight: Array, *, shape: Ints, need: Any, **options: Any) -> Any:
    """z (n, o, *out), weight (o, c / groups, *kernel) → (n, c, *shape), the transpose of `conv` in x."""
    whole = (len(z), weight.shape[1] * options["groups"], *shape)
    if z.dtype.kind != "f" or weight.dtype != z.dtype or z.ndim != weight.ndim:
        return NotImplemented
    windows = _between(whole, weight.shape, z.shape, **options)
    if windows is None:
        return NotImplemented
    order = (*range(1, z.ndim), 0)
    g = in_order(z, order)
    y = empty_output(whole, z.dtype, order)
    _input_gradient(g, weight, y.transpose(order), windows)
    if need is None:
        return y

    def pull(h: Array) -> tuple[Array | None, ...]:
        gz = gw = None
        image = in_order(h, order)
        if need[0]:
            gz = empty_output(z.shape, z.dtype, order)
            columns = _convolve(image, weight, gz.transpose(order), windows)
        else:
            columns = _form(image, g, len(weight), windows, gradient=True)
        if need[1]:
            gw = _weight_gradient(columns, g, weight.shape)
        return gz, gw

    return y, pull


@_kernel
def conv_weight(xp: Backend, x: Array, z: Array, *, shape: Ints, need: Any, **options: Any) -> Any:
    """x (n, c, *spatial), z (n, o, *out) → (o, c / groups, *shape), the transpose of `conv` in the weight."""
    groups = options["groups"]
    if x.dtype.kind != "f" or z.dtype != x.dtype or x.ndim != z.ndim or x.shape[1] % groups:
        return NotImplemented
    weight = (z.shape[1], x.shape[1] // groups, *shape)
    windows = _between(x.shape, weight, z.shape, **options)
    if windows is None:
        return NotImplemented
    order = (*range(1, x.ndim), 0)
    image, g = (in_order(a, order) for a in (x, z))
    columns = _form(image, g, len(g), windows, gradient=True)
    y = _weight_gradient(columns, g, weight)
    if need is None:
        return y

    def pull(h: Array) -> tuple[Array | None, ...]:
        gx = gz = None
        if need[0]:
            gx = empty_output(x.shape, x.dtype, order)
            _input_gradient(g, h, gx.transpose(order), windows)
        if need[1]:
            gz = empty_output(z.shape, z.dtype, order)
            _convolve(image, h, gz.transpose(order), windows)
        return gx, gz

    return y, pull
