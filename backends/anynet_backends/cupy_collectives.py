"""NCCL, which CuPy calls: arrays of a CUDA device are added up with those of other processes, on streams."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, CollectivesError

__all__ = ["Collectives", "Queued"]

_TYPES: Final = {
    "int8": "INT8", "uint8": "UINT8", "int32": "INT32", "uint32": "UINT32", "int64": "INT64", "uint64": "UINT64",
    "float32": "FLOAT32", "float64": "FLOAT64",
}  # fmt: skip
_PARTS: Final = {"complex64": "float32", "complex128": "float64"}


class Queued:
    """A call on a stream, asked as MPI's requests are whether it is done."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def Test(self) -> bool:  # noqa: N802  # mpi4py's name
        """Whether it is done; never waits."""
        return bool(self.event.done)


class Collectives:
    """What one device tells others of itself, and after `join` the sums over the processes that have joined.

    A call is queued on the current stream of the device, sums of `beside=True` on a stream of their own that begins where the current
    one is. Arrays are contiguous, and stay as long as the call is not done.

    Attributes:
      card: which GPU it is, of all on all hosts.
      problem: why there is no NCCL, "" where it is.
    """

    def __init__(self, xp: Backend, device: str) -> None:
        self.xp, self.device, self._cupy = xp, device, xp.native
        self._nccl: Any = import_module("cupy.cuda.nccl")
        self.problem = (
            "" if self._nccl.available else "CuPy finds no NCCL (pip install nvidia-nccl-cu12, or -cu13)"
        )
        self.card = f"{platform.node()} {self._cupy.cuda.Device(int(device.partition(':')[2])).pci_bus_id}"
        self._communicator: Any = None

    def unique_id(self) -> Any:
        """What one process makes and all `join` with."""
        return self._nccl.get_unique_id()

    def join(self, name: Any, size: int, rank: int) -> None:
        """Return when all processes have joined."""
        with self.xp.native_device(self.device):
            try:
                self._communicator = self._nccl.NcclCommunicator(size, name, rank)
            except self._nccl.NcclError as error:
                msg = f"NCCL: {error}"
                raise CollectivesError(msg) from error
            self._beside = self._cupy.cuda.Stream(non_blocking=True)

    def has_type(self, dtype: str) -> bool:
        """Whether NCCL adds up such numbers; complex ones are two real ones."""
        return dtype in _TYPES or dtype in _PARTS

    def all_reduce(self, array: Array, op: str, *, beside: bool = False) -> Queued:
        """Replace an array, in place, by its "sum" (or "max", "min") over the processes."""
        count, kind, operation, at = *self._numbers(array), self._operation(op, array), array.data.ptr
        return self._queue(
            lambda stream: self._communicator.allReduce(at, at, count, kind, operation, stream), beside
        )

    def broadcast(self, array: Array, root: int) -> Queued:
        """Replace an array, in place, by that of the process `root`."""
        count, kind, at = *self._numbers(array), array.data.ptr
        return self._queue(lambda stream: self._communicator.broadcast(at, at, count, kind, root, stream))

    def reduce_scatter(self, array: Array, op: str, own: Array) -> Queued:
        """Fill `own` with this process's part, of equal parts of the first axis, of the sum over the processes."""
        count, kind, operation = *self._numbers(own), self._operation(op, array)
        source, to = array.data.ptr, own.data.ptr
        return self._queue(
            lambda stream: self._communicator.reduceScatter(source, to, count, kind, operation, stream)
        )

    def follow(self, queued: Queued) -> None:
        """Let the current stream wait for a call; the host goes on."""
        with self.xp.native_device(self.device):
            self._cupy.cuda.get_current_stream().wait_event(queued.event)

    def abort(self) -> None:
        """Give up all calls, those that wait for others, too; what they were to write is undefined."""
        if self._communicator is not None:
            self._communicator.abort()

    def _numbers(self, array: Array) -> tuple[int, int]:
        """How many numbers NCCL is told, and of which type."""
        name = self.xp.dtype_name(array.dtype)
        real = _PARTS.get(name, name)
        return array.size * (1 if real == name else 2), int(getattr(self._nccl, f"NCCL_{_TYPES[real]}"))

    def _operation(self, op: str, array: Array) -> int:
        if op != "sum" and self.xp.dtype_name(array.dtype) in _PARTS:
            msg = f"complex numbers have no {op}"
            raise TypeError(msg)
        return int(getattr(self._nccl, f"NCCL_{op.upper()}"))

    def _queue(self, call: Callable[[int], None], beside: bool = False) -> Queued:
        cuda = self._cupy.cuda
        with self.xp.native_device(self.device):
            stream = here = cuda.get_current_stream()
            if beside:
                stream = self._beside
                stream.wait_event(here.record())
            try:
                call(stream.ptr)
            except self._nccl.NcclError as error:
                msg = f"NCCL: {error}"
                raise CollectivesError(msg) from error
            return Queued(stream.record(cuda.Event(disable_timing=True)))
