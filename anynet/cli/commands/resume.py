"""anynet resume."""

from __future__ import annotations

from time import perf_counter

from anynet.cli.commands.train import result_of
from anynet.cli.grammar import Output, Result, Time, Whole, argument, command, option
from anynet.distributed import world
from anynet.runs import open as open_run
from anynet.runs import resume as go_on

__all__ = ["resume"]


@command(
    "resume",
    argument("run", "a run folder"),
    option("epochs", Whole(1), "how many there are to be in all", shown="as before"),
    option("time", Time(), "how long it may take in all: 60s, 3min, 2h", shown="as before"),
)
def resume(output: Output, run: str, epochs: int | None, time: str | None) -> Result:
    """Go on with a run that was stopped or killed, bit for bit as if it had not been.

    Data, network and options come from the run's folder; the data must be those it was trained on. A script's run goes on in the
    script, with fit(…, resume=True).
    """
    began = perf_counter()
    output.silent = world().rank > 0
    if open_run(run).status == "done" and epochs is None and time is None:
        output.say(f"{run} is done: give epochs=N, or time=T where that has ended it, to go on for longer")
    return result_of(go_on(run, epochs=epochs, time=time, progress=output.talks), perf_counter() - began)
