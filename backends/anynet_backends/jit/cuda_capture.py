"""What is launched on a CUDA device in a block, captured as a graph: nothing of it runs then, and all of it at each launch.

A graph has a pool of memory of its own, so that what it writes lies at the same places each time and nobody else's there. Numbers that
are others at each launch (rates, step numbers, where random words stand) are cells on the device, which one small kernel writes before the
launch; its arguments are copied when it is queued, so that nothing has to wait."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import ThreadStack, fork_safe_lock, once
from anynet_backends.jit.errors import CaptureError

__all__ = ["CAPTURES", "Capture", "Cells", "random_address"]

_CELLS: Final = 1 << 14
_AT_ONCE: Final = 256  # cells that one launch writes
_U64: Final = (1 << 64) - 1
_NULL: Final = np.intp(0)

_WRITE: Final = f"""
struct Numbers {{ unsigned long long v[{_AT_ONCE}]; }};
extern "C" __global__ void anynet_write(unsigned long long* to, const Numbers numbers) {{
    to[threadIdx.x] = numbers.v[threadIdx.x];
}}
"""
_NUMBERS: Final = np.dtype([("v", np.uint64, (_AT_ONCE,))], align=True)

CAPTURES: Final[ThreadStack[Capture]] = ThreadStack("captures")
"""The capture of each thread that is in one."""


@functools.cache
def _writer() -> Any:
    return importlib.import_module("cupy").RawKernel(_WRITE, "anynet_write")


def random_address(key: int, step: int) -> tuple[Any, ...]:
    """The last arguments of a kernel that draws: both halves of the key, the step, and in a capture the cells of these (else a null
    pointer): there the key is taken from the cells, and the step is counted from theirs."""
    own = CAPTURES.own if CAPTURES else None
    if own:
        return own[-1].random_address(key, step)
    return np.uint64(key & _U64), np.uint64(key >> 64), np.uint64(step), _NULL


@contextlib.contextmanager
def _current(cupy: Any, stream: Any) -> Iterator[None]:
    """A block with a current stream. Behind it that of before is, where ``with stream:`` would go back to CUDA's default one."""
    before = cupy.cuda.get_current_stream()
    stream.use()
    try:
        yield
    finally:
        before.use()


class _Lane:
    """What the graphs of one device share: the stream on which they are captured, and with it the workspace of its products. So they are
    launched one behind the other, in whatever streams."""

    def __init__(self, cupy: Any) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.lock = fork_safe_lock()
        self.last: Any = None  # the stream of the last launch


@once
def _lane(device: int) -> _Lane:
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return _Lane(cupy)


