"""`torch.multiprocessing.spawn`: a function called in several new processes."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from anynet.distributed.launch import met

__all__ = ["ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException", "spawn"]


class ProcessException(RuntimeError):
    """One of the processes has failed: `error_index`, which, and `error_pid`, its number in the operating system."""

    def __init__(self, msg: str, error_index: int, error_pid: int | None) -> None:
        super().__init__(msg)
        self.msg, self.error_index, self.error_pid = msg, error_index, error_pid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg, self.error_index, self.error_pid)


class ProcessRaisedException(ProcessException):
    """It has raised an exception, whose traceback is in the message."""


class ProcessExitedException(ProcessException):
    """It has ended with an exit status, or by a signal."""

    def __init__(
        self,
        msg: str,
        error_index: int,
        error_pid: int | None,
        exit_code: int,
        signal_name: str | None = None,
    ) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg, self.error_index, self.error_pid, self.exit_code, self.signal_name)


def _run(fn: Callable[..., Any], i: int, args: tuple[Any, ...], errors: Any) -> None:
    """One of the processes."""
    try:
        fn(i, *args)
    except Exception as error:  # not SystemExit, of which the exit status tells
        errors.put((i, traceback.format_exc()))
        group = met()  # not `world`, which would first wait for the others to come
        if group is not None:
            group.fail(error)  # nobody waits for this process
        raise


class ProcessContext:
    """The processes that `spawn` has started with ``join=False``."""

    def __init__(self, processes: list[Any], errors: Any) -> None:
        self.processes, self.error_queue = processes, errors
        self._raised: list[tuple[int, str]] = []

    def pids(self) -> list[int | None]:
        """Their numbers in the operating system."""
        return [p.pid for p in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait for at most `timeout` seconds. Whether all have ended.

        Errors: `ProcessRaisedException` with the traceback, or `ProcessExitedException`, where one has failed; both are RuntimeErrors. The
        others have `grace_period` seconds (5) to end by themselves.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (running := [p for p in self.processes if p.is_alive()]) and not any(
            p.exitcode for p in self.processes
        ):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._hear([p.sentinel for p in running], left)
        failed = next((i for i, p in enumerate(self.processes) if p.exitcode), None)
        if failed is None:
            return True
        last = time.monotonic() + (5.0 if grace_period is None else grace_period)
        while (running := [p for p in self.processes if p.is_alive()]) and time.monotonic() < last:
            self._hear([p.sentinel for p in running], last - time.monotonic())
        self._hear([], 0.0)
        for p in running:
            p.terminate()
        for p in running:
            p.join(5.0)
            p.kill()  # one that is stopped, or has a handler of its own
            p.join()
        if self._raised:
            failed, text = self._raised[0]
            msg = f"torch.multiprocessing.spawn: process {failed} raised\n\n{text}"
            raise ProcessRaisedException(msg, failed, self.processes[failed].pid)
        code = self.processes[failed].exitcode
        name = signal.Signals(-code).name if code < 0 and -code in list(signal.Signals) else None
        msg = f"torch.multiprocessing.spawn: process {failed} " + (
            f"was ended by {name}" if name else f"ended with exit status {code}"
        )
        raise ProcessExitedException(msg, failed, self.processes[failed].pid, code, name)

    def _hear(self, sentinels: list[int], seconds: float | None) -> None:
        """Wait until a process has ended or has said an error, which is taken in: a long one does not fit into a pipe that nobody reads."""
        errors = self.error_queue
        if errors._reader in wait([*sentinels, errors._reader], seconds):
            self._raised.append(errors.get())
            while not errors.empty():
                self._raised.append(errors.get())


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Call ``fn(i, *args)`` in `nprocs` new processes, i = 0, 1, …, and wait until all have ended; with ``join=False`` give what waits.

    Tensors among the arguments are copied. A script needs ``if __name__ == "__main__":`` around the call.

    Errors: RuntimeError where one fails, with its traceback; the others are ended.
    """
    context: Any = multiprocessing.get_context(start_method)
    errors = context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(fn, i, args, errors), daemon=daemon) for i in range(nprocs)
    ]
    for process in processes:
        process.start()
    found = ProcessContext(processes, errors)
    return None if join and found.join() else found
