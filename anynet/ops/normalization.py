"""Normalisation over a set of axes: batch, layer and group normalisation are one primitive.

With m elements in each group, mean μ and variance σ² (divided by m):

    x̂ = (x − μ) / √(σ² + ε),    y = γ x̂ + β

and with ĝ = γ ∂L/∂y the gradient, written out once instead of through μ and σ²,

    ∂L/∂x = (ĝ − mean(ĝ) − x̂ · mean(ĝ x̂)) / √(σ² + ε),    ∂L/∂γ = Σ x̂ ∂L/∂y,    ∂L/∂β = Σ ∂L/∂y

Source: Ioffe, Szegedy: Batch normalization (2015), section 3; Ba, Kiros, Hinton: Layer normalization (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.autograd.primitive import kernels_on, primitive
from anynet.ops.collectives import all_sum
from anynet.ops.elementwise import sqrt
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import mean as mean_
from anynet.ops.reductions import sum as sum_
from anynet.ops.shapes import as_shape
from anynet.ops.slicing import put
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "batch_norm", "batch_norm_over", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm",
]  # fmt: skip

Ints = tuple[int, ...]


@primitive(has_aux=True)
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: Ints,
    eps: float,
    shape: Ints,
    split: Ints = (),
    centred: bool = True,
) -> tuple[Array, Array, Array]:
    """(y, mean, variance); `axes` share their statistics, `weight` and `bias` are reshaped to `shape`. With `split`, axes and shape
    are those of x in this shape. Not `centred`, the mean counts as 0, and the variance is the mean of squares.

    The statistics keep the axes with length 1. They are for the running averages and the gradient rule.
    """
    wide = dtypes.wide(xp, x.dtype)
    v = x if x.dtype == wide else xp.astype(x, wide)
    v = xp.reshape(v, split) if split else v
    mean = xp.mean(v, axis=axes, keepdims=True)
    mean = mean if centred else xp.zeros_like(mean)
    v = v - mean if centred else v
    variance = xp.mean(v * v, axis=axes, keepdims=True)
    rate = 1.0 / xp.sqrt(variance + eps)
    y = v * (rate if weight is None else rate * xp.reshape(weight, shape))
    if bias is not None:
        y = y + xp.reshape(bias, shape)
    y = xp.reshape(y, x.shape) if split else y
    return (y if y.dtype == x.dtype else xp.astype(y, x.dtype)), mean, variance


@normalize.vjps("x", "weight", "bias")
def _normalize_rule(
    g: Any, need: tuple[bool, ...], aux: Any, x: Any, weight: Any, weight_shape: Ints, bias_shape: Ints,
    axes: Ints, eps: float, shape: Ints, split: Ints, centred: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    (mean, variance), whole = aux, tuple(x.shape)
    if split:
        g, x = reshape(g, split), reshape(x, split)
    wide = dtypes.of(unwrap(mean).dtype)
    if dtypes.of(unwrap(x).dtype) is not wide:
        g, x = cast_to(g, dtype=wide), cast_to(x, dtype=wide)
    if isinstance(x, Tensor) and x.requires_grad:  # differentiated again: the statistics as functions of x
        x = x - mean_(x, axis=axes, keepdims=True) if centred else x
        variance = mean_(x * x, axis=axes, keepdims=True)
    elif centred:
        x = x - mean
    rate = 1.0 / sqrt(variance + eps)
    normal = x * rate
    gx = gw = gb = None
    shared = tuple(i for i, n in enumerate(shape) if n == 1)
    if need[1]:
        gw = reshape(sum_(g * normal, axis=shared), weight_shape)
    if need[2]:
        gb = reshape(sum_(g, axis=shared), bias_shape)
    if need[0]:
        if weight is not None:
            g = g * reshape(weight, shape)
        inner = g - mean_(g, axis=axes, keepdims=True) if centred else g
        gx = (inner - normal * mean_(g * normal, axis=axes, keepdims=True)) * rate
        gx = reshape(gx, whole) if split else gx
    return gx, gw, gb


@primitive
def normalize_by(
    xp: Backend,
    x: Array,
    mean: Array,
    variance: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float,
) -> Array:
    """(x − mean) / √(variance + ε) · weight + bias with given statistics for each channel (axis 1), as x · scale + shift."""
    shape = (1, x.shape[1], *(1,) * (len(x.shape) - 2))
    scale = 1.0 / xp.sqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    y = x * xp.reshape(scale, shape) + xp.reshape(shift, shape)
    return y if y.dtype == x.dtype else xp.astype(y, x.dtype)


@normalize_by.vjps("x", "mean", "variance", "weight", "bias")
def _normalize_by_rule(
    g: Any, need: tuple[bool, ...], x: Any, mean: Any, variance: Any, weight: Any, eps: float
) -> tuple[Any, ...]:
    shape = (1, x.shape[1], *(1,) * (len(x.shape) - 2))
    others = (0, *range(2, len(x.shape)))
    rate = 1.0 / sqrt(variance + eps)
    scale = rate if weight is None else rate * weight
    gx = g * reshape(scale, shape) if need[0] else None
    total: Any = sum_(g, axis=others) if need[1] or need[4] else None
    product = sum_(g * (x - reshape(mean, shape)), axis=others) if need[2] or need[3] else None
    return (
        gx,
        -total * scale if need[1] else None,
        product * scale * (rate * rate * -0.5) if need[2] else None,
        product * rate if need[3] else None,
        total if need[4] else None,
    )


# ----- the functions -----


def _per_channel(where: str, name: str, a: Any, shape: Ints) -> None:
    if a is not None and tuple(a.shape) != shape:
        msg = f"{where}: {name} must have shape {shape}, got {tuple(a.shape)}"
        raise ValueError(msg)


def _floating(where: str, x: Any) -> None:
    plain = unwrap(x)
    if not backend_of(plain).isdtype(plain.dtype, "real floating"):
        msg = (
            f"{where}: x must be of a real floating-point dtype, got {plain.dtype}; use anynet.astype(x, "
            "anynet.float32)"
        )
        raise TypeError(msg)


def _apply(
    x: Any,
    weight: Any,
    bias: Any,
    axes: Ints,
    eps: float,
    shape: Ints,
    split: Ints = (),
    centred: bool = True,
) -> tuple[Tensor, Any, Any]:
    arrays = (x,) if weight is None and bias is None else (x, weight) if bias is None else (x, weight, bias)
    return normalize(*arrays, axes=axes, eps=eps, shape=shape, split=split, centred=centred)  # type: ignore[return-value]


def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    batches: Tensor | None = None,
) -> Tensor:
    """Normalise each channel (axis 1) of x over the batch and all places, then scale and shift it.

    y = γ (x − μ) / √(σ² + ε) + β

    In training μ and σ² are those of x, and the running statistics, where given, are updated in place:
    running ← (1 − momentum) · running + momentum · new, with the variance divided by m − 1. Otherwise they
    are the running statistics. Statistics of float16 are taken in float32. `batches`, an int64, is one more after a batch in training.

    Shapes: x (n, c, …) → the same; all others (c,). ValueError where training has a single value per channel.

    >>> import anynet as an
    >>> from anynet.ops.normalization import batch_norm
    >>> batch_norm(an.asarray([[1.0], [3.0]]), training=True, eps=0.0)
    Tensor([[-1.],
            [ 1.]])
    """
    where = "batch_norm"
    _floating(where, x)
    if len(x.shape) < 2:
        msg = f"{where}: x must have shape (batch, channels, …), got {tuple(x.shape)}"
        raise ValueError(msg)
    channels = x.shape[1]
    for name, a in (
        ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias),
    ):  # fmt: skip
        _per_channel(where, name, a, (channels,))
    shape = (1, channels, *(1,) * (len(x.shape) - 2))
    if not training:
        if running_mean is None or running_var is None:
            msg = f"{where}: running_mean and running_var must be given where training is False"
            raise ValueError(msg)
        given = (
            (x, running_mean, running_var, weight)
            if bias is None
            else (x, running_mean, running_var, weight, bias)
        )
        return normalize_by(*given, eps=eps)
    count = math.prod(x.shape) // channels if channels else 0
    if count == 1:
        msg = (
            f"{where}: training needs more than one value per channel, x has shape {tuple(x.shape)}; use "
            "a larger batch"
        )
        raise ValueError(msg)
    axes = (0, *range(2, len(x.shape)))
    y, mean, variance = _apply(x, weight, bias, axes, eps, shape)
    _track_both((running_mean, running_var), (mean, variance), momentum, count, batches)
    return y


def batch_norm_over(
    group: Any,
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    momentum: float,
    eps: float,
    batches: Tensor | None = None,
) -> Tensor:
    """`batch_norm` in training, with the statistics of the batches of all processes of `group` (see `all_sum`).

    The squares are added up around the common mean: a message more, and no digits lost.
    """
    _floating("sync_batch_norm", x)
    channels = x.shape[1]
    axes, shape = (0, *range(2, len(x.shape))), (1, channels, *(1,) * (len(x.shape) - 2))
    plain = unwrap(x)
    v = widened(x)
    total = all_sum(sum_(v, axis=axes), group=group)
    n = int(group.allreduce(math.prod(x.shape) // (channels or 1)))
    if n < 2:
        msg = f"sync_batch_norm: training needs more than one value per channel, all processes together have {n}; use larger batches"
        raise ValueError(msg)
    mean = reshape(total, shape) / n
    centred = v - mean
    variance = all_sum(sum_(centred * centred, axis=axes), group=group) / n
    y = centred / sqrt(reshape(variance, shape) + eps)
    if weight is not None:
        y = y * reshape(weight, shape)
    if bias is not None:
        y = y + reshape(bias, shape)
    _track_both((running_mean, running_var), (mean, variance), momentum, n, batches)
    return y if unwrap(y).dtype == plain.dtype else cast_to(y, dtype=dtypes.of(plain.dtype))


def _track_both(
    running: tuple[Any, Any], new: tuple[Any, Any], momentum: float, n: int, batches: Tensor | None
) -> None:
    """`_track` of mean and variance of n numbers, the latter by n − 1, and a batch more counted: one operation where the backend has it."""
    factor = n / (n - 1)
    values = [unwrap(a) for a in new]
    xp = backend_of(values[0])
    written = running if batches is None else (*running, batches)
    if (
        n and kernels_on()
        and all(r is not None and not (isinstance(r, Tensor) and r.edge is not None) for r in written)
        and xp.move_averages(
            [unwrap(r) for r in running], values, 1.0 - momentum, (momentum, momentum * factor),
            None if batches is None else unwrap(batches),
        )
    ):  # fmt: skip
        return
    if n:
        _track(running[0], values[0], momentum, 1.0)
        _track(running[1], values[1], momentum, factor)
    if batches is not None:
        batches.assign_(batches.detach() + 1)


def _track(running: Any, new: Array, momentum: float, factor: float) -> None:
    """running ← (1 − momentum) · running + momentum · factor · new, in place."""
    if running is None:
        return
    xp = backend_of(new)
    old = xp.target(unwrap(running))
    new = xp.astype(xp.reshape(new, old.shape), old.dtype, copy=False)
    value = old * (1.0 - momentum) + new * (momentum * factor)
    if isinstance(running, Tensor):
        running.assign_(value)
    else:
        old[...] = value


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise x over its last axes, those of `normalized_shape`, then scale and shift each element.

    Shapes: x (…, *normalized_shape) → the same; weight and bias have normalized_shape. ValueError where they
    differ.

    >>> import anynet as an
    >>> from anynet.ops.normalization import layer_norm
    >>> layer_norm(an.asarray([[1.0, 3.0]]), 2, eps=0.0)
    Tensor([[-1.,  1.]])
    """
    where = "layer_norm"
    _floating(where, x)
    last = as_shape(normalized_shape)
    ndim = len(x.shape)
    if not last or tuple(x.shape[ndim - len(last) :]) != last:
        msg = f"{where}: the last axes of x must be normalized_shape {last}, x has shape {tuple(x.shape)}"
        raise ValueError(msg)
    _per_channel(where, "weight", weight, last)
    _per_channel(where, "bias", bias, last)
    lead = ndim - len(last)
    return _apply(x, weight, bias, tuple(range(lead, ndim)), eps, (*(1,) * lead, *last))[0]


