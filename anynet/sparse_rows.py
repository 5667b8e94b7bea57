"""`SparseRows`: the gradient of a table of which few rows were looked up, without the zeros of the others."""

from __future__ import annotations

from typing import Any, NoReturn

from anynet import dtypes
from anynet.tensor import Tensor, result_class, unwrap, wrap
from anynet_backends import Array, backend_of
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.tracer import COMPILING
from anynet_backends.memory.rows import Rows

__all__ = ["SparseRows"]

_new = Tensor.__new__
_NUMBERS = (int, float)


class SparseRows(Tensor):
    """A matrix, or array of more axes, of which only some rows are kept; all others are 0.

    y[i] = Σ_{k: indices[k] = i} values[k]

    It is what ``.grad`` of a table holds after lookups with ``sparse=True`` (`nn.Embedding`, `nn.EmbeddingBag`), and behaves as
    PyTorch's sparse tensors with one sparse axis do. `indices` is an integer array (n,) or (1, n) of numbers in [0, rows), `values`
    is (n, …), `shape` is (rows, …). `SGD`, `Adagrad` and `SparseAdam` update the rows alone; the norm and the value of such gradients
    can be clipped, sums of two are again SparseRows, and so are multiples. Everything else that takes Tensors takes it as the array
    with its zeros, which is made for that call.

    Attributes: `shape`, `dtype`, `device`, `is_sparse` (True). It is a constant and cannot be written into.

    Errors: ValueError for shapes that do not go together, TypeError for indices that are no integers, IndexError for indices out of range.

    >>> import anynet as an
    >>> words = an.nn.Embedding(1000, 2, sparse=True)
    >>> an.sum(words(an.asarray([7, 3, 7]))).backward()
    >>> g = words.weight.grad.coalesce()
    >>> g.indices().tolist(), g.values().tolist()
    ([[3, 7]], [[1.0, 1.0], [2.0, 2.0]])
    >>> g.to_dense().shape
    (1000, 2)
    """

    __slots__ = ("_held",)
    _held: Rows
    is_sparse = True

    def __init__(self, indices: Any, values: Any, shape: tuple[int, ...]) -> None:
        held = values if isinstance(values, Tensor) else Tensor(values)
        plain = unwrap(held.detach())
        xp = backend_of(plain)
        if not xp.eager:
            msg = "SparseRows: a compiled function has no gradients that are rows; call the function without compiling it"
            raise CompileError(msg)
        index = unwrap(Tensor(list(indices) if isinstance(indices, range) else indices, device=held.device))
        if not xp.isdtype(index.dtype, "integral"):
            msg = f"SparseRows: indices must be integers, got {dtypes.of(index.dtype)}"
            raise TypeError(msg)
        count = index.shape[-1] if index.shape else 0
        shape = tuple(int(n) for n in shape)
        if (
            tuple(index.shape) not in ((count,), (1, count))
            or tuple(plain.shape) != (count, *shape[1:])
            or not shape
        ):
            msg = (
                "SparseRows: indices must be (n,) or (1, n), values (n, …) and shape (rows, …), got "
                f"{tuple(index.shape)}, {tuple(plain.shape)} and {shape}"
            )
            raise ValueError(msg)
        if count and not 0 <= int(xp.min(index)) <= int(xp.max(index)) < shape[0]:
            msg = f"SparseRows: indices must be in [0, {shape[0]}), got {int(xp.min(index))} … {int(xp.max(index))}"
            raise IndexError(msg)
        index = xp.astype(xp.reshape(index, (-1,)), xp.int64)
        self._held, self.edge = Rows(xp, index, plain, shape, sparse=True), None

    @classmethod
    def of(cls, rows: Rows) -> SparseRows:
        """Around rows as the backward pass gives them, without a check."""
        made = _new(cls)
        made._held, made.edge = rows, None
        return made

    # ----- what it is -----

    @property
    def _rows(self) -> Rows:
        if COMPILING and COMPILING.own:  # they are those of this call, and a replay has others
            msg = (
                f"{user_line()}: a gradient that is rows of a table (sparse=True) is read in a compiled function, in which optimizers "
                "alone can use it; do that outside of the compiled function"
            )
            raise CompileError(msg)
        return self._held

    @property
    def rows(self) -> Rows:
        """The rows as plain arrays."""
        return self._rows

    @property
    def _data(self) -> Array:
        return self._rows.dense()

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, …), those that are 0 included."""
        return self._rows.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._rows.shape)

    @property
    def dtype(self) -> dtypes.DType:
        """That of the values."""
        return dtypes.of(self._rows.dtype)

    @property
    def device(self) -> str:
        """The device of the values."""
        return str(self._rows.xp.device_of(self._rows.values))

    def __len__(self) -> int:
        return self._rows.shape[0]

    def is_coalesced(self) -> bool:
        """Whether each index is known to be there once, in order."""
        return self._rows.coalesced

    def coalesce(self) -> SparseRows:
        """The same with each index once, in order, its values added up."""
        return self if self._rows.coalesced else type(self).of(self._rows.coalesce())

    def indices(self) -> Tensor:
        """The rows that are kept, int64 (1, n) as in PyTorch; RuntimeError before `coalesce`."""
        self._refuse_uncoalesced("indices")
        return self._indices()

    def values(self) -> Tensor:
        """The rows themselves, (n, …); RuntimeError before `coalesce`."""
        self._refuse_uncoalesced("values")
        return self._values()

    def _indices(self) -> Tensor:
        return wrap(self._rows.xp.expand_dims(self._rows.index, axis=0), result_class((self,)))

    def _values(self) -> Tensor:
        return wrap(self._rows.values, result_class((self,)))

    def _nnz(self) -> int:
        return int(self._rows.index.shape[0])

    def _refuse_uncoalesced(self, name: str) -> None:
        if not self._rows.coalesced:
            msg = f"SparseRows.{name}: an index may be there several times; call .coalesce() first, or ._{name}()"
            raise RuntimeError(msg)

    def to_dense(self) -> Tensor:
        """As a Tensor with its zeros."""
        return wrap(self._rows.dense(), result_class((self,)))

    # ----- what can be done with it -----

    def detach(self) -> SparseRows:
        """The same: it is a constant."""
        return type(self).of(self._rows)

    def none(self) -> SparseRows:
        """Zero: no row."""
        return type(self).of(self._rows.none())

    def _scaled(self, factor: float) -> SparseRows:
        return type(self).of(self._rows.with_values(self._rows.values * factor))

    def __neg__(self) -> Tensor:
        return self._scaled(-1)

    def __mul__(self, other: Any) -> Tensor:
        return self._scaled(other) if isinstance(other, _NUMBERS) else super().__mul__(other)

    def __rmul__(self, other: Any) -> Tensor:
        return self._scaled(other) if isinstance(other, _NUMBERS) else super().__rmul__(other)

    def __truediv__(self, other: Any) -> Tensor:
        if not isinstance(other, _NUMBERS):
            return super().__truediv__(other)
        return type(self).of(self._rows.with_values(self._rows.values / other))

    def __add__(self, other: Any) -> Tensor:
        if isinstance(other, SparseRows) and other.shape == self.shape and other.dtype == self.dtype:
            return type(self).of(self._rows + other._rows)
        return super().__add__(other)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse_writes()

    def assign_(self, value: Any) -> Tensor:
        """Refused."""
        self._refuse_writes()

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Refused, but for False: it is a constant."""
        if value:
            msg = "SparseRows: it is a constant and cannot require a gradient; take .to_dense()"
            raise TypeError(msg)
        return self

    def _refuse_writes(self) -> NoReturn:
        msg = "SparseRows: it cannot be written into; make another: SparseRows(indices, values, shape), or an array, .to_dense()"
        raise TypeError(msg)

    # ----- copies -----

    def _copied(self) -> SparseRows:
        rows = self._rows
        xp = rows.xp
        index, values = (xp.asarray(a, copy=True) for a in (rows.index, rows.values))
        return type(self).of(Rows(xp, index, values, rows.shape, sparse=True, coalesced=rows.coalesced))

    def __copy__(self) -> SparseRows:
        return type(self).of(self._rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseRows:
        made = memo[id(self)] = self._copied()
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _unpickled, (type(self), self._indices(), self._values(), self.shape, self._rows.coalesced)

    def __repr__(self) -> str:
        return (
            f"SparseRows(indices={self._rows.index.tolist()}, values={self._values()!r}, shape={self.shape})"
        )


def _unpickled(
    cls: type[SparseRows], indices: Tensor, values: Tensor, shape: tuple[int, ...], coalesced: bool
) -> SparseRows:
    made = cls(indices, values, shape)
    made._rows.coalesced = coalesced
    return made


def numbers_of(gradient: Tensor) -> Array:
    """The array of a gradient's numbers; of rows, these alone, each row once: norms and largest numbers are those of the whole."""
    return gradient.rows.coalesce().values if isinstance(gradient, SparseRows) else gradient._data
