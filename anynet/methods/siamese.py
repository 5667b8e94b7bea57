"""Siamese networks: distances between pairs and triplets of embeddings, and what they verify.

Sources: Hadsell, Chopra and LeCun: Dimensionality reduction by learning an invariant mapping (2006); Schroff et al.: FaceNet (2015);
Hermans, Beyer and Leibe: In defense of the triplet loss (2017). `nn.TripletMarginLoss` takes triplets that are given.
"""

from __future__ import annotations

from typing import NamedTuple

from anynet.methods.checks import check_number, classes_of
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.ops.creation import asarray, eye
from anynet.ops.elementwise import sqrt, where
from anynet.ops.manipulation import astype, expand_dims
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import mean
from anynet.ops.reductions import min as min_over
from anynet.ops.reductions import sum as sum_over
from anynet.tensor import Tensor, to_plain, wrap
from anynet.typing import ArrayLike

__all__ = [
    "Verification",
    "batch_hard_triplet_loss",
    "contrastive_loss",
    "pairwise_distances",
    "verification",
]


def pairwise_distances(a: ArrayLike, b: ArrayLike | None = None, eps: float = 1e-12) -> Tensor:
    """‖aᵢ − bⱼ‖ of all rows, b = a unless given: (n, d), (m, d) → (n, m). √(‖·‖² + ε), so that the gradient is finite at 0.

    >>> import anynet as an
    >>> an.methods.pairwise_distances(an.asarray([[0.0, 0.0]]), an.asarray([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    a, b = asarray(a), asarray(a if b is None else b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        msg = f"pairwise_distances: rows must have the shapes (n, d) and (m, d), got {tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(msg)
    d = expand_dims(a, axis=1) - expand_dims(b, axis=0)
    return sqrt(sum_over(d * d, axis=-1) + eps)


def contrastive_loss(a: ArrayLike, b: ArrayLike, same: ArrayLike, margin: float = 1.0) -> Tensor:
    """½ y d² + ½ (1 − y) max(0, m − d)², d = ‖a − b‖, y = 1 for pairs of one class: the mean over the pairs.

    The paper's own Y is 1 for pairs that differ. Shapes: a, b (n, d), same (n,) of booleans or of 0 and 1 → a number.

    Errors: `ShapeError` for shapes that do not fit; ValueError for a margin that is not > 0.

    >>> import anynet as an
    >>> a, b = an.asarray([[0.0], [0.0]]), an.asarray([[1.0], [0.5]])
    >>> round(an.methods.contrastive_loss(a, b, an.asarray([True, False])).item(), 4)  # (½ · 1 + ½ · ½²) / 2
    0.3125

    Source: Hadsell et al. (2006), equation 4.
    """
    check_number("contrastive_loss", "margin", margin, 0, open=True)
    if len(a.shape) != 2 or tuple(a.shape) != tuple(b.shape) or tuple(same.shape) != (a.shape[0],):
        shapes = ", ".join(str(tuple(v.shape)) for v in (a, b, same))
        msg = f"contrastive_loss: a and b must have one shape (n, d), and same (n,), got {shapes}"
        raise ShapeError(msg)
    difference = asarray(a) - asarray(b)
    squared = sum_over(difference * difference, axis=-1)
    y = astype(asarray(same), squared.dtype)
    away = F.relu(margin - sqrt(squared + 1e-12))
    return mean(0.5 * y * squared + 0.5 * (1.0 - y) * away * away)


def batch_hard_triplet_loss(embeddings: ArrayLike, labels: ArrayLike, margin: float | None = 0.2) -> Tensor:
    """max(0, m + max over positives d(a, p) − min over negatives d(a, n)), the mean over the anchors of a batch that have both.

    Shapes: embeddings (n, d), integer labels (n,) → a number. With ``margin=None`` softplus takes the place of max(0, m + ·).

    Errors: ValueError for a batch without any anchor that has a positive and a negative, and for a negative margin.

    >>> import anynet as an
    >>> x = an.asarray([[0.0], [1.0], [3.0]])
    >>> round(an.methods.batch_hard_triplet_loss(x, an.asarray([0, 0, 1]), margin=1.5).item(), 4)  # anchors 0 and 1: 0 and 0.5
    0.25

    Source: Hermans et al. (2017), equation 5.
    """
    if margin is not None:
        check_number("batch_hard_triplet_loss", "margin", margin, 0)
    y, _ = classes_of("batch_hard_triplet_loss", labels, int(embeddings.shape[0]))
    d = pairwise_distances(embeddings)
    y_ = wrap(y)
    same = expand_dims(y_, axis=0) == expand_dims(y_, axis=1)
    positive = same & (eye(d.shape[0], device=d.device) == 0)
    far = max_over(where(positive, d, -1.0), axis=1)
    near = min_over(where(same, float("inf"), d), axis=1)
    usable = (far >= 0) & (near < float("inf"))
    count = int(to_plain(sum_over(astype(usable, "int64"))))
    if not count:
        msg = "batch_hard_triplet_loss: no sample has another of its class and one of another class in the batch"
        raise ValueError(msg)
    gap = where(usable, far, 0.0) - where(usable, near, 0.0)
    losses = F.softplus(gap) if margin is None else F.relu(margin + gap)
    return sum_over(where(usable, losses, 0.0)) / count


class Verification(NamedTuple):
    """How well distances tell pairs of one class from others."""

    accuracy: float
    threshold: float
    auc: float
    equal_error_rate: float


def verification(distances: ArrayLike, same: ArrayLike, threshold: float | None = None) -> Verification:
    """Pairs are called the same where d ≤ threshold: accuracy, area under the ROC curve, and the rate where both errors are equal.

    Without a `threshold` the best for these pairs is taken; find it on other pairs, and give it, for an honest accuracy. Shapes: (n,),
    (n,) of booleans or of 0 and 1. Errors: ValueError unless there are pairs of both kinds.

    >>> import anynet as an
    >>> v = an.methods.verification(an.asarray([0.1, 0.2, 0.8, 0.9]), an.asarray([True, True, False, False]))
    >>> v.accuracy, round(v.threshold, 4), v.auc, v.equal_error_rate
    (1.0, 0.5, 1.0, 0.0)
    """
    d, y = asarray(distances).tolist(), [bool(v) for v in asarray(same).tolist()]
    positive = sum(y)
    if len(d) != len(y) or not 0 < positive < len(y):
        msg = f"verification: pairs of both kinds are needed, got {len(d)} distances, {positive} of {len(y)} the same"
        raise ValueError(msg)
    order = sorted(range(len(d)), key=lambda i: d[i])
    accepted = right = 0  # false and true acceptances up to here
    best, best_at, auc, equal, gap = (len(y) - positive) / len(y), d[order[0]] - 1.0, 0.0, 1.0, 2.0
    i = 0
    while i < len(order):
        j, false_before, right_before = i, accepted, right
        while j < len(order) and d[order[j]] == d[order[i]]:
            right, accepted = right + y[order[j]], accepted + (not y[order[j]])
            j += 1
        auc += (accepted - false_before) * (right + right_before) / 2
        far, frr = accepted / (len(y) - positive), 1 - right / positive
        if abs(far - frr) < gap:
            gap, equal = abs(far - frr), (far + frr) / 2
        accuracy = (right + len(y) - positive - accepted) / len(y)
        if accuracy > best:
            best, best_at = accuracy, (d[order[i]] + d[order[j]]) / 2 if j < len(order) else d[order[i]]
        i = j
    if threshold is not None:
        best_at = threshold
        best = sum((v <= threshold) == s for v, s in zip(d, y, strict=True)) / len(y)
    return Verification(best, best_at, auc / positive / (len(y) - positive), equal)
