"""The stream of a CUDA device on which anynet computes: one for all threads, not the default stream of CUDA.

The default stream waits for what every other library has queued on its own streams, and they for it. This stream waits for none of them,
and may be captured. It is a blocking one, though: the default stream and it wait for each other, on the device. A non-blocking stream would
wait for nobody, and then what others do with the same arrays would be wrong without a word, however carefully arrays were handed over:
a user's CuPy code in a thread in which anynet has not been called yet, or behind a ``with stream:`` (CuPy goes back to the default
stream where it ends, whatever was current before), and PyTorch, which computes on the default stream with memory that was shared once.

What is to overlap has non-blocking streams of its own, with events: copies of batches (`cupy_uploads`), sums over processes
(`cupy_collectives`), captures (`jit.cuda_capture`).
"""

from __future__ import annotations

from typing import Any

from anynet_backends.concurrency import fork_safe_lock

__all__ = ["OwnStreams"]


class OwnStreams:
    """The streams of all devices, each made when the device is first used."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._current, self._default = cupy.cuda.get_current_stream, cupy.cuda.Stream.null
        self._own: dict[int, Any] = {}
        self._lock = fork_safe_lock()

    def of(self, device: Any) -> Any:
        """The stream of a device."""
        found = self._own.get(device.id)
        if found is None:
            with self._lock, device:
                found = self._own.get(device.id)
                if found is None:
                    found = self._own[device.id] = self._cupy.cuda.Stream()
        return found

    def enter(self, device: Any) -> None:
        """Make it this thread's current stream of the device, unless the thread has chosen another than the default one."""
        if self._current(device.id) is self._default:
            own = self.of(device)
            with device:
                own.use()
