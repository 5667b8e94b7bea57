"""`fit`: what it is asked to do is checked in `anynet.train.setup`, and done in `anynet.train.training`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anynet import random
from anynet.distributed import failing_together, world
from anynet.nn.modes import modes_kept
from anynet.nn.module import Module
from anynet.train.callbacks import Callback
from anynet.train.runs import RunWriter
from anynet.train.setup import Setup
from anynet.train.state import History
from anynet.train.training import Training

if TYPE_CHECKING:
    from anynet.metrics import Metric

__all__ = ["fit"]


# Over 60 lines, of which 12 are code: the signature and what each option means belong where help(fit) looks.
def fit(
    model: Module,
    train: Any,
    val: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = "adam",
    lr: float | Mapping[str, float] | Callable[..., float] | None = None,
    weight_decay: float | None = None,
    metrics: str | Metric | Callable[..., Any] | Sequence[Any] = (),
    epochs: int | None = None,
    batch_size: int = 32,
    device: str | None = "auto",
    seed: int = 0,
    scheduler: Any = None,
    schedule_by: str = "epoch",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    class_weight: Any = None,
    precision: str | None = None,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
    time_limit: float | str | None = None,
    restore_best: bool = True,
    callbacks: Callback | str | Mapping[str, Any] | Sequence[Callback | str | Mapping[str, Any]] = (),
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
      train, val: a pair (inputs, targets) of arrays, lists or Tensors, a Dataset of such pairs, or a DataLoader; as `train`
        also a `Source` (a table, a folder of pictures, a text), which has a part for validation. A tuple or
        dict of arrays in the place of the inputs is several inputs. Floating-point arrays are converted to the model's
        dtype; integers among the inputs too, unless the model takes them as they are (an embedding), which a call on the
        first batch finds out.

        In the place of pairs: (inputs, targets, weights), with a weight ≥ 0 for each sample, so that the loss is Σ w l / Σ w over the
        losses l of the samples; or a mapping with "targets" (or "labels", "label"), perhaps "weights", and "inputs" or each input of
        the model by its name. A loss of one's own must then return the losses of the samples.

        Streams: an iterable of batches, or a function that returns an iterator, gone through once an epoch, or an iterator, gone
        through once; an ``IterableDataset`` gives samples. A run that is resumed draws the batches before and drops them: the
        stream must give the same ones.

        As `val` also a fraction of the training data, say 0.2, drawn by `seed`, and by class where the targets are classes.
      loss: a name (every loss of `anynet.nn`: cross_entropy, mse, l1, huber, bce, bce_with_logits, …), a name with options
        (``{"name": "cross_entropy", "label_smoothing": 0.1}``), an instance, or a function (output, target) → Tensor of one element; see
        `Objective` for what a mean over batches is then. Targets (n,) of an output (n, 1) are taken as a column where the loss compares
        element by element. A
        `Source` knows the loss that suits it. A module may compute its loss itself: ``training_step(self, batch)`` returns it, or a
        dict with it as "loss" and further numbers, which are recorded; ``validation_step`` likewise.
      optimizer: an Optimizer over the model's parameters, a class, a function of the parameters, or a name (every one of
        `anynet.optim`: sgd, adam, adamw, …), or a name with options: ``{"name": "sgd", "momentum": 0.9}``.
      lr, weight_decay: options of the optimizer where it is made here. As `lr` also a mapping from names of parts of the model to
        rates ("" for the rest), or a function (name, parameter) → rate; each rate makes a group of parameters.
      metrics: names ("accuracy", "f1", "roc_auc", "rmse", "top_3", …: all of `anynet.metrics`), its metrics, or functions (output,
        target) → a number for the batch or a pair (sum, count).
      epochs: how many there are in all, those before a resume included; 1 unless `steps` or `time_limit` say how long to train.
      steps, time_limit: end after so many updates in all; after seconds, or "30s", "10min", "2h". The epoch that runs is ended early.
      steps_per_epoch: how many batches of a stream are called an epoch.
      device: where to train; "auto" takes the best that works. The model and the batches are moved there.
      seed: of the shuffles, the dropout masks and all else that is drawn from `anynet.random`. The streams outside are not
        touched.
      scheduler: a learning-rate schedule of this optimizer, or a function optimizer → schedule; stepped each epoch, or each
        batch with `schedule_by="batch"`. By name, over all updates: "onecycle" (up to `lr` in the first 30 %, then down to
        nothing, as a cosine) or "cosine" (up in the first 5 %); with a `time_limit` over the updates that fit into it.
      clip_norm, clip_value: the largest norm that the gradient of all parameters may have, and the largest size of each number in it
        (first the value, then the norm).
      accumulate: update once in so many batches, with the gradient of all of them as one large batch (batch normalization sees the small
        ones); what is left at the end of an epoch is an update, too.
      class_weight: weights of classes in training, {class: weight}, a sequence, or "balanced", n / (classes · n_c): the samples of a
        class weigh so much. Validation is without them.
      precision: "float32" or "float64", to which the model is converted; "tf32", "mixed-bf16" or "mixed-fp16": parameters in
        float32, products in fewer bits (`anynet.precision`), for mixed-fp16 with a scaled loss. None: as the model is.
      callbacks: instances of `Callback`, or those of this library by name ("early_stopping", "samples", "statistics", "csv", …:
        `anynet.train.CALLBACKS`); with options as a mapping, ``{"name": "early_stopping", "patience": 5}``.
      run_dir: a folder for all that is needed to use the network again (`anynet.open`), to go on and to repeat it: run.json,
        model.json, preprocessing.json, history.jsonl, proof.jsonl, best.safetensors, last.safetensors (`anynet.train.runs`).
      monitor, mode: what makes a checkpoint the best (val_loss where there is a `val`, else loss), and "min" or "max" for what
        does not say which is better. A NaN is never the best.
      restore_best: at the end give the model the weights of its best epoch, by `monitor`, where there is a `val` or a `monitor`;
        the history has `best_epoch`.
      checkpoint_every: save last.safetensors within the epochs, too: every so many batches (an integer), or each time
        after, say, "30s", "10min" or "2h".
      compile: True: loss and gradients are computed by a program (`anynet.compile`), with the same bits; False: never; "auto":
        where that pays. A training of which seconds are left after the first steps is recorded, the program compared with
        the functions bit for bit and timed, and the quicker one is used. On CUDA a step with its update is captured as a graph (of 16
        batches or more); what cannot be captured runs as it is, with a warning where it is True.
      resume: go on from run_dir's last checkpoint, bit for bit as if there had been no break, also in the middle of an
        epoch. Data, model, optimizer, loss, schedule and seed must be what they were, else the differences are listed. What
        a callback has stopped stays stopped.

    Each module keeps its mode: batch norms that were put into evaluation stay frozen (a model that is in evaluation as a
    whole is put into training mode meanwhile). A batch whose targets are all ignored updates nothing. Optimizers that hold
    a mean of the weights (schedule-free) are switched to it for validation, for `on_epoch_end`, for what is saved as
    weights, and for the model at the end.

    Several processes (``mpiexec -n 4 python script.py``, or ``anynet train``) train one network: each has a part of every batch of
    `batch_size` samples, and the result is that of one process, but for rounding and for what is drawn at random (dropout,
    augmentation). The first one writes `run_dir` and shows the progress. See `anynet.distributed`.

    While it runs it holds `run_dir` (`RunFolder`); `RunFolderError` where another run does.

    Errors: what can be found before the first update is refused before it, and the model is as it was. `NonFiniteLossError`
    and `NonFiniteGradientError` name the epoch and batch; nothing was updated with it, and checkpoints with NaN or infinite
    numbers are never written over others. Ctrl-C and SIGTERM finish the batch, save, and raise `Interrupted`.
    """
    with failing_together(world()):
        setup = Setup(
            model, train, val, loss=loss, optimizer=optimizer, lr=lr, weight_decay=weight_decay, metrics=metrics, epochs=epochs,
            batch_size=batch_size, device=device, seed=seed, scheduler=scheduler, schedule_by=schedule_by, clip_norm=clip_norm,
            clip_value=clip_value, accumulate=accumulate, class_weight=class_weight, precision=precision, steps=steps,
            steps_per_epoch=steps_per_epoch, time_limit=time_limit, restore_best=restore_best, callbacks=callbacks,
            run_dir=run_dir, monitor=monitor, mode=mode, checkpoint_every=checkpoint_every, compile=compile, settings=settings,
            resume=resume,
        )  # fmt: skip
        with random.fork_rng(setup.seed), modes_kept(model):
            setup.build()
            with RunWriter(run_dir, resume, setup) as run:
                return Training(setup, run, progress).run()
