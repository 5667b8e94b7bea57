"""The equations in docstrings: `python -m ci.equations` (or `make equations`) writes them from `anynet.equations`; a test compares.

Each function with an equation has a paragraph "Equation:" before its example; what is written there by hand is replaced. Classes have it
in ``__doc__`` when that is read (`anynet.equations.registry`), and not in their source.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anynet.nn.functional
import anynet.optim  # noqa: F401  for their equations
from anynet.equations.paragraphs import documented
from anynet.equations.reading import Equation, shared_form
from anynet.equations.registry import ENTRIES


def rewritten(source: str, equations: dict[str, Equation]) -> str:
    """The source of a module with the paragraphs in the docstrings of its classes and functions, by name."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name not in equations:
            continue
        if ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            equation = equations[node.name] if isinstance(node, ast.FunctionDef) else None
            lines[first:last] = documented(lines[first:last], equation)
    return "\n".join(lines) + "\n"


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
