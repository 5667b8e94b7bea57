"""Export of a run: its network with an example of its data."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from anynet.data import DataLoader
from anynet.data.arrays import ArrayPreprocessing
from anynet.ops.creation import zeros
from anynet.runs.reading import RunError

if TYPE_CHECKING:
    from anynet.runs.run import Run

__all__ = ["example_of", "export_run"]


def export_run(
    run: Run, out: str | os.PathLike[str] | None, *, to: str, which: str, example: Any = None, **options: Any
) -> Any:
    """`anynet.export` of the network of a run; its held-out samples are the example unless one is given."""
    place = out
    if out is None:
        name = "torch" if to == "torch" else "model.onnx" if to == "onnx" else "model.py"
        place = (run.path if run.path.is_dir() else run.path.parent) / name
    export = importlib.import_module("anynet.export").export
    return export(run.model(which), to, example_of(run) if example is None else example, place, **options)


def example_of(run: Run, count: int = 64) -> Any:
    """Inputs to compare on: held-out samples, or zeros of their shape where the data are not there."""
    try:
        held_out = run.validation()
    except RunError:
        held_out = None
    if held_out is not None:
        batch = next(iter(DataLoader(held_out, batch_size=min(count, len(held_out)))))
        return (
            batch[0] if isinstance(batch, (tuple, list)) and len(batch) in (2, 3) else batch
        )  # with targets, weights
    preprocessing = run.preprocessing
    if (
        isinstance(preprocessing, ArrayPreprocessing)
        and isinstance(preprocessing.form, dict)
        and "shape" in preprocessing.form
    ):
        return preprocessing.inputs(
            zeros((2, *preprocessing.form["shape"]), dtype=preprocessing.form["dtype"])
        )
    msg = f"{run.path}: the data of the run are not there, so give an example of the inputs: example="
    raise RunError(msg)
