"""anynet profile."""

from __future__ import annotations

from typing import Any

import click

from anynet import random
from anynet.autograd.debug.profiler import profile as profiled
from anynet.cli.commands.settings import DATA, NETWORK, SEED, TRAINING, fit_options, given_of, source_given
from anynet.cli.grammar import Output, Result, Whole, argument, command, option
from anynet.train import Callback, fit

__all__ = ["profile"]


_WITHOUT = {
    "epochs",
    "time",
    "metrics",
    "monitor",
    "restore_best",
    "checkpoint_every",
    "patience",
    "callbacks",
    "compile",
}
"""Options of the training that a few steps have no use for."""


class _Watch(Callback):
    """Profiles so many batches after the first three."""

    def __init__(self, steps: int) -> None:
        self.steps, self.found, self.done = steps, profiled(), 0

    def on_batch_begin(self, run: Any) -> None:
        if run.batch == 3:
            self.found.__enter__()

    def on_batch_end(self, run: Any) -> None:
        if run.batch >= 4:
            self.done = run.batch - 3
            if self.done == self.steps:
                run.stop("profiled")

    def leave(self) -> None:
        """Stop watching."""
        if self.found.events:
            self.found.__exit__(None, None, None)


@command(
    "profile", argument("source", "a table, a folder of pictures, a text, or a data set by name"),
    option("steps", Whole(1), "so many steps are measured", 20),
    option("trace", click.Path(), "write a trace for ui.perfetto.dev or chrome://tracing", metavar="FILE"),
    *(o for o in TRAINING if o.name not in _WITHOUT), SEED, *DATA, *NETWORK,
)  # fmt: skip
def profile(output: Output, source: str, steps: int, trace: str | None, **given: Any) -> Result:
    """Where the time of a training step goes: by layer and operation, with the share of the floor (flops and bytes of this machine)."""
    found = source_given(source, given)
    chosen = {**found.defaults(), **fit_options(given, found.defaults()), "epochs": 1, "compile": False}
    chosen.pop("time", None)
    with random.fork_rng(given["seed"]):
        settings = given_of(given, NETWORK)
        net = found.network(settings.pop("model", None), **settings)
    watch = _Watch(steps)
    try:
        fit(net, found.train, progress=False, **{**chosen, "callbacks": [watch], "metrics": ()})
    finally:
        watch.leave()
    if not watch.done:
        msg = f"{source} has too few batches to profile: at least 4 are needed; give a smaller batch_size"
        raise ValueError(msg)
    device = watch.found.events[0].device
    text = f"{watch.done} steps with a batch of {chosen['batch_size']} on {device}\n{watch.found}"
    if trace:
        watch.found.save(trace)
        text += f"\ntrace in {trace}: open it in ui.perfetto.dev or chrome://tracing"
    return Result({"steps": watch.done, "rows": watch.found.totals("operation")}, text)
