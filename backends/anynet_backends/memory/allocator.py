"""The C library's allocator, told to keep large blocks.

glibc maps blocks above 128 KiB anew for each allocation and gives them back at each free, so every array of a training
step is paid for with page faults: a chain of operations on arrays of 1 to 4 MB takes two to three times as long.
`keep_large_blocks` raises the thresholds of this process, so that freed blocks are used again. It costs memory only at
the peak, which is not given back. ``ANYNET_MALLOC=off`` leaves the allocator alone.
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
    """Keep freed blocks for reuse (or, with False, give them back as by default). Whether the allocator took it."""
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
    """What the NumPy backend does when it is made."""
    if config.MALLOC():
        keep_large_blocks()


def give_back() -> None:
    """Return what is free at the moment to the system: after a recording, whose values are gone."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
