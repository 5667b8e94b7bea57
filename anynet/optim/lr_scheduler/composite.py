"""Schedules made of schedules: one after another, or several at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, ClassVar

from anynet.optim.groups import integer
from anynet.optim.lr_scheduler.plateau import ReduceLROnPlateau
from anynet.optim.lr_scheduler.scheduler import LRScheduler
from anynet.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composite(LRScheduler):
    """What schedules that are made of others share: these begin, and are saved and loaded, with it."""

    schedulers: list[LRScheduler]
    _new_entry: ClassVar[str]  # what states of earlier versions lack

    def _reset(self) -> None:
        for s in self.schedulers:
            s._reset()

    def state_dict(self) -> dict[str, Any]:
        """The schedule as data, and each of its schedules."""
        return super().state_dict() | {"schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the schedule that `state_dict` was taken from; all is checked first."""
        self._check_state(state)
        for s, part in zip(self.schedulers, state["schedulers"], strict=True):
            s.load_state_dict(part)
        for name in ("last_epoch", "milestones", "base_lrs"):
            if name in state and name in self.__dict__:
                setattr(self, name, state[name])
        self._loaded(state)

    def _check_state(self, state: Any) -> None:
        if isinstance(state, dict):
            state = {self._new_entry: self.state_dict()[self._new_entry], **state}
        super()._check_state(state)
        parts = state.get("schedulers", ())
        if len(parts) != len(self.schedulers):
            msg = f"{type(self).__name__}: not the state of {len(self.schedulers)} schedules, but of {len(parts)}"
            raise ValueError(msg)
        for s, part in zip(self.schedulers, parts, strict=True):
            s._check_state(part)


class SequentialLR(_Composite):
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

    _new_entry = "base_lrs"

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
        super()._reset()

    def _start(self) -> None:
        self._reset()
        self.last_epoch += 1
        self.schedulers[bisect_right(self.milestones, 0)]._start()
        self._last_lr = self._now()

    def _restart(self) -> None:
        self._set(self.base_lrs)
        self._start()

    def step(self, epoch: float | None = None) -> None:
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


class ChainedScheduler(_Composite):
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

    _new_entry = "lrs"

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.schedulers = _schedules(type(self).__name__, schedulers, optimizer)
        self.optimizer = self.schedulers[0].optimizer
        self._last_lr = self._now()

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """Those of the first schedule."""
        return self.schedulers[0].base_lrs

    def _start(self) -> None:
        self._reset()
        for s in self.schedulers:
            s._start()
        self._last_lr = self._now()

    def _restart(self) -> None:
        self._set([g["initial_lr"] for g in self.optimizer.param_groups])
        self._start()

    def step(self, epoch: float | None = None) -> None:
        """Go on by one."""
        _only_on(self, epoch)
        for scheduler in self.schedulers:
            scheduler.step()
        self._last_lr = self._now()


def _schedules(owner: str, schedulers: Sequence[Any], optimizer: Optimizer | None) -> list[LRScheduler]:
    """The schedules of another one, checked."""
    found = list(schedulers)
    if not found:
        msg = f"{owner}: schedulers must hold at least one schedule, got none"
        raise ValueError(msg)
    for i, s in enumerate(found):
        if not isinstance(s, LRScheduler):
            msg = f"{owner}: schedule {i} must be an LRScheduler, got {type(s).__name__}"
            raise TypeError(msg)
        if isinstance(s, ReduceLROnPlateau):
            msg = f"{owner}: schedule {i} is a ReduceLROnPlateau, whose step() takes a metric; step it by itself"
            raise ValueError(msg)
        if s.optimizer is not (found[0].optimizer if optimizer is None else optimizer):
            msg = f"{owner}: all schedules must be of one optimizer, but that of schedule {i} is another"
            raise ValueError(msg)
    return found


def _only_on(schedule: LRScheduler, epoch: float | None) -> None:
    if epoch is not None:
        msg = f"{type(schedule).__name__}.step() goes on by one; it takes no epoch"
        raise TypeError(msg)
