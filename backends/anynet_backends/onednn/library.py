"""The shared library: finding and loading it, its engine, its threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.concurrency import (
    BUILD_LOCK,
    after_fork,
    fork_safe_lock,
    immortal,
    once,
)
from anynet_backends.config import ONEDNN
from anynet_backends.ownership import check_library

MAX_DIMS: Final = 12
Dims = ctypes.c_int64 * MAX_DIMS
_F32, _CPU, _IN_ORDER, _ANY = 3, 1, 1, 1
_NAME, _USER = 8, 1
_AVX512: Final = 0x20  # a bit of dnnl_cpu_isa_t
_DISABLED = 2  # SS_DISABLE


class OneDNNError(RuntimeError):
    """A call of the library failed."""


_LIBRARY, _WHEEL = "libdnnl.so.3", "onednn_cpu_gomp-"


def find() -> str | None:
    """The path of the library, or None; the extra `onednn` installs it."""
    return _installed()[0] if ONEDNN() else None


def problem() -> str:
    """Why the library is not used although it is installed and not switched off, or ""."""
    if not ONEDNN():
        return ""
    if find() is not None:
        works()
    return _state.problem or _installed()[1]


@once
def _installed() -> tuple[str | None, str]:
    """The path of the first library that may be loaded, and why another was refused. Searched are the environment's own `lib`, the
    files that the wheel lists, and the `lib` of folders that pip installed into (`--target`)."""
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
        # `importlib.metadata` would do this, but is slow to import; the current folder is not trusted
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
        return load_library().version
    except OneDNNError:
        return ""


class Library:
    """The loaded library with its engine and stream."""

    def __init__(self, path: str) -> None:
        self.dll = ctypes.CDLL(path)
        self.dll.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
        self.version = ".".join(map(str, self.dll.dnnl_version().contents))
        if not self.version.startswith("3."):
            msg = f"oneDNN must be version 3, got {self.version}"
            raise OneDNNError(msg)
        self.avx512 = bool(self.dll.dnnl_get_effective_cpu_isa() & _AVX512)
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
        self.scratch = np.empty(0, np.uint8)  # guarded by `lock`
        self.plain = self.attributes()

    def call(self, name: str, *args: Any) -> None:
        status = getattr(self.dll, name)(*args)
        if status:
            msg = f"oneDNN: {name} returned status {status}"
            raise OneDNNError(msg)

    def new_stream(self) -> ctypes.c_void_p:
        """A new in-order stream."""
        stream = ctypes.c_void_p()
        self.call("dnnl_stream_create", ctypes.byref(stream), self.engine, _IN_ORDER)
        return stream

    def attributes(self) -> ctypes.c_void_p:
        """The attribute of a primitive whose scratch memory is an argument (the library's own belongs to the thread that created the
        primitive, and other threads crash)."""
        made = ctypes.c_void_p()
        self.call("dnnl_primitive_attr_create", ctypes.byref(made))
        self.call("dnnl_primitive_attr_set_scratchpad_mode", made, _USER)
        return made

    def implementation(self, descriptor: ctypes.c_void_p) -> str:
        """The name of the implementation of a primitive."""
        name = ctypes.c_char_p()
        self.ask(descriptor, _NAME, 0, ctypes.byref(name))
        return (name.value or b"").decode()

    def is_reference(self, descriptor: ctypes.c_void_p) -> bool:
        """Whether the library has nothing better for this processor than its reference implementation, ten times as slow as NumPy."""
        return self.implementation(descriptor).startswith("ref")

    def layout(self, shape: Sequence[int], strides: Sequence[int] | None) -> ctypes.c_void_p:
        """A memory descriptor of float32: with strides (in elements), or with a layout of the library's choice."""
        md = ctypes.c_void_p()
        dims = Dims(*shape)
        n = len(shape)
        if strides is None:
            self.call("dnnl_memory_desc_create_with_tag", ctypes.byref(md), n, dims, _F32, _ANY)
        else:
            self.call("dnnl_memory_desc_create_with_strides", ctypes.byref(md), n, dims, _F32, Dims(*strides))
        return md

    def memory(self, md: Any) -> ctypes.c_void_p:
        """A memory object, which has no address yet."""
        memory, layout = ctypes.c_void_p(), ctypes.c_void_p(pointer_value(md))
        self.call("dnnl_memory_create", ctypes.byref(memory), layout, self.engine, None)  # DNNL_MEMORY_NONE
        return memory


