"""Processes that TCP connections join, each to each: what of mpi4py's communicators `CommunicatorGroup` asks for, without MPI.

Every collective is one or two exchanges of a message with each other process. A sum is added up in the order of the processes, so its bits
are the same in all of them and for every size. The collectives of a communicator are done one after the other by a thread of its own;
another one for each connection takes in what comes, so that nobody who sends waits for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pickle
import queue
import socket
import struct
import sys
import threading
import time
import weakref
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, Final

from anynet_backends import registry
from anynet_backends.concurrency import after_fork

__all__ = ["FRAME", "NAMES", "Communicator", "Mesh", "read"]

FRAME: Final = struct.Struct("!IIQ")
"""What precedes a message: the number of the communicator, what call it is of (`_mark`), and how many bytes come."""
ABORT: Final = 2**32 - 1  # in the place of a communicator
SMALL: Final = 1 << 16
"""Bytes of an array up to which each process sends all of it to each other; above, each adds up a part of it and sends that."""
AHEAD: Final = 1 << 28
"""Bytes of messages that may have come before this process asks for them; more of them wait in the processes that send them."""
LAST: Final = 5.0
"""Seconds that messages have at the end of the program."""


class _Status:
    source = -1

    def Get_source(self) -> int:  # noqa: N802 MPI's name
        return self.source


def _ufunc(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(registry.get_backend("numpy").native, name)
    return found


NAMES: Final = SimpleNamespace(
    SUM="add", MAX="maximum", MIN="minimum", IN_PLACE="in place", BYTE="bytes", ANY_SOURCE=-1, THREAD_MULTIPLE=3,
    Query_thread=lambda: 3, Is_finalized=lambda: False, Status=_Status, pickle=pickle,
)  # fmt: skip
"""The names of `mpi4py.MPI` that go with a `Communicator`."""


def _bytes(buffer: Any) -> memoryview:
    """The bytes of a buffer: a contiguous array of any type, or one of Python's."""
    if hasattr(buffer, "dtype"):
        return memoryview(buffer.reshape(-1).view("u1"))
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def _mark(*what: Any) -> int:
    """A number for a call and its sizes. Processes in different calls would else take bytes for what they are not."""
    return zlib.crc32(repr(what).encode())


