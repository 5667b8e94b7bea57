"""Choosing and placing elements: the largest, those at given places along an axis, windows, counts, diagonals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.primitive import primitive
from anynet.autograd.vmap import is_batched
from anynet.ops import elementwise as e
from anynet.ops import linalg
from anynet.ops.indexing import (
    along_axis,
    check_index,
    flat_positions,
    gather_rows,
    getitem,
    put_rows,
    scatter_rows,
    take,
    written,
)
from anynet.ops.manipulation import moveaxis, reshape
from anynet.ops.searching import argsort, searchsorted, taken_along_axis
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "bincount", "diag", "gather", "histogram", "scatter", "scatter_add", "sliding_windows", "topk",
]  # fmt: skip


class TopK(NamedTuple):
    """The largest elements, and where they are."""

    values: Tensor
    indices: Tensor


def topk(x: ArrayLike, k: int, /, *, axis: int = -1, largest: bool = True) -> TopK:
    """The `k` largest elements along an axis (or smallest), in order, and their indices; of equal ones the first come first.

    Gradients flow to the elements that were chosen.

    >>> import anynet as an
    >>> values, indices = an.topk(an.asarray([3.0, 1.0, 2.0]), 2)
    >>> values.tolist(), indices.tolist()
    ([3.0, 2.0], [0, 2])
    """
    (where,) = axes_of(axis, len(x.shape))
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 0 <= int(k) <= x.shape[where]:
        msg = f"topk: k must be an integer in [0, {x.shape[where]}], the length of the axis, got {k!r}"
        raise ValueError(msg)
    if is_batched(x):
        order = argsort(x, axis=where, descending=largest)
        order = getitem(order, (*(slice(None),) * where, slice(0, int(k)), ...))
        return TopK(taken_along_axis(x, order, where), order)
    plain = unwrap(x)
    first = backend_of(plain).first_in_order(plain, int(k), where, descending=largest)
    return TopK(along_axis(x, first, where), wrap(first))


def gather(x: ArrayLike, indices: ArrayLike, /, *, axis: int) -> Tensor:
    """y[…, i, …] = x[…, indices[…, i, …], …]: as `take_along_axis`, but the other axes of `indices` may be shorter than those of x.

    `indices` are not negative. The gradient adds up where an element was taken more than once.

    >>> import anynet as an
    >>> an.gather(an.asarray([[1, 2], [3, 4]]), an.asarray([[1]]), axis=1).tolist()
    [[2]]
    """
    index, where = _places("gather", x, indices, axis)
    return along_axis(x, index, where)


def scatter(x: ArrayLike, indices: ArrayLike, values: ArrayLike | complex, /, *, axis: int) -> Tensor:
    """x with y[…, indices[…, i, …], …] = values[…, i, …]: a number, or an array that is at least as long as `indices` on each axis.

    Where a place is named more than once the last value stays. Gradients flow to x where it is kept and to the values that stay.

    >>> import anynet as an
    >>> an.scatter(an.zeros((2, 3)), an.asarray([[2], [0]]), 1.0, axis=1).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    index, where = _places("scatter", x, indices, axis)
    flat, shape = flat_positions(index, where, x.shape), tuple(x.shape)
    length = math.prod(shape)
    if not hasattr(values, "shape"):
        mask = written(flat, length)
        return e.where(_like(x, backend_of(mask).reshape(mask, shape)), values, x)
    rows, kind = _part(values, index.shape, "scatter"), unwrap(x).dtype
    if unwrap(rows).dtype != kind:
        rows = cast_to(rows, dtype=kind)
    return reshape(put_rows(reshape(x, (-1,)), rows, index=flat), shape)


def scatter_add(x: ArrayLike, indices: ArrayLike, values: ArrayLike, /, *, axis: int) -> Tensor:
    """x with values[…, i, …] added to the element at indices[…, i, …] along an axis; where a place is named more than once all are added,
    always in the same order.

    >>> import anynet as an
    >>> an.scatter_add(an.zeros(3), an.asarray([0, 0, 2]), an.asarray([1.0, 2.0, 4.0]), axis=0).tolist()
    [3.0, 0.0, 4.0]
    """
    index, where = _places("scatter_add", x, indices, axis)
    flat = flat_positions(index, where, x.shape)
    added = scatter_rows(_part(values, index.shape, "scatter_add"), index=flat, shape=(math.prod(x.shape),))
    return x + reshape(added, tuple(x.shape))


@primitive
def extreme_at(xp: Backend, x: Array, values: Array, /, *, index: Array, largest: bool) -> Array:
    """The larger, or smaller, of each element of a vector x and of all values[k] with its place as index[k]."""
    order = xp.argsort(values, descending=not largest, stable=True)  # of a place the extreme comes last
    found, places = (xp.take(a, order, axis=0) for a in (values, index))
    return (xp.maximum if largest else xp.minimum)(put_rows(x, found, index=places), x)


