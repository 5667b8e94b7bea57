"""Sparse tensors: positions and values of what is kept, as PyTorch's layouts COO and CSR have them.

`SparseTensor` is a Tensor of this room. Products with dense matrices and vectors, transposes, sums and what keeps zeros compute with the
values alone (`functions/sparse.py` has the names); any other operation is done on `to_dense()`, which it takes as its array, so that each
has PyTorch's values. The graph is that of the values.
"""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import manipulation as m
from anynet.ops.indexing import index_add
from anynet.ops.linear import matmul, matrix_transpose
from anynet.ops.reductions import cumulative_sum
from anynet.ops.searching import unique_inverse
from anynet.ops.sparse import sparse_matmul
from anynet.tensor import Tensor as AnyTensor
from anynet.torch.promotion import prepared
from anynet.torch.sizes import Count, Size
from anynet.torch.tensor import Tensor, _targets, adopt
from anynet_backends.concurrency import this_thread

__all__ = ["COO", "CSR", "SparseTensor", "flat_places", "made", "product"]

COO, CSR = "torch.sparse_coo", "torch.sparse_csr"


class SparseTensor(Tensor):
    """A tensor of which some elements are kept, the others are 0. Made by `torch.sparse_coo_tensor`, `torch.sparse_csr_tensor` and
    ``x.to_sparse()``."""

    __slots__ = ("_at", "_elements", "_once", "_origin", "_sizes", "_whole", "layout")
    layout: str
    _at: Any  # (sparse axes, kept)
    _elements: Any  # (kept, dense axes …)
    _once: bool  # whether each position stands there once, in order
    _origin: Any  # the dense variable or result that it is of: a product with it has a gradient everywhere
    _sizes: tuple[int, ...]
    _whole: Any  # with its zeros, and of which values

    # ----- as an array with its zeros -----

    def to_dense(self, dtype: Any = None, *, masked_grad: bool | None = None) -> Any:
        """With its zeros; values of one position add up."""
        if self._origin is not None and masked_grad is False:
            return self._origin if dtype is None else adopt(m.astype(self._origin, dtype))
        key = self._elements._data, self._elements.edge, this_thread.recording
        if self._whole is None or any(a is not b for a, b in zip(self._whole[0], key, strict=True)):
            self._whole = key, self._dense()
        y = self._whole[1]
        return y if dtype is None else adopt(m.astype(y, dtype))

    def _dense(self) -> Any:
        axes, kind = self._at.shape[0], self._elements.dtype
        values = m.astype(self._elements, dtypes.uint8) if kind is dtypes.bool else self._elements
        shape = (math.prod(self._sizes[:axes]), *self._sizes[axes:])
        zeros = c.zeros(shape, dtype=values.dtype, device=str(self.device))
        y = m.reshape(index_add(zeros, flat_places(self._at, self._sizes), values), self._sizes)
        return adopt(m.astype(y, kind) if kind is dtypes.bool else y)

    @property
    def _data(self) -> Any:
        return self.to_dense()._data

    @_data.setter
    def _data(self, _: Any) -> None:
        msg = "a sparse tensor is not written in place; change to_dense(), or make another of its indices() and values()"
        raise RuntimeError(msg)

    @property
    def edge(self) -> Any:
        return None if self._elements.edge is None else self.to_dense().edge

    @edge.setter
    def edge(self, _: Any) -> None:
        msg = "a sparse tensor has the graph of its values; use detach()"
        raise RuntimeError(msg)

    # ----- what is asked of it -----

    @property
    def shape(self) -> Size:
        return Size(self._sizes)

    @property
    def ndim(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> Any:
        count = Count(math.prod(self._sizes))
        count.shape = self._sizes
        return count

    @property
    def dtype(self) -> dtypes.DType:
        return self._elements.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> Any:
        return self._elements.device

    @property
    def is_sparse(self) -> bool:
        """Whether its layout is COO."""
        return self.layout == COO

    @property
    def is_sparse_csr(self) -> bool:
        """Whether its layout is CSR."""
        return self.layout == CSR

    def __len__(self) -> int:
        return self._sizes[0]

    def __repr__(self) -> str:
        ends = f"size={tuple(self._sizes)}, nnz={self._nnz()}"
        grad = ", requires_grad=True" if self.requires_grad else ""
        if self.layout == CSR:
            parts = f"crow_indices={self.crow_indices()!r},\n       col_indices={self._at[1]!r}"
        else:
            parts = f"indices={self._at!r}"
        return f"tensor({parts},\n       values={self._elements.detach()!r},\n       {ends}, layout={self.layout}{grad})"

    def _nnz(self) -> int:
        return int(self._at.shape[1])

    def sparse_dim(self) -> int:
        """The number of axes that positions have."""
        return int(self._at.shape[0])

    def dense_dim(self) -> int:
        """The number of axes that a value has."""
        return len(self._sizes) - int(self._at.shape[0])

    def is_coalesced(self) -> bool:
        """Whether each position stands there once, in order."""
        return self._once

    def _indices(self) -> Any:
        return adopt(
            c.asarray(self._at, copy=True)
        )  # what is written into it is not written here, where machine code reads

    def _values(self) -> Any:
        return self._elements

    def indices(self) -> Any:
        """The positions: (sparse axes, kept)."""
        self._refuse_repeated("indices")
        return self._indices()

    def values(self) -> Any:
        """The values at the positions."""
        if self.layout == COO:
            self._refuse_repeated("values")
        return self._elements

    def _refuse_repeated(self, what: str) -> None:
        if not self._once:
            msg = f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first"
            raise RuntimeError(msg)

    def crow_indices(self) -> Any:
        """Of CSR: where in `col_indices` each row begins, and the end of the last."""
        self._of(CSR, "crow_indices")
        counts = index_add(
            c.zeros(self._sizes[0] + 1, dtype=dtypes.int64), self._at[0] + 1, c.ones_like(self._at[0])
        )
        return adopt(cumulative_sum(counts))

    def col_indices(self) -> Any:
        """Of CSR: the column of each value."""
        self._of(CSR, "col_indices")
        return self._indices()[1]

    def _of(self, layout: str, what: str) -> None:
        if self.layout != layout:
            msg = f"{what} expected a tensor of layout {layout}, got {self.layout}"
            raise RuntimeError(msg)

    # ----- its graph: that of the values -----

    @property
    def requires_grad(self) -> bool:
        return self._elements.requires_grad  # type: ignore[no-any-return]

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._elements.requires_grad_(value)

    def requires_grad_(self, value: bool = True) -> Any:
        self._elements.requires_grad_(value)
        return self

    @property
    def is_leaf(self) -> bool:
        return self._elements.is_leaf  # type: ignore[no-any-return]

    @property
    def grad(self) -> Any:
        g = self._elements.grad
        return None if g is None else self._with(g)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._elements.grad = value._elements if isinstance(value, SparseTensor) else value

    def detach(self) -> Any:
        return self._with(self._elements.detach())

    @property
    def data(self) -> Any:
        return self.detach()

    @data.setter
    def data(self, _: Any) -> None:
        self._data = None

    def clone(self, *, memory_format: Any = None) -> Any:
        """A tensor of its own with these values."""
        return self._with(self._elements.clone())

    # ----- other forms -----

    def _with(self, elements: Any) -> SparseTensor:
        """Other values at these positions."""
        return made(self._at, elements, self._sizes, once=self._once, layout=self.layout)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        kind, where, copy = _targets(self, args, kwargs)
        values = self._elements.to(device=where, dtype=kind, copy=copy)
        if values is self._elements:
            return self
        at = self._at if where is None else self._at.to(where)
        return made(at, values, self._sizes, once=self._once, layout=self.layout)

    def coalesce(self) -> Any:
        """Each position once, in order; values of one position add up."""
        if self._once:
            return self
        axes = int(self._at.shape[0])
        places, where = unique_inverse(flat_places(self._at, self._sizes))
        zeros = c.zeros((places.shape[0], *self._sizes[axes:]), dtype=self.dtype, device=str(self.device))
        values = adopt(index_add(zeros, m.reshape(where, (-1,)), self._elements))
        at, rest = [], places
        for length in reversed(self._sizes[:axes]):
            at.append(rest % length)
            rest = rest // length
        return made(adopt(m.stack(at[::-1])), values, self._sizes, once=True, layout=self.layout)

    def to_sparse(self, *args: Any, layout: Any = None, **_: Any) -> Any:
        """Itself in a sparse layout."""
        given = args[0] if args and isinstance(args[0], str) else layout
        return self.to_sparse_csr() if given == CSR else self.to_sparse_coo()

    def to_sparse_coo(self) -> Any:
        """Itself in the layout COO."""
        if self.layout == COO:
            return self
        return made(self._at, self._elements, self._sizes, once=self._once, origin=self._origin)

    def to_sparse_csr(self, dense_dim: int | None = None) -> Any:
        """A matrix in the layout CSR."""
        if self.ndim != 2:
            msg = f"to_sparse_csr: only matrices have this layout here, got {self.ndim} dimensions"
            raise RuntimeError(msg)
        y = self.coalesce()
        return made(y._at, y._elements, y._sizes, once=True, layout=CSR, origin=y._origin)

    def transpose(self, dim0: int, dim1: int) -> Any:
        """With two of its sparse axes exchanged."""
        a, b, axes = dim0 % self.ndim, dim1 % self.ndim, int(self._at.shape[0])
        if a >= axes or b >= axes:
            msg = f"transpose: only sparse axes can be exchanged, got {dim0} and {dim1} of {axes}"
            raise RuntimeError(msg)
        if a == b:
            return self
        if self._origin is not None:
            return self._origin.transpose(a, b).to_sparse(layout=self.layout)
        order = list(range(axes))
        order[a], order[b] = b, a
        sizes = list(self._sizes)
        sizes[a], sizes[b] = sizes[b], sizes[a]
        y = made(adopt(self._at[order]), self._elements, tuple(sizes), once=False)
        return y.to_sparse_csr() if self.layout == CSR else y

    def t(self) -> Any:
        """The transpose of a matrix."""
        return self.transpose(0, 1) if self.ndim == 2 else self

    @property
    def T(self) -> Any:
        return self.t()

    @property
    def mT(self) -> Any:
        return self.transpose(-2, -1)

    def _is_matrix(self) -> bool:
        return len(self._sizes) == int(self._at.shape[0]) == 2

    # ----- copies -----

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _again, (self._at, self._elements, self._sizes, self._once, self.layout)

    def __copy__(self) -> Any:
        return self._with(self._elements)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = y = self._with(self._elements.__deepcopy__(memo))
        return y

    # ----- operators -----

    def __setitem__(self, key: Any, value: Any) -> None:
        msg = "a sparse tensor is not written in place; change to_dense(), or make another of its indices() and values()"
        raise RuntimeError(msg)

    def __matmul__(self, other: Any, /) -> Any:
        return product(self, other) if isinstance(other, AnyTensor) else NotImplemented

    def __rmatmul__(self, other: Any, /) -> Any:
        return product(other, self) if isinstance(other, AnyTensor) else NotImplemented

    def __neg__(self) -> Any:
        return self._with(-self._elements)

    def __mul__(self, other: Any, /) -> Any:
        if isinstance(other, SparseTensor):
            other = other.to_dense()
        if not hasattr(other, "shape") or not tuple(other.shape):
            return self._with(self._elements * other)
        if tuple(other.shape) == self._sizes:
            y = self.coalesce()
            return y._with(y._elements * other[tuple(y._at)])
        return Tensor.__mul__(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any, /) -> Any:
        if not hasattr(other, "shape") or not tuple(other.shape):
            return self._with(self._elements / other)
        return Tensor.__truediv__(self, other)

    def __add__(self, other: Any, /) -> Any:
        same = isinstance(other, SparseTensor) and (other._sizes, other.sparse_dim()) == (
            self._sizes,
            self.sparse_dim(),
        )
        if not same:
            return Tensor.__add__(self, other)
        a, b = prepared(self._elements, other._elements)
        at, values = m.concat([self._at, other._at], axis=1), m.concat([a, b], axis=0)
        return made(adopt(at), adopt(values), self._sizes, once=False).coalesce().to_sparse(self.layout)

    def __sub__(self, other: Any, /) -> Any:
        return self + -other if isinstance(other, SparseTensor) else Tensor.__sub__(self, other)

    def __iadd__(self, other: Any, /) -> Any:  # another tensor takes the name
        return self + other

    def __isub__(self, other: Any, /) -> Any:
        return self - other

    def __imul__(self, other: Any, /) -> Any:
        return self * other

    def __itruediv__(self, other: Any, /) -> Any:
        return self / other

    def sum(self, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        """The sum of all, or along sparse axes: sparse, where some are left."""
        axes = int(self._at.shape[0])
        gone = (
            set(range(self.ndim))
            if dim is None
            else {d % self.ndim for d in ((dim,) if isinstance(dim, int) else dim)}
        )
        values = self._elements if dtype is None else self._elements.to(dtype)
        if len(gone) == self.ndim and not keepdim:
            return values.sum()
        if keepdim or not gone or max(gone) >= axes:
            return self.to_dense().sum(dim=dim, keepdim=keepdim, dtype=dtype)
        left = [d for d in range(axes) if d not in gone]
        if not left:
            return values.sum(dim=0)
        sizes = (*(self._sizes[d] for d in left), *self._sizes[axes:])
        return made(adopt(self._at[left]), values, sizes, once=False).coalesce()


def made(
    at: Any, elements: Any, sizes: Any, *, once: bool, layout: str = COO, origin: Any = None
) -> SparseTensor:
    """The sparse tensor of positions that are known to be in range."""
    y: SparseTensor = object.__new__(SparseTensor)
    y._at, y._elements, y._sizes, y._once, y.layout, y._whole = (
        at,
        adopt(elements),
        tuple(sizes),
        once,
        layout,
        None,
    )
    y._origin = origin
    return y


def _again(at: Any, elements: Any, sizes: Any, once: bool, layout: str) -> SparseTensor:
    return made(at, elements, sizes, once=once, layout=layout)


def flat_places(at: Any, sizes: Any) -> Any:
    """The number of each position in the array of its sparse axes, in order."""
    place = at[0]
    for k in range(1, at.shape[0]):
        place = place * sizes[k] + at[k]
    return place


def product(a: Any, b: Any, *, masked: bool = False) -> Any:
    """The matrix product of which one factor at least is sparse; of two sparse ones it is sparse. `masked`: no gradient but at the
    positions, also of a dense tensor that was made sparse."""
    if not masked and any(isinstance(x, SparseTensor) and x._origin is not None for x in (a, b)):
        return adopt(
            matmul(
                *prepared(
                    *(x.to_dense(masked_grad=False) if isinstance(x, SparseTensor) else x for x in (a, b))
                )
            )
        )
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        return adopt(matmul(*prepared(a.to_dense(), b.to_dense()))).to_sparse()
    if isinstance(b, SparseTensor) and b._is_matrix() and a.ndim in (1, 2):
        return product(b.t(), a) if a.ndim == 1 else product(b.t(), matrix_transpose(a)).mT
    if not (isinstance(a, SparseTensor) and a._is_matrix() and b.ndim in (1, 2)):
        return adopt(matmul(*prepared(a, b)))
    rows, columns = a._sizes
    if b.shape[0] != columns:
        msg = (
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{columns} and {'x'.join(map(str, b.shape))})"
        )
        raise RuntimeError(msg)
    values, x = prepared(a._elements, b if b.ndim == 2 else m.reshape(b, (-1, 1)))
    at = a._at._data
    y = sparse_matmul(values, x, rows=at[0], columns=at[1], count=rows)
    return adopt(y if b.ndim == 2 else m.reshape(y, (-1,)))
