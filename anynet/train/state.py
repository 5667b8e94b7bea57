"""The state of a training: all that changes while it runs, and what a checkpoint holds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

from anynet import optim, random
from anynet.data import DataLoader
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.train.callbacks import Callback
from anynet.train.checkpoint import CheckpointError
from anynet.train.metrics import Metric, Sums
from anynet.train.names import by_name, former_names, names_of

__all__ = ["History", "TrainingState"]


class History(list[dict[str, Any]]):
    """One record (a dict of numbers) an epoch."""

    def column(self, name: str) -> list[float]:
        """The values of one quantity, epoch by epoch."""
        if not self or name not in self[0]:
            known = list(self[0]) if self else []
            near = difflib.get_close_matches(name, known, 1)
            msg = f"history has no {name!r}" + (
                f"; did you mean {near[0]!r}?" if near else f"; it has {known}"
            )
            raise KeyError(msg)
        return [record[name] for record in self]


class TrainingState:
    """All that changes while training: what a checkpoint holds."""

    def __init__(
        self,
        model: Module,
        optimizer: optim.Optimizer,
        scheduler: Any,
        loader: DataLoader,
        callbacks: Sequence[Callback],
        metrics: Sequence[tuple[str, Metric]],
        seed: int,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.loader = model, optimizer, scheduler, loader
        self.callbacks, self.metrics, self.seed = callbacks, metrics, seed
        self.epoch = self.batch = 0
        self.history = History()
        self.sums = Sums(metrics)
        self.best = math.inf

    def finish(self, record: dict[str, Any]) -> None:
        self.history.append(record)
        self.epoch += 1
        self.batch = 0
        self.sums = Sums(self.metrics)

    def tree(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "parameters": names_of(self.model, self.optimizer.param_groups),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
            "random": random.get_state(),
            "seed": self.seed,
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums.totals,
            "best": self.best,
            "history": list(self.history),
        }

    def restore(self, tree: dict[str, Any]) -> None:
        if tree.get("kind") != "training":
            msg = "the checkpoint holds no training state; it can be loaded as weights, not resumed"
            raise CheckpointError(msg)
        if (tree["scheduler"] is None) != (self.scheduler is None):
            has, wants = ("no", "a") if tree["scheduler"] is None else ("a", "no")
            msg = f"the checkpoint has {has} schedule, this run has {wants} one"
            raise CheckpointError(msg)
        if len(tree["callbacks"]) != len(self.callbacks):
            msg = f"the checkpoint has {len(tree['callbacks'])} callbacks, this run {len(self.callbacks)}"
            raise CheckpointError(msg)
        before = {k: asarray(v, copy=True) for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(tree["model"])
        try:
            names = names_of(self.model, self.optimizer.param_groups)
            saved = tree.get("parameters") or former_names(self.model, tree["model"], names)
            self.optimizer.load_state_dict(by_name(tree["optimizer"], saved, names))
        except Exception:
            self.model.load_state_dict(before)
            raise
        if self.scheduler is not None:
            self.scheduler.load_state_dict(tree["scheduler"])
        for callback, state in zip(self.callbacks, tree["callbacks"], strict=True):
            callback.load_state_dict(state)
        random.set_state(tree["random"])
        self.epoch, self.batch, self.best = tree["epoch"], tree["batch"], tree["best"]
        self.sums = Sums(self.metrics, tree["sums"])
        self.history = History(tree["history"])
