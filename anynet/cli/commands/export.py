"""anynet export."""

from __future__ import annotations

import click

from anynet.cli.commands.evaluate import WHICH
from anynet.cli.grammar import Choice, Output, Result, argument, command, option
from anynet.runs import open as open_run

__all__ = ["export"]


@command(
    "export", argument("run", "a run folder, or its best.safetensors"),
    option("to", Choice("torch", "numpy", "onnx"), "PyTorch source, one file that needs NumPy alone, or ONNX", "torch"), WHICH,
    option("out", click.Path(), "the file (numpy, onnx) or folder (torch)", shown="in the run folder", metavar="PATH"),
)  # fmt: skip
def export(output: Output, run: str, to: str, which: str, out: str | None) -> Result:
    """Take a network elsewhere, with a certificate: the largest difference from the run on its validation samples."""
    found = open_run(run).export(out, to=to, which=which)
    return Result(found.to_json(), str(found))
