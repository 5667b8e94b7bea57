"""Processes that `mpiexec` has started, through mpi4py (extra ``mpi``)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from anynet._optional import optional
from anynet.distributed.communicator import CommunicatorGroup
from anynet.distributed.group import DistributedError

__all__ = ["MPIGroup"]


class MPIGroup(CommunicatorGroup):
    """The processes of an MPI communicator, all of ``MPI.COMM_WORLD`` by default.

    `timeout`: seconds after which a process that waits for the others gives up. `grace`: seconds that a process which has failed, or
    asks the others where they are, waits for what they say.

    Arrays that are not on the host (CUDA) go through it; `on_device` makes a group whose sums stay on the GPUs.

    Errors: ModuleNotFoundError without mpi4py; `DistributedError` in every process where one of them fails, ends its program while the
    others wait for it, or does not come in time. A process that is killed is noticed by `mpiexec`, which ends the others.
    """

    def __init__(self, communicator: Any = None, *, timeout: float = 1800.0, grace: float = 5.0) -> None:
        self._seconds(timeout=timeout, grace=grace)
        mpi = _mpi4py()
        comm = mpi.COMM_WORLD if communicator is None else communicator
        super().__init__(mpi, comm, timeout=timeout, grace=grace)


def _mpi4py() -> ModuleType:
    """mpi4py.MPI; an error that names the extra, or what the MPI library lacks."""
    try:
        return optional("mpi4py.MPI", "mpi", "training in several processes")
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        msg = f"mpi4py is installed, and finds no MPI library ({error}): install one, as by pip install mpich, or use the cluster's"
        raise DistributedError(msg) from error