class Request:
    """A call that has begun."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None

    def finish(self, error: BaseException | None = None) -> None:
        """The call is done, or has failed."""
        self._error = error
        self._done.set()

    def Test(self) -> bool:  # noqa: N802 MPI's name
        """Whether it is done; raises its error."""
        if not self._done.is_set():
            return False
        if self._error is not None:
            raise self._error
        return True


def read(connection: socket.socket, size: int) -> memoryview:
    """So many bytes of a connection. Errors: ConnectionError where it ends before."""
    found = rest = memoryview(registry.get_backend("numpy").native.empty(size, "u1"))  # not filled with zeros
    while len(rest):
        got = connection.recv_into(rest, len(rest), socket.MSG_WAITALL)
        if not got:
            raise ConnectionError("its connection has closed")
        rest = rest[got:]
    return found


class _Peer:
    """The connection to another process, and the threads that take in what it says and send what must not keep the program waiting."""

    def __init__(self, mesh: Mesh, rank: int, connection: socket.socket) -> None:
        self.mesh, self.rank, self.connection = mesh, rank, connection
        self.sending = threading.Lock()
        self.gone, self.closed = "", False
        self.later: queue.SimpleQueue[tuple[int, bytes, Request] | None] = queue.SimpleQueue()
        names = ("anynet-receiver", "anynet-sender")
        self.threads = [threading.Thread(target=f, name=f"{name}-{rank}", daemon=True)
                        for f, name in zip((self._receive, self._send), names, strict=True)]  # fmt: skip
        for thread in self.threads:
            thread.start()

    def send(self, communicator: int, message: Any, mark: int = 0) -> None:
        """Send a message, a contiguous buffer."""
        view = _bytes(message)
        try:
            with self.sending:
                self.connection.sendall(FRAME.pack(communicator, mark, len(view)))
                self.connection.sendall(view)
        except OSError as error:
            raise ConnectionError(self.mesh.lost(self.rank, str(error))) from error

    def _send(self) -> None:
        while (message := self.later.get()) is not None:
            communicator, content, request = message
            with contextlib.suppress(ConnectionError):  # whoever waits for this process hears it
                self.send(communicator, content)
            request.finish()

    def _receive(self) -> None:
        try:
            while True:
                communicator, mark, size = FRAME.unpack(read(self.connection, FRAME.size))
                if communicator == ABORT:
                    _exit(size)
                self.mesh.make_room(size)
                self.mesh.take_in(communicator, self.rank, mark, read(self.connection, size))
        except OSError as error:
            self.mesh.lost(self.rank, str(error))
            if self.closed:
                self.connection.close()
        except BaseException as error:  # noqa: BLE001 whoever waits for a message is told: no memory for it, say
            self.mesh.lost(self.rank, f"what it said could not be taken in, {type(error).__name__}: {error}")
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)  # it would wait for ever to send the rest


def _exit(code: int) -> None:
    """End this process, whatever state its standard output is in."""
    try:
        sys.stdout.flush()
    finally:
        os._exit(code)


_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


def _forked() -> None:
    """A forked process is none of the group: while it held the connections, nobody would see that its parent has ended."""
    for mesh in _meshes:
        for peer in mesh.peers.values():
            peer.connection.close()
            peer.gone = "a forked process is none of its parent's group"


after_fork(_forked)


class Mesh:
    """This process and its connections to all the others, by rank."""

    def __init__(self, rank: int, connections: dict[int, socket.socket]) -> None:
        self.rank, self.size = rank, len(connections) + 1
        self.communicators = 0
        self._process, self._closed = os.getpid(), False
        self._come: defaultdict[tuple[int, int], deque[tuple[int, memoryview]]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._held = 0  # bytes that have come
        self._waiting = 0  # threads that wait for a message
        self._asked = 0.0  # when it was last asked whether one has come
        self.peers: dict[int, _Peer] = {}
        for other, connection in connections.items():
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.peers[other] = _Peer(self, other, connection)
        _meshes.add(self)
        atexit.register(self.close)

    def others(self) -> list[int]:
        """The other processes; each begins with the one after it, so that not all send to the same."""
        return [(self.rank + i) % self.size for i in range(1, self.size)]

    def take_in(self, communicator: int, source: int, mark: int, message: memoryview) -> None:
        """A message has come."""
        with self._changed:
            self._come[communicator, source].append((mark, message))
            self._held += len(message)
            self._changed.notify_all()

    def make_room(self, size: int) -> None:
        """Return when a message may come: there is room, or somebody here waits. What is waited for may be behind it, or in the hands of
        another process that waits for the one that sends it."""
        with self._changed:
            while (
                self._held
                and self._held + size > AHEAD
                and not self._waiting
                and not self._closed
                and time.monotonic() - self._asked > 1.0
            ):
                self._changed.wait(0.1)

    def lost(self, rank: int, why: str) -> str:
        """A connection has ended. What came before can still be received. The sentence that says so."""
        said = f"process {rank} of {self.size} is gone: {why}"
        with self._changed:
            if rank in self.peers:
                self.peers[rank].gone = self.peers[rank].gone or said
            self._changed.notify_all()
        return said

    def come(self, communicator: int, source: int) -> bool:
        """Whether a message is there."""
        self._asked = time.monotonic()
        return bool(self._come.get((communicator, source)))

    def receive(self, communicator: int, source: int, mark: int = 0) -> memoryview:
        """The next message of a process. Errors: ConnectionError where it is gone, or is in another call."""
        with self._changed:
            come = self._come[communicator, source]
            while not come:
                if self.peers[source].gone:
                    raise ConnectionError(self.peers[source].gone)
                self._waiting += 1
                self._changed.notify_all()
                self._changed.wait()
                self._waiting -= 1
            said, message = come.popleft()
            self._held -= len(message)
        if said != mark:
            msg = f"process {source} of {self.size} is in another call than this one, or its array has another size or type"
            raise ConnectionError(msg)
        return message

    def close(self) -> None:
        """At the end of the program: what was to be sent later is sent, and the others see the end of the connections."""
        if os.getpid() != self._process or self._closed:
            return
        for peer in self.peers.values():
            peer.later.put(None)
        for peer in self.peers.values():
            peer.threads[1].join(LAST)
            with contextlib.suppress(OSError):
                peer.connection.shutdown(socket.SHUT_WR)
            peer.closed = True
            if peer.gone:
                peer.connection.close()
        self._closed = True
        atexit.unregister(self.close)


class Communicator:
    """A sequence of calls that all processes make in the same order, beside those of other communicators."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.number = mesh.communicators  # the same in all, which make the same ones
        mesh.communicators += 1
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Request] | None] = queue.SimpleQueue()
        # here, and not with the first call, which a program may make at its end, where no thread can be started
        threading.Thread(target=self._work, name=f"anynet-calls-{self.number}", daemon=True).start()

    # ----- as mpi4py's -----

    def Get_rank(self) -> int:  # noqa: N802
        return self.mesh.rank

    def Get_size(self) -> int:  # noqa: N802
        return self.mesh.size

    def Dup(self) -> Communicator:  # noqa: N802
        return Communicator(self.mesh)

    def Abort(self, code: int) -> None:  # noqa: N802
        """End all processes."""
        for peer in self.mesh.peers.values():
            with contextlib.suppress(OSError):
                peer.connection.settimeout(LAST)  # one that is stopped does not keep the others
                peer.connection.sendall(FRAME.pack(ABORT, 0, code))
        _exit(code)

    def isend(self, value: Any, to: int) -> Request:
        """Begin to send an object."""
        request = Request()
        self.mesh.peers[to].later.put((self.number, pickle.dumps(value), request))
        return request

    def Iprobe(self, source: int = -1, status: _Status | None = None) -> bool:  # noqa: N802
        """Whether an object has come. Errors: ConnectionError where none of the process `source` can come any more."""
        if source >= 0 and self.mesh.peers[source].gone and not self.mesh.come(self.number, source):
            raise ConnectionError(self.mesh.peers[source].gone)
        for rank in self.mesh.peers if source < 0 else [source]:
            if self.mesh.come(self.number, rank):
                if status is not None:
                    status.source = rank
                return True
        return False

    def recv(self, source: int) -> Any:
        """The next object of a process."""
        return pickle.loads(self.mesh.receive(self.number, source))  # noqa: S301 of a process of the same training

    def Iallreduce(self, _in_place: Any, array: Any, op: str = NAMES.SUM) -> Request:  # noqa: N802
        return self._begin(lambda: self._all_reduce(array, _ufunc(op)))

    def Ireduce_scatter_block(self, array: Any, own: Any, op: str = NAMES.SUM) -> Request:  # noqa: N802
        parts = array.reshape(self.mesh.size, -1)
        mark = _mark("reduce_scatter", op, array.dtype.str, parts.shape)
        return self._begin(lambda: self._reduce(list(parts), own.reshape(-1), _ufunc(op), mark))

    def Ibcast(self, array: Any, root: int = 0) -> Request:  # noqa: N802
        return self._begin(lambda: self._broadcast(array, root))

    def Iallgather(self, own: Any, found: Any) -> Request:  # noqa: N802
        """An equal part of a buffer from each."""
        n = len(_bytes(own))
        return self.Iallgatherv(
            [own], [found, ([n] * self.mesh.size, [n * r for r in range(self.mesh.size)])]
        )

    def Iallgatherv(self, own: Any, found: Any) -> Request:  # noqa: N802
        """Parts of a buffer from each: [buffer, …] of this one, [buffer, (lengths, starts), …] of all."""
        whole, (_, starts) = _bytes(found[0]), found[1]

        def gather() -> None:
            parts = self._exchange(dict.fromkeys(self.mesh.others(), own[0]), _mark("gather"))
            for rank, part in {**parts, self.mesh.rank: _bytes(own[0])}.items():
                whole[starts[rank] : starts[rank] + len(part)] = part

        return self._begin(gather)

    def Ibarrier(self) -> Request:  # noqa: N802
        return self._begin(lambda: self._exchange(dict.fromkeys(self.mesh.others(), b""), _mark("barrier")))

    # ----- how -----

    def _begin(self, call: Callable[[], object]) -> Request:
        request = Request()
        self._calls.put((call, request))
        return request

    def close(self) -> None:
        """No call comes any more."""
        self._calls.put(None)

    def _work(self) -> None:
        while (begun := self._calls.get()) is not None:
            call, request = begun
            try:
                call()
            except BaseException as error:  # noqa: BLE001 it is raised where it is waited for
                request.finish(error)
            else:
                request.finish()

    def _exchange(
        self, messages: dict[int, Any], mark: int, sources: Iterable[int] | None = None
    ) -> dict[int, memoryview]:
        """Send a message to each of some processes, and receive one of each (by default of the same)."""
        for rank, message in messages.items():
            self.mesh.peers[rank].send(self.number, message, mark)
        return {
            rank: self.mesh.receive(self.number, rank, mark)
            for rank in (messages if sources is None else sources)
        }

    def _reduce(self, parts: list[Any], out: Any, ufunc: Callable[..., Any], mark: int) -> None:
        """This process's part of a sum."""
        np, own = registry.get_backend("numpy").native, self.mesh.rank
        come = self._exchange({rank: parts[rank] for rank in self.mesh.others()}, mark)
        all_of_it = [
            parts[own] if r == own else np.frombuffer(come[r], parts[own].dtype)
            for r in range(self.mesh.size)
        ]
        total = all_of_it[0].copy()
        for part in all_of_it[1:]:
            ufunc(total, part, out=total)
        out[...] = total

    def _all_reduce(self, array: Any, ufunc: Callable[..., Any]) -> None:
        size = self.mesh.size
        if size == 1:
            return
        flat = array.reshape(-1)  # contiguous: a view
        mark = _mark("all_reduce", ufunc.__name__, flat.dtype.str, flat.shape)
        if flat.nbytes <= SMALL or size == 2:
            self._reduce([flat] * size, flat, ufunc, mark)
            return
        cuts = [len(flat) * r // size for r in range(size + 1)]
        parts = [flat[a:b] for a, b in itertools.pairwise(cuts)]
        self._reduce(parts, own := parts[self.mesh.rank], ufunc, mark)
        for rank, part in self._exchange(dict.fromkeys(self.mesh.others(), own), mark).items():
            _bytes(parts[rank])[:] = part

    def _broadcast(self, array: Any, root: int) -> None:
        mark = _mark("broadcast", array.dtype.str, array.shape, root)
        if self.mesh.rank == root:
            self._exchange(dict.fromkeys(self.mesh.others(), array), mark, ())
        else:
            _bytes(array)[:] = self.mesh.receive(self.number, root, mark)
