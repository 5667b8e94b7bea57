"""Dropout: masks from integer thresholds on counter-based random words, drawn again in the backward pass."""

from __future__ import annotations

import math
from typing import Any

from anynet import streams
from anynet.autograd.primitive import primitive
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = ["dropout"]


def _threshold(p: float) -> int:
    return min(int(p * 2**32), 2**32 - 1)


@primitive(name="dropout")
def _dropout(xp: Backend, x: Array, *, p: float, seed: int, step: int, mask_shape: tuple[int, ...]) -> Array:
    n = math.prod(mask_shape)
    bits = streams.mask_bits(xp, seed, step, n, xp.device_of(x))
    threshold = xp.asarray(_threshold(p), dtype=xp.uint32, device=bits.device)
    keep = xp.astype(xp.greater_equal(bits, threshold), x.dtype) * (1.0 / (1.0 - p))
    return x * xp.reshape(keep, mask_shape)


_dropout.vjp(
    x=lambda g, p, seed, step, mask_shape: _dropout(g, p=p, seed=seed, step=step, mask_shape=mask_shape)
)


@_dropout.kernel("cupy", vjp=True)
def _dropout_at_once(
    xp: Backend, x: Array, *, p: float, seed: int, step: int, mask_shape: tuple[int, ...], need: Any
) -> Any:
    """The mask is drawn where it is used."""

    def dropped(x: Array) -> Any:
        return xp.drop(x, mask_shape, (seed, streams.MASKS, step), _threshold(p), 1.0 / (1.0 - p))

    y = dropped(x)
    if y is None:
        return NotImplemented
    return y if need is None else (y, lambda g: (dropped(g),))


def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, *, mask_shape: tuple[int, ...] | None = None
) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al. 2014).

    The mask comes from integer thresholds on Philox words: the same seed gives the same bits on every backend. It is
    not stored: the backward pass draws it again. `mask_shape` broadcasts one mask over axes (whole channels, say).
    """
    if not 0.0 <= p <= 1.0:
        msg = f"dropout: p must be in [0, 1], got {p}"
        raise ValueError(msg)
    if not training or p == 0.0:
        return x  # type: ignore[return-value]
    if p == 1.0:
        return x * 0.0
    seed, step = streams.next_mask()
    return _dropout(x, p=float(p), seed=seed, step=step, mask_shape=mask_shape or tuple(x.shape))
