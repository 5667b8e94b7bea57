"""The state of a training: all that changes while it runs, and what a checkpoint holds."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from anynet import random
from anynet._hints import closest
from anynet.autograd.pytree import flatten
from anynet.data import DataLoader
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.optim import MultiSteps
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.train.callbacks import Callback
from anynet.train.checkpoint import CheckpointError
from anynet.train.metrics import Metric, Sums
from anynet.train.names import by_name, former_names, names_of
from anynet.train.objectives import Objective
from anynet_backends import backend_of

__all__ = ["History", "NonFiniteError", "TrainingState", "averaged", "first_non_finite"]


class NonFiniteError(ArithmeticError):
    """A NaN or an infinity where training cannot go on with it. Nothing was updated with it, and no file holds it."""


class History(list[dict[str, Any]]):
    """One record (a dict of numbers) an epoch."""

    def column(self, name: str) -> list[float]:
        """The values of one quantity, epoch by epoch."""
        if not self or name not in self[0]:
            known = list(self[0]) if self else []
            near = closest(name, known)
            msg = f"history has no {name!r}; " + (f"did you mean {near!r}?" if near else f"it has {known}")
            raise KeyError(msg)
        return [record[name] for record in self]


# ----- optimizers that average -----


def _averaging(optimizer: Any) -> Any:
    """The optimizer, or the one inside, that holds a mean of the weights: it has `eval` and `train`."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return (
        inner if callable(getattr(inner, "eval", None)) and callable(getattr(inner, "train", None)) else None
    )


def set_averaged(optimizer: Any, on: bool) -> None:
    """The weights at the optimizer's mean, or where it takes gradients; of an optimizer without one nothing."""
    inner = _averaging(optimizer)
    if inner is not None:
        (inner.eval if on else inner.train)()


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """Within the block the weights are the optimizer's mean (schedule-free methods), afterwards bit for bit what they were."""
    inner = _averaging(optimizer)
    if inner is None:
        yield
        return
    params = [p for group in inner.param_groups for p in group["params"]]
    before = [asarray(p.detach(), copy=True) for p in params]
    inner.eval()
    try:
        yield
    finally:
        inner.train()
        with no_grad():
            for p, value in zip(params, before, strict=True):
                p.assign_(value)


# ----- finite? -----


def first_non_finite(tree: Any, known: frozenset[str] = frozenset()) -> str | None:
    """The path of the first floating-point array of a tree of arrays that holds a NaN or an infinity."""
    return next((name for name in non_finite(tree) if name not in known), None)


def non_finite(tree: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of the floating-point arrays of a tree that hold a NaN or an infinity."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from non_finite(value, (*path, str(key)))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from non_finite(value, (*path, str(i)))
    elif isinstance(tree, Tensor) and tree.dtype.is_floating and not finite(tree):
        yield ".".join(path)


def finite(x: Tensor) -> bool:
    """Whether all numbers are finite."""
    plain = unwrap(x)
    return backend_of(plain).all_finite(plain)


# ----- what a checkpoint must look like -----


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _numbers(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(v, (int, float)) for v in value)
    )


def _dict_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(isinstance(k, str) and check(v) for k, v in value.items())
    )


def _anything(value: Any) -> bool:
    return True


_FORM: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_dict_of(lambda v: isinstance(v, Tensor)), "arrays by name"),
    "optimizer": (
        lambda v: isinstance(v, dict) and isinstance(v.get("state"), dict) and isinstance(v.get("param_groups"), list),
        "a dict with state and param_groups",
    ),
    "scheduler": (lambda v: v is None or isinstance(v, dict), "a dict or None"),
    "callbacks": (lambda v: isinstance(v, list) and all(isinstance(c, dict) for c in v), "a list of dicts"),
    "random": (lambda v: _dict_of(lambda n: type(n) is int and n >= 0)(v) and v.keys() >= {"seed", "weights", "masks"},
               "the integers seed, weights and masks"),
    "seed": (_count, "an integer"),
    "epoch": (_count, "a count of epochs"),
    "batch": (_count, "a count of batches"),
    "sums": (_dict_of(_numbers), "pairs of numbers by name"),
    "best": (lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), "a number"),
    "history": (lambda v: isinstance(v, list) and all(map(_dict_of(_anything), v)), "a list of records"),
}  # fmt: skip


