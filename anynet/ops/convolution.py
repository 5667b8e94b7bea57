"""Convolution over any number of axes, closed under differentiation.

For one axis, input channel c, output channel o, stride s and dilation d, on an input with zeros around it:

    y[n, o, p] = b[o] + Σ_{c, k} w[o, c, k] · x[n, c, p·s + k·d]

This is linear in x and in w. Its transposes are `conv_transpose` (in x) and `conv_weight` (in w), and each of
the three is the gradient of the other two, so that derivatives of every order stay within these three
functions.

All three are one matrix product per group, over columns of shape (channels · kernel, positions · batch): the
batch comes last, so that every copy between images and columns moves long contiguous runs. Results keep that
order in memory (they are permuted views of it), and so do element-wise functions of them: the next
convolution finds its input as it needs it.

Source: Dumoulin, Visin: A guide to convolution arithmetic for deep learning (2016).
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

from anynet.autograd.primitive import primitive
from anynet.ops.elementwise import conj
from anynet.ops.manipulation import reshape, squeeze
from anynet.ops.reductions import sum as sum_
from anynet.ops.slicing import put
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend
from anynet_backends.backend import window_counts

__all__ = ["conv", "conv_transpose"]

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

PRODUCT_PER_OFFSET = 16
"""With this many channels a product for each offset of the kernel fills the processor."""


def _device(xp: Backend, x: Array) -> Any:
    return xp.native_device(xp.device_of(x))


def _batch_last(xp: Backend, x: Array, padding: Pairs) -> Array:
    """(n, c, *spatial) → (c, *padded, n), contiguous; without a copy where x is in that order already."""
    axes = len(padding)
    v = xp.permute_dims(x, (*range(1, axes + 2), 0))
    if not any(lo or hi for lo, hi in padding):
        return xp.reshape(xp.reshape(v, (math.prod(v.shape),)), tuple(v.shape))
    inner = tuple(slice(lo, lo + size) for size, (lo, _) in zip(v.shape[1:-1], padding, strict=True))
    padded = tuple(lo + size + hi for size, (lo, hi) in zip(v.shape[1:-1], padding, strict=True))
    out = xp.zeros((v.shape[0], *padded, v.shape[-1]), dtype=x.dtype, device=_device(xp, x))
    out[(slice(None), *inner, slice(None))] = v
    return out


def _batch_first(xp: Backend, y: Array) -> Array:
    """(c, *spatial, n) → (n, c, *spatial), a view."""
    n = len(y.shape) - 1
    return xp.permute_dims(y, (n, *range(n)))


def _rows(xp: Backend, g: Array, groups: int) -> Array:
    """(n, c, *spatial) → (groups, c / groups, positions · n)."""
    channels = g.shape[1]
    v = xp.permute_dims(g, (*range(1, len(g.shape)), 0))
    return xp.reshape(v, (groups, channels // groups, math.prod(v.shape[1:])))


def _columns(
    xp: Backend, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Array:
    """im2col: (n, c, *spatial) → (groups, c / groups · kernel, positions · n)."""
    axes = len(kernel)
    n, channels = x.shape[:2]
    out = window_counts(tuple(x.shape[2:]), kernel, stride, padding, dilation)
    shape = (groups, channels // groups * math.prod(kernel), math.prod(out) * n)
    v = _batch_last(xp, x, padding)
    if any(k > 1 for k in kernel) or any(s > 1 for s in stride):
        v = xp.permute_dims(v, (0, axes + 1, *range(1, axes + 1)))
        v = xp.windows(v, kernel, stride, dilation)  # (c, n, *out, *kernel)
        v = xp.permute_dims(v, (0, *range(axes + 2, 2 * axes + 2), *range(2, axes + 2), 1))
    return xp.reshape(v, shape)


def _forward(
    xp: Backend, columns: Array, weight: Array, bias: Array | None, out: Ints, n: int, groups: int
) -> Array:
    channels = weight.shape[0]
    y = xp.matmul(xp.reshape(weight, (groups, channels // groups, math.prod(weight.shape[1:]))), columns)
    if bias is not None:
        y += xp.reshape(bias, (groups, channels // groups, 1))
    return _batch_first(xp, xp.reshape(y, (channels, *out, n)))


def _scatter(
    xp: Backend,
    rows: Array,
    weight: Array,
    out: Ints,
    n: int,
    shape: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Array:
    """Wᵀ g, and col2im: each column is added to the places that it was taken from."""
    kernel = tuple(weight.shape[2:])
    each = weight.shape[1]
    channels = groups * each
    padded = tuple(size + lo + hi for size, (lo, hi) in zip(shape, padding, strict=True))
    w = xp.reshape(weight, (groups, weight.shape[0] // groups, each * math.prod(kernel)))
    if all(k == 1 for k in kernel) and padded == out:
        x = xp.reshape(xp.matmul(xp.matrix_transpose(w), rows), (channels, *padded, n))
    else:
        x = xp.zeros((channels, *padded, n), dtype=rows.dtype, device=_device(xp, rows))
        offsets = list(itertools.product(*map(range, kernel)))
        if each >= PRODUCT_PER_OFFSET:  # one product for each offset: the columns never exist as a whole
            v = xp.permute_dims(xp.reshape(w, (*w.shape[:2], each, len(offsets))), (3, 0, 2, 1))
            v = xp.reshape(xp.reshape(v, (math.prod(v.shape),)), tuple(v.shape))  # contiguous
            parts = (xp.matmul(v[i, ...], rows) for i in range(len(offsets)))
            columns = (xp.reshape(part, (channels, *out, n)) for part in parts)
        else:
            whole = xp.matmul(xp.matrix_transpose(w), rows)
            whole = xp.reshape(whole, (channels, len(offsets), *out, n))
            columns = (whole[:, i, ...] for i in range(len(offsets)))
        for at, column in zip(offsets, columns, strict=True):
            where = tuple(
                slice(k * d, k * d + s * (o - 1) + 1, s)
                for k, d, s, o in zip(at, dilation, stride, out, strict=True)
            )
            x[(slice(None), *where, slice(None))] += column
    if padded != shape:
        inner = tuple(slice(lo, lo + size) for size, (lo, _) in zip(shape, padding, strict=True))
        x = x[(slice(None), *inner, slice(None))]
    return _batch_first(xp, x)


# ----- the three primitives -----


@primitive(name="conv")
def _conv(
    xp: Backend,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Array:
    """x (n, c, *spatial), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out)."""
    kernel = tuple(weight.shape[2:])
    out = window_counts(tuple(x.shape[2:]), kernel, stride, padding, dilation)
    columns = _columns(xp, x, kernel, stride, padding, dilation, groups)
    return _forward(xp, columns, weight, bias, out, x.shape[0], groups)


@primitive(name="conv_transpose")
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
) -> Array:
    """z (n, o, *out), weight (o, c / groups, *kernel) → (n, c, *shape): the transpose of `conv` in x."""
    rows = _rows(xp, z, groups)
    return _scatter(
        xp, rows, weight, tuple(z.shape[2:]), z.shape[0], shape, stride, padding, dilation, groups
    )


@primitive
def conv_weight(
    xp: Backend,
    x: Array,
    z: Array,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    shape: Ints,
) -> Array:
    """x (n, c, *spatial), z (n, o, *out) → (o, c / groups, *shape): the transpose of `conv` in the weight."""
    columns = _columns(xp, x, shape, stride, padding, dilation, groups)
    product = xp.matmul(_rows(xp, z, groups), xp.matrix_transpose(columns))
    return xp.reshape(product, (z.shape[1], x.shape[1] // groups, *shape))


def _options(stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


_conv.vjp(
    x=lambda g, weight, x_shape, stride, padding, dilation, groups: _conv_transpose(
        g, conj(weight), shape=tuple(x_shape[2:]), **_options(stride, padding, dilation, groups)
    ),
    weight=lambda g, x, weight_shape, stride, padding, dilation, groups: conv_weight(
        conj(x), g, shape=tuple(weight_shape[2:]), **_options(stride, padding, dilation, groups)
    ),
    bias=lambda g: sum_(g, axis=(0, *range(2, len(g.shape)))),
)
_conv_transpose.vjp(
    z=lambda g, weight, stride, padding, dilation, groups: _conv(
        g, conj(weight), **_options(stride, padding, dilation, groups)
    ),
    weight=lambda g, z, weight_shape, stride, padding, dilation, groups: conv_weight(
        g, conj(z), shape=tuple(weight_shape[2:]), **_options(stride, padding, dilation, groups)
    ),
)
conv_weight.vjp(
    x=lambda g, z, x_shape, stride, padding, dilation, groups: _conv_transpose(
        conj(z), g, shape=tuple(x_shape[2:]), **_options(stride, padding, dilation, groups)
    ),
    z=lambda g, x, stride, padding, dilation, groups: _conv(
        conj(x), g, **_options(stride, padding, dilation, groups)
    ),
)


# ----- the functions -----


def spread_option(value: int | Sequence[int], axes: int, name: str, where: str, least: int = 1) -> Ints:
    """One integer for each axis, from an integer or a sequence of them, checked."""
    if type(value) is int and value >= least:
        return (value,) * axes
    if type(value) is tuple and len(value) == axes:  # as most layers have it
        for v in value:
            if type(v) is not int or v < least:
                break
        else:
            return value
    try:
        out = tuple(map(operator.index, value if isinstance(value, Sequence) else (value,)))
    except TypeError:
        msg = f"{where}: {name} must be an integer or {axes} of them, got {value!r}"
        raise TypeError(msg) from None
    if len(out) == 1:
        out *= axes
    if len(out) != axes or any(v < least for v in out):
        msg = f"{where}: {name} must be an integer ≥ {least} or {axes} of them, got {value!r}"
        raise ValueError(msg)
    return out


def same_padding(kernel: Ints, stride: Ints, dilation: Ints, where: str) -> Pairs:
    """The zeros that make the output as long as the input; where their number is odd, one more at the end."""
    if any(s != 1 for s in stride):
        msg = f"{where}: padding='same' needs stride 1, got stride {stride}; give the padding in numbers"
        raise ValueError(msg)
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((t // 2, t - t // 2) for t in total)


@functools.lru_cache(maxsize=1024)
def _padding(
    where: str, spatial: Ints, kernel: Ints, stride: Ints, padding: Ints | str, dilation: Ints
) -> Pairs:
    """The zeros before and behind each axis, after a check that the kernel fits."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            msg = f"{where}: padding must be 'same', 'valid' or numbers, got {padding!r}"
            raise ValueError(msg)
        same = padding == "same"
        pairs = same_padding(kernel, stride, dilation, where) if same else ((0, 0),) * len(kernel)
    else:
        pairs = tuple((p, p) for p in padding)
    if min(window_counts(spatial, kernel, stride, pairs, dilation)) < 1 or 0 in kernel:
        msg = (
            f"{where}: kernel {kernel} with dilation {dilation} does not fit into an input of size {spatial} "
            f"padded by {pairs}; pad more or take a smaller kernel"
        )
        raise ValueError(msg)
    return pairs


