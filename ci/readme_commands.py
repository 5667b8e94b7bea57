"""Prints the commands of README.md's section "Two commands", a line each, as they are written there: CI runs these."""

from __future__ import annotations

import pathlib
import re
import sys

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def commands(text: str) -> list[str]:
    """The two commands: the indented lines, or those in code blocks, of the section."""
    section = re.search(r"^## Two commands\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    found = re.findall(
        r"^(?:    |\$ )?((?:pip|python\S* -m pip) install .+)$", section[1] if section else "", re.MULTILINE
    )
    if len(found) != 2:
        msg = (
            f"README.md, section 'Two commands': must have two lines that begin with pip install, got {found}"
        )
        raise SystemExit(msg)
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(commands(README.read_text(encoding="utf-8"))) + "\n")
