"""Optimizers around optimizers: sharpness-aware minimization, and steps from several gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.ops import reductions
from anynet.optim.groups import flag, integer, not_negative, plain, read
from anynet.optim.optimizer import Optimizer
from anynet.tensor import enable_grad, no_grad

__all__ = ["SAM", "MultiSteps"]


class _Around:
    """What a wrapper hands on to the optimizer inside."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            msg = f"{type(self).__name__} takes an optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer inside."""
        return self.optimizer.param_groups

    def _parameters(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer inside."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.optimizer.load_state_dict(state)


class SAM(_Around):
    """Sharpness-aware minimization (Foret et al. 2021): the gradient is taken where the loss is largest nearby, at
    p + ρ g / ‖g‖ (`adaptive`: p + ρ p² g / ‖p g‖, Kwon et al. 2021), and `optimizer` updates p with it.

    `step` takes a closure that clears the gradients, computes the loss, calls backward and returns the loss; it is
    called twice.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> optimizer = an.optim.SAM(an.optim.SGD([p], lr=0.1), rho=0.5)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (p * p)[0]
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), round(p[0].item(), 6)  # the gradient at 1.5 is 3
    (1.0, 0.7)
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        super().__init__(optimizer)
        self.rho: float = read("SAM", "rho", not_negative, plain(rho))
        self.adaptive: bool = read("SAM", "adaptive", flag, adaptive)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Climb, take the gradient there, come back, update; the loss at the beginning."""
        if closure is None:
            msg = "SAM: step takes a closure that computes the loss and its gradients, and returns the loss"
            raise TypeError(msg)
        with enable_grad():
            loss = closure()
        params = [p for p in self._parameters() if p.grad is not None]
        with no_grad():
            norm: Any = 0.0
            for p in params:
                norm = norm + reductions.sum((p * p.grad if self.adaptive else p.grad) ** 2)
            norm = norm**0.5
            kept = [p.detach() + 0.0 for p in params]
            for p in params:
                climb = p.grad * (self.rho / (norm + 1e-12))
                p.assign_(p + (p * p * climb if self.adaptive else climb))
        try:
            with enable_grad():
                closure()
        finally:
            with no_grad():
                for p, value in zip(params, kept, strict=True):
                    p.assign_(value)
        self.optimizer.step()
        return loss


class MultiSteps(_Around):
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
        """Forget the gradients, where a new sum begins; else they go on adding up."""
        if self.count == 0:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Count; after `every` calls divide the gradients and update."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
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
            msg = f"MultiSteps: {self.count} of {self.every} gradients are summed; save after an update"
            raise RuntimeError(msg)
        return self.optimizer.state_dict()
