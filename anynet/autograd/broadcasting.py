"""The linear maps with which the engine fits a gradient to its input: broadcasting, its transpose, and casting."""

from __future__ import annotations

from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import adjoint, primitive
from anynet.autograd.rules import plain_cast, plain_sum_to
from anynet.dtypes import native
from anynet.tensor import unwrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["broadcast_to", "cast_to", "sum_to", "widened"]


@primitive(view=True)
def broadcast_to(xp: Backend, x: Array, *, shape: tuple[int, ...]) -> Array:
    return xp.broadcast_to(x, tuple(shape))


@primitive
def sum_to(xp: Backend, x: Array, *, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which `shape` would be broadcast to the shape of x."""
    return plain_sum_to(xp, x, tuple(shape))


adjoint(broadcast_to, sum_to)


@primitive
def cast_to(xp: Backend, x: Array, *, dtype: object) -> Array:
    """Convert to `dtype`; complex to real takes the real part."""
    return plain_cast(xp, x, native(xp, dtype))


cast_to.vjp(x=lambda g, x_dtype: cast_to(g, dtype=x_dtype))


def widened(x: Any) -> Any:
    """x, in float32 where it is shorter."""
    plain = unwrap(x)
    wide = dtypes.wide(backend_of(plain), plain.dtype)
    return x if plain.dtype == wide else cast_to(x, dtype=dtypes.of(wide))
