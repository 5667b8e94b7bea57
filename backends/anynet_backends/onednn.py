"""oneDNN, through its C API on NumPy's memory: what cuDNN is to a GPU.

The extra `onednn` brings the library (the wheel `onednn-cpu-gomp`, oneDNN 3.2). It is loaded when the first convolution
runs. Images are kept with the channels last in memory under the logical shape (n, c, *spatial), which its fastest
implementations want; element-wise functions of NumPy keep that order. A plan (the primitives of a shape with their memory
descriptors) is made once and cached. ``ANYNET_ONEDNN=off`` leaves it alone.

Its threads are those of the OpenMP runtime: ``OMP_NUM_THREADS`` sets their number, and a forked process has one. The
threads of NumPy's OpenBLAS are another pool, and two pools on the same cores take turns badly (a step of LeNet-5 took
four times as long); so when oneDNN is loaded, OpenBLAS is set to one thread, and all but small products in float32 go to
oneDNN too.

**Rounding errors.** Convolutions are the direct algorithm in float32 (no Winograd, no shorter multiplications). With the channels
last each number is one running sum over channels and kernel, where the blocked layout that PyTorch takes adds up parts of 16
channels, and OpenBLAS parts of some 300 products. Over 64 channels and 3×3 places, 576 products, the relative errors against
float64 are 4.2e-7, 2.2e-7 and 3.0e-7 in turn, of outputs and of gradients of inputs, which is what sums in these orders give; the
gradients of weights are at 8e-7, PyTorch's at 3e-6.

Source: https://oneapi-src.github.io/oneDNN (the C API of version 3).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import (
    BUILD_LOCK,
    after_fork,
    fork_safe_lock,
    immortal,
    once,
    once_property,
)
from anynet_backends.config import ONEDNN
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.attention import scores_at_once
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.outputs import empty_output
from anynet_backends.numpy_namespace import largest
from anynet_backends.ownership import check_library

__all__ = [
    "KERNELS", "OneDNNError", "Product", "Step", "affine", "find", "matmul", "product", "team", "threads", "version",
]  # fmt: skip

_Ints = tuple[int, ...]
_MAX_DIMS: Final = 12
_Dims = ctypes.c_int64 * _MAX_DIMS
_F32, _CPU, _IN_ORDER, _ANY = 3, 1, 1, 1
_TRAINING, _INFERENCE, _BACKWARD = 64, 96, 128
_SCALE_AND_SHIFT: Final = 0x2 | 0x4
_DIRECT = 1
_MAX_POOLING: Final = 0x1FF
_NAME, _USER = 8, 1
_LINEAR, _REDUCE_MAX = 0x26, 0x2FFF2
_QUERY = {
    "src": 129, "diff_src": 130, "weights": 131, "diff_weights": 132, "dst": 133, "diff_dst": 134, "workspace": 135,
    "scratchpad": 136,
}  # fmt: skip
_ARG = {
    "src": 1, "dst": 17, "weights": 33, "bias": 41, "workspace": 64, "diff_src": 129, "diff_dst": 145,
    "diff_weights": 161, "diff_bias": 169, "from": 1, "to": 17, "mean": 49, "variance": 50, "scale": 51, "shift": 52,
    "diff_scale": 255, "diff_shift": 256, "src_iter": 2, "src_iter_c": 3, "weights_iter": 34, "dst_iter": 18,
    "dst_iter_c": 19, "diff_src_iter": 130, "diff_src_iter_c": 131, "diff_weights_iter": 162, "diff_dst_iter": 146,
    "diff_dst_iter_c": 147, "scratchpad": 80,
}  # fmt: skip
_FLOAT: Final = np.dtype(np.float32)
_SMALL: Final = 1 << 20
"""Bytes that a call touches at most to keep the interpreter's lock."""
LARGE: Final = 1 << 18
"""Products of so many multiplications and more are worth the call."""
PLANS = 256
"""How many plans are kept, the least recently used of which goes first."""


class OneDNNError(RuntimeError):
    """A call of the library failed."""


class _Arg(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_int), ("memory", ctypes.c_void_p))


_LIBRARY, _WHEEL = "libdnnl.so.3", "onednn_cpu_gomp-"


def find() -> str | None:
    """Where the library is, or None; the extra `onednn` installs it."""
    return _installed()[0] if ONEDNN() else None


def problem() -> str:
    """Why the library is not used although it is installed and not switched off, or ""."""
    if not ONEDNN():
        return ""
    if find() is not None:
        _works()
    return _broken or _installed()[1]


@once
def _installed() -> tuple[str | None, str]:
    """The first library that may be loaded, and why another may not be: in the environment's own `lib`, where the wheel says that
    its files are, or in the `lib` of a folder that pip installed into (`--target`)."""
    refused = ""
    for path in _places() if sys.platform.startswith("linux") else ():
        if os.path.exists(path):
            try:
                check_library(path)
            except OSError as error:
                refused = str(error)
            else:
                return path, ""
    return None, refused


def _places() -> Iterator[str]:
    yield os.path.join(sys.prefix, "lib", _LIBRARY)
    for folder in dict.fromkeys(sys.path):
        # as `importlib.metadata` does, which takes longer to import than all else; the current folder may be anybody's
        if not os.path.isabs(folder) or folder == os.getcwd():
            continue
        try:
            wheels = [n for n in os.listdir(folder) if n.startswith(_WHEEL) and n.endswith(".dist-info")]
        except OSError:
            continue
        for wheel in wheels:
            with (
                contextlib.suppress(OSError),
                open(os.path.join(folder, wheel, "RECORD"), encoding="utf-8") as record,
            ):
                for line in record:
                    name = line.partition(",")[0]
                    if os.path.basename(name) == _LIBRARY:
                        yield os.path.normpath(os.path.join(folder, name))
            yield os.path.join(folder, "lib", _LIBRARY)


def version() -> str:
    """The version of the library, or "" where it is not installed or does not work."""
    if find() is None:
        return ""
    try:
        return _library().version
    except OneDNNError:
        return ""


