"""anynet generate."""

from __future__ import annotations

import click

from anynet.cli.grammar import Number, Output, Result, Whole, argument, command, option
from anynet.generation import generate as written
from anynet.runs import open as open_run

__all__ = ["generate"]


@command(
    "generate", argument("run", "the folder of a run that was trained on text"),
    option("prompt", click.STRING, "what the text begins with", shown="a new line", metavar="TEXT"),
    option("length", Whole(1), "how many tokens are written", 500),
    option("temperature", Number(0), "below 1 likelier texts, above 1 bolder ones; 0: always the likeliest token", 0.8),
    option("top_k", Whole(1), "draw from so many of the likeliest tokens", shown="all"),
    option("top_p", Number(0, 1), "draw from the likeliest tokens that together have this probability", shown="1"),
    option("stop", click.STRING, "end where this text has been written", metavar="TEXT"),
    option("seed", Whole(0), "of the draws", 0),
)  # fmt: skip
def generate(
    output: Output, run: str, prompt: str | None, length: int, temperature: float, top_k: int | None, top_p: float | None, stop: str | None,
    seed: int,
) -> Result:  # fmt: skip
    """Write text with a run that was trained on text, token by token as it is drawn."""
    opened, given = open_run(run), prompt is not None
    prompt = "\n" if prompt is None else prompt
    try:
        parts = written(
            opened, prompt, length=length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop
        )  # fmt: skip
    except ValueError:
        if given:
            raise
        raise click.UsageError("say what the text begins with: prompt=TEXT") from None
    if output.as_json:
        text = "".join(parts)
        return Result({"prompt": prompt, "text": text}, "")
    click.echo(prompt, nl=False)
    for part in parts:
        click.echo(part, nl=False)
    return Result(None, "\n")