class Cells:
    """Numbers on a device, 8 bytes for each, that the host writes without a wait."""

    def __init__(self, cupy: Any, device: Any, most: int = _CELLS) -> None:
        self._cupy, self.device, self._most = cupy, device, most
        self._count = 0
        self._values = np.zeros(-(-most // _AT_ONCE) * _AT_ONCE, np.uint64)
        self._written: Any = None
        with device:
            self._cells = cupy.zeros(self._values.size, np.uint64)
            _writer().compile()

    def take(self, count: int) -> int:
        """So many cells: the number of the first."""
        first, self._count = self._count, self._count + count
        if self._count > self._most:
            msg = f"its updates have more than {self._most} numbers"
            raise CaptureError(msg)
        return first

    def cells(self, first: int, count: int) -> Array:
        """Cells on the device."""
        return self._cells[first : first + count]

    def cell(self, at: int, kind: Any) -> Array:
        """One cell as an array of a type, without dimensions."""
        cells: Array = self._cells.view(kind)
        return cells[at * (8 // np.dtype(kind).itemsize)]

    def put(self, first: int, values: Sequence[float], kind: Any) -> None:
        """Numbers for cells, as the type `kind`; on the device they are at the next `write`."""
        numbers = self._values[first : first + len(values)]
        numbers[:] = 0
        numbers.view(kind)[:: 8 // np.dtype(kind).itemsize] = values

    def write(self) -> None:
        """Write the numbers that have changed, in the current stream."""
        for begin in range(0, self._count, _AT_ONCE):
            part = self._values[begin : begin + _AT_ONCE]
            if self._written is None or (part != self._written[begin : begin + _AT_ONCE]).any():
                numbers = np.zeros((), _NUMBERS)
                numbers["v"] = part
                _writer()((1,), (_AT_ONCE,), (self._cells[begin:], numbers[()]))
        self._written = self._values[: begin + _AT_ONCE].copy() if self._count else None


class Capture(Cells):
    """A graph of what is launched in `recording`, on one device, and the cells that it reads."""

    def __init__(self, cupy: Any, device: Any, flags: Any) -> None:
        super().__init__(cupy, device)
        self._flags = flags
        self._pool = cupy.cuda.MemoryPool()
        self._pointers: set[int] = set()
        self._graph: Any = None
        self._checks: dict[int, Any] = {}  # of indices
        self._random: tuple[int, int] = (0, 0)
        self._position: int | None = None  # of the cells of random words
        self._lane = _lane(device.id)
        self._stream = self._lane.stream

    # ----- memory -----

    def _allocate_here(self, size: int) -> Any:
        """In the capture: what is launched elsewhere would run now, and never again."""
        if self._cupy.cuda.runtime.getDevice() != self.device.id:
            msg = "something is computed on another device"
            raise CaptureError(msg)
        if self._cupy.cuda.get_current_stream() != self._stream:
            msg = "something is computed in another stream"
            raise CaptureError(msg)
        return self._allocate(size)

    def _allocate(self, size: int) -> Any:
        memory = self._pool.malloc(size)
        self._pointers.add(memory.mem.ptr)
        return memory

    def owns(self, array: Array) -> bool:
        """Whether an array lies in the memory of the graph."""
        return array.data.mem.ptr in self._pointers

    @property
    def held(self) -> int:
        """Bytes of the graph's memory."""
        return int(self._pool.total_bytes())

    @property
    def used(self) -> int:
        """Bytes of the graph's memory that arrays hold."""
        return int(self._pool.used_bytes())

    def place_for(self, array: Array) -> Array:
        """An array of the graph's own, of the same layout, for what a launch reads in the place of `array`."""
        with self.device, self._cupy.cuda.using_allocator(self._allocate):
            made: Array = self._cupy.empty_like(array)
        if made.strides != array.strides:
            msg = f"an argument of shape {array.shape} is a view whose numbers do not lie side by side; pass a copy of it"
            raise CaptureError(msg)
        return made

    def copy(self, array: Array) -> Array:
        """A copy that is not the graph's, queued behind its launch."""
        made: Array = self._cupy.empty_like(array)
        made[...] = array
        return made

    def same(self, place: Array, array: Array) -> bool:
        """Whether a place of `place_for` holds the bytes of the array; the host waits for that."""
        one, other = (self._cupy.ndarray((a.nbytes,), np.uint8, memptr=a.data) for a in (place, array))
        with self.device:
            return bool((one == other).all())

    # ----- capture -----

    @contextlib.contextmanager
    def recording(self, random: tuple[int, int]) -> Iterator[None]:
        """Capture what is launched in the block. `random`: the seed, and the step of the next random words. Whatever happens, the stream
        is no longer captured afterwards."""
        self._random = random
        unread, self._flags.noted = self._flags.unread, self._checks
        collects = gc.isenabled()
        gc.disable()  # what is freed by chance may make calls that a capture does not allow
        CAPTURES.append(self)
        done = False
        try:
            with (
                self.device,
                _current(self._cupy, self._stream),
                self._cupy.cuda.using_allocator(self._allocate_here),
            ):
                self._stream.begin_capture()
                try:
                    yield
                    done = True
                finally:
                    self._end(done)
        finally:
            CAPTURES.remove(self)
            if collects:
                gc.enable()
            self._flags.unread, self._flags.noted = unread, None

    def _end(self, done: bool) -> None:
        try:
            graph = self._stream.end_capture()
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            if done:
                msg = f"CUDA refuses what was launched: {error}"
                raise CaptureError(msg) from error
            return
        self._graph = graph if done else None

    def random_address(self, key: int, step: int) -> tuple[Any, ...]:
        """As the function of that name."""
        seed, begin = self._random
        if key != seed or step < begin:  # of a stream that begins anew at each call
            return np.uint64(key & _U64), np.uint64(key >> 64), np.uint64(step), _NULL
        if self._position is None:
            self._position = self.take(3)
        return np.uint64(0), np.uint64(0), np.uint64(step - begin), self.cells(self._position, 3)

    # ----- launches -----

    def put_random(self, key: int, step: int) -> None:
        """Where the random words of the next launch stand."""
        if self._position is not None:
            self._values[self._position : self._position + 3] = key & _U64, key >> 64, step

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The block in which a launch is prepared, made, and its results are copied: the current stream waits for what was last in one,
        where that was in another stream."""
        with self._lane.lock, self.device:
            stream, last = self._cupy.cuda.get_current_stream(), self._lane.last
            if last is not None and last != stream:
                stream.wait_event(last.record())
            self._lane.last = stream
            yield

    def launch(self) -> None:
        """Write the numbers that have changed, and launch the graph, in the current stream."""
        self.write()
        self._graph.launch(self._lane.last)
        self._flags.repeat(self._checks)

    def close(self) -> None:
        """Free the graph and its memory, which nobody may hold any more."""
        self._graph = None
        with self.device:
            self._pool.free_all_blocks()
