"""anynet report."""

from __future__ import annotations

import click

from anynet.cli.grammar import Output, Result, argument, command, option
from anynet.runs import report as written

__all__ = ["report"]


@command(
    "report", argument("runs", "run folders", count=-1),
    option("out", click.Path(), "the page", shown="report.html in the (first) run folder", metavar="FILE"),
)  # fmt: skip
def report(output: Output, runs: tuple[str, ...], out: str | None) -> Result:
    """One self-contained HTML page: what was trained on what, how good it is, where it is wrong, how to repeat it.

    Several runs stand side by side, with their curves in one figure.
    """
    path = written(*runs, out=out)
    return Result({"file": str(path)}, f"report in {path}")
