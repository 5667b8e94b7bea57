"""Calls of a function that is compiled, with its arguments as leaves, and the leaves of what it returns: how each is made from the results
of a replay and the arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.pytree import unflatten
from anynet.tensor import Leaf, Tensor, to_plain, wrap
from anynet_backends import Array

__all__ = ["Argument", "ArgumentView", "Output", "build_result", "called"]


def build_result(
    fresh: list[Leaf], structure: Any, constants: list[Any], results: list[Array], leaves: Sequence[Any] = ()
) -> Any:
    """What the function returns, and gradients where it leaves them: they are the last of a program's results."""
    first = len(results) - len(fresh)
    for leaf, array in zip(fresh, results[first:], strict=True):
        leaf.grad = wrap(array)
    values = [c.of(results, leaves) if type(c) in (Output, Argument, ArgumentView) else c for c in constants]
    return unflatten(structure, values)


def called(function: Callable[..., Any], leaves: list[Any], structure: Any) -> Any:
    """What a function gives for the leaves of its arguments: of positional and keyword arguments, or so many Tensors alone."""
    if type(structure) is int:
        return function(*leaves)
    args, kwargs = unflatten(structure, leaves)
    return function(*args, **kwargs)


class Output:
    """A leaf of the result that the program computes: which output, and of which class a Tensor, or None for a plain array."""

    __slots__ = ("cls", "number")

    def __init__(self, number: int, cls: type[Tensor] | None) -> None:
        self.number = number
        self.cls = cls

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        return results[self.number] if self.cls is None else wrap(results[self.number], self.cls)


class Argument:
    """A leaf of the result that is an argument."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        return leaves[self.number]


class ArgumentView:
    """A leaf of the result that shares the memory of an argument: what makes it of the argument's array."""

    __slots__ = ("cls", "number", "views")

    def __init__(self, number: int, cls: type[Tensor] | None, views: list[Callable[[Array], Array]]) -> None:
        self.number, self.cls, self.views = number, cls, views

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        array = to_plain(leaves[self.number])
        for view in self.views:
            array = view(array)
        return array if self.cls is None else wrap(array, self.cls)
