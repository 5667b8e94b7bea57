"""`torch.cuda`, `torch.backends`, `torch.amp`, `torch.mps`: what there is to ask and to switch, which on a host without a GPU is little."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from anynet import cuda as _cuda
from anynet import streams
from anynet.dtypes import of
from anynet.ops.precision import precision as _precision
from anynet.torch.grad_scaler import GradScaler
from anynet.torch.sizes import device as _device
from anynet_backends import resolve

__all__ = ["Generator", "amp", "backends", "cuda", "mps"]


def _nothing(*_: Any, **__: Any) -> None:
    """There is nothing to do here."""


def _module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(f"anynet.torch.{name}", f"torch.{name}")
    vars(made).update(contents)
    sys.modules[made.__name__] = made
    return made


_MIXED = {"float16": "mixed-fp16", "bfloat16": "mixed-bf16"}


class autocast:
    """Within the block products of matrices, linear layers, convolutions and attention are computed in 16 bits; also a decorator.

    It is `anynet.precision("mixed-bf16")` or `("mixed-fp16")`; results are float32 (PyTorch's are in 16 bits until the next operation that
    wants float32). With enabled=False it switches one off that is outside.
    """

    def __init__(
        self, device_type: str = "cuda", dtype: Any = None, enabled: bool = True, cache_enabled: bool = True
    ) -> None:
        kind = of(dtype).name if dtype is not None else "bfloat16" if device_type == "cpu" else "float16"
        if enabled and kind not in _MIXED:
            msg = f"autocast: dtype must be torch.float16 or torch.bfloat16, got {kind}"
            raise RuntimeError(msg)
        self.device_type, self.kind, self.enabled = device_type, kind, enabled
        self._inside: list[Any] = []

    def __enter__(self) -> autocast:
        if self.enabled:
            resolve("cuda" if self.device_type == "cuda" else "cpu")  # an error where there is no such device
        block = _precision(_MIXED[self.kind] if self.enabled else "float32")
        block.__enter__()
        self._inside.append(block)
        return self

    def __exit__(self, *error: Any) -> None:
        self._inside.pop().__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call


class Generator(streams.Generator):
    """A stream of random numbers of its own; it is drawn on the host, whatever the device."""

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()
        self.device = _device(device)

    def initial_seed(self) -> int:
        """The seed that it began with."""
        return self.seed

    def get_state(self) -> dict[str, int]:
        """The seed and how many draws there were."""
        return {"seed": self.seed, "step": self.step}

    def set_state(self, new_state: dict[str, int]) -> None:
        """Go back to a state."""
        self.seed, self.step = new_state["seed"], new_state["step"]


def _set_device(device: Any) -> None:
    """The first device is the current one; another is named where a tensor is made or moved."""
    if str(device) not in ("0", "cuda", "cuda:0", "-1", "None"):
        msg = f"the current CUDA device is the first, and cannot be set to {device}; name the device: x.to('cuda:1')"
        raise NotImplementedError(msg)


@contextmanager
def _device_block(device: Any) -> Iterator[None]:
    _set_device(device)
    yield


def _peak(device: Any = None) -> Any:
    """Refused: CuPy's pool does not count how much was in use at most."""
    msg = "CuPy's memory pool does not count how much was in use at most; memory_allocated() says how much is now"
    raise NotImplementedError(msg)


def _of(function: Callable[[str], Any]) -> Callable[..., Any]:
    """The function of a device that is given in PyTorch's forms."""
    return lambda device=None: function(
        "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else str(device)
    )


def _properties(device: Any = None) -> Any:
    """Refused: what a device is, the array library says."""
    msg = "get_device_properties: with CuPy: cupy.cuda.runtime.getDeviceProperties(0)"
    raise NotImplementedError(msg)


@contextmanager
def _sdp_kernel(**_: Any) -> Iterator[None]:
    """A block in which PyTorch would choose among kernels of attention."""
    yield


