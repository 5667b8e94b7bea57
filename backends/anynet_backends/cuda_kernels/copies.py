"""Copies of arrays on one device, several with one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.cuda_kernels.launch import THREADS, CudaKernel, blocks_for

__all__ = ["can_copy", "copy_all"]

_PAIRS: Final = 8  # arrays that one launch copies
_COPY: Final = CudaKernel(
    "anynet_copy",
    'extern "C" __global__ void anynet_copy(const unsigned long long* stop, '
    + ", ".join(f"int* to{i}, const int* from{i}, long long n{i}" for i in range(_PAIRS))
    + ") {\n    if (stop && *stop) return;\n"
    "    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;\n"
    + "".join(
        f"    for (long long i = at; i < n{i}; i += step) to{i}[i] = from{i}[i];\n" for i in range(_PAIRS)
    )
    + "}\n",
)


def can_copy(to: Array, source: Array) -> bool:
    """Whether `copy_all` takes the pair: as many bytes side by side in both, in words of four."""
    return bool(
        to.dtype == source.dtype
        and to.dtype.itemsize >= 4
        and to.shape == source.shape
        and to.flags.c_contiguous
        and source.flags.c_contiguous
        and to.data.device_id == source.data.device_id
    )


def copy_all(pairs: Sequence[tuple[Array, Array]], stop: Any = None) -> None:
    """Copy each second array into the first, all on the current device, unless the number at `stop` is not 0."""
    for i in range(0, len(pairs), _PAIRS):
        some = pairs[i : i + _PAIRS]
        args = [part for to, source in some for part in (to, source, to.nbytes // 4)]
        args += [None, None, 0] * (_PAIRS - len(some))
        longest = max(to.nbytes // 4 for to, _ in some)
        _COPY("f", min(max(blocks_for(longest), 1), 2048), THREADS, stop, *args)
