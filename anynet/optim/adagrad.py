"""Rates scaled by the mean or sum of squared gradients: Adagrad, RMSprop, Adadelta, Adafactor.

p parameters, g gradient, η learning rate, λ weight decay.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.flat_group import FlatGroup, Shape
from anynet.optim.groups import Hints, ParamsLike, each, not_negative, optional, options_of, plain, real
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import frobenius_norm
from anynet_backends import Array, Backend

__all__ = ["Adadelta", "Adafactor", "Adagrad", "RMSprop"]


@equation(
    "p[0] = p_start",
    "s[0] = s0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "s[t] = s[t - 1] + g[t]**2",
    "p[t] = p[t - 1] - η / (1 + (t - 1) * δ) * g[t] / (sqrt(s[t]) + ε)",
    where="""
        s0 = initial_accumulator_value
        δ = lr_decay
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class Adagrad(Optimizer):
    """Each number's steps divided by the root of the sum of its squared gradients so far (Duchi et al. 2011).

    Gradients that are rows of a table (`SparseRows`) are taken without weight decay, and these rows alone are touched.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.Adagrad([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.9
    """

    slots = ("sum",)
    settled = ("initial_accumulator_value",)
    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def init_state(self, flat: FlatGroup, group: dict[str, Any]) -> None:
        """The sum begins at `initial_accumulator_value`."""
        flat.state["sum"][...] = group["initial_accumulator_value"]

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        return {"rate": group["lr"] / (1 + (step - 1) * group["lr_decay"]), "eps": group["eps"]}

    def sparse_gradients(self, group: dict[str, Any]) -> str:
        """As PyTorch: without decay."""
        return "refused" if plain(group["weight_decay"]) or plain(group["l1"]) else "rows"

    def rows_suffice(self, c: dict[str, Any]) -> bool:
        """Without decay a number without gradient stays (with ε = 0 the first 0 / 0 is NaN)."""
        return not c.keys() & {"l1", "l2"} and c["eps"] > 0

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        s = state["sum"]
        s += g * g
        p -= c["rate"] * (g / (xp.sqrt(s) + c["eps"]))


