"""Update rules that PyTorch lacks, element by element. p parameters, g gradient, η learning rate, λ weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from anynet.optim.groups import below_one, each, flag, integer, plain, real
from anynet.optim.methods import Moments
from anynet_backends import Array, Backend

__all__ = ["AdaBound", "Lion", "ScheduleFreeAdamW"]


class Lion(Moments):
    """The sign of a momentum (Chen et al. 2023): p ← p − η (sign(β₁ m + (1 − β₁) g) + λ p), m ← β₂ m + (1 − β₂) g.

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
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        change = xp.sign(beta1 * m + (1 - beta1) * g)
        if group["weight_decay"]:
            change = change + group["weight_decay"] * p
        p -= group["lr"] * change
        m *= beta2
        m += (1 - beta2) * g


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
        params: Iterable[Any],
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


class ScheduleFreeAdamW(Moments):
    """AdamW that needs no schedule: an average of its iterates takes the place of a falling rate (Defazio et al. 2024).

    With z the base sequence, x its weighted mean and y = (1 − β₁) z + β₁ x, where gradients are taken:
    z ← z − η (g / (√(v/(1 − β₂ᵗ)) + ε) + λ y), x ← (1 − c) x + c z, c = w_t / Σ w, w_t = tʳ η_max^`weight_lr_power`.

    The parameters hold y while training; call `eval()` before evaluation or saving, which sets them to x, and `train()`
    before going on.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> optimizer = an.optim.ScheduleFreeAdamW([p], lr=0.1)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     (p * p).backward()
    ...     optimizer.step()
    >>> optimizer.eval()
    >>> abs(p[0].item()) < 0.1
    True
    """

    slots = ("z", "exp_avg_sq")
    kinds: ClassVar = {
        "betas": each(real(0, 1, below=True, above=True), below_one), "warmup_steps": integer(0), "r": real(),
        "weight_lr_power": real(), "train_mode": flag,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "warmup_steps": warmup_steps, "r": r,
            "weight_lr_power": weight_lr_power, "maximize": maximize, "k": 0, "lr_max": 0.0, "weight_sum": 0.0,
            "scheduled_lr": 0.0, "ckp1": 0.0, "train_mode": True,
        })  # fmt: skip

    def begin(self, flat: Any, group: dict[str, Any]) -> None:
        """z begins at the parameters."""
        flat.state["z"][...] = flat.moved(flat.values)

    def prepare(self, group: dict[str, Any]) -> None:
        """The weight of this step's z in the mean."""
        if not group["train_mode"]:
            msg = "ScheduleFreeAdamW: step() after eval(); call train() first"
            raise RuntimeError(msg)
        k = group["k"]
        warm = group["warmup_steps"]
        lr = plain(group["lr"]) * ((k + 1) / warm if k < warm else 1.0)
        most = max(lr, group["lr_max"])
        weight = (k + 1) ** group["r"] * most ** group["weight_lr_power"]
        total = group["weight_sum"] + weight
        dict.update(  # what the optimizer counts is no option: nothing is to be checked
            group,
            scheduled_lr=lr,
            lr_max=most,
            weight_sum=total,
            ckp1=weight / total if total else 0.0,
            k=k + 1,
        )

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        z, v = state["z"], state["exp_avg_sq"]
        v *= beta2
        v += (1 - beta2) * g * g
        g = g / (xp.sqrt(v / (1 - beta2 ** group["k"])) + group["eps"])
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        lr, c = group["scheduled_lr"], group["ckp1"]
        p += c * (z - p)
        p += lr * (beta1 * (1 - c) - 1) * g
        z -= lr * g

    def eval(self) -> None:
        """Set the parameters to the mean x."""
        self._move(False)

    def train(self) -> None:
        """Set the parameters back to y, where gradients are taken."""
        self._move(True)

    def _move(self, train: bool) -> None:
        self._settle()
        for group in self._groups():
            if group["train_mode"] is train:
                continue
            beta1 = group["betas"][0]
            share = (1 - beta1) if train else 1 - 1 / beta1
            for flat in group.flats:
                flat.ready()
                values = flat.values if flat.wide is None else flat.xp.astype(flat.values, flat.wide)
                values = values + share * (flat.state["z"] - values)
                flat.values[...] = values if flat.wide is None else flat.xp.astype(values, flat.dtype)
                flat.touch()
            dict.__setitem__(group, "train_mode", train)
