"""What `fit` is asked to do, checked: everything that can be refused before the first batch is refused here."""

from __future__ import annotations

import functools
import inspect
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from anynet import optim
from anynet._hints import nearest
from anynet.data import Dataset, Preprocessing, Source
from anynet.data.loader import placed
from anynet.distributed import world
from anynet.nn import losses as nn_losses
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import zeros
from anynet.tensor import Parameter, no_grad
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
    seconds,
    unknown,
    whole_number,
)
from anynet.train.named_callbacks import callback_of
from anynet.train.objectives import ClassWeights, Objective, OwnStep
from anynet.train.precision import check_precision, stored
from anynet.train.schedules import SCHEDULES, UNKNOWN
from anynet.train.sharing import divided
from anynet.train.splitting import Split, split_off
from anynet.train.state import non_finite
from anynet.train.streams import UNLIMITED, Stream, length
from anynet_backends import resolve

if TYPE_CHECKING:
    from anynet.metrics import Metric

__all__ = ["OPTIMIZERS", "Setup"]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    _snake(name): cls
    for name in optim.__all__
    if isinstance(cls := getattr(optim, name), type)
    and issubclass(cls, optim.Optimizer)
    and cls not in (optim.Optimizer, optim.ZeroRedundancyOptimizer)  # which are made of another one
}
"""The optimizers of `anynet.optim` by name."""

_PARTS = ("step", "zero_grad", "param_groups", "state_dict", "load_state_dict")


