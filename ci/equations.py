"""The equations in docstrings: `python -m ci.equations` (or `make equations`) writes them from `anynet.equations`; a test compares.

Each class and function with an equation has a paragraph "Equation:" before its example; what is written there by hand is replaced.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anynet.nn.functional
import anynet.optim  # noqa: F401  for their equations
from anynet.equations.reading import Equation, shared_form
from anynet.equations.registry import ENTRIES

HEADING = "Equation:"
_WIDTH = 126


def block(equation: Equation, indent: str) -> list[str]:
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


def rewritten(source: str, equations: dict[str, Equation]) -> str:
    """The source of a module with the paragraphs in the docstrings of its classes and functions, by name."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name not in equations:
            continue
        if ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            lines[first:last] = documented(lines[first:last], equations[node.name])
    return "\n".join(lines) + "\n"


def documented(text: list[str], equation: Equation) -> list[str]:
    """The lines of a docstring with the paragraph before the example."""
    at = next((k for k, line in enumerate(text) if line.strip() == HEADING), None)
    if at is not None:
        end = next(k for k in range(at, len(text)) if not text[k].strip())
        text = [*text[:at], *text[end + 1 :]]
    place = next((k for k, line in enumerate(text) if line.lstrip().startswith(">>>")), None)
    if place is None:
        return text
    indent = text[place][: len(text[place]) - len(text[place].lstrip())]
    before = [""] if place and text[place - 1].strip() else []
    return [*text[:place], *before, *block(equation, indent), *text[place:]]


def modules() -> dict[Path, list[Any]]:
    """The classes and functions that have equations, by file."""
    found: dict[Path, list[Any]] = {}
    for thing in ENTRIES:
        module = importlib.import_module(thing.__module__)
        if module.__name__.startswith("anynet."):
            path = inspect.getsourcefile(module)
            assert path is not None
            found.setdefault(Path(path), []).append(thing)
    return found


def changes() -> Iterator[tuple[Path, str, str]]:
    """Each file with what it says, and what it should say."""
    for path, things in modules().items():
        source = path.read_text(encoding="utf-8")
        yield path, source, rewritten(source, {thing.__name__: shared_form(thing) for thing in things})


def main() -> None:
    for path, source, new in changes():
        if source != new:
            path.write_text(new, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    sys.exit(main())
