"""anynet train: a network for data as they are, or a script."""

from __future__ import annotations

import runpy
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from anynet.cli.commands.settings import DATA, NETWORK, SEED, TRAINING, fit_options, given_of, source_given
from anynet.cli.grammar import Output, Result, argument, command, option
from anynet.distributed import world
from anynet.runs import Run, train_on
from anynet.train.signals import Interrupted
from anynet_backends import resolve

__all__ = ["result_of", "train"]


@command(
    "train", argument("source", "a table, a folder of pictures, a text, a data set by name, or a script"),
    option("run_dir", click.Path(), "the folder of the run", shown="runs/NAME-DATE", metavar="FOLDER"),
    *TRAINING, SEED, *DATA, *NETWORK, script=True,
)  # fmt: skip
def train(output: Output, source: str, **given: Any) -> Result:
    """Train a network on data, or run a training script.

    \b
    anynet train houses.csv target=price            a table: CSV, TSV, JSON, Parquet, also packed
    anynet train photos/                            a folder with a sub-folder of pictures for each class
    anynet train book.txt                           a text; then: anynet generate RUN prompt="Once"
    anynet train digits | mnist | fashion | iris    a data set by name
    anynet train script.py [arguments]              a script, whose arguments are all that follow

    What is not given follows from the data. The run is a folder that eval, predict, report and export take. A table without target= lists
    its columns.
    """
    script = click.get_current_context().meta.get("script")
    if script is not None:
        return Result(None, "", _run_script(Path(script[0]), script[1:]))
    began = time.perf_counter()
    output.silent = world().rank > 0
    resolve(given["device"])  # what cannot be is said before the data are read
    found = source_given(source, given)
    output.say(found.describe())
    run = train_on(
        found, model=given["model"], run_dir=given["run_dir"], seed=given["seed"], progress=output.talks,
        **{k: v for k, v in given_of(given, NETWORK).items() if k != "model"}, **fit_options(given, found.defaults()),
    )  # fmt: skip
    return result_of(run, time.perf_counter() - began)


def result_of(run: Run, seconds: float) -> Result:
    """What is said at the end of a training: the results on the held-out part, and where the run is."""
    results = run.info.get("results") or {}
    part = next((p for p in ("test", "valid") if p in results), None)
    values = (results.get(part) if part is not None else run.results) or {}
    where = part or "nothing was held out; in training"
    said = "  ".join(
        f"{where if i == 0 else ''} {_quantity(k, v)}".strip()
        for i, (k, v) in enumerate(_in_order({k: v for k, v in values.items() if k != "lr"}))
    )
    data = {"run": str(run.path), "status": run.status, "results": results, "seconds": seconds}
    return Result(data, f"{said}  ({seconds:.1f} s, run folder {run.path})")


def _in_order(values: dict[str, float]) -> list[tuple[str, float]]:
    """The loss comes last: what people ask for first is before it."""
    return [(k, v) for k, v in values.items() if k != "loss"] + [
        (k, v) for k, v in values.items() if k == "loss"
    ]


def _quantity(name: str, value: Any) -> str:
    if name == "accuracy" or name.endswith("_accuracy"):
        return f"{name} {100 * value:.2f} %"
    return f"{name} {value:,.6g}" if isinstance(value, float) else f"{name} {value}"


def _run_script(script: Path, args: Sequence[str]) -> int:
    """Run a user's script as Python would; its errors are shown with their traceback."""
    if not script.is_file():
        msg = f"no script at {script}"
        raise FileNotFoundError(msg)
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[:0] = [str(script), *args], [str(script.resolve().parent)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except (Interrupted, KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next  # the frames of this command and of runpy
        traceback.print_exception(error.with_traceback(trace or error.__traceback__))
        return 1
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0
