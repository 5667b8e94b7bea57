"""Flows: inverses, determinants against the Jacobian, densities that integrate to 1."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import methods

rng = np.random.default_rng(0)


def flow(features: int, device: str | None = None) -> methods.RealNVP:
    """One whose couplings are not the identity."""
    an.random.manual_seed(0)
    made = methods.RealNVP(features, layers=4, hidden=(16,)).to(device=device, dtype=an.float64)
    made(an.asarray(rng.normal(size=(20, features)) * 2 + 1, device=device))  # the norms begin
    for p in made.parameters():
        with an.no_grad():
            p.assign_(p + 0.2 * an.random.normal(p.shape, dtype=p.dtype, device=p.device))
    return made


def test_inverse_and_determinant(xp_device: str) -> None:
    made = flow(4, xp_device)
    x = an.asarray(rng.normal(size=(3, 4)), device=xp_device)
    z, log_det = made.encode(x)
    np.testing.assert_allclose(made.decode(z).tolist(), x.tolist(), atol=1e-10)
    for i in range(3):
        jacobian = an.jacrev(lambda row: made.encode(an.expand_dims(row, axis=0))[0][0, :])(x[i, :])
        _sign, known = np.linalg.slogdet(np.asarray(jacobian.tolist()))
        assert abs(log_det[i].item() - known) < 1e-10
    for part in made.parts:
        y, forward = part(x)
        back, backward = part.inverse(y)
        np.testing.assert_allclose(back.tolist(), x.tolist(), atol=1e-12)
        np.testing.assert_allclose(backward.tolist(), (-forward).tolist(), atol=1e-12)


def test_density_integrates_to_one() -> None:
    made = flow(2)
    edges = np.linspace(-40, 40, 801)
    grid = np.stack(np.meshgrid(edges, edges), -1).reshape(-1, 2)
    total = np.exp(np.asarray(made.log_prob(an.asarray(grid)).tolist())).sum() * (edges[1] - edges[0]) ** 2
    assert abs(total - 1) < 1e-3


def test_samples_follow_the_density() -> None:
    """E[−log p] of samples, against the entropy that the change of variables gives."""
    made = flow(2)
    x = made.sample(4000, generator=an.random.Generator(2))
    z, log_det = made.encode(x)
    assert abs(an.mean(z).item()) < 0.05
    assert abs(an.std(z).item() - 1) < 0.05
    entropy = an.mean(-made.log_prob(x)).item()
    assert abs(entropy - (1 + np.log(2 * np.pi) - an.mean(log_det).item())) < 0.05


def test_first_batch_is_normalised() -> None:
    layer = methods.ActNorm(3)
    x = an.asarray(rng.normal(size=(50, 3)) * [1, 5, 0.1] + 3, dtype=an.float32)
    y, _ = layer(x)
    np.testing.assert_allclose(an.mean(y, axis=0).tolist(), [0] * 3, atol=1e-4)
    np.testing.assert_allclose(an.std(y, axis=0).tolist(), [1] * 3, atol=1e-3)
    before = layer.bias.tolist()
    layer(x + 5)
    assert layer.bias.tolist() == before


def test_a_flow_learns_a_normal_distribution() -> None:
    an.random.manual_seed(0)
    made = methods.RealNVP(2, layers=2, hidden=(16,))
    mix = np.array([[1.0, 0.8], [0.0, 0.6]])  # so correlated, log det = log 0.6
    x = an.asarray(rng.normal(size=(512, 2)) @ mix, dtype=an.float32)
    optimizer = an.optim.Adam(made.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        loss = made(x)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1 + np.log(2 * np.pi) + np.log(0.6) + 0.1  # the entropy


def test_logit_transform(xp_device: str) -> None:
    x = an.asarray(rng.uniform(size=(3, 2)), device=xp_device)
    y, log_det = methods.logit_transform(x, 0.05)
    p = 0.05 + 0.9 * np.asarray(x.tolist())
    np.testing.assert_allclose(y.tolist(), np.log(p / (1 - p)), rtol=1e-12)
    np.testing.assert_allclose(log_det.tolist(), np.log(0.9 / p / (1 - p)).sum(1), rtol=1e-12)


def test_flow_refusals() -> None:
    with pytest.raises(ValueError, match="mask must hold 0 and 1, and both"):
        methods.AffineCoupling([1, 1])
    with pytest.raises(ValueError, match="features must be an integer ≥ 2, got 1"):
        methods.RealNVP(1)
    with pytest.raises(ValueError, match=r"rows must have the shape \(n, 2\), got \(3, 3\)"):
        methods.RealNVP(2).log_prob(an.zeros((3, 3)))
    with pytest.raises(ValueError, match="6 layers need as many masks of 2 numbers"):
        methods.RealNVP(2, masks=[[0, 1]])
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 0.5\), got 0.5"):
        methods.logit_transform(an.zeros((1, 1)), 0.5)
