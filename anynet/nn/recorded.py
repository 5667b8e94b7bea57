"""What a module was made with: its class and the arguments of its constructor, kept so that it can be described (`anynet.nn.description`).

Kept are values, not objects: a module among the arguments is its own record, an array its shape and dtype (and its numbers where they
are few), so that nothing stays in memory for it, and what is changed afterwards changes nothing here.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import numbers
import os
import sys
import types
from typing import Any

from anynet import dtypes
from anynet.tensor import Buffer, Parameter, Tensor, unwrap
from anynet_backends import backend_of, host, registry

__all__ = ["FEW", "PLAIN", "ArrayValue", "FieldsOf", "Opaque", "Recorded", "array_value", "plain", "record"]

PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})
FEW = 4096
"""An array of so many bytes is kept with its numbers."""


class _Value:
    """A value: copies are the same object."""

    __slots__: tuple[str, ...] = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return functools.partial(type(self), **{name: getattr(self, name) for name in self.__slots__}), ()


class Recorded(_Value):
    """A class and the arguments that it was called with."""

    __slots__ = ("args", "cls", "kwargs")

    def __init__(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        self.cls, self.args, self.kwargs = cls, args, kwargs


class ArrayValue(_Value):
    """An array or Tensor: `kind` is array, tensor, parameter or buffer; `data` its bytes (base64, little-endian, C order) or None."""

    __slots__ = ("data", "dtype", "kind", "persistent", "requires_grad", "shape")

    def __init__(
        self,
        kind: str,
        shape: tuple[int, ...] | None,
        dtype: str,
        data: str | None,
        requires_grad: bool,
        persistent: bool,
    ) -> None:
        self.kind, self.shape, self.dtype, self.data = kind, shape, dtype, data
        self.requires_grad, self.persistent = requires_grad, persistent


class FieldsOf(_Value):
    """An object that is its fields: a data class or a namespace."""

    __slots__ = ("cls", "fields")

    def __init__(self, cls: type, fields: dict[str, Any]) -> None:
        self.cls, self.fields = cls, fields


class Opaque(_Value):
    """What cannot be kept; `what` says what it was."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


def record(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorded:
    """The record of a call of a class."""
    for value in (*args, *kwargs.values()):
        if type(value) not in PLAIN:
            args = tuple(map(plain, args))
            kwargs = {k: plain(v) for k, v in kwargs.items()}
            break
    return Recorded(getattr(cls, "_unparametrized", cls), args, kwargs or None)


def plain(value: Any, largest: int = FEW) -> Any:
    """A value as it is kept."""
    kind = type(value)
    if kind in PLAIN or isinstance(value, (_Value, dtypes.DType)):
        return value
    made = getattr(value, "__dict__", {}).get("_made")
    if isinstance(made, Recorded):  # a module
        return made
    if hasattr(value, "dtype") and hasattr(kind, "shape"):
        number = not isinstance(value, Tensor) and value.shape == () and isinstance(value, numbers.Number)
        return value.item() if number else array_value(value, largest)
    if kind in (list, tuple, set, frozenset):
        return kind(plain(v, largest) for v in value)
    if isinstance(value, dict):
        items = {k: plain(v, largest) for k, v in value.items() if type(k) in PLAIN}
        return (
            items
            if len(items) == len(value)
            else Opaque(f"{kind.__name__} with other keys than numbers and texts")
        )
    return _object(value, largest)


def _object(value: Any, largest: int) -> Any:
    """What is no container."""
    kind = type(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return FieldsOf(kind, {k: plain(v, largest) for k, v in zip(value._fields, value, strict=True)})
    if isinstance(value, (type, enum.Enum, range, slice)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return FieldsOf(kind, {k: plain(v, largest) for k, v in fields.items()})
    if kind is types.SimpleNamespace or (kind.__module__, kind.__name__) == ("argparse", "Namespace"):
        return FieldsOf(kind, {k: plain(v, largest) for k, v in vars(value).items()})
    if isinstance(value, functools.partial):
        return FieldsOf(
            functools.partial,
            {"function": plain(value.func), "args": [plain(v, largest) for v in value.args],
             "kwargs": {k: plain(v, largest) for k, v in value.keywords.items()}},
        )  # fmt: skip
    if callable(value) and by_name(value) is value:
        return value
    try:
        return dtypes.of(value)
    except TypeError:
        name = getattr(value, "__qualname__", None)
        return Opaque(
            f"the function {name}" if name and callable(value) else f"an object of type {kind.__qualname__}"
        )


def by_name(value: Any) -> Any:
    """What stands in a function's module under its name; None where nothing does."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in str(getattr(value, "__qualname__", None) or getattr(value, "__name__", "?")).split("."):
        found = getattr(found, part, None)
    return found


def array_value(value: Any, largest: int) -> ArrayValue:
    """An array's shape and dtype, and its numbers if they take at most `largest` bytes."""
    kinds = {Parameter: "parameter", Buffer: "buffer", Tensor: "tensor"}
    kind = next((name for cls, name in kinds.items() if isinstance(value, cls)), "array")
    wanted, persistent = (
        bool(getattr(value, "requires_grad", False)),
        bool(getattr(value, "persistent", True)),
    )
    dtype = dtypes.of(value.dtype)
    try:
        shape = tuple(map(int, value.shape))
    except (RuntimeError, TypeError):  # not known yet: a lazy layer's
        return ArrayValue(kind, None, dtype.name, None, wanted, persistent)
    data, size = None, dtype.itemsize
    for n in shape:
        size *= n
    if size <= largest:
        array = value._data if isinstance(value, Tensor) else value
        try:
            array = registry.asarray(backend_of(array).to_host(unwrap(array)))
            data = base64.b64encode(host.to_bytes(array)).decode()
        except (TypeError, ValueError, RuntimeError):  # of a trace: there are no numbers yet
            data = None
    return ArrayValue(kind, shape, dtype.name, data, wanted, persistent)
