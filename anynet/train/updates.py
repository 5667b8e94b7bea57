"""One update: output, loss, gradients, checks, step. Nothing is changed by a batch that cannot be learned from."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, NoReturn

from anynet import optim
from anynet.autograd.jit.compile import compile as compiled
from anynet.dtypes import float32, float64
from anynet.nn.module import Module
from anynet.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_, clip_if_finite
from anynet.ops.creation import asarray
from anynet.ops.precision import SHORT
from anynet.ops.precision import precision as rounded_products
from anynet.sparse_rows import numbers_of
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.train.batches import call
from anynet.train.compilation import AutoCompiled
from anynet.train.objectives import ClassWeights, Objective, OwnStep
from anynet.train.precision import LossScale
from anynet.train.sharing import Sharing
from anynet.train.state import NonFiniteError, TrainingState, finite
from anynet.train.unread import UnreadUpdates, update_unread
from anynet_backends import backend_of, resolve

__all__ = ["NonFiniteGradientError", "NonFiniteLossError", "Updates"]

CAPTURED: Final = 16
"""Batches from which on a step is captured by itself: a capture takes about as long as two of them."""


class NonFiniteLossError(NonFiniteError):
    """The loss became NaN or infinite; the parameters are those before that step."""


class NonFiniteGradientError(NonFiniteError):
    """A gradient became NaN or infinite though the loss is finite; the parameters are those before that step."""


class _Buffers:
    """The buffers of a model as they were before a step: running statistics of a batch that is refused are taken back.

    All are kept in the first step of an epoch, then those that it has changed: tables and masks can be large."""

    def __init__(self, model: Module) -> None:
        self.all: list[Any] = list(model.buffers())
        self.moving: list[Any] = []
        self.kept: list[tuple[Any, Any]] = []
        self.known = False

    def keep(self, every: bool) -> None:
        self.kept = [(b, asarray(b.detach(), copy=True)) for b in (self.all if every else self.moving)]

    def settle(self) -> None:
        """After a step in which all were kept: which ones move."""
        self.moving = [
            b for b, before in self.kept if any(b is m for m in self.moving) or not _same(b, before)
        ]
        self.kept = [(b, before) for b, before in self.kept if any(b is m for m in self.moving)]
        self.known = True

    def restore(self) -> None:
        with no_grad():
            for b, value in self.kept:
                b.assign_(value)


def _same(a: Tensor, b: Tensor) -> bool:
    x, y = unwrap(a), unwrap(b)
    xp = backend_of(x)
    return bool(xp.all(x == y))


class Updates:
    """The step that everyone knows, with what must not happen refused before anything is written:

    output = model(x);  l = loss(output, y);  zero_grad();  l.backward();  clip;  optimizer.step()

    With ``accumulate=n`` the optimizer steps once in n batches (and at the end of an epoch), with the gradient of the loss of all of
    them as one: Σ d g / Σ d, where d is what the loss of a batch was divided by.
    """

    def __init__(
        self,
        model: Module,
        objective: Objective | OwnStep,
        optimizer: Any,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        precision: str | None = None,
        class_weights: ClassWeights | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.sharing = sharing
        self.own_weight: float | None = (
            None  # of several processes: what the loss of this one's part was divided by
        )
        self.class_weights = class_weights
        self.clip_norm, self.clip_value, self.accumulate = clip_norm, clip_value, accumulate
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.schedule: Any = None  # one that is stepped after each update
        self.compute: Callable[..., tuple[Any, ...]] = self.gradients
        self.whole: Callable[..., tuple[Any, ...]] | None = None  # with the update, captured as a graph
        self.closure = isinstance(optimizer, (optim.LBFGS, optim.SAM))
        self.buffers = _Buffers(model)
        self.begun = False
        self.where = (0, 0)  # epoch and batch, from 1, for messages
        self.count = 0  # of updates
        self.updated = False  # whether the latest batch has led to one that the schedule has not followed
        self.summed, self.mass = 0, 0.0  # batches whose gradients wait for an update, and Σ d
        self.waiting: dict[int, Any] = {}  # Σ d g by the number of the parameter
        self.precision = precision if precision in SHORT else None
        self.scale = LossScale() if precision == "mixed-fp16" else None
        self._scale_there: tuple[float, Tensor] | None = None
        self.unread: UnreadUpdates | None = None  # where losses are not cheap to read

    def gradients(self, *batch: Any) -> tuple[Any, ...]:
        """The loss and the output of a batch, with weights Σ w too; the gradients are left in the parameters."""
        scale = None
        if self.scale is not None:
            *batch, scale = batch  # type: ignore[assignment]
        self.optimizer.zero_grad()
        if self.sharing is not None and not self.sharing.has_rows(batch):
            return self._of_no_rows(batch)
        with rounded_products(self.precision) if self.precision is not None else nullcontext():
            found = self.objective.of_batch(self.model, batch)
        value = found[0]
        if value.edge is None:
            msg = (
                f"the loss {self.objective.name} does not depend on the model's parameters: nothing can be learned from it "
                "(was it computed from plain arrays, or under no_grad?)"
            )
            raise ValueError(msg)
        if self.sharing is not None:
            return self._of_part(batch, found, scale)
        (value if scale is None else value * scale).backward()
        return (value.detach(), *found[1:])

    # ----- in several processes -----

    def _of_part(self, batch: Any, found: tuple[Any, ...], scale: Any) -> tuple[Any, ...]:
        """The same for this process's part of the batch: the loss is that of the whole, the gradient too where it is not to be
        added to those of other batches first."""
        sharing, adds = self._shared(), self.objective.reduction == "sum"
        value = found[0]
        weight = self.objective.weight(found[1], batch[1]) if len(found) == 2 else float(found[2])
        factor, total, mass = sharing.weigh(float(value), weight, adds)
        self.own_weight = weight
        if not adds and weight == 0.0:  # of no targets the loss may be NaN
            value = sharing.idle(found[1])
        if self.accumulate == 1:
            sharing.reducer.begin()
        if isinstance(value, Tensor) and value.edge is not None:
            (value * (factor if scale is None else scale * factor)).backward()
        sharing.reducer.finish()
        return asarray(total, dtype=float64), found[1], mass

    def _of_no_rows(self, batch: Any) -> tuple[Any, ...]:
        """This process has no part of the batch, and its layers and gradients take part in the sums of the others."""
        sharing, adds = self._shared(), self.objective.reduction == "sum"
        value = sharing.idle(call(self.model, batch[0])) if sharing.synchronizes else 0.0
        _, total, mass = sharing.weigh(0.0, 0.0, adds)
        self.own_weight = 0.0
        if self.accumulate == 1:
            sharing.reducer.begin()
        if isinstance(value, Tensor) and value.edge is not None:
            value.backward()
        sharing.reducer.finish()
        return asarray(total, dtype=float64), None, mass

    def _shared(self) -> Sharing:
        assert self.sharing is not None
        return self.sharing

    def compile(self, how: bool | str, steps: int) -> None:
        """Have the gradients computed by a program: for certain, or ("auto") where that pays in so many steps."""
        if (
            how is False
            or self.sharing is not None
            or self.closure
            or not isinstance(self.optimizer, optim.Optimizer)
        ):
            return

        def gradients(*batch: Any) -> tuple[Any, ...]:
            return self.gradients(*batch)

        # what the program is watched for: the network, and the loss, which may be a function of the user's
        gradients.__wrapped__ = (self.model, self.objective.function)  # type: ignore[attr-defined]
        quiet = how == "auto"
        if resolve(self.params[0].device)[0].captures:
            if quiet and steps < CAPTURED:
                return
            alone = compiled(gradients)
            self.compute, alone.quiet = alone, quiet

            def step(*batch: Any) -> tuple[Any, ...]:
                scale = self._scale()  # no argument, as the step changes it
                found = self.gradients(*batch, *(() if scale is None else (scale,)))
                if self.unread is not None:
                    update_unread(self.unread, found[0], scale)
                return found

            step.__wrapped__ = gradients.__wrapped__  # type: ignore[attr-defined]
            whole = compiled(step)
            self.whole, whole.quiet = whole, quiet
        elif how is True:
            self.compute = compiled(gradients)
        else:
            self.compute = AutoCompiled(gradients, self.params, self.buffers.all, steps)

    def __call__(self, batch: tuple[Any, ...], state: TrainingState) -> tuple[float | None, Any]:
        """Learn from a batch; its loss (None where it is not read yet) and output. The totals get it, and the metrics of the output before
        the update."""
        first, self.updated = self.where[1] == 1 or not self.buffers.known, False
        if self.buffers.all and not (
            not first and self.unread is not None and self.unread.keep(self.buffers.kept)
        ):
            self.settle(state)
            self.buffers.keep(first)
        try:
            found = self._by_closure(batch, state) if self.closure else self._learn(batch, state)
        except BaseException:
            self.take_back()
            raise
        if first:
            self.buffers.settle()
        return found

    def take_back(self) -> None:
        """The state that a batch changes before its update, as it was."""
        self.buffers.restore()
        for p in self.params:
            p.grad = None
        if isinstance(self.optimizer, optim.MultiSteps):
            self.optimizer.count = 0

    def settle(self, state: TrainingState) -> None:
        """Wait for the losses that are not read yet; the error of the first batch that was wrong."""
        if self.unread is not None:
            self.unread.settle(state)

    @property
    def last_loss(self) -> float:
        """The loss of the last batch that was read."""
        return math.nan if self.unread is None else self.unread.loss

    def _learn(self, batch: tuple[Any, ...], state: TrainingState) -> tuple[float | None, Any]:
        arguments = self._weighted(batch)
        captured = self._captures(arguments, state)
        if (
            self.whole is not None and captured is None
        ):  # a graph is used again where it finds what it has found
            self.optimizer.zero_grad()
        scale = self._scale()
        with resolve(self.params[0].device)[0].errstate() if scale is not None else nullcontext():
            # what is too large for 16 bits is looked for afterwards
            found = (
                captured(*arguments)
                if captured
                else self.compute(*arguments, *(() if scale is None else (scale,)))
            )
        output, weight, measured = self._measure(batch, found, state)
        if not self.begun and output is not None:
            self.objective.check_classes(output)
            self.begun = True
            if UnreadUpdates.serve(self):
                self.unread = UnreadUpdates(self)
        if self.unread is not None:
            done = captured is not None and self.unread.done
            if not done and (weight > 0.0 or self.objective.reduction != "mean") and self.unread.begin(state):
                self.unread.update(found[0], scale)
                done = self.unread.done
            if done:
                self.unread.note(weight, measured, output, state)
                return None, output
            self.unread.settle(state)
        number = float(found[0])
        if weight == 0.0 and self.objective.reduction == "mean":
            self.optimizer.zero_grad()  # all targets ignored: there is nothing to learn
            self.summed += self.accumulate > 1
        else:
            self.check_loss(number)
            if self._unscaled():
                self._take(weight)
            state.sums.add_loss(number, weight)
        self._add(measured, output, weight, state)
        if self.accumulate > 1 and self.summed >= self.accumulate:
            self.flush()
        return number, output

    def _scale(self) -> Tensor | None:
        """The scale of the loss, where its device is; a new one when it has changed."""
        if self.scale is None:
            return None
        if self.unread is not None and (there := self.unread.scale()) is not None:
            return there
        if self._scale_there is None or self._scale_there[0] != self.scale.value:
            device = resolve(self.params[0].device)[1]
            self._scale_there = self.scale.value, asarray(self.scale.value, dtype=float32, device=device)
        return self._scale_there[1]

    def _captures(
        self, batch: tuple[Any, ...], state: TrainingState
    ) -> Callable[..., tuple[Any, ...]] | None:
        """The whole step as a graph, where a batch may be one: its loss is not read, and counts something."""
        fits = (
            self.whole is not None
            and self.unread is not None
            and self.objective.certainly_counts(batch)
            and self.unread.begin(state, gradients=False)
        )
        return self.whole if fits else None

    def _weighted(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch with the weights of its classes, where there are some."""
        if self.class_weights is None:
            return batch
        dtype = next(p.dtype for p in self.params)
        return (*batch[:2], self.class_weights(batch[1], batch[2] if len(batch) == 3 else None, dtype))

    def _measure(
        self, batch: tuple[Any, ...], found: tuple[Any, ...], state: TrainingState
    ) -> tuple[Any, float, Any]:
        """The output, what the loss was divided by, and the metrics."""
        output = found[1]
        weight = self.objective.weight(output, batch[1]) if len(found) == 2 else float(found[2])
        if output is None:  # this process has no part of the batch
            return output, weight, []
        return output, weight, state.sums.measure(output, *batch[1:]) if len(batch) > 1 else None

    def _add(self, measured: Any, output: Any, weight: float, state: TrainingState) -> None:
        if output is None:
            return
        weight = weight if self.own_weight is None else self.own_weight
        if measured is None:  # a module's own step, which gives numbers beside the loss
            state.logs.add(output, weight)
        else:
            state.sums.add(measured)

    def _take(self, weight: float) -> None:
        """Update, or add the gradients to those that wait."""
        if self.accumulate == 1:
            self.check_gradients()
            self._step()
            return
        if self.sharing is None and not self._all_finite():  # else all find it out together, in `flush`
            self._name_gradient()
        factor = weight if self.objective.reduction == "mean" else 1.0
        with no_grad():
            for i, p in enumerate(self.params):
                if p.grad is not None:
                    part = p.grad.detach() * factor
                    self.waiting[i] = self.waiting[i] + part if i in self.waiting else part
        self.mass += factor
        self.summed += 1

    def flush(self) -> None:
        """Update with the gradients that wait, if there are some."""
        if self.sharing is not None and self.summed:
            self._sum_waiting(self.sharing)
        if self.waiting:
            mass = self.mass if self.objective.reduction == "mean" else 1.0
            for i, p in enumerate(self.params):
                p.grad = self.waiting[i] / mass if i in self.waiting else None
            self.check_gradients()
            self._step()
        self.summed, self.mass, self.waiting = 0, 0.0, {}

    def _sum_waiting(self, sharing: Sharing) -> None:
        """The gradients that wait in all processes, added up."""
        for i, p in enumerate(self.params):
            p.grad = self.waiting.get(i)
        sharing.reducer.begin()
        sharing.reducer.finish()
        with no_grad():
            grads = [(i, p.grad) for i, p in enumerate(self.params) if p.grad is not None]
            self.waiting = {i: asarray(g.detach(), copy=True) for i, g in grads}

    def _step(self) -> None:
        self.optimizer.step()
        self.count_one()

    def count_one(self) -> None:
        """Count an update."""
        self.count += 1
        self.updated = True

    def _unscaled(self) -> bool:
        """Take the scale of the loss out of the gradients; whether they are finite, where a smaller scale may help."""
        if self.scale is None:
            return True
        for p in self.params:
            if p.grad is not None:
                p.grad = p.grad.detach() / self.scale.value
        fine = self._all_finite()
        self.scale.update(fine)
        if not fine and not self.scale.exhausted:
            self.optimizer.zero_grad()
            return False
        return True

    # ----- what a checkpoint keeps -----

    def state_dict(self) -> dict[str, Any]:
        """The number of updates, gradients that wait, the scale of the loss."""
        state: dict[str, Any] = {"count": self.count}
        if self.summed:
            waiting = {str(i): g for i, g in self.waiting.items()}
            state |= {"summed": self.summed, "mass": self.mass, "waiting": waiting}
        if self.scale is not None:
            state["scale"] = self.scale.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`; {} is that of the beginning."""
        self.count = int(state.get("count", 0))
        self.summed, self.mass = int(state.get("summed", 0)), float(state.get("mass", 0.0))
        self.waiting = {
            int(i): asarray(g, dtype=self.params[int(i)].dtype, device=self.params[int(i)].device)
            for i, g in state.get("waiting", {}).items()
        }
        if self.scale is not None:
            self.scale = LossScale()
            if "scale" in state:
                self.scale.load_state_dict(state["scale"])

    def _by_closure(self, batch: tuple[Any, ...], state: TrainingState) -> tuple[float, Any]:
        """A step that computes the loss several times: the first is the one that counts."""
        first: list[Any] = []
        arguments = self._weighted(batch)

        def closure() -> Any:
            found = self.gradients(*arguments)
            if not first:
                number = float(found[0])
                self.check_loss(number)
                first[:] = (number, *self._measure(batch, found, state))
                self.check_gradients()
            else:
                self.clip()
            return found[0]

        self.optimizer.step(closure)
        self.count_one()
        number, output, weight, measured = first
        state.sums.add_loss(number, weight)
        self._add(measured, output, weight, state)
        return number, output

    # ----- checks -----

    def check_loss(self, number: float) -> None:
        """Refuse a loss that is no number."""
        if not math.isfinite(number):
            epoch, batch = self.where
            msg = (
                f"the loss is {number} in epoch {epoch}, batch {batch}; nothing was updated. "
                "Try a smaller learning rate or clip_norm, check the data for NaN, "
                "or find the operation with anynet.anomaly()"
            )
            raise NonFiniteLossError(msg)

    def check_gradients(self) -> None:
        """Refuse gradients that are no numbers, and clip the others."""
        if self.clip_norm is not None and self.clip_value is None:  # the norm tells both
            if not math.isfinite(clip_if_finite(self.params, self.clip_norm)):
                self._name_gradient()  # none where only their squares are too large
                self.clip()
            return
        if not self._all_finite():
            self._name_gradient()
        self.clip()

    def clip(self) -> None:
        """Clip the gradients, where that is asked for."""
        if self.clip_value is not None:
            clip_grad_value_(self.params, self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(self.params, self.clip_norm)

    def _all_finite(self) -> bool:
        if isinstance(self.optimizer, optim.Optimizer):
            return self.optimizer.finite_gradients()
        return all(p.grad is None or finite(p.grad) for p in self.params)

    def _name_gradient(self) -> None:
        """Say which gradient is not finite."""
        for p in self.params:
            if p.grad is not None and not finite(p.grad):
                plain = numbers_of(p.grad)
                xp = backend_of(plain)
                what = "NaN" if bool(xp.any(xp.isnan(plain))) else "infinite"
                count = int(xp.sum(xp.astype(xp.logical_not(xp.isfinite(plain)), xp.int64)))
                self.refuse_gradient(p, what, count)

    def refuse_gradient(self, p: Any, what: str, count: int) -> NoReturn:
        """Raise the error of a gradient that is not finite."""
        epoch, batch = self.where
        msg = (
            f"the gradient of {self.names.get(id(p), 'a parameter')} is {what} ({count} of {p.size} numbers) in epoch "
            f"{epoch}, batch {batch}, though the loss is finite; nothing was updated. Find the operation with "
            "anynet.anomaly(), or try a smaller learning rate"
        )
        raise NonFiniteGradientError(msg)
