"""Ctrl-C and SIGTERM while training: the batch is finished, the state saved."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM after a finished batch; the last checkpoint holds everything to go on.

    `signal` is the number of the signal.
    """

    signal: int = signal.SIGINT


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the batch; a second one stops at once.

    In the main thread only, where Python's signals are; signals that are ignored (nohup, background jobs) stay so. On leaving
    the handlers are what they were.
    """

    def __init__(self) -> None:
        self.signal = 0  # the number of the signal that asked
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a stop was requested."""
        return self.signal != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
