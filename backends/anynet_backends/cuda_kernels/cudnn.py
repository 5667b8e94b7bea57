"""cuDNN through NVIDIA's frontend: the library, and the plans of what it has found an engine for: convolutions, and attention
(`cudnn_attention`).

An engine is taken that gives the same bits at every run and rounds no operand; float32 is multiplied by tensor cores only where its
operands have been rounded already. Which one it is NVIDIA's heuristic decides, for each signature once.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from anynet_backends.array_api import Array
from anynet_backends.concurrency import once_property
from anynet_backends.config import CUDNN
from anynet_backends.cuda_kernels import cublaslt

__all__ = [
    "ALIGNED",
    "LIBRARY",
    "MOST_PLANS",
    "TYPES",
    "Convolution",
    "CudnnError",
    "Plans",
    "Signature",
    "capability",
    "contiguous",
    "empty",
    "lies_last",
    "run",
]

Ints = tuple[int, ...]

MOST_PLANS: Final = 1024
"""Signatures whose plans are kept, of each device; beyond, the one that was not used for the longest time is forgotten."""
MOST_WORKSPACE: Final = 1 << 30
"""Bytes that an engine may ask for."""
ALIGNED: Final = 16
"""Bytes by which the frontend promises that tensors are aligned."""
TYPES: Final = {"e": "HALF", "E": "BFLOAT16", "f": "FLOAT"}
"""The frontend's names of dtypes, by NumPy's letters."""
_IN_FULL: Final = (
    "NONDETERMINISTIC", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION", "FFT", "WINOGRAD", "WINOGRAD_TILE_4x4",
    "WINOGRAD_TILE_6x6", "WINOGRAD_TILE_13x13",
)  # fmt: skip
"""What is said of engines whose results change from run to run, or have fewer bits than their operands and a sum in float32."""
_NONE_FOUND: Final = (
    "No valid engine configs",
    "No execution plans support the graph",
    "No valid execution plans built",
    "NOT_SUPPORTED",
)


class CudnnError(RuntimeError):
    """A call of cuDNN has failed; the message is the library's."""


# ----- the library -----


class _Library:
    """The frontend, imported when it is first asked for."""

    @once_property
    def _opened(self) -> tuple[Any, str, str]:
        """The module, or None and why; and the library's version."""
        try:
            module = _open()
            number = int(module.backend_version())
        except Exception as error:  # noqa: BLE001 whatever a broken installation raises
            return None, str(error).strip().partition("\n")[0] or type(error).__name__, ""
        return module, "", f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    @property
    def module(self) -> Any:
        """The frontend's module; None where it is switched off or not there. ImportError where ANYNET_CUDNN=on asks for it."""
        wanted = CUDNN()
        if wanted == "off":
            return None
        module, problem, _ = self._opened
        if module is None and wanted == "on":
            msg = f"{CUDNN.name}=on: {problem}"
            raise ImportError(msg)
        return module

    @property
    def status(self) -> str:
        """Its version, or why it is not used."""
        if CUDNN() == "off":
            return f"not used ({CUDNN.name} is off)"
        module, problem, version = self._opened
        return version if module is not None else f"not used ({problem})"


def _open() -> Any:
    cuda = importlib.import_module("cupy").cuda.runtime.runtimeGetVersion() // 1000
    mend = f"pip install 'anynet-nn[cudnn{cuda}]'"
    # cuDNN ends the process where it finds no cuBLASLt: opened before, it is found
    cublaslt.opened()
    with suppress(Exception):
        importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("nvrtc")
    try:
        module = importlib.import_module("cudnn")
        module.backend_version()
    except ModuleNotFoundError as error:
        if error.name != "cudnn":
            raise
        msg = f"cuDNN's frontend is not installed: {mend}"
        raise ImportError(msg) from None
    except RuntimeError as error:
        msg = f"cuDNN's frontend finds no library of cuDNN ({error}): {mend}"
        raise ImportError(msg) from None
    library = ctypes.CDLL(None if hasattr(ctypes, "windll") else "libcudnn.so.9")
    with suppress(AttributeError):  # of Windows, where it has another name
        library.cudnnGetCudartVersion.restype = ctypes.c_size_t
        made_for = library.cudnnGetCudartVersion() // 1000
        if made_for != cuda:
            msg = f"cuDNN is one for CUDA {made_for}, and CuPy for CUDA {cuda}: {mend}"
            raise ImportError(msg)
    return module


