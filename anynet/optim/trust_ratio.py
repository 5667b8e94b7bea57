"""Norms of one parameter and its update, by which LARS, LAMB, Adafactor and Muon scale a step."""

from __future__ import annotations

from anynet_backends import Array, Backend

__all__ = ["frobenius_norm", "trust_ratio"]


def frobenius_norm(xp: Backend, x: Array) -> Array:
    """‖x‖ as a 0-d array."""
    return xp.sqrt(xp.sum(x * x))


def trust_ratio(xp: Backend, p: Array, u: Array, factor: float = 1.0, eps: float = 0.0) -> Array:
    """factor ‖p‖ / (‖u‖ + ε), or 1 where a norm is 0."""
    norm, size = frobenius_norm(xp, p), frobenius_norm(xp, u)
    some = xp.logical_and(norm > 0, size > 0)
    return xp.where(some, factor * norm / xp.where(some, size + eps, 1.0), 1.0)
