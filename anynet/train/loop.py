"""`fit`: the training loop.

What happens in a step stands in `anynet.train.updates`. Around it: devices, progress, metrics, checkpoints and a clean way
to stop and to go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from anynet import random
from anynet.nn.modes import evaluating, modes_kept
from anynet.nn.module import Module
from anynet.train.batches import first_batch
from anynet.train.callbacks import Callback
from anynet.train.evaluation import add_batch, over
from anynet.train.metrics import Metric, Sums
from anynet.train.progress import Progress
from anynet.train.runs import Run
from anynet.train.setup import Setup
from anynet.train.signals import Interrupted, StopRequest
from anynet.train.state import (
    History,
    NonFiniteError,
    TrainingState,
    averaged,
    first_non_finite,
    set_averaged,
)
from anynet.train.updates import Updates

__all__ = ["fit"]


# Over 60 lines, of which 12 are code: the signature and what each option means belong where help(fit) looks.
def fit(
    model: Module,
    train: Any,
    val: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    lr: float | None = None,
    metrics: str | Metric | Callable[..., Any] | Sequence[Any] = (),
    epochs: int = 1,
    batch_size: int = 32,
    device: str | None = "auto",
    seed: int = 0,
    scheduler: Any = None,
    schedule_by: str = "epoch",
    clip_norm: float | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    run_dir: str | os.PathLike[str] | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    checkpoint_every: int | str | None = None,
    compile: bool | str = "auto",
    settings: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` and return its `History`.

    Parameters:
      train, val: a pair (inputs, targets) of arrays, lists or Tensors, a Dataset of such pairs, or a DataLoader. A tuple or
        dict of arrays in the place of the inputs is several inputs. Floating-point arrays are converted to the model's
        dtype; integers among the inputs too, unless the model takes them as they are (an embedding), which a call on the
        first batch finds out.
      loss: a name (every loss of `anynet.nn`: cross_entropy, mse, l1, huber, bce, bce_with_logits, …), an instance, or a
        function (output, target) → Tensor of one element; see `Objective` for what a mean over batches is then.
      optimizer: an Optimizer over the model's parameters, a class, a function of the parameters, or a name (every one of
        `anynet.optim`: sgd, adam, adamw, …); `lr` is its learning rate where it is made here.
      metrics: names (accuracy, mse, mae) or functions (output, target) → (sum, count); see `Metric`.
      epochs: how many there are in all, those before a resume included.
      device: where to train; "auto" takes the best that works. The model and the batches are moved there.
      seed: of the shuffles, the dropout masks and all else that is drawn from `anynet.random`. The streams outside are not
        touched.
      scheduler: a learning-rate schedule of this optimizer, or a function optimizer → schedule; stepped each epoch, or each
        batch with `schedule_by="batch"`.
      clip_norm: the largest norm that the gradient of all parameters may have.
      callbacks: instances of `Callback`.
      run_dir: a folder for settings.json, environment.json, history.jsonl, best.safetensors, last.safetensors.
      monitor, mode: what makes a checkpoint the best (val_loss where there is a `val`, else loss), and "min" or "max" for what
        does not say which is better. A NaN is never the best.
      checkpoint_every: save last.safetensors within the epochs, too: every so many batches (an integer), or each time
        after, say, "30s", "10min" or "2h".
      compile: True: loss and gradients are computed by a program (`anynet.compile`), with the same bits; False: never; "auto":
        where that pays. A training of which seconds are left after the first steps is recorded, the program compared with
        the functions bit for bit and timed, and the quicker one is used.
      resume: go on from run_dir's last checkpoint, bit for bit as if there had been no break, also in the middle of an
        epoch. Data, model, optimizer, loss, schedule and seed must be what they were, else the differences are listed. What
        a callback has stopped stays stopped.

    Each module keeps its mode: batch norms that were put into evaluation stay frozen (a model that is in evaluation as a
    whole is put into training mode meanwhile). A batch whose targets are all ignored updates nothing. Optimizers that hold
    a mean of the weights (schedule-free) are switched to it for validation, for `on_epoch_end`, for what is saved as
    weights, and for the model at the end.

    While it runs it holds `run_dir` (`RunFolder`); `RunFolderError` where another run does.

    Errors: what can be found before the first update is refused before it, and the model is as it was. `NonFiniteLossError`
    and `NonFiniteGradientError` name the epoch and batch; nothing was updated with it, and checkpoints with NaN or infinite
    numbers are never written over others. Ctrl-C and SIGTERM finish the batch, save, and raise `Interrupted`.
    """
    setup = Setup(
        model, train, val, loss=loss, optimizer=optimizer, lr=lr, metrics=metrics, epochs=epochs, batch_size=batch_size,
        device=device, seed=seed, scheduler=scheduler, schedule_by=schedule_by, clip_norm=clip_norm, callbacks=callbacks,
        run_dir=run_dir, monitor=monitor, mode=mode, checkpoint_every=checkpoint_every, compile=compile,
        settings=settings, resume=resume,
    )  # fmt: skip
    with random.fork_rng(setup.seed), modes_kept(model):
        setup.build()
        with Run(run_dir, resume, settings or {}) as run:
            return _Training(setup, run, progress).run()


class _Stopped(Exception):
    """A signal has come while validating."""


