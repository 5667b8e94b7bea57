"""Runs the blocks of a page in their order, with the same names: ```python as they stand, ```pycon as doctests.

As a script, for a page that registers things in the process: ``python tests/docs/page_blocks.py PAGE``.
"""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path
from typing import Any

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_page(path: Path) -> tuple[int, str]:
    """How many examples of doctests were run, and what went wrong."""
    names: dict[str, Any] = {"__name__": path.stem}
    said: list[str] = []
    count = 0
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if block[1] == "python":
            exec(compile("\n" * line + block[2], str(path), "exec"), names)
            continue
        found = doctest.DocTestParser().get_doctest(block[2], {}, path.name, str(path), line)
        found.globs = names
        count += (
            doctest.DocTestRunner(optionflags=FLAGS).run(found, out=said.append, clear_globs=False).attempted
        )
    return count, "".join(said)


if __name__ == "__main__":
    attempted, wrong = run_page(Path(sys.argv[1]))
    print(wrong or f"{attempted} examples")
    sys.exit(bool(wrong) or not attempted)
