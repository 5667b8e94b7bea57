"""Callbacks: what `fit` calls between batches and epochs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from anynet._hints import closest
from anynet.nn.module import Module
from anynet.train.checks import choice, real_number, whole_number
from anynet.train.metrics import direction

__all__ = ["Callback", "EarlyStopping", "checked"]


class Callback:
    """Called by `fit`; override what you need. Returning True from `on_epoch_end` stops the training.

    A callback can be used for one training after another: `on_train_begin` starts from scratch, and where a run is resumed
    `load_state_dict` follows with what `state_dict` gave. `adds` names the quantities that it writes into the record of an
    epoch, where something monitors them.
    """

    adds: Sequence[str] = ()

    def check(self, quantities: Mapping[str, str | None]) -> None:
        """Before anything begins, with the names of what a record will hold, each with "min" or "max" for the better direction
        or None where it does not say. Raise where that does not do."""

    def on_train_begin(self, model: Module) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, model: Module, epoch: int) -> None:
        """Before the first batch of an epoch (1, 2, …)."""

    def on_batch_end(self, model: Module, epoch: int, batch: int, loss: float) -> None:
        """After each update."""

    def on_epoch_end(self, model: Module, record: dict[str, Any]) -> bool | None:
        """After each epoch, with its record."""

    def on_train_end(self, model: Module) -> None:
        """After the last epoch; not where an error or Ctrl-C ended the training."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by `min_delta` for `patience` epochs. NaN is no improvement.

    `mode` is 'min', 'max' or 'auto': then the quantity says itself which is better, as losses and the metrics of this
    library do; one that does not is refused before the training begins.
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: int = 3, min_delta: float = 0.0, mode: str = "auto"
    ) -> None:
        choice("EarlyStopping", "mode", mode, ("auto", "min", "max"))
        self.monitor, self.mode = monitor, mode
        self.patience = whole_number("EarlyStopping", "patience", patience, 1)
        self.min_delta = real_number(
            "EarlyStopping", "min_delta", abs(min_delta) if _signed(min_delta) else min_delta
        )
        self.sign: float | None = None if mode == "auto" else -1.0 if mode == "max" else 1.0
        if mode == "auto" and monitor in ("loss", "val_loss"):
            self.sign = 1.0
        self.best, self.bad = math.inf, 0

    def check(self, quantities: Mapping[str, str | None]) -> None:
        """Refuse what the record will not have, or what does not say its direction."""
        mode = None if self.mode == "auto" else self.mode
        self.sign = -1.0 if direction("EarlyStopping", self.monitor, mode, quantities) == "max" else 1.0

    def on_train_begin(self, model: Module) -> None:
        """Reset what the training before has left."""
        self.best, self.bad = math.inf, 0

    def on_epoch_end(self, model: Module, record: dict[str, Any]) -> bool:
        """True after `patience` epochs without improvement."""
        if self.monitor not in record:
            msg = f"EarlyStopping monitors {self.monitor!r}, but the record has {', '.join(record)}"
            raise KeyError(msg)
        if self.sign is None:
            msg = f"EarlyStopping: {self.monitor!r} does not say whether more or less is better; give mode='max' or mode='min'"
            raise ValueError(msg)
        value = self.sign * record[self.monitor]
        if value < self.best - self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and the epochs since."""
        return {"best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        best, bad = state["best"], state["bad"]
        if not isinstance(best, float) or type(bad) is not int or bad < 0:
            msg = f"EarlyStopping: its state must be a number best and a count bad, got {best!r} and {bad!r}"
            raise ValueError(msg)
        self.best, self.bad = best, bad


def _signed(value: Any) -> bool:
    return hasattr(value, "__abs__") and not isinstance(value, bool)


_METHODS: dict[str, tuple[Any, ...]] = {
    "on_train_begin": (None,), "on_epoch_begin": (None, 1), "on_batch_end": (None, 1, 1, 0.0), "on_epoch_end": (None, {}),
    "on_train_end": (None,),
}  # fmt: skip


def checked(callbacks: Any) -> list[Callback]:
    """The callbacks as a list; refused where one would not be called as it expects."""
    items = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for i, one in enumerate(items):
        if isinstance(one, type):
            msg = f"fit: callbacks must be instances, got the class {one.__name__}; write {one.__name__}()"
            raise TypeError(msg)
        name = type(one).__name__
        if not isinstance(one, Callback):
            msg = f"fit: callbacks must be instances of anynet.train.Callback, got {name}"
            raise TypeError(msg)
        if any(one is other for other in items[:i]):
            msg = f"fit: the same {name} is among the callbacks twice"
            raise ValueError(msg)
        for method in dir(one):
            if method.startswith("on_") and method not in _METHODS and callable(getattr(one, method)):
                near = closest(method, _METHODS)
                hint = f"did you mean {near}?" if near else f"fit calls {', '.join(_METHODS)}"
                msg = f"fit never calls {name}.{method}; {hint}"
                raise TypeError(msg)
        for method, arguments in _METHODS.items():
            try:
                inspect.signature(getattr(one, method)).bind(*arguments)
            except TypeError:
                expected = str(inspect.signature(getattr(Callback, method))).split(" ->")[0]
                msg = f"fit: {name}.{method} takes other arguments than it is called with: {method}{expected}"
                raise TypeError(msg) from None
            except ValueError:  # it has no signature to look at
                continue
    return items
