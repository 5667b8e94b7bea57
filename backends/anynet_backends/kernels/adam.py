"""The update of Adam as one loop."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit import availability, segment, translation
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.numpy_namespace import largest


def _calls(cells: Sequence[Array], decays: bool, decoupled: bool, *arrays: Any) -> list[tuple[Any, ...]]:
    """The calls (function, inputs …, output) of one update on p, g, m, v, the largest v and two temporaries."""
    a, d, first, second, most, t, u = arrays
    keep, decay, gain, stay, fresh, small, rate = cells
    calls: list[tuple[Any, ...]] = []
    if decays and decoupled:
        calls.append((np.multiply, a, keep, a))
    elif decays:
        calls += [(np.multiply, a, decay, u), (np.add, u, d, u)]
        d = u
    calls += [
        (np.subtract, d, first, t), (np.multiply, t, gain, t), (np.add, first, t, first),
        (np.multiply, second, stay, second), (np.multiply, d, d, t), (np.multiply, t, fresh, t),
        (np.add, second, t, second),
    ]  # fmt: skip
    if most is not None:
        calls.append((largest, most, second, most))
        second = most
    return [
        *calls, (np.sqrt, second, t), (np.add, t, small, t), (np.divide, first, t, t), (np.multiply, t, rate, t),
        (np.subtract, a, t, a),
    ]  # fmt: skip


def adam(
    p: Array, g: Array, m: Array, v: Array, top: Array | None
) -> Callable[[float, float, float, float, int, float, bool], None]:
    """Updates of `anynet.optim.Adam` in place; g is only read. The returned function makes one update, given the learning rate, β₁,
    β₂, ε, the number of the step, the weight decay and whether it is decoupled from the gradient.

    With c = √(1 − β₂ᵗ), (lr / (1 − β₁ᵗ)) m / (√v / c + ε) is computed as (lr c / (1 − β₁ᵗ)) m / (√v + c ε).
    """
    numbers = np.zeros(7, p.dtype)
    pack: Any = struct.Struct(f"7{p.dtype.char}").pack_into  # takes a third of the time of an assignment
    cells = [numbers[i : i + 1].reshape(()) for i in range(7)]
    fused: dict[tuple[bool, bool], list[segment.NativeSegment]] = {}

    def compiled(decays: bool, decoupled: bool) -> list[segment.NativeSegment]:
        t, u = np.empty(p.shape, p.dtype), np.empty(p.shape, p.dtype)
        calls = [(f, args) for f, *args in _calls(cells, decays, decoupled, p, g, m, v, top, t, u)]
        return translation.native_segments(calls, [a for a in (p, g, m, v, top) if a is not None])

    def update(
        lr: float, beta1: float, beta2: float, eps: float, step: int, decay: float, decoupled: bool
    ) -> None:
        root = math.sqrt(1 - beta2**step)
        pack(
            numbers,
            0,
            1 - lr * decay,
            decay,
            1 - beta1,
            beta2,
            1 - beta2,
            eps * root,
            lr * root / (1 - beta1**step),
        )
        how = decays, decoupled = decay != 0, decoupled
        if how not in fused:
            fused[how] = compiled(*how) if availability.available() else []
        if fused[how]:
            for segment in fused[how]:
                segment.run()
            return
        width = min(p.size, 2 * CACHE_BLOCK)  # blocks stay in the cache
        t, u = np.empty(width, p.dtype), np.empty(width if decays and not decoupled else 0, p.dtype)
        for start in range(0, p.size, max(width, 1)):
            s = slice(start, min(start + width, p.size))
            n = s.stop - start
            for f, *args in _calls(
                cells, *how, p[s], g[s], m[s], v[s], None if top is None else top[s], t[:n], u[:n]
            ):
                f(*args)

    return update


UPDATES: dict[str, Callable[..., Any]] = {"adam": adam}
"""Updates of optimizers, by name."""