def _differences(was: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in (*was, *(k for k in now if k not in was)):
            yield from _differences(was.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(was, (list, tuple)) and isinstance(now, (list, tuple)) and len(was) == len(now):
        for i, (a, b) in enumerate(zip(was, now, strict=True)):
            yield from _differences(a, b, f"{path}[{i}]")
    elif was != now or isinstance(was, bool) is not isinstance(now, bool):
        yield f"{path}: {was!r} in the run, {now!r} now"


class TrainingState:
    """All that changes while training: what a checkpoint holds.

    `identity` says what the run is (data, model, optimizer, loss, …) in plain data; a checkpoint of a run with another one
    is refused, with the differences.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Any,
        scheduler: Any,
        loader: DataLoader,
        callbacks: Sequence[Callback],
        metrics: Sequence[Metric],
        objective: Objective,
        seed: int,
        identity: dict[str, Any],
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.loader = model, optimizer, scheduler, loader
        self.callbacks, self.metrics, self.objective, self.seed = callbacks, metrics, objective, seed
        self.identity = identity
        self.epoch = self.batch = 0
        self.history = History()
        self.sums = Sums(objective, metrics)
        self.best = math.inf
        self.stopped = False  # a callback has ended the training
        self.seconds = 0.0  # that this epoch has taken before a break

    def finish(self, record: dict[str, Any]) -> None:
        """An epoch is done."""
        self.history.append(record)
        self.epoch += 1
        self.batch, self.seconds = 0, 0.0
        self.sums = Sums(self.objective, self.metrics)

    @property
    def _optimizer(self) -> Any:
        """The one whose state is saved: the one inside where gradients of several batches add up."""
        return self.optimizer.optimizer if isinstance(self.optimizer, MultiSteps) else self.optimizer

    # ----- saving -----

    def _weights(self) -> dict[str, Tensor]:
        """The model's state, at the optimizer's mean where it has one."""
        if _averaging(self.optimizer) is None:
            return dict(self.model.state_dict())
        with averaged(self.optimizer):
            return {k: asarray(v, copy=True) for k, v in self.model.state_dict().items()}

    def tree(self) -> dict[str, Any]:
        """What a checkpoint holds. `model` is what to use the network with; where the optimizer averages, `training_point` is
        where it takes gradients."""
        tree: dict[str, Any] = {
            "kind": "training",
            "model": self._weights(),
            "optimizer": self._optimizer.state_dict(),
            "parameters": names_of(self.model, self.optimizer.param_groups),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
            "random": random.get_state(),
            "seed": self.seed,
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums.totals,
            "best": self.best,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "history": list(self.history),
            "run": self.identity,
        }
        if _averaging(self.optimizer) is not None:
            tree["training_point"] = dict(self.model.state_dict())
        if isinstance(self.optimizer, MultiSteps) and self.optimizer.count:
            grads = {str(i): p.grad for i, p in enumerate(self._params()) if p.grad is not None}
            tree["accumulated"] = {"count": self.optimizer.count, "gradients": grads}
        if self.objective.module is not None and (own := dict(self.objective.module.state_dict())):
            tree["loss"] = own
        return tree

    # ----- going on -----

    def check(self, tree: dict[str, Any]) -> None:
        """Refuse what is not a state of this run; nothing is changed."""
        if tree.get("kind") != "training":
            msg = "the checkpoint holds no training state; it can be loaded as weights, not resumed"
            raise CheckpointError(msg)
        for name, (fits, expected) in _FORM.items():
            if name not in tree:
                msg = f"the checkpoint is damaged: it lacks {name!r}; nothing was changed"
                raise CheckpointError(msg)
            if not fits(tree[name]):
                got = repr(tree[name]) if not flatten(tree[name])[1] else type(tree[name]).__name__
                msg = f"the checkpoint is damaged: {name!r} must be {expected}, got {got:.60}; nothing was changed"
                raise CheckpointError(msg)
        found = self._other(tree)
        if found:
            lines = "".join(f"\n  {line}" for line in found[:12]) + (
                f"\n  and {len(found) - 12} more" if len(found) > 12 else ""
            )
            msg = f"the run cannot be resumed with what is given now; nothing was changed:{lines}"
            raise CheckpointError(msg)
        if tree["batch"] > len(self.loader) or len(tree["history"]) != tree["epoch"]:
            msg = (
                f"the checkpoint is damaged: it is at epoch {tree['epoch']}, batch {tree['batch']} with {len(tree['history'])} "
                f"records, of epochs of {len(self.loader)} batches; nothing was changed"
            )
            raise CheckpointError(msg)

    def _other(self, tree: dict[str, Any]) -> list[str]:
        """What is another than in the run, as far as its checkpoint tells: those of earlier versions tell less."""
        was = tree["run"] if isinstance(tree.get("run"), dict) else {}
        now = {k: v for k, v in self.identity.items() if k in was}
        if len(was.get("optimizer_options", ())) != len(now.get("optimizer_options", ())):
            now.pop("optimizer_options")  # `by_name` says which parameters there are
        found = list(_differences({k: was[k] for k in now}, now))
        if "seed" not in now and tree["seed"] != self.seed:
            found.append(f"seed: {tree['seed']!r} in the run, {self.seed!r} now")
        if "scheduler" not in now and (tree["scheduler"] is None) != (self.scheduler is None):
            found.append(
                f"scheduler: {'none' if tree['scheduler'] is None else 'one'} in the run, the opposite now"
            )
        kept, own = [c for c in tree["callbacks"] if c], [c for c in self.callbacks if c.state_dict()]
        if len(kept) != len(own):
            names = [type(c).__name__ for c in own]
            found.append(f"callbacks with a state: {len(kept)} in the run, {len(own)} now {names}")
        return found

    def restore(self, tree: dict[str, Any]) -> None:
        """Restore a checkpoint that `check` has found to be this run's: all of it, or nothing."""
        self.check(tree)
        before = copy.deepcopy([self._parts_now(), random.get_state()])
        try:
            self._load_parts(self._parts_of(tree))
        except Exception as error:
            self._load_parts(before[0])
            random.set_state(before[1])
            why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            msg = f"the checkpoint does not fit or is damaged; nothing was changed: {why}"
            raise CheckpointError(msg) from error
        random.set_state(tree["random"])
        self.epoch, self.batch, self.best = tree["epoch"], tree["batch"], float(tree["best"])
        self.stopped, self.seconds = bool(tree.get("stopped", False)), float(tree.get("seconds", 0.0))
        self.sums = Sums(self.objective, self.metrics, tree["sums"])
        self.history = History(tree["history"])

    def _params(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _parts_now(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
            "loss": dict(self.objective.module.state_dict()) if self.objective.module is not None else None,
        }

    def _parts_of(self, tree: dict[str, Any]) -> dict[str, Any]:
        kept = iter([state for state in tree["callbacks"] if state])
        callbacks = [next(kept) if c.state_dict() else {} for c in self.callbacks]
        names = names_of(self.model, self.optimizer.param_groups)
        saved = tree.get("parameters") or former_names(self.model, tree["model"], names)
        return {
            **tree,
            "optimizer": by_name(tree["optimizer"], saved, names),
            "model": tree.get("training_point", tree["model"]),
            "callbacks": callbacks,
            "loss": tree.get("loss"),
        }

    def _load_parts(self, parts: dict[str, Any]) -> None:
        self.model.load_state_dict(parts["model"])
        self._optimizer.load_state_dict(parts["optimizer"])
        _same_entries(parts["optimizer"], self._optimizer.state_dict())
        if self.scheduler is not None:
            self.scheduler.load_state_dict(parts["scheduler"])
        if parts["loss"] and self.objective.module is not None:
            self.objective.module.load_state_dict(parts["loss"])
        for callback, state in zip(self.callbacks, parts["callbacks"], strict=True):
            if state:
                callback.load_state_dict(state)
        if isinstance(self.optimizer, MultiSteps):
            kept = parts.get("accumulated", {"count": 0, "gradients": {}})
            self.optimizer.count = int(kept["count"])
            for i, p in enumerate(self._params()):
                grad = kept["gradients"].get(str(i))
                p.grad = None if grad is None else asarray(grad, dtype=p.dtype, device=p.device)


def _same_entries(given: dict[str, Any], taken: dict[str, Any]) -> None:
    """An optimizer's state that lacks a moment would be taken up with zeros."""

    def kinds(state: dict[str, Any]) -> Counter[frozenset[str]]:
        return Counter(frozenset(map(str, entry)) for entry in state["state"].values())

    lost = kinds(taken) - kinds(given)
    if lost:
        msg = f"the optimizer's state lacks some of {', '.join(sorted(set().union(*lost)))} for a parameter"
        raise ValueError(msg)
