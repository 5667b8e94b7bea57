"""Worker processes of a `DataLoader`.

Batch b is made by worker b mod n and handed out in its turn, so the order does not depend on which worker is quick. Each worker has a pipe
of its own, a thread that reads it (so the main process never waits to be heard, and a worker ends when the other end is gone), and
ignores Ctrl-C, which is the main process's to handle.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import Any

from anynet.data import worker_info
from anynet.data.batching import END, Maker, SampleStream, at_epoch
from anynet.data.seeding import begin_anew, derived, seeded
from anynet.data.transfer import receive, send
from anynet_backends import host

__all__ = ["Pool"]

_GRACE = 1.0  # seconds that a worker has to end by itself, and again after SIGTERM

_OWN = 1 << 48  # the seeds of workers lie behind those of batches

# the main process's ends of all pipes: a forked process has copies of them, and must close these, so that the end of one is noticed
_open: weakref.WeakSet[Any] = weakref.WeakSet()


@dataclass
class _Job:
    """What a worker is given when it starts."""

    dataset: Any
    maker: Maker
    iterable: bool
    draws: bool
    seed: int
    id: int
    workers: int
    init: Callable[[int], Any] | None


# ----- in the worker -----


def _leave() -> None:
    """End this process now, whatever its main thread does."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def _listen(connection: Any, tasks: queue.SimpleQueue[Any]) -> None:
    """Hand on what the main process says, until it is gone."""
    parent = multiprocessing.parent_process()
    ends = [connection] if parent is None else [connection, parent.sentinel]
    try:
        while connection in connections.wait(ends):
            tasks.put(connection.recv())
    except (EOFError, OSError):
        pass
    _leave()


def _main(connection: Any, inherited: Sequence[Any] | None, job: _Job) -> None:
    """The worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for other in inherited or ():
        other.close()
    host.one_thread()
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    worker = _Worker(job)
    while True:
        generation, kind, *details = tasks.get()
        try:
            answer = worker.does(kind, *details)
        except Exception as error:
            answer = ("error", *_portable(error))
        if answer is None:
            continue
        try:
            send(connection, (generation, *answer))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # what cannot be pickled
            send(connection, (generation, "error", *_portable(error)))


def _portable(error: BaseException) -> tuple[bytes | None, str, str]:
    """An exception as it goes through the pipe: pickled if it can be, its last line, its traceback."""
    text = "".join(traceback.format_exception(error)).rstrip()
    line = "".join(traceback.format_exception_only(error)).strip()
    try:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # noqa: BLE001 an exception class may do anything
        return None, line, text
    return packed, line, text


class _Worker:
    def __init__(self, job: _Job) -> None:
        self.job = job
        self.stream: SampleStream | None = None
        self.failed: Exception | None = None
        self.shards = False
        self._info(0)
        try:
            if job.init is not None:
                with seeded(derived(job.seed, 0, _OWN - 1 - job.id), shared=True):
                    job.init(job.id)
        except Exception as error:  # noqa: BLE001 it is said where the first batch is asked for
            self.failed = error
        self.shards = worker_info.current.asked  # in worker_init_fn, which may have divided the data set
        if job.iterable:
            worker_info.current.on_asking = begin_anew

    def _info(self, epoch: int) -> None:
        job = self.job
        seed = derived(job.seed, epoch, _OWN + job.id)
        worker_info.current.info = worker_info.WorkerInfo(job.id, job.workers, seed, job.dataset)
        worker_info.current.asked = False

    def does(self, kind: str, *details: Any) -> tuple[Any, ...] | None:
        """What is answered to a task; None: nothing."""
        if kind == "epoch":
            self.begin(*details)
            return None
        if self.failed is not None:
            raise self.failed
        if kind == "next":
            return self.next_of_stream(*details)
        return self.batch(*details)

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        job = self.job
        self.epoch = epoch
        if self.failed is None:
            self._info(epoch)
            try:
                self.dataset = at_epoch(job.dataset, epoch)
                if job.iterable:
                    self.stream = SampleStream(
                        self.dataset, job.maker, derived(job.seed, epoch, 0), shared=True
                    )
            except Exception as error:  # noqa: BLE001 it is said where the first batch is asked for
                self.failed = error

    def batch(self, number: int, indices: Any) -> tuple[str, Any]:
        """A batch of a map-style data set."""
        job = self.job
        if not job.draws:
            return "batch", job.maker(self.dataset, indices)
        with seeded(derived(job.seed, self.epoch, number), shared=True):
            return "batch", job.maker(self.dataset, indices)

    def next_of_stream(self, number: int) -> tuple[str, Any, bool]:
        """Batch `number` of a stream; of one that is divided by the data set itself, the next of this worker's part."""
        stream, info = self.stream, worker_info.current
        assert stream is not None
        found = stream.take(number - stream.at, divides=lambda: self.shards or info.asked)
        return ("end", None, stream.divided) if found is END else ("batch", found, stream.divided)


