"""Basic indexing, which selects no element twice, and its transpose."""

from __future__ import annotations

from typing import Any

from anynet.autograd.primitive import adjoint, primitive
from anynet_backends import Array, Backend

__all__ = ["basic_getitem", "put"]


@primitive(name="getitem", view=True)
def basic_getitem(xp: Backend, x: Array, *, key: Any) -> Array:
    """x[key], the key in the standard's form: integers and slices for all axes (``...`` included), or one boolean mask."""
    return x[key]


@primitive
def put(xp: Backend, x: Array, *, key: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x at `key` (which names no place twice): the transpose of ``x[key]``."""
    out = xp.zeros(shape, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    out[key] = x
    return out


adjoint(basic_getitem, put)
basic_getitem.selects = "key"
