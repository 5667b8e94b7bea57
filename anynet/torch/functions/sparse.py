"""Sparse tensors by their names: the values are those of PyTorch's, the memory is that of a tensor with its zeros."""

from __future__ import annotations

from typing import Any

from anynet.ops import creation as c
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops.indexing import index_add
from anynet.ops.linear import matmul
from anynet.torch.functions.creation import as_tensor, place
from anynet.torch.table import TABLE, alias, offered
from anynet.torch.tensor import Tensor

__all__ = ["SPARSE"]

_DENSE = "kept with its zeros: the values are PyTorch's, the memory is a dense tensor's"


@offered(
    "torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3., 4., 5.], (2, 4)).to_dense()",
    method=False,
    differs=_DENSE,
)
def sparse_coo_tensor(
    indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    check_invariants: bool | None = None, is_coalesced: bool | None = None,
) -> Any:  # fmt: skip
    at, v = as_tensor(indices), as_tensor(values, dtype=dtype)
    count = at.shape[0]
    if size is None:
        size = (*(int(n) + 1 for n in r.max(at, axis=1).tolist()), *v.shape[1:])
    size = tuple(int(n) for n in size)
    place_of: Any = 0
    for k in range(count):
        if at.shape[1] and not 0 <= int(r.min(at[k])) <= int(r.max(at[k])) < size[k]:
            msg = f"sparse_coo_tensor: indices must be in [0, {size[k]}) along axis {k}, got {int(r.max(at[k]))}"
            raise RuntimeError(msg)
        place_of = place_of * size[k] + at[k]
    cells = 1
    for n in size[:count]:
        cells *= n
    zeros = c.zeros((cells, *size[count:]), dtype=v.dtype, device=place(device))
    y = m.reshape(index_add(zeros, place_of, v), size)
    return y.requires_grad_() if requires_grad else y


@offered("x.to_sparse().to_dense()", function=False, differs=_DENSE)
def to_sparse(self: Any, *_: Any, **__: Any) -> Any:
    return self


@offered("x.to_dense()", function=False)
def to_dense(self: Any, dtype: Any = None, *, masked_grad: bool = True) -> Any:
    return self if dtype is None else m.astype(self, dtype)


@offered("x.to_sparse().coalesce().to_dense()", function=False, differs=_DENSE)
def coalesce(self: Any) -> Any:
    return self


@offered(function=False, differs="true: a position has one value")
def is_coalesced(self: Any) -> bool:
    return True


@offered("torch.spmm(sq.to_sparse(), x)", method=False, differs=_DENSE)
def spmm(input: Any, mat2: Any) -> Any:
    return matmul(input, mat2)


alias("dsmm", "spmm")


def _indices(self: Any) -> Any:
    """The positions of what is not zero: (axes, count)."""
    return TABLE["nonzero"].function(self).t()


def _values(self: Any) -> Any:
    """What is not zero."""
    return self[tuple(_indices(self))]


Tensor.indices = Tensor._indices = _indices  # type: ignore[attr-defined]
Tensor.values = Tensor._values = _values  # type: ignore[attr-defined]


def _typed(kind: str) -> Any:
    def make(indices: Any = None, values: Any = None, size: Any = None, **kwargs: Any) -> Any:
        if not hasattr(indices, "ndim"):
            return c.zeros(tuple(indices) if indices is not None else (0,), dtype=kind)
        return sparse_coo_tensor(indices, values, size, dtype=kind, **kwargs)

    return make


def _sum(input: Any, dim: Any = None, dtype: Any = None) -> Any:
    return input.sum(dtype=dtype) if dim is None else input.sum(dim=dim, dtype=dtype)


SPARSE = {
    "mm": spmm, "sum": _sum, "FloatTensor": _typed("float32"), "DoubleTensor": _typed("float64"), "LongTensor": _typed("int64"),
    "softmax": lambda input, dim, dtype=None: input.softmax(dim), "log_softmax": lambda input, dim, dtype=None: input.log_softmax(dim),
}  # fmt: skip
