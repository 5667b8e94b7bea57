"""anynet parity."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

import click

from anynet.cli.grammar import Output, Result, argument, command
from anynet.testing.parity import check, measure, record, table

__all__ = ["parity"]


@command(
    "parity", argument("words", "devices, or record FILE [DEVICE], or check FILE", count=-1, required=False)
)
def parity(output: Output, words: tuple[str, ...]) -> Result:
    """Every operation on every device of this machine, against NumPy.

    \b
    anynet parity [DEVICE …]             compare now
    anynet parity record FILE [DEVICE]   keep what a device computes (a GPU, say)
    anynet parity check FILE             compare such a file with what this machine computes
    """
    if words[:1] == ("record",):
        if len(words) not in (2, 3):
            raise click.UsageError(
                "parity record takes a file and at most one device: anynet parity record FILE [DEVICE]"
            )
        written = record(words[1], words[2] if len(words) == 3 else "auto")
        return Result({"file": words[1], "arrays": written}, f"{written} arrays in {words[1]}")
    if words[:1] == ("check",):
        if len(words) != 2:
            raise click.UsageError("parity check takes one file: anynet parity check FILE")
        rows = check(words[1])
    else:
        rows = measure(list(words) or None)
    return Result([_plain(row) for row in rows], table(rows), 0 if all(row.ok for row in rows) else 1)


def _plain(row: Any) -> dict[str, Any]:
    return asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(vars(row))
