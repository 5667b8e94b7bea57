"""The instructions of a trace: what is called, on which variables, and which it makes or writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from anynet_backends.array_api import Array

__all__ = [
    "Instruction",
    "Origin",
    "Variable",
    "collect",
    "describe",
    "is_basic_key",
    "listing",
    "made_by",
    "show",
    "substitute",
]


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


class Origin(NamedTuple):
    """Where an instruction comes from: `phase` is "forward", "backward" or "update"; the path of the layer, the operation, and in the
    backward pass the variable whose gradient is taken further."""

    phase: str = ""
    layer: str = ""
    operation: str = ""
    of: int | None = None


class Instruction:
    """One step of a trace: a function by its name, its arguments, with variables in place of arrays, and the variables that it makes.
    It keeps no temporary array alive.

    `kind`: "call" (a function of arrays), "update" (``x op= y``), "write" (``x[key] = y``), "host" (a callback), "random" (words from
    the generator), "check" (a function that raises for invalid values). `reads`: the variables it reads, `writes`: the one that it
    changes in place."""

    __slots__ = ("args", "kind", "kwargs", "name", "origin", "out", "reads", "writes")

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
        self.origin = Origin()


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
    if isinstance(item, slice):
        ends = (item.start, item.stop) if item.step is None else (item.start, item.stop, item.step)
        return ":".join("" if x is None else str(x) for x in ends)
    if item is ...:
        return "..."
    if isinstance(item, np.dtype):
        return item.name
    return repr(item) if not isinstance(item, np.ndarray) else f"array{item.shape}"


def describe(i: Instruction, names: dict[int, str]) -> str:
    """An instruction as text."""

    def shown(item: Any) -> str:
        return show(item, names)

    if i.kind == "host":
        return f"{i.name}()"
    if i.kind == "check":
        return f"{i.name}({', '.join(shown(x) for x in i.args[1:] if isinstance(x, Variable))})"
    if i.kind == "random":
        return f"{shown(i.out)} = random_bits({i.args[3]})"
    if i.kind == "update":
        target, other = i.args
        return f"{shown(target)} {i.name}= {shown(other)}"
    if i.kind == "write":
        target, key, value = i.args
        return f"{shown(target)}[{shown(key)}] = {shown(value)}"
    if i.name == "getitem":
        return f"{shown(i.out)} = {shown(i.args[0])}[{shown(i.args[1])}]"
    return f"{shown(i.out)} = {i.name}({shown(i.args)})"


def listing(instructions: Iterable[Instruction], names: dict[int, str]) -> list[str]:
    """Instructions as lines, each with the forms of what it makes and where it comes from."""
    lines = []
    for i in instructions:
        forms = ", ".join(f"{o.dtype}{list(o.shape)}" for o in made_by(i))
        where = " ".join(x for x in (i.origin.phase, i.origin.layer, i.origin.operation) if x)
        lines.append(describe(i, names) + (f"  {forms}" if forms else "") + (f"  # {where}" if where else ""))
    return lines