def _one_blas_thread() -> None:
    """Set NumPy's OpenBLAS to one thread: its pool and OpenMP's would compete for the same cores."""
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


class _State:
    """The library once it is loaded, or why it cannot be loaded."""

    library: Library | None = None
    problem = ""


_state = _State()


def has_threads() -> bool:
    """Whether the library is loaded and has OpenMP's threads."""
    return _state.library is not None and _state.library.team is not None


def _use_one_thread() -> None:
    """A forked process has none of OpenMP's threads."""
    if has_threads():
        _state.library.dll.omp_set_num_threads(1)  # type: ignore[union-attr]


after_fork(_use_one_thread)


def team() -> tuple[int, int, int] | None:
    """The addresses of GOMP_parallel, omp_get_thread_num and omp_get_num_threads if oneDNN is in use with more than one thread;
    loops of machine code over large arrays then share its threads."""
    library = _state.library
    return library.team if library is not None and threads() > 1 else None


def threads() -> int:
    """The number of OpenMP's threads if oneDNN is in use; else 1."""
    library = _state.library
    return 1 if library is None or library.team is None else int(library.max_threads())


def load_library() -> Library:
    """The library, loaded on first use. OneDNNError if it is not installed or does not work."""
    if _state.library is not None:
        return _state.library
    with BUILD_LOCK:
        path = find()
        if path is None:
            msg = "oneDNN is not installed: pip install 'anynet-nn[onednn]'"
            raise OneDNNError(msg)
        if _state.library is None and not _state.problem:
            try:
                _state.library = immortal(Library(path))
                stack_for_signals()
                _workers_without_signals()
                if threading.current_thread() is not threading.main_thread():
                    ctypes.pythonapi.Py_AddPendingCall(_in_main_thread, None)
            except (OSError, AttributeError, OneDNNError) as error:
                _state.problem = f"{path}: {error}"
        if _state.library is None:
            msg = f"oneDNN does not work here: {_state.problem}"
            raise OneDNNError(msg)
        return _state.library


class _Stack(ctypes.Structure):
    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def stack_for_signals() -> None:
    """Memory of their own for the signals of this thread, where it has none: products of the library work with the stack pointer in a
    buffer that is hardly larger than they need, and what the system stores there at a Ctrl-C would overwrite what lies before it.
    Python's handlers use such a stack."""
    if sys.platform != "linux":
        return
    system, now = ctypes.CDLL(None), _Stack()
    system.malloc.restype = ctypes.c_void_p
    if system.sigaltstack(None, ctypes.byref(now)) == 0 and now.flags & _DISABLED:
        own = _Stack(system.malloc(ctypes.c_size_t(1 << 16)), 0, 1 << 16)  # for good
        system.sigaltstack(ctypes.byref(own), None)


def _workers_without_signals() -> None:
    """Start the threads that share this thread's products with all signals blocked: while a handler runs in this thread, a second signal
    of that kind would go to one of them, which has no stack for it."""
    if sys.platform != "linux":
        return
    library: Any = _state.library
    try:
        parallel = library.dll.GOMP_parallel
        nothing = ctypes.cast(library.dll.omp_get_thread_num, ctypes.c_void_p)
    except AttributeError:  # another OpenMP
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        parallel(nothing, None, ctypes.c_uint(0), ctypes.c_uint(0))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pending(_: Any) -> int:
    _workers_without_signals()
    return 0


_in_main_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_pending)


def works() -> bool:
    """Whether the library can be loaded."""
    try:
        load_library()
    except OneDNNError:
        return False
    return True


def pointer_value(pointer: Any) -> int:
    """The address in a pointer of ctypes, or the address itself."""
    return pointer if isinstance(pointer, int) else int(pointer.value)
