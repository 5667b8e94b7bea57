"""Weights to evaluate with that are not those which take gradients: means over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad
from anynet.train.callbacks import Averaging, Callback

__all__ = ["Averages", "tensors_of"]


class Averages:
    """The mean of the weights that an optimizer (schedule-free methods) or a callback (`EMA`, `SWA`) holds.

    The model has it while it is evaluated, while `on_epoch_end` runs, in what is saved as weights, and at the end.
    """

    def __init__(self, model: Module, optimizer: Any, callbacks: Sequence[Callback]) -> None:
        self.model = model
        inner = getattr(optimizer, "optimizer", optimizer)
        both = callable(getattr(inner, "eval", None)) and callable(getattr(inner, "train", None))
        self.optimizer: Any = inner if both else None
        self.callbacks = [c for c in callbacks if isinstance(c, Averaging)]
        names = [type(c).__name__ for c in self.callbacks] + ([type(inner).__name__] if both else [])
        if len(names) > 1:
            msg = f"fit: {' and '.join(names)} each hold a mean of the weights to evaluate with; give one of them"
            raise ValueError(msg)

    @property
    def there(self) -> bool:
        """Whether the weights to evaluate with are others than those that take gradients."""
        return self.optimizer is not None or self._given() is not None

    def _given(self) -> Mapping[str, Tensor] | None:
        return self.callbacks[0].averaged_weights() if self.callbacks else None

    def begin(self) -> None:
        """The weights where the optimizer takes gradients."""
        if self.optimizer is not None:
            self.optimizer.train()

    def finish(self) -> None:
        """The mean, for good."""
        if self.optimizer is not None:
            self.optimizer.eval()
        given = self._given()
        if given is not None:
            _assign(self.model, given)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within the block the weights are the mean, afterwards bit for bit what they were."""
        given = self._given()
        if not self.there:
            yield
            return
        if given is None:
            tensors = [p for group in self.optimizer.param_groups for p in group["params"]]
        else:
            own = tensors_of(self.model)
            tensors = [own[name] for name in given]
        before = [asarray(t.detach(), copy=True) for t in tensors]
        self.finish()
        try:
            yield
        finally:
            self.begin()
            with no_grad():
                for t, value in zip(tensors, before, strict=True):
                    t.assign_(value)


def tensors_of(model: Module) -> dict[str, Any]:
    """The parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _assign(model: Module, weights: Mapping[str, Tensor]) -> None:
    own = tensors_of(model)
    with no_grad():
        for name, value in weights.items():
            own[name].assign_(value if value.device == own[name].device else value.to(own[name].device))
