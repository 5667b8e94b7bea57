"""Rates that rise and fall, with a momentum that moves the other way: CyclicLR, OneCycleLR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet.equations import equation
from anynet.optim.groups import (
    choice,
    finite,
    flag,
    integer,
    not_negative,
    optional,
    plain,
    positive,
    unit_interval,
)
from anynet.optim.lr_scheduler.scheduler import LRScheduler, zero_if_negligible
from anynet.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR"]


class CyclesMomentum(LRScheduler):
    """What schedules share that move the momentum (for Adam β₁), too."""

    cycle_momentum: bool

    def _read_momenta(self, cycle: bool, base: float | list[float], top: float | list[float]) -> None:
        """The options `cycle_momentum`, `base_momentum` and `max_momentum`."""
        self.cycle_momentum = self._read("cycle_momentum", flag, cycle)
        if cycle:
            self.use_beta1 = self._use_beta1()
            self.base_momentums = self._read_each("base_momentum", unit_interval, base)
            self.max_momentums = self._read_each("max_momentum", unit_interval, top)

    def _use_beta1(self) -> bool:
        """Whether the momentum is β₁; ValueError where there is neither."""
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            msg = f"{type(self).__name__}: {type(self.optimizer).__name__} has no momentum; give cycle_momentum=False"
            raise ValueError(msg)
        return "betas" in defaults

    def _momenta(self) -> list[float]:
        return [g["betas"][0] if "betas" in g else plain(g["momentum"]) for g in self.optimizer.param_groups]

    def _set_momenta(self, values: Sequence[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=False):
            if "betas" in group:
                group["betas"] = (zero_if_negligible(value), *group["betas"][1:])
            else:
                group["momentum"] = zero_if_negligible(value)

    def state_dict(self) -> dict[str, Any]:
        """The schedule as data, with the momenta now."""
        return super().state_dict() | ({"momenta": self._momenta()} if self.cycle_momentum else {})

    def _loaded(self, state: dict[str, Any]) -> None:
        super()._loaded(state)
        if self.cycle_momentum and "momenta" in state:
            # states of earlier versions hold both betas
            self._set_momenta([m[0] if isinstance(m, (list, tuple)) else m for m in state["momenta"]])


@equation(
    "c = floor(1 + t / T)",
    "x = 1 + t / T - c",
    "a = x / ρ if x <= ρ else (x - 1) / (ρ - 1)",
    's = 1 / 2**(c - 1) if mode == "triangular2" else γ**t if mode == "exp_range" else 1',
    "η = η0 + (η_max - η0) * a * s",
    where="""
        t: the step
        η0 = base_lrs[0]
        η_max = max_lrs[0]
        T = total_size
        ρ = step_ratio
        γ = gamma
        mode
    """,
)
class CyclicLR(CyclesMomentum):
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

    _functions = ("_scale_fn_custom",)

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
        self.optimizer = optimizer
        if scale_fn is None:
            self._read("mode", choice("triangular", "triangular2", "exp_range"), mode)
        lows = self._read_each("base_lr", not_negative, base_lr)
        self.max_lrs = self._read_each("max_lr", not_negative, max_lr)
        up = float(self._read("step_size_up", positive, step_size_up))
        down = self._read("step_size_down", optional(positive), step_size_down)
        self.total_size = up + (up if down is None else float(down))
        self.step_ratio = up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, self._read("gamma", finite, gamma), scale_fn
        self.scale_mode = self._read("scale_mode", choice("cycle", "iterations"), scale_mode)
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self._read_momenta(cycle_momentum, base_momentum, max_momentum)
        if last_epoch == -1:
            self._set(lows)
            if cycle_momentum:
                self._set_momenta(self.max_momentums)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows
        self._set(self.get_lr())

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, as a share of the first one's."""
        if self._scale_fn_custom is not None:
            return float(self._scale_fn_custom(x))
        if self.mode == "triangular2":
            return float(1 / (2.0 ** (x - 1)))
        return float(self.gamma**x) if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            self._set_momenta(
                [
                    high - (high - low) * part * scale
                    for low, high in zip(self.base_momentums, self.max_momentums, strict=True)
                ]
            )
        return [
            low + (high - low) * part * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]


class OneCycleLR(CyclesMomentum):
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
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        if total_steps is not None:
            self.total_steps: int = self._read("total_steps", integer(1), total_steps)
        elif epochs is None or steps_per_epoch is None:
            msg = "OneCycleLR: give total_steps, or epochs and steps_per_epoch"
            raise ValueError(msg)
        else:
            self.total_steps = self._read("epochs", integer(1), epochs) * self._read(
                "steps_per_epoch", integer(1), steps_per_epoch
            )
        pct_start = self._read("pct_start", unit_interval, pct_start)
        self.anneal_strategy = self._read("anneal_strategy", choice("cos", "linear"), anneal_strategy)
        div_factor = self._read("div_factor", positive, div_factor)
        final_div_factor = self._read("final_div_factor", positive, final_div_factor)
        self.max_lrs = self._read_each("max_lr", not_negative, max_lr)
        self.initial_lrs = [lr / div_factor for lr in self.max_lrs]
        self.min_lrs = [lr / final_div_factor for lr in self.initial_lrs]
        self._read_momenta(cycle_momentum, base_momentum, max_momentum)
        # the last step of each phase, and the names of what it goes between
        self.phases: list[Any] = [
            [float(pct_start * self.total_steps) - 1, "initial_lrs", "max_lrs", "max", "base"]
        ]
        if self._read("three_phase", flag, three_phase):
            self.phases += [
                [float(2 * pct_start * self.total_steps) - 2, "max_lrs", "initial_lrs", "base", "max"],
                [self.total_steps - 1, "initial_lrs", "min_lrs", "max", "max"],
            ]
        else:
            self.phases.append([self.total_steps - 1, "max_lrs", "min_lrs", "base", "max"])
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, self.initial_lrs, strict=True):
                group["initial_lr"] = lr
            if cycle_momentum:
                self._set_momenta(self.max_momentums)
        super().__init__(optimizer, last_epoch)

    def _between(self, a: float, b: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (b - a) * share + a
        return b + (a - b) / 2.0 * (math.cos(math.pi * share) + 1)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            msg = f"OneCycleLR: step {t}, but total_steps is {self.total_steps}"
            raise ValueError(msg)
        which = next((i for i, phase in enumerate(self.phases) if t <= phase[0]), len(self.phases) - 1)
        start = self.phases[which - 1][0] if which else 0.0
        end, a, b, m, n = self.phases[which]
        share = (t - start) / (end - start) if end != start else 0.0
        if self.cycle_momentum:
            low, high = getattr(self, f"{m}_momentums"), getattr(self, f"{n}_momentums")
            self._set_momenta([self._between(x, y, share) for x, y in zip(low, high, strict=True)])
        return [self._between(x, y, share) for x, y in zip(getattr(self, a), getattr(self, b), strict=True)]
