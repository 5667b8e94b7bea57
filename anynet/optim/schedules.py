"""Learning-rate schedules: each step sets the `lr` of every parameter group.

A schedule is created at step 0, which sets the first rate; `step()` is called after each epoch (or batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from anynet.autograd.compiling import on_host
from anynet.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip

_T = TypeVar("_T")


class LRScheduler:
    """The base: `rates()` gives the groups' rates at step `last_epoch`, from the rates now or from `base_lrs`.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.nn.Parameter(an.zeros(1))], lr=1.0)
    >>> schedule = an.optim.StepLR(optimizer, step_size=1, gamma=0.1)
    >>> optimizer.step(); schedule.step()
    >>> [round(float(lr), 3) for lr in schedule.get_last_lr()]
    [0.1]
    """

    _plain: tuple[str, ...] = ()  # what a state_dict holds besides the counter

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            msg = f"{type(self).__name__} takes an Optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        self.optimizer = optimizer
        self.base_lrs: list[float] = [g.setdefault("initial_lr", g["lr"]) for g in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rates(self) -> list[float]:
        """The rates of the groups at step `last_epoch`."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """In a compiled function a step is a call of Python code between array operations."""
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = on_host(cls.__dict__["step"])  # type: ignore[method-assign]

    @on_host
    def step(self) -> None:
        """Go on by one."""
        self.last_epoch += 1
        self._set(self.rates())

    def _now(self) -> list[float]:
        return [g["lr"] for g in self.optimizer.param_groups]

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        """The rates of the groups now."""
        return self._now()

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is: data only."""
        return {name: getattr(self, name) for name in ("last_epoch", "base_lrs", *self._plain)} | {
            "lrs": self._now()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; the rates are set as they were."""
        names = ("last_epoch", "base_lrs", *self._plain)
        missing = [n for n in (*names, "lrs") if n not in state]
        if missing or len(state["lrs"]) != len(self.base_lrs):
            msg = f"{type(self).__name__}: not this schedule's state" + (
                f": it lacks {missing}" if missing else ""
            )
            raise ValueError(msg)
        for name in names:
            setattr(self, name, state[name])
        self._set(state["lrs"])


class LambdaLR(LRScheduler):
    """η_t = η_0 f(t); one function, or one a group.

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

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _each("LambdaLR", lr_lambda, optimizer.param_groups, "functions")
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [b * f(self.last_epoch) for b, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


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
        if step_size < 1:
            msg = f"StepLR: step_size is at least 1, got {step_size}"
            raise ValueError(msg)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        turn = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma if turn else lr for lr in self._now()]


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
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [lr * self.gamma ** self.milestones.count(self.last_epoch) for lr in self._now()]


class ExponentialLR(LRScheduler):
    """η_t = η_0 gammaᵗ.

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
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [lr * self.gamma if self.last_epoch > 0 else lr for lr in self._now()]


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
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._now()]
        return [lr * (1.0 / self.factor) if self.last_epoch == self.total_iters else lr for lr in self._now()]


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
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            msg = f"LinearLR: factors are in (0, 1] and [0, 1], got {start_factor} and {end_factor}"
            raise ValueError(msg)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        t, total, a, b = self.last_epoch, self.total_iters, self.start_factor, self.end_factor
        if t == 0:
            return [lr * a for lr in self._now()]
        if t > total:
            return self._now()
        return [lr * (1.0 + (b - a) / (total * a + (t - 1) * (b - a))) for lr in self._now()]


class CosineAnnealingLR(LRScheduler):
    """η_t = η_min + ½ (η_0 − η_min)(1 + cos(π t / T_max)) (Loshchilov & Hutter 2017), computed step by step.

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
        if T_max < 1:
            msg = f"CosineAnnealingLR: T_max is at least 1, got {T_max}"
            raise ValueError(msg)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        t, n, low = self.last_epoch, self.T_max, self.eta_min
        if t == 0:
            return self._now()
        if (t - 1 - n) % (2 * n) == 0:
            return [
                lr + (base - low) * (1 - math.cos(math.pi / n)) / 2
                for base, lr in zip(self.base_lrs, self._now(), strict=True)
            ]
        return [
            (1 + math.cos(math.pi * t / n)) / (1 + math.cos(math.pi * (t - 1) / n)) * (lr - low) + low
            for lr in self._now()
        ]


class SequentialLR(LRScheduler):
    """One schedule after another, each from its milestone on (warm-up, then cosine).

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.SequentialLR(optimizer, [an.optim.ConstantLR(optimizer, 0.1, 9), an.optim.ExponentialLR(optimizer, 0.5)], [2])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.1, 0.1, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            msg = f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones, got {len(milestones)}"
            raise ValueError(msg)
        if any(s.optimizer is not optimizer for s in schedulers):
            msg = "SequentialLR: all schedules belong to the same optimizer"
            raise ValueError(msg)
        self.optimizer, self.schedulers, self.milestones = optimizer, list(schedulers), list(milestones)
        self.base_lrs = list(schedulers[0].base_lrs)
        self.last_epoch = last_epoch + 1
        self._set(self.base_lrs)
        for s in self.schedulers:
            s.last_epoch -= 1
        self.schedulers[0].step()

    def step(self) -> None:
        """Go on by one."""
        self.last_epoch += 1
        which = sum(m <= self.last_epoch for m in self.milestones)
        scheduler = self.schedulers[which]
        if which and self.milestones[which - 1] == self.last_epoch:
            scheduler.last_epoch = -1
            self._set(scheduler.base_lrs)
        scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Where each schedule is."""
        return {
            "last_epoch": self.last_epoch,
            "schedulers": [s.state_dict() for s in self.schedulers],
            "lrs": self._now(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if len(state.get("schedulers", ())) != len(self.schedulers):
            msg = "SequentialLR: not this schedule's state"
            raise ValueError(msg)
        self.last_epoch = state["last_epoch"]
        for s, part in zip(self.schedulers, state["schedulers"], strict=True):
            s.load_state_dict(part)
        self._set(state["lrs"])


class OneCycleLR(LRScheduler):
    """Up from max_lr/div_factor to max_lr and down to max_lr/(div_factor·final_div_factor) (Smith & Topin 2018).

    Stepped each batch, `total_steps` (or epochs × steps_per_epoch) times; momentum (or β₁) moves the other way.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.OneCycleLR(optimizer, max_lr=1.0, total_steps=5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.04, 0.9505, 0.6113, 0.1883, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                msg = "OneCycleLR: give total_steps, or epochs and steps_per_epoch"
                raise ValueError(msg)
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            msg = f"OneCycleLR: total_steps is at least 1 and pct_start in [0, 1], got {total_steps}, {pct_start}"
            raise ValueError(msg)
        if anneal_strategy not in ("cos", "linear"):
            msg = f"OneCycleLR: anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}"
            raise ValueError(msg)
        tops = _each("OneCycleLR", max_lr, optimizer.param_groups, "rates")
        names = [next((k for k in ("betas", "momentum") if k in g), None) for g in optimizer.param_groups]
        if cycle_momentum and None in names:
            msg = "OneCycleLR: this optimizer has no momentum to cycle; say cycle_momentum=False"
            raise ValueError(msg)
        self.total_steps, self.strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        starts = [t / div_factor for t in tops]
        ends = [s / final_div_factor for s in starts]
        up = float(pct_start * total_steps) - 1
        if three_phase:
            down = float(2 * pct_start * total_steps) - 2
            self._phases = [
                (up, starts, tops, max_momentum, base_momentum),
                (down, tops, starts, base_momentum, max_momentum),
                (total_steps - 1, starts, ends, max_momentum, max_momentum),
            ]
        else:
            self._phases = [
                (up, starts, tops, max_momentum, base_momentum),
                (total_steps - 1, tops, ends, base_momentum, max_momentum),
            ]
        self._momentum = names
        super().__init__(optimizer, last_epoch)

    def _between(self, a: float, b: float, share: float) -> float:
        if self.strategy == "linear":
            return (b - a) * share + a
        return b + (a - b) / 2.0 * (math.cos(math.pi * share) + 1)

    def rates(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            msg = f"OneCycleLR: step {t}, but total_steps is {self.total_steps}"
            raise ValueError(msg)
        which = next((i for i, phase in enumerate(self._phases) if t <= phase[0]), len(self._phases) - 1)
        start = self._phases[which - 1][0] if which else 0.0
        end, a, b, m, n = self._phases[which]
        share = (t - start) / (end - start) if end != start else 0.0
        if self.cycle_momentum:
            value = self._between(m, n, share)
            for group, name in zip(self.optimizer.param_groups, self._momentum, strict=True):
                group[str(name)] = (value, *group["betas"][1:]) if name == "betas" else value
        return [self._between(x, y, share) for x, y in zip(a, b, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is, the momentum included."""
        groups = zip(self.optimizer.param_groups, self._momentum, strict=True)
        return super().state_dict() | {"momenta": [None if n is None else g[n] for g, n in groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        super().load_state_dict(state)
        for group, name, value in zip(
            self.optimizer.param_groups, self._momentum, state["momenta"], strict=True
        ):
            if name is not None:
                group[name] = tuple(value) if name == "betas" else value


class ReduceLROnPlateau:
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

    _plain = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")

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
        if not factor < 1.0 or mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            msg = (
                "ReduceLROnPlateau: factor < 1, mode 'min' or 'max', threshold_mode 'rel' or 'abs'; "
                f"got {factor}, {mode!r}, {threshold_mode!r}"
            )
            raise ValueError(msg)
        self.min_lrs = _each("ReduceLROnPlateau", min_lr, optimizer.param_groups, "min_lr")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = (
            threshold,
            threshold_mode,
            cooldown,
            eps,
        )
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def _better(self, a: float) -> bool:
        if self.threshold_mode == "rel":
            edge = self.best * (1 - self.threshold if self.mode == "min" else 1 + self.threshold)
        else:
            edge = self.best - self.threshold if self.mode == "min" else self.best + self.threshold
        return a < edge if self.mode == "min" else a > edge

    @on_host
    def step(self, metrics: Any) -> None:
        """Take note of the metric, and reduce the rates where it has stalled."""
        current = float(metrics)
        self.last_epoch += 1
        if self._better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                new = max(group["lr"] * self.factor, low)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The rates of the groups now."""
        return [g["lr"] for g in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is: data only."""
        return {name: getattr(self, name) for name in self._plain} | {"lrs": self.get_last_lr()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if any(name not in state for name in (*self._plain, "lrs")):
            msg = "ReduceLROnPlateau: not this schedule's state"
            raise ValueError(msg)
        for name in self._plain:
            setattr(self, name, state[name])
        for group, lr in zip(self.optimizer.param_groups, state["lrs"], strict=True):
            group["lr"] = lr


class MultiplicativeLR(LRScheduler):
    """η_t = η_{t−1} f(t); one function, or one a group.

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

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _each("MultiplicativeLR", lr_lambda, optimizer.param_groups, "functions")
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch == 0:
            return self._now()
        return [lr * f(self.last_epoch) for lr, f in zip(self._now(), self.lr_lambdas, strict=True)]


class PolynomialLR(LRScheduler):
    """η_t = η_0 (1 − t / total_iters)^power, then 0.

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
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        t, n = self.last_epoch, self.total_iters
        if t == 0 or t > n:
            return self._now()
        factor = ((1.0 - t / n) / (1.0 - (t - 1) / n)) ** self.power
        return [lr * factor for lr in self._now()]


class CosineAnnealingWarmRestarts(LRScheduler):
    """η_t = η_min + ½ (η_0 − η_min) (1 + cos(π t_c / T)): t_c steps since the last restart, of which there is one after
    T_0, then T_0 T_mult, T_0 T_mult² … steps (Loshchilov & Hutter 2017).

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
    """

    _plain = ("T_i", "T_cur")

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if T_0 < 1 or T_mult < 1:
            msg = f"CosineAnnealingWarmRestarts: T_0 and T_mult are at least 1, got {T_0} and {T_mult}"
            raise ValueError(msg)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_i, self.T_cur = T_0, last_epoch
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch > 0:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self.T_cur = 0
        part = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (b - self.eta_min) * part for b in self.base_lrs]


class CyclicLR(LRScheduler):
    """η runs from `base_lr` up to `max_lr` in `step_size_up` steps and down again, over and over (Smith 2017).

    `mode`: "triangular"; "triangular2", with half the height each cycle; "exp_range", with height gammaᵗ; or a `scale_fn`
    of the cycle (or of the step, ``scale_mode="iterations"``). With `cycle_momentum` the momentum (for Adam β₁) runs the
    other way between `max_momentum` and `base_momentum`.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.CyclicLR(optimizer, base_lr=0.1, max_lr=0.5, step_size_up=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.1, 0.3, 0.5, 0.3, 0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            msg = f"CyclicLR: mode is 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            raise ValueError(msg)
        groups = optimizer.param_groups
        self.lows, self.highs = _each("base_lr", base_lr, groups), _each("max_lr", max_lr, groups)
        self.up, self.down = (
            float(step_size_up),
            float(step_size_up if step_size_down is None else step_size_down),
        )
        self.mode, self.gamma, self.scale_fn, self.scale_mode = mode, gamma, scale_fn, scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
                msg = "CyclicLR: the optimizer has no momentum; give cycle_momentum=False"
                raise ValueError(msg)
            self.least, self.most = (
                _each("base_momentum", base_momentum, groups),
                _each("max_momentum", max_momentum, groups),
            )
        for group, low in zip(groups, self.lows, strict=True):
            group["lr"] = group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def _scale(self, x: float) -> float:
        if self.scale_fn is not None:
            return float(self.scale_fn(x))
        if self.mode == "triangular2":
            return float(1 / (2.0 ** (x - 1)))
        return float(self.gamma**x) if self.mode == "exp_range" else 1.0

    def rates(self) -> list[float]:
        total = self.up + self.down
        share = self.up / total
        cycle = math.floor(1 + self.last_epoch / total)
        x = 1.0 + self.last_epoch / total - cycle
        part = x / share if x <= share else (x - 1) / (share - 1)
        scale = self._scale(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.least, self.most, strict=True):
                value = high - (high - low) * part * scale
                if "momentum" in group:
                    group["momentum"] = value
                else:
                    group["betas"] = (value, *group["betas"][1:])
        return [low + (high - low) * part * scale for low, high in zip(self.lows, self.highs, strict=True)]


def _each(name: str, value: _T | list[_T], groups: list[dict[str, Any]], what: str = "numbers") -> list[_T]:
    """A value for each group, from one or from a list of them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)
    if len(values) != len(groups):
        msg = f"{name}: {len(values)} {what} for {len(groups)} parameter groups"
        raise ValueError(msg)
    return values


class ChainedScheduler:
    """Several schedules at once: each steps in turn, from the rates that the one before has set.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0, momentum=0.9)
    >>> schedule = an.optim.ChainedScheduler([an.optim.ConstantLR(optimizer, 0.1, 2), an.optim.ExponentialLR(optimizer, 0.5)])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.1, 0.05, 0.25, 0.125, 0.0625]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            msg = "ChainedScheduler takes at least one schedule"
            raise ValueError(msg)
        self.optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        for i, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not self.optimizer:
                msg = f"ChainedScheduler: all schedules are of one optimizer, but that of schedule {i} is another"
                raise ValueError(msg)
        self._schedulers = list(schedulers)

    def step(self) -> None:
        """Go on by one."""
        for scheduler in self._schedulers:
            scheduler.step()

    def get_last_lr(self) -> list[float]:
        """The rates of the groups now."""
        return self._schedulers[-1].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Where the schedules are: data only."""
        return {"schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if len(state.get("schedulers", ())) != len(self._schedulers):
            msg = f"ChainedScheduler: not the state of {len(self._schedulers)} schedules"
            raise ValueError(msg)
        for scheduler, part in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(part)
