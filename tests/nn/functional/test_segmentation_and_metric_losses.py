"""Dice, Tversky, focal, log-cosh and circle losses against their formulas, linear cross-entropy against PyTorch's."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dim", [None, 0, (1, 2)])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1)])
def test_dice_and_tversky(reduction, dim, shape):
    p, t = draw(*shape, low=0, high=1), draw(*shape, seed=1, low=0, high=1)
    over = tuple(range(3)) if dim is None else dim

    def reduced(x):
        return {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](x)

    agree_with_gradients(
        lambda p, t: F.dice_loss(p, t, dim, 0.1, reduction),
        lambda p, t: reduced(1 - (2 * (p * t).sum(over) + 0.1) / (p.sum(over) + t.sum(over) + 0.1)), p, t,
    )  # fmt: skip

    def tversky(p, t):
        hits, false, missed = (p * t).sum(over), (p * (1 - t)).sum(over), ((1 - p) * t).sum(over)
        return reduced(1 - (hits + 0.1) / (hits + 0.3 * false + 0.7 * missed + 0.1))

    agree_with_gradients(lambda p, t: F.tversky_loss(p, t, 0.3, 0.7, dim, 0.1, reduction), tversky, p, t)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_binary_focal(gamma, alpha, scale):
    x, t = draw(4, 5) * scale, (draw(4, 5, seed=1) > 0).astype(float)

    def reference(x, t):
        p = torch.sigmoid(x)
        right = p * t + (1 - p) * (1 - t)
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
            * (1 - right) ** gamma
        )
        return (loss if alpha is None else loss * (alpha * t + (1 - alpha) * (1 - t))).mean()

    target = an.asarray(t)
    agree_with_gradients(
        lambda x: F.binary_focal_loss(x, target, alpha, gamma), lambda x: reference(x, torch.tensor(t)), x
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alpha", [None, [0.1, 0.5, 0.4]])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
def test_focal(reduction, alpha, shape):
    x = draw(*shape)
    t = np.random.default_rng(1).integers(0, 3, (shape[0], *shape[2:]))
    t.reshape(-1)[2] = -100
    weights = None if alpha is None else an.asarray(alpha, dtype="float64")

    def reference(x):
        logs = torch.log_softmax(x, 1)
        known = torch.tensor(np.where(t < 0, 0, t))
        at = logs.gather(1, known.unsqueeze(1)).squeeze(1)
        w = torch.ones(3, dtype=torch.float64) if alpha is None else torch.tensor(alpha, dtype=torch.float64)
        loss = -w[known] * (1 - at.exp()) ** 2 * at * torch.tensor(t >= 0)
        return {"mean": lambda y: y.sum() / (t >= 0).sum(), "sum": torch.sum, "none": lambda y: y}[reduction](
            loss
        )

    agree_with_gradients(lambda x: F.focal_loss(x, an.asarray(t), weights, reduction=reduction), reference, x)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_log_cosh(scale):
    x, t = draw(5, 4) * scale, draw(5, 4, seed=1) * scale

    def reference(x, t):
        d = (x - t).abs()
        return (d + torch.log1p(torch.exp(-2 * d)) - math.log(2)).mean()

    agree_with_gradients(F.log_cosh_loss, reference, x, t)


@pytest.mark.parametrize(("gamma", "margin"), [(80.0, 0.4), (2.0, 0.25), (16.0, 0.0)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_circle(gamma, margin, reduction):
    x, t = draw(7, 4), np.array([0, 1, 0, 2, 1, 0, 3])

    def reference(x):
        unit = torch.nn.functional.normalize(x, dim=1)
        s = unit @ unit.T
        rows = []
        for i in range(len(t)):
            p = [s[i, j] for j in range(len(t)) if j != i and t[j] == t[i]]
            n = [s[i, j] for j in range(len(t)) if t[j] != t[i]]
            if not p or not n:
                rows.append(0 * s[i, i])
                continue
            down = sum(torch.exp(-gamma * max(1 + margin - v.item(), 0) * (v - 1 + margin)) for v in p)
            up = sum(torch.exp(gamma * max(v.item() + margin, 0) * (v - margin)) for v in n)
            rows.append(torch.log(1 + down * up))
        out = torch.stack(rows)
        return {"mean": torch.mean, "sum": torch.sum, "none": lambda y: y}[reduction](out)

    agree_with_gradients(lambda x: F.circle_loss(x, an.asarray(t), gamma, margin, reduction), reference, x)


@pytest.mark.parametrize("options", [
    {}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 1}, {"reduction": "none"},
])  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_linear_cross_entropy_equals_torch(options, bias):
    x, w, b, t = draw(6, 4), draw(5, 4, seed=1), draw(5, seed=2), np.array([0, 1, 4, 1, 2, 3])
    arrays = (x, w, b) if bias else (x, w)
    agree_with_gradients(
        lambda x, w, b=None: F.linear_cross_entropy(x, w, an.asarray(t), linear_bias=b, **options),
        lambda x, w, b=None: torch.nn.functional.linear_cross_entropy(
            x, w, torch.tensor(t), linear_bias=b, **options
        ),
        *arrays,
    )
    ours, theirs = (
        nn.LinearCrossEntropyLoss(4, 5, bias=bias),
        torch.nn.LinearCrossEntropyLoss(4, 5, bias=bias),
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