@equation(
    "p[0] = p_start",
    "s[0] = 0",
    "m[0] = 0",
    "v[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "s[t] = α * s[t - 1] + (1 - α) * g[t]**2",
    "m[t] = α * m[t - 1] + (1 - α) * g[t] if centered else 0",
    "v[t] = μ * v[t - 1] + g[t] / (sqrt(s[t] - m[t]**2) + ε)",
    "p[t] = p[t - 1] - η * v[t]",
    where="""
        α = alpha
        centered
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class RMSprop(Optimizer):
    """The gradient divided by the root of its running mean square; `centered`: by its deviation (Hinton 2012; Graves 2013).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.RMSprop([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.0
    """

    slots = ("square_avg",)
    decays_gradient = True
    optional: ClassVar = {"momentum_buffer": "momentum", "grad_avg": "centered"}
    kinds: ClassVar = {"alpha": real(0)}

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        c = {"lr": group["lr"], "alpha": group["alpha"], "fresh": 1 - group["alpha"], "eps": group["eps"]}
        if group["centered"]:
            c["centered"] = 1.0
        if group["momentum"] > 0:
            c["momentum"] = group["momentum"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        s = state["square_avg"]
        s *= c["alpha"]
        s += c["fresh"] * (g * g)
        if "centered" in c:
            m = state["grad_avg"]
            m += c["fresh"] * (g - m)
            size = xp.sqrt(s - m * m) + c["eps"]
        else:
            size = xp.sqrt(s) + c["eps"]
        change = g / size
        if "momentum" in c:
            v = state["momentum_buffer"]
            v *= c["momentum"]
            v += change
            change = v
        p -= c["lr"] * change


@equation(
    "p[0] = p_start",
    "s[0] = 0",
    "d[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "s[t] = ρ * s[t - 1] + (1 - ρ) * g[t]**2",
    "Δ[t] = sqrt(d[t - 1] + ε) / sqrt(s[t] + ε) * g[t]",
    "d[t] = ρ * d[t - 1] + (1 - ρ) * Δ[t]**2",
    "p[t] = p[t - 1] - η * Δ[t]",
    where="""
        ρ = rho
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class Adadelta(Optimizer):
    """Steps as large as the root mean square of earlier steps, over that of the gradients (Zeiler 2012).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> an.optim.Adadelta([p]).defaults["rho"]
    0.9
    """

    slots = ("square_avg", "acc_delta")
    decays_gradient = True
    kinds: ClassVar = {"rho": real(0, 1)}

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        return {"lr": group["lr"], "rho": group["rho"], "fresh": 1 - group["rho"], "eps": group["eps"]}

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        s, d = state["square_avg"], state["acc_delta"]
        s *= c["rho"]
        s += c["fresh"] * (g * g)
        change = xp.sqrt(d + c["eps"]) / xp.sqrt(s + c["eps"]) * g
        d *= c["rho"]
        d += c["fresh"] * (change * change)
        p -= c["lr"] * change


@equation(
    "p[0] = p_start",
    "R[0] = 0",
    "C[0] = 0",
    "g[t] = -G[t] if maximize else G[t]",
    "R[t, i] = (1 - t**b) * R[t - 1, i] + t**b * mean[j](g[t, i, j]**2)",
    "C[t, j] = (1 - t**b) * C[t - 1, j] + t**b * mean[i](g[t, i, j]**2)",
    "V[t, i, j] = R[t, i] * C[t, j] / max(mean[k](R[t, k]), ε1)",
    "U[t] = g[t] / sqrt(max(V[t], ε1**2))",
    "α[t] = max(ε2, norm(p[t - 1]) / sqrt(size(p_start))) * min(η, 1 / sqrt(t))",
    "p[t] = (1 - η * λ) * p[t - 1] - α[t] * U[t] / max(1, norm(U[t]) / sqrt(size(p_start)) / d)",
    where="""
        b = beta2_decay
        ε1 = eps[0] or 2.220446049250313e-16: that of the dtype, here float64
        ε2 = eps[1]
        d: for matrices, while for vectors V is the average of g² itself
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class Adafactor(Optimizer):
    """Adam's second moment as an outer product of row and column means, so that a matrix needs a row and a column of
    state (Shazeer & Stern 2018).

    For vectors V is the running average of g² itself. ε₁ = None means the type's machine epsilon.

    >>> import anynet as an
    >>> p = an.Parameter([[1.0, 2.0]])
    >>> optimizer = an.optim.Adafactor([p])
    >>> an.sum(p * p).backward()
    >>> optimizer.step()
    >>> {k: v.shape for k, v in optimizer.state_dict()["state"][0].items() if k != "step"}
    {'row_var': (1, 1), 'col_var': (1, 2), 'variance': (0,)}
    """

    per_parameter = True
    slots = ("row_var", "col_var", "variance")
    kinds: ClassVar = {
        "beta2_decay": real(high=0), "eps": each(optional(not_negative), not_negative), "d": real(1),
    }  # fmt: skip

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def slot_shape(self, name: str, shape: Shape) -> Shape:
        """Rows and columns for matrices, all of it for vectors."""
        if len(shape) < 2:
            return shape if name == "variance" else (0,)
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1]), "variance": (0,)}[name]

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        small, least = group["eps"]
        small = float(xp.finfo(p.dtype).eps) if small is None else small
        new, size = step ** group["beta2_decay"], math.sqrt(max(math.prod(p.shape), 1))
        rate = xp.maximum(frobenius_norm(xp, p) / size, least) * min(group["lr"], 1 / math.sqrt(step))
        if group["weight_decay"]:
            p *= 1 - group["lr"] * group["weight_decay"]
        if len(p.shape) > 1:
            row, col = state["row_var"], state["col_var"]
            row += new * (xp.mean(g * g, axis=-1, keepdims=True) - row)
            col += new * (xp.mean(g * g, axis=-2, keepdims=True) - col)
            v = row * col / xp.maximum(xp.mean(row, axis=-2, keepdims=True), small)
        else:
            v = state["variance"]
            v += new * (g * g - v)
        u = g / xp.sqrt(xp.maximum(v, small * small))
        p -= rate / xp.maximum(frobenius_norm(xp, u) / (size * group["d"]), 1.0) * u
