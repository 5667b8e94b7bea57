"""Learning-rate schedules: each step sets the `lr` of every parameter group.

A schedule is created at step 0, which sets the first rate; `step()` is called after each epoch (or batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet.autograd.compiling import on_host
from anynet.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR",
    "OneCycleLR", "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip


class LRScheduler:
    """The base: `rates()` gives the groups' rates at step `last_epoch`, from the rates now or from `base_lrs`."""

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
    """η_t = η_0 f(t); one function, or one a group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = lr_lambda if isinstance(lr_lambda, list) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            msg = f"LambdaLR: {len(self.lr_lambdas)} functions for {groups} parameter groups"
            raise ValueError(msg)
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [b * f(self.last_epoch) for b, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """η is multiplied by gamma every `step_size` steps."""

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
    """η is multiplied by gamma at each of `milestones`."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [lr * self.gamma ** self.milestones.count(self.last_epoch) for lr in self._now()]


class ExponentialLR(LRScheduler):
    """η_t = η_0 gammaᵗ."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rates(self) -> list[float]:
        return [lr * self.gamma if self.last_epoch > 0 else lr for lr in self._now()]


class ConstantLR(LRScheduler):
    """η is multiplied by `factor` until step `total_iters`."""

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
    """Warm-up: η grows linearly from start_factor η_0 to end_factor η_0 in `total_iters` steps (Goyal et al. 2017)."""

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
    """η_t = η_min + ½ (η_0 − η_min)(1 + cos(π t / T_max)) (Loshchilov & Hutter 2017), computed step by step."""

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
    """One schedule after another, each from its milestone on (warm-up, then cosine)."""

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
        n = len(optimizer.param_groups)
        tops = max_lr if isinstance(max_lr, list) else [max_lr] * n
        if len(tops) != n:
            msg = f"OneCycleLR: {len(tops)} rates for {n} parameter groups"
            raise ValueError(msg)
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
    """η is multiplied by `factor` when a metric has not improved for `patience` steps; ``step(metric)``."""

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
        n = len(optimizer.param_groups)
        self.min_lrs = min_lr if isinstance(min_lr, list) else [min_lr] * n
        if len(self.min_lrs) != n:
            msg = f"ReduceLROnPlateau: {len(self.min_lrs)} min_lr for {n} parameter groups"
            raise ValueError(msg)
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
