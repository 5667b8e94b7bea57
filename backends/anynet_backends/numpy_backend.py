"""NumPy: the device "cpu".

Its functions are NumPy's own and those of `numpy_namespace`; kernels are those of oneDNN, of machine code and of NumPy.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import onednn, philox, products, short_floats
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, UnknownDeviceError, check_index_add, window_view
from anynet_backends.jit import availability, calls, elementary, numpy_calls
from anynet_backends.jit.compiler import version as llvm_version
from anynet_backends.jit.rows import add_rows
from anynet_backends.kernel_table import KernelTable
from anynet_backends.kernels import COMPILED, KERNELS
from anynet_backends.memory import allocator
from anynet_backends.memory.layout import axes_in_memory, in_order, inverse
from anynet_backends.memory.reductions import PLAIN_FLOATS
from anynet_backends.numpy_namespace import first_in_order, namespace, numpy_blas

__all__ = ["NumpyBackend"]

_BLOCK: Final = 1 << 14
"""Bytes of a block that stays in the first-level cache while it is copied."""


class NumpyBackend(Backend):
    """The CPU through NumPy."""

    compiles = runs_programs = views_at_once = True
    assigns_in_place = True
    block_size = 1 << 14

    def __init__(self) -> None:
        allocator.at_import()
        super().__init__("numpy", namespace(), (np.ndarray, np.generic), native=np)
        self.native_dtype["float16"] = np.dtype("float16")
        ours = [name for name in elementary.in_use() if name in elementary.ELEMENTARY]
        vars(self).update({name: elementary.by_dtype(name) for name in ours})
        self._try_first(KERNELS)
        if products.WIDE:
            self.matmul = products.matmul
        if onednn.find():
            onednn.library.stack_for_signals()  # this is the main thread, as a rule; another one may load the library
            self._try_first(onednn.KERNELS)
            self.matmul = onednn.matmul
            self.affine = onednn.affine  # type: ignore[method-assign]
        self._try_first(COMPILED)
        self._as_strided = np.lib.stride_tricks.as_strided

    def _try_first(self, kernels: KernelTable) -> None:
        """Add kernels that are tried before those already present."""
        for name, kernel in kernels.items():
            self.kernels[name] = kernel.before(self.kernels.get(name))

    def bind_program(self, program: Any, vectors: Sequence[Array]) -> Callable[[Any], None]:
        return program.bind(vectors)  # type: ignore[no-any-return]

    def side_by_side(self, matrix: Array) -> Array:
        return products.side_by_side(self, matrix)

    def logistic(self, x: Array, /) -> Array:
        ufunc = elementary.logistic(x)
        if ufunc is not None or type(x) is not np.ndarray or x.dtype not in PLAIN_FLOATS:
            return super().logistic(x) if ufunc is None else ufunc(x)
        y = np.multiply(x, 0.5)  # the same calls, in place
        if type(y) is np.ndarray:
            np.tanh(y, y)
            np.multiply(y, 0.5, y)
            return np.add(y, 0.5, y)
        return np.tanh(y) * 0.5 + 0.5

    def rounded(self, x: Array, kind: str) -> Array:
        with np.errstate(all="ignore"):  # what is beyond float16 is infinite
            return short_floats.rounded(np, x, kind)

    def counts_views(self, array: Array) -> bool:
        if type(array) is not np.ndarray or array.base is not None:
            return False
        flags = array.flags
        return flags.owndata and flags.writeable

    def lies_in_order(self, array: Array) -> bool:
        return bool(array.flags.c_contiguous)

    def first_in_order(self, x: Array, k: int, axis: int, *, descending: bool) -> Array:
        found = first_in_order(x, k, axis, descending)
        return super().first_in_order(x, k, axis, descending=descending) if found is None else found

    def takes_writes(self, array: Array) -> bool:
        return bool(array.flags.writeable)

    def check(
        self, function: Callable[..., None], *arrays: Array, within: int | None = None, **_: Any
    ) -> None:
        if within is None:
            function(*arrays)
        else:
            numpy_calls.within(arrays[0], within, function)

    def fill(self, array: Array, number: bool | float) -> None:
        """Large arrays are filled by copies of a block that is in the first-level cache, which is faster than `ndarray.fill`."""
        if array.nbytes < 4 * _BLOCK or not array.flags.c_contiguous:
            array.fill(number)
            return
        block = _BLOCK // array.itemsize
        flat = array.reshape(-1)
        rows = flat[: flat.size // block * block].reshape(-1, block)
        rows[0] = number
        rows[1:] = rows[0]
        flat[rows.size :] = flat[: flat.size - rows.size]

    def device_of(self, array: Array) -> str:
        return "cpu"

    def native_device(self, name: str) -> Any:
        return "cpu"

    def canonical_device(self, name: str) -> str:
        if name != "cpu":
            msg = f"NumPy has the one device 'cpu', got {name!r}"
            raise UnknownDeviceError(msg)
        return name

    def devices(self) -> list[str]:
        return ["cpu"]

    def from_host(self, array: Array, device: str) -> Array:
        array = np.asarray(array)
        return np.array(array) if array.dtype.isnative else np.array(array, array.dtype.newbyteorder("="))

    def to_host(self, array: Array) -> Array:
        return np.asarray(array)

    def accepts(self, kind: type) -> bool:
        """np.matrix multiplies differently and masked arrays would lose their mask; a memmap is an ordinary
        array."""
        return not issubclass(kind, np.ndarray) or kind in (np.ndarray, np.memmap)

    def _name_dtype(self, native: Any) -> str:
        return str(np.dtype(native))

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        return philox.philox_words(key, stream, step, n)

    def host_place(self, array: Array) -> Array | None:
        usable = type(array) is np.ndarray and array.dtype.kind == "f" and array.flags.c_contiguous
        return array if usable and array.flags.writeable else None

    def is_alone(self, array: Array) -> bool:
        flags = array.flags
        return (
            type(array) is np.ndarray
            and array.base is None
            and flags.owndata
            and flags.c_contiguous
            and flags.writeable
        )

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        check_index_add(self, x, index, values)
        y = np.array(x)
        add_rows(y, index, values)
        return y

    def add_to_rows(self, array: Array, index: Array, values: Array) -> None:
        add_rows(array, index, values)

    def set_rows(self, array: Array, index: Array, values: Array) -> None:
        array[index] = values

    def windows(
        self, x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Array:
        return self._as_strided(x, *window_view(x, x.strides, kernel, stride, dilation), writeable=False)

    def arrange(self, array: Array, like: Array) -> Array:
        """NumPy's loops over operands with different memory layouts, or over a broadcast one, take ten times as long."""
        if array.strides == like.strides or array.size < 1 << 12 or array.shape != like.shape:
            return array
        order = axes_in_memory(like.strides)
        return in_order(array, order).transpose(inverse(order))

    def as_real(self, array: Array) -> Array:
        return array.view(array.real.dtype) if array.dtype.kind == "c" else array

    def adjacent(self, arrays: Sequence[Array]) -> Array | None:
        base = arrays[0].base
        if (
            not isinstance(base, np.ndarray)
            or base.ndim != 1
            or not base.flags.c_contiguous
            or any(a.base is not base or a.dtype != base.dtype or not a.flags.c_contiguous for a in arrays)
        ):
            return None
        start = end = arrays[0].ctypes.data - base.ctypes.data
        for a in arrays:
            if a.ctypes.data - base.ctypes.data != end:
                return None
            end += a.nbytes
        found: Array = base[start // base.itemsize : end // base.itemsize]
        return found

    def all_finite(self, x: Array) -> bool:
        # Σ x² takes BLAS one pass; it may overflow where all of x is finite
        if x.ndim == 1 and x.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                if math.isfinite(x.dot(x)):
                    return True
        return bool(np.isfinite(x).all())

    def finite_check(self, x: Array) -> Callable[[], bool]:
        compiled = calls.finite_check(x) if availability.available() else None
        return compiled or super().finite_check(x)

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    def blas_info(self) -> dict[str, Any]:
        return numpy_blas()

    def versions(self) -> dict[str, str]:
        found = {"numpy": np.__version__}
        if onednn.version():
            found["oneDNN"] = onednn.version()
        if availability.available():
            found["LLVM"] = llvm_version()
        return found
