"""The training loop: `fit`, `evaluate`, `predict`.

One step is what the reader of any textbook expects:

    output = model(x);  l = loss(output, y);  zero_grad();  l.backward();  clip;  optimizer.step()

Around it: devices, progress, metrics, checkpoints and a clean way to stop and to go on.
"""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from anynet import optim, random
from anynet.data import DataLoader
from anynet.nn import functional as F
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.ops.manipulation import concat
from anynet.tensor import Tensor, no_grad
from anynet.train.callbacks import Callback
from anynet.train.metrics import Metric, Sums, metric
from anynet.train.progress import Progress
from anynet.train.runs import Run
from anynet.train.signals import Interrupted, StopRequest
from anynet.train.state import History, TrainingState
from anynet_backends import resolve

__all__ = ["NonFiniteLossError", "evaluate", "fit", "predict"]

LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss,
    "bce": F.binary_cross_entropy, "bce_with_logits": F.binary_cross_entropy_with_logits, "nll": F.nll_loss,
}  # fmt: skip
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "adagrad": optim.Adagrad, "rmsprop": optim.RMSprop,
}  # fmt: skip


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the parameters are those before that step."""


def _named(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        near = difflib.get_close_matches(name, table, 1)
        msg = f"unknown {kind} {name!r}" + (
            f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(table)}"
        )
        raise ValueError(msg)
    return table[name]


def _loss(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    function: Callable[..., Any] = loss if callable(loss) else _named("loss", loss, LOSSES)
    return function


def _loader(data: Any, batch_size: int, shuffle: bool, seed: int, device: str) -> DataLoader:
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, (tuple, list)):
        lengths = [len(part) for part in data]
        if len(data) != 2 or lengths[0] != lengths[1]:
            msg = f"data are a pair (inputs, targets) of equal length, got {len(data)} arrays of lengths {lengths}"
            raise ValueError(msg)
        from anynet.data import TensorDataset

        data = TensorDataset(*data)
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle, seed=seed, device=device)


def evaluate(
    model: Module,
    data: Any,
    *,
    loss: str | Callable[..., Any],
    metrics: Sequence[str | Metric] = (),
    batch_size: int = 256,
    device: str | None = None,
) -> dict[str, float]:
    """The mean loss and the metrics over a data set, in evaluation mode, without recording.

    `data` is a pair of arrays, a Dataset or a DataLoader; the model stays where it is, in the mode that it had.
    """
    where = device or _device_of(model)
    function = _loss(loss)
    sums = Sums([metric(m) for m in metrics])
    was = model.training
    model.eval()
    try:
        with no_grad():
            for x, y in _loader(data, batch_size, shuffle=False, seed=0, device=where):
                output = model(x)
                sums.add("loss", float(function(output, y)) * len(x), len(x))
                sums.measure(output, y)
    finally:
        model.train(was)
    return sums.result()


def predict(model: Module, x: Any, *, batch_size: int = 256, device: str | None = None) -> Tensor:
    """The model's output for all rows of x, computed in batches, in evaluation mode."""
    where = device or _device_of(model)
    was = model.training
    model.eval()
    try:
        with no_grad():
            n = len(x)
            out = [
                model(asarray(x[i : i + batch_size], device=where)) for i in range(0, max(n, 1), batch_size)
            ]
    finally:
        model.train(was)
    return concat(out, axis=0) if len(out) > 1 else out[0]


def _device_of(model: Module) -> str:
    for p in model.parameters():
        return p.device
    return resolve(None)[1]


