"""One step of an optimizer from the gradients of several backward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.equations import equation
from anynet.optim.groups import integer, read
from anynet.optim.optimizer import Optimizer, evaluated
from anynet.optim.wrapper import OptimizerWrapper
from anynet.tensor import no_grad

__all__ = ["MultiSteps"]


@equation(
    "g = sum[k](G[k]) / K",
    where="G: the gradients of the backward passes; K = every: g is the gradient of a step",
)
class MultiSteps(OptimizerWrapper):
    """A step of `optimizer` from the mean of the gradients of `every` backward passes: a large batch in small parts.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> optimizer = an.optim.MultiSteps(an.optim.SGD([p], lr=0.1), every=2)
    >>> for scale in (1.0, 3.0):
    ...     optimizer.zero_grad()
    ...     (scale * p).backward()
    ...     optimizer.step()
    >>> round(p[0].item(), 6)
    0.8
    """

    def __init__(self, optimizer: Optimizer, every: int) -> None:
        super().__init__(optimizer)
        self.every: int = read("MultiSteps", "every", integer(1), every)
        self.count = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients where a new sum begins; between, they accumulate."""
        if self.count == 0:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Count; after `every` calls divide the gradients and update."""
        loss = None if closure is None else evaluated(closure)
        self.count = (self.count + 1) % self.every
        if self.count == 0:
            with no_grad():
                for p in self._parameters():
                    if p.grad is not None:
                        p.grad = p.grad / self.every
            self.optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer inside; between two updates the gradients are not in it, so it is refused there."""
        if self.count:
            msg = f"MultiSteps: {self.count} of {self.every} gradients have been summed since the last update; save after an update"
            raise RuntimeError(msg)
        return self.optimizer.state_dict()
