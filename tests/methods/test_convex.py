"""Two-layer ReLU networks as convex programs: published optima, counts of regions, optimality conditions, bounds on what is trained."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.methods import GatedReLU, activation_patterns, certificate, convex_two_layer

rng = np.random.default_rng(0)
BETA = 1e-3
X = np.stack([np.arange(-2.0, 3.0), np.ones(5)], axis=1)
Y = np.array([1.0, -1.0, 1.0, 1.0, -1.0])


def loss(net: nn.Module, x: np.ndarray, y: np.ndarray, beta: float) -> float:
    rest = net(an.asarray(x, dtype="float64")).numpy()[:, 0] - y
    return float(0.5 * (rest @ rest) + beta / 2 * sum((p.numpy() ** 2).sum() for p in net.parameters()))


@pytest.mark.parametrize(("n", "d"), [(5, 1), (7, 2), (9, 3), (6, 4), (4, 6)])
def test_number_of_regions_in_general_position(n: int, d: int) -> None:
    x = rng.normal(size=(n, d))
    patterns, points = activation_patterns(x)
    assert patterns.shape == (2 * sum(math.comb(n - 1, k) for k in range(min(n, d))), n)
    np.testing.assert_array_equal((points.numpy() @ x.T >= 0).astype(float), patterns.numpy())
    drawn = {tuple(p) for p in (rng.normal(size=(2000, d)) @ x.T >= 0).astype(float).tolist()}
    assert drawn <= {tuple(p) for p in patterns.tolist()}


def test_regions_of_degenerate_samples() -> None:
    grid = np.array(
        [[a, b, 1.0] for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)]
    )  # many planes through one edge
    found = {tuple(p) for p in activation_patterns(grid)[0].tolist()}
    drawn = {tuple(p) for p in (rng.normal(size=(20_000, 3)) @ grid.T >= 0).astype(float).tolist()}
    assert drawn <= found
    heights = activation_patterns(grid)[1].numpy() @ grid.T
    assert np.abs(heights).min() > 1e-6  # each is a region with an inside
    assert activation_patterns(np.zeros((3, 2)))[0].tolist() == [[1.0, 1.0, 1.0]]
    assert len(activation_patterns([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]])[0].tolist()) == 2


def test_optimum_of_five_points() -> None:
    found = convex_two_layer(X, Y, BETA, tolerance=1e-10)
    assert found.objective == pytest.approx(0.01011683, abs=5e-9)
    assert 0 <= found.gap < 1e-10
    assert (found.patterns, found.complete) == (10, True)
    net = found.network()
    assert loss(net, X, Y, BETA) == pytest.approx(found.objective, abs=1e-12)
    balanced = [np.linalg.norm(net[0].weight.numpy(), axis=1), np.abs(net[2].weight.numpy()[0])]
    np.testing.assert_allclose(*balanced, rtol=1e-10)


def test_bias_is_a_column_of_ones() -> None:
    found = convex_two_layer(X[:, :1], Y, BETA, bias=True)
    assert found.objective == pytest.approx(0.01011683, abs=2e-8)
    net = found.network()
    assert loss(net, X[:, :1], Y, BETA) == pytest.approx(found.objective, abs=1e-12)


def test_nothing_trained_is_below_the_bound() -> None:
    bound = convex_two_layer(X, Y, BETA).bound
    for width in (2, 5):
        for seed in range(2):
            an.random.manual_seed(seed)
            net = nn.Sequential(
                nn.Linear(2, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)
            ).to("float64")
            opt = an.optim.Adam(net.parameters(), lr=0.02)
            x, y = an.asarray(X), an.asarray(Y)
            for _ in range(300):
                opt.zero_grad()
                rest = net(x)[:, 0] - y
                (
                    0.5 * an.sum(rest * rest) + BETA / 2 * sum(an.sum(p * p) for p in net.parameters())
                ).backward()
                opt.step()
            found = certificate(net, X, Y, BETA)
            assert found.objective == pytest.approx(loss(net, X, Y, BETA), rel=1e-12)
            assert found.bound == pytest.approx(bound, abs=2e-8)
            assert found.gap == found.objective - found.bound > 0
            assert found.best - found.bound < 2e-8


def test_optimality_in_three_dimensions() -> None:
    x, y, beta = rng.normal(size=(12, 3)), rng.normal(size=12), 0.3
    found = convex_two_layer(x, y, beta)
    residual = y - found.network()(an.asarray(x)).numpy()[:, 0]
    directions = rng.normal(size=(20_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slopes = np.abs(
        np.maximum(directions @ x.T, 0) @ residual
    )  # |νᵀ(Xu)₊| ≤ β for every neuron that could be added
    assert slopes.max() < beta * (1 + 1e-3)
    assert found.gap < 1e-8


@pytest.mark.parametrize("gated", [False, True])
def test_sampled_patterns_come_close_and_are_never_better(gated: bool) -> None:
    x, y, beta = rng.normal(size=(15, 3)), rng.normal(size=15), 0.5
    exact = convex_two_layer(x, y, beta, gated=gated)
    an.random.manual_seed(0)
    some = convex_two_layer(x, y, beta, gated=gated, patterns=60)
    assert not some.complete
    assert some.patterns <= 60
    assert exact.bound <= some.objective <= 1.2 * exact.objective
    net = some.network()
    assert isinstance(net[0], GatedReLU) is gated
    assert loss(net, x, y, beta) == pytest.approx(some.objective, rel=1e-9)


def test_large_beta_gives_no_neuron() -> None:
    found = convex_two_layer(X, Y, 100.0)
    assert found.objective == found.bound == pytest.approx(2.5)
    with pytest.raises(ValueError, match="without neurons"):
        found.network()


def test_gradient_of_gated_units(xp_device: str) -> None:
    layer = GatedReLU(an.asarray([[1.0, 0.0]]), an.asarray([[2.0, 3.0]])).to(xp_device)
    x = an.asarray([[1.0, 1.0], [-1.0, 1.0]], device=xp_device, requires_grad=True)
    an.sum(layer(x)).backward()
    assert x.grad.tolist() == [[2.0, 3.0], [0.0, 0.0]]
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: convex_two_layer(X, Y, 0.0), ValueError, "beta"),
        (lambda: convex_two_layer(X, Y[:4], 1.0), ValueError, r"\(n, d\) and \(n,\)"),
        (lambda: convex_two_layer(X * np.nan, Y, 1.0), ValueError, "finite"),
        (lambda: convex_two_layer(rng.normal(size=(60, 12)), np.ones(60), 1.0), ValueError, "too many patterns"),
        (lambda: convex_two_layer(X, Y, BETA, max_iterations=1), RuntimeError, "bound"),
        (lambda: certificate(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), X, Y, 1.0), TypeError, "Linear, ReLU"),
    ],
)  # fmt: skip
def test_errors(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()
