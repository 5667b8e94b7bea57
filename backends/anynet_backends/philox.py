"""Counter-based random numbers: the same bits on every backend, addressed by (key, stream, step).

`philox_words` is NumPy's generator in C; `philox4x64` computes the same words with the array operations of any backend.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends.concurrency import once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anynet_backends.array_api import Array
    from anynet_backends.backend import Backend

__all__ = [
    "check_words",
    "generator",
    "normal",
    "permutation",
    "philox4x64",
    "philox_words",
    "uniform",
    "uniform_rows",
    "words64",
]

_U64: Final = (1 << 64) - 1
_KEYS: Final = (1 << 128) - 1
_LITTLE: Final = sys.byteorder == "little"


class _Words:
    """A Philox generator that is begun at one address after the other: setting its state costs a tenth of making a new one."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(0)
        # lists: their numbers are read in half the time of an array's
        self.key, self.counter = [0, 0], [0, 0, 0, 0]
        # nothing buffered: the next word starts a new block
        self.state: Any = self.generator.state | {"buffer": [0, 0, 0, 0], "buffer_pos": 4, "has_uint32": 0}
        self.state["state"] = {"counter": self.counter, "key": self.key}
        self.methods = np.random.Generator(self.generator)


class _Local(threading.local):
    """One generator per thread."""

    def __init__(self) -> None:
        self.words = _Words()


@once
def _local() -> _Local:
    return _Local()


def _at(key: int, stream: int, step: int) -> _Words:
    """This thread's generator at the beginning of the block that (key, stream, step) addresses."""
    own = _local().words
    own.key[0], own.key[1] = key & _U64, key >> 64
    own.counter[1], own.counter[2] = step, stream
    own.generator.state = own.state
    return own