LIBRARY: Final = _Library()


def capability() -> int:
    """Of the current device: 80 is Ampere."""
    return int(importlib.import_module("cupy").cuda.Device().compute_capability)


# ----- how tensors lie -----


def lies_last(x: Array) -> bool:
    """Whether an array (n, c, *size) lies with its channels last, and not as well with its channels first."""
    if x.flags.c_contiguous:
        return False
    return bool(x.transpose(0, *range(2, x.ndim), 1).flags.c_contiguous)


def empty(cupy: Any, shape: Ints, dtype: Any, last: bool) -> Array:
    """An array (n, c, *size) whose channels lie last, or first."""
    if not last:
        made: Array = cupy.empty(shape, dtype)
        return made
    whole = cupy.empty((shape[0], *shape[2:], shape[1]), dtype)
    turned: Array = whole.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))
    return turned


def contiguous(cupy: Any, x: Array, last: bool) -> Array:
    """The array, copied where its channels do not lie so or its address is aligned to less than the frontend promises."""
    as_wanted = x.transpose(0, *range(2, x.ndim), 1) if last else x
    if as_wanted.flags.c_contiguous and not x.data.ptr % ALIGNED:
        return x
    made = empty(cupy, x.shape, x.dtype, last)
    made[...] = x
    return made


def _strides(shape: Ints, last: bool) -> list[int]:
    """Of an array (n, c, *size) without gaps, in elements."""
    order = [1, *range(len(shape) - 1, 1, -1), 0] if last else [*range(len(shape) - 1, -1, -1)]
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return strides


# ----- signatures -----


class Signature(Protocol):
    """What a plan is for: it can be hashed, and its text names it in errors."""

    @property
    def letter(self) -> str:
        """The dtype of its arrays, by NumPy's letter."""

    @property
    def short(self) -> bool:
        """Whether the operands are rounded, and tensor cores may multiply float32."""

    def describe(self, module: Any, graph: Any) -> None:
        """Add the operation to a graph, whose tensors 1, 2, … are the arrays that `Plans.run` is given."""


class Convolution(NamedTuple):
    """The signature of a convolution, or of a gradient of it, in the shapes of the forward one: x (n, c, *size), weight (o, c / groups,
    *kernel), y (n, o, *out).

    `result`: "y", "x" or "weight". `padding`: before and behind each axis. `last`: the channels lie last. `short`: the operands are
    rounded, and tensor cores may multiply float32.
    """

    result: str
    letter: str
    x: Ints
    weight: Ints
    y: Ints
    stride: Ints
    padding: tuple[Ints, Ints]
    dilation: Ints
    last: bool
    short: bool

    def __str__(self) -> str:
        what = {"y": "convolution", "x": "data gradient", "weight": "weight gradient"}[self.result]
        how = f"stride {self.stride}, padding {self.padding}, dilation {self.dilation}, channels {'last' if self.last else 'first'}"
        return f"{what} of x {self.x}, weight {self.weight}, y {self.y} of type {self.letter}, {how}"

    def describe(self, module: Any, graph: Any) -> None:
        """An axis of length 1 is put before a single one, since cuDNN has two or three."""
        kind, wide = getattr(module.data_type, TYPES[self.letter]), module.data_type.FLOAT
        single = len(self.stride) == 1

        def axes(values: Ints, fill: int) -> list[int]:
            return [fill, *values] if single else [*values]

        shapes = [(*s[:2], 1, *s[2:]) if single else s for s in (self.x, self.weight, self.y)]
        options = {
            "pre_padding": axes(self.padding[0], 0), "post_padding": axes(self.padding[1], 0), "stride": axes(self.stride, 1),
            "dilation": axes(self.dilation, 1), "compute_data_type": wide,
        }  # fmt: skip

        def tensor(number: int) -> Any:
            shape = shapes[number]
            return graph.tensor(
                dim=list(shape), stride=_strides(shape, self.last), data_type=kind, uid=number + 1
            )

        if self.result == "y":
            number, made = 2, graph.conv_fprop(image=tensor(0), weight=tensor(1), **options)
        elif self.result == "x":
            number, made = 0, graph.conv_dgrad(loss=tensor(2), filter=tensor(1), **options)
        else:
            number, made = 1, graph.conv_wgrad(image=tensor(0), loss=tensor(2), **options)
        made.set_output(True).set_uid(number + 1).set_data_type(kind)
        made.set_dim(list(shapes[number])).set_stride(_strides(shapes[number], self.last))


