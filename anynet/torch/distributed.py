"""PyTorch's names for the collectives of `anynet.distributed`. The processes are started by ``mpiexec -n 4 python script.py``, by torchrun
or what sets its variables, or by the script (`torch.multiprocessing.spawn`)."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from anynet.distributed import (
    Group,
    MPIGroup,
    NCCLGroup,
    Pending,
    SingleProcess,
    TCPGroup,
    launched,
    leave,
    meet,
    on_device,
    world,
)
from anynet.tensor import no_grad
from anynet.torch.tensor import adopt

__all__ = [
    "ReduceOp", "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list",
    "destroy_process_group", "get_backend", "get_rank", "get_world_size", "init_process_group", "is_available", "is_initialized", "reduce",
    "reduce_scatter_tensor",
]  # fmt: skip


class ReduceOp:
    """What becomes of the numbers of all processes."""

    SUM, AVG, MAX, MIN = "sum", "mean", "max", "min"


reduce_op = ReduceOp  # an older name
_state: dict[str, Group] = {}


def init_process_group(
    backend: Any = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    **_: Any,
) -> None:
    """The processes that a launcher has started (MPI's, or torchrun's variables), or `world_size` that the script has started itself and
    that meet at an address (`init_method`, "tcp://HOST:PORT", or MASTER_ADDR and MASTER_PORT); one alone without either.

    A `backend` that names "nccl" sums tensors on GPUs by NCCL where each process has a GPU; all else goes by MPI or TCP.

    Errors: ValueError for a `rank` and a `world_size` that the launcher does not say, and for one without the other; NotImplementedError
    for a `store` and ``file://``.

    >>> import anynet.torch as torch
    >>> torch.distributed.init_process_group("gloo")
    >>> torch.distributed.get_rank(), torch.distributed.get_world_size()
    (0, 1)
    >>> torch.distributed.destroy_process_group()
    """
    if store is not None or (init_method or "").startswith("file:"):
        msg = 'torch.distributed: processes meet at an address, "env://" or "tcp://HOST:PORT"; files and stores are not offered'
        raise NotImplementedError(msg)
    if (world_size < 0) != (rank < 0):
        msg = (
            f"torch.distributed: rank and world_size go together, got rank {rank} and world_size {world_size}"
        )
        raise ValueError(msg)
    if (
        world_size > 1
        and launched({k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}) is None
    ):
        _meet(rank, world_size, init_method or "env://", timeout)
    here = world()
    if world_size >= 0 and (here.rank, here.size) != (rank, world_size):
        msg = f"torch.distributed: this is process {here.rank} of {here.size}, and the script says {rank} of {world_size}"
        raise ValueError(msg)
    _state["group"] = on_device(here, "cuda") if "nccl" in str(backend) else here


def _meet(rank: int, size: int, where: str, timeout: Any) -> None:
    """The processes that the script has started."""
    protocol, _, place = where.partition("://")
    if protocol not in ("tcp", "env"):
        msg = f'torch.distributed: init_method must be "env://" or "tcp://HOST:PORT", got {where!r}'
        raise ValueError(msg)
    given = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size)}
    if protocol == "tcp":
        host, _, port = place.rpartition(":")
        given |= {"MASTER_ADDR": host.strip("[]"), "MASTER_PORT": port}
    if not given.get("MASTER_ADDR"):
        msg = 'torch.distributed: where the processes meet is missing; set MASTER_ADDR and MASTER_PORT, or init_method="tcp://HOST:PORT"'
        raise ValueError(msg)
    seconds = {} if timeout is None else {"timeout": timeout.total_seconds()}
    meet(TCPGroup.of_environment(given, **seconds))


def destroy_process_group(group: Group | None = None) -> None:
    """Forget the processes. Connections of TCP are closed, and an error of one is nothing to the others from then on."""
    own = _state.get("group")
    if isinstance(own, TCPGroup):  # those of NCCL stay until the end, since their watch speaks by them
        leave()
        own.close()
    _state.clear()


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """Whether `init_process_group` was called."""
    return bool(_state)


def _of(group: Group | None) -> Group:
    if group is None and not _state:
        msg = "torch.distributed: call init_process_group first"
        raise ValueError(msg)
    return _state["group"] if group is None else group


def get_backend(group: Group | None = None) -> str:
    """ "mpi", "gloo" for TCP connections, as PyTorch has them, or "nccl" where tensors on GPUs are summed by it."""
    found = _of(group)
    return (
        "nccl"
        if isinstance(found, NCCLGroup)
        else "mpi"
        if isinstance(found, (MPIGroup, SingleProcess))
        else "gloo"
    )


def get_rank(group: Group | None = None) -> int:
    """The number of this process, from 0."""
    return _of(group).rank


def get_world_size(group: Group | None = None) -> int:
    """How many processes there are."""
    return _of(group).size


def barrier(group: Group | None = None, async_op: bool = False, device_ids: Any = None) -> Any:
    """Return when all processes have come here."""
    _of(group).barrier()
    return _done(async_op)


def _done(async_op: bool) -> Pending | None:
    """What ``async_op=True`` returns: here the work is done by then."""
    return Pending() if async_op else None


def _write(tensor: Any, value: Any) -> None:
    with no_grad():
        tensor.copy_(adopt(value))


def _reduced(tensor: Any, op: str, group: Group | None) -> Any:
    found = _of(group).all_reduce(tensor.detach(), "sum" if op == "mean" else op)
    return found / _of(group).size if op == "mean" else found


def all_reduce(
    tensor: Any, op: str = ReduceOp.SUM, group: Group | None = None, async_op: bool = False
) -> Any:
    """The sum over the processes (the mean, the largest, the smallest), in place."""
    _write(tensor, _reduced(tensor, op, group))
    return _done(async_op)


def reduce(
    tensor: Any, dst: int = 0, op: str = ReduceOp.SUM, group: Group | None = None, async_op: bool = False
) -> Any:
    """The same in one process; in the others `tensor` stays."""
    found = _reduced(tensor, op, group)
    if get_rank(group) == dst:
        _write(tensor, found)
    return _done(async_op)


def broadcast(tensor: Any, src: int = 0, group: Group | None = None, async_op: bool = False) -> Any:
    """The tensor of the process `src`, in place."""
    _write(tensor, _of(group).broadcast(tensor.detach(), src))
    return _done(async_op)


def all_gather(
    tensor_list: list[Any], tensor: Any, group: Group | None = None, async_op: bool = False
) -> Any:
    """The tensors of all processes, by rank, into those of a list."""
    for into, found in zip(tensor_list, _of(group).all_gather(tensor.detach()), strict=True):
        _write(into, found)
    return _done(async_op)


def all_gather_into_tensor(
    output: Any, input: Any, group: Group | None = None, async_op: bool = False
) -> Any:
    """The same into one tensor, along its first axis."""
    parts = [output[i * input.shape[0] : (i + 1) * input.shape[0]] for i in range(get_world_size(group))]
    return all_gather(parts, input, group, async_op)


def reduce_scatter_tensor(
    output: Any, input: Any, op: str = ReduceOp.SUM, group: Group | None = None, async_op: bool = False
) -> Any:
    """This process's part of the sum."""
    found = _of(group).reduce_scatter(input.detach(), "sum" if op == "mean" else op)
    _write(output, found / _of(group).size if op == "mean" else found)
    return _done(async_op)


