"""The Tensor of this room: one of anynet's, with PyTorch's methods, promotion, views and writes in place.

`Tensor` is a subclass without attributes of its own, so that a Tensor of anynet becomes one by taking its class (`adopt`), and all that the
library does with Tensors it does with these. Operations give what they are given (`anynet.tensor.result_class`): a layer that is called
with such a Tensor, or has such parameters, returns such a Tensor. The methods are the functions of the table (`anynet.torch.table`).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from anynet import dtypes, tensor
from anynet.nn import lazy
from anynet.ops import elementwise as e
from anynet.ops import indexing
from anynet.ops.creation import asarray, empty
from anynet.ops.indexing import replace
from anynet.ops.linear import matmul
from anynet.ops.manipulation import astype, reshape, to_device
from anynet.ops.slicing import basic_getitem
from anynet.sparse_rows import SparseRows
from anynet.torch.memory import fitted, memory_of, note, part, shows, write
from anynet.torch.promotion import as_float, floor_divide, number, prepared, prepared_floats, remainder
from anynet.torch.sizes import Count, Size, device
from anynet_backends import registry
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.tracer import COMPILING

__all__ = ["Buffer", "Parameter", "Tensor", "adopt", "converted"]

_Plain = tensor.Tensor


def adopt(x: Any) -> Any:
    """A Tensor of anynet's (or those in a tuple, list or dict) as one of this room's: it takes the class, nothing is copied."""
    kind = type(x)
    if kind is Tensor:
        return x
    if kind is _Plain:
        x.__class__ = Tensor
    elif kind is tensor.Parameter:
        x.__class__ = Parameter
    elif kind is tensor.Buffer:
        x.__class__ = Buffer
    elif kind is SparseRows:
        x.__class__ = _SparseRows
    elif kind in _WAITING:
        x.__class__ = _WAITING[kind]
    elif kind is tuple:
        return tuple([adopt(v) for v in x])
    elif kind is list:
        return [adopt(v) for v in x]
    elif isinstance(x, dict):
        for key, value in x.items():
            x[key] = adopt(value)
    elif isinstance(x, tuple):  # with names
        for value in x:
            adopt(value)
    return x


def converted(x: Any, kind: dtypes.DType) -> Any:
    """x in another dtype; what is no float is outside of the graph."""
    y = adopt(astype(x, kind))
    return y if kind.kind in ("real", "complex") else adopt(_Plain.detach(y))


class Tensor(_Plain):
    """PyTorch's Tensor: ``torch.Tensor(2, 3)`` has that shape and no values, ``torch.Tensor([2, 3])`` these values in float32.

    >>> import anynet.torch as torch
    >>> torch.Tensor([1, 2]).view(2, 1).size()
    torch.Size([2, 1])
    """

    __slots__ = ()
    _results: ClassVar[type[tensor.Tensor] | None]

    def __init__(self, *data: Any, device: Any = None) -> None:
        sizes = data[0] if len(data) == 1 and type(data[0]) is Size else data
        if all(isinstance(n, int) for n in sizes):
            made = empty(tuple(sizes) if sizes else (0,), device=device)
        elif len(data) == 1:
            made = asarray(data[0], device=device)
            made = made if made.dtype is dtypes.default_float() else astype(made, dtypes.default_float())
        else:
            msg = f"Tensor: data must be one list or array, or lengths of axes, got {data!r:.60}"
            raise TypeError(msg)
        self._data, self.edge = made._data, made.edge

    # ----- what is asked of it -----

    @property
    def shape(self) -> Size:
        return Size(self._data.shape)

    @property
    def size(self) -> Any:
        count = Count(math.prod(self._data.shape))
        count.shape = tuple(self._data.shape)
        return count

    @property
    def device(self) -> Any:
        return device(_Plain.device.fget(self))  # type: ignore[attr-defined]

    @property
    def data(self) -> Any:
        """The same memory outside of the graph: what is written into it is written into this Tensor."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, _Plain) and value._data is self._data:
            return
        if (
            isinstance(value, _Plain)
            and tuple(value.shape) == tuple(self.shape)
            and value.dtype is self.dtype
        ):
            part(self)
            with tensor.no_grad():
                replace(self, value.detach())
            return
        plain = value._data if isinstance(value, _Plain) else value
        if self.edge is None and hasattr(plain, "shape"):
            part(self)
        _Plain.data.fset(self, plain)  # type: ignore[attr-defined]

    def detach(self) -> Any:
        """The same memory outside of the graph."""
        y = _Plain.detach(self)
        y.__class__ = Tensor
        return shows(y, self, _detached, _second, detached=True)

    @property
    def grad(self) -> Any:
        return adopt(_Plain.grad.fget(self))  # type: ignore[attr-defined]

    @grad.setter
    def grad(self, value: Any) -> None:
        if (
            getattr(value, "is_sparse", False)
            and not isinstance(value, SparseRows)
            and value.sparse_dim() == 1
        ):
            value = SparseRows(value._indices(), value._values(), tuple(value.shape))
        _Plain.grad.fset(self, value)  # type: ignore[attr-defined]

    @property
    def grad_fn(self) -> Any:
        """The node of the graph that made it, None for variables and constants."""
        return None if self.is_leaf else self.edge

    def numpy(self, *, force: bool = False) -> Any:
        if self.edge is not None and not force:
            msg = "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            raise RuntimeError(msg)
        return _Plain.numpy(self)

    def assign_(self, value: Any) -> Any:
        own = memory_of(self)
        if own is None or own.parent is None:
            return _Plain.assign_(self, value)
        return write(self, fitted(self, asarray(value, dtype=self.dtype), "assign_"))

    def _scalar(self, kind: Callable[[Any], Any]) -> Any:
        return _Plain._scalar(self if not self._data.shape or self.size != 1 else reshape(self, ()), kind)

    def __len__(self) -> int:
        if not self._data.shape:
            msg = "len() of a 0-d tensor"
            raise TypeError(msg)
        return int(self._data.shape[0])

    def __iter__(self) -> Iterator[Any]:
        if not self._data.shape:
            msg = "iteration over a 0-d tensor"
            raise TypeError(msg)
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return bool(_some(self == value))

    def __repr__(self) -> str:
        text = super().__repr__()
        return "tensor" + text[len(type(self).__name__) :] if type(self) is Tensor else text

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if self._data.shape else format(self.item(), spec)

    __hash__ = object.__hash__

    # ----- parts -----

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and (rank := len(self._data.shape)):
            place = (key,) if rank == 1 else (key, ...)
            y = adopt(basic_getitem(self, key=place))
            return shows(
                y, self, lambda x: basic_getitem(x, key=place), lambda x, new: _with_part(x, key, new)
            )
        if type(key) is not tuple or not _AS_THEY_ARE.issuperset(map(type, key)):
            key = _key(key)
            if _apart(key):
                first, rest = _halves(self, key)
                return self[first][rest]
            if not _basic(key):
                return adopt(indexing.getitem(self, key))
        y = adopt(indexing.getitem(self, key))
        return shows(y, self, lambda x: indexing.getitem(x, key), lambda x, new: _with_part(x, key, new))

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in _AS_THEY_ARE:
            key = _key(key)
        value = number(value)
        if type(key) is tuple and _apart(key):
            first, rest = _halves(self, key)
            self[first][rest] = value
            return
        own = memory_of(self)
        if own is None or (own.parent is None and next(own.live(), None) is None):
            note(self, "written")
            indexing.setitem(self, key, value)
        else:
            write(self, _with_part(self, key, value))

    # ----- kinds -----

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """In another dtype and on another device, given in any order or by name; itself where nothing changes and not ``copy=True``."""
        if len(args) == 1 and not kwargs and type(args[0]) is dtypes.DType:
            return self if args[0] is self.dtype else converted(self, args[0])
        kind, where, copy = _targets(self, args, kwargs)
        y = self
        if where is not None and where != _Plain.device.fget(self):  # type: ignore[attr-defined]
            y = adopt(to_device(y, str(where)))
        if kind is not None and kind is not y.dtype:
            y = converted(y, kind)
        return y if y is not self or not copy else adopt(asarray(y, copy=True))


