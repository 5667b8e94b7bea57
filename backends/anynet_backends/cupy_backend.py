"""CuPy: the devices "cuda:0", "cuda:1", …, through array-api-compat; "cuda" is the first, and in a process that MPI has started on a
host with several the one of its number there.

Constructing the backend asks how many devices there are and touches none, so that it can be inspected on a machine without one; naming
a device does.

What differs from array-api-compat's namespace: creation functions honour ``device=`` (compat ignores it on
CuPy), new arrays "like" another are on its device, and `asarray` moves between devices. Nothing here copies
between host and device but `from_host`, `to_host` and `asarray` of something that is on the host.

CuPy computes on the thread's current device, wherever its arrays are. Where a machine has several, each function here, each operation,
each step of the backward pass and each update makes the device of its arrays the current one while it runs, and `backend_of` until
another array is asked about: code between two operations works with the arrays that it has just looked at. The stream is that of
`cupy_streams`, from the first time on that a thread names a device.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import (
    array_api,
    cuda_kernels,
    cupy_bfloat16,
    cupy_collectives,
    cupy_kernels,
    cupy_programs,
    short_floats,
)
from anynet_backends.array_api import Array
from anynet_backends.backend import (
    Backend,
    BackendUnavailableError,
    DeviceMemory,
    ScaleRule,
    UnknownDeviceError,
    Watch,
    check_index_add,
    window_view,
)
from anynet_backends.concurrency import once_property
from anynet_backends.config import CHECK
from anynet_backends.cuda import cuda_driver, local_rank
from anynet_backends.cupy_functions import astype_of, clip_of, raising, sign_of
from anynet_backends.cupy_indices import IndexFlags
from anynet_backends.cupy_streams import OwnStreams
from anynet_backends.cupy_uploads import Uploads
from anynet_backends.jit import cuda_lowering
from anynet_backends.jit.cuda_capture import Capture, random_address
from anynet_backends.jit.cuda_random import PHILOX
from anynet_backends.philox import check_words

__all__ = ["PHILOX_SOURCE", "CupyBackend"]

PHILOX_SOURCE: Final = (
    PHILOX
    + r"""
