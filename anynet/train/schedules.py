"""Schedules of the learning rate by name, over the whole of a training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from anynet import optim

__all__ = ["SCHEDULES", "UNKNOWN", "WholeTraining"]

UNKNOWN = 1 << 40
"""In the place of a number of updates that a limit of time will tell."""


class WholeTraining(optim.OneCycleLR):
    """OneCycleLR over all updates of a training. How many these are is no part of its state: where a run is resumed with more
    epochs, the rate goes on from where it would be in a training of that length.

    `finish` lets it come to its end sooner or later than was planned, from where it is: a limit of time (`TimeLimit`) does.
    """

    def __init__(self, optimizer: Any, updates: int, warm_up: float) -> None:
        self.updates = updates
        self._course = (
            0,
            0.0,
            updates,
        )  # after so many updates it was this share of the way, and it ends with that update
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer, peaks, total_steps=updates + 1, pct_start=warm_up, cycle_momentum=False)

    def share(self, done: int) -> float:
        """How much of its way it has gone after so many updates, in [0, 1]."""
        since, before, end = self._course
        return min(1.0, before + (1.0 - before) * (done - since) / max(end - since, 1))

    def finish(self, done: int, end: int) -> None:
        """After `done` updates: go the rest of the way until update `end`."""
        self._course = (done, self.share(done), end)

    def set_rates(self) -> None:
        """Set the rates for the next update."""
        self._set(self.get_lr())

    def get_lr(self) -> list[float]:
        """The rates at this step of the course."""
        step = self.last_epoch
        if self._course[2] == self.updates and not self._course[0]:
            return super().get_lr()
        self.last_epoch = self.share(step) * self.updates
        try:
            return super().get_lr()
        finally:
            self.last_epoch = step

    def state_dict(self) -> dict[str, Any]:
        """The position, and the rates between which it moves."""
        kept = super().state_dict()
        return {k: v for k, v in kept.items() if k not in ("total_steps", "phases", "updates", "_course")}


SCHEDULES: dict[str, Callable[[Any, int], Any]] = {
    "onecycle": functools.partial(WholeTraining, warm_up=0.3),
    "cosine": functools.partial(WholeTraining, warm_up=0.05),
}
"""name → function (optimizer, number of updates) → schedule: up to the optimizer's learning rate in the first 30 % or 5 % of the
updates, then down to nothing, along half a cosine both times (`OneCycleLR`)."""
