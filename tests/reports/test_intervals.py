"""Bootstrap intervals: the width that theory gives, the same bits each time, for any order of the samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet.reports.intervals import Estimate, bootstrap

rng = np.random.default_rng(0)


def mean(m: an.Tensor) -> an.Tensor:
    return m[..., 0]


@pytest.mark.parametrize("n", [100, 1999, 2001, 7000])
def test_width_of_the_interval_of_a_mean(n: int) -> None:
    x = np.sort(rng.normal(3.0, 2.0, n))  # sorted: neighbours are alike
    found = bootstrap(an.asarray(x[:, None]), mean)
    assert found.value == pytest.approx(x.mean())
    assert found.low is not None
    assert found.high is not None
    half = 1.96 * x.std() / math.sqrt(n)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
    assert (found.high + found.low) / 2 == pytest.approx(x.mean(), abs=0.3 * half)
    assert bootstrap(an.asarray(x[:, None]), mean) == found


def test_interval_of_a_nonlinear_function_covers() -> None:
    """R² of a known model: the interval has the true value in about 95 of 100 sets."""
    hits = 0
    for _ in range(40):
        y = rng.normal(size=300)
        p = y + 0.5 * rng.normal(size=300)
        centre = y - y.mean()
        features = np.stack([(p - y) ** 2, centre, centre**2], axis=1)
        found = bootstrap(
            an.asarray(features), lambda m: 1.0 - m[..., 0] / (m[..., 2] - m[..., 1] ** 2), resamples=300
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.75 <= found.high
    assert hits >= 34


def test_where_there_is_no_interval() -> None:
    assert bootstrap(an.asarray([[0.5]]), mean) == Estimate(0.5)
    found = bootstrap(an.asarray([[math.nan], [1.0], [2.0]]), mean)
    assert math.isnan(found.value)
    assert found.low is None