Tensor._results = Tensor


class _Note:
    """An attribute that scripts give to parameters, such as ``p.hessian = …``: found on the class, its values lie with the parameters, so
    that reading what every Tensor has costs no more."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, p: Any, kind: Any = None) -> Any:
        notes = {} if p is None else getattr(p, "_notes", {})
        if self.name not in notes:
            msg = f"{(kind or type(p)).__name__} has no attribute {self.name!r}"
            raise AttributeError(msg)
        return notes[self.name]

    def __set__(self, p: Any, value: Any) -> None:
        p._notes = {**getattr(p, "_notes", {}), self.name: value}  # copies may share what was there before

    def __delete__(self, p: Any) -> None:
        self.__get__(p)
        p._notes = {name: value for name, value in p._notes.items() if name != self.name}


class _Misspelt:
    """An attribute that PyTorch's tensors have only because they take any: ``pe.require_grad = False`` stands in many scripts, for
    `requires_grad`. It changes nothing there or here; what it is set to is kept while the tensor lives."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def __get__(self, x: Any, kind: Any = None) -> Any:
        if x is None or id(x) not in self.kept:
            msg = f"{(kind or type(x)).__name__} has no attribute 'require_grad'; the name is requires_grad"
            raise AttributeError(msg)
        return self.kept[id(x)][1]

    def __set__(self, x: Any, value: Any) -> None:
        number = id(x)
        self.kept[number] = (weakref.ref(x, lambda _: self.kept.pop(number, None)), value)


