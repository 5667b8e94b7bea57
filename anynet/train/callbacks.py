"""Callbacks: what `fit` calls between batches and epochs."""

from __future__ import annotations

import math
from typing import Any

from anynet.nn.module import Module

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Called by `fit`; override what you need. Returning True from `on_epoch_end` stops the training."""

    def on_train_begin(self, model: Module) -> None:
        """Before the first batch."""

    def on_batch_end(self, model: Module, epoch: int, batch: int, loss: float) -> None:
        """After each update."""

    def on_epoch_end(self, model: Module, record: dict[str, Any]) -> bool | None:
        """After each epoch, with its record."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by `min_delta` for `patience` epochs.

    `mode` is 'min', 'max' or 'auto' (max for names with accuracy, min otherwise).
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: int = 3, min_delta: float = 0.0, mode: str = "auto"
    ) -> None:
        if mode not in ("auto", "min", "max"):
            msg = f"EarlyStopping: mode is 'auto', 'min' or 'max', got {mode!r}"
            raise ValueError(msg)
        if patience < 1:
            msg = f"EarlyStopping: patience is at least 1, got {patience}"
            raise ValueError(msg)
        self.monitor, self.patience, self.min_delta = monitor, patience, abs(min_delta)
        self.sign = -1.0 if mode == "max" or (mode == "auto" and "accuracy" in monitor) else 1.0
        self.best, self.bad = math.inf, 0

    def on_epoch_end(self, model: Module, record: dict[str, Any]) -> bool:
        """True after `patience` epochs without improvement."""
        if self.monitor not in record:
            msg = f"EarlyStopping monitors {self.monitor!r}, but the record has {', '.join(record)}"
            raise KeyError(msg)
        value = self.sign * record[self.monitor]
        if value < self.best - self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and the epochs since."""
        return {"best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.best, self.bad = state["best"], state["bad"]
