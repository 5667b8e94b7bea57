"""GELU: one loop of machine code, or NumPy's calls block by block."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability
from anynet_backends.jit.scan import call_now
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.memory.outputs import empty_output
from anynet_backends.numpy_namespace import largest

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS, traceable=True)
# ½ erfcx(t/√2) = Φ(−t) / e^{−t²/2} as a polynomial in u = 1/(1 + 0.3 t) without constant term, fitted for t in [0, 14] by
# Lawson's iteration to a relative error of 1.5e-7
_TAIL = (
    0.11962929864998229, 0.12075395891743321, 0.09991347331643216, 0.12856169131572207, -0.053683772140125326,
    0.20635365225153549, -0.15720317201951392, 0.03567479683629934,
)  # fmt: skip


_SLOPE: Final = 1 / math.sqrt(2 * math.pi)


@_kernel
def gelu(xp: Backend, x: Array, /, *, need: Any) -> Any:
    """x Φ(x) = max(x, 0) − |x| Φ(−|x|); its derivative Φ(x) + x φ(x) is computed along with it."""
    if x.dtype != np.float32:
        return NotImplemented
    traced = not xp.eager and availability.available()
    if need is None:
        return _traced(xp, x)[0] if traced else xp.call(_value, x)
    y, slope = _traced(xp, x) if traced else xp.call(_value_and_slope, x)
    return y, lambda g: (g * slope,)


def _traced(xp: Backend, x: Array) -> tuple[Array, Array]:
    """The operations of `_gelu` and `_gelu_and_slope`, in their order, so that the bits are the same."""
    t = xp.abs(x)
    e = xp.exp(t * t * -0.5)
    u = xp.reciprocal(t * 0.3 + 1.0)
    q = u * _TAIL[-1]
    for c in _TAIL[-2::-1]:
        q = (q + c) * u
    q = q * e
    y = xp.maximum(x, 0.0) - t * q
    return y, xp.copysign(e * _SLOPE * t - q + 0.5, x) + 0.5


def _value(x: Array) -> Array:
    return _in_blocks(x, 1)[0]


def _value_and_slope(x: Array) -> tuple[Array, ...]:
    return _in_blocks(x, 2)


def _in_blocks(x: Array, results: int) -> tuple[Array, ...]:
    """The value, or value and slope, computed in blocks that stay in the cache."""
    flat = x.reshape(-1)
    made = tuple(empty_output(x.shape, np.float32) for _ in range(results))
    arrays = (flat, *(a.reshape(-1) for a in made))
    width = min(flat.size, CACHE_BLOCK)
    room = [np.empty(width, np.float32) for _ in range(4)]
    body = _gelu if results == 1 else _gelu_and_slope
    for start in range(0, flat.size, max(width, 1)):
        parts = [a[start : start + width] for a in arrays]
        body(call_now, *parts, *(a[: parts[0].size] for a in room))
    return made


def _gelu(call: Any, a: Array, b: Array, t: Array, e: Array, u: Array, q: Array) -> None:
    """b = max(a, 0) − |a| Φ(−|a|), and the values that its derivative needs: t = |a|, e = e^{−a²/2}, q = Φ(−|a|)."""
    call(np.abs, a, t)
    call(np.multiply, t, t, e)
    call(np.multiply, e, -0.5, e)
    call(np.exp, e, e)
    call(np.multiply, t, 0.3, u)
    call(np.add, u, 1.0, u)
    call(np.reciprocal, u, u)
    call(np.multiply, u, _TAIL[-1], q)
    for c in _TAIL[-2::-1]:
        call(np.add, q, c, q)
        call(np.multiply, q, u, q)
    call(np.multiply, q, e, q)
    call(np.multiply, t, q, u)
    call(largest, a, 0.0, b)
    call(np.subtract, b, u, b)


def _gelu_and_slope(call: Any, a: Array, b: Array, d: Array, t: Array, e: Array, u: Array, q: Array) -> None:
    """The same, and d = ½ + sgn(a) (½ − Φ(−|a|) + |a| φ(a))."""
    _gelu(call, a, b, t, e, u, q)
    call(np.multiply, e, _SLOPE, e)
    call(np.multiply, e, t, e)
    call(np.subtract, e, q, e)
    call(np.add, e, 0.5, e)
    call(np.copysign, e, a, e)
    call(np.add, e, 0.5, d)