class Stream:
    """A queue of work for a device. Here there is one, in which everything runs in the order in which it is written: what waits for another
    stream has waited."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = _device("cuda" if device is None else device)

    def synchronize(self) -> None:
        """Wait until everything is done."""
        if _cuda.is_available():
            _cuda.synchronize()

    def query(self) -> bool:
        """Whether everything is done, for which it waits."""
        self.synchronize()
        return True

    def wait_stream(self, stream: Any) -> None:
        """What runs next comes after what the other stream has been given, as it does anyway."""

    def wait_event(self, event: Any) -> None:
        """What runs next comes after the event, as it does anyway."""

    def record_event(self, event: Any = None) -> Any:
        """An event that is recorded now."""
        event = event or Event()
        event.record(self)
        return event


class Event:
    """A moment: `record` waits for the device and looks at the clock."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        self.enable_timing, self.at = enable_timing, math.nan

    def record(self, stream: Any = None) -> None:
        """This moment, when the device has done what it was given."""
        Stream().synchronize()
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing is left to wait for."""

    def wait(self, stream: Any = None) -> None:
        """Nothing is left to wait for."""

    def query(self) -> bool:
        """Whether the work before it is done: it is."""
        return True

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds until another event."""
        if not (self.enable_timing and end_event.enable_timing) or math.isnan(self.at + end_event.at):
            msg = "elapsed_time: both events must be made with enable_timing=True and recorded"
            raise ValueError(msg)
        return float((end_event.at - self.at) * 1e3)


@contextmanager
def _in_stream(stream: Any) -> Iterator[None]:
    """A block whose work runs in the order in which it is written."""
    yield


amp = _module("amp", autocast=autocast, GradScaler=GradScaler)
cuda = _module(
    "cuda", is_available=_cuda.is_available, device_count=_cuda.device_count, current_device=lambda: 0, set_device=_set_device,
    synchronize=_of(lambda device: _cuda.synchronize(device) if _cuda.is_available() else None),
    empty_cache=lambda: _cuda.empty_cache() if _cuda.is_available() else None, device=_device_block, OutOfMemoryError=MemoryError,
    memory_allocated=_of(lambda device: _cuda.memory(device).used), memory_reserved=_of(lambda device: _cuda.memory(device).held),
    mem_get_info=_of(lambda device: tuple(_cuda.memory(device)[2:])), memory_summary=_of(lambda device: str(_cuda.memory(device))),
    max_memory_allocated=_peak, max_memory_reserved=_peak, reset_peak_memory_stats=_peak, manual_seed=streams.manual_seed,
    manual_seed_all=streams.manual_seed, get_device_name=lambda device=None: "cuda", is_bf16_supported=_cuda.is_available,
    is_initialized=_cuda.is_available, get_device_properties=_properties, Stream=Stream, Event=Event, stream=_in_stream,
    current_stream=Stream, default_stream=Stream, get_rng_state=lambda device="cuda": streams.get_state(),
    set_rng_state=lambda new_state, device="cuda": streams.set_state(new_state),
    get_rng_state_all=lambda: [streams.get_state()], set_rng_state_all=lambda new_states: streams.set_state(new_states[0]),
)  # fmt: skip
cuda.amp = _module(  # type: ignore[attr-defined]
    "cuda.amp",
    autocast=lambda enabled=True, dtype=None, cache_enabled=True: autocast("cuda", dtype, enabled),
    GradScaler=GradScaler,
)
cuda.amp.grad_scaler = _module("cuda.amp.grad_scaler", GradScaler=GradScaler)
amp.grad_scaler = _module("amp.grad_scaler", GradScaler=GradScaler)  # type: ignore[attr-defined]
mps = _module("mps", is_available=lambda: False, manual_seed=streams.manual_seed, empty_cache=_nothing)
_cudnn = _module(
    "backends.cudnn", benchmark=False, deterministic=True, enabled=True, allow_tf32=False, is_available=lambda: False, version=lambda: None,
)  # fmt: skip
_switch = {"is_available": lambda: False, "is_built": lambda: False}
backends = _module(
    "backends", cudnn=_cudnn, mps=_module("backends.mps", **_switch), mkldnn=_module("backends.mkldnn", **_switch),
    cuda=_module(
        "backends.cuda", matmul=_module("backends.cuda.matmul", allow_tf32=False), is_built=_cuda.is_available, sdp_kernel=_sdp_kernel,
    ),
)  # fmt: skip
accelerator = _module(
    "accelerator", is_available=_cuda.is_available, device_count=_cuda.device_count, synchronize=cuda.synchronize,
    current_accelerator=lambda check_available=False: _device("cuda") if _cuda.is_available() else None,
    current_device_index=lambda: 0, set_device_index=_set_device, set_device_idx=_set_device,
    device_index=_device_block, empty_cache=_nothing,
)  # fmt: skip
