"""Adam (two moments of the gradient) and its variants: AdamW, Adamax, NAdam, RAdam, LAMB, AdaBound.

p parameters, g gradient, η learning rate, λ weight decay; vectors, element by element.

Most take `weight_decay` (L2: g ← g + λ p; for AdamW decoupled from the gradient), `l1` (g ← g + l1 · sign p) and
`maximize` (ascent); and PyTorch's `foreach`, `fused` and `capturable`, which choose among its implementations and have no effect
here (`anynet.optim.groups.Hints`).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.groups import Hints, ParamsLike, flag, options_of, plain, real
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import trust_ratio
from anynet_backends import Array, Backend

__all__ = ["LAMB", "AdaBound", "Adam", "AdamW", "Adamax", "Moments", "NAdam", "RAdam"]


class Moments(Optimizer):
    """What Adam and its kin share: the means of the gradient and of its square, with two betas in [0, 1)."""

    slots: tuple[str, ...] = ("exp_avg", "exp_avg_sq")


def _moments(p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]) -> tuple[Array, Array]:
    """Both moments; with weight decay that is decoupled the parameters are shrunk."""
    if "keep" in c:
        p *= c["keep"]
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m += c["gain"] * (g - m)
    v *= c["beta2"]
    v += c["fresh"] * (g * g)
    return m, v


def _largest(xp: Backend, v: Array, state: dict[str, Array], c: dict[str, Any]) -> Array:
    """The second moment, or where it is asked for its largest value so far."""
    if "largest" not in c:
        return v
    top = state["max_exp_avg_sq"]
    top[...] = xp.maximum(top, v)
    return top


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "u[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + (0 if decoupled else λ * p[t - 1])",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "u[t] = max(u[t - 1], v[t]) if amsgrad else v[t]",
    "m_hat[t] = m[t] / (1 - β1**t)",
    "v_hat[t] = u[t] / (1 - β2**t)",
    "p[t] = (1 - η * λ if decoupled else 1) * p[t - 1] - η * m_hat[t] / (sqrt(v_hat[t]) + ε)",
    where="""
        amsgrad
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class Adam(Moments):
    """Adam (Kingma & Ba 2015): moments of the gradient, corrected for their start at zero.

    `amsgrad` takes the largest v so far (Reddi et al. 2018); `weight_decay` is added to the gradient, or with
    `decoupled_weight_decay` taken off the parameters first.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.Adam([p], lr=0.1).step()
    >>> round(p[0].item(), 6)
    0.9
    """

    optional: ClassVar = {"max_exp_avg_sq": "amsgrad"}
    new_options = ("decoupled_weight_decay",)
    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        (beta1, beta2), lr = group["betas"], group["lr"]
        root = math.sqrt(1 - beta2**step)
        c = {
            "gain": 1 - beta1, "beta2": beta2, "fresh": 1 - beta2, "eps": group["eps"] * root,
            "rate": lr * root / (1 - beta1**step),
        }  # fmt: skip
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            c["keep"] = 1 - group["lr"] * group["weight_decay"]
        if group["amsgrad"]:
            c["largest"] = 1.0
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        # with s = √(1 − β₂ᵗ), (lr / (1 − β₁ᵗ)) m / (√v / s + ε) is computed as (lr s / (1 − β₁ᵗ)) m / (√v + s ε)
        m, v = _moments(p, g, state, c)
        v = _largest(xp, v, state, c)
        p -= (m / (xp.sqrt(v) + c["eps"])) * c["rate"]


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← (1 − η λ) p first (Loshchilov & Hutter 2019).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.AdamW([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.899
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, **options_of(locals()), decoupled_weight_decay=True, **hints)


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "u[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "u[t] = max(β2 * u[t - 1], abs(g[t]) + ε)",
    "p[t] = p[t - 1] - η / (1 - β1**t) * m[t] / u[t]",
    shared=OPTIMIZER_SYMBOLS,
)
class Adamax(Moments):
    """Adam with the largest gradient, forgotten little by little, in place of the root mean square (Kingma & Ba 2015).

    >>> import anynet as an
    >>> an.optim.Adamax([an.Parameter([1.0])]).defaults["lr"]
    0.002
    """

    slots = ("exp_avg", "exp_inf")
    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "gain": 1 - beta1,
            "beta2": beta2,
            "eps": group["eps"],
            "rate": group["lr"] / (1 - beta1**step),
        }

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m, u = state["exp_avg"], state["exp_inf"]
        m += c["gain"] * (g - m)
        u[...] = xp.maximum(u * c["beta2"], xp.abs(g) + c["eps"])
        p -= c["rate"] * (m / u)


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "Π[0] = 1",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + (0 if decoupled else λ * p[t - 1])",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "μ[t] = β1 * (1 - 0.5 * 0.96**(t * ψ))",
    "n[t] = β1 * (1 - 0.5 * 0.96**((t + 1) * ψ))",
    "Π[t] = Π[t - 1] * μ[t]",
    """
        p[t] = (1 - η * λ if decoupled else 1) * p[t - 1] - η * ((1 - μ[t]) / (1 - Π[t]) * g[t] + n[t] / (1 - n[t] *
            Π[t]) * m[t]) / (sqrt(v[t] / (1 - β2**t)) + ε)
    """,
    where="""
        ψ = momentum_decay
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class NAdam(Moments):
    """Adam with Nesterov's momentum, which grows to β₁ by `momentum_decay` (Dozat 2016).

    >>> import anynet as an
    >>> an.optim.NAdam([an.Parameter([1.0])]).defaults["momentum_decay"]
    0.004
    """

    numbers: ClassVar = {"mu_product": 1.0}
    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def advance(self, numbers: dict[str, float], step: int, group: dict[str, Any]) -> dict[str, float]:
        """Π μ, which takes each step's β₁ as it was then."""
        return {"mu_product": numbers["mu_product"] * self._mu(step, group)}

    def former(self, name: str, step: int, group: dict[str, Any]) -> float:
        """The product if β₁ had been constant."""
        product = 1.0
        for t in range(1, step + 1):
            product *= self._mu(t, group)
        return product

    @staticmethod
    def _mu(t: int, group: dict[str, Any]) -> float:
        return float(group["betas"][0] * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])))

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        product, now, later = group["mu_product"], self._mu(step, group), self._mu(step + 1, group)
        c = {
            "gain": 1 - beta1, "beta2": beta2, "fresh": 1 - beta2, "correction": 1 - beta2**step, "eps": group["eps"],
            "rate": group["lr"] * (1 - now) / (1 - product), "next_rate": group["lr"] * later / (1 - product * later),
        }  # fmt: skip
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            c["keep"] = 1 - group["lr"] * group["weight_decay"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m, v = _moments(p, g, state, c)
        size = xp.sqrt(v / c["correction"]) + c["eps"]
        p -= c["rate"] * (g / size)
        p -= c["next_rate"] * (m / size)


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "ρ_inf = 2 / (1 - β2) - 1",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + (0 if decoupled else λ * p[t - 1])",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "ρ[t] = ρ_inf - 2 * t * β2**t / (1 - β2**t)",
    "r[t] = sqrt((ρ[t] - 4) * (ρ[t] - 2) * ρ_inf / ((ρ_inf - 4) * (ρ_inf - 2) * ρ[t])) if ρ[t] > 5 else 0",
    """
        p[t] = (1 - η * λ if decoupled else 1) * p[t - 1] - η / (1 - β1**t) * m[t] * (r[t] * sqrt(1 - β2**t) /
            (sqrt(v[t]) + ε) if ρ[t] > 5 else 1)
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class RAdam(Moments):
    """Adam whose adaptive rate is rectified by its variance (Liu et al. 2020); the first steps, ρ ≤ 5, are those of the
    momentum alone.

    >>> import anynet as an
    >>> an.optim.RAdam([an.Parameter([1.0])]).defaults["lr"]
    0.001
    """

    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        c = {"gain": 1 - beta1, "beta2": beta2, "fresh": 1 - beta2, "rate": group["lr"] / (1 - beta1**step)}
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * step * beta2**step / (1 - beta2**step)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            c["rate"] = c["rate"] * r * math.sqrt(1 - beta2**step)
            c["eps"] = group["eps"]
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            c["keep"] = 1 - group["lr"] * group["weight_decay"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m, v = _moments(p, g, state, c)
        if "eps" in c:  # the variance is tractable
            p -= c["rate"] * (m / (xp.sqrt(v) + c["eps"]))
        else:
            p -= c["rate"] * m


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "g[t] = -G[t] if maximize else G[t]",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "u[t] = m[t] / (1 - β1**t) / (sqrt(v[t] / (1 - β2**t)) + ε) + λ * p[t - 1]",
    "r[t] = norm(p[t - 1]) / norm(u[t]) if norm(p[t - 1]) * norm(u[t]) > 0 else 1",
    "p[t] = p[t - 1] - η * r[t] * u[t]",
    shared=OPTIMIZER_SYMBOLS,
)
class LAMB(Moments):
    """Adam's update, decayed and scaled for each parameter by ‖p‖ / ‖update‖ (You et al. 2020).

    The ratio is 1 where a norm is 0.

    >>> import anynet as an
    >>> p = an.Parameter([3.0, 4.0])
    >>> an.sum(p).backward()
    >>> an.optim.LAMB([p], lr=0.1).step()
    >>> [round(v, 4) for v in p.tolist()]  # ‖p‖ = 5, the update (1, 1) has the norm √2
    [2.6464, 3.6464]
    """

    per_parameter = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, options_of(locals()))

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        u = m / (1 - beta1**step) / (xp.sqrt(v / (1 - beta2**step)) + group["eps"])
        if group["weight_decay"]:
            u += group["weight_decay"] * p
        p -= group["lr"] * trust_ratio(xp, p, u) * u


@equation(
    "p[0] = p_start",
    "m[0] = 0",
    "v[0] = 0",
    "u[0] = 0",
    "f = η_f * η / η_0",
    "g[t] = (-G[t] if maximize else G[t]) + λ * p[t - 1]",
    "m[t] = β1 * m[t - 1] + (1 - β1) * g[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "u[t] = max(u[t - 1], v[t]) if amsbound else v[t]",
    """
        p[t] = p[t - 1] - clip(η * sqrt(1 - β2**t) / (1 - β1**t) / (sqrt(u[t]) + ε), f * (1 - 1 / (γ * t + 1)), f * (1 +
            1 / (γ * t))) * m[t]
    """,
    where="""
        η_f = final_lr
        η_0 = base_lr
        γ = gamma
        amsbound
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class AdaBound(Moments):
    """Adam whose rates are confined to a band that closes around `final_lr` (Luo et al. 2019).

    A schedule scales `final_lr` as it scales `lr`; `amsbound` takes the largest v so far.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.AdaBound([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.9
    """

    optional: ClassVar = {"max_exp_avg_sq": "amsbound"}
    kinds: ClassVar = {
        "final_lr": real(0, above=True), "gamma": real(0, 1, below=True, above=True), "amsbound": flag,
    }  # fmt: skip
    decays_gradient = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsbound: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {**options_of(locals()), "base_lr": None})
        for group in self.param_groups:
            group["base_lr"] = plain(group["lr"])

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own."""
        super().add_param_group(group)
        self.param_groups[-1]["base_lr"] = plain(self.param_groups[-1]["lr"])

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        final = group["final_lr"] * (group["lr"] / group["base_lr"] if group["base_lr"] else 1.0)
        c = {
            "gain": 1 - beta1, "fresh": 1 - beta2, "eps": group["eps"],
            "rate": group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step),
            "low": final * (1 - 1 / (group["gamma"] * step + 1)), "high": final * (1 + 1 / (group["gamma"] * step)),
        }  # fmt: skip
        if group["amsbound"]:
            c["largest"] = 1.0
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += c["gain"] * (g - m)
        v += c["fresh"] * (g * g - v)
        v = _largest(xp, v, state, c)
        p -= xp.minimum(xp.maximum(c["rate"] / (xp.sqrt(v) + c["eps"]), c["low"]), c["high"]) * m
