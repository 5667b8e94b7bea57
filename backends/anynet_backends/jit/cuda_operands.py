"""What a kernel for CUDA computes, and from what: arrays in memory, element-wise calls, the types of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from anynet_backends.jit.cuda_expressions import REGISTERS, expression
from anynet_backends.jit.instructions import Instruction, Variable
from anynet_backends.jit.iteration import Atom, Axes

__all__ = ["Cluster", "Operand", "contiguous", "joined", "loop_letter", "operands_of"]


class Operand(NamedTuple):
    """An array in memory: where its first number is from the begin of what it is part of, and how far its axes step, in numbers."""

    root: int
    offset: int
    strides: tuple[int, ...]
    variable: Variable


class Cluster(NamedTuple):
    """What one kernel computes: calls, the operands in memory by variable, the results that are to be written, and the atoms of
    rows and of what is reduced. With `parts` it gives only the first sums, of so many parts of what is reduced."""

    calls: list[Instruction]
    operands: dict[int, Operand]
    wanted: list[Variable]
    axes: Axes
    rows: list[Atom]
    reduced: list[Atom]
    parts: int = 0


def operands_of(call: Instruction) -> tuple[str, tuple[Any, ...]]:
    """The name of an element-wise call's expression, and its operands: variables, numbers, or None for a bound that is not there."""
    args, kwargs = call.args, call.kwargs
    name = call.name
    if name == "clip":
        low, high = (args[i] if len(args) > i else kwargs.get(k) for i, k in ((1, "min"), (2, "max")))
        if low is None and high is None:
            return "copy", args[:1]
        if low is None or high is None:
            return ("minimum", (args[0], high)) if low is None else ("maximum", (args[0], low))
        return name, (args[0], low, high)
    if name in ("zeros_like", "ones_like", "full_like", "zeros", "ones", "full"):
        fill = {"zeros": 0, "ones": 1}.get(name.partition("_")[0])
        if fill is None:
            fill = args[1] if len(args) > 1 else kwargs["fill_value"]
        return "copy", (fill,)
    if name in ("astype", "broadcast_to", "asarray", "arrange"):
        return "copy", args[:1]
    return name, args


def loop_letter(call: Instruction) -> str | None:
    """The letter of the type that an element-wise call computes in; None where it is not one type that is known here."""
    name, given = operands_of(call)
    out: Any = call.out
    if any(
        isinstance(x, (complex, tuple, list, np.ndarray)) and not isinstance(x, (bool, int, float))
        for x in given
    ):
        return None
    if name in ("copy", "where", "clip"):
        letter = out.dtype.char
        return letter if expression(name, letter) else None
    if name in ("erf", "erfc"):
        return str(out.dtype.char)
    if call.name == "clip":
        return str(out.dtype.char)
    ufunc: Any = getattr(np, name, None)
    if not isinstance(ufunc, np.ufunc) or len(given) != ufunc.nin:
        return None
    asked = [
        x.dtype
        if isinstance(x, (Variable, np.generic))
        else np.dtype(bool)
        if isinstance(x, bool)
        else type(x)
        for x in given
    ]
    try:
        types = ufunc.resolve_dtypes((*asked, None))
    except TypeError:
        return None
    letters = {t.char for t in types[:-1]}
    if len(letters) != 1:
        return None
    letter = letters.pop()
    return letter if expression(name, letter) and types[-1].char in REGISTERS else None


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The steps of an array in C order, in numbers."""
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(step)
        step *= n
    return tuple(reversed(steps))


def joined(
    atoms: Sequence[Atom], main: dict[Atom, int], steps: dict[Any, dict[Atom, int]]
) -> tuple[list[int], dict[Any, list[int]]]:
    """The axes, from the outermost of the main operand inwards, joined where all operands step on evenly; and the steps of each."""
    order = sorted((a for a in atoms if a.size > 1), key=lambda a: -abs(main.get(a, 0)))
    dims: list[int] = []
    found: dict[Any, list[int]] = {k: [] for k in steps}
    for a in order:
        if dims and all(found[k][-1] == own.get(a, 0) * a.size for k, own in steps.items()):
            dims[-1] *= a.size
            for k, own in steps.items():
                found[k][-1] = own.get(a, 0)
        else:
            dims.append(a.size)
            for k, own in steps.items():
                found[k].append(own.get(a, 0))
    return dims, found
