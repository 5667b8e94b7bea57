"""Softmax, its logarithm, and the logarithm of a sum of exponentials, computed without overflow."""

from __future__ import annotations

import math

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet.ops.manipulation import squeeze
from anynet.ops.reductions import sum as sum_
from anynet.ops.reductions import widely
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = ["log_softmax", "logsumexp", "softmax", "softmax_or_zero"]


@primitive(name="softmax")
def _softmax(xp: Backend, x: Array, *, axis: int) -> Array:
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    y = xp.exp(x - xp.max(x, axis=axis, keepdims=True))  # shifted by the largest: no overflow
    return y / xp.sum(y, axis=axis, keepdims=True)


_softmax.vjp(x=lambda g, y, axis: y * (g - sum_(g * y, axis=axis, keepdims=True)))


@primitive
def softmax_or_zero(xp: Backend, x: Array, *, axis: int) -> Array:
    """softmax, and 0 where all of the axis is −∞: the weights of a query whose keys are all masked."""
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    top = xp.max(x, axis=axis, keepdims=True)
    y = xp.exp(x - xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = xp.sum(y, axis=axis, keepdims=True)
    return y / xp.where(total == 0, xp.ones_like(total), total)


softmax_or_zero.vjp(x=lambda g, y, axis: y * (g - sum_(g * y, axis=axis, keepdims=True)))


@primitive(name="log_softmax")
def _log_softmax(xp: Backend, x: Array, *, axis: int) -> Array:
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    return widely(xp, _less_its_logarithm, x, axis)


def _less_its_logarithm(xp: Backend, x: Array, axis: int) -> Array:
    x = x - xp.max(x, axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))


# in float32 at least: of a likely class 1 − eʸ is small, and 16 bits would leave nothing of it
_log_softmax.vjp(x=lambda g, y, axis: g - e.exp(widened(y)) * sum_(g, axis=axis, keepdims=True))


@primitive(name="logsumexp")
def _logsumexp(xp: Backend, x: Array, *, axis: tuple[int, ...]) -> Array:
    if any(x.shape[i] == 0 for i in axis):  # ln 0
        shape = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
        return xp.full(shape, -math.inf, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    largest = float(xp.finfo(x.dtype).max)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.minimum(xp.maximum(top, -largest), largest)  # no inf − inf
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
    empty = total == 0  # all of them −∞: ln 0 without a warning
    return xp.where(
        empty, xp.full_like(top, -math.inf), xp.log(xp.where(empty, xp.ones_like(total), total)) + top
    )


_logsumexp.vjp(x=lambda g, y, x: e.softmax_share(g, x, y))


def softmax(x: ArrayLike, axis: int = -1) -> Tensor:
    """e^{x_i} / Σ_j e^{x_j} along an axis."""
    return _softmax(x, axis=axes_of(axis, len(x.shape))[0])


def log_softmax(x: ArrayLike, axis: int = -1) -> Tensor:
    """The logarithm of softmax, x − ln Σ eˣ, computed without overflow."""
    return _log_softmax(x, axis=axes_of(axis, len(x.shape))[0])


def logsumexp(x: ArrayLike, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """ln Σ eˣ along axes (None: all), computed without overflow."""
    where = axes_of(axis, len(x.shape))
    if not dtypes.of(unwrap(x).dtype).is_floating:
        x = cast_to(x, dtype=dtypes.float64)
    y = _logsumexp(x, axis=where)
    return y if keepdims else squeeze(y, axis=where)
