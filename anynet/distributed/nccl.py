"""Sums on GPUs: processes with a CUDA device each, through NCCL, which CuPy calls; the group on the host carries all else.

A sum is queued on a stream and the host goes on. It runs at most a few calls ahead: before it queues another, it waits for an earlier
one as `CommunicatorGroup` waits, and so hears that a process has failed.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from anynet.distributed.communicator import CommunicatorGroup
from anynet.distributed.group import DistributedError, Group, Pending
from anynet.distributed.heartbeat import Heartbeat
from anynet_backends import Array, BackendUnavailableError, backend_of, registry
from anynet_backends.backend import CollectivesError

if TYPE_CHECKING:
    from anynet_backends.cupy_collectives import Collectives, Queued

__all__ = ["NCCLGroup", "on_device"]

AHEAD: Final = 64
"""Calls that the host may be ahead of the device."""


class NCCLGroup(Group):
    """The processes of a `CommunicatorGroup` with a CUDA device each: arrays on it are added up there, by NCCL, all others as that group
    does.

    `base`: the processes. `device`: the device of this one, "cuda" or "cuda:k"; "cuda" is that of the process's number on its host.

    The sums of gradients (`start_all_reduce`) run on a stream of their own beside the backward pass.

    Where a call on the devices is not done within the base's `timeout`, a thread of each process that waits says on standard error for
    which process, and what that one does; the calls are given up, and the next one raises.

    Errors: `DistributedError` in all processes where one has no device, no NCCL, or another one's device (NCCL refuses two processes
    on one GPU), and as those of the base. What NCCL has begun when a process fails is given up, and its numbers are lost.

    Source: NVIDIA: NCCL User Guide, 2.27.
    """

    def __init__(self, base: CommunicatorGroup, device: str = "cuda") -> None:
        if not isinstance(base, CommunicatorGroup):
            msg = f"NCCLGroup: base must be a CommunicatorGroup, got {type(base).__name__}"
            raise TypeError(msg)
        place, here = _place(device)
        problem = _problem(base.gather(place))
        if problem or here is None:
            msg = f"NCCLGroup: {problem}"
            raise DistributedError(msg)
        self.base, self.rank, self.size, self._here = base, base.rank, base.size, here
        self.device: str = here.device
        self._queued: deque[Pending] = deque()
        name = base.gather(here.unique_id() if self.rank == 0 else None)[0]
        self._heartbeat = Heartbeat(base, here.abort)
        try:
            self._heartbeat.during("NCCLGroup", lambda: here.join(name, self.size, self.rank))
        except CollectivesError as error:
            self._heartbeat.stop()
            msg = f"NCCLGroup: {error}"
            raise DistributedError(msg) from error

    # ----- one call -----

    def _is_here(self, array: Array) -> bool:
        xp = backend_of(array)
        return xp is self._here.xp and xp.device_of(array) == self.device

    def takes(self, array: Array) -> bool:
        """Whether an array is added up where it is: on the host, or on this process's device where NCCL has its type."""
        if not self._is_here(array):
            return self.base.takes(array)
        return bool(array.flags.c_contiguous) and self._here.has_type(self._here.xp.dtype_name(array.dtype))

    def staged(self, x: Array) -> Array:
        """A copy of an array's numbers that the group takes, of a type that can be added."""
        xp = self._here.xp
        name = xp.dtype_name(x.dtype) if self._is_here(x) else ""
        wide = self.wider.get(name, name)
        if not self._here.has_type(wide):  # another device's, or 16-bit integers
            return self.base.staged(x)
        with xp.native_device(self.device):
            found: Array = xp.native.array(x, dtype=xp.native_dtype[wide], order="C")
        return found

    def _queue(self, what: str, call: Callable[[], Queued]) -> Queued:
        """Queue a call, counted among those that a process which has failed will not make."""
        made: list[Queued] = []

        def start(_: Any) -> Queued:
            made.append(self._heartbeat.during(what, call))
            return made[0]

        try:
            while len(self._queued) > AHEAD:
                self._queued.popleft().wait()
            self._queued.append(self.base._begin("devices", what, start))
        except DistributedError:
            self._here.abort()  # else the device waits for ever, and with it whoever reads its numbers
            raise
        except CollectivesError as error:
            self._here.abort()
            msg = self._heartbeat.problem or f"{what}: {error}"
            self.base._break(msg)
            raise DistributedError(msg) from error
        return made[0]

    # ----- what a kind of group defines -----

    def _start(self, host: Array, op: str) -> Pending:
        if not self._is_here(host):
            return self.base._start(host, op)
        self._queue("all_reduce", lambda: self._here.all_reduce(host, op))
        return Pending()  # what is queued next comes after it

    def start_all_reduce(self, host: Array) -> Pending:
        """Begin to replace an array that the group `takes`, in place, by the sum over the processes; not to be touched before `wait`,
        which lets the device wait, not the host."""
        if not self._is_here(host):
            return self.base.start_all_reduce(host)
        queued = self._queue("a sum of gradients", lambda: self._here.all_reduce(host, "sum", beside=True))
        return Pending(lambda: self._here.follow(queued), queued.Test)

    def _broadcast(self, host: Array, root: int) -> None:
        if not self._is_here(host):
            self.base._broadcast(host, root)
            return
        self._queue("broadcast", lambda: self._here.broadcast(host, root))

    def _reduce_scatter(self, host: Array, op: str) -> Array:
        if not self._is_here(host):
            return self.base._reduce_scatter(host, op)
        xp = self._here.xp
        shape = (host.shape[0] // self.size, *host.shape[1:])
        own = xp.empty(shape, dtype=host.dtype, device=xp.native_device(self.device))
        self._queue("reduce_scatter", lambda: self._here.reduce_scatter(host, op, own))
        return own

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, any picklable objects, by rank."""
        return self.base.gather(value)

    def send(self, value: Any, to: int, tag: int = 0) -> Pending:
        """As the base does."""
        return self.base.send(value, to, tag)

    def receive(self, source: int | None = None, tag: int = 0) -> tuple[int, Any]:
        """As the base does."""
        return self.base.receive(source, tag)

    def barrier(self) -> None:
        """Return when all processes have come here; their devices may still compute."""
        self.base.barrier()

    def abort(self, message: str) -> None:
        """End all processes at once, with a message on the standard error stream."""
        self.base.abort(message)

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process leaves the common program because of an error, so that none waits for it."""
        self.base.fail(error)


def on_device(group: Group, device: str) -> Group:
    """The same processes, with sums on their GPUs by NCCL where arrays are on "cuda" and each process has a device of its own.

    All processes call it together. Where only NCCL or a device is missing, the group itself is given, and the first process warns: sums
    go through the host then. A group is made once for the same devices.

    >>> import anynet as an
    >>> an.distributed.on_device(an.distributed.world(), "cpu")
    SingleProcess(rank=0, size=1)
    """
    if group.size == 1 or not isinstance(group, CommunicatorGroup):
        return group
    places = group.gather(_place(device)[0])
    if not any(place.startswith("cuda") for place, _ in places):
        return group
    key = tuple(places)
    if key not in group.on_devices:
        problem = _problem(places)
        if problem and group.rank == 0:
            warnings.warn(f"sums over processes go through the host: {problem}", stacklevel=2)
        group.on_devices[key] = group if problem else NCCLGroup(group, device)
    return group.on_devices[key]


def _place(device: str) -> tuple[tuple[str, str], Collectives | None]:
    """What a process says of a device: its name, and which one it is of all, or after a question mark why it has no NCCL there."""
    try:
        xp, name = registry.resolve(device)
    except (BackendUnavailableError, ValueError) as error:
        return ("none", str(error)), None
    here: Collectives | None = xp.collectives(name)
    if here is None:
        return (name, ""), None
    return (name, f"?{here.problem}" if here.problem else here.card), here


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