def _check(where: str, x: Any, weight: Any, bias: Any, groups: int, channels: int, outputs: int) -> None:
    if x.shape[1] != channels:
        msg = (
            f"{where}: x of shape {tuple(x.shape)} has {x.shape[1]} channels, but weight "
            f"{tuple(weight.shape)} with groups={groups} takes {channels}"
        )
        raise ValueError(msg)
    if bias is not None and tuple(bias.shape) != (outputs,):
        msg = (
            f"{where}: bias must have shape ({outputs},), one for each output channel, got "
            f"{tuple(bias.shape)}"
        )
        raise ValueError(msg)
    dtype = unwrap(x).dtype
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None and unwrap(a).dtype != dtype:
            msg = (
                f"{where}: x is {x.dtype} but {name} is {a.dtype}; "
                "convert one: anynet.astype(x, …) or module.to(dtype)"
            )
            raise TypeError(msg)


def _ready(where: str, x: Any, weight: Any, groups: int) -> tuple[int, bool]:
    """The number of spatial axes, and whether x comes without a batch axis."""
    axes = len(weight.shape) - 2
    if axes < 1:
        msg = f"{where}: weight must have a shape (channels, channels, *kernel), got {tuple(weight.shape)}"
        raise ValueError(msg)
    if len(x.shape) not in (axes + 1, axes + 2):
        msg = (
            f"{where}: x must have {axes + 2} axes (batch, channels, *spatial) or {axes + 1} without the "
            f"batch for a weight of shape {tuple(weight.shape)}, got {tuple(x.shape)}"
        )
        raise ValueError(msg)
    if groups < 1 or weight.shape[0] % groups:
        msg = f"{where}: groups={groups} must be positive and divide the {weight.shape[0]} rows of the weight"
        raise ValueError(msg)
    return axes, len(x.shape) == axes + 1


