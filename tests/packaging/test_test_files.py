"""Rules for the tests themselves."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))

# The compiler: what traces, fuses and runs machine code. Its own tests lie in tests/autograd, tests/backends and tests/cuda; conftest.py
# offers fixtures to the others (`compiled_at_once`, `threads`).
INTERNALS = ("anynet.autograd.jit", "anynet_backends.jit")
OWN = ("autograd/", "backends/", "cuda/test_programs.py", "conftest.py")


def imported(path: Path) -> set[str]:
    """The modules and names that a file imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(TESTS)))
def test_only_the_compilers_own_tests_use_its_internals(path: Path) -> None:
    if str(path.relative_to(TESTS)).startswith(OWN):
        return
    used = {n for n in imported(path) if any(n == i or n.startswith(f"{i}.") for i in INTERNALS)}
    assert not used, "what is public says the same, or a fixture of conftest.py offers it"


def test_the_rule_sees_every_way_to_import(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(
        "import anynet_backends.jit.scan\nfrom anynet_backends.jit import fusion\ndef f():\n    from anynet.autograd.jit.compile import x"
    )
    assert imported(path) == {
        "anynet_backends.jit.scan",
        "anynet_backends.jit.fusion",
        "anynet.autograd.jit.compile.x",
    }


def test_names_of_files_are_unique() -> None:
    # pytest imports test files by their name alone
    twice = [
        name for name, count in Counter(p.name for p in FILES if p.name != "conftest.py").items() if count > 1
    ]
    assert not twice


def test_names_of_files_say_a_topic() -> None:
    vague = {
        "basic",
        "extra",
        "extras",
        "helpers",
        "hot",
        "misc",
        "more",
        "new",
        "other",
        "others",
        "recent",
        "stuff",
        "whole",
    }
    assert [p.name for p in FILES if vague & set(p.stem.removeprefix("test_").split("_"))] == []
