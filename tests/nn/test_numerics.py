"""Functions at extreme arguments."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F
from anynet.ops.erf import erf
from anynet.ops.softmax import logsumexp
from torch_oracle import torch

ON = pytest.mark.parametrize("device", ["cpu", "strict:device1"])


def same(ours, theirs, tolerance=1e-10):
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_erf():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.46875, 4.0, 1e-300, 0.0, -0.0, np.inf, -np.inf]])
    expected = np.asarray([math.erf(v) for v in x])
    assert np.max(np.abs(erf(x) - expected)) <= 1e-15
    small = np.abs(x) < 0.4
    np.testing.assert_allclose(erf(x)[small], expected[small], rtol=1e-15)
    assert math.isnan(float(erf(np.asarray([np.nan]))[0]))
    single = erf(x.astype(np.float32))
    assert single.dtype == np.float32
    assert np.max(np.abs(single - expected)) <= 2e-7


def test_extremes_stay_finite():
    x = an.asarray([-1e6, -1000.0, 0.0, 1000.0, 1e6], requires_grad=True)
    for f in (F.sigmoid, F.silu, F.softplus, F.elu, F.gelu, F.softmax, F.log_softmax, F.logsumexp):
        y = f(x)
        x.grad = None
        an.sum(y).backward()
        assert np.isfinite(y.numpy()).all(), f
        assert np.isfinite(x.grad.numpy()).all(), f


@ON
def test_logsumexp_with_infinities(device):
    x = np.asarray([[-np.inf, -np.inf], [-np.inf, 1.0], [1.0, 2.0]])
    same(logsumexp(an.asarray(x, device=device), axis=1), torch.logsumexp(torch.tensor(x), 1))
    same(logsumexp(an.asarray(x[1:], device=device)), torch.logsumexp(torch.tensor(x[1:]), (0, 1)))
