"""The pages say what is so: README's code runs, links lead somewhere, what is made from results and imports is up to date."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from ci import architecture, readme, structure

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tests" / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    made = ("gallery/", "reference/")  # by python -m ci.site
    missing = [
        link
        for link in links
        if link and "://" not in link and not link.startswith(made) and not (page.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "architecture.md"], ids=lambda p: p.name
)
def test_files_that_are_named_exist(page):
    """A name with a slash between backticks is a path from the root, or from the folder that a table names."""
    names = re.findall(
        r"`((?:anynet|backends|tests|docs|ci|examples)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    assert names or page.name == "README.md"
    assert not [name for name in names if not (ROOT / name).exists()]


def test_the_code_in_the_readme_runs():
    code = "\n".join(
        re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    accuracy = float(re.findall(r"'accuracy': ([\d.]+)", run.stdout)[-1])
    assert accuracy > 0.95


def test_the_table_of_speed_is_that_of_the_results():
    text = readme.README.read_text(encoding="utf-8")
    assert readme.with_speed(text) == text, "run python -m ci.readme"


def test_the_picture_of_the_rooms_is_what_the_imports_say():
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.draw(), (
        "run python -m ci.architecture"
    )


def test_the_structure_has_no_faults():
    assert not structure.faults()