def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each of `num_groups` groups of channels (axis 1) of each sample, then scale and shift each
    channel.

    Shapes: x (n, c, …) → the same; weight and bias (c,). ValueError where num_groups does not divide c.

    >>> import anynet as an
    >>> from anynet.ops.normalization import group_norm
    >>> group_norm(an.asarray([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0)
    Tensor([[-1.,  1., -1.,  1.]])

    Source: Wu, He: Group normalization (2018).
    """
    where = "group_norm"
    _floating(where, x)
    shape = tuple(x.shape)
    if len(shape) < 2 or num_groups < 1 or shape[1] % num_groups:
        msg = (
            f"{where}: num_groups={num_groups} must divide the channels (axis 1) of x, which has shape "
            f"{shape}"
        )
        raise ValueError(msg)
    channels = shape[1]
    _per_channel(where, "weight", weight, (channels,))
    _per_channel(where, "bias", bias, (channels,))
    groups = (num_groups, channels // num_groups)
    axes = tuple(range(2, len(shape) + 1))
    per_channel = (1, *groups, *(1,) * (len(shape) - 2))
    return _apply(x, weight, bias, axes, eps, per_channel, (shape[0], *groups, *shape[2:]))[0]


def instance_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel (axis 1) of each sample over its places, then scale and shift each channel.

    The running statistics, where given, follow the averages over the batch, as in `batch_norm`; with
    ``use_input_stats=False`` they are what x is normalised by.

    Shapes: x (n, c, …) → the same; all others (c,).

    >>> import anynet as an
    >>> from anynet.ops.normalization import instance_norm
    >>> instance_norm(an.asarray([[[1.0, 3.0], [5.0, 9.0]]]), eps=0.0)
    Tensor([[[-1.,  1.],
             [-1.,  1.]]])

    Source: Ulyanov, Vedaldi, Lempitsky: Instance normalization (2016).
    """
    where = "instance_norm"
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    _floating(where, x)
    shape = tuple(x.shape)
    if len(shape) < 3:
        msg = f"{where}: x must have shape (batch, channels, places, …), got {shape}"
        raise ValueError(msg)
    for name, a in (
        ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias),
    ):  # fmt: skip
        _per_channel(where, name, a, (shape[1],))
    count = math.prod(shape[2:])
    if count == 1:
        msg = f"{where}: needs more than one value per channel and sample, x has shape {shape}"
        raise ValueError(msg)
    axes = tuple(range(2, len(shape)))
    y, mean, variance = _apply(x, weight, bias, axes, eps, (1, shape[1], *(1,) * len(axes)))
    if count and shape[0]:
        for running, new, factor in ((running_mean, mean, 1.0), (running_var, variance, count / (count - 1))):
            if running is not None:
                plain = unwrap(new)
                _track(running, backend_of(plain).mean(plain, axis=0), momentum, factor)
    return y


def rms_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / √(mean x² + ε) · γ, the mean over the axes of `normalized_shape`; ε is the dtype's unless given.

    >>> import anynet as an
    >>> from anynet.ops.normalization import rms_norm
    >>> rms_norm(an.asarray([3.0, 4.0]), 2, eps=0.0)
    Tensor([0.84852815, 1.1313709 ])

    Source: Zhang, Sennrich: Root mean square layer normalization (2019).
    """
    where = "rms_norm"
    _floating(where, x)
    last = as_shape(normalized_shape)
    ndim = len(x.shape)
    if not last or tuple(x.shape[ndim - len(last) :]) != last:
        msg = f"{where}: the last axes of x must be normalized_shape {last}, x has shape {tuple(x.shape)}"
        raise ValueError(msg)
    _per_channel(where, "weight", weight, last)
    axes = tuple(range(ndim - len(last), ndim))
    plain = unwrap(x)
    small = float(backend_of(plain).finfo(plain.dtype).eps) if eps is None else eps
    if weight is not None and unwrap(weight).dtype != plain.dtype:  # the dtypes are promoted
        return _apply(x, None, None, axes, small, (), centred=False)[0] * weight
    return _apply(x, weight, None, axes, small, (*(1,) * axes[0], *last), centred=False)[0]


def local_response_norm(
    x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + α · (mean of x² over `size` neighbouring channels, zeros beyond the ends))^β.

    >>> import anynet as an
    >>> from anynet.ops.normalization import local_response_norm
    >>> local_response_norm(an.ones((1, 3, 2)), 1, alpha=3.0, beta=0.5).tolist()[0][0]
    [0.5, 0.5]

    Source: Krizhevsky, Sutskever, Hinton: ImageNet classification with deep networks (2012).
    """
    if len(x.shape) < 3 or size < 1:
        msg = f"local_response_norm: x must be (batch, channels, places, …) and size ≥ 1, got {tuple(x.shape)} and {size}"
        raise ValueError(msg)
    channels = x.shape[1]
    lo, hi = size // 2, (size - 1) // 2
    padded = put(x * x, key=(slice(None), slice(lo, lo + channels), *(slice(None),) * (len(x.shape) - 2)),
                 shape=(x.shape[0], channels + lo + hi, *x.shape[2:]))  # fmt: skip
    total = None
    for i in range(size):
        part = padded[(slice(None), slice(i, i + channels), *(slice(None),) * (len(x.shape) - 2))]
        total = part if total is None else total + part
    return x / (total * (alpha / size) + k) ** beta  # type: ignore[operator]
