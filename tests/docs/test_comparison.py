"""docs/comparison.md: each test that it names exists, and each row names one."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "comparison.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(\w+(?:/\w+)+)::(test_\w+)`", PAGE)))


@cache
def text_of(file: str) -> str:
    path = TESTS / f"{file}.py"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^ *def {test}\(", text_of(file), re.MULTILINE), f"tests/{file}.py has no {test}"


def test_each_row_names_a_test() -> None:
    rows = [
        line
        for line in PAGE.splitlines()
        if re.match(r"\| (?!---|expectation|\| here|it was)", line) and line.count("|") > 3
    ]
    assert len(rows) > 60
    assert [row for row in rows if "::test_" not in row] == []
