"""What `fit` is asked to do, checked: everything that can be refused before the first batch is refused here."""

from __future__ import annotations

import inspect
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack

from anynet import optim
from anynet.data import DataLoader
from anynet.data.loader import placed
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.tensor import no_grad
from anynet.train import callbacks as calls
from anynet.train import metrics as measures
from anynet.train.batches import Batches, call, fingerprint, first_batch, loader_of, targets_of
from anynet.train.callbacks import Callback
from anynet.train.checks import (
    check_folder,
    check_settings,
    choice,
    plain_options,
    real_number,
    unknown,
    whole_number,
)
from anynet.train.metrics import Metric
from anynet.train.objectives import Objective
from anynet.train.state import non_finite
from anynet_backends import resolve

__all__ = ["OPTIMIZERS", "Setup"]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    _snake(name): cls
    for name in optim.__all__
    if isinstance(cls := getattr(optim, name), type)
    and issubclass(cls, optim.Optimizer)
    and cls is not optim.Optimizer
}
"""The optimizers of `anynet.optim` by name."""

_PARTS = ("step", "zero_grad", "param_groups", "state_dict", "load_state_dict")
_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class FitOptions(TypedDict):
    """The options of `fit`, as they were given."""

    loss: Any
    optimizer: Any
    lr: float | None
    metrics: str | Metric | Callable[..., Any] | Sequence[Any]
    epochs: int
    batch_size: int
    device: str | None
    seed: int
    scheduler: Any
    schedule_by: str
    clip_norm: float | None
    callbacks: Callback | Sequence[Callback]
    run_dir: str | os.PathLike[str] | None
    monitor: str | None
    mode: str | None
    checkpoint_every: int | str | None
    compile: bool | str
    settings: dict[str, Any] | None
    resume: bool


