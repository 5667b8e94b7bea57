"""Gaussian noise and dropout against their distribution, the same on every device."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_noise(dtype):
    x = an.ones(
        (200, 100), dtype=getattr(an, dtype) if dtype != "float16" else an.asarray(np.float16(1)).dtype
    )
    an.random.manual_seed(4)
    noise, drop = nn.GaussianNoise(0.5), nn.GaussianDropout(0.2)
    a, b = noise(x).numpy().astype(float) - 1, drop(x).numpy().astype(float) - 1
    assert np.isfinite(a).all()
    for values, std in ((a, 0.5), (b, 0.5)):
        assert abs(values.mean()) < 4 * std / math.sqrt(values.size)
        assert abs(values.std() / std - 1) < 0.02
        assert abs(np.mean(values**4) / std**4 - 3) < 0.15  # a normal one's
        assert np.abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.25
    assert noise(x).dtype == x.dtype
    an.random.manual_seed(4)
    np.testing.assert_array_equal(noise(x).numpy().astype(float) - 1, a)
    assert noise.eval()(x) is x
    assert drop.eval()(x) is x
    assert F.gaussian_noise(x, 0.0) is x
    assert F.gaussian_dropout(x, 0.0) is x


def test_noise_is_the_same_everywhere(xp_device):
    results = []
    for device in ("cpu", xp_device):
        an.random.manual_seed(9)
        results.append(F.gaussian_noise(an.zeros((50,), device=device, dtype=an.float64), 1.0).numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-13)
