"""Map-style data sets: a length, and a sample for each index."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anynet.streams import SHUFFLES
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet_backends import backend_of, philox, registry, resolve

__all__ = [
    "ColumnDataset",
    "Dataset",
    "IterableDataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "random_split",
]


class Dataset:
    """Base of map-style data sets: define ``__len__`` and ``__getitem__``.

    `batch` makes a batch of many samples at once; override it where that is faster than one by one. A data set whose samples are
    not the same in each epoch (augmented pictures) overrides `at_epoch`. `draws` says whether samples may draw from the generators of the
    process (of Python, NumPy, …); `DataLoader` seeds these for each batch of a data set that does.
    `at_once` is how many samples `fit` validates with at once (more where its `batch_size` is larger).
    """

    draws: bool = True
    at_once: int = 256

    def __len__(self) -> int:
        msg = f"{type(self).__name__} does not define __len__"
        raise NotImplementedError(msg)

    def __getitem__(self, index: int, /) -> Any:
        msg = f"{type(self).__name__} does not define __getitem__"
        raise NotImplementedError(msg)

    def batch(self, indices: Sequence[int]) -> Any:
        """The samples at `indices`, collated."""
        return default_collate([self[i] for i in indices])

    def at_epoch(self, epoch: int) -> Dataset:
        """The data set as it is in epoch 0, 1, …; `DataLoader` asks for it. This one is always the same.

        What is drawn at random must follow from the epoch and the index of a sample alone: then resuming in the middle of an
        epoch is exact, and it does not matter which worker makes which sample in which order.
        """
        return self


class IterableDataset:
    """Base of data sets that are streams: define ``__iter__``, and ``__len__`` where the number of samples is known.

    `DataLoader` takes any object with ``__iter__``, and a function that returns an iterator, just as well. With worker processes each
    goes through the whole stream and makes its share of the batches, so the result is the same for any number of them; a data set
    that asks `get_worker_info` before its first sample is taken to give each worker its own part.

    >>> class Squares(IterableDataset):
    ...     def __iter__(self):
    ...         return (i * i for i in range(3))
    >>> list(Squares())
    [0, 1, 4]
    """

    def __iter__(self) -> Iterator[Any]:
        msg = f"{type(self).__name__} does not define __iter__"
        raise NotImplementedError(msg)

    def at_epoch(self, epoch: int) -> IterableDataset:
        """The data set as it is in epoch 0, 1, …; this one is always the same."""
        return self


class TensorDataset(Dataset):
    """Arrays of equal length, as PyTorch's: sample i is the tuple of their rows i, as Tensors.

    >>> import anynet as an
    >>> data = TensorDataset(an.asarray([[1.0, 2.0], [3.0, 4.0]]), an.asarray([0, 1]))
    >>> data[1]
    (Tensor([3., 4.]), Tensor(1))
    """

    draws = False

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            msg = "TensorDataset: got no arrays, at least one is needed"
            raise ValueError(msg)
        self.arrays = tuple(a if _is_plain(a) else to_plain(a) for a in map(unwrap, arrays))
        shapes = [tuple(a.shape) for a in self.arrays]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
            msg = f"TensorDataset: the arrays must have the same length along axis 0, got shapes {shapes}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, index: int, /) -> tuple[Tensor, ...]:
        i = _checked(index, len(self))
        return tuple(wrap(a[(i, ...)]) for a in self.arrays)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        rows = registry.asarray(indices, "int64")
        return tuple([taken(a, rows) for a in self.arrays])


class ColumnDataset(Dataset):
    """Arrays of equal length by name: sample i is a dict of their rows i. `DataLoader` makes one of a dict of arrays.

    >>> import anynet as an
    >>> ColumnDataset({"x": an.asarray([[1.0], [2.0]]), "y": an.asarray([0, 1])})[1]
    {'x': Tensor([2.]), 'y': Tensor(1)}
    """

    draws = False

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.names = tuple(columns)
        self.rows = TensorDataset(*columns.values())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> dict[str, Tensor]:
        return dict(zip(self.names, self.rows[index], strict=True))

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return dict(zip(self.names, self.rows.batch(indices), strict=True))


def taken(a: Any, rows: Any) -> Tensor:
    """The rows of an array on any device at indices on the host."""
    xp = backend_of(a)
    at = rows if type(a) is type(rows) else xp.from_host(rows, xp.device_of(a))
    return wrap(xp.take(a, at, axis=0))


class Subset(Dataset):
    """The samples of `dataset` at `indices`, as PyTorch's."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = [_checked(int(i), len(dataset)) for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Any:
        return self.dataset[self.indices[_checked(index, len(self))]]

    def batch(self, indices: Sequence[int]) -> Any:
        return batch_of(self.dataset, [self.indices[i] for i in indices])

    def at_epoch(self, epoch: int) -> Dataset:
        there = dataset_at(self.dataset, epoch)
        return self if there is self.dataset else Subset(there, self.indices)


