"""Intervals by the bootstrap: what a number over a validation set could have been with other samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anynet as an
from anynet.tensor import Tensor, no_grad

__all__ = ["Estimate", "bootstrap"]

RESAMPLES, _GROUPS, _AT_ONCE = 1000, 2000, 100


@dataclass(frozen=True)
class Estimate:
    """A number and the interval in which 95 % of its resampled values lie; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def bootstrap(
    features: Tensor, statistic: Callable[[Tensor], Tensor], *, weights: Tensor | None = None, resamples: int = RESAMPLES, seed: int = 0,
) -> Estimate:  # fmt: skip
    """The percentile interval (Efron 1979) of a function of means over samples, with the same bits each time.

    `features` (samples, k) holds numbers of each sample; ``statistic`` takes their means (…, k) to (…,): the accuracy has the one
    feature "was right", R² those of the squared error, the target and its square. With `weights` (samples,) the means are Σ w x / Σ w.
    From 2,000 samples on, groups of them are drawn, which gives the same interval in less time.

    >>> import anynet as an
    >>> right = an.asarray([[1.0]] * 80 + [[0.0]] * 20)
    >>> found = bootstrap(right, lambda means: means[..., 0])
    >>> found.value, 0.70 < found.low < 0.75 < 0.85 < found.high < 0.90
    (0.8, True)
    """
    with no_grad():
        x = an.astype(features, "float64")
        n, k = x.shape
        sizes = (
            an.ones((n, 1), dtype="float64") if weights is None else an.astype(weights, "float64")[:, None]
        )
        x = x * sizes
        value = float(statistic(an.sum(x, axis=0) / an.sum(sizes)))
        if n < 2:
            return Estimate(value)
        x = an.concat([x, sizes], axis=1)
        draws, found = an.random.Generator(seed), list[float]()
        if n > _GROUPS:  # in groups drawn at random: neighbours are alike where data are sorted
            rows = math.ceil(n / _GROUPS)
            x = an.take(x, an.random.permutation(n, generator=draws), axis=0)
            fill = an.zeros((rows * _GROUPS - n, k + 1), dtype="float64")
            x = an.sum(an.reshape(an.concat([x, fill], axis=0), (rows, _GROUPS, k + 1)), axis=0)
        groups = int(x.shape[0])
        for begin in range(0, resamples, _AT_ONCE):
            count = min(_AT_ONCE, resamples - begin)
            drawn = an.random.integers(0, groups, (count * groups,), generator=draws)
            total = an.sum(an.reshape(an.take(x, drawn, axis=0), (count, groups, k + 1)), axis=1)
            if weights is not None:  # what has drawn nothing that counts says nothing
                total = an.take(total, an.nonzero(total[:, k] > 0)[0], axis=0)
            found += statistic(total[:, :k] / total[:, k:]).tolist()
    return _percentiles(value, found)


def _percentiles(value: float, found: Sequence[float]) -> Estimate:
    real = sorted(v for v in found if math.isfinite(v))
    if len(real) < 2 or not math.isfinite(value):
        return Estimate(value)

    def at(share: float) -> float:
        place = share * (len(real) - 1)
        below = math.floor(place)
        above = min(below + 1, len(real) - 1)
        return real[below] + (place - below) * (real[above] - real[below])

    return Estimate(value, at(0.025), at(0.975))
