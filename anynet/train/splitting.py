"""A part of the training data for validation: ``fit(…, val=0.2)``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from anynet.data import DataLoader, Subset
from anynet.data.dataset import TensorDataset
from anynet.streams import SHUFFLES
from anynet.tensor import to_plain
from anynet.train.batches import dataset_of
from anynet.train.streams import is_stream
from anynet_backends import backend_of, philox

__all__ = ["Split", "split_off"]


class Split:
    """How data were divided: the sizes, the seed, whether the classes have the same shares in both parts, and a SHA-256 of the
    indices for validation."""

    def __init__(
        self, fraction: float, seed: int, stratified: bool, samples: int, indices: Sequence[int]
    ) -> None:
        self.fraction, self.seed, self.stratified = fraction, seed, stratified
        self.train, self.valid = samples - len(indices), len(indices)
        self.sha256 = hashlib.sha256(",".join(map(str, indices)).encode()).hexdigest()

    def __str__(self) -> str:
        how = "stratified by class" if self.stratified else "at random"
        return f"validation: {self.valid:,} of {self.train + self.valid:,} samples, drawn {how} with seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return dict(vars(self))


def split_off(data: Any, fraction: Any, seed: int) -> tuple[Any, Any, Split]:
    """The data without a part, the part, and how it was drawn.

    Where the targets are classes (integers along one axis), each class gives its share, so that both parts have the same ones.
    """
    share = float(fraction)
    if not 0.0 < share < 1.0:
        msg = f"fit: val must be data, or a fraction of the training data in (0, 1), got {fraction!r}"
        raise ValueError(msg)
    if isinstance(data, DataLoader):
        msg = f"fit: val={fraction} divides a data set, and train is a DataLoader; give its data set, or a second loader as val"
        raise TypeError(msg)
    if is_stream(data):
        msg = (
            f"fit: val={fraction} divides data of a known length, and train is a stream, whose end is not known and which cannot "
            "be gone through in parts; give other data as val"
        )
        raise TypeError(msg)
    dataset = dataset_of("fit, train", data)
    n = len(dataset)
    count = round(n * share)
    if not 0 < count < n:
        msg = f"fit: val={fraction} of {n} samples leaves no sample for {'validation' if count == 0 else 'training'}"
        raise ValueError(msg)
    order = philox.permutation(seed, SHUFFLES, 0, n).tolist()
    classes = _classes(dataset)
    chosen = sorted(order[:count] if classes is None else _stratified(order, classes, count))
    out = set(chosen)
    train = Subset(dataset, [i for i in range(n) if i not in out])
    return train, Subset(dataset, chosen), Split(share, seed, classes is not None, n, chosen)


def _classes(dataset: Any) -> list[int] | None:
    """The class of each sample; None where the targets are no classes."""
    parts = dataset.arrays if isinstance(dataset, TensorDataset) else getattr(dataset, "tree", None)
    targets: Any = (
        parts[1] if isinstance(parts, tuple) and len(parts) in (2, 3) else getattr(dataset, "targets", None)
    )
    try:
        plain = None if targets is None or isinstance(targets, (dict, tuple)) else to_plain(targets)
    except (TypeError, ValueError):
        return None
    if plain is None or plain.shape != (len(dataset),):
        return None
    xp = backend_of(plain)
    if not xp.isdtype(plain.dtype, ("integral", "bool")):
        return None
    found = [int(c) for c in xp.to_host(plain).tolist()]
    return found if len(set(found)) <= max(2, len(found) // 2) else None


def _stratified(order: list[int], classes: list[int], count: int) -> list[int]:
    """`count` indices in which each class has its share, rounded so that the remainders are largest (Hamilton's method)."""
    members: dict[int, list[int]] = {}
    for i in order:
        members.setdefault(classes[i], []).append(i)
    shares = {c: len(own) * count / len(order) for c, own in members.items()}
    sizes = {c: math.floor(share) for c, share in shares.items()}
    left = count - sum(sizes.values())
    for c in sorted(shares, key=lambda c: (sizes[c] - shares[c], c))[:left]:
        sizes[c] += 1
    return [i for c, own in members.items() for i in own[: sizes[c]]]
