"""Random numbers: counter-based (Philox 4x64-10), addressed by (seed, stream, step).

Nothing is hidden in a generator: a draw is a function of three integers, so a checkpoint stores integers, and the same
seed gives the same initial weights and bit-identical dropout masks on every backend. Weights are drawn on the host.

Streams keep uses apart: initial weights, dropout masks, shuffles. Each draw from a stream takes its next step.
"""

from __future__ import annotations

import threading
from typing import Any

from anynet_backends import Array, Backend, host

__all__ = [
    "MASKS",
    "SHUFFLES",
    "WEIGHTS",
    "Generator",
    "get_state",
    "manual_seed",
    "mask_bits",
    "normal",
    "set_state",
    "uniform",
]

WEIGHTS, MASKS, SHUFFLES = 1, 2, 3  # the numbers of the streams


class _State:
    def __init__(self) -> None:
        self.seed = 0
        self.steps = {WEIGHTS: 0, MASKS: 0}
        self.lock = threading.Lock()


_state = _State()


def _checked(seed: int) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 128:
        msg = f"a seed is an integer from 0 to 2**128 - 1, got {seed!r}"
        raise ValueError(msg)
    return seed


def manual_seed(seed: int) -> None:
    """Start all streams anew from `seed` (an int, 0 ≤ seed < 2¹²⁸)."""
    _checked(seed)
    with _state.lock:
        _state.seed = seed
        for stream in _state.steps:
            _state.steps[stream] = 0


def get_state() -> dict[str, int]:
    """The seed and the position of each stream: all there is to know."""
    return {"seed": _state.seed, "weights": _state.steps[WEIGHTS], "masks": _state.steps[MASKS]}


def set_state(state: dict[str, int]) -> None:
    """Go back to where `get_state` was taken."""
    missing = {"seed", "weights", "masks"} - set(state)
    if missing:
        msg = f"a random state has seed, weights and masks; missing: {', '.join(sorted(missing))}"
        raise ValueError(msg)
    with _state.lock:
        _state.seed = int(state["seed"])
        _state.steps[WEIGHTS], _state.steps[MASKS] = int(state["weights"]), int(state["masks"])


def _next(stream: int) -> tuple[int, int]:
    with _state.lock:
        step = _state.steps[stream]
        _state.steps[stream] = step + 1
        return _state.seed, step


class Generator:
    """A stream of random numbers of its own, for what takes a `generator`.

    >>> import anynet as an
    >>> w = an.nn.Parameter([0.0, 0.0])
    >>> one = an.nn.init.normal_(w, generator=an.random.Generator(3)).tolist()
    >>> one == an.nn.init.normal_(w, generator=an.random.Generator(3)).tolist()
    True
    """

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Begin again with a seed."""
        self.seed, self.step = _checked(seed), 0
        return self

    def next(self) -> tuple[int, int]:
        """(seed, number of the draw)"""
        self.step += 1
        return self.seed, self.step - 1


def uniform(
    shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, generator: Generator | None = None
) -> Array:
    """float64 draws on the host, uniform on [low, high), from the stream of weights or a generator."""
    seed, step = _next(WEIGHTS) if generator is None else generator.next()
    return host.uniform(seed, WEIGHTS, step, shape, low, high)


def normal(
    shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Array:
    """float64 draws on the host from a normal distribution, from the stream of weights or a generator."""
    seed, step = _next(WEIGHTS) if generator is None else generator.next()
    return host.normal(seed, WEIGHTS, step, shape, mean, std)


def next_mask() -> tuple[int, int]:
    """The (seed, step) of the next dropout mask."""
    return _next(MASKS)


def next_units(xp: Backend, n: int, dtype: Any, device: str) -> Any:
    """The next `n` numbers k / 2²⁴ of [0, 1) from the stream of dropout masks, the same on every backend."""
    seed, step = next_mask()
    bits = mask_bits(xp, seed, step, n, device)
    shift = xp.asarray(8, dtype=bits.dtype, device=bits.device)
    return xp.astype(xp.bitwise_right_shift(bits, shift), dtype) * 2.0**-24


def mask_bits(xp: Backend, seed: int, step: int, n: int, device: str, part: int = 0) -> Any:
    """`n` uint32 words for the dropout mask (seed, step), or for a part of it, the same on every backend."""
    return xp.random_bits(seed, MASKS + 16 * part, step, n, device)
