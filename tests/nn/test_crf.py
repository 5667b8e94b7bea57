"""The conditional random field against the enumeration of all sequences."""

import itertools
import math

import numpy as np
import pytest

import anynet as an
from anynet import nn


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_crf_by_enumeration(masked, batch_first):
    an.random.manual_seed(0)
    crf = nn.CRF(3, batch_first).to("float64")
    steps, batch = 4, 2
    x = draw(steps, batch, 3)
    tags = np.random.default_rng(1).integers(0, 3, (steps, batch))
    lengths = [4, 2] if masked else [4, 4]
    mask = np.arange(steps)[:, None] < np.array(lengths)
    start, end, move = (p.numpy() for p in (crf.start_transitions, crf.end_transitions, crf.transitions))

    def score(i, path):
        total = start[path[0]] + end[path[-1]] + sum(x[t, i, k] for t, k in enumerate(path))
        return total + sum(move[a, b] for a, b in itertools.pairwise(path))

    expected, best = [], []
    for i, n in enumerate(lengths):
        scores = {path: score(i, path) for path in itertools.product(range(3), repeat=n)}
        total = math.log(math.fsum(math.exp(v) for v in scores.values()))
        expected.append(scores[tuple(tags[:n, i])] - total)
        best.append(list(max(scores, key=scores.get)))

    def turned(a):
        return an.asarray(np.swapaxes(a, 0, 1).copy() if batch_first else a)

    given = (turned(mask),) if masked else ()
    found = crf(turned(x), turned(tags), *given, reduction="none")
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-10)
    total = sum(expected)
    for reduction, value in (("sum", total), ("mean", total / 2), ("token_mean", total / sum(lengths))):
        assert crf(turned(x), turned(tags), *given, reduction=reduction).item() == pytest.approx(
            value, rel=1e-10
        )
    assert crf.decode(turned(x), *given) == best
