"""How a row of the table is called: which inputs it reads as numbers, where its arrays lie, and how much memory it may take.

A row takes the inputs of its operator by position and the attributes by name, so that what older versions of an operator have as an
attribute (`axes`, `k`) and newer ones as an input is one parameter. A parameter annotated as `Ints`, `Floats`, `Number` or `DType` gets
numbers of Python, whatever the file gives. A row may ask for `version` (since which this form stands) and `count` (of outputs).
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from anynet.tensor import Tensor

__all__ = [
    "DTYPES",
    "DType",
    "Floats",
    "Ints",
    "Number",
    "call",
    "kinds_of",
    "limited",
    "numbers",
    "room",
    "spend",
]

Row = Callable[..., Any]
DType: TypeAlias = Any
Floats: TypeAlias = Any
Ints: TypeAlias = Any
Number: TypeAlias = Any
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
    12: "uint32", 13: "uint64",
}  # fmt: skip
"""By ONNX's number: the dtypes that are taken."""


_STEPS = 1 << 18  # nodes that bodies of loops may run in one call


class _Memory(threading.local):
    left: float = math.inf
    steps: int = _STEPS


_memory = _Memory()


@contextmanager
def limited(size: float) -> Iterator[None]:
    """Within it, the arrays of a graph may take `size` bytes at a time."""
    before, _memory.left, _memory.steps = (_memory.left, _memory.steps), size, _STEPS
    try:
        yield
    finally:
        _memory.left, _memory.steps = before


def spend(count: int) -> None:
    """Count nodes that a loop is to run; ValueError beyond what one call may."""
    _memory.steps -= count
    if _memory.steps < 0:
        raise ValueError(f"its body takes too long: loops run at most {_STEPS:,} nodes in one call")


def room(shape: Sequence[int], itemsize: int = 8) -> tuple[int, ...]:
    """The shape, if there is room for an array of it; else ValueError."""
    if min(shape, default=0) < 0 or math.prod(max(n, 1) for n in shape) * itemsize > _memory.left:
        msg = f"an array of shape {tuple(shape)} must fit into the memory that is left ({_memory.left:,} bytes; load's `largest`)"
        raise ValueError(msg)
    return tuple(shape)


@functools.cache
def _itemsize(dtype: Any) -> int:
    return int("".join(c for c in str(dtype) if c.isdigit()) or 8) // 8


def take(x: Any) -> int:
    """Count an array as held; returns its bytes, which `give` takes back."""
    if not isinstance(x, Tensor):
        return 0
    size = x.size * _itemsize(x.dtype)
    if size > _memory.left:
        room(x.shape, _itemsize(x.dtype))
    _memory.left -= size
    return size


def give(size: int) -> None:
    """Bytes that are held no more."""
    _memory.left += size


def numbers(x: Any, kind: str) -> Any:
    """What is read as numbers: a list, or one number, or the name of a dtype."""
    if x is None or not kind:
        return x
    if isinstance(x, Tensor) and x.size > 1 << 20:
        raise ValueError(f"at most {1 << 20:,} numbers are read as sizes and the like, got {x.size:,}")
    found = x.tolist() if isinstance(x, Tensor) else x
    found = list(found) if isinstance(found, (list, tuple)) else [found]
    if kind == "DType" and isinstance(x, int) and not x:  # none is named, where one may be
        return None
    if kind == "DType":
        if found[0] not in DTYPES:
            raise ValueError(
                f"the data type must be one of {', '.join(DTYPES.values())}, got ONNX's {found[0]}"
            )
        return DTYPES[found[0]]
    if kind == "Number":
        return found[0][0] if isinstance(found[0], list) else found[0]
    return [int(n) if kind == "Ints" else float(n) for n in found]


@functools.cache
def kinds_of(row: Row) -> tuple[list[str], dict[str, str], bool, bool]:
    """What a row's parameters read as numbers: those by position, all by name; whether others may follow by position, and by name."""
    found = inspect.signature(row).parameters.values()
    kinds = {
        p.name: p.annotation if p.annotation in ("Ints", "Floats", "Number", "DType") else "" for p in found
    }
    placed = [kinds[p.name] for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (
        placed,
        kinds,
        any(p.kind is p.VAR_POSITIONAL for p in found),
        any(p.kind is p.VAR_KEYWORD for p in found),
    )


def call(row: Row, inputs: Sequence[Any], attributes: Mapping[str, Any], **facts: int) -> Any:
    """What a row gives for the inputs of a node. Arrays come to the one device that is not the host's, if any of them lies there."""
    order, kinds, more, _ = kinds_of(row)
    if len(inputs) > len(order) and not more:
        raise ValueError(f"it has {len(inputs)} inputs, of which {len(order)} are known")
    args = [numbers(x, k) for x, k in zip(inputs, order, strict=False)] + list(inputs[len(order) :])
    places = {x.device for x in args if isinstance(x, Tensor)}
    if len(places) > 1:
        place = next(p for p in places if p != "cpu")
        args = [x.to(place) if isinstance(x, Tensor) and x.device == "cpu" else x for x in args]
    return row(*args, **{n: v for n, v in facts.items() if n in kinds}, **attributes)
