"""Which processes there are: what the launcher has said in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from anynet.distributed.group import DistributedError, Group, SingleProcess
from anynet.distributed.mpi import MPIGroup
from anynet_backends.concurrency import ThreadStack, fork_safe_lock

__all__ = ["failing_together", "launched", "use", "world"]

_MPI: Final = {
    "PMI_SIZE": "mpiexec (MPICH, Intel MPI)",
    "OMPI_COMM_WORLD_SIZE": "mpiexec (Open MPI)",
    "MV2_COMM_WORLD_SIZE": "mpiexec (MVAPICH)",
}
_SLURM: Final = (
    "SLURM_STEP_NUM_TASKS"  # of srun; sbatch sets SLURM_NTASKS for scripts that are one process, too
)

_alone = SingleProcess()
_lock = fork_safe_lock()
_found: list[tuple[int, Group]] = []  # the group of this process, by its number: children are none of it
_chosen: ThreadStack[Group] = ThreadStack("groups")


def launched(environment: Mapping[str, str] | None = None) -> tuple[int, str] | None:
    """How many processes a launcher says that it has started, and which launcher; None for a process alone.

    Errors: `DistributedError` for torchrun's variables without MPI's, and for numbers that are none.

    >>> launched({"PMI_SIZE": "4", "PMI_RANK": "1"})
    (4, 'mpiexec (MPICH, Intel MPI)')
    >>> launched({}) is None
    True
    """
    given = os.environ if environment is None else environment
    for name, launcher in {**_MPI, _SLURM: "srun"}.items():
        if name in given and _number(name, given[name]) > 1:
            return _number(name, given[name]), launcher
    torchrun = {"RANK", "WORLD_SIZE"} <= given.keys()
    if torchrun and _number("WORLD_SIZE", given["WORLD_SIZE"]) > 1:
        msg = (
            f"the variables RANK={given['RANK']}, WORLD_SIZE={given['WORLD_SIZE']} and MASTER_ADDR are torchrun's; here processes find "
            f"each other through MPI: mpiexec -n {given['WORLD_SIZE']} python script.py (or unset RANK and WORLD_SIZE to train alone)"
        )
        raise DistributedError(msg)
    return None


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"the environment variable {name} must be a number of processes, got {text!r}"
        raise DistributedError(msg)
    return int(text)


def world() -> Group:
    """The processes that this one trains with: those of `use`, else all that the launcher has started, else this one alone.

    ``mpiexec -n 4 python script.py`` starts four. mpi4py is imported here, and only in a process that was launched so.

    Errors: ModuleNotFoundError that names the extra ``mpi``; `DistributedError` where MPI knows of another number of processes than the
    launcher (mpi4py is of another MPI than mpiexec, srun without ``--mpi``), and for torchrun's variables.

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
        if _found:  # forked from a process of a launch: MPI knows nothing of it
            return _alone
        group = MPIGroup()
        count, launcher = said
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