def conv(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    where: str = "conv",
) -> Tensor:
    """Convolution (cross-correlation) over as many axes as the weight's kernel has.

    y[n, o, p] = b[o] + Σ_{c, k} w[o, c, k] · x[n, c, p·stride + k·dilation − padding], x being 0 outside.

    Shapes: x (n, c, *spatial) or (c, *spatial), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out),
    out = ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1. `padding` may be "same" or "valid".
    All of one dtype. ValueError for shapes that do not fit, TypeError for different dtypes.

    >>> import anynet as an
    >>> from anynet.ops.convolution import conv
    >>> conv(an.reshape(an.arange(4.0), (1, 1, 4)), an.asarray([[[-1.0, 1.0]]]))
    Tensor([[[1., 1., 1.]]])
    """
    axes, single = _ready(where, x, weight, groups)
    stride = spread_option(stride, axes, "stride", where)
    dilation = spread_option(dilation, axes, "dilation", where)
    pads = padding if isinstance(padding, str) else spread_option(padding, axes, "padding", where, 0)
    if single:
        x = reshape(x, (1, *x.shape))
    outputs, inputs, *kernel = weight.shape
    _check(where, x, weight, bias, groups, inputs * groups, outputs)
    pairs = _padding(where, tuple(x.shape[2:]), tuple(kernel), stride, pads, dilation)
    arrays = (x, weight) if bias is None else (x, weight, bias)
    y = _conv(*arrays, **_options(stride, pairs, dilation, groups))
    return squeeze(y, 0) if single else y


