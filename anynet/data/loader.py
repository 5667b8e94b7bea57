"""DataLoader: batches in an order that three integers determine, made when asked for, ahead in a thread, or by worker processes."""

from __future__ import annotations

import copy
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from anynet.data.batching import END, Maker, SampleStream, at_epoch, draws, is_iterable
from anynet.data.dataset import ColumnDataset, TensorDataset, on_host
from anynet.data.samplers import Draws, RandomSampler, SequentialSampler, describe, groups, indices_of
from anynet.data.seeding import derived, seeded
from anynet.data.sharding import bounds, length_of, part_of
from anynet.tensor import Tensor, move, unwrap, wrap
from anynet_backends import backend_of, registry, resolve

if TYPE_CHECKING:
    from anynet.data.workers import Pool

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of a data set, or of an array or a tuple of arrays; PyTorch's names and meanings.

    Parameters:
      dataset: samples by index (``len`` and ``[i]``; ``__getitems__`` is used where there is one), as PyTorch's and Hugging Face's data
        sets have them; an array, or a tuple or dict of arrays of equal length; or a stream: an `IterableDataset`, anything with
        ``__iter__``, a function that returns an iterator.
      batch_size, shuffle, drop_last: the last, smaller batch is kept unless `drop_last`. ``batch_size=None``: the samples are batches.
      sampler, batch_sampler: the indices, or lists of them, in the order in which they are taken (`anynet.data.RandomSampler`, …, PyTorch's
        samplers, or any iterable), in place of `shuffle` and of all four.
      num_workers: processes that make the batches; 0: none.
      collate_fn: makes a batch from a list of samples; by default `default_collate`. A batch may be of tuples, lists and mappings; its
        arrays become Tensors, those of PyTorch too.
      pin_memory: batches go to a CUDA device through page-locked buffers, while it computes with those before; the host does not wait for
        them. Elsewhere it does nothing and a warning says so.
      timeout: seconds after which a worker that has made no batch is given up; 0: never.
      worker_init_fn: called with the number of the worker in each when it starts.
      multiprocessing_context: "fork", "spawn", "forkserver", or a context; by default Python's own choice for the system. Not "fork" while
        another thread computes: a lock of OpenBLAS's that it holds is never released in the worker.
      prefetch_factor: how many batches each worker makes ahead; 2 by default.
      persistent_workers: keep the workers from one epoch to the next.
      seed: with the number of the epoch, it determines the order, and what samples draw at random.
      prefetch: how many batches a background thread makes ahead, without workers; 0 makes them when asked.
      device: where the batches go. None: the default device, except that Tensors that are on another device than the host stay where
        they are.

    Each ``iter(loader)`` is the next epoch; `set_epoch` chooses it. ``state_dict()`` after any batch and ``load_state_dict`` go on exactly
    there, with workers and samplers too (with samplers of other makers if they are deterministic); a stream is gone through again up to
    there.

    Random numbers: while a batch is made, the generators of anynet, Python, NumPy and PyTorch begin at a seed that follows from (seed,
    epoch, number of the batch), and are put back afterwards. So augmented samples are the same for any number of workers, and after a
    resume. (The thread of `prefetch` shares Python's, NumPy's and PyTorch's generators with the rest of the process and leaves them alone.)

    Worker processes: their errors are raised here, with their traceback as a note; one that is killed or ends is an error that says
    how; after an error, a break or Ctrl-C all have ended before the loop is left. Arrays come through shared memory without a name, so
    none is left behind.

    Errors: TypeError and ValueError for what does not go together; RuntimeError for workers that end or hang.

    >>> import anynet as an
    >>> loader = DataLoader((an.asarray([1.0, 2.0, 3.0]), an.asarray([0, 1, 0])), batch_size=2)
    >>> for x, y in loader:
    ...     print(x, y)
    Tensor([1., 2.]) Tensor([0, 1])
    Tensor([3.]) Tensor([0])
    """

    # Over 60 lines: PyTorch's signature has so many options, and each is checked.
    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        *,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        seed: int = 0,
        prefetch: int = 0,
        device: str | None = None,
    ) -> None:
        for name, value, least in (
            ("batch_size", 1 if batch_size is None else batch_size, 1),
            ("prefetch", prefetch, 0),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
            ("prefetch_factor", 1 if prefetch_factor is None else prefetch_factor, 1),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                msg = f"DataLoader: {name} must be an integer ≥ {least}, got {value!r}"
                raise ValueError(msg)
        if not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
            msg = f"DataLoader: timeout must be a number of seconds ≥ 0, got {timeout!r}"
            raise ValueError(msg)
        _check_processes(num_workers, prefetch, prefetch_factor, persistent_workers, multiprocessing_context)
        for name, function in (("collate_fn", collate_fn), ("worker_init_fn", worker_init_fn)):
            if function is not None and not callable(function):
                msg = f"DataLoader: {name} must be a function, got {type(function).__name__}"
                raise TypeError(msg)
        self._single = _is_array(dataset)
        if self._single:
            dataset = TensorDataset(dataset)
        elif isinstance(dataset, tuple) and all(map(_is_array, dataset)):
            dataset = TensorDataset(*dataset)
        elif isinstance(dataset, Mapping) and dataset and all(map(_is_array, dataset.values())):
            dataset = ColumnDataset(dataset)
        self._iterable = is_iterable(dataset, sampler is not None or batch_sampler is not None)
        _check_order(self._iterable, batch_size, shuffle, drop_last, sampler, batch_sampler)
        if (
            num_workers
            and isinstance(dataset, TensorDataset)
            and any(not _on_host(a) for a in dataset.arrays)
        ):
            msg = "DataLoader: arrays on a device stay in their process; use num_workers=0, or keep them on the host: x.to('cpu')"
            raise ValueError(msg)
        if device is not None:
            resolve(device)  # an unknown device is refused here, not at the first batch
        if pin_memory and (there := resolve(device)[1]).split(":")[0] != "cuda":
            warnings.warn(
                f"DataLoader: pin_memory=True does nothing on {there!r}; it is for CUDA devices", stacklevel=2
            )
        self.dataset = dataset
        self.batch_size = None if batch_sampler is not None else batch_size
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.batch_sampler = batch_sampler
        self.sampler = sampler
        if sampler is None and batch_sampler is None and not self._iterable:
            self.sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        self.collate_fn, self.seed, self.prefetch, self.device = collate_fn, seed, prefetch, device
        self.num_workers, self.timeout, self.worker_init_fn = num_workers, timeout, worker_init_fn
        self.multiprocessing_context, self.persistent_workers = multiprocessing_context, persistent_workers
        self.prefetch_factor = prefetch_factor if prefetch_factor is not None or not num_workers else 2
        self.pin_memory = pin_memory
        self._epoch = self._batch = (
            0  # where the loop is: the epoch, and how many of its batches were handed out
        )
        self._fresh = True  # whether the next iteration goes on there, rather than with the epoch after
        self._pool: Pool | None = None
        self._part = (0, 1)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: workers stay where they are."""
        return self.__dict__ | {"_pool": None}

    def __len__(self) -> int:
        count = self._count()
        if count is None:
            msg = f"DataLoader: a {type(self.dataset).__name__} without a length has no number of batches"
            raise TypeError(msg)
        return count

    def _count(self) -> int | None:
        """The number of batches of an epoch, None where it is not known."""
        what = (
            self.batch_sampler
            if self.batch_sampler is not None
            else self.dataset
            if self._iterable
            else self.sampler
        )
        if not hasattr(what, "__len__"):
            return None
        n = len(what)
        if self.batch_sampler is not None or self.batch_size is None:
            return n
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

    def shard(self, index: int, count: int) -> DataLoader:
        """A loader of part `index` of `count` of each batch of this one, for one of `count` processes that train together: rows
        ⌊index · n / count⌋ … of its n samples, perhaps none. The order of the samples and the number of batches are this loader's; what
        samples draw at random is other in each part.

        >>> import anynet as an
        >>> loader = DataLoader(an.arange(5), batch_size=3)
        >>> [x.tolist() for x in loader.shard(0, 2)], [x.tolist() for x in loader.shard(1, 2)]
        ([[0], [3]], [[1, 2], [4]])
        """
        if not isinstance(count, int) or count < 1 or not isinstance(index, int) or not 0 <= index < count:
            msg = (
                f"DataLoader.shard: index must be one of 0 to count − 1, got index={index!r}, count={count!r}"
            )
            raise ValueError(msg)
        if self._part != (0, 1):
            msg = "DataLoader.shard: this loader is a part already"
            raise ValueError(msg)
        made = copy.copy(self)
        made._part = (index, count)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is: JSON-ready."""
        epoch, batch, count = self._epoch, self._batch, self._count()
        if not self._fresh and count is not None and batch >= count:
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch} | self.identity()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on where `state_dict` was taken. ValueError for the state of another loader."""
        expected = self.identity()
        for key in ("epoch", "batch", *expected):
            if key not in state:
                msg = (
                    f"DataLoader: the state has no {key!r}; it has {', '.join(map(repr, state)) or 'nothing'}"
                )
                raise ValueError(msg)
            if key in expected and state[key] != expected[key]:
                msg = f"DataLoader: the state is of a loader with {key}={state[key]!r}, this one has {expected[key]!r}"
                raise ValueError(msg)
        epoch, batch, count = int(state["epoch"]), int(state["batch"]), self._count()
        if epoch < 0 or batch < 0 or (count is not None and batch > count):
            msg = (
                f"DataLoader: the state is at epoch {epoch}, batch {batch}, but an epoch has {count} batches"
            )
            raise ValueError(msg)
        self._epoch, self._batch, self._fresh = epoch, batch, True

    def identity(self) -> dict[str, Any]:
        """What the order of the samples depends on, besides the epoch: JSON-ready."""
        names = ("seed", "shuffle", "batch_size", "drop_last")
        found = {"samples": len(self.dataset) if hasattr(self.dataset, "__len__") else None} | {
            name: getattr(self, name) for name in names
        }
        own = self.batch_sampler if self.batch_sampler is not None else self.sampler
        if type(own) not in (RandomSampler, SequentialSampler) or own.data_source is not self.dataset:
            found["sampler"] = describe(own) if own is not None else type(self.dataset).__name__
        return found

    # ----- batches -----

    def first(self) -> Any:
        """The first batch in the order of the data, to look at; the loop is not moved on."""
        make = self._maker()
        if self._iterable:
            with closing(
                SampleStream(at_epoch(self.dataset, 0), make, derived(self.seed, 0, 0), shared=True)
            ) as stream:
                batch = stream.take()
            if batch is END:
                msg = "DataLoader: the data set is empty"
                raise ValueError(msg)
        else:
            most = self.batch_size or getattr(self.batch_sampler, "batch_size", None) or 1
            indices = range(min(len(self.dataset), most))
            with seeded(derived(self.seed, 0, 0), shared=True):
                batch = make(at_epoch(self.dataset, 0), indices if self._batched() else 0)
        return self._handed_out(batch, placed)

    def _batched(self) -> bool:
        return self.batch_size is not None or self.batch_sampler is not None

    def _maker(self) -> Maker:
        return Maker(self.collate_fn, self._batched(), self.batch_size or 1, self.drop_last)

    def _handed_out(self, batch: Any, place: Callable[[Any, str | None], Any]) -> Any:
        here = place(batch, self.device)
        return here[0] if self._single and self.collate_fn is None else here

    def _by_index(self) -> bool:
        """Whether a part of a batch is known by its indices, so that the others need not be made."""
        return not self._iterable and self._batched()

    @property
    def _draw_seed(self) -> int:
        """What samples draw follows from: where parts are made by themselves, other in each."""
        return self.seed ^ (self._part[0] << 96) if self._by_index() else self.seed

    def _chunks(self, epoch: int, start: int, empty: deque[bool]) -> Iterator[Any]:
        """The indices of this part of batch `start`, `start` + 1, …; of an empty one the first, and `empty` says so."""
        index, count = self._part
        for chunk in self._whole_chunks(epoch, start):
            if count > 1 and self._by_index():
                a, b = bounds(index, count, len(chunk))
                empty.append(a == b)
                yield chunk[a:b] if a < b else chunk[:1]
            else:
                yield chunk

    def _whole_chunks(self, epoch: int, start: int) -> Iterator[Any]:
        """The indices of batch `start`, `start` + 1, …"""
        if self.batch_sampler is not None:
            return islice(iter(indices_of(self.batch_sampler, self.seed, epoch)), start, None)
        order, size = indices_of(self.sampler, self.seed, epoch), self.batch_size
        as_integers = (
            type(self.dataset) is not TensorDataset or not self._batched()
        )  # what others are promised
        if as_integers and registry.is_array(order):
            order = order.tolist()
        if size is None:
            return islice(iter(order), start, None)
        if isinstance(order, (range, list, Draws)) or registry.is_array(order):
            n = len(order)
            count = n // size if self.drop_last else -(-n // size)
            chunks = (order[i * size : (i + 1) * size] for i in range(start, count))
            return (c.tolist() for c in chunks) if as_integers and isinstance(order, Draws) else chunks
        return groups(islice(order, start * size, None), size, self.drop_last)

    def _epoch_from(self, epoch: int, start: int) -> Iterator[Any]:
        place = _pinned(self.device) if self.pin_memory else placed
        done = start
        empty: deque[bool] = deque()
        with closing(self._made(epoch, start, empty)) as batches:
            for batch in batches:
                done += 1
                if self._epoch == epoch and not self._fresh:
                    self._batch = done
                here = self._handed_out(batch, place)
                if self._part[1] > 1:
                    here = self._own_part(here, bool(empty) and empty.popleft())
                yield here

    def _own_part(self, batch: Any, empty: bool) -> Any:
        if self._by_index():
            return part_of(batch, 0, 0) if empty else batch
        return part_of(batch, *bounds(*self._part, length_of(batch)))

    def _made(self, epoch: int, start: int, empty: deque[bool]) -> Any:
        """A generator of the batches as they are made."""
        if self.num_workers:
            return self._by_workers(epoch, start, empty)
        shared = not self.prefetch  # generators that a thread would share with the others
        make, dataset = self._maker(), at_epoch(self.dataset, epoch)
        if self._iterable:
            batches = _of_stream(dataset, make, derived(self.seed, epoch, 0), shared, start)
        elif self.collate_fn is not None or draws(dataset):
            chunks = self._chunks(epoch, start, empty)
            batches = _drawn(dataset, make, chunks, self._draw_seed, epoch, start, shared)
        else:
            batches = (make(dataset, indices) for indices in self._chunks(epoch, start, empty))
        return _ahead(batches, self.prefetch) if self.prefetch else batches

    def _by_workers(self, epoch: int, start: int, empty: deque[bool]) -> Iterator[Any]:
        from anynet.data.workers import Pool  # here, and not above: few programs use processes

        pool, self._pool = self._pool, None
        if pool is None:
            pool = Pool(
                self.dataset, self._maker(), iterable=self._iterable, draws=self.collate_fn is not None or draws(self.dataset),
                seed=self._draw_seed, workers=self.num_workers, ahead=self.prefetch_factor or 2, timeout=self.timeout,
                init=self.worker_init_fn, context=self.multiprocessing_context,
            )  # fmt: skip
        try:
            yield from (
                pool.stream(epoch, start)
                if self._iterable
                else pool.map_style(epoch, start, self._chunks(epoch, start, empty))
            )
        except GeneratorExit:  # a break: the workers are as good as before
            self._keep(pool)
            raise
        except BaseException:
            pool.close()
            raise
        self._keep(pool)

    def _keep(self, pool: Pool) -> None:
        """For the next epoch, if they are to be kept and no others have taken their place."""
        if self.persistent_workers and self._pool is None:
            self._pool = pool
        else:
            pool.close()


def _is_array(x: Any) -> bool:
    return isinstance(x, Tensor) or registry.is_array(x)


def _on_host(a: Any) -> bool:
    return not registry.is_array(a) or backend_of(a).device_of(a) in ("cpu", "torch:cpu")


def _check_processes(
    num_workers: int, prefetch: int, prefetch_factor: Any, persistent: bool, context: Any
) -> None:
    if not num_workers:
        for name, given in (
            ("prefetch_factor", prefetch_factor is not None),
            ("persistent_workers", persistent),
            ("multiprocessing_context", context is not None),
        ):
            if given:
                msg = f"DataLoader: {name} is for worker processes; num_workers must be at least 1, got 0"
                raise ValueError(msg)
    elif prefetch:
        msg = "DataLoader: prefetch is the thread that makes batches where there are no workers; with num_workers give prefetch_factor"
        raise ValueError(msg)
    if context is not None and not hasattr(context, "get_start_method"):
        import multiprocessing  # start-up time: most loaders have no workers

        known = multiprocessing.get_all_start_methods()
        if context not in known:
            msg = f"DataLoader: multiprocessing_context must be one of {', '.join(known)}, got {context!r}"
            raise ValueError(msg)


def _check_order(
    iterable: bool, batch_size: Any, shuffle: Any, drop_last: bool, sampler: Any, batch_sampler: Any
) -> None:
    problem = None
    if iterable and (shuffle or sampler is not None or batch_sampler is not None):
        given = "shuffle" if shuffle else "sampler" if sampler is not None else "batch_sampler"
        problem = f"{given} is for data sets with an index; a stream has its own order"
    elif batch_sampler is not None and (batch_size != 1 or shuffle or drop_last or sampler is not None):
        problem = "batch_sampler says it all; batch_size, shuffle, sampler and drop_last do not go with it"
    elif sampler is not None and shuffle:
        problem = "sampler is an order already; shuffle does not go with it"
    elif batch_size is None and drop_last:
        problem = "drop_last is for batches; batch_size is None"
    if problem is not None:
        msg = f"DataLoader: {problem}"
        raise ValueError(msg)
    for name, value in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if value is not None and (
            not hasattr(value, "__iter__") or isinstance(value, (Iterator, str, bytes))
        ):
            more = ", which can be gone through only once" if isinstance(value, Iterator) else ""
            msg = f"DataLoader: {name} must be an iterable that can be begun again, got {type(value).__name__}{more}"
            raise TypeError(msg)


# ----- how batches are made in this process -----


def _drawn(
    dataset: Any, make: Maker, chunks: Iterator[Any], seed: int, epoch: int, start: int, shared: bool
) -> Iterator[Any]:
    """Batches of which each begins at its own seed."""
    for number, indices in enumerate(chunks, start):
        with seeded(derived(seed, epoch, number), shared):
            batch = make(dataset, indices)
        yield batch


def _of_stream(dataset: Any, make: Maker, seed: int, shared: bool, start: int) -> Iterator[Any]:
    with closing(SampleStream(dataset, make, seed, shared)) as stream:
        batch = stream.take(start)
        while batch is not END:
            yield batch
            batch = stream.take()


def _ahead(batches: Iterator[Any], depth: int) -> Iterator[Any]:
    """The batches, up to `depth` of them made ahead by a thread that ends with this generator."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_work, args=(batches, results, room, stopped), name="anynet-prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            batch, error = results.get()
            if error is not None:
                raise error
            if batch is END:
                return
            room.release()
            yield batch
    finally:
        stopped.set()
        room.release()
        if thread is not threading.current_thread():  # the collector may close this generator in any thread
            thread.join()


def _work(
    batches: Iterator[Any],
    results: queue.SimpleQueue[tuple[Any, BaseException | None]],
    room: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        while True:
            room.acquire()
            if stopped.is_set():
                return
            batch = next(batches, END)
            results.put((batch, None))
            if batch is END:
                return
    except BaseException as error:  # noqa: BLE001 it is raised again where the batches are used
        results.put((None, error))
    finally:
        batches.close()  # type: ignore[attr-defined]


# ----- where batches go -----


def _pinned(device: str | None) -> Callable[[Any, str | None], Any]:
    """`placed` through page-locked buffers."""
    xp, there = resolve(device)
    upload = xp.uploader(there)
    return lambda batch, _: placed(batch, there, upload)


def placed(batch: Any, device: str | None, upload: Callable[[Any], Any] | None = None) -> Any:
    """`batch` with its arrays as Tensors on `device`; `upload` brings arrays of the host there."""
    if isinstance(batch, Tensor) or (hasattr(batch, "dtype") and registry.is_array(batch)):
        data = unwrap(batch)
        if device is None:
            data = on_host(data, foreign=not isinstance(batch, Tensor))
        here = backend_of(data).device_of(data)
        if device is None and here != "cpu":
            there = here
        else:
            there = resolve(device)[1]
        if here != there:
            return wrap(upload(data) if upload is not None and here == "cpu" else move(data, there))
        return batch if isinstance(batch, Tensor) else wrap(data)
    if isinstance(batch, Mapping):
        return {key: placed(value, device, upload) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [placed(value, device, upload) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
