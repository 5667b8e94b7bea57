"""Data types: one object per dtype of the array API standard, whatever library holds the data.

``x.dtype == an.float32`` is true on every backend. Native dtypes (``numpy.float32``, ``torch.float32``, …) and
names (``"float32"``) are accepted wherever a dtype is.

    >>> import anynet as an
    >>> an.zeros(3).dtype
    anynet.float32
    >>> an.zeros(3).dtype == "float32"
    True
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Final

from anynet._hints import nearest
from anynet_backends import Backend

__all__ = [
    "DType", "bool", "complex128", "complex64", "default_float", "float32", "float64", "int16", "int32", "int64",
    "int8", "native", "of", "set_default_float", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip

_by_name: dict[str, DType] = {}
_by_native: dict[Any, DType] = {}
_by_class: dict[type, DType] = {}  # NumPy's dtypes of numbers, which have a class each


class DType:
    """A data type: `name`, `kind` (bool, int, uint, real, complex) and `itemsize` in bytes."""

    __slots__ = ("itemsize", "kind", "name")

    def __init__(self, name: str, kind: str, itemsize: int) -> None:
        self.name: Final = name
        self.kind: Final = kind
        self.itemsize: Final = itemsize
        _by_name[name] = self

    @property
    def is_floating(self) -> builtins.bool:
        """True for real and complex floating-point types: those that have gradients."""
        return self.kind in ("real", "complex")

    @property
    def is_floating_point(self) -> builtins.bool:
        """True for real floating-point types, as PyTorch's."""
        return self.kind == "real"

    @property
    def is_complex(self) -> builtins.bool:
        """True for complex types, as PyTorch's."""
        return self.kind == "complex"

    @property
    def is_signed(self) -> builtins.bool:
        """False for unsigned integers and booleans, as PyTorch's."""
        return self.kind not in ("uint", "bool")

    def __repr__(self) -> str:
        return f"anynet.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, DType):
            return self is other
        try:
            return of(other) is self
        except TypeError:
            return False

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return of, (self.name,)


int8 = DType("int8", "int", 1)
int16 = DType("int16", "int", 2)
int32 = DType("int32", "int", 4)
int64 = DType("int64", "int", 8)
uint8 = DType("uint8", "uint", 1)
uint16 = DType("uint16", "uint", 2)
uint32 = DType("uint32", "uint", 4)
uint64 = DType("uint64", "uint", 8)
float32 = DType("float32", "real", 4)
float64 = DType("float64", "real", 8)
complex64 = DType("complex64", "complex", 8)
complex128 = DType("complex128", "complex", 16)
bool = DType("bool", "bool", 1)  # the standard's name
_half = DType("float16", "real", 2), DType("bfloat16", "real", 2)  # where the backend has them

_default_float = float32
listeners: list[Callable[[], None]] = []
"""Called after the default has been set."""


def wide(xp: Backend, dtype: Any) -> Any:
    """The backend's dtype in which statistics of a dtype are taken: float32 for shorter ones."""
    return xp.float32 if of(dtype) in _half else dtype


def of(dtype: Any) -> DType:
    """The `DType` for a DType, a name, a native dtype of any backend, or Python's bool, int, float, complex."""
    known = _by_class.get(type(dtype))
    if known is not None:
        return known
    if isinstance(dtype, DType):
        return dtype
    try:
        return _by_native[
            type(dtype), dtype
        ]  # with its type: dtypes of different libraries are never compared
    except (KeyError, TypeError):
        pass
    found: DType | None = None
    if isinstance(dtype, str):
        found = _by_name.get(dtype)
    elif dtype is float:
        return _default_float
    elif dtype is complex:
        return complex64 if _default_float is float32 else complex128
    elif dtype is int:
        return int64
    elif dtype is builtins.bool:
        return bool
    else:
        # numpy.float32 (a class), numpy.dtype('float32'), torch.float32, array_api_strict.float32: all end in the name
        name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
        name = name if isinstance(name, str) else str(dtype).rpartition(".")[2]
        found = _by_name.get(name.rstrip("_"))
        if found is not None:
            _by_native[type(dtype), dtype] = found
            if type(dtype).__module__ == "numpy.dtypes":
                _by_class[type(dtype)] = found
    if found is None and getattr(dtype, "kind", None) in ("U", "S", "O", "T"):
        what = "objects" if dtype.kind == "O" else "strings"
        hint = (
            "; labels become class indices by numpy.unique(labels, return_inverse=True)[1]"
            if what == "strings"
            else ""
        )
        msg = f"expected numbers, got {what} (dtype {dtype}){hint}"
        raise TypeError(msg)
    if found is None:
        msg = f"not a dtype: {dtype!r}{nearest(dtype, sorted(_by_name))}"
        raise TypeError(msg)
    return found


def native(xp: Backend, dtype: Any) -> Any:
    """The backend's own dtype object for `dtype`; TypeError where the backend has no such type."""
    name = of(dtype).name
    try:
        return xp.native_dtype[name]
    except KeyError:
        msg = f"the {xp.name} backend has no dtype {name}; it has {', '.join(xp.native_dtype)}"
        raise TypeError(msg) from None


def default_float() -> DType:
    """The real dtype of new arrays made from Python floats: float32 unless set otherwise."""
    return _default_float


def set_default_float(dtype: Any) -> None:
    """Make `dtype` (float32 or float64) the real dtype of arrays that are created without one."""
    global _default_float
    new = of(dtype)
    if new is not float32 and new is not float64:
        msg = f"the default float must be float32 or float64, got {new}"
        raise TypeError(msg)
    _default_float = new
    for listener in listeners:
        listener()


def names() -> tuple[str, ...]:
    """The names of all dtypes."""
    return tuple(_by_name)
