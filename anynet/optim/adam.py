"""Adam (two moments of the gradient) and its variants: AdamW, Adamax, NAdam, RAdam, LAMB, AdaBound.

p parameters, g gradient, η learning rate, λ weight decay; vectors, element by element.

Most take `weight_decay` (L2: g ← g + λ p; for AdamW decoupled from the gradient), `l1` (g ← g + l1 · sign p) and
`maximize` (ascent); and PyTorch's `foreach`, `fused` and `capturable`, which choose among its implementations and have no effect
here (`anynet.optim.groups.Hints`).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

from anynet.optim.groups import Hints, ParamsLike, flag, plain, real
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import trust_ratio
from anynet_backends import Array, Backend

__all__ = ["LAMB", "AdaBound", "Adam", "AdamW", "Adamax", "Moments", "NAdam", "RAdam"]


class Moments(Optimizer):
    """What Adam and its kin share: element by element, with two betas in [0, 1)."""

    elementwise = True


class Adam(Moments):
    """Adam (Kingma & Ba 2015): moments of the gradient, corrected for their start at zero.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,
    p ← p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε);

    `amsgrad` takes the largest v so far (Reddi et al. 2018); `weight_decay` is added to the gradient (λ p), or with
    `decoupled_weight_decay` p ← (1 − η λ) p first.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.Adam([p], lr=0.1).step()
    >>> round(p[0].item(), 6)
    0.9
    """

    slots = ("exp_avg", "exp_avg_sq")
    optional = ("max_exp_avg_sq",)
    new_options = ("decoupled_weight_decay",)

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
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay, "l1": l1,
        }, hints)  # fmt: skip

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The two moments, and the largest second moment for amsgrad."""
        return (*self.slots, *(self.optional if group["amsgrad"] else ()))

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        if decay:
            if group["decoupled_weight_decay"]:
                p *= 1 - lr * decay
            else:
                g += decay * p
        m += (1 - beta1) * (g - m)
        v *= beta2
        g *= g
        g *= 1 - beta2
        v += g
        if group["amsgrad"]:
            top = state["max_exp_avg_sq"]
            top[...] = xp.maximum(top, v)
            v = top
        size = xp.sqrt(v)
        size /= math.sqrt(1 - beta2**step)
        size += group["eps"]
        change = m / size
        change *= lr / (1 - beta1**step)
        p -= change

    def kernel(self, xp: Backend, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any]) -> Any:
        make = xp.updates.get("adam")
        if make is None:
            return None
        top = state["max_exp_avg_sq"] if group["amsgrad"] else None
        run = make(p, g, state["exp_avg"], state["exp_avg_sq"], top)

        def update(step: int, group: dict[str, Any]) -> None:
            beta1, beta2 = group["betas"]
            run(
                group["lr"], beta1, beta2, group["eps"], step, group["weight_decay"], group["decoupled_weight_decay"]
            )  # fmt: skip

        return update


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
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            l1=l1,
            **hints,
        )


class Adamax(Moments):
    """Adam with the largest gradient: u ← max(β₂ u, |g| + ε), p ← p − η / (1 − β₁ᵗ) · m / u (Kingma & Ba 2015).

    >>> import anynet as an
    >>> an.optim.Adamax([an.Parameter([1.0])]).defaults["lr"]
    0.002
    """

    slots = ("exp_avg", "exp_inf")

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
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        beta1, beta2 = group["betas"]
        m, u = state["exp_avg"], state["exp_inf"]
        m += (1 - beta1) * (g - m)
        u[...] = xp.maximum(u * beta2, xp.abs(g) + group["eps"])
        p -= (group["lr"] / (1 - beta1**step)) * (m / u)


class _Decaying(Moments):
    """What NAdam and RAdam share: weight decay of either kind."""

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsLike,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled_weight_decay: bool,
        maximize: bool,
        l1: float,
        hints: Hints,
        **more: Any,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "l1": l1, **more,
        }, hints)  # fmt: skip

    def _moments(
        self, p: Array, g: Array, state: dict[str, Array], group: dict[str, Any]
    ) -> tuple[Array, Array]:
        if group["weight_decay"]:
            if group["decoupled_weight_decay"]:
                p *= 1 - group["lr"] * group["weight_decay"]
            else:
                g += group["weight_decay"] * p
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m += (1 - beta1) * (g - m)
        v *= beta2
        v += (1 - beta2) * (g * g)
        return m, v


