"""Indices out of range on a GPU: a kernel writes the first one into a flag on the device, which is read when the host waits for the
device anyway. So nothing waits for a check, and a wrong index is an error at the next value that is read.

ANYNET_CHECK=1 checks at once, and waits for each check."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["SOURCE", "IndexFlags"]

SOURCE: Final = (
    "T index, int64 least, int64 within, int64 ignored, int64 number",
    "raw int64 flag",
    """
    const long long at = (long long)index;
    if ((at < least || at >= within) && at != ignored)
        if (!atomicCAS((unsigned long long*)&flag[0], 0ULL, (unsigned long long)number)) flag[1] = at;
    """,
    "anynet_check_index",
)
"""The first thread that finds a wrong index writes the check's number and the index."""

_KEPT: Final = 4096  # checks whose errors are still known by number; older ones have a message without a name


@cache
def _kernel() -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*SOURCE)


class IndexFlags:
    """The flag of one device, and the functions that raise the errors."""

    def __init__(self) -> None:
        self.flag: Any = (
            None  # int64: the number of the check that failed first, and the index; 0 where none failed
        )
        self.unread = False
        self.noted: dict[int, Callable[..., None]] | None = None  # the checks of a capture
        self._numbers = count(1)
        self._functions: OrderedDict[int, Callable[..., None]] = OrderedDict()

    def check(
        self, function: Callable[..., None], index: Array, least: int, within: int, ignored: int | None
    ) -> None:
        """Queue a check of integers; `function` raises the error for a wrong one."""
        if index.size == 0 or index.dtype.kind not in "iu":
            return
        if self.flag is None:
            self.flag = importlib.import_module("cupy").zeros(2, dtype=np.int64)
        number = next(self._numbers)
        self._functions[number] = function
        if self.noted is not None:
            self.noted[number] = function
        if len(self._functions) > _KEPT:
            self._functions.popitem(last=False)
        _kernel()(index, least, within, least if ignored is None else ignored, number, self.flag)
        self.unread = True

    def repeat(self, noted: dict[int, Callable[..., None]]) -> None:
        """Checks that were noted are queued again, by a graph."""
        if noted:
            for number in noted.keys() & self._functions.keys():
                del self._functions[number]
            self._functions.update(noted)  # the latest
            self.unread = True

    def read(self) -> None:
        """Raise the error of the first wrong index since the last call; waits for the device."""
        if not self.unread:
            return
        self.unread = False
        number, index = self.flag.get().tolist()
        if not number:
            return
        self.flag.fill(0)
        function = self._functions.get(number)
        try:
            if function is not None:
                function(np.asarray([index]))
            msg = f"index {index} is out of range"
            raise IndexError(msg)
        except IndexError as error:
            error.add_note(
                "found on the GPU, and raised when a value was read; with ANYNET_CHECK=1 it is raised by the operation itself"
            )
            raise
