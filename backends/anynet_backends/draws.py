"""Draws from distributions on the host, made of Philox words: functions of an address (key, stream, step) and of their arguments.

They are computed by NumPy in float64 whatever the backend, so all backends draw the same; what is drawn by weights depends on the
weights' own last bits.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends import philox

if TYPE_CHECKING:
    from anynet_backends.array_api import Array

__all__ = [
    "below", "bernoulli", "binomial", "by_weight", "by_weight_once", "integers", "log_gamma", "log_weights", "poisson", "uniform",
    "von_mises",
]  # fmt: skip

Address = tuple[int, int, int]


def uniform(at: Address, shape: tuple[int, ...], low: float, high: float, dtype: str) -> Array:
    """Uniform on [low, high) in `dtype`: multiples of 2⁻ᵖ, p the bits that it keeps of a number, scaled."""
    shift, scale = _BITS[dtype]
    words = philox.words64(*at, math.prod(shape))
    words >>= shift
    words = words.reshape(shape)
    if low == 0.0 and high == 1.0:
        return np.multiply(words, scale, dtype=dtype, casting="unsafe")  # exact
    drawn = (words * scale * (high - low) + low).astype(dtype, copy=False)
    return np.minimum(drawn, _below(high, dtype)) if high > low else drawn  # rounding may have reached it


_BITS: Final = {
    name: (np.uint64(64 - bits), 2.0**-bits)
    for name, bits in (("float16", 11), ("float32", 24), ("float64", 53))
}
"""How far words are shifted and by what they are scaled, so that the numbers are the multiples of 2⁻ᵖ that a dtype keeps."""


@functools.lru_cache(maxsize=64)
def _below(high: float, dtype: str) -> Any:
    """The number of a dtype before `high`."""
    kind = np.dtype(dtype).type
    return np.nextafter(kind(high), kind(-np.inf))


def integers(at: Address, shape: tuple[int, ...], low: int, high: int, dtype: str) -> Array:
    """Uniform on low … high − 1: the remainders of those words that lie below a multiple of their number."""
    n, count = math.prod(shape), high - low
    limit = (1 << 64) - (1 << 64) % count
    words = philox.words64(*at, n)
    spare = 16
    while limit < 1 << 64:
        kept = words[words < np.uint64(limit)][:n]
        if kept.size == n:
            words = kept
            break
        words, spare = philox.words64(*at, n + spare), 2 * spare
    if count < 1 << 64:
        words %= np.uint64(count)
    if low:
        words += np.uint64(low % (1 << 64))  # modulo 2⁶⁴, as two's complement is
    return words.reshape(shape).astype(dtype)


def bernoulli(at: Address, shape: tuple[int, ...], p: Array) -> Array:
    """True with probability p, to 2⁻⁵³."""
    found: Array = philox.uniform(*at, shape) < p
    return found


def log_gamma(at: Address, shape: tuple[int, ...], concentration: Array) -> Array:
    """The logarithm of draws from Gamma(a, 1), which for a small a lie below the least float: G(a) is G(a + 1) U^{1/a}."""
    a = np.broadcast_to(np.asarray(concentration, dtype=np.float64), shape)
    generator = philox.generator(*at)
    drawn = generator.standard_gamma(a + 1.0)
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(np.log(drawn) + np.log1p(-generator.random(shape)) / a)


def poisson(at: Address, shape: tuple[int, ...], rate: Array) -> Array:
    """Draws from Poisson(rate), as float64."""
    return np.asarray(philox.generator(*at).poisson(rate, shape), dtype=np.float64)


def binomial(at: Address, shape: tuple[int, ...], count: Array, p: Array) -> Array:
    """How many of `count` draws, each with probability `p`, say yes; as float64."""
    n = np.asarray(count, dtype=np.float64).astype(np.int64)
    return np.asarray(philox.generator(*at).binomial(n, p, shape), dtype=np.float64)


def von_mises(at: Address, shape: tuple[int, ...], concentration: Array) -> Array:
    """Draws from the von Mises distribution around 0, in [−π, π]."""
    return np.asarray(philox.generator(*at).vonmises(0.0, concentration, shape))


def log_weights(logits: Array, temperature: float, top_k: int | None, top_p: float | None) -> Array:
    """Weights e^{(x − max x) / temperature} along the last axis; 0 beyond the `top_k` largest and beyond the smallest set of largest
    ones whose share reaches `top_p`. Of equal ones the first go before."""
    x = np.asarray(logits, dtype=np.float64)
    with np.errstate(over="ignore"):
        weights = np.exp((x - np.max(x, axis=-1, keepdims=True)) / temperature)
    if top_k is None and top_p is None:
        return weights
    order = np.argsort(-x, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    if top_k is not None:
        ranked[..., top_k:] = 0.0
    if top_p is not None:
        sums = np.cumsum(ranked, axis=-1)
        ranked[..., 1:][sums[..., :-1] >= top_p * sums[..., -1:]] = 0.0
    out = np.zeros_like(weights)
    np.put_along_axis(out, order, ranked, axis=-1)
    return out


def by_weight(at: Address, weights: Array, count: int) -> Array:
    """`count` indices along the last axis for each row of weights, each with the probability of its share: (…, count)."""
    w = np.asarray(weights, dtype=np.float64)
    sums = np.cumsum(w, axis=-1)
    u = philox.uniform(*at, (*w.shape[:-1], count)) * sums[..., -1:]
    if sums.size * count <= _BLOCK:  # all rows at once
        index = (sums[..., None, :] <= u[..., None]).sum(axis=-1)
    else:
        rows, marks = sums.reshape(-1, w.shape[-1]), u.reshape(-1, count)
        found = [np.searchsorted(row, mark, side="right") for row, mark in zip(rows, marks, strict=True)]
        index = np.asarray(found, dtype=np.int64).reshape(u.shape)
    if index.size and index.max() == w.shape[-1]:
        # u is below 1, but u times the sum has been rounded to it: then the last of those with a weight
        last = w.shape[-1] - 1 - np.argmax(w[..., ::-1] > 0, axis=-1)
        index = np.minimum(index, last[..., None])
    return index


_BLOCK: Final = 1 << 15
"""Comparisons that are made at once."""


def by_weight_once(at: Address, weights: Array, count: int) -> Array:
    """`count` different indices along the last axis, drawn one after the other by the weights that are left: those of the smallest
    e / w, e exponential (Efraimidis and Spirakis 2006)."""
    w = np.asarray(weights, dtype=np.float64)
    u = philox.uniform(*at, w.shape)
    with np.errstate(divide="ignore"):
        keys = np.where(w > 0, -np.log1p(-u) / w, np.inf)
    order: Array = np.argsort(keys, axis=-1, kind="stable")[..., :count].astype(np.int64)
    return order


def below(at: Address, n: int, count: int) -> Array:
    """`count` different integers of 0 … n − 1 in random order."""
    order: Array = philox.permutation(*at, n)[:count]
    return order
