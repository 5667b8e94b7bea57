"""Sums, means, extremes and their gradients."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import broadcast_to, cast_to, widened
from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet.ops.creation import constant_like
from anynet.ops.indexing import getitem
from anynet.ops.manipulation import concat, flip, moveaxis, permute_dims, reshape, stack
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = [
    "all", "any", "argmax", "argmin", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff", "max", "mean",
    "min", "prod", "std", "sum", "var",
]  # fmt: skip

Axis = int | Sequence[int] | None
_max = builtins.max


def _axes(x: Any, axis: Axis) -> tuple[int, ...] | None:
    return None if axis is None else axes_of(axis, len(x.shape))


def _count(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> int:
    n = 1
    for i, length in enumerate(shape):
        if axis is None or i in axis:
            n *= length
    return n


def spread(g: ArrayLike, shape: tuple[int, ...], axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    """A reduced gradient over the shape that was reduced."""
    if not keepdims and axis is not None:
        g = reshape(g, tuple(1 if i in axis else n for i, n in enumerate(shape)))
    elif not keepdims:
        g = reshape(g, (1,) * len(shape))
    return broadcast_to(g, shape=shape)


def _keep(y: Any, shape: tuple[int, ...], axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    if keepdims:
        return y
    return reshape(y, tuple(1 if axis is None or i in axis else n for i, n in enumerate(shape)))


@primitive(name="sum")
def _sum(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, keepdims: bool, dtype: Any) -> Array:
    if dtype is not None:
        return xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtypes.native(xp, dtype))
    return xp.sum(x, axis=axis, keepdims=keepdims)


_sum.vjp(x=lambda g, x_shape, axis, keepdims: spread(g, x_shape, axis, keepdims))


def sum(x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Σ x along axes (None: all)."""
    return _sum(x, axis=_axes(x, axis), keepdims=keepdims, dtype=dtype)


