"""One update: output, loss, gradients, checks, step. Nothing is changed by a batch that cannot be learned from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import optim
from anynet.autograd.jit.compile import compile as compiled
from anynet.nn.module import Module
from anynet.nn.utils.clip_grad import clip_grad_norm_, clip_grads_with_norm_, get_total_norm
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.train.batches import call
from anynet.train.compilation import AutoCompiled
from anynet.train.metrics import Sums
from anynet.train.objectives import Objective
from anynet.train.state import NonFiniteError, finite
from anynet_backends import backend_of

__all__ = ["NonFiniteGradientError", "NonFiniteLossError", "Updates"]


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
    """

    def __init__(
        self,
        model: Module,
        objective: Objective,
        optimizer: Any,
        clip_norm: float | None,
    ) -> None:
        self.model, self.objective, self.optimizer, self.clip_norm = model, objective, optimizer, clip_norm
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.compute: Callable[[Any, Any], tuple[Any, Any]] = self.gradients
        self.closure = isinstance(optimizer, (optim.LBFGS, optim.SAM))
        self.buffers = _Buffers(model)
        self.begun = False
        self.where = (0, 0)  # epoch and batch, from 1, for messages

    def gradients(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The loss and the output of a batch; the gradients are left in the parameters."""
        self.optimizer.zero_grad()
        output = call(self.model, x)
        value = self.objective(output, y)
        if value.edge is None:
            msg = (
                f"the loss {self.objective.name} does not depend on the model's parameters: nothing can be learned from it "
                "(was it computed from plain arrays, or under no_grad?)"
            )
            raise ValueError(msg)
        value.backward()
        return value.detach(), output

    def compile(self, how: bool | str, steps: int) -> None:
        """Have the gradients computed by a program: for certain, or ("auto") where that pays in so many steps."""
        if how is False or self.closure or not isinstance(self.optimizer, optim.Optimizer):
            return

        def gradients(x: Any, y: Any) -> tuple[Any, Any]:
            return self.gradients(x, y)

        # what the program is watched for: the network, and the loss, which may be a function of the user's
        gradients.__wrapped__ = (self.model, self.objective.function)  # type: ignore[attr-defined]
        if how is True:
            self.compute = compiled(gradients)
        else:
            self.compute = AutoCompiled(gradients, self.params, self.buffers.all, steps)

    def __call__(self, x: Any, y: Any, sums: Sums) -> float:
        """Learn from a batch; its loss. The totals get it, and the metrics of the output before the update."""
        first = self.where[1] == 1 or not self.buffers.known
        if self.buffers.all:
            self.buffers.keep(first)
        try:
            if self.closure:
                number = self._by_closure(x, y, sums)
            else:
                number = self._learn(x, y, sums)
        except BaseException:
            self.buffers.restore()
            for p in self.params:
                p.grad = None
            if isinstance(self.optimizer, optim.MultiSteps):
                self.optimizer.count = 0
            raise
        if first:
            self.buffers.settle()
        return number

    def _learn(self, x: Any, y: Any, sums: Sums) -> float:
        value, output = self.compute(x, y)
        number = float(value)
        if not self.begun:
            self.objective.check_classes(output)
            self.begun = True
        weight = self.objective.weight(output, y)
        measured = sums.measure(output, y)
        if (
            weight == 0.0 and self.objective.reduction == "mean"
        ):  # all targets ignored: there is nothing to learn
            self.optimizer.zero_grad()
        else:
            self.check_loss(number)
            self.check_gradients()
            self.optimizer.step()
            sums.add_loss(number, weight)
        sums.add(measured)
        return number

    def _by_closure(self, x: Any, y: Any, sums: Sums) -> float:
        """A step that computes the loss several times: the first is the one that counts."""
        first: list[Any] = []

        def closure() -> Any:
            value, output = self.gradients(x, y)
            if not first:
                self.check_loss(float(value))
                first[:] = [float(value), self.objective.weight(output, y), sums.measure(output, y)]
                self.check_gradients()
            elif self.clip_norm is not None:
                clip_grad_norm_(self.params, self.clip_norm)
            return value

        self.optimizer.step(closure)
        sums.add_loss(first[0], first[1])
        sums.add(first[2])
        return float(first[0])

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
        if self.clip_norm is not None:
            grads = [p.grad for p in self.params if p.grad is not None]
            total = get_total_norm(grads)
            if not math.isfinite(float(total)):
                self._name_gradient()
            clip_grads_with_norm_(self.params, self.clip_norm, total)
        elif not self._all_finite():
            self._name_gradient()

    def _all_finite(self) -> bool:
        if isinstance(self.optimizer, optim.Optimizer):
            return self.optimizer.finite_gradients()
        return all(p.grad is None or finite(p.grad) for p in self.params)

    def _name_gradient(self) -> None:
        """Say which gradient is not finite."""
        for p in self.params:
            if p.grad is not None and not finite(p.grad):
                epoch, batch = self.where
                plain = unwrap(p.grad)
                xp = backend_of(plain)
                what = "NaN" if bool(xp.any(xp.isnan(plain))) else "infinite"
                count = int(xp.sum(xp.astype(xp.logical_not(xp.isfinite(plain)), xp.int64)))
                msg = (
                    f"the gradient of {self.names.get(id(p), 'a parameter')} is {what} ({count} of {p.size} numbers) in epoch "
                    f"{epoch}, batch {batch}, though the loss is finite; nothing was updated. Find the operation with "
                    "anynet.anomaly(), or try a smaller learning rate"
                )
                raise NonFiniteGradientError(msg)
