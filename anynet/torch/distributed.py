"""PyTorch's names for the collectives of `anynet.distributed`. The processes are started by ``mpiexec -n 4 python script.py``, by torchrun
or what sets its variables, or by the script (`torch.multiprocessing.spawn`)."""

from __future__ import annotations

import functools
import importlib.util
import operator
import os
import sys
from types import ModuleType
from typing import Any

from anynet.distributed import Group, NCCLGroup, Pending, TCPGroup, launched, leave, meet, on_device
from anynet.distributed.launch import join
from anynet.tensor import Tensor, no_grad, unwrap, wrap
from anynet.torch.tensor import adopt
from anynet_backends import backend_of

__all__ = [
    "P2POp", "ReduceOp", "Work", "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "barrier",
    "batch_isend_irecv", "broadcast", "broadcast_object_list", "destroy_process_group", "gather", "gather_object", "get_backend",
    "get_global_rank", "get_rank", "get_world_size", "init_process_group", "irecv", "is_available", "is_gloo_available", "is_initialized",
    "is_mpi_available", "is_nccl_available", "is_torchelastic_launched", "isend", "monitored_barrier", "recv", "reduce", "reduce_scatter",
    "reduce_scatter_tensor", "scatter", "scatter_object_list", "send",
]  # fmt: skip


class ReduceOp:
    """What becomes of the numbers of all processes."""

    SUM, AVG, MAX, MIN, PRODUCT = "sum", "mean", "max", "min", "product"


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
    if (world_size < 0) != (rank < 0) or ((init_method or "").startswith("tcp:") and world_size < 0):
        msg = f"torch.distributed: rank and world_size go together, and with tcp://, got rank {rank} and world_size {world_size}"
        raise ValueError(msg)
    if (
        world_size > 1
        and launched({k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}) is None
    ):
        _meet(rank, world_size, init_method or "env://", timeout)
    here = join()
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
    return "nccl" if isinstance(found, NCCLGroup) else "gloo" if isinstance(found, TCPGroup) else "mpi"


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


class Work(Pending):
    """A call that has begun, as PyTorch names it."""

    def wait(self, timeout: Any = None) -> bool:  # type: ignore[override]
        """Return when it is done."""
        super().wait()
        return True

    def is_completed(self) -> bool:
        """Whether it is done."""
        return self.test()


def _done(async_op: bool) -> Work | None:
    """What ``async_op=True`` returns: here the work is done by then."""
    return Work() if async_op else None


def _write(tensor: Any, value: Any) -> None:
    with no_grad():
        # an array is another process's
        tensor.copy_(adopt(value if isinstance(value, Tensor) else wrap(value)))


def _reduced(tensor: Any, op: str, group: Group | None) -> Any:
    if op == "product":
        return functools.reduce(operator.mul, _of(group).all_gather(tensor.detach()))
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


def gather(
    tensor: Any, gather_list: list[Any] | None = None, dst: int = 0, group: Group | None = None, async_op: bool = False
) -> Any:  # fmt: skip
    """The tensors of all processes, by rank, into those of a list of the process `dst`."""
    found = _of(group).all_gather(tensor.detach())
    if get_rank(group) == dst:
        for into, part in zip(gather_list or [], found, strict=True):
            _write(into, part)
    return _done(async_op)


def scatter(
    tensor: Any, scatter_list: list[Any] | None = None, src: int = 0, group: Group | None = None, async_op: bool = False
) -> Any:  # fmt: skip
    """This process's of the tensors of a list of the process `src`."""
    here = _of(group)
    if here.rank == src:
        parts = scatter_list or []
        if len(parts) != here.size:
            msg = f"torch.distributed.scatter: scatter_list must have a tensor for each of {here.size} processes, got {len(parts)}"
            raise ValueError(msg)
        for to, part in enumerate(parts):
            if to != src:
                here.send(_host(part), to, _COLLECTIVE).wait()
        _write(tensor, parts[src].detach())
    else:
        _write(tensor, here.receive(src, _COLLECTIVE)[1])
    return _done(async_op)


def reduce_scatter(
    output: Any, input_list: list[Any], op: str = ReduceOp.SUM, group: Group | None = None, async_op: bool = False
) -> Any:  # fmt: skip
    """The sum over the processes of this process's of the tensors of a list."""
    for rank, tensor in enumerate(input_list):
        found = _reduced(tensor, op, group)
        if rank == get_rank(group):
            _write(output, found)
    return _done(async_op)


