"""The array API standard in NumPy: functions that NumPy spells otherwise, or whose wrappers are slow on small arrays.

NumPy 2 is nearly the standard itself, so its own functions are used, without a wrapper's cost per call; the few that differ are
replaced here. (array-api-compat replaces the same ones, but importing its NumPy part also imports numpy.f2py and numpy.testing,
which trebles the time that ``import anynet`` takes.)
"""

from __future__ import annotations

import functools
import importlib
import math
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends import array_api
from anynet_backends.array_api import Array
from anynet_backends.backend import UnknownDeviceError
from anynet_backends.memory.reductions import PLAIN_FLOATS, sum_by_dot
from anynet_backends.memory.selection import where

__all__ = ["FInfo", "largest", "namespace", "numpy_blas", "same_float_dtype", "smallest"]


# ---- functions in which NumPy differs from the standard ----


def _astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
    """`np.astype` refuses array scalars, which NumPy's reductions return."""
    _check_device(device)
    return x.astype(dtype, copy=copy)


def _check_device(device: Any) -> None:
    if device is not None and device != "cpu":
        msg = f"the device of NumPy arrays must be 'cpu', got {device!r}"
        raise UnknownDeviceError(msg)


def _clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """The result has the dtype of `x`, and bounds outside the range of an integer dtype do not bind."""
    dtype = x.dtype
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        lowest, highest = int(info.min), int(info.max)
        if isinstance(min, (int, float)):
            min = None if min <= lowest else math.ceil(min) if min <= highest else highest
        if isinstance(max, (int, float)):
            max = None if max >= highest else math.floor(max) if max >= lowest else lowest
    y = x
    if min is not None:
        y = np.maximum(y, min)
    if max is not None:
        y = np.minimum(y, max)
    if y is x:
        return np.array(x)
    return y if y.dtype == dtype else y.astype(dtype)


