"""Changes of gradients between backward and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from anynet import streams
from anynet.ops.reductions import mean
from anynet.tensor import Tensor, no_grad

__all__ = ["add_gradient_noise_", "centralize_gradients_"]


def add_gradient_noise_(
    parameters: Tensor | Iterable[Tensor], step: int, eta: float = 0.3, gamma: float = 0.55
) -> None:
    """g ← g + N(0, η / (1 + step)^γ), from the stream of weights (Neelakantan et al. 2015).

    >>> import anynet as an
    >>> p = an.Parameter([1.0, 2.0])
    >>> an.sum(p).backward()
    >>> an.nn.utils.add_gradient_noise_([p], step=10)
    >>> bool(an.any(p.grad != 1.0))
    True
    """
    if step < 0 or eta < 0 or gamma < 0:
        msg = f"add_gradient_noise_: step, eta and gamma must be ≥ 0, got {step}, {eta}, {gamma}"
        raise ValueError(msg)
    spread = math.sqrt(eta / (1 + step) ** gamma)
    with no_grad():
        for p in _with_gradient(parameters):
            noise = Tensor(streams.normal(tuple(p.shape)) * spread, dtype=p.dtype, device=p.device)
            p.grad = p.grad + noise


def centralize_gradients_(parameters: Tensor | Iterable[Tensor]) -> None:
    """g ← g − mean of g over all axes but the first, for parameters of two axes or more (Yong et al. 2020).

    >>> import anynet as an
    >>> p = an.Parameter([[1.0, 2.0]])
    >>> an.sum(p * an.asarray([[1.0, 3.0]])).backward()
    >>> an.nn.utils.centralize_gradients_([p])
    >>> p.grad
    Tensor([[-1.,  1.]])
    """
    with no_grad():
        for p in _with_gradient(parameters):
            if len(p.shape) > 1:
                p.grad = p.grad - mean(p.grad, axis=tuple(range(1, len(p.shape))), keepdims=True)


def _with_gradient(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    given: Iterable[Any] = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in given if p.grad is not None]
