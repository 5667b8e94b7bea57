"""Arrays without values: the device "meta".

They have a shape, a dtype and strides, and operations on them give the shape and dtype of the result, without memory and without
arithmetic. So a network of any size can be built, run and differentiated to see what it would take (`anynet.plan`). What depends on
values (a boolean index, ``bool(x)``, `nonzero`) is refused.

`Memory` counts what the arrays would occupy; `observing` hands each call of a function to an observer, from which a program can be
written down (`anynet.export`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from anynet_backends import array_api
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, UnknownDeviceError, check_index_add, window_view
from anynet_backends.concurrency import ThreadStack, set_aside

__all__ = ["Memory", "MetaArray", "MetaBackend", "no_values", "observing"]

Observer = Callable[[str, tuple[Any, ...], dict[str, Any], Any], None]
_observers: ThreadStack[Observer] = ThreadStack("meta_observers")


@contextlib.contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Within the block, ``observer(name, args, kwargs, result)`` is called after each function of arrays without values: by the standard's
    name, "linalg." and "fft." before those of extensions, operators by their functions; "getitem", "setitem", "windows", "index_add",
    "from_host" and "random_bits" are what the standard has no function for. Calls of other threads are not observed."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def _observed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, of whose calls from outside the observer is told."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not (_observers and _observers.own):
            return function(*args, **kwargs)
        with set_aside(_observers):  # what the function itself calls is a part of it
            result = function(*args, **kwargs)
        for observer in _observers.own:
            observer(name, args, kwargs, result)
        return result

    return call


class Memory:
    """The bytes that arrays without values would occupy, while this is the one that counts (``with memory:``).

    `now` and `peak` are of arrays that were made inside; `peak` is the largest `now` since the beginning or `restart`.
    """

    counting: ClassVar[Memory | None] = None

    def __init__(self) -> None:
        self.now = self.peak = 0

    def __enter__(self) -> Memory:
        self._before, Memory.counting = Memory.counting, self
        return self

    def __exit__(self, *_: object) -> None:
        Memory.counting = self._before

    def restart(self) -> None:
        """Count the peak from here on."""
        self.peak = self.now

    def take(self, size: int) -> None:
        """An array is made."""
        self.now += size
        self.peak = max(self.peak, self.now)


def no_values(what: str) -> TypeError:
    """The error for what needs the values."""
    return TypeError(f"{what} depends on values, and arrays on the device 'meta' have none")


def _refused(what: str) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise no_values(what)

    return call


class MetaArray:
    """An array of a shape and a dtype, without values."""

    __slots__ = ("__weakref__", "_base", "_memory", "_view")
    __array_priority__ = 1000
    __array_ufunc__ = None

    def __init__(self, view: np.ndarray[Any, Any], base: MetaArray | None) -> None:
        self._view = (
            view  # NumPy's strided view of nothing: its shape, strides and dtype; its memory is never touched
        )
        self._base = base  # whose memory it is
        self._memory = Memory.counting if base is None else None
        if self._memory is not None:
            self._memory.take(view.nbytes)

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)
        if memory is not None:
            memory.now -= self._view.nbytes

    device = "meta"
    shape, dtype, strides, ndim, size, nbytes, itemsize = (
        property(operator.attrgetter(f"_view.{name}"))
        for name in ("shape", "dtype", "strides", "ndim", "size", "nbytes", "itemsize")
    )
    T = mT = property(lambda self: _MATRIX_TRANSPOSE(self))

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return Backend.by_name("meta")

    def to_device(self, device: Any, /, *, stream: Any = None) -> MetaArray:
        return self

    def __repr__(self) -> str:
        return f"MetaArray(shape={self.shape}, dtype={self.dtype})"

    def __len__(self) -> int:
        return len(self._view)

    __bool__ = _refused("bool(x)")
    __int__ = _refused("int(x)")
    __float__ = _refused("float(x)")
    __complex__ = _refused("complex(x)")
    __index__ = _refused("an index")
    __array__ = _refused("a NumPy array of it")

    def __getitem__(self, key: Any) -> MetaArray:
        return _GETITEM(self, key)  # type: ignore[no-any-return]

    def _at(self, key: Any) -> MetaArray:
        keys = key if isinstance(key, tuple) else (key,)
        if any(_is_list(k) for k in keys):
            return _new(_taken_shape(self, keys), self.dtype)
        return _view_of(
            self, self._view[keys if any(k is Ellipsis for k in keys) else (*keys, Ellipsis)]
        )  # a view of a single number, too

    def __setitem__(self, key: Any, value: Any) -> None:
        _SETITEM(self, key, value)

    def _put(self, key: Any, value: Any) -> None:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, (MetaArray, np.ndarray)) and k.dtype == np.bool_ for k in keys):
            return
        there = self._at(key).shape
        if np.broadcast_shapes(there, getattr(value, "shape", ())) != there:
            msg = f"could not broadcast input array from shape {value.shape} into shape {there}"
            raise ValueError(msg)


_GETITEM = _observed("getitem", MetaArray._at)
_SETITEM = _observed("setitem", MetaArray._put)


def _is_list(key: Any) -> bool:
    return isinstance(key, (MetaArray, np.ndarray, list))


def _taken_shape(x: MetaArray, keys: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of ``x[keys]`` with arrays of integers among the keys, by NumPy's rules."""
    shapes = []
    for k in keys:
        if _is_list(k):
            k = np.asarray(k) if isinstance(k, list) else k
            if k.dtype == np.bool_:
                raise no_values("a boolean index")
            shapes.append(tuple(k.shape))
    arrays = [i for i, k in enumerate(keys) if _is_list(k) or isinstance(k, (int, np.integer))]
    used = sum(k is not None and k is not Ellipsis for k in keys)
    basic: list[Any] = []
    for k in keys:  # the shape without what the arrays take
        basic.append(slice(None) if _is_list(k) or isinstance(k, (int, np.integer)) else k)
    if not any(k is Ellipsis for k in keys):
        basic.append(Ellipsis)
    inner = x._view[tuple(basic)].shape
    at, place = [], 0
    for k in keys:
        if k is Ellipsis:
            place += x.ndim - used
        elif _is_list(k) or isinstance(k, (int, np.integer)):
            at.append(place)
            place += 1
        else:
            place += 1
    rest = [n for i, n in enumerate(inner) if i not in at]
    found = np.broadcast_shapes(*shapes)
    together = arrays == list(range(arrays[0], arrays[-1] + 1))
    begin = at[0] if together else 0
    return (*rest[:begin], *found, *rest[begin:])


