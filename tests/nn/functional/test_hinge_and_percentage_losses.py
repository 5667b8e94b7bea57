"""Keras' losses against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn

rng = np.random.default_rng(21)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses(reduction):
    x, t = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    sign, hot = np.sign(t), np.eye(3)[[0, 2, 1, 1]]
    reduce = {"none": lambda v: v, "mean": np.mean, "sum": np.sum}[reduction]
    a = an.asarray(x)
    gap = np.maximum(1 - sign * x, 0)
    own, other = (hot * x).sum(1), ((1 - hot) * x).max(1)
    logs = np.log1p(np.maximum(x, 1e-7)) - np.log1p(np.maximum(t, 1e-7))
    for loss, target, expected in (
        (nn.HingeLoss, sign, gap), (nn.HingeLoss, (sign + 1) / 2, gap), (nn.SquaredHingeLoss, sign, gap**2),
        (nn.CategoricalHingeLoss, hot, np.maximum(1 + other - own, 0)), (nn.MAPELoss, t, 100 * np.abs((x - t) / t)),
        (nn.MSLELoss, t, logs**2),
    ):  # fmt: skip
        y = loss(reduction=reduction)(a, an.asarray(target))
        np.testing.assert_allclose(y.numpy(), reduce(expected), rtol=1e-13)
        assert y.dtype == an.float64
        with pytest.raises(ValueError, match="nothing is broadcast"):
            loss()(a, an.asarray(target)[0])
