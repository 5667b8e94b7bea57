"""The standard's functions about dtypes, and its inspection of the library itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import anynet_backends
from anynet import dtypes
from anynet.tensor import Tensor, unwrap
from anynet_backends import resolve

__all__ = ["__array_namespace_info__", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


class FInfo(NamedTuple):
    """The limits of a floating-point type."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: dtypes.DType


class IInfo(NamedTuple):
    """The limits of an integer type."""

    bits: int
    max: int
    min: int
    dtype: dtypes.DType


_BFLOAT16 = dtypes.of("bfloat16")
"""Which the library that is asked about dtypes may lack: beside others with a fraction it counts as float32, of which it is a part."""


def _dtype(x: Any) -> dtypes.DType:
    return dtypes.of(unwrap(x).dtype if isinstance(x, Tensor) or hasattr(x, "shape") else x)


def _reference(*found: dtypes.DType) -> tuple[Any, list[Any]]:
    """A backend that has these dtypes, and its own objects for them."""
    xp, _ = resolve(None)
    if any(d.name not in xp.native_dtype for d in found):
        xp, _ = resolve("cpu")
    return xp, [dtypes.native(xp, d) for d in found]


def finfo(type: Any, /) -> FInfo:
    """The limits of a floating-point dtype, or of an array's; of a complex one, those of its parts."""
    dtype = _dtype(type)
    if not dtype.is_floating:
        msg = f"finfo: type must be a floating-point dtype, got {dtype}; use iinfo"
        raise TypeError(msg)
    if dtype is _BFLOAT16:
        most = 2.0**128 - 2.0**120
        return FInfo(16, 2.0**-7, most, -most, 2.0**-126, dtype)
    xp, (native,) = _reference(dtype)
    info = xp.finfo(native)
    return FInfo(
        int(info.bits),
        float(info.eps),
        float(info.max),
        float(info.min),
        float(info.smallest_normal),
        dtypes.of(info.dtype),
    )


def iinfo(type: Any, /) -> IInfo:
    """The limits of an integer dtype, or of an array's."""
    dtype = _dtype(type)
    if dtype.kind not in ("int", "uint"):
        msg = f"iinfo: type must be an integer dtype, got {dtype}; use finfo"
        raise TypeError(msg)
    xp, (native,) = _reference(dtype)
    info = xp.iinfo(native)
    return IInfo(int(info.bits), int(info.max), int(info.min), dtypes.of(info.dtype))


_KINDS = {
    "bool": ("bool",), "signed integer": ("int",), "unsigned integer": ("uint",), "integral": ("int", "uint"),
    "real floating": ("real",), "complex floating": ("complex",), "numeric": ("int", "uint", "real", "complex"),
}  # fmt: skip


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, one of the standard's names, or a tuple of those."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return dtypes.of(dtype).kind in _KINDS[kind]
    try:
        return dtypes.of(dtype) is dtypes.of(kind)
    except TypeError:
        msg = f"isdtype: kind must be a dtype, one of {', '.join(map(repr, _KINDS))}, or a tuple of those, got {kind!r}"
        raise (ValueError(msg) if isinstance(kind, str) else TypeError(msg)) from None


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether the promotion rules allow this conversion."""
    first, second = _dtype(from_), dtypes.of(to)
    if _BFLOAT16 in (first, second):
        return first is second or (first is _BFLOAT16 and can_cast(dtypes.float32, second))
    xp, (a, b) = _reference(first, second)
    return bool(xp.can_cast(a, b))


def result_type(*arrays_and_dtypes: Any) -> dtypes.DType:
    """The dtype of an operation on these arrays, dtypes and Python scalars."""
    if not arrays_and_dtypes:
        msg = "result_type: at least one array or dtype must be given, got nothing"
        raise ValueError(msg)
    scalars = (bool, int, float, complex)
    found = [None if type(x) in scalars else _dtype(x) for x in arrays_and_dtypes]
    if _BFLOAT16 in found:
        others = [
            x if d is None else d for x, d in zip(arrays_and_dtypes, found, strict=True) if d is not _BFLOAT16
        ]
        wide = [
            x for x in others if (x.is_floating if isinstance(x, dtypes.DType) else isinstance(x, complex))
        ]
        return result_type(dtypes.float32, *wide) if wide else _BFLOAT16
    xp, natives = _reference(*[d for d in found if d is not None])
    if not natives:
        msg = "result_type: an array or a dtype must be given too: of Python scalars alone it is not defined"
        raise ValueError(msg)
    each = iter(natives)
    return dtypes.of(
        xp.result_type(
            *[x if d is None else next(each) for x, d in zip(arrays_and_dtypes, found, strict=True)]
        )
    )


class Info:
    """Capabilities, devices and dtypes of this namespace."""

    def capabilities(self) -> dict[str, Any]:
        """The optional features of the standard: boolean indexing and shapes that depend on data both work."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """Where new arrays go."""
        return resolve(None)[1]

    def devices(self) -> tuple[str, ...]:
        """The devices that work."""
        return tuple(name for name, state in anynet_backends.available().items() if state == "ok")

    def default_dtypes(self, *, device: str | None = None) -> dict[str, dtypes.DType]:
        """The dtypes of new arrays made from Python numbers."""
        resolve(device)
        return {
            "real floating": dtypes.default_float(), "complex floating": dtypes.of(complex), "integral": dtypes.int64,
            "indexing": dtypes.int64,
        }  # fmt: skip

    def dtypes(self, *, device: str | None = None, kind: Any = None) -> dict[str, dtypes.DType]:
        """The dtypes by name, of one kind if asked."""
        xp, name = resolve(device)
        there = xp.dtypes_on(name)
        standard = ("bool", *(n for n in dtypes.names() if n not in ("bool", "float16", "bfloat16")))
        found = {n: dtypes.of(n) for n in standard if n in there}
        return found if kind is None else {n: d for n, d in found.items() if isdtype(d, kind)}


def __array_namespace_info__() -> Info:
    """Capabilities, devices and dtypes of this namespace (the standard's inspection functions)."""
    return Info()