def fit(
    model: Module,
    train: Any,
    val: Any = None,
    *,
    loss: str | Callable[..., Any],
    optimizer: str | optim.Optimizer | type[optim.Optimizer] = "adam",
    lr: float | None = None,
    metrics: Sequence[str | Metric] = (),
    epochs: int = 1,
    batch_size: int = 32,
    device: str | None = "auto",
    seed: int = 0,
    scheduler: Any = None,
    schedule_by: str = "epoch",
    clip_norm: float | None = None,
    callbacks: Sequence[Callback] = (),
    run_dir: str | os.PathLike[str] | None = None,
    monitor: str | None = None,
    settings: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` and return its `History`.

    Parameters:
      train, val: a pair of arrays (inputs, targets), a Dataset, or a DataLoader.
      loss: a function (output, target) → scalar Tensor, or its name: cross_entropy, mse, l1, huber, bce,
        bce_with_logits, nll.
      optimizer: an Optimizer over the model's parameters, a class, or a name: sgd, adam, adamw, adagrad, rmsprop;
        `lr` is its learning rate where a class or a name is given.
      metrics: names (accuracy, mse, mae) or functions (output, target) → (sum, count).
      device: where to train; "auto" takes the best that works. The model is moved there.
      seed: of the shuffles and the dropout masks.
      scheduler: a learning-rate schedule, or a function optimizer → schedule; stepped each epoch, or each batch with
        `schedule_by="batch"`.
      clip_norm: the largest norm that the gradient of all parameters may have.
      run_dir: a folder for settings.json, environment.json, history.jsonl, best.safetensors, last.safetensors.
      monitor: what makes a checkpoint the best: val_loss where there is a `val`, else loss.
      resume: go on from run_dir's last checkpoint, bit for bit as if there had been no break.

    While it runs it holds `run_dir` (`RunFolder`); `RunFolderError` where another run does.

    Errors: NonFiniteLossError names the epoch and batch where the loss became NaN or infinite; nothing was updated with
    it. Ctrl-C finishes the batch, saves, and raises `Interrupted`.
    """
    if epochs < 1:
        msg = f"fit: epochs is at least 1, got {epochs}"
        raise ValueError(msg)
    if schedule_by not in ("epoch", "batch"):
        msg = f"fit: schedule_by is 'epoch' or 'batch', got {schedule_by!r}"
        raise ValueError(msg)
    if resume and run_dir is None:
        msg = "fit: resume=True needs run_dir, the folder of the run to go on with"
        raise ValueError(msg)
    function = _loss(loss)
    measures = [metric(m) for m in metrics]
    _, where = resolve(device)
    loader = _loader(train, batch_size, shuffle=True, seed=seed, device=where)
    if len(loader) == 0:
        msg = "fit: the training data are empty"
        raise ValueError(msg)
    val_loader = (
        None if val is None else _loader(val, max(batch_size, 256), shuffle=False, seed=0, device=where)
    )
    if isinstance(optimizer, str):
        optimizer = _named("optimizer", optimizer, OPTIMIZERS)
    if not isinstance(optimizer, optim.Optimizer):
        model.to(where)
        make: Callable[..., optim.Optimizer] = optimizer  # type: ignore[assignment]
        optimizer = make(model.parameters(), **({} if lr is None else {"lr": lr}))
    elif lr is not None:
        msg = "fit: lr is for an optimizer given by name or class; this one has its learning rate already"
        raise ValueError(msg)
    else:
        model.to(where)
    if scheduler is not None and not hasattr(scheduler, "step"):
        scheduler = scheduler(optimizer)
    with Run(run_dir, resume, settings or {}) as run:
        state = TrainingState(model, optimizer, scheduler, loader, callbacks, measures, seed)
        if resume:
            state.restore(run.last())
        else:
            random.manual_seed(seed)
        if state.epoch >= epochs:
            return state.history
        monitor = monitor or ("val_loss" if val_loader is not None else "loss")
        for callback in callbacks:
            callback.on_train_begin(model)
        with StopRequest() as stop, Progress(epochs, len(loader), on=progress) as bar:
            while state.epoch < epochs:
                began = time.perf_counter()
                model.train()
                loader.set_epoch(state.epoch)
                for x, y in _rest(loader, state.batch):
                    output = model(x)
                    value = function(output, y)
                    number = float(value)
                    if not math.isfinite(number):
                        msg = (
                            f"the loss is {number} in epoch {state.epoch + 1}, batch {state.batch + 1}; nothing was updated. "
                            "Try a smaller learning rate or clip_norm, check the data for NaN, "
                            "or find the operation with anynet.anomaly()"
                        )
                        raise NonFiniteLossError(msg)
                    optimizer.zero_grad()
                    value.backward()
                    if clip_norm is not None:
                        optim.clip_grad_norm_(model.parameters(), clip_norm)
                    optimizer.step()
                    if scheduler is not None and schedule_by == "batch":
                        scheduler.step()
                    state.sums.add("loss", number * len(x), len(x))
                    state.sums.measure(output, y)
                    state.batch += 1
                    for callback in callbacks:
                        callback.on_batch_end(model, state.epoch + 1, state.batch, number)
                    bar.batch(state.epoch + 1, state.batch, number)
                    if stop.asked:
                        raise Interrupted(run.interrupt(state))
                record: dict[str, Any] = {"epoch": state.epoch + 1, **state.sums.result()}
                if val_loader is not None:
                    record |= {
                        f"val_{k}": v
                        for k, v in evaluate(
                            model, val_loader, loss=function, metrics=metrics, device=where
                        ).items()
                    }
                record["lr"] = float(optimizer.param_groups[0]["lr"])
                record["seconds"] = time.perf_counter() - began
                if scheduler is not None and schedule_by == "epoch":
                    if isinstance(scheduler, optim.ReduceLROnPlateau):
                        scheduler.step(record[monitor])
                    else:
                        scheduler.step()
                if monitor not in record:
                    msg = f"fit: monitor={monitor!r}, but the record has {', '.join(record)}"
                    raise KeyError(msg)
                enough = [callback.on_epoch_end(model, record) for callback in callbacks]
                state.finish(record)
                run.epoch(state, record, monitor)
                bar.epoch(state.epoch, record)
                if any(enough):
                    break
                if stop.asked:
                    raise Interrupted(run.interrupt(state))
        return state.history


def _rest(loader: DataLoader, start: int) -> Iterator[tuple[Any, Any]]:
    """The batches of an epoch from number `start` on."""
    for i, batch in enumerate(loader):
        if i >= start:
            yield batch
