"""Rates reduced where a metric no longer improves."""

from __future__ import annotations

import math

from anynet.optim.groups import choice, finite, integer, not_negative, real
from anynet.optim.lr_scheduler.scheduler import LRScheduler, per_group
from anynet.optim.optimizer import Optimizer
from anynet.tensor import Tensor

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """η is multiplied by `factor` when a metric has not improved for `patience` steps; ``step(metric)``.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.ReduceLROnPlateau(optimizer, patience=1)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step(1.0)
    >>> rates
    [1.0, 1.0, 1.0, 0.1, 0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            msg = f"ReduceLROnPlateau takes an Optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        self.optimizer = optimizer
        self.mode = self._read("mode", choice("min", "max"), mode)
        self.factor = self._read("factor", real(0, 1, below=True), factor)
        self.patience = self._read("patience", integer(0), patience)
        self.threshold = self._read("threshold", finite, threshold)
        self.threshold_mode = self._read("threshold_mode", choice("rel", "abs"), threshold_mode)
        self.cooldown = self._read("cooldown", integer(0), cooldown)
        self.eps = self._read("eps", not_negative, eps)
        lows = per_group("ReduceLROnPlateau", min_lr, optimizer.param_groups, "min_lr")
        self.min_lrs = [self._read("min_lr", not_negative, lr) for lr in lows]
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else self.min_lrs[0]
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = self._now()

    def _better(self, a: float) -> bool:
        if self.threshold_mode == "rel":
            edge = self.best * (1 - self.threshold if self.mode == "min" else 1 + self.threshold)
        else:
            edge = self.best - self.threshold if self.mode == "min" else self.best + self.threshold
        return bool(a < edge if self.mode == "min" else a > edge)

    def step(self, metrics: float | Tensor, epoch: float | None = None) -> None:  # type: ignore[override]
        """Take note of the metric, and reduce the rates where it has stalled."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._now()

    def _reduce(self) -> None:
        rates, lows = self._now(), self.min_lrs
        if len(lows) != len(rates) and self.default_min_lr is not None:
            lows = self.min_lrs = [self.default_min_lr] * len(rates)
        new = [max(lr * self.factor, low) for lr, low in zip(rates, lows, strict=False)]
        self._set([b if a - b > self.eps else a for a, b in zip(rates, new, strict=False)])
