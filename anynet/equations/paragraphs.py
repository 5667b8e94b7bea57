"""The paragraph "Equation:" of a docstring, before its example."""

from __future__ import annotations

import textwrap
from typing import Any

from anynet.equations.reading import Equation, shared_form
from anynet.equations.registry import ENTRIES

__all__ = ["HEADING", "documented", "with_equation"]

HEADING = "Equation:"
_WIDTH = 126


def with_equation(text: str, owner: type) -> str:
    """The docstring of a class with the equation that it, or the class whose docstring it shares, has."""
    holder: Any = next((base for base in owner.__mro__ if base in ENTRIES), None)
    return text if holder is None else "\n".join(documented(text.split("\n"), shared_form(holder)))


def _block(equation: Equation, indent: str) -> list[str]:
    """The lines of the paragraph."""
    lines = [f"{indent}{HEADING}"]
    for line in equation.text().splitlines():
        lines += textwrap.wrap(
            line,
            _WIDTH,
            initial_indent=f"{indent}  ",
            subsequent_indent=f"{indent}      ",
            break_on_hyphens=False,
        )
    where = "; ".join(f"{name}: {meaning}" if meaning else name for name, meaning in equation.where())
    if equation.spatial:
        where += f"; one for each spatial axis: {', '.join(equation.spatial)}"
    if where:
        lines += textwrap.wrap(
            f"({where})",
            _WIDTH,
            initial_indent=f"{indent}  ",
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
        )
    return [*lines, ""]


def documented(text: list[str], equation: Equation | None) -> list[str]:
    """The lines of a docstring with the paragraph before the example; without one for None."""
    at = next((k for k, line in enumerate(text) if line.strip() == HEADING), None)
    if at is not None:
        end = next(k for k in range(at, len(text)) if not text[k].strip())
        text = [*text[:at], *text[end + 1 :]]
    place = next((k for k, line in enumerate(text) if line.lstrip().startswith(">>>")), None)
    if place is None or equation is None:
        return text
    indent = text[place][: len(text[place]) - len(text[place].lstrip())]
    before = [""] if place and text[place - 1].strip() else []
    return [*text[:place], *before, *_block(equation, indent), *text[place:]]
