"""Samplers: in which order samples are taken, under PyTorch's names; what they draw follows from a seed and the epoch.

The words are Philox's, addressed by (seed, stream, epoch): the same on every backend and platform, and an epoch can be begun again, in
the middle too, without a state that would have to be kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from anynet.streams import SHUFFLES
from anynet.tensor import unwrap
from anynet_backends import backend_of, host, philox, registry, resolve

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


class Sampler:
    """Base of samplers: define ``__iter__``, which gives indices, and ``__len__`` where the number of them is known.

    Any iterable of indices serves as `DataLoader`'s ``sampler=`` (a list, a sampler of PyTorch). One of this kind may instead define
    ``order(seed, epoch)``, the indices of an epoch as a function of two integers; then the loader resumes exactly, whatever is drawn.
    """

    epoch = 0
    seed: int | None = None

    def order(self, seed: int, epoch: int) -> Any:
        """The indices of an epoch; `seed` is the loader's, for samplers that have none of their own."""
        return self

    def __iter__(self) -> Iterator[Any]:
        """The indices of the next epoch."""
        if type(self).order is Sampler.order:
            msg = f"{type(self).__name__} does not define __iter__"
            raise NotImplementedError(msg)
        epoch, self.epoch = self.epoch, self.epoch + 1
        found = self.order(self.seed or 0, epoch)
        return iter(found.tolist() if registry.is_array(found) else found)

    def set_epoch(self, epoch: int) -> None:
        """The next ``iter(sampler)`` is this epoch (0, 1, …)."""
        self.epoch = epoch

    def describe(self) -> str:
        """What the order depends on, in words; a loader's state has it, and one of another order is refused."""
        return type(self).__name__


def describe(sampler: Any) -> str:
    """`Sampler.describe`, of other samplers the name of the class."""
    return sampler.describe() if isinstance(sampler, Sampler) else type(sampler).__name__


