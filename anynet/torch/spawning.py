"""`torch.multiprocessing.spawn`: a function called in several new processes."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

from anynet.distributed import world

__all__ = ["ProcessContext", "spawn"]


def _run(fn: Callable[..., Any], i: int, args: tuple[Any, ...], errors: Any) -> None:
    """One of the processes."""
    try:
        fn(i, *args)
    except BaseException as error:
        errors.put((i, traceback.format_exc()))
        world().fail(error)  # nobody waits for this process
        raise


class ProcessContext:
    """The processes that `spawn` has started with ``join=False``."""

    def __init__(self, processes: list[Any], errors: Any) -> None:
        self.processes, self.error_queue = processes, errors

    def pids(self) -> list[int | None]:
        """Their numbers in the operating system."""
        return [p.pid for p in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait for at most `timeout` seconds. Whether all have ended.

        Errors: RuntimeError where one has failed, with its traceback; the others have `grace_period` seconds (5) to end by themselves.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (running := [p for p in self.processes if p.is_alive()]) and not any(
            p.exitcode for p in self.processes
        ):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            wait([p.sentinel for p in running], left)
        failed = next((i for i, p in enumerate(self.processes) if p.exitcode), None)
        if failed is None:
            return True
        why = f"ended with exit status {self.processes[failed].exitcode}"
        if not self.error_queue.empty():
            failed, text = self.error_queue.get()
            why = f"raised\n\n{text}"
        last = time.monotonic() + (5.0 if grace_period is None else grace_period)
        for p in self.processes:
            p.join(max(0.0, last - time.monotonic()))
            p.terminate()
            p.join()
        msg = f"torch.multiprocessing.spawn: process {failed} {why}"
        raise RuntimeError(msg)


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
