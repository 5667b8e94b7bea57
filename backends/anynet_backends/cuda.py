"""What the NVIDIA driver says, without a library of arrays."""

from __future__ import annotations

import ctypes
import functools

__all__ = ["cuda_driver"]


@functools.cache
def cuda_driver() -> int:
    """The CUDA version that the NVIDIA driver supports (12040 for 12.4), 0 without a driver. Touches no
    device."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        version = ctypes.c_int(0)
        try:
            if ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version)) == 0:
                return version.value
        except (OSError, AttributeError):
            continue
    return 0
