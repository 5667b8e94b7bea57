"""The update rules. p parameters, g gradient, η learning rate, λ weight decay; vectors, element by element.

All take `weight_decay` (L2: g ← g + λ p; for AdamW decoupled from the gradient), `l1` (g ← g + l1 · sign p) and
`maximize` (ascent); and PyTorch's `foreach`, `fused` and `capturable`, which choose among its implementations and have no effect
here (`anynet.optim.groups.Hints`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from anynet.optim.groups import Hints, each, plain, real
from anynet.optim.optimizer import Optimizer
from anynet_backends import Array, Backend

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]


class SGD(Optimizer):
    """Gradient descent with momentum: v ← μ v + (1 − τ) g, p ← p − η v; Nesterov: p ← p − η (g + μ v).

    Cauchy 1847; Robbins & Monro 1951; Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.SGD([p], lr=0.1).step()
    >>> p
    Parameter([0.8], requires_grad=True)
    """

    blocked = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    optional = ("momentum_buffer",)

    def check(self, group: dict[str, Any]) -> None:
        """Nesterov needs momentum, and no dampening."""
        if group["nesterov"] and (plain(group["momentum"]) <= 0 or plain(group["dampening"]) != 0):
            msg = (
                "SGD: nesterov needs a momentum above 0 and no dampening, got "
                f"momentum={group['momentum']!r} and dampening={group['dampening']!r}"
            )
            raise ValueError(msg)

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("momentum_buffer",) if plain(group["momentum"]) else ()

    def fresh(self, flat: Any, i: int, name: str) -> None:
        """The velocity begins as the gradient at the next step: that counts as the first."""
        flat.steps[i] = 0

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        momentum = group["momentum"]
        if momentum:
            v = state["momentum_buffer"]
            if step == 1:
                v[...] = g
            else:
                v *= momentum
                v += (1 - group["dampening"]) * g
            g = g + momentum * v if group["nesterov"] else v
        p -= group["lr"] * g


class Adagrad(Optimizer):
    """s ← s + g², p ← p − η_t g / (√s + ε), η_t = η / (1 + (t − 1) lr_decay) (Duchi et al. 2011).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.Adagrad([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.9
    """

    blocked = True
    slots = ("sum",)
    settled = ("initial_accumulator_value",)

    def __init__(
        self,
        params: Iterable[Any],
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
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def begin(self, flat: Any, group: dict[str, Any]) -> None:
        """The sum begins at `initial_accumulator_value`."""
        flat.state["sum"][...] = group["initial_accumulator_value"]

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        s = state["sum"]
        s += g * g
        rate = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        p -= rate * (g / (xp.sqrt(s) + group["eps"]))


class RMSprop(Optimizer):
    """s ← α s + (1 − α) g², p ← p − η g / (√s + ε); centred: s less the squared mean of g (Hinton 2012; Graves 2013).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.RMSprop([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.0
    """

    blocked = True
    slots = ("square_avg",)
    optional = ("momentum_buffer", "grad_avg")
    kinds: ClassVar = {"alpha": real(0)}

    def __init__(
        self,
        params: Iterable[Any],
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
        super().__init__(params, {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Mean square, and what momentum and centring need."""
        return (
            "square_avg",
            *(("momentum_buffer",) if plain(group["momentum"]) else ()),
            *(("grad_avg",) if group["centered"] else ()),
        )

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        alpha = group["alpha"]
        s = state["square_avg"]
        s *= alpha
        s += (1 - alpha) * (g * g)
        if group["centered"]:
            m = state["grad_avg"]
            m += (1 - alpha) * (g - m)
            size = xp.sqrt(s - m * m) + group["eps"]
        else:
            size = xp.sqrt(s) + group["eps"]
        if group["momentum"] > 0:
            v = state["momentum_buffer"]
            v *= group["momentum"]
            v += g / size
            p -= group["lr"] * v
        else:
            p -= group["lr"] * (g / size)


class Moments(Optimizer):
    """What Adam and its kin share: element by element, with two betas in [0, 1)."""

    blocked = True


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
    later = ("decoupled_weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
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
    """Adam with weight decay apart from the gradient: p ← (1 − η λ) p first (Loshchilov & Hutter 2019).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.AdamW([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.899
    """

    def __init__(
        self,
        params: Iterable[Any],
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


class Adadelta(Optimizer):
    """s ← ρ s + (1 − ρ) g²,  Δ = √(d + ε) / √(s + ε) · g,  d ← ρ d + (1 − ρ) Δ²,  p ← p − η Δ (Zeiler 2012).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> an.optim.Adadelta([p]).defaults["rho"]
    0.9
    """

    blocked = True
    slots = ("square_avg", "acc_delta")
    kinds: ClassVar = {"rho": real(0, 1)}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        rho, eps = group["rho"], group["eps"]
        s, d = state["square_avg"], state["acc_delta"]
        s *= rho
        s += (1 - rho) * (g * g)
        change = xp.sqrt(d + eps) / xp.sqrt(s + eps) * g
        d *= rho
        d += (1 - rho) * (change * change)
        p -= group["lr"] * change


class Adamax(Moments):
    """Adam with the largest gradient: u ← max(β₂ u, |g| + ε), p ← p − η / (1 − β₁ᵗ) · m / u (Kingma & Ba 2015).

    >>> import anynet as an
    >>> an.optim.Adamax([an.Parameter([1.0])]).defaults["lr"]
    0.002
    """

    slots = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Iterable[Any],
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
        params: Iterable[Any],
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
        params: Iterable[Any],
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
        """As if β₁ had always been what it is now."""
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
        params: Iterable[Any],
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


class Rprop(Optimizer):
    """Steps by the sign of the gradient alone: a number's step grows by η₊ while its sign stays, shrinks by η₋ when it
    turns, and then waits a turn (Riedmiller & Braun 1993). For whole batches. `lr` is the length of a number's first step;
    as in PyTorch, a schedule changes nothing after that.

    >>> import anynet as an
    >>> an.optim.Rprop([an.Parameter([1.0])]).defaults["etas"]
    (0.5, 1.2)
    """

    blocked = True
    slots = ("prev", "step_size")
    kinds: ClassVar = {
        "etas": each(real(0, 1, below=True, above=True), real(1, above=True)), "step_sizes": each(real(), real()),
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize, "l1": l1},
            hints,
        )

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        (low, high), (least, most) = group["etas"], group["step_sizes"]
        before, size = state["prev"], state["step_size"]
        if step == 1:
            size[...] = xp.full_like(size, group["lr"])
        turn = xp.sign(g * before)
        factor = xp.where(
            turn > 0, xp.full_like(g, high), xp.where(turn < 0, xp.full_like(g, low), xp.ones_like(g))
        )
        size[...] = xp.clip(size * factor, least, most)
        g = xp.where(turn < 0, xp.zeros_like(g), g)
        p -= xp.sign(g) * size
        before[...] = g