class _Library:
    """The loaded library with its engine and stream."""

    def __init__(self, path: str) -> None:
        self.dll = ctypes.CDLL(path)
        self.dll.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
        self.version = ".".join(map(str, self.dll.dnnl_version().contents))
        if not self.version.startswith("3."):
            msg = f"version {self.version} of oneDNN, expected 3"
            raise OneDNNError(msg)
        self.lock = fork_safe_lock()  # memory objects are shared between calls
        self.engine = ctypes.c_void_p()
        self.set_handle = self.dll.dnnl_memory_set_data_handle
        self.set_handle.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.execute = self.dll.dnnl_primitive_execute
        self.execute.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self.wait = self.dll.dnnl_stream_wait
        self.wait.argtypes = (ctypes.c_void_p,)
        self.query = self.dll.dnnl_primitive_desc_query_md
        self.query.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        self.query.restype = ctypes.c_void_p
        self.size = self.dll.dnnl_memory_desc_get_size
        self.size.argtypes = (ctypes.c_void_p,)
        self.size.restype = ctypes.c_size_t
        self.equal = self.dll.dnnl_memory_desc_equal
        self.equal.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.ask = self.dll.dnnl_primitive_desc_query
        self.ask.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        self.team: Any = None
        if all(hasattr(self.dll, name) for name in (*names, "omp_get_max_threads")):
            self.team = tuple(ctypes.cast(getattr(self.dll, name), ctypes.c_void_p).value for name in names)
            self.max_threads = self.dll.omp_get_max_threads
        _one_blas_thread()
        self.call("dnnl_engine_create", ctypes.byref(self.engine), _CPU, ctypes.c_size_t(0))
        self.stream = self.new_stream()
        self.scratch = np.empty(0, np.uint8)  # of who holds our lock
        self.plain = self.times(1.0)

    def call(self, name: str, *args: Any) -> None:
        status = getattr(self.dll, name)(*args)
        if status:
            msg = f"oneDNN: {name} returned status {status}"
            raise OneDNNError(msg)

    def new_stream(self) -> ctypes.c_void_p:
        """A queue of calls, which are done in order."""
        stream = ctypes.c_void_p()
        self.call("dnnl_stream_create", ctypes.byref(stream), self.engine, _IN_ORDER)
        return stream

    def times(self, factor: float) -> ctypes.c_void_p:
        """The attribute of a primitive whose result is multiplied with a number, and whose scratch memory is an
        argument (the library's own belongs to the thread that made the primitive, and others crash); to be destroyed."""
        made, steps = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("dnnl_primitive_attr_create", ctypes.byref(made))
        self.call("dnnl_primitive_attr_set_scratchpad_mode", made, _USER)
        if factor != 1.0:
            self.call("dnnl_post_ops_create", ctypes.byref(steps))
            number, nothing = ctypes.c_float(factor), ctypes.c_float(0.0)
            self.call("dnnl_post_ops_append_eltwise", steps, _LINEAR, number, nothing)
            self.call("dnnl_primitive_attr_set_post_ops", made, steps)
            self.call("dnnl_post_ops_destroy", steps)
        return made

    def implementation(self, descriptor: ctypes.c_void_p) -> str:
        """The name of what carries a primitive out."""
        name = ctypes.c_char_p()
        self.ask(descriptor, _NAME, 0, ctypes.byref(name))
        return (name.value or b"").decode()

    def layout(self, shape: Sequence[int], strides: Sequence[int] | None) -> ctypes.c_void_p:
        """A memory descriptor of float32: with strides (in elements), or of the library's choice."""
        md = ctypes.c_void_p()
        dims = _Dims(*shape)
        n = len(shape)
        if strides is None:
            self.call("dnnl_memory_desc_create_with_tag", ctypes.byref(md), n, dims, _F32, _ANY)
        else:
            self.call(
                "dnnl_memory_desc_create_with_strides", ctypes.byref(md), n, dims, _F32, _Dims(*strides)
            )
        return md

    def memory(self, md: Any, data: int | None = None) -> ctypes.c_void_p:
        """A memory object; without `data` it has no place yet."""
        memory = ctypes.c_void_p()
        place = ctypes.c_void_p(data) if data is not None else None  # DNNL_MEMORY_NONE
        self.call("dnnl_memory_create", ctypes.byref(memory), ctypes.c_void_p(_value(md)), self.engine, place)
        return memory


def _one_blas_thread() -> None:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            paths = {
                line.split(maxsplit=5)[5].strip() for line in file if "openblas" in line and "numpy" in line
            }
    except (OSError, IndexError):
        return
    for path in paths:
        library = ctypes.CDLL(path)
        for name in (
            "scipy_openblas_set_num_threads64_",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ):
            if hasattr(library, name):
                getattr(library, name)(1)
                break


_loaded: _Library | None = None
_broken = ""  # why it cannot be loaded


def _forked() -> None:
    """Here are none of OpenMP's threads: plans that count on them are made anew, with one."""
    if _loaded is None or _loaded.team is None:
        return
    _loaded.dll.omp_set_num_threads(1)
    for plans in _Plans.every:
        plans.known.clear()


after_fork(_forked)


def team() -> tuple[int, int, int] | None:
    """The addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads, where oneDNN is in use with more
    than one thread: loops over large arrays then take the same threads."""
    return _loaded.team if _loaded is not None and threads() > 1 else None


def threads() -> int:
    """How many threads OpenMP has, where oneDNN is in use; else 1."""
    return 1 if _loaded is None or _loaded.team is None else int(_loaded.max_threads())


def _library() -> _Library:
    global _loaded, _broken
    if _loaded is not None:
        return _loaded
    with BUILD_LOCK:
        path = find()
        if path is None:
            msg = "oneDNN is not installed: pip install 'anynet-nn[onednn]'"
            raise OneDNNError(msg)
        if _loaded is None and not _broken:
            try:
                _loaded = immortal(_Library(path))
            except (OSError, AttributeError, OneDNNError) as error:
                _broken = f"{path}: {error}"
        if _loaded is None:
            msg = f"oneDNN does not work here: {_broken}"
            raise OneDNNError(msg)
        return _loaded


def _works() -> bool:
    try:
        _library()
    except OneDNNError:
        return False
    return True


def _value(pointer: Any) -> int:
    return pointer if isinstance(pointer, int) else int(pointer.value)


def _no_native_call(step: Step) -> Callable[..., int] | None:
    return None


native_call = _no_native_call
"""Makes a step a built-in function, or returns None; set by what compiles machine code."""


class Step:
    """A primitive with its memory objects: `run` gives them places and executes it."""

    def __init__(self, dnnl: _Library, descriptor: ctypes.c_void_p, **layouts: Any) -> None:
        """`layouts`: the memory descriptors of the arguments. Scratch memory, where it needs some, comes before them,
        and is found here."""
        self.dnnl, self.descriptor, self.layouts = dnnl, descriptor, layouts
        self.plan: Any = None
        self.stream: ctypes.c_void_p | None = None
        scratch = dnnl.query(descriptor, _QUERY["scratchpad"], 0)
        self.room = dnnl.size(scratch)
        if self.room:
            layouts = {"scratchpad": scratch, **layouts}
        self.primitive = ctypes.c_void_p()
        with BUILD_LOCK:  # no process is forked while the library has its own locks
            dnnl.call("dnnl_primitive_create", ctypes.byref(self.primitive), descriptor)
        self.memories = [dnnl.memory(md) for md in layouts.values()]
        self.handles = np.array([m.value for m in self.memories], np.int64)
        self.count = len(layouts)
        self.args = (_Arg * self.count)(
            *(_Arg(_ARG[name], m.value) for name, m in zip(layouts, self.memories, strict=True))
        )
        self.address = ctypes.addressof(self.args)
        self.small = sum(dnnl.size(_value(md)) for md in layouts.values()) < _SMALL

    def __del__(self) -> None:
        for memory in getattr(self, "memories", ()):
            self.dnnl.dll.dnnl_memory_destroy(memory)
        if getattr(self, "primitive", None):
            self.dnnl.dll.dnnl_primitive_destroy(self.primitive)
        if getattr(self, "stream", None):
            self.dnnl.dll.dnnl_stream_destroy(self.stream)

    def another(self, plan: Any = None) -> Step:
        """The same with memory objects of its own, to run at the same time. `plan`: what holds the descriptors, kept alive by
        the new one; a plan's own step does not, which would keep itself alive."""
        made = Step(self.dnnl, self.descriptor, **self.layouts)
        made.plan = plan or self.plan
        return made

    def cells(self) -> Array:
        """What machine code needs for the call, with a stream of its own: see `onednn` in `anynet_backends.jit.compiler`."""
        dnnl = self.dnnl
        if self.stream is None:
            self.stream = dnnl.new_stream()
        functions = (
            ctypes.cast(f, ctypes.c_void_p).value for f in (dnnl.set_handle, dnnl.execute, dnnl.wait)
        )
        numbers = (*functions, _value(self.primitive), _value(self.stream), self.address, *self.handles)
        return np.array(numbers, np.int64)

    @once_property
    def built(self) -> Callable[..., int] | None:
        """The call as a built-in function, where the extra `numba` is there: ten calls through ctypes cost more than a
        small convolution. It keeps the interpreter's lock, and has scratch memory of its own."""
        return native_call(self) if self.small else None

    def _called(self, *arrays: Array) -> int:
        dnnl = self.dnnl
        with dnnl.lock:
            if self.room:
                if dnnl.scratch.size < self.room:
                    dnnl.scratch = np.empty(self.room, np.uint8)
                arrays = (dnnl.scratch, *arrays)
            for handle, array in zip(self.memories, arrays, strict=True):
                dnnl.set_handle(handle, _place(array))
            status: int = dnnl.execute(self.primitive, dnnl.stream, self.count, self.address)
            dnnl.wait(dnnl.stream)
        return status

    def run(self, *arrays: Array) -> None:
        """Execute on arrays in the order of the layouts, which they have."""
        status = (self.built or self._called)(*arrays)
        if status:
            msg = f"oneDNN: execution returned status {status}"
            raise OneDNNError(msg)


