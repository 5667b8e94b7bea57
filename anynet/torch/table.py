"""The one table of this room: which names of PyTorch there are, what each computes, where it differs, and lines that show it.

A row is a function with the decorator `offered`. From the rows come the functions of `anynet.torch`, the methods of its `Tensor`, the forms
in place (``add_``), the page "From PyTorch", and the tests: each example is run with this room and with PyTorch, and compared.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anynet.ops.creation import empty_like
from anynet.tensor import unwrap
from anynet.torch.memory import fitted, shows, write
from anynet.torch.tensor import Tensor, adopt

__all__ = ["TABLE", "Row", "alias", "offered", "offered_view"]

_F = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """A name: the function, lines of code that are compared with PyTorch, and where it differs from PyTorch's."""

    name: str
    function: _F
    examples: tuple[str, ...]
    differs: str = ""
    is_function: bool = True
    is_method: bool = True
    in_place: bool = False


TABLE: dict[str, Row] = {}
"""The rows by name."""


def _keywords(kwargs: dict[str, Any]) -> dict[str, Any]:
    """NumPy's words for arguments, which PyTorch takes too."""
    for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim"), ("x", "input")):
        if theirs in kwargs:
            kwargs[ours] = kwargs.pop(theirs)
    return kwargs


def _finished(function: _F, *, numpys: bool) -> _F:
    """The function as it is called: its results are Tensors of this room, ``out=`` takes them."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            return adopt(function(*args))
        out = kwargs.pop("out", None)
        y = adopt(function(*args, **(_keywords(kwargs) if numpys else kwargs)))
        if out is None:
            return y
        if isinstance(out, Tensor):
            return _put(out, y, function.__name__)
        return type(y)(*(_put(o, v, function.__name__) for o, v in zip(out, y, strict=True)))

    return call


def _put(out: Tensor, y: Any, name: str) -> Any:
    """``out=`` takes a result; an empty one takes its shape, too."""
    if math.prod(out.shape) == 0 and tuple(y.shape) != tuple(out.shape):
        out._data = unwrap(empty_like(y, dtype=out.dtype))
    return write(out, fitted(out, y, name))


def _part_of(function: _F, number: int, args: Any, kwargs: Any, x: Any) -> Any:
    return function(x, *args, **kwargs)[number]


def _in_place(name: str, function: _F) -> _F:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return write(self, fitted(self, adopt(function(self, *args, **kwargs)), name))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{name[:-1]}` in place."
    return call


def _add(row: Row) -> None:
    if row.name in TABLE:
        msg = f"the table has two rows {row.name!r}"
        raise ValueError(msg)
    TABLE[row.name] = row
    if row.is_method:
        setattr(Tensor, row.name, row.function)
    if row.in_place:
        setattr(Tensor, f"{row.name}_", _in_place(f"{row.name}_", row.function))


def offered(
    *examples: str,
    name: str = "",
    function: bool = True,
    method: bool = True,
    in_place: bool = False,
    differs: str = "",
) -> Callable[[_F], _F]:
    """Decorator: a row of the table. `examples` are lines that may name the tensors of the tests; the others say where the name stands."""

    def define(f: _F) -> _F:
        f.__name__ = own = name or f.__name__.rstrip("_")
        words = "axis" not in inspect.signature(f).parameters
        _add(Row(own, _finished(f, numpys=words), examples, differs, function, method, in_place))
        return TABLE[own].function

    return define


def offered_view(
    *examples: str,
    name: str = "",
    function: bool = True,
    method: bool = True,
    put: _F | None = None,
    fits: _F | None = None,
    differs: str = "",
) -> Callable[[_F], _F]:
    """Decorator: a row whose result shows the memory of its first argument: what is written into it is written there.

    `put(x, new, …)` makes a new x from a new value of the view; without it that is found from the numbers of the elements. `fits`: see
    `shows`.
    """

    def define(f: _F) -> _F:
        f.__name__ = own = name or f.__name__.rstrip("_")

        @functools.wraps(f)
        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs:
                kwargs = _keywords(kwargs)
            y = adopt(f(x, *args, **kwargs))
            if isinstance(y, tuple):
                for i, part in enumerate(y):
                    shows(part, x, functools.partial(_part_of, f, i, args, kwargs))
                return y
            back = None if put is None else lambda z, new: put(z, new, *args, **kwargs)
            return shows(y, x, lambda z: f(z, *args, **kwargs), back, fits=fits)

        _add(Row(own, call, examples, differs, function, method))
        return call

    return define


def alias(name: str, of: str, **changes: Any) -> None:
    """A second name of a row."""
    row = TABLE[of]
    values = {"is_function": row.is_function, "is_method": row.is_method, "in_place": row.in_place, **changes}
    examples = tuple(x.replace(f"{of}(", f"{name}(") for x in row.examples)
    _add(Row(name, row.function, examples, row.differs, **values))
