"""anynet predict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from anynet.cli.commands.evaluate import WHICH
from anynet.cli.grammar import Output, Result, Whole, argument, command, option
from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing
from anynet.runs import open as open_run

__all__ = ["predict"]


@command(
    "predict", argument("run", "a run folder, or its best.safetensors"),
    argument("samples", "a table, pictures, a folder, texts, IDX files, or - for standard input", count=-1), WHICH,
    option("out", click.Path(), "write a CSV file instead of printing", metavar="FILE"),
    option("top", Whole(1), "so many of the likeliest classes of each sample", shown="1"),
)  # fmt: skip
def predict(
    output: Output, run: str, samples: tuple[str, ...], which: str, out: str | None, top: int | None
) -> Result:
    """What a run says of new rows, pictures or texts, in the words and units of its data.

    \b
    anynet predict RUN new.csv out=answers.csv        anynet predict RUN cat.jpg dog.jpg top=3
    anynet predict RUN - < rows.csv                   anynet predict RUN t10k-images-idx3-ubyte.gz

    On standard input it is a table with a line of names, one picture, or one text.
    """
    opened = open_run(run)
    given: Any = samples[0] if len(samples) == 1 else list(samples)
    if "-" in samples:
        given = _standard_input(samples, opened.preprocessing)
    found = opened.predict(given, which=which)
    if top is not None:
        found = _top(found, top)
    if out is not None:
        found.to_csv(out)
        return Result({"file": out, "samples": len(found)}, f"{len(found)} predictions in {out}")
    return Result(list(found.rows()), found.to_csv().rstrip("\n"))


def _standard_input(samples: Sequence[str], preprocessing: Preprocessing | None) -> Any:
    """What comes on standard input: a table, a picture or a text, as the run takes it."""
    kind = getattr(preprocessing, "kind", "arrays")
    if len(samples) > 1 or kind == "arrays":
        why = (
            "this run takes arrays; give an IDX file"
            if kind == "arrays"
            else "it stands alone, without other samples"
        )
        raise click.UsageError(f"- is a table, a picture or a text on standard input: {why}")
    data = getattr(sys.stdin, "buffer", sys.stdin).read()
    data = data if isinstance(data, bytes) else data.encode()
    if not data.strip():
        msg = "standard input is empty"
        raise ValueError(msg)
    return data.decode("utf-8", "replace") if kind == "text" else data


def _top(found: Predictions, count: int) -> Predictions:
    """The likeliest classes with their probabilities, from the columns with the probability of each class."""
    prefix = "probability_"
    classes = {name.removeprefix(prefix): name for name in found.columns if name.startswith(prefix)}
    if not classes:
        msg = "top is for classes, and this run has none"
        raise click.UsageError(msg)
    columns: dict[str, Sequence[Any]] = {
        k: v for k, v in found.columns.items() if k not in classes.values() and k != "probability"
    }
    ranked = [
        sorted(
            ((found.columns[name][i], label) for label, name in classes.items()), key=lambda pair: -pair[0]
        )[:count]
        for i in range(len(found))
    ]
    for place in range(min(count, len(classes))):
        columns[f"class_{place + 1}"] = [row[place][1] for row in ranked]
        columns[f"probability_{place + 1}"] = [row[place][0] for row in ranked]
    return Predictions(found.values, columns)
