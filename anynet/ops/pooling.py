"""Pooling: the largest element or the mean of each window of the last axes.

A window is visited one offset at a time, for all windows at once: for offset k, the elements x[p·stride +
k·dilation] of all positions p are one strided slice. The sum over a window is separable and taken axis by
axis.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import adjoint, primitive
from anynet.ops import elementwise as e
from anynet.ops.convolution import Ints, Pairs, spread_option
from anynet.ops.reductions import mean
from anynet.ops.shapes import broadcast_shapes
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = ["adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "lp_pool", "max_pool"]


def _device(xp: Backend, x: Array) -> Any:
    return xp.native_device(xp.device_of(x))


def _extend(xp: Backend, x: Array, pads: Pairs, value: float | int | bool) -> Array:
    """x with `value` before and after its last axes; x itself if there is nothing to add."""
    if not any(lo or hi for lo, hi in pads):
        return x
    lead = len(x.shape) - len(pads)
    shape = (*x.shape[:lead], *(lo + n + hi for n, (lo, hi) in zip(x.shape[lead:], pads, strict=True)))
    inner = tuple(slice(lo, lo + n) for n, (lo, _) in zip(x.shape[lead:], pads, strict=True))
    out = xp.full(shape, value, dtype=x.dtype, device=_device(xp, x))
    out[(*(slice(None),) * lead, *inner)] = x
    return out


def _cut(x: Array, pads: Pairs, spatial: Ints) -> Array:
    """The inverse of `_extend`."""
    if not any(lo or hi for lo, hi in pads):
        return x
    lead = len(x.shape) - len(pads)
    return x[(*(slice(None),) * lead, *(slice(lo, lo + n) for n, (lo, _) in zip(spatial, pads, strict=True)))]


def _lowest(xp: Backend, dtype: Any) -> float | int:
    """The value that never wins."""
    return -math.inf if xp.isdtype(dtype, "real floating") else int(xp.iinfo(dtype).min)


def _slices(x: Array, out: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> list[tuple[slice, ...]]:
    """For each offset of the kernel, the key of what all windows have there."""
    lead = (slice(None),) * (len(x.shape) - len(kernel))
    return [
        (
            *lead,
            *(
                slice(k * d, k * d + s * (o - 1) + 1, s)
                for k, d, s, o in zip(at, dilation, stride, out, strict=True)
            ),
        )
        for at in itertools.product(*map(range, kernel))
    ]


# ----- maximum -----
#
# `out` is the number of windows along each axis, `pads` the padding at the ends that makes all of them fit.


@primitive(name="max_pool")
def _max_pool(
    xp: Backend, x: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, dilation: Ints
) -> Array:
    v = _extend(xp, x, pads, _lowest(xp, x.dtype))
    first, *rest = _slices(v, out, kernel, stride, dilation)
    y = v[first]
    for key in rest:
        y = xp.maximum(y, v[key])
    return y if rest else xp.asarray(y, copy=True)


def _hits(xp: Backend, v: Array, y: Array, keys: list[tuple[slice, ...]], pads: Pairs) -> Any:
    """For each offset, where the maximum y of the window is found there for the first time (NaN counts as
    largest), not in the padding.
    """
    free = inside = None
    nan, padded = xp.isdtype(v.dtype, "real floating"), any(lo or hi for lo, hi in pads)
    # elsewhere reading a value would wait for the device
    if xp.values_are_cheap_to_read and xp.eager and 0 not in y.shape:
        least = xp.min(y)
        nan = nan and bool(least != least)
        padded = padded and (nan or bool(least == _lowest(xp, v.dtype)))  # else the padding never wins
    if padded:
        spatial = tuple(
            n - lo - hi for n, (lo, hi) in zip(v.shape[len(v.shape) - len(pads) :], pads, strict=True)
        )
        inside = _extend(xp, xp.ones(spatial, dtype=xp.bool, device=_device(xp, v)), pads, False)
    for key in keys:
        part = v[key]
        hit = part == y
        if nan:
            hit = xp.logical_or(hit, xp.isnan(part))
        if inside is not None:
            hit = xp.logical_and(hit, inside[key[len(key) - len(pads) :]])
        if free is None:
            free = xp.logical_not(hit)
        else:
            hit = xp.logical_and(hit, free)
            free = xp.logical_and(free, xp.logical_not(hit))
        yield key, hit


@primitive
def max_pool_spread(
    xp: Backend,
    g: Array,
    x: Array,
    top: Array,
    *,
    out: Ints,
    kernel: Ints,
    stride: Ints,
    pads: Pairs,
    dilation: Ints,
) -> Array:
    """Each g at the place of the maximum `top` of its window of x: the transpose of `max_pool_pick` in g."""
    v = _extend(xp, x, pads, _lowest(xp, x.dtype))
    gx = xp.zeros_like(v, dtype=g.dtype)
    nothing = xp.zeros((), dtype=g.dtype, device=_device(xp, g))
    disjoint = all(s >= d * (k - 1) + 1 for s, d, k in zip(stride, dilation, kernel, strict=True))
    for key, hit in _hits(xp, v, top, _slices(v, out, kernel, stride, dilation), pads):
        part = xp.where(hit, g, nothing)
        if disjoint:  # windows that do not overlap write each place once
            gx[key] = part
        else:
            gx[key] += part
    return _cut(gx, pads, tuple(x.shape[len(x.shape) - len(kernel) :]))


@primitive
def max_pool_pick(
    xp: Backend,
    z: Array,
    x: Array,
    top: Array,
    *,
    out: Ints,
    kernel: Ints,
    stride: Ints,
    pads: Pairs,
    dilation: Ints,
) -> Array:
    """The elements of z at the places of the maxima `top` of the windows of x."""
    v = _extend(xp, x, pads, _lowest(xp, x.dtype))
    z = _extend(xp, z, pads, 0.0)
    picked = xp.zeros_like(top, dtype=z.dtype)
    for key, hit in _hits(xp, v, top, _slices(v, out, kernel, stride, dilation), pads):
        picked = xp.where(hit, z[key], picked)
    return picked


def _window_options(out: Ints, kernel: Ints, stride: Ints, pads: Pairs, dilation: Ints) -> dict[str, Any]:
    return {"out": out, "kernel": kernel, "stride": stride, "pads": pads, "dilation": dilation}


_max_pool.vjp(
    x=lambda g, x, y, out, kernel, stride, pads, dilation: max_pool_spread(
        g, x, y, **_window_options(out, kernel, stride, pads, dilation)
    )
)
# the places of the maxima are piecewise constant in x: no gradient flows through them
max_pool_spread.vjp(
    g=lambda h, x, top, out, kernel, stride, pads, dilation: max_pool_pick(
        h, x, top, **_window_options(out, kernel, stride, pads, dilation)
    ),
    x=lambda h: None,
    top=lambda h: None,
)
max_pool_pick.vjp(
    z=lambda g, x, top, out, kernel, stride, pads, dilation: max_pool_spread(
        g, x, top, **_window_options(out, kernel, stride, pads, dilation)
    ),
    x=lambda g: None,
    top=lambda g: None,
)


@primitive
def max_pool_index(
    xp: Backend, x: Array, y: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, dilation: Ints
) -> Array:
    """Where the maxima are: flat positions in the (unpadded) last axes of x, int64."""
    v = _extend(xp, x, pads, _lowest(xp, x.dtype))
    device = _device(xp, x)
    spatial = tuple(x.shape[len(x.shape) - len(kernel) :])
    steps = [math.prod(spatial[i + 1 :]) for i in range(len(spatial))]
    base = xp.zeros((1,) * len(kernel), dtype=xp.int64, device=device)
    for i, (o, s, (lo, _), step) in enumerate(zip(out, stride, pads, steps, strict=True)):
        at = (xp.arange(o, dtype=xp.int64, device=device) * s - lo) * step
        base = base + xp.reshape(at, tuple(-1 if j == i else 1 for j in range(len(kernel))))
    index = xp.zeros(y.shape, dtype=xp.int64, device=device)
    offsets = itertools.product(
        *(range(0, k * d * step, d * step) for k, d, step in zip(kernel, dilation, steps, strict=True))
    )
    for offset, (_, hit) in zip(
        offsets, _hits(xp, v, y, _slices(v, out, kernel, stride, dilation), pads), strict=True
    ):
        index = xp.where(hit, base + sum(offset), index)
    return index


max_pool_index.piecewise_constant()


# ----- sums -----


@primitive
def window_sum(xp: Backend, x: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs) -> Array:
    """The sum of each window of the last axes."""
    v = _extend(xp, x, pads, 0.0)
    axes = len(kernel)
    for i in range(axes):
        spatial = tuple(v.shape[len(v.shape) - axes :])
        shape = (*spatial[:i], out[i], *spatial[i + 1 :])
        first, *rest = _slices(v, shape, *_along(i, kernel, stride))
        total = v[first]
        for n, key in enumerate(rest):
            if n == 0:
                total = total + v[key]
            else:
                total += v[key]
        v = total
    return v if any(k > 1 for k in kernel) else xp.asarray(v, copy=True)


def _along(i: int, kernel: Ints, stride: Ints) -> tuple[Ints, Ints, Ints]:
    """Kernel, stride and dilation of windows along the axis i alone."""
    ones = (1,) * len(kernel)
    return (*ones[:i], kernel[i], *ones[i + 1 :]), (*ones[:i], stride[i], *ones[i + 1 :]), ones


@primitive
def window_spread(
    xp: Backend, g: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, shape: Ints
) -> Array:
    """Each g added to all elements of its window in an array of `shape`: the transpose of `window_sum`."""
    lead = len(shape) - len(kernel)
    full = tuple(lo + n + hi for n, (lo, hi) in zip(shape[lead:], pads, strict=True))
    v = g
    for i in range(len(kernel)):
        now = tuple(v.shape)
        wide = (*now[: lead + i], full[i], *now[lead + i + 1 :])
        spread = xp.zeros(wide, dtype=g.dtype, device=_device(xp, g))
        for key in _slices(spread, now[lead:], *_along(i, kernel, stride)):
            if stride[i] >= kernel[i]:
                spread[key] = v
            else:
                spread[key] += v
        v = spread
    return _cut(v, pads, tuple(shape[lead:]))


adjoint(window_sum, window_spread)


# ----- the functions -----


@functools.lru_cache(maxsize=1024)
def _layout(
    where: str, shape: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Ints, Pairs]:
    """The number of windows along each axis of an array of this shape, and what must be added at the ends for them."""
    axes = len(kernel)
    if len(shape) < axes:
        msg = f"{where}: x must have at least {axes} axes for the kernel {kernel}, got shape {shape}"
        raise ValueError(msg)
    outs, pads = [], []
    for size, k, s, p, d in zip(shape[len(shape) - axes :], kernel, stride, padding, dilation, strict=True):
        extent = d * (k - 1) + 1
        if 2 * p > extent:
            msg = f"{where}: padding {p} must be at most half of the window's extent, {extent}"
            raise ValueError(msg)
        room = size + 2 * p - extent
        out = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (out - 1) * s >= size + p:
            out -= 1  # the last window would start in the padding on the right
        if out < 1 or (room < 0 and not ceil_mode):
            msg = (
                f"{where}: a window of extent {extent} does not fit into an axis of length {size} padded "
                f"by {p}; take a smaller kernel"
            )
            raise ValueError(msg)
        outs.append(out)
        pads.append((p, max(0, (out - 1) * s + extent - size - p)))
    return tuple(outs), tuple(pads)


def max_pool(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
    axes: int | None = None,
    where: str = "max_pool",
) -> Tensor:
    """The largest element of each window of the last axes.

    y[…, p] = max_k x[…, p·stride + k·dilation − padding], where x is −∞ outside.

    Shapes: x (…, *spatial) → (…, *out), out = ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1
    (⌈ ⌉ with `ceil_mode`). The stride is the kernel size if not given. With `return_indices` also the flat
    positions of the maxima in the last axes (int64). The first of equal elements receives the gradient.
    ValueError where no window fits.

    >>> import anynet as an
    >>> from anynet.ops.pooling import max_pool
    >>> max_pool(an.asarray([[1.0, 3.0, 2.0, 0.0]]), (2,))
    Tensor([[3., 2.]])
    """
    n = axes if axes is not None else len(kernel_size) if isinstance(kernel_size, Sequence) else 1
    kernel = spread_option(kernel_size, n, "kernel_size", where)
    steps = kernel if stride is None else spread_option(stride, n, "stride", where)
    dilation = spread_option(dilation, n, "dilation", where)
    out, pads = _layout(
        where,
        tuple(x.shape),
        kernel,
        steps,
        spread_option(padding, n, "padding", where, 0),
        dilation,
        ceil_mode,
    )
    options = _window_options(out, kernel, steps, pads, dilation)
    y = _max_pool(x, **options)
    return (y, max_pool_index(x, y, **options)) if return_indices else y  # type: ignore[return-value]


@functools.lru_cache(maxsize=1024)
def _counts(
    out: Ints, kernel: Ints, stride: Ints, padding: Ints, spatial: Ints, padded: bool
) -> tuple[tuple[int, ...], ...]:
    """How many elements the windows at each place of an axis have along it."""
    counts = []
    for o, k, s, p, size in zip(out, kernel, stride, padding, spatial, strict=True):
        low, high = (0, size + 2 * p) if padded else (p, p + size)
        counts.append(tuple([max(min(i * s + k, high) - max(i * s, low), 0) for i in range(o)]))
    return tuple(counts)


def _divisor(
    like: Any, out: Ints, kernel: Ints, stride: Ints, padding: Ints, spatial: Ints, padded: bool
) -> Any:
    """1 / (the number of elements of each window): a number where all are equal, else an array of shape
    `out`.
    """
    counts = _counts(out, kernel, stride, padding, spatial, padded)
    if all([len(set(c)) == 1 for c in counts]):
        return 1.0 / math.prod([c[0] for c in counts])
    plain = unwrap(like)
    xp = backend_of(plain)
    made = _shares if xp.eager and math.prod(out) <= _FEW else _shares.__wrapped__
    return made(xp, xp.device_of(plain), plain.dtype, counts)


_FEW = 4096
"""So many shares are kept for the next call."""


@functools.lru_cache(maxsize=64)
def _shares(xp: Backend, device: str, dtype: Any, counts: tuple[tuple[int, ...], ...]) -> Array:
    """One over the product of the counts, for each place."""
    native = xp.native_device(device)
    scale = xp.ones((1,) * len(counts), dtype=dtype, device=native)
    for i, c in enumerate(counts):
        along = xp.asarray([1.0 / n if n else math.inf for n in c], dtype=dtype, device=native)
        scale = scale * xp.reshape(along, tuple(-1 if j == i else 1 for j in range(len(counts))))
    return scale


def _floating(x: Any, where: str) -> None:
    plain = unwrap(x)
    if not backend_of(plain).isdtype(plain.dtype, ("real floating", "complex floating")):
        msg = (
            f"{where}: x must be of a floating-point dtype, got {dtypes.of(plain.dtype)}; use anynet.astype(x, "
            "anynet.float32)"
        )
        raise TypeError(msg)


def avg_pool(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    axes: int | None = None,
    where: str = "avg_pool",
) -> Tensor:
    """The mean of each window of the last axes.

    y[…, p] = (1/m) Σ_k x[…, p·stride + k − padding], m being the number of elements of the window, those of
    the padding included unless ``count_include_pad=False``, or `divisor_override`. Shapes as in `max_pool`.

    >>> import anynet as an
    >>> from anynet.ops.pooling import avg_pool
    >>> avg_pool(an.asarray([[1.0, 3.0, 2.0, 0.0]]), (2,))
    Tensor([[2., 1.]])
    """
    n = axes if axes is not None else len(kernel_size) if isinstance(kernel_size, Sequence) else 1
    kernel = spread_option(kernel_size, n, "kernel_size", where)
    steps = kernel if stride is None else spread_option(stride, n, "stride", where)
    pad = spread_option(padding, n, "padding", where, 0)
    _floating(x, where)
    out, pads = _layout(where, tuple(x.shape), kernel, steps, pad, (1,) * n, ceil_mode)
    if divisor_override is not None:
        if divisor_override == 0:
            msg = f"{where}: divisor_override must not be 0, got 0"
            raise ValueError(msg)
        scale: Any = 1.0 / divisor_override
    else:
        scale = _divisor(x, out, kernel, steps, pad, tuple(x.shape[len(x.shape) - n :]), count_include_pad)
    return window_sum(x, out=out, kernel=kernel, stride=steps, pads=pads) * scale  # type: ignore[no-any-return]


def _bins(where: str, x: Any, output_size: int | Sequence[int | None] | None, axes: int) -> tuple[Ints, Ints]:
    """(sizes of the last axes of x, sizes of the output); None keeps a size."""
    if len(x.shape) < axes:
        msg = f"{where}: x must have at least {axes} axes, got shape {tuple(x.shape)}"
        raise ValueError(msg)
    spatial = tuple(x.shape[len(x.shape) - axes :])
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * axes
    if len(given) == 1:
        given = (given[0],) * axes
    if len(given) != axes or any(o is not None and o < 1 for o in given):
        msg = (
            f"{where}: output_size must be a positive integer or {axes} of them (None keeps a size), got "
            f"{output_size!r}"
        )
        raise ValueError(msg)
    if 0 in spatial:
        msg = f"{where}: the pooled axes must not be empty, got shape {tuple(x.shape)}"
        raise ValueError(msg)
    return spatial, tuple(n if o is None else int(o) for o, n in zip(given, spatial, strict=True))


def _bin(i: int, size: int, out: int) -> tuple[int, int]:
    """Start and end of bin i when `size` elements are shared among `out` bins."""
    return i * size // out, -(-(i + 1) * size // out)


@primitive
def bin_mean(xp: Backend, x: Array, *, axis: int, n: int, out: int) -> Array:
    """The means of `out` bins, of different lengths, along an axis (counted from the end)."""
    shape = [*x.shape]
    shape[axis] = out
    y = xp.zeros(tuple(shape), dtype=x.dtype, device=_device(xp, x))
    after = (slice(None),) * (-axis - 1)
    for j in range(out):
        y[(..., j, *after)] = xp.mean(x[(..., slice(*_bin(j, n, out)), *after)], axis=axis)
    return y


@primitive
def bin_spread(xp: Backend, g: Array, *, axis: int, n: int, out: int) -> Array:
    """Each g over the length of its bin, added to all elements of it: the transpose of `bin_mean`."""
    shape = [*g.shape]
    shape[axis] = n
    x = xp.zeros(tuple(shape), dtype=g.dtype, device=_device(xp, g))
    after = (slice(None),) * (-axis - 1)
    for j in range(out):
        start, stop = _bin(j, n, out)
        x[(..., slice(start, stop), *after)] += g[(..., slice(j, j + 1), *after)] / (stop - start)
    return x


adjoint(bin_mean, bin_spread)
bin_mean.stacked = bin_spread.stacked = True


@primitive
def bin_index(xp: Backend, x: Array, *, out: Ints) -> Array:
    """Where the largest element of each bin is, NaN above all, the first of equal ones: flat positions in the last axes of x, int64."""
    lead = tuple(x.shape[: len(x.shape) - len(out)])
    spatial = tuple(x.shape[len(lead) :])
    bins = [
        [_bin(j, n, o) for j, n, o in zip(places, spatial, out, strict=True)]
        for places in itertools.product(*map(range, out))
    ]
    within = []
    for own in bins:
        part = x[(*(slice(None),) * len(lead), *(slice(a, b) for a, b in own))]
        size = math.prod(b - a for a, b in own)
        within.append(xp.argmax(xp.reshape(part, (*lead, size)), axis=-1))
    rest = xp.astype(xp.stack(within, axis=-1), xp.int64)
    index = xp.zeros_like(rest)
    for i in reversed(range(len(out))):
        begins, sizes = (
            xp.asarray(numbers, dtype=xp.int64, device=_device(xp, x))
            for numbers in ([own[i][0] for own in bins], [own[i][1] - own[i][0] for own in bins])
        )
        index = index + (rest % sizes + begins) * math.prod(spatial[i + 1 :])
        rest = rest // sizes
    return xp.reshape(index, (*lead, *out))


bin_index.piecewise_constant()


def _aligned(xp: Backend, x: Array, index: Array, axes: int) -> tuple[Array, Array, Ints]:
    """x and flat positions in its last axes with the same axes before these, and these."""
    sizes, places = tuple(x.shape[len(x.shape) - axes :]), tuple(index.shape[len(index.shape) - axes :])
    lead = broadcast_shapes(x.shape[: len(x.shape) - axes], index.shape[: len(index.shape) - axes])
    return xp.broadcast_to(x, (*lead, *sizes)), xp.broadcast_to(index, (*lead, *places)), lead


def _positions(xp: Backend, index: Array, lead: Ints, size: int) -> Array:
    """`index` as positions in the whole flattened array, of which each place of the axes `lead` has `size` elements."""
    base = xp.arange(math.prod(lead), dtype=xp.int64, device=_device(xp, index)) * size
    whole = index + xp.reshape(base, (*lead, *(1,) * (len(index.shape) - len(lead))))
    return xp.reshape(whole, (math.prod(index.shape),))


@primitive
def bin_pick(xp: Backend, z: Array, index: Array, *, spatial: Ints) -> Array:
    """The elements of z at flat positions in its last axes."""
    z, index, lead = _aligned(xp, z, index, len(spatial))
    flat = xp.reshape(z, (math.prod(z.shape),))
    return xp.reshape(xp.take(flat, _positions(xp, index, lead, math.prod(spatial)), axis=0), index.shape)


@primitive
def bin_put(xp: Backend, g: Array, index: Array, *, spatial: Ints) -> Array:
    """Each g added at its flat position in the last axes: the transpose of `bin_pick` in its first argument."""
    g, index, lead = _aligned(xp, g, index, len(spatial))
    shape = (*lead, *spatial)
    zeros = xp.zeros((math.prod(shape),), dtype=g.dtype, device=_device(xp, g))
    values = xp.reshape(g, (math.prod(g.shape),))
    at = _positions(xp, index, lead, math.prod(spatial))
    return xp.reshape(xp.index_add(zeros, at, values), shape)


bin_pick.vjp(
    z=lambda g, index, spatial: bin_put(g, index, spatial=spatial),
    index=lambda g: None,
)
bin_put.vjp(
    g=lambda h, index, spatial: bin_pick(h, index, spatial=spatial),
    index=lambda h: None,
)
bin_index.stacked = bin_pick.stacked = bin_put.stacked = True


def adaptive_avg_pool(
    x: ArrayLike,
    output_size: int | Sequence[int | None] | None,
    *,
    axes: int,
    where: str = "adaptive_avg_pool",
) -> Tensor:
    """Means over bins, so that the last `axes` axes get the size `output_size` (None keeps a size).

    Bin i of o covers the elements ⌊i·n/o⌋ … ⌈(i+1)·n/o⌉ − 1 of an axis of length n.

    >>> import anynet as an
    >>> from anynet.ops.pooling import adaptive_avg_pool
    >>> adaptive_avg_pool(an.asarray([[1.0, 2.0, 3.0]]), 2, axes=1)
    Tensor([[1.5, 2.5]])
    """
    _floating(x, where)
    spatial, out = _bins(where, x, output_size, axes)
    if all(o == 1 for o in out) and 0 not in spatial:
        return mean(x, axis=tuple(range(-axes, 0)), keepdims=True)
    if all(n % o == 0 for n, o in zip(spatial, out, strict=True)):
        kernel = tuple(n // o for n, o in zip(spatial, out, strict=True))
        return window_sum(x, out=out, kernel=kernel, stride=kernel, pads=((0, 0),) * axes) * (
            1.0 / math.prod(kernel)
        )
    for i, (n, o) in enumerate(zip(spatial, out, strict=True)):
        if n != o:
            x = bin_mean(x, axis=i - axes, n=n, out=o)
    return x  # type: ignore[return-value]


def adaptive_max_pool(
    x: ArrayLike,
    output_size: int | Sequence[int | None] | None,
    *,
    axes: int,
    return_indices: bool = False,
    where: str = "adaptive_max_pool",
) -> Tensor:
    """The largest element of each bin of `adaptive_avg_pool`; with `return_indices` also the maxima's flat
    positions.

    >>> import anynet as an
    >>> from anynet.ops.pooling import adaptive_max_pool
    >>> adaptive_max_pool(an.asarray([[1.0, 2.0, 3.0]]), 2, axes=1)
    Tensor([[2., 3.]])
    """
    spatial, out = _bins(where, x, output_size, axes)
    if all(n % o == 0 for n, o in zip(spatial, out, strict=True)):
        kernel = tuple(n // o for n, o in zip(spatial, out, strict=True))
        return max_pool(x, kernel, return_indices=return_indices, axes=axes, where=where)
    index = bin_index(x, out=out)
    y = bin_pick(x, index, spatial=spatial)
    return (y, index) if return_indices else y  # type: ignore[return-value]


def lp_pool(
    x: ArrayLike,
    norm_type: float,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    *,
    ceil_mode: bool = False,
    axes: int | None = None,
    where: str = "lp_pool",
) -> Tensor:
    """(Σ xᵖ)^{1/p} over each window of the last axes: NaN where the root of a negative sum does not exist (odd p), and
    without gradient where it is 0 and has a corner. A window that `ceil_mode` lets reach over the end counts as a whole
    one of the mean of what it holds.

    >>> import anynet as an
    >>> from anynet.ops.pooling import lp_pool
    >>> lp_pool(an.asarray([3.0, 4.0]), 2, (2,))
    Tensor([5.])
    """
    n = axes if axes is not None else len(kernel_size) if isinstance(kernel_size, Sequence) else 1
    kernel = spread_option(kernel_size, n, "kernel_size", where)
    p = float(norm_type)
    if p == 0 or not math.isfinite(p):
        msg = f"{where}: norm_type must be a finite number other than 0, got {norm_type}"
        raise ValueError(msg)
    power = x ** int(p) if p.is_integer() else x**p
    total = avg_pool(power, kernel, stride, ceil_mode=ceil_mode, axes=n, where=where) * float(
        math.prod(kernel)
    )
    if p == 1:
        return total
    none = e.equal(total, 0.0)
    return e.where(none, 0.0, e.where(none, 1.0, total) ** (1.0 / p))
