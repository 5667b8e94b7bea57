"""New tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops.manipulation import astype
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import wrap
from anynet.torch.table import offered
from anynet.torch.tensor import Tensor, adopt

_INTS = frozenset((int,))
_OPTIONS = {"layout", "pin_memory", "memory_format", "names"}


def place(device: Any) -> str | None:
    """The name of a device as anynet has it."""
    return None if device is None else f"cuda:{device}" if isinstance(device, int) else str(device)


def settled(y: Any, requires_grad: bool, rest: dict[str, Any]) -> Any:
    """A new Tensor as a variable where it is to be one; options that change how PyTorch stores it change nothing here."""
    if rest and (unknown := set(rest) - _OPTIONS):
        msg = f"got an unexpected keyword argument {sorted(unknown)[0]!r}"
        raise TypeError(msg)
    y = adopt(y)
    return y.requires_grad_() if requires_grad else y


def lengths(size: tuple[Any, ...], named: dict[str, Any]) -> tuple[int, ...]:
    """A shape that comes length by length, as a sequence, or as ``size=``."""
    if _INTS.issuperset(map(type, size)) and "size" not in named:
        return size
    if not size and "size" in named:
        size = (named.pop("size"),)
    if len(size) == 1 and not hasattr(size[0], "__index__"):
        size = tuple(size[0])
    return tuple([int(n) for n in size])


@offered(
    "torch.tensor([1, 2])",
    "torch.tensor([[1., 2.]], dtype=torch.float64)",
    "torch.tensor(3)",
    "torch.tensor(True)",
    "torch.tensor([])",
    method=False,
)
def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Any:
    if isinstance(data, AnyTensor):
        data = data.detach()
    y = c.asarray(data, dtype=dtype, device=place(device), copy=True if hasattr(data, "dtype") else None)
    if y.edge is not None:
        y = y.detach()
    return settled(y, requires_grad, {})


@offered("torch.as_tensor([1, 2])", "torch.as_tensor(x, dtype=torch.float64)", method=False)
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    return c.asarray(data, dtype=dtype, device=place(device))


@offered("torch.asarray([1.5, 2])", method=False)
def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Any:
    return settled(c.asarray(obj, dtype=dtype, device=place(device), copy=copy), requires_grad, {})


@offered(
    "torch.from_numpy(x.detach().numpy())", method=False,
    differs="what is written into the tensor in place may leave the array as it was; what is written into the array is seen in the tensor",
)  # fmt: skip
def from_numpy(ndarray: Any) -> Any:
    return wrap(c.asarray(ndarray)._data)


def _filled(name: str, like: Callable[..., Any], new: Callable[..., Any]) -> None:
    def call(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
    ) -> Any:
        shape = lengths(size, named)
        return settled(new(shape, dtype=dtype, device=place(device)), requires_grad, named)

    shown: tuple[str, ...] = (
        ()
        if name == "empty"
        else (f"torch.{name}(2, 3)", f"torch.{name}((2, 3), dtype=torch.int64)", f"torch.{name}(size=(2,))")
    )
    offered(*shown, name=name, method=False)(call)

    def same(
        input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
    ) -> Any:
        return settled(like(input, dtype=dtype, device=place(device)), requires_grad, named)

    shown = () if name == "empty" else (f"torch.{name}_like(x)", f"torch.{name}_like(x, dtype=torch.int32)")
    offered(*shown, name=f"{name}_like", method=False)(same)

    def method(
        self: Any,
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        **named: Any,
    ) -> Any:
        where = str(self.device) if device is None else place(device)
        y = new(lengths(size, named), dtype=self.dtype if dtype is None else dtype, device=where)
        return settled(y, requires_grad, named)

    shown = () if name == "empty" else (f"i.new_{name}(2, 3)", f"x.new_{name}((2,))")
    offered(*shown, name=f"new_{name}", function=False)(method)


_filled("zeros", c.zeros_like, c.zeros)
_filled("ones", c.ones_like, c.ones)
_filled("empty", c.empty_like, c.empty)


@offered("torch.full((2, 3), 7)", "torch.full((2,), 0.5)", "torch.full((2,), True)", method=False)
def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    return settled(
        c.full(lengths((size,), {}), _plain(fill_value), dtype=dtype, device=place(device)),
        requires_grad,
        named,
    )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


@offered("torch.full_like(x, 7)", method=False)
def full_like(
    input: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    return settled(
        c.full_like(input, _plain(fill_value), dtype=dtype, device=place(device)), requires_grad, named
    )


@offered("x.new_full((2,), 3)", function=False)
def new_full(
    self: Any,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    where = str(self.device) if device is None else place(device)
    y = c.full(
        lengths((size,), {}), _plain(fill_value), dtype=self.dtype if dtype is None else dtype, device=where
    )
    return settled(y, requires_grad, named)


@offered("x.new_tensor([1, 2])", function=False)
def new_tensor(
    self: Any, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
) -> Any:
    where = str(self.device) if device is None else place(device)
    return settled(
        tensor(data, dtype=self.dtype if dtype is None else dtype, device=where), requires_grad, named
    )


@offered("torch.eye(3)", "torch.eye(2, 3, dtype=torch.int64)", method=False)
def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    return settled(c.eye(n, m, dtype=dtype, device=place(device)), requires_grad, named)


@offered(
    "torch.arange(5)",
    "torch.arange(1, 7, 2)",
    "torch.arange(0, 1, 0.25)",
    "torch.arange(start=1, end=4)",
    "torch.arange(0, 6, step=2)",
    "torch.arange(3, dtype=torch.float32)",
    method=False,
)
def arange(
    *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
) -> Any:
    parts = [_plain(a) for a in args]
    given = dict(zip(("end",) if len(parts) == 1 else ("start", "end", "step"), parts, strict=False))
    for name in ("start", "end", "step"):
        if name in named:
            given[name] = _plain(named.pop(name))
    y = c.arange(given.get("start", 0), given["end"], given.get("step", 1), dtype=dtype, device=place(device))
    return settled(y, requires_grad, named)


@offered(
    "torch.linspace(0, 1, 5)",
    "torch.linspace(0, 1, steps=3)",
    "torch.linspace(start=-1, end=1, steps=4)",
    method=False,
)
def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    y = c.linspace(float(start), float(end), int(steps), dtype=dtype, device=place(device))
    return settled(y, requires_grad, named)


@offered("torch.logspace(0, 2, 3)", method=False)
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    y = c.linspace(float(start), float(end), int(steps), dtype=dtypes.float64, device=place(device))
    return settled(astype(e.exp(y * math.log(base)), dtype or dtypes.default_float()), requires_grad, {})


class _Typed(type):
    """The type of ``torch.FloatTensor`` and its like, whose instances are the tensors of a dtype on a kind of device."""

    kind: Any
    place: str

    def __instancecheck__(cls, x: object) -> bool:
        return (
            isinstance(x, Tensor) and x.dtype is cls.kind and str(x.device).startswith("cuda") == (cls.place == "cuda")
        )  # fmt: skip


def _typed(name: str, kind: Any, place: str) -> Any:
    """``torch.FloatTensor`` and its like: tensors of one dtype, from data or of a shape."""

    def make(cls: Any, *data: Any) -> Any:
        if all(isinstance(n, int) for n in data):
            return adopt(c.empty(data or (0,), dtype=kind, device=place))
        return tensor(data[0], dtype=kind, device=place)

    body = {"__slots__": (), "__new__": make, "__init__": object.__init__, "kind": kind, "place": place}
    return _Typed(name, (Tensor,), body)


_KINDS = {
    "FloatTensor": dtypes.float32, "DoubleTensor": dtypes.float64, "LongTensor": dtypes.int64, "IntTensor": dtypes.int32,
    "ShortTensor": dtypes.int16, "CharTensor": dtypes.int8, "ByteTensor": dtypes.uint8, "BoolTensor": dtypes.bool,
    "HalfTensor": dtypes.of("float16"),
}  # fmt: skip
TYPED, TYPED_ON_CUDA = (
    {name: _typed(name, kind, place) for name, kind in _KINDS.items()} for place in ("cpu", "cuda")
)


def _type(self: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of its type, or itself in another: a dtype, a class such as ``torch.FloatTensor`` or its name, which has a device, too."""
    if dtype is None:
        name = next((n for n, kind in _KINDS.items() if kind is self.dtype), self.dtype.name)
        return f"torch.{'cuda.' if str(self.device).startswith('cuda') else ''}{name}"
    if isinstance(dtype, str) and dtype.startswith("torch."):
        dtype = (TYPED_ON_CUDA if dtype.startswith("torch.cuda.") else TYPED).get(
            dtype.rpartition(".")[2], dtype
        )
    if isinstance(dtype, _Typed):
        return self.to(dtype.place, dtype.kind)
    return self.to(dtype)


Tensor.type = _type  # type: ignore[attr-defined]
