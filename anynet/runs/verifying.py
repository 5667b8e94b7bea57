"""`verify`: train a part of a run again, and see whether it gives the same bits."""

from __future__ import annotations

import contextlib
import html
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anynet import random
from anynet.data.opening import source_of
from anynet.nn.module import Module
from anynet.runs.comparing import first_difference
from anynet.runs.reading import RunError, checkpoint, json_lines
from anynet.runs.run import Run, open_run
from anynet.tensor import Tensor, unwrap
from anynet.train import Callback, TimeLimit, fit
from anynet.train.callbacks import checked
from anynet.train.named_callbacks import callback_of
from anynet.train.schedules import SCHEDULES, UNKNOWN, WholeTraining
from anynet.train.streams import UNLIMITED
from anynet.train.training import Training
from anynet_backends import backend_of, host

__all__ = ["Replay", "Verification", "replay", "trained_again", "verify"]


class _There(Exception):
    """The place that was looked for is reached."""


class _Watch(Callback):
    """Leaves the training at a place: after a batch of an epoch, or at the end of the epoch (batch 0), which is after `cut` batches
    where it was ended early."""

    def __init__(self, epoch: int, batch: int, cut: int | None = None) -> None:
        self.cut = cut
        self.place, self.moment, self.steps = (epoch, batch), {}, 0  # type: ignore[var-annotated]

    def on_batch_end(self, run: Training) -> None:
        """Leave where this is the batch."""
        self.steps += 1
        if (run.epoch, run.batch) == self.place:
            self.moment = {
                "inputs": run.inputs, "targets": run.targets, "output": run.output, "loss": run.loss,
                "gradients": {k: p.grad for k, p in run.model.named_parameters() if p.edge is not None and p.grad is not None},
            }  # fmt: skip
            raise _There

        if (run.epoch, 0) == self.place and run.batch == self.cut:
            run.stop("verified")

    def on_epoch_end(self, run: Training) -> None:
        """Leave where the epoch is all that was wanted."""
        if self.place == (run.epoch, 0):
            run.stop("verified")


