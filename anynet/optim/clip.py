"""Clipping: keep gradients from growing without bound (Pascanu et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from anynet.tensor import Tensor, wrap
from anynet_backends import backend_of

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _with_grads(parameters: Any) -> list[Tensor]:
    items: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in items if p.grad is not None]


def _write(p: Tensor, value: Any) -> None:
    grad = p.grad
    leaf = p.edge
    xp = backend_of(value)
    if grad is not None and leaf.buffer is not None and grad.data is xp.target(leaf.buffer):
        xp.store(leaf.buffer, value)
    else:
        p.grad = wrap(value)


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`; returns the norm before.

    g ← g · min(1, max_norm / (‖g‖ + 1e-6))
    """
    params = _with_grads(parameters)
    if max_norm < 0:
        msg = f"clip_grad_norm_: max_norm is not negative, got {max_norm}"
        raise ValueError(msg)
    if not params:
        return Tensor(0.0)
    grads = [p.grad.data for p in params]  # type: ignore[union-attr]
    xp = backend_of(grads[0])
    norms = [xp.linalg.vector_norm(g, ord=norm_type) for g in grads]
    total: Any = xp.linalg.vector_norm(xp.stack([xp.astype(n, norms[0].dtype) for n in norms]), ord=norm_type)
    total = xp.asarray(total)
    if error_if_nonfinite and not math.isfinite(float(total)):
        msg = f"clip_grad_norm_: the norm of the gradient is {float(total)}; nothing was clipped"
        raise RuntimeError(msg)
    factor = xp.minimum(max_norm / (total + 1e-6), xp.ones_like(total))
    for p, g in zip(params, grads, strict=True):
        _write(p, g * xp.astype(factor, g.dtype))
    return wrap(total)


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit each element of the gradients to [−clip_value, clip_value]."""
    if clip_value < 0:
        msg = f"clip_grad_value_: clip_value is not negative, got {clip_value}"
        raise ValueError(msg)
    for p in _with_grads(parameters):
        g = p.grad.data  # type: ignore[union-attr]
        _write(p, backend_of(g).clip(g, -clip_value, clip_value))
