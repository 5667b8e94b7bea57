"""Every name that docs/porting.md promises is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import anynet as an

PAGE = (Path(__file__).parents[2] / "docs" / "porting.md").read_text(encoding="utf-8")
ROOTS = {"an": an, "nn": an.nn, "F": an.nn.functional, "optim": an.optim}
PROMISED = sorted(
    {
        name
        for line in PAGE.splitlines()
        if line.startswith("| ")
        for name in re.findall(r"`((?:an|nn|F|optim)\.[\w.]+)`", line.split(" | ", 1)[-1])
    }
)


def test_there_are_promises():
    assert len(PROMISED) > 100


@pytest.mark.parametrize("name", PROMISED)
def test_is_there(name):
    value = ROOTS[name.split(".")[0]]
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    assert callable(value)
