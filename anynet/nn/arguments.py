"""The arguments of layers, checked against the types that their constructors name, before anything is made.

A layer's ``p: float`` refuses ``"0.5"`` as *Dropout: p must be a number, got '0.5'*, and a misspelt keyword is answered with the nearest
one. Constructors outside of anynet are left alone.
"""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet._hints import nearest

__all__ = ["check_arguments"]

Test = Callable[[Any], bool]


def _integer(x: Any) -> bool:
    return isinstance(x, numbers.Integral) and not isinstance(x, bool)


def _number(x: Any) -> bool:
    return (isinstance(x, numbers.Real) and not isinstance(x, bool)) or (
        getattr(x, "shape", None) == () and hasattr(x, "__float__")
    )


def _flag(x: Any) -> bool:
    return isinstance(x, numbers.Integral) or (getattr(x, "shape", None) == () and hasattr(x, "__bool__"))


KINDS: dict[str, tuple[str, Test]] = {
    "int": ("an integer", _integer),
    "float": ("a number", _number),
    "bool": ("True or False", _flag),
    "str": ("a string", lambda x: isinstance(x, str)),
}


class _Signature(NamedTuple):
    names: tuple[str, ...]  # in their positions
    tests: dict[str, tuple[str, Test, bool]]  # by name: what it must be, the test, and whether None is taken
    keywords: bool  # whether any keyword is taken


@functools.cache
def _signature(cls: type) -> _Signature | None:
    init = cls.__init__  # type: ignore[misc]
    if not (getattr(init, "__module__", None) or "").startswith("anynet."):
        return None
    names, tests, keywords = [], {}, False
    for p in list(inspect.signature(init).parameters.values())[1:]:
        if p.kind is p.VAR_KEYWORD:
            keywords = True
        elif p.kind is not p.VAR_POSITIONAL:
            if p.kind is not p.KEYWORD_ONLY:
                names.append(p.name)
            base, none, _ = str(p.annotation).partition(" | None")
            what, test = KINDS.get(base, ("", lambda _: True))
            tests[p.name] = what, test, bool(none)
    return _Signature(tuple(names), tests, keywords)


def check_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError for an argument of a type that the constructor of `cls` cannot mean, or a keyword that it does not have."""
    signature = _signature(cls)
    if signature is None:
        return
    for name, value in (*zip(signature.names, args, strict=False), *kwargs.items()):
        test = signature.tests.get(name)
        if test is None:
            if not signature.keywords:
                msg = f"{cls.__name__}: there is no argument {name!r}{nearest(name, signature.tests)}"
                raise TypeError(msg)
        elif not test[1](value) and not (value is None and test[2]):
            msg = f"{cls.__name__}: {name} must be {test[0]}{' or None' if test[2] else ''}, got {value!r}"
            raise TypeError(msg)
