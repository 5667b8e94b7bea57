"""Figures of the structure, and what must be so: `python -m ci.structure` prints them and fails where a rule is broken.

No circle of imports; no function over 60 lines without a comment above it (or above its decorators) that begins with "# Over 60 lines"
and says why; no import inside a function without a comment beside it that says why.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from ci.architecture import ROOT, imported, modules

LONGEST = 60  # lines of a function, with its decorators' lines left out


def circles() -> list[list[str]]:
    """The groups of modules that import each other (Tarjan's strongly connected components)."""
    known = modules()
    graph = {name: sorted(set(imported(path, known)) - {name}) for name, path in known.items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in graph[module]:
            if target not in order:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], order[target])
        if low[module] == order[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for module in graph:
        if module not in order:
            visit(module)
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min((node.lineno, *(decorator.lineno for decorator in node.decorator_list)))


def equation_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the docstring that `ci.equations` writes."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    return sum(p.count("\n") + 2 for p in paragraphs if p.startswith("Equation:\n"))


def long_functions() -> Iterator[tuple[str, int, bool]]:
    """Place, lines and whether a reason stands beside it, of each function with more than 60 lines of code."""
    for path in modules().values():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in functions(ast.parse(text)):
            length = (node.end_lineno or 0) - node.lineno + 1 - equation_lines(node)
            if length > LONGEST:
                above = first_line(node) - 2
                comments = []
                while above >= 0 and lines[above].strip().startswith("#"):
                    comments.append(lines[above].strip())
                    above -= 1
                yield (
                    f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
                    length,
                    any(c.startswith("# Over 60 lines") for c in comments),
                )


def inner_imports() -> Iterator[tuple[str, bool]]:
    """Place of each import inside a function, and whether a comment on its line or on the line above says why."""
    for path in modules().values():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        seen: set[int] = set()
        for function in functions(ast.parse(text)):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno not in seen:
                    seen.add(node.lineno)
                    at = (
                        node.lineno - 1
                    )  # a comment beside it, beside one of the imports above it, or above all of these
                    while "#" not in lines[at] and (
                        not lines[at - 1].strip()
                        or lines[at - 1].strip().startswith(("import ", "from ", "#"))
                    ):
                        at -= 1
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", "#" in lines[at]


def faults() -> list[str]:
    """Each place where a rule is broken."""
    return [
        *(f"circle of imports: {', '.join(group)}" for group in circles()),
        *(
            f"{length} lines, no reason beside it: {place}"
            for place, length, reason in long_functions()
            if not reason
        ),
        *(
            f"import inside a function, no reason beside it: {place}"
            for place, reason in inner_imports()
            if not reason
        ),
    ]


def main() -> int:
    found = faults()
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values())
    long = sum(1 for _ in long_functions())
    inner = sum(1 for _ in inner_imports())
    print(
        "\n".join(
            [
                *found,
                f"{lines} lines, {long} functions over {LONGEST} lines, {inner} imports inside functions",
            ]
        )
    )
    return len(found)


if __name__ == "__main__":
    sys.exit(main() > 0)
