"""anynet verify."""

from __future__ import annotations

from anynet.cli.grammar import Output, Result, argument, command
from anynet.runs import verify as verified

__all__ = ["verify"]


@command("verify", argument("run", "a run folder"))
def verify(output: Output, run: str) -> Result:
    """Whether a run gives the same bits again: it is replayed and its hashes are compared.

    Where they differ, the first step and layer are named, with the units in the last place. The exit code is then 1.
    """
    found = verified(run)
    return Result(found.to_json(), str(found), 0 if found.same else 1)