def _checked_count(where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{where}: num_samples must be an integer ≥ 1, got {value!r}"
        raise ValueError(msg)
    return value


def _checked_seed(where: str, seed: Any) -> int | None:
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        msg = f"{where}: seed must be an integer ≥ 0 or None (the loader's), got {seed!r}"
        raise ValueError(msg)
    return seed


class SequentialSampler(Sampler):
    """0, 1, …, n − 1.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def order(self, seed: int, epoch: int) -> range:
        return range(len(self.data_source))


class RandomSampler(Sampler):
    """A random order of 0 … n − 1, or draws from them.

    Parameters:
      data_source: the data set; its length counts.
      replacement: draw each index independently of the others.
      num_samples: how many there are in an epoch; by default n. Without replacement, more than n are several orders in a row.
      seed: of the draws; None is the loader's. ``DataLoader(…, shuffle=True)`` is this sampler.

    >>> sampler = RandomSampler(range(4), seed=1)
    >>> sorted(sampler), sorted(sampler)
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.data_source, self.replacement = data_source, bool(replacement)
        self._count = None if num_samples is None else _checked_count("RandomSampler", num_samples)
        self.seed = _checked_seed("RandomSampler", seed)

    @property
    def num_samples(self) -> int:
        """How many indices there are in an epoch."""
        return len(self.data_source) if self._count is None else self._count

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> Any:
        n, count = len(self.data_source), self.num_samples
        seed = seed if self.seed is None else self.seed
        if n == 0 and count:
            msg = "RandomSampler: there is nothing to draw from: the data set is empty"
            raise ValueError(msg)
        if self.replacement:
            return drawn(count, lambda first, size: _uniform_integers(seed, epoch, n, size, first))
        if count <= n:
            found = philox.permutation(seed, SHUFFLES, epoch, n)
            return found if count == n else found[:count]
        return Draws(
            count,
            n,
            lambda first, size: philox.permutation(seed, SHUFFLES + 16 * (first // n), epoch, n)[:size],
        )

    def describe(self) -> str:
        return f"RandomSampler({self.num_samples} of {len(self.data_source)}, replacement={self.replacement}, seed={self.seed})"


def _uniform_integers(seed: int, epoch: int, n: int, count: int, first: int) -> Any:
    xp = resolve("cpu")[0]
    return xp.astype(
        xp.floor(philox.uniform(seed, SHUFFLES, epoch, (count,), 0.0, float(n), first=first)), xp.int64
    )


class Draws(Sequence[Any]):
    """The indices of an epoch, of which a block is made when it is asked for: there may be more of them than memory holds.

    A part of them is an array; one of them, and what is iterated over, are Python's integers.

    Parameters:
      count: how many there are.
      size: how many a block has.
      make: ``make(first, n)`` gives the `n` indices of the block that begins with that numbered `first`.
    """

    def __init__(self, count: int, size: int, make: Callable[[int, int], Any]) -> None:
        self._count, self._size, self._make = count, size, make
        self._block: tuple[int, Any] = (-1, None)  # the newest: its number and its indices

    def __len__(self) -> int:
        return self._count

    def _of(self, number: int) -> Any:
        at, block = self._block  # one attribute: another thread may make another block meanwhile
        if at != number:
            first = number * self._size
            block = self._make(first, min(self._size, self._count - first))
            self._block = (number, block)
        return block

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            number, place = divmod(range(self._count)[index], self._size)
            return int(self._of(number)[place])
        first, last, step = index.indices(self._count)
        if step != 1:
            msg = f"a part of the indices of an epoch must have the step 1, got {step}"
            raise ValueError(msg)
        numbers = range(first // self._size, -(-max(last, first + 1) // self._size))
        parts = [self._of(i)[max(first - i * self._size, 0) : max(last - i * self._size, 0)] for i in numbers]
        return parts[0] if len(parts) == 1 else resolve("cpu")[0].concat(parts, axis=0)

    def __iter__(self) -> Iterator[int]:
        for number in range(-(-self._count // self._size)):
            yield from self._of(number).tolist()


BLOCK = 1 << 16
"""Indices that are drawn at a time; a multiple of four, the words of Philox."""


def drawn(count: int, draw: Callable[[int, int], Any]) -> Any:
    """Independent indices, `count` of them: those of a few blocks at once, more when they are asked for."""
    return draw(0, count) if count <= BLOCK else Draws(count, BLOCK, draw)


class SubsetRandomSampler(Sampler):
    """The given indices in random order, each once.

    >>> sorted(SubsetRandomSampler([5, 7, 9]))
    [5, 7, 9]
    """

    def __init__(self, indices: Sequence[int], *, seed: int | None = None) -> None:
        self.indices, self.seed = [int(i) for i in indices], _checked_seed("SubsetRandomSampler", seed)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, seed: int, epoch: int) -> list[int]:
        n = len(self.indices)
        drawn = philox.permutation(seed if self.seed is None else self.seed, SHUFFLES, epoch, n)
        return [self.indices[i] for i in drawn.tolist()]

    def describe(self) -> str:
        checksum = zlib.crc32(repr(self.indices).encode())
        return f"SubsetRandomSampler({len(self.indices)} indices, crc {checksum:08x}, seed={self.seed})"


class WeightedRandomSampler(Sampler):
    """Draws of i with the probability w_i / Σ w: rare classes as often as frequent ones, say.

    Parameters:
      weights: one number ≥ 0 for each sample, not all 0; they need not sum to 1.
      num_samples: how many indices an epoch has.
      replacement: with it each draw is independent; without, no index comes twice (Efraimidis and Spirakis 2006: the num_samples
        largest log(u_i) / w_i, u_i uniform).
      seed: of the draws; None is the loader's.

    Errors: ValueError for weights that are negative, not finite or all 0, and where fewer than num_samples are positive without
    replacement.

    >>> drawn = list(WeightedRandomSampler([1.0, 0.0, 9.0], 1000))
    >>> drawn.count(1), drawn.count(2) > 850
    (0, True)
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, *, seed: int | None = None
    ) -> None:
        where = "WeightedRandomSampler"
        self.num_samples, self.replacement = _checked_count(where, num_samples), bool(replacement)
        self.seed = _checked_seed(where, seed)
        xp = resolve("cpu")[0]
        given = unwrap(weights)
        given = backend_of(given).to_host(given) if registry.is_array(given) else given
        w = self.weights = xp.astype(registry.asarray(given), xp.float64)
        if (
            w.ndim != 1
            or not w.shape[0]
            or not bool(xp.all(xp.isfinite(w)))
            or bool(xp.any(w < 0))
            or not bool(xp.any(w > 0))
        ):
            msg = f"{where}: weights must be a sequence of finite numbers ≥ 0, not all 0; got {weights!r:.60}"
            raise ValueError(msg)
        positive = int(xp.sum(xp.astype(w > 0, xp.int64)))
        if not self.replacement and self.num_samples > positive:
            msg = f"{where}: without replacement num_samples must be at most the number of positive weights, {positive}; got {num_samples}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> Any:
        xp, w = resolve("cpu")[0], self.weights
        seed = seed if self.seed is None else self.seed
        if self.replacement:
            edges = xp.cumulative_sum(w)
            last = xp.max(xp.nonzero(w)[0])  # where rounding puts a draw at the very end

            def draw(first: int, n: int) -> Any:
                u = philox.uniform(seed, SHUFFLES, epoch, (n,), first=first) * edges[-1]
                return xp.minimum(xp.searchsorted(edges, u, side="right"), last)

            return drawn(self.num_samples, draw)
        u = 1.0 - philox.uniform(seed, SHUFFLES, epoch, w.shape)  # in (0, 1]
        some = w > 0
        keys = xp.where(some, xp.log(u) / xp.where(some, w, xp.ones_like(w)), xp.full_like(w, -xp.inf))
        return xp.argsort(-keys, stable=True)[: self.num_samples]

    def describe(self) -> str:
        checksum = zlib.crc32(host.to_bytes(self.weights))
        n = self.weights.shape[0]
        return f"WeightedRandomSampler({self.num_samples} of {n}, crc {checksum:08x}, replacement={self.replacement}, seed={self.seed})"


class BatchSampler(Sampler):
    """The indices of a sampler in lists of `batch_size`; a last, shorter one unless `drop_last`.

    >>> list(BatchSampler(range(5), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            msg = f"BatchSampler: batch_size must be an integer ≥ 1, got {batch_size!r}"
            raise ValueError(msg)
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, bool(drop_last)

    def __len__(self) -> int:
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, seed: int, epoch: int) -> Iterator[list[Any]]:
        return groups(indices_of(self.sampler, seed, epoch), self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        return groups(iter(self.sampler), self.batch_size, self.drop_last)

    def describe(self) -> str:
        return f"BatchSampler({describe(self.sampler)}, {self.batch_size}, drop_last={self.drop_last})"


def groups(items: Any, size: int, drop_last: bool) -> Iterator[list[Any]]:
    """Lists of so many items."""
    it = iter(items)
    while len(group := list(islice(it, size))) == size or (group and not drop_last):
        yield group


def indices_of(sampler: Any, seed: int, epoch: int) -> Any:
    """The indices, or the batches of them, of any sampler in an epoch: a sequence where it has one, else an iterator."""
    if isinstance(sampler, Sampler):
        found = sampler.order(seed, epoch)
        return iter(found) if found is sampler else found
    if callable(getattr(sampler, "set_epoch", None)):
        sampler.set_epoch(epoch)
    return iter(sampler)
