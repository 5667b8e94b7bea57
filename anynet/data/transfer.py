"""Objects from a worker process to the main one: pickled, with the bytes of their arrays through shared memory where there are many.

The memory has no name (Linux's memfd): it is gone with the last process that maps it, whatever ends them, and an array that is made over
it is freed as any other. Elsewhere the bytes go through the pipe.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing import reduction
from typing import Any

__all__ = ["receive", "send"]

SHARED_BYTES = 1 << 16
"""From how many bytes on shared memory pays: a mapping costs about as much as copying these."""
_ALIGN = 64


def _places(buffers: list[memoryview]) -> tuple[list[tuple[int, int]], int]:
    """Begin and end of each buffer, and the length of all."""
    places, at = [], 0
    for view in buffers:
        places.append((at, at + view.nbytes))
        at += -(-view.nbytes // _ALIGN) * _ALIGN
    return places, at


def send(connection: Any, value: Any) -> None:
    """Send an object; the other end calls `receive`."""
    held: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, 5, buffer_callback=held.append)
    buffers = [buffer.raw() for buffer in held]
    places, total = _places(buffers)
    if total < SHARED_BYTES or not hasattr(os, "memfd_create"):
        connection.send_bytes(pickle.dumps((body, [bytearray(view) for view in buffers], None), 5))
        return
    descriptor = os.memfd_create("anynet-batch", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, total)
        with mmap.mmap(descriptor, total) as shared:
            for (begin, end), view in zip(places, buffers, strict=True):
                shared[begin:end] = view
        connection.send_bytes(pickle.dumps((body, places, total), 5))
        reduction.send_handle(connection, descriptor, os.getppid())
    finally:
        os.close(descriptor)


def receive(connection: Any) -> Any:
    """An object that `send` has sent; its arrays may be written, and lie in memory that nobody else uses any more."""
    body, parts, total = pickle.loads(connection.recv_bytes())
    if total is None:
        return pickle.loads(body, buffers=parts)
    descriptor = reduction.recv_handle(connection)
    try:
        shared = memoryview(mmap.mmap(descriptor, total))
    finally:
        os.close(descriptor)
    return pickle.loads(body, buffers=[shared[begin:end] for begin, end in parts])
