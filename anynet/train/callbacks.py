"""Callbacks: what `fit` calls between batches and epochs."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from anynet._hints import closest
from anynet.ops.creation import asarray
from anynet.train.checks import choice, real_number, seconds, whole_number
from anynet.train.metrics import direction, monitored
from anynet.train.schedules import WholeTraining

if TYPE_CHECKING:
    from anynet.tensor import Tensor
    from anynet.train.training import Training

__all__ = ["Averaging", "Callback", "EarlyStopping", "TimeLimit", "checked", "on"]

EVENTS: Final = (
    "on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end", "on_train_end", "on_exception",
)  # fmt: skip
"""What `fit` calls."""


class Callback:
    """Called by `fit`; override what you need. Each method is given the `Training`, which has the model, the optimizer, the epoch and
    batch, the loss, the record of the epoch, the history, the folder, and ``run.stop(reason)``, which ends the training.

    A callback can be used for one training after another: `on_train_begin` starts from scratch, and where a run is resumed
    `load_state_dict` follows with what `state_dict` gave. `adds` names the quantities that it writes into the record of an
    epoch, where something monitors them. A method that begins with ``on_`` and is none of these is refused when the callback is made.

    >>> import anynet as an
    >>> class Norm(an.train.Callback):
    ...     adds = ("norm",)
    ...
    ...     def on_epoch_end(self, run):
    ...         run.record["norm"] = float(an.linalg.vector_norm(run.model.weight))
    >>> data = an.ones((4, 2)), an.ones((4, 1))
    >>> list(an.fit(an.nn.Linear(2, 1), data, loss="mse", callbacks=[Norm()], progress=False)[0])
    ['epoch', 'loss', 'lr', 'seconds', 'norm']
    """

    adds: Sequence[str] = ()
    writes: ClassVar[bool] = False
    """Whether it is called in the first process alone, where several train together: what writes files or sends records."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse a class whose methods would never be called, or not as they expect."""
        _check_events(cls)
        return super().__new__(cls)

    def check(self, quantities: Mapping[str, str | None]) -> None:
        """Before anything begins, with the names of what a record will hold, each with "min" or "max" for the better direction
        or None where it does not say. Raise where that does not do."""

    def on_train_begin(self, run: Training) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, run: Training) -> None:
        """Before the first batch of an epoch, ``run.epoch`` (1, 2, …)."""

    def on_batch_begin(self, run: Training) -> None:
        """Before each batch, ``run.inputs`` and ``run.targets``; ``run.batch`` are done."""

    def on_batch_end(self, run: Training) -> None:
        """After each batch: ``run.loss``, ``run.output``."""

    def on_epoch_end(self, run: Training) -> None:
        """After each epoch and its validation, with ``run.record``; the weights are those that are evaluated and saved."""

    def on_train_end(self, run: Training) -> None:
        """After the last epoch; not where an error or Ctrl-C ended the training."""

    def on_exception(self, run: Training, error: BaseException) -> None:
        """After an error or Ctrl-C (`Interrupted`) has ended the training; a checkpoint has been written before, where there is a
        folder and a state to go on from. The error is raised afterwards."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""

    def defines(self, event: str) -> bool:
        """Whether this callback has a method of its own for an event."""
        return getattr(type(self), event) is not getattr(Callback, event) or event in vars(self)

    def call(self, event: str, run: Training) -> None:
        """Call the method of an event; what it returns would have no effect and is refused."""
        found = getattr(self, event)(run)
        if found is not None:
            msg = (
                f"{type(self).__name__}.{event} returned {found!r:.60}, which has no effect; to end the training call "
                "run.stop(reason)"
            )
            raise TypeError(msg)


class Averaging(Callback):
    """A callback that holds a mean of the weights, with which the model is evaluated, saved, and left at the end."""

    def averaged_weights(self) -> Mapping[str, Tensor] | None:
        """The mean by the names of parameters and buffers; None while there is none yet."""
        raise NotImplementedError

    def before_evaluation(self, run: Training) -> None:
        """After the last batch of an epoch, before the weights are evaluated."""


_FORMER = {
    "on_train_begin": "model", "on_epoch_begin": "model, epoch", "on_batch_end": "model, epoch, batch, loss",
    "on_epoch_end": "model, record", "on_train_end": "model",
}  # fmt: skip
"""The arguments that these methods had before they were given one object."""
_checked: set[type] = set()


def _check_events(cls: type) -> None:
    """Refuse methods that `fit` never calls, and methods that take other arguments than they are called with."""
    if cls in _checked:
        return
    for name in dir(cls):
        if name.startswith("on_") and name not in EVENTS and callable(getattr(cls, name)):
            near = closest(name, EVENTS)
            hint = f"did you mean {near}?" if near else f"fit calls {', '.join(EVENTS)}"
            msg = f"fit never calls {cls.__name__}.{name}; {hint}"
            raise TypeError(msg)
    for name in EVENTS:
        if getattr(cls, name) is not getattr(Callback, name):
            _check_arguments(cls, name)
    _checked.add(cls)


def _check_arguments(cls: type, name: str) -> None:
    expected = "(self, run, error)" if name == "on_exception" else "(self, run)"
    method = inspect.getattr_static(cls, name)
    if isinstance(method, (staticmethod, classmethod)) or not inspect.isfunction(method):
        return  # found out when it is called
    signature = inspect.signature(method)
    try:
        signature.bind(*[None] * (expected.count(",") + 1))
    except TypeError:
        fits = False
    else:
        fits = list(signature.parameters)[1] not in (
            "model",
            "epoch",
            "batch",
        )  # as here before, and in Keras
    if not fits:
        msg = f"{cls.__name__}.{name}{signature}: this method is given one object, the training: {name}{expected}"
        if name in _FORMER:
            msg += f"; what were the arguments {_FORMER[name]} are {', '.join(f'run.{a}' for a in _FORMER[name].split(', '))}"
        raise TypeError(msg)


class _On(Callback):
    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self.functions = functions
        for event, function in functions.items():
            setattr(self, event, self._calling(event, function))

    def _calling(self, event: str, function: Callable[..., object]) -> Callable[..., None]:
        def call(run: Training, *error: BaseException) -> None:
            function(run, *error)

        call.__name__ = event
        return call


def on(**functions: Callable[..., object]) -> Callback:
    """A callback of functions: ``on(batch_end=f)`` calls ``f(run)`` after each batch. The names are those of the methods of
    `Callback` without ``on_``; what the functions return does not matter.

    >>> import anynet as an
    >>> seen = []
    >>> data = an.ones((4, 2)), an.ones((4, 1))
    >>> each = an.train.on(batch_end=lambda run: seen.append(run.batch))
    >>> _ = an.fit(an.nn.Linear(2, 1), data, loss="mse", batch_size=2, callbacks=each, progress=False)
    >>> seen
    [1, 2]
    """
    events = {}
    for name, function in functions.items():
        event = name if name.startswith("on_") else f"on_{name}"
        if event not in EVENTS:
            near = closest(event, EVENTS)
            known = ", ".join(e.removeprefix("on_") for e in EVENTS)
            hint = f"did you mean {near.removeprefix('on_')}=?" if near else f"there are {known}"
            msg = f"on: fit never calls {name!r}; {hint}"
            raise TypeError(msg)
        if not callable(function):
            msg = f"on: {name} must be a function of the training, got {type(function).__name__}"
            raise TypeError(msg)
        events[event] = function
    return _On(events)


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by `min_delta` for `patience` epochs. NaN is no improvement.

    `mode` is 'min', 'max' or 'auto': then the quantity says itself which is better, as losses and the metrics of this
    library do; one that does not is refused before the training begins. Values count as improvements only where they are better than
    `baseline`, if there is one, and the training is not ended before epoch `min_epochs`.

    `restore_best`: at the end give the model the weights of the epoch with the best value of `monitor`, which `fit` does by its own
    `monitor` (``restore_best=False`` there turns that off).
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: int = 3, min_delta: float = 0.0, mode: str = "auto",
        baseline: float | None = None, min_epochs: int = 1, restore_best: bool = False,
    ) -> None:  # fmt: skip
        choice("EarlyStopping", "mode", mode, ("auto", "min", "max"))
        self.monitor, self.mode = monitor, mode
        self.patience = whole_number("EarlyStopping", "patience", patience, 1)
        self.min_delta = real_number(
            "EarlyStopping", "min_delta", abs(min_delta) if _signed(min_delta) else min_delta
        )
        self.sign: float | None = None if mode == "auto" else -1.0 if mode == "max" else 1.0
        if mode == "auto" and monitor in ("loss", "val_loss"):
            self.sign = 1.0
        if baseline is not None and (not isinstance(baseline, (int, float)) or not math.isfinite(baseline)):
            msg = f"EarlyStopping: baseline must be a finite number, got {baseline!r}"
            raise ValueError(msg)
        self.baseline = baseline
        self.min_epochs = whole_number("EarlyStopping", "min_epochs", min_epochs, 1)
        self.restore_best = bool(restore_best)
        self.best, self.bad = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def check(self, quantities: Mapping[str, str | None]) -> None:
        """Refuse what the record will not have, or what does not say its direction."""
        mode = None if self.mode == "auto" else self.mode
        self.sign = -1.0 if direction("EarlyStopping", self.monitor, mode, quantities) == "max" else 1.0

    def on_train_begin(self, run: Training) -> None:
        """Reset what the training before has left."""
        self.best, self.bad, self.weights = math.inf, 0, {}
        if self.baseline is not None and self.sign is not None:
            self.best = self.sign * self.baseline

    def on_epoch_end(self, run: Training) -> None:
        """Stop after `patience` epochs without improvement."""
        value = monitored("EarlyStopping", self.monitor, run.record)
        if self.sign is None:
            msg = f"EarlyStopping: {self.monitor!r} does not say whether more or less is better; give mode='max' or mode='min'"
            raise ValueError(msg)
        value *= self.sign
        if value < self.best - self.min_delta:
            self.best, self.bad = value, 0
            if self.restore_best:
                self.weights = {k: asarray(v, copy=True) for k, v in run.model.state_dict().items()}
        else:
            self.bad += 1
        if self.bad >= self.patience and run.epoch >= self.min_epochs:
            run.stop(f"{self.monitor} has not improved for {self.bad} epochs")

    def on_train_end(self, run: Training) -> None:
        """Restore the weights of the best epoch, where that is asked for."""
        if self.weights:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, the epochs since, and with `restore_best` the weights."""
        weights = {"weights": dict(self.weights)} if self.weights else {}
        return {"best": float(self.best), "bad": self.bad, **weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        best, bad = state["best"], state["bad"]
        if not isinstance(best, float) or type(bad) is not int or bad < 0:
            msg = f"EarlyStopping: its state must be a number best and a count bad, got {best!r} and {bad!r}"
            raise ValueError(msg)
        self.best, self.bad, self.weights = best, bad, dict(state.get("weights", {}))


class TimeLimit(Callback):
    """End the training when it has taken so long: seconds, or text such as "30s", "10min", "2h"; looked at after each batch.

    The time of validation counts, breaks between a run and its going on do not. A run that this has ended goes on where it is resumed
    with a longer limit.

    A learning-rate schedule given by name ("onecycle", "cosine") comes to its end with the time: each time that a twentieth of it has
    passed, the updates that fit into the rest are estimated from the speed so far, and where they are fewer than were planned the
    schedule is fitted to them. Which updates these decisions were made at is kept, so that the run can be resumed and trained again
    bit for bit.

    >>> TimeLimit("2min").seconds
    120.0
    """

    def __init__(self, limit: float | str) -> None:
        self.limit = limit
        self.seconds = seconds("TimeLimit", "limit", limit)
        self.schedule: Any = None
        self._start(0.0)

    def _start(self, before: float) -> None:
        self.before, self.began = before, time.monotonic()
        self.plans: list[list[int]] = []  # [updates made, updates there will be in all]
        # when the speed was looked at last, and how many updates there were; None: with the next batch it is
        self.looked: tuple[float, int] | None = None

    @property
    def spent(self) -> float:
        """Seconds of training so far."""
        return self.before + time.monotonic() - self.began

    def on_train_begin(self, run: Training) -> None:
        """Start the clock."""
        self.schedule = run.schedule
        self._start(0.0)
        self.looked = (0.0, 0)

    def on_train_end(self, run: Training) -> None:
        """Let go of the training."""
        self.schedule = None

    def on_batch_end(self, run: Training) -> None:
        """Fit the schedule to what is left of the time; stop where that is over."""
        spent, schedule = run.common(self.spent), run.schedule
        if isinstance(schedule, WholeTraining) and run.steps and spent < self.seconds:
            if self.looked is None:
                self.looked = (spent, run.steps)
            elif spent - self.looked[0] >= self.seconds / 20:
                self._plan(schedule, run.steps, spent, *self.looked)
        self._stop_where_over(run, spent)

    def go_on(self, run: Training) -> None:
        """In a run that is resumed: stop where nothing is left to do. What was decided stays, however long the break was."""
        spent = run.common(self.spent)
        if self.looked is None and run.steps:
            self.looked = (spent, run.steps)
        self._stop_where_over(run, spent)

    def _stop_where_over(self, run: Training, spent: float) -> None:
        if spent >= self.seconds:
            run.stop(f"the time limit of {self._given()} is reached", for_good=False)
        elif self.plans and self.plans[-1][1] <= run.steps < run.schedule.updates:
            run.stop(
                f"{run.steps} updates were what fits into the time limit of {self._given()}", for_good=False
            )

    def _given(self) -> str:
        return f"{self.limit:g} s" if not isinstance(self.limit, str) else self.limit

    def _plan(self, schedule: WholeTraining, done: int, spent: float, then: float, had: int) -> None:
        """How many updates there will be, by the mean of the speed in all and since the last look."""
        self.looked = (spent, done)
        if done == had:
            return
        each = (spent / done + (spent - then) / (done - had)) / 2
        fits = done + max(1, int((0.97 * self.seconds - spent) / each))
        if self.plans or fits < schedule.updates:
            self.follow(schedule, [done, min(fits, schedule.updates)])
            schedule.set_rates()

    def follow(self, schedule: WholeTraining, *plans: list[int]) -> None:
        """Take decisions: the schedule is fitted to each in turn."""
        for done, end in plans:
            self.plans.append([done, end])
            schedule.finish(done, end)

    def state_dict(self) -> dict[str, Any]:
        """The time so far, and what was decided."""
        return {
            "seconds": self.spent,
            "limit": self.seconds,
            "plans": self.plans,
            "looked": None if self.looked is None else list(self.looked),
        }

    @staticmethod
    def has_made(state: dict[str, Any]) -> bool:
        """Whether this is a state of a limit of time, as far as that can be seen."""
        return "seconds" in state and state.keys() <= {"seconds", "limit", "plans", "looked"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; with another limit than before the decisions are made anew."""
        self._start(float(state["seconds"]))
        if state.get("limit") != self.seconds:
            return
        if isinstance(self.schedule, WholeTraining):
            self.follow(self.schedule, *state["plans"])
        if state["looked"] is not None:
            self.looked = (float(state["looked"][0]), int(state["looked"][1]))


def _signed(value: Any) -> bool:
    return hasattr(value, "__abs__") and not isinstance(value, bool)


def checked(callbacks: Any, named: Callable[[Any], Any]) -> list[Callback]:
    """The callbacks as a list, those given as plain data made by `named`; refused where one is none."""
    alone = isinstance(callbacks, (Callback, str, Mapping, type)) or not hasattr(callbacks, "__iter__")
    items = [
        named(c) if isinstance(c, (str, Mapping)) else c for c in ([callbacks] if alone else list(callbacks))
    ]
    for i, one in enumerate(items):
        if isinstance(one, type):
            msg = f"fit: callbacks must be instances, got the class {one.__name__}; write {one.__name__}()"
            raise TypeError(msg)
        if not isinstance(one, Callback):
            hint = "; for a function write anynet.train.on(batch_end=function)" if callable(one) else ""
            msg = f"fit: callbacks must be instances of anynet.train.Callback or their names, got {type(one).__name__}{hint}"
            raise TypeError(msg)
        if any(one is other for other in items[:i]):
            msg = f"fit: the same {type(one).__name__} is among the callbacks twice"
            raise ValueError(msg)
    return items
