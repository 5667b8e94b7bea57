"""Random numbers of data sets: what a batch draws follows from the loader's seed, the epoch and the number of the batch.

So it does not matter which process makes it, or how many there are, and an epoch that is gone on with in the middle is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from anynet import streams
from anynet_backends import host, philox

__all__ = ["OwnStreams", "begin_anew", "derived", "seeded"]

_DRAWS = 11  # the number of the stream; +16 for each batch or worker
_NOTHING: AbstractContextManager[None] = nullcontext()


def derived(seed: int, epoch: int, part: int) -> int:
    """A seed of 63 bits for a part of an epoch: batches are 0, 1, …"""
    low, high = philox.philox_words(seed, _DRAWS + 16 * part, epoch, 2).tolist()
    return int(high << 32 | low) >> 1


@contextmanager
def seeded(seed: int, shared: bool) -> Iterator[None]:
    """Within the block anynet's streams begin at `seed`, and with `shared` those of Python, NumPy and PyTorch, which are the whole
    process's, too; afterwards all are where they were."""
    if not shared:
        with streams.fork_rng(seed):
            yield
        return
    with host.Generators(seed, once=True), streams.fork_rng(seed):
        yield


class OwnStreams:
    """Generators of its own for what is run piece by piece, as the iterator of a data set: each piece goes on where the last ended."""

    def __init__(self, seed: int, shared: bool) -> None:
        self.seed = seed
        self.shared: Any = host.Generators(seed) if shared else _NOTHING
        self.state: dict[str, int] | None = None

    def run(self, piece: Callable[[], Any]) -> Any:
        """What the piece returns."""
        with self.shared, streams.fork_rng(self.seed):
            if self.state is not None:
                streams.rewind(self.state)
            try:
                return piece()
            finally:
                self.state = streams.get_state()


def begin_anew(seed: int) -> None:
    """Within `seeded` or a piece of `OwnStreams`: all generators begin at another seed."""
    streams.manual_seed(seed)
    host.reseed(seed)
