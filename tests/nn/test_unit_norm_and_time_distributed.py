"""UnitNorm, TimeDistributed, SquarePlus and CReLU against their formulas."""

from __future__ import annotations

import numpy as np

import anynet as an
from anynet import nn

rng = np.random.default_rng(21)


def test_layers():
    x = an.asarray(rng.normal(size=(3, 4, 5)))
    np.testing.assert_allclose(np.linalg.norm(nn.UnitNorm()(x).numpy(), axis=-1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(nn.UnitNorm((1, 2))(x).numpy().reshape(3, -1), axis=-1), 1.0)
    np.testing.assert_array_equal(nn.UnitNorm()(an.zeros((2, 3))).numpy(), 0)
    net = nn.TimeDistributed(nn.Linear(5, 2)).double()
    np.testing.assert_allclose(net(x).numpy(), net.layer(x).numpy(), rtol=1e-14)
    assert nn.TimeDistributed(nn.Flatten())(an.ones((2, 3, 4, 5))).shape == (2, 3, 20)
    v = x.numpy()
    np.testing.assert_allclose(nn.SquarePlus(2.0)(x).numpy(), (v + np.sqrt(v * v + 2)) / 2)
    np.testing.assert_array_equal(
        nn.CReLU(-1)(x).numpy(), np.concatenate([np.maximum(v, 0), np.maximum(-v, 0)], -1)
    )
    assert repr(nn.Sequential(nn.GaussianNoise(0.5), nn.GlobalAvgPool1d())).count("\n") == 3