Tensor.require_grad = _Misspelt()  # type: ignore[attr-defined]


class Parameter(Tensor, tensor.Parameter):
    """A Tensor that a module trains. As in PyTorch it takes attributes of any name."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(self, "__dict__") and not any(name in kind.__dict__ for kind in type(self).__mro__):
            setattr(Parameter, name, _Note(name))
        super().__setattr__(name, value)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        tensor.Tensor.__init__(self, empty(0) if data is None else data)
        if requires_grad:
            self.requires_grad_()

    def __repr__(self) -> str:
        return "Parameter containing:\n" + "tensor" + super().__repr__()[len("Parameter") :]


class Buffer(Tensor, tensor.Buffer):
    """A Tensor that belongs to a module's state and is not trained."""

    __slots__ = ()

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        tensor.Tensor.__init__(self, empty(0) if data is None else data)
        self.persistent = persistent


class _SparseRows(SparseRows, Tensor):  # type: ignore[misc]
    """A gradient that is rows of a table: a tensor of the layout COO with one sparse axis."""

    __slots__ = ()
    layout: ClassVar[str] = "torch.sparse_coo"

    def sparse_dim(self) -> int:
        """1: the rows."""
        return 1

    def dense_dim(self) -> int:
        """The axes of a row."""
        return self.ndim - 1


class UninitializedParameter(lazy.UninitializedParameter):
    """A parameter of a lazy layer before its first call; it becomes a `Parameter` of this room."""

    __slots__ = ()
    becomes: ClassVar[Any] = Parameter


class UninitializedBuffer(lazy.UninitializedBuffer):
    """A buffer of a lazy layer before its first call; it becomes a `Buffer` of this room."""

    __slots__ = ()
    becomes: ClassVar[Any] = Buffer


_WAITING: dict[Any, Any] = {
    lazy.UninitializedParameter: UninitializedParameter,
    lazy.UninitializedBuffer: UninitializedBuffer,
}


def _detached(x: Any) -> Any:
    return _Plain.detach(x)


def _second(_: Any, new: Any) -> Any:
    return new


def _some(x: Any) -> Any:
    """Whether some element is true."""
    from anynet.ops.reductions import any  # late: a name of Python's

    return any(x)


_AS_THEY_ARE = frozenset((int, slice, type(None), type(...)))


def _key(key: Any) -> Any:
    """An index as the array API has it: scalars of NumPy and ranges as Python's, bytes as a mask, a list of indices as a tuple."""
    if type(key) in _AS_THEY_ARE:
        return key
    if isinstance(key, tuple):
        return tuple([k if type(k) in _AS_THEY_ARE else _key(k) for k in key])
    if isinstance(key, range):
        return list(key)
    if not isinstance(key, _Plain) and registry.is_array(key) and key.shape:
        key = asarray(key)
    if isinstance(key, _Plain):
        if key.dtype is dtypes.uint8:
            return astype(key, dtypes.bool)
        known = not COMPILING and not tensor.is_batched_array(key._data)
        return int(key) if known and _number_like(key) else key  # an integer takes a view
    if isinstance(key, list) and len(key) < 32 and any(_nested(k) for k in key):
        return tuple(_key(k) for k in key)
    return number(key)


def _nested(k: Any) -> bool:
    return k is None or k is ... or isinstance(k, (list, tuple, slice, _Plain))


def _number_like(k: Any) -> bool:
    """Whether a part of an index takes one place: an integer, or a Tensor of one without axes."""
    if isinstance(k, _Plain):
        return not k.shape and k.dtype.kind in ("int", "uint")
    return isinstance(k, int) and not isinstance(k, bool)


