"""What Keras and Chainer have: against the formulas, and where the numbers are drawn against their distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
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


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses(reduction):
    x, t = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    sign, hot = np.sign(t), np.eye(3)[[0, 2, 1, 1]]
    reduce = {"none": lambda v: v, "mean": np.mean, "sum": np.sum}[reduction]
    a = an.asarray(x)
    gap = np.maximum(1 - sign * x, 0)
    own, other = (hot * x).sum(1), ((1 - hot) * x).max(1)
    logs = np.log1p(np.maximum(x, 1e-7)) - np.log1p(np.maximum(t, 1e-7))
    for loss, target, expected in (
        (nn.HingeLoss, sign, gap), (nn.HingeLoss, (sign + 1) / 2, gap), (nn.SquaredHingeLoss, sign, gap**2),
        (nn.CategoricalHingeLoss, hot, np.maximum(1 + other - own, 0)), (nn.MAPELoss, t, 100 * np.abs((x - t) / t)),
        (nn.MSLELoss, t, logs**2),
    ):  # fmt: skip
        y = loss(reduction=reduction)(a, an.asarray(target))
        np.testing.assert_allclose(y.numpy(), reduce(expected), rtol=1e-13)
        assert y.dtype == an.float64
        with pytest.raises(ValueError, match="nothing is broadcast"):
            loss()(a, an.asarray(target)[0])


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


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(n, keepdims):
    x = rng.normal(size=(2, 3, *(4, 5, 2)[:n]))
    axes = tuple(range(2, n + 2))
    for kind, function in (("Avg", np.mean), ("Max", np.max)):
        layer = getattr(nn, f"Global{kind}Pool{n}d")(keepdims)
        np.testing.assert_allclose(
            layer(an.asarray(x)).numpy(), function(x, axis=axes, keepdims=keepdims), rtol=1e-14, atol=1e-15
        )
        assert layer(an.asarray(x[0])).shape == (3, *((1,) * n if keepdims else ()))
        with pytest.raises(ValueError, match="expected"):
            layer(an.asarray(x[None, None]))


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


def test_initial_values():
    an.random.manual_seed(0)
    for fill, variance in (
        (nn.init.lecun_normal_, 1 / 300), (nn.init.lecun_uniform_, 1 / 300),
        (lambda p: nn.init.variance_scaling_(p, 2.0, "fan_out", "untruncated_normal"), 2 / 200),
        (lambda p: nn.init.variance_scaling_(p, 1.0, "fan_avg", "uniform"), 1 / 250),
        (lambda p: nn.init.variance_scaling_(p, 1.0, "fan_avg"), 1 / 250),
    ):  # fmt: skip
        p = nn.Parameter(an.zeros((200, 300), dtype=an.float64))
        values = fill(p).numpy()
        assert abs(values.var() / variance - 1) < 0.03
        assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    values = nn.init.lecun_normal_(nn.Parameter(an.zeros((200, 300)))).numpy()
    assert np.abs(values).max() <= 2 / 0.8796 / math.sqrt(300)


def test_refusals():
    for call, words in (
        (lambda: nn.GaussianNoise(-1), "must be ≥ 0, got -1"), (lambda: nn.GaussianDropout(1.0), r"\[0, 1\), got 1.0"),
        (lambda: F.gaussian_noise(an.ones(2), -1), "stddev must be ≥ 0"), (lambda: F.gaussian_dropout(an.ones(2), 1.0), "rate must be in"),
        (lambda: nn.SquarePlus(-1.0), "b must be ≥ 0"), (lambda: F.hinge_loss(an.ones(2), an.ones(2), p=3), "1 or 2, got 3"),
        (lambda: nn.TimeDistributed(nn.ReLU())(an.ones((2, 3))), "at least 3 axes"),
        (lambda: nn.init.variance_scaling_(an.zeros((2, 3)), -1.0), "scale must be > 0"),
        (lambda: nn.init.variance_scaling_(an.zeros((2, 3)), distribution="flat"), "got 'flat'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()


def test_gumbel_never_becomes_infinite(monkeypatch):
    full = lambda xp, n, dtype, device: xp.full((n,), 1 - 2.0**-24, dtype=dtype)  # noqa: E731
    monkeypatch.setattr(an.random, "next_units", full)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isfinite(F.gumbel_softmax(an.asarray(np.zeros((2, 3), dtype))).numpy()).all()
