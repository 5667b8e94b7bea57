"""``torch._foreach_…``: one operation on lists of tensors, which optimizers are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from anynet.torch.table import TABLE
from anynet.torch.tensor import Tensor

__all__ = ["FOREACH"]

_OF_ONE: Final = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "frac", "lgamma", "log", "log10",
    "log1p", "log2", "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
_OF_SEVERAL: Final = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "clamp_max",
    "clamp_min",
    "lerp",
    "addcmul",
    "addcdiv",
)
# which arguments may be a list with a value for each tensor
_BOUNDS: Final = {"maximum": "clamp_min", "minimum": "clamp_max"}


def _parts(tensors: Any, args: Any, kwargs: Any) -> Iterator[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Each tensor with its arguments: of a list its own, of anything else the same for all."""

    def part(value: Any, i: int) -> Any:
        return value[i] if isinstance(value, (list, tuple)) else value

    for name, value in (*enumerate(args), *kwargs.items()):
        if isinstance(value, (list, tuple)) and len(value) != len(tensors):
            msg = f"Tensor lists must have the same number of tensors, got {len(tensors)} and {len(value)} for argument {name}"
            raise RuntimeError(msg)
    for i, x in enumerate(tensors):
        yield x, tuple(part(a, i) for a in args), {k: part(a, i) for k, a in kwargs.items()}


def _one(name: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name in ("addcmul", "addcdiv") and len(args) == 3:
        *args, kwargs["value"] = args  # type: ignore[assignment]
    if name in _BOUNDS and not isinstance((*args, *kwargs.values())[0], Tensor):
        name = _BOUNDS[name]
    return TABLE[name].function(x, *args, **kwargs)


def _each(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return [_one(name, x, own, named) for x, own, named in _parts(self, args, kwargs)]

    return call


def _each_in_place(name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        for x, own, named in _parts(self, args, kwargs):
            x.copy_(_one(name, x, own, named))

    return call


def _norm(self: Any, ord: Any = 2, dtype: Any = None) -> Any:
    return [TABLE["norm"].function(x.flatten(), ord, dtype=dtype) for x in self]


def _zero_(self: Any) -> None:
    for x in self:
        x.zero_()


def _copy_(self: Any, src: Any, non_blocking: bool = False) -> None:
    for x, y in zip(self, src, strict=True):
        x.copy_(y)


FOREACH: Final[dict[str, Callable[..., Any]]] = {
    **{f"_foreach_{name}": _each(name) for name in (*_OF_ONE, *_OF_SEVERAL)},
    **{f"_foreach_{name}_": _each_in_place(name) for name in (*_OF_ONE, *_OF_SEVERAL)},
    "_foreach_norm": _norm, "_foreach_zero_": _zero_, "_foreach_copy_": _copy_,
}  # fmt: skip
"""Functions by name."""
for _name, _function in FOREACH.items():
    _function.__name__ = _function.__qualname__ = _name
    _function.__doc__ = f"`{_name.removeprefix('_foreach_')}` of each tensor of a list."
