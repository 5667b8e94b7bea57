"""Arrays of the host on their way to a GPU: through page-locked buffers, on a stream of their own, beside what the GPU computes.

Three things wait for each other, and the host for none of them, unless it is far ahead: a copy waits until what was computed with the
memory that it fills is done; what is computed next waits for the copy; a page-locked buffer is written to again when its copy is done.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["Uploads"]

_BUFFERS: Final = 4
"""Page-locked buffers of one size: two arrays of that size in each of two batches are on their way at once."""
_KEPT: Final = 16
"""Blocks of the device that are kept for the next arrays of their size."""
_GRAIN: Final = 512


class _Block:
    """Memory of the device, and the event from which on it may be written to."""

    def __init__(self, cupy: Any, size: int, stream: Any) -> None:
        self.memory, self.stream = cupy.cuda.alloc(size), stream
        self.free = cupy.cuda.Event(disable_timing=True)
        self.free.record(stream)


class _Lease:
    """What an array keeps alive while it, or a view of it, is there; then the block is free once the work is done that was queued."""

    def __init__(self, kept: deque[_Block], lent: set[_Block], block: _Block) -> None:
        self.kept, self.lent, self.block = kept, lent, block
        # so that a block is never garbage together with the array: its event would be destroyed with it
        lent.add(block)

    def __del__(self) -> None:
        block = self.block
        if sys.is_finalizing():
            return
        self.lent.discard(block)
        # of the block's device, whose default stream may be meant; during a capture the memory goes back to the pool
        with contextlib.suppress(Exception), block.memory.device:
            if not block.stream.is_capturing():
                block.free.record(block.stream)
                self.kept.append(block)


class Uploads:
    """The copies to one device."""

    def __init__(self, cupy: Any, device: Any) -> None:
        self.cupy, self.device = cupy, device
        with device:
            self.copies = cupy.cuda.Stream(non_blocking=True)
        self.pinned: dict[int, deque[tuple[Any, Any]]] = {}
        self.kept: deque[_Block] = deque()
        self.lent: set[_Block] = set()
        self._lock = threading.Lock()

    def __call__(self, array: Array) -> Array:
        """A copy of a NumPy array of a dtype that CuPy has, on the device; the host may change the array afterwards."""
        cupy = self.cupy
        with self.device, self._lock:
            stream = cupy.cuda.get_current_stream()
            if array.nbytes == 0 or stream.is_capturing():
                return cupy.array(array, order="C")
            size = -(-array.nbytes // _GRAIN) * _GRAIN
            buffer, copied = self._buffer(size)
            np.copyto(np.frombuffer(buffer, array.dtype, array.size).reshape(array.shape), array)
            block = self._block(size, stream)
            self.copies.wait_event(block.free)
            block.memory.copy_from_host_async(buffer.ptr, array.nbytes, self.copies)
            copied.record(self.copies)
            stream.wait_event(copied)
            memory = cupy.cuda.UnownedMemory(
                block.memory.ptr, size, _Lease(self.kept, self.lent, block), self.device.id
            )
            return cupy.ndarray(array.shape, array.dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

    def _buffer(self, size: int) -> tuple[Any, Any]:
        """A page-locked buffer that no copy reads, and its event."""
        ring = self.pinned.setdefault(size, deque())
        if len(ring) < _BUFFERS and not (ring and ring[0][1].done):
            cuda = self.cupy.cuda
            found = cuda.alloc_pinned_memory(size), cuda.Event(disable_timing=True)
        else:
            found = ring.popleft()
            if not found[1].done:
                found[1].synchronize()
        ring.append(found)
        return found

    def _block(self, size: int, stream: Any) -> _Block:
        """Memory for an array that is used on a stream."""
        for _ in range(len(self.kept)):
            block = self.kept.popleft()
            if block.memory.mem.size >= size and block.memory.mem.size < 2 * size and block.stream == stream:
                return block
            if len(self.kept) < _KEPT:  # else it goes back to the pool of the stream on which it was used
                self.kept.append(block)
        return _Block(self.cupy, size, stream)

    def clear(self) -> None:
        """Give back what is kept for the next arrays."""
        with self._lock:
            self.kept.clear()
            self.pinned.clear()
