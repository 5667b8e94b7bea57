"""The base of all learning-rate schedules: each step sets the `lr` of every parameter group.

A schedule is created at step 0, which sets the first rate; `step()` is called after each epoch (or batch). Its state holds
everything that it is made of except functions, so that a state loaded into a schedule makes it the one that was saved, as in PyTorch.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from anynet.autograd.jit.host_callback import IN_A_GRAPH, GraphRule, host_callback, later, reads_a_tensor
from anynet.optim.groups import Kind, integer, not_negative, plain, read
from anynet.optim.optimizer import Optimizer
from anynet.tensor import Tensor

__all__ = ["LRScheduler"]

_T = TypeVar("_T")
_RATES = GraphRule(reads_a_tensor, later)
"""In a step that is captured the rates are set by the host, before each launch."""


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

    _replayed: ClassVar[bool] = True
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

    def _read_each(self, name: str, kind: Kind, value: Any, what: str = "numbers") -> list[Any]:
        """A value for each group, from one or from a list of them."""
        return [self._read(name, kind, v) for v in per_group(name, value, self.optimizer.param_groups, what)]

    def get_lr(self) -> list[float]:
        """The rates of the groups at step `last_epoch`."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """In a compiled function a step is a call of Python code between array operations."""
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            IN_A_GRAPH[cls.__dict__["step"]] = _RATES
            cls.step = host_callback(cls.__dict__["step"])  # type: ignore[method-assign]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one; or, with `epoch`, to that step, at the rate that the closed form gives, where there is one."""
        self._update(epoch)

    def _update(self, epoch: float | None = None) -> None:
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
        values = [zero_if_negligible(plain(rate)) for rate in rates]
        for value in values:
            if type(value) is not float or not 0.0 <= value < math.inf:
                self._read("the rate", not_negative, value)
        for group, value in zip(groups, values, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].assign_(value)
            else:
                group["lr"] = value
        self._last_lr = self._now()

    def get_last_lr(self) -> list[float]:
        """The rates of the groups that the last step has set."""
        return list(self._last_lr)

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

    def _check_state(self, state: Any) -> None:
        """Refuse what is not this schedule's. States of earlier versions hold the position alone; the options stay then."""
        own = self.state_dict()
        if not isinstance(state, dict):
            msg = f"{type(self).__name__}: the state must be a dict, got {type(state).__name__}"
            raise TypeError(msg)
        options = [k for k in own if not k.startswith("_") and k not in ("lrs", "momenta")]
        former = "lrs" in state and "_last_lr" not in state
        lacks = [
            k for k in (("last_epoch", "base_lrs") if former else options) if k in own and k not in state
        ]
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


def zero_if_negligible(value: Any) -> Any:
    """A number that is 0 but for rounding is 0: groups take no negative ones."""
    return 0.0 if isinstance(value, float) and -1e-12 < value < 0.0 else value


def _data(function: Any) -> dict[str, Any] | None:
    """The attributes of an object that is called; None for a function."""
    if function is None or isinstance(
        function, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
    ):
        return None
    return dict(getattr(function, "__dict__", None) or {}) or None


def per_group(
    name: str, value: _T | Sequence[_T], groups: list[dict[str, Any]], what: str = "numbers"
) -> list[_T]:
    """A value for each group, from one or from a list of them."""
    values: list[_T] = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)  # type: ignore[list-item]
    if len(values) != len(groups):
        msg = f"{name}: {len(values)} {what} for {len(groups)} parameter groups"
        raise ValueError(msg)
    return values


IN_A_GRAPH[LRScheduler.step] = _RATES
LRScheduler.step = host_callback(LRScheduler.step)  # type: ignore[method-assign]
