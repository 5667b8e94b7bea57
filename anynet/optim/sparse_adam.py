"""SparseAdam: Adam for tables of which each step looks up few rows.

p parameters, g gradient, η learning rate.
"""

from __future__ import annotations

import math
from typing import Any

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.groups import ParamsLike, options_of
from anynet.optim.optimizer import Optimizer
from anynet_backends import Array, Backend

__all__ = ["SparseAdam"]


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "g[t] = -G[t] if maximize else G[t]",
    "m[t] = m[t - 1] + r[t] * (1 - β1) * (g[t] - m[t - 1])",
    "v[t] = v[t - 1] + r[t] * (1 - β2) * (g[t]**2 - v[t - 1])",
    "m_hat[t] = m[t] / (1 - β1**t)",
    "p[t] = p[t - 1] - r[t] * η * sqrt(1 - β2**t) * m_hat[t] / (sqrt(v[t]) + ε)",
    where="""
        r: 1 in the rows that the gradient has at step t, else 0
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class SparseAdam(Optimizer):
    """Adam for gradients that are rows of a table (`SparseRows`): rows that the gradient does not have stay as they are, and so do
    their moments, so that a step costs as much as the lookup, whatever the size of the table.

    The gradients must be such: those of `nn.Embedding` and `nn.EmbeddingBag` with ``sparse=True``. t counts all steps of a table, not
    those of a row; ε is added to √v before the correction of v, so it counts for more in the first steps than in `Adam`.

    Errors: RuntimeError for a gradient that is an array, before anything changes.

    >>> import anynet as an
    >>> words = an.nn.Embedding(1000, 4, sparse=True)
    >>> optimizer = an.optim.SparseAdam(words.parameters(), lr=0.1)
    >>> before = words.weight.numpy().copy()
    >>> an.sum(words(an.asarray([7, 3, 7]))).backward()
    >>> optimizer.step()
    >>> sorted(set(an.nonzero(an.asarray(words.weight.numpy() != before))[0].tolist()))
    [3, 7]

    Source: Kingma & Ba: Adam: a method for stochastic optimization (2015); the form for rows is PyTorch's.
    """

    slots = ("exp_avg", "exp_avg_sq")
    sparse_only = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, options_of(locals()))

    def sparse_gradients(self, group: dict[str, Any]) -> str:
        """These alone are taken."""
        return "rows"

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        rate = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        return {"gain": 1 - beta1, "fresh": 1 - beta2, "rate": rate, "eps": group["eps"]}

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += (g - m) * c["gain"]
        v += (g * g - v) * c["fresh"]
        p -= (m / (xp.sqrt(v) + c["eps"])) * c["rate"]
