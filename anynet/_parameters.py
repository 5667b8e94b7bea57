"""What a function's parameters are, read from its code: ``inspect.signature`` takes thirty times as long, and ``import anynet`` asks
for hundreds."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Parameters", "parameters_of"]


class Parameters(NamedTuple):
    """The names of parameters by kind, and the defaults of those that are given by keyword alone."""

    positional: tuple[str, ...]
    variadic: str | None
    keywords: tuple[str, ...]
    defaults: dict[str, Any]
    rest: str | None  # of **options

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of ``inspect.signature``."""
        several = () if self.variadic is None else (self.variadic,)
        return (*self.positional, *several, *self.keywords, *(() if self.rest is None else (self.rest,)))


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The parameters of a function, of the one inside where it is wrapped. A parameter without a default has ``inspect.Parameter.empty``.

    >>> parameters_of(lambda a, *b, c=1, d: a).names
    ('a', 'b', 'c', 'd')
    """
    inner: Any = function
    while "__wrapped__" in getattr(inner, "__dict__", ()) and "__signature__" not in inner.__dict__:
        inner = inner.__wrapped__
    if type(inner) is not types.FunctionType or "__signature__" in inner.__dict__:
        return _of_signature(inspect.signature(function))
    code, given = inner.__code__, inner.__kwdefaults__ or {}
    first = code.co_argcount
    last = first + code.co_kwonlyargcount
    names = code.co_varnames
    several, rest = bool(code.co_flags & inspect.CO_VARARGS), bool(code.co_flags & inspect.CO_VARKEYWORDS)
    keywords = names[first:last]
    return Parameters(
        names[:first],
        names[last] if several else None,
        keywords,
        {name: given.get(name, inspect.Parameter.empty) for name in keywords},
        names[last + several] if rest else None,
    )


def _of_signature(signature: inspect.Signature) -> Parameters:
    of: dict[Any, list[str]] = {}
    for p in signature.parameters.values():
        of.setdefault(p.kind, []).append(p.name)
    kinds = inspect.Parameter
    keywords = tuple(of.get(kinds.KEYWORD_ONLY, ()))
    return Parameters(
        (*of.get(kinds.POSITIONAL_ONLY, ()), *of.get(kinds.POSITIONAL_OR_KEYWORD, ())),
        next(iter(of.get(kinds.VAR_POSITIONAL, ())), None),
        keywords,
        {name: signature.parameters[name].default for name in keywords},
        next(iter(of.get(kinds.VAR_KEYWORD, ())), None),
    )
