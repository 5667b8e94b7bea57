"""Primitives of oneDNN with their memory objects, and the cache of plans."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import (
    BUILD_LOCK,
    after_fork,
    fork_safe_lock,
    once_property,
)
from anynet_backends.onednn.layouts import Ints, data_pointer
from anynet_backends.onednn.library import Library, OneDNNError, has_threads, load_library, pointer_value

TRAINING, INFERENCE, BACKWARD = 64, 96, 128
QUERY = {
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
_SMALL: Final = 1 << 20
"""A call that touches more bytes releases the interpreter's lock."""
PLANS = 256
"""How many plans a cache holds; the least recently used is evicted first."""


class _Arg(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_int), ("memory", ctypes.c_void_p))


def _no_native_call(step: Step) -> Callable[..., int] | None:
    return None


native_call = _no_native_call
"""Turns the call of a step into a built-in function, or returns None; the JIT compiler sets it."""


class Step:
    """A primitive with its memory objects: `run` sets their addresses and executes it."""

    def __init__(self, dnnl: Library, descriptor: ctypes.c_void_p, **layouts: Any) -> None:
        """`layouts`: the memory descriptors of the arguments. Scratch memory, if the primitive needs any, is added in front."""
        self.dnnl, self.descriptor, self.layouts = dnnl, descriptor, layouts
        self.plan: Any = None
        self.stream: ctypes.c_void_p | None = None
        scratch = dnnl.query(descriptor, QUERY["scratchpad"], 0)
        self.room = dnnl.size(scratch)
        if self.room:
            layouts = {"scratchpad": scratch, **layouts}
        self.primitive = ctypes.c_void_p()
        with BUILD_LOCK:  # no process is forked while the library holds locks of its own
            dnnl.call("dnnl_primitive_create", ctypes.byref(self.primitive), descriptor)
        self.memories = [dnnl.memory(md) for md in layouts.values()]
        self.handles = np.array([m.value for m in self.memories], np.int64)
        self.count = len(layouts)
        self.args = (_Arg * self.count)(
            *(_Arg(_ARG[name], m.value) for name, m in zip(layouts, self.memories, strict=True))
        )
        self.address = ctypes.addressof(self.args)
        self.small = sum(dnnl.size(pointer_value(md)) for md in layouts.values()) < _SMALL

    def __del__(self) -> None:
        for memory in getattr(self, "memories", ()):
            self.dnnl.dll.dnnl_memory_destroy(memory)
        if getattr(self, "primitive", None):
            self.dnnl.dll.dnnl_primitive_destroy(self.primitive)
        if getattr(self, "stream", None):
            self.dnnl.dll.dnnl_stream_destroy(self.stream)

    def another(self, plan: Any = None) -> Step:
        """A copy with memory objects of its own, which can run concurrently. It keeps `plan` alive, which owns the descriptors; a plan's
        own step does not, as that would be a reference cycle."""
        made = Step(self.dnnl, self.descriptor, **self.layouts)
        made.plan = plan or self.plan
        return made

    def cells(self) -> Array:
        """The arguments of machine code for the call, with a stream of its own: see `@onednn` in `jit/runtime.ll`."""
        dnnl = self.dnnl
        if self.stream is None:
            self.stream = dnnl.new_stream()
        functions = (
            ctypes.cast(f, ctypes.c_void_p).value for f in (dnnl.set_handle, dnnl.execute, dnnl.wait)
        )
        numbers = (
            *functions,
            pointer_value(self.primitive),
            pointer_value(self.stream),
            self.address,
            *self.handles,
        )
        return np.array(numbers, np.int64)

    @once_property
    def built(self) -> Callable[..., int] | None:
        """The call as a built-in function, if the extra `numba` is installed: ten calls through ctypes cost more than a small
        convolution. It holds the interpreter's lock and has scratch memory of its own."""
        return native_call(self) if self.small else None

    def _called(self, *arrays: Array) -> int:
        dnnl = self.dnnl
        with dnnl.lock:
            if self.room:
                if dnnl.scratch.size < self.room:
                    dnnl.scratch = np.empty(self.room, np.uint8)
                arrays = (dnnl.scratch, *arrays)
            for handle, array in zip(self.memories, arrays, strict=True):
                dnnl.set_handle(handle, data_pointer(array))
            status: int = dnnl.execute(self.primitive, dnnl.stream, self.count, self.address)
            dnnl.wait(dnnl.stream)
        return status

    def run(self, *arrays: Array) -> None:
        """Execute on arrays with the given layouts, in their order."""
        status = (self.built or self._called)(*arrays)
        if status:
            msg = f"oneDNN: execution returned status {status}"
            raise OneDNNError(msg)


class PlanCache:
    """A bounded cache: `make` is called once for a key; None for what the library does not support."""

    every: ClassVar[list[PlanCache]] = []

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


class DescriptorOwner:
    """Owns objects of the library, which are destroyed with it."""

    def __init__(self) -> None:
        self._owned: list[tuple[str, Any]] = []
        self.dnnl = load_library()

    def own(self, kind: str, pointer: ctypes.c_void_p) -> ctypes.c_void_p:
        """Take over an object of the library."""
        self._owned.append((kind, pointer))
        return pointer

    def layout(self, shape: Ints, strides: Ints | None) -> ctypes.c_void_p:
        """`Library.layout`."""
        return self.own("memory_desc", self.dnnl.layout(shape, strides))

    def described(self, kind: str, *args: Any) -> ctypes.c_void_p:
        """The descriptor of a primitive: the library's name for its kind, and what it takes between the engine and the attributes."""
        return self._described(kind, self.dnnl.engine, *args, self.dnnl.plain)

    def reorder(self, source: Any, target: Any) -> Step:
        """A copy from one layout to another."""
        engine = self.dnnl.engine
        descriptor = self._described("reorder", source, engine, target, engine, self.dnnl.plain)
        return Step(self.dnnl, descriptor, **{"from": source, "to": target})

    def _described(self, kind: str, *args: Any) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self.dnnl.call(f"dnnl_{kind}_primitive_desc_create", ctypes.byref(made), *args)
        return self.own("primitive_desc", made)

    def __del__(self) -> None:
        for kind, pointer in self._owned:
            getattr(self.dnnl.dll, f"dnnl_{kind}_destroy")(pointer)


def _forget_plans() -> None:
    """Drop the plans in a forked process: they count on threads that it does not have."""
    if has_threads():
        for plans in PlanCache.every:
            plans.known.clear()


after_fork(_forget_plans)
