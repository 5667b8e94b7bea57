"""Gumbel softmax: its distribution, and the gradient of its hard form, on every backend."""

import numpy as np
import pytest

import anynet as an
from anynet import streams
from anynet.nn import functional as F


def test_gumbel_softmax(xp_device):
    logits = an.asarray([[1.0, 2.0, 0.0]] * 4000, dtype=an.float64, device=xp_device)
    an.random.manual_seed(0)
    soft = F.gumbel_softmax(logits, tau=0.7)
    np.testing.assert_allclose(soft.numpy().sum(axis=1), 1, rtol=1e-12)
    an.random.manual_seed(0)
    x = an.asarray(logits.numpy(), device=xp_device, requires_grad=True)
    hard = F.gumbel_softmax(x, tau=0.7, hard=True)
    assert set(np.round(np.unique(hard.numpy()), 12)) <= {0.0, 1.0}
    assert (hard.numpy().argmax(1) == soft.numpy().argmax(1)).all()
    share = np.round(hard.numpy()).mean(axis=0)
    np.testing.assert_allclose(share, np.exp([1, 2, 0]) / np.exp([1, 2, 0]).sum(), atol=0.03)
    an.sum(hard[:, 0]).backward()
    assert (x.grad.numpy() != 0).all()


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"tau must be > 0, got 0\.0"):
        F.gumbel_softmax(an.ones(3), tau=0.0)


def test_gumbel_never_becomes_infinite(monkeypatch):
    full = lambda xp, n, dtype, device: xp.full((n,), 1 - 2.0**-24, dtype=dtype)  # noqa: E731
    monkeypatch.setattr(streams, "next_units", full)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isfinite(F.gumbel_softmax(an.asarray(np.zeros((2, 3), dtype))).numpy()).all()
