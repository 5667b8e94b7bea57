"""The namespace of traced arrays: NumPy's functions and kernels, which append what they compute to the running trace."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

from anynet_backends import array_api, products
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.elementary import logistic
from anynet_backends.jit.tracer import ACTIVE, TracedArray, values_of
from anynet_backends.kernel_table import Kernel

__all__ = ["TracerBackend"]


class TracerBackend(Backend):
    """The namespace of traced arrays over NumPy. Its name is NumPy's, so that NumPy's kernels are traced too."""

    eager = False
    compiles = True
    assigns_in_place = True

    def __init__(self, base: Backend) -> None:
        table = dict(base.__dict__)
        super().__init__(base.name, table, (TracedArray,), native=base.native)
        self.base = base
        self.native_dtype = base.native_dtype
        self._dtype_names = base._dtype_names
        mine = self.__dict__
        for name in array_api.FUNCTIONS:
            if name in mine and name not in (
                "can_cast",
                "finfo",
                "iinfo",
                "isdtype",
                "result_type",
                "broadcast_shapes",
            ):
                mine[name] = self._traced(name, mine[name])
        mine["result_type"] = lambda *a: base.result_type(*values_of(a))
        mine["can_cast"] = lambda a, b: base.can_cast(values_of(a), b)
        mine["finfo"] = lambda a: base.finfo(values_of(a))
        mine["iinfo"] = lambda a: base.iinfo(values_of(a))
        mine["asarray"] = self._asarray
        for name in ("device_of", "native_device", "canonical_device", "devices", "from_host", "errstate"):
            mine[name] = getattr(base, name)
        self.kernels = {name: self._kernel(name, kernel) for name, kernel in base.kernels.items()}
        for space in ("linalg", "fft"):
            members = vars(getattr(base, space))
            mine[space] = types.SimpleNamespace(
                **{n: self._traced(f"{space}.{n}", f) if callable(f) else f for n, f in members.items()}
            )

    def _traced(self, name: str, base: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            if not ACTIVE:
                return base(*args, **kwargs)
            return ACTIVE[-1].call(name, args, kwargs)

        return function

    def _kernel(self, name: str, kernel: Kernel) -> Kernel:
        """The kernel for traced arrays: what is traceable as it is; the rest, from the first that is not, as one instruction."""
        if not kernel.traceable:
            return self.opaque(name, kernel)
        fallback = None if kernel.fallback is None else self._kernel(name, kernel.fallback)
        return dataclasses.replace(kernel, fallback=fallback)

    def side_by_side(self, matrix: Array) -> Array:
        return products.side_by_side(self, matrix)

    def opaque(self, name: str, kernel: Kernel) -> Kernel:
        """A kernel that is traced as one instruction, and its gradients as another, which uses what the first has kept."""
        base, compute = self.base, kernel.function()

        def run(xp: Any, *args: Any, need: Any = None, **meta: Any) -> Any:
            trace = ACTIVE[-1]
            # the function of a replay's gradients
            kept: list[Any] = [None]
            # how many gradients the program takes, and how many of them are to come in this replay
            asked, left = 0, 0

            def forward(*values: Any) -> Any:
                nonlocal left
                kept[0], left = None, asked
                y = compute(base, *values, need=need, **meta)
                if need is None or y is NotImplemented:
                    return y
                y, kept[0] = y
                return y

            forward.keeps = need is not None  # type: ignore[attr-defined]
            if need is None and kernel.lower is not None:
                forward.calls = functools.partial(kernel.lower, **meta)  # type: ignore[attr-defined]
            y = trace.call_opaque(name, forward, args)
            if need is None or y is NotImplemented:
                return y
            # it lives as long as `pull`, which the tape drops after the backward pass
            now, kept[0] = kept[0], None
            held = (*args, *(y if isinstance(y, tuple) else (y,)))

            def pull(g: Any) -> tuple[Any, ...]:
                present: list[bool] = []
                many = isinstance(g, tuple)

                nonlocal asked
                asked += 1

                def backward(*gs: Any) -> Any:
                    nonlocal left
                    got = kept[0](gs if many else gs[0])
                    left -= 1
                    if left == 0:
                        kept[0] = None
                    present[:] = [x is not None for x in got]
                    return tuple(x for x in got if x is not None)

                kept[0] = now
                made = iter(trace.call_opaque(f"{name}'", backward, g if many else (g,), held))
                kept[0] = None
                return tuple(next(made) if there else None for there in present)

            return y, pull

        return Kernel(run, vjp=True, min_bytes=kernel.min_bytes, min_batch=kernel.min_batch)

    def _asarray(self, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        if isinstance(x, TracedArray):
            if not copy and (dtype is None or x.dtype == dtype):
                return x
            return x.trace.call("astype", (x, x.dtype if dtype is None else dtype), {"copy": True})
        return ACTIVE[-1].capture(self.base.asarray(x, dtype=dtype, copy=copy)) if ACTIVE else x

    def lies_in_order(self, array: Array) -> bool:
        return bool(array.flags.c_contiguous)

    def to_host(self, array: Array) -> Array:
        return array._read().copy() if isinstance(array, TracedArray) else array

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        return ACTIVE[-1].random_bits(key, stream, step, n, device)

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        return ACTIVE[-1].call("index_add", (x, index, values), {})

    def windows(self, x: Array, kernel: Any, stride: Any, dilation: Any) -> Array:
        return ACTIVE[-1].call("windows", (x, kernel, stride, dilation), {})

    def arrange(self, array: Array, like: Array) -> Array:
        if not ACTIVE:
            return array
        return ACTIVE[-1].call("arrange", (array, like), {})

    def logistic(self, x: Array, /) -> Array:
        if not ACTIVE:
            return self.base.logistic(x)
        return super().logistic(x) if logistic(x) is None else ACTIVE[-1].call("logistic", (x,), {})

    def affine(self, a: Array, b: Array, c: Array, /) -> Array:
        return ACTIVE[-1].call("affine", (a, b, c), {}) if ACTIVE else self.base.affine(a, b, c)

    def call(self, f: Callable[..., Any], *arrays: Array | None) -> Any:
        return ACTIVE[-1].call_opaque(getattr(f, "__name__", "call"), f, arrays) if ACTIVE else f(*arrays)

    def check(
        self, function: Callable[..., None], *arrays: Array, within: int | None = None, **bounds: Any
    ) -> None:
        if ACTIVE:
            ACTIVE[-1].check(function, arrays, within)
        else:
            self.base.check(function, *arrays, within=within, **bounds)

    def target(self, array: Array) -> Array:
        return array if isinstance(array, TracedArray) or array is None else ACTIVE[-1].capture(array)

    def store(self, array: Array, value: Any) -> Array:
        target = self.target(array)
        target[...] = value
        return target
