"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import Any

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.adam import Moments
from anynet.optim.groups import ParamsLike, options_of
from anynet_backends import Array, Backend

__all__ = ["Lion"]


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "g[t] = -G[t] if maximize else G[t]",
    "p[t] = p[t - 1] - η * (sign(β1 * m[t - 1] + (1 - β1) * g[t]) + λ * p[t - 1])",
    "m[t] = β2 * m[t - 1] + (1 - β2) * g[t]",
    shared=OPTIMIZER_SYMBOLS,
    result="p",
)
class Lion(Moments):
    """The sign of a momentum, which is averaged once more with the gradient for the step (Chen et al. 2023).

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
        super().__init__(params, options_of(locals()))

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        c = {"keep": beta1, "gain": 1 - beta1, "beta2": beta2, "fresh": 1 - beta2, "lr": group["lr"]}
        if group["weight_decay"]:
            c["decay"] = group["weight_decay"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m = state["exp_avg"]
        change = xp.sign(c["keep"] * m + c["gain"] * g)
        if "decay" in c:
            change = change + c["decay"] * p
        p -= c["lr"] * change
        m *= c["beta2"]
        m += c["fresh"] * g
