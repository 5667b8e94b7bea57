"""The operators of Tensor: each is the standard's function of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.ops import elementwise as e
from anynet.ops.indexing import replace
from anynet.ops.linear import matmul
from anynet.tensor import Tensor
from anynet_backends import TYPES, backend_of

_SCALARS = frozenset((bool, int, float, complex))


def _known(x: Any) -> bool:
    """Whether x can be the other operand of a Tensor's operator."""
    t = type(x)
    if t in _SCALARS or t in TYPES or isinstance(x, Tensor):
        return True
    try:
        backend_of(x)
    except TypeError:
        return False
    return True


def _install(
    name: str, function: Callable[[Any, Any], Any], *, reflected: bool = True, inplace: bool = True
) -> None:
    def forward(self: Tensor, other: Any, /) -> Any:
        return function(self, other) if _known(other) else NotImplemented

    def backward(self: Tensor, other: Any, /) -> Any:
        return function(other, self) if _known(other) else NotImplemented

    def update(self: Tensor, other: Any, /) -> Any:
        return replace(self, function(self, other)) if _known(other) else NotImplemented

    setattr(Tensor, f"__{name}__", forward)
    if reflected:
        setattr(Tensor, f"__r{name}__", backward)
    if inplace:
        setattr(Tensor, f"__i{name}__", update)


for _name, _function in {
    "add": e.add, "sub": e.subtract, "mul": e.multiply, "truediv": e.divide, "floordiv": e.floor_divide,
    "mod": e.remainder, "pow": e.pow, "matmul": matmul, "and": e.bitwise_and, "or": e.bitwise_or,
    "xor": e.bitwise_xor, "lshift": e.bitwise_left_shift, "rshift": e.bitwise_right_shift,
}.items():  # fmt: skip
    _install(_name, _function)  # type: ignore[arg-type]
for _name, _function in {
    "eq": e.equal, "ne": e.not_equal, "lt": e.less, "le": e.less_equal, "gt": e.greater, "ge": e.greater_equal,
}.items():  # fmt: skip
    _install(_name, _function, reflected=False, inplace=False)
for _name, _unary in {"neg": e.negative, "pos": e.positive, "abs": e.abs, "invert": e.bitwise_invert}.items():
    setattr(Tensor, f"__{_name}__", (lambda f: lambda self: f(self))(_unary))