_ONE: Final[dict[np.dtype[Any], np.ndarray[Any, Any]]] = {}


def _blank(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """A strided view with the strides of an array in C order."""
    dtype = np.dtype(dtype)
    one = _ONE.get(dtype)
    if one is None:
        one = _ONE[dtype] = np.zeros((), dtype)
    strides, step = [], dtype.itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return as_strided(one, tuple(shape), tuple(reversed(strides)))


def _new(shape: Sequence[int], dtype: Any) -> MetaArray:
    return MetaArray(_blank(shape, dtype), None)


def _view_of(x: MetaArray, view: np.ndarray[Any, Any]) -> MetaArray:
    return MetaArray(view, x if x._base is None else x._base)


# ----- functions -----


@functools.lru_cache(10_000)
def _dtype_of(function: Callable[..., Any], *kinds: Any) -> np.dtype[Any]:
    """The dtype of a function's result for arrays of these dtypes and these Python numbers."""
    with np.errstate(all="ignore"):
        given = [k.type(1) if isinstance(k, np.dtype) else k[1] for k in kinds]
        found: np.dtype[Any] = np.asarray(function(*given)).dtype
        return found


def _kind(x: Any) -> Any:
    """What decides a dtype: that of an array, or a Python number (True and 1 and 1.0 are different)."""
    return x.dtype if hasattr(x, "dtype") else (type(x), type(x)(1))


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **_: Any) -> Any:
        arrays = [a for a in args if a is not None]
        shape = np.broadcast_shapes(*(getattr(a, "shape", ()) for a in arrays))
        return _new(shape, _dtype_of(function, *map(_kind, arrays)))

    return call


def _clip(x: MetaArray, /, min: Any = None, max: Any = None) -> MetaArray:
    return _new(np.broadcast_shapes(*(getattr(a, "shape", ()) for a in (x, min, max))), x.dtype)


