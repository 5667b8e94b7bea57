"""Losses as modules; the formulas stand in `anynet.nn.functional.losses`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.nn import functional as F
from anynet.nn.module import Module
from anynet.tensor import Buffer

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip


class _Loss(Module):
    _function: Callable[..., Any]

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            msg = f"{type(self).__name__}: reduction is 'mean', 'sum' or 'none', got {reduction!r}"
            raise ValueError(msg)
        self.reduction = reduction

    def _options(self) -> dict[str, Any]:
        return {"reduction": self.reduction}

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of `input` against `target`."""
        return type(self)._function(input, target, **self._options())


class MSELoss(_Loss):
    """(x − t)²."""

    _function = staticmethod(F.mse_loss)


class L1Loss(_Loss):
    """|x − t|."""

    _function = staticmethod(F.l1_loss)


class HuberLoss(_Loss):
    """½ d² where |d| ≤ δ, else δ (|d| − ½ δ)."""

    _function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "delta": self.delta}


class SmoothL1Loss(_Loss):
    """½ d²/β where |d| < β, else |d| − ½ β."""

    _function = staticmethod(F.smooth_l1_loss)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "beta": self.beta}


class _Weighted(_Loss):
    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weight": self.weight}


class CrossEntropyLoss(_Weighted):
    """−Σ_c q_c w_c ln softmax(x)_c; targets are class indices or probabilities."""

    _function = staticmethod(F.cross_entropy)

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def _options(self) -> dict[str, Any]:
        return {
            **super()._options(), "ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing,
        }  # fmt: skip


class NLLLoss(_Weighted):
    """−w_t x_t, for log-probabilities x."""

    _function = staticmethod(F.nll_loss)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "ignore_index": self.ignore_index}


class BCELoss(_Weighted):
    """−(t ln p + (1 − t) ln(1 − p)), for probabilities p."""

    _function = staticmethod(F.binary_cross_entropy)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross-entropy of σ(x), for logits x."""

    _function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction)
        self.pos_weight = None if pos_weight is None else Buffer(pos_weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "pos_weight": self.pos_weight}
