"""Functions of array-api-compat that wait for the GPU (it indexes with masks, whose size the host must know), without that; conversions
that round once; and LinAlgError for singular matrices, which CuPy answers with NaN unless it is asked to look."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["astype_of", "clip_of", "raising", "sign_of"]

_SIGN: Final = ("T x", "T y", "y = x != x ? x : T(int(x > T(0)) - int(x < T(0)))", "anynet_sign")

# float64 → 16 bits by way of a float32 whose last bit says whether something was cut off, so that the second rounding is the only one
_SHORTEN: Final = (
    "float64 x",
    "T y",
    """
    float f = float(x);
    if (double(f) != x) f = __int_as_float((__float_as_int(f) - (fabs(double(f)) > fabs(x))) | 1);
    y = T(f);
    """,
    "anynet_shorten",
)


def astype_of(cupy: Any, compat: Callable[..., Array]) -> Callable[..., Array]:
    """The standard's `astype`; from float64 to 16 bits rounded once (CuPy rounds to float32 before)."""

    @functools.cache
    def kernel() -> Any:
        return cupy.ElementwiseKernel(*_SHORTEN)

    def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
        if x.dtype.char != "d" or device is not None or np.dtype(dtype).char not in "eE":
            return compat(x, dtype, copy=copy, device=device)
        made: Array = kernel()(x, cupy.empty_like(x, dtype=dtype))
        return made

    return astype


def clip_of(cupy: Any) -> Callable[..., Array]:
    """The standard's `clip`: NaN in x or in a bound is passed on, and the result has the dtype of x."""

    def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
        low, high = _bound(cupy, x, min, np.iinfo, below=True), _bound(cupy, x, max, np.iinfo, below=False)
        y = x if low is None else cupy.maximum(x, low)
        if high is not None:
            return cupy.minimum(y, high)
        return y.copy() if y is x else y

    return clip


def _bound(cupy: Any, x: Array, bound: Any, limits: Callable[[Any], Any], below: bool) -> Any:
    """A bound in the dtype of x; None where it bounds nothing."""
    if bound is None:
        return None
    if isinstance(bound, cupy.ndarray):
        return bound.astype(x.dtype, copy=False)
    if x.dtype.kind in "iu":
        bound, range_ = int(bound), limits(x.dtype)
        if bound <= range_.min if below else bound >= range_.max:
            return None
    return bound


def sign_of(cupy: Any, compat: Callable[..., Array]) -> Callable[..., Array]:
    """The standard's `sign`, NaN where x is NaN (CuPy's own answers 0)."""

    @functools.cache
    def kernel() -> Any:
        return cupy.ElementwiseKernel(*_SIGN)

    def sign(x: Array, /) -> Array:
        return kernel()(x) if x.dtype.kind in "fV" else compat(x)

    return sign


def raising(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Functions of linear algebra that raise LinAlgError as NumPy's do: the host waits to read what the GPU found."""

    def raises(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with importlib.import_module("cupyx").errstate(linalg="raise"):
                return function(*args, **kwargs)

        return call

    return {name: raises(function) for name, function in functions.items()}