def random_split(dataset: Any, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Random parts that do not overlap; `lengths` are numbers of samples, or fractions that sum to 1, as PyTorch's.

    The same seed gives the same parts. Of fractions, what rounding down leaves over goes to the first parts, one each.

    >>> [len(part) for part in random_split(list(range(10)), [0.75, 0.25])]
    [8, 2]
    """
    n = len(dataset)
    if not lengths or any(length < 0 for length in lengths):
        msg = f"random_split: lengths must be at least one number, all ≥ 0, got {list(lengths)}"
        raise ValueError(msg)
    if all(isinstance(length, int) for length in lengths) and sum(lengths) == n:
        sizes = [int(length) for length in lengths]
    elif math.isclose(math.fsum(lengths), 1.0):
        sizes = [math.floor(n * length) for length in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        msg = f"random_split: lengths must sum to {n} (the number of samples) or be fractions that sum to 1, got {list(lengths)}"
        raise ValueError(msg)
    order = philox.permutation(seed, SHUFFLES, 0, n).tolist()
    parts, at = [], 0
    for size in sizes:
        parts.append(Subset(dataset, order[at : at + size]))
        at += size
    return parts


def dataset_at(dataset: Any, epoch: int) -> Any:
    """Any map-style data set as it is in an epoch."""
    return dataset.at_epoch(epoch) if isinstance(dataset, Dataset) else dataset


def samples_of(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """The samples at indices; all at once where the data set can (``__getitems__``, as Hugging Face's and PyTorch's)."""
    several = getattr(dataset, "__getitems__", None)
    if several is None:
        return [dataset[i] for i in indices]
    samples = several(list(indices))
    if len(samples) != len(indices):
        msg = f"{type(dataset).__name__}.__getitems__ was asked for {len(indices)} samples and gave {len(samples)}"
        raise ValueError(msg)
    return list(samples)


def batch_of(dataset: Any, indices: Sequence[int]) -> Any:
    """A collated batch of any map-style data set."""
    if isinstance(dataset, Dataset):
        return dataset.batch(indices)
    return default_collate(samples_of(dataset, indices))


def on_host(a: Any, foreign: bool) -> Any:
    """A plain array of PyTorch's that a data set of others gave, as NumPy's: with ``device=None`` it is to go where arrays are made, and
    its memory is the host's."""
    if not foreign or type(a) is _HOST_ARRAY:
        return a
    xp = backend_of(a)
    return xp.to_host(a) if xp.device_of(a) == "torch:cpu" else a


def default_collate(samples: Sequence[Any]) -> Any:
    """A batch from a list of samples: arrays, Tensors and numbers are stacked along a new first axis.

    Tuples, lists and mappings are collated item by item; strings and bytes stay a list. Python floats become the default
    float type, ints int64.

    >>> default_collate([(1.0, 2), (3.0, 4)])
    (Tensor([1., 3.]), Tensor([2, 4]))
    """
    first = samples[0]
    if hasattr(first, "__array_interface__") and not _is_plain(
        first
    ):  # a picture of Pillow: height × width × channels, uint8
        samples = [to_plain(s, device="cpu") for s in samples]
        first = samples[0]
    if isinstance(first, Tensor) or _is_plain(first):
        plain = [unwrap(s) for s in samples]
        array, shape, dtype = type(plain[0]), plain[0].shape, plain[0].dtype
        if not all(
            [(type(a) is array or _is_plain(a)) and a.shape == shape and a.dtype == dtype for a in plain]
        ):
            got = sorted(
                {f"{getattr(a, 'dtype', type(a).__name__)} {getattr(a, 'shape', '')}" for a in plain}
            )
            msg = f"default_collate: the samples of a batch must have one shape and dtype, got {', '.join(got)}; try collate_fn="
            raise ValueError(msg)
        return wrap(on_host(backend_of(plain[0]).stack(plain, axis=0), foreign=not isinstance(first, Tensor)))
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, (bool, int, float, complex)):
        return wrap(to_plain(list(samples), device="cpu"))
    if isinstance(first, Mapping):
        if any(not isinstance(s, Mapping) or s.keys() != first.keys() for s in samples):
            msg = f"default_collate: every sample must have the keys of the first, {list(first)}"
            raise ValueError(msg)
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(s) != len(first) for s in samples):
            msg = f"default_collate: samples must have one length, got {sorted({len(s) for s in samples})}; try collate_fn="
            raise ValueError(msg)
        parts = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        return type(first)(parts)
    kind = type(first).__name__
    msg = f"default_collate: samples must be arrays, numbers, strings, tuples, lists or mappings, got {kind}; try collate_fn="
    raise TypeError(msg)


_HOST_ARRAY: Any = resolve("cpu")[0].array_type


def _is_plain(a: object) -> bool:
    return hasattr(a, "dtype") and registry.is_array(a)


def _checked(index: int, n: int) -> int:
    if not -n <= index < n:
        msg = f"index {index} is out of range for a data set of {n} samples"
        raise IndexError(msg)
    return index + n if index < 0 else index