def all_to_all(
    output_tensor_list: list[Any], input_tensor_list: list[Any], group: Group | None = None, async_op: bool = False
) -> Any:  # fmt: skip
    """Each process's tensor for this one, by rank, into those of a list."""
    here = _of(group)
    sent = [here.send(_host(x), to, _COLLECTIVE) for to, x in enumerate(input_tensor_list) if to != here.rank]
    for source, into in enumerate(output_tensor_list):
        own = source == here.rank
        _write(into, input_tensor_list[source].detach() if own else here.receive(source, _COLLECTIVE)[1])
    for pending in sent:
        pending.wait()
    return _done(async_op)


_COLLECTIVE = -1  # the tag of messages that are no user's


def _host(tensor: Any) -> Any:
    plain = unwrap(tensor.detach())
    return backend_of(plain).to_host(plain).copy()  # what is written into it later is another's


def isend(
    tensor: Any,
    dst: int | None = None,
    group: Group | None = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> Work:
    """Begin to send a tensor to the process `dst`."""
    to = dst if dst is not None else group_dst
    pending = _of(group).send(_host(tensor), -1 if to is None else to, tag)
    return Work(pending.wait, pending.test)


def send(
    tensor: Any,
    dst: int | None = None,
    group: Group | None = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> None:
    """The same; its memory is the program's again."""
    isend(tensor, dst, group, tag, group_dst).wait()


def recv(
    tensor: Any, src: int | None = None, group: Group | None = None, tag: int = 0, group_src: int | None = None
) -> int:  # fmt: skip
    """The next tensor that the process `src` (by default any) has sent to this one, into `tensor`; who has sent it."""
    source, found = _of(group).receive(src if src is not None else group_src, tag)
    if tuple(found.shape) != tuple(tensor.shape):
        msg = f"torch.distributed.recv: process {source} has sent shape {tuple(found.shape)}, and the tensor has {tuple(tensor.shape)}"
        raise ValueError(msg)
    _write(tensor, found)
    return source


def irecv(
    tensor: Any, src: int | None = None, group: Group | None = None, tag: int = 0, group_src: int | None = None
) -> Work:  # fmt: skip
    """The same when it is waited for; several are to be waited for in the order in which they were begun."""

    def come() -> None:
        recv(tensor, src, group, tag, group_src)

    return Work(come, lambda: False)


class P2POp:
    """A call of `isend` or `irecv` for `batch_isend_irecv`."""

    def __init__(
        self, op: Any, tensor: Any, peer: int | None = None, group: Group | None = None, tag: int = 0
    ) -> None:
        self.op, self.tensor, self.peer, self.group, self.tag = op, tensor, peer, group, tag


def batch_isend_irecv(p2p_op_list: list[P2POp]) -> list[Work]:
    """Begin several of them."""
    return [p.op(p.tensor, p.peer, p.group, p.tag) for p in p2p_op_list]


def monitored_barrier(group: Group | None = None, timeout: Any = None, wait_all_ranks: bool = False) -> None:
    """Return when all processes have come here; the error names one that does not."""
    _of(group).barrier()


def gather_object(
    obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Group | None = None
) -> None:
    """The objects of all processes, by rank, into a list of the process `dst`."""
    found = _of(group).gather(obj)
    if get_rank(group) == dst and object_gather_list is not None:
        object_gather_list[:] = found


def scatter_object_list(
    scatter_object_output_list: list[Any], scatter_object_input_list: list[Any] | None = None, src: int = 0, group: Group | None = None
) -> None:  # fmt: skip
    """This process's of the objects of a list of the process `src`, first in a list."""
    given = list(scatter_object_input_list or []) if get_rank(group) == src else None
    scatter_object_output_list[0] = _of(group).gather(given)[src][get_rank(group)]


def get_global_rank(group: Group | None, group_rank: int) -> int:
    """The number itself: there is one group."""
    return group_rank


def is_gloo_available() -> bool:
    """True: TCP connections, under PyTorch's name."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py is installed."""
    return importlib.util.find_spec("mpi4py") is not None


def is_nccl_available() -> bool:
    """Whether CuPy is installed, which calls it."""
    return importlib.util.find_spec("cupy") is not None


def is_torchelastic_launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


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
