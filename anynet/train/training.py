"""The training loop, and what callbacks see of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anynet import random
from anynet.autograd.pytree import map_tree
from anynet.nn.modes import evaluating
from anynet.ops.collectives import statistics_over
from anynet.ops.creation import asarray
from anynet.tensor import Tensor
from anynet.train.averages import Averages
from anynet.train.batches import first_batch
from anynet.train.callbacks import TimeLimit
from anynet.train.checkpoint import save
from anynet.train.evaluation import add_batch, over
from anynet.train.metrics import Sums, monitored
from anynet.train.precision import said
from anynet.train.progress import Progress
from anynet.train.sharing import Sharing
from anynet.train.signals import Interrupted, StopRequest
from anynet.train.state import (
    History,
    Logs,
    NonFiniteError,
    TrainingState,
    first_non_finite,
)
from anynet.train.streams import UNLIMITED, length
from anynet.train.updates import Updates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anynet.nn.module import Module
    from anynet.train.runs import RunWriter
    from anynet.train.setup import Setup

__all__ = ["Training"]


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


class _Stopped(Exception):
    """A signal has come while validating."""


class Training:
    """One call of `fit`, which callbacks are given.

    Attributes:
      model, optimizer, schedule: what is trained, and by what; `schedule` is None where there is none.
      epoch, epochs: the number of the running epoch, from 1, and how many there are to be.
      batch, batches: how many batches of this epoch are done (in `on_batch_begin` those before it), and how many an epoch has;
        None where that is not known.
      inputs, targets, output, loss: those of the last batch, and its loss, a number. The output is that before the update.
      record: the quantities of the epoch, in `on_epoch_end`; what is written into it is in the history.
      history: the records of the epochs that are done.
      steps, metrics: how many updates have been made in all; the loss and the metrics of the epoch so far.
      setup: what `fit` was asked to do: loaders, loss, metrics, options.
      folder: the folder of the run, None without `run_dir`.
      stopped: why the training has been stopped, None where it has not.

    >>> import anynet as an
    >>> class Lowest(an.train.Callback):
    ...     def on_batch_end(self, run):
    ...         if run.loss < 1e-3:
    ...             run.stop("the loss is below 0.001")
    >>> x = an.zeros((64, 2))
    >>> history = an.fit(an.nn.Linear(2, 1, bias=False), (x, an.zeros((64, 1))), loss="mse", progress=False, callbacks=Lowest())
    >>> history.stopped
    'the loss is below 0.001'
    """

    def __init__(self, setup: Setup, folder: RunWriter, progress: bool) -> None:
        self.setup, self._folder, self._progress = setup, folder, progress
        self.model: Module = setup.model
        self.optimizer: Any = setup.optimizer
        self.schedule: Any = setup.scheduler
        self.epochs: int = setup.epochs
        self.batches: int | None = length(setup.loader)
        self.epoch = self.batch = 0
        self.inputs: Any = None
        self.targets: Any = None
        self.output: Any = None
        self._loss: float | None = math.nan  # None where it is not read yet
        self.record: dict[str, Any] = {}
        self.folder: Path | None = folder.place
        self._callbacks = setup.callbacks
        self._sharing: Sharing | None = None
        if setup.group.size > 1:
            params = [p for g in self.optimizer.param_groups for p in g["params"]]
            self._sharing = Sharing(setup.group, self.model, params)
            self._progress = progress and self._sharing.main
            self._callbacks = [c for c in setup.callbacks if self._sharing.main or not c.writes]
        self._averages = Averages(self.model, self.optimizer, setup.callbacks)
        self._updates = Updates(
            self.model, setup.objective, self.optimizer, setup.clip_norm, setup.clip_value, setup.accumulate,
            setup.precision, setup.class_weights, self._sharing,
        )  # fmt: skip
        self._state = TrainingState(
            self.model, self.optimizer, self.schedule, setup.loader, setup.callbacks, setup.metrics, setup.objective,
            setup.seed, setup.identity() if folder.place is not None else {}, self._averages, self._updates,
        )  # fmt: skip
        self._before_batch = [c for c in self._callbacks if c.defines("on_batch_begin")]
        self._after_batch = [c for c in self._callbacks if c.defines("on_batch_end")]
        self._proof = folder.proof
        self._updates.schedule = self.schedule if setup.schedule_by == "batch" else None
        self._signal, self._saved = StopRequest(), time.monotonic()
        self._finished = self._ending = False
        self._to_save: list[tuple[Path, Callable[[Path], None] | None]] = []
        self._whole = True  # whether the state is one to go on from
        self._restores = setup.restore_best and (setup.val is not None or setup.monitored)
        self._best: dict[str, Any] | None = None  # the weights of the best epoch

    @property
    def history(self) -> History:
        """The records of the epochs that are done."""
        return self._state.history

    @property
    def stopped(self) -> str | None:
        """Why the training has been stopped."""
        return self._state.stopped

    @property
    def steps(self) -> int:
        """How many updates have been made in all."""
        return self._updates.count

    @property
    def loss(self) -> float:
        """The loss of the last batch; on a GPU it is waited for here."""
        if self._loss is None:
            self._settle()
            self._loss = self._updates.last_loss
        return self._loss

    @property
    def metrics(self) -> dict[str, float]:
        """The loss and the metrics of the epoch so far."""
        self._settle()
        return {**self._state.sums.result(), **self._state.logs.result()}

    def _settle(self) -> None:
        """Wait for the losses that are not read yet; what is wrong with a batch is raised here, and everything is as before it."""
        try:
            self._updates.settle(self._state)
        except Exception:
            self.batch = self._state.batch
            raise

    def stop(self, reason: str, *, for_good: bool = True) -> None:
        """End the training after this batch, or after this epoch where one ends; an epoch that is cut short is recorded too.

        `reason` is in the history. A run that is resumed stays stopped; with ``for_good=False`` (a limit of time, say) it goes on.
        """
        if not isinstance(reason, str) or not reason:
            msg = f"run.stop: say why, as text, got {reason!r}"
            raise TypeError(msg)
        if self._state.stopped is None:
            self._state.stopped, self._state.stopped_for_good = reason, for_good

    def save(self, path: str | os.PathLike[str], after: Callable[[Path], None] | None = None) -> None:
        """Write the training state into a file, as last.safetensors of a run is; in `on_epoch_end` that is done when all callbacks have
        been called. `after` is called when the file is there."""
        if self._ending:
            self._to_save.append((Path(path), after))
            return
        with self._together():
            if self._sharing is None or self._sharing.main:
                save(path, self._state.tree())
                if after is not None:
                    after(Path(path))

    def common(self, value: Any) -> Any:
        """In several processes the value of the first, in all (a time, say); else the value. All of them call it."""
        return value if self._sharing is None else self._sharing.first(value)

    def _together(self) -> AbstractContextManager[None]:
        """Within the block the state is that of all processes; all of them come here."""
        return nullcontext() if self._sharing is None else self._sharing.together(self._state)

    def _agree(self, due: bool) -> bool:
        """Whether to save; of several processes all do the same, also where one has been stopped or a signal has come to one."""
        if self._sharing is None:
            return due
        due, self._signal.signal = self._sharing.agree(due, self._signal.signal, self._state)
        return due

    # ----- the whole -----

    def run(self) -> History:
        """All epochs that are left."""
        if self._sharing is None:
            return self._run()
        with statistics_over(self.setup.group):
            return self._run()

    def _run(self) -> History:
        state, sharing = self._state, self._sharing
        tree = self.common(self._folder.last() if self.setup.resume else None)
        if sharing is not None:
            sharing.begin()
        if tree is not None:
            tree = tree if sharing is None else sharing.own_part(tree)
            state.check(tree)
            if self._restores and tree.get("best_epoch") is not None:
                self._folder.best_weights()  # which must be there before anything changes
        elif self.setup.val is not None:
            self._try_validation()
        self._folder.begin()
        self._averages.begin()
        self.epoch = 1
        self._call("on_train_begin")
        if tree is not None:
            state.restore(tree)
        if sharing is not None:
            sharing.own_masks()
        if tree is not None:
            self._ended_before()
        self._agree(False)
        if state.stopped is None and state.epoch < self.epochs:
            self._folder.take_back_best(state)
        if self._restores and state.best_epoch is not None:
            self._best = self.common(self._folder.best_weights())
        with self._together():
            self._folder.expect_finite(state)
        if not self.model.training:
            self.model.train()
        self._updates.compile(self.setup.compile, self._steps_left())
        self._modes = [(m, m.training) for m in self.model.modules()]
        with self._reporting_errors():
            with self._signal, Progress(self.epochs, self.batches, on=self._progress) as bar:
                if self.setup.split is not None:
                    bar.note(str(self.setup.split))
                if (products := said(self.setup.precision, self.setup.device)) is not None:
                    bar.note(products["words"])
                while state.epoch < self.epochs and state.stopped is None:
                    self._one_epoch(bar)
                if state.stopped is not None:
                    bar.note(f"ended: {state.stopped}")
                if self._best is not None and state.best_epoch != state.epoch:
                    bar.note(
                        f"the model has the weights of epoch {state.best_epoch}, the best by {self.setup.monitor}"
                    )
            self._finish()
            if self._best is not None:
                self.model.load_state_dict(self._best)
            self._call("on_train_end")
        self.history.stopped, self.history.best_epoch = state.stopped, state.best_epoch
        return self.history

    def _ended_before(self) -> None:
        """A run that is resumed with the limits that ended it, or with shorter ones, has nothing left to do."""
        if self.setup.steps is not None and self.steps >= self.setup.steps:
            self.stop(f"{self.setup.steps} updates are done", for_good=False)
        for callback in self._callbacks:
            if isinstance(callback, TimeLimit):
                callback.go_on(self)

    def _steps_left(self) -> int:
        """About how many batches are ahead; many where that is not known."""
        setup, state = self.setup, self._state
        if self.batches is None or (self.epochs == UNLIMITED and setup.steps is None):
            return 1 << 20
        left = (self.epochs - state.epoch) * self.batches - state.batch
        return left if setup.steps is None else min(left, (setup.steps - self.steps) * setup.accumulate)

    def _call(self, name: str) -> None:
        """One method of all callbacks."""
        for callback in self._callbacks:
            callback.call(name, self)

    @contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        """What ends the training is told to the callbacks, after a checkpoint of where it was."""
        try:
            try:
                yield
            except Exception:
                self._settle()  # what went wrong in an earlier batch comes first
                raise
        except BaseException as error:
            self.setup.group.fail(error)
            if not isinstance(error, Interrupted):
                self._save_after(error)
            self._finish()
            for callback in self._callbacks:
                try:
                    callback.on_exception(self, error)
                except Exception as other:  # noqa: BLE001 the first error is the one to be seen
                    error.add_note(f"and {type(callback).__name__}.on_exception raised {other!r}")
            raise

    def _finish(self) -> None:
        """Leave the model with the mean of the weights, where there is one."""
        if not self._finished:
            self._finished = True
            self._whole = False
            self._averages.finish()

    def _save_after(self, error: BaseException) -> None:
        """A checkpoint of the state before what went wrong, where there is such a state."""
        if self.folder is None or not self._whole:
            return
        try:
            self._save(self._began)
        except Exception as other:  # noqa: BLE001 the first error is the one to be seen
            error.add_note(f"no checkpoint was written: {other}")
        else:
            at = f"epoch {self._state.epoch + 1} after batch {self._state.batch}"
            error.add_note(
                f"the state of {at} is saved in {self.folder}; fit(…, resume=True) goes on from there"
            )

    def _try_validation(self) -> None:
        """One batch of the validation set, so that what does not fit is found now and not after an epoch."""
        setup = self.setup
        assert setup.val is not None
        with random.fork_rng(), evaluating(self.model):
            parts = setup.batches.parts(setup.placed(first_batch(setup.val)))
            sums = Sums(setup.objective, setup.metrics)
            add_batch(self.model, parts, setup.objective, sums, Logs())
            sums.read()

    # ----- an epoch -----

    def _one_epoch(self, bar: Progress) -> None:
        """The batches that are left of an epoch, validation, what follows."""
        state, loader = self._state, self.setup.loader
        self._began = time.perf_counter() - state.seconds
        self.epoch, self.batch, self.record, self._whole = state.epoch + 1, state.batch, {}, True
        if state.batch == 0:
            self._call("on_epoch_begin")
        loader.set_epoch(state.epoch, state.batch)
        for batch in loader if self.batches is None or state.batch < self.batches else ():
            self._one_batch(batch)
            bar.batch(self)
            if self._agree(self.setup.due(state.batch, self._saved)) or self._signal.asked:
                self._save(self._began)
                self._leave_if_asked()
            if state.stopped is not None:
                break
        self._settle()
        if state.batch == 0:
            return self._stream_ended()
        # cut short by a limit: where the run is resumed, the epoch goes on
        cut = state.stopped is not None and not state.stopped_for_good and state.batch != self.batches
        if cut:
            self._save(self._began)
            self._folder.keep_best()
        self._updates.flush()
        self._follow()
        if getattr(loader, "ended", False):
            self._stream_ended()
        if sharing := self._sharing:
            sharing.before_evaluation()
        for callback in self._averages.callbacks:
            callback.before_evaluation(self)
        try:
            with self._averages():
                self._measure()
                self._whole, self._ending = False, True  # callbacks that count epochs have counted this one
                self._end_epoch()
        except _Stopped:
            if not cut:
                self._save(self._began)
            self._leave_if_asked()
        self._ending = False
        if cut:
            self._folder.save_history(state)
        else:
            self._save()
        while self._to_save:
            self.save(*self._to_save.pop(0))
        bar.epoch(state.epoch, self.record)
        self._leave_if_asked()

    def _stream_ended(self) -> None:
        """An iterator has nothing more to give."""
        if self._state.batch == 0 and not self._state.history:
            msg = "fit, train: the stream gave no batch"
            raise ValueError(msg)
        if self.epochs > self.epoch or self._state.batch == 0:
            self.stop(
                f"the stream ended in epoch {self.epoch} after {self._state.batch} batches", for_good=False
            )

    def _save(self, began: float | None = None) -> None:
        """Write the checkpoint to go on from."""
        self._settle()
        if began is not None:
            self._state.seconds = time.perf_counter() - began
        with self._together():
            self._folder.save_last(self._state)
        self._saved = time.monotonic()

    def _leave_if_asked(self) -> None:
        """After a signal, and the checkpoint."""
        if self._signal.asked:
            stopped = Interrupted(self._folder.farewell(self._state))
            stopped.signal = self._signal.signal
            raise stopped

    def _one_batch(self, batch: Any) -> None:
        """One batch."""
        state = self._state
        parts = self.setup.batches.parts(batch)
        self.inputs, self.targets = parts[0], parts[1] if len(parts) > 1 else None
        for callback in self._before_batch:
            callback.call("on_batch_begin", self)
        if not self.model.training:  # a callback or the caller has switched it to evaluation
            for m, training in self._modes:
                m.training = training
        self._updates.where = (self.epoch, state.batch + 1)
        self._loss, output = self._updates(parts, state)
        if self._before_batch or self._after_batch:  # they see what is done
            self._settle()
        self.output = output.detach() if type(output) is Tensor else map_tree(_detached, output)
        self._follow()
        state.batch += 1
        self.batch = state.batch
        if self._proof is not None:
            if self._proof.due(state):
                self._settle()
            self._proof(state)
        for callback in self._after_batch:
            callback.call("on_batch_end", self)
        if self.setup.steps is not None and self._updates.count >= self.setup.steps:
            self._settle()  # of a scaled loss some may have been left out
            if self.steps >= self.setup.steps:
                self.stop(f"{self.setup.steps} updates are done", for_good=False)

    def _follow(self) -> None:
        """A step of the schedule that goes by batches, where there has been an update."""
        if self.schedule is not None and self.setup.schedule_by == "batch" and self._updates.updated:
            self.schedule.step()
        self._updates.updated = False

    def _measure(self) -> None:
        """What is written down of an epoch."""
        setup = self.setup
        totals, logs = self._state.sums, self._state.logs
        if self._sharing is not None:
            totals, logs = self._sharing.joined(totals, logs, loss=False)
        self.record = {"epoch": self.epoch, **totals.result(), **logs.result()}
        if setup.val is not None:
            sums = Sums(setup.objective, setup.metrics)
            setup.val.set_epoch(0)
            after = (
                self._raise_if_asked if self._sharing is None else None
            )  # one alone does not leave the others
            found = over(self.model, setup.val, setup.batches, sums, after, self._sharing)
            self.record |= {f"val_{k}": v for k, v in found.items()}
        self.record["lr"] = float(self.optimizer.param_groups[0]["lr"])
        self.record["seconds"] = time.perf_counter() - self._began

    def _raise_if_asked(self) -> None:
        """Interrupt validation; the checkpoint holds the state before it."""
        if self._signal.asked:
            raise _Stopped

    def _end_epoch(self) -> None:
        """Callbacks, the schedule, the best checkpoint."""
        state, setup, record = self._state, self.setup, self.record
        wrong = first_non_finite({k: p.detach() for k, p in self.model.named_parameters()}, setup.known)
        if wrong is not None:
            msg = (
                f"{wrong} holds NaN or infinite numbers after epoch {self.epoch}: an update was too large; the files are "
                "as they were. Try a smaller learning rate or clip_norm"
            )
            raise NonFiniteError(msg)
        self.record = self.common(self.record)
        self._call("on_epoch_end")
        self.record = self.common(self.record)
        self._agree(False)
        value = monitored("fit", setup.monitor, record)
        if self.schedule is not None and setup.schedule_by == "epoch":
            self.schedule.step(*((value,) if setup.plateau else ()))
        state.finish(record)
        value *= -1.0 if setup.direction == "max" else 1.0
        if value < state.best:
            state.best, state.best_epoch = value, self.epoch
            self._folder.save_best(state)
            if self._restores:
                self._best = {k: asarray(v, copy=True) for k, v in self.model.state_dict().items()}
