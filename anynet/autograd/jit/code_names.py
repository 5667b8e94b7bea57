"""Names in the bytecode of a function: what it may read, and where a name stands."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["line_of", "names_of"]

_DYNAMIC: Final = frozenset(("__dict__", "getattr", "hasattr", "setattr", "vars"))


@functools.cache
def names_of(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Global names and names of attributes in a function's code, with those of the functions inside it; and strings that
    may be names of attributes."""
    names: set[str] = set()
    attributes: set[str] = set()
    asked: set[str] = set()
    for one in nested_codes(code):
        for step in dis.get_instructions(one):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                names.add(step.argval)
            elif step.opname == "LOAD_METHOD" or step.opname.endswith("_ATTR"):
                attributes.add(step.argval)
        if not _DYNAMIC.isdisjoint(one.co_names):
            asked |= {c for c in one.co_consts if isinstance(c, str) and c.isidentifier()}
    return frozenset(names), frozenset(attributes), frozenset(asked)


def nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from nested_codes(inner)


def line_of(codes: Iterable[types.CodeType], name: str) -> str:
    """``file:line`` where a name stands in some code: where it is written, else where it is first read, else where the
    first function begins."""
    found: list[tuple[bool, str]] = []
    for outer in codes:
        if not found:
            found.append((False, f"{outer.co_filename}:{outer.co_firstlineno}"))
        for code in nested_codes(outer):
            line = code.co_firstlineno
            for step in dis.get_instructions(code):
                if step.starts_line:
                    line = getattr(step, "line_number", None) or step.starts_line
                if step.argval == name:
                    written = step.opname.startswith(("STORE", "DELETE"))
                    if written or len(found) == 1:
                        found.append((written, f"{code.co_filename}:{line}"))
    if not found:
        return "?"
    return next((line for written, line in found if written), found[-1][1])
