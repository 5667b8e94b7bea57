"""Arrays with the numbers that are special, and what it is for two to be the same."""

from __future__ import annotations

import itertools

import numpy as np

KINDS = {"f": np.float32, "d": np.float64, "q": np.int64, "?": np.bool_}


def numbers(letter: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Numbers of a type, with the ones that are special."""
    rng = np.random.default_rng(seed)
    if letter == "?":
        return rng.integers(0, 2, shape).astype(bool)
    if letter == "q":
        return rng.integers(-9, 9, shape)
    x = (rng.normal(size=shape) * 3).astype(KINDS[letter])
    flat = x.reshape(-1)
    special = [np.nan, np.inf, -np.inf, 0.0, 1e-42, 1e30]
    for i, value in zip(range(0, flat.size, 3), itertools.cycle(special)):
        flat[i] = value
    return x


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same bits, but for those of NaN."""
    if a.dtype.kind == "f":
        return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all()) and bool(
            (np.signbit(a) == np.signbit(b))[~np.isnan(a)].all()
        )
    return bool((a == b).all())
