"""One network in several processes, for training loops of one's own; PyTorch's name for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet.distributed import GradientReducer, Group, on_device, world
from anynet.distributed.gradients import CHUNK
from anynet.nn.module import Module
from anynet.tensor import no_grad
from anynet_backends.concurrency import this_thread

__all__ = ["DistributedDataParallel"]


class DistributedDataParallel(Module):
    """A module whose gradients are the means over the processes of a group, each of which has computed them from a batch of its own.

    Parameters:
      module: the network; its parameters and buffers become those of the first process.
      process_group: the processes; by default those of `anynet.distributed.world`, through NCCL where each has a GPU for the module.
      bucket_cap_mb: megabytes of gradients that are summed at a time, while the backward pass computes the others; by default 4.
      broadcast_buffers: whether the buffers become those of the first process at each call in training.

    g = Σ_r g_r / N: where the loss is a mean over a batch and all batches have one size, that is the gradient of the mean over all of
    them. (`anynet.fit` weighs batches of different sizes, and needs no such wrapper.) All processes call it, and ``backward()``, as often.
    The names in `state_dict` begin with ``module.``, as in PyTorch. Batch norms: `SyncBatchNorm.convert_sync_batchnorm`.

    >>> import anynet as an
    >>> net = an.nn.parallel.DistributedDataParallel(an.nn.Linear(2, 1))
    >>> an.mean(net(an.ones((4, 2)))).backward()
    >>> net.module.bias.grad.tolist()
    [1.0]
    """

    def __init__(
        self, module: Module, process_group: Group | None = None, *, bucket_cap_mb: float | None = None,
        broadcast_buffers: bool = True,
    ) -> None:  # fmt: skip
        if not isinstance(module, Module):
            msg = f"DistributedDataParallel: module must be a Module, got {type(module).__name__}"
            raise TypeError(msg)
        if any(m.waiting for m in module.modules()):
            msg = "DistributedDataParallel: a lazy layer has no parameters yet; call the network once before"
            raise ValueError(msg)
        self.module = module
        self.broadcast_buffers = bool(broadcast_buffers)
        self._group = _group_for(module) if process_group is None else process_group
        chunk = CHUNK if bucket_cap_mb is None else int(bucket_cap_mb * (1 << 20))
        self._reducer = GradientReducer(module.parameters(), self._group, chunk=chunk, mean=True)
        self._spread([*module.parameters(), *module.buffers()])

    def _spread(self, tensors: list[Any]) -> None:
        if self._group.size > 1:
            with no_grad():
                for t in tensors:
                    t.assign_(self._group.broadcast(t.detach()))

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within the block gradients stay those of this process and add up; the first backward pass after it takes the mean of all."""
        with self._reducer.no_sync():
            yield

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the module gives."""
        if self.training and self._reducer.synchronizes and this_thread.recording:
            if self.broadcast_buffers:
                self._spread(list(self.module.buffers()))
            self._reducer.begin()
        return self.module(*inputs, **named)


def _group_for(module: Module) -> Group:
    """All processes, with sums on the device of the module's parameters."""
    group, first = world(), next(module.parameters(), None)
    return group if first is None else on_device(group, first.device)
