"""Sparsemax against the projection onto the simplex."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F

rng = np.random.default_rng(21)


def project(x):
    """The closest point of the simplex, by bisection of τ."""
    low, high = x.max() - 1, x.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(x - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(x - low, 0)


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1e4])
def test_sparsemax_is_the_projection(xp_device, dim, scale):
    x = rng.normal(size=(5, 6)) * scale
    x[0] = 0.25  # ties
    a = an.asarray(x, device=xp_device, requires_grad=True)
    y = F.sparsemax(a, dim)
    expected = np.apply_along_axis(project, dim, x)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-9)
    g = rng.normal(size=x.shape)
    y.backward(an.asarray(g, device=xp_device))
    support = y.numpy() > 0  # the gradient on the support, less its mean there
    mean = (g * support).sum(axis=dim, keepdims=True) / support.sum(axis=dim, keepdims=True)
    np.testing.assert_allclose(a.grad.numpy(), support * (g - mean), atol=1e-12)
