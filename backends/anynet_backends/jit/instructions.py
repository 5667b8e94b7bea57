"""The instructions of a trace: what is called, on which variables, and which it makes or writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["Instruction", "Variable", "collect", "is_basic_key", "made_by", "show", "substitute"]


class Variable:
    """What instructions refer to in place of an array. It has the form of the array, and the array itself only where that is the same
    in each replay (arguments, arrays from outside, constants)."""

    __slots__ = ("dtype", "nbytes", "ndim", "root", "shape", "size", "strides", "value", "var")

    def __init__(self, array: Array, var: int, root: int, held: bool) -> None:
        self.var = var
        # the variable in whose memory it lies: itself, unless it is a view
        self.root = root
        self.value = array if held else None
        self.shape: tuple[int, ...] = array.shape
        self.strides: tuple[int, ...] = array.strides
        self.dtype = array.dtype
        self.ndim: int = array.ndim
        self.size: int = array.size
        self.nbytes: int = array.nbytes


class Instruction:
    """One step of a trace: a function by its name, its arguments, with variables in place of arrays, and the variables that it makes.
    It keeps no temporary array alive.

    `kind`: "call" (a function of arrays), "update" (``x op= y``), "write" (``x[key] = y``), "host" (a callback), "random" (words from
    the generator), "check" (a function that raises for invalid values). `reads`: the variables it reads, `writes`: the one that it
    changes in place."""

    __slots__ = ("args", "kind", "kwargs", "name", "out", "reads", "writes")

    def __init__(self, kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self.kind = kind
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.out: Variable | tuple[Variable, ...] | None = out
        found: list[Variable] = []
        collect((args, tuple(kwargs.values())), Variable, found)
        self.reads = [x.var for x in found]
        self.writes: int | None = None


def made_by(instruction: Instruction) -> tuple[Variable, ...]:
    """The variables that an instruction makes."""
    out = instruction.out
    return out if isinstance(out, tuple) else () if out is None else (out,)


def collect(items: Iterable[Any], kind: type, found: list[Any]) -> None:
    """Append what is of a kind, in tuples and lists too, to `found`."""
    for x in items:
        if isinstance(x, kind):
            found.append(x)
        elif isinstance(x, (tuple, list)):
            collect(x, kind, found)


def substitute(item: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """The item with ``replace(x)`` for each x of a kind, in tuples and lists too."""
    if isinstance(item, kind):
        return replace(item)
    if isinstance(item, tuple):
        return tuple(substitute(x, kind, replace) for x in item)
    return [substitute(x, kind, replace) for x in item] if isinstance(item, list) else item


def is_basic_key(key: Any) -> bool:
    """Whether ``x[key]`` is basic indexing: a view, but for single numbers."""
    keys = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is ... or isinstance(k, (int, slice)) for k in keys)


def show(item: Any, names: dict[int, str]) -> str:
    """An argument as text; `names`: of variables that have one, the others are %0, %1, …"""
    if isinstance(item, Variable):
        return names.get(item.var, f"%{item.var}")
    if isinstance(item, (tuple, list)):
        return ", ".join(show(x, names) for x in item)
    return repr(item) if not isinstance(item, np.ndarray) else f"array{item.shape}"
