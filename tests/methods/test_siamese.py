"""Losses of pairs and triplets: against loops in NumPy; verification against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import methods

rng = np.random.default_rng(0)


def test_contrastive(xp_device: str) -> None:
    a, b = rng.normal(size=(6, 3)) * 0.4, rng.normal(size=(6, 3)) * 0.4
    same = np.array([1, 0, 1, 0, 0, 1])
    d = np.linalg.norm(a - b, axis=1)
    expected = np.where(same, 0.5 * d**2, 0.5 * np.maximum(0, 0.8 - d) ** 2).mean()
    x, y = (an.asarray(v, device=xp_device, requires_grad=True) for v in (a, b))
    labels = an.asarray(same, device=xp_device)
    assert abs(methods.contrastive_loss(x, y, labels, 0.8).item() - expected) < 1e-9
    assert an.gradcheck(lambda p, q: methods.contrastive_loss(p, q, labels, 0.8), [x, y])


@pytest.mark.parametrize("margin", [0.3, None])
def test_batch_hard(xp_device: str, margin: float | None) -> None:
    x, y = rng.normal(size=(7, 3)), np.array([0, 0, 1, 1, 1, 2, 0])
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    losses = []
    for i in range(7):
        positives = [d[i, j] for j in range(7) if j != i and y[j] == y[i]]
        if positives:
            gap = max(positives) - min(d[i, j] for j in range(7) if y[j] != y[i])
            losses.append(np.log1p(np.exp(gap)) if margin is None else max(0, margin + gap))
    e = an.asarray(x, device=xp_device, requires_grad=True)
    labels = an.asarray(y, device=xp_device)
    assert abs(methods.batch_hard_triplet_loss(e, labels, margin).item() - np.mean(losses)) < 1e-9
    assert an.gradcheck(lambda v: methods.batch_hard_triplet_loss(v, labels, margin), [e])


def test_equal_embeddings_have_finite_gradients() -> None:
    x = an.zeros((4, 2), dtype=an.float64)
    x.requires_grad = True
    methods.batch_hard_triplet_loss(x, an.asarray([0, 0, 1, 1])).backward()
    assert bool(an.all(an.isfinite(x.grad)))


def test_verification_rates() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    same = rng.uniform(size=300) < 0.4
    d = np.round(rng.normal(size=300) + 1.0 * ~same, 1)  # with ties
    found = methods.verification(an.asarray(d), an.asarray(same))
    assert abs(found.auc - metrics.roc_auc_score(same, -d)) < 1e-12
    best = max(((d <= t) == same).mean() for t in [*d, d.min() - 1])
    assert abs(found.accuracy - best) < 1e-12
    assert abs(((d <= found.threshold) == same).mean() - best) < 1e-12
    at = methods.verification(an.asarray(d), an.asarray(same), threshold=0.5)
    assert abs(at.accuracy - ((d <= 0.5) == same).mean()) < 1e-12
    far, frr = [], []
    for t in np.unique(d):
        far.append((d <= t)[~same].mean())
        frr.append((d > t)[same].mean())
    i = int(np.argmin(np.abs(np.subtract(far, frr))))
    assert abs(found.equal_error_rate - (far[i] + frr[i]) / 2) < 1e-12


def test_siamese_refusals() -> None:
    x = an.zeros((3, 2))
    with pytest.raises(ValueError, match=r"one shape \(n, d\), and same \(n,\)"):
        methods.contrastive_loss(x, x, an.zeros(2))
    with pytest.raises(ValueError, match="margin must be > 0, got 0"):
        methods.contrastive_loss(x, x, an.zeros(3), margin=0)
    with pytest.raises(ValueError, match="no sample has another of its class"):
        methods.batch_hard_triplet_loss(x, an.asarray([0, 1, 2]))
    with pytest.raises(ValueError, match="pairs of both kinds are needed"):
        methods.verification(an.asarray([0.1]), an.asarray([True]))
