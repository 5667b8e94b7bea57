"""The walk-throughs of CONTRIBUTING.md, each followed in a copy of the repository: they work, and cost what the page says.

A paragraph before a block of code says what to do with it: "New file `path`" creates the file, "In `path`" appends to it, "Then"
runs the block, as Python or in a shell, in the copy.
"""

from __future__ import annotations

import filecmp
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "CONTRIBUTING.md"
LIBRARY = ("anynet/", "backends/")
CASES = "anynet/testing/cases/"

_BLOCK = re.compile(
    r"^(?P<said>[^\n]+)\n\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_COST = re.compile(r"^\| \[(?P<title>[^\]]+)\]\([^)]*\) \| (?P<files>\d+) ", re.MULTILINE)


class Step(NamedTuple):
    """One block of a walk-through: create a file, append to one, or run."""

    action: str
    path: str
    text: str
    language: str


def walkthroughs() -> dict[str, list[Step]]:
    """The steps of each section called "Add …"."""
    found: dict[str, list[Step]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]:
        title = section.partition("\n")[0].strip()
        steps = found[title] = []
        for block in _BLOCK.finditer(section):
            said, path = block["said"], re.search(r"`([\w/.-]+\.py)`", block["said"])
            if said.startswith("Then"):
                steps.append(Step("run", "", block["text"], block["language"]))
            else:
                assert path is not None, f"{title}: no path in {said!r}"
                action = "create" if said.startswith("New file") else "append"
                assert action == "create" or said.startswith("In "), f"{title}: {said!r}"
                steps.append(Step(action, path[1], block["text"], block["language"]))
    return found


def costs() -> dict[str, int]:
    """How many of the library's files each change takes, as the table on the page says."""
    return {m["title"]: int(m["files"]) for m in _COST.finditer(PAGE.read_text(encoding="utf-8"))}


WALKTHROUGHS = walkthroughs()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what a change touches."""
    for name in ("anynet", "backends", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def changed(copy: Path) -> set[str]:
    """The files of the library that are new or other than they were, without the cases of its tests."""
    paths = {
        str(p.relative_to(copy))
        for p in copy.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.suffix == ".py"
    }
    return {
        p for p in paths
        if not p.startswith(("tests/", CASES)) and not ((ROOT / p).exists() and filecmp.cmp(ROOT / p, copy / p, shallow=False))
    }  # fmt: skip


def run(step: Step, copy: Path) -> None:
    """Run a block as Python or by the shell."""
    folders = [str(copy), str(copy / "backends"), str(copy / "tests")]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }  # fmt: skip
    command = (
        [sys.executable, "-W", "error", "-c", step.text]
        if step.language == "python"
        else ["sh", "-e", "-c", step.text]
    )
    done = subprocess.run(command, capture_output=True, text=True, cwd=copy, env=environment, timeout=300)
    assert done.returncode == 0, f"{step.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def install(copy: Path, name: str) -> None:
    """Put the entry point that the page shows where installing a package would."""
    lines = re.findall(
        r"^    (\[project\.entry-points\..*|\w+ = \".*\")$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    folder = copy / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    text = "\n".join(lines).replace("[project.entry-points.", "[").replace('"', "")
    (folder / "entry_points.txt").write_text(text, encoding="utf-8")
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")


def test_the_table_names_every_walkthrough() -> None:
    assert set(costs()) == {title for title in WALKTHROUGHS if title.startswith("Add ")}
    assert len(costs()) == 5


@pytest.mark.parametrize("title", [title for title in WALKTHROUGHS if title.startswith("Add ")])
def test_walkthrough(title: str, copy: Path) -> None:
    if title == "Add a backend":
        strict = importlib.util.find_spec("array_api_strict")
        if strict is None or strict.submodule_search_locations is None:
            pytest.skip("array-api-strict is not installed")
        # `quarry`, the library of the example: array-api-strict under another name, with types of its own
        shutil.copytree(strict.submodule_search_locations[0], copy / "tests" / "quarry")
        install(copy, "anynet-quarry")
    for step in WALKTHROUGHS[title]:
        path = copy / step.path
        if step.action == "create":
            assert not path.exists(), f"{step.path} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
        elif step.action == "append":
            before = path.read_text(encoding="utf-8")
            path.write_text(f"{before}\n\n{step.text}", encoding="utf-8")
        else:
            run(step, copy)
    assert len(changed(copy)) == costs()[title], changed(copy)
