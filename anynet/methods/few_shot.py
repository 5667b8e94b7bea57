"""Few-shot learning by prototypes: episodes of a few examples of new classes, each class represented by its mean.

Source: Snell, Swersky and Zemel: Prototypical networks for few-shot learning (2017); episodes: Vinyals et al.: Matching networks (2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anynet.data.samplers import Sampler
from anynet.methods.checks import check_count, classes_of
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.ops.creation import asarray, zeros
from anynet.ops.indexing import index_add
from anynet.ops.manipulation import expand_dims
from anynet.ops.reductions import sum as sum_over
from anynet.streams import SHUFFLES
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import philox, resolve

__all__ = ["EpisodeSampler", "prototypes", "prototypical_logits", "prototypical_loss"]

_STREAM = SHUFFLES + 16 * 65_536  # apart from the shuffles of loaders with the same seed


def prototypes(embeddings: ArrayLike, labels: ArrayLike, n_way: int | None = None) -> Tensor:
    """The mean embedding of each class: c_k = Σ_{i: yᵢ = k} f(xᵢ) / |{i: yᵢ = k}|.

    Shapes: embeddings (n, d), integer labels (n,) from 0 to n_way − 1 → (n_way, d); without `n_way`, the largest label + 1. Of the dtype of
    the embeddings; differentiable in them.

    Errors: ValueError for a class without an example, labels outside [0, n_way) and shapes that do not fit; TypeError for labels that are
    not integers.

    >>> import anynet as an
    >>> an.methods.prototypes(an.asarray([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]]), an.asarray([0, 0, 1])).tolist()
    [[1.0, 1.0], [5.0, 5.0]]

    Source: Snell et al. (2017), equation 1.
    """
    if len(embeddings.shape) != 2:
        msg = f"prototypes: embeddings must have the shape (n, d), got {tuple(embeddings.shape)}"
        raise ShapeError(msg)
    index, counts = classes_of("prototypes", labels, int(embeddings.shape[0]), n_way)
    if empty := [k for k, count in enumerate(counts) if not count]:
        msg = f"prototypes: each class needs an example, there is none of {', '.join(map(str, empty[:10]))}"
        raise ValueError(msg)
    x = asarray(embeddings)
    start = zeros((len(counts), x.shape[1]), dtype=x.dtype, device=x.device)
    return index_add(start, asarray(index, device=x.device), x) / asarray(
        [[float(c)] for c in counts], dtype=x.dtype, device=x.device
    )


def prototypical_logits(queries: ArrayLike, centres: ArrayLike, distance: str = "euclidean") -> Tensor:
    """−d(f(x), c_k), the scores of which softmax makes p(y = k | x).

    d is ‖a − b‖² for "euclidean" (the paper's, a Bregman divergence, of which the mean is the best representative) and
    1 − a·b / (‖a‖ ‖b‖) for "cosine". Shapes: queries (n, d), centres (k, d) → (n, k).

    Errors: `ShapeError` for shapes that do not fit; ValueError for another distance.

    >>> import anynet as an
    >>> an.methods.prototypical_logits(an.asarray([[1.0, 0.0]]), an.asarray([[1.0, 1.0], [3.0, 0.0]])).tolist()
    [[-1.0, -4.0]]

    Source: Snell et al. (2017), equation 2.
    """
    if len(queries.shape) != 2 or len(centres.shape) != 2 or queries.shape[1] != centres.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(centres.shape)}"
        msg = f"prototypical_logits: queries (n, d) and centres (k, d) must have the same d, got {shapes}"
        raise ShapeError(msg)
    a, b = asarray(queries), asarray(centres)
    if distance == "euclidean":
        # differences and not ‖a‖² − 2ab + ‖b‖², which loses the digits of points that are close
        d = expand_dims(a, axis=1) - expand_dims(b, axis=0)
        return -sum_over(d * d, axis=-1)
    if distance == "cosine":
        return F.cosine_similarity(expand_dims(a, axis=1), expand_dims(b, axis=0), dim=-1) - 1.0
    msg = f"prototypical_logits: distance must be 'euclidean' or 'cosine', got {distance!r}"
    raise ValueError(msg)


def prototypical_loss(
    support: ArrayLike,
    support_labels: ArrayLike,
    queries: ArrayLike,
    query_labels: ArrayLike,
    distance: str = "euclidean",
) -> tuple[Tensor, Tensor]:
    """The mean of −log p(y | x) over an episode's queries, p(y = k | x) = softmax_k(−d(f(x), c_k)); and the logits.

    Shapes: embeddings support (n, d), queries (m, d); labels (n,), (m,) from 0 → a number, and (m, n_way). Errors: those of `prototypes`
    and of `prototypical_logits`.

    >>> import anynet as an
    >>> support, queries = an.asarray([[0.0], [2.0]]), an.asarray([[0.5], [2.0]])
    >>> loss, logits = an.methods.prototypical_loss(support, an.asarray([0, 1]), queries, an.asarray([0, 1]))
    >>> round(loss.item(), 4), an.argmax(logits, axis=-1).tolist()
    (0.0725, [0, 1])

    Source: Snell et al. (2017), algorithm 1.
    """
    logits = prototypical_logits(queries, prototypes(support, support_labels), distance)
    return F.cross_entropy(logits, query_labels), logits


class EpisodeSampler(Sampler):
    """Episodes of `n_way` classes: `n_shot` examples of each for support and `n_query` others to be classified.

    Each item is the list of an episode's indices, the supports class by class, then the queries class by class: what
    ``DataLoader(…, batch_sampler=…)`` takes. `split` separates a batch; `support_labels` and `query_labels` are its labels 0 … n_way − 1.
    Episodes follow from (seed, epoch, number), the same on every backend; each pass over the sampler is the next epoch.

    Parameters:
      labels: the class of each sample of the data set, integers (n,) in any numbering. Classes with fewer than n_shot + n_query samples are
        left out.
      n_way, n_shot, n_query: classes, and examples of each class.
      episodes: how many there are in an epoch.
      seed: of the draws.

    Errors: ValueError for numbers below 1, and where fewer than `n_way` classes have enough samples.

    >>> import anynet as an
    >>> sampler = an.methods.EpisodeSampler([0, 0, 0, 1, 1, 1, 7, 7, 7], n_way=2, n_shot=1, n_query=2, episodes=3, seed=0)
    >>> episode = next(iter(sampler))
    >>> len(episode), len(sampler), sampler.query_labels
    (6, 3, [0, 0, 1, 1])
    """

    def __init__(
        self,
        labels: Any,
        n_way: int = 5,
        n_shot: int = 1,
        n_query: int = 15,
        episodes: int = 100,
        seed: int = 0,
    ) -> None:
        where = "EpisodeSampler"
        for name, value in (
            ("n_way", n_way), ("n_shot", n_shot), ("n_query", n_query), ("episodes", episodes),
        ):  # fmt: skip
            check_count(where, name, value)
        check_count(where, "seed", seed, least=0)
        members: dict[Any, list[int]] = {}
        for i, label in enumerate(asarray(labels).tolist()):
            members.setdefault(label, []).append(i)
        needed = n_shot + n_query
        self._members = [m for _, m in sorted(members.items()) if len(m) >= needed]
        if len(self._members) < n_way:
            msg = (
                f"{where}: {n_way} classes of at least n_shot + n_query = {needed} samples are needed, "
                f"{len(self._members)} of {len(members)} have so many"
            )
            raise ValueError(msg)
        self.n_way, self.n_shot, self.n_query, self.episodes, self.seed = (
            n_way,
            n_shot,
            n_query,
            episodes,
            seed,
        )
        self.support_labels = [k for k in range(n_way) for _ in range(n_shot)]
        self.query_labels = [k for k in range(n_way) for _ in range(n_query)]

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[list[int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter(self.order(0, epoch))

    def order(self, seed: int, epoch: int) -> list[list[int]]:
        """The episodes of an epoch; the sampler's own seed counts."""
        return [self._episode((epoch << 32) + number) for number in range(self.episodes)]

    def _episode(self, step: int) -> list[int]:
        hx = resolve("cpu")[0]
        longest = max(len(self._members), max(map(len, self._members)))
        u = philox.uniform(self.seed or 0, _STREAM, step, (1 + self.n_way, longest))
        classes = hx.argsort(u[0, : len(self._members)])[: self.n_way].tolist()
        support: list[int] = []
        queries: list[int] = []
        for row, k in enumerate(classes, 1):
            own = self._members[k]
            drawn = [own[i] for i in hx.argsort(u[row, : len(own)])[: self.n_shot + self.n_query].tolist()]
            support += drawn[: self.n_shot]
            queries += drawn[self.n_shot :]
        return support + queries

    def split(self, batch: ArrayLike) -> tuple[Tensor, Tensor]:
        """The supports and the queries of an episode's batch (n_way · (n_shot + n_query), …), in the order of the indices."""
        x = asarray(batch)
        supports, total = len(self.support_labels), len(self.support_labels) + len(self.query_labels)
        if not x.shape or x.shape[0] != total:
            msg = f"EpisodeSampler.split: an episode has {total} samples, got shape {tuple(x.shape)}"
            raise ShapeError(msg)
        return x[:supports, ...], x[supports:, ...]

    def describe(self) -> str:
        return (
            f"EpisodeSampler({self.n_way}-way {self.n_shot}-shot, {self.n_query} queries, "
            f"{self.episodes} episodes, seed={self.seed})"
        )
