"""Sparse tensors by their names (`anynet.torch.sparse_tensor`): how they are made, and which functions compute with their values alone."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops import searching as s
from anynet.ops.indexing import index_add, repeat
from anynet.torch.functions.creation import as_tensor, place
from anynet.torch.sparse_tensor import COO, CSR, SparseTensor, flat_places, made, product
from anynet.torch.table import TABLE, offered
from anynet.torch.tensor import Tensor, adopt

__all__ = ["SPARSE"]

_DENSE = (
    "a gradient is at the positions that are kept; products, sums and what keeps zeros compute with the values alone, "
    "other operations with the zeros, and give dense tensors"
)


def _checked(what: str, at: Any, sizes: Any) -> Any:
    """Positions as they are kept: a copy of its own, (sparse axes, kept) integers in range."""
    if at.ndim != 2 or at.dtype.kind not in ("int", "uint"):
        msg = f"{what}: indices must be integers of shape (sparse axes, values), got {at.dtype} of shape {tuple(at.shape)}"
        raise RuntimeError(msg)
    for k in range(at.shape[0]):
        if at.shape[1] and not 0 <= int(r.min(at[k])) <= int(r.max(at[k])) < sizes[k]:
            msg = f"{what}: indices must be in [0, {sizes[k]}) along axis {k}, got {int(r.min(at[k]))} to {int(r.max(at[k]))}"
            raise RuntimeError(msg)
    return adopt(m.astype(m.stack([at[k] for k in range(at.shape[0])]), dtypes.int64))


@offered(
    "torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3., 4., 5.], (2, 4)).to_dense()",
    "torch.sparse_coo_tensor([[0, 1, 0], [2, 0, 2]], [3., 4., 5.]).coalesce().values()",
    method=False,
    differs=_DENSE,
)
def sparse_coo_tensor(
    indices: Any, values: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    check_invariants: bool | None = None, is_coalesced: bool | None = None, pin_memory: bool = False,
) -> Any:  # fmt: skip
    if size is None and values is None:  # the lengths of axes alone
        at, size = c.zeros((len(indices), 0), dtype=dtypes.int64, device=place(device)), indices
        values = c.zeros(0, device=place(device))
    else:
        at = as_tensor(indices, device=device)
    v = as_tensor(values, dtype=dtype, device=device)
    if size is None:
        size = (*(int(n) + 1 for n in r.max(at, axis=1).tolist()), *v.shape[1:])
    sizes = tuple(int(n) for n in size)
    if tuple(v.shape) != (at.shape[-1], *sizes[at.shape[0] :]):
        expected = (at.shape[-1], *sizes[at.shape[0] :])
        msg = f"sparse_coo_tensor: values must have shape {expected}, got {tuple(v.shape)}"
        raise RuntimeError(msg)
    y = made(_checked("sparse_coo_tensor", at, sizes), v, sizes, once=bool(is_coalesced))
    return y.detach().clone().coalesce().requires_grad_() if requires_grad else y


@offered(
    "torch.sparse_csr_tensor([0, 2, 3], [0, 2, 1], [3., 4., 5.], (2, 3)).to_dense()",
    method=False,
    differs=_DENSE,
)
def sparse_csr_tensor(
    crow_indices: Any, col_indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, check_invariants: bool | None = None, pin_memory: bool = False,
) -> Any:  # fmt: skip
    starts, columns = as_tensor(crow_indices, device=device), as_tensor(col_indices, device=device)
    counts = starts[1:] - starts[:-1]
    if starts.ndim != 1 or bool(r.any(counts < 0)) or int(starts[0]) or int(starts[-1]) != columns.shape[0]:
        msg = "sparse_csr_tensor: crow_indices must grow from 0 to the number of values"
        raise RuntimeError(msg)
    rows = repeat(c.arange(counts.shape[0], device=place(device)), counts)
    if size is None:
        size = (counts.shape[0], int(r.max(columns)) + 1 if columns.shape[0] else 0)
    at = m.stack([rows, m.astype(columns, dtypes.int64)])
    return sparse_coo_tensor(
        at, values, size, dtype=dtype, device=device, requires_grad=requires_grad
    ).to_sparse_csr()


@offered(
    "x.to_sparse().to_dense()",
    "x.to_sparse(1).values()",
    "x.to_sparse().indices()",
    function=False,
    differs=_DENSE,
)
def to_sparse(
    self: Any, sparse_dim: Any = None, *, layout: Any = None, blocksize: Any = None, dense_dim: Any = None
) -> Any:
    layout = sparse_dim if isinstance(sparse_dim, str) else layout or COO
    if layout not in (COO, CSR) or blocksize is not None:
        msg = f"to_sparse: the layouts here are {COO} and {CSR}, got {layout}"
        raise NotImplementedError(msg)
    axes = sparse_dim if isinstance(sparse_dim, int) else self.ndim
    kept = e.not_equal(self.detach(), 0)
    if axes < self.ndim:
        kept = r.any(kept, axis=tuple(range(axes, self.ndim)))
    at = s.nonzero(kept)
    values = self[tuple(at)] if self.ndim else m.reshape(self, (1,))
    origin = self if values.edge is not None else None
    y = made(adopt(m.stack(list(at))), values, tuple(self.shape), once=True, origin=origin)
    return y.to_sparse_csr() if layout == CSR else y


@offered("x.to_sparse_coo().to_dense()", function=False, differs=_DENSE)
def to_sparse_coo(self: Any) -> Any:
    return to_sparse(self)


@offered("x.to_sparse_csr().to_dense()", "x.to_sparse_csr().crow_indices()", "x.to_sparse_csr().col_indices()", function=False,
         differs=_DENSE)  # fmt: skip
def to_sparse_csr(self: Any, dense_dim: int | None = None) -> Any:
    return to_sparse(self, layout=CSR)


@offered("x.to_dense()", function=False)
def to_dense(self: Any, dtype: Any = None, *, masked_grad: bool = True) -> Any:
    return self if dtype is None else m.astype(self, dtype)


@offered("x.to_sparse().coalesce().to_dense()", function=False, differs="a dense tensor is what it is")
def coalesce(self: Any) -> Any:
    return self


@offered(function=False, differs="true of a dense tensor: a position has one value")
def is_coalesced(self: Any) -> bool:
    return True


@offered("torch.spmm(sq.to_sparse(), x)", method=False)
def spmm(input: Any, mat2: Any) -> Any:
    return TABLE["mm"].function(input, mat2)


@offered("torch.dsmm(sq.to_sparse(), x)", method=False)
def dsmm(input: Any, mat2: Any) -> Any:
    return TABLE["mm"].function(input, mat2)


@offered("x.to_sparse().sparse_dim()", function=False)
def sparse_dim(self: Any) -> int:
    return 0


@offered("x.to_sparse(1).dense_dim()", function=False)
def dense_dim(self: Any) -> int:
    return len(self.shape)


def _indices(self: Any) -> Any:
    """The positions of what is not zero: (axes, count)."""
    return TABLE["nonzero"].function(self).t()


def _values(self: Any) -> Any:
    """What is not zero."""
    return self[tuple(_indices(self))]


Tensor.indices = Tensor._indices = _indices  # type: ignore[attr-defined]
Tensor.values = Tensor._values = _values  # type: ignore[attr-defined]


def _of_csr(name: str) -> Any:
    def refuse(self: Any) -> Any:
        msg = f"{name} expected a tensor of layout {CSR}, got {self.layout}"
        raise RuntimeError(msg)

    refuse.__name__ = name
    return refuse


Tensor.crow_indices, Tensor.col_indices = _of_csr("crow_indices"), _of_csr("col_indices")  # type: ignore[attr-defined]


# ----- functions with a form for sparse arguments -----


def _addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    y = product(mat1, mat2)
    return input * beta + y * alpha


def _kept(name: str, x: Any) -> Any:
    """A function that keeps zeros, of the values."""
    y = x.coalesce()
    return y._with(TABLE[name].function(y._elements))


def _times(a: Any, b: Any) -> Any:
    return a * b if isinstance(a, SparseTensor) else b * a


_FORMS: dict[str, Any] = {
    **dict.fromkeys(("mm", "matmul", "mv"), product),
    "addmm": _addmm,
    "transpose": SparseTensor.transpose, "t": SparseTensor.t, "sum": SparseTensor.sum, "clone": SparseTensor.clone,
    "mul": _times, "multiply": _times, "add": lambda a, b, *, alpha=1: a + (b if alpha == 1 else b * alpha),
    "sub": lambda a, b, *, alpha=1: a - (b if alpha == 1 else b * alpha),
    "div": lambda a, b, **options: a / b if not options else TABLE["div"].function(a.to_dense(), b, **options),
    **{name: functools.partial(_kept, name)
       for name in ("neg", "abs", "sqrt", "relu", "square", "sign", "sin", "tan", "tanh", "sinh", "asin", "atan", "asinh", "atanh",
                    "floor", "ceil", "round", "trunc", "expm1", "log1p") if name in TABLE},
}  # fmt: skip
"""What computes a function of the table where an argument is sparse."""


def _either(dense: Any, sparse: Any) -> Any:
    @functools.wraps(dense)
    def call(*args: Any, **kwargs: Any) -> Any:
        for x in args:
            if type(x) is SparseTensor:
                return sparse(*args, **kwargs)
        return dense(*args, **kwargs)

    return call


def _install() -> None:
    for name, form in _FORMS.items():
        row = TABLE[name]
        TABLE[name] = dataclasses.replace(row, function=_either(row.function, form))
        if row.is_method and name not in vars(SparseTensor):
            # of a dense tensor too where the other may be sparse
            owner = Tensor if name in ("mm", "matmul", "addmm", "mul", "add", "sub") else SparseTensor
            setattr(owner, name, TABLE[name].function)
    for name in ("float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"):
        kind = {"float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
                "char": "int8", "byte": "uint8"}.get(name, name)  # fmt: skip
        setattr(SparseTensor, name, lambda self, kind=kind: self.to(dtypes.of(kind)))
    for name in dir(Tensor):
        if (
            name.endswith("_")
            and not name.startswith("_")
            and name not in ("requires_grad_", "share_memory_")
        ):
            setattr(SparseTensor, name, functools.partialmethod(_in_place, name[:-1]))


def _in_place(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    y = getattr(self, name)(*args, **kwargs)
    if (
        not isinstance(y, SparseTensor)
        or y.layout != self.layout
        or y._sizes != self._sizes
        or y.dtype is not self.dtype
    ):
        msg = f"{name}_: a sparse tensor cannot hold the result; use {name}"
        raise RuntimeError(msg)
    self._at, self._elements, self._once, self._whole = y._at, y._elements, y._once, None
    return self


_install()


# ----- torch.sparse -----


def _softmax(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """e^x / Σ e^x of the values that are kept along an axis, as if the others were −∞."""
    if not isinstance(input, SparseTensor):
        msg = f"sparse.softmax: input must be a sparse tensor, got one of layout {input.layout}"
        raise RuntimeError(msg)
    logs = _log_softmax(input, dim, dtype=dtype)
    return logs._with(e.exp(logs._elements))


def _log_softmax(input: Any, dim: int, *, dtype: Any = None) -> Any:
    y = input.coalesce()
    at, axes = y._at, y.sparse_dim()
    where = dim % y.ndim
    v = y._elements if dtype is None else y._elements.to(dtype)
    if where >= axes:
        return y._with(v.log_softmax(where - axes + 1))
    rest = [k for k in range(axes) if k != where]
    sizes = [y._sizes[k] for k in rest]
    group = flat_places(adopt(at[rest]), sizes) if rest else c.zeros_like(at[0])
    count = 1
    for n in sizes:
        count *= n
    ids, shape = group, (count, *v.shape[1:])
    wide = m.broadcast_to(m.reshape(ids, (-1,) + (1,) * (v.ndim - 1)), v.shape)
    low = c.full(shape, float("-inf"), dtype=v.dtype)
    top = TABLE["scatter_reduce"].function(adopt(low), 0, adopt(wide), v.detach(), "amax")
    shifted = v - top[ids]
    total = adopt(index_add(c.zeros(shape, dtype=v.dtype), ids, e.exp(shifted)))
    return y._with(shifted - e.log(total[ids]))


def _sum(input: Any, dim: Any = None, dtype: Any = None) -> Any:
    return input.sum(dtype=dtype) if dim is None else input.sum(dim=dim, dtype=dtype)


class _Typed(type):
    """The type of `torch.sparse.FloatTensor` and its like, of which sparse tensors of one dtype are instances."""

    kind: Any

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, SparseTensor) and x.dtype is cls.kind

    def __call__(cls, indices: Any = None, values: Any = None, size: Any = None, **kwargs: Any) -> Any:
        if not hasattr(indices, "ndim"):
            return sparse_coo_tensor((0,) if indices is None else indices, dtype=cls.kind)
        return sparse_coo_tensor(indices, values, size, dtype=cls.kind, **kwargs)


def _typed(name: str, kind: Any) -> Any:
    return _Typed(name, (), {"kind": kind})


SPARSE = {
    "mm": functools.partial(product, masked=True), "addmm": _addmm, "sum": _sum, "softmax": _softmax, "log_softmax": _log_softmax,
    "FloatTensor": _typed("FloatTensor", dtypes.float32), "DoubleTensor": _typed("DoubleTensor", dtypes.float64),
    "LongTensor": _typed("LongTensor", dtypes.int64), "IntTensor": _typed("IntTensor", dtypes.int32),
}  # fmt: skip
