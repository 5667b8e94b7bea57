"""anynet runs."""

from __future__ import annotations

from anynet.cli.grammar import Output, Result, argument, command
from anynet.runs import runs_in

__all__ = ["runs"]


@command("runs", argument("folder", "a folder of runs", required=False))
def runs(output: Output, folder: str | None) -> Result:
    """The runs in a folder (runs/ unless another is given): data, network, status, results."""
    found = runs_in("runs" if folder is None else folder)
    return Result(found.to_json(), str(found))