@extreme_at.vjps("x", "values")
def _extreme_rule(g: Any, y: Any, x: Any, values: Any, index: Array) -> Any:
    """Equal ones share the gradient; those that are infinite have none."""
    y, x, values = unwrap(y), unwrap(x), unwrap(values)
    xp = backend_of(y)
    kept, given = x == y, values == xp.take(y, index, axis=0)
    share = xp.index_add(xp.astype(kept, y.dtype), index, xp.astype(given, y.dtype))
    part = g / _like(g, xp.maximum(share, xp.ones_like(share)))
    kept, given = (xp.logical_and(a, xp.isfinite(b)) for a, b in ((kept, x), (given, values)))
    return e.where(_like(g, kept), part, 0.0), e.where(_like(g, given), gather_rows(part, index=index), 0.0)


extreme_at.array_meta = ("index",)


def _places(what: str, x: Any, indices: Any, axis: int) -> tuple[Array, int]:
    """The indices as a plain array, checked, and the axis."""
    if len(indices.shape) != len(x.shape):
        msg = f"{what}: x and indices must have the same number of dimensions, got {len(x.shape)} and {len(indices.shape)}"
        raise ValueError(msg)
    (where,) = axes_of(axis, len(x.shape))
    for d, (n, most) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if d != where and n > most:
            msg = f"{what}: indices must not be longer than x but along axis {where}, got {tuple(indices.shape)} and {tuple(x.shape)}"
            raise ValueError(msg)
    return check_index(unwrap(indices), x.shape[where], what, negative=False), where


def _part(values: Any, shape: Sequence[int], what: str) -> Any:
    """Of the values as many as there are indices, flat."""
    if len(values.shape) != len(shape) or any(n > m for n, m in zip(shape, values.shape, strict=True)):
        msg = f"{what}: values must be at least as long as indices on each axis, got {tuple(values.shape)} and {tuple(shape)}"
        raise ValueError(msg)
    if tuple(values.shape) != tuple(shape):
        values = getitem(values, tuple(slice(0, n) for n in shape))
    return reshape(values, (-1,))


def _counts(length: int, like: Array) -> Array:
    xp = backend_of(like)
    return xp.zeros((length,), dtype=xp.int64, device=xp.native_device(xp.device_of(like)))


def _like(x: Any, plain: Array) -> Any:
    """A plain array as x is: of a Tensor a Tensor."""
    return wrap(plain) if isinstance(x, Tensor) else plain