class Setup:
    """The options of `fit`; `build` then moves the model and makes what is given as a name or a function."""

    optimizer: Any
    scheduler: Any
    batches: Batches
    known: frozenset[str]

    def __init__(self, model: Module, train: Any, val: Any, **options: Unpack[FitOptions]) -> None:
        if not isinstance(model, Module):
            hint = f"; write {model.__name__}()" if isinstance(model, type) else ""
            got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
            msg = f"fit: the model must be a Module, got {got}{hint}"
            raise TypeError(msg)
        self.model = model
        self._read_numbers(options)
        self.objective = Objective(options["loss"])
        self.metrics = measures.resolve(
            options["metrics"], self.objective, reserved=("loss", "epoch", "lr", "seconds")
        )
        self._read_data(train, val, options["device"])
        self._given = _optimizer(model, self.objective, options["optimizer"], self.lr)
        self._schedule = options["scheduler"]
        self._check_schedule(self._schedule)
        self._read_callbacks(options)

    def _read_numbers(self, options: FitOptions) -> None:
        """The options that are a number or one of some words."""
        self.epochs = whole_number("fit", "epochs", options["epochs"], 1)
        self.batch_size = whole_number("fit", "batch_size", options["batch_size"], 1)
        self.seed = whole_number("fit", "seed", options["seed"], 0)
        lr, clip_norm = options["lr"], options["clip_norm"]
        self.lr = None if lr is None else real_number("fit", "lr", lr)
        self.clip_norm = (
            None if clip_norm is None else real_number("fit", "clip_norm", clip_norm, positive=True)
        )
        self.schedule_by = choice("fit", "schedule_by", options["schedule_by"], ("epoch", "batch"))
        self.compile = choice("fit", "compile", options["compile"], ("auto", True, False))
        self.every_batches, self.every_seconds = _every(options["checkpoint_every"])
        if isinstance(options["resume"], (str, os.PathLike)):
            msg = f"fit: resume must be True or False, got {options['resume']!r}; the folder of the run is run_dir"
            raise TypeError(msg)
        self.resume = bool(options["resume"])
        check_folder("fit: run_dir", options["run_dir"])
        check_settings(options["settings"])
        if self.resume and options["run_dir"] is None:
            msg = "fit: resume=True needs run_dir, the folder of the run to go on with"
            raise ValueError(msg)
        if options["checkpoint_every"] is not None and options["run_dir"] is None:
            msg = "fit: checkpoint_every needs run_dir, the folder in which to save"
            raise ValueError(msg)

    def _read_data(self, train: Any, val: Any, device: str | None) -> None:
        """Loaders of the two sets; the targets have to go with the loss."""
        self.device = resolve(device)[1]
        self.loader = loader_of("fit, train", train, self.batch_size, True, self.seed, self.device)
        self.val: DataLoader | None = None
        if val is not None:
            self.val = loader_of("fit, val", val, max(self.batch_size, 256), False, 0, self.device)
        self.objective.look_at(targets_of(self.loader, *(() if self.val is None else (self.val,))))

    def _read_callbacks(self, options: FitOptions) -> None:
        """The callbacks, and the quantity by which the best checkpoint is chosen."""
        validates, monitor = self.val is not None, options["monitor"]
        self.callbacks = calls.checked(options["callbacks"])
        added = [name for c in self.callbacks for name in c.adds]
        quantities = measures.directions(self.metrics, validates, added)
        for callback in self.callbacks:
            callback.check(quantities)
        self.monitor = monitor if monitor is not None else "val_loss" if validates else "loss"
        self.direction = measures.direction("fit: monitor", self.monitor, options["mode"], quantities)

    # ----- the optimizer and its schedule -----

    def _check_schedule(self, scheduler: Any) -> None:
        if scheduler is None:
            return
        if isinstance(scheduler, type):
            needed = [
                name
                for name, p in list(inspect.signature(scheduler).parameters.items())[1:]
                if p.default is p.empty
                and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            ]
            if needed:
                msg = (
                    f"fit: the class {scheduler.__name__} needs {', '.join(needed)}; give an instance, or a function: "
                    f"lambda optimizer: {scheduler.__name__}(optimizer, {needed[0]}=…)"
                )
                raise TypeError(msg)
        elif not (callable(getattr(scheduler, "step", None)) or callable(scheduler)):
            msg = f"fit: scheduler must be a schedule or a function optimizer → schedule, got {type(scheduler).__name__} {scheduler!r:.40}"
            raise TypeError(msg)
        elif hasattr(scheduler, "step") and not _steers(scheduler, self._given):
            msg = (
                f"fit: this {type(scheduler).__name__} is the schedule of another optimizer than fit is given; pass that "
                "optimizer too, or a function optimizer → schedule"
            )
            raise ValueError(msg)

    def build(self) -> None:
        """Materialise lazy layers, move the model, make the optimizer and its schedule."""
        model = self.model
        if any(m.waiting for m in model.modules()):
            inputs, _ = Batches("fit", model, self.device).pair(self.placed(first_batch(self.loader)))
            with no_grad(), evaluating(model):
                call(model, inputs)
        model.to(self.device)
        if self.objective.module is not None:
            self.objective.module.to(self.device)
        self.batches = Batches("fit", model, self.device)
        self.optimizer = self._given
        if not _is_optimizer(self._given):
            params = [*model.parameters(), *_loss_parameters(self.objective)]
            self.optimizer = self._given(params, **({} if self.lr is None else {"lr": self.lr}))
            if not _is_optimizer(self.optimizer):
                msg = f"fit: optimizer must be a function parameters → Optimizer, it returned {type(self.optimizer).__name__}"
                raise TypeError(msg)
        _check_parameters(model, self.objective, self.optimizer)
        self.scheduler = self._schedule
        if (self.scheduler is not None and not callable(getattr(self.scheduler, "step", None))) or isinstance(
            self.scheduler, type
        ):
            self.scheduler = self.scheduler(self.optimizer)
        if self.scheduler is not None and not callable(getattr(self.scheduler, "step", None)):
            msg = f"fit: scheduler must be a function optimizer → schedule, it returned {type(self.scheduler).__name__}"
            raise TypeError(msg)
        one_gradient = isinstance(self.optimizer, optim.Optimizer) and not isinstance(
            self.optimizer, optim.LBFGS
        )
        if self.compile is True and not one_gradient:
            msg = f"fit: compile=True is for optimizers that take one gradient a step, {type(self.optimizer).__name__} does not"
            raise ValueError(msg)
        self.plateau = isinstance(self.scheduler, optim.ReduceLROnPlateau)
        if self.plateau:
            self._check_plateau()
        self.known = frozenset(non_finite({k: p.detach() for k, p in model.named_parameters()}))

    def _check_plateau(self) -> None:
        if self.schedule_by == "batch":
            msg = f"fit: ReduceLROnPlateau follows {self.monitor!r}, which is there once an epoch: schedule_by='epoch'"
            raise ValueError(msg)
        if self.scheduler.mode != self.direction:
            better = "larger" if self.direction == "max" else "smaller"
            msg = (
                f"fit: {self.monitor!r} is better {better}, but ReduceLROnPlateau has mode={self.scheduler.mode!r}; make it "
                f"with mode={self.direction!r}, or choose another monitor"
            )
            raise ValueError(msg)

    # ----- what follows from the options -----

    def placed(self, batch: Any) -> Any:
        """A batch with Tensors on the device."""
        return placed(batch, self.device)

    def due(self, batch: int, saved: float) -> bool:
        """Whether to save after this batch; `saved` is when (time.monotonic) it was done last."""
        if self.every_batches is not None:
            return batch % self.every_batches == 0
        return self.every_seconds is not None and time.monotonic() - saved >= self.every_seconds

    def identity(self) -> dict[str, Any]:
        """What the run is, in plain data: a checkpoint of another one cannot be resumed here."""
        shapes = {k: f"{t.dtype} {tuple(t.shape)}" for k, t in self.model.state_dict().items()}
        groups = self.optimizer.param_groups
        options = [plain_options({k: v for k, v in g.items() if k != "params"}) for g in groups]
        return {
            "seed": self.seed,
            "data": fingerprint(self.loader),
            "val": None if self.val is None else fingerprint(self.val),
            "model": shapes,
            "loss": self.objective.describe(),
            "optimizer": type(self.optimizer).__name__,
            "optimizer_options": {f"group {i}": group for i, group in enumerate(options)},
            "scheduler": None if self.scheduler is None else type(self.scheduler).__name__,
            "schedule": {} if self.scheduler is None else plain_options(self.scheduler.state_dict()),
            "schedule_by": self.schedule_by,
            "clip_norm": self.clip_norm,
            "metrics": [m.name for m in self.metrics],
            "monitor": self.monitor,
            "mode": self.direction,
        }


