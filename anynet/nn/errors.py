"""The errors of layers, and the path of the layer in which an error was raised."""

from __future__ import annotations

import os
from types import NoneType
from typing import TYPE_CHECKING, Any

from anynet.nn.layer_path import path_of

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["ShapeError", "StateError", "add_location", "refuse_other_types"]


class ShapeError(ValueError):
    """An array of a shape that a layer cannot take: says which layer, what it got and what it expected.

    `where` is the path of the layer, filled in while the error leaves the modules; `source` the layer whose output it
    was, where that is known; `defined` the line that made the layer.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where: str | None = None
        self.source: str | None = None
        self.defined: str | None = None

    def __str__(self) -> str:
        if self.where is None:
            return self.problem
        origin = [f"came from {self.source}"] if self.source else []
        origin += [f"defined {self.defined}"] if self.defined else []
        return f"in {self.where}\n  {self.problem}" + (f"\n  {'; '.join(origin)}" if origin else "")


class StateError(ValueError, RuntimeError):
    """A state_dict that does not fit the module; nothing was changed. Also the RuntimeError that PyTorch raises."""


class _Trail(list[Any]):
    """The modules that an error has left; they do not go into another process with it."""

    def __reduce__(self) -> Any:
        return _Trail, ()


def refuse_other_types(module: Module, args: tuple[Any, ...], error: Exception) -> None:
    """Where a layer of this library failed on a list, a number or None in the place of its input, say so."""
    if (
        (type(module).forward.__module__ or "").startswith("anynet.")
        and isinstance(error, (AttributeError, TypeError))
        and args
        and type(args[0]) in (list, int, float, bool, str, dict, set, NoneType)
    ):
        kind = type(args[0]).__name__
        hint = "; anynet.asarray(x) makes one" if isinstance(args[0], (list, int, float)) else ""
        msg = f"{type(module).__name__}: the input must be a Tensor or an array, got {kind}{hint}"
        raise TypeError(msg) from error


def add_location(module: Module, error: Exception) -> None:
    """Build the path to the failing layer while the exception travels outwards."""
    try:
        trail: list[Module] = error.__dict__.setdefault("_anynet_trail", _Trail())
        if trail and trail[0] is not module and not any(m is trail[0] for m in module.modules()):
            return
        if not trail or trail[0] is not module:
            trail.insert(0, module)
        where = f"{path_of(trail)} ({trail[-1].label()})"
        if isinstance(error, ShapeError):
            error.where = where
            if trail[-1]._defined is not None:
                file, line = trail[-1]._defined
                error.defined = f"{os.path.basename(file)}:{line}"
            return
        notes = [n for n in getattr(error, "__notes__", []) if not n.startswith("in layer ")]
        error.__notes__ = [*notes, f"in layer {where}"]
    except Exception:  # a broken extra_repr() of a user's layer must not hide the error itself
        return