def _reduced(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    gone = {operator.index(a) % max(len(shape), 1) for a in axes}
    return tuple(1 if i in gone else n for i, n in enumerate(shape) if keepdims or i not in gone)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(
        x: MetaArray, /, *, axis: Any = None, keepdims: bool = False, dtype: Any = None, **_: Any
    ) -> MetaArray:
        return _new(_reduced(x.shape, axis, keepdims), dtype or _dtype_of(function, x.dtype))

    return call


def _seen(function: Callable[..., Any]) -> Callable[..., MetaArray]:
    """A function whose result is a view."""

    def call(x: MetaArray, /, *args: Any, **kwargs: Any) -> MetaArray:
        return _view_of(x, function(x._view, *args, **kwargs))

    return call


def _same(x: MetaArray, /, *_: Any, **__: Any) -> MetaArray:
    return _new(x.shape, x.dtype)


def _created(x: Any, dtype: Any = None) -> MetaArray:
    if isinstance(x, MetaArray):
        return _new(x.shape, dtype or x.dtype)
    made = np.asarray(x, dtype=dtype)
    return _new(made.shape, made.dtype)


class _Functions:
    """The functions of the standard that have a shape of their own."""

    newaxis = None
    __array_api_version__ = array_api.REVISION
    e, inf, nan, pi = np.e, np.inf, np.nan, np.pi
    isdtype = staticmethod(np.isdtype)
    finfo = staticmethod(np.finfo)
    iinfo = staticmethod(np.iinfo)
    broadcast_shapes = staticmethod(np.broadcast_shapes)

    @staticmethod
    def result_type(*given: Any) -> Any:
        return np.result_type(*(g.dtype if isinstance(g, MetaArray) else g for g in given))

    @staticmethod
    def can_cast(a: Any, b: Any, /) -> bool:
        return np.can_cast(a.dtype if isinstance(a, MetaArray) else a, b)

    @staticmethod
    def astype(x: MetaArray, dtype: Any, /, *, copy: bool = True, device: Any = None) -> MetaArray:
        return x if not copy and x.dtype == dtype else _new(x.shape, dtype)

    # creation

    @staticmethod
    def asarray(x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> MetaArray:
        if isinstance(x, MetaArray) and not copy and (dtype is None or x.dtype == dtype):
            return x
        return _created(x, dtype)

    @staticmethod
    def from_dlpack(x: Any, /, **_: Any) -> MetaArray:
        return _created(x)

    @staticmethod
    def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> MetaArray:
        return _new((shape,) if isinstance(shape, int) else shape, dtype or np.float64)

    ones = zeros = empty

    @staticmethod
    def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> MetaArray:
        return _new((shape,) if isinstance(shape, int) else shape, dtype or np.asarray(fill_value).dtype)

    @staticmethod
    def empty_like(x: MetaArray, /, *, dtype: Any = None, device: Any = None) -> MetaArray:
        return _new(x.shape, dtype or x.dtype)

    ones_like = zeros_like = empty_like

    @staticmethod
    def full_like(x: MetaArray, fill_value: Any, /, *, dtype: Any = None, device: Any = None) -> MetaArray:
        return _new(x.shape, dtype or x.dtype)

    @staticmethod
    def arange(
        start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
    ) -> MetaArray:
        low, high = (0, start) if stop is None else (start, stop)
        return _new(
            (max(0, math.ceil((high - low) / step)),),
            dtype or np.result_type(type(low), type(high), type(step)),
        )

    @staticmethod
    def linspace(start: Any, stop: Any, num: int, *, dtype: Any = None, **_: Any) -> MetaArray:
        return _new((num,), dtype or np.float64)

    @staticmethod
    def eye(n: int, m: int | None = None, /, *, dtype: Any = None, **_: Any) -> MetaArray:
        return _new((n, n if m is None else m), dtype or np.float64)

    tril = triu = staticmethod(_same)

    @staticmethod
    def meshgrid(*arrays: MetaArray, indexing: str = "xy") -> list[MetaArray]:
        shape = [a.size for a in arrays]
        if indexing == "xy" and len(shape) > 1:
            shape[:2] = shape[1], shape[0]
        return [_new(shape, a.dtype) for a in arrays]

    # manipulation: views, as NumPy makes them

    @staticmethod
    def reshape(x: MetaArray, /, shape: Any, *, copy: bool | None = None) -> MetaArray:
        if copy is not True:
            try:
                return _view_of(x, np.reshape(x._view, shape, copy=False))
            except ValueError:  # the elements lie otherwise: a copy, or an error of the shape below
                pass
        return _new(np.reshape(_blank(x.shape, x.dtype), shape, copy=False).shape, x.dtype)

    permute_dims = staticmethod(_seen(np.transpose))
    matrix_transpose = staticmethod(_seen(np.matrix_transpose))
    expand_dims = staticmethod(_seen(lambda view, axis=0: np.expand_dims(view, axis)))
    squeeze = staticmethod(_seen(np.squeeze))
    moveaxis = staticmethod(_seen(np.moveaxis))
    flip = staticmethod(_seen(np.flip))
    broadcast_to = staticmethod(_seen(np.broadcast_to))

    @staticmethod
    def broadcast_arrays(*arrays: MetaArray) -> tuple[MetaArray, ...]:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return tuple(_Functions.broadcast_to(a, shape) for a in arrays)

    @staticmethod
    def unstack(x: MetaArray, /, *, axis: int = 0) -> tuple[MetaArray, ...]:
        moved = np.moveaxis(x._view, axis, 0)
        return tuple(
            _view_of(x, moved[i : i + 1].reshape(moved.shape[1:], copy=False)) for i in range(moved.shape[0])
        )

    @staticmethod
    def concat(arrays: Sequence[MetaArray], /, *, axis: int | None = 0) -> MetaArray:
        dtype = np.result_type(*(a.dtype for a in arrays))
        if axis is None:
            return _new((sum(a.size for a in arrays),), dtype)
        shape = list(arrays[0].shape)
        for a in arrays:
            if [n for i, n in enumerate(a.shape) if i != axis % len(shape)] != [
                n for i, n in enumerate(shape) if i != axis % len(shape)
            ]:
                msg = f"all the input array dimensions except for the concatenation axis must match, got {[b.shape for b in arrays]}"
                raise ValueError(msg)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        return _new(shape, dtype)

    @staticmethod
    def stack(arrays: Sequence[MetaArray], /, *, axis: int = 0) -> MetaArray:
        shape = list(arrays[0].shape)
        shape.insert(axis % (len(shape) + 1), len(arrays))
        return _new(shape, np.result_type(*(a.dtype for a in arrays)))

    roll = staticmethod(_same)

    @staticmethod
    def tile(x: MetaArray, repetitions: Any, /) -> MetaArray:
        n = max(len(repetitions), x.ndim)
        lead = (1,) * (n - x.ndim) + x.shape
        times = (1,) * (n - len(repetitions)) + tuple(repetitions)
        return _new(tuple(a * b for a, b in zip(lead, times, strict=True)), x.dtype)

    @staticmethod
    def repeat(x: MetaArray, repeats: Any, /, *, axis: int | None = None) -> MetaArray:
        if not isinstance(repeats, (int, np.integer)):
            raise no_values("repeat with an array of counts")
        if axis is None:
            return _new((x.size * int(repeats),), x.dtype)
        shape = list(x.shape)
        shape[axis] *= int(repeats)
        return _new(shape, x.dtype)

    # indexing, searching, sorting

    @staticmethod
    def take(x: MetaArray, indices: MetaArray, /, *, axis: int | None = None) -> MetaArray:
        axis = 0 if axis is None else axis % x.ndim
        return _new((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

    @staticmethod
    def take_along_axis(x: MetaArray, indices: MetaArray, /, *, axis: int = -1) -> MetaArray:
        axis %= x.ndim
        lead = np.broadcast_shapes(
            (*x.shape[:axis], 1, *x.shape[axis + 1 :]), (*indices.shape[:axis], 1, *indices.shape[axis + 1 :])
        )
        return _new((*lead[:axis], indices.shape[axis], *lead[axis + 1 :]), x.dtype)

    sort = staticmethod(_same)

    @staticmethod
    def argsort(x: MetaArray, /, **_: Any) -> MetaArray:
        return _new(x.shape, np.int64)

    @staticmethod
    def searchsorted(x1: MetaArray, x2: Any, /, **_: Any) -> MetaArray:
        return _new(getattr(x2, "shape", ()), np.int64)

    @staticmethod
    def isin(x1: Any, x2: Any, /, **_: Any) -> MetaArray:
        return _new(getattr(x1, "shape", ()), np.bool_)

    @staticmethod
    def cumulative_sum(
        x: MetaArray, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> MetaArray:
        shape = list(x.shape)
        shape[0 if axis is None else axis] += include_initial
        return _new(shape, dtype or _dtype_of(np.sum, x.dtype))

    cumulative_prod = cumulative_sum

    @staticmethod
    def diff(
        x: MetaArray, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None
    ) -> MetaArray:
        shape = list(x.shape)
        shape[axis] += sum(a.shape[axis] for a in (prepend, append) if a is not None)
        shape[axis] = max(0, shape[axis] - n)
        return _new(shape, x.dtype)

    # products

    @staticmethod
    def matmul(a: MetaArray, b: MetaArray, /) -> MetaArray:
        one, two = a.ndim == 1, b.ndim == 1
        s, t = ((1, *a.shape) if one else a.shape), ((*b.shape, 1) if two else b.shape)
        if s[-1] != t[-2]:
            msg = f"matmul: shapes {a.shape} and {b.shape} do not go together: {s[-1]} and {t[-2]} must be equal"
            raise ValueError(msg)
        lead = np.broadcast_shapes(s[:-2], t[:-2])
        shape = (*lead, *(() if one else (s[-2],)), *(() if two else (t[-1],)))
        return _new(shape, np.result_type(a.dtype, b.dtype))

    @staticmethod
    def vecdot(a: MetaArray, b: MetaArray, /, *, axis: int = -1) -> MetaArray:
        return _new(
            _reduced(np.broadcast_shapes(a.shape, b.shape), axis, False), np.result_type(a.dtype, b.dtype)
        )

    @staticmethod
    def tensordot(a: MetaArray, b: MetaArray, /, *, axes: Any = 2) -> MetaArray:
        if isinstance(axes, int):
            axes = (tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes)))
        of_a, of_b = [i % a.ndim for i in axes[0]], [i % b.ndim for i in axes[1]]
        if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
            msg = f"tensordot: shapes {a.shape} and {b.shape} do not go together over the axes {axes}"
            raise ValueError(msg)
        keep_a = [i for i in range(a.ndim) if i not in of_a]
        keep_b = [i for i in range(b.ndim) if i not in of_b]
        inner = math.prod(a.shape[i] for i in of_a)
        # as NumPy does it: each factor as a matrix, which is a copy where its elements lie otherwise
        left = _Functions.reshape(_Functions.permute_dims(a, (*keep_a, *of_a)), (-1 if inner else 0, inner))
        right = _Functions.reshape(_Functions.permute_dims(b, (*of_b, *keep_b)), (inner, -1 if inner else 0))
        del left, right
        shape = (*(a.shape[i] for i in keep_a), *(b.shape[i] for i in keep_b))
        return _new(shape, np.result_type(a.dtype, b.dtype))


def _square(x: MetaArray, /, *_: Any, **__: Any) -> MetaArray:
    return _new(x.shape, x.dtype)


def _qr(x: MetaArray, /, *, mode: str = "reduced") -> tuple[MetaArray, MetaArray]:
    *lead, m, n = x.shape
    k = m if mode == "complete" else min(m, n)
    return _new((*lead, m, k), x.dtype), _new((*lead, k, n), x.dtype)


def _svd(x: MetaArray, /, *, full_matrices: bool = True) -> tuple[MetaArray, MetaArray, MetaArray]:
    *lead, m, n = x.shape
    k = min(m, n)
    real = np.zeros((), x.dtype).real.dtype
    u, v = ((m, m), (n, n)) if full_matrices else ((m, k), (k, n))
    return _new((*lead, *u), x.dtype), _new((*lead, k), real), _new((*lead, *v), x.dtype)


def _vector_norm(x: MetaArray, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> MetaArray:
    return _new(_reduced(x.shape, axis, keepdims), np.zeros((), x.dtype).real.dtype)


def _diagonal(x: MetaArray, /, *, offset: int = 0) -> MetaArray:
    return _view_of(x, np.linalg.diagonal(x._view, offset=offset))


def _complex(x: MetaArray) -> np.dtype[Any]:
    return np.result_type(x.dtype, np.complex64)


_LINALG: Final = types.SimpleNamespace(
    matmul=_Functions.matmul, tensordot=_Functions.tensordot, vecdot=_Functions.vecdot,
    matrix_transpose=_Functions.matrix_transpose, vector_norm=_vector_norm, diagonal=_diagonal, qr=_qr, svd=_svd,
    cholesky=_square, inv=_square, matrix_power=_square,
    cross=lambda a, b, /, *, axis=-1: _new(np.broadcast_shapes(a.shape, b.shape), np.result_type(a.dtype, b.dtype)),
    det=lambda x, /: _new(x.shape[:-2], x.dtype), trace=lambda x, /, *, offset=0, dtype=None: _new(x.shape[:-2], dtype or x.dtype),
    slogdet=lambda x, /: (_new(x.shape[:-2], x.dtype), _new(x.shape[:-2], np.zeros((), x.dtype).real.dtype)),
    eigh=lambda x, /: (_new(x.shape[:-1], np.zeros((), x.dtype).real.dtype), _new(x.shape, x.dtype)),
    eig=lambda x, /: (_new(x.shape[:-1], _complex(x)), _new(x.shape, _complex(x))),
    eigvals=lambda x, /: _new(x.shape[:-1], _complex(x)), matrix_rank=lambda x, /, *, rtol=None: _new(x.shape[:-2], np.int64),
    eigvalsh=lambda x, /: _new(x.shape[:-1], np.zeros((), x.dtype).real.dtype),
    matrix_norm=lambda x, /, *, keepdims=False, ord="fro": _new(_reduced(x.shape, (-2, -1), keepdims), x.dtype),
    outer=lambda a, b, /: _new((a.size, b.size), np.result_type(a.dtype, b.dtype)),
    pinv=lambda x, /, **_: _new((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype),
    solve=lambda a, b, /: _new(b.shape, np.result_type(a.dtype, b.dtype)),
    svdvals=lambda x, /: _new((*x.shape[:-2], min(x.shape[-2:])), np.zeros((), x.dtype).real.dtype),
)  # fmt: skip


def _fft(x: MetaArray, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> MetaArray:
    shape = list(x.shape)
    shape[axis] = shape[axis] if n is None else n
    return _new(shape, _complex(x))


def _rfft(x: MetaArray, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> MetaArray:
    shape = list(x.shape)
    shape[axis] = (shape[axis] if n is None else n) // 2 + 1
    return _new(shape, _complex(x))


def _irfft(x: MetaArray, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> MetaArray:
    shape = list(x.shape)
    shape[axis] = 2 * (shape[axis] - 1) if n is None else n
    return _new(shape, np.zeros((), _complex(x)).real.dtype)


def _of_axes(last: Callable[..., MetaArray] | None) -> Callable[..., MetaArray]:
    """A transform over several axes; `last` is that over the last of them."""

    def call(x: MetaArray, /, *, s: Any = None, axes: Any = None, norm: str = "backward") -> MetaArray:
        axes = tuple(range(x.ndim) if s is None else range(-len(s), 0)) if axes is None else tuple(axes)
        sizes = [None] * len(axes) if s is None else list(s)
        for n, axis in zip(sizes[:-1], axes[:-1], strict=True):
            x = _fft(x, n=n, axis=axis)
        return (last or _fft)(x, n=sizes[-1], axis=axes[-1])

    return call


_FFT: Final = types.SimpleNamespace(
    fft=_fft, ifft=_fft, rfft=_rfft, ihfft=_rfft, irfft=_irfft, hfft=_irfft, fftn=_of_axes(None), ifftn=_of_axes(None),
    rfftn=_of_axes(_rfft), irfftn=_of_axes(_irfft), fftshift=_same, ifftshift=_same,
    fftfreq=lambda n, /, *, d=1.0, dtype=None, device=None: _new((n,), dtype or np.float64),
    rfftfreq=lambda n, /, *, d=1.0, dtype=None, device=None: _new((n // 2 + 1,), dtype or np.float64),
)  # fmt: skip

_REDUCTIONS: Final = (
    "sum",
    "prod",
    "max",
    "min",
    "mean",
    "std",
    "var",
    "all",
    "any",
    "count_nonzero",
    "argmax",
    "argmin",
)
_ELEMENTWISE: Final = (
    *array_api.FUNCTIONS[array_api.FUNCTIONS.index("abs") : array_api.FUNCTIONS.index("trunc") + 1], "where"
)  # fmt: skip


_DEPEND_ON_VALUES: Final = ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values")


def _namespace() -> dict[str, Any]:
    functions = {
        k: v.__func__ if isinstance(v, staticmethod) else v
        for k, v in vars(_Functions).items()
        if not k.startswith("_")
    }
    plain = (*array_api.CONSTANTS, "isdtype", "finfo", "iinfo", "broadcast_shapes", "result_type", "can_cast")
    constants = {k: functions.pop(k) for k in plain}
    functions |= {name: _elementwise(getattr(np, name)) for name in _ELEMENTWISE}
    functions |= {name: _reduction(getattr(np, name)) for name in _REDUCTIONS}
    functions |= {name: _refused(name) for name in _DEPEND_ON_VALUES}
    functions["clip"] = _clip
    table: dict[str, Any] = {name: _observed(name, f) for name, f in functions.items()}
    table |= constants | {name: np.dtype(name) for name in array_api.DTYPES}
    table["__array_api_version__"] = array_api.REVISION
    for extension, of in (("linalg", _LINALG), ("fft", _FFT)):
        members = {name: _observed(f"{extension}.{name}", f) for name, f in vars(of).items()}
        table[extension] = types.SimpleNamespace(**members)
    return table


_FROM_HOST = _observed("from_host", lambda array: _new(array.shape, array.dtype))
_RANDOM_BITS = _observed("random_bits", lambda n: _new((n,), np.uint32))
_INDEX_ADD = _observed("index_add", lambda x, index, values: _new(x.shape, x.dtype))


def _windows(
    x: MetaArray, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> MetaArray:
    return _view_of(
        x, as_strided(x._view, *window_view(x, x.strides, tuple(kernel), tuple(stride), tuple(dilation)))
    )


_WINDOWS = _observed("windows", _windows)


class MetaBackend(Backend):
    """Arrays without values."""

    eager = False

    def __init__(self) -> None:
        super().__init__("meta", _NAMESPACE, (MetaArray,), native=np)
        self.native_dtype["float16"] = np.dtype("float16")

    def check(self, function: Callable[..., None], *arrays: Array, **_: Any) -> None:
        """There is nothing to check."""

    def all_finite(self, x: Array) -> bool:
        return True

    def rounded(self, x: Array, kind: str) -> Array:
        return self.asarray(x, copy=True)

    def device_of(self, array: Array) -> str:
        return "meta"

    def native_device(self, name: str) -> Any:
        return "meta"

    def canonical_device(self, name: str) -> str:
        if name != "meta":
            msg = f"there is one device of arrays without values, 'meta', got {name!r}"
            raise UnknownDeviceError(msg)
        return name

    def devices(self) -> list[str]:
        return ["meta"]

    def from_host(self, array: Array, device: str) -> Array:
        return _FROM_HOST(np.asarray(array))

    def to_host(self, array: Array) -> Array:
        raise no_values("a copy on the host")

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        return _RANDOM_BITS(n)

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        check_index_add(self, x, index, values)
        return _INDEX_ADD(x, index, values)

    def windows(
        self, x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Array:
        return _WINDOWS(x, kernel, stride, dilation)

    def versions(self) -> dict[str, str]:
        return {}


_NAMESPACE: Final = _namespace()
_MATRIX_TRANSPOSE: Callable[..., Any] = _NAMESPACE["matrix_transpose"]


def _of_two(name: str) -> tuple[Callable[..., Any], ...]:
    f = _NAMESPACE[name]

    def in_place(a: MetaArray, b: Any) -> MetaArray:
        a[...] = f(a, b)
        return a

    return lambda a, b: f(a, b), lambda a, b: f(b, a), in_place


array_api.set_operators(MetaArray, _of_two, _NAMESPACE.__getitem__)


def _iterate(self: MetaArray) -> Iterator[MetaArray]:
    return iter(_Functions.unstack(self))


MetaArray.__iter__ = _iterate  # type: ignore[attr-defined]
