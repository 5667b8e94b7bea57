"""GELU, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit import availability
from anynet_backends.jit.scan import bind_scan, call_now, scan
from anynet_backends.kernel_table import KernelTable, lowers, register_in
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.memory.outputs import empty_output
from anynet_backends.numpy_namespace import largest

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
# ½ erfcx(t/√2) = Φ(−t) / e^{−t²/2} as a polynomial in u = 1/(1 + 0.3 t) without constant term, fitted for t in [0, 14] by
# Lawson's iteration to a relative error of 1.5e-7
_TAIL = (
    0.11962929864998229, 0.12075395891743321, 0.09991347331643216, 0.12856169131572207, -0.053683772140125326,
    0.20635365225153549, -0.15720317201951392, 0.03567479683629934,
)  # fmt: skip


@_kernel
def gelu(xp: Backend, x: Array, /, *, need: Any) -> Any:
    """x Φ(x) = max(x, 0) − |x| Φ(−|x|), in blocks; its derivative Φ(x) + x φ(x) is computed along with it."""
    if x.dtype != np.float32:
        return NotImplemented
    flat = x.reshape(-1)
    n = flat.size
    y = empty_output(x.shape, np.float32)
    slope = None if need is None else np.empty(n, np.float32)
    out = y.reshape(-1)
    body, arrays = (_gelu, (flat, out)) if slope is None else (_gelu_and_slope, (flat, out, slope))
    places, order, room = _in_blocks(arrays)
    scan(body, places, order, (), room, apart=True)
    if order.stop < n:
        body(call_now, *places(order.stop), *(a[: n - order.stop] for a in room))
    if slope is None:
        return y
    d = slope.reshape(x.shape)
    return y, lambda g: (np.multiply(g, d, out=empty_output(x.shape, np.float32)),)


def _in_blocks(
    arrays: Sequence[Array],
) -> tuple[Callable[[int], tuple[Array, ...]], range, tuple[Array, ...]]:
    """Blocks of vectors that stay in the cache: a function from a block's begin to its slices, the begins of all blocks but a shorter
    last one, and four temporaries."""
    n = arrays[0].size
    width = min(n, max(n // 4, 1), CACHE_BLOCK // 4) if availability.available() else min(n, CACHE_BLOCK)
    room = tuple(np.empty(width, np.float32) for _ in range(4))

    def places(start: int) -> tuple[Array, ...]:
        return tuple([a[start : start + width] for a in arrays])

    return places, range(0, n - n % width if n else 0, max(width, 1)), room


@lowers(KERNELS, "gelu")
def _gelu_calls(target: Array, x: Array, /) -> list[Any] | None:
    """The calls that write GELU into `target`, for a compiled program, whose arrays have fixed addresses."""
    plain = x.dtype == np.float32 == target.dtype and x.flags.c_contiguous and target.flags.c_contiguous
    if not plain or not availability.available():
        return None
    places, order, room = _in_blocks((x.reshape(-1), target.reshape(-1)))
    blocks = bind_scan(_gelu, places, order, (), room, apart=True) if len(order) > 2 else None
    if blocks is None:
        return None
    calls: list[Any] = [(blocks, ())]
    if order.stop < x.size:
        last = (*places(order.stop), *(a[: x.size - order.stop] for a in room))
        calls.append((_gelu, (call_now, *last)))
    return calls


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
    call(np.multiply, e, 1 / math.sqrt(2 * math.pi), e)
    call(np.multiply, e, t, e)
    call(np.subtract, e, q, e)
    call(np.add, e, 0.5, e)
    call(np.copysign, e, a, e)
    call(np.add, e, 0.5, d)
