"""Checkpoints besides last.safetensors and best.safetensors: every so often, the latest few kept."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from anynet.train.callbacks import Callback
from anynet.train.checks import check_folder, real_number, whole_number

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Training states in the folder ``checkpoints`` of the run, or in `folder`: ``epoch-0003.safetensors`` after every `every` epochs,
    ``step-000120.safetensors`` after every `steps` updates, and where `minutes` have passed since the last one. The latest `keep` stay
    (None: all).

    A file is a state to go on from: copied to last.safetensors of the run, ``fit(…, resume=True)`` continues there;
    ``anynet.load(file)["model"]`` are the weights.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, every: int | None = None, steps: int | None = None,
        minutes: float | None = None, keep: int | None = 3,
    ) -> None:  # fmt: skip
        check_folder("Checkpoint: folder", folder)
        self.folder = None if folder is None else Path(folder)
        if every is None and steps is None and minutes is None:
            every = 1
        self.every = None if every is None else whole_number("Checkpoint", "every", every, 1)
        self.steps = None if steps is None else whole_number("Checkpoint", "steps", steps, 1)
        self.minutes = (
            None if minutes is None else real_number("Checkpoint", "minutes", minutes, positive=True)
        )
        self.keep = None if keep is None else whole_number("Checkpoint", "keep", keep, 1)
        self._saved, self._steps = 0.0, 0

    def on_train_begin(self, run: Training) -> None:
        """Refuse a training without a place for the files."""
        if self.folder is None and run.folder is None:
            msg = "Checkpoint: give it a folder, or fit a run_dir"
            raise ValueError(msg)
        if self.minutes is not None and run.setup.group.size > 1:
            msg = "Checkpoint: minutes are other ones in each of several processes; give every= or steps="
            raise ValueError(msg)
        self._saved, self._steps = time.monotonic(), 0

    def on_batch_end(self, run: Training) -> None:
        """Save where the updates or the minutes are over."""
        by_steps = self.steps is not None and run.steps > self._steps and run.steps % self.steps == 0
        by_time = self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes
        self._steps = run.steps
        if by_steps or by_time:
            self._save(run, f"step-{run.steps:06d}")

    def on_epoch_end(self, run: Training) -> None:
        """Save where the epochs are over."""
        if self.every is not None and run.epoch % self.every == 0:
            self._save(run, f"epoch-{run.epoch:04d}")

    def _save(self, run: Training, name: str) -> None:
        folder = self.folder if self.folder is not None else Path(run.folder or ".") / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        run.save(folder / f"{name}.safetensors", self._prune)
        self._saved = time.monotonic()

    def _prune(self, path: Path) -> None:
        if self.keep is None:
            return
        own = [f for f in path.parent.iterdir() if re.fullmatch(r"(epoch|step)-\d+\.safetensors", f.name)]
        for old in sorted(own, key=lambda f: (f.stat().st_mtime_ns, f.name))[: -self.keep]:
            old.unlink(missing_ok=True)
