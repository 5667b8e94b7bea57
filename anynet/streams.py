"""Streams of random numbers: counter-based (Philox 4x64-10), addressed by (seed, stream, step).

Nothing is hidden in a generator: a draw is a function of three integers, so a checkpoint stores integers, and the same
seed gives the same initial weights and bit-identical dropout masks on every backend. Weights are drawn on the host.

Streams keep uses apart: initial weights (and what `anynet.random` draws), dropout masks, shuffles. Each draw from a
stream takes its next step. The streams are the process's; within `fork_rng` a thread has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet_backends import Array, Backend, philox
from anynet_backends.concurrency import ThreadStack, fork_safe_lock
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.tracer import COMPILING

__all__ = [
    "MASKS",
    "SHUFFLES",
    "WEIGHTS",
    "Generator",
    "fork_rng",
    "get_state",
    "manual_seed",
    "mask_bits",
    "next_draw",
    "normal",
    "set_state",
    "uniform",
]

WEIGHTS, MASKS, SHUFFLES = 1, 2, 3  # the numbers of the streams
AUGMENTATION = 6  # of pictures


class _State:
    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.steps = {WEIGHTS: 0, MASKS: 0}
        self.lock = fork_safe_lock()


_shared = _State()
_forked: ThreadStack[_State] = ThreadStack("random_states")


def _state() -> _State:
    """The streams that this thread draws from."""
    own = _forked.own if _forked else None
    return own[-1] if own else _shared


def _checked(seed: int) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 128:
        msg = f"a seed must be an integer from 0 to 2**128 - 1, got {seed!r}"
        raise ValueError(msg)
    return seed


def manual_seed(seed: int) -> None:
    """Start all streams from `seed` (an int, 0 ≤ seed < 2¹²⁸)."""
    _checked(seed)
    _refuse_if_compiled("the seed is set")
    state = _state()
    with state.lock:
        state.seed = seed
        for stream in state.steps:
            state.steps[stream] = 0


def get_state() -> dict[str, int]:
    """The seed and the position of each stream: all there is to know."""
    state = _state()
    return {"seed": state.seed, "weights": state.steps[WEIGHTS], "masks": state.steps[MASKS]}


def set_state(state: dict[str, int]) -> None:
    """Go back to where `get_state` was taken."""
    _refuse_if_compiled("the random state is set")
    rewind(state)


def rewind(state: dict[str, int]) -> None:
    """`set_state`, for what computes again with the draws of before, as `checkpoint` does."""
    missing = {"seed", "weights", "masks"} - set(state)
    if missing:
        msg = f"a random state must have seed, weights and masks; missing: {', '.join(sorted(missing))}"
        raise ValueError(msg)
    own = _state()
    with own.lock:
        own.seed = int(state["seed"])
        own.steps[WEIGHTS], own.steps[MASKS] = int(state["weights"]), int(state["masks"])


@contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Within the block this thread draws from streams of its own, which begin at `seed`, or where the thread is; afterwards
    the streams are where they were. What other threads draw is not touched, nor does it touch these.

    >>> import anynet as an
    >>> an.random.manual_seed(1)
    >>> with an.random.fork_rng(7):
    ...     an.random.get_state()["seed"]
    7
    >>> an.random.get_state()["seed"]
    1
    """
    before = get_state()
    own = _State(before["seed"] if seed is None else _checked(seed))
    if seed is None:
        own.steps = {WEIGHTS: before["weights"], MASKS: before["masks"]}
    _forked.append(own)
    try:
        yield
    finally:
        _forked.remove(own)


@contextmanager
def isolated() -> Iterator[dict[str, int]]:
    """Within the block no other thread's draws come between those of this one; afterwards the streams have gone on as far as
    it has drawn. Gives the state at the beginning."""
    with fork_rng():
        before = get_state()
        yield before
        now = get_state()
    if now["seed"] == before["seed"]:
        _next(WEIGHTS, now["weights"] - before["weights"])
        _next(MASKS, now["masks"] - before["masks"])
    else:
        set_state(now)


def _refuse_if_compiled(what: str) -> None:
    if COMPILING and COMPILING.own:
        msg = (
            f"{user_line()}: {what} in a compiled function, which would happen only while it is recorded; do it outside and "
            "pass the numbers as an argument"
        )
        raise CompileError(msg)


def _next(stream: int, count: int = 1) -> tuple[int, int]:
    if COMPILING and stream == WEIGHTS and count:
        _refuse_if_compiled(
            "numbers of anynet.random (random.normal, …) or a layer's initial weights are drawn"
        )
    state = _state()
    with state.lock:
        step = state.steps[stream]
        state.steps[stream] = step + count
        return state.seed, step


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
        _refuse_if_compiled("numbers are drawn from a random.Generator")
        self.step += 1
        return self.seed, self.step - 1


def next_draw(generator: Generator | None = None) -> tuple[int, int, int]:
    """(seed, stream, step): the address of the next draw, from the stream of weights or a generator."""
    seed, step = _next(WEIGHTS) if generator is None else generator.next()
    return seed, WEIGHTS, step


def uniform(
    shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, generator: Generator | None = None
) -> Array:
    """float64 draws on the host, uniform on [low, high), from the stream of weights or a generator."""
    return philox.uniform(*next_draw(generator), shape, low, high)


def normal(
    shape: tuple[int, ...],
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
    out: Array | None = None,
) -> Array:
    """float64 draws on the host from a normal distribution, from the stream of weights or a generator; rounded, into `out`."""
    return philox.normal(*next_draw(generator), shape, mean, std, out)


def next_mask(count: int = 1) -> tuple[int, int]:
    """The (seed, step) of the next dropout mask, or of the first of so many."""
    return _next(MASKS, count)


def give_back(count: int, step: int) -> None:
    """Undo ``next_mask(count)``, which has given `step`, unless another thread has drawn meanwhile."""
    state = _state()
    with state.lock:
        if state.steps[MASKS] == step + count:
            state.steps[MASKS] = step


def next_units(xp: Backend, n: int, dtype: Any, device: str) -> Any:
    """The next `n` numbers k / 2²⁴ of [0, 1) from the stream of dropout masks, the same on every backend."""
    seed, step = next_mask()
    bits = mask_bits(xp, seed, step, n, device)
    shift = xp.asarray(8, dtype=bits.dtype, device=bits.device)
    return xp.astype(xp.bitwise_right_shift(bits, shift), dtype) * 2.0**-24


def mask_bits(xp: Backend, seed: int, step: int, n: int, device: str, part: int = 0) -> Any:
    """`n` uint32 words for the dropout mask (seed, step), or for a part of it, the same on every backend."""
    return xp.random_bits(seed, MASKS + 16 * part, step, n, device)
