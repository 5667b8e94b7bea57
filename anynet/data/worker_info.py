"""What code that runs in a worker process of a `DataLoader` may ask: which worker this is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["WorkerInfo", "current", "get_worker_info"]


@dataclass(frozen=True)
class WorkerInfo:
    """A worker process: its number (0 … num_workers − 1), how many there are, a seed of its own in this epoch, its copy of the data
    set."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Current:
    info: WorkerInfo | None = None
    asked = False
    on_asking: Callable[[int], None] | None = (
        None  # a stream that is divided draws in each worker from its own seed
    )


current = _Current()


def get_worker_info() -> WorkerInfo | None:
    """In a worker process of a `DataLoader` its `WorkerInfo`, elsewhere None; PyTorch's name and meaning.

    An iterable data set that asks for it is taken to give each worker its own part of the stream.

    >>> get_worker_info() is None
    True
    """
    if not current.asked:
        current.asked = True
        if current.info is not None and current.on_asking is not None:
            current.on_asking(current.info.seed)
    return current.info