def conv_transpose(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    where: str = "conv_transpose",
) -> Tensor:
    """The transpose of `conv`: what its gradient computes, as a layer that enlarges its input.

    Shapes: x (n, c, *spatial) or (c, *spatial), weight (c, o / groups, *kernel), bias (o,) → (n, o, *out),
    out = (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.

    >>> import anynet as an
    >>> from anynet.ops.convolution import conv_transpose
    >>> conv_transpose(an.asarray([[[1.0, 2.0]]]), an.asarray([[[1.0, 10.0]]]), stride=2)
    Tensor([[[ 1., 10.,  2., 20.]]])
    """
    axes, single = _ready(where, x, weight, groups)
    stride = spread_option(stride, axes, "stride", where)
    dilation = spread_option(dilation, axes, "dilation", where)
    pads = spread_option(padding, axes, "padding", where, 0)
    extra = spread_option(output_padding, axes, "output_padding", where, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        msg = f"{where}: output_padding {extra} must be less than stride {stride} or dilation {dilation}"
        raise ValueError(msg)
    if single:
        x = reshape(x, (1, *x.shape))
    _check(where, x, weight, bias, groups, weight.shape[0], weight.shape[1] * groups)
    shape = tuple(
        (size - 1) * s - 2 * p + d * (k - 1) + e + 1
        for size, s, p, d, k, e in zip(
            x.shape[2:], stride, pads, dilation, weight.shape[2:], extra, strict=True
        )
    )
    if min(shape) < 1 or 0 in weight.shape[2:]:
        msg = f"{where}: the output would have the size {shape}; take less padding or a larger input"
        raise ValueError(msg)
    # output_padding takes away from the padding at the end, as long as it is less than the stride; otherwise `conv` would see
    # one more output there, so the padding is reduced as far as it goes and the remaining places are zeros
    pairs = tuple((p, p if e < s else max(p - e, 0)) for p, e, s in zip(pads, extra, stride, strict=True))
    beyond = tuple(max(e - p, 0) if e >= s else 0 for p, e, s in zip(pads, extra, stride, strict=True))
    inner = tuple(n - b for n, b in zip(shape, beyond, strict=True))
    y = _conv_transpose(x, weight, shape=inner, **_options(stride, pairs, dilation, groups))
    if any(beyond):
        key = (slice(None), slice(None), *(slice(0, n) for n in inner))
        y = put(y, key=key, shape=(*y.shape[:2], *shape))
    if bias is not None:
        y = y + reshape(bias, (1, -1, *(1,) * axes))
    return squeeze(y, 0) if single else y
