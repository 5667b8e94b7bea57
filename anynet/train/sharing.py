"""One training in several processes: what they exchange, so that N of them with a part of each batch train as one with all of it."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anynet import random
from anynet.autograd.pytree import flatten
from anynet.data import DataLoader
from anynet.distributed import DistributedError, GradientReducer, Group, on_device
from anynet.nn.module import Module
from anynet.nn.norm import _BatchNorm
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.train.metrics import Sums
from anynet.train.objectives import rows
from anynet.train.streams import Stream
from anynet_backends import backend_of, host, registry

if TYPE_CHECKING:
    from anynet.train.state import Logs, TrainingState

__all__ = ["Sharing", "divided"]

_RANK_BITS = 96
"""Seeds of this process's masks are the training's with its rank in these bits."""


def divided(where: str, loader: Any, group: Group) -> Any:
    """A loader of this process's part of each batch."""
    if group.size == 1:
        return loader
    size = getattr(loader, "batch_size", None)
    if isinstance(size, int) and size < group.size:
        msg = f"{where}: batch_size is that of all {group.size} processes together, and must be at least {group.size}, got {size}"
        raise ValueError(msg)
    if isinstance(loader, DataLoader):
        return loader.shard(group.rank, group.size)
    if isinstance(loader, Stream):
        loader.part = (group.rank, group.size)
    return loader


class Sharing:
    """What the processes of a training do together. All of them make the same calls in the same order."""

    def __init__(self, group: Group, model: Module, params: Sequence[Any]) -> None:
        self.model, self.params = model, list(params)
        self.group = on_device(group, self.params[0].device) if self.params else group
        self.main = group.rank == 0
        self.reducer = GradientReducer(self.params, group)
        self.synchronizes = any(isinstance(m, _BatchNorm) for m in model.modules())

    def begin(self) -> None:
        """All processes have the parameters and buffers of the first."""
        self._spread([*self.params, *self.model.parameters(), *self.model.buffers()])

    def _spread(self, tensors: Sequence[Tensor]) -> None:
        with no_grad():
            for t in {id(t): t for t in tensors}.values():
                t.assign_(self.group.broadcast(t.detach()))

    def own_masks(self) -> None:
        """The random masks of this process: other ones in each, which follow from the seed and the rank."""
        state = random.get_state()
        random.set_state({**state, "seed": state["seed"] ^ (self.group.rank << _RANK_BITS)})

    def first(self, value: Any) -> Any:
        """A value of the first process, in all."""
        return self.group.gather(value if self.main else None)[0]

    # ----- a batch -----

    def weigh(self, value: float, weight: float, adds: bool) -> tuple[float, float, float]:
        """What the gradient of this process's loss counts in that of the whole batch; the loss of the whole, and its denominator.

        L = Σ_r d_r l_r / Σ_r d_r for losses that are means over d_r, Σ_r l_r for those that are sums (`adds`).
        """
        own = [0.0 if adds else weight, value if adds else value * weight if weight else 0.0]
        mass, total = self.group.all_reduce(registry.asarray(own, "float64")).tolist()
        if adds:
            return 1.0, total, 0.0
        if mass == 0.0:
            return 0.0, value if not math.isnan(value) else 0.0, 0.0
        return weight / mass, total / mass, mass

    @staticmethod
    def idle(output: Any) -> Any:
        """A loss that depends on the output and has no gradient: this process has nothing to learn from this batch, and takes part in
        the sums over all processes that the layers make."""
        total: Any = 0.0
        for leaf in flatten(output)[0]:
            if isinstance(leaf, Tensor) and leaf.edge is not None:
                total = total + sum(leaf) * 0.0
        return total

    @staticmethod
    def has_rows(batch: Sequence[Any]) -> bool:
        """Whether this process has a part of this batch; of one with fewer samples than processes some have none."""
        return rows(batch[0]) > 0

    def agree(self, due: bool, signal: int, state: TrainingState) -> tuple[bool, int]:
        """Decide together: whether the first process saves, whether a signal has come to any, whether any has been stopped."""
        own = registry.asarray([int(due and self.main), signal, int(state.stopped is not None)], "int64")
        save, signal, stopped = self.group.all_reduce(own, "max").tolist()
        if stopped:
            reasons = self.group.gather((state.stopped, state.stopped_for_good))
            state.stopped, state.stopped_for_good = next(r for r in reasons if r[0] is not None)
        return bool(save), int(signal)

    # ----- an epoch -----

    def before_evaluation(self) -> None:
        """All have the same parameters, or an error says which process has others; running statistics are the first one's."""
        sums = self.group.gather(_checksum(self.params))
        others = [r for r, found in enumerate(sums) if found != sums[0]]
        if others:
            msg = (
                f"the parameters of process {others[0]} are not those of process 0: something has changed them in one process alone (a "
                "callback, random numbers outside of the layers, other versions of the libraries)"
            )
            raise DistributedError(msg)
        self._spread(list(self.model.buffers()))

    def joined(self, sums: Sums, logs: Logs, *, loss: bool) -> tuple[Sums, Logs]:
        """The totals of all processes; `loss`: those of the loss, too, where each has that of its own part."""
        whole = Sums(sums.objective, sums.metrics)
        whole.loss = list(sums.loss)
        found = self.group.gather((sums.state_dict(), logs.totals))
        if loss:
            whole.loss = [math.fsum(part["loss"][i] for part, _ in found) for i in (0, 1)]
        for part, _ in found:
            for metric in whole.metrics:
                other = metric.fresh()
                other.load_state_dict(part[metric.name])
                metric.merge(other)
        totals = type(logs)()
        for _, part in found:
            for name, (value, count) in part.items():
                total = totals.totals.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += count
        return whole, totals

    # ----- checkpoints -----

    @contextmanager
    def together(self, state: TrainingState) -> Iterator[None]:
        """Within the block `state.tree` is that of all processes, on whatever process it is asked for."""
        sums, logs = self.joined(state.sums, state.logs, loss=False)
        updates = self._updates(state.updates.state_dict())
        optimizer = state.optimizer_state()
        state.whole = {
            "sums": sums.state_dict(),
            "logs": logs.totals,
            "updates": updates,
            "optimizer": optimizer,
        }
        try:
            yield
        finally:
            state.whole = None

    def _updates(self, own: dict[str, Any]) -> dict[str, Any]:
        """With the gradients that wait added up."""
        if not own.get("summed"):
            return own
        waiting: dict[str, Any] = {}
        for part in self.group.gather(own["waiting"]):
            for i, g in part.items():
                waiting[i] = waiting[i] + g if i in waiting else g
        return {**own, "waiting": waiting}

    def own_part(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """What a process restores of a checkpoint: the totals that are added up over the processes are the first one's."""
        if self.main:
            return dict(tree)
        updates = copy.copy(tree.get("updates", {}))
        if "waiting" in updates:
            updates["waiting"] = {}
        sums = {k: (v if k == "loss" else {}) for k, v in tree["sums"].items()}
        return {**tree, "sums": sums, "logs": {}, "updates": updates}


def _checksum(params: Sequence[Any]) -> int:
    """A number that two processes with different parameters hardly share."""
    found = 0
    for p in params:
        plain = unwrap(p)
        found = zlib.crc32(host.to_bytes(registry.asarray(backend_of(plain).to_host(plain))), found)
    return found
