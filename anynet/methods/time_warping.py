"""Dynamic time warping: the distance of two series after the best alignment, and its smooth form as a loss.

    R(i, j) = D(i, j) + min{R(i−1, j), R(i, j−1), R(i−1, j−1)},  D(i, j) = ‖xᵢ − yⱼ‖²

soft-DTW puts minγ(a) = −γ log Σ exp(−a/γ) in the place of min: differentiable everywhere, to any order.

Sources: Sakoe, Chiba (1978); Cuturi, Blondel: Soft-DTW (ICML 2017); the divergence: Blondel, Mensch, Vert (AISTATS 2021).
"""

from __future__ import annotations

import functools
import math
from typing import Any

from anynet.methods.checks import check_count, check_number, listed
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.creation import asarray
from anynet.ops.indexing import take
from anynet.ops.linear import matmul
from anynet.ops.manipulation import concat, expand_dims, permute_dims, reshape
from anynet.ops.reductions import mean
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = ["DTWNeighbors", "SoftDTWLoss", "dtw", "dtw_distances", "soft_dtw"]

_PAIRS = 256  # of series whose tables are computed together in `dtw_distances`


def _series(where: str, name: str, x: Any) -> Tensor:
    """Series (n, t, d); those of one number at a time may be (n, t)."""
    given = x if isinstance(x, Tensor) else wrap(to_plain(x))
    if len(given.shape) == 2:
        given = expand_dims(given, axis=-1)
    if len(given.shape) != 3 or given.shape[1] == 0:
        msg = f"{where}: {name} must be series (n, t) or (n, t, d) with t ≥ 1, got {tuple(given.shape)}"
        raise ValueError(msg)
    if not given.dtype.is_floating:
        msg = f"{where}: {name} must be floating-point, got {given.dtype}"
        raise TypeError(msg)
    return given


