"""What type checkers say of code as users write it (tests/typing/*.py)."""

from __future__ import annotations

import importlib.util

import pytest

from ci import user_code


@pytest.mark.parametrize("checker", sorted(user_code.COMMANDS))
def test_right_code_passes_and_planted_mistakes_are_found(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    assert user_code.check(checker) == []