def _count_nonzero(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    # NumPy gives a Python int for axis=None
    return np.asarray(np.count_nonzero(x, axis=axis, keepdims=keepdims))


def _take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    return np.take_along_axis(x, indices, axis=axis)


def _diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    ends: dict[str, Any] = {}
    if prepend is not None:  # NumPy would take None for an object to prepend
        ends["prepend"] = prepend
    if append is not None:
        ends["append"] = append
    return np.diff(x, n=n, axis=axis, **ends)


def _sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    y = np.sort(x, axis=axis, kind="stable" if stable else None)
    return np.flip(y, axis=axis) if descending else y


def _argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    if x.dtype == np.float32 and x.size >= _MANY and x.shape[axis] >= _LONG:
        return _argsort_by_keys(x, axis, descending)
    kind: Any = "stable" if stable else None
    if not descending:
        return np.argsort(x, axis=axis, kind=kind)
    # sorting the reversed array and reversing the order keeps equal elements in their first order
    back = (*(slice(None),) * (axis % max(x.ndim, 1)), slice(None, None, -1))
    order = np.argsort(x[back], axis=axis, kind=kind)[back]
    return x.shape[axis] - 1 - order


_MANY: Final = 1 << 11
_LONG: Final = 16
"""Elements, and how many of them along the axis, from which integers are sorted sooner than positions."""


def _argsort_by_keys(x: Array, axis: int, descending: bool) -> Array:
    """The stable order of float32 numbers by sorting integers, for which NumPy has vector instructions."""
    keys = _keys(x, axis, descending)
    keys.sort(axis=-1)
    keys &= 0xFFFFFFFF
    return np.moveaxis(keys, -1, axis)


def first_in_order(x: Array, k: int, axis: int, descending: bool) -> Array | None:
    """The first k of `_argsort`, where they are few of many float32 numbers: the numbers themselves are sorted, which takes a sixth of the
    time, and say which belong to the first. None where that is not so, or where it is not clear which of equal ones do."""
    n = x.shape[axis]
    if x.dtype != np.float32 or x.size < _MANY or n < _LONG or not 0 < k <= n // 4:
        return None
    rows = np.moveaxis(x, axis, -1)
    ranked = np.sort(rows, axis=-1)
    if np.isnan(ranked[..., -1]).any():  # NaN comes last
        return None
    last = ranked[..., n - k if descending else k - 1, None]
    chosen = rows >= last if descending else rows <= last
    (places,) = np.nonzero(chosen.reshape(-1))
    lead = rows.shape[:-1]
    if places.size != math.prod(lead) * k or (np.count_nonzero(chosen, axis=-1) != k).any():
        return None
    places = places.reshape(*lead, k) % n
    order = _argsort(np.take_along_axis(rows, places, -1), axis=-1, descending=descending)
    return np.moveaxis(np.take_along_axis(places, order, -1), -1, axis)


def _keys(x: Array, axis: int, descending: bool) -> Array:
    """float32 numbers along an axis, which becomes the last, as integers: the bits of a number, in the order of the numbers, above its
    position. NaN is larger than all numbers, as in NumPy."""
    y = np.add(np.moveaxis(x, axis, -1), np.float32(0), order="C")  # 0 and −0 are equal
    if np.isnan(np.maximum.reduce(y, None)):
        y[np.isnan(y)] = np.nan
    bits = y.view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    if descending:
        np.invert(bits, bits)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= np.arange(y.shape[-1])
    return keys


class FInfo(NamedTuple):
    """The standard's finfo. Its numbers are Python floats: NumPy's scalars would promote what they meet."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Any


@functools.cache
def _finfo_of(dtype: Any) -> FInfo:
    info = np.finfo(dtype)
    numbers = (float(info.eps), float(info.max), float(info.min), float(info.smallest_normal))
    return FInfo(int(info.bits), *numbers, np.dtype(info.dtype))


def _finfo(type: Any, /) -> FInfo:
    return _finfo_of(np.dtype(type.dtype if isinstance(type, (np.ndarray, np.generic)) else type))


def _iinfo(type: Any, /) -> Any:
    return np.iinfo(type.dtype if isinstance(type, (np.ndarray, np.generic)) else type)


def _pinv(x: Array, /, *, rtol: Any = None) -> Array:
    return np.linalg.pinv(x, rtol=rtol)  # without rtol NumPy cuts at 1e-15, the standard at max(M, N)·eps


def _matrix_rank(x: Array, /, *, rtol: Any = None) -> Array:
    if x.ndim < 2:
        msg = f"matrix_rank: x must have at least 2 axes, got shape {x.shape}"  # NumPy answers 0 or 1
        raise np.linalg.LinAlgError(msg)
    return np.asarray(np.linalg.matrix_rank(x, rtol=rtol))


def _to_complex(dtype: Any) -> Any:
    return np.complex64 if dtype in (np.float32, np.complex64) else np.complex128


def _eig(x: Array, /) -> Any:
    """Always complex: NumPy returns real arrays where all eigenvalues happen to be real."""
    result = np.linalg.eig(x)
    dtype = _to_complex(x.dtype)
    return type(result)(
        result.eigenvalues.astype(dtype, copy=False), result.eigenvectors.astype(dtype, copy=False)
    )


def _eigvals(x: Array, /) -> Array:
    return np.linalg.eigvals(x).astype(_to_complex(x.dtype), copy=False)


def _many_axes(function: Any) -> Any:
    """`s` without `axes` means the last axes; NumPy does it too, with a deprecation warning."""

    def transform(x: Array, /, *, s: Any = None, axes: Any = None, norm: Any = "backward") -> Array:
        if s is not None and axes is None:
            axes = tuple(range(-len(s), 0))
        return function(x, s=s, axes=axes, norm=norm)

    transform.__name__ = function.__name__
    return transform


def _frequencies(function: Any) -> Any:
    """NumPy's have no ``dtype=``."""

    def frequencies(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Array:
        _check_device(device)
        y = function(n, d=d)
        return y if dtype is None else y.astype(dtype, copy=False)

    frequencies.__name__ = function.__name__
    return frequencies


# ---- functions whose NumPy wrappers cost more than their work on small arrays ----


_largest: Any = np.maximum.reduce
_smallest: Any = np.minimum.reduce


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    return sum_by_dot(x, axis, dtype, None, keepdims)


def _max(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    return _largest(x, axis, None, None, keepdims)


def _min(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    return _smallest(x, axis, None, None, keepdims)


def _mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    if x.dtype not in PLAIN_FLOATS or x.size == 0 or x.ndim == 0:
        return np.mean(x, axis=axis, keepdims=keepdims)
    y = sum_by_dot(x, axis, None, None, keepdims)
    n = x.size // y.size
    return np.true_divide(y, n, out=y) if type(y) is np.ndarray else y / n


def _expand_dims(x: Array, /, axis: Any = 0) -> Array:
    n = x.ndim + 1
    if type(axis) is not int or not -n <= axis < n:
        return np.expand_dims(x, axis)
    shape = x.shape
    axis %= n
    return x.reshape((*shape[:axis], 1, *shape[axis:]))


def _nonzero(x: Array, /) -> tuple[Array, ...]:
    """NumPy looks at the numbers and places of large arrays one by one, but at flags many at a time where they lie in a row."""
    if x.size < 1 << 12 or (x.ndim == 1 and x.dtype.kind == "b"):
        return x.nonzero()  # type: ignore[no-any-return]
    flags = x if x.dtype.kind == "b" else x != 0
    (at,) = flags.reshape(-1).nonzero()
    return np.unravel_index(at, x.shape) if x.ndim > 1 else (at,)


def _stack(arrays: Any, /, *, axis: int = 0) -> Array:
    """Rows and numbers are joined in one call, where `np.stack` makes a view of each."""
    first = arrays[0]
    shape = first.shape
    if axis != 0 or len(shape) > 1 or not all([x.shape == shape for x in arrays]):
        return np.stack(arrays, axis=axis)
    return np.concatenate(arrays, axis=None).reshape(len(arrays), *shape)


def _roll(x: Array, /, shift: Any, *, axis: Any = None) -> Array:
    """Along one axis two parts change places, which `np.roll` takes ten times as long for on small arrays."""
    if type(axis) is tuple and len(axis) == 1 and type(shift) is tuple and len(shift) == 1:
        (axis,), (shift,) = axis, shift
    if type(axis) is not int or type(shift) is not int or not 0 <= axis < x.ndim or not x.shape[axis]:
        return np.roll(x, shift, axis=axis)
    k = shift % x.shape[axis]
    before = (slice(None),) * axis
    y = np.empty_like(x)
    y[(*before, slice(k, None))] = x[(*before, slice(x.shape[axis] - k))]
    y[(*before, slice(k))] = x[(*before, slice(x.shape[axis] - k, None))]
    return y


def _reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    return x.reshape(shape) if copy is None else np.reshape(x, shape, copy=copy)


def _permute_dims(x: Array, /, axes: Any) -> Array:
    return x.transpose(axes)


def _unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    if not -x.ndim <= axis < x.ndim:
        return np.unstack(x, axis=axis)  # which says so
    before = (slice(None),) * (axis % x.ndim)
    return tuple([x[(*before, i, ...)] for i in range(x.shape[axis])])


def _matrix_transpose(x: Array, /) -> Array:
    return x.swapaxes(-1, -2) if x.ndim > 1 else np.matrix_transpose(x)


def _zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    _check_device(device)
    if not x.flags.c_contiguous:  # in the same order in memory
        return np.zeros_like(x, dtype=dtype)
    return np.zeros(x.shape, x.dtype if dtype is None else dtype)


def _ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    if x.ndim or device is not None:
        return _full_like(x, 1, dtype=dtype, device=device)
    return np.array(1, x.dtype if dtype is None else dtype)  # in a third of the time of np.ones


def _full_like(x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    _check_device(device)
    y = np.empty_like(x, dtype=dtype)
    y.fill(fill_value)
    return y


def _broadcast_to(x: Array, /, shape: Any) -> Array:
    if x.ndim or type(x) is not np.ndarray:
        return np.broadcast_to(x, shape)
    y: Array = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
    y.flags.writeable = False
    return y


def _with_number(ufunc: Any) -> Any:
    """`maximum` or `minimum`; a Python number is replaced by a block full of it, since NumPy's loops for two arrays are vectorized
    and three times as fast."""

    def function(x: Array, y: Any, /) -> Array:
        if (
            type(y) in (int, float)
            and type(x) is np.ndarray
            and x.size >= 1 << 14
            and x.dtype in PLAIN_FLOATS
        ):
            out = np.empty_like(x)
            flat, into = x.ravel("K"), out.ravel("K")
            # both arrays are dense with the same layout, so that flat is a view of x and into one of out
            if np.may_share_memory(flat, x) and np.may_share_memory(into, out) and x.strides == out.strides:
                block = _block(float(y), x.dtype)
                for start in range(0, x.size, block.size):
                    part = flat[start : start + block.size]
                    ufunc(part, block[: part.size], out=into[start : start + block.size])
                return out
        return ufunc(x, y)

    function.ufunc = ufunc  # type: ignore[attr-defined]
    return function


@functools.lru_cache(maxsize=8)
def _block(value: float, dtype: Any) -> Array:
    return np.full(1 << 14, value, dtype)


_REPLACED: Final[dict[str, Any]] = {
    "maximum": _with_number(np.maximum), "minimum": _with_number(np.minimum),
    "sum": _sum, "max": _max, "min": _min, "mean": _mean, "expand_dims": _expand_dims, "reshape": _reshape,
    "where": where, "stack": _stack, "roll": _roll, "nonzero": _nonzero,
    "permute_dims": _permute_dims, "unstack": _unstack, "matrix_transpose": _matrix_transpose, "zeros_like": _zeros_like,
    "ones_like": _ones_like, "full_like": _full_like, "broadcast_to": _broadcast_to,
    "astype": _astype, "clip": _clip, "count_nonzero": _count_nonzero, "take_along_axis": _take_along_axis,
    "diff": _diff, "sort": _sort, "argsort": _argsort, "finfo": _finfo, "iinfo": _iinfo,
    "isdtype": functools.lru_cache(maxsize=256)(np.isdtype),
}  # fmt: skip


class _Info(np.__array_namespace_info__):  # type: ignore[misc]
    """NumPy's, at the revision of 2025.12, in which the devices are a tuple."""

    def devices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(super().devices())


def namespace() -> dict[str, Any]:
    """The names of the standard with NumPy's functions, and ours where NumPy's differ or are slow."""
    table: dict[str, Any] = {
        n: getattr(np, n) for n in (*array_api.FUNCTIONS, *array_api.CONSTANTS) if hasattr(np, n)
    }
    # dtype instances, not scalar classes: they hash like x.dtype, so they work as keys
    table |= {n: np.dtype(n) for n in array_api.DTYPES}
    table |= _REPLACED
    table["__array_namespace_info__"] = _Info
    linalg = {n: getattr(np.linalg, n) for n in array_api.LINALG}
    linalg |= {"pinv": _pinv, "matrix_rank": _matrix_rank, "eig": _eig, "eigvals": _eigvals}
    fft = {n: getattr(np.fft, n) for n in array_api.FFT}
    fft |= {n: _many_axes(fft[n]) for n in ("fftn", "ifftn", "rfftn", "irfftn")}
    fft |= {n: _frequencies(fft[n]) for n in ("fftfreq", "rfftfreq")}
    table["linalg"] = types.SimpleNamespace(**linalg)
    table["fft"] = types.SimpleNamespace(**fft)
    return table


# ---- for kernels ----


def _positional(ufunc: Any) -> Callable[..., Any]:
    """A ufunc that takes `out` as its third positional argument."""

    def call(a: Any, b: Any, out: Array) -> None:
        ufunc(a, b, out=out)

    call.ufunc = ufunc  # type: ignore[attr-defined]
    return call


largest, smallest = _positional(np.maximum), _positional(np.minimum)


def numpy_blas() -> dict[str, Any]:
    """The BLAS that NumPy was built with and, if threadpoolctl is installed, the one in use and its number of threads."""
    found: dict[str, Any] = {}
    try:
        config: Any = np.show_config(mode="dicts")
        blas = config["Build Dependencies"]["blas"]
        found = {"name": blas["name"], "version": blas["version"]}
        if blas.get("openblas configuration", "unknown") != "unknown":
            found["configuration"] = blas["openblas configuration"]
    except (KeyError, TypeError, AttributeError):
        pass
    try:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        found["note"] = "pip install threadpoolctl shows the number of threads"
        return found
    for pool in pools:
        if pool.get("user_api") == "blas" and "numpy" in pool.get("filepath", "numpy"):
            found |= {
                "name": pool["internal_api"],
                "version": pool["version"],
                "threads": pool["num_threads"],
            }
            if pool.get("architecture"):
                found["architecture"] = pool["architecture"]
            break
    return found


def same_float_dtype(*arrays: Array | None) -> bool:
    """Whether all arrays that are given have one real floating-point dtype."""
    kinds = {a.dtype for a in arrays if a is not None}
    return len(kinds) == 1 and kinds.pop().kind == "f"