def _plain_strides(shape: Sequence[int]) -> _Ints:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _last_strides(shape: Sequence[int]) -> _Ints:
    """Of (n, c, *spatial) with the channels last in memory."""
    n, c, *spatial = shape
    inner = _plain_strides((n, *spatial, c))
    return (inner[0], 1, *inner[1:-1])


def _place(a: Array) -> int:
    return int(a.__array_interface__["data"][0])


_LAST: Final = tuple((0, *range(2, axes), 1) for axes in range(6))
_FIRST: Final = tuple((0, axes - 1, *range(1, axes - 1)) for axes in range(6))
"""By the number of axes: from channels second to channels last, and back."""


def _empty_last(shape: _Ints) -> Array:
    """A result of a logical shape (n, c, *spatial) with the channels last in memory."""
    return empty_output(shape, np.float32, _LAST[len(shape)])


def _channels_last(a: Array) -> Array:
    """`a` itself where its channels are last in memory, else a copy with them last."""
    v = a.transpose(_LAST[a.ndim])
    return a if v.flags.c_contiguous else np.ascontiguousarray(v).transpose(_FIRST[a.ndim])


def _contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


class _Plans:
    """Made once for a key, bounded in number; None for what the library cannot do."""

    every: ClassVar[list[_Plans]] = []

    def __init__(self, make: Callable[..., Any]) -> None:
        self.every.append(self)
        self.make = make
        self.known: OrderedDict[Any, Any] = OrderedDict()
        self.lock = fork_safe_lock()

    def __call__(self, *key: Any) -> Any:
        with self.lock:
            found = self.known.get(key, self)
            if found is not self:
                self.known.move_to_end(key)
                return found
        with BUILD_LOCK:
            found = self.known.get(key, self)
            if found is self:
                try:
                    found = self.make(*key)
                except OneDNNError:
                    found = None
                with self.lock:
                    self.known[key] = found
                    if len(self.known) > PLANS:
                        self.known.popitem(last=False)
        return found


class _Owner:
    """What a plan holds of the library, given back with it."""

    dnnl: _Library

    def own(self, *descriptors: Any) -> None:
        """Descriptors of memory and of primitives to destroy with this plan."""
        self.__dict__.setdefault("_owned", []).extend(descriptors)

    def __del__(self) -> None:
        for kind, pointer in self.__dict__.get("_owned", ()):
            getattr(self.dnnl.dll, f"dnnl_{kind}_destroy")(pointer)


# ----- products -----


