"""Rates that go from one value to another in a given number of steps: ConstantLR, LinearLR, PolynomialLR."""

from __future__ import annotations

from anynet.equations import equation
from anynet.optim.groups import finite, not_negative, positive, real, unit_interval
from anynet.optim.lr_scheduler.scheduler import LRScheduler
from anynet.optim.optimizer import Optimizer

__all__ = ["ConstantLR", "LinearLR", "PolynomialLR"]


@equation(
    "η = η0 * f if t < T else η0",
    where="t: the step; η0 = base_lrs[0]; f = factor; T = total_iters",
)
class ConstantLR(LRScheduler):
    """η is multiplied by `factor` until step `total_iters`.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.5, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor = self._read("factor", unit_interval, factor)
        self.total_iters = self._read("total_iters", not_negative, total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._now()]
        if self.last_epoch != self.total_iters:
            return self._now()
        return [lr * (1.0 / self.factor) for lr in self._now()] if self.factor else list(self.base_lrs)

    def _get_closed_form_lr(self) -> list[float]:
        over = self.last_epoch >= self.total_iters
        return [base * (self.factor + over * (1 - self.factor)) for base in self.base_lrs]


@equation(
    "η = η0 * (a + (b - a) * min(t, T) / T)",
    where="t: the step; η0 = base_lrs[0]; a = start_factor; b = end_factor; T = total_iters",
)
class LinearLR(LRScheduler):
    """Warm-up: η grows linearly from start_factor η_0 to end_factor η_0 in `total_iters` steps (Goyal et al. 2017).

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = self._read("start_factor", real(0, 1, above=True), start_factor)
        self.end_factor = self._read("end_factor", unit_interval, end_factor)
        self.total_iters = self._read("total_iters", not_negative, total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, total, a, b = self.last_epoch, self.total_iters, self.start_factor, self.end_factor
        if t == 0:
            return [lr * a for lr in self._now()]
        if self._initial or t > total:
            return self._now()
        return [lr * (1.0 + (b - a) / (total * a + (t - 1) * (b - a))) for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        t, total, a, b = self.last_epoch, self.total_iters, self.start_factor, self.end_factor
        return [base * (a + (b - a) * min(total, t) / total if total else a) for base in self.base_lrs]


@equation(
    "η = η0 * (1 - min(t, T) / T)**q",
    where="t: the step; η0 = base_lrs[0]; T = total_iters; q = power",
)
class PolynomialLR(LRScheduler):
    """A power of what is left of `total_iters` steps, then 0.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.PolynomialLR(optimizer, total_iters=4)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.75, 0.5, 0.25, 0.0]

    Source: Liu, Rabinovich, Berg: ParseNet (2015), "poly".
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = self._read("total_iters", positive, total_iters)
        self.power = self._read("power", finite, power)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, n = self.last_epoch, self.total_iters
        if self._initial or t > n or t == 0:
            return self._now()
        factor = ((1.0 - t / n) / (1.0 - (t - 1) / n)) ** self.power
        return [lr * factor for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]
