"""AdamW with an average of its iterates in place of a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from anynet.equations.registry import OPTIMIZER_SYMBOLS, equation
from anynet.optim.adam import Moments
from anynet.optim.flat_group import FlatGroup
from anynet.optim.groups import ParamsLike, below_one, each, flag, integer, optional, options_of, plain, real
from anynet_backends import Array, Backend

__all__ = ["ScheduleFreeAdamW"]


_beta1 = real(0, 1, below=True, above=True)


@equation(
    "y[0] = p_start",
    "z[0] = p_start",
    "x[0] = p_start",
    "v[0] = 0",
    "M[0] = 0",
    "W[0] = 0",
    "g[t] = -G[t] if maximize else G[t]",
    "h[t] = η * t / K if t <= K else η",
    "M[t] = max(M[t - 1], h[t])",
    "w[t] = t**r * M[t]**ω",
    "W[t] = W[t - 1] + w[t]",
    "c[t] = w[t] / W[t]",
    "v[t] = β2 * v[t - 1] + (1 - β2) * g[t]**2",
    "d[t] = g[t] / (sqrt(v[t] / (1 - β2**t)) + ε) + λ * y[t - 1]",
    "z[t] = z[t - 1] - h[t] * d[t]",
    "x[t] = (1 - c[t]) * x[t - 1] + c[t] * z[t]",
    "y[t] = (1 - β1) * z[t] + β1 * x[t]",
    where="""
        K = warmup_steps
        r
        ω = weight_lr_power
    """,
    shared=OPTIMIZER_SYMBOLS,
)
class ScheduleFreeAdamW(Moments):
    """AdamW that needs no schedule: an average of its iterates takes the place of a falling rate (Defazio et al. 2024).

    z is the base sequence, x its weighted mean, and y, between them, where gradients are taken. The parameters hold y
    while training; call `eval()` before evaluation or saving, which sets them to x, and `train()` before going on.
    Where β₁ is changed in a group, y is computed from the same z and x with the new β₁ before the next update.

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
    new_options = ("y_beta1",)
    kinds: ClassVar = {
        "betas": each(_beta1, below_one), "warmup_steps": integer(0), "r": real(),
        "weight_lr_power": real(), "train_mode": flag, "y_beta1": optional(_beta1),
    }  # fmt: skip

    def __init__(
        self,
        params: ParamsLike,
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
            **options_of(locals()),
            "k": 0, "lr_max": 0.0, "weight_sum": 0.0, "scheduled_lr": 0.0, "ckp1": 0.0, "train_mode": True, "y_beta1": None,
        })  # fmt: skip

    def init_state(self, flat: FlatGroup, group: dict[str, Any]) -> None:
        """z begins at the parameters."""
        flat.state["z"][...] = flat.moved(flat.values)

    def prepare(self, group: dict[str, Any]) -> None:
        """The weight of this step's z in the mean."""
        if not group["train_mode"]:
            msg = "ScheduleFreeAdamW: step() after eval(); call train() first"
            raise RuntimeError(msg)
        beta1 = group["betas"][0]
        held = group["y_beta1"]
        if held != beta1 and held is not None:
            self._shift(group, 1 - beta1 / held)
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
            y_beta1=beta1,
        )

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        lr, share = group["scheduled_lr"], group["ckp1"]
        c = {
            "beta2": beta2, "fresh": 1 - beta2, "correction": 1 - beta2 ** group["k"], "eps": group["eps"],
            "share": share, "step": lr * (beta1 * (1 - share) - 1), "lr": lr,
        }  # fmt: skip
        if group["weight_decay"]:
            c["decay"] = group["weight_decay"]
        return c

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        z, v = state["z"], state["exp_avg_sq"]
        v *= c["beta2"]
        v += c["fresh"] * g * g
        change = g / (xp.sqrt(v / c["correction"]) + c["eps"])
        if "decay" in c:
            change = change + c["decay"] * p
        p += c["share"] * (z - p)
        p += c["step"] * change
        z -= c["lr"] * change

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
            beta1 = group["betas"][0] if train else _held_beta1(group)
            self._shift(group, (1 - beta1) if train else 1 - 1 / beta1)
            dict.update(group, train_mode=train, y_beta1=beta1)

    @staticmethod
    def _shift(group: Any, share: float) -> None:
        """Move the parameters towards z by a share of their distance: between x, y, and y with another β₁."""
        for flat in group.flats:
            flat.ready()
            values = flat.widened(flat.values)
            flat.assign(values + share * (flat.state["z"] - values))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`; everything is checked before anything changes."""
        saved = state.get("param_groups") if isinstance(state, dict) else None
        # states of earlier versions lack y_beta1: their y was that of the β₁ they hold
        if isinstance(saved, list) and all(isinstance(g, dict) for g in saved):
            state = {**state, "param_groups": [{"y_beta1": None, **g} for g in saved]}
        super().load_state_dict(state)


def _held_beta1(group: Mapping[str, Any]) -> float:
    """The β₁ of the y that the parameters hold."""
    held: float | None = group["y_beta1"]
    return group["betas"][0] if held is None else held