def _steps(shape: _Ints, strides: _Ints) -> _Ints | None:
    """The strides, in numbers, of a stack of matrices that lie by rows or by columns; None for others."""
    (*stack, rows, cols), (*outer, down, right) = shape, strides
    if right == 4 and down >= 4 * cols and down % 4 == 0:
        inner = (down // 4 if rows > 1 else cols, 1)
        extent = rows * inner[0]
    elif down == 4 and right >= 4 * rows and right % 4 == 0:
        inner = (1, right // 4 if cols > 1 else rows)
        extent = cols * inner[1]
    else:
        return None
    steps: list[int] = []
    for n, step in zip(reversed(stack), reversed(outer), strict=True):
        if n > 1 and (step <= 0 or step % 4):
            return None
        steps.append(step // 4 if n > 1 else extent)
        extent = max(extent, n * steps[-1])
    return (*reversed(steps), *inner)


class Product(_Owner):
    """Products of matrices, one or a stack: ``factor · a b``, or ``a b`` with a vector added to each row."""

    def __init__(
        self,
        a: _Ints,
        a_steps: _Ints,
        b: _Ints,
        b_steps: _Ints,
        steps: _Ints | None,
        plus: bool,
        factor: float,
    ) -> None:
        dnnl = self.dnnl = _library()
        self.shape = (*a[:-1], b[-1])
        each = (*(1,) * (len(a) - 1), b[-1])
        layouts: dict[str, Any] = {
            "src": dnnl.layout(a, a_steps),
            "weights": dnnl.layout(b, b_steps),
            "dst": dnnl.layout(self.shape, steps or _plain_strides(self.shape)),
        }
        if plus:
            layouts["bias"] = dnnl.layout(each, _plain_strides(each))
        self.own(*(("memory_desc", md) for md in layouts.values()))
        pd, times = ctypes.c_void_p(), dnnl.times(factor)
        self.own(("primitive_attr", times))
        dnnl.call(
            "dnnl_matmul_primitive_desc_create", ctypes.byref(pd), dnnl.engine, layouts["src"], layouts["weights"],
            layouts.get("bias"), layouts["dst"], times,
        )  # fmt: skip
        self.own(("primitive_desc", pd))
        if dnnl.implementation(pd).startswith("ref"):
            msg = "oneDNN has nothing but its reference for this product"
            raise OneDNNError(msg)
        self.step = Step(dnnl, pd, **layouts)


def _product(
    a: _Ints, a_strides: _Ints, b: _Ints, b_strides: _Ints, strides: _Ints | None, plus: bool, factor: float
) -> Product | None:
    """None for what the library has no fast product of."""
    if a[:-2] != b[:-2] or a[-1] != b[-2] or len(a) > _MAX_DIMS:
        return None
    left, right = _steps(a, a_strides), _steps(b, b_strides)
    steps = None if strides is None else _steps((*a[:-1], b[-1]), strides)
    if left is None or right is None or (strides is not None and steps is None):
        return None
    return Product(a, left, b, right, steps, plus, factor)


_products = _Plans(_product)


def product(out: Array | None, a: Array, b: Array, c: Array | None = None) -> Product | None:
    """The plan for a b, or a b + c, of float32, written into `out` if that is given; None for what is left to NumPy."""
    if a.ndim < 2 or b.ndim < 2 or a.size * b.shape[-1] < LARGE or not a.dtype == _FLOAT == b.dtype:
        return None
    if 1 in a.shape[-2:] or b.shape[-1] == 1:  # with a vector the time is that of reading the matrix
        return None
    if c is not None and (c.dtype != _FLOAT or c.shape != b.shape[-1:] or c.strides != (4,)):
        return None
    strides = None if out is None or out.flags.c_contiguous else out.strides
    plan: Product | None = _products(a.shape, a.strides, b.shape, b.strides, strides, c is not None, 1.0)
    if plan is None or out is None:
        return plan
    return plan if out.shape == plan.shape and out.dtype == _FLOAT else None


def matmul(a: Array, b: Array, /, out: Array | None = None) -> Array:
    """`np.matmul`; products in float32 that are not small are oneDNN's."""
    plan = product(out, a, b)
    if plan is None:
        return np.matmul(a, b) if out is None else np.matmul(a, b, out)
    if out is None:
        out = np.empty(plan.shape, np.float32)
    plan.step.run(a, b, out)
    return out


def affine(a: Array, b: Array, c: Array, /, out: Array | None = None) -> Array:
    """``a b + c``, in one call where oneDNN takes it."""
    plan = product(out, a, b, c)
    if plan is None:
        out = np.matmul(a, b) if out is None else np.matmul(a, b, out)
        out += c
        return out
    if out is None:
        out = np.empty(plan.shape, np.float32)
    plan.step.run(a, b, out, c)
    return out


# ----- convolution -----


class _Convolution(_Owner):
    """The three products of a convolution with one set of shapes."""

    def __init__(
        self,
        x: _Ints,
        w: _Ints,
        bias: bool,
        stride: _Ints,
        padding: Any,
        dilation: _Ints,
        groups: int,
        training: bool,
    ) -> None:
        dnnl = self.dnnl = _library()
        spatial = tuple(
            (size + lo + hi - d * (k - 1) - 1) // s + 1
            for size, k, s, (lo, hi), d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)
        )
        self.y_shape = (x[0], w[0], *spatial)
        self.w_shape = w
        inner = w if groups == 1 else (groups, w[0] // groups, *w[1:])
        self.strides, self.dilates = _Dims(*stride), _Dims(*(d - 1 for d in dilation))
        self.low, self.high = _Dims(*(p[0] for p in padding)), _Dims(*(p[1] for p in padding))
        self.x_md = dnnl.layout(x, _last_strides(x))
        self.y_md = dnnl.layout(self.y_shape, _last_strides(self.y_shape))
        self.w_plain = dnnl.layout(inner, _plain_strides(inner))
        self.w_any = dnnl.layout(inner, None)
        self.b_md = dnnl.layout(w[:1], (1,)) if bias else None
        layouts = (
            self.x_md,
            self.y_md,
            self.w_plain,
            self.w_any,
            *(() if self.b_md is None else (self.b_md,)),
        )
        self.own(*(("memory_desc", md) for md in layouts))
        self.pd = ctypes.c_void_p()
        dnnl.call(
            "dnnl_convolution_forward_primitive_desc_create", ctypes.byref(self.pd), dnnl.engine,
            _TRAINING if training else _INFERENCE, _DIRECT, self.x_md, self.w_any, self.b_md, self.y_md, self.strides,
            self.dilates, self.low, self.high, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", self.pd))
        md = dnnl.query(self.pd, _QUERY["weights"], 0)
        extra = {} if self.b_md is None else {"bias": self.b_md}
        self.forward = Step(dnnl, self.pd, src=self.x_md, weights=md, dst=self.y_md, **extra)
        self.weights = _Converted(dnnl, self.w_plain, md)
        self.data: Step | None = None
        self.gradient: Step | None = None

    def prepare_data(self) -> None:
        """The gradient of the input."""
        if self.data is not None:
            return
        with BUILD_LOCK:
            if self.data is None:
                self._prepare_data()

    def _prepare_data(self) -> None:
        dnnl, pd = self.dnnl, ctypes.c_void_p()
        dnnl.call(
            "dnnl_convolution_backward_data_primitive_desc_create", ctypes.byref(pd), dnnl.engine, _DIRECT, self.x_md,
            self.w_any, self.y_md, self.strides, self.dilates, self.low, self.high, self.pd, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", pd))
        md = dnnl.query(pd, _QUERY["weights"], 0)
        self.data_weights = _Converted(dnnl, self.w_plain, md)
        self.data = Step(dnnl, pd, diff_dst=self.y_md, weights=md, diff_src=self.x_md)

    def prepare_gradient(self) -> None:
        """The gradients of the weight and the bias."""
        if self.gradient is not None:
            return
        with BUILD_LOCK:
            if self.gradient is None:
                self._prepare_gradient()

    def _prepare_gradient(self) -> None:
        dnnl, pd = self.dnnl, ctypes.c_void_p()
        dnnl.call(
            "dnnl_convolution_backward_weights_primitive_desc_create", ctypes.byref(pd), dnnl.engine, _DIRECT, self.x_md,
            self.w_any, self.b_md, self.y_md, self.strides, self.dilates, self.low, self.high, self.pd, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", pd))
        md = dnnl.query(pd, _QUERY["diff_weights"], 0)
        self.back = _Converted(dnnl, self.w_plain, md, backward=True)
        extra = {} if self.b_md is None else {"diff_bias": self.b_md}
        self.gradient = Step(dnnl, pd, src=self.x_md, diff_dst=self.y_md, diff_weights=md, **extra)


class _Converted(_Owner):
    """Weights between the plain order of an array and the order that a primitive wants."""

    step: Step | None

    def __init__(self, dnnl: _Library, plain: Any, wanted: int, backward: bool = False) -> None:
        self.dnnl, self.step = dnnl, None
        if not dnnl.equal(plain, wanted):
            a, b = ctypes.c_void_p(_value(plain)), ctypes.c_void_p(wanted)
            if backward:
                a, b = b, a
            pd = ctypes.c_void_p()
            dnnl.call(
                "dnnl_reorder_primitive_desc_create",
                ctypes.byref(pd),
                a,
                dnnl.engine,
                b,
                dnnl.engine,
                dnnl.plain,
            )
            self.own(("primitive_desc", pd))
            self.step = Step(dnnl, pd, **{"from": a, "to": b})
            self.elements = dnnl.size(wanted) // 4 + 16

    def to(self, w: Array) -> Array:
        """The weights in the wanted order; keep the result alive while its place is used."""
        if self.step is None:
            return w
        buffer = np.empty(self.elements, np.float32)
        self.step.run(w, buffer)
        return buffer

    def buffer(self, w: Array) -> Array:
        """Where a primitive writes so that `finish` can bring it into w."""
        return w if self.step is None else np.empty(self.elements, np.float32)

    def finish(self, buffer: Array, w: Array) -> None:
        """Bring what was written into w."""
        if self.step is not None:
            self.step.run(buffer, w)


_convolutions = _Plans(_Convolution)

KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name of the primitive."""

_kernel = register_in(KERNELS)


def _single(*arrays: Array | None) -> bool:
    return all(  # of a list, since a generator takes twice as long; dtypes of files and pickles are objects of their own
        [
            a is None or ((a.dtype is _FLOAT or a.dtype == _FLOAT) and type(a) is np.ndarray and a.size > 0)
            for a in arrays
        ]
    )


def _convolution(
    x: Array, weight: Array, bias: Array | None, training: bool, *, stride: _Ints, padding: Any, dilation: _Ints, groups: int
) -> Any:  # fmt: skip
    """The plan for a convolution of one to three axes in float32; None for others."""
    if not 3 <= x.ndim <= 5 or not _single(x, weight, bias):
        return None
    plan = _convolutions(
        x.shape,
        weight.shape,
        bias is not None,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
        training,
    )
    return None if plan is None or min(plan.y_shape) < 1 else plan


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, need: Any, **options: Any
) -> Any:
    """Convolution of one to three axes in float32."""
    plan = _convolution(x, weight, bias, need is not None, **options)
    if plan is None:
        return NotImplemented
    image, w = _channels_last(x), _contiguous(weight)
    y = _empty_last(plan.y_shape)
    ready = plan.weights.to(w)
    b = () if bias is None else (_contiguous(bias),)
    plan.forward.run(image, ready, y, *b)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g = _channels_last(g)
        gx = gw = gb = None
        if need[0]:
            plan.prepare_data()
            converted = plan.data_weights.to(w)
            gx = _empty_last(x.shape)
            plan.data.run(g, converted, gx)
        if need[1] or (len(need) > 2 and need[2]):
            plan.prepare_gradient()
            gw = empty_output(weight.shape, np.float32)
            buffer = plan.back.buffer(gw)
            extra = () if bias is None else (empty_output(bias.shape, np.float32),)
            plan.gradient.run(image, g, buffer, *extra)
            plan.back.finish(buffer, gw)
            gb = extra[0] if extra else None
        return (gx, gw if need[1] else None, gb)[: len(need)]

    return y, pull


def _conv_calls(
    target: Array, x: Array, weight: Array, bias: Array | None = None, **options: Any
) -> list[Any] | None:
    """The calls that write a convolution into `target`, for a program whose arrays stay where they are."""
    plan = _convolution(x, weight, bias, False, **options)
    if plan is None or not weight.flags.c_contiguous or not _is_last(target):
        return None
    image, calls = _image(x)
    ready = weight
    if plan.weights.step is not None:
        ready = np.empty(plan.weights.elements, np.float32)
        calls.append((plan.weights.step.another(plan).run, (weight, ready)))
    return [
        *calls,
        (plan.forward.another(plan).run, (image, ready, target, *(() if bias is None else (bias,)))),
    ]


conv.calls = _conv_calls  # type: ignore[attr-defined]


def _is_last(a: Array) -> bool:
    return bool(a.transpose(_LAST[a.ndim]).flags.c_contiguous)


def _image(x: Array) -> tuple[Array, list[Any]]:
    """`x` with its channels last in memory, and the call that copies it there, if one is needed."""
    if _is_last(x):
        return x, []
    image = _empty_last(x.shape)
    return image, [(_copy, (image, x))]


def _copy(image: Array, x: Array) -> None:
    """A call that stays as it is in a program, which does not know that `image` is read afterwards."""
    image[...] = x


# ----- pooling -----


class _Pooling(_Owner):
    """The largest of each window, with the places kept for the gradient."""

    def __init__(
        self, x: _Ints, out: _Ints, kernel: _Ints, stride: _Ints, pads: Any, dilation: _Ints, training: bool
    ) -> None:
        dnnl = self.dnnl = _library()
        self.form = (out, kernel, stride, pads, dilation)
        self.y_shape = (*x[:2], *out)
        x_md, y_md = dnnl.layout(x, _last_strides(x)), dnnl.layout(self.y_shape, _last_strides(self.y_shape))
        options = (
            _Dims(*stride), _Dims(*kernel), _Dims(*(d - 1 for d in dilation)), _Dims(*(p[0] for p in pads)),
            _Dims(*(p[1] for p in pads)),
        )  # fmt: skip
        pd = ctypes.c_void_p()
        dnnl.call(
            "dnnl_pooling_forward_primitive_desc_create", ctypes.byref(pd), dnnl.engine,
            _TRAINING if training else _INFERENCE, _MAX_POOLING, x_md, y_md, *options, dnnl.plain,
        )  # fmt: skip
        self.own(("memory_desc", x_md), ("memory_desc", y_md), ("primitive_desc", pd))
        self.room = 0
        if not training:
            self.forward = Step(dnnl, pd, src=x_md, dst=y_md)
            return
        places = dnnl.query(pd, _QUERY["workspace"], 0)
        self.room = int(dnnl.size(places))
        self.forward = Step(dnnl, pd, src=x_md, dst=y_md, workspace=places)
        back = ctypes.c_void_p()
        dnnl.call(
            "dnnl_pooling_backward_primitive_desc_create", ctypes.byref(back), dnnl.engine, _MAX_POOLING, x_md, y_md,
            *options, pd, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", back))
        self.backward = Step(dnnl, back, diff_dst=y_md, workspace=places, diff_src=x_md)

    def run(self, image: Array, y: Array, *room: Array) -> Array | None:
        """The pooling. oneDNN passes over NaN and takes −∞ for the least finite number: where there are such, NumPy
        does it, and returns where the largest are in `image`."""
        flat = image.transpose(_LAST[image.ndim]).reshape(-1)
        if np.minimum.reduce(flat) > -np.inf:
            self.forward.run(image, y, *room)
            return None
        numbers = np.arange(image.size, dtype=np.float64).reshape(image.shape)
        values, where = self._windows(image, -np.inf), self._windows(numbers, -1)
        largest = values.argmax(-1)[..., None]
        outside = np.take_along_axis(where, largest, -1) < 0  # nothing there but −∞
        largest[outside] = (where >= 0).argmax(-1)[..., None][outside]
        y[...] = np.take_along_axis(values, largest, -1)[..., 0]
        return np.take_along_axis(where, largest, -1)[..., 0].astype(np.int64)

    def _windows(self, image: Array, outside: float) -> Array:
        """The numbers of each window, along a last axis."""
        _, kernel, stride, pads, dilation = self.form
        full = np.pad(image, ((0, 0), (0, 0), *pads), constant_values=outside)
        extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        every = np.lib.stride_tricks.sliding_window_view(full, extents, tuple(range(2, image.ndim)))
        first = tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(self.y_shape[2:], stride, strict=True))
        inner = tuple(slice(None, None, d) for d in dilation)
        return every[(slice(None), slice(None), *first, *inner)].reshape(*self.y_shape, -1)


_poolings = _Plans(_Pooling)


def _pooling(
    x: Array, training: bool, *, out: _Ints, kernel: _Ints, stride: _Ints, pads: Any, dilation: _Ints
) -> _Pooling | None:
    """The plan for max pooling of one to three axes in float32; None for others."""
    if x.ndim != len(out) + 2 or not 3 <= x.ndim <= 5 or not _single(x):
        return None
    if any([lo >= k or hi >= k for (lo, hi), k in zip(pads, kernel, strict=True)]):
        return None
    plan: _Pooling | None = _poolings(
        x.shape, tuple(out), tuple(kernel), tuple(stride), tuple(pads), tuple(dilation), training
    )
    return plan


@_kernel
def max_pool(xp: Backend, x: Array, *, need: Any, **options: Any) -> Any:
    """The largest of each window in float32."""
    plan = _pooling(x, need is not None, **options)
    if plan is None:
        return NotImplemented
    image, y = _channels_last(x), _empty_last(plan.y_shape)
    if need is None:
        plan.run(image, y)
        return y
    places = np.empty(plan.room, np.uint8)
    other = plan.run(image, y, places)

    def pull(g: Array) -> tuple[Any, ...]:
        if other is not None:
            gx = np.zeros(x.size, np.float32)
            np.add.at(gx, other.reshape(-1), g.reshape(-1))
            return (gx.reshape(x.shape),)
        g, gx = _channels_last(g), _empty_last(x.shape)
        plan.backward.run(g, places, gx)
        return (gx,)

    return y, pull


def _pool_calls(target: Array, x: Array, /, **options: Any) -> list[Any] | None:
    """The calls that write max pooling into `target`, for a program whose arrays stay where they are."""
    plan = _pooling(x, False, **options)
    if plan is None or not _is_last(target):
        return None
    if target.size < _MANY and not any(map(any, options["pads"])) and _fits(x.shape[2:], **options):
        return _largest_of(target, x, **options)
    image, calls = _image(x)
    return [*calls, (plan.run, (image, target))]


def _fits(size: _Ints, *, out: _Ints, kernel: _Ints, stride: _Ints, dilation: _Ints, pads: Any) -> bool:
    """Whether each window lies within the image."""
    each = zip(size, out, kernel, stride, dilation, strict=True)
    return all((o - 1) * s + d * (k - 1) < n for n, o, k, s, d in each)


def _largest_of(
    target: Array, x: Array, *, out: _Ints, kernel: _Ints, stride: _Ints, dilation: _Ints, pads: Any
) -> list[Any]:
    """The calls that take the larger of two numbers, place by place in the windows: simple ones, which small images are
    worth, and which keep NaN."""
    each = tuple(zip(out, stride, dilation, strict=True))
    parts = [
        x[(..., *(slice(d * i, d * i + (o - 1) * s + 1, s) for i, (o, s, d) in zip(at, each, strict=True)))]
        for at in itertools.product(*map(range, kernel))
    ]
    first, *rest = parts
    if not rest:
        return [(np.copyto, (target, first))]
    return [
        (largest, (a, part, target)) for a, part in zip((first, *[target] * len(rest)), rest, strict=False)
    ]


max_pool.calls = _pool_calls  # type: ignore[attr-defined]


# ----- normalization -----


class _Normalization(_Owner):
    """Batch normalization of (n, c, *spatial), or layer normalization of (rows, c): over `rows` or over c."""

    def __init__(self, x: _Ints, layer: bool, eps: float, weighted: bool, training: bool) -> None:
        dnnl = self.dnnl = _library()
        kind = "layer" if layer else "batch"
        flags = ctypes.c_uint(_SCALE_AND_SHIFT if weighted else 0)
        strides = _last_strides(x) if len(x) > 2 else _plain_strides(x)
        md, each = dnnl.layout(x, strides), dnnl.layout(x[1:2], (1,))
        stats = dnnl.layout(x[:1], (1,)) if layer else each
        self.own(("memory_desc", md), ("memory_desc", each), *([("memory_desc", stats)] if layer else []))
        shapes = [md, md, *([stats] if layer else [])]
        pd, small = ctypes.c_void_p(), ctypes.c_float(eps)
        dnnl.call(
            f"dnnl_{kind}_normalization_forward_primitive_desc_create", ctypes.byref(pd), dnnl.engine, _TRAINING, *shapes,
            small, flags, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", pd))
        weights = {"scale": each, "shift": each} if weighted else {}
        self.forward = Step(dnnl, pd, src=md, dst=md, mean=stats, variance=stats, **weights)
        if not training:
            return
        back = ctypes.c_void_p()
        shapes = [md, md, md, *([stats] if layer else [])]
        dnnl.call(
            f"dnnl_{kind}_normalization_backward_primitive_desc_create", ctypes.byref(back), dnnl.engine, _BACKWARD, *shapes,
            small, flags, pd, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", back))
        weights = {
            "scale": each,
            **({"shift": each} if layer else {}),
            "diff_scale": each,
            "diff_shift": each,
        }
        weights = weights if weighted else {}
        self.backward = Step(
            dnnl, back, src=md, mean=stats, variance=stats, diff_dst=md, diff_src=md, **weights
        )


_normalizations = _Plans(_Normalization)
_WORTH: Final = 1 << 13
"""Normalizations of so many numbers and more are worth the call."""


@_kernel
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: _Ints,
    eps: float,
    shape: _Ints,
    split: _Ints = (),
    need: Any,
) -> Any:
    """Batch and layer normalization in float32."""
    if (
        split
        or not _single(x, weight, bias)
        or (weight is None) != (bias is None)
        or not 2 <= x.ndim <= 5
        or x.size < _WORTH
    ):
        return NotImplemented
    axes = tuple(sorted(axes))
    lead = x.ndim - len(axes)
    layer = axes == tuple(range(lead, x.ndim)) and x.flags.c_contiguous
    batch = not layer and axes == (0, *range(2, x.ndim))
    weights = math.prod(x.shape[lead:]) if layer else x.shape[1]
    if not (layer or batch) or (weight is not None and (weight.size != weights or bias.size != weights)):  # type: ignore[union-attr]
        return NotImplemented
    if weight is not None and tuple(shape) != ((*(1,) * lead, *x.shape[lead:]) if layer else _channel(x)):
        return NotImplemented
    rows = math.prod(x.shape[:lead])
    inner = (rows, x.size // rows) if layer else x.shape
    plan = _normalizations(inner, layer, eps, weight is not None, need is not None)
    if plan is None:
        return NotImplemented
    y: Array
    if layer or x.ndim == 2:
        image, y = _contiguous(x), empty_output(x.shape, np.float32)
    else:
        image, y = _channels_last(x), _empty_last(x.shape)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean, variance = empty_output(kept, np.float32), empty_output(kept, np.float32)
    w = () if weight is None else (_contiguous(weight), _contiguous(bias))
    plan.forward.run(image, y, mean, variance, *w)
    if need is None:
        return y, mean, variance

    def pull(gs: tuple[Array, ...]) -> tuple[Any, ...]:
        g = _contiguous(gs[0]) if layer or x.ndim == 2 else _channels_last(gs[0])
        gx = empty_output(x.shape, np.float32) if layer or x.ndim == 2 else _empty_last(x.shape)
        made = (
            ()
            if weight is None
            else (empty_output(weight.shape, np.float32), empty_output(weight.shape, np.float32))
        )
        plan.backward.run(image, mean, variance, g, gx, *(w if layer else w[:1]), *made)
        return (gx, *made)[: len(need)] if made else (gx, None, None)[: len(need)]

    return (y, mean, variance), pull


def _channel(x: Array) -> _Ints:
    return (1, x.shape[1], *(1,) * (x.ndim - 2))


# ----- softmax -----


class _Softmax(_Owner):
    """Softmax along the middle of three axes."""

    def __init__(self, shape: _Ints, training: bool) -> None:
        dnnl = self.dnnl = _library()
        md, pd = dnnl.layout(shape, _plain_strides(shape)), ctypes.c_void_p()
        dnnl.call(
            "dnnl_softmax_forward_primitive_desc_create", ctypes.byref(pd), dnnl.engine,
            _TRAINING if training else _INFERENCE, _ACCURATE, md, md, 1, dnnl.plain,
        )  # fmt: skip
        self.own(("memory_desc", md), ("primitive_desc", pd))
        self.forward = Step(dnnl, pd, src=md, dst=md)
        if training:
            back = ctypes.c_void_p()
            dnnl.call(
                "dnnl_softmax_backward_primitive_desc_create", ctypes.byref(back), dnnl.engine, _ACCURATE, md, md, md, 1, pd,
                dnnl.plain,
            )  # fmt: skip
            self.own(("primitive_desc", back))
            self.backward = Step(dnnl, back, dst=md, diff_dst=md, diff_src=md)


_ACCURATE: Final = 0x30000
_softmaxes = _Plans(_Softmax)
_MANY: Final = 1 << 12
"""Softmax and pooling of so many numbers and more are worth the call."""


@_kernel
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax in float32. (The library's logarithm of it has errors of 6 ulp, and is not used.)"""
    if x.size < _MANY or not _single(x):
        return NotImplemented
    axis %= x.ndim
    if math.prod(x.shape[axis + 1 :]) > 1:  # for which the library has but its reference implementation
        return NotImplemented
    plan = _softmaxes((math.prod(x.shape[:axis]), x.shape[axis], 1), need is not None)
    if plan is None:
        return NotImplemented
    x, y = _contiguous(x), empty_output(x.shape, np.float32)
    plan.forward.run(x, y)
    if math.isnan(np.minimum.reduce(y, axis=None)):  # of NaN and infinity the library makes one NaN
        y[np.broadcast_to(np.isnan(y).any(axis=axis, keepdims=True), y.shape)] = np.nan
    if need is None:
        return y

    def pull(g: Array) -> tuple[Array]:
        gx = empty_output(y.shape, np.float32)
        plan.backward.run(y, _contiguous(g), gx)
        return (gx,)

    return y, pull


softmax.least_bytes = 4 * _MANY  # type: ignore[attr-defined]


# ----- attention -----


class _Largest(_Owner):
    """The largest number of each row."""

    def __init__(self, rows: int, width: int) -> None:
        dnnl = self.dnnl = _library()
        x, y = dnnl.layout((rows, width), (width, 1)), dnnl.layout((rows, 1), (1, 1))
        pd = ctypes.c_void_p()
        nothing = ctypes.c_float(0.0)
        dnnl.call(
            "dnnl_reduction_primitive_desc_create", ctypes.byref(pd), dnnl.engine, _REDUCE_MAX, x, y, nothing, nothing, dnnl.plain,
        )  # fmt: skip
        self.own(("memory_desc", x), ("memory_desc", y), ("primitive_desc", pd))
        self.step = Step(dnnl, pd, src=x, dst=y)


_largest = _Plans(_Largest)
_LOOKS: Final = 1 << 16
"""Attention with so many multiplications for its scores, and more, is worth the calls."""


def _times(a: Array, b: Array, out: Array, factor: float = 1.0) -> None:
    """``out = factor · a b``."""
    plan = _products(a.shape, a.strides, b.shape, b.strides, out.strides, False, factor)
    if plan is None:
        np.multiply(np.matmul(a, b), np.float32(factor), out)
    else:
        plan.step.run(a, b, out)


def _by_rows(a: Array) -> Array:
    """`a` itself where oneDNN reads it, and rows lie together; else a copy."""
    return a if a.strides[-1] == 4 and _steps(a.shape, a.strides) else np.ascontiguousarray(a)


def _attend(
    q: Array, k: Array, mask: Array | None, scale: float, s: Array, total: Array | None = None
) -> None:
    """s = softmax(q kᵀ · scale + mask), total = ln Σ e^{scores} of each row: the score is largest where its softmax is,
    which is e^{score − total}."""
    width = s.shape[-1]
    rows = s.size // width
    largest = _largest(rows, width).step
    _times(q, k.swapaxes(-1, -2), s, scale)
    if mask is not None:
        np.add(s, mask, s)
    top = np.empty(rows, np.float32)
    if total is not None:
        largest.run(s, top)
    _softmaxes((rows, width, 1), True).forward.run(s, s)
    if total is not None:
        share = np.empty(rows, np.float32)
        largest.run(s, share)
        with np.errstate(divide="ignore"):  # of a row with a NaN
            np.subtract(top, np.log(share, share), total.reshape(-1))


def _attend_back(
    gy: Array,
    gs: Array,
    q: Array,
    k: Array,
    v: Array,
    s: Array,
    ds: Array,
    made: Sequence[Array],
    scale: float,
) -> None:
    """The gradients of q, k and v into `made`, and that of the scores into ds."""
    width = s.shape[-1]
    _times(gy, v.swapaxes(-1, -2), ds)
    _softmaxes((s.size // width, width, 1), True).backward.run(s, ds, ds)
    if gs.any():
        ds += gs * s
    _times(ds, k, made[0], scale)
    _times(ds.swapaxes(-1, -2), q, made[1], scale)
    _times(s.swapaxes(-1, -2), gy, made[2])


@_kernel
def attention(
    xp: Backend, q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float, causal: bool = False,
    p: float = 0.0, seed: int = 0, step: int = 0, block: int = 256, need: Any,
) -> Any:  # fmt: skip
    """softmax(q kᵀ · scale + mask) v in float32. Short sequences keep the scores for the gradient; longer ones have room
    for those of one head at a time, and make them again. Where a NaN comes out, of a row that may look at nothing or of
    numbers that are not finite, the next kernel does all of it."""
    if p or not _single(q, k, v) or q.ndim < 2 or q.shape[:-2] != k.shape[:-2]:
        return NotImplemented
    (*lead, n, e), m, d = q.shape, k.shape[-2], v.shape[-1]
    short = scores_at_once(n, m, block, need)
    every = need is not None and len(need) > 3 and need[3]
    if short is None or min(n, m, e, d) < 2 or q.size * m < _LOOKS or not _works():
        return NotImplemented
    if causal:
        mask = _causal(n, m)
    elif mask is not None:
        if np.broadcast_shapes((*q.shape[:-1], m), mask.shape) != (*q.shape[:-1], m):
            return NotImplemented
        mask = (
            np.where(mask, np.float32(0), np.float32(-np.inf))
            if mask.dtype == bool
            else mask.astype(np.float32)
        )
    q, k, v = _by_rows(q), _by_rows(k), _by_rows(v)
    y = empty_output((*lead, n, d), np.float32, axes_in_memory(q.strides))
    total = empty_output((*lead, n, 1), np.float32)
    parts: Sequence[Any] = [...] if short else list(np.ndindex(*lead))
    s = np.empty((*lead, n, m) if short else (n, m), np.float32)
    masks = None if mask is None else mask if short else np.broadcast_to(mask, (*lead, n, m))
    for at in parts:
        _attend(q[at], k[at], None if masks is None else masks if short else masks[at], scale, s, total[at])
        _times(s, v[at], y[at])
    if math.isnan(np.minimum.reduce(y, axis=None)):
        return NotImplemented
    if need is None:
        return y, total

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        made = [empty_output(a.shape, np.float32, axes_in_memory(a.strides)) for a in (q, k, v)]
        gy, gs = _by_rows(g[0]), g[1]
        ds = np.empty_like(s)
        for at in parts:
            if not short:
                _attend(q[at], k[at], None if masks is None else masks[at], scale, s)
            _attend_back(gy[at], gs[at], q[at], k[at], v[at], s, ds, [a[at] for a in made], scale)
        return (*made, ds if every else None)[: len(need)]

    return (y, total), pull


@functools.lru_cache(maxsize=8)
def _causal(n: int, m: int) -> Array:
    return np.where(np.tri(n, m, dtype=bool), np.float32(0), np.float32(-np.inf))


# ----- recurrent layers -----


class _Recurrent(_Owner):
    """A layer of an LSTM or a GRU (with the reset gate after the product) in one direction, with a bias: the library
    has no kernel without."""

    def __init__(
        self, gates: int, steps: int, n: int, inputs: int, width: int, reverse: bool, training: bool
    ) -> None:
        dnnl = self.dnnl = _library()
        lstm = gates == 4
        self.kind = "lstm" if lstm else "lbr_gru"
        self.direction = ctypes.c_int(_RIGHT_TO_LEFT if reverse else _LEFT_TO_RIGHT)
        x, y = (dnnl.layout((steps, n, k), _plain_strides((steps, n, k))) for k in (inputs, width))
        state = dnnl.layout((1, 1, n, width), _plain_strides((1, 1, n, width)))
        rows = (inputs, width)
        self.plain = [
            dnnl.layout((1, 1, k, gates, width), (0, 0, 1, width * k, k)) for k in rows
        ]  # (gates · width, k) in memory
        free = [dnnl.layout((1, 1, k, gates, width), None) for k in rows]
        b = dnnl.layout((1, 1, 4, width), _plain_strides((1, 1, 4, width)))
        self.own(*(("memory_desc", md) for md in (x, y, state, *self.plain, *free, b)))
        states = (state, state) if lstm else (state,)
        peephole = (None, None) if lstm else ()
        self.forms = (x, *states, *free, *peephole, b, y, *states)
        self.pd = self._described("forward", _TRAINING if training else _INFERENCE, self.forms)
        named = ("iter", "iter_c")[: len(states)]
        self.names = ["src", *(f"src_{name}" for name in named), "weights", "weights_iter", "bias"]
        self.results = ["dst", *(f"dst_{name}" for name in named)]
        self.layouts: dict[str, Any] = {
            "src": x, "src_iter": state, "src_iter_c": state, "bias": b, "dst": y, "dst_iter": state, "dst_iter_c": state,
        }  # fmt: skip
        self.room = 0
        wanted = self._weights(self.pd, "weights")
        self.weights = [_Converted(dnnl, p, w) for p, w in zip(self.plain, wanted, strict=True)]
        self.layouts |= {"weights": wanted[0], "weights_iter": wanted[1]}
        if training:
            self.layouts["workspace"] = dnnl.query(self.pd, _QUERY["workspace"], 0)
            self.room = int(dnnl.size(self.layouts["workspace"]))
        last = ["workspace"] if training else []
        self.forward = Step(
            dnnl, self.pd, **{k: self.layouts[k] for k in (*self.names, *self.results, *last)}
        )
        if training:
            self._prepare()

    def _described(self, way: str, kind: int, forms: Sequence[Any], hint: Any = ()) -> ctypes.c_void_p:
        pd = ctypes.c_void_p()
        self.dnnl.call(
            f"dnnl_{self.kind}_{way}_primitive_desc_create", ctypes.byref(pd), self.dnnl.engine, kind, self.direction,
            *forms, ctypes.c_uint(0), *hint, self.dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", pd))
        return pd

    def _weights(self, pd: Any, name: str) -> list[int]:
        return [self.dnnl.query(pd, _QUERY[name], i) for i in (0, 1)]

    def _prepare(self) -> None:
        """The gradients."""
        dnnl = self.dnnl
        pd = self._described("backward", _BACKWARD, (*self.forms, *self.forms), (self.pd,))
        wanted, made = self._weights(pd, "weights"), self._weights(pd, "diff_weights")
        self.back_weights = [_Converted(dnnl, p, w) for p, w in zip(self.plain, wanted, strict=True)]
        self.gradients = [
            _Converted(dnnl, p, w, backward=True) for p, w in zip(self.plain, made, strict=True)
        ]
        self.places = [int(dnnl.size(w)) // 4 + 16 for w in made]
        known = {**self.layouts, "weights": wanted[0], "weights_iter": wanted[1]}
        diffs = {**self.layouts, "weights": made[0], "weights_iter": made[1]}
        layouts = {k: known[k] for k in (*self.names, *self.results, "workspace")}
        layouts |= {f"diff_{k}": diffs[k] for k in (*self.names, *self.results)}
        self.backward = Step(dnnl, pd, **layouts)


_LEFT_TO_RIGHT, _RIGHT_TO_LEFT = 1, 2


_layers = _Plans(_Recurrent)  # None where there is no kernel that brings the weights into its order


def _layer(
    gates: int, x: Array, first: tuple[Array, ...], weights: tuple[Array, Array], bias: Array | None, reverse: bool, need: bool
) -> tuple[list[Array], Callable[[Sequence[Array]], list[Array]]] | None:  # fmt: skip
    """What a layer gives, all states and the last ones, and a function from the gradients of these to those of x, the
    first states, the weights and the bias; None where the library has no kernel."""
    steps, n, inputs = x.shape
    width = first[0].shape[-1]
    plan = _layers(gates, steps, n, inputs, width, reverse, need)
    if plan is None:
        return None
    read = [_contiguous(a) for a in (x, *first)]
    w = [_contiguous(a) for a in weights]
    b = np.zeros(4 * width, np.float32) if bias is None else _contiguous(bias)
    made = [empty_output((steps, n, width), np.float32), *(empty_output(s.shape, np.float32) for s in first)]
    room = [np.empty(plan.room, np.uint8)] if need else []
    ready = [each.to(a) for each, a in zip(plan.weights, w, strict=True)]
    plan.forward.run(*read, *ready, b, *made, *room)

    def pull(g: Sequence[Array]) -> list[Array]:
        ready = [each.to(a) for each, a in zip(plan.back_weights, w, strict=True)]
        grads = [empty_output(a.shape, np.float32) for a in (*read, *w)]
        sums = [np.zeros(size, np.float32) for size in plan.places]  # these are added to
        db = np.zeros_like(b)
        into = [*grads[: len(read)], *sums, db]
        plan.backward.run(*read, *ready, b, *made, *room, *into, *map(_contiguous, g))
        for each, total, grad in zip(plan.gradients, sums, grads[len(read) :], strict=True):
            if each.step is None:
                grad[...] = total[: grad.size].reshape(grad.shape)
            else:
                each.finish(total, grad)
        return grads if bias is None else [*grads, db]

    return made, pull


@_kernel
def lstm_layer(
    xp: Backend, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *,
    reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """An LSTM over a sequence in float32."""
    if not _single(x, h, c, weight_ih, weight_hh, bias):
        return NotImplemented
    done = _layer(4, x, (h, c), (weight_ih, weight_hh), bias, reverse, need is not None)
    if done is None:
        return NotImplemented
    made, gradients = done
    y = (made[0], made[2])
    if need is None:
        return y
    zero = np.zeros_like(made[1])  # the last state is one of all

    def pull(g: tuple[Array, Array]) -> tuple[Array, ...]:
        return tuple(gradients((g[0], zero, g[1])))

    return y, pull


@_kernel
def gru_layer(
    xp: Backend, x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None,
    bias_hh: Array | None = None, *, reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """A GRU over a sequence in float32. oneDNN has the gates in the order z, r, n, and four biases: those of z and r are
    sums, n has two."""
    if not _single(x, h, weight_ih, weight_hh, bias_ih, bias_hh) or (bias_ih is None) != (bias_hh is None):
        return NotImplemented
    m = h.shape[-1]

    def turned(a: Array) -> Array:
        return np.concatenate((a[m : 2 * m], a[:m], a[2 * m :]))

    bias = None
    if bias_ih is not None and bias_hh is not None:
        bias = np.concatenate((turned(bias_ih + bias_hh)[: 2 * m], bias_ih[2 * m :], bias_hh[2 * m :]))
    weights = (turned(weight_ih), turned(weight_hh))
    done = _layer(3, x, (h,), weights, bias, reverse, need is not None)
    if done is None:
        return NotImplemented
    made, gradients = done
    if need is None:
        return made[0]
    zero = np.zeros_like(made[1])

    def pull(g: Array) -> tuple[Array, ...]:
        dx, dh, *dw, db = gradients((g, zero)) if bias is not None else (*gradients((g, zero)), None)
        found = (dx, dh, *map(turned, dw))
        if db is None:
            return found
        both = np.concatenate((db[m : 2 * m], db[:m]))
        return *found, np.concatenate((both, db[2 * m : 3 * m])), np.concatenate((both, db[3 * m :]))

    return made[0], pull
