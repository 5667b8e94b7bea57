"""Rates scaled by the mean or sum of squared gradients: Adagrad, RMSprop, Adadelta, Adafactor.

p parameters, g gradient, η learning rate, λ weight decay.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

from anynet.optim.flat_group import FlatGroup, Shape
from anynet.optim.groups import Hints, ParamsLike, each, not_negative, optional, plain, real
from anynet.optim.optimizer import Optimizer
from anynet.optim.trust_ratio import frobenius_norm
from anynet_backends import Array, Backend

__all__ = ["Adadelta", "Adafactor", "Adagrad", "RMSprop"]


class Adagrad(Optimizer):
    """s ← s + g², p ← p − η_t g / (√s + ε), η_t = η / (1 + (t − 1) lr_decay) (Duchi et al. 2011).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> (p * p).backward()
    >>> an.optim.Adagrad([p], lr=0.1).step()
    >>> round(p[0].item(), 4)
    0.9
    """

    elementwise = True
    slots = ("sum",)
    settled = ("initial_accumulator_value",)

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
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize, "l1": l1,
        }, hints)  # fmt: skip

    def init_state(self, flat: FlatGroup, group: dict[str, Any]) -> None:
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

    elementwise = True
    slots = ("square_avg",)
    optional = ("momentum_buffer", "grad_avg")
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


class Adadelta(Optimizer):
    """s ← ρ s + (1 − ρ) g²,  Δ = √(d + ε) / √(s + ε) · g,  d ← ρ d + (1 − ρ) Δ²,  p ← p − η Δ (Zeiler 2012).

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> an.optim.Adadelta([p]).defaults["rho"]
    0.9
    """

    elementwise = True
    slots = ("square_avg", "acc_delta")
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
