"""Sharpness-aware minimization, around any optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.equations import equation
from anynet.ops import reductions
from anynet.optim.groups import flag, not_negative, plain, read
from anynet.optim.optimizer import Optimizer, evaluated
from anynet.optim.wrapper import OptimizerWrapper
from anynet.tensor import no_grad

__all__ = ["SAM"]


@equation(
    "p_hat = p + ρ * (p**2 * g / (norm(p * g) + 1e-12) if adaptive else g / (norm(g) + 1e-12))",
    where="p: the parameters; g: their gradient; ρ = rho; adaptive: the optimizer takes the gradient at p̂",
)
class SAM(OptimizerWrapper):
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
        loss = evaluated(closure)
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
            evaluated(closure)
        finally:
            with no_grad():
                for p, value in zip(params, kept, strict=True):
                    p.assign_(value)
        self.optimizer.step()
        return loss
