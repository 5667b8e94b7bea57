"""DataLoader: batches in an order that three integers determine, made ahead in a thread if wanted."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from anynet.data.dataset import TensorDataset, batch_of
from anynet.random import SHUFFLES
from anynet.tensor import Tensor, move, unwrap, wrap
from anynet_backends import backend_of, philox, registry, resolve

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of a map-style data set, or of an array or a tuple of arrays; PyTorch's meanings.

    Parameters:
      dataset: anything with ``len`` and ``[i]``, an array, or a tuple of arrays of equal length.
      batch_size, shuffle, drop_last: the last, smaller batch is kept unless `drop_last`.
      collate_fn: makes a batch from a list of samples; by default `default_collate`.
      seed: with the number of the epoch, it determines the shuffle: Philox words, the same on every backend.
      prefetch: how many batches a background thread makes ahead; 0 makes them when asked.
      device: where the batches go. None: the default device, except that arrays that are on another device than the host
        stay where they are.

    Each ``iter(loader)`` is the next epoch; `set_epoch` chooses it. ``state_dict()`` after any batch and
    ``load_state_dict`` go on exactly there. Errors of the data set come out of the loop, from the thread too.

    >>> import anynet as an
    >>> loader = DataLoader((an.asarray([1.0, 2.0, 3.0]), an.asarray([0, 1, 0])), batch_size=2)
    >>> for x, y in loader:
    ...     print(x, y)
    Tensor([1., 2.]) Tensor([0, 1])
    Tensor([3.]) Tensor([0])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
        prefetch: int = 0,
        device: str | None = None,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("prefetch", prefetch, 0),
            ("seed", seed, 0),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                msg = f"DataLoader: {name} must be an integer ≥ {least}, got {value!r}"
                raise ValueError(msg)
        self._single = isinstance(dataset, Tensor) or registry.is_array(dataset)
        if self._single:
            dataset = TensorDataset(dataset)
        elif isinstance(dataset, tuple) and all(
            isinstance(a, Tensor) or registry.is_array(a) for a in dataset
        ):
            dataset = TensorDataset(*dataset)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            msg = (
                "DataLoader: a data set has a length and samples by index (__len__, __getitem__), "
                f"got {type(dataset).__name__}; try list(…)"
            )
            raise TypeError(msg)
        if device is not None:
            resolve(device)  # an unknown device is refused here, not at the first batch
        self.dataset = dataset
        self.batch_size, self.shuffle, self.drop_last = batch_size, bool(shuffle), bool(drop_last)
        self.collate_fn, self.seed, self.prefetch, self.device = collate_fn, seed, prefetch, device
        self._epoch = self._batch = (
            0  # where the loop is: the epoch, and how many of its batches were handed out
        )
        self._fresh = True  # whether the next iteration goes on there, rather than with the epoch after

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if not self._fresh:
            self.set_epoch(self._epoch + 1)
        self._fresh = False
        return self._epoch_from(self._epoch, self._batch)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """The next iteration is this epoch (0, 1, …), from its first batch, or from number `batch` (0, 1, …)."""
        for name, value in (("epoch", epoch), ("batch", batch)):
            if not isinstance(value, int) or value < 0:
                msg = f"DataLoader: {name} must be an integer of at least 0, got {value!r}"
                raise ValueError(msg)
        self._epoch, self._batch, self._fresh = epoch, batch, True

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is: JSON-ready."""
        epoch, batch = self._epoch, self._batch
        if not self._fresh and batch >= len(self):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch} | self._identity()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on where `state_dict` was taken. ValueError for the state of another loader."""
        expected = self._identity()
        for key in ("epoch", "batch", *expected):
            if key not in state:
                msg = (
                    f"DataLoader: the state has no {key!r}; it has {', '.join(map(repr, state)) or 'nothing'}"
                )
                raise ValueError(msg)
            if key in expected and state[key] != expected[key]:
                msg = f"DataLoader: the state is of a loader with {key}={state[key]!r}, this one has {expected[key]!r}"
                raise ValueError(msg)
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch <= len(self):
            msg = f"DataLoader: the state is at epoch {epoch}, batch {batch}, but an epoch has {len(self)} batches"
            raise ValueError(msg)
        self._epoch, self._batch, self._fresh = epoch, batch, True

    def _identity(self) -> dict[str, Any]:
        names = ("seed", "shuffle", "batch_size", "drop_last")
        return {"samples": len(self.dataset)} | {name: getattr(self, name) for name in names}

    def _epoch_from(self, epoch: int, start: int) -> Iterator[Any]:
        n = len(self.dataset)
        order: Any = range(n)
        if self.shuffle:
            order = philox.permutation(self.seed, SHUFFLES, epoch, n)
            if type(self.dataset) is not TensorDataset:  # others are promised a list of Python's integers
                order = order.tolist()
        size, count = self.batch_size, len(self)
        chunks = (order[i * size : (i + 1) * size] for i in range(start, count))
        make = _Make(self.dataset, self.collate_fn)
        if self.prefetch:
            batches: Iterator[Any] = _ahead(make, chunks, self.prefetch)
        else:
            batches = map(make, chunks)
        done = start
        try:
            for batch in batches:
                done += 1
                if self._epoch == epoch and not self._fresh:
                    self._batch = done
                here = placed(batch, self.device)
                yield here[0] if self._single and self.collate_fn is None else here
        finally:
            if self.prefetch:
                batches.close()  # type: ignore[attr-defined]


class _Make:
    """Makes batches; knows the data set, but not the loader, so that a thread does not keep the loader alive."""

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any] | None) -> None:
        self.dataset, self.collate_fn = dataset, collate_fn

    def __call__(self, indices: Sequence[int]) -> Any:
        if self.collate_fn is None:
            return batch_of(self.dataset, indices)
        return self.collate_fn([self.dataset[i] for i in indices])


_END = object()


def _ahead(make: _Make, chunks: Iterator[Sequence[int]], depth: int) -> Iterator[Any]:
    """The batches, up to `depth` of them made ahead by a thread that ends with this generator."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_work, args=(make, chunks, results, room, stopped), name="anynet-prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            batch, error = results.get()
            if error is not None:
                raise error
            if batch is _END:
                return
            room.release()
            yield batch
    finally:
        stopped.set()
        room.release()
        if thread is not threading.current_thread():  # the collector may close this generator in any thread
            thread.join()


def _work(
    make: _Make,
    chunks: Iterator[Sequence[int]],
    results: queue.SimpleQueue[tuple[Any, BaseException | None]],
    room: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        for indices in chunks:
            room.acquire()
            if stopped.is_set():
                return
            results.put((make(indices), None))
        results.put((_END, None))
    except BaseException as error:  # noqa: BLE001 it is raised again where the batches are used
        results.put((None, error))


def placed(batch: Any, device: str | None) -> Any:
    """`batch` with its arrays as Tensors on `device`."""
    if isinstance(batch, Tensor) or (hasattr(batch, "dtype") and registry.is_array(batch)):
        data = unwrap(batch)
        here = backend_of(data).device_of(data)
        if device is None and here != "cpu":
            there = here
        else:
            there = resolve(device)[1]
        if here != there:
            return wrap(move(data, there))
        return batch if isinstance(batch, Tensor) else wrap(data)
    if isinstance(batch, Mapping):
        return {key: placed(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [placed(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
