"""Training in several processes: data parallelism over MPI.

``mpiexec -n 4 python script.py`` starts a script four times; `world` is then the group of the four, and `anynet.fit` trains one network
with all of them, each on its part of every batch. See the guide "Several processes".
"""

from anynet.distributed.gradients import GradientReducer
from anynet.distributed.group import DistributedError, Group, Pending, SingleProcess
from anynet.distributed.launch import failing_together, launched, use, world
from anynet.distributed.mpi import MPIGroup
from anynet.distributed.nccl import NCCLGroup, on_device

__all__ = [
    "DistributedError",
    "GradientReducer",
    "Group",
    "MPIGroup",
    "NCCLGroup",
    "Pending",
    "SingleProcess",
    "failing_together",
    "launched",
    "on_device",
    "use",
    "world",
]
