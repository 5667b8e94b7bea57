"""What was asked of the emulated device: `with Log() as log: …`, then `log.launches`, `log.synchronisations`, `log.lines`.

Only within a process that the emulator runs; `present()` says whether this is one."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from types import TracebackType


def present() -> bool:
    """Whether this process was started with the emulator in place of GPUs."""
    return "CUDA_EMULATOR" in os.environ


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


@contextlib.contextmanager
def late(streams: str) -> Iterator[None]:
    """Within the block the work of the "default" stream and of the blocking ones, of the "others", or of "all" runs as late as CUDA may run
    it: when something waits for it. What uses it without a wait sees what was there before."""
    _library().cuda_emulator_late({"others": 1, "default": 2, "all": 3}[streams])
    try:
        yield
    finally:
        _library().cuda_emulator_late(0)


class Log:
    """The lines that the emulator records while the block runs; one recording at a time."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __enter__(self) -> Log:
        _library().cuda_emulator_record(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        library = _library()
        library.cuda_emulator_record(0)
        library.cuda_emulator_log_size.restype = ctypes.c_size_t
        text = ctypes.create_string_buffer(library.cuda_emulator_log_size() + 1)
        library.cuda_emulator_log(text)
        self.lines = text.value.decode().splitlines()

    def having(self, *kinds: str) -> list[str]:
        """The lines that begin with one of the kinds."""
        return [line for line in self.lines if line.startswith(kinds)]

    @property
    def launches(self) -> int:
        """Kernels, products, sorts and graphs."""
        return len(self.having("launch ", "graph "))

    @property
    def copies(self) -> int:
        """Copies and fills that stay on the device, or go to it or come from it, and were queued."""
        return len(self.having("copy ", "memset"))

    @property
    def synchronisations(self) -> int:
        """Times that the host waited for the device."""
        return len(self.having("synchronize "))

    @property
    def streams(self) -> list[str]:
        """Where work was queued, each once: "the default stream", "a blocking stream 9…" (its address), "a non-blocking stream 9…"."""
        return list(dict.fromkeys(line.removeprefix("on ") for line in self.having("on ")))

    def kinds(self) -> Counter[str]:
        """How often each line came."""
        return Counter(self.lines)
