"""Callbacks that write down what happens, for other programs: CSV, TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anynet._optional import optional
from anynet.train.callbacks import Callback
from anynet.train.checks import whole_number
from anynet_backends import files

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["CSVLogger", "MLflow", "TensorBoard", "WandB"]


def _numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record; those inside of mappings and lists with their names joined by dots."""
    out: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            out |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[prefix + name] = float(value)
    return out


class CSVLogger(Callback):
    """The history as a table, a row for each epoch: ``history.csv`` in the run's folder, or `path`. It is written anew after each epoch, so
    that a run that is resumed has each epoch once."""

    writes = True

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)

    def on_train_begin(self, run: Training) -> None:
        """Refuse a training without a place for the file."""
        if self.path is None and run.folder is None:
            msg = "CSVLogger: give it a path, or fit a run_dir"
            raise ValueError(msg)

    def on_epoch_end(self, run: Training) -> None:
        """Write the file."""
        records = [*run.history, run.record]
        columns = list(dict.fromkeys(name for record in records for name in record))
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        path = self.path if self.path is not None else Path(run.folder or ".") / "history.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, out.getvalue())


class _Logger(Callback):
    """Opens its writer when there is something to write: by then the state of a run that is resumed is there."""

    writes = True

    def __init__(self, every: int | None) -> None:
        self.every = None if every is None else whole_number(type(self).__name__, "every", every, 1)
        self.opened = False

    def on_train_begin(self, run: Training) -> None:
        """Nothing is open."""
        self.opened = False

    def _open(self, run: Training) -> None:
        raise NotImplementedError

    def _log(self, numbers: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def _close(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def _write(self, run: Training, numbers: dict[str, float], step: int) -> None:
        if not self.opened:
            self._open(run)
            self.opened = True
        self._log(numbers, step)

    def on_batch_end(self, run: Training) -> None:
        """The loss of every so many batches."""
        if self.every is not None and run.steps and run.batch % self.every == 0:
            self._write(run, {"batch_loss": run.loss}, run.steps)

    def on_epoch_end(self, run: Training) -> None:
        """The record of the epoch, at the number of updates so far."""
        self._write(run, _numbers(run.record), run.steps)

    def on_train_end(self, run: Training) -> None:
        """Close what is open."""
        if self.opened:
            self._close(None)
            self.opened = False

    def on_exception(self, run: Training, error: BaseException) -> None:
        """Close what is open, as failed."""
        if self.opened:
            self._close(error)
            self.opened = False


class TensorBoard(_Logger):
    """Curves for TensorBoard (extra ``tensorboard``): in the folder ``tensorboard`` of the run, or in `folder`. The horizontal axis is the
    number of updates. With `every` the loss of each so many batches, too."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, every: int | None = None) -> None:
        super().__init__(every)
        self.folder = folder
        self.writer: Any = None

    def on_train_begin(self, run: Training) -> None:
        """Refuse a training without a place for the files, or without the library."""
        super().on_train_begin(run)
        if self.folder is None and run.folder is None:
            msg = "TensorBoard: give it a folder, or fit a run_dir"
            raise ValueError(msg)
        optional("tensorboardX", "tensorboard", "logging for TensorBoard")

    def _open(self, run: Training) -> None:
        library = optional("tensorboardX", "tensorboard", "logging for TensorBoard")
        folder = self.folder if self.folder is not None else Path(run.folder or ".") / "tensorboard"
        self.writer = library.SummaryWriter(os.fspath(folder), purge_step=run.steps if run.history else None)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            if name != "epoch":
                tag = f"{name.removeprefix('val_')}/{'valid' if name.startswith('val_') else 'train'}"
                self.writer.add_scalar(tag, value, step)

    def _close(self, error: BaseException | None) -> None:
        self.writer.close()


def _library(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        msg = f"logging to {what} needs {name}: pip install {name}"
        raise ModuleNotFoundError(msg, name=name) from None


class WandB(_Logger):
    """A run at Weights & Biases (``pip install wandb``): `settings` are those of ``wandb.init``. A run that is resumed goes on there."""

    def __init__(self, project: str | None = None, *, every: int | None = None, **settings: Any) -> None:
        super().__init__(every)
        self.project, self.settings = project, settings
        self.id: str | None = None
        self.run: Any = None

    def on_train_begin(self, run: Training) -> None:
        """Begin with no run; refuse where the library is missing."""
        super().on_train_begin(run)
        _library("wandb", "Weights & Biases")
        self.id = None

    def _open(self, run: Training) -> None:
        again = {} if self.id is None else {"id": self.id, "resume": "allow"}
        config = {
            "model": type(run.model).__name__,
            "optimizer": type(run.optimizer).__name__,
            "epochs": run.epochs,
        }
        given = {"project": self.project, "config": config, **self.settings, **again}
        self.run = _library("wandb", "Weights & Biases").init(**given)
        self.id = str(self.run.id)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self.run.log(numbers, step=step)

    def _close(self, error: BaseException | None) -> None:
        self.run.finish(exit_code=0 if error is None else 1)

    def state_dict(self) -> dict[str, Any]:
        """The id of the run there."""
        return {"id": self.id or ""}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the run there."""
        self.id = str(state["id"]) or None


class MLflow(_Logger):
    """A run of MLflow (``pip install mlflow``), in `experiment`, called `name`; `uri` is the tracking server or folder. A run that is
    resumed goes on there."""

    def __init__(
        self,
        experiment: str | None = None,
        *,
        name: str | None = None,
        uri: str | None = None,
        every: int | None = None,
    ) -> None:
        super().__init__(every)
        self.experiment, self.name, self.uri = experiment, name, uri
        self.id: str | None = None
        self.library: Any = None

    def on_train_begin(self, run: Training) -> None:
        """Begin with no run; refuse where the library is missing."""
        super().on_train_begin(run)
        self.library, self.id = _library("mlflow", "MLflow"), None

    def _open(self, run: Training) -> None:
        if self.uri is not None:
            self.library.set_tracking_uri(self.uri)
        if self.experiment is not None:
            self.library.set_experiment(self.experiment)
        found = self.library.start_run(run_id=self.id, run_name=self.name)
        if self.id is None:
            parameters = {"model": type(run.model).__name__, "optimizer": type(run.optimizer).__name__}
            self.library.log_params(parameters)
        self.id = str(found.info.run_id)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        self.library.log_metrics(numbers, step=step)

    def _close(self, error: BaseException | None) -> None:
        self.library.end_run("FINISHED" if error is None else "FAILED")

    def state_dict(self) -> dict[str, Any]:
        """The id of the run there."""
        return {"id": self.id or ""}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the run there."""
        self.id = str(state["id"]) or None
