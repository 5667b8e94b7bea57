"""anynet eval."""

from __future__ import annotations

import click

from anynet.cli.commands.train import _in_order, _quantity
from anynet.cli.grammar import Choice, Output, Result, argument, command, option
from anynet.runs import open as open_run

__all__ = ["WHICH", "evaluate"]

WHICH = option("which", Choice("best", "last"), "the weights of the best epoch, or those at the end", "best")


@command(
    "eval", argument("run", "a run folder, or its best.safetensors"), WHICH,
    option("data", click.Path(), "other data with targets, such as test.csv", shown="the run's own held-out part", metavar="FILE"),
)  # fmt: skip
def evaluate(output: Output, run: str, which: str, data: str | None) -> Result:
    """The loss and the metrics of a run on its own held-out part, or on other data."""
    opened = open_run(run)
    found = opened.evaluate(data, which=which)
    part = data if data is not None else "test" if "test" in (opened.info.get("results") or {}) else "valid"
    text = "  ".join(
        f"{part if i == 0 else ''} {_quantity(k, v)}".strip() for i, (k, v) in enumerate(_in_order(found))
    )
    return Result(found, text)
