"""`torch.utils`: data sets and loaders, checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import GenericAlias, ModuleType
from typing import Any

from anynet import data as _data
from anynet import streams
from anynet.autograd import pytree as _tree
from anynet.torch import distributed
from anynet.torch.table import TABLE
from anynet.torch.tensor import adopt
from anynet.utils import checkpoint as _checkpoints

__all__ = ["checkpoint", "data"]


class TensorDataset(_data.TensorDataset):
    """Sample i is the tuple of the rows i of tensors."""

    def __init__(self, *tensors: Any) -> None:
        super().__init__(*tensors)
        self.tensors = tensors

    def __getitem__(self, index: int, /) -> Any:
        return adopt(super().__getitem__(index))

    def batch(self, indices: Sequence[int]) -> Any:
        return adopt(super().batch(indices))


def _seed_of(generator: Any) -> int:
    """A seed, from a generator or from the process's."""
    return int(streams.next_draw(generator)[2] + 1_000_003 * streams.next_draw(generator)[0]) % (1 << 62)


class DataLoader(_data.DataLoader):
    """Batches of a data set, under PyTorch's names: `anynet.data.DataLoader`, whose batches are tensors of this room.

    The order of `shuffle` follows from `generator`, or from `torch.manual_seed`; it is not PyTorch's for the same seed.
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None, batch_sampler: Any = None,
        num_workers: int = 0, collate_fn: Any = None, pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Any = None, multiprocessing_context: Any = None, generator: Any = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True,
    ) -> None:  # fmt: skip
        if not in_order:
            msg = "DataLoader: in_order must be True"
            raise NotImplementedError(msg)
        here = streams.get_state()["seed"] if generator is None else _seed_of(generator)
        super().__init__(
            dataset, batch_size, bool(shuffle), sampler=sampler, batch_sampler=batch_sampler, num_workers=num_workers,
            collate_fn=collate_fn, pin_memory=False, drop_last=drop_last, timeout=timeout, worker_init_fn=worker_init_fn,
            multiprocessing_context=multiprocessing_context, prefetch_factor=prefetch_factor, persistent_workers=persistent_workers,
            seed=here % (1 << 62), device="cpu",
        )  # fmt: skip

    def __iter__(self) -> Iterator[Any]:
        return map(adopt if self.collate_fn is not None else _lists, super().__iter__())


def _lists(batch: Any) -> Any:
    """A batch as PyTorch collates it: a list of what samples have as a tuple."""
    if type(batch) in (tuple, list):
        return [_lists(part) for part in batch]
    if type(batch) is dict:
        return {name: _lists(part) for name, part in batch.items()}
    return adopt(batch)


class ConcatDataset(_data.Dataset):
    """Data sets one after the other."""

    def __init__(self, datasets: Any) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            msg = "datasets should not be an empty iterable"
            raise ValueError(msg)
        self.cumulative_sizes = []
        total = 0
        for d in self.datasets:
            total += len(d)
            self.cumulative_sizes.append(total)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int, /) -> Any:
        n = len(self)
        if not -n <= index < n:
            msg = f"index {index} is out of range for a data set of {n} samples"
            raise IndexError(msg)
        index %= n
        at = next(i for i, end in enumerate(self.cumulative_sizes) if index < end)
        return self.datasets[at][index - (self.cumulative_sizes[at - 1] if at else 0)]


class ChainDataset(_data.IterableDataset):
    """Streams one after the other."""

    def __init__(self, datasets: Any) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        for d in self.datasets:
            yield from d


class StackDataset(_data.Dataset):
    """Sample i is the tuple (or dict) of the samples i of data sets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.datasets: Any = kwargs or args
        lengths = {len(d) for d in (kwargs.values() if kwargs else args)}
        if len(lengths) != 1 or (args and kwargs):
            msg = f"StackDataset: the data sets must have one length, got {sorted(lengths)}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(
            next(iter(self.datasets.values())) if isinstance(self.datasets, dict) else self.datasets[0]
        )

    def __getitem__(self, index: int, /) -> Any:
        if isinstance(self.datasets, dict):
            return {name: d[index] for name, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> Any:
    """Random parts that do not overlap; which they are follows from `generator`, or from `torch.manual_seed`."""
    return _data.random_split(dataset, lengths, seed=_seed_of(generator))


def default_collate(batch: Sequence[Any]) -> Any:
    """A batch from a list of samples; of tuples it is a list."""
    return _lists(_data.default_collate(batch))


class DistributedSampler(_data.Sampler):
    """Every n-th sample for each of n processes, in an order that is theirs in common; `set_epoch` gives another order.

    The order of ``shuffle=True`` is anynet's, not PyTorch's for the same seed.
    """

    def __init__(
        self, dataset: Any, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True, seed: int = 0,
        drop_last: bool = False,
    ) -> None:  # fmt: skip
        self.num_replicas = distributed.get_world_size() if num_replicas is None else num_replicas
        self.rank = distributed.get_rank() if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            msg = f"DistributedSampler: rank must be in [0, {self.num_replicas}), got {self.rank}"
            raise ValueError(msg)
        self.dataset, self.shuffle, self.seed, self.drop_last, self.epoch = (
            dataset,
            shuffle,
            seed,
            drop_last,
            0,
        )
        n = len(dataset)
        short = drop_last and n % self.num_replicas
        self.num_samples = n // self.num_replicas if short else -(-n // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Which epoch it is, for the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.dataset)))
        if self.shuffle:
            chance = streams.Generator((self.seed or 0) + self.epoch)
            order = [int(i) for i in TABLE["randperm"].function(len(order), generator=chance).tolist()]
        if self.drop_last:
            order = order[: self.total_size]
        elif order:
            order = (order * -(-self.total_size // len(order)))[: self.total_size]
        yield from order[self.rank :: self.num_replicas]


data = ModuleType("anynet.torch.utils.data", "torch.utils.data")
for _name in (
    "BatchSampler", "Dataset", "IterableDataset", "RandomSampler", "Sampler", "SequentialSampler", "Subset", "SubsetRandomSampler",
    "WeightedRandomSampler", "get_worker_info",
):  # fmt: skip
    setattr(data, _name, getattr(_data, _name))
for _own in (
    TensorDataset,
    DataLoader,
    ConcatDataset,
    ChainDataset,
    StackDataset,
    random_split,
    default_collate,
    DistributedSampler,
):
    setattr(data, _own.__name__, _own)
for _kind in vars(data).values():  # class Mine(Sampler[list[int]])
    if isinstance(_kind, type) and not hasattr(_kind, "__class_getitem__"):
        _kind.__class_getitem__ = classmethod(GenericAlias)  # type: ignore[attr-defined]
data.dataset = data.dataloader = data.sampler = data.distributed = data  # type: ignore[attr-defined]


def _checkpointed(
    function: Any, *args: Any, use_reentrant: Any = None, preserve_rng_state: bool = True, context_fn: Any = None,
    determinism_check: str = "default", debug: bool = False, early_stop: bool = True, **kwargs: Any
) -> Any:  # fmt: skip
    """`anynet.utils.checkpoint.checkpoint`: random numbers are drawn again as they were, whatever `preserve_rng_state` says."""
    if context_fn is not None:
        msg = "checkpoint: context_fn must be None"
        raise NotImplementedError(msg)
    return _checkpoints.checkpoint(function, *args, **kwargs)


def _checkpointed_in_parts(
    functions: Any, segments: int, input: Any, use_reentrant: Any = None, **_: Any
) -> Any:
    """`anynet.utils.checkpoint.checkpoint_sequential`."""
    return _checkpoints.checkpoint_sequential(functions, segments, input)


checkpoint = ModuleType("anynet.torch.utils.checkpoint", "torch.utils.checkpoint")
vars(checkpoint).update(
    checkpoint=_checkpointed, checkpoint_sequential=_checkpointed_in_parts,
    # the state of all random numbers is one, whatever the device: that of torch.get_rng_state()
    get_device_states=lambda *args: ([], []), set_device_states=lambda devices, states, **_: None,
)  # fmt: skip
utils = ModuleType("anynet.torch.utils", "torch.utils")
utils.data, utils.checkpoint = data, checkpoint  # type: ignore[attr-defined]
for _module in (utils, data):
    sys.modules[_module.__name__] = _module
sys.modules["anynet.torch.utils.checkpoint"] = checkpoint
for _path in ("dataset", "dataloader", "sampler", "distributed"):  # one room here
    sys.modules[f"{data.__name__}.{_path}"] = data
_pytree = ModuleType("anynet.torch.utils._pytree", "torch.utils._pytree")
vars(_pytree).update(
    tree_map=_tree.map_tree,
    tree_flatten=_tree.flatten,
    tree_unflatten=lambda leaves, spec: _tree.unflatten(spec, list(leaves)),
)
sys.modules[_pytree.__name__] = utils._pytree = _pytree  # type: ignore[attr-defined]