@primitive(name="mean")
def _mean(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return xp.mean(x, axis=axis, keepdims=keepdims)


def _mean_rule(g: Any, x_shape: tuple[int, ...], x_dtype: Any, axis: Any, keepdims: bool) -> Any:
    n = _max(_count(x_shape, axis), 1)
    # in 16 bits the size may be infinite
    whole = axis is None and dtypes.of(x_dtype).name in ("float32", "float64")
    return spread(g / n if whole else g * (1.0 / n), x_shape, axis, keepdims)


_mean.vjp(x=_mean_rule)


def mean(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean (1/n) Σ x along axes (None: all)."""
    return _mean(x, axis=_axes(x, axis), keepdims=keepdims)


@primitive(name="var")
def _var(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, correction: float, keepdims: bool) -> Array:
    return widely(xp, _variance, x, axis, correction, keepdims)


def widely(xp: Backend, f: Any, x: Array, *options: Any) -> Array:
    """f(xp, x), taken in float32 of shorter numbers: in float16 a sum of squares and the size of x soon overflow."""
    wide = dtypes.wide(xp, x.dtype)
    return f(xp, x, *options) if wide == x.dtype else xp.astype(f(xp, xp.astype(x, wide), *options), x.dtype)


def _variance(xp: Backend, x: Array, axis: Any, correction: float, keepdims: bool) -> Array:
    if not xp.isdtype(x.dtype, "real floating"):
        return xp.var(x, axis=axis, correction=correction, keepdims=keepdims)
    far = x - xp.mean(x, axis=axis, keepdims=True)
    free = _count(x.shape, axis) - correction
    return xp.sum(far * far, axis=axis, keepdims=keepdims) / _max(free, 0)


def _var_rule(g: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    shape = tuple(x.shape)
    free = _count(shape, axis) - correction
    if free <= 0:  # the variance is nan or inf
        return e.multiply_no_nan(spread(g, shape, axis, keepdims), constant_like(x, shape, math.nan))
    return spread(g * (2.0 / free), shape, axis, keepdims) * (x - _mean(x, axis=axis, keepdims=True))


_var.vjp(x=_var_rule)


def var(x: ArrayLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance Σ (x − mean)² / (n − correction) along axes (None: all)."""
    return _var(x, axis=_axes(x, axis), correction=correction, keepdims=keepdims)


@primitive(name="std")
def _std(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, correction: float, keepdims: bool) -> Array:
    return widely(xp, _deviation, x, axis, correction, keepdims)


def _deviation(xp: Backend, x: Array, axis: Any, correction: float, keepdims: bool) -> Array:
    return xp.sqrt(_variance(xp, x, axis, correction, keepdims))


def _std_rule(g: Any, y: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    flat = e.equal(y, 0)  # a corner, like that of |x|
    half = e.where(flat, 0.0, e.divide_no_nan(g * 0.5, e.where(flat, 1.0, y)))
    return _var_rule(half, x, axis, correction, keepdims)


_std.vjp(x=_std_rule)


def std(x: ArrayLike, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation, the root of `var`. Where it is 0 (equal elements, or one) its gradient is 0, as PyTorch's.

    >>> import anynet as an
    >>> an.grad(an.std)(an.asarray([2.0, 2.0]))
    Tensor([0., 0.])
    """
    return _std(x, axis=_axes(x, axis), correction=correction, keepdims=keepdims)


# ----- extremes: ties share the gradient equally -----


@primitive(name="max")
def _max_p(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return xp.max(x, axis=axis, keepdims=keepdims)


@primitive(name="min")
def _min_p(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return xp.min(x, axis=axis, keepdims=keepdims)


def _extreme_rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    shape = tuple(x.shape)
    chosen = e.logical_or(e.equal(x, _keep(y, shape, axis, keepdims)), e.isnan(x))
    hit = cast_to(chosen, dtype=dtypes.of(unwrap(widened(g)).dtype))
    return _keep(g, shape, axis, keepdims) / _sum(hit, axis=axis, keepdims=True, dtype=None) * hit


_max_p.vjp(x=_extreme_rule)
_min_p.vjp(x=_extreme_rule)


def max(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element along axes (None: all); equal ones share the gradient, as in PyTorch's amax. A nan is taken
    for the largest, and several share the gradient too."""
    return _max_p(x, axis=_axes(x, axis), keepdims=keepdims)


def min(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element along axes (None: all), with the gradient of `max`."""
    return _min_p(x, axis=_axes(x, axis), keepdims=keepdims)


# ----- products -----


@primitive(name="prod")
def _prod(xp: Backend, x: Array, *, axis: tuple[int, ...] | None, keepdims: bool, dtype: Any) -> Array:
    if dtype is not None:
        return xp.prod(x, axis=axis, keepdims=keepdims, dtype=dtypes.native(xp, dtype))
    return xp.prod(x, axis=axis, keepdims=keepdims)


def _one(x: Any) -> Any:
    return constant_like(x, tuple(x.shape), 1)


def _prod_rule(g: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """The product of all the others: from the left times from the right, exact where elements are zero."""
    shape = tuple(x.shape)
    where = tuple(range(len(shape))) if axis is None else tuple(sorted(axis))
    rest = tuple(i for i in range(len(shape)) if i not in where)
    flat = moveaxis(x, rest, tuple(range(len(rest)))) if rest else x
    flat = reshape(flat, (*(shape[i] for i in rest), _count(shape, axis)))
    last = len(rest)
    if flat.shape[last] > 1:
        body = (slice(None),) * last
        one = _one(getitem(flat, (*body, slice(0, 1))))
        left = concat([one, _cumprod(getitem(flat, (*body, slice(None, -1))), axis=last)], axis=last)
        back = flip(flat, axis=last)
        right = flip(
            concat([one, _cumprod(getitem(back, (*body, slice(None, -1))), axis=last)], axis=last), axis=last
        )
        others = left * right
    else:
        others = _one(flat)
    order = (*rest, *where)
    others = reshape(others, tuple(shape[i] for i in order))
    inverse = tuple(order.index(i) for i in range(len(shape)))
    return e.multiply_no_nan(spread(g, shape, axis, keepdims), e.conj(permute_dims(others, inverse)))


_prod.vjp(x=_prod_rule)


def prod(x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Π x along axes (None: all)."""
    return _prod(x, axis=_axes(x, axis), keepdims=keepdims, dtype=dtype)


# ----- running sums and products -----


@primitive(name="cumulative_sum")
def _cumsum(xp: Backend, x: Array, *, axis: int, dtype: Any = None) -> Array:
    if dtype is not None:
        return xp.cumulative_sum(x, axis=axis, dtype=dtypes.native(xp, dtype))
    return xp.cumulative_sum(x, axis=axis)


_cumsum.vjp(x=lambda g, axis: flip(_cumsum(flip(g, axis=axis), axis=axis), axis=axis))


@primitive(name="cumulative_prod")
def _cumprod(xp: Backend, x: Array, *, axis: int, dtype: Any = None) -> Array:
    if dtype is not None:
        return xp.cumulative_prod(x, axis=axis, dtype=dtypes.native(xp, dtype))
    return xp.cumulative_prod(x, axis=axis)


def _cumprod_rule(g: Any, x: Any, axis: int) -> Any:
    """∂L/∂x_k = (Π_{j<k} x_j) r_k with r_k = g_k + x_{k+1} r_{k+1}: no division, so zeros are no exception."""
    n = x.shape[axis]
    if n == 0:
        return g
    before = (slice(None),) * axis

    def at(a: Any, k: int) -> Any:
        return getitem(a, (*before, k, ...))

    r = at(g, n - 1)
    rs = [r]
    for k in range(n - 2, -1, -1):
        r = at(g, k) + e.conj(at(x, k + 1)) * r
        rs.append(r)
    first = _one(getitem(x, (*before, slice(0, 1), ...)))
    left = (
        first
        if n == 1
        else concat([first, _cumprod(getitem(x, (*before, slice(0, n - 1), ...)), axis=axis)], axis=axis)
    )
    return stack(rs[::-1], axis=axis) * e.conj(left)


_cumprod.vjp(x=_cumprod_rule)


def _one_axis(x: Any, axis: int | None, what: str) -> int:
    if axis is None:
        if len(x.shape) != 1:
            msg = f"{what}: axis must be given for an array of shape {tuple(x.shape)}"
            raise ValueError(msg)
        axis = 0
    return axes_of(axis, len(x.shape))[0]


def _initial(x: Any, y: Any, axis: int, value: float) -> Any:
    shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    return concat([constant_like(y, shape, value), y], axis=axis)


def cumulative_sum(
    x: ArrayLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Running sums along an axis, beginning with 0 where `include_initial`."""
    where = _one_axis(x, axis, "cumulative_sum")
    y = _cumsum(x, axis=where, dtype=dtype)
    return _initial(x, y, where, 0) if include_initial else y


def cumulative_prod(
    x: ArrayLike, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Running products along an axis, beginning with 1 where `include_initial`."""
    where = _one_axis(x, axis, "cumulative_prod")
    y = _cumprod(x, axis=where, dtype=dtype)
    return _initial(x, y, where, 1) if include_initial else y


def diff(
    x: ArrayLike,
    /,
    *,
    axis: int = -1,
    n: int = 1,
    prepend: ArrayLike | None = None,
    append: ArrayLike | None = None,
) -> Tensor:
    """Differences of neighbours along an axis, n times (n = 0: x itself)."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        msg = f"diff: n must be an integer of at least 0, got {n!r}"
        raise ValueError(msg)
    (where,) = axes_of(axis, len(x.shape))
    parts = [p for p in (prepend, x, append) if p is not None]
    if len(parts) > 1:
        x = concat(parts, axis=where)
    before = (slice(None),) * where
    for _ in range(n):
        after, ahead = getitem(x, (*before, slice(1, None), ...)), getitem(x, (*before, slice(0, -1), ...))
        boolean = dtypes.of((x._data if isinstance(x, Tensor) else x).dtype).kind == "bool"
        x = e.not_equal(after, ahead) if boolean else after - ahead
    return x  # type: ignore[return-value]


# ----- positions and truth: piecewise constant -----


@primitive(name="argmax")
def _argmax(xp: Backend, x: Array, *, axis: int | None, keepdims: bool) -> Array:
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@primitive(name="argmin")
def _argmin(xp: Backend, x: Array, *, axis: int | None, keepdims: bool) -> Array:
    return xp.argmin(x, axis=axis, keepdims=keepdims)


@primitive(name="count_nonzero")
def _count_nonzero(xp: Backend, x: Array, *, axis: Any, keepdims: bool) -> Array:
    return xp.count_nonzero(x, axis=axis, keepdims=keepdims)


@primitive(name="all")
def _all_p(xp: Backend, x: Array, *, axis: Any, keepdims: bool) -> Array:
    return xp.all(x, axis=axis, keepdims=keepdims)


@primitive(name="any")
def _any_p(xp: Backend, x: Array, *, axis: Any, keepdims: bool) -> Array:
    return xp.any(x, axis=axis, keepdims=keepdims)


for _p in (_argmax, _argmin, _count_nonzero, _all_p, _any_p):
    _p.piecewise_constant()


def argmax(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the (first) largest element along an axis (None: of the flattened array)."""
    return _argmax(x, axis=axis, keepdims=keepdims)


def argmin(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the (first) smallest element along an axis (None: of the flattened array)."""
    return _argmin(x, axis=axis, keepdims=keepdims)


def count_nonzero(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The number of elements that are not zero."""
    return _count_nonzero(x, axis=_axes(x, axis), keepdims=keepdims)


def all(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements along axes are true (not zero)."""
    return _all_p(x, axis=_axes(x, axis), keepdims=keepdims)


def any(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element along axes is true (not zero)."""
    return _any_p(x, axis=_axes(x, axis), keepdims=keepdims)
