"""array-api-strict: the devices "strict", "strict:device1", "strict:device2", "strict:no_float64",
"strict:no_x64".

It computes with NumPy but refuses what the standard does not promise, and its fake devices refuse to be mixed
or to be read by the host in silence: the stand-in for a GPU on machines that have none.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, UnknownDeviceError
from anynet_backends.numpy_namespace import numpy_blas

__all__ = ["StrictBackend"]

_SUB: Final = {"strict": "CPU_DEVICE"} | {
    f"strict:{name}": name for name in ("device1", "device2", "no_float64", "no_x64")
}

# array-api-strict 2.6 computes these in int64 or uint64 and then cannot put the result on a device without
# them
_WIDE: Final = (
    "argmax", "argmin", "argsort", "count_nonzero", "cumulative_prod", "cumulative_sum", "nonzero", "prod",
    "searchsorted", "sum", "unique_all", "unique_counts", "unique_inverse",
)  # fmt: skip
_WIDE_LINALG: Final = ("matrix_rank", "trace")


class StrictBackend(Backend):
    """array-api-strict, at the newest revision of the standard that it implements, with all its
    extensions."""

    def __init__(self) -> None:
        library = importlib.import_module("array_api_strict")
        # Flags are global to the process. Only the revision is set: boolean masks and data-dependent shapes may have been
        # switched off on purpose, by a flag or an environment variable.
        newest = importlib.import_module("array_api_strict._flags").supported_versions[-1]
        if library.get_array_api_strict_flags()["api_version"] < newest:
            library.set_array_api_strict_flags(api_version=newest, enabled_extensions=["linalg", "fft"])
        super().__init__("strict", library, (type(library.zeros(0)),), native=library, multi_device=True)
        self._device: dict[str, Any] = {}
        for name, sub in _SUB.items():
            # releases before 2.6 lack the later devices
            with contextlib.suppress(ValueError):
                self._device[name] = library.Device(sub)
        self._name = {device: name for name, device in self._device.items()}
        self._host = self._device["strict"]
        self.clip = self._clip
        if "strict:no_x64" in self._device:
            narrow = {self.int64: self.int32, self.uint64: self.uint32}
            for space, names in ((self.__dict__, _WIDE), (self.linalg.__dict__, _WIDE_LINALG)):
                for name in names:
                    space[name] = _narrowed(space[name], self._device["strict:no_x64"], self._host, narrow)

    def _clip(self, x: Array, /, min: Any = None, max: Any = None) -> Array:
        """The standard leaves min > max open, and the library refuses it; NumPy, CuPy and torch give max."""
        y = x if min is None else self.maximum(x, min)
        y = y if max is None else self.minimum(y, max)
        return self.astype(y, x.dtype)

    def device_of(self, array: Array) -> str:
        return self._name[array.device]

    def native_device(self, name: str) -> Any:
        return self._device[name]

    def canonical_device(self, name: str) -> str:
        if name not in self._device:
            msg = (
                f"array-api-strict {self.native.__version__} has no device {name!r}; it has "
                f"{', '.join(self._device)}"
            )
            raise UnknownDeviceError(msg)
        return name

    def devices(self) -> list[str]:
        return list(self._device)

    def dtypes_on(self, device: str) -> tuple[str, ...]:
        there = self.native.__array_namespace_info__().dtypes(device=self._device[device])
        return tuple(name for name in self.native_dtype if name in there)

    def from_host(self, array: Array, device: str) -> Array:
        array = np.asarray(array)
        there = self._device[device]
        has = self.__array_namespace_info__().dtypes(device=there)
        if array.dtype.name not in has:
            msg = f"the device {device!r} has no dtype {array.dtype}; it has {', '.join(has)}"
            raise TypeError(msg)
        return self.asarray(array, dtype=self.native_dtype[array.dtype.name], device=there, copy=True)

    def to_host(self, array: Array) -> Array:
        return np.asarray(array.to_device(self._host))

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    def blas_info(self) -> dict[str, Any]:
        return numpy_blas()

    def versions(self) -> dict[str, str]:
        return {"array-api-strict": str(self.native.__version__), "numpy": np.__version__}


def _narrowed(function: Any, device: Any, host: Any, narrow: dict[Any, Any]) -> Any:
    """`function`, which on `device` is computed on `host` and its 64-bit integers made 32 bits wide."""

    def there(y: Any) -> Any:
        if isinstance(y, tuple):
            return type(y)(*map(there, y)) if hasattr(y, "_fields") else tuple(map(there, y))
        if y.dtype in narrow:
            y = y.__array_namespace__().astype(y, narrow[y.dtype])
        return y.to_device(device)

    @functools.wraps(function)
    def wrapper(x: Any, /, *args: Any, **kwargs: Any) -> Any:
        if getattr(x, "device", None) != device:
            return function(x, *args, **kwargs)
        args = tuple(a.to_device(host) if getattr(a, "device", None) == device else a for a in args)
        kwargs = {
            k: a.to_device(host) if getattr(a, "device", None) == device else a for k, a in kwargs.items()
        }
        return there(function(x.to_device(host), *args, **kwargs))

    return wrapper
