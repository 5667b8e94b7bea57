"""Steps of a training that the host does not wait for: what is not finite, and indices out of range, are found on the device, and from
then on nothing is changed, until the host reads what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Seen
from anynet_backends.cuda_kernels.launch import FLOATS, THREADS, CudaKernel, blocks_for

__all__ = ["StepWatch"]

# record[0]: the first step that was wrong, 0 while none was; then the losses; then of each range of numbers how many are not finite, and
# how many of them are NaN. Whole numbers are counted by atomics, which gives the same at every run.
_LOOK: Final = """
extern "C" __global__ void anynet_look(
    const T* x, long long n, const long long* ends, long long ranges, const void* loss, long long wide, const long long* index,
    long long step, const long long* cell, unsigned long long* record, unsigned long long* counts
) {
    if (cell) step = *cell;
    const unsigned long long before = *(volatile unsigned long long*)record;
    if (before && before != (unsigned long long)step) return;
    if (loss && threadIdx.x == 0 && blockIdx.x == 0) {
        const double value = wide ? *(const double*)loss : (double)*(const float*)loss;
        ((double*)record)[step] = value;
        if (!(value - value == 0.0) || (index && *index)) atomicCAS(record, 0ULL, (unsigned long long)step);
    }
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        const A value = up(x[i]);
        if (value - value == A(0)) continue;
        atomicCAS(record, 0ULL, (unsigned long long)step);
        long long first = 0, last = ranges - 1;
        while (first < last) {
            const long long middle = (first + last) / 2;
            if (i < ends[middle]) last = middle; else first = middle + 1;
        }
        atomicAdd(&counts[2 * first], 1ULL);
        if (value != value) atomicAdd(&counts[2 * first + 1], 1ULL);
    }
}
"""

_PAIRS: Final = 8  # arrays that one launch copies
_KEEP: Final = (
    'extern "C" __global__ void anynet_keep(const unsigned long long* record, '
    + ", ".join(f"int* to{i}, const int* from{i}, long long n{i}" for i in range(_PAIRS))
    + ") {\n    if (*record) return;\n"
    "    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x, step = (long long)gridDim.x * blockDim.x;\n"
    + "".join(
        f"    for (long long i = at; i < n{i}; i += step) to{i}[i] = from{i}[i];\n" for i in range(_PAIRS)
    )
    + "}\n"
)
_LOOK_AT, _KEEP_THESE = CudaKernel("anynet_look", _LOOK), CudaKernel("anynet_keep", _KEEP)


class StepWatch:
    """As `Backend.watch` gives it; `flags`: the device's `IndexFlags`."""

    number = np.int64
    """The type of the number of a step."""

    def __init__(
        self, cupy: Any, vectors: Sequence[Array], ends: Sequence[Sequence[int]], room: int, flags: Any
    ) -> None:
        self._cupy, self._flags, self.room = cupy, flags, room
        self.device = vectors[0].device
        with self.device:
            self.stop = cupy.zeros(1 + room + 2 * sum(map(len, ends)), np.int64)
            at = 1 + room
            self._vectors: list[tuple[Array, Array, Array]] = []
            for vector, own in zip(vectors, ends, strict=True):
                self._vectors.append((vector, cupy.asarray(own, np.int64), self.stop[at:]))
                at += 2 * len(own)
        self.steps = 0

    @classmethod
    def of(
        cls,
        cupy: Any,
        vectors: Sequence[Array],
        ends: Sequence[Sequence[int]],
        room: int,
        flags: dict[int, Any],
    ) -> StepWatch | None:
        """The watch of vectors that a kernel can go over; else None."""
        if not vectors or any(
            v.dtype.char not in FLOATS
            or not v.flags.c_contiguous
            or not v.size
            or v.device != vectors[0].device
            for v in vectors
        ):
            return None
        return cls(cupy, vectors, ends, room, flags[vectors[0].device.id])

    def takes(self, loss: Array) -> bool:
        """Whether it is a loss for a kernel."""
        return loss.size == 1 and loss.dtype.char in "fd" and loss.device == self.device

    def look(self, loss: Array, cell: Array | None = None) -> None:
        """Look at the vectors and a loss that it `takes`, of the next step. `cell`: where its number stands on the device, in a graph."""
        if cell is None:
            self.steps += 1
        with self.device:
            for i, (vector, ends, counts) in enumerate(self._vectors):
                _LOOK_AT(
                    vector.dtype.char, min(blocks_for(vector.size), 2048), THREADS, vector, vector.size, ends, ends.size,
                    None if i else loss, int(loss.dtype.char == "d"), self._flags.flag, self.steps, cell, self.stop, counts,
                )  # fmt: skip

    def keep(self, pairs: Sequence[tuple[Array, Array]]) -> bool:
        """Copy each second array into the first, while no step was wrong; False, with nothing done, where a kernel cannot."""
        if any(
            a.nbytes != b.nbytes or a.nbytes % 4 or a.dtype.itemsize < 4 or not (a.flags.c_contiguous and b.flags.c_contiguous)
            for a, b in pairs
        ):  # fmt: skip
            return False
        with self.device:
            for i in range(0, len(pairs), _PAIRS):
                some = pairs[i : i + _PAIRS]
                args = [part for to, source in some for part in (to, source, to.nbytes // 4)]
                args += [None, None, 0] * (_PAIRS - len(some))
                longest = max(to.nbytes // 4 for to, _ in some)
                _KEEP_THESE("f", min(max(blocks_for(longest), 1), 2048), THREADS, self.stop, *args)
        return True

    def read(self) -> Seen:
        """Wait, and give what was seen since the last time; the next step is the first again."""
        steps, self.steps = self.steps, 0
        error = None
        with self.device:
            found = self.stop.get(blocking=not self._flags.unread)
            try:
                self._flags.read()  # waits for both
            except IndexError as wrong:
                error = wrong
            if found[0]:
                self.stop.fill(0)
        counts = found[1 + self.room :].reshape(-1, 2).tolist()
        losses = found[1 : 1 + steps].view(np.float64).tolist()
        return Seen(losses, int(found[0]), [(int(a), int(b)) for a, b in counts], error)