class _Training:
    """One call of `fit`."""

    def __init__(self, setup: Setup, run: Run, progress: bool) -> None:
        self.setup, self.folder, self.progress = setup, run, progress
        self.model, self.optimizer, self.scheduler = setup.model, setup.optimizer, setup.scheduler
        self.loader, self.val, self.callbacks = setup.loader, setup.val, setup.callbacks
        self.batches = setup.batches
        self.state = TrainingState(
            self.model, self.optimizer, self.scheduler, self.loader, self.callbacks, setup.metrics, setup.objective,
            setup.seed, setup.identity() if run.folder is not None else {},
        )  # fmt: skip
        self.updates = Updates(self.model, setup.objective, self.optimizer, setup.clip_norm)
        self.on_batch = [c for c in self.callbacks if type(c).on_batch_end is not Callback.on_batch_end]
        self.stop, self.saved = StopRequest(), time.monotonic()

    def run(self) -> History:
        """All epochs that are left."""
        tree = self.folder.last() if self.setup.resume else None
        if tree is not None:
            self.state.check(tree)
        elif self.val is not None:
            self.try_validation()
        set_averaged(self.optimizer, False)
        for callback in self.callbacks:
            callback.on_train_begin(self.model)
        if tree is not None:
            self.state.restore(tree)
        self.folder.expect_finite(self.state)
        if not self.model.training:
            self.model.train()
        left = (self.setup.epochs - self.state.epoch) * len(self.loader) - self.state.batch
        self.updates.compile(self.setup.compile, left)
        self.modes = [(m, m.training) for m in self.model.modules()]
        try:
            with self.stop, Progress(self.setup.epochs, len(self.loader), on=self.progress) as bar:
                while self.state.epoch < self.setup.epochs and not self.state.stopped:
                    self.epoch(bar)
        finally:
            set_averaged(self.optimizer, True)
        for callback in self.callbacks:
            callback.on_train_end(self.model)
        return self.state.history

    def try_validation(self) -> None:
        """One batch of the validation set, so that what does not fit is found now and not after an epoch."""
        assert self.val is not None
        with random.fork_rng(), evaluating(self.model):
            pair = self.batches.pair(self.setup.placed(first_batch(self.val)))
            add_batch(self.model, pair, self.setup.objective, Sums(self.setup.objective, self.setup.metrics))

    # ----- an epoch -----

    def epoch(self, bar: Progress) -> None:
        """The batches that are left of an epoch, validation, what follows."""
        state, began = self.state, time.perf_counter() - self.state.seconds
        if state.batch == 0:
            for callback in self.callbacks:
                callback.on_epoch_begin(self.model, state.epoch + 1)
        self.loader.set_epoch(state.epoch, state.batch)
        for batch in self.loader if state.batch < len(self.loader) else ():
            number = self.step(*self.batches.pair(batch))
            bar.batch(state.epoch + 1, state.batch, number)
            if self.setup.due(state.batch, self.saved) or self.stop.asked:
                self.save(began)
                self.leave_if_asked()
        try:
            with averaged(self.optimizer):
                record = self.record(began)
                self.end_epoch(record)
        except _Stopped:
            self.save(began)
            self.leave_if_asked()
        self.save()
        bar.epoch(state.epoch, record)
        self.leave_if_asked()

    def save(self, began: float | None = None) -> None:
        """Write the checkpoint to go on from."""
        if began is not None:
            self.state.seconds = time.perf_counter() - began
        self.folder.save_last(self.state)
        self.saved = time.monotonic()

    def leave_if_asked(self) -> None:
        """After a signal, and the checkpoint."""
        if self.stop.asked:
            stopped = Interrupted(self.folder.farewell(self.state))
            stopped.signal = self.stop.signal
            raise stopped

    def step(self, x: Any, y: Any) -> float:
        """One batch."""
        if not self.model.training:  # a callback or the caller has switched it to evaluation
            for m, training in self.modes:
                m.training = training
        state = self.state
        self.updates.where = (state.epoch + 1, state.batch + 1)
        number = self.updates(x, y, state.sums)
        if self.scheduler is not None and self.setup.schedule_by == "batch":
            self.scheduler.step()
        state.batch += 1
        for callback in self.on_batch:
            callback.on_batch_end(self.model, state.epoch + 1, state.batch, number)
        return number

    def record(self, began: float) -> dict[str, Any]:
        """What is written down of an epoch."""
        record: dict[str, Any] = {"epoch": self.state.epoch + 1, **self.state.sums.result()}
        if self.val is not None:
            sums = Sums(self.setup.objective, self.setup.metrics)
            self.val.set_epoch(0)
            found = over(self.model, self.val, self.batches, sums, self.raise_if_asked)
            record |= {f"val_{k}": v for k, v in found.items()}
        record["lr"] = float(self.optimizer.param_groups[0]["lr"])
        record["seconds"] = time.perf_counter() - began
        return record

    def raise_if_asked(self) -> None:
        """Interrupt validation; the checkpoint holds the state before it."""
        if self.stop.asked:
            raise _Stopped

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Callbacks, the schedule, the best checkpoint."""
        state, monitor = self.state, self.setup.monitor
        wrong = first_non_finite({k: p.detach() for k, p in self.model.named_parameters()}, self.setup.known)
        if wrong is not None:
            msg = (
                f"{wrong} holds NaN or infinite numbers after epoch {state.epoch + 1}: an update was too large; the files are "
                "as they were. Try a smaller learning rate or clip_norm"
            )
            raise NonFiniteError(msg)
        enough = [callback.on_epoch_end(self.model, record) for callback in self.callbacks]
        if monitor not in record:
            msg = f"fit: monitor={monitor!r}, but the record has {', '.join(record)}"
            raise KeyError(msg)
        if self.scheduler is not None and self.setup.schedule_by == "epoch":
            self.scheduler.step(*((record[monitor],) if self.setup.plateau else ()))
        state.finish(record)
        state.stopped = any(enough)
        value = record[monitor] * (-1.0 if self.setup.direction == "max" else 1.0)
        if value < state.best:
            state.best = value
            self.folder.save_best(state)
