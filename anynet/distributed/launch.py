"""Which processes there are: what the launcher has said in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from anynet.distributed.group import DistributedError, Group, SingleProcess
from anynet.distributed.mpi import MPIGroup
from anynet.distributed.tcp import TCPGroup
from anynet_backends.concurrency import ThreadStack, fork_safe_lock

__all__ = ["failing_together", "join", "launched", "leave", "meet", "met", "use", "world"]

_MPI: Final = {
    "PMI_SIZE": "mpiexec (MPICH, Intel MPI)",
    "OMPI_COMM_WORLD_SIZE": "mpiexec (Open MPI)",
    "MV2_COMM_WORLD_SIZE": "mpiexec (MVAPICH)",
}
_SLURM: Final = (
    "SLURM_STEP_NUM_TASKS"  # of srun; sbatch sets SLURM_NTASKS for scripts that are one process, too
)
_TCP: Final = "torchrun"

_alone = SingleProcess()
_lock = fork_safe_lock()
_found: list[tuple[int, Group]] = []  # the group of this process, by its number: children are none of it
_chosen: ThreadStack[Group] = ThreadStack("groups")


def launched(environment: Mapping[str, str] | None = None) -> tuple[int, str] | None:
    """How many processes a launcher says that it has started, and which launcher; None for a process alone.

    MPI's variables come before those of torchrun: RANK, WORLD_SIZE and MASTER_ADDR, with MASTER_PORT (29500).

    Errors: `DistributedError` where one of torchrun's variables is missing, and for numbers that are none.

    >>> launched({"PMI_SIZE": "4", "PMI_RANK": "1"})
    (4, 'mpiexec (MPICH, Intel MPI)')
    >>> launched({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.7"})
    (2, 'torchrun')
    >>> launched({}) is None
    True
    """
    given = os.environ if environment is None else environment
    for name, launcher in {**_MPI, _SLURM: "srun"}.items():
        if name in given and _number(name, given[name]) > 1:
            return _number(name, given[name]), launcher
    if {"RANK", "WORLD_SIZE"} <= given.keys() and _number("WORLD_SIZE", given["WORLD_SIZE"]) > 1:
        if "MASTER_ADDR" not in given:
            msg = (
                f"RANK={given['RANK']} and WORLD_SIZE={given['WORLD_SIZE']} are torchrun's variables, and MASTER_ADDR, the host of "
                "process 0, is missing; set it, or unset RANK and WORLD_SIZE to train alone"
            )
            raise DistributedError(msg)
        return _number("WORLD_SIZE", given["WORLD_SIZE"]), _TCP
    return None


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"the environment variable {name} must be a number of processes, got {text!r}"
        raise DistributedError(msg)
    return int(text)


def world() -> Group:
    """The processes that this one trains with: those of `use`, else all that the launcher has started, else this one alone.

    ``mpiexec -n 4 python script.py`` starts four. mpi4py is imported here, and only in a process that was launched so. With torchrun's
    variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) it is a `TCPGroup`, which needs no MPI.

    Errors: ModuleNotFoundError that names the extra ``mpi``; `DistributedError` where MPI knows of another number of processes than the
    launcher (mpi4py is of another MPI than mpiexec, srun without ``--mpi``), and where processes do not find each other.

    >>> import anynet as an
    >>> an.distributed.world()
    SingleProcess(rank=0, size=1)
    """
    own = _chosen.own if _chosen else None
    if own:
        return own[-1]
    if _found and _found[0][0] == os.getpid():
        return _found[0][1]
    said = launched()
    if said is None:
        return _alone
    with _lock:
        if _found and _found[0][0] == os.getpid():
            return _found[0][1]
        if _found:  # forked from a process of a launch: the others know nothing of it
            return _alone
        count, launcher = said
        if launcher == _TCP:
            _found.append((os.getpid(), TCPGroup.of_environment()))
            return _found[0][1]
        group = MPIGroup()
        if group.size != count:
            how = (
                "srun --mpi=pmix (or pmi2)"
                if launcher == "srun"
                else f"{launcher.split()[0]} of the MPI that mpi4py finds"
            )
            msg = f"{launcher} has started {count} processes, and MPI knows of {group.size} here; start them by {how}"
            raise DistributedError(msg)
        _found.append((os.getpid(), group))
        return group


def met() -> Group | None:
    """The group of this process where it has one already; nobody is waited for."""
    if _chosen and _chosen.own:
        return _chosen.own[-1]
    return _found[0][1] if _found and _found[0][0] == os.getpid() else None


def meet(group: Group) -> Group:
    """The group is what `world` is from now on, for all threads of this process; `leave` takes it back.

    For processes that a program has started itself: ``an.distributed.meet(an.distributed.TCPGroup(rank, size))``.

    Errors: `DistributedError` in a process that trains with others already.
    """
    with _lock:
        if _found and _found[0][0] == os.getpid() and _found[0][1] not in (group, _alone):
            msg = f"this process is of a group already: {_found[0][1]!r}"
            raise DistributedError(msg)
        _found[:] = [(os.getpid(), group)]
    return group


def leave() -> None:
    """This process is alone from now on, whatever a launcher says, until `join` or `meet`."""
    with _lock:
        _found[:] = [(os.getpid(), _alone)]


def join() -> Group:
    """What `world` is, after `leave`, too: the processes of a launcher meet again."""
    with _lock:
        if _found and _found[0][1] is _alone:
            _found.clear()
    return world()


@contextmanager
def use(group: Group) -> Iterator[Group]:
    """Within the block `world` is this group, for this thread.

    Each process of a launch can so train a network of its own, as in a search: ``with use(SingleProcess()): an.fit(…)``.

    >>> import anynet as an
    >>> with an.distributed.use(an.distributed.SingleProcess()) as group:
    ...     group.size
    1
    """
    if not isinstance(group, Group):
        msg = f"use: group must be a Group, got {type(group).__name__}"
        raise TypeError(msg)
    _chosen.append(group)
    try:
        yield group
    finally:
        _chosen.remove(group)


@contextmanager
def failing_together(group: Group) -> Iterator[None]:
    """An error within the block is told to the other processes of the group, so that none of them waits for this one."""
    try:
        yield
    except BaseException as error:
        group.fail(error)
        raise
