"""Training in several processes: data parallelism over MPI, or TCP with torchrun's variables.

``mpiexec -n 4 python script.py`` starts a script four times; `world` is then the group of the four, and `anynet.fit` trains one network
with all of them, each on its part of every batch. See the guide "Several processes".
"""

from anynet.distributed.communicator import CommunicatorGroup
from anynet.distributed.gradients import GradientReducer
from anynet.distributed.group import DistributedError, Group, Pending, SingleProcess
from anynet.distributed.launch import failing_together, launched, leave, meet, use, world
from anynet.distributed.mpi import MPIGroup
from anynet.distributed.nccl import NCCLGroup, on_device
from anynet.distributed.tcp import TCPGroup

__all__ = [
    "CommunicatorGroup",
    "DistributedError",
    "GradientReducer",
    "Group",
    "MPIGroup",
    "NCCLGroup",
    "Pending",
    "SingleProcess",
    "TCPGroup",
    "failing_together",
    "launched",
    "leave",
    "meet",
    "on_device",
    "use",
    "world",
]
