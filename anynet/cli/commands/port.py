"""anynet port: the lines of a PyTorch script that differ here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from anynet.cli.grammar import Output, Result, argument, command
from anynet.torch.porting import findings

__all__ = ["port"]


@command("port", argument("scripts", "a PyTorch script, or several", count=-1))
def port(output: Output, scripts: tuple[str, ...]) -> Result:
    """Which lines of PyTorch scripts would fail or differ with `import anynet.torch as torch`, and why.

    The scripts are read, and nothing of them is run. The exit code is 1 where a line would fail.
    """
    data: list[dict[str, Any]] = []
    lines: list[str] = []
    for script in scripts:
        path = Path(script)
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{script} cannot be read: {error}") from None
        try:
            found = list(findings(source, script))
        except SyntaxError as error:
            raise click.UsageError(f"{script}:{error.lineno} is no Python: {error.msg}") from None
        for f in found:
            data.append({"file": script, "line": f.line, "name": f.name, "fails": f.fails, "why": f.why})
            lines.append(f"{script}:{f.line}: {f.name} {'is not here' if f.fails else 'differs'}: {f.why}")
    fails = sum(entry["fails"] for entry in data)
    lines.append(f"{fails} lines would fail, {len(data) - fails} differ" if data else "nothing differs")
    return Result(data, "\n".join(lines), 1 if fails else 0)
