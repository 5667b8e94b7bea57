"""Paths of PyTorch's own runtime that scripts import: what there is of `torch.jit`, `compiler`, `fx`, `onnx`, `profiler`.

They can be imported; a name that is not here says why when it is used.
"""

from __future__ import annotations

import contextlib
import enum
import multiprocessing as _processes
import sys
import typing
from types import ModuleType
from typing import Any

from anynet.torch.absent import reason
from anynet.torch.spawning import (
    ProcessContext,
    ProcessException,
    ProcessExitedException,
    ProcessRaisedException,
    spawn,
)

__all__ = ["ao", "compiler", "fx", "jit", "library", "multiprocessing", "onnx", "ops", "profiler"]


class _Path(ModuleType):
    """A path of PyTorch's of which little is here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        short = self.__name__.rpartition(".")[2]
        msg = f"module {self.__name__!r} has no attribute {name!r}: {reason(short)}"
        raise AttributeError(msg)


def _as_it_is(obj: Any = None, *_: Any, **__: Any) -> Any:
    """The function or module itself: it runs as it is written, and is not compiled (`anynet.compile` does that)."""
    return obj if obj is not None else _as_it_is


def _export(
    model: Any, args: Any = (), f: Any = None, *, input_names: Any = None, dynamic_axes: Any = None, export_params: Any = True, **_: Any
) -> None:  # fmt: skip
    """Write a network as an ONNX file, by `anynet.export.onnx`; the version of the operators is its own.

    With `dynamic_axes` lengths of batches and sequences are left open.
    """
    from anynet import export  # late: of this function alone

    if f is None or not export_params:
        msg = f"torch.onnx.export: f must name a file and export_params must be True, got {f!r} and {export_params!r}"
        raise ValueError(msg)
    given = (
        args if isinstance(args, tuple) and len(args) != 1 else args[0] if isinstance(args, tuple) else args
    )
    export.onnx(model, given, f, dynamic=bool(dynamic_axes), names=input_names)


def _refused(path: str, name: str) -> Any:
    """A class that can be imported and asked for by isinstance; making one is refused."""

    def made(cls: Any, *_: Any, **__: Any) -> Any:
        msg = f"torch.{path}.{name} is not offered: {reason(path)}"
        raise NotImplementedError(msg)

    return type(name, (), {"__new__": made, "__module__": f"anynet.torch.{path}"})


def _path(name: str, **contents: Any) -> ModuleType:
    made = _Path(f"anynet.torch.{name}", f"torch.{name}")
    vars(made).update(contents)
    sys.modules[made.__name__] = made
    return made


jit = _path(
    "jit", script=_as_it_is, ignore=_as_it_is, export=_as_it_is, unused=_as_it_is, script_method=_as_it_is,
    trace=lambda func, *_, **__: func, freeze=_as_it_is, is_scripting=lambda: False, is_tracing=lambda: False,
    annotate=lambda _, value: value, Final=typing.Final, ScriptModule=object, interface=_as_it_is, _script_if_tracing=_as_it_is,
    script_if_tracing=_as_it_is, _overload=_as_it_is, _overload_method=_as_it_is, is_scripting_or_tracing=lambda: False,
)  # fmt: skip
jit.annotations = _path(  # type: ignore[attr-defined]
    "jit.annotations", **{n: getattr(typing, n) for n in ("Any", "Dict", "List", "Optional", "Tuple", "Union")},
    **{f"BroadcastingList{n}": list for n in (1, 2, 3)},
)  # fmt: skip
_off = {"is_compiling": lambda: False, "is_dynamo_compiling": lambda: False, "is_exporting": lambda: False, "disable": _as_it_is,
        "allow_in_graph": _as_it_is, "assume_constant_result": _as_it_is, "substitute_in_graph": lambda *_, **__: _as_it_is,
        "reset": _as_it_is, "set_stance": lambda *_, **__: contextlib.nullcontext(),
        "cudagraph_mark_step_begin": _as_it_is}  # fmt: skip
compiler = _path("compiler", **_off)
_dynamo = _path("_dynamo", **_off)
_dynamo.config = _path("_dynamo.config")  # type: ignore[attr-defined]
_fx = {
    n: _refused("fx", n)
    for n in ("Graph", "GraphModule", "Interpreter", "Node", "Proxy", "Tracer", "symbolic_trace")
}
fx = _path("fx", wrap=_as_it_is, **_fx)
for _name in ("graph", "graph_module", "node", "proxy", "experimental"):
    setattr(fx, _name, _path(f"fx.{_name}", **_fx))
_C = _path("_C", _log_api_usage_once=lambda *_: None)
ops, library, ao = _path("ops"), _path("library"), _path("ao")
ao.quantization = _path("ao.quantization")  # type: ignore[attr-defined]
onnx = _path("onnx", export=_export)
multiprocessing = _path(
    "multiprocessing", spawn=spawn, ProcessContext=ProcessContext, SpawnContext=ProcessContext, ProcessException=ProcessException,
    ProcessExitedException=ProcessExitedException, ProcessRaisedException=ProcessRaisedException,
    **{n: getattr(_processes, n) for n in ("Process", "Queue", "Pool", "Lock", "Event", "Manager", "cpu_count", "get_context",
                                           "set_start_method", "get_start_method", "current_process")},
)  # fmt: skip


class ProfilerActivity(enum.Enum):
    """What PyTorch's profiler looks at."""

    CPU, CUDA, XPU, MTIA = range(4)


profiler = _path(
    "profiler", record_function=lambda *_, **__: contextlib.nullcontext(), ProfilerActivity=ProfilerActivity,
    **{n: _refused("profiler", n) for n in ("profile", "schedule", "tensorboard_trace_handler")},
)  # fmt: skip
