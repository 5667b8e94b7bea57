"""Traces of forms for programs that run elsewhere: no value is computed, only the shapes, dtypes and layouts of what would be.

The arrays of such a trace stand for arrays on a device. What they are computed from there is decided by the trace alone, so
that the same trace, and the same reading of its axes (`iteration`), serves NumPy's blocks and a GPU's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.blocks import BlockTrace
from anynet_backends.jit.instructions import collect, is_basic_key
from anynet_backends.jit.iteration import NotBlocked, is_elementwise
from anynet_backends.jit.tracer import ACTIVE, Trace, TracedArray
from anynet_backends.jit.tracer_backend import TracerBackend
from anynet_backends.kernel_table import Kernel

__all__ = ["DeviceArray", "DeviceTracer", "FormTrace", "as_view"]

EXTRA: Final = ("erf", "erfc")
"""Element-wise functions of devices that NumPy does not have."""
_BY_REFERENCE: Final = ("gelu", "linear", "normalize")
"""What the device has kernels for, whose reference is as good a part of others: element by element, with sums along rows, or a product."""
_MOST_CHOICES: Final = 4
_LARGEST_CONSTANT: Final = 1 << 16
_VIEWS: Final = frozenset(
    ("expand_dims", "squeeze", "broadcast_to", "permute_dims", "transpose", "matrix_transpose", "moveaxis", "flip")
)  # fmt: skip


class DeviceArray(TracedArray):
    """An array of a `FormTrace`."""

    __slots__ = ()


class DeviceTracer(TracerBackend):
    """The namespace of a trace for a device: the references of all operations, but for what the device has itself."""

    def __init__(self, base: Backend, device: Backend) -> None:
        super().__init__(base)
        self.name = device.name
        self.narrows, self.promoted = device.narrows, device.promoted  # type: ignore[method-assign]
        self.array_types = (DeviceArray,)
        self.array_type = DeviceArray
        self.kernels = {
            name: Kernel(_refused(name, kernel.takes), vjp=True)
            for name, kernel in device.kernels.items()
            if name not in _BY_REFERENCE
        }
        self.kernels |= {name: Kernel(_extra(name)) for name in EXTRA}

        self.__dict__["unstack"] = _slices
        self.__dict__["concat"] = _joined(self, self.concat)
        self.__dict__["stack"] = _stacked(self)

    def logistic(self, x: Array, /) -> Array:
        return Backend.logistic(self, x)  # of functions that kernels have

    def affine(self, a: Array, b: Array, c: Array, /) -> Array:
        return self.matmul(a, b) + c


def _slices(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    axis %= x.ndim
    return tuple([x[(*(slice(None),) * axis, k)] for k in range(x.shape[axis])])


def _joined(xp: Any, concat: Callable[..., Any]) -> Callable[..., Any]:
    """`concat` of few arrays of length 1, as in a `stack`: choices by the place along the axis, which are a part of one kernel."""

    def function(arrays: Any, /, *, axis: int | None = 0) -> Any:
        arrays = list(arrays)
        first = arrays[0]
        alike = all(x.dtype == first.dtype and x.shape == first.shape for x in arrays)
        if axis is None or not alike or first.shape[axis] != 1 or not 1 < len(arrays) <= _MOST_CHOICES:
            return concat(arrays, axis=axis)
        axis %= first.ndim
        place = xp.reshape(xp.arange(len(arrays)), tuple(-1 if i == axis else 1 for i in range(first.ndim)))
        *others, y = arrays
        for k in range(len(others) - 1, -1, -1):
            y = xp.where(place == k, others[k], y)
        return y

    return function


def _stacked(xp: Any) -> Callable[..., Any]:
    def function(arrays: Any, /, *, axis: int = 0) -> Any:
        return xp.concat([xp.expand_dims(x, axis=axis) for x in arrays], axis=axis)

    return function


def _refused(name: str, takes: Callable[..., bool] | None) -> Callable[..., Any]:
    """What the device has a kernel for is not traced, if that takes it: its reference would take more than that."""

    def function(xp: Any, *data: Any, need: Any = None, **meta: Any) -> Any:
        if takes is not None and not takes(str(data[0].dtype), *data, need=need, **meta):
            return NotImplemented
        raise NotBlocked(name)

    return function


def _extra(name: str) -> Callable[..., Any]:
    def function(xp: Any, x: Any, /) -> Any:
        return ACTIVE[-1].call(name, (x,), {}) if x.dtype.char in "fd" else NotImplemented

    return function


def as_view(name: str, function: Callable[..., Any], array: Array, *args: Any, **kwargs: Any) -> Array | None:
    """What a function gives as a view of the array; None where it has to copy."""
    if name == "reshape":
        shape = args[0] if args else kwargs["shape"]
        try:
            return np.reshape(array, shape, copy=False)
        except ValueError:
            return None
    if name in _VIEWS or (name == "getitem" and is_basic_key(args[0])):
        return np.asarray(function(array, *args, **kwargs))
    return None


class FormTrace(BlockTrace):
    """A trace of forms in which any function of arrays may be, if the forms of its results do not depend on values."""

    kind = DeviceArray

    def __init__(self, base: Backend, meta: Backend) -> None:
        """`meta`: the backend of arrays without values."""
        super().__init__(base)
        self.meta = meta
        self.functions |= dict.fromkeys(EXTRA, _same)

    def call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], held: tuple[Any, ...] = ()
    ) -> Any:
        return Trace.call(self, name, args, kwargs, held)

    def compute(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An array of the form of the result; its numbers, where it is small and made of numbers."""
        found: list[Array] = []
        collect((args, tuple(kwargs.values())), np.ndarray, found)
        if not found:
            made = self.functions[name](*args, **kwargs)
            if (
                isinstance(made, np.ndarray)
                and made.size > _LARGEST_CONSTANT
                and name not in ("zeros", "empty")
            ):
                raise NotBlocked(name)
            return made
        view = (
            as_view(name, self.functions[name], *args, **kwargs) if isinstance(args[0], np.ndarray) else None
        )
        if view is not None:
            return view
        if name == "astype" and args[0].dtype == args[1] and not kwargs.get("copy", True):
            return args[0]
        if name in EXTRA or name == "reshape":
            return np.empty(
                args[0].shape if name in EXTRA else self._form(name, args, kwargs).shape, args[0].dtype
            )
        if is_elementwise(name) and all(isinstance(a, np.ndarray) or not isinstance(a, tuple) for a in args):
            return super().compute(name, args, kwargs)
        return self._form(name, args, kwargs)

    def _form(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function gives for arrays without values, as NumPy's arrays."""
        home: Any = self.meta
        if name == "affine":
            name, args = "matmul", args[:2]
        for part in name.split("."):
            home = getattr(home, part)
        kind = self.meta.array_type
        made = home(*_without_values(args, kind), **{k: _without_values(v, kind) for k, v in kwargs.items()})
        if isinstance(made, (tuple, list)):
            return tuple(np.empty(x.shape, x.dtype) for x in made)
        return np.empty(made.shape, made.dtype)

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> TracedArray:
        out = self.new(np.empty(n, np.uint32))
        offset = step - self.step if key == self.seed else None
        self._append("random", "random_bits", (key, stream, step, n, device, offset), {}, out)
        return out


def _same(x: Array) -> Array:
    return x


def _without_values(item: Any, kind: type) -> Any:
    if isinstance(item, np.ndarray):
        return kind(item, None)
    if isinstance(item, (tuple, list)):
        return type(item)(_without_values(x, kind) for x in item)
    return item