// One thread writes a block of four 64-bit words as eight 32-bit ones, low halves first.
extern "C" __global__ void anynet_philox4x64(
    const unsigned long long stream, unsigned int* __restrict__ out, const unsigned long long n,
    unsigned long long key0, unsigned long long key1, unsigned long long step, const unsigned long long* cells)
{
    if (cells) { key0 = cells[0]; key1 = cells[1]; step += cells[2]; }
    const unsigned long long stride = (unsigned long long)gridDim.x * blockDim.x;
    unsigned long long b = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (; b * 8 < n; b += stride) {
        unsigned long long word[4];
        philox(b, key0, key1, step, stream, word);
        #pragma unroll
        for (int j = 0; j < 8; ++j) {
            const unsigned long long at = b * 8 + j;
            if (at < n) out[at] = (unsigned int)(word[j / 2] >> (32 * (j & 1)));
        }
    }
}
"""
)

_THREADS: Final = 128
# of the functions of the standard: those that see to the device themselves, and those of dtypes and shapes
_WITHOUT_ARRAYS: Final = frozenset(
    ("arange", "empty", "eye", "full", "linspace", "ones", "zeros", "empty_like", "full_like", "ones_like", "zeros_like", "asarray",
     "from_dlpack", "broadcast_shapes", "can_cast", "finfo", "iinfo", "isdtype", "result_type")
)  # fmt: skip
_MAY_FAIL: Final = (
    "cholesky",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "pinv",
    "qr",
    "solve",
    "svd",
    "svdvals",
)


class CupyBackend(Backend):
    """NVIDIA GPUs through CuPy."""

    values_are_cheap_to_read = False
    copies_between_devices = True
    runs_programs = True
    captures = True
    fuses = True
    copies_together = True
    short_products = frozenset(("float16",))

    def __init__(self) -> None:
        cupy = importlib.import_module("cupy")
        compat = importlib.import_module("array_api_compat.cupy")
        super().__init__("cupy", compat, (cupy.ndarray,), native=cupy, multi_device=True)
        # dtype instances hash like x.dtype, the scalar classes of the namespace do not
        self.native_dtype = {n: np.dtype(n) for n in (*array_api.DTYPES, "float16")}
        short = cupy_bfloat16.dtype()
        if short is not None:
            self.native_dtype["bfloat16"] = short
        self.narrows = short is not None
        self._dtype_names = {native: name for name, native in self.native_dtype.items()}
        self.__dict__.update({n: self.native_dtype[n] for n in array_api.DTYPES})
        for name in ("arange", "empty", "eye", "full", "linspace", "ones", "zeros"):
            self.__dict__[name] = _on_device(getattr(compat, name))
        for name in ("empty_like", "full_like", "ones_like", "zeros_like"):
            self.__dict__[name] = _beside(getattr(compat, name))
        self.__dict__["asarray"] = _asarray(cupy, compat.asarray)
        self.__dict__["from_dlpack"] = _from_dlpack(cupy, self.asarray)
        self.__dict__["astype"] = astype_of(cupy, compat.astype)
        self.__dict__["clip"], self.__dict__["sign"] = clip_of(cupy), sign_of(cupy, compat.sign)
        self.__dict__.update(cupy_bfloat16.functions(self.__dict__.copy()))
        for extension in ("linalg", "fft"):
            functions = vars(self.__dict__.get(extension, types.SimpleNamespace()))
            functions.update(cupy_bfloat16.of_extension(extension, functions))
        self.__dict__["matmul"], self._affine = cuda_kernels.products.functions(cupy, self.matmul)
        if "linalg" in self.__dict__:
            self.linalg.matmul = self.matmul
            vars(self.linalg).update(raising({n: f for n, f in vars(self.linalg).items() if n in _MAY_FAIL}))
        self.kernels.update(cupy_kernels.KERNELS | cuda_kernels.KERNELS)
        for key in array_api.FUNCTIONS:
            if key in self.__dict__ and key not in _WITHOUT_ARRAYS:
                self.__dict__[key] = self._where_its_arrays_are(self.__dict__[key])
        for extension in ("linalg", "fft"):
            functions = vars(self.__dict__.get(extension, types.SimpleNamespace()))
            functions.update({n: self._where_its_arrays_are(f) for n, f in functions.items() if callable(f)})
        self._names: dict[int, str] = {}

    @once_property
    def _streams(self) -> OwnStreams:
        return OwnStreams(self.native)

    def _where_its_arrays_are(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.switches_devices:
                given: list[Any] = [x[0] if isinstance(x, list | tuple) and x else x for x in args]
                first = next((x for x in given if isinstance(x, self.array_types)), None)
                if first is not None:
                    with self.scope(first):
                        return function(*args, **kwargs)
            return function(*args, **kwargs)

        return call

    def as_real(self, array: Array) -> Array:
        return array.view(array.real.dtype) if array.dtype.kind == "c" else array

    def check(
        self,
        function: Callable[..., None],
        *arrays: Array,
        within: int | None = None,
        least: int = 0,
        ignored: int | None = None,
    ) -> None:
        """Indices are checked on the GPU, and what is wrong is raised when the host next reads a value; other values are not looked
        at, since that would wait. With ANYNET_CHECK=1 everything is checked at once."""
        if CHECK():
            function(*arrays)
        elif within is not None:
            index = arrays[0]
            with index.device:
                self._flags[index.data.device_id].check(function, index, least, within, ignored)

    @once_property
    def _flags(self) -> dict[int, IndexFlags]:
        return {i: IndexFlags() for i in range(self._count)}

    # ---- devices ----

    @once_property
    def _count(self) -> int:
        """The number of GPUs; BackendUnavailableError with the driver's reason where there is none."""
        try:
            count = int(self.native.cuda.runtime.getDeviceCount())
        except Exception as error:  # noqa: BLE001 CUDARuntimeError, or anything that a broken installation raises
            why = str(error).strip().partition("\n")[0]
        else:
            if count:
                return count
            why = "the driver shows no device"
        driver = cuda_driver()
        mend = (
            f"the driver serves CUDA {driver // 1000}: pip install 'anynet-nn[cuda{min(driver // 1000, 13)}]'"
            if driver
            else "it needs an NVIDIA GPU and its driver, which nvidia-smi should show"
        )
        msg = (
            f"CuPy {getattr(self.native, '__version__', '')} is installed but finds no usable GPU "
            f"({why}); {mend}"
        )
        raise BackendUnavailableError(msg)

    @once_property
    def _devices(self) -> dict[str, Any]:
        return {f"cuda:{i}": self.native.cuda.Device(i) for i in range(self._count)}

    def device_of(self, array: Array) -> str:
        try:
            index = array.data.device_id
        except AttributeError:
            index = array.device.id  # of what stands for an array, in vmap
        try:
            return self._names[index]
        except KeyError:
            name = self._names[index] = f"cuda:{index}"
            return name

    def native_device(self, name: str) -> Any:
        device = self._devices[name]
        self._streams.enter(device)
        return device

    @once_property
    def switches_devices(self) -> bool:
        try:
            return self._count > 1
        except BackendUnavailableError:
            return False

    def scope(self, array: Array) -> contextlib.AbstractContextManager[Any]:
        device: contextlib.AbstractContextManager[Any] = array.device
        return device

    def note_on(self, error: Exception) -> str | None:
        cuda = self.native.cuda
        if not isinstance(error, cuda.memory.OutOfMemoryError):
            return None
        device = f"cuda:{cuda.Device().id}"
        used, held, free, total = map(_mebibytes, self.memory(device))
        return (
            f"device {device} has {free} free of {total}; CuPy's pool holds {held}, of which {used} are in use. Smaller batches, "
            "`accumulate`, or anynet.checkpoint take less"
        )

    def follow(self, array: Array) -> None:
        array.device.use()

    def canonical_device(self, name: str) -> str:
        full = f"cuda:{self._own}" if name == "cuda" else name
        if full not in self._devices:
            msg = f"no device {name!r}: this machine has {', '.join(self._devices)}"
            raise UnknownDeviceError(msg)
        return full

    @once_property
    def _own(self) -> int:
        """Which GPU "cuda" is: of the processes of one host each has its own, as far as there are."""
        return local_rank() % max(len(self._devices), 1)

    def devices(self) -> list[str]:
        return list(self._devices)

    def collectives(self, device: str) -> cupy_collectives.Collectives:
        return cupy_collectives.Collectives(self, device)

    def adjacent(self, arrays: Sequence[Array]) -> Array | None:
        first: Any = arrays[0]
        end = first.data.ptr
        for a in arrays:
            if (a.dtype, a.data.mem.ptr, a.data.ptr, a.flags.c_contiguous) != (
                first.dtype,
                first.data.mem.ptr,
                end,
                True,
            ):
                return None
            end += a.nbytes
        size = (end - first.data.ptr) // first.itemsize
        found: Array = self.native.ndarray((size,), first.dtype, memptr=first.data)
        return found

    def _known(self, array: Any) -> Array:
        """An array of NumPy, of a dtype of CuPy."""
        array = np.asarray(array)
        native = array.dtype.newbyteorder("=")
        if str(native) not in self.native_dtype:
            msg = f"CuPy has no dtype {array.dtype}; it has {', '.join(self.native_dtype)}"
            raise TypeError(msg)
        found: Array = array.astype(native, copy=False)
        return found

    def from_host(self, array: Array, device: str) -> Array:
        array = self._known(array)
        with self.native_device(device):
            return self.native.array(array, order="C")

    def uploader(self, device: str) -> Callable[[Array], Array]:
        """`from_host` through page-locked buffers, on a stream of its own: neither the host nor what the GPU computes waits for the copy,
        but what is computed with it."""
        self.native_device(device)
        upload, known = self._uploads[device], self._known
        return lambda array: upload(known(array))

    @once_property
    def _uploads(self) -> dict[str, Uploads]:
        return {name: Uploads(self.native, device) for name, device in self._devices.items()}

    promoted = staticmethod(cupy_bfloat16.promoted)

    def to_host(self, array: Array) -> Array:
        """bfloat16, which NumPy lacks, becomes float32 with the same values."""
        if array.dtype.kind == "V":
            array = array.astype(np.float32)
        flags = self._flags[array.data.device_id]
        with array.device:
            if not flags.unread:
                return array.get()
            found = array.get(blocking=False)
            flags.read()  # waits for both
            return found

    def synchronize(self, device: str) -> None:
        self._devices[device].synchronize()
        with self._devices[device]:
            self._flags[self._devices[device].id].read()

    def affine(self, a: Array, b: Array, c: Array, /) -> Array:
        if not self.switches_devices:
            return self._affine(a, b, c)
        with self.scope(a):
            return self._affine(a, b, c)

    def product_and_sums(self, a: Array, b: Array, /) -> tuple[Array, Array]:
        with self.scope(a):
            found = cuda_kernels.products.product_and_sums(self.native, a, b)
            return super().product_and_sums(a, b) if found is None else found

    @property
    def computing_formats(self) -> frozenset[str]:
        return cuda_kernels.products.formats()

    @property
    def product_format(self) -> str | None:
        return cuda_kernels.products.current()

    computing = staticmethod(cuda_kernels.products.computing)
    bind_program = cupy_programs.bind
    move_averages = cuda_kernels.move_averages
    clip_norm = cuda_kernels.clip_norm
    drop = cuda_kernels.drop
    lower = cuda_lowering.lower

    def copy_all(self, pairs: Sequence[tuple[Array, Array]]) -> None:
        together: dict[int, list[tuple[Array, Array]]] = {}
        for to, source in pairs:
            if cuda_kernels.can_copy(to, source):
                together.setdefault(to.data.device_id, []).append((to, source))
            else:
                with to.device:
                    to[...] = source
        for some in together.values():
            with some[0][0].device:
                cuda_kernels.copy_all(some)

    def watch(
        self,
        vectors: Sequence[Array],
        ends: Sequence[Sequence[int]],
        room: int,
        rule: ScaleRule | None = None,
    ) -> Watch | None:
        return cuda_kernels.StepWatch.of(self.native, vectors, ends, room, self._flags, rule)

    def capture(self, device: str) -> Capture:
        native = self.native_device(device)
        return Capture(self.native, native, self._flags[native.id])

    def is_capturing(self) -> bool:
        return bool(self.native.cuda.get_current_stream().is_capturing())

    def memory(self, device: str) -> DeviceMemory:
        pool = self.native.get_default_memory_pool()
        with self._devices[device]:
            free, total = self.native.cuda.runtime.memGetInfo()
            return DeviceMemory(pool.used_bytes(), pool.total_bytes(), free, total)

    def free_memory(self, device: str) -> None:
        if "_uploads" in self.__dict__:
            self._uploads[device].clear()
        with self._devices[device]:
            self.native.get_default_memory_pool().free_all_blocks()

    def _name_dtype(self, native: Any) -> str:
        return str(np.dtype(native))

    def common_memory(self, arrays: Sequence[Array]) -> Array | None:
        whole = arrays[0].base
        if whole is None or len(arrays) < 2 or whole.ndim != 1 or not whole.flags.c_contiguous:
            return None
        ends = {whole.data.ptr}  # each begins where another ends, the first at the beginning
        for a in sorted(arrays, key=lambda a: a.data.ptr):
            if (
                a.base is not whole
                or a.dtype != whole.dtype
                or not a.flags.c_contiguous
                or a.data.ptr not in ends
            ):
                return None
            ends.add(a.data.ptr + a.nbytes)
        return whole if sum(a.size for a in arrays) == whole.size else None

    # ---- what the standard lacks ----

    @once_property
    def _philox(self) -> Any:
        return self.native.RawKernel(PHILOX_SOURCE, "anynet_philox4x64")

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        check_words(key, stream, step, n)
        with self.native_device(device):
            out = self.native.empty((n,), dtype=np.uint32)
            if n:
                # the kernel strides over what a grid cannot hold
                grid = min(-(-n // (8 * _THREADS)), 1 << 20)
                given = (np.uint64(stream), out, np.uint64(n), *random_address(key, step))
                self._philox((grid,), (_THREADS,), given)
            return out

    def is_alone(self, array: Array) -> bool:
        return array.base is None and array.flags.c_contiguous

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        """As `Backend.index_add`. An index outside [-n, n) is dropped: refusing it would make the host wait."""
        check_index_add(self, x, index, values)
        with x.device:
            return cuda_kernels.add_rows(self.native, x.copy(), index, values)

    def add_to_rows(self, array: Array, index: Array, values: Array) -> None:
        if not array.flags.c_contiguous:
            super().add_to_rows(array, index, values)
            return
        check_index_add(self, array, index, values)
        with array.device:
            cuda_kernels.add_rows(self.native, array, index, values)

    def set_rows(self, array: Array, index: Array, values: Array) -> None:
        with array.device:
            array[index] = values

    def windows(
        self, x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Array:
        shape, strides = window_view(x, x.strides, kernel, stride, dilation)
        with x.device:
            return self.native.lib.stride_tricks.as_strided(x, shape, strides)

    def rounded(self, x: Array, kind: str) -> Array:
        with x.device:
            return short_floats.rounded(self.native, x, kind)

    def blas_info(self) -> dict[str, Any]:
        return cuda_kernels.products.info()

    def versions(self) -> dict[str, str]:
        found = {"cupy": str(self.native.__version__)}
        for key, query in (("cuda runtime", "runtimeGetVersion"), ("cuda driver", "driverGetVersion")):
            try:
                number = int(getattr(self.native.cuda.runtime, query)())
            except Exception as error:  # noqa: BLE001 the version of a broken installation is worth a line, not a crash
                found[key] = f"unknown ({type(error).__name__})"
            else:
                found[key] = f"{number // 1000}.{number % 1000 // 10}"
        found["cuDNN"] = cuda_kernels.CUDNN.status
        found["array-api-compat"] = str(importlib.import_module("array_api_compat").__version__)
        return found


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _on_device(function: Any) -> Any:
    """A creation function under the device that it is asked for: compat accepts ``device=`` and ignores
    it."""

    @functools.wraps(function)
    def create(*args: Any, device: Any = None, **kwargs: Any) -> Any:
        if device is None:
            return function(*args, **kwargs)
        with device:
            return function(*args, **kwargs)

    return create


def _beside(function: Any) -> Any:
    """A creation function whose new array is on the device of its first argument, unless a device is given."""

    @functools.wraps(function)
    def create(x: Any, /, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        with x.device if device is None else device:
            return function(x, *args, **kwargs)

    return create


def _asarray(cupy: Any, compat: Any) -> Any:
    """compat's `asarray`, except that an array stays on its device unless another is given, and moves if it
    is."""

    def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        if not isinstance(obj, cupy.ndarray):
            return compat(obj, dtype=dtype, device=device, copy=copy)
        if device is None or device == obj.device:
            return compat(obj, dtype=dtype, device=obj.device, copy=copy)
        if copy is False:
            msg = f"copy=False, but moving from {obj.device} to {device} copies"
            raise ValueError(msg)
        with device:
            moved = obj.copy()  # onto the current device, from whichever one
            return moved if dtype is None else moved.astype(dtype, copy=False)

    return asarray


def _from_dlpack(cupy: Any, asarray: Any) -> Any:
    """CuPy's takes neither ``device=`` nor arrays of the host; the host's are copied when a device is
    named."""

    def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
        if device is not None and x.__dlpack_device__()[0] == 1:  # kDLCPU
            if copy is False:
                msg = f"copy=False, but moving from the host to {device} copies"
                raise ValueError(msg)
            return asarray(np.from_dlpack(x), device=device)
        return asarray(cupy.from_dlpack(x), device=device, copy=copy)

    return from_dlpack