def all_gather_object(object_list: list[Any], obj: Any, group: Group | None = None) -> None:
    """The objects of all processes, by rank, into a list."""
    object_list[:] = _of(group).gather(obj)


def broadcast_object_list(
    object_list: list[Any], src: int = 0, group: Group | None = None, device: Any = None
) -> None:
    """The list of the process `src`, in place."""
    object_list[:] = _of(group).gather(list(object_list))[src]


def __getattr__(name: str) -> Any:
    msg = (
        f"torch.distributed.{name} is not offered; there are {', '.join(__all__)}, and torch.nn.parallel.DistributedDataParallel. "
        "Processes are started by mpiexec, torchrun or torch.multiprocessing.spawn"
    )
    raise AttributeError(msg)


def _of_one(tensor: Any, *_: Any, **__: Any) -> Any:
    """A collective with a gradient: of one process the tensor itself; NotImplementedError for several."""
    if is_initialized() and get_world_size() > 1:
        msg = "torch.distributed.nn: collectives with gradients are for one process here; DistributedDataParallel sums gradients of several"
        raise NotImplementedError(msg)
    return tensor


nn = ModuleType(f"{__name__}.nn", "torch.distributed.nn")
vars(nn).update(
    all_reduce=_of_one,
    broadcast=_of_one,
    reduce=_of_one,
    all_gather=lambda tensor, *_, **__: (_of_one(tensor),),
)
for _name in ("nn", "nn.functional"):
    sys.modules[f"{__name__}.{_name}"] = nn
