"""anynet version."""

from __future__ import annotations

from anynet._version import __version__
from anynet.cli.grammar import Output, Result, command

__all__ = ["version"]


@command("version")
def version(output: Output) -> Result:
    """Which version of anynet this is."""
    return Result({"version": __version__}, f"anynet {__version__}")
