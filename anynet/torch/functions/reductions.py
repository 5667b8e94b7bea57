"""Sums, means, extremes, sorting."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet import dtypes
from anynet.nn import functional as F
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import indexing as ix
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops import searching as s
from anynet.ops import selection
from anynet.ops.linalg import matrix_norm, vector_norm
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import unwrap, wrap
from anynet.torch.functions.creation import place
from anynet.torch.promotion import RANK, as_float, prepared
from anynet.torch.table import offered
from anynet_backends import backend_of

_CUT = "of several equal elements the gradient goes to the one that the indices name"


class _Pair(NamedTuple):
    values: Any
    indices: Any


class max_return(_Pair):
    """What `max` along an axis returns."""


class min_return(_Pair):
    """What `min` along an axis returns."""


class sort_return(_Pair):
    """What `sort` returns."""


class topk_return(_Pair):
    """What `topk` returns."""


class median_return(_Pair):
    """What `median` along an axis returns."""


class kthvalue_return(_Pair):
    """What `kthvalue` returns."""


class cummax_return(_Pair):
    """What `cummax` returns."""


class cummin_return(_Pair):
    """What `cummin` returns."""


class aminmax_return(NamedTuple):
    """What `aminmax` returns."""

    min: Any
    max: Any


def _axes(dim: Any) -> Any:
    """None and an empty list are all axes."""
    return None if dim is None or (not isinstance(dim, int) and len(dim) == 0) else dim


def _floats(x: Any, what: str, dtype: Any = None) -> Any:
    if dtype is not None:
        return m.astype(x, dtype)
    if not x.dtype.is_floating:
        msg = f"{what}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. Got: {x.dtype}"
        raise RuntimeError(msg)
    return x


@offered(
    "torch.sum(x)",
    "x.sum(1)",
    "x.sum(dim=(0, 1), keepdim=True)",
    "i.sum()",
    "m.sum(-1)",
    "x.sum(0, dtype=torch.float64)",
    "x.sum(axis=1)",
)
def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    x = input if dtype is None else m.astype(input, dtype)
    if dtype is None and RANK[x.dtype.kind] < 2:
        x = m.astype(x, dtypes.int64, copy=False)
    return r.sum(x, axis=_axes(dim), keepdims=keepdim)


@offered("torch.mean(x)", "x.mean(1)", "x.mean((0, 1), keepdim=True)", "i.mean(dtype=torch.float32)")
def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return r.mean(_floats(input, "mean", dtype), axis=_axes(dim), keepdims=keepdim)


@offered("torch.prod(x)", "x.prod(1)", "i.prod(1, keepdim=True)")
def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    x = input if dtype is None else m.astype(input, dtype)
    if dtype is None and RANK[x.dtype.kind] < 2:
        x = m.astype(x, dtypes.int64, copy=False)
    return r.prod(x, axis=dim, keepdims=keepdim)


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, float]:
    if isinstance(dim, bool):  # var(x, False)
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = 1 if unbiased else 0
    return _axes(dim), 1 if correction is None else correction


def _spread(name: str, function: Callable[..., Any]) -> None:
    def call(
        input: Any,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        axis, lost = _correction(dim, unbiased, correction)
        return function(_floats(input, name), axis=axis, correction=lost, keepdims=keepdim)

    forms = (
        "torch.{0}(x)",
        "x.{0}(1)",
        "x.{0}(dim=0, unbiased=False)",
        "x.{0}(1, keepdim=True)",
        "x.{0}(0, correction=2)",
        "x.{0}(False)",
    )
    offered(*(f.format(name) for f in forms), name=name)(call)

    def with_mean(
        input: Any,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        axis, _ = _correction(dim, unbiased, correction)
        return call(input, dim, unbiased, keepdim, correction=correction), r.mean(
            input, axis=axis, keepdims=keepdim
        )

    offered(f"torch.{name}_mean(x, 1)", name=f"{name}_mean", method=False)(with_mean)


_spread("std", r.std)
_spread("var", r.var)


def _extreme(
    name: str, whole: Callable[..., Any], place: Callable[..., Any], two: Callable[..., Any], pair: Any
) -> None:
    def call(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        if hasattr(dim, "shape") and not isinstance(dim, int):
            other, dim = dim, None
        if other is not None:
            return two(*prepared(input, other))
        if dim is None:
            return whole(input)
        if not input.shape:
            return pair(input, m.astype(input * 0, dtypes.int64))
        return _picked(pair, input, place(input, axis=dim, keepdims=True), dim, keepdim)

    forms = (
        "torch.{0}(x)",
        "x.{0}(1)",
        "torch.{0}(x, 0, keepdim=True)",
        "torch.{0}(x, y)",
        "i.{0}(dim=-1)",
        "x.{0}(1)[0]",
        "x.{0}(1).values",
    )
    offered(*(f.format(name) for f in forms), name=name, differs=_CUT)(call)


_extreme("max", r.max, r.argmax, e.maximum, max_return)
_extreme("min", r.min, r.argmin, e.minimum, min_return)


@offered("torch.amax(x)", "x.amax(1)", "x.amax((0, 1), keepdim=True)")
def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return r.max(input, axis=_axes(dim), keepdims=keepdim)


@offered("torch.amin(x)", "x.amin(1)")
def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return r.min(input, axis=_axes(dim), keepdims=keepdim)


@offered("torch.aminmax(x)", "x.aminmax(dim=1)")
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    return aminmax_return(amin(input, _none(dim), keepdim), amax(input, _none(dim), keepdim))


def _none(dim: Any) -> Any:
    return () if dim is None else dim


@offered("torch.argmax(x)", "x.argmax(1)", "x.argmax(dim=-1, keepdim=True)")
def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return r.argmax(input, axis=dim, keepdims=keepdim)


@offered("torch.argmin(x)", "x.argmin(1)")
def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return r.argmin(input, axis=dim, keepdims=keepdim)


@offered("torch.all(m)", "m.all(1)", "i.all()")
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return r.all(input, axis=_axes(dim), keepdims=keepdim)


@offered("torch.any(m)", "m.any(1, keepdim=True)", "i.any(0)")
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return r.any(input, axis=_axes(dim), keepdims=keepdim)


@offered("torch.count_nonzero(i)", "i.count_nonzero(1)")
def count_nonzero(input: Any, dim: Any = None) -> Any:
    return r.count_nonzero(input, axis=_axes(dim))


@offered("torch.nansum(special)", "special.nansum(0)")
def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    x = e.where(e.isnan(input), 0.0, input) if RANK[input.dtype.kind] > 1 else input
    return sum(x, dim, keepdim, dtype=dtype)


@offered("torch.nanmean(special.clamp(-1, 1))")
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    count = sum(e.logical_not(e.isnan(input)), dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / m.astype(count, input.dtype)


@offered("torch.logsumexp(x, 1)", "x.logsumexp((0, 1), keepdim=True)")
def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    return F.logsumexp(as_float(input), dim=dim, keepdim=keepdim)


@offered(
    "torch.norm(x)",
    "x.norm()",
    "x.norm(dim=1)",
    "x.norm(1, 0)",
    "x.norm(p='fro')",
    "x.norm(float('inf'), dim=1, keepdim=True)",
)
def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    x = _floats(input, "norm", dtype)
    if p == "nuc":
        return matrix_norm(x, ord="nuc", keepdims=keepdim)
    return vector_norm(x, axis=_axes(dim), keepdims=keepdim, ord=2 if p in ("fro", None) else p)


@offered("torch.dist(x, y)", "x.dist(y, 1)")
def dist(input: Any, other: Any, p: float = 2) -> Any:
    return vector_norm(input - other, ord=p)


@offered("torch.cumsum(x, 1)", "x.cumsum(dim=0)", "i.cumsum(0)", "m.cumsum(1)", in_place=True)
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    x = input if dtype is None else m.astype(input, dtype)
    return r.cumulative_sum(
        m.astype(x, dtypes.int64, copy=False) if RANK[x.dtype.kind] < 2 and dtype is None else x, axis=dim
    )


@offered("torch.cumprod(x, 1)", "i.cumprod(0)", in_place=True)
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    x = input if dtype is None else m.astype(input, dtype)
    return r.cumulative_prod(
        m.astype(x, dtypes.int64, copy=False) if RANK[x.dtype.kind] < 2 and dtype is None else x, axis=dim
    )


@offered("torch.logcumsumexp(x, 1)")
def logcumsumexp(input: Any, dim: int) -> Any:
    rows = m.unstack(input, axis=dim)
    out = list(rows[:1])
    for row in rows[1:]:
        out.append(e.logaddexp(out[-1], row))
    return m.stack(out, axis=dim)


def _running(name: str, better: str, pair: Any) -> None:
    def call(input: Any, dim: int) -> Any:
        axis = dim % builtins.max(input.ndim, 1)
        at = _leaders(unwrap(input), axis, better)
        if not input.ndim:
            return pair(input + 0, wrap(at))
        return pair(ix.along_axis(input, at, axis), wrap(at))

    offered(f"torch.{name}(x, 1)", f"x.{name}(0).values", name=name)(call)


def _leaders(x: Any, axis: int, better: str) -> Any:
    """Where the best of all numbers up to each is along an axis, of equal ones the last; a NaN stays. Each step compares twice as many."""
    xp = backend_of(x)
    shape = tuple(x.shape)
    device = xp.native_device(xp.device_of(x))
    if not shape:
        return xp.zeros((), dtype=xp.int64, device=device)
    n = shape[axis]
    at = xp.arange(n, dtype=xp.int64, device=device)
    at = xp.broadcast_to(xp.reshape(at, tuple(-1 if k == axis else 1 for k in range(len(shape)))), shape)
    ahead = (slice(None),) * axis
    nan, step = xp.isdtype(x.dtype, "real floating"), 1
    while step < n:
        first, before, behind = (
            (*ahead, part, ...) for part in (slice(0, step), slice(0, n - step), slice(step, n))
        )
        new = x[behind] >= x[before] if better == "larger" else x[behind] <= x[before]
        if nan:
            new = xp.logical_or(new, xp.isnan(x[behind]))
        x, at = (xp.concat([v[first], xp.where(new, v[behind], v[before])], axis=axis) for v in (x, at))
        step *= 2
    return at


_running("cummax", "larger", cummax_return)
_running("cummin", "smaller", cummin_return)


@offered("torch.diff(x)", "x.diff(dim=0)", "x.diff(n=2)")
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    return r.diff(input, n=n, axis=dim, prepend=prepend, append=append)


# ----- sorting -----


@offered("torch.sort(x)", "x.sort(0, descending=True)", "torch.sort(x, dim=1).indices")
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    at = s.argsort(input, axis=dim, descending=descending)
    return sort_return(s.taken_along_axis(input, at, dim % input.ndim), at)


@offered("torch.argsort(x)", "x.argsort(0, descending=True)")
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    return s.argsort(input, axis=dim, descending=descending)


@offered("torch.msort(x)")
def msort(input: Any) -> Any:
    return s.sort(input, axis=0)


@offered("torch.topk(x, 2)", "x.topk(2, 0, largest=False)", "x.topk(k=1).values")
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return topk_return(*selection.topk(input, k, axis=dim, largest=largest))


@offered("torch.kthvalue(x, 2)", "x.kthvalue(1, 0)")
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    at = _slice(s.argsort(input, axis=dim), dim, k - 1)
    return _picked(kthvalue_return, input, at, dim, keepdim)


def _slice(x: Any, dim: int, k: int) -> Any:
    dim %= x.ndim
    return ix.getitem(x, (*(slice(None),) * dim, slice(k, k + 1), ...))


def _picked(pair: Any, x: Any, at: Any, dim: int, keepdim: bool) -> Any:
    y = s.taken_along_axis(x, at, dim % x.ndim, keepdims=keepdim)
    return pair(y, at if keepdim else m.squeeze(at, axis=dim))


@offered("torch.median(x)", "x.median(1)", "x.median(0, keepdim=True)")
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        flat = m.reshape(input, (-1,))
        return median(flat, 0).values if flat.shape[0] else r.mean(flat)
    at = _slice(s.argsort(input, axis=dim), dim, (input.shape[dim] - 1) // 2)
    if input.dtype.kind == "real":
        unknown = e.isnan(input)
        at = e.where(
            r.any(unknown, axis=dim, keepdims=True),
            r.argmax(m.astype(unknown, dtypes.int8), axis=dim, keepdims=True),
            at,
        )
    return _picked(median_return, input, at, dim, keepdim)


@offered(
    "torch.quantile(x, 0.3)",
    "x.quantile(torch.tensor([0.1, 0.9]), dim=1)",
    "torch.quantile(x, 0.5, dim=0, keepdim=True)",
)
def quantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    if interpolation != "linear":
        msg = f"quantile: interpolation must be 'linear', got {interpolation!r}"
        raise ValueError(msg)
    if dim is None:
        x = m.reshape(input, (-1,))
        shape = (1,) * input.ndim
    else:
        x = m.moveaxis(input, dim, 0)
        shape = tuple(1 if i == dim % input.ndim else n for i, n in enumerate(input.shape))
    unknown = r.any(e.isnan(x), axis=0)
    rows = s.sort(x, axis=0)
    many = hasattr(q, "shape") and len(q.shape) == 1
    levels = [float(v) for v in (q.tolist() if many else [q])]
    out = []
    for level in levels:
        at = level * (rows.shape[0] - 1)
        low = math.floor(at)
        high = builtins.min(low + 1, rows.shape[0] - 1)
        y = e.where(unknown, math.nan, rows[low] + (at - low) * (rows[high] - rows[low]))
        out.append(m.reshape(y, shape) if keepdim else y)
    return m.stack(out, axis=0) if many else out[0]


@offered(
    "torch.unique(i)",
    "torch.unique(i, return_inverse=True)",
    "torch.unique(i, return_counts=True)",
    "torch.unique(i, sorted=True)",
)
def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    if dim is not None:
        msg = "unique: dim must be None; rows are compared by anynet.unique_values of a code for each"
        raise NotImplementedError(msg)
    found = s.unique_all(input)
    out = [
        found.values,
        *([found.inverse_indices] if return_inverse else []),
        *([found.counts] if return_counts else []),
    ]
    return out[0] if len(out) == 1 else tuple(out)


@offered("torch.unique_consecutive(torch.tensor([1, 1, 2, 2, 1]))")
def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: Any = None
) -> Any:
    if dim is not None:
        msg = "unique_consecutive: dim must be None"
        raise NotImplementedError(msg)
    x = m.reshape(input, (-1,))
    new = m.concat([e.equal(x[:1], x[:1]), e.not_equal(x[1:], x[:-1])])
    number = r.cumulative_sum(m.astype(new, dtypes.int64), axis=0) - 1
    out = [
        x[new],
        *([number] if return_inverse else []),
        *([selection.bincount(number)] if return_counts else []),
    ]
    return out[0] if len(out) == 1 else tuple(out)


@offered("torch.bincount(torch.tensor([0, 2, 2]))", "torch.bincount(torch.tensor([1, 1]), minlength=4)")
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    if weights is not None and weights.dtype is not dtypes.float32:
        weights = m.astype(weights, dtypes.float64)
    return selection.bincount(input, weights, minlength=minlength)


@offered("torch.histc(x, 4)", "torch.histc(x, bins=3, min=-1, max=1)")
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    span = None if min == max == 0 else (float(min), float(max))
    return m.astype(selection.histogram(input, bins, range=span).counts, input.dtype)


@offered(
    "torch.searchsorted(torch.tensor([1., 2., 3.]), x)",
    "torch.searchsorted(torch.tensor([1., 2.]), x, right=True)",
    "torch.searchsorted(y.sort(-1).values, x)",
    "torch.searchsorted(y.sort(-1).values, y, side='right')",
    "torch.searchsorted(torch.tensor([1, 3, 3]), 3, right=True)",
    method=False,
)
def searchsorted(
    sorted_sequence: Any, input: Any, *, right: bool = False, side: str | None = None, out_int32: bool = False
) -> Any:
    side = side or ("right" if right else "left")
    if not isinstance(input, AnyTensor):
        input = c.asarray(input, dtype=sorted_sequence.dtype, device=place(sorted_sequence.device))
    if sorted_sequence.ndim > 1:  # a row for each row of the input: how many numbers come before
        if tuple(sorted_sequence.shape[:-1]) != tuple(input.shape[:-1]):
            msg = (
                "searchsorted: sorted_sequence must have one axis, or the first axes of input, got "
                f"{tuple(sorted_sequence.shape)} and {tuple(input.shape)}"
            )
            raise RuntimeError(msg)
        before = e.less_equal if side == "right" else e.less
        at = r.sum(m.astype(before(sorted_sequence[..., None, :], input[..., None]), dtypes.int64), axis=-1)
    else:
        at = s.searchsorted(sorted_sequence, input, side=side)
    return m.astype(at, dtypes.int32) if out_int32 else at


@offered("torch.bucketize(x, torch.tensor([-1., 0., 1.]))")
def bucketize(input: Any, boundaries: Any, *, right: bool = False, out_int32: bool = False) -> Any:
    return searchsorted(boundaries, input, right=right, out_int32=out_int32)


@offered("torch.isin(i, torch.tensor([1, 3]))", method=False)
def isin(elements: Any, test_elements: Any) -> Any:
    return s.isin(elements, test_elements)
