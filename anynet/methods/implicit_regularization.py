"""What gradient descent prefers among the solutions that fit: minimum norm, maximum margin, low rank; each beside its exact optimum.

Sources: Zhang et al. (ICLR 2017) for least squares; Soudry et al.: The implicit bias of gradient descent on separable data (JMLR 2018);
Gunasekar et al.: Implicit regularization in matrix factorization (NeurIPS 2017); Arora et al.: Implicit regularization in deep matrix
factorization (NeurIPS 2019); effective rank: Roy, Vetterli (EUSIPCO 2007).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from anynet.methods.checks import check_count, check_number
from anynet.methods.least_squares import least_distance, on_host
from anynet.nn import init
from anynet.nn.containers import ParameterList
from anynet.nn.module import Module
from anynet.ops.creation import empty
from anynet.ops.linear import matmul
from anynet.tensor import Parameter, Tensor, unwrap, wrap
from anynet_backends import Array, Backend

__all__ = [
    "DeepMatrixFactorization", "MaximumMargin", "effective_rank", "max_margin", "minimum_norm_distance", "minimum_norm_solution",
    "normalized_margin",
]  # fmt: skip


def minimum_norm_solution(x: Any, y: Any) -> Tensor:
    """w = X⁺ y: of all w that minimise ‖Xw − y‖ the one of least norm; X (n, d), y (n,) or (n, k), float64 on the host.

    >>> import anynet as an
    >>> an.methods.minimum_norm_solution([[1.0, 1.0]], [2.0]).tolist()
    [1.0, 1.0]
    """
    xp, rows, targets = _samples("minimum_norm_solution", x, y)
    return wrap(xp.matmul(xp.linalg.pinv(rows), targets))


def minimum_norm_distance(w: Any, x: Any, y: Any) -> float:
    """‖w − X⁺y‖ / ‖X⁺y‖: how far a solution, found by gradient descent from 0 say, is from that of minimum norm.

    >>> import anynet as an
    >>> an.methods.minimum_norm_distance([1.0, 1.0], [[1.0, 1.0]], [2.0]) < 1e-12
    True
    """
    xp, rows, targets = _samples("minimum_norm_distance", x, y)
    best = xp.matmul(xp.linalg.pinv(rows), targets)
    _, given = on_host("minimum_norm_distance", "w", w, len(best.shape))
    if tuple(given.shape) != tuple(best.shape):
        msg = f"minimum_norm_distance: w must be {tuple(best.shape)}, got {tuple(given.shape)}"
        raise ValueError(msg)
    size = math.sqrt(float(xp.sum(best * best)))
    if size == 0:
        msg = (
            "minimum_norm_distance: the solution of minimum norm is 0, so there is no distance relative to it"
        )
        raise ValueError(msg)
    return math.sqrt(float(xp.sum((given - best) ** 2))) / size


def _samples(where: str, x: Any, y: Any) -> tuple[Backend, Array, Array]:
    xp, rows = on_host(where, "X", x, 2)
    _, targets = on_host(where, "y", y, 2 if len(getattr(y, "shape", (0,))) == 2 else 1)
    if targets.shape[0] != rows.shape[0]:
        msg = f"{where}: X and y must have as many rows, got {tuple(rows.shape)} and {tuple(targets.shape)}"
        raise ValueError(msg)
    return xp, rows, targets


def _signed(where: str, x: Any, y: Any, bias: bool) -> tuple[Backend, Array]:
    """yᵢ xᵢ as rows, with a column of yᵢ for the bias."""
    xp, rows, labels = _samples(where, x, y)
    values = set(labels.tolist()) if len(labels.shape) == 1 else {None}
    if not values <= {1.0, -1.0} and not values <= {0.0, 1.0}:
        msg = f"{where}: y must be (n,) of −1 and 1, or of 0 and 1"
        raise ValueError(msg)
    signs = xp.where(labels > 0, 1.0, -1.0)[:, None]
    return xp, signs * (xp.concat((rows, xp.ones((rows.shape[0], 1))), axis=1) if bias else rows)


def normalized_margin(w: Any, x: Any, y: Any, *, bias: float | None = None) -> float:
    """minᵢ yᵢ (w·xᵢ + b) / ‖w‖, for labels −1 and 1 (or 0 and 1); with `bias` b the norm is ‖(w, b)‖, as in `max_margin`.

    >>> import anynet as an
    >>> an.methods.normalized_margin([3.0, 4.0], [[1.0, 1.0], [-1.0, 0.0]], [1, -1])
    0.6
    """
    xp, signed = _signed("normalized_margin", x, y, bias is not None)
    _, vector = on_host("normalized_margin", "w", w, 1)
    if bias is not None:
        vector = xp.concat((vector, xp.asarray([float(bias)])))
    if vector.shape[0] != signed.shape[1]:
        msg = f"normalized_margin: w must be ({signed.shape[1] - (bias is not None)},), got ({vector.shape[0] - (bias is not None)},)"
        raise ValueError(msg)
    size = math.sqrt(float(xp.sum(vector * vector)))
    if size == 0:
        msg = "normalized_margin: w is 0 and has no direction"
        raise ValueError(msg)
    smallest = float(xp.min(xp.matmul(signed, vector)))
    return smallest / size


class MaximumMargin(NamedTuple):
    """The hard-margin classifier: ``direction`` of length 1 (with the bias last, where there is one), its ``margin``, the upper
    ``bound`` that its dual proves for every direction, and the indices of the ``support`` vectors."""

    direction: Tensor
    margin: float
    bound: float
    support: list[int]


def max_margin(x: Any, y: Any, *, bias: bool = False) -> MaximumMargin:
    """max over ‖w‖ = 1 of minᵢ yᵢ w·xᵢ, for linearly separable X (n, d), y (n,) of −1 and 1 (or 0 and 1).

    It is the hard-margin support vector machine, min ‖w‖ with yᵢ w·xᵢ ≥ 1, solved exactly (`least_distance`). Its multipliers λ,
    scaled to sum to 1, give ‖Σ λᵢ yᵢ xᵢ‖ ≥ every margin: the certificate. `bias` adds a column of ones, whose weight counts in the
    norm (that is where gradient descent with a bias goes).

    Errors: ValueError for other labels, and for data that no hyperplane separates.

    >>> import anynet as an
    >>> an.methods.max_margin([[2.0, 0.0], [0.0, 2.0], [-3.0, -3.0]], [1, 1, -1]).margin
    1.41421...
    """
    xp, signed = _signed("max_margin", x, y, bias)
    w, multipliers = least_distance(signed, xp.ones((signed.shape[0],)))
    if w is None:
        msg = "max_margin: the classes are not linearly separable" + (
            "" if bias else " through the origin; bias=True?"
        )
        raise ValueError(msg)
    vector, lambdas = unwrap(w), unwrap(multipliers)
    direction = vector / float(xp.sum(vector * vector)) ** 0.5
    point = xp.matmul(lambdas / float(xp.sum(lambdas)), signed)
    support = [i for i, value in enumerate(lambdas.tolist()) if value > 0]
    return MaximumMargin(
        wrap(direction),
        float(xp.min(xp.matmul(signed, direction))),
        float(xp.sum(point * point)) ** 0.5,
        support,
    )


def effective_rank(matrix: Any) -> float:
    """exp(−Σ pᵢ ln pᵢ) with pᵢ = σᵢ / Σσ for the singular values σ of a matrix (m, n): r for r equal ones, less for unequal ones.

    Errors: ValueError for the zero matrix.

    >>> import anynet as an
    >>> round(an.methods.effective_rank([[1.0, 0.0], [0.0, 1.0]]), 12)
    2.0
    """
    xp, m = on_host("effective_rank", "the matrix", matrix, 2)
    values = xp.linalg.svdvals(m)
    total = float(xp.sum(values))
    if total == 0:
        msg = "effective_rank: the matrix is 0 and has no rank to speak of"
        raise ValueError(msg)
    shares = [v / total for v in values.tolist() if v > 0]
    return math.exp(-sum(p * math.log(p) for p in shares))


class DeepMatrixFactorization(Module):
    """M = W_N ⋯ W₂ W₁: a matrix (rows, columns) as a product of `depth` matrices, all of full inner size unless `width` says less.

    Gradient descent on some of M's entries from a small beginning prefers low rank, the more the deeper. Each factor begins as
    Gaussian numbers, scaled so that the product has entries of standard deviation `scale`. ``forward()`` takes nothing and gives M;
    ``W`` lists the factors. float64 is advised (`dtype`).

    Source: Arora et al. (2019).

    >>> import anynet as an
    >>> an.methods.DeepMatrixFactorization(4, 3, depth=3)().shape
    (4, 3)
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        depth: int = 2,
        width: int | None = None,
        scale: float = 1e-3,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        where = "DeepMatrixFactorization"
        for name, value in (("rows", rows), ("columns", columns), ("depth", depth)):
            check_count(where, name, value)
        check_number(where, "scale", scale, 0, open=True)
        inner = min(rows, columns) if width is None else check_count(where, "width", width)
        sizes = [columns, *[inner] * (depth - 1), rows]
        std = (scale / inner ** ((depth - 1) / 2)) ** (
            1 / depth
        )  # the variance of an entry of the product: std^2N · inner^(N−1)
        self.W = ParameterList(
            [
                Parameter(empty((after, before), dtype=dtype, device=device))
                for before, after in itertools.pairwise(sizes)
            ]
        )
        for w in self.W:
            init.normal_(w, 0.0, std)

    def forward(self) -> Tensor:
        """The product."""
        first, *rest = self.W
        product: Tensor = first + 0.0
        for w in rest:
            product = matmul(w, product)
        return product
