"""Clipping: keep gradients from growing without bound (Pascanu et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from anynet.autograd.primitive import kernels_on
from anynet.sparse_rows import SparseRows, numbers_of
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _with_grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    items: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in items if p.grad is not None]


def write_gradient(p: Tensor, value: Any) -> None:
    """Give a variable this array as its gradient, in the optimizer's vector where it lies there."""
    grad = p.grad
    leaf = p.edge
    xp = backend_of(value)
    if grad is not None and leaf.buffer is not None and grad._data is xp.target(leaf.buffer):
        xp.store(leaf.buffer, value)
    else:
        p.grad = wrap(value)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`; returns the norm before.

    g ← g · min(1, max_norm / (‖g‖ + 1e-6))

    >>> import anynet as an
    >>> p = an.nn.Parameter(an.asarray([0.0, 0.0]))
    >>> p.grad = an.asarray([3.0, 4.0])
    >>> float(an.nn.utils.clip_grad_norm_([p], 1.0))
    5.0
    >>> [round(g, 4) for g in p.grad.tolist()]
    [0.6, 0.8]
    """
    params = _with_grads(parameters)
    if max_norm < 0:
        msg = f"clip_grad_norm_: max_norm must be ≥ 0, got {max_norm}"
        raise ValueError(msg)
    if not params:
        return Tensor(0.0)
    if (
        norm_type == 2.0
        and not error_if_nonfinite
        and (clipped := _clip_at_once(params, max_norm)) is not None
    ):
        return clipped
    total = get_total_norm([p.grad for p in params if p.grad is not None], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(params, max_norm, total)
    return total


def clip_if_finite(parameters: Iterable[Tensor], max_norm: float) -> float:
    """`clip_grad_norm_` that leaves the gradients as they are where their norm is not finite; the norm is read."""
    params = _with_grads(parameters)
    if not params:
        return 0.0
    if (clipped := _clip_at_once(params, max_norm, only_finite=True)) is not None:
        return float(clipped)
    total = get_total_norm([p.grad for p in params if p.grad is not None])
    norm = float(total)
    if math.isfinite(norm):
        clip_grads_with_norm_(params, max_norm, total)
    return norm


def _any_rows(params: list[Tensor]) -> bool:
    return any([isinstance(p.grad, SparseRows) for p in params])


def _clip_at_once(params: list[Tensor], max_norm: float, only_finite: bool = False) -> Tensor | None:
    """The same by the backend's own operation on all gradients as one vector; None where there is none."""
    if not kernels_on() or _any_rows(params):
        return None
    arrays = [unwrap(p.grad) for p in params]
    xp = backend_of(arrays[0])
    whole = xp.common_memory(arrays)
    norm = None if whole is None else xp.clip_norm(whole, max_norm, 1e-6, only_finite)
    return None if norm is None else wrap(norm)


clip_grad_norm = clip_grad_norm_
"""The older name."""


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all tensors together, as if they were one vector; 0 of none.

    >>> import anynet as an
    >>> an.nn.utils.get_total_norm([an.asarray([3.0]), an.asarray([[4.0]])])
    Tensor(5.)
    """
    given = [tensors] if isinstance(tensors, Tensor) else tensors
    arrays = [numbers_of(t) if isinstance(t, Tensor) else t for t in given]
    if not arrays:
        return Tensor(0.0)
    xp = backend_of(arrays[0])
    whole = xp.common_memory(arrays)
    if whole is not None:
        arrays = [whole]
    norms = [xp.linalg.vector_norm(a, ord=norm_type) for a in arrays]
    total = norms[0]
    if len(norms) > 1:
        total = xp.linalg.vector_norm(
            xp.stack([xp.astype(n, norms[0].dtype, copy=False) for n in norms]), ord=norm_type
        )
    total = xp.asarray(total)
    if error_if_nonfinite and not math.isfinite(float(total)):
        msg = f"clip_grad_norm_: the norm of the gradients must be finite, got {float(total)}; nothing was clipped"
        raise RuntimeError(msg)
    return wrap(total)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: ArrayLike | float
) -> None:
    """g ← g · min(1, max_norm / (total_norm + 1e-6)), for a norm that `get_total_norm` gave.

    >>> import anynet as an
    >>> p = an.nn.Parameter(an.asarray([0.0, 0.0]))
    >>> p.grad = an.asarray([3.0, 4.0])
    >>> an.nn.utils.clip_grads_with_norm_([p], 1.0, an.asarray(5.0))
    >>> [round(g, 4) for g in p.grad.tolist()]
    [0.6, 0.8]
    """
    factors: dict[str, Any] = {}
    params = _with_grads(parameters)
    for p in params:
        if p.device not in factors:
            factors[p.device] = _factor(max_norm, total_norm, p.device)
    whole = (
        backend_of(params[0]._data).common_memory([unwrap(p.grad) for p in params])
        if len(params) > 1 and not _any_rows(params)
        else None
    )
    if whole is not None:
        whole *= backend_of(whole).astype(factors[params[0].device], whole.dtype, copy=False)
        return
    for p in params:
        grad: Any = p.grad
        g = grad.rows.values if isinstance(grad, SparseRows) else grad._data
        scaled = g * backend_of(g).astype(factors[p.device], g.dtype, copy=False)
        if isinstance(grad, SparseRows):
            p.grad = SparseRows.of(grad.rows.with_values(scaled))
        else:
            write_gradient(p, scaled)


def _factor(max_norm: float, total_norm: ArrayLike | float, device: str) -> Any:
    total = unwrap(total_norm) if isinstance(total_norm, Tensor) else to_plain(total_norm, device=device)
    if isinstance(total_norm, Tensor) and total_norm.device != device:
        total = to_plain(total, device=device)
    xp = backend_of(total)
    return xp.minimum(max_norm / (total + 1e-6), xp.ones_like(total))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit each element of the gradients to [−clip_value, clip_value].

    >>> import anynet as an
    >>> p = an.nn.Parameter(an.asarray([0.0, 0.0]))
    >>> p.grad = an.asarray([3.0, -0.5])
    >>> an.nn.utils.clip_grad_value_([p], 1.0)
    >>> p.grad.tolist()
    [1.0, -0.5]
    """
    if clip_value < 0:
        msg = f"clip_grad_value_: clip_value must be ≥ 0, got {clip_value}"
        raise ValueError(msg)
    for p in _with_grads(parameters):
        grad: Any = p.grad
        g = numbers_of(grad)
        clipped = backend_of(g).clip(g, -clip_value, clip_value)
        if isinstance(grad, SparseRows):
            p.grad = SparseRows.of(grad.rows.coalesce().with_values(clipped))
        else:
            write_gradient(p, clipped)
