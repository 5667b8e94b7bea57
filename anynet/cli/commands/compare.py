"""anynet compare."""

from __future__ import annotations

from anynet.cli.grammar import Output, Result, argument, command
from anynet.runs import compare as compared

__all__ = ["compare"]


@command("compare", argument("a", "a run folder"), argument("b", "another run folder"))
def compare(output: Output, a: str, b: str) -> Result:
    """Two runs side by side: settings that differ, results, curves, and the first epoch at which the weights differ.

    The exit code is 0 where the runs are the same to the bit, else 1.
    """
    found = compared(a, b)
    return Result(found.to_json(), str(found), 0 if found.identical else 1)
