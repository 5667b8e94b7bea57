"""A learning rate from one sweep: the loss while the rate grows from batch to batch (Smith 2015)."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from anynet.nn.module import Module
from anynet.train.callbacks import Callback
from anynet.train.checks import real_number, whole_number
from anynet.train.loop import fit
from anynet.train.state import NonFiniteError
from anynet.train.updates import NonFiniteGradientError, NonFiniteLossError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anynet.train.training import Training

__all__ = ["LRFind", "lr_find"]


class LRFind:
    """The sweep: `rates`, the `losses` of the batches and their `smooth` mean, and `suggestion`, the rate at which the smooth loss falls
    fastest (None where it does not fall)."""

    def __init__(self, rates: list[float], losses: list[float]) -> None:
        self.rates, self.losses, self.smooth = rates, losses, _smoothed(losses)
        self.suggestion = _steepest(rates, self.smooth)

    def __repr__(self) -> str:
        return f"LRFind(suggestion={self.suggestion!r}, {len(self.rates)} rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The loss by the rate, with the suggestion, on matplotlib's axes (extra ``plot``)."""
        from anynet._optional import optional  # optional: only for the plot

        if ax is None:
            ax = optional("matplotlib.pyplot", "plot", "plotting").subplots()[1]
        ax.plot(self.rates, self.losses, alpha=0.3, label="loss")
        ax.plot(self.rates, self.smooth, label="smoothed")
        if self.suggestion is not None:
            ax.axvline(
                self.suggestion, linestyle=":", color="black", label=f"suggestion {self.suggestion:.2g}"
            )
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend()
        return ax


def _smoothed(losses: list[float]) -> list[float]:
    """Means over a tenth of the sweep around each rate, weighted by a triangle; narrower at the ends."""
    n, width = len(losses), max(1, len(losses) // 20)
    out = []
    for i in range(n):
        w = min(width, i, n - 1 - i)
        parts = [(w + 1 - abs(d), losses[i + d]) for d in range(-w, w + 1)]
        out.append(sum(share * loss for share, loss in parts) / sum(share for share, _ in parts))
    return out


def _steepest(rates: list[float], smooth: list[float]) -> float | None:
    """The rate at which the loss falls fastest by the logarithm of the rate, before its minimum: least squares over a fifth of it, so
    that what differs from batch to batch does not count. None where it falls nowhere."""
    low = min(range(len(smooth)), key=smooth.__getitem__)
    width = max(1, len(smooth) // 10)
    best, found = 0.0, None
    for i in range(width, low + 1 - min(width, low // 2)):
        at = range(i - width, min(i + width, low) + 1)
        x = [math.log(rates[k]) for k in at]
        middle = sum(x) / len(x)
        slope = sum((a - middle) * smooth[k] for a, k in zip(x, at, strict=True)) / sum(
            (a - middle) ** 2 for a in x
        )
        if slope < best:
            best, found = slope, rates[i]
    return found


class _Sweep(Callback):
    def __init__(self, start: float, end: float, steps: int) -> None:
        self.start, self.factor = start, (end / start) ** (1 / (steps - 1))
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.mean, self.lowest = 0.0, math.inf

    def on_train_begin(self, run: Training) -> None:
        """The first group's rate grows; the others keep their ratio to it."""
        first = float(run.optimizer.param_groups[0]["lr"]) or 1.0
        self.shares = [float(g["lr"]) / first for g in run.optimizer.param_groups]

    def on_batch_begin(self, run: Training) -> None:
        """The next rate."""
        rate = self.start * self.factor ** len(self.rates)
        for group, share in zip(run.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = rate * share
        self.rates.append(rate)

    def on_batch_end(self, run: Training) -> None:
        """The loss; the end where a running mean of it has grown far above its lowest value."""
        self.losses.append(run.loss)
        self.mean = 0.8 * self.mean + 0.2 * run.loss
        mean = self.mean / (1 - 0.8 ** len(self.losses))
        self.lowest = min(self.lowest, mean)
        if len(self.losses) > 10 and mean > self.lowest + 3 * abs(self.lowest) + 1e-12:
            run.stop("the loss diverges")


def lr_find(
    model: Module, data: Any, loss: Any = None, *, optimizer: Any = "adam", start: float = 1e-7, end: float = 10.0, steps: int = 100,
    batch_size: int = 32, device: str | None = "auto", seed: int = 0, **options: Any,
) -> LRFind:  # fmt: skip
    """Train a copy of the model for `steps` batches while the learning rate grows from `start` to `end`, by the same factor each time, and
    suggest the rate at which the loss falls fastest; it ends where the loss diverges.

    `data`, `loss`, `optimizer` and the other options are those of `fit`. The model, the optimizer and the streams of random numbers are
    left as they were, bit for bit.

    >>> import anynet as an
    >>> x = an.random.normal((256, 4))
    >>> found = an.lr_find(an.nn.Linear(4, 1), (x, an.sum(x, axis=1, keepdims=True)), "mse", optimizer="sgd")
    >>> 1e-3 < found.suggestion < 1
    True
    """
    start, end = (
        real_number("lr_find", "start", start, positive=True),
        real_number("lr_find", "end", end, positive=True),
    )
    if start >= end:
        msg = f"lr_find: start must be below end, got {start} and {end}"
        raise ValueError(msg)
    whole_number("lr_find", "steps", steps, 20)
    if not isinstance(model, Module):
        msg = f"lr_find: the model must be a Module, got {type(model).__name__}"
        raise TypeError(msg)
    twin, made, objective = copy.deepcopy((model, optimizer, loss))
    sweep = _Sweep(start, end, steps)
    try:
        fit(
            twin, data, loss=objective, optimizer=made, steps=steps, batch_size=batch_size, device=device, seed=seed,
            callbacks=sweep, compile=False, progress=False, restore_best=False, **options,
        )  # fmt: skip
    except (NonFiniteLossError, NonFiniteGradientError, NonFiniteError):
        if len(sweep.losses) < 20:
            raise
    rates = sweep.rates[: len(sweep.losses)]
    return LRFind(rates, sweep.losses)
