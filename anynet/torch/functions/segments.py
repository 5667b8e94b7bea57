"""Reductions of numbers that share a place: scatter_reduce, index_reduce, segment_reduce."""

from __future__ import annotations

import math
from typing import Any, Final

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import indexing as ix
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops import searching as s
from anynet.ops import selection
from anynet.ops.data_types import iinfo
from anynet.tensor import wrap
from anynet.torch.functions.creation import place
from anynet.torch.table import offered

_KINDS: Final = ("sum", "prod", "mean", "amax", "amin")


def _places(index: Any, axis: int, shape: tuple[int, ...]) -> Any:
    """Where each number of the source goes, counted through the flat input."""
    return wrap(ix.flat_positions((index % shape[axis])._data, axis, shape))


def _products(start: Any, axis: int, index: Any, src: Any) -> Any:
    """Each place of `start` times the numbers that it receives: neighbours of one place are multiplied until one is left, so that the
    gradient is that of products, at zeros too."""
    places, values = _places(index, axis, start.shape), m.reshape(src, (-1,))
    order = s.argsort(places, stable=True)
    places, values = places[order], ix.take(values, order, axis=0)
    while True:
        n = places.shape[0]
        rank = c.arange(n, dtype=dtypes.int64, device=place(places.device)) - s.searchsorted(places, places)
        if not bool(r.any(e.greater(rank, 0))):
            break
        left = s.nonzero(e.equal(rank % 2, 0))[0]
        right = e.minimum(left + 1, n - 1)
        paired = e.greater(right, left) & e.equal(places[right], places[left])
        values = ix.take(values, left, axis=0) * e.where(paired, ix.take(values, right, axis=0), 1)
        places = places[left]
    flat = m.reshape(start, (-1,))
    return m.reshape(
        selection.scatter(flat, places, ix.take(flat, places, axis=0) * values, axis=0), start.shape
    )


_IDENTITY: Final = {"sum": 0, "mean": 0, "prod": 1}


def _least(dtype: Any, largest: bool) -> Any:
    """What every number of a dtype is at least, or at most."""
    if dtype.is_floating:
        return -math.inf if largest else math.inf
    found = iinfo(dtype)
    return found.min if largest else found.max


@offered(
    "x.scatter_reduce(1, i, y, 'sum')", "x.scatter_reduce(1, i, y, 'mean')", "x.scatter_reduce(1, i, y, 'sum', include_self=False)",
    "x.scatter_reduce(1, i, y, 'amax')", "x.scatter_reduce(1, i, y, 'prod')",
    "x.scatter_reduce(0, i % 2, y, 'prod', include_self=False)",
    "torch.ones(3, 4, dtype=torch.int64).scatter_reduce(1, i, i + 1, 'prod')",
    in_place=True, differs="equal extremes share the gradient",
)  # fmt: skip
def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    if reduce not in _KINDS:
        msg = f"scatter_reduce: reduce must be one of {', '.join(map(repr, _KINDS))}, got {reduce!r}"
        raise RuntimeError(msg)
    axis = dim % input.ndim
    if src.shape != index.shape:
        src = src[tuple(slice(0, n) for n in index.shape)]
    start: Any = input
    count: Any = None
    if reduce == "mean" or not include_self:
        ones = c.ones(tuple(index.shape), dtype=input.dtype, device=str(input.device))
        count = selection.scatter_add(c.zeros_like(input), index, ones, axis=axis)
    if not include_self:
        nothing = _IDENTITY[reduce] if reduce in _IDENTITY else _least(input.dtype, reduce == "amax")
        start = e.where(e.greater(count, 0), nothing, input)
    if reduce in ("amax", "amin"):
        places = ix.flat_positions((index % input.shape[axis])._data, axis, input.shape)
        flat = (m.reshape(x, (-1,)) for x in (start, src))
        return m.reshape(selection.extreme_at(*flat, index=places, largest=reduce == "amax"), input.shape)
    if reduce == "prod":
        return _products(start, axis, index, src)
    total = selection.scatter_add(start, index, src, axis=axis)
    if reduce == "sum":
        return total
    n = count + 1 if include_self else e.maximum(count, 1)
    return total / n if input.dtype.is_floating else e.floor_divide(total, n)


