"""Gradient descent, with momentum, averaged, by signs, or with a rate for each layer: SGD, ASGD, Rprop, LARS.

p parameters, g gradient, η learning rate, λ weight decay, ‖·‖ the Frobenius norm.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.flat_group import FlatGroup, Shape
from anynet.optim.groups import Hints, ParamsLike, each, not_negative, options_of, plain, real
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import trust_ratio
from anynet_backends import Array, Backend

__all__ = ["ASGD", "LARS", "SGD", "Rprop"]


@equation(
    "p[0] = p_start",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "v[t] = g[t] if t == 1 else μ * v[t - 1] + (1 - τ) * g[t]",
    "p[t] = p[t - 1] - η * (g[t] if μ == 0 else g[t] + μ * v[t] if nesterov else v[t])",
    where="""
        τ = dampening
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class SGD(Optimizer):
    """Gradient descent, with momentum where that is not 0.

    Gradients that are rows of a table (`SparseRows`) are taken without weight decay; without momentum these rows alone are touched.

    Cauchy 1847; Robbins & Monro 1951; Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.SGD([p], lr=0.1).step()
    >>> p
    Parameter([0.8], requires_grad=True)
    """

    def __init__(
        self,
        params: ParamsLike,
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
        super().__init__(params, options_of(locals()), hints)

    optional: ClassVar = {"momentum_buffer": "momentum"}
    decays_gradient = True

    def validate(self, group: dict[str, Any]) -> None:
        """Nesterov needs momentum, and no dampening."""
        if group["nesterov"] and (plain(group["momentum"]) <= 0 or plain(group["dampening"]) != 0):
            msg = (
                "SGD: with nesterov, momentum must be > 0 and dampening 0, got "
                f"momentum={group['momentum']!r} and dampening={group['dampening']!r}"
            )
            raise ValueError(msg)

    def fresh(self, flat: FlatGroup, i: int, name: str) -> None:
        """The velocity begins as the gradient at the next step: that counts as the first."""
        flat.steps[i] = 0

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        c = {"lr": group["lr"]}
        if group["momentum"]:
            c["momentum"] = group["momentum"]
            if step == 1:
                c["first"] = 1.0
            else:
                c["fresh"] = 1 - group["dampening"]
            if group["nesterov"]:
                c["nesterov"] = 1.0
        return c

    def sparse_gradients(self, group: dict[str, Any]) -> str:
        """As PyTorch: without decay; the momentum of all rows is an array."""
        if plain(group["weight_decay"]) or plain(group["l1"]):
            return "refused"
        return "arrays" if plain(group["momentum"]) else "rows"

    def rows_suffice(self, c: dict[str, Any]) -> bool:
        """Without momentum and decay a number without gradient stays."""
        return not c.keys() & {"momentum", "l1", "l2"}

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        if "momentum" in c:
            v = state["momentum_buffer"]
            if "first" in c:
                v[...] = g
            else:
                v *= c["momentum"]
                v += c["fresh"] * g
            g = g + c["momentum"] * v if "nesterov" in c else v
        p -= c["lr"] * g


@equation(
    "p[0] = p_start",
    "q[0] = 0",
    "Δ[0] = η",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1])",
    "r[t] = sign(g[t] * q[t - 1])",
    "Δ[t] = clip(Δ[t - 1] * (b if r[t] > 0 else a if r[t] < 0 else 1), low, high)",
    "q[t] = 0 if r[t] < 0 else g[t]",
    "p[t] = p[t - 1] - sign(q[t]) * Δ[t]",
    where="""
        a = etas[0]
        b = etas[1]
        low = step_sizes[0]
        high = step_sizes[1]
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class Rprop(Optimizer):
    """Steps by the sign of the gradient alone: a number's step grows by η₊ while its sign stays, shrinks by η₋ when it
    turns, and then waits a turn (Riedmiller & Braun 1993). For whole batches. `lr` is the length of a number's first step;
    as in PyTorch, a schedule changes nothing after that.

    >>> import anynet as an
    >>> an.optim.Rprop([an.Parameter([1.0])]).defaults["etas"]
    (0.5, 1.2)
    """

    slots = ("prev", "step_size")
    kinds: ClassVar = {
        "etas": each(real(0, 1, below=True, above=True), real(1, above=True)), "step_sizes": each(real(), real()),
    }  # fmt: skip

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        (low, high), (least, most) = group["etas"], group["step_sizes"]
        c = {"low": low, "high": high, "least": least, "most": most}
        if step == 1:
            c["first"] = group["lr"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        before, size = state["prev"], state["step_size"]
        if "first" in c:
            size[...] = c["first"]
        turn = xp.sign(g * before)
        new = xp.where(turn > 0, size * c["high"], xp.where(turn < 0, size * c["low"], size))
        size[...] = xp.minimum(xp.maximum(new, c["least"]), c["most"])
        g = xp.where(turn < 0, xp.zeros_like(g), g)
        p -= xp.sign(g) * size
        before[...] = g


@equation(
    "p[0] = p_start",
    "h[0] = η",
    "a[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ1 * sign(p[t - 1]) + λ * p[t - 1]",
    "p[t] = (1 - κ * h[t - 1]) * p[t - 1] - h[t - 1] * g[t]",
    "h[t] = η / (1 + κ * η * t)**α",
    "a[t] = a[t - 1] + (p[t] - a[t - 1]) / max(1, t - 1 - t0)",
    where="""
        κ = lambd
        α = alpha
        t0
    """,
    shared=OPTIMIZER_SYMBOLS,
    result="p a",
)
class ASGD(Optimizer):
    """Averaged gradient descent (Polyak & Juditsky 1992): rates that fall by `lambd` and `alpha`; from step `t0` on the
    state `ax` is the mean of the values so far.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.ASGD([p], lr=0.1, lambd=0.0).step()
    >>> p
    Parameter([0.8], requires_grad=True)
    """

    per_parameter = True
    decays_gradient = True
    slots = ("eta", "ax")
    kinds: ClassVar = {"lambd": real(), "alpha": real(), "t0": real()}
    foreign = ("mu",)

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        l1: float = 0.0,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, options_of(locals()), hints)

    def slot_shape(self, name: str, shape: Shape) -> Shape:
        """η is one number, which a later change of the learning rate reaches one step later, as in PyTorch."""
        return () if name == "eta" else shape

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        lr, lambd, eta, ax = group["lr"], group["lambd"], state["eta"], state["ax"]
        if step == 1:
            eta[...] = xp.full_like(eta, lr)
        p *= 1 - lambd * eta
        p -= eta * g
        mu = 1 / max(1.0, step - 1 - group["t0"])
        if mu == 1:
            ax[...] = p
        else:
            ax += mu * (p - ax)
        eta[...] = xp.full_like(eta, lr / (1 + lambd * lr * step) ** group["alpha"])


@equation(
    "p[0] = p_start",
    "v[0] = 0",
    "g[t] = (-G[t] if maximize else G[t]) + λ * p[t - 1]",
    "r[t] = κ * norm(p[t - 1]) / (norm(g[t]) + ε) if norm(p[t - 1]) * norm(g[t]) > 0 else 1",
    "v[t] = μ * v[t - 1] + η * r[t] * g[t]",
    "p[t] = p[t - 1] - (η * r[t] * g[t] + μ * v[t] if nesterov else v[t])",
    where="""
        κ = trust_coefficient
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class LARS(Optimizer):
    """Momentum with a learning rate for each parameter, by the ratio of its norm to that of its gradient (You et al. 2017).

    >>> import anynet as an
    >>> p = an.Parameter([3.0, 4.0])
    >>> an.sum(p).backward()
    >>> an.optim.LARS([p], lr=1.0, trust_coefficient=0.1).step()
    >>> [round(v, 4) for v in p.tolist()]
    [2.6464, 3.6464]
    """

    per_parameter = True
    decays_gradient = True
    optional: ClassVar = {"momentum_buffer": "momentum"}
    kinds: ClassVar = {"momentum": real(0, 1, below=True), "trust_coefficient": not_negative}

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, options_of(locals()))

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        g *= group["lr"] * trust_ratio(xp, p, g, group["trust_coefficient"], group["eps"])
        if group["momentum"]:
            v = state["momentum_buffer"]
            v *= group["momentum"]
            v += g
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= g
