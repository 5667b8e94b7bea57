"""Losses without labels: against the formulas of the papers in NumPy, and BYOL's and MAE's parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet import methods, nn

rng = np.random.default_rng(0)


def test_nt_xent(xp_device: str) -> None:
    a, b, tau = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 0.3
    z = np.concatenate([a, b])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(8):
        others = [math.exp(z[i] @ z[k] / tau) for k in range(8) if k != i]
        total -= math.log(math.exp(z[i] @ z[(i + 4) % 8] / tau) / sum(others))
    x, y = (an.asarray(v, device=xp_device, requires_grad=True) for v in (a, b))
    loss = methods.nt_xent_loss(x, y, tau)
    assert loss.dtype == an.float64
    assert abs(loss.item() - total / 8) < 1e-12
    assert an.gradcheck(lambda p, q: methods.nt_xent_loss(p, q, tau), [x, y])


def test_vicreg(xp_device: str) -> None:
    a, b = rng.normal(size=(5, 3)) * 0.7, rng.normal(size=(5, 3)) * 0.7
    v = sum(np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean() for z in (a, b)) / 2
    c = sum(((np.cov(z.T) - np.diag(np.diag(np.cov(z.T)))) ** 2).sum() / 3 for z in (a, b))
    expected = 25 * ((a - b) ** 2).mean() + 20 * v + 3 * c
    x, y = (an.asarray(z, device=xp_device, requires_grad=True) for z in (a, b))
    assert abs(methods.vicreg_loss(x, y, 25, 20, 3).item() - expected) < 1e-12
    assert an.gradcheck(methods.vicreg_loss, [x, y])


def test_byol_loss_and_target() -> None:
    an.random.manual_seed(0)
    q, z = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    cos = (q * z).sum(1) / np.linalg.norm(q, axis=1) / np.linalg.norm(z, axis=1)
    x, y = (an.asarray(v, requires_grad=True) for v in (q, z))
    loss = methods.byol_loss(x, y)
    assert abs(loss.item() - (2 - 2 * cos).mean()) < 1e-12
    loss.backward()
    assert x.grad is not None
    assert y.grad is None

    net = methods.BYOL(nn.Linear(3, 4), 4, hidden=8, out=2, decay=0.9)
    first = [p.tolist() for p in net.target.parameters()]
    assert first == [p.tolist() for p in net.online.parameters()]
    batch = an.asarray(rng.normal(size=(6, 3)), dtype=an.float32)
    optimizer = an.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(batch, batch + 0.1).backward()
    optimizer.step()
    assert first == [p.tolist() for p in net.target.parameters()]
    net.update_target()
    for before, target, online in zip(first, net.target.parameters(), net.online.parameters(), strict=True):
        expected = 0.9 * np.asarray(before) + 0.1 * np.asarray(online.tolist())
        np.testing.assert_allclose(target.tolist(), expected, atol=1e-7)


def test_patches(xp_device: str) -> None:
    x = rng.normal(size=(2, 3, 4, 6))
    expected = x.reshape(2, 3, 2, 2, 3, 2)
    expected = np.einsum("nchpwq->nhwpqc", expected).reshape(2, 6, 12)  # the line of MAE's code
    patches = methods.patchify(an.asarray(x, device=xp_device), 2)
    np.testing.assert_array_equal(patches.tolist(), expected)
    np.testing.assert_array_equal(methods.unpatchify(patches, 2, 3, 4, 6).tolist(), x)


def test_masks_are_uniform(xp_device: str) -> None:
    kept, mask = methods.random_masking(400, 10, 0.7, device=xp_device, generator=an.random.Generator(1))
    shown = np.asarray(mask.tolist())
    assert kept.shape == (400, 3)
    for row, hidden in zip(kept.tolist(), shown, strict=True):
        assert row == sorted(np.flatnonzero(~hidden).tolist())
    share = (~shown).mean(0)  # of each place: binomial(400, 0.3), so within 4 deviations
    assert np.abs(share - 0.3).max() < 4 * math.sqrt(0.3 * 0.7 / 400)


def test_masked_autoencoder(xp_device: str) -> None:
    an.random.manual_seed(0)
    options = {"width": 16, "depth": 1, "num_heads": 2, "decoder_width": 8, "decoder_depth": 1}
    net = methods.MaskedAutoencoder((4, 8), 2, 2, **options).to(device=xp_device)
    x = an.asarray(rng.uniform(size=(3, 2, 4, 8)), dtype=an.float32, device=xp_device)
    drawn, patches, mask = net.predict_patches(x, an.random.Generator(2))
    hidden = np.asarray(mask.tolist())
    assert hidden.sum(1).tolist() == [6, 6, 6]
    error = ((np.asarray(drawn.tolist()) - np.asarray(patches.tolist())) ** 2).mean(-1)
    loss = net(x, generator=an.random.Generator(2))
    assert abs(loss.item() - error[hidden].mean()) < 1e-6
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_hidden_patches_do_not_reach_the_encoder() -> None:
    an.random.manual_seed(0)
    net = methods.MaskedAutoencoder(4, 2, width=8, depth=1, num_heads=2, decoder_width=8, decoder_depth=1)
    x = an.asarray(rng.uniform(size=(2, 1, 4, 4)), dtype=an.float32)
    drawn, patches, mask = net.predict_patches(x, an.random.Generator(5))
    other = methods.unpatchify(an.where(an.expand_dims(mask, axis=-1), an.asarray(9.0), patches), 2, 1, 4, 4)
    again, _, _ = net.predict_patches(other, an.random.Generator(5))
    assert again.tolist() == drawn.tolist()


def test_views_differ_and_repeat() -> None:
    views = methods.TwoViews(an.data.transforms.RandomAffine(20), an.data.transforms.RandomHorizontalFlip())
    x = an.asarray(rng.uniform(size=(3, 1, 8, 8)), dtype=an.float32)
    first, second = (views(x, generator=an.random.Generator(4)) for _ in range(2))
    assert [v.tolist() for v in first] == [v.tolist() for v in second]
    assert first[0].tolist() != first[1].tolist()


def test_linear_probe_is_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    x = rng.normal(size=(60, 4)) * [1, 5, 0.1, 2] + 3
    y = rng.integers(0, 3, 60)
    x[:, 0] += y
    probe = methods.linear_probe(an.asarray(x), an.asarray(y), an.asarray(x[:9]), an.asarray(y[:9]), l2=0.01)
    scaled = (x - x.mean(0)) / (x.std(0) + 1e-6)
    known = linear_model.LogisticRegression(C=1 / (0.01 * 60), tol=1e-10, max_iter=1000).fit(scaled, y)
    weights = np.asarray(probe.layer.weight.tolist())
    np.testing.assert_allclose(weights, known.coef_, atol=1e-4)  # both have rows that sum to 0
    assert probe.train_accuracy == known.score(scaled, y)
    assert probe.accuracy == known.score(scaled[:9], y[:9])


def test_self_supervised_refusals() -> None:
    a = an.zeros((3, 2))
    for loss in (methods.nt_xent_loss, methods.vicreg_loss, methods.byol_loss):
        with pytest.raises(ValueError, match=r"one shape \(n, d\), got \(3, 2\) and \(3, 3\)"):
            loss(a, an.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0"):
        methods.nt_xent_loss(a, a, 0)
    with pytest.raises(ValueError, match="at least 2 samples in a batch, got 1"):
        methods.nt_xent_loss(a[:1, :], a[:1, :])
    with pytest.raises(ValueError, match=r"ratio must be in \(0, 1\), got 1.0"):
        methods.random_masking(2, 4, 1.0)
    with pytest.raises(ValueError, match="patch_size must divide the picture, got 3 and 4×4"):
        methods.MaskedAutoencoder(4, 3)
    with pytest.raises(ValueError, match="both sides divisible by 3"):
        methods.patchify(an.zeros((1, 1, 4, 6)), 3)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 2"):
        methods.BYOL(nn.Linear(2, 2), 2, decay=2)