def words64(key: int, stream: int, step: int, n: int, first: int = 0) -> Any:
    """`n` 64-bit words at (key, stream, step), from that numbered `first` on; `first` must be a multiple of 4."""
    check_words(key, stream, step, first + n)
    generator = _at(key, stream, step).generator
    return (generator.advance(first // 4) if first else generator).random_raw(n)


def philox_words(key: int, stream: int, step: int, n: int) -> Array:
    """The first `n` uint32 words at (key, stream, step): see `Backend.random_bits`.

    >>> philox_words(0, 0, 0, 2)
    array([149215387,  49592932], dtype=uint32)
    """
    check_words(key, stream, step, n)
    words = _at(key, stream, step).generator.random_raw((n + 1) // 2)
    if not _LITTLE:
        words = words.astype("<u8").view("<u4").astype(np.uint32)
    return words.view(np.uint32)[:n]


def permutation(key: int, stream: int, step: int, n: int) -> Array:
    """A random order of 0 … n − 1 (int64): the stable argsort of `n` random 64-bit words."""
    return np.argsort(words64(key, stream, step, n), kind="stable").astype(np.int64, copy=False)


_BLOCK: Final = 1 << 15
"""Numbers that are drawn at a time, so that a large array needs no other beside it."""


def uniform(
    key: int,
    stream: int,
    step: int,
    shape: tuple[int, ...],
    low: float = 0.0,
    high: float = 1.0,
    *,
    first: int = 0,
) -> Array:
    """float64 draws, uniform on [low, high): multiples of 2⁻⁵³, exact, scaled. `first`: of the word that the first is made of."""
    check_words(key, stream, step, first + math.prod(shape))
    own = _at(key, stream, step)
    if first:
        own.generator.advance(first // 4)
    unit = own.methods.random(shape)  # the upper 53 bits of a word each
    if low != 0.0 or high != 1.0:
        unit *= high - low
        unit += low
    return unit


def uniform_rows(key: int, stream: int, steps: Sequence[int], n: int) -> Array:
    """float64 draws (len(steps), n): row i is ``uniform(key, stream, steps[i], (n,))``."""
    made = np.empty((len(steps), n))
    for row, step in zip(made, steps, strict=True):
        check_words(key, stream, step, n)
        _at(key, stream, step).methods.random(out=row)
    return made


def normal(
    key: int,
    stream: int,
    step: int,
    shape: tuple[int, ...],
    mean: float = 0.0,
    std: float = 1.0,
    out: Array | None = None,
) -> Array:
    """Draws from the normal distribution, by NumPy's ziggurat method over the Philox words: in float64, which are rounded where `out`,
    an array of this shape in C order, is to hold them."""
    n = math.prod(shape)
    check_words(key, stream, step, n)
    draw = _at(key, stream, step).methods
    if out is None and n <= _BLOCK:
        return _scaled(draw.standard_normal(shape), mean, std)
    made = np.empty(shape) if out is None else out
    flat = made.reshape(-1)
    block = np.empty(min(n, _BLOCK))
    for first in range(0, n, _BLOCK):
        part = block[: min(_BLOCK, n - first)]
        draw.standard_normal(out=part)
        flat[first : first + len(part)] = _scaled(part, mean, std)
    return made


def _scaled(drawn: Array, mean: float, std: float) -> Array:
    """mean + std · drawn, in its place."""
    if std != 1.0 or mean != 0.0:
        drawn *= std
        drawn += mean
    return drawn


def generator(key: int, stream: int, step: int) -> np.random.Generator:
    """NumPy's methods over the words at (key, stream, step); to be used before the next call of this thread."""
    check_words(key, stream, step, 0)
    return _at(key, stream, step).methods


def check_words(key: int, stream: int, step: int, n: int) -> None:
    """ValueError where an address of `Backend.random_bits` is out of range."""
    if 0 <= key <= _KEYS and 0 <= stream <= _U64 and 0 <= step <= _U64 and 0 <= n <= 1 << 62:
        return
    limits: Mapping[str, tuple[int, int]] = {
        "key": (key, _KEYS), "stream": (stream, _U64), "step": (step, _U64), "n": (n, 1 << 62),
    }  # fmt: skip
    for name, (value, limit) in limits.items():
        if not 0 <= value <= limit:
            msg = f"random_bits: {name} must be between 0 and {limit}, got {value}"
            raise ValueError(msg)


def philox4x64(xp: Backend, key: int, stream: int, step: int, n: int, device: str) -> Array:
    """The words of `Backend.random_bits` from array operations alone, for backends that have uint64
    arithmetic.

    Ten rounds of (c₀, c₁, c₂, c₃) → (hi(M₁c₂) ⊕ c₁ ⊕ k₀, lo(M₁c₂), hi(M₀c₀) ⊕ c₃ ⊕ k₁, lo(M₀c₀)).

    Slower than a generator in C by an order of magnitude: it is the reference for kernels, and runs on any
    device.

        >>> from anynet_backends import resolve
        >>> xp, device = resolve("cpu")
        >>> bool(xp.all(philox4x64(xp, 7, 1, 2, 9, device) == xp.random_bits(7, 1, 2, 9, device)))
        True
    """
    check_words(key, stream, step, n)
    where = xp.native_device(device)
    u64 = xp.uint64
    low32 = 0xFFFFFFFF
    blocks = -(-n // 8)
    k0, k1 = key & _U64, key >> 64
    ones = xp.ones((blocks,), dtype=u64, device=where)
    # NumPy's generator counts up before its first block; the counter cannot pass 2⁶⁴ since n < 2⁶²
    c0 = xp.arange(1, blocks + 1, dtype=u64, device=where)
    c1, c2, c3 = ones * step, ones * stream, ones * 0

    def product(a: Array, b: int) -> tuple[Array, Array]:
        """(high, low) words of the 128-bit product, by halves."""
        a_lo, a_hi = xp.bitwise_and(a, low32), xp.bitwise_right_shift(a, 32)
        b_lo, b_hi = b & low32, b >> 32
        low = a_lo * b_lo
        mid = a_hi * b_lo + xp.bitwise_right_shift(low, 32)
        mid2 = a_lo * b_hi + xp.bitwise_and(mid, low32)
        high = a_hi * b_hi + xp.bitwise_right_shift(mid, 32) + xp.bitwise_right_shift(mid2, 32)
        return high, a * b

    for _ in range(10):
        h0, l0 = product(c0, 0xD2E7470EE14C6C93)
        h1, l1 = product(c2, 0xCA5A826395121157)
        c0 = xp.bitwise_xor(xp.bitwise_xor(h1, c1), k0)
        c2 = xp.bitwise_xor(xp.bitwise_xor(h0, c3), k1)
        c1, c3 = l1, l0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & _U64, (k1 + 0xBB67AE8584CAA73B) & _U64
    halves = [
        half for c in (c0, c1, c2, c3) for half in (xp.bitwise_and(c, low32), xp.bitwise_right_shift(c, 32))
    ]
    return xp.astype(xp.reshape(xp.stack(halves, axis=1), (blocks * 8,)), xp.uint32)[:n]
