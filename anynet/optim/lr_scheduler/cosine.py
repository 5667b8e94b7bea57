"""Cosine annealing, once and with warm restarts."""

from __future__ import annotations

import math

from anynet.equations import equation
from anynet.optim.groups import integer, not_negative, positive
from anynet.optim.lr_scheduler.scheduler import LRScheduler
from anynet.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


@equation(
    "η = η_min + (η0 - η_min) * (1 + cos(pi * t / T)) / 2",
    where="t: the step; η0 = base_lrs[0]; η_min = eta_min; T = T_max",
)
class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first rate to η_min (Loshchilov & Hutter 2017), computed step by step.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.CosineAnnealingLR(optimizer, 4)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = self._read("T_max", positive, T_max)
        self.eta_min = self._read("eta_min", not_negative, eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, n, low = self.last_epoch, self.T_max, self.eta_min
        if self._initial:
            return self._now()
        before = 1 + math.cos(math.pi * (t - 1) / n)
        if (t - 1 - n) % (2 * n) == 0 or not before:
            return [
                lr + (base - low) * (1 - math.cos(math.pi / n)) / 2
                for base, lr in zip(self.base_lrs, self._now(), strict=False)
            ]
        return [(1 + math.cos(math.pi * t / n)) / before * (lr - low) + low for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        part = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        return [self.eta_min + (base - self.eta_min) * part / 2 for base in self.base_lrs]


@equation(
    "r[0] = T0",
    "s[0] = 0",
    "u[k: 1: t + 1] = 1 if s[k - 1] + 1 >= r[k - 1] else 0",
    "s[k] = 0 if u[k] == 1 else s[k - 1] + 1",
    "r[k] = r[k - 1] * q if u[k] == 1 else r[k - 1]",
    "η = η_min + (η0 - η_min) * (1 + cos(pi * s[t] / r[t])) / 2",
    where="t: the step; η0 = base_lrs[0]; η_min = eta_min; T0 = T_0; q = T_mult",
)
class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the first rate to `eta_min`, again and again: restarts after T_0, then T_0 T_mult, T_0 T_mult²
    … steps (Loshchilov & Hutter 2017).

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.CosineAnnealingWarmRestarts(optimizer, 2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 1.0, 0.5, 1.0]

    ``step(epoch)`` goes to any step, a fraction of one too: ``step(epoch + batch / batches)``.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0: int = self._read("T_0", integer(1), T_0)
        self.T_mult: int = self._read("T_mult", integer(1), T_mult)
        self.eta_min = self._read("eta_min", not_negative, eta_min)
        self.T_i: float = self.T_0
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        part = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * part / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one; or to a step, which may be a fraction."""
        before = self.T_cur, self.T_i
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur = self.T_cur + 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            epoch = self._read("epoch", not_negative, epoch)
            n = 0
            if epoch >= self.T_0 and self.T_mult > 1:
                n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            if epoch < self.T_0:
                self.T_cur, self.T_i = epoch, self.T_0
            elif self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
                self.T_i = self.T_0 * self.T_mult**n
        try:
            self._set(self.get_lr())
        except Exception:
            self.T_cur, self.T_i = before
            raise
        self.last_epoch = math.floor(epoch)

    def _reset(self) -> None:
        super()._reset()
        self.T_cur, self.T_i = self._first, self.T_0

    def _restart(self) -> None:
        self._reset()
        self.step()
