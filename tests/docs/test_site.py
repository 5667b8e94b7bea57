"""The pages of the site: their blocks are run, the examples and pages that they name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import page_blocks
import pytest

from anynet.gallery.listing import find
from optional_libraries import needs

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
EXTRA = {"onnx.md": "onnx"}
"""Pages whose blocks need the library of an extra of the same name."""
RUN = [p for p in PAGES if "```pycon" in (DOCS / p).read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page: str) -> None:
    if page in EXTRA:
        needs(EXTRA[page], EXTRA[page])
    if "```python" in (DOCS / page).read_text(
        encoding="utf-8"
    ):  # defines and registers things: not in this process
        pytest.importorskip("array_api_strict", reason="needs array-api-strict of the extra test")
        command = [sys.executable, str(Path(page_blocks.__file__)), str(DOCS / page)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    attempted, said = page_blocks.run_page(DOCS / page)
    assert attempted
    assert not said, said


@pytest.mark.parametrize("page", PAGES)
def test_examples_and_links_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name in re.findall(r"<!-- example: (\w+) -->", text):
        assert find(name).path.exists()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        made = target.startswith(("gallery/", "../gallery/", "reference/", "../reference/"))
        assert made or (DOCS / page).parent.joinpath(target).exists(), target


def test_there_is_a_chapter_for_each_part_of_the_mathematics() -> None:
    chapters = {p for p in PAGES if p.startswith("mathematics/")}
    assert len(chapters) == 12
    index = (DOCS / "mathematics" / "index.md").read_text(encoding="utf-8")
    assert all(Path(c).stem in index for c in chapters)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.startswith("mathematics/") and not p.endswith("index.md")]
)
def test_each_section_of_a_chapter_has_formula_lines_that_run_and_picture(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert sections
    parts = {"formula": "$", "lines": "```pycon", "picture": "<!-- example:"}
    lacking = {
        (s.partition("\n")[0], part) for s in sections for part, sign in parts.items() if sign not in s
    }
    of_programs = {
        ("What a program looks like", "formula"),
        ("What a program looks like", "picture"),
        ("Modes", "picture"),
    }
    assert lacking == (of_programs if page == "mathematics/chain-rule.md" else set())
