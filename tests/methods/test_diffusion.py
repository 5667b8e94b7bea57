"""Diffusion: the forward process in one step, the samplers against the formulas for a known ε."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet import methods, nn

rng = np.random.default_rng(0)


def test_schedules() -> None:
    linear = methods.linear_schedule(1000)
    np.testing.assert_allclose(linear, np.linspace(1e-4, 0.02, 1000), rtol=1e-12)
    t = np.arange(1001) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(
        methods.cosine_schedule(1000), np.minimum(1 - f[1:] / f[:-1], 0.999), rtol=1e-9
    )
    for steps in (50, 200, 1000):  # about as much noise in the end
        assert np.prod(1 - np.array(methods.linear_schedule(steps))) < 1e-4


def test_the_noise_of_t_steps_at_once(xp_device: str) -> None:
    """Mean and variance of x_t by the recursion x_s = √(1 − β_s) x_{s−1} + √β_s ε."""
    betas = methods.cosine_schedule(10)
    ddpm = methods.DDPM(lambda x, t: x, betas).to(device=xp_device)
    x0 = an.asarray([[2.0], [2.0], [2.0]], device=xp_device, dtype=an.float64)
    t = an.asarray([0, 4, 9], device=xp_device)
    means = ddpm.q_sample(x0, t, an.zeros_like(x0))
    both = ddpm.q_sample(x0, t, an.ones_like(x0)) - means
    assert means.dtype == an.float64
    mean, variance, found = 2.0, 0.0, {}
    for s, b in enumerate(betas):
        mean, variance = math.sqrt(1 - b) * mean, (1 - b) * variance + b
        found[s] = mean, math.sqrt(variance)
    np.testing.assert_allclose(means[:, 0].tolist(), [found[s][0] for s in (0, 4, 9)], rtol=1e-6)
    np.testing.assert_allclose(both[:, 0].tolist(), [found[s][1] for s in (0, 4, 9)], rtol=1e-6)


class Perfect(nn.Module):
    """ε of data that are N(mean, deviation²): E[ε | x_t], from Bayes' rule."""

    def __init__(self, mean: float, deviation: float, betas: list[float]) -> None:
        self.mean, self.variance, self.alpha = mean, deviation**2, np.cumprod(1 - np.array(betas))

    def forward(self, x: an.Tensor, t: an.Tensor) -> an.Tensor:
        a = an.asarray(self.alpha[np.asarray(t.tolist())].reshape(-1, *(1,) * (x.ndim - 1)), dtype=x.dtype)
        total = a * self.variance + 1 - a
        return an.sqrt(1 - a) * (x - an.sqrt(a) * self.mean) / total


@pytest.mark.parametrize(("steps", "eta"), [(None, 0.0), (100, 0.0), (50, 0.0), (100, 1.0)])
def test_samples_have_the_distribution_of_the_data(steps: int | None, eta: float) -> None:
    """With the best possible network for N(0.5, 0.2²) what is drawn has this mean and deviation."""
    betas = methods.cosine_schedule(100)
    ddpm = methods.DDPM(Perfect(0.5, 0.2, betas), betas)
    shape, generator = (4000, 1), an.random.Generator(1)
    if steps is None:
        x = ddpm.sample(shape, clip_to=None, generator=generator)
    else:
        x = ddpm.ddim(shape, steps, eta, clip_to=None, generator=generator)
    assert abs(an.mean(x).item() - 0.5) < 0.02
    assert abs(an.std(x).item() - 0.2) < 0.02


def test_ddim_with_all_noise_is_ancestral_sampling() -> None:
    betas = methods.cosine_schedule(20)
    ddpm = methods.DDPM(Perfect(0.3, 0.1, betas), betas)
    one = ddpm.sample((3, 2), generator=an.random.Generator(5))
    two = ddpm.ddim((3, 2), 20, 1.0, generator=an.random.Generator(5))
    np.testing.assert_allclose(one.tolist(), two.tolist(), atol=1e-5)


def test_the_loss_is_zero_for_the_right_noise() -> None:
    betas = methods.cosine_schedule(50)
    ddpm = methods.DDPM(Perfect(0.0, 0.0, betas), betas)  # all data are 0, so x_t tells ε
    assert ddpm(an.zeros((64, 1, 2, 2))).item() < 1e-6


def test_a_network_learns_two_points() -> None:
    an.random.manual_seed(0)
    ddpm = methods.DDPM(methods.DenoisingUNet(1, (8, 8)), methods.cosine_schedule(20))
    x = an.asarray(np.sign(rng.normal(size=(16, 1, 1, 1))) * np.ones((1, 1, 4, 4)), dtype=an.float32)
    optimizer = an.optim.Adam(ddpm.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ddpm(x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])
    assert all(p.grad is not None for p in ddpm.parameters())
    noise = an.random.normal((4, 1, 4, 4), generator=an.random.Generator(3))
    one, two = (ddpm.ddim(noise.shape, 5, start=noise) for _ in range(2))
    assert one.tolist() == two.tolist()


def test_denoising_unet_on_each_device(xp_device: str) -> None:
    net = methods.DenoisingUNet(2, (4, 6), blocks=2, groups=2).to(device=xp_device)
    x = an.asarray(rng.normal(size=(2, 2, 4, 6)), dtype=an.float32, device=xp_device)
    y = net(x, an.asarray([0, 3], device=xp_device))
    assert y.shape == x.shape
    assert y.device == x.device


def test_diffusion_refusals() -> None:
    with pytest.raises(ValueError, match=r"each β must be in \(0, 1\)"):
        methods.DDPM(nn.Identity(), [0.5, 1.0])
    with pytest.raises(ValueError, match="steps must be an integer ≥ 2, got 1"):
        methods.cosine_schedule(1)
    with pytest.raises(ValueError, match=r"0 < first ≤ last < 1 must hold"):
        methods.linear_schedule(10)
    ddpm = methods.DDPM(methods.DenoisingUNet(1, (4, 4)), methods.cosine_schedule(5))
    with pytest.raises(ValueError, match="steps must be at most 5"):
        ddpm.ddim((1, 1, 2, 2), 6)
    with pytest.raises(ValueError, match=r"sides divisible by 2, got \(1, 1, 3, 4\)"):
        ddpm(an.zeros((1, 1, 3, 4)))


def test_frechet_distance_against_scipy(xp_device: str) -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="needs SciPy")
    a, b = rng.normal(size=(40, 5)), rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * np.real(linalg.sqrtm(ca @ cb)))
    on = lambda x: an.asarray(x, device=xp_device)  # noqa: E731
    np.testing.assert_allclose(methods.frechet_distance(on(a), on(b)).item(), expected, rtol=1e-9)
    assert abs(methods.frechet_distance(on(a), on(a)).item()) < 1e-9
    few = np.repeat(
        a[:2], 2, axis=0
    )  # covariances of rank 1: rounding must not make a root of what is below 0
    assert abs(methods.frechet_distance(on(few), on(few)).item()) < 1e-6
    with pytest.raises(ValueError, match="at least 2 rows in each set, got 1 and 30"):
        methods.frechet_distance(on(a[:1]), on(b))
    with pytest.raises(nn.ShapeError, match=r"must have the shapes \(n, d\) and \(m, d\)"):
        methods.frechet_distance(on(a), on(b[:, :4]))
