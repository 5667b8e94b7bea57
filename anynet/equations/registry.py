"""Where equations stand: the decorator `equation`, and the table that it fills. Strings only, so that imports cost nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

__all__ = ["ENTRIES", "OPTIMIZER_SYMBOLS", "REDUCED", "REDUCED_GRADIENT", "Entry", "equation"]

T = TypeVar("T")


class Entry(NamedTuple):
    """What a decorator says, not yet parsed."""

    lines: tuple[Any, ...]  # texts, or the class or function whose equation it shares
    where: str
    gradient: str
    spatial: str
    result: str
    shared: str


ENTRIES: dict[Any, Entry] = {}
"""By class or function."""


class _Docstring:
    """A class's ``__doc__`` that is made when it is read: with the paragraph "Equation:" before its example."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get__(self, instance: object, owner: type) -> str:
        # by name: it reads this table, and the language, which imports do without
        paragraphs = importlib.import_module("anynet.equations.paragraphs")
        return str(paragraphs.with_equation(self.text, owner))


def equation(
    *lines: str | Any,
    where: str = "",
    gradient: str = "",
    spatial: str = "",
    result: str = "",
    shared: str = "",
) -> Callable[[T], T]:
    """A decorator that gives a class or function its equation: lines in the language of `anynet.equations`, what their symbols mean
    (`where`), the gradient as lines of the same kind, the names that stand for one number per spatial axis (`spatial`), and the
    symbols that the function returns (`result`; without it what the last line defines). `shared` is a `where` of many equations, of
    which holds what the lines use.

    In place of lines another class or function may be given, whose equation holds for this one, too; `where` then says which symbols
    are found elsewhere. A class's docstring shows it before its example.
    """

    def register(thing: T) -> T:
        ENTRIES[thing] = Entry(lines, where, gradient, spatial, result, shared)
        if isinstance(thing, type) and isinstance(thing.__doc__, str):
            thing.__doc__ = cast("str", _Docstring(thing.__doc__))
        return thing

    return register


REDUCED = 'L = mean(l) if reduction == "mean" else sum(l) if reduction == "sum" else l'
"""How losses come to one number; the gradient of each element is `REDUCED_GRADIENT`."""

REDUCED_GRADIENT = 'dl = 1 / size(l) if reduction == "mean" else 1'

OPTIMIZER_SYMBOLS = """
    G: the gradient at each step t = 1, 2, …
    p_start: the parameters at first
    η = lr
    β1 = betas[0]
    β2 = betas[1]
    ε = eps
    maximize
    λ = weight_decay
    λ1 = l1
    decoupled = decoupled_weight_decay
    μ = momentum
    nesterov
"""
"""What symbols mean in the equations of all optimizers."""
