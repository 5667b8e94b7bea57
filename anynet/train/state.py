"""The state of a training: all that changes while it runs, and what a checkpoint holds."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from anynet import random
from anynet._hints import closest, instead
from anynet._html import cell, html_table
from anynet._optional import optional
from anynet.autograd.pytree import flatten
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.optim import MultiSteps
from anynet.sparse_rows import SparseRows, numbers_of
from anynet.tensor import Tensor
from anynet.train.averages import Averages
from anynet.train.callbacks import Callback, TimeLimit
from anynet.train.checkpoint import CheckpointError
from anynet.train.metrics import Sums
from anynet.train.names import by_name, former_names, names_of
from anynet.train.schedules import WholeTraining
from anynet.train.streams import length
from anynet_backends import backend_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anynet.metrics import Metric

__all__ = ["History", "Logs", "NonFiniteError", "TrainingState", "finite", "first_non_finite"]


class NonFiniteError(ArithmeticError):
    """A NaN or an infinity where training cannot go on with it. Nothing was updated with it, and no file holds it."""


class History(list[dict[str, Any]]):
    """One record (a dict of numbers) an epoch.

    `stopped` says why the training ended before its last epoch; None where it did not. `best_epoch` is the one with the best value of
    what `fit` monitors; None where there was none but NaN.
    """

    stopped: str | None = None
    best_epoch: int | None = None

    history = instead("history", "its values are history.column('loss'), all of them history.to_dict()")

    def column(self, name: str) -> list[Any]:
        """The values of one quantity, epoch by epoch; None where an epoch has it not."""
        known = list(dict.fromkeys(k for record in self for k in record))
        if name not in known:
            near = closest(name, known)
            msg = f"history has no {name!r}; " + (f"did you mean {near!r}?" if near else f"it has {known}")
            raise KeyError(msg)
        return [record.get(name) for record in self]

    def to_dict(self) -> dict[str, list[Any]]:
        """The values by quantity, what a DataFrame is made of.

        >>> History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]).to_dict()
        {'epoch': [1, 2], 'loss': [0.5, 0.25]}
        """
        return {name: self.column(name) for name in dict.fromkeys(k for record in self for k in record)}

    def plot(self, *quantities: str, ax: Axes | None = None) -> Axes:
        """The quantities by epoch, on matplotlib's axes (extra ``plot``): the loss unless others are given, and with each that of
        validation. See `anynet.viz.curves` for several runs."""
        library = optional("matplotlib.pyplot", "plot", "plotting a history")
        if ax is None:
            ax = library.subplots()[1]
        columns = self.to_dict()
        for name in quantities or ("loss",):
            self.column(name)
            for each in (name, f"val_{name}"):
                if each in columns:
                    values = [float("nan") if v is None else v for v in columns[each]]
                    ax.plot(columns.get("epoch", range(1, len(self) + 1)), values, label=each)
        ax.set_xlabel("epoch")
        ax.legend()
        return ax

    def _repr_html_(self) -> str:
        """A table: the last epochs, the best one marked."""
        columns = [
            k for k, v in self.to_dict().items() if all(x is None or isinstance(x, (int, float)) for x in v)
        ]
        rows = [
            [
                cell(record.get(k)) + (" ★" if k == "epoch" and record.get(k) == self.best_epoch else "")
                for k in columns
            ]
            for record in self[-30:]
        ]
        left_out = f"the last 30 of {len(self)} epochs" if len(self) > 30 else ""
        ended = f"ended: {self.stopped}" if self.stopped else ""
        return html_table(columns, rows, "; ".join(part for part in (left_out, ended) if part))


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
    plain = numbers_of(x)
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


def _sums(value: Any) -> bool:
    """Totals of the loss, and of each metric (in files of earlier versions a pair, too)."""
    entries = isinstance(value, dict) and all(isinstance(m, dict) or _numbers(m) for m in value.values())
    return entries and _numbers(value.get("loss", (0.0, 0.0)))


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
    "sums": (_sums, "totals of the loss and the metrics by name"),
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


def _without_rates(identity: Any) -> Any:
    """Nested options without the learning rates of the moment."""
    if not isinstance(identity, dict):
        return identity
    return {k: _without_rates(v) for k, v in identity.items() if k not in ("lr", "lrs")}


class Logs:
    """Running means of what a module's own `training_step` returns beside the loss: name → [Σ value · samples, Σ samples]."""

    def __init__(self, totals: Mapping[str, Any] | None = None) -> None:
        self.totals: dict[str, list[float]] = {k: list(v) for k, v in (totals or {}).items()}

    def add(self, values: Mapping[str, Any], samples: float) -> None:
        """Take in those of a batch."""
        for name, value in values.items():
            total = self.totals.setdefault(name, [0.0, 0.0])
            total[0] += float(value) * samples
            total[1] += samples

    def result(self) -> dict[str, float]:
        """The means."""
        return {k: v / n for k, (v, n) in self.totals.items()}


