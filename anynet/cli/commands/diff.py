"""anynet diff."""

from __future__ import annotations

from anynet.cli.grammar import Output, Result, Switch, argument, command, option
from anynet.runs import diff as found_by

__all__ = ["diff"]


@command(
    "diff", argument("a", "a run folder"), argument("b", "another run folder"),
    option("replay", Switch(), "train both again up to the first difference", True, shown="1"),
)  # fmt: skip
def diff(output: Output, a: str, b: str, replay: bool) -> Result:
    """The first step, layer and number of ulps where two runs, machines or versions part.

    The hashes that both runs noted say between which steps; there both are trained again on this machine and compared step by step and
    layer by layer. The exit code is 0 where the runs are the same to the bit, else 1.
    """
    found = found_by(a, b, replay=replay)
    return Result(found.to_json(), str(found), 0 if found.identical else 1)
