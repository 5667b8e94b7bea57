"""Primitives with their memory objects, and the cache of plans."""

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
from anynet_backends.onednn.layouts import data_pointer
from anynet_backends.onednn.library import Library, OneDNNError, has_threads, pointer_value

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
"""Bytes that a call touches at most to keep the interpreter's lock."""
PLANS = 256
"""How many plans are kept, the least recently used of which goes first."""


class _Arg(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_int), ("memory", ctypes.c_void_p))


def _no_native_call(step: Step) -> Callable[..., int] | None:
    return None


native_call = _no_native_call
"""Makes the call of a step a built-in function, or returns None; the compiler of machine code sets its own."""


class Step:
    """A primitive with its memory objects: `run` gives them places and executes it."""

    def __init__(self, dnnl: Library, descriptor: ctypes.c_void_p, **layouts: Any) -> None:
        """`layouts`: the memory descriptors of the arguments. Scratch memory, where it needs some, comes before them,
        and is found here."""
        self.dnnl, self.descriptor, self.layouts = dnnl, descriptor, layouts
        self.plan: Any = None
        self.stream: ctypes.c_void_p | None = None
        scratch = dnnl.query(descriptor, QUERY["scratchpad"], 0)
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
        self.small = sum(dnnl.size(pointer_value(md)) for md in layouts.values()) < _SMALL

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
                dnnl.set_handle(handle, data_pointer(array))
            status: int = dnnl.execute(self.primitive, dnnl.stream, self.count, self.address)
            dnnl.wait(dnnl.stream)
        return status

    def run(self, *arrays: Array) -> None:
        """Execute on arrays in the order of the layouts, which they have."""
        status = (self.built or self._called)(*arrays)
        if status:
            msg = f"oneDNN: execution returned status {status}"
            raise OneDNNError(msg)


class PlanCache:
    """Made once for a key, bounded in number; None for what the library cannot do."""

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
    """What a plan holds of the library, given back with it."""

    dnnl: Library

    def own(self, *descriptors: Any) -> None:
        """Descriptors of memory and of primitives to destroy with this plan."""
        self.__dict__.setdefault("_owned", []).extend(descriptors)

    def __del__(self) -> None:
        for kind, pointer in self.__dict__.get("_owned", ()):
            getattr(self.dnnl.dll, f"dnnl_{kind}_destroy")(pointer)


class WeightReorder(DescriptorOwner):
    """Weights between the plain order of an array and the order that a primitive wants."""

    step: Step | None

    def __init__(self, dnnl: Library, plain: Any, wanted: int, backward: bool = False) -> None:
        self.dnnl, self.step = dnnl, None
        if not dnnl.equal(plain, wanted):
            a, b = ctypes.c_void_p(pointer_value(plain)), ctypes.c_void_p(wanted)
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


def _forget_plans() -> None:
    """Plans that count on threads that a forked process does not have are made anew."""
    if has_threads():
        for plans in PlanCache.every:
            plans.known.clear()


after_fork(_forget_plans)
