"""PyTorch as an array library, through array-api-compat: "torch" = "torch:cpu", "torch:cuda:0",
"torch:mps:0", …

Its autograd is not used: anynet differentiates, torch computes.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, UnknownDeviceError, check_index_add, window_view
from anynet_backends.concurrency import once_property

__all__ = ["TorchBackend", "run_module"]

# torch stores uint16, uint32 and uint64 but implements next to nothing on them ("ge_cpu" not implemented for
# 'UInt32'); random bits are uint32, so what is done with them is done in int64, where every value of the
# narrower two fits
_COMPARISONS: Final = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_BITWISE: Final = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")


class TorchBackend(Backend):
    """PyTorch on any of its devices."""

    short_products = frozenset(("float16", "bfloat16"))

    def __init__(self) -> None:
        torch = importlib.import_module("torch")
        compat = importlib.import_module("array_api_compat.torch")
        super().__init__("torch", compat, (torch.Tensor,), native=torch, multi_device=True)
        self.native_dtype["float16"] = torch.float16
        self.native_dtype["bfloat16"] = torch.bfloat16
        wide = {torch.uint16: 0xFFFF, torch.uint32: 0xFFFFFFFF}
        for name in (*_COMPARISONS, *_BITWISE):
            self.__dict__[name] = _widened(getattr(compat, name), torch.int64, wide)
        self.unique_all = self._unique_all
        self._names: dict[Any, str] = {}

    def _unique_all(self, x: Array, /) -> tuple[Array, Array, Array, Array]:
        """`torch.unique` with the index of the first occurrence of each value. Each nan is a value of its own."""
        flat = x.reshape(-1)
        values, inverse, counts = self.native.unique(flat, return_inverse=True, return_counts=True)
        places = self.native.arange(flat.numel(), device=flat.device)
        first = places.new_full(values.shape, flat.numel())
        first = first.scatter_reduce(0, inverse, places, "amin")
        return values, first, inverse.reshape(x.shape), counts

    # ---- devices ----

    def device_of(self, array: Array) -> str:
        device = array.device
        try:
            return self._names[device]
        except KeyError:
            name = self._names[device] = f"torch:{device}"
            return name

    @once_property
    def _devices(self) -> dict[str, Any]:
        return {}

    def native_device(self, name: str) -> Any:
        try:
            return self._devices[name]
        except KeyError:
            device = self._devices[name] = self.native.device(name.partition(":")[2] or "cpu")
            return device

    def canonical_device(self, name: str) -> str:
        sub = name.partition(":")[2] or "cpu"
        try:
            device = self.native.zeros(1, device=sub).device
            if device.type == "meta":
                msg = "it holds no values"
                raise RuntimeError(msg)
        except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
            # a torch without CUDA says so by an AssertionError
            why = str(error).strip().partition("\n")[0]
            msg = (
                f"torch {self.native.__version__} cannot use the device {name!r}: {why}. It can use "
                f"{', '.join(self.devices())}"
            )
            raise UnknownDeviceError(msg) from None
        return f"torch:{device}"

    def devices(self) -> list[str]:
        torch = self.native
        found = ["torch:cpu"]
        for kind in ("cuda", "xpu"):
            module = getattr(torch, kind, None)
            if module is not None and module.is_available():
                found += [f"torch:{kind}:{i}" for i in range(module.device_count())]
        if torch.backends.mps.is_available():
            found.append("torch:mps:0")
        return found

    def from_host(self, array: Array, device: str) -> Array:
        array = np.asarray(array)
        if str(array.dtype.newbyteorder("=")) not in self.native_dtype:
            msg = f"torch has no dtype {array.dtype}; it has {', '.join(self.native_dtype)}"
            raise TypeError(msg)
        # a writable copy in C order: torch takes neither negative strides nor foreign byte order
        copy = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        return self.native.from_numpy(copy).to(self.native_device(device))

    def to_host(self, array: Array) -> Array:
        """bfloat16, which NumPy lacks, becomes float32 with the same values."""
        array = array.detach()
        if array.dtype == self.native.bfloat16:
            array = array.float()
        return array.cpu().resolve_conj().resolve_neg().numpy()

    def synchronize(self, device: str) -> None:
        where = self.native_device(device)
        if where.type == "mps":
            self.native.mps.synchronize()
        elif where.type in ("cuda", "xpu"):
            getattr(self.native, where.type).synchronize(where)

    # ---- what the standard lacks ----

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        n, _ = check_index_add(self, x, index, values)
        index = index.to(self.native.int64)
        if x.device.type != "cpu":
            return super().index_add(x, index, values)  # torch's own uses float atomics on a GPU
        return self.native.index_add(x, 0, self.native.where(index < 0, index + n, index), values)

    def set_rows(self, array: Array, index: Array, values: Array) -> None:
        array[index.to(self.native.int64)] = values

    def windows(
        self, x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Array:
        shape, strides = window_view(x, x.stride(), kernel, stride, dilation)
        return self.native.as_strided(x, shape, strides, x.storage_offset())

    def blas_info(self) -> dict[str, Any]:
        torch = self.native
        name = "mkl" if torch.backends.mkl.is_available() else "unknown"
        found: dict[str, Any] = {"name": name, "threads": torch.get_num_threads()}
        found["matmul precision"] = torch.get_float32_matmul_precision()
        if torch.cuda.is_available():
            found["tf32"] = bool(torch.backends.cuda.matmul.allow_tf32)
        return found

    def versions(self) -> dict[str, str]:
        found = {"torch": str(self.native.__version__)}
        if self.native.version.cuda:
            found["cuda"] = str(self.native.version.cuda)
        found["array-api-compat"] = str(importlib.import_module("array_api_compat").__version__)
        return found


def _widened(function: Any, int64: Any, masks: dict[Any, int]) -> Any:
    """`function` of two arguments, computed in int64 where one of them is uint16 or uint32."""

    @functools.wraps(function)
    def wrapper(x1: Any, x2: Any, /, **kwargs: Any) -> Any:
        one, two = getattr(x1, "dtype", None), getattr(x2, "dtype", None)
        if one not in masks and two not in masks:
            return function(x1, x2, **kwargs)
        y = function(
            x1.to(int64) if one in masks else x1,
            x2.to(int64) if two in masks else x2,
            **kwargs,
        )
        if y.dtype != int64 or not (one is None or two is None or one == two):
            return y
        dtype = one if one in masks else two
        return (y & masks[dtype]).to(dtype)

    return wrapper


def run_module(source: str, path: str, state: dict[str, Array], inputs: list[Array]) -> Any:
    """What the class ``Model`` of a file of source gives for host arrays, with host arrays as its state: a tree of host arrays."""
    torch = importlib.import_module("torch")
    namespace: dict[str, Any] = {"__name__": "model", "__file__": path}
    exec(compile(source, path, "exec"), namespace)  # noqa: S102 - the text that `anynet.export` has just written
    module = namespace["Model"]()
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})

    def host(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {k: host(v) for k, v in tree.items()}
        if isinstance(tree, (tuple, list)):
            return [host(v) for v in tree]
        return None if tree is None else tree.numpy()

    with torch.no_grad():
        return host(module.eval()(*(torch.from_numpy(np.array(x)) for x in inputs)))
