"""Steps of a training that the host does not wait for: what is not finite, and indices out of range, are found on the device, and from
then on nothing is changed, until the host reads what was found. The scale of a loss lies on the device, too, and is changed there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Ahead, ScaleRule, Seen
from anynet_backends.cuda_kernels.copies import can_copy, copy_all
from anynet_backends.cuda_kernels.launch import FLOATS, THREADS, CudaKernel, blocks_for
from anynet_backends.jit.cuda_capture import Cells

__all__ = ["StepWatch"]

# record[0]: the first step that was wrong, 0 while none was; then the losses; then of each range of numbers how many are not finite, and
# how many of them are NaN. Whole numbers are counted by atomics, which gives the same at every run. With a scaled loss the step is noted
# in `over` where a gradient is not finite.
_LOOK: Final = """
extern "C" __global__ void anynet_look(
    const T* x, long long n, const long long* ends, long long ranges, const void* loss, long long wide, const long long* index,
    long long step, const long long* cell, unsigned long long* record, unsigned long long* counts, unsigned long long* over
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
        atomicCAS(over ? over : record, 0ULL, (unsigned long long)step);
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

# Of a scaled loss: its scale (double), the updates since it has changed, those that were made in all, the row of the next, whether this
# one is left out, and `over`; after them the scale as float, which the loss is multiplied with.
_VALUE, _GOOD, _MADE, _NEXT, _STOP, _OVER, _FACTOR, _STATES = range(8)
_SCALE: Final = f"""
extern "C" __global__ void anynet_scale(
    long long* state, unsigned long long* record, unsigned long long* counts, long long n, double growth, double backoff,
    long long interval, double largest, long long rows
) {{
    double* value = (double*)(state + {_VALUE});
    const bool wrong = record[0] != 0, over = state[{_OVER}] != 0, useless = over && *value * backoff < 1.0;
    __syncthreads();
    if (over && !wrong && !useless)
        for (long long i = threadIdx.x; i < n; i += blockDim.x) counts[i] = 0;
    if (threadIdx.x != 0) return;
    if (over && !wrong) {{
        *value *= backoff;
        state[{_GOOD}] = 0;
        if (useless) record[0] = state[{_OVER}];
    }} else if (!wrong) {{
        if (++state[{_GOOD}] >= interval) {{
            const double grown = *value * growth;
            if (grown <= largest) *value = grown;
            state[{_GOOD}] = 0;
        }}
        state[{_NEXT}] = state[{_MADE}]++ % rows;
    }}
    *(float*)(state + {_FACTOR}) = (float)*value;
    state[{_STOP}] = wrong || over;
    state[{_OVER}] = 0;
}}
"""

_LOOK_AT: Final = CudaKernel("anynet_look", _LOOK)
_CHANGE_SCALE: Final = CudaKernel("anynet_scale", _SCALE)


class _Scale:
    """The scale of a loss on the device, and the updates that it decides on (`Ahead`)."""

    def __init__(self, watch: StepWatch, state: Array, rule: ScaleRule) -> None:
        self._watch, self._state, self._rule, self.rows = watch, state, rule, watch.room
        self.next, self.stop, self.over = (state[i : i + 1] for i in (_NEXT, _STOP, _OVER))
        self.factor = state.view(np.float32)[2 * _FACTOR]
        self._known = (0.0, 0)  # what the host knows that it is
        self._made = 0  # of the updates until it was read
        self._cells: dict[tuple[int, int], Cells] = {}
        # of each program the rows since it was read, and the cells that have them
        self._prepared: dict[int, list[tuple[int, Sequence[float]]]] = {}
        self._there: dict[int, tuple[Cells, int]] = {}

    def prepare(self, cells: Cells, first: int, i: int, values: Sequence[float], kind: Any) -> None:
        rows = self._prepared.setdefault(i, [])
        rows.append(((self._made + self._watch.steps - 1) % self.rows, values))
        for row, numbers in rows[-1:] if self._there.get(i) == (cells, first) else rows:
            cells.put(first + row * len(numbers), numbers, kind)
        self._there[i] = cells, first

    def put(self, value: float, good: int) -> None:
        if (value, good) == self._known:
            return
        with self._watch.device:
            self._state[_VALUE : _VALUE + 1].view(np.float64).fill(value)
            self._state[_GOOD : _GOOD + 1].fill(good)
            self.factor.fill(value)
        self._known = value, good

    def numbers(self, i: int, values: Sequence[float], kind: Any) -> Array:
        count = len(values)
        most = count * self.rows
        cells = self._cells.get((i, count))
        if cells is None:
            cells = self._cells[i, count] = Cells(self._watch.cupy, self._watch.device, most)
            cells.take(most)
        self.prepare(cells, 0, i, values, kind)
        cells.write()
        return cells.cells(0, most)

    def change(self, record: Array, counts: Array) -> None:
        """After the gradients of a step have been looked at."""
        _CHANGE_SCALE("f", 1, THREADS, self._state, record, counts, counts.size, *self._rule, self.rows)

    def read(self, found: Any) -> tuple[int, tuple[float, int]]:
        """How many updates were made since the last time, and the scale, from the host's copy of the state."""
        made, self._made = int(found[_MADE]) - self._made, int(found[_MADE])
        self._prepared.clear()
        self._known = float(found[_VALUE : _VALUE + 1].view(np.float64)[0]), int(found[_GOOD])
        return made, self._known


class StepWatch:
    """As `Backend.watch` gives it; `flags`: the device's `IndexFlags`."""

    number = np.int64
    """The type of the number of a step."""

    def __init__(
        self,
        cupy: Any,
        vectors: Sequence[Array],
        ends: Sequence[Sequence[int]],
        room: int,
        flags: Any,
        rule: ScaleRule | None = None,
    ) -> None:
        self.cupy, self._flags, self.room = cupy, flags, room
        self.device = vectors[0].device
        with self.device:
            self._all = cupy.zeros(_STATES + 1 + room + 2 * sum(map(len, ends)), np.int64)
            self._record = self._all[_STATES:]
            at = 1 + room
            self._vectors: list[tuple[Array, Array, Array]] = []
            for vector, own in zip(vectors, ends, strict=True):
                self._vectors.append((vector, cupy.asarray(own, np.int64), self._record[at:]))
                at += 2 * len(own)
            self._scale = None if rule is None else _Scale(self, self._all[:_STATES], rule)
        self.ahead: Ahead | None = self._scale
        self.stop = self._record if self._scale is None else self._scale.stop
        self.steps = 0

    @classmethod
    def of(
        cls,
        cupy: Any,
        vectors: Sequence[Array],
        ends: Sequence[Sequence[int]],
        room: int,
        flags: dict[int, Any],
        rule: ScaleRule | None = None,
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
        return cls(cupy, vectors, ends, room, flags[vectors[0].device.id], rule)

    def takes(self, loss: Array) -> bool:
        """Whether it is a loss for a kernel."""
        return loss.size == 1 and loss.dtype.char in "fd" and loss.device == self.device

    def look(self, loss: Array | None, cell: Array | None = None) -> None:
        """Look at the vectors and a loss that it `takes`, where there is one, of the next step. `cell`: where its number stands on the
        device, in a graph."""
        if cell is None:
            self.steps += 1
        over = None if self._scale is None else self._scale.over
        wide = loss is not None and loss.dtype.char == "d"
        with self.device:
            for i, (vector, ends, counts) in enumerate(self._vectors):
                _LOOK_AT(
                    vector.dtype.char, min(blocks_for(vector.size), 2048), THREADS, vector, vector.size, ends, ends.size,
                    None if i else loss, int(wide), self._flags.flag, self.steps, cell, self._record, counts,
                    over,
                )  # fmt: skip
            if self._scale is not None:
                self._scale.change(self._record, self._record[1 + self.room :])

    def keep(self, pairs: Sequence[tuple[Array, Array]]) -> bool:
        """Copy each second array into the first, while no step was wrong; False, with nothing done, where a kernel cannot."""
        if not all(can_copy(to, source) for to, source in pairs):
            return False
        with self.device:
            copy_all(pairs, self._record)
        return True

    def read(self) -> Seen:
        """Wait, and give what was seen since the last time; the next step is the first again."""
        steps, self.steps = self.steps, 0
        error = None
        with self.device:
            whole = self._all.get(blocking=not self._flags.unread)
            try:
                self._flags.read()  # waits for both
            except IndexError as wrong:
                error = wrong
            found = whole[_STATES:]
            if found[0]:
                self._record.fill(0)
        counts = found[1 + self.room :].reshape(-1, 2).tolist()
        losses = found[1 : 1 + steps].view(np.float64).tolist()
        first = int(found[0])
        made, scale = (
            (first - 1 if first else steps, None) if self._scale is None else self._scale.read(whole)
        )
        return Seen(losses, first, [(int(a), int(b)) for a, b in counts], error, made, scale)
