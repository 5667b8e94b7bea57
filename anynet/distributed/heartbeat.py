"""A thread beside the program that sees whether a call on the device waits for ever, and says for whom.

The host may itself be waiting for the device then, for a number, or within NCCL: it cannot notice. So the thread looks, and where the
oldest call is not done in time it asks the threads of the other processes how far these are, gives the calls up, so that whoever waits
goes on, and leaves an error for the next call. Where the program does not come back from NCCL all the same, it ends the processes.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from anynet.distributed.communicator import CommunicatorGroup

_T = TypeVar("_T")

__all__ = ["Heartbeat"]

BACK: Final = 30.0
"""Seconds in which the program comes back from a call that was given up."""


class _Call(NamedTuple):
    """A call of this process: the how manieth, what it is, since when it is waited for; on the device, once it is queued."""

    number: int
    what: str
    since: float
    queued: Any = None


def _is_done(call: _Call) -> bool:
    try:
        return bool(call.queued.Test())
    except Exception:  # noqa: BLE001 the device has failed, which the program is told itself
        return True


class Heartbeat:
    """The calls of one process, and the thread that watches them.

    `group`: the processes. `give_up`: has the device leave all calls. MPI is asked by the thread where it allows several; else the error
    names no process.
    """

    def __init__(self, group: CommunicatorGroup, give_up: Callable[[], None]) -> None:
        self.group, self.timeout, self.give_up = group, group.timeout, give_up
        self.begun, self.problem = 0, ""
        self._now: _Call | None = None
        self._queued: deque[_Call] = deque()
        self._sent: list[Any] = []  # messages on their way
        self._went_on = time.monotonic()
        self._program = threading.get_ident()
        self._stopped = threading.Event()
        several = group.mpi.Query_thread() >= group.mpi.THREAD_MULTIPLE
        self._comm = group._world.Dup() if several else None
        self._thread = threading.Thread(target=self._watch, name="anynet-heartbeat", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the thread, before MPI ends."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join(10.0)

    def during(self, what: str, call: Callable[[], _T]) -> _T:
        """Make a call that may wait for the others here, or on the device, where it gives what it has queued."""
        self.begun += 1
        self._now = made = _Call(self.begun, what, time.monotonic())
        try:
            queued = call()
        finally:
            self._now = None
        if queued is not None:
            self._queued.append(made._replace(since=time.monotonic(), queued=queued))
        return queued

    # ----- the thread -----

    def _watch(self) -> None:
        pause = max(0.02, min(1.0, self.timeout / 20))
        while not self._stopped.wait(pause):
            self._answer()
            late = self._late()
            if late is not None and not self.problem:
                self._end(late)

    def _late(self) -> _Call | None:
        """The call that has waited for too long."""
        now = self._now
        if now is None:
            while self._queued:
                now = self._queued[0]
                if not _is_done(now):
                    break
                self._queued.popleft()
                self._went_on, now = time.monotonic(), None
        if now is None or time.monotonic() - max(now.since, self._went_on) <= self.timeout:
            return None
        return now

    def _end(self, late: _Call) -> None:
        group, blame = self.group, self._blame(late.number)
        again = self._late()
        if again is None or again.number != late.number:  # the others have come meanwhile
            return
        problem = (
            f"process {group.rank} of {group.size} has waited {self.timeout:g} s for its device in call {late.number} ({late.what}): "
            f"{blame}"
        )
        self.problem = problem
        group._break(problem)
        print(f"anynet, {problem}", file=sys.stderr, flush=True)
        self.give_up()
        until = time.monotonic() + BACK
        while self._now is not None and not self._stopped.wait(0.05):
            if time.monotonic() > until:
                group.abort(problem)

    def _blame(self, number: int) -> str:
        """For whom call `number` waits, as far as the others answer."""
        if self._comm is None:
            return "another process has not made it, or the network between them is gone"
        said = self._ask()
        parts = []
        for rank in range(self.group.size):
            if rank == self.group.rank:
                continue
            if rank not in said:
                parts.append(f"process {rank} does not answer: it was stopped, or its host is gone")
            elif said[rank][0] < number:
                parts.append(f"process {rank} has made {said[rank][0]} calls, and is {said[rank][1]}")
        return "; ".join(parts) or "all processes have made it: a GPU or the network between them hangs"

    def _ask(self) -> dict[int, tuple[int, str]]:
        comm = self._comm
        assert comm is not None
        others = [r for r in range(self.group.size) if r != self.group.rank]
        self._sent += [comm.isend(None, r) for r in others]
        said: dict[int, tuple[int, str]] = {}
        until = time.monotonic() + self.group.grace
        while len(said) < len(others) and time.monotonic() < until and not self._stopped.wait(0.01):
            said |= self._answer()
        return said

    def _answer(self) -> dict[int, tuple[int, str]]:
        """Tell those who have asked how far this process is; what those have said that were asked."""
        said: dict[int, tuple[int, str]] = {}
        comm, mpi = self._comm, self.group.mpi
        if comm is None:
            return said
        status = mpi.Status()
        while comm.Iprobe(source=mpi.ANY_SOURCE, status=status):
            source = status.Get_source()
            message = comm.recv(source=source)
            if message is None:
                self._sent.append(comm.isend((self.begun, self._place()), source))
            else:
                said[source] = message
        return said

    def _place(self) -> str:
        """Where the program is, below this library."""
        now = self._now
        if now is not None:
            return f"in call {now.number} ({now.what})"
        frame = sys._current_frames().get(self._program)
        if frame is None:
            return "at its end"
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("anynet"):
            frame = frame.f_back
        return f"at line {frame.f_lineno} of {frame.f_code.co_filename} ({frame.f_code.co_name})"
