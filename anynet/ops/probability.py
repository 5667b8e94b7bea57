"""What distributions compute of probabilities."""

from __future__ import annotations

import math
from typing import Any

from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet_backends import Array, Backend

__all__ = ["log_probability"]


@primitive
def log_probability(xp: Backend, p: Array, /) -> Array:
    """ln p, and −∞ of 0, without a warning; there the gradient is 0."""
    none = p == 0
    return xp.where(none, xp.full_like(p, -math.inf), xp.log(xp.where(none, xp.ones_like(p), p)))


def _rule(g: Any, p: Any) -> Any:
    none = e.equal(p, 0.0)
    return e.where(none, 0.0, g / e.where(none, 1.0, p))


log_probability.elementwise = True
log_probability.vjp(p=_rule)