class _AsThen(TimeLimit):
    """In the place of a limit of time: ends nothing, and takes the decisions that were taken then, after the same updates."""

    def __init__(self, plans: list[list[int]]) -> None:
        super().__init__(1e9)
        self.recorded = {done: end for done, end in plans}

    def on_batch_end(self, run: Training) -> None:
        """Fit the schedule as it was fitted then."""
        if run.steps in self.recorded and isinstance(run.schedule, WholeTraining):
            self.follow(run.schedule, [run.steps, self.recorded[run.steps]])
            run.schedule.set_rates()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The decisions up to the checkpoint that were not given up with another limit."""
        plans = [p for p in state.get("plans", []) if self.recorded.get(p[0]) == p[1]]
        super().load_state_dict({**state, "limit": self.seconds, "plans": plans, "looked": None})


@dataclass
class Verification:
    """What training again has given.

    Attributes:
      same: whether all bits are the same.
      begin, end: from where to where it was trained, in words; `steps`: how many updates.
      first: the first noted state that differs (epoch, batch, tensors); None where none does, or none was noted.
      ulps: by tensor, the largest difference from the checkpoint in units in the last place; empty where all are the same.
    """

    run: Run
    same: bool
    begin: str
    end: str
    steps: int
    first: dict[str, Any] | None = None
    ulps: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        what = f"{self.run.path}: trained again from {self.begin} to {self.end}, {self.steps} steps"
        if self.same:
            return f"{what}: same bits"
        parts = [f"{what}: other bits"]
        if self.first is not None:
            first = self.first
            at = f"epoch {first['epoch']}, " + (f"batch {first['batch']}" if first["batch"] else "its end")
            parts.append(f"the first noted state that differs: {at}, {first['tensors'][0] if first['tensors'] else ''}"
                         f" ({len(first['tensors'])} of {first['of']} tensors)")  # fmt: skip
        if self.ulps:
            name, most = max(self.ulps.items(), key=lambda item: item[1])
            parts.append(f"{len(self.ulps)} tensors differ at {self.end}, most {name}: {most:,} ulp")
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:

        return f"<pre>{html.escape(str(self))}</pre>"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "run": str(self.run.path), "same": self.same, "from": self.begin, "to": self.end, "steps": self.steps,
            "first": self.first, "ulps": self.ulps,
        }  # fmt: skip


def verify(
    run: Run | str | os.PathLike[str],
    *,
    data: Any = None,
    classes: Any = None,
    trust: Any = None,
    from_start: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Verification:
    """Train the last part of a run again, from its checkpoint before the last to the last, and compare all bits.

    Parameters:
      run: a run of `train_on`; of a run of `fit` give what is not in its folder, too: `data` and `options`.
      data: the training data (and a validation set as ``(train, val)`` is not needed): as `fit` takes them; None: read again.
      from_start: train from the initial weights instead, to the first checkpoint that is there: only of `train_on`.
      options: those of `anynet.fit` as they were: loss, optimizer, …

    The folder of the run is not touched. Where there is another machine, library or backend than before, bits may differ: the
    result says where first, in which tensors, and by how much.
    """
    found = open_run(run, classes=classes, trust=trust)
    last = _checkpoint(found, "last.safetensors")
    previous = None
    if not from_start and (found.path / "previous.safetensors").exists():
        previous = _checkpoint(found, "previous.safetensors")
    target = (last["epoch"], 0) if not last["batch"] else (last["epoch"] + 1, last["batch"])
    with tempfile.TemporaryDirectory(prefix="anynet-verify-") as scratch:
        folder = Path(scratch) / "run"
        network, watch = trained_again(found, folder, target, previous, data, options)
        lines = json_lines(folder / "proof.jsonl")
    first, _ = first_difference(json_lines(found.path / "proof.jsonl"), lines)
    state, expected = (
        dict(network.state_dict()),
        last.get("training_point") if last["batch"] else last["model"],
    )
    ulps = {k: n for k, v in (expected or last["model"]).items() if (n := _ulps(state[k], v))}
    begin = "the initial weights" if previous is None else _place(previous["epoch"], previous["batch"])
    return Verification(
        found,
        not ulps and first is None,
        begin,
        _place(last["epoch"], last["batch"]),
        watch.steps,
        first,
        ulps,
    )


@dataclass
class Replay:
    """A moment of a training: `model` after the update of a batch, with `inputs`, `targets`, `output`, `loss` and `gradients` of it."""

    model: Module
    epoch: int
    batch: int
    inputs: Any
    targets: Any
    output: Any
    loss: float
    gradients: dict[str, Tensor]

    def __repr__(self) -> str:
        return f"Replay(epoch {self.epoch}, batch {self.batch}, loss {self.loss:.6g})"


def replay(
    run: Run | str | os.PathLike[str], epoch: int, batch: int, *, data: Any = None, classes: Any = None, trust: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Replay:  # fmt: skip
    """Go back to a batch of a run (both counted from 1): train again up to it, from the nearest checkpoint before or from the start.

    Arguments as of `verify`. The dropout masks and the order of the samples are those of then: what is drawn depends on seed and step
    alone.
    """
    found = open_run(run, classes=classes, trust=trust)
    for name, value in (("epoch", epoch), ("batch", batch)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            msg = f"replay: {name} must be an integer ≥ 1, got {value!r:.40}"
            raise ValueError(msg)
    start = None
    for name in ("last.safetensors", "previous.safetensors"):
        if (found.path / name).exists():
            tree = _checkpoint(found, name)
            if (tree["epoch"] + 1, tree["batch"] + 1) <= (epoch, batch):
                start = tree
                break
    with tempfile.TemporaryDirectory(prefix="anynet-replay-") as scratch:
        network, watch = trained_again(found, Path(scratch) / "run", (epoch, batch), start, data, options)
    if not watch.moment:
        msg = f"{found.path} has no batch {batch} in epoch {epoch}: it was trained for {found.info.get('epochs')} epochs"
        raise RunError(msg)
    return Replay(network, epoch, batch, **watch.moment)


def _checkpoint(run: Run, name: str) -> dict[str, Any]:
    file = run.path / name
    if not run.path.is_dir() or not file.exists():
        msg = f"{run.path} has no {name}: there is nothing to train again from"
        raise RunError(msg)
    tree = checkpoint(file)
    if tree.get("kind") != "training" or not all(isinstance(tree.get(k), int) for k in ("epoch", "batch")):
        msg = f"{file} is no training state"
        raise RunError(msg)
    return tree


def _place(epoch: int, batch: int) -> str:
    return f"epoch {epoch + 1}, batch {batch}" if batch else f"the end of epoch {epoch}"


def trained_again(
    run: Run,
    folder: Path,
    target: tuple[int, int],
    start: dict[str, Any] | None,
    data: Any,
    options: Mapping[str, Any] | None,
) -> tuple[Module, _Watch]:
    """Train to a place in another folder, from a checkpoint or from the initial weights."""
    settings = run.info.get("settings")
    given = settings.get("train_on") if isinstance(settings, Mapping) else None
    given = given if isinstance(given, Mapping) else {}
    chosen: dict[str, Any] = {**(given.get("fit") or {}), **(options or {})}
    if "loss" not in chosen and not given:
        msg = f"{run.path} was made by a script: give data= and options= (loss, optimizer, …), as its call of fit has them"
        raise RunError(msg)
    source = (
        run.source() if data is None else source_of(data) if isinstance(data, (str, os.PathLike)) else data
    )
    kept = run.info.get("seed")
    seed: int = kept if isinstance(kept, int) else 0
    chosen["epochs"] = run.info.get("epochs") or UNLIMITED
    if chosen.pop("time_limit", None) is not None:
        known = chosen["epochs"] != UNLIMITED or chosen.get("steps") is not None
        if isinstance(chosen.get("scheduler"), str) and not known:
            chosen["scheduler"], chosen["schedule_by"] = _by_time(chosen["scheduler"]), "batch"
    chosen["restore_best"] = False
    lines = json_lines(run.path / "proof.jsonl")
    cut = next(
        (n.get("batches") for n in reversed(lines) if (n.get("epoch"), n.get("batch")) == target), None
    )
    watch = _Watch(*target, cut)
    plans = iter(_plans_of(run))
    callbacks = checked(_list(chosen.get("callbacks")), callback_of)
    callbacks = [_AsThen(next(plans, [])) if isinstance(c, TimeLimit) else c for c in callbacks]
    chosen["callbacks"] = [*callbacks, watch, *map(_AsThen, plans)]
    folder.mkdir(parents=True)
    if start is None:
        made = given.get("network")
        if not isinstance(made, Mapping):
            msg = f"{run.path} does not say its initial weights: its network was given, and there is no checkpoint to begin from"
            raise RunError(msg)
        with random.fork_rng(seed):
            network = source.network(made.get("name"), **{k: v for k, v in made.items() if k != "name"})
    else:
        network = run._network(None, None).train()
        name = "last" if (start["epoch"], start["batch"]) == _position(run, "last") else "previous"
        shutil.copy(run.path / f"{name}.safetensors", folder / "last.safetensors")
        if (run.path / "proof.jsonl").exists():
            shutil.copy(run.path / "proof.jsonl", folder / "proof.jsonl")
    with contextlib.suppress(_There):
        fit(network, source, seed=seed, run_dir=folder, resume=start is not None, progress=False, **chosen)
    return network, watch


def _plans_of(run: Run) -> list[list[list[int]]]:
    """What each limit of time of a run has decided, from its last checkpoint."""
    if not (run.path / "last.safetensors").exists():
        return []
    states = _checkpoint(run, "last.safetensors").get("callbacks") or []
    return [list(s.get("plans", [])) for s in states if TimeLimit.has_made(s)]


def _by_time(name: str) -> Any:
    return lambda optimizer: SCHEDULES[name](optimizer, UNKNOWN)


def _position(run: Run, name: str) -> tuple[int, int]:
    tree = _checkpoint(run, f"{name}.safetensors")
    return tree["epoch"], tree["batch"]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _ulps(a: Tensor, b: Tensor) -> int:
    """The largest difference of two tensors in units in the last place; 0 only for the same bits."""
    x, y = (unwrap(t) for t in (a, b))
    return host.ulps(backend_of(x).to_host(x), backend_of(y).to_host(y))