# ----- in the main process -----


class Pool:
    """The worker processes of a loader.

    Errors: RuntimeError where a worker has ended or does not answer in time, with what is known of it.
    """

    def __init__(
        self,
        dataset: Any,
        maker: Maker,
        *,
        iterable: bool,
        draws: bool,
        seed: int,
        workers: int,
        ahead: int,
        timeout: float,
        init: Callable[[int], Any] | None,
        context: Any,
    ) -> None:
        self.context: Any = context
        if context is None or isinstance(context, str):
            self.context = multiprocessing.get_context(context)
        self.workers, self.ahead, self.timeout = workers, ahead, timeout
        self.generation = 0
        self.connections: list[Any] = []
        self.processes: list[Any] = []
        self.received: list[deque[Any]] = [deque() for _ in range(workers)]
        self._close = weakref.finalize(self, _shut_down, self.connections, self.processes)
        try:
            for i in range(workers):
                self._start(_Job(dataset, maker, iterable, draws, seed, i, workers, init))
        except BaseException as error:
            self.close()
            if isinstance(error, (pickle.PicklingError, TypeError, AttributeError)):
                error.add_note(
                    f"DataLoader: with the start method {self.context.get_start_method()!r} the data set, collate_fn and worker_init_fn "
                    "are pickled; define them at the top level of a module, or use multiprocessing_context='fork'"
                )
            raise

    def _start(self, job: _Job) -> None:
        ours, theirs = self.context.Pipe(duplex=True)
        self.connections.append(ours)
        _open.add(ours)
        forked = self.context.get_start_method() == "fork"
        process = self.context.Process(
            target=_main,
            args=(theirs, list(_open) if forked else None, job),
            name=f"anynet-worker-{job.id}",
            daemon=True,
        )
        # a Ctrl-C that comes before the worker ignores it must not end it with a traceback of its own
        masks = hasattr(signal, "pthread_sigmask")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else None
        try:
            with (
                warnings.catch_warnings()
            ):  # Python 3.12 warns of any fork of a process with threads; ours take none of their locks
                warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
                process.start()
        finally:
            if before is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.processes.append(process)

    def close(self) -> None:
        """End the workers and wait until they have ended."""
        self._close()

    # ----- an epoch -----

    def map_style(self, epoch: int, start: int, chunks: Iterator[Any]) -> Iterator[Any]:
        """The batches of chunks of indices; the first is number `start`."""
        self._begin(epoch)
        numbered = enumerate(chunks, start)
        waiting: deque[int] = deque()

        def ask() -> None:
            for number, indices in numbered:
                self._tell(number % self.workers, ("batch", number, indices))
                waiting.append(number)
                return

        for _ in range(self.workers * self.ahead):
            ask()
        while waiting:
            answer = self._take(waiting.popleft() % self.workers)
            ask()
            yield answer[1]

    def stream(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an iterable data set from number `start` on."""
        self._begin(epoch)
        asked = start
        for _ in range(self.workers * self.ahead):
            self._tell(asked % self.workers, ("next", asked))
            asked += 1
        first = self._take(start % self.workers)
        self.received[start % self.workers].appendleft(first)
        if first[2]:
            yield from self._divided(start)
            return
        number = start
        while True:
            answer = self._take(number % self.workers)
            if answer[0] == "end":
                return
            self._tell(number % self.workers, ("next", asked))
            asked, number = asked + 1, number + 1
            yield answer[1]

    def _divided(self, skip: int) -> Iterator[Any]:
        """In turn a batch of each worker that has some left; what comes before `skip` was handed out in a former life."""
        left = list(range(self.workers))
        while left:
            for worker in left[:]:
                answer = self._take(worker)
                if answer[0] == "end":
                    left.remove(worker)
                    continue
                self._tell(worker, ("next", 0))
                if skip:
                    skip -= 1
                else:
                    yield answer[1]

    # ----- talking -----

    def _begin(self, epoch: int) -> None:
        self.generation += 1
        for held in self.received:
            held.clear()
        for worker in range(self.workers):
            self._tell(worker, ("epoch", epoch))

    def _tell(self, worker: int, task: tuple[Any, ...]) -> None:
        try:
            self.connections[worker].send((self.generation, *task))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended; why is said when its answer is asked for
        except OSError as error:
            if not self.connections[worker].closed:
                raise
            msg = "DataLoader: the workers have been ended: another iteration of this loader has failed"
            raise RuntimeError(msg) from error

    def _take(self, worker: int) -> tuple[Any, ...]:
        """The next answer of a worker in this epoch: ("batch", what) or ("end", …)."""
        if self.received[worker]:
            return self.received[worker].popleft()  # type: ignore[no-any-return]
        own, process = self.connections[worker], self.processes[worker]
        while True:
            ready = connections.wait([own, process.sentinel], self.timeout or None)
            if not ready:
                msg = (
                    f"DataLoader: worker {worker} (process {process.pid}) made no batch in {self.timeout:g} s; the data set hangs or is "
                    "slow: a longer timeout=, or num_workers=0 to see where it is"
                )
                raise RuntimeError(msg)
            try:
                if own not in ready:
                    raise EOFError
                generation, *answer = receive(own)
            except (EOFError, ConnectionResetError):
                raise RuntimeError(_obituary(worker, process)) from None
            if generation != self.generation:
                continue
            if answer[0] == "error":
                _raise(worker, *answer[1:])
            return tuple(answer)


def _obituary(worker: int, process: Any) -> str:
    process.join(_GRACE)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = f"was killed by {name}"
        why += " (out of memory?)" if name == "SIGKILL" else ""
    else:
        why = f"has ended with exit code {code}" + (
            "; with spawn and forkserver a script needs `if __name__ == '__main__':` around what it does"
            if code == 1
            else ""
        )
    return f"DataLoader: worker {worker} (process {process.pid}) {why}"


def _raise(worker: int, packed: bytes | None, line: str, text: str) -> None:
    """The worker's exception again, with the traceback that it had there."""
    error: BaseException
    if packed is None:
        error = RuntimeError(f"DataLoader: {line}")
    else:
        error = pickle.loads(packed)
    if isinstance(error, StopIteration):
        error = RuntimeError(f"DataLoader: the data set raised {line or 'StopIteration'}")
    error.add_note(f"in worker {worker} of the DataLoader:\n{text}")
    raise error


def _shut_down(own: list[Any], processes: list[Any]) -> None:
    """Close the pipes, which ends the workers; end those that hang."""
    for end in own:
        end.close()
    for process in processes:
        if process.pid is not None:
            process.join(_GRACE)
            for end_it in (process.terminate, process.kill):
                if process.exitcode is None:
                    end_it()
                    process.join(_GRACE)
            process.close()
    own.clear()
    processes.clear()
