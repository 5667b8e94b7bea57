"""Muon: momentum whose update is orthogonalised, for weight matrices."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.groups import ParamsLike, choice, each, integer, options_of, real, waiting
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import frobenius_norm
from anynet_backends import Array, Backend

__all__ = ["Muon"]


@equation(
    "B_new = μ * B + (1 - μ) * g",
    "U = μ * B_new + (1 - μ) * g if nesterov else B_new",
    "X[0] = U / max(norm(U), ε)",
    "A[k] = X[k - 1] @ X[k - 1].T",
    "X[k: 1: K + 1] = a * X[k - 1] + (b * A[k] + c * A[k] @ A[k]) @ X[k - 1]",
    """
        p_new = (1 - η * λ) * p - η * (0.2 * sqrt(max(R, C)) if adjust == "match_rms_adamw" else sqrt(max(1, R / C))) *
            X[K]
    """,
    where="""
        g[R, C]: the gradient
        B: the momentum before
        p: the parameters before
        K = ns_steps
        a = ns_coefficients[0]
        b = ns_coefficients[1]
        c = ns_coefficients[2]
        adjust = adjust_lr_fn
    """,
    shared=OPTIMIZER_SYMBOLS,
    result="p_new B_new",
)
class Muon(Optimizer):
    """Momentum whose update is brought to equal singular values (Jordan et al. 2024): for weight matrices only.

    The nearest orthogonal matrix is found, in about, by `ns_steps` Newton-Schulz iterations. `adjust_lr_fn` says how
    the rate follows the shape: "original" (default) or "match_rms_adamw".

    The iteration runs in the parameter's own type (PyTorch's in bfloat16).

    >>> import anynet as an
    >>> p = an.Parameter([[3.0, 0.0], [0.0, 1.0]])
    >>> an.sum(p * p).backward()
    >>> an.optim.Muon([p], lr=0.1, weight_decay=0.0).step()
    >>> bool(an.all(p < an.asarray([[3.0, 1.0], [1.0, 1.0]])))
    True
    """

    per_parameter = True
    slots = ("momentum_buffer",)
    kinds: ClassVar = {
        "ns_coefficients": each(real(), real(), real()), "ns_steps": integer(0, 99),
        "adjust_lr_fn": choice(None, "original", "match_rms_adamw"),
    }  # fmt: skip

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, options_of(locals()))

    def validate(self, group: dict[str, Any]) -> None:
        """Matrices only."""
        for p in group["params"]:
            if not waiting(p) and len(p.shape) != 2:
                msg = f"Muon optimizes matrices, got a parameter of shape {tuple(p.shape)}; give the others to AdamW"
                raise ValueError(msg)

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        b, momentum = state["momentum_buffer"], group["momentum"]
        b += (1 - momentum) * (g - b)
        u = g + momentum * (b - g) if group["nesterov"] else b
        rows, cols = p.shape
        x = u.T if rows > cols else u
        x = x / xp.maximum(frobenius_norm(xp, x), group["eps"])
        first, second, third = group["ns_coefficients"]
        for _ in range(group["ns_steps"]):
            gram = xp.matmul(x, x.T)
            x = first * x + xp.matmul(second * gram + third * xp.matmul(gram, gram), x)
        lr = group["lr"]
        if group["adjust_lr_fn"] == "match_rms_adamw":
            rate = 0.2 * lr * math.sqrt(max(rows, cols))
        else:
            rate = lr * math.sqrt(max(1.0, rows / cols))
        p *= 1 - lr * group["weight_decay"]
        p -= rate * (x.T if rows > cols else x)