class _HasState(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


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
        loader: Any,
        callbacks: Sequence[Callback],
        metrics: Sequence[Metric],
        objective: Any,
        seed: int,
        identity: dict[str, Any],
        averages: Averages,
        updates: _HasState,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.loader = model, optimizer, scheduler, loader
        self.callbacks, self.metrics, self.objective, self.seed = callbacks, metrics, objective, seed
        self.identity, self.averages, self.updates = identity, averages, updates
        self.epoch = self.batch = 0
        self.history = History()
        self.sums = Sums(objective, metrics)
        self.logs = Logs()
        self.best = math.inf
        self.best_epoch: int | None = None
        self.stopped: str | None = None  # why the training has been ended
        self.stopped_for_good = True  # also where the run is resumed
        self.seconds = 0.0  # that this epoch has taken before a break
        self.whole: dict[str, Any] | None = (
            None  # of several processes: the parts of `tree` that are of all of them
        )

    def finish(self, record: dict[str, Any]) -> None:
        """An epoch is done."""
        self.history.append(record)
        self.epoch += 1
        self.batch, self.seconds = 0, 0.0
        self.sums, self.logs = Sums(self.objective, self.metrics), Logs()

    @property
    def _optimizer(self) -> Any:
        """The one whose state is saved: the one inside where gradients of several batches add up."""
        return self.optimizer.optimizer if isinstance(self.optimizer, MultiSteps) else self.optimizer

    # ----- saving -----

    def optimizer_state(self) -> dict[str, Any]:
        """That of the optimizer; where its parts are in several processes, all of these call it."""
        state: dict[str, Any] = self._optimizer.state_dict()
        return state

    def _weights(self) -> dict[str, Tensor]:
        """The model's state, at the optimizer's mean where it has one."""
        if not self.averages.there:
            return dict(self.model.state_dict())
        with self.averages():
            return {k: asarray(v, copy=True) for k, v in self.model.state_dict().items()}

    def tree(self) -> dict[str, Any]:
        """What a checkpoint holds. `model` is what to use the network with; where the optimizer averages, `training_point` is
        where it takes gradients."""
        tree: dict[str, Any] = {
            "kind": "training",
            "model": self._weights(),
            "optimizer": self.optimizer_state() if self.whole is None else None,
            "parameters": names_of(self.model, self.optimizer.param_groups),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": [c.state_dict() for c in self.callbacks],
            "random": random.get_state(),
            "seed": self.seed,
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums.state_dict(),
            "logs": self.logs.totals,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped if self.stopped_for_good else None,
            "seconds": self.seconds,
            "history": list(self.history),
            "updates": self.updates.state_dict(),
            "run": self.identity,
            **(self.whole or {}),
        }
        if self.averages.there:
            tree["training_point"] = dict(self.model.state_dict())
        if isinstance(self.optimizer, MultiSteps) and self.optimizer.count:
            grads = {str(i): _saved(p.grad) for i, p in enumerate(self._params()) if p.grad is not None}
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
        batches = length(self.loader)
        if (batches is not None and tree["batch"] > batches) or len(tree["history"]) != tree["epoch"]:
            msg = (
                f"the checkpoint is damaged: it is at epoch {tree['epoch']}, batch {tree['batch']} with {len(tree['history'])} "
                f"records, of epochs of {batches} batches; nothing was changed"
            )
            raise CheckpointError(msg)

    def _other(self, tree: dict[str, Any]) -> list[str]:
        """What is another than in the run, as far as its checkpoint tells: those of earlier versions tell less."""
        was = tree["run"] if isinstance(tree.get("run"), dict) else {}
        now = {k: v for k, v in self.identity.items() if k in was}
        if len(was.get("optimizer_options", ())) != len(now.get("optimizer_options", ())):
            now.pop("optimizer_options")  # `by_name` says which parameters there are
        was_then = {k: was[k] for k in now}
        if isinstance(self.scheduler, WholeTraining):  # its rates follow from how many epochs there are to be
            was_then, now = _without_rates(was_then), _without_rates(now)
        found = list(_differences(was_then, now))
        if "seed" not in now and tree["seed"] != self.seed:
            found.append(f"seed: {tree['seed']!r} in the run, {self.seed!r} now")
        if "scheduler" not in now and (tree["scheduler"] is None) != (self.scheduler is None):
            found.append(
                f"scheduler: {'none' if tree['scheduler'] is None else 'one'} in the run, the opposite now"
            )
        kept, own = [c for c in tree["callbacks"] if c], [c for c in self.callbacks if c.state_dict()]
        if self._states_of_callbacks(tree) is None:
            names = [type(c).__name__ for c in own]
            found.append(f"callbacks with a state: {len(kept)} in the run, {len(own)} now {names}")
        return found

    def restore(self, tree: dict[str, Any]) -> None:
        """Restore a checkpoint that `check` has found to be this run's: all of it, or nothing."""
        self.check(tree)
        try:
            sums = Sums(self.objective, self.metrics, tree["sums"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit or is damaged; nothing was changed: {error}"
            ) from error
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
        stopped = tree.get("stopped")  # True in the files of earlier versions
        self.stopped = stopped if isinstance(stopped, str) else "stopped by a callback" if stopped else None
        self.seconds = float(tree.get("seconds", 0.0))
        self.best_epoch = tree.get("best_epoch")
        self.updates.load_state_dict(tree.get("updates", {}))
        self.sums, self.logs = sums, Logs(tree.get("logs", {}))
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
        names = names_of(self.model, self.optimizer.param_groups)
        saved = tree.get("parameters") or former_names(self.model, tree["model"], names)
        return {
            **tree,
            "optimizer": by_name(tree["optimizer"], saved, names),
            "model": tree.get("training_point", tree["model"]),
            "callbacks": self._states_of_callbacks(tree),
            "loss": tree.get("loss"),
        }

    def _states_of_callbacks(self, tree: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The state in a checkpoint of each callback, None where these are others. A limit of time may have come or gone: one that is
        new begins with the time that the epochs took."""
        kept = [state for state in tree["callbacks"] if state]
        own = [c for c in self.callbacks if c.state_dict()]
        clocks: list[dict[str, Any]] = []
        if len(kept) != len(own):
            clocks = [state for state in kept if TimeLimit.has_made(state)]
            kept = [state for state in kept if not TimeLimit.has_made(state)]
            if len(kept) != sum(not isinstance(c, TimeLimit) for c in own):
                return None
            so_far = sum(r.get("seconds", 0.0) for r in tree["history"]) + tree.get("seconds", 0.0)
            clocks += [{"seconds": so_far} for _ in own]
            kept = [clocks.pop(0) if isinstance(c, TimeLimit) else kept.pop(0) for c in own]
        return [kept.pop(0) if c.state_dict() else {} for c in self.callbacks]

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
                p.grad = None if grad is None else _restored(grad, p)


def _saved(grad: Tensor) -> Any:
    """A gradient as it is saved; rows of a table as these."""
    return {"indices": grad._indices(), "values": grad._values()} if isinstance(grad, SparseRows) else grad


def _restored(grad: Any, p: Tensor) -> Tensor:
    if not isinstance(grad, Mapping):
        return asarray(grad, dtype=p.dtype, device=p.device)
    values = asarray(grad["values"], dtype=p.dtype, device=p.device)
    return SparseRows(asarray(grad["indices"], device=p.device), values, tuple(p.shape))


def _same_entries(given: dict[str, Any], taken: dict[str, Any]) -> None:
    """An optimizer's state that lacks a moment would be taken up with zeros."""

    def kinds(state: dict[str, Any]) -> Counter[frozenset[str]]:
        return Counter(frozenset(map(str, entry)) for entry in state["state"].values())

    lost = kinds(taken) - kinds(given)
    if lost:
        msg = f"the optimizer's state lacks some of {', '.join(sorted(set().union(*lost)))} for a parameter"
        raise ValueError(msg)
