"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import Any

from anynet.optim.adam import Moments
from anynet.optim.groups import ParamsLike
from anynet_backends import Array, Backend

__all__ = ["Lion"]


class Lion(Moments):
    """The sign of a momentum (Chen et al. 2023): p ← p − η (sign(β₁ m + (1 − β₁) g) + λ p), m ← β₂ m + (1 − β₂) g.

    >>> import anynet as an
    >>> p = an.Parameter([1.0, -2.0])
    >>> an.sum(p * p).backward()
    >>> an.optim.Lion([p], lr=0.1).step()
    >>> p
    Parameter([ 0.9, -1.9], requires_grad=True)
    """

    slots = ("exp_avg",)

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        change = xp.sign(beta1 * m + (1 - beta1) * g)
        if group["weight_decay"]:
            change = change + group["weight_decay"] * p
        p -= group["lr"] * change
        m *= beta2
        m += (1 - beta2) * g
