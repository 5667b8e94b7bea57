"""Elements at places: gather, scatter, masks."""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import indexing as ix
from anynet.ops import manipulation as m
from anynet.ops import searching as s
from anynet.ops import selection
from anynet.tensor import Tensor as AnyTensor
from anynet.torch.functions.creation import place
from anynet.torch.functions.segments import scatter_reduce
from anynet.torch.promotion import RANK, cast
from anynet.torch.table import offered
from anynet.torch.tensor import Tensor, adopt


@offered("torch.gather(x, 1, i)", "x.gather(0, i[:, :2])")
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    return selection.gather(input, index, axis=dim)


def _values(x: Any, given: Any) -> Any:
    if not isinstance(given, AnyTensor) and RANK[x.dtype.kind] < 2:
        return bool(given) if x.dtype is dtypes.bool else int(given)
    return cast(given, x.dtype)


@offered(
    "torch.scatter(x, 1, perm, y)",
    "x.scatter(1, perm[:, :1], 9.0)",
    "torch.zeros(3, 4).scatter(1, perm, x)",
    "x.detach().scatter(1, i, 2.0, reduce='multiply')",
    in_place=True,
)
def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Any:
    source = src if src is not None else value
    if source is None:
        msg = "scatter: src or value must be given"
        raise TypeError(msg)
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            msg = f"scatter: reduce must be None, 'add' or 'multiply', got {reduce!r}; others: scatter_reduce"
            raise RuntimeError(msg)
        if not isinstance(source, AnyTensor):
            source = c.full(tuple(index.shape), source, dtype=input.dtype, device=str(input.device))
        if reduce == "multiply":
            return scatter_reduce(input, dim, index, _values(input, source), "prod")
        return selection.scatter_add(input, index, _values(input, source), axis=dim)
    return selection.scatter(input, index, _values(input, source), axis=dim)


@offered("torch.scatter_add(x, 1, i, y)", "x.scatter_add(0, i, y)", in_place=True)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    return selection.scatter_add(input, index, _values(input, src), axis=dim)


@offered("torch.index_select(x, 1, torch.tensor([0, 2, 2]))", "x.index_select(0, torch.tensor([1]))")
def index_select(input: Any, dim: int, index: Any) -> Any:
    return ix.take(input, m.reshape(index, (-1,)), axis=dim)


def _front(x: Any, dim: int) -> Any:
    return m.moveaxis(x, dim, 0) if dim else x


@offered(
    "x.index_add(0, torch.tensor([0, 0]), y[:2])",
    "x.index_add(1, torch.tensor([1]), y[:, :1], alpha=2)",
    "x.index_add(0, torch.tensor(1), y[:1])",
    in_place=True,
)
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    source = source if alpha == 1 else source * alpha
    return m.moveaxis(ix.index_add(_front(input, dim), m.reshape(index, (-1,)), _front(source, dim)), 0, dim)


@offered("x.index_fill(0, torch.tensor([0, 2]), 7.0)", "x.index_fill(1, torch.tensor(2), 7.0)", in_place=True)
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    mask = e.greater(selection.bincount(m.reshape(index, (-1,)), minlength=input.shape[dim]), 0)
    shape = tuple(-1 if k == dim % input.ndim else 1 for k in range(input.ndim))
    return e.where(m.reshape(mask, shape), _values(input, value), input)


@offered("x.index_copy(0, torch.tensor([0, 2]), y[:2])", in_place=True)
def index_copy(input: Any, dim: int, index: Any, tensor: Any) -> Any:
    places = ix.check_index(m.reshape(index, (-1,))._data, input.shape[dim], "index_copy")
    rows = cast(_front(tensor, dim), input.dtype)
    return m.moveaxis(ix.put_rows(_front(input, dim), rows, index=places), 0, dim)


@offered(
    "x.index_put((torch.tensor([0, 1]), torch.tensor([2, 2])), v[:2])",
    "x.index_put((torch.tensor([0, 0]), torch.tensor([2, 2])), v[:2], accumulate=True)",
    "x.index_put((m,), v[0], accumulate=True)",
    in_place=True,
)
def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    if accumulate:
        size = math.prod(input.shape)
        places = m.reshape(c.arange(size, dtype=dtypes.int64, device=place(input.device)), input.shape)
        places = ix.getitem(places, tuple(indices))
        added = m.reshape(m.broadcast_to(_values(input, values), places.shape), (-1,))
        flat = m.reshape(input, (-1,))
        return m.reshape(ix.index_add(flat, m.reshape(places, (-1,)), added), input.shape)
    y = (
        adopt(c.asarray(input, copy=True))
        if input.edge is None
        else adopt(m.reshape(input, input.shape, copy=True))
    )
    y[tuple(indices)] = values
    return y


@offered("torch.masked_select(x, m)", "x.masked_select(m)")
def masked_select(input: Any, mask: Any) -> Any:
    x, at = m.broadcast_arrays(input, mask)
    return ix.getitem(x, at)


@offered(
    "x.masked_fill(m, 0.0)",
    "torch.masked_fill(x, m, float('-inf'))",
    "i.masked_fill(m, 7)",
    "x.masked_fill(m[0], v.sum())",
    in_place=True,
)
def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    return e.where(mask, _values(input, value), input)


@offered("x.masked_scatter(m, y)", in_place=True)
def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    mask = m.broadcast_to(mask, input.shape)
    flat = m.reshape(mask, (-1,))
    places = s.nonzero(flat)[0]
    chosen = m.reshape(source, (-1,))[: places.shape[0]]
    return m.reshape(selection.scatter(m.reshape(input, (-1,)), places, chosen, axis=0), input.shape)


@offered("torch.take(x, i)")
def take(input: Any, index: Any) -> Any:
    return ix.take(m.reshape(input, (-1,)), index, axis=0)


@offered("torch.take_along_dim(x, i, 1)", "x.take_along_dim(i, dim=0)")
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    if dim is None:
        return ix.take_along_axis(m.reshape(input, (-1,)), m.reshape(indices, (-1,)), axis=0)
    return ix.take_along_axis(input, indices, axis=dim)


@offered("torch.nonzero(i)", "i.nonzero()", "torch.nonzero(m, as_tuple=True)")
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    found = s.nonzero(input)
    return tuple(found) if as_tuple else m.stack(list(found), axis=-1)


@offered("torch.argwhere(m)")
def argwhere(input: Any) -> Any:
    return nonzero(input)


def fill_diagonal_(self: Any, fill_value: Any, wrap: bool = False) -> Any:
    """The diagonal of a matrix becomes one number."""
    if wrap or self.ndim != 2:
        msg = "fill_diagonal_: the tensor must be a matrix, and wrap False"
        raise NotImplementedError(msg)
    n = min(self.shape)
    at = c.arange(n, dtype=dtypes.int64, device=str(self.device))
    self[at, at] = fill_value
    return self


Tensor.fill_diagonal_ = fill_diagonal_  # type: ignore[attr-defined]