def _costs(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (n, t, u), exact for one number at a time."""
    if x.shape[-1] <= 4:
        difference = expand_dims(x, axis=2) - expand_dims(y, axis=1)
        return sum_(difference * difference, axis=-1)
    squares = sum_(x * x, axis=-1, keepdims=True) + expand_dims(sum_(y * y, axis=-1), axis=1)
    return e.maximum(squares - 2.0 * matmul(x, y.mT), 0.0)


@functools.lru_cache(maxsize=32)
def _places(t: int, u: int, window: int | None) -> tuple[int, ...]:
    """Where D(i, k − i) lies in a flattened table, for each k and i; after its end where there is none."""
    return tuple(
        i * u + k - i if 0 <= k - i < u and (window is None or abs(k - 2 * i) <= window) else t * u
        for k in range(t + u - 1)
        for i in range(t)
    )


def _diagonals(costs: Tensor, window: int | None) -> Tensor:
    """D (n, t, u) by diagonals i + j = k: (t + u − 1, n, t), at i; +∞ outside the table and the window."""
    n, t, u = costs.shape
    table = reshape(costs, (n, t * u))
    outside = asarray([[math.inf]] * n, dtype=costs.dtype, device=costs.device)
    index = asarray(_places(int(t), int(u), window), dtype="int64", device=costs.device)
    return permute_dims(
        reshape(take(concat((table, outside), axis=1), index, axis=1), (n, t + u - 1, t)), (1, 0, 2)
    )


def _soft_minimum(a: Tensor, b: Tensor, c: Tensor, gamma: float) -> Tensor:
    """−γ log Σ exp(−·/γ) of three arrays; +∞ where all are, with gradient 0 there."""
    least = e.minimum(e.minimum(a, b), c).detach()
    none = e.equal(least, math.inf)
    shift = e.where(none, 0.0, least)
    total = e.exp((shift - a) / gamma) + e.exp((shift - b) / gamma) + e.exp((shift - c) / gamma)
    return e.where(none, math.inf, shift - gamma * e.log(e.where(none, 1.0, total)))


def _last_cell(costs: Tensor, gamma: float, window: int | None) -> Tensor:
    """R(t, u) for tables D (n, t, u): diagonal by diagonal, since a diagonal depends on the two before it alone."""
    n, t, u = costs.shape
    rows = _diagonals(costs, window)
    wall = asarray([[math.inf]] * n, dtype=costs.dtype, device=costs.device)
    before = asarray([[math.inf] * t] * n, dtype=costs.dtype, device=costs.device)
    now = rows[0, ...]
    for k in range(1, t + u - 1):
        beside = concat((wall, now[:, : t - 1]), axis=1)
        across = concat((wall, before[:, : t - 1]), axis=1)
        if gamma == 0:
            least = e.minimum(e.minimum(now, beside), across)
        else:
            least = _soft_minimum(now, beside, across, gamma)
        before, now = now, rows[k, ...] + least
    return now[:, t - 1]


def _window(where: str, window: int | None, t: int, u: int) -> int | None:
    if window is None:
        return None
    check_count(where, "window", window, 0)
    if window < abs(t - u):
        msg = (
            f"{where}: window must be ≥ {abs(t - u)}, the difference of the lengths {t} and {u}, got {window}"
        )
        raise ValueError(msg)
    return window


def _pairs(where: str, x: Any, y: Any, window: int | None) -> tuple[Tensor, Tensor, int | None]:
    first, second = _series(where, "x", x), _series(where, "y", y)
    if first.shape[0] != second.shape[0] or first.shape[2] != second.shape[2]:
        msg = f"{where}: x (n, t, d) and y (n, u, d) must agree in n and d, got {tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(msg)
    return first, second, _window(where, window, int(first.shape[1]), int(second.shape[1]))


def dtw(x: ArrayLike, y: ArrayLike, *, window: int | None = None) -> Tensor:
    """min over alignments of Σ ‖xᵢ − yⱼ‖² along the path, for each pair of series: x (n, t) or (n, t, d), y (n, u) or (n, u, d) → (n,).

    Its square root is the DTW distance of UCR's tables and tslearn. `window` is Sakoe and Chiba's: |i − j| ≤ window. Differentiable
    wherever the best alignment is unique. Errors: ValueError for shapes, and for a window that no path fits in.

    >>> import anynet as an
    >>> an.methods.dtw(an.asarray([[0.0, 1.0, 2.0]]), an.asarray([[0.0, 0.0, 1.0, 2.0, 3.0]]))
    Tensor([1.])
    """
    first, second, width = _pairs("dtw", x, y, window)
    return _last_cell(_costs(first, second), 0.0, width)


def soft_dtw(
    x: ArrayLike,
    y: ArrayLike,
    gamma: float = 1.0,
    *,
    window: int | None = None,
    divergence: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """minγ over all alignments of Σ ‖xᵢ − yⱼ‖² along the path, minγ(a) = −γ log Σ exp(−a/γ); shapes as those of `dtw`.

    `gamma` > 0: the smaller, the nearer to `dtw` (and never above it). It can be negative, and is not least at x = y: ``divergence``
    subtracts (sdtw(x, x) + sdtw(y, y))/2, which makes it ≥ 0 and 0 for x = y. `reduction` "mean", "sum" or "none" over the pairs.
    Gradients are exact, of any order.

    >>> import anynet as an
    >>> x = an.asarray([[0.0, 1.0, 2.0]], requires_grad=True)
    >>> loss = an.methods.soft_dtw(x, an.asarray([[0.0, 0.0, 1.0, 2.0, 3.0]]), gamma=1.0)
    >>> loss.backward()
    >>> round(loss.item(), 3)
    -0.674
    """
    where = "soft_dtw"
    check_number(where, "gamma", gamma, 0, open=True)
    if reduction not in ("mean", "sum", "none"):
        msg = f"{where}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        raise ValueError(msg)
    first, second, width = _pairs(where, x, y, window)
    found = _last_cell(_costs(first, second), gamma, width)
    if divergence:
        own = [_last_cell(_costs(s, s), gamma, width) for s in (first, second)]
        found = found - 0.5 * (own[0] + own[1])
    if reduction == "none":
        return found
    return mean(found) if reduction == "mean" else sum_(found)


class SoftDTWLoss(Module):
    """`soft_dtw` as a loss (output, target) for `fit`; options as there.

    >>> import anynet as an
    >>> an.methods.SoftDTWLoss(gamma=0.1, divergence=True)(an.ones((2, 5)), an.ones((2, 5))).item()
    0.0
    """

    def __init__(
        self,
        gamma: float = 1.0,
        *,
        window: int | None = None,
        divergence: bool = False,
        reduction: str = "mean",
    ) -> None:
        self.gamma = check_number("SoftDTWLoss", "gamma", gamma, 0, open=True)
        self.window, self.divergence, self.reduction = window, divergence, reduction

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        return soft_dtw(
            output,
            target,
            self.gamma,
            window=self.window,
            divergence=self.divergence,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """The options."""
        return f"gamma={self.gamma}, window={self.window}, divergence={self.divergence}, reduction={self.reduction!r}"


def dtw_distances(a: ArrayLike, b: ArrayLike, *, window: int | None = None) -> Tensor:
    """√`dtw` of each series of a with each of b: a (n, t) or (n, t, d), b (m, u) or (m, u, d) → (n, m).

    >>> import anynet as an
    >>> an.methods.dtw_distances(an.asarray([[0.0, 0.0]]), an.asarray([[0.0, 0.0], [3.0, 4.0]]))
    Tensor([[0., 5.]])
    """
    where = "dtw_distances"
    first, second = _series(where, "a", a), _series(where, "b", b)
    if first.shape[2] != second.shape[2]:
        msg = f"{where}: a and b must have as many numbers at a time, got {first.shape[2]} and {second.shape[2]}"
        raise ValueError(msg)
    width = _window(where, window, int(first.shape[1]), int(second.shape[1]))
    x, y = unwrap(first), unwrap(second)
    xp = backend_of(x)
    n, m = int(x.shape[0]), int(y.shape[0])
    found = []
    for start in range(0, n * m, _PAIRS):
        pairs = xp.arange(start, min(start + _PAIRS, n * m), device=x.device)
        rows, columns = pairs // m, pairs % m
        found.append(_hard_distances(xp, xp.take(x, rows, axis=0), xp.take(y, columns, axis=0), width))
    values = xp.concat(found) if found else xp.zeros((0,), dtype=x.dtype, device=x.device)
    return wrap(xp.sqrt(xp.reshape(values, (n, m))))


def _hard_distances(xp: Backend, x: Array, y: Array, window: int | None) -> Array:
    """`dtw` of pairs, without tables: y reversed slides along x, so that each diagonal is a slice."""
    t = x.shape[1]
    u = y.shape[1]
    outside = xp.full_like(x, math.inf)
    sliding = xp.concat((outside, xp.flip(y, axis=1), outside), axis=1)
    wall = outside[:, :1, 0]
    before = now = outside[:, :, 0]
    places = xp.arange(t, device=x.device)
    for k in range(t + u - 1):
        difference = x - sliding[:, t + u - 1 - k : 2 * t + u - 1 - k, :]
        cost = xp.sum(difference * difference, axis=2)
        if window is not None:
            cost = xp.where(xp.abs(k - 2 * places) <= window, cost, xp.full_like(cost, math.inf))
        if k == 0:
            now = cost
            continue
        beside = xp.concat((wall, now[:, : t - 1]), axis=1)
        across = xp.concat((wall, before[:, : t - 1]), axis=1)
        before, now = now, cost + xp.minimum(xp.minimum(now, beside), across)
    return now[:, t - 1]


class DTWNeighbors:
    """Classification by the `neighbors` nearest series in DTW distance (the hard baseline of time series: 1-NN).

    Labels are of any kind; of equally frequent ones that of the nearer series wins.

    >>> import anynet as an
    >>> model = an.methods.DTWNeighbors().fit(an.asarray([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), ["bump", "flat"])
    >>> model.predict(an.asarray([[1.0, 0.0, 0.0]]))
    ['bump']
    """

    def __init__(self, neighbors: int = 1, *, window: int | None = None) -> None:
        self.neighbors = check_count("DTWNeighbors", "neighbors", neighbors)
        self.window = window
        self._series: Any = None
        self._labels: list[Any] = []

    def fit(self, x: ArrayLike, y: Any) -> DTWNeighbors:
        """Keep the series (n, t) or (n, t, d) and their n labels."""
        series, labels = _series("DTWNeighbors.fit", "x", x), listed(y)
        if len(labels) != series.shape[0] or len(labels) < self.neighbors:
            msg = f"DTWNeighbors.fit: {series.shape[0]} series need as many labels and at least {self.neighbors}, got {len(labels)}"
            raise ValueError(msg)
        self._series, self._labels = series.detach(), labels
        return self

    def predict(self, x: ArrayLike) -> list[Any]:
        """The label of each series."""
        if self._series is None:
            msg = "DTWNeighbors: predict needs fit first"
            raise RuntimeError(msg)
        distances = dtw_distances(x, self._series, window=self.window).tolist()
        found = []
        for row in distances:
            near = [self._labels[i] for i in sorted(range(len(row)), key=row.__getitem__)[: self.neighbors]]
            found.append(max(near, key=near.count))
        return found

    def score(self, x: ArrayLike, y: Any) -> float:
        """The share of right labels."""
        right = [a == b for a, b in zip(self.predict(x), listed(y), strict=True)]
        return right.count(True) / len(right)
