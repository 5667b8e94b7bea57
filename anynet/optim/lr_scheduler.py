"""Learning-rate schedules: each step sets the `lr` of every parameter group.

A schedule is created at step 0, which sets the first rate; `step()` is called after each epoch (or batch). Its state holds all
that it is made of but functions, so that a state loaded into a schedule makes it the one that was saved, as in PyTorch.
"""

from __future__ import annotations

import math
import types
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from anynet.autograd.compiling import on_host
from anynet.optim.groups import Kind, choice, flag, integer, optional, plain, read, real
from anynet.optim.optimizer import Optimizer
from anynet.tensor import Tensor

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip

_T = TypeVar("_T")

_not_negative, _positive, _any, _share = real(0), real(0, above=True), real(), real(0, 1)


class LRScheduler:
    """The base: `get_lr()` gives the groups' rates at step `last_epoch`, from the rates now or from `base_lrs`.

    A subclass may define ``_get_closed_form_lr()`` as well, the rates from `base_lrs` alone, which ``step(epoch)`` takes.

    With `last_epoch` other than −1 the schedule goes on after that step: the groups have an ``initial_lr``, as those of an
    optimizer that had a schedule.

    >>> import anynet as an
    >>> optimizer = an.optim.SGD([an.nn.Parameter(an.zeros(1))], lr=1.0)
    >>> schedule = an.optim.StepLR(optimizer, step_size=1, gamma=0.1)
    >>> optimizer.step(); schedule.step()
    >>> [round(float(lr), 3) for lr in schedule.get_last_lr()]
    [0.1]
    """

    _initial = False  # while the first rate is set
    _functions: tuple[str, ...] = ()  # attributes that are functions, or lists of them

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            msg = f"{type(self).__name__} takes an Optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        self.optimizer = optimizer
        self.last_epoch: Any = self._read("last_epoch", integer(-1), last_epoch)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", plain(group["lr"]))
            elif "initial_lr" not in group:
                msg = (
                    f"{type(self).__name__}: last_epoch={last_epoch} goes on with an optimizer that had a schedule, but "
                    f"param_groups[{i}] has no 'initial_lr'; load the optimizer's state first, or leave last_epoch at -1"
                )
                raise KeyError(msg)
        self.base_lrs: list[float] = [g["initial_lr"] for g in optimizer.param_groups]
        self._first = self.last_epoch
        self._start()

    def _read(self, name: str, kind: Kind, value: Any) -> Any:
        return read(type(self).__name__, name, kind, value)

    def get_lr(self) -> list[float]:
        """The rates of the groups at step `last_epoch`."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """In a compiled function a step is a call of Python code between array operations."""
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = on_host(cls.__dict__["step"])  # type: ignore[method-assign]

    @on_host
    def step(self, epoch: Any = None) -> None:
        """Go on by one; or, with `epoch`, to that step, at the rate that the closed form gives, where there is one."""
        self._update(epoch)

    def _update(self, epoch: Any = None) -> None:
        before = self.last_epoch
        closed = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
        self.last_epoch = before + 1 if epoch is None else epoch
        try:
            rates = self.get_lr() if closed is None else closed()
            self._set(rates)
        except Exception:
            self.last_epoch = before
            raise

    # ----- beginning, alone or in another schedule -----

    def _reset(self) -> None:
        """Back before the first step."""
        self.last_epoch = self._first

    def _start(self) -> None:
        """The first step, from the rates as they are."""
        self._initial = True
        try:
            self.step()
        finally:
            del self._initial

    def _restart(self) -> None:
        """The first step at a milestone of a `SequentialLR`."""
        self._update(0)

    # ----- the groups -----

    def _now(self) -> list[float]:
        return [plain(g["lr"]) for g in self.optimizer.param_groups]

    def _set(self, rates: Sequence[float]) -> None:
        groups = self.optimizer.param_groups
        if len(rates) != len(groups):
            msg = (
                f"{type(self).__name__} is made for {len(rates)} parameter groups, the optimizer has {len(groups)}; "
                "make the schedule after add_param_group()"
            )
            raise ValueError(msg)
        values = [_rounded(plain(rate)) for rate in rates]
        for value in values:
            if type(value) is not float or not 0.0 <= value < math.inf:
                self._read("the rate", _not_negative, value)
        for group, value in zip(groups, values, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].assign_(value)
            else:
                group["lr"] = value
        self._last_lr = self._now()

    def get_last_lr(self) -> list[float]:
        """The rates of the groups that the last step has set."""
        return list(self._last_lr)

    def _momentum(self, name: str, value: Any) -> list[float]:
        """A momentum for each group, from one or a list of them."""
        values = _each(name, value, self.optimizer.param_groups)
        return [self._read(name, real(0, 1), v) for v in values]

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
                group["betas"] = (_rounded(value), *group["betas"][1:])
            else:
                group["momentum"] = _rounded(value)

    # ----- state -----

    def state_dict(self) -> dict[str, Any]:
        """The schedule as data: where it is, its options, the groups' rates now. Functions are left out, but of an object that
        is called its attributes are there.
        """
        state = {
            k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_initial", *self._functions)
        }
        for name in self._functions:
            value = getattr(self, name)
            state[name] = [_data(f) for f in value] if isinstance(value, list) else _data(value)
        state = {k: list(v) if isinstance(v, list) else v for k, v in state.items()}
        if getattr(self, "cycle_momentum", False):
            state["momenta"] = self._momenta()
        return state | {"lrs": self._now()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the schedule that `state_dict` was taken from; the rates are set as they were. All is checked first."""
        self._check_state(state)
        own = self.state_dict()
        for name, value in state.items():
            if name in self._functions:
                mine = getattr(self, name)
                pairs = zip(mine, value, strict=True) if isinstance(mine, list) else [(mine, value)]
                for function, data in pairs:
                    if data is not None and function is not None:
                        function.__dict__.update(data)
            elif name in own and name not in ("lrs", "momenta"):
                setattr(self, name, list(value) if isinstance(value, list) else value)
        self._loaded(state)

    def _loaded(self, state: dict[str, Any]) -> None:
        """The groups as they were."""
        if "lrs" in state:
            last = state.get("_last_lr")
            self._set([float(lr) for lr in state["lrs"]])
            self._last_lr = self._now() if last is None else list(last)
        if getattr(self, "cycle_momentum", False) and "momenta" in state:
            self._set_momenta([m[0] if isinstance(m, (list, tuple)) else m for m in state["momenta"]])

    def _check_state(self, state: Any) -> None:
        """Refuse what is not this schedule's. States of earlier versions hold the position alone; the options stay then."""
        own = self.state_dict()
        if not isinstance(state, dict):
            msg = f"{type(self).__name__}: the state is a dict, got {type(state).__name__}"
            raise TypeError(msg)
        former = "lrs" in state and "_last_lr" not in state
        lacks = (
            []
            if former
            else [k for k in own if k not in state and not k.startswith("_") and k not in ("lrs", "momenta")]
        )
        lacks += [k for k in ("last_epoch", "base_lrs") if k in own and k not in state and k not in lacks]
        strange = [k for k in state if k not in own and not str(k).startswith("_") and k != "momenta"]
        if lacks or strange:
            what = [f"it lacks {', '.join(lacks)}"] if lacks else []
            what += [f"it has {', '.join(map(str, strange))}"] if strange else []
            msg = f"{type(self).__name__}: not this schedule's state: {'; '.join(what)}"
            raise ValueError(msg)
        groups = len(self.optimizer.param_groups)
        for name in ("base_lrs", "lrs", "_last_lr"):
            values = state.get(name)
            if values is not None and len(values) != (len(own[name]) if name == "base_lrs" else groups):
                msg = f"{type(self).__name__}: the state's {name} is of {len(values)} parameter groups, the optimizer has {groups}"
                raise ValueError(msg)
        for name in self._functions:
            if isinstance(own[name], list) and name in state and len(state[name]) != len(own[name]):
                msg = f"{type(self).__name__}: the state has {len(state[name])} {name}, this schedule {len(own[name])}"
                raise ValueError(msg)