@offered(
    "x.index_reduce(0, torch.tensor([0, 2, 0]), y, 'prod')",
    "x.index_reduce(1, torch.tensor([1, 1]), y[:, :2], 'mean', include_self=False)",
    "x.index_reduce(1, torch.tensor([3, 0]), y[:, :2], 'amax')", "x.index_reduce(0, torch.tensor([1]), y[:1], 'amin', include_self=False)",
    in_place=True, differs="equal extremes share the gradient",
)  # fmt: skip
def index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    if reduce not in _KINDS[1:]:
        msg = f"index_reduce: reduce must be one of {', '.join(map(repr, _KINDS[1:]))}, got {reduce!r}"
        raise RuntimeError(msg)
    return scatter_reduce(input, dim, along(index, dim, source), source, reduce, include_self=include_self)


def along(index: Any, dim: int, source: Any) -> Any:
    """The indices of rows of an axis as those of each number of `source`."""
    shape = tuple(-1 if k == dim % source.ndim else 1 for k in range(source.ndim))
    return m.broadcast_to(m.reshape(index, shape), source.shape)


_OF_SEGMENTS: Final = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin", "prod": "prod"}


@offered(
    "torch.segment_reduce(v, 'sum', lengths=torch.tensor([1, 0, 3]))", "torch.segment_reduce(x, 'max', lengths=torch.tensor([2, 1]))",
    "torch.segment_reduce(x, 'mean', lengths=torch.tensor([3, 0]), initial=1.5)",
    "torch.segment_reduce(v, 'prod', offsets=torch.tensor([0, 3, 4]))",
    "torch.segment_reduce(b, 'min', lengths=torch.tensor([[2, 1], [3, 0]]), axis=1)",
    method=False,
)  # fmt: skip
def segment_reduce(
    data: Any, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None, axis: int = 0,
    unsafe: bool = False, initial: Any = None,
) -> Any:  # fmt: skip
    if reduce not in _OF_SEGMENTS:
        msg = f"segment_reduce: reduce must be one of {', '.join(map(repr, _OF_SEGMENTS))}, got {reduce!r}"
        raise RuntimeError(msg)
    if indices is not None or (lengths is None) == (offsets is None):
        msg = "segment_reduce: one of lengths and offsets must be given, and no indices"
        raise RuntimeError(msg)
    if lengths is None:
        lengths = r.diff(offsets, axis=-1)
    if axis % data.ndim != lengths.ndim - 1 or tuple(lengths.shape[:-1]) != tuple(
        data.shape[: lengths.ndim - 1]
    ):
        msg = (
            f"segment_reduce: lengths must have the first axes of data and, as its last, axis {axis}; "
            f"got lengths {tuple(lengths.shape)} for data {tuple(data.shape)}"
        )
        raise RuntimeError(msg)
    n = data.shape[lengths.ndim - 1]
    if bool(r.any(lengths < 0)) or bool(r.any(r.sum(lengths, axis=-1) != n)):
        msg = f"segment_reduce: lengths must be ≥ 0 with the sum {n} along the axis, got {lengths.tolist()}"
        raise RuntimeError(msg)
    count, rest = math.prod(lengths.shape), tuple(data.shape[lengths.ndim :])
    kind = _OF_SEGMENTS[reduce]
    empty = (
        initial
        if initial is not None
        else _IDENTITY[kind]
        if kind in _IDENTITY
        else _least(data.dtype, kind == "amax")
    )
    start = c.full((count, *rest), empty, dtype=data.dtype, device=place(data.device))
    number = ix.repeat(
        c.arange(count, dtype=dtypes.int64, device=place(data.device)), m.reshape(lengths, (-1,))
    )
    rows = m.reshape(data, (-1, *rest))
    if kind != "mean":
        y = scatter_reduce(start, 0, along(number, 0, rows), rows, kind)
    else:  # the initial value is no number of the segment, but that of an empty one
        y = scatter_reduce(start, 0, along(number, 0, rows), rows, "sum")
        sizes = m.reshape(m.astype(lengths, data.dtype), (count, *[1] * len(rest)))
        y = e.where(e.greater(sizes, 0), y / e.maximum(sizes, 1), math.nan if initial is None else y)
    return m.reshape(y, (*lengths.shape, *rest))
