"""From samples to batches: what makes a batch, of data sets with an index and of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from anynet.data.dataset import (
    Dataset,
    IterableDataset,
    Subset,
    batch_of,
    default_collate,
    samples_of,
)
from anynet.data.seeding import OwnStreams

__all__ = ["END", "Maker", "SampleStream", "at_epoch", "draws", "is_iterable"]

END = object()


@dataclass
class Maker:
    """Makes batches; knows neither the loader nor the data set, so that it goes to a thread or a process by itself."""

    collate_fn: Callable[[list[Any]], Any] | None
    batched: bool  # else a sample is a batch
    batch_size: int
    drop_last: bool

    def __call__(self, dataset: Any, indices: Any) -> Any:
        """The batch of a map-style data set at indices, or the sample at an index."""
        if not self.batched:
            return self.one(dataset[indices])
        if self.collate_fn is None:
            return batch_of(dataset, indices)
        return self.collate_fn(samples_of(dataset, indices))

    def one(self, sample: Any) -> Any:
        """What is handed out for a sample that is a batch already."""
        return sample if self.collate_fn is None else self.collate_fn(sample)

    def many(self, samples: list[Any]) -> Any:
        """A batch of samples."""
        return (self.collate_fn or default_collate)(samples)


class SampleStream:
    """The batches of an iterable data set in an epoch, one after the other; `at` is the number of the next one.

    What it draws at random goes on from batch to batch in generators of its own.
    """

    def __init__(self, dataset: Any, maker: Maker, seed: int, shared: bool) -> None:
        self.maker, self.streams = maker, OwnStreams(seed, shared)
        self.dataset = dataset
        self.iterator: Any = None
        self.at = self.made = 0
        self.divided = False
        self.ended = False

    def take(self, skip: int = 0, divides: Callable[[], bool] = lambda: False) -> Any:
        """The batch after `skip` others, or `END`. `divides` is asked after the first sample whether the data set gives each worker its
        own part; then none is skipped."""
        return self.streams.run(lambda: self._take(skip, divides))

    def _take(self, skip: int, divides: Callable[[], bool]) -> Any:
        if self.ended:
            return END
        if self.iterator is None:
            self.iterator = _begun(self.dataset)
        size = self.maker.batch_size
        samples = list(islice(self.iterator, 1))
        if not self.made:
            self.divided = divides()
        elif divides() != self.divided:
            msg = (
                "DataLoader: the data set has asked get_worker_info() after its first sample; to give each worker its own part it must "
                "ask before it, in the first lines of __iter__"
            )
            raise RuntimeError(msg)
        self.made += 1
        if self.divided:
            skip = 0
        samples += islice(self.iterator, skip * size + size - 1 if samples else 0)
        self.at += skip + 1
        samples = samples[skip * size :]
        if not samples or (self.maker.drop_last and len(samples) < size):
            self.ended = True
            return END
        return self.maker.many(samples) if self.maker.batched else self.maker.one(samples[0])

    def close(self) -> None:
        """Close the iterator, if it is a generator."""
        if self.iterator is not None and hasattr(self.iterator, "close"):
            self.iterator.close()


def _begun(dataset: Any) -> Iterator[Any]:
    """An iterator from the beginning of a stream."""
    found = dataset() if not hasattr(dataset, "__iter__") else dataset
    if not hasattr(found, "__iter__"):
        msg = f"DataLoader: the function must return an iterator of samples, got {type(found).__name__}"
        raise TypeError(msg)
    return iter(found)


def is_iterable(dataset: Any, sampled: bool) -> bool:
    """Whether a data set is a stream; TypeError for what is none and has no samples by index either. `sampled`: its indices come from
    a sampler, so it needs no length."""
    foreign = any(cls.__name__ == "IterableDataset" for cls in type(dataset).__mro__)
    indexed = hasattr(dataset, "__getitem__") and (hasattr(dataset, "__len__") or sampled)
    if indexed and not foreign and not isinstance(dataset, (type, IterableDataset)):
        return False
    if isinstance(dataset, type):
        msg = f"DataLoader: the data set must be an instance, got the class {dataset.__name__}"
        raise TypeError(msg)
    if isinstance(dataset, Iterator):
        msg = (
            f"DataLoader: a data set can be gone through again and again, a {type(dataset).__name__} only once; give the function that "
            "makes it, or try list(…)"
        )
        raise TypeError(msg)
    if foreign or hasattr(dataset, "__iter__") or (callable(dataset) and not indexed):
        return True
    msg = (
        "DataLoader: a data set has samples by index and a length (__getitem__, __len__), or can be iterated over (__iter__, or a "
        f"function that returns an iterator), got {type(dataset).__name__}"
    )
    raise TypeError(msg)


def draws(dataset: Any) -> bool:
    """Whether samples of a map-style data set may be drawn at random, as far as one knows: generators are seeded for these."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return not isinstance(dataset, (list, tuple, range)) and getattr(dataset, "draws", True)


def at_epoch(dataset: Any, epoch: int) -> Any:
    """Any data set as it is in an epoch."""
    if isinstance(dataset, (Dataset, IterableDataset)):
        return dataset.at_epoch(epoch)
    if not hasattr(dataset, "__getitem__") and callable(getattr(dataset, "set_epoch", None)):
        dataset.set_epoch(epoch)  # a stream of Hugging Face, which shuffles by it
    return dataset
