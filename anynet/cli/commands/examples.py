"""anynet examples, anynet example NAME."""

from __future__ import annotations

import io
import json
import runpy
import sys
import tempfile
from contextlib import nullcontext, redirect_stdout
from itertools import groupby
from pathlib import Path

import click

from anynet.cli.grammar import Output, Result, Switch, Whole, argument, command, option
from anynet.gallery.listing import Entry, entries, find

__all__ = ["example", "examples"]


@command("examples")
def examples(output: Output) -> Result:
    """The examples that come with the package, by topic.

    \b
    anynet example NAME            runs one; quick=1 its short form
    anynet example NAME source=1   prints it: at most 100 lines
    """
    found = entries()
    width = max((len(entry.name) for entry in found), default=0)
    sections = []
    for topic, group in groupby(found, key=lambda entry: entry.topic):
        sections.append("\n".join([topic, *(f"  {entry.name:{width}}  {entry.about}" for entry in group)]))
    data = [{"name": e.name, "topic": e.topic, "about": e.about, "file": str(e.path)} for e in found]
    return Result(data, "\n\n".join(sections))


@command(
    "example",
    argument("name", "the name of an example (anynet examples lists them)", kind=click.STRING),
    argument("words", "what the example takes", count=-1, required=False),
    option("quick", Switch(), "the short form: a few seconds, another figure", False, shown="0"),
    option("device", click.STRING, "cpu, strict, torch:cpu, cuda, …", shown="ANYNET_DEVICE, else cpu"),
    option("seed", Whole(0), "of the random numbers", 0),
    option("out", click.Path(), "folder for the picture and the record", "gallery"),
    option("source", Switch(), "print the example instead of running it", False, shown="0"),
)
def example(
    output: Output,
    name: str,
    words: tuple[str, ...],
    quick: bool,
    device: str | None,
    seed: int,
    out: str,
    source: bool,
) -> Result:
    """Runs an example: progress, a picture, and its figure against the one to reach.

    \b
    anynet example mnist quick=1
    anynet example backprop_by_hand source=1
    """
    entry = find(name)
    if source:
        text = entry.path.read_text(encoding="utf-8")
        return Result({"name": entry.name, "file": str(entry.path), "source": text}, text.rstrip("\n"))
    arguments = [*(["--quick"] if quick else []), f"--seed={seed}", f"--out={out}", *words]
    if device:
        arguments.append(f"--device={device}")
    with nullcontext() if output.talks else redirect_stdout(io.StringIO()):
        code = _run(entry, arguments)
    record = Path(out) / f"{entry.name}.json"
    data = json.loads(record.read_text(encoding="utf-8")) if code == 0 else None
    last = "" if output.talks or data is None else data["lines"][-1]
    return Result(data, last, code)


def _run(entry: Entry, arguments: list[str]) -> int:
    """Run an example as ``python FILE ARGUMENTS`` does; its exit code. One in an archive is written to a file first, which processes
    that it starts can read."""
    with tempfile.TemporaryDirectory() as folder:
        path = entry.path if isinstance(entry.path, Path) else Path(folder, entry.path.name)
        if path is not entry.path:
            path.write_bytes(entry.path.read_bytes())
        before = sys.argv, sys.path[:]
        sys.argv, sys.path[:0] = [str(path), *arguments], [str(path.parent)]
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.argv, sys.path[:] = before
    return 0
