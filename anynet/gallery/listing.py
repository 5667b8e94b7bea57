"""The examples that are here: found and described without being run."""

from __future__ import annotations

import ast
import io
import zipfile
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath

from anynet._hints import nearest

__all__ = ["Entry", "entries", "find", "folder"]


@dataclass(frozen=True)
class Entry:
    """An example: its name, its file, the first line of its docstring, its topic."""

    name: str
    path: Traversable
    about: str
    topic: str


def folder() -> Traversable:
    """Where the examples are: an archive in the installed package, or the folder ``examples`` of the repository."""
    installed = Path(__file__).with_name("examples.zip")
    if not installed.is_file():
        return Path(__file__).parents[2] / "examples"
    whole = zipfile.ZipFile(
        io.BytesIO(zipfile.Path(installed, "examples.zip").read_bytes())
    )  # see hatch_build.py
    whole.filename = str(installed)
    return zipfile.Path(whole)


def entries(where: Traversable | None = None) -> list[Entry]:
    """Every example, by topic, then by name.

    A file is an example where it declares one: a function under ``@example(topic=…, …)``.
    """
    found = (_entry(path) for path in (where or folder()).iterdir() if path.name.endswith(".py"))
    return sorted((entry for entry in found if entry is not None), key=lambda e: (e.topic, e.name))


def find(name: str, where: Traversable | None = None) -> Entry:
    """The example of a name; ValueError with the nearest name where there is none."""
    known = {entry.name: entry for entry in entries(where)}
    wanted = name.removesuffix(".py").replace("-", "_")
    if wanted not in known:
        msg = f"unknown example {name!r}{nearest(wanted, known)}"
        raise ValueError(msg)
    return known[wanted]


def _entry(path: Traversable) -> Entry | None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        for decorator in getattr(node, "decorator_list", ()):
            if not (isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "example"):
                continue
            given = {k.arg: k.value for k in decorator.keywords}
            topic = given.get("topic")
            about = (ast.get_docstring(tree) or "").partition("\n\n")[0]
            said = str(topic.value) if isinstance(topic, ast.Constant) else ""
            return Entry(PurePath(path.name).stem, path, " ".join(about.split()), said)
    return None
