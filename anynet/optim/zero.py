"""The state of an optimizer divided among processes (ZeRO, stage 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anynet.distributed import Group, on_device, world
from anynet.ops.creation import zeros
from anynet.optim.flat_group import FlatGroup
from anynet.optim.groups import ParamGroup, ParamsLike, waiting
from anynet.optim.optimizer import Optimizer, evaluated
from anynet.optim.state_dict import read_groups
from anynet.tensor import Parameter, no_grad, unwrap
from anynet_backends import backend_of

__all__ = ["ZeroRedundancyOptimizer"]


class ZeroRedundancyOptimizer(Optimizer):
    """An optimizer of which each process of a group holds the state of some parameters: 1/N of the memory that its moments take.

    Parameters:
      params: as of any optimizer, the same in all processes.
      optimizer_class: the optimizer that updates each parameter, such as `Adam`; it may not hold a mean of the weights.
      group: the processes; by default those of `anynet.distributed.world`.
      options: those of `optimizer_class`.

    Each parameter belongs to one process: the largest first, each to the process that has the fewest numbers so far. A step updates
    this process's parameters, with gradients that must be the same in all (`fit` and `DistributedDataParallel` see to that), and then gives
    them to the others. The numbers are those of the optimizer itself. `state_dict` is that of the whole, in each process, as
    the optimizer alone would give it: it can be loaded by any number of processes. `step`, `state_dict` and `load_state_dict` are
    called by all processes.

    >>> import anynet as an
    >>> p = an.Parameter([1.0])
    >>> optimizer = an.optim.ZeroRedundancyOptimizer([p], an.optim.SGD, lr=0.5)
    >>> (p * p).backward()
    >>> optimizer.step()
    >>> p.tolist()
    [0.0]

    Source: Rajbhandari et al.: ZeRO: memory optimizations toward training trillion parameter models (2020).
    """

    def __init__(
        self, params: ParamsLike, optimizer_class: type[Optimizer], *, group: Group | None = None, **options: Any
    ) -> None:  # fmt: skip
        owner = "ZeroRedundancyOptimizer"
        if not isinstance(optimizer_class, type) or not issubclass(optimizer_class, Optimizer):
            msg = f"{owner}: optimizer_class must be a class of optimizers, got {optimizer_class!r:.60}"
            raise TypeError(msg)
        if callable(getattr(optimizer_class, "eval", None)) or issubclass(
            optimizer_class, ZeroRedundancyOptimizer
        ):
            msg = f"{owner}: {optimizer_class.__name__} holds more than the state of single parameters; it cannot be divided"
            raise ValueError(msg)
        self.group = world() if group is None else group
        template = optimizer_class(
            [Parameter(zeros((2, 2), device="cpu"))], **options
        )  # a shape that all take
        self.kinds = optimizer_class.kinds  # type: ignore[misc]
        self.validate = template.validate  # type: ignore[method-assign]
        super().__init__(params, template.defaults, template._hints)
        every = [p for g in self.param_groups for p in g["params"]]
        self.group = on_device(self.group, every[0].device)
        if any(map(waiting, every)):
            msg = f"{owner}: a lazy layer has no parameters to divide yet; call the network once before"
            raise ValueError(msg)
        self.owners = divide([p.size for p in every], self.group.size)
        self.inner: Optimizer | None = None
        self._inner_groups: list[dict[str, Any] | None] = [None] * len(self.param_groups)
        own = []
        for i, (g, owners) in enumerate(zip(self.param_groups, self._by_group(self.owners), strict=True)):
            mine = [p for p, r in zip(g["params"], owners, strict=True) if r == self.group.rank]
            if mine:
                own.append((i, {**_options(g), "params": mine}))
        if own:
            self.inner = optimizer_class([g for _, g in own], **options)
            for (i, _), made in zip(own, self.inner.param_groups, strict=True):
                self._inner_groups[i] = made

    def _by_group(self, values: list[Any]) -> list[list[Any]]:
        found, at = [], 0
        for g in self.param_groups:
            found.append(values[at : at + len(g["params"])])
            at += len(g["params"])
        return found

    def _pack(self, group: ParamGroup, more: Iterable[str] = ()) -> list[FlatGroup]:
        return []  # the optimizer inside has the vectors

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Refused: the parameters are divided once."""
        msg = "ZeroRedundancyOptimizer: parameters are divided when it is made; make another one"
        raise NotImplementedError(msg)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update this process's parameters, and give them to the others."""
        loss = None if closure is None else evaluated(closure)
        for outer, inner in zip(self.param_groups, self._inner_groups, strict=True):
            if inner is not None:
                inner.update({k: v for k, v in _options(outer).items() if inner.get(k) is not v})
        if self.inner is not None:
            self.inner.step()
        self._spread()
        return loss

    def _spread(self) -> None:
        """Each process's parameters, in all."""
        if self.group.size == 1:
            return
        every = [p for g in self.param_groups for p in g["params"]]
        for root in range(self.group.size):
            kinds: dict[tuple[str, str], list[Any]] = {}
            for p, r in zip(every, self.owners, strict=True):
                if r == root:
                    kinds.setdefault((p.device, p.dtype.name), []).append(p)
            for params in kinds.values():
                arrays = [unwrap(p) for p in params]
                xp = backend_of(arrays[0])
                whole = self.group.broadcast(xp.concat([xp.reshape(a, (-1,)) for a in arrays]), root)
                if root == self.group.rank:
                    continue
                at = 0
                with no_grad():
                    for p in params:
                        p.assign_(xp.reshape(whole[at : at + p.size], p.shape))
                        at += p.size

    def finite_gradients(self) -> bool:
        """Whether no gradient holds a NaN or an infinity."""
        return self._each_finite()

    # ----- state -----

    def __getstate__(self) -> dict[str, Any]:
        msg = (
            "ZeroRedundancyOptimizer: it belongs to the processes that divide its state, and cannot be copied or pickled; keep its "
            "state_dict() and load it into another one"
        )
        raise TypeError(msg)

    def state_dict(self) -> dict[str, Any]:
        """The state of the whole; all processes call it."""
        parts = self.group.gather({} if self.inner is None else self.inner.state_dict()["state"])
        state: dict[int, dict[str, Any]] = {}
        for rank, part in enumerate(parts):
            numbers = [n for n, r in enumerate(self.owners) if r == rank]
            state.update({numbers[int(k)]: entry for k, entry in part.items()})
        groups = [
            {**g, "params": numbers}
            for g, numbers in zip(
                self.param_groups, self._by_group(list(range(len(self.owners)))), strict=True
            )
        ]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of any number of processes, or of the optimizer alone; everything is checked before anything changes."""
        groups_saved, given, entries = read_groups(self, state)
        mine: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        count = 0
        for saved, ids, owners in zip(groups_saved, given, self._by_group(self.owners), strict=True):
            own = [n for n, r in zip(ids, owners, strict=True) if r == self.group.rank]
            if not own:
                continue
            mine.update({count + i: entries[n] for i, n in enumerate(own) if n in entries})
            groups.append({**_options(saved), "params": list(range(count, count + len(own)))})
            count += len(own)
        if self.inner is not None:
            self.inner.load_state_dict({"state": mine, "param_groups": groups})
        for group, saved in zip(self.param_groups, groups_saved, strict=True):
            for name, value in _options(saved).items():
                group[name] = value


def divide(sizes: list[int], count: int) -> list[int]:
    """For each of some sizes one of `count` processes: the largest first, each to the one that has the least so far.

    >>> divide([4, 1, 3, 2], 2)
    [0, 0, 1, 1]
    """
    held = [0] * count
    owners = [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = held.index(min(held))
        held[owners[i]] += sizes[i]
    return owners


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k not in ("params", "param_names")}
