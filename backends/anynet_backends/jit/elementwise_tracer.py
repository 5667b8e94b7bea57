"""Element-wise functions of long arrays, traced with abstract values and compiled into one loop over memory.

An optimizer's update is written as array operations on long vectors. Each of them alone would read and write the vectors once. Here
the function is traced: it is called with abstract arrays, which record its operations. The extra `numba` then compiles the trace
into one fused loop of machine code, block by block, so that temporaries stay in the cache. Numbers (rates, powers of β) are inputs
of the trace, so that one compilation serves every step. The bits are those of the array operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit import availability, scan
from anynet_backends.numpy_namespace import largest, smallest

__all__ = ["elementwise"]

BLOCK = 1 << 14
"""Numbers worked on at a time; vectors of fewer than two blocks are not worth a trace."""


class _CallTrace:
    """The calls of a function: (ufunc, operands …, output). Operands are numbered: arrays, then temporaries from 0 up; Python numbers
    from −1 down."""

    def __init__(self, arrays: int) -> None:
        self.arrays = arrays
        self.calls: list[tuple[Any, ...]] = []
        self.numbers: list[float] = []
        self.registers = arrays
        self.free: list[int] = []

    def operand(self, x: Any) -> int:
        if isinstance(x, _AbstractArray):
            return x.place
        if isinstance(x, (int, float)):
            self.numbers.append(x)
            return -len(self.numbers)
        raise TypeError(type(x).__name__)

    def call(self, f: Any, *inputs: Any, out: _AbstractArray | None = None) -> _AbstractArray:
        codes = [self.operand(x) for x in inputs]
        if out is None:
            if self.free:
                place = self.free.pop()
            else:
                place = self.registers
                self.registers += 1
            out = _AbstractArray(self, place, place)
        self.calls.append((f, *codes, out.place))
        return out


class _AbstractArray:
    """An argument of the function, or a temporary, whose register is free again when the last reference to it is gone."""

    __slots__ = ("place", "register", "trace", "writable")

    def __init__(self, trace: _CallTrace, place: int, register: int = -1, writable: bool = True) -> None:
        self.trace, self.place, self.register, self.writable = trace, place, register, writable

    def __del__(self) -> None:
        if self.register >= 0:
            self.trace.free.append(self.register)

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is not Ellipsis or not self.writable:
            raise IndexError(key)
        if value is not self:
            self.trace.calls.append((np.copyto, self.place, self.trace.operand(value), "unsafe"))

    def __neg__(self) -> _AbstractArray:
        return self.trace.call(np.negative, self)

    def __abs__(self) -> _AbstractArray:
        return self.trace.call(np.abs, self)

    def __bool__(self) -> bool:
        raise TypeError("a decision")

    def __eq__(self, other: object) -> bool:
        raise TypeError("a comparison")

    __hash__ = None  # type: ignore[assignment]


def _operators() -> None:
    def define(name: str, ufunc: np.ufunc) -> None:
        def forward(self: _AbstractArray, other: Any) -> _AbstractArray:
            return self.trace.call(ufunc, self, other)

        def backward(self: _AbstractArray, other: Any) -> _AbstractArray:
            return self.trace.call(ufunc, other, self)

        def in_place(self: _AbstractArray, other: Any) -> _AbstractArray:
            return self.trace.call(ufunc, self, other, out=self if self.writable else None)

        for prefix, function in (("", forward), ("r", backward), ("i", in_place)):
            setattr(_AbstractArray, f"__{prefix}{name}__", function)

    for name, ufunc in (
        ("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("truediv", np.true_divide),
    ):  # fmt: skip
        define(name, ufunc)


_operators()


class _Namespace:
    """The namespace that the function is called with: its functions are traced."""

    name = "numpy"

    def __init__(self, trace: _CallTrace) -> None:
        self.trace = trace

    def __getattr__(self, name: str) -> Any:
        f = _FUNCTIONS[name]
        return lambda *args: self.trace.call(f, *args)

    def asarray(self, x: Any, *, copy: bool | None = None) -> Any:
        """The array itself: operations on a read-only one make new arrays anyway."""
        if copy and x.writable:
            raise TypeError("a copy of what may be written")
        return x


_FUNCTIONS = {
    "sqrt": np.sqrt, "abs": np.abs, "sign": np.sign, "square": np.square, "exp": np.exp, "log": np.log, "tanh": np.tanh,
    "reciprocal": np.reciprocal, "maximum": largest, "minimum": smallest, "negative": np.negative,
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide,
}  # fmt: skip


def elementwise(
    function: Callable[..., None],
    arrays: tuple[Array, ...],
    read_only: tuple[int, ...],
    cache: dict[Any, Any],
) -> bool:
    """Call ``function(xp, *arrays)``, which writes into the arrays element by element but for those that `read_only` lists. False,
    and nothing has happened, where it cannot be traced or compiled, or where the vectors are short. `cache` keeps what was
    compiled for these arrays."""
    if arrays[0].size < 2 * BLOCK or cache.get("refused") or not availability.available():
        return False
    trace = _CallTrace(len(arrays))
    try:
        function(
            _Namespace(trace),
            *[_AbstractArray(trace, i, writable=i not in read_only) for i in range(len(arrays))],
        )
    except Exception:  # an error of the function itself is raised again when it is called with arrays
        cache["refused"] = True
        return False
    key = tuple(trace.calls)
    made = cache.get(key)
    if made is None:
        if len(cache) > 8:
            cache.clear()
        made = cache[key] = _CompiledPass(trace, arrays)
    if made.blocks is None:
        cache["refused"] = True
        return False
    made.numbers[:] = trace.numbers
    made.blocks()
    for f, args in made.rest:
        f(*args)
    return True


class _CompiledPass:
    """The traced calls on arrays that stay where they are, with new numbers each time."""

    def __init__(self, trace: _CallTrace, arrays: tuple[Array, ...]) -> None:
        size, dtype = arrays[0].size, arrays[0].dtype
        first, count = trace.arrays, len(trace.numbers)
        self.numbers = np.zeros(count, dtype)
        cells = tuple(self.numbers[i, ...] for i in range(count))
        width = min(BLOCK, size // 4)
        room = tuple(np.empty(width, dtype) for _ in range(trace.registers - first))

        def operand(code: Any, operands: tuple[Array, ...]) -> Any:
            """In the order of `scan`: arrays, numbers, temporaries."""
            if isinstance(code, str):
                return code
            return operands[code if 0 <= code < first else first - code - 1 if code < 0 else code + count]

        def body(call: Any, *operands: Array) -> None:
            for f, *codes in trace.calls:
                call(f, *[operand(code, operands) for code in codes])

        def places(start: int) -> tuple[Array, ...]:
            return tuple([a[start : start + width] for a in arrays])

        whole = size - size % width
        self.blocks = scan.bind_scan(body, places, range(0, whole, width), cells, room, apart=True)
        self.rest: list[tuple[Any, tuple[Any, ...]]] = []  # the calls on what is left after the last block
        if whole < size:
            end = (*places(whole), *cells, *(a[: size - whole] for a in room))
            body(lambda f, *args: self.rest.append((f, args)), *end)
        self.kept = cells, room  # their addresses are in the blocks
