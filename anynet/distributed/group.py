"""The processes of a training, and what they tell each other: one protocol for MPI, NCCL and one process alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from anynet.tensor import Tensor, unwrap, wrap
from anynet_backends import Array, backend_of, registry

__all__ = ["DistributedError", "Group", "Pending", "SingleProcess"]

OPERATIONS: Final = ("sum", "max", "min")


class DistributedError(RuntimeError):
    """Another process has failed, has ended, or does not answer; or the processes are not what the launcher said. The message says which
    process, and its error."""


class Pending:
    """A sum that is on its way; `wait` returns when it is there. `test` lets it go on meanwhile."""

    def __init__(
        self, wait: Callable[[], None] | None = None, test: Callable[[], bool] | None = None
    ) -> None:
        self._wait, self._test = wait, test

    def wait(self) -> None:
        """Return when the sum is there."""
        if self._wait is not None:
            self._wait()
            self._wait = self._test = None

    def test(self) -> bool:
        """Whether the sum is there; never waits."""
        return self._test is None or self._test()


class Group:
    """Processes that train together. All of them make the same calls in the same order, with arrays of the same shape and dtype.

    An array may be of any library and device, or a Tensor; the result is of the same kind, where the argument is. The bits of a result
    are the same in each process. Sums of 16-bit numbers are added up in float32.

    A subclass gives the methods of its first part, on contiguous arrays that it `takes`.

    Attributes:
      rank, size: the number of this process, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1
    wider: Final = {"float16": "float32", "bfloat16": "float32", "bool": "uint8"}
    """As which type numbers are added up."""

    # ----- what a kind of group defines -----

    def _start(self, host: Array, op: str) -> Pending:
        """Replace an array, in place, by the sum (or the largest, the smallest numbers) over the processes."""
        raise NotImplementedError

    def _broadcast(self, host: Array, root: int) -> None:
        """Replace an array, in place, by that of the process `root`."""
        raise NotImplementedError

    def _reduce_scatter(self, host: Array, op: str) -> Array:
        """This process's part, of size equal parts of the first axis, of the sum over the processes."""
        raise NotImplementedError

    def takes(self, array: Array) -> bool:
        """Whether an array is added up where it is; others are copied to the host and back."""
        return backend_of(array).name == "numpy" and bool(array.flags.c_contiguous)

    def staged(self, x: Array) -> Array:
        """A copy of an array's numbers that the group takes, of a type that can be added."""
        found: Any = registry.asarray(backend_of(x).to_host(x))
        kind = self.wider.get(found.dtype.name, found.dtype)
        copy: Array = registry.get_backend("numpy").native.array(found, dtype=kind, order="C")
        return copy

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, any picklable objects, by rank."""
        raise NotImplementedError

    def send(self, value: Any, to: int, tag: int = 0) -> Pending:
        """Begin to send a process a value, any picklable object; what is sent to a process comes there in this order."""
        raise NotImplementedError

    def receive(self, source: int | None = None, tag: int = 0) -> tuple[int, Any]:
        """The next value with the tag that a process (by default any) has sent to this one, when it has come, and who has sent it."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Return when all processes have come here."""
        raise NotImplementedError

    def abort(self, message: str) -> None:
        """End all processes at once, with a message on the standard error stream."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process leaves the common program because of an error, so that none waits for it."""

    # ----- what all have -----

    def all_reduce(self, x: Any, op: str = "sum") -> Any:
        """The sum of x over the processes ("max", "min": the largest, the smallest numbers), the same in each; of an array, a Tensor
        or a number."""
        _check_op("all_reduce", op)
        if isinstance(x, (int, float)) and not isinstance(x, bool):
            kind = "int64" if isinstance(x, int) else "float64"
            return self.all_reduce(registry.asarray([x], kind), op)[0].item()
        host, back = self._copy(x)
        self._start(host, op).wait()
        return back(host)

    def allreduce(self, x: Any) -> Any:
        """The sum under mpi4py's name, which `SyncBatchNorm` calls."""
        return self.all_reduce(x)

    def start_all_reduce(self, host: Array) -> Pending:
        """Begin to replace an array that the group `takes`, in place, by the sum over the processes; not to be touched before `wait`."""
        return self._start(host, "sum")

    def broadcast(self, x: Any, root: int = 0) -> Any:
        """The x of the process `root`, in each."""
        self._check_rank("broadcast", root)
        host, back = self._copy(x)
        self._broadcast(host, root)
        return back(host)

    def all_gather(self, x: Any) -> list[Any]:
        """The arrays x of all processes, by rank; shapes may differ."""
        host, back = self._copy(x, on_host=True)
        return [back(found) for found in self.gather(host)]

    def reduce_scatter(self, x: Any, op: str = "sum") -> Any:
        """This process's part of the sum of x over the processes: rows rank · n/size … of the n along the first axis."""
        _check_op("reduce_scatter", op)
        if not getattr(x, "shape", ()) or x.shape[0] % self.size:
            got = tuple(getattr(x, "shape", ()))
            msg = f"reduce_scatter: the first axis must be a multiple of the {self.size} processes, got shape {got}"
            raise ValueError(msg)
        host, back = self._copy(x)
        return back(self._reduce_scatter(host, op))

    def share(self, n: int) -> tuple[int, int]:
        """The part [a, b) of 0 … n that is this process's: all of them have ⌊n/size⌋ or one more."""
        return self.rank * n // self.size, (self.rank + 1) * n // self.size

    def _copy(self, x: Any, *, on_host: bool = False) -> tuple[Array, Callable[[Array], Any]]:
        """What `_staged` gives of an array or Tensor, and what makes of such an array one like x."""
        plain = unwrap(x)
        if not registry.is_array(plain):
            msg = f"processes exchange arrays, Tensors and numbers, got {type(x).__name__}"
            raise TypeError(msg)
        xp = backend_of(plain)

        def back(result: Array) -> Any:
            there = result if backend_of(result) is xp else xp.from_host(result, xp.device_of(plain))
            there = there if there.dtype == plain.dtype else xp.astype(there, plain.dtype)
            return wrap(there) if isinstance(x, Tensor) else there

        return Group.staged(self, plain) if on_host else self.staged(plain), back

    def _check_rank(self, where: str, root: int) -> None:
        if not isinstance(root, int) or not 0 <= root < self.size:
            msg = f"{where}: root must be the number of a process, 0 to {self.size - 1}, got {root!r}"
            raise ValueError(msg)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"


def _check_op(where: str, op: str) -> None:
    if op not in OPERATIONS:
        msg = f"{where}: op must be one of {', '.join(OPERATIONS)}, got {op!r}"
        raise ValueError(msg)


class SingleProcess(Group):
    """One process alone: sums are what they are of.

    >>> import anynet as an
    >>> an.distributed.SingleProcess().all_reduce(an.asarray([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    def _start(self, host: Array, op: str) -> Pending:
        return Pending()

    def _broadcast(self, host: Array, root: int) -> None:
        pass

    def _reduce_scatter(self, host: Array, op: str) -> Array:
        return host

    def gather(self, value: Any) -> list[Any]:
        """[value]."""
        return [value]

    def send(self, value: Any, to: int, tag: int = 0) -> Pending:
        """Refused: there is no other process."""
        msg = "send: there is no other process"
        raise DistributedError(msg)

    def receive(self, source: int | None = None, tag: int = 0) -> tuple[int, Any]:
        """Refused: there is no other process."""
        msg = "receive: there is no other process"
        raise DistributedError(msg)

    def barrier(self) -> None:
        """Nobody is waited for."""

    def abort(self, message: str) -> None:
        """End this process with the message."""
        raise SystemExit(message)