def _rounded(value: Any) -> Any:
    """A number that is 0 but for rounding is 0: groups take no negative ones."""
    return 0.0 if isinstance(value, float) and -1e-12 < value < 0.0 else value


def _data(function: Any) -> dict[str, Any] | None:
    """The attributes of an object that is called; None for a function."""
    if function is None or isinstance(
        function, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    ):
        return None
    return dict(getattr(function, "__dict__", None) or {}) or None


def _each(
    name: str, value: _T | Sequence[_T], groups: list[dict[str, Any]], what: str = "numbers"
) -> list[_T]:
    """A value for each group, from one or from a list of them."""
    values: list[_T] = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)  # type: ignore[list-item]
    if len(values) != len(groups):
        msg = f"{name}: {len(values)} {what} for {len(groups)} parameter groups"
        raise ValueError(msg)
    return values


def _callables(schedule: str, value: Any, groups: list[dict[str, Any]]) -> list[Callable[[int], float]]:
    functions: list[Any] = _each(schedule, value, groups, "functions")
    for f in functions:
        if not callable(f):
            msg = f"{schedule}: lr_lambda must be a function of the step, or a list of one a group, got {type(f).__name__}"
            raise TypeError(msg)
    return functions


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

    _functions = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _callables("LambdaLR", lr_lambda, optimizer.param_groups)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [b * f(self.last_epoch) for b, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


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

    _functions = ("lr_lambdas",)

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _callables("MultiplicativeLR", lr_lambda, optimizer.param_groups)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._initial:
            return self._now()
        return [lr * f(self.last_epoch) for lr, f in zip(self._now(), self.lr_lambdas, strict=False)]


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
        self.step_size = self._read("step_size", _positive, step_size)
        self.gamma = self._read("gamma", _any, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._now()
        return [lr * self.gamma for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


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
        self.gamma = self._read("gamma", _any, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        turns = self.milestones.count(self.last_epoch)
        return [lr * self.gamma**turns for lr in self._now()] if turns else self._now()

    def _get_closed_form_lr(self) -> list[float]:
        turns = bisect_right(self.milestones, self.last_epoch)
        return [base * self.gamma**turns for base in self.base_lrs]


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
        self.gamma = self._read("gamma", _any, gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._now() if self._initial else [lr * self.gamma for lr in self._now()]

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


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
        self.factor = self._read("factor", _share, factor)
        self.total_iters = self._read("total_iters", _not_negative, total_iters)
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
        self.end_factor = self._read("end_factor", _share, end_factor)
        self.total_iters = self._read("total_iters", _not_negative, total_iters)
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
        self.total_iters = self._read("total_iters", _positive, total_iters)
        self.power = self._read("power", _any, power)
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
        self.T_max = self._read("T_max", _positive, T_max)
        self.eta_min = self._read("eta_min", _not_negative, eta_min)
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

    ``step(epoch)`` goes to any step, a fraction of one too: ``step(epoch + batch / batches)``.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0: int = self._read("T_0", integer(1), T_0)
        self.T_mult: int = self._read("T_mult", integer(1), T_mult)
        self.eta_min = self._read("eta_min", _not_negative, eta_min)
        self.T_i: float = self.T_0
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        part = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * part / 2 for base in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
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
            epoch = self._read("epoch", _not_negative, epoch)
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
        groups = optimizer.param_groups
        if scale_fn is None:
            self._read("mode", choice("triangular", "triangular2", "exp_range"), mode)
        lows = [self._read("base_lr", _not_negative, lr) for lr in _each("base_lr", base_lr, groups)]
        self.max_lrs = [self._read("max_lr", _not_negative, lr) for lr in _each("max_lr", max_lr, groups)]
        up = float(self._read("step_size_up", _positive, step_size_up))
        down = self._read("step_size_down", optional(_positive), step_size_down)
        self.total_size = up + (up if down is None else float(down))
        self.step_ratio = up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, self._read("gamma", _any, gamma), scale_fn
        self.scale_mode = self._read("scale_mode", choice("cycle", "iterations"), scale_mode)
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = self._read("cycle_momentum", flag, cycle_momentum)
        if cycle_momentum:
            self.use_beta1 = self._use_beta1()
            self.base_momentums = self._momentum("base_momentum", base_momentum)
            self.max_momentums = self._momentum("max_momentum", max_momentum)
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
        pct_start = self._read("pct_start", _share, pct_start)
        self.anneal_strategy = self._read("anneal_strategy", choice("cos", "linear"), anneal_strategy)
        div_factor = self._read("div_factor", _positive, div_factor)
        final_div_factor = self._read("final_div_factor", _positive, final_div_factor)
        groups = optimizer.param_groups
        self.max_lrs = [self._read("max_lr", _not_negative, lr) for lr in _each("max_lr", max_lr, groups)]
        self.initial_lrs = [lr / div_factor for lr in self.max_lrs]
        self.min_lrs = [lr / final_div_factor for lr in self.initial_lrs]
        self.cycle_momentum = self._read("cycle_momentum", flag, cycle_momentum)
        if cycle_momentum:
            self.use_beta1 = self._use_beta1()
            self.base_momentums = self._momentum("base_momentum", base_momentum)
            self.max_momentums = self._momentum("max_momentum", max_momentum)
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
            for group, lr in zip(groups, self.initial_lrs, strict=True):
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
        self.threshold = self._read("threshold", _any, threshold)
        self.threshold_mode = self._read("threshold_mode", choice("rel", "abs"), threshold_mode)
        self.cooldown = self._read("cooldown", integer(0), cooldown)
        self.eps = self._read("eps", _not_negative, eps)
        lows = _each("ReduceLROnPlateau", min_lr, optimizer.param_groups, "min_lr")
        self.min_lrs = [self._read("min_lr", _not_negative, lr) for lr in lows]
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

    def step(self, metrics: Any, epoch: Any = None) -> None:  # type: ignore[override]
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
        self.optimizer, self.schedulers = optimizer, _schedules(type(self).__name__, schedulers, optimizer)
        self.milestones: list[int] = [self._read("milestones", integer(0), m) for m in milestones]
        if len(self.milestones) != len(self.schedulers) - 1:
            n = len(self.schedulers)
            msg = f"SequentialLR: {n} schedules need {n - 1} milestones, got {len(self.milestones)}"
            raise ValueError(msg)
        if self.milestones != sorted(self.milestones):
            msg = f"SequentialLR: milestones must be in ascending order, got {self.milestones}"
            raise ValueError(msg)
        self._first = self._read("last_epoch", integer(-1), last_epoch)
        self.base_lrs = [g["initial_lr"] for g in optimizer.param_groups]
        self._restart()

    def _reset(self) -> None:
        self.last_epoch = self._first
        for s in self.schedulers:
            s._reset()

    def _start(self) -> None:
        self._reset()
        self.last_epoch += 1
        self.schedulers[bisect_right(self.milestones, 0)]._start()
        self._last_lr = self._now()

    def _restart(self) -> None:
        self._set(self.base_lrs)
        self._start()

    def step(self, epoch: Any = None) -> None:
        """Go on by one."""
        _only_on(self, epoch)
        before = self.last_epoch
        self.last_epoch += 1
        which = bisect_right(self.milestones, self.last_epoch)
        scheduler = self.schedulers[which]
        try:
            if which and self.milestones[which - 1] == self.last_epoch:
                scheduler._restart()
            else:
                scheduler.step()
        except Exception:
            self.last_epoch = before
            raise
        self._last_lr = self._now()

    def state_dict(self) -> dict[str, Any]:
        """The schedule as data, and each of its schedules."""
        return super().state_dict() | {"schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the schedule that `state_dict` was taken from; all is checked first."""
        _load_all(self, self.schedulers, state)

    def _check_state(self, state: Any) -> None:
        super()._check_state({"base_lrs": self.base_lrs, **state} if isinstance(state, dict) else state)
        _check_all(self, self.schedulers, state)


class ChainedScheduler(LRScheduler):
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
        self.schedulers = _schedules(type(self).__name__, schedulers, optimizer)
        self.optimizer = self.schedulers[0].optimizer
        self._last_lr = self._now()

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """Those of the first schedule."""
        return self.schedulers[0].base_lrs

    def _reset(self) -> None:
        for s in self.schedulers:
            s._reset()

    def _start(self) -> None:
        self._reset()
        for s in self.schedulers:
            s._start()
        self._last_lr = self._now()

    def _restart(self) -> None:
        self._set([g["initial_lr"] for g in self.optimizer.param_groups])
        self._start()

    def step(self, epoch: Any = None) -> None:
        """Go on by one."""
        _only_on(self, epoch)
        for scheduler in self.schedulers:
            scheduler.step()
        self._last_lr = self._now()

    def state_dict(self) -> dict[str, Any]:
        """Each of the schedules as data."""
        return super().state_dict() | {"schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the schedule that `state_dict` was taken from; all is checked first."""
        _load_all(self, self.schedulers, state)

    def _check_state(self, state: Any) -> None:
        if isinstance(state, dict) and "lrs" not in state:  # one of an earlier version
            state = {**state, "lrs": self._now()}
        super()._check_state(state)
        _check_all(self, self.schedulers, state)


def _schedules(owner: str, schedulers: Sequence[Any], optimizer: Optimizer | None) -> list[LRScheduler]:
    """The schedules of another one, checked."""
    found = list(schedulers)
    if not found:
        msg = f"{owner} takes at least one schedule"
        raise ValueError(msg)
    for i, s in enumerate(found):
        if not isinstance(s, LRScheduler):
            msg = f"{owner}: schedule {i} must be an LRScheduler, got {type(s).__name__}"
            raise TypeError(msg)
        if isinstance(s, ReduceLROnPlateau):
            msg = f"{owner}: schedule {i} is a ReduceLROnPlateau, whose step() takes a metric; step it by itself"
            raise ValueError(msg)
        if s.optimizer is not (found[0].optimizer if optimizer is None else optimizer):
            msg = f"{owner}: all schedules are of one optimizer, but that of schedule {i} is another"
            raise ValueError(msg)
    return found


def _only_on(schedule: LRScheduler, epoch: Any) -> None:
    if epoch is not None:
        msg = f"{type(schedule).__name__}.step() goes on by one; it takes no epoch"
        raise TypeError(msg)


def _check_all(schedule: LRScheduler, schedulers: list[LRScheduler], state: dict[str, Any]) -> None:
    parts = state.get("schedulers", ())
    if len(parts) != len(schedulers):
        msg = f"{type(schedule).__name__}: not the state of {len(schedulers)} schedules, but of {len(parts)}"
        raise ValueError(msg)
    for s, part in zip(schedulers, parts, strict=True):
        s._check_state(part)


def _load_all(schedule: LRScheduler, schedulers: list[LRScheduler], state: dict[str, Any]) -> None:
    schedule._check_state(state)
    for s, part in zip(schedulers, state["schedulers"], strict=True):
        s.load_state_dict(part)
    for name in ("last_epoch", "milestones", "base_lrs"):
        if name in state and name in schedule.__dict__:
            setattr(schedule, name, state[name])
    schedule._loaded(state)