def bincount(x: ArrayLike, /, weights: ArrayLike | None = None, *, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, … occurs among the integers of a 1-d array; with `weights` the sum of theirs, which has a gradient.

    The result has at least `minlength` elements, and as many as the largest number asks for.

    >>> import anynet as an
    >>> an.bincount(an.asarray([0, 2, 2])).tolist()
    [1, 0, 2]
    """
    index = unwrap(x)
    xp = backend_of(index)
    if len(index.shape) != 1 or not xp.isdtype(index.dtype, "integral"):
        msg = f"bincount: x must be a 1-d array of integers, got {dtypes.of(index.dtype)} of shape {tuple(index.shape)}"
        raise ValueError(msg)
    if isinstance(minlength, bool) or not hasattr(minlength, "__index__") or int(minlength) < 0:
        msg = f"bincount: minlength must be an integer of at least 0, got {minlength!r}"
        raise ValueError(msg)
    if weights is not None and tuple(weights.shape) != tuple(index.shape):
        msg = (
            f"bincount: weights must have the shape of x, got {tuple(weights.shape)} and {tuple(index.shape)}"
        )
        raise ValueError(msg)
    length = int(minlength)

    def check(found: Array) -> None:
        here = backend_of(found)
        least, largest = int(here.min(found)), int(here.max(found))
        if least < 0:
            msg = f"bincount: x must not be negative, got {least}"
            raise ValueError(msg)
        if largest >= length:
            msg = (
                f"bincount: in a compiled function, where shapes are fixed, x must be less than minlength={length}, got {largest}; "
                "give a minlength that is large enough"
            )
            raise ValueError(msg)

    if index.shape[0] and length and not xp.eager:
        xp.check(check, index, within=length)
    elif index.shape[0]:
        length = max(length, int(xp.max(index)) + 1)
        if int(xp.min(index)) < 0:
            check(index)
    if weights is not None:
        return scatter_rows(weights, index=index, shape=(length,))
    return wrap(xp.index_add(_counts(length, index), index, xp.ones_like(index, dtype=xp.int64)))


class Histogram(NamedTuple):
    """The number of elements between each two edges, and the edges."""

    counts: Tensor
    edges: Tensor


def histogram(
    x: ArrayLike,
    /,
    bins: int | ArrayLike = 10,
    *,
    range: tuple[float, float] | None = None,
    weights: ArrayLike | None = None,
) -> Histogram:
    """The number of elements of x (or the sum of their `weights`) in each of `bins` intervals of one width, or between given edges.

    The intervals are half-open but for the last, which has its right edge too. `range` is from the least to the largest element unless
    given; what lies outside is not counted.

    >>> import anynet as an
    >>> counts, edges = an.histogram(an.asarray([0.0, 0.1, 0.6, 1.0]), 2)
    >>> counts.tolist(), edges.tolist()
    ([2, 2], [0.0, 0.5, 1.0])

    Source: ``numpy.histogram``.
    """
    flat = reshape(x, (-1,))
    plain = unwrap(flat)
    xp = backend_of(plain)
    if not xp.isdtype(plain.dtype, "real floating"):
        plain = xp.astype(plain, xp.float64)
    if isinstance(bins, int):
        edges = _even_edges(plain, bins, range)
    else:
        edges = xp.astype(unwrap(bins), plain.dtype)
        if len(edges.shape) != 1 or edges.shape[0] < 2 or bool(xp.any(edges[1:] < edges[:-1])):
            msg = f"histogram: edges must be a 1-d array of at least two numbers that do not fall, got shape {tuple(edges.shape)}"
            raise ValueError(msg)
    n = edges.shape[0] - 1
    at = unwrap(searchsorted(edges, plain, side="right")) - 1
    at = xp.where(plain == edges[-1], n - 1, at)
    inside = (plain >= edges[0]) & (plain <= edges[-1])
    at = xp.where(inside, at, n)  # one more, which is left out
    shared = None if weights is None else reshape(weights, (-1,))
    counts = bincount(wrap(at), shared, minlength=n + 1)
    return Histogram(getitem(counts, slice(0, n)), wrap(edges))


def _even_edges(x: Array, bins: int, range: tuple[float, float] | None) -> Array:
    xp = backend_of(x)
    if isinstance(bins, bool) or bins < 1:
        msg = f"histogram: bins must be at least 1, got {bins}"
        raise ValueError(msg)
    low, high = (
        range if range is not None else (float(xp.min(x)), float(xp.max(x))) if x.shape[0] else (0.0, 1.0)
    )
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        msg = f"histogram: range must be two finite numbers, the first not the larger, got ({low}, {high})"
        raise ValueError(msg)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return xp.linspace(low, high, bins + 1, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))


def diag(x: ArrayLike, /, *, offset: int = 0) -> Tensor:
    """Of a vector the matrix that has it on a diagonal, of a matrix its diagonal, `offset` above (or, negative, below) the main one.

    >>> import anynet as an
    >>> an.diag(an.asarray([1, 2])).tolist(), an.diag(an.asarray([[1, 2], [3, 4]])).tolist()
    ([[1, 0], [0, 2]], [1, 4])
    """
    if len(x.shape) == 2:
        return linalg.diagonal(x, offset=offset)
    if len(x.shape) != 1:
        msg = f"diag: x must be a vector or a matrix, got shape {tuple(x.shape)}; for stacks of matrices: anynet.linalg.diagonal"
        raise ValueError(msg)
    n = x.shape[0] + abs(offset)
    return linalg.fill_diagonal(x, offset=offset, shape=(n, n))


def sliding_windows(x: ArrayLike, size: int, /, *, axis: int = -1, step: int = 1) -> Tensor:
    """All windows of `size` neighbours along an axis, one every `step`; the elements of each are the last axis of the result.

    >>> import anynet as an
    >>> an.sliding_windows(an.asarray([1, 2, 3, 4, 5]), 3, step=2).tolist()
    [[1, 2, 3], [3, 4, 5]]

    Source: ``torch.Tensor.unfold``.
    """
    (where,) = axes_of(axis, len(x.shape))
    if not 1 <= size <= x.shape[where] or step < 1:
        msg = f"sliding_windows: size must be in [1, {x.shape[where]}] and step at least 1, got {size} and {step}"
        raise ValueError(msg)
    plain = unwrap(x)
    xp = backend_of(plain)
    device = xp.native_device(xp.device_of(plain))
    starts = xp.arange(0, x.shape[where] - size + 1, step, device=device)
    places = xp.expand_dims(starts, axis=1) + xp.expand_dims(xp.arange(size, device=device), axis=0)
    y = take(x, _like(x, places), axis=where)
    return moveaxis(y, where + 1, -1)
