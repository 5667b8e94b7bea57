"""Data that come as a stream: iterables, generators, other libraries' loaders; batches or samples without an index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from anynet.data.loader import placed
from anynet.data.sharding import bounds, length_of, part_of

__all__ = ["UNLIMITED", "Stream", "gives_samples", "is_stream", "length"]

UNLIMITED: Final = 1 << 40
"""Epochs, where updates or time end the training."""


def length(loader: Any) -> int | None:
    """How many batches an epoch has; None where that is not known before."""
    try:
        return len(loader)
    except TypeError:
        return None


def is_stream(data: Any) -> bool:
    """Whether data can be gone through, but not indexed."""
    if isinstance(data, (type, str, bytes)) or hasattr(data, "__getitem__"):
        return gives_samples(data)
    return hasattr(data, "__iter__") or (callable(data) and not hasattr(data, "__len__"))


def gives_samples(data: Any) -> bool:
    """PyTorch's convention: a data set without an index gives samples, anything else that is gone through batches."""
    return any(cls.__name__ == "IterableDataset" for cls in type(data).__mro__)


class Stream:
    """Batches of a stream, epoch by epoch, as `fit` asks a `DataLoader` for them.

    An iterable, or a function that returns an iterator, is begun again for each epoch; with `steps_per_epoch` it is gone through
    on and on, that many batches an epoch, and begun again where it ends. An iterator (a generator) can be gone through once.
    To go on in the middle, batches are drawn and dropped: the stream must give the same ones again.
    """

    shuffle = drop_last = False
    seed = 0
    collate_fn = None

    batch_size = None
    part = (0, 1)  # which part of how many of each batch this process has

    def __init__(self, where: str, data: Any, steps: int | None, device: str) -> None:
        self.where, self.dataset, self.steps, self.device = where, data, steps, device
        self.once = isinstance(data, Iterator)
        self.ended = False  # of an iterator: whether all has been drawn
        self._batches: Iterator[Any] | None = None
        self._drawn = 0  # batches since the beginning, with `steps` over all epochs
        self._epoch = self._batch = 0
        self._fresh = True

    def __len__(self) -> int:
        if self.steps is not None:
            return self.steps
        if not hasattr(self.dataset, "__len__"):
            msg = f"{self.where}: a stream has no length"
            raise TypeError(msg)
        return len(self.dataset)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """The next iteration is this epoch, from number `batch`."""
        self._epoch, self._batch = epoch, batch

    def first(self) -> Any:
        """The first batch; it is not taken away from the first epoch."""
        if self._batches is None:
            self._begin()
        assert self._batches is not None
        first = next(self._batches, None)
        if first is None:
            msg = f"{self.where}: the stream is empty"
            raise ValueError(msg)
        self._batches = itertools.chain([first], self._batches)
        return first

    def __iter__(self) -> Iterator[Any]:
        at = self._epoch * self.steps + self._batch if self.steps is not None else self._batch
        if self.steps is None and not self.once and self._drawn:
            self._batches = None  # each epoch is a whole pass
        if self._batches is None or self._drawn > at:
            self._begin()
        while self._drawn < at:
            if self._next() is None:
                return
        left = None if self.steps is None else self.steps - self._batch
        for _ in itertools.count() if left is None else range(left):
            batch = self._next()
            if batch is None:
                return
            here = placed(batch, self.device)
            yield here if self.part[1] == 1 else part_of(here, *bounds(*self.part, length_of(here)))

    def _begin(self) -> None:
        if self.once and self._drawn:
            msg = f"{self.where}: an iterator can be gone through once; give an iterable, or a function that returns an iterator"
            raise ValueError(msg)
        self._batches, self._drawn = self._open(), 0

    def _open(self) -> Iterator[Any]:
        hear = getattr(self.dataset, "set_epoch", None)
        if callable(hear):
            hear(self._epoch)
        found = self.dataset if hasattr(self.dataset, "__iter__") else self.dataset()
        return iter(found)

    def _next(self) -> Any:
        """The next batch, from the beginning again where the stream ends and epochs are counted in steps; None at its end."""
        assert self._batches is not None
        batch = next(self._batches, None)
        if batch is None and self.steps is not None and not self.once:
            self._batches = self._open()
            batch = next(self._batches, None)
        if batch is None:
            self.ended = self.once
            return None
        self._drawn += 1
        return batch