# ----- plans -----


def _graph(module: Any, form: Signature, handle: int, capability: int) -> Any:
    """The graph of a signature."""
    kind, wide = getattr(module.data_type, TYPES[form.letter]), module.data_type.FLOAT
    # named, so that the frontend does not look for it through a CUDA runtime of its own choice
    graph = module.pygraph(
        io_data_type=kind,
        intermediate_data_type=wide,
        compute_data_type=wide,
        handle=handle,
        sm_version=capability,
    )
    form.describe(module, graph)
    return graph


class Plan(NamedTuple):
    """A graph, for which an engine has been chosen, and the bytes that it needs besides."""

    graph: Any
    workspace: int


def plan(module: Any, form: Signature, handle: int, capability: int) -> Plan | None:
    """The plan of a signature, None where there is no engine for it. CudnnError where the library fails otherwise."""
    notes = [*_IN_FULL, *["TENSOR_CORE"] * (form.letter == "f" and not form.short)]
    try:
        graph = _graph(module, form, handle, capability)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([module.heur_mode.A, module.heur_mode.FALLBACK])
        graph.deselect_numeric_notes([getattr(module.numerical_note, name) for name in notes])
        graph.deselect_workspace_greater_than(MOST_WORKSPACE)
        graph.check_support()
        graph.build_plans()
        return Plan(graph, int(graph.get_workspace_size()))
    except module.cudnnGraphNotSupportedError:
        return None
    except Exception as error:
        if any(words in str(error) for words in _NONE_FOUND):
            return None
        msg = f"cuDNN: {error} (planning the {form})"
        raise CudnnError(msg) from error


class Plans:
    """The plans of one device, and its handle, for all threads."""

    def __init__(self, cupy: Any, device: int) -> None:
        self.cupy, self.module = cupy, LIBRARY.module
        self.capability = int(cupy.cuda.Device(device).compute_capability)
        self.plans: OrderedDict[Signature, Plan | None] = OrderedDict()  # None: there is no engine
        self.captured: dict[Signature, Plan] = {}
        """Those that graphs launch: the code of an engine may go with its plan."""
        self._lock = threading.Lock()  # of the handle's stream, and of the order of use
        self._handle: int | None = None

    def _made(self, form: Signature) -> Plan | None:
        if self._handle is None:
            try:
                self._handle = self.module.create_handle()
            except Exception as error:
                msg = f"cuDNN: {error} (making a handle)"
                raise CudnnError(msg) from error
        return plan(self.module, form, self._handle, self.capability)

    def run(self, form: Signature, *arrays: Array) -> bool:
        """Queue what the signature says on the current stream; False where there is no engine for it. In a capture none is looked for."""
        stream = self.cupy.cuda.get_current_stream()
        with self._lock:
            capturing = stream.is_capturing()
            if form in self.plans:
                found = self.plans[form]
                self.plans.move_to_end(form)
            elif form in self.captured:
                found = self.captured[form]
            elif capturing:
                return False
            else:
                found = self.plans[form] = self._made(form)
                if len(self.plans) > MOST_PLANS:
                    self.plans.popitem(last=False)
            if found is None:
                return False
            if capturing:
                self.captured[form] = found
            # of CuPy's pool, which gives it to what is queued behind on this stream, or of that of a graph
            room = self.cupy.cuda.alloc(found.workspace) if found.workspace else None
            places = {number: a.data.ptr for number, a in enumerate(arrays, 1)}
            try:
                self.module.set_stream(self._handle, stream.ptr)
                found.graph.execute(places, 0 if room is None else room.ptr, handle=self._handle)
            except Exception as error:
                msg = f"cuDNN: {error} (in the {form})"
                raise CudnnError(msg) from error
        return True


_on: dict[int, Plans] = {}


def run(cupy: Any, form: Signature, *arrays: Array) -> bool:
    """`Plans.run` on the device of the arrays, which is the current one."""
    device = arrays[0].data.device_id
    found = _on.get(device)
    if found is None:
        found = _on.setdefault(device, Plans(cupy, device))
    return found.run(form, *arrays)