class FitOptions(TypedDict):
    """The options of `fit`, as they were given."""

    loss: Any
    optimizer: Any
    lr: Any
    weight_decay: float | None
    metrics: str | Metric | Callable[..., Any] | Sequence[Any]
    epochs: int | None
    batch_size: int
    device: str | None
    seed: int
    scheduler: Any
    schedule_by: str
    clip_norm: float | None
    clip_value: float | None
    accumulate: int
    class_weight: Any
    precision: str | None
    steps: int | None
    steps_per_epoch: int | None
    time_limit: float | str | None
    restore_best: bool
    callbacks: Callback | str | Mapping[str, Any] | Sequence[Callback | str | Mapping[str, Any]]
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
        self.group = world()
        self._read_numbers(options)
        self._read_limits(options)
        train, val = self._read_source(train, val)
        self.objective = self._read_loss(options["loss"])
        self.metrics = measures.resolve(
            options["metrics"], self.objective, reserved=("loss", "epoch", "lr", "seconds")
        )
        if self.metrics and isinstance(self.objective, OwnStep):
            msg = (
                "fit: metrics compare outputs with targets, which training_step keeps to itself; let it return what is to be recorded: "
                '{"loss": …, "accuracy": …}'
            )
            raise ValueError(msg)
        self._read_data(train, val, options)
        self.class_weights = self._read_class_weight(options["class_weight"])
        self._given = _optimizer(
            model, self.objective, options["optimizer"], self.lr, options["weight_decay"]
        )
        self._schedule = options["scheduler"]
        self._check_schedule(self._schedule)
        self._read_callbacks(options)

    def _read_numbers(self, options: FitOptions) -> None:
        """The options that are a number or one of some words."""
        self.batch_size = whole_number("fit", "batch_size", options["batch_size"], 1)
        self.seed = whole_number("fit", "seed", options["seed"], 0)
        self.lr = _rates(options["lr"])
        self.clip_norm, self.clip_value = (
            None if value is None else real_number("fit", name, value, positive=True)
            for name, value in (("clip_norm", options["clip_norm"]), ("clip_value", options["clip_value"]))
        )
        self.accumulate = whole_number("fit", "accumulate", options["accumulate"], 1)
        self.precision = check_precision(options["precision"])
        self.schedule_by = choice("fit", "schedule_by", options["schedule_by"], ("epoch", "batch"))
        self.compile = choice("fit", "compile", options["compile"], ("auto", True, False))
        self.every_batches, self.every_seconds = _every(options["checkpoint_every"])
        if isinstance(options["resume"], (str, os.PathLike)):
            msg = f"fit: resume must be True or False, got {options['resume']!r}; the folder of the run is run_dir"
            raise TypeError(msg)
        self.resume = bool(options["resume"])
        check_folder("fit: run_dir", options["run_dir"])
        check_settings(options["settings"])
        self.settings = options["settings"] or {}
        if self.resume and options["run_dir"] is None:
            msg = "fit: resume=True needs run_dir, the folder of the run to go on with"
            raise ValueError(msg)
        if options["checkpoint_every"] is not None and options["run_dir"] is None:
            msg = "fit: checkpoint_every needs run_dir, the folder in which to save"
            raise ValueError(msg)

    def _read_limits(self, options: FitOptions) -> None:
        """How long to train: epochs, updates, time; one epoch where nothing is said."""
        steps, limit, epochs = options["steps"], options["time_limit"], options["epochs"]
        self.steps = None if steps is None else whole_number("fit", "steps", steps, 1)
        per_epoch = options["steps_per_epoch"]
        self.steps_per_epoch = (
            None if per_epoch is None else whole_number("fit", "steps_per_epoch", per_epoch, 1)
        )
        self.time_limit = None if limit is None else seconds("fit", "time_limit", limit)
        if epochs is None:
            self.epochs = 1 if steps is None and limit is None else UNLIMITED
        else:
            self.epochs = whole_number("fit", "epochs", epochs, 1)
        if options["restore_best"] not in (True, False):
            msg = f"fit: restore_best must be True or False, got {options['restore_best']!r}"
            raise TypeError(msg)
        self.restore_best = bool(options["restore_best"])

    def _read_source(self, train: Any, val: Any) -> tuple[Any, Any]:
        """The data sets of a source; its own validation part unless another is given."""
        self.source = train if isinstance(train, Source) else None
        if isinstance(val, Source):
            msg = "fit: val is a Source; give one of its parts: val=source.valid"
            raise TypeError(msg)
        if self.source is None:
            return train, val
        if _is_fraction(val) and self.source.valid is not None:
            msg = f"fit: val={val!r}, but the source has its own validation part; leave val out, or choose the part in the source"
            raise ValueError(msg)
        return self.source.train, self.source.valid if val is None else val

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How samples become inputs, and outputs answers; None where `fit` was not given a source."""
        return None if self.source is None else self.source.preprocessing

    def _read_loss(self, given: Any) -> Objective | OwnStep:
        """The loss that was given, else the module's own step, else what suits the source."""
        own = callable(getattr(self.model, "training_step", None))
        if own and given is not None:
            msg = f"fit: {type(self.model).__name__} has a training_step, which computes the loss; leave out loss="
            raise TypeError(msg)
        if own:
            return OwnStep(self.model)
        if given is None and self.source is not None:
            given = self.source.defaults().get("loss")
        if given is None:
            msg = (
                "fit: give a loss, such as loss='cross_entropy' for classes or loss='mse' for numbers (or the module a "
                "training_step(self, batch))"
            )
            raise TypeError(msg)
        return Objective(given)

    def _read_data(self, train: Any, val: Any, options: FitOptions) -> None:
        """Loaders of the two sets; the targets have to go with the loss."""
        self.device = resolve(options["device"])[1]
        self.split: Split | None = None
        if _is_fraction(val):
            train, val, self.split = split_off(train, val, self.seed)
        self.loader = loader_of(
            "fit, train", train, self.batch_size, True, self.seed, self.device, self.steps_per_epoch
        )
        if (
            isinstance(self.loader, Stream)
            and self.loader.once
            and self.epochs > 1
            and self.loader.steps is None
        ):
            msg = (
                "fit: train is an iterator, which can be gone through once; for several epochs give an iterable or a function that "
                "returns an iterator, or say with steps_per_epoch how many batches an epoch is"
            )
            raise ValueError(msg)
        self.val: Any = None
        if val is not None:
            at_once = val.at_once if isinstance(val, Dataset) else Dataset.at_once
            self.val = loader_of("fit, val", val, max(self.batch_size, at_once), False, 0, self.device)
            if isinstance(self.val, Stream) and self.val.once and self.epochs > 1:
                msg = "fit: val is an iterator, which can be gone through once; give an iterable, or a function that returns an iterator"
                raise ValueError(msg)
        self.objective.look_at(targets_of(self.loader, *(() if self.val is None else (self.val,))))
        self.loader = divided("fit, train", self.loader, self.group)
        if self.val is not None:
            self.val = divided("fit, val", self.val, self.group)

    def _read_class_weight(self, given: Any) -> ClassWeights | None:
        if given is None:
            return None
        kind = self.objective.labels
        known = self.objective.known
        if isinstance(self.objective, OwnStep) or (
            kind and kind[0] == "values" and not isinstance(known, nn_losses.BCELoss)
        ):
            what = "training_step" if isinstance(self.objective, OwnStep) else self.objective.name
            msg = f"fit: class_weight is for losses of classes; {what} has none"
            raise ValueError(msg)
        labels = None if self.preprocessing is None else self.preprocessing.classes
        return ClassWeights(given, targets_of(self.loader), labels)

    def _read_callbacks(self, options: FitOptions) -> None:
        """The callbacks, and the quantity by which the best checkpoint is chosen."""
        validates, monitor = self.val is not None, options["monitor"]
        self.callbacks = calls.checked(options["callbacks"], callback_of)
        if self.time_limit is not None:
            self.callbacks.append(calls.TimeLimit(self.time_limit))
        added = [name for c in self.callbacks for name in c.adds]
        quantities = measures.directions(self.metrics, validates, added)
        for callback in self.callbacks:
            callback.check(quantities)
        self.monitored = monitor is not None
        self.monitor = monitor if monitor is not None else "val_loss" if validates else "loss"
        if isinstance(self.objective, OwnStep) and self.monitor not in quantities:
            quantities[self.monitor] = None  # it may be among what training_step returns
        self.direction = measures.direction("fit: monitor", self.monitor, options["mode"], quantities)

    # ----- the optimizer and its schedule -----

    def _check_schedule(self, scheduler: Any) -> None:
        if scheduler is None:
            return
        if isinstance(scheduler, str):
            if scheduler not in SCHEDULES:
                raise ValueError(f"fit: {unknown('schedule', scheduler, SCHEDULES)}")
        elif isinstance(scheduler, type):
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
            own = isinstance(self.objective, OwnStep)
            parts = Batches("fit", model, self.device, own).parts(self.placed(first_batch(self.loader)))
            with no_grad(), evaluating(model):
                self.objective.of_batch(model, parts) if own else call(model, parts[0])
        self._set_precision()
        model.to(self.device)
        if self.objective.module is not None:
            self.objective.module.to(self.device)
        self.batches = Batches("fit", model, self.device, isinstance(self.objective, OwnStep))
        self.optimizer = self._given
        if not _is_optimizer(self._given):
            params, rate = _with_rates(model, _loss_parameters(self.objective), self.lr)
            self.optimizer = self._given(params, **({} if rate is None else {"lr": rate}))
            if not _is_optimizer(self.optimizer):
                msg = f"fit: optimizer must be a function parameters → Optimizer, it returned {type(self.optimizer).__name__}"
                raise TypeError(msg)
        _check_parameters(model, self.objective, self.optimizer)
        self.scheduler = self._schedule
        if isinstance(self.scheduler, str):
            self.scheduler, self.schedule_by = (
                SCHEDULES[self.scheduler](self.optimizer, self._updates_in_all()),
                "batch",
            )
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
        closure = isinstance(self.optimizer, (optim.LBFGS, optim.SAM))
        if self.accumulate > 1 and (closure or isinstance(self.optimizer, optim.MultiSteps)):
            what = (
                "accumulates by itself"
                if isinstance(self.optimizer, optim.MultiSteps)
                else "computes its loss several times a step"
            )
            msg = f"fit: accumulate={self.accumulate} does not go with {type(self.optimizer).__name__}, which {what}"
            raise ValueError(msg)
        if self.precision == "mixed-fp16" and closure:
            kind = type(self.optimizer).__name__
            msg = f"fit: precision='mixed-fp16' scales the loss, which {kind} does not expect; 'mixed-bf16' needs no scale"
            raise ValueError(msg)
        self._check_processes()
        if self.compile is True and not one_gradient:
            msg = f"fit: compile=True is for optimizers that take one gradient a step, {type(self.optimizer).__name__} does not"
            raise ValueError(msg)
        self.plateau = isinstance(self.scheduler, optim.ReduceLROnPlateau)
        if self.plateau:
            self._check_plateau()
        self.known = frozenset(non_finite({k: p.detach() for k, p in model.named_parameters()}))

    def _check_processes(self) -> None:
        """What does not go with several processes."""
        if self.group.size > 1 and isinstance(self.optimizer, optim.MultiSteps):
            msg = "fit: MultiSteps adds gradients up that several processes have summed already; in their place use accumulate="
            raise ValueError(msg)
        if self.group.size > 1 and self.compile is True:
            msg = f"fit: compile=True is for one process, and {self.group.size} train together here: their sums are no part of a program"
            raise ValueError(msg)

    def _updates_in_all(self) -> int:
        """How many updates the optimizer will make, which a schedule given by name is fitted to."""
        if self.steps is not None:
            return self.steps
        batches = length(self.loader)
        if batches is None or self.epochs == UNLIMITED:
            if self.time_limit is not None:
                return UNKNOWN
            msg = (
                f"fit: scheduler={self._schedule!r} needs to know how many updates there will be; give steps=, or epochs= and "
                "steps_per_epoch=, or time_limit="
            )
            raise ValueError(msg)
        return self.epochs * -(-batches // self.accumulate)

    def _set_precision(self) -> None:
        """The parameters' dtype, or float32 with products in 16 bits."""
        if self.precision is None:
            return
        kept = stored(self.precision, self.device)
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if all(t.dtype.name == kept for t in tensors if t.dtype.kind == "real"):
            return
        if _is_optimizer(self._given):
            msg = (
                f"fit: precision={self.precision!r} makes the parameters {kept}, and the optimizer was made for them as they are; "
                f"write model.to(anynet.{kept}) before making it"
            )
            raise ValueError(msg)
        self.model.to(dtype=kept)
        if self.objective.module is not None:
            self.objective.module.to(dtype=kept)

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
            "clip_value": self.clip_value,
            "accumulate": self.accumulate,
            "precision": self.precision,
            "class_weight": None
            if self.class_weights is None
            else {str(c): w for c, w in self.class_weights.of.items()},
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


def _optimizer(model: Module, objective: Any, given: Any, lr: Any, decay: Any) -> Any:
    """An optimizer, or a function that makes one."""
    options: dict[str, Any] = {}
    if isinstance(given, Mapping):
        options = {str(k): v for k, v in given.items() if k != "name"}
        if not isinstance(given.get("name"), str):
            msg = f"fit: an optimizer as a mapping has a name and options, {{'name': 'sgd', 'momentum': 0.9}}, got {given!r:.80}"
            raise TypeError(msg)
        given = given["name"]
    if isinstance(given, str):
        key = given.lower().replace("-", "").replace("_", "")
        found = next((cls for name, cls in OPTIMIZERS.items() if name.replace("_", "") == key), None)
        if found is None:
            raise ValueError(unknown("optimizer", given, OPTIMIZERS))
        given = found
    if decay is not None:
        options |= _decay(given, options, decay)
    if options:
        _check_options(given, options, lr)
        return functools.partial(given, **options)
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


def _decay(optimizer: Any, options: Mapping[str, Any], decay: Any) -> dict[str, float]:
    """The option weight_decay of an optimizer that is made here."""
    if not isinstance(optimizer, type):
        what = "has its own" if _is_optimizer(optimizer) else "says it itself"
        msg = f"fit: weight_decay is for an optimizer given by name or class; this {type(optimizer).__name__} {what}"
        raise ValueError(msg)
    if "weight_decay" in options:
        msg = f"fit: weight_decay is given twice, as {decay!r} and with the optimizer as {options['weight_decay']!r}"
        raise ValueError(msg)
    return {"weight_decay": real_number("fit", "weight_decay", decay)}


def _check_options(cls: type, options: Mapping[str, Any], lr: Any) -> None:
    """Refuse options that the optimizer has not, or that may not have these values."""
    if lr is not None and "lr" in options:
        msg = (
            f"fit: the learning rate is given twice, as lr={lr!r} and with the optimizer as {options['lr']!r}"
        )
        raise ValueError(msg)
    first, *known = inspect.signature(cls).parameters
    wrong = next((name for name in options if name not in known), None)
    if wrong is not None:
        raise ValueError(f"fit: {unknown(f'option of {cls.__name__}', wrong, known)}")
    if first == "params":  # not of those that wrap another optimizer
        cls([Parameter(zeros((2, 2), device="cpu"))], **options)


def _rates(lr: Any) -> Any:
    """One learning rate, one for each part of the model, or a function that gives it."""
    if lr is None or callable(lr):
        return lr
    if not isinstance(lr, Mapping):
        return real_number("fit", "lr", lr)
    if not lr or not all(isinstance(k, str) for k in lr):
        msg = f"fit: lr must be a number, or a mapping from the names of parts of the model to numbers, got {lr!r:.60}"
        raise TypeError(msg)
    return {k: real_number("fit", f"lr[{k!r}]", v) for k, v in lr.items()}


def _with_rates(model: Module, more: list[Any], lr: Any) -> tuple[list[Any], float | None]:
    """Parameters for an optimizer, in groups by their learning rate, and the rate of those that have none of their own."""
    named = list(model.named_parameters())
    if not callable(lr) and not isinstance(lr, Mapping):
        return [p for _, p in named] + more, lr
    default: float | None = None
    if isinstance(lr, Mapping):
        default = lr.get("")
        unused = [k for k in lr if k and not any(_within(name, k) for name, _ in named)]
        if unused:
            parts = sorted({name.rpartition(".")[0] or name for name, _ in named})
            msg = f"fit: lr has {unused[0]!r}, and no parameter's name begins so{nearest(unused[0], parts)}"
            raise ValueError(msg)
    groups: dict[float | None, list[Any]] = {}
    for name, p in named:
        rate: float | None
        if callable(lr):
            rate = real_number("fit", f"lr({name!r}, parameter)", lr(name, p))
        else:
            own = max((k for k in lr if k and _within(name, k)), key=len, default=None)
            rate = default if own is None else lr[own]
        groups.setdefault(rate, []).append(p)
    if more:
        groups.setdefault(default, []).extend(more)
    return [
        {"params": params, **({} if rate is None else {"lr": rate})} for rate, params in groups.items()
    ], default


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix if prefix.endswith(".") else prefix + ".")


def _is_fraction(val: Any) -> bool:
    return isinstance(val, (int, float)) or (hasattr(val, "dtype") and getattr(val, "shape", None) == ())


def _loss_parameters(objective: Any) -> list[Any]:
    return [] if objective.module is None else list(objective.module.parameters())


def _check_parameters(model: Module, objective: Any, optimizer: Any) -> None:
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
        return None, seconds("fit", "checkpoint_every", value, "a number of batches or ")
    return whole_number("fit", "checkpoint_every", value, 1), None
