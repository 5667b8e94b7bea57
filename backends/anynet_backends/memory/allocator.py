"""The C library's allocator: keep large blocks for reuse.

glibc maps each block above 128 KiB on allocation and unmaps it when it is freed, so that every array of a training step costs page
faults: a chain of operations on arrays of 1 to 4 MB takes two to three times as long. `keep_large_blocks` raises the thresholds
of this process, so that freed blocks are reused. The peak of memory is then not returned to the system.
``ANYNET_MALLOC=off`` leaves the allocator as it is.
"""

from __future__ import annotations

import ctypes
import sys

from anynet_backends import config

__all__ = ["give_back", "keep_large_blocks", "status"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)
_LARGE = 32 << 20  # the largest that glibc takes for M_MMAP_THRESHOLD
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 128 << 10, _MMAP_THRESHOLD: 128 << 10}


class _State:
    keeps_blocks = False


def status() -> str:
    """What the allocator does with freed blocks."""
    return (
        "keeps freed blocks (ANYNET_MALLOC=off to leave it)"
        if _State.keeps_blocks
        else "as the C library sets it"
    )


def keep_large_blocks(on: bool = True) -> bool:
    """Keep freed blocks for reuse (or, with False, return them, as by default). Returns whether the allocator accepted it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {_TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 16 << 20, _MMAP_THRESHOLD: _LARGE} if on else _DEFAULTS
    taken = all([bool(mallopt(name, value)) for name, value in wanted.items()])
    if taken:
        _State.keeps_blocks = on
    return taken


def at_import() -> None:
    """Apply ``ANYNET_MALLOC``, when the NumPy backend is created."""
    if config.MALLOC():
        keep_large_blocks()


def give_back() -> None:
    """Return free memory to the system: after tracing, whose values are no longer needed."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
