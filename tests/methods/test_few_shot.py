"""Prototypes and episodes: against their formulas in NumPy, on every device."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import methods

rng = np.random.default_rng(0)


def test_prototypes_and_loss(xp_device: str) -> None:
    x, y = rng.normal(size=(6, 3)), np.array([2, 0, 1, 2, 0, 1])
    q, t = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    c = np.stack([x[y == k].mean(0) for k in range(3)])
    scores = -((q[:, None] - c[None]) ** 2).sum(-1)
    expected = -(scores - np.log(np.exp(scores).sum(1, keepdims=True)))[np.arange(4), t].mean()

    def on(a: np.ndarray) -> an.Tensor:
        return an.asarray(a, device=xp_device)

    centres = methods.prototypes(on(x), on(y))
    assert centres.dtype == an.float64
    assert centres.device == on(x).device
    np.testing.assert_allclose(centres.tolist(), c, rtol=1e-12)
    loss, logits = methods.prototypical_loss(on(x), on(y), on(q), on(t))
    np.testing.assert_allclose(logits.tolist(), scores, rtol=1e-12)
    assert abs(loss.item() - expected) < 1e-12
    inputs = [an.asarray(a, device=xp_device, requires_grad=True) for a in (x[:3], q[:2])]
    assert an.gradcheck(lambda a, b: methods.prototypical_loss(a, on(np.arange(3)), b, on(t[:2]))[0], inputs)


def test_cosine_distance() -> None:
    q, c = rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    expected = q @ c.T / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(c, axis=1) - 1
    np.testing.assert_allclose(
        methods.prototypical_logits(an.asarray(q), an.asarray(c), "cosine").tolist(), expected, rtol=1e-12
    )


def test_episodes_hold_what_they_say() -> None:
    labels = rng.integers(0, 8, 200) * 3 + 1  # any numbering
    sampler = methods.EpisodeSampler(labels, n_way=5, n_shot=2, n_query=3, episodes=20, seed=3)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 20
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    for episode in first:
        assert len(set(episode)) == 25
        support, queries = labels[episode[:10]], labels[episode[10:]]
        assert len(set(support)) == 5
        assert [support[2 * k] for k in sampler.support_labels] == list(support)
        assert [support[2 * k] for k in sampler.query_labels] == list(queries)
    classes = np.unique(labels[[e[0] for e in first]])
    assert len(classes) > 4  # drawn, not always the same


def test_episodes_in_a_loader() -> None:
    x = an.reshape(an.arange(40, dtype=an.float32), (20, 2))
    sampler = methods.EpisodeSampler(np.arange(20) % 4, n_way=3, n_shot=1, n_query=2, episodes=4)
    loader = an.data.DataLoader(an.data.TensorDataset(x, np.arange(20) % 4), batch_sampler=sampler)
    batches = list(loader)
    assert len(batches) == 4
    support, queries = sampler.split(batches[0][0])
    assert support.shape == (3, 2)
    assert queries.shape == (6, 2)


def test_refusals() -> None:
    x = an.zeros((3, 2))
    with pytest.raises(ValueError, match="there is none of 1"):
        methods.prototypes(x, an.asarray([0, 0, 2]))
    with pytest.raises(TypeError, match="labels must be integers, got float32"):
        methods.prototypes(x, an.asarray([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 1\], got 2"):
        methods.prototypes(x, an.asarray([0, 1, 2]), n_way=2)
    with pytest.raises(ValueError, match=r"need labels of shape \(3,\), got \(2,\)"):
        methods.prototypes(x, an.asarray([0, 1]))
    with pytest.raises(ValueError, match="must have the same d"):
        methods.prototypical_logits(x, an.zeros((2, 3)))
    with pytest.raises(ValueError, match="'euclidean' or 'cosine', got 'l1'"):
        methods.prototypical_logits(x, x, "l1")
    with pytest.raises(ValueError, match="5 classes of at least n_shot"):
        methods.EpisodeSampler([0, 1, 2])
    with pytest.raises(ValueError, match="n_shot must be an integer ≥ 1, got 0"):
        methods.EpisodeSampler([0, 1, 2], n_shot=0)
