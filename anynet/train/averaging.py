"""Means of the weights over the steps of training, with which a model is evaluated and saved: `EMA`, `SWA`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anynet.nn.modes import modes_kept
from anynet.ops.creation import asarray
from anynet.streams import fork_rng
from anynet.tensor import Tensor, no_grad
from anynet.train.averages import tensors_of
from anynet.train.batches import call
from anynet.train.callbacks import Averaging
from anynet.train.checks import whole_number
from anynet.train.streams import Stream

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["EMA", "SWA"]


class _Mean(Averaging):
    """The mean, and how many weights are in it."""

    def __init__(self) -> None:
        self.count = 0
        self.average: dict[str, Tensor] = {}

    def averaged_weights(self) -> Mapping[str, Tensor] | None:
        """The mean; None before the first."""
        return self.average or None

    def on_train_begin(self, run: Training) -> None:
        """Begin with no mean."""
        self.count, self.average = 0, {}

    def state_dict(self) -> dict[str, Any]:
        """The mean, and how many weights are in it."""
        return {"count": self.count, "average": dict(self.average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.count = int(state["count"])
        self.average = {name: asarray(value, copy=True) for name, value in state["average"].items()}

    def _take(self, run: Training, share: float) -> None:
        """average ← average + share · (new − average); numbers that are no real ones (counts) are the latest."""
        first = not self.average
        with no_grad():
            for name, tensor in tensors_of(run.model).items():
                new = tensor.detach()
                if first or new.dtype.kind != "real":
                    self.average[name] = asarray(new, copy=True)
                else:
                    old = self.average[name].to(new.device)
                    self.average[name] = old + (new - old) * share
        self.count += 1


class EMA(_Mean):
    """An exponential moving average of the weights: after each update average ← decay · average + (1 − decay) · weights (Polyak).

    The model has the average while it is validated, in `on_epoch_end`, in what is saved as best weights, and at the end. Running
    statistics of batch norms are averaged likewise. The first updates count more, so that the beginning is forgotten: the decay of
    update n is min(decay, (1 + n) / (10 + n)); ``warmup=False`` leaves that out.

    >>> import anynet as an
    >>> data = an.ones((64, 2)), an.ones((64, 1))
    >>> _ = an.fit(an.nn.Linear(2, 1), data, loss="mse", callbacks=an.train.EMA(0.9), progress=False)
    """

    def __init__(self, decay: float = 0.999, *, warmup: bool = True) -> None:
        super().__init__()
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            msg = f"EMA: decay must be in [0, 1), got {decay!r}"
            raise ValueError(msg)
        self.decay, self.warmup = float(decay), bool(warmup)
        self._steps = 0

    def on_train_begin(self, run: Training) -> None:
        """Begin with no mean."""
        super().on_train_begin(run)
        self._steps = 0

    def on_batch_end(self, run: Training) -> None:
        """Take in the weights after an update."""
        if run.steps > self._steps:
            self._steps = run.steps
            decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.warmup else self.decay
            self._take(run, 1.0 - decay)

    def before_evaluation(self, run: Training) -> None:
        """An update at the end of an epoch, where gradients were accumulated."""
        self.on_batch_end(run)

    def state_dict(self) -> dict[str, Any]:
        """The mean, and which updates are in it."""
        return {**super().state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        super().load_state_dict(state)
        self._steps = int(state["steps"])


class SWA(_Mean):
    """Stochastic weight averaging: the plain mean of the weights at the ends of the epochs from `start` on (Izmailov et al. 2018).

    Before each evaluation with it the running statistics of batch norms are computed again, by a pass over the training data. Give a
    learning rate that stays (`optim.swa_utils.SWALR`).

    >>> import anynet as an
    >>> data = an.ones((64, 2)), an.ones((64, 1))
    >>> _ = an.fit(an.nn.Linear(2, 1), data, loss="mse", epochs=4, callbacks=an.train.SWA(start=3), progress=False)
    """

    def __init__(self, start: int = 1) -> None:
        super().__init__()
        self.start = whole_number("SWA", "start", start, 1)

    def on_train_begin(self, run: Training) -> None:
        """Begin with no mean; refuse data that cannot be gone through again where that is needed."""
        super().on_train_begin(run)
        loader = run.setup.loader
        if _norms(run) and isinstance(loader, Stream) and loader.once:
            msg = "SWA: the statistics of batch norms take another pass over the training data, and these are an iterator"
            raise ValueError(msg)

    def before_evaluation(self, run: Training) -> None:
        """Take in the weights, and compute the statistics that belong to the mean."""
        if run.epoch < self.start:
            return
        self._take(run, 1.0 / (self.count + 1))
        norms = _norms(run)
        if norms:
            self._statistics(run, norms)

    def _statistics(self, run: Training, norms: list[Any]) -> None:
        own = tensors_of(run.model)
        before = {name: asarray(t.detach(), copy=True) for name, t in own.items()}
        momentum = [m.momentum for m in norms]
        setup = run.setup
        try:
            with no_grad(), fork_rng(), modes_kept(run.model):
                for name, value in self.average.items():
                    own[name].assign_(value)
                run.model.train()
                for m in norms:
                    m.reset_running_stats()
                    m.momentum = None
                setup.loader.set_epoch(run.epoch - 1)
                for batch in setup.loader:
                    call(run.model, setup.batches.parts(batch)[0])
                for name, _ in run.model.named_buffers():
                    self.average[name] = asarray(own[name].detach(), copy=True)
        finally:
            with no_grad():
                for m, value in zip(norms, momentum, strict=True):
                    m.momentum = value
                for name, value in before.items():
                    own[name].assign_(value)


def _norms(run: Training) -> list[Any]:
    modules: list[Any] = list(run.model.modules())
    return [
        m
        for m in modules
        if getattr(m, "running_mean", None) is not None and hasattr(m, "reset_running_stats")
    ]
