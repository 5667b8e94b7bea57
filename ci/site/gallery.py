"""The pages of the gallery: each example with its picture, its figures, the command that makes them again, and its source."""

from __future__ import annotations

import ast
import json
import os
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from anynet.gallery.listing import Entry, entries, find

__all__ = ["with_examples", "write_gallery"]

_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = re.compile(r"<!-- example: (\w+) -->")


def write_gallery(folder: Path) -> None:
    """Write index.md and a page for each example into `folder`, which has the pictures that `examples.run_all` made."""
    folder.mkdir(parents=True, exist_ok=True)
    results = _ROOT / "examples" / "results.json"
    records = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    every = entries(_ROOT / "examples")
    index = [
        "# Gallery", "",
        "Each picture was made by the command on its page; what is to be reached and what was reached stands there, too. "
        "`anynet examples` lists them in a terminal.", "",
    ]  # fmt: skip
    for topic, members in groupby(every, key=lambda e: e.topic):
        index += [f"## {topic[:1].upper()}{topic[1:]}", ""]
        for entry in members:
            picture = folder / f"{entry.name}.svg"
            index += [f"**[{entry.name.replace('_', ' ')}]({entry.name}.md)**: {entry.about}", ""]
            if picture.exists():
                index += [f"[![{_plain(entry.about)}]({picture.name}){{width=420px}}]({entry.name}.md)", ""]
            (folder / f"{entry.name}.md").write_text(
                _page(entry, records.get(entry.name), picture), encoding="utf-8"
            )
    index += ["```{toctree}", ":hidden:", "", *(e.name for e in every), "```", ""]
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")


def with_examples(text: str, gallery: Path, here: Path) -> str:
    """A page of Markdown with a picture and the command for each ``<!-- example: NAME -->``. ValueError for an unknown name."""

    results = _ROOT / "examples" / "results.json"
    records = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}

    def shown(found: re.Match[str]) -> str:
        entry = find(found[1], _ROOT / "examples")
        near = os.path.relpath(gallery, here)
        picture = (
            f"![{_plain(entry.about)}]({near}/{entry.name}.svg)\n\n"
            if (gallery / f"{entry.name}.svg").exists()
            else ""
        )
        about = f"[{entry.about}]({near}/{entry.name}.md)"
        figures = "; ".join(_figure(f) for f in records.get(entry.name, {"figures": []})["figures"])
        words = f" Figures: {figures}." if figures else ""
        return f"{picture}{about}{words} Made again by `anynet example {entry.name}`."

    return _EXAMPLE.sub(shown, text)


def _figure(figure: Any) -> str:
    """A figure in a few words, for a chapter: what it is, and what was to be reached."""
    wanted = f" (to reach: {figure['to_reach']})" if figure["to_reach"] else ""
    missed = ", **not reached**" if figure["reached"] is False else ""
    return f"{figure['name'].replace('|', chr(92) + '|')} {figure['written']}{wanted}{missed}"


def _plain(text: str) -> str:
    return "".join(c for c in text if c not in "[]`*")


def _page(entry: Entry, record: Any, picture: Path) -> str:
    source = entry.path.read_text(encoding="utf-8")
    about = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[2]
    lines = [f"# {entry.name.replace('_', ' ').capitalize()}", "", entry.about, "", about, ""]
    if picture.exists():
        lines += [f"![{_plain(entry.about)}]({picture.name})", ""]
    lines += ["Made by", "", "```", f"anynet example {entry.name}", "```", ""]
    if record is not None:
        lines += ["| figure | to reach | reached | |", "| --- | --- | --- | --- |"]
        state = {True: "reached", False: "**not reached**", None: ""}
        lines += [
            f"| {f['name']} | {f['to_reach']} | {f['written']} | {state[f['reached']]} |"
            for f in record["figures"]
        ]
        lines += ["", f"Seed {record.get('seed', 0)}, {record['seconds']} s on one thread.", ""]
        lines += [
            f"{f['name']}: {f['tried']}\n"
            for f in record["figures"]
            if f["reached"] is False and f.get("tried")
        ]
        lines += [
            f"Source of the figure *{f['name']}*: {f['source']}\n"
            for f in record["figures"]
            if f.get("source")
        ]
    lines += ["```python", source.rstrip(), "```", ""]
    return "\n".join(lines)
