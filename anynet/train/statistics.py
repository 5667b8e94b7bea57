"""What happens inside of the layers while training: outputs, gradients, and how far an update moves the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anynet.ops.elementwise as e
from anynet.linalg import vector_norm
from anynet.nn.members import walk
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.ops.manipulation import astype, reshape
from anynet.ops.reductions import all, mean, std
from anynet.sparse_rows import numbers_of
from anynet.streams import fork_rng
from anynet.tensor import Tensor, no_grad, wrap
from anynet.train.batches import call
from anynet.train.callbacks import Callback
from anynet.train.records import append_record

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["BOUNDED", "CLOSE", "FILE", "LayerStatistics", "unit_axis"]

FILE = "statistics.jsonl"
BOUNDED = {
    "Sigmoid": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Hardsigmoid": (0.0, 1.0),
    "Hardtanh": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
}
"""Layers whose outputs lie between two bounds."""
CLOSE = 0.02
"""The share of the range that counts as near a bound."""


def unit_axis(ndim: int) -> int:
    """The axis of a layer's units in its output: channels of images are axis 1, features of sequences the last."""
    return 1 if ndim in (2, 4, 5) else ndim - 1


class LayerStatistics(Callback):
    """For each layer and epoch, as ``statistics.jsonl`` in the run's folder and in `records`:

    - ``mean``, ``std`` of its output for the last batch, in evaluation mode; ``dead``, the share of units whose output is 0 (or less than
      1e-6 in size) for all samples; ``saturated``, of a bounded function the share of numbers within 2 % of its bounds;
    - of layers with parameters ``weight_norm``, ‖w‖; ``gradient_norm``, ‖g‖, at the first update of the epoch; ``update_ratio``, ‖Δw‖ / ‖w‖
      of that update: about 1e-3 is usual, much more is unstable, much less stands still.

    A record is ``{"epoch": 1, "layers": {"0": {"mean": …}, …}}``. The record of the epoch gets ``gradient_norm``, that of all parameters.
    A run that goes on in the middle of an epoch has kept what its first update was.
    """

    adds = ("gradient_norm",)

    def __init__(self, *, activations: bool = True) -> None:
        self.activations = bool(activations)
        self.records: list[dict[str, Any]] = []
        self._gradients: dict[str, float] = {}
        self._updates: dict[str, dict[str, float]] = {}
        self._before: dict[str, Any] | None = None
        self._measured: int | None = None  # the last epoch whose first update was seen
        self._handle: Any = None

    def on_train_begin(self, run: Training) -> None:
        """Begin with no records."""
        self.records, self._gradients, self._updates, self._before = [], {}, {}, None
        self._measured = None

    def on_batch_begin(self, run: Training) -> None:
        """Before the first update of an epoch: the weights, and a look at the gradients when the optimizer steps."""
        if self._before is not None or self._measured == run.epoch:
            return
        optimizer = getattr(run.optimizer, "optimizer", run.optimizer)
        self._before = {k: asarray(p.detach(), copy=True) for k, p in run.model.named_parameters()}
        self._gradients = {}
        register = getattr(optimizer, "register_step_pre_hook", None)
        if callable(register):
            model = run.model

            def look(*_: Any) -> None:
                self._gradients = {
                    k: _norm(p.grad) for k, p in model.named_parameters() if p.grad is not None
                }

            self._handle = register(look)
        self._began = run.steps

    def on_batch_end(self, run: Training) -> None:
        """After the first update: how far it moved the weights."""
        if self._before is None or run.steps == self._began:
            return
        self._updates = {}
        for name, p in run.model.named_parameters():
            before = _norm(self._before[name])
            moved = _norm(p.detach() - self._before[name])
            self._updates[name] = {"weight": before, "moved": moved}
        self._measured = run.epoch
        self._done()

    def state_dict(self) -> dict[str, Any]:
        """What the first update of the epoch was, as it is kept in checkpoints."""
        return {
            "measured": self._measured,
            "gradients": dict(self._gradients),
            "updates": dict(self._updates),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self._measured = state.get("measured")
        self._gradients, self._updates = dict(state.get("gradients", {})), dict(state.get("updates", {}))

    def _done(self) -> None:
        self._before = None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def on_exception(self, run: Training, error: BaseException) -> None:
        """Take the hook away."""
        self._done()

    def on_epoch_end(self, run: Training) -> None:
        """Write down the epoch."""
        self._done()
        layers: dict[str, dict[str, float]] = _outputs(run.model, run.inputs) if self.activations else {}
        parts: dict[str, list[str]] = {}
        for name, _ in run.model.named_parameters():
            parts.setdefault(name.rpartition(".")[0], []).append(name)
        for layer, names in parts.items():
            entry = layers.setdefault(layer, {})
            if all_in(names, self._updates):
                weight = math.hypot(*(self._updates[n]["weight"] for n in names))
                moved = math.hypot(*(self._updates[n]["moved"] for n in names))
                entry["weight_norm"], entry["update_ratio"] = weight, moved / weight if weight else math.nan
            if any_in(names, self._gradients):
                entry["gradient_norm"] = math.hypot(*(self._gradients.get(n, 0.0) for n in names))
        run.record["gradient_norm"] = math.hypot(*self._gradients.values()) if self._gradients else math.nan
        self.records.append({"epoch": run.epoch, "layers": layers})
        if run.folder is not None:
            append_record(run.folder / FILE, self.records[-1])


def all_in(names: list[str], known: dict[str, Any]) -> bool:
    """Whether all names are known."""
    return bool(names) and set(names) <= set(known)


def any_in(names: list[str], known: dict[str, Any]) -> bool:
    """Whether one of the names is known."""
    return bool(set(names) & set(known))


def _norm(x: Any) -> float:
    return float(vector_norm(reshape(astype(wrap(numbers_of(x.detach())), "float32"), (-1,))))


def _outputs(model: Module, inputs: Any) -> dict[str, dict[str, float]]:
    """What the layers without layers inside put out, in evaluation mode; the model stays as it is."""
    found: dict[str, dict[str, float]] = {}
    handles = []
    for name, module in model.named_modules():
        if next(module.children(), None) is None:

            def note(layer: Any, args: Any, out: Any, name: str = name) -> None:
                tensors = [t for _, t in walk(out, "", (Tensor,)) if t.dtype.is_floating and t.size]
                if tensors and name not in found:
                    found[name] = _described(type(layer).__name__, tensors[0].detach())

            handles.append(module.register_forward_hook(note))
    try:
        with fork_rng(), no_grad(), evaluating(model):
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _described(kind: str, out: Tensor) -> dict[str, float]:
    x = astype(out, "float32")
    entry = {"mean": float(mean(x)), "std": float(std(x))}
    if x.ndim > 1:
        axis = unit_axis(x.ndim)
        silent = all(e.abs(x) < 1e-6, axis=tuple(i for i in range(x.ndim) if i != axis))
        entry["dead"] = float(mean(astype(silent, "float32")))
    if kind in BOUNDED:
        low, high = BOUNDED[kind]
        near = CLOSE * (high - low)
        edge = e.logical_or(x < low + near, x > high - near)
        entry["saturated"] = float(mean(astype(edge, "float32")))
    return entry
