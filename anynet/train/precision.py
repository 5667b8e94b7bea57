"""Mixed precision: products in 16 bits, everything else in float32.

Within `autocast` matrix products, linear layers, convolutions and attention round their float32 arguments to 16 bits, and their result is
float32 again. Parameters, optimizer, normalization, softmax and losses stay in float32, and so do the gradients of parameters. Gradients
that flow back through a product are rounded as its arguments are; in float16 the small ones would be 0, which `LossScale` prevents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet import dtypes
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import Primitive
from anynet.ops.creation import zeros
from anynet.ops.manipulation import astype
from anynet.tensor import Tensor
from anynet_backends import resolve

__all__ = ["PRECISIONS", "LossScale", "autocast", "check_precision"]

PRECISIONS = ("float32", "float64", "bfloat16", "float16")
_IN_16_BITS = frozenset(("linear", "matmul", "conv", "conv_transpose", "attention"))


def check_precision(name: str, device: str) -> None:
    """Refuse a type that the backend of a device has not."""
    try:
        zeros(1, dtype=name, device=device)
    except (TypeError, ValueError) as error:
        msg = f"fit: precision={name!r} needs a device whose backend has it, {device} ({resolve(device)[0].name}) has not: {error}"
        raise ValueError(msg) from None


@contextmanager
def autocast(name: str) -> Iterator[None]:
    """Within the block products of float32 arrays are computed in ``"bfloat16"`` or ``"float16"``."""
    below = INTERCEPT.own[-1] if INTERCEPT and INTERCEPT.own else Primitive.bind

    def handle(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if prim.name not in _IN_16_BITS or not all(
            x is None or (isinstance(x, Tensor) and x.dtype is dtypes.float32) for x in args
        ):
            return below(prim, args, meta)
        low = tuple(x if x is None else astype(x, name) for x in args)
        return astype(below(prim, low, meta), dtypes.float32)

    INTERCEPT.append(handle)
    try:
        yield
    finally:
        INTERCEPT.remove(handle)


class LossScale:
    """What the loss is multiplied with before the backward pass, so that small gradients are not 0 in float16: a power of two.

    Gradients that are not finite halve it, and the update is left out; `patience` updates without such double it
    (Micikevicius et al.: Mixed precision training, 2018).
    """

    def __init__(self, value: float = 2.0**16, patience: int = 2000) -> None:
        self.value, self.patience, self.good = value, patience, 0

    def update(self, finite: bool) -> None:
        """After the gradients of a batch have been looked at."""
        if not finite:
            self.value, self.good = self.value / 2.0, 0
            return
        self.good += 1
        if self.good == self.patience:
            self.value, self.good = min(self.value * 2.0, 2.0**24), 0

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
