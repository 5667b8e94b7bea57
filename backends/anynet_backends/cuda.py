"""What the NVIDIA driver says, without a library of arrays."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Final

__all__ = ["cuda_driver", "local_rank"]

_LOCAL_RANKS: Final = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "PALS_LOCAL_RANKID",
    "LOCAL_RANK",
)  # fmt: skip
"""Of Open MPI, MPICH and Intel MPI, MVAPICH, srun, Cray's PALS, torchrun."""


def local_rank() -> int:
    """The number of this process among those that a launcher has started on this host, 0 without one."""
    found = (os.environ.get(name, "") for name in _LOCAL_RANKS)
    return next((int(text) for text in found if text.isdecimal()), 0)


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
