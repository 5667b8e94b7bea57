"""Update rules that look at a parameter as a whole: its norm, its rows and columns, its singular values.

p a parameter, g its gradient, η learning rate, λ weight decay, ‖·‖ the Frobenius norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from anynet.optim.groups import Hints, choice, each, integer, not_negative, optional, plain, real, waiting
from anynet.optim.methods import Moments
from anynet.optim.optimizer import Optimizer, Shape
from anynet_backends import Array, Backend

__all__ = ["ASGD", "LAMB", "LARS", "Adafactor", "Muon"]


def _norm(xp: Backend, x: Array) -> Array:
    """‖x‖ as a 0-d array."""
    return xp.sqrt(xp.sum(x * x))


def _trust(xp: Backend, p: Array, u: Array, factor: float = 1.0, eps: float = 0.0) -> Array:
    """factor ‖p‖ / (‖u‖ + ε), or 1 where a norm is 0."""
    norm, size = _norm(xp, p), _norm(xp, u)
    some = xp.logical_and(norm > 0, size > 0)
    return xp.where(some, factor * norm / xp.where(some, size + eps, 1.0), 1.0)


class ASGD(Optimizer):
    """Averaged gradient descent (Polyak & Juditsky 1992): p ← (1 − λ' η) p − η g with η = lr / (1 + λ' lr t)^α; from step
    `t0` on the state `ax` is the mean of the values so far. λ' is `lambd`.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.ASGD([p], lr=0.1, lambd=0.0).step()
    >>> p
    Parameter([0.8], requires_grad=True)
    """

    shaped = True
    slots = ("eta", "ax")
    kinds: ClassVar = {"lambd": real(), "alpha": real(), "t0": real()}
    foreign = ("mu",)

    def __init__(
        self,
        params: Iterable[Any],
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
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def slot_shape(self, name: str, shape: Shape) -> Shape:
        """η is one number, which a later change of the learning rate reaches one step later, as in PyTorch."""
        return () if name == "eta" else shape

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        lr, lambd, eta, ax = group["lr"], group["lambd"], state["eta"], state["ax"]
        if step == 1:
            eta[...] = xp.full_like(eta, lr)
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        p *= 1 - lambd * eta
        p -= eta * g
        mu = 1 / max(1.0, step - 1 - group["t0"])
        if mu == 1:
            ax[...] = p
        else:
            ax += mu * (p - ax)
        eta[...] = xp.full_like(eta, lr / (1 + lambd * lr * step) ** group["alpha"])


class Adafactor(Optimizer):
    """Adam's second moment as an outer product of row and column means, so that a matrix needs a row and a column of
    state (Shazeer & Stern 2018).

    R ← (1 − t^b) R + t^b mean_cols(g²), C likewise over rows, V = R C / mean(R) (for vectors V is the average of g² itself),
    U = g / √max(V, ε₁²), p ← p − α U / max(1, rms(U) / d), with b = `beta2_decay` and α = max(ε₂, rms(p)) min(η, 1/√t).
    ε₁ = None means the type's machine epsilon.

    >>> import anynet as an
    >>> p = an.Parameter([[1.0, 2.0]])
    >>> optimizer = an.optim.Adafactor([p])
    >>> an.sum(p * p).backward()
    >>> optimizer.step()
    >>> {k: v.shape for k, v in optimizer.state_dict()["state"][0].items() if k != "step"}
    {'row_var': (1, 1), 'col_var': (1, 2), 'variance': (0,)}
    """

    shaped = True
    slots = ("row_var", "col_var", "variance")
    kinds: ClassVar = {
        "beta2_decay": real(high=0), "eps": each(optional(not_negative), not_negative), "d": real(1),
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "maximize": maximize,
        }, hints)  # fmt: skip

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
        rate = xp.maximum(_norm(xp, p) / size, least) * min(group["lr"], 1 / math.sqrt(step))
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
        p -= rate / xp.maximum(_norm(xp, u) / (size * group["d"]), 1.0) * u


class Muon(Optimizer):
    """Momentum whose update is brought to equal singular values (Jordan et al. 2024): for weight matrices only.

    B ← μ B + (1 − μ) g, U = μ B + (1 − μ) g (Nesterov) or B, O = U's nearest orthogonal matrix, in about, by `ns_steps`
    Newton-Schulz iterations X ← a X + (b A + c A²) X, A = X Xᵀ; p ← (1 − η λ) p − η' O. `adjust_lr_fn`: "original" (default),
    η' = η √max(1, rows/columns); "match_rms_adamw", η' = 0.2 η √max(rows, columns).

    The iteration runs in the parameter's own type (PyTorch's in bfloat16).

    >>> import anynet as an
    >>> p = an.Parameter([[3.0, 0.0], [0.0, 1.0]])
    >>> an.sum(p * p).backward()
    >>> an.optim.Muon([p], lr=0.1, weight_decay=0.0).step()
    >>> bool(an.all(p < an.asarray([[3.0, 1.0], [1.0, 1.0]])))
    True
    """

    shaped = True
    slots = ("momentum_buffer",)
    kinds: ClassVar = {
        "ns_coefficients": each(real(), real(), real()), "ns_steps": integer(0, 99),
        "adjust_lr_fn": choice(None, "original", "match_rms_adamw"),
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        })  # fmt: skip

    def check(self, group: dict[str, Any]) -> None:
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
        x = x / xp.maximum(_norm(xp, x), group["eps"])
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

    shaped = True
    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
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
        p -= group["lr"] * _trust(xp, p, u) * u


class LARS(Optimizer):
    """Momentum with a learning rate for each parameter (You et al. 2017): u = g + λ p, v ← μ v + η r u, p ← p − v, with
    r = `trust_coefficient` ‖p‖ / (‖u‖ + ε), or 1 where a norm is 0; Nesterov: p ← p − (η r u + μ v).

    >>> import anynet as an
    >>> p = an.Parameter([3.0, 4.0])
    >>> an.sum(p).backward()
    >>> an.optim.LARS([p], lr=1.0, trust_coefficient=0.1).step()
    >>> [round(v, 4) for v in p.tolist()]
    [2.6464, 3.6464]
    """

    shaped = True
    optional = ("momentum_buffer",)
    kinds: ClassVar = {"momentum": real(0, 1, below=True), "trust_coefficient": not_negative}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust_coefficient,
            "eps": eps, "nesterov": nesterov, "maximize": maximize,
        })  # fmt: skip

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("momentum_buffer",) if plain(group["momentum"]) else ()

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        if group["weight_decay"]:
            g += group["weight_decay"] * p
        g *= group["lr"] * _trust(xp, p, g, group["trust_coefficient"], group["eps"])
        if group["momentum"]:
            v = state["momentum_buffer"]
            v *= group["momentum"]
            v += g
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= g