class NAdam(_Decaying):
    """Adam with Nesterov's momentum (Dozat 2016): with μ_t = β₁ (1 − ½ 0.96^{t ψ}), ψ = `momentum_decay`,

    p ← p − η ((1 − μ_t) / (1 − Π μ) · g + μ_{t+1} / (1 − μ_{t+1} Π μ) · m) / (√(v / (1 − β₂ᵗ)) + ε).

    >>> import anynet as an
    >>> an.optim.NAdam([an.Parameter([1.0])]).defaults["momentum_decay"]
    0.004
    """

    numbers: ClassVar = {"mu_product": 1.0}

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
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            decoupled_weight_decay,
            maximize,
            l1,
            hints,
            momentum_decay=momentum_decay,
        )

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

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        m, v = self._moments(p, g, state, group)
        _, beta2 = group["betas"]
        product, now, later = group["mu_product"], self._mu(step, group), self._mu(step + 1, group)
        size = xp.sqrt(v / (1 - beta2**step)) + group["eps"]
        p -= (group["lr"] * (1 - now) / (1 - product)) * (g / size)
        p -= (group["lr"] * later / (1 - product * later)) * (m / size)


class RAdam(_Decaying):
    """Adam whose adaptive rate is rectified by its variance (Liu et al. 2020).

    With ρ_∞ = 2 / (1 − β₂) − 1 and ρ_t = ρ_∞ − 2 t β₂ᵗ / (1 − β₂ᵗ): where ρ_t > 5,
    p ← p − η r m̂ √(1 − β₂ᵗ) / (√v + ε), r² = (ρ_t − 4)(ρ_t − 2) ρ_∞ / ((ρ_∞ − 4)(ρ_∞ − 2) ρ_t), else p ← p − η m̂.

    >>> import anynet as an
    >>> an.optim.RAdam([an.Parameter([1.0])]).defaults["lr"]
    0.001
    """

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
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize, l1, hints)

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        m, v = self._moments(p, g, state, group)
        beta1, beta2 = group["betas"]
        rate = group["lr"] / (1 - beta1**step)
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * step * beta2**step / (1 - beta2**step)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            p -= (rate * r * math.sqrt(1 - beta2**step)) * (m / (xp.sqrt(v) + group["eps"]))
        else:
            p -= rate * m


class LAMB(Moments):
    """Adam's update, decayed and scaled for each parameter by ‖p‖ / ‖update‖ (You et al. 2020).

    u = m̂ / (√v̂ + ε) + λ p, p ← p − η (‖p‖ / ‖u‖) u; the ratio is 1 where a norm is 0.

    >>> import anynet as an
    >>> p = an.Parameter([3.0, 4.0])
    >>> an.sum(p).backward()
    >>> an.optim.LAMB([p], lr=0.1).step()
    >>> [round(v, 4) for v in p.tolist()]  # ‖p‖ = 5, the update (1, 1) has the norm √2
    [2.6464, 3.6464]
    """

    per_parameter = True
    slots = ("exp_avg", "exp_avg_sq")

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
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

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


class AdaBound(Moments):
    """Adam whose rates are confined to a band that closes around `final_lr` (Luo et al. 2019):
    p ← p − clip(η √(1 − β₂ᵗ) / (1 − β₁ᵗ) / (√v + ε), η_f (1 − 1/(γ t + 1)), η_f (1 + 1/(γ t))) m.

    η_f is `final_lr`, scaled as a schedule scales η; `amsbound` takes the largest v so far.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.AdaBound([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.9
    """

    slots = ("exp_avg", "exp_avg_sq")
    optional = ("max_exp_avg_sq",)
    kinds: ClassVar = {
        "final_lr": real(0, above=True), "gamma": real(0, 1, below=True, above=True), "amsbound": flag,
    }  # fmt: skip

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
        super().__init__(params, {
            "lr": lr, "betas": betas, "final_lr": final_lr, "gamma": gamma, "eps": eps,
            "weight_decay": weight_decay, "amsbound": amsbound, "base_lr": None, "maximize": maximize,
        })  # fmt: skip
        for group in self.param_groups:
            group["base_lr"] = plain(group["lr"])

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own."""
        super().add_param_group(group)
        self.param_groups[-1]["base_lr"] = plain(self.param_groups[-1]["lr"])

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The two moments, and the largest second moment for amsbound."""
        return (*self.slots, *(self.optional if group["amsbound"] else ()))

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        if group["amsbound"]:
            top = state["max_exp_avg_sq"]
            top[...] = xp.maximum(top, v)
            v = top
        final = group["final_lr"] * (group["lr"] / group["base_lr"] if group["base_lr"] else 1.0)
        low, high = final * (1 - 1 / (group["gamma"] * step + 1)), final * (1 + 1 / (group["gamma"] * step))
        rate = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        p -= xp.minimum(xp.maximum(rate / (xp.sqrt(v) + group["eps"]), low), high) * m
