"""Adaptive softmax: a loss over very many classes, grouped by frequency."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from anynet.nn.containers import ModuleList, Sequential
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.indexing import index_add, take, take_along_axis
from anynet.ops.manipulation import concat, expand_dims
from anynet.ops.reductions import argmax, mean
from anynet.ops.softmax import log_softmax
from anynet.tensor import Tensor, to_plain
from anynet.typing import ArrayLike

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class AdaptiveOutput(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` gives: log p of the targets (n,), and the loss, −their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """log softmax over many classes sorted by frequency (Grave et al. 2017): the classes below `cutoffs`[0] and one entry for
    each further cluster are one softmax, and the classes of a cluster another, over in_features / div_value^i features.

    x (n, in_features) or (in_features,), target (n,) or () of classes → (log p of the targets, loss). `log_prob` gives all
    classes, `predict` the most probable. Only the rows of a cluster run through its layers.

    >>> import anynet as an
    >>> layer = an.nn.AdaptiveLogSoftmaxWithLoss(16, 10, cutoffs=[3, 6])
    >>> out = layer(an.ones((2, 16)), an.asarray([0, 9]))
    >>> out.output.shape, out.loss.shape, layer.log_prob(an.ones((2, 16))).shape
    ((2,), (), (2, 10))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        cutoffs = [int(c) for c in cutoffs]
        if not cutoffs or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] > n_classes - 1:
            msg = (
                f"AdaptiveLogSoftmaxWithLoss: cutoffs must be increasing integers in [1, {n_classes - 1}] (n_classes − 1), got "
                f"{cutoffs}"
            )
            raise ValueError(msg)
        self.in_features, self.n_classes, self.div_value = in_features, n_classes, div_value
        self.cutoffs = [*cutoffs, n_classes]
        self.head = Linear(in_features, cutoffs[0] + len(cutoffs), head_bias, device, dtype)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            width = int(in_features // div_value ** (i + 1))
            if width < 1:
                msg = f"AdaptiveLogSoftmaxWithLoss: in_features / div_value^{i + 1} must be ≥ 1, got {in_features} / {div_value}^{i + 1}"
                raise ValueError(msg)
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, device, dtype),
                    Linear(width, high - low, False, device, dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Redraw the parameters."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def _rows(self, x: Any) -> None:
        if len(x.shape) != 2 or x.shape[1] != self.in_features:
            msg = f"got {tuple(x.shape)}: expected (n, {self.in_features})"
            raise ShapeError(msg)

    def forward(self, x: ArrayLike, target: ArrayLike) -> AdaptiveOutput:
        """(log p of the targets, −their mean)"""
        single = len(target.shape) == 0
        if single:
            x, target = expand_dims(x, axis=0), expand_dims(target, axis=0)
        self._rows(x)
        if tuple(target.shape) != tuple(x.shape[:1]):
            msg = f"got x {tuple(x.shape)} and target {tuple(target.shape)}: expected one target for each row"
            raise ShapeError(msg)
        classes = to_plain(target, device="cpu").tolist()
        if any(not 0 <= k < self.n_classes for k in classes):
            ends = sorted(classes)
            msg = f"AdaptiveLogSoftmaxWithLoss: targets must be in [0, {self.n_classes - 1}], got {ends[0]} to {ends[-1]}"
            raise ValueError(msg)
        head = log_softmax(self.head(x), axis=1)
        first = self.cutoffs[0]
        clusters = [bisect.bisect_right(self.cutoffs, k) for k in classes]
        entries = [k if c == 0 else first + c - 1 for k, c in zip(classes, clusters, strict=True)]
        index = Tensor(entries, dtype="int64", device=x.device)
        output = take_along_axis(head, expand_dims(index, axis=1), axis=1)[:, 0]
        for c, layers in enumerate(self.tail, 1):
            rows = [i for i, own in enumerate(clusters) if own == c]
            if not rows:
                continue
            at = Tensor(rows, dtype="int64", device=x.device)
            logs = log_softmax(layers(take(x, at, axis=0)), axis=1)
            inner = Tensor([classes[i] - self.cutoffs[c - 1] for i in rows], dtype="int64", device=x.device)
            picked = take_along_axis(logs, expand_dims(inner, axis=1), axis=1)[:, 0]
            output = index_add(output, at, picked)
        loss = -mean(output)
        return AdaptiveOutput(output[0] if single else output, loss)

    def log_prob(self, x: ArrayLike) -> Tensor:
        """log p of all classes, (n, n_classes)."""
        self._rows(x)
        head = log_softmax(self.head(x), axis=1)
        first = self.cutoffs[0]
        parts = [head[:, :first]]
        for c, layers in enumerate(self.tail):
            parts.append(log_softmax(layers(x), axis=1) + head[:, first + c : first + c + 1])
        return concat(parts, axis=1)

    def predict(self, x: ArrayLike) -> Tensor:
        """The most probable class of each row."""
        return argmax(self.log_prob(x), axis=1)