def _steers(scheduler: Any, optimizer: Any) -> bool:
    """Whether a schedule is of this optimizer, or of the one inside; of one that does not say whose it is, that is believed."""
    parts = getattr(scheduler, "_schedulers", None) or getattr(scheduler, "schedulers", None) or [scheduler]
    own = [getattr(part, "optimizer", None) for part in parts]
    return all(
        o is None or o is optimizer or o is getattr(optimizer, "optimizer", optimizer) for o in own
    ) and (_is_optimizer(optimizer) or all(o is None for o in own))


def _is_optimizer(x: Any) -> bool:
    return not isinstance(x, type) and all(hasattr(x, name) for name in _PARTS)


def _optimizer(model: Module, objective: Objective, given: Any, lr: float | None) -> Any:
    """An optimizer, or a function that makes one."""
    if isinstance(given, str):
        key = given.lower().replace("-", "").replace("_", "")
        found = next((cls for name, cls in OPTIMIZERS.items() if name.replace("_", "") == key), None)
        if found is None:
            raise ValueError(unknown("optimizer", given, OPTIMIZERS))
        return found
    if _is_optimizer(given):
        if lr is not None:
            msg = "fit: lr is for an optimizer given by name or class; this one has its learning rate already"
            raise ValueError(msg)
        _check_parameters(model, objective, given)
        return given
    if not callable(given):
        msg = f"fit: optimizer must be a name, a class or an Optimizer, got {type(given).__name__} {given!r:.40}"
        raise TypeError(msg)
    return given


def _loss_parameters(objective: Objective) -> list[Any]:
    return [] if objective.module is None else list(objective.module.parameters())


def _check_parameters(model: Module, objective: Objective, optimizer: Any) -> None:
    """Refuse an optimizer of other parameters than the model's, or of only some of those that are to be trained."""
    if any(m.waiting for m in model.modules()):
        return
    own = {id(p): name for name, p in model.named_parameters()}
    more = {id(p) for p in _loss_parameters(objective)}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    kind = type(optimizer).__name__
    foreign = [
        p for g in optimizer.param_groups for p in g["params"] if id(p) not in own and id(p) not in more
    ]
    if foreign:
        msg = (
            f"fit: the optimizer {kind} holds {len(foreign)} parameters that are not the model's (of shapes "
            f"{[tuple(p.shape) for p in foreign[:4]]}): make it with this model's parameters()"
        )
        raise ValueError(msg)
    left = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if left:
        msg = (
            f"fit: {len(left)} of the model's parameters are to be trained but not in the optimizer {kind}: "
            f"{', '.join(left[:4])}; freeze them with requires_grad_(False), or give them to the optimizer"
        )
        raise ValueError(msg)
    if not any(p.requires_grad for g in optimizer.param_groups for p in g["params"]):
        msg = "fit: no parameter of the model is to be trained (all are frozen); set requires_grad_(True)"
        raise ValueError(msg)


def _every(value: Any) -> tuple[int | None, float | None]:
    """A number of batches, or a time such as "10min", in seconds."""
    if value is None:
        return None, None
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]+)\s*", value.lower())
        unit = found.group(2) if found else ""
        unit = unit if unit in _UNITS else unit.rstrip("s").removesuffix("ute").removesuffix("ond")
        unit = {"hour": "h"}.get(unit, unit)
        if (
            found is None
            or unit not in _UNITS
            or float(found.group(1)) <= 0
            or not math.isfinite(float(found.group(1)))
        ):
            msg = f"fit: checkpoint_every must be a number of batches or a time such as '30s', '10min' or '2h', got {value!r}"
            raise ValueError(msg)
        return None, float(found.group(1)) * _UNITS[unit]
    return whole_number("fit", "checkpoint_every", value, 1), None
