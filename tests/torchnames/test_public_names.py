"""Of the names of `torch` and of tensors that public code uses, most are offered."""

from __future__ import annotations

import ast
import importlib
import warnings
from typing import Any

import pytest
from public_code import repository
from public_scripts import SCRIPTS
from test_public_models import FILES

import anynet.torch as ours

PLACES = sorted(
    {(s["repository"], s["script"].rpartition("/")[0]) for s in SCRIPTS.values()}
    | {(repo, module.split(".")[0]) for repo, module, *_ in FILES.values()}
)
"""The folders of the scripts and model files that are run."""


class Names(ast.NodeVisitor):
    """The paths of torch that a file uses, and the attributes that are no module's."""

    def __init__(self) -> None:
        self.local: dict[str, str] = {}
        self.paths: set[str] = set()
        self.attributes: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.split(".")[0]
            self.local[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names if node.module and not node.level else ():
            self.local[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            self.paths.add(f"{node.module}.{alias.name}")

    def path(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return self.local.get(node.id)
        above = self.path(node.value) if isinstance(node, ast.Attribute) else None
        return f"{above}.{node.attr}" if above is not None and isinstance(node, ast.Attribute) else None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self.path(node)
        if path is not None:
            self.paths.add(path)
            return
        self.attributes.add(node.attr)
        self.visit(node.value)


def there(room: Any, path: str) -> bool:
    """Whether a room has what a path of torch names."""
    for part in path.split(".")[1:]:
        try:
            room = (
                getattr(room, part)
                if hasattr(room, part)
                else importlib.import_module(f"{room.__name__}.{part}")
            )
        except (ImportError, AttributeError, RuntimeError):
            return False
    return True


@pytest.mark.parametrize("place", PLACES, ids="/".join)
def test_names_are_offered(place):
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    paths, attributes = set(), set()
    for file in (repository(place[0]) / place[1]).glob("*.py"):
        try:
            names = Names()
            names.visit(ast.parse(file.read_text(encoding="utf-8")))
        except SyntaxError:  # templates, Python 2
            continue
        paths |= {p for p in names.paths if p.split(".")[0] == "torch"}
        attributes |= names.attributes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        used = {p for p in paths if there(theirs, p)}
        methods = {a for a in attributes if not a.startswith("__") and hasattr(theirs.Tensor, a)}
        lacking = {p for p in used if not there(ours, p)} | {
            m for m in methods if not hasattr(ours.Tensor, m)
        }
    assert len(lacking) <= 0.2 * (len(used) + len(methods)), sorted(lacking)
