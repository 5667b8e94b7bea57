"""Rates multiplied by a factor: of the step, at milestones, or by a function."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from anynet.equations import equation
from anynet.optim.groups import finite, integer, positive
from anynet.optim.lr_scheduler.scheduler import LRScheduler, per_group
from anynet.optim.optimizer import Optimizer

__all__ = ["ExponentialLR", "LambdaLR", "MultiStepLR", "MultiplicativeLR", "StepLR"]


class ByFunction(LRScheduler):
    """What schedules share whose factor is a function of the step, or one for each group."""

    _functions = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        name = type(self).__name__
        self.lr_lambdas = per_group(name, lr_lambda, optimizer.param_groups, "functions")
        for f in self.lr_lambdas:
            if not callable(f):
                msg = f"{name}: lr_lambda must be a function of the step, or a list of one a group, got {type(f).__name__}"
                raise TypeError(msg)
        super().__init__(optimizer, last_epoch)


@equation("η = η0 * f(t)", where="t: the step; η0 = base_lrs[0]; f = lr_lambdas[0]")
class LambdaLR(ByFunction):
    """The first rate times a function of the step; one function, or one a group.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.3333, 0.25, 0.2]
    """

    def get_lr(self) -> list[float]:
        return [b * f(self.last_epoch) for b, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


@equation(
    "h[0] = η0",
    "h[k: 1: t + 1] = h[k - 1] * f(k)",
    "η = h[t]",
    where="t: the step; η0 = base_lrs[0]; f = lr_lambdas[0]",
)
class MultiplicativeLR(ByFunction):
    """The rate before times a function of the step; one function, or one a group.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.MultiplicativeLR(optimizer, lambda t: 0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    def get_lr(self) -> list[float]:
        if self._initial:
            return self._now()
        return [lr * f(self.last_epoch) for lr, f in zip(self._now(), self.lr_lambdas, strict=False)]


@equation("η = η0 * γ**(t // S)", where="t: the step; η0 = base_lrs[0]; γ = gamma; S = step_size")
class StepLR(LRScheduler):
    """η is multiplied by gamma every `step_size` steps.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.StepLR(optimizer, step_size=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = self._read("step_size", positive, step_size)
        self.gamma = self._read("gamma", finite, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._now()
        return [lr * self.gamma for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


@equation(
    "η = η0 * γ**sum[k](M[k] <= t)",
    where="t: the step; η0 = base_lrs[0]; γ = gamma; M[K] = milestones",
)
class MultiStepLR(LRScheduler):
    """η is multiplied by gamma at each of `milestones`.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.MultiStepLR(optimizer, [1, 3], gamma=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(self._read("milestones", integer(0), m) for m in milestones)
        self.gamma = self._read("gamma", finite, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        turns = self.milestones.count(self.last_epoch)
        return [lr * self.gamma**turns for lr in self._now()] if turns else self._now()

    def _get_closed_form_lr(self) -> list[float]:
        turns = bisect_right(self.milestones, self.last_epoch)
        return [base * self.gamma**turns for base in self.base_lrs]


@equation("η = η0 * γ**t", where="t: the step; η0 = base_lrs[0]; γ = gamma")
class ExponentialLR(LRScheduler):
    """The rate times gamma after each step.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.ExponentialLR(optimizer, 0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = self._read("gamma", finite, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._now() if self._initial else [lr * self.gamma for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]
