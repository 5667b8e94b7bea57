"""What is so in one thread, where to ask costs next to nothing while it is so in none."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PerThread", "in_forked_processes"]

_T = TypeVar("_T")


class PerThread(list[_T]):
    """A stack for each thread: `own` is that of the thread that asks. The list itself has what lies on all of them,
    and is there to be asked whether it is empty.

    >>> stack = PerThread()
    >>> stack.append("here")
    >>> bool(stack), stack.own
    (True, ['here'])
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @property
    def own(self) -> list[_T]:
        """This thread's; the last is the latest."""
        stack: list[_T] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def append(self, item: _T) -> None:
        """Lay something on this thread's stack."""
        self.own.append(item)
        super().append(item)

    def remove(self, item: _T) -> None:
        """Take the latest such thing from this thread's stack."""
        own = self.own
        del own[len(own) - 1 - own[::-1].index(item)]
        super().remove(item)

    def pop(self, *_: Any) -> _T:
        """Take the latest thing from this thread's stack."""
        item = self.own[-1]
        self.remove(item)
        return item

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within the block this thread's stack is empty."""
        own = self.own
        held = own[:]
        own.clear()
        try:
            yield
        finally:
            own[:] = held


def in_forked_processes(function: Callable[[], None]) -> None:
    """Have a function called in every process that is forked from this one, before anything else. OpenMP's threads are not
    there, and whoever counts on them waits for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
