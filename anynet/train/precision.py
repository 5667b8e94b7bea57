"""Mixed precision in training: the choices of `fit`, and the scale of the loss. What is rounded: `anynet.ops.precision`."""

from __future__ import annotations

import math
from typing import Any

from anynet.ops.creation import zeros
from anynet.ops.precision import ROUNDED, SHORT
from anynet.train.checks import choice
from anynet_backends import resolve
from anynet_backends.backend import ScaleRule

__all__ = ["PRECISIONS", "LossScale", "check_precision", "said", "stored"]

PRECISIONS = ("float32", "float64", *SHORT)
_BEFORE = {"bfloat16": "mixed-bf16", "float16": "mixed-fp16", "bf16": "mixed-bf16", "fp16": "mixed-fp16"}
_PLAIN = {
    "linear": "linear layers",
    "matmul": "matrix products",
    "conv": "convolutions",
    "attention": "attention",
}


def check_precision(name: Any) -> str | None:
    """The choice of `fit`; ValueError for another word, which names the one that is meant."""
    if isinstance(name, str) and name in _BEFORE:
        msg = f"fit: precision must be one of {', '.join(map(repr, PRECISIONS))}, got {name!r}; write {_BEFORE[name]!r}"
        raise ValueError(msg)
    return choice("fit", "precision", name, (None, *PRECISIONS))  # type: ignore[no-any-return]


def stored(name: str, device: str) -> str:
    """The dtype of the parameters; ValueError where a device has not what the precision needs."""
    kept = "float64" if name == "float64" else "float32"
    try:
        made = zeros(1, dtype=kept, device=device)
        if name in SHORT:
            xp = resolve(device)[0]
            xp.rounded(made.data, SHORT[name])
    except (TypeError, ValueError, NotImplementedError) as error:
        xp = resolve(device)[0]
        msg = f"fit: precision={name!r} needs a device that has it, {device} ({xp.name}) has not: {error}"
        raise ValueError(msg) from None
    return kept


def said(name: str | None, device: str) -> dict[str, Any] | None:
    """What is computed how, for the record of a run and the first line of a training; None where all is as the model is."""
    if name not in SHORT:
        return None
    kind, xp = SHORT[name], resolve(device)[0]
    own = kind in xp.short_products
    what = ", ".join(words for prim, words in _PLAIN.items() if prim in ROUNDED)
    if own:
        how = f"computed in {kind}"
    elif kind in xp.computing_formats:
        library = xp.blas_info()["name"]
        how = (
            f"operands rounded to {kind}, in which {library} may compute linear layers, and the forward pass of other products; the rest "
            "in float32"
        )
    else:
        how = f"operands rounded to {kind}, computed in float32: its numbers, not its speed"
    return {
        "name": name, "format": kind, "products": list(ROUNDED), "parameters": "float32",
        "emulated": not own and kind not in xp.computing_formats, "loss_scale": "dynamic" if name == "mixed-fp16" else None,
        "words": f"precision {name}: {what} {how}; everything else in float32",
    }  # fmt: skip


class LossScale:
    """What the loss is multiplied with before the backward pass, so that small gradients are not 0 in float16.

    An update whose gradients are not finite is left out, and the scale is multiplied with `backoff`; `interval` updates in a row without
    such multiply it with `growth`, as long as it stays finite in float32 (Micikevicius et al.: Mixed precision training, 2018). The rules
    are those of PyTorch's GradScaler.
    """

    def __init__(
        self, value: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
    ) -> None:
        for name, number, fine in (
            ("value", value, 0 < value < math.inf), ("growth", growth, 1 < growth < math.inf),
            ("backoff", backoff, 0 < backoff < 1), ("interval", interval, interval >= 1),
        ):  # fmt: skip
            if not fine:
                wanted = {
                    "value": "above 0",
                    "growth": "above 1",
                    "backoff": "between 0 and 1",
                    "interval": "at least 1",
                }[name]
                msg = f"LossScale: {name} must be a number {wanted}, got {number}"
                raise ValueError(msg)
        self.value, self.growth, self.backoff, self.interval, self.good = (
            float(value),
            growth,
            backoff,
            interval,
            0,
        )

    @property
    def rule(self) -> ScaleRule:
        """How it changes, for a device on which it does."""
        return ScaleRule(float(self.growth), float(self.backoff), int(self.interval), _LARGEST)

    def update(self, finite: bool) -> None:
        """After the gradients of an update have been looked at."""
        if not finite:
            self.value, self.good = self.value * self.backoff, 0
            return
        self.good += 1
        if self.good >= self.interval:
            grown = self.value * self.growth
            self.value, self.good = grown if grown <= _LARGEST else self.value, 0

    @property
    def exhausted(self) -> bool:
        """Whether a smaller scale would lose the gradients: then they are not finite for another reason."""
        return self.value < 1.0

    def state_dict(self) -> dict[str, float]:
        """The scale and the updates since it changed."""
        return {"value": self.value, "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        value, good = float(state["value"]), int(state["good"])
        if not (math.isfinite(value) and value > 0):
            msg = f"the loss scale must be a finite number above 0, got {value}"
            raise ValueError(msg)
        self.value, self.good = value, good


_LARGEST = (2.0 - 2.0**-23) * 2.0**127
"""Of float32, in which the loss is scaled."""
