"""Ctrl-C while training: the batch is finished, the state saved."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C after a finished batch; the last checkpoint holds everything to go on."""


class StopRequest:
    """Turns the first Ctrl-C into a request to stop after the batch; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
