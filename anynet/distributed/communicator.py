"""Processes with a communicator between them: mpi4py's (`mpi.py`), or one of TCP connections with the same methods (`tcp.py`).

No call blocks inside it: each is begun, and asked again and again whether it is done. So a process that waits hears that another one has
failed, and raises an error that says so, instead of waiting for ever. Four communicators keep apart what may overlap: the calls of the
program, the sums that are on their way during a backward pass, messages from one process to another, and the notices of failures.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from anynet.distributed.group import DistributedError, Group, Pending
from anynet_backends import Array
from anynet_backends.jit.errors import CaptureError
from anynet_backends.jit.tracer import CAPTURING

__all__ = ["CommunicatorGroup"]


@dataclass
class _Notice:
    """What a process says when it leaves the common program: why, and how many calls it had begun on each communicator."""

    text: str  # "" where it has come to its regular end
    calls: dict[str, int]
    busy: bool = False  # whether it was waiting in a call


@dataclass
class _Lane:
    """A communicator, and how many calls this process has begun on it."""

    name: str
    comm: Any
    calls: int = 0
    waiting: int = 0


@dataclass
class _News:
    """What has been heard of the others."""

    notices: dict[int, list[_Notice]] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)


class CommunicatorGroup(Group):
    """The processes of a communicator.

    `mpi`: mpi4py.MPI, or what has its names. `timeout`: seconds after which a process that waits for the others gives up. `grace`: seconds
    that a process which has failed, or asks the others where they are, waits for what they say.

    Arrays that are not on the host (CUDA) go through it; `on_device` makes a group whose sums stay on the GPUs.

    Errors: `DistributedError` in every process where one of them fails, ends its program while the others wait for it, or does not come in
    time.
    """

    def __init__(self, mpi: Any, comm: Any, *, timeout: float, grace: float) -> None:
        self.mpi = mpi
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self.timeout, self.grace = float(timeout), float(grace)
        self._world = comm
        self._lanes = {name: _Lane(name, comm.Dup()) for name in ("calls", "sums")}
        self._lanes["devices"] = _Lane("devices", None)  # the calls of NCCL, which has its own
        self.on_devices: dict[Any, Group] = {}
        self._control, self._messages = comm.Dup(), comm.Dup()
        # messages with tags that were not asked for yet
        self._kept: defaultdict[tuple[int, int], deque[Any]] = defaultdict(deque)
        self._news = _News()
        self._told: BaseException | None = None
        self._broken: str | None = None
        self._process = os.getpid()
        if self.size > 1:
            atexit.register(self._leave)
            _groups.add(self)
            _tell_of_uncaught_errors()

    @classmethod
    def _seconds(cls, **limits: Any) -> None:
        """Refuse limits of time that are none."""
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
                msg = f"{cls.__name__}: {name} must be a number of seconds above 0, got {limit!r}"
                raise ValueError(msg)

    # ----- calls -----

    def _op(self, op: str) -> Any:
        return {"sum": self.mpi.SUM, "max": self.mpi.MAX, "min": self.mpi.MIN}[op]

    def _begin(self, lane: str, what: str, start: Callable[[Any], Any]) -> Pending:
        """Begin a call on a communicator."""
        self._may(what)
        on = self._lanes[lane]
        on.calls += 1
        number, request = on.calls, start(on.comm)
        return Pending(
            lambda: self._wait(request, on, number, what), lambda: self._is_done(request, on, number, what)
        )

    def _may(self, what: str) -> None:
        """Refuse calls within a graph, which would make them without the others' knowledge, and none could give them up; and after an
        error."""
        if CAPTURING and CAPTURING.own:
            msg = f"{what} over processes is no part of a graph; compile what comes before it"
            raise CaptureError(msg)
        if self._broken is not None:
            raise DistributedError(self._broken)

    def _wait(self, request: Any, lane: _Lane, number: int, what: str) -> None:
        """Return when a call is done."""
        if self._is_done(request, lane, number, what):
            return
        lane.waiting = number
        self._until(
            lambda: self._is_done(request, lane, number, what),
            lambda: self._look(lane, number, what),
            f"in {what} for the others; is one of them in another call?",
        )
        lane.waiting = 0

    def _until(self, done: Callable[[], bool], look: Callable[[], None], what: str) -> None:
        """Return when something is done; `look` raises where it never will be. The processor is given away between the questions, the
        longer the longer it takes."""
        began, asked = time.monotonic(), 0
        while not done():
            asked += 1
            if asked % 16 == 0:
                look()
                if time.monotonic() - began > self.timeout:
                    self._raise(f"process {self.rank} of {self.size} has waited {self.timeout:g} s {what}")
            time.sleep(0.0 if asked < 200 else 1e-4 if asked < 2000 else 1e-3)

    def _is_done(self, request: Any, lane: _Lane, number: int, what: str) -> bool:
        try:
            return bool(request.Test())
        except ConnectionError as error:
            self._look(lane, number, what)  # it may have said why
            self._raise(str(error), error)

    def _start(self, host: Array, op: str) -> Pending:
        in_place, operation = self.mpi.IN_PLACE, self._op(op)
        return self._begin("calls", "all_reduce", lambda comm: comm.Iallreduce(in_place, host, op=operation))

    def start_all_reduce(self, host: Array) -> Pending:
        in_place = self.mpi.IN_PLACE
        return self._begin("sums", "a sum of gradients", lambda comm: comm.Iallreduce(in_place, host))

    def _broadcast(self, host: Array, root: int) -> None:
        self._begin("calls", "broadcast", lambda comm: comm.Ibcast(host, root=root)).wait()

    def _reduce_scatter(self, host: Any, op: str) -> Array:
        operation, own = self._op(op), host[: host.shape[0] // self.size].copy()
        self._begin(
            "calls", "reduce_scatter", lambda comm: comm.Ireduce_scatter_block(host, own, op=operation)
        ).wait()
        found: Array = own
        return found

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, any picklable objects, by rank."""
        bytes_of = self.mpi.pickle.dumps(value)
        lengths = self._exchange(len(bytes_of))
        starts = [sum(lengths[:r]) for r in range(self.size)]
        everything = bytearray(sum(lengths))
        whole = [everything, (lengths, starts), self.mpi.BYTE]
        mine = [bytes_of, self.mpi.BYTE]
        self._begin("calls", "gather", lambda comm: comm.Iallgatherv(mine, whole)).wait()
        return [self.mpi.pickle.loads(everything[a : a + n]) for a, n in zip(starts, lengths, strict=True)]

    def _exchange(self, number: int) -> list[int]:
        """An integer of each process."""
        import array  # of the standard library: a buffer for MPI

        own, found = array.array("q", [number]), array.array("q", [0] * self.size)
        self._begin("calls", "gather", lambda comm: comm.Iallgather(own, found)).wait()
        return list(found)

    def barrier(self) -> None:
        """Return when all processes have come here."""
        self._begin("calls", "barrier", lambda comm: comm.Ibarrier()).wait()

    def abort(self, message: str) -> None:
        """End all processes at once, with a message on the standard error stream."""
        print(f"anynet, process {self.rank} of {self.size}: {message}", file=sys.stderr, flush=True)
        self._world.Abort(1)

    def send(self, value: Any, to: int, tag: int = 0) -> Pending:
        """Begin to send a process a value, any picklable object; what is sent to a process comes there in this order."""
        self._check_other("send", to)
        self._may("send")
        request = self._messages.isend((tag, value), to)
        # it may not be forgotten before it is done
        self._news.sent = [*(r for r in self._news.sent if not r.Test()), request]

        def done() -> bool:
            return self._has(request.Test)

        return Pending(lambda: self._wait_for_message("send", to, done), done)

    def receive(self, source: int | None = None, tag: int = 0) -> tuple[int, Any]:
        """The next value with the tag that a process (by default any) has sent to this one, when it has come, and who has sent it."""
        if source is not None:
            self._check_other("receive", source)
        self._may("receive")
        sources = [r for r in range(self.size) if r != self.rank] if source is None else [source]
        found: list[int] = []

        def come() -> bool:
            for r in sources:
                while not self._kept[r, tag] and self._has(lambda r=r: self._messages.Iprobe(source=r)):  # type: ignore[misc]
                    said, value = self._messages.recv(source=r)
                    self._kept[r, said].append(value)
                if self._kept[r, tag]:
                    found.append(r)
                    return True
            return False

        self._wait_for_message("receive", source, come)
        return found[0], self._kept[found[0], tag].popleft()

    def _check_other(self, where: str, other: int) -> None:
        self._check_rank(where, other)
        if other == self.rank:
            msg = f"{where}: must be of another process than this one, which is process {other}"
            raise ValueError(msg)

    def _has(self, test: Callable[[], Any]) -> bool:
        try:
            return bool(test())
        except ConnectionError as error:
            self._hear()
            said = next((n.text for ns in self._news.notices.values() for n in ns if n.text), "")
            self._raise(f"another process has failed: {said}" if said else str(error), error)

    def _wait_for_message(self, what: str, other: int | None, done: Callable[[], bool]) -> None:
        """Return when a message has come from a process (from any), or gone there."""

        def look() -> None:
            self._hear()
            left = {r: n[-1] for r, n in self._news.notices.items() if n and other in (None, r)}
            failed = [r for r in left if left[r].text]
            if (failed or (left and (other is not None or len(left) == self.size - 1))) and not done():
                rank = (failed or list(left))[0]
                self._raise(self._has_left(rank, left[rank], what))

        self._until(done, look, f"in {what} for process {'any' if other is None else other}")

    # ----- failures -----

    def _break(self, why: str) -> None:
        self._broken = why

    def _raise(self, why: str, cause: BaseException | None = None) -> NoReturn:
        """Nothing can be called any more."""
        self._break(why)
        raise DistributedError(why) from cause

    def _has_left(self, rank: int, notice: _Notice, what: str) -> str:
        how = f"failed: {notice.text}" if notice.text else f"ended its program, while {what} waits for it"
        return f"process {rank} of {self.size} has {how}"

    def _hear(self) -> None:
        """Take in the notices that have come."""
        status = self.mpi.Status()
        while self._control.Iprobe(source=self.mpi.ANY_SOURCE, status=status):
            source = status.Get_source()
            self._news.notices.setdefault(source, []).append(self._control.recv(source=source))

    def _look(self, lane: _Lane, number: int, what: str) -> None:
        """Raise where a process that has left will not take part in this call."""
        self._hear()
        for rank, notices in sorted(self._news.notices.items()):
            for notice in notices:
                if notice.calls[lane.name] < number:
                    self._raise(self._has_left(rank, notice, what))

    def _tell(self, text: str) -> _Notice:
        busy = any(lane.waiting for lane in self._lanes.values())
        notice = _Notice(text, {name: lane.calls for name, lane in self._lanes.items()}, busy)
        for other in range(self.size):
            if other != self.rank:
                self._news.sent.append(self._control.isend(notice, other))
        return notice

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process leaves the common program because of an error, and hear what they say.

        Where all of them fail in the same place (the loss is no number, an option is refused), they can go on together. Else every
        later call raises `DistributedError`, and the processes are ended when their programs have ended.
        """
        # a forked process is none of the group
        if self.size == 1 or self._told is error or os.getpid() != self._process:
            return
        self._told = error
        own = self._tell(f"{type(error).__name__}: {error}"[:2000])
        others = [r for r in range(self.size) if r != self.rank]
        until = time.monotonic() + self.grace
        while time.monotonic() < until:
            self._hear()
            if all(self._news.notices.get(r) for r in others):
                break
            time.sleep(1e-3)
        else:
            self._break(
                self._broken
                or f"this process has failed before ({type(error).__name__}: {error}), and others have not"
            )
            return
        heard = [self._news.notices[r].pop(0) for r in others]
        alike = all(n.text and n.calls == own.calls and not n.busy for n in heard) and not own.busy
        if self._broken is None and not alike:
            rank, first = next(((r, n) for r, n in zip(others, heard, strict=True)), (self.rank, own))
            self._break(
                f"process {rank} of {self.size} has failed: {first.text or 'it has ended its program'}"
            )

    def close(self) -> None:
        """Leave the others before the end of the program: what becomes of one is nothing to the others from then on.

        Not while an error is on its way, or after one: then the end of the program tells of it.
        """
        if self.size == 1 or self._broken is not None or sys.exc_info()[1] is not None:
            return
        self._tell("")
        self._break("this process has left the group")
        _groups.discard(self)
        atexit.unregister(self._leave)
        self._close()

    def _close(self) -> None:
        """End what the communicators need."""

    def _leave(self) -> None:
        """At the end of the program: tell the others, and end those that would wait."""
        if self.mpi.Is_finalized() or os.getpid() != self._process:
            return
        self._tell(self._broken or "")
        if self._broken is None:
            return
        until = time.monotonic() + self.grace / 2  # for the others to say their errors
        while time.monotonic() < until:
            self._hear()
            if all(self._news.notices.get(r) for r in range(self.size) if r != self.rank):
                break
            time.sleep(1e-2)
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(1)


_groups: weakref.WeakSet[CommunicatorGroup] = weakref.WeakSet()
_hooks: list[Any] = []


def _tell_of_uncaught_errors() -> None:
    """The error that ends this process is told to the others of all its groups."""
    if _hooks:
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        before(kind, error, trace)
        for group in list(_groups):
            group.fail(error)

    sys.excepthook = hook
    _hooks.append(hook)
