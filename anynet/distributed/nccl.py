"""Sums on GPUs: processes with a CUDA device each, through NCCL, which CuPy calls; MPI still starts them and carries all else.

A sum is queued on a stream and the host goes on. It runs at most a few calls ahead: before it queues another, it waits for an earlier
one as `MPIGroup` waits, and so hears that a process has failed.
"""

from __future__ import annotations

import platform
import warnings
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from anynet.distributed.group import DistributedError, Group, Pending
from anynet.distributed.mpi import MPIGroup
from anynet_backends import Array, BackendUnavailableError, backend_of, registry

__all__ = ["NCCLGroup", "on_device"]

AHEAD: Final = 64
"""Calls that the host may be ahead of the device."""

_TYPES: Final = {
    "int8": "INT8", "uint8": "UINT8", "int32": "INT32", "uint32": "UINT32", "int64": "INT64", "uint64": "UINT64",
    "float32": "FLOAT32", "float64": "FLOAT64",
}  # fmt: skip
_PARTS: Final = {"complex64": "float32", "complex128": "float64"}


class NCCLGroup(Group):
    """The processes of an `MPIGroup` with a CUDA device each: arrays on it are added up there, by NCCL, all others as that group does.

    `base`: the processes. `device`: the device of this one, "cuda" or "cuda:k"; "cuda" is that of the process's number on its host.

    The sums of gradients (`start_all_reduce`) run on a stream of their own beside the backward pass.

    Errors: `DistributedError` in all processes where one has no device, no NCCL, or another one's device (NCCL refuses two processes
    on one GPU), and as those of `MPIGroup`. What NCCL has begun when a process fails is given up, and its numbers are lost.

    Source: NVIDIA: NCCL User Guide, 2.27.
    """

    def __init__(self, base: MPIGroup, device: str = "cuda") -> None:
        if not isinstance(base, MPIGroup):
            msg = f"NCCLGroup: base must be an MPIGroup, got {type(base).__name__}"
            raise TypeError(msg)
        problem = _problem(base.gather(_place(device)))
        if problem:
            msg = f"NCCLGroup: {problem}"
            raise DistributedError(msg)
        self.base, self.rank, self.size = base, base.rank, base.size
        self.xp, self.device = registry.resolve(device)
        self._cupy: Any = import_module("cupy")
        self._nccl: Any = import_module("cupy.cuda.nccl")
        name = base.gather(self._nccl.get_unique_id() if self.rank == 0 else None)[0]
        with self.xp.native_device(self.device):
            self._communicator = self._nccl.NcclCommunicator(self.size, name, self.rank)
            self._beside = self._cupy.cuda.Stream(non_blocking=True)
        self._queued: deque[Pending] = deque()

    # ----- one call -----

    def takes(self, array: Array) -> bool:
        """Whether an array is added up where it is: on the host, or on this process's device where NCCL has its type."""
        if not self._is_here(array):
            return self.base.takes(array)
        name = self.xp.dtype_name(array.dtype)
        return bool(array.flags.c_contiguous) and (name in _TYPES or name in _PARTS)

    def _is_here(self, array: Array) -> bool:
        xp = backend_of(array)
        return xp is self.xp and xp.device_of(array) == self.device

    def staged(self, x: Array) -> Array:
        if not self._is_here(x):
            return self.base.staged(x)
        name = self.xp.dtype_name(x.dtype)
        wide = self.wider.get(name, name)
        if wide not in _TYPES and wide not in _PARTS:  # 16-bit integers
            return self.base.staged(x)
        with self.xp.native_device(self.device):
            found: Array = self._cupy.array(x, dtype=self.xp.native_dtype[wide], order="C")
        return found

    def _numbers(self, array: Array) -> tuple[int, int]:
        """How many numbers NCCL is told, and of which type."""
        name = self.xp.dtype_name(array.dtype)
        real = _PARTS.get(name, name)
        return array.size * (1 if real == name else 2), int(getattr(self._nccl, f"NCCL_{_TYPES[real]}"))

    def _operation(self, op: str, array: Array) -> int:
        if op != "sum" and self.xp.dtype_name(array.dtype) in _PARTS:
            msg = f"all_reduce: complex numbers have no {op}"
            raise TypeError(msg)
        return int(getattr(self._nccl, f"NCCL_{op.upper()}"))

    def _queue(self, what: str, call: Callable[[int], None], *, beside: bool = False) -> Pending:
        """Queue a call on the current stream, or on the one beside it; `wait` of the result makes the current stream wait, not the host."""
        cuda, done = self._cupy.cuda, _Done()
        try:
            while len(self._queued) > AHEAD:
                self._queued.popleft().wait()
            with self.xp.native_device(self.device):
                done.event = cuda.Event(disable_timing=True)
                here = cuda.get_current_stream()
                stream = self._beside if beside else here
                if beside:
                    stream.wait_event(here.record())

                def start(_: Any) -> _Done:
                    call(stream.ptr)
                    return done

                on_host = self.base._begin("devices", what, start)
                stream.record(done.event)
        except DistributedError:
            self._communicator.abort()  # else the device waits for ever, and with it whoever reads its numbers
            raise
        except self._nccl.NcclError as error:
            self._communicator.abort()
            msg = f"NCCL, {what}: {error}"
            self.base._break(msg)
            raise DistributedError(msg) from error
        self._queued.append(on_host)
        if not beside:
            return Pending()

        def wait() -> None:
            with self.xp.native_device(self.device):
                cuda.get_current_stream().wait_event(done.event)

        return Pending(wait, done.Test)

    # ----- what a kind of group defines -----

    def _start(self, host: Array, op: str) -> Pending:
        if not self._is_here(host):
            return self.base._start(host, op)
        return self._sum("all_reduce", host, self._operation(op, host), beside=False)

    def start_all_reduce(self, host: Array) -> Pending:
        """Begin to replace an array that the group `takes`, in place, by the sum over the processes; not to be touched before `wait`."""
        if not self._is_here(host):
            return self.base.start_all_reduce(host)
        return self._sum("a sum of gradients", host, self._operation("sum", host), beside=True)

    def _sum(self, what: str, array: Array, operation: int, *, beside: bool) -> Pending:
        count, kind = self._numbers(array)
        at = array.data.ptr

        def call(stream: int) -> None:
            self._communicator.allReduce(at, at, count, kind, operation, stream)

        return self._queue(what, call, beside=beside)

    def _broadcast(self, host: Array, root: int) -> None:
        if not self._is_here(host):
            self.base._broadcast(host, root)
            return
        count, kind = self._numbers(host)
        at = host.data.ptr
        self._queue("broadcast", lambda s: self._communicator.broadcast(at, at, count, kind, root, s))

    def _reduce_scatter(self, host: Array, op: str) -> Array:
        if not self._is_here(host):
            return self.base._reduce_scatter(host, op)
        shape = (host.shape[0] // self.size, *host.shape[1:])
        own = self.xp.empty(shape, dtype=host.dtype, device=self.xp.native_device(self.device))
        (count, kind), operation = self._numbers(own), self._operation(op, host)
        source, to = host.data.ptr, own.data.ptr
        self._queue(
            "reduce_scatter",
            lambda s: self._communicator.reduceScatter(source, to, count, kind, operation, s),
        )
        return own

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, any picklable objects, by rank."""
        return self.base.gather(value)

    def barrier(self) -> None:
        """Return when all processes have come here; their devices may still compute."""
        self.base.barrier()

    def abort(self, message: str) -> None:
        """End all processes at once, with a message on the standard error stream."""
        self.base.abort(message)

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process leaves the common program because of an error, so that none waits for it."""
        self.base.fail(error)


class _Done:
    """An event of a stream, asked as MPI's requests are."""

    event: Any = None

    def Test(self) -> bool:  # noqa: N802  # mpi4py's name
        return bool(self.event.done)


def on_device(group: Group, device: str) -> Group:
    """The same processes, with sums on their GPUs by NCCL where arrays are on "cuda" and each process has a device of its own.

    All processes call it together. Where only NCCL or a device is missing, the group itself is given, and the first process warns: sums
    go through the host then. A group is made once for the same devices.

    >>> import anynet as an
    >>> an.distributed.on_device(an.distributed.world(), "cpu")
    SingleProcess(rank=0, size=1)
    """
    if group.size == 1 or not isinstance(group, MPIGroup):
        return group
    places = group.gather(_place(device))
    if not any(place.startswith("cuda") for place, _ in places):
        return group
    key = tuple(places)
    if key not in group.on_devices:
        problem = _problem(places)
        if problem and group.rank == 0:
            warnings.warn(f"sums over processes go through the host: {problem}", stacklevel=2)
        group.on_devices[key] = group if problem else NCCLGroup(group, device)
    return group.on_devices[key]


def _place(device: str) -> tuple[str, str]:
    """What a process says of a device: its name, and which one it is of all; or why it has no NCCL there."""
    try:
        xp, name = registry.resolve(device)
    except (BackendUnavailableError, ValueError) as error:
        return "none", str(error)
    if xp.name != "cupy":
        return name, ""
    cupy: Any = import_module("cupy")
    if not import_module("cupy.cuda.nccl").available:
        return name, "?CuPy finds no NCCL (pip install nvidia-nccl-cu12, or -cu13)"
    return name, f"{platform.node()} {cupy.cuda.Device(int(name.partition(':')[2])).pci_bus_id}"


def _problem(places: list[tuple[str, str]]) -> str:
    """Why these processes cannot use NCCL together, "" where they can."""
    seen: dict[str, int] = {}
    for rank, (name, card) in enumerate(places):
        if not name.startswith("cuda"):
            return (
                f"the arrays of process {rank} are on {name}" if name != "none" else f"process {rank}: {card}"
            )
        if card.startswith("?"):
            return f"process {rank}: {card[1:]}"
        if card in seen:
            return (
                f"processes {seen[card]} and {rank} share the GPU {name}, which NCCL does not allow; start one process for each GPU, "
                'with device="cuda"'
            )
        seen[card] = rank
    return ""