def _apart(key: Any) -> bool:
    """Whether integers and arrays stand in an index with something between: PyTorch takes the integers first, by themselves."""
    if not isinstance(key, tuple) or len(key) < 3 or _AS_THEY_ARE.issuperset(map(type, key)):
        return False
    taken = [i for i, k in enumerate(key) if not (k is None or k is ... or isinstance(k, slice))]
    one = [_number_like(key[i]) for i in taken]
    return any(one) and not all(one) and taken[-1] - taken[0] + 1 != len(taken)


def _halves(x: Any, key: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """An index in two: its integers, and what is left."""
    first: list[Any] = []
    for k in key:
        if _number_like(k):
            first.append(int(k))
        elif k is ...:
            first.append(...)
        elif k is not None:
            mask = isinstance(k, _Plain) and k.dtype is dtypes.bool
            first.extend([slice(None)] * (len(k.shape) if mask else 1))
    return tuple(first), tuple(k for k in key if not _number_like(k))


def _basic(key: Any) -> bool:
    """Whether an index takes a view: integers, slices, None and ``...``."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(
        k is None or k is ... or (isinstance(k, (int, slice)) and not isinstance(k, bool)) for k in parts
    )


def _with_part(x: Any, key: Any, value: Any) -> Any:
    """x with another value at an index, as a new Tensor."""
    y = tensor.with_data_of(x, Tensor)
    y.edge = x.edge
    if y.edge is not None and type(y.edge) is tensor.Leaf:
        if this_thread.recording:
            y = adopt(reshape(x, x.shape))
        else:
            y.edge = None
    indexing.setitem(y, key, value)
    return y


def _targets(x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, bool]:
    """The dtype, the device and whether to copy, of the arguments of ``to``."""
    kind, where, copy = kwargs.pop("dtype", None), kwargs.pop("device", None), bool(kwargs.pop("copy", False))
    other = kwargs.pop("other", None)
    kwargs.pop("non_blocking", None)
    kwargs.pop("memory_format", None)
    if kwargs:
        msg = f"to: unknown arguments {', '.join(kwargs)}"
        raise TypeError(msg)
    for a in (*args, *(() if other is None else (other,))):
        if isinstance(a, _Plain):
            kind, where = a.dtype, _Plain.device.fget(a)  # type: ignore[attr-defined]
        elif isinstance(a, bool):  # non_blocking
            continue
        elif isinstance(a, int):
            where = f"cuda:{a}"
        elif isinstance(a, str) and (isinstance(a, device) or a not in dtypes.names()):
            where = a
        elif a is not None:
            kind = a
    return (None if kind is None else dtypes.of(kind)), where, copy


# ----- operators -----


def _known(x: Any) -> bool:
    return isinstance(x, (bool, int, float, complex, _Plain)) or (
        hasattr(x, "dtype") and (x.shape == () or registry.is_array(x))
    )


def _divide(a: Any, b: Any) -> Any:
    return e.divide(*(as_float(x) if isinstance(x, _Plain) else x for x in (a, b)))


def _install(name: str, function: Callable[[Any, Any], Any]) -> None:
    given = prepared_floats if function is _divide else prepared

    def forward(self: Any, other: Any, /) -> Any:
        return function(*given(self, other)) if _known(other) else NotImplemented

    def backward(self: Any, other: Any, /) -> Any:
        return function(*given(other, self)) if _known(other) else NotImplemented

    def update(self: Any, other: Any, /) -> Any:
        if not _known(other):
            return NotImplemented
        return write(self, fitted(self, function(*given(self, other)), f"__i{name}__"))

    setattr(Tensor, f"__{name}__", forward)
    setattr(Tensor, f"__r{name}__", backward)
    setattr(Tensor, f"__i{name}__", update)


for _name, _function in {
    "add": e.add, "sub": e.subtract, "mul": e.multiply, "truediv": _divide, "floordiv": floor_divide, "mod": remainder,
    "pow": e.pow, "matmul": matmul, "and": e.bitwise_and, "or": e.bitwise_or, "xor": e.bitwise_xor,
    "lshift": e.bitwise_left_shift, "rshift": e.bitwise_right_shift,
}.items():  # fmt: skip
    _install(_name, _function)  # type: ignore[arg-type]


def _compare(name: str, function: Callable[[Any, Any], Any]) -> None:
    def forward(self: Any, other: Any, /) -> Any:
        return function(*prepared(self, other)) if _known(other) else NotImplemented

    setattr(Tensor, f"__{name}__", forward)


for _name, _function in {
    "eq": e.equal, "ne": e.not_equal, "lt": e.less, "le": e.less_equal, "gt": e.greater, "ge": e.greater_equal,
}.items():  # fmt: skip
    _compare(_name, _function)
tensor.flavours.append(Tensor)
