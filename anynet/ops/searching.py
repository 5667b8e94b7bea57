"""Sorting, searching and sets. Values are gathered, so they are differentiable; positions are piecewise constant."""

from __future__ import annotations

from typing import Any, NamedTuple

from anynet.autograd.primitive import primitive
from anynet.autograd.vmap import is_batched
from anynet.ops.indexing import along_axis, take, take_along_axis
from anynet.ops.manipulation import reshape, squeeze
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "argsort", "isin", "nonzero", "searchsorted", "sort", "unique_all", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip


@primitive(name="argsort")
def _argsort(xp: Backend, x: Array, *, axis: int, descending: bool, stable: bool) -> Array:
    return xp.argsort(x, axis=axis, descending=descending, stable=stable)


_argsort.piecewise_constant()


def argsort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along an axis."""
    return _argsort(x, axis=axes_of(axis, len(x.shape))[0], descending=descending, stable=stable)


def sort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """x sorted along an axis; the gradient goes back to where each element came from."""
    (where,) = axes_of(axis, len(x.shape))
    order = _argsort(x, axis=where, descending=descending, stable=stable)
    return taken_along_axis(x, order, where)


def taken_along_axis(x: ArrayLike, indices: ArrayLike, where: int, *, keepdims: bool = True) -> Tensor:
    """`take_along_axis` at indices that a search has given, so that they need no check; without `keepdims` at one for each place of the
    other axes, which the result has."""
    if is_batched(indices):
        y = take_along_axis(x, indices, axis=where)
        return y if keepdims else squeeze(y, axis=where)
    return along_axis(x, unwrap(indices), where, keepdims=keepdims)


@primitive(name="searchsorted")
def _searchsorted(xp: Backend, x1: Array, x2: Array, /, *, side: str) -> Array:
    return xp.searchsorted(x1, x2, side=side)


_searchsorted.piecewise_constant()


def searchsorted(
    x1: ArrayLike, x2: ArrayLike, /, *, side: str = "left", sorter: ArrayLike | None = None
) -> Tensor:
    """The position at which each x2 belongs in the sorted 1-d x1 (before equal ones with side='left', after with 'right')."""
    if side not in ("left", "right"):
        msg = f"searchsorted: side must be 'left' or 'right', got {side!r}"
        raise ValueError(msg)
    if sorter is not None:
        x1 = take(x1, sorter, axis=0)
    if not hasattr(x2, "shape"):
        plain = unwrap(x1)
        xp = backend_of(plain)
        x2 = wrap(xp.asarray(x2, dtype=plain.dtype, device=plain.device))
    return _searchsorted(x1, x2, side=side)


@primitive(name="isin")
def _isin(xp: Backend, x1: Array, x2: Array, /, *, invert: bool) -> Array:
    return xp.isin(x1, x2, invert=invert)


_isin.piecewise_constant()


def isin(x1: ArrayLike, x2: ArrayLike, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among those of x2."""
    return _isin(x1, x2, invert=invert)


def nonzero(x: ArrayLike, /) -> tuple[Tensor, ...]:
    """The indices of the elements that are not zero, one array a dimension."""
    plain = unwrap(x)
    found = backend_of(plain).nonzero(plain)
    return tuple(wrap(i) for i in found) if isinstance(x, Tensor) else tuple(found)


class UniqueAll(NamedTuple):
    """What `unique_all` returns."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """What `unique_counts` returns."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """What `unique_inverse` returns."""

    values: Any
    inverse_indices: Any


def unique_all(x: ArrayLike, /) -> UniqueAll:
    """The distinct elements, the first position of each, which one each element is, and how often each occurs.

    The values are gathered from x, so a gradient goes back to the first of each.
    """
    plain = unwrap(x)
    values, indices, inverse, counts = backend_of(plain).unique_all(plain)
    if not isinstance(x, Tensor):
        return UniqueAll(values, indices, inverse, counts)
    out = wrap(values) if x.edge is None else take(reshape(x, (-1,)), wrap(indices), axis=0)
    return UniqueAll(out, wrap(indices), wrap(inverse), wrap(counts))


def unique_counts(x: ArrayLike, /) -> UniqueCounts:
    """The different elements, and how many there are of each."""
    if isinstance(x, Tensor) and x.edge is None:
        return UniqueCounts(*(wrap(a) for a in backend_of(x._data).unique_counts(x._data)))
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: ArrayLike, /) -> UniqueInverse:
    """The different elements, and which of them each element is."""
    if isinstance(x, Tensor) and x.edge is None:
        return UniqueInverse(*(wrap(a) for a in backend_of(x._data).unique_inverse(x._data)))
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: ArrayLike, /) -> Tensor:
    """The different elements."""
    if isinstance(x, Tensor) and x.edge is None:
        return wrap(backend_of(x._data).unique_values(x._data))
    return unique_all(x).values  # type: ignore[no-any-return]
