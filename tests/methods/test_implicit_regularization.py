"""Minimum norm, maximum margin, low rank: optima against SciPy and scikit-learn, and gradient descent against the optima."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.methods import (
    DeepMatrixFactorization,
    effective_rank,
    max_margin,
    minimum_norm_distance,
    minimum_norm_solution,
    normalized_margin,
)
from optional_libraries import needs

rng = np.random.default_rng(0)


def test_gradient_descent_from_zero_reaches_the_minimum_norm() -> None:
    x, y = rng.normal(size=(5, 12)), rng.normal(size=5)
    w = an.Parameter(np.zeros(12))
    opt = an.optim.SGD([w], lr=0.06)
    for _ in range(1500):
        opt.zero_grad()
        rest = an.asarray(x) @ w - an.asarray(y)
        (0.5 * an.sum(rest * rest)).backward()
        opt.step()
    assert minimum_norm_distance(w, x, y) < 1e-12
    assert (
        minimum_norm_distance(w.numpy() + np.linalg.svd(x)[2][-1], x, y) > 0.1
    )  # also a solution, not the one
    np.testing.assert_allclose(
        minimum_norm_solution(x, y[:, None]).numpy()[:, 0], np.linalg.pinv(x) @ y, atol=1e-12
    )


@pytest.mark.parametrize("bias", [False, True])
def test_maximum_margin_as_scikit_learn(bias: bool) -> None:
    svm = needs("sklearn.svm", "test")
    for _ in range(4):
        d = int(rng.integers(2, 6))
        truth = rng.normal(size=d)
        x = rng.normal(size=(25, d))
        y = np.sign(x @ truth)
        x += 0.2 * y[:, None] * truth / np.linalg.norm(truth) + (np.ones(d) if bias else 0)
        found = max_margin(x, y, bias=bias)
        rows = np.hstack([x, np.ones((25, 1))]) if bias else x
        assert found.margin == pytest.approx(found.bound, rel=1e-9)
        w = found.direction.numpy()
        assert np.linalg.norm(w) == pytest.approx(1.0)
        assert (y * (rows @ w)).min() == pytest.approx(found.margin)
        hard = svm.LinearSVC(C=1e8, fit_intercept=False, loss="squared_hinge", tol=1e-7, max_iter=100_000)
        theirs = hard.fit(rows, y).coef_[0]
        assert (y * (rows @ theirs)).min() / np.linalg.norm(theirs) <= found.bound * (1 + 1e-9)
        given = (w[:-1], x, y) if bias else (w, x, y)
        assert normalized_margin(*given, bias=w[-1] if bias else None) == pytest.approx(found.margin)


def test_support_vectors_have_the_margin() -> None:
    found = max_margin([[2.0, 0.0], [0.0, 2.0], [-3.0, -3.0], [9.0, 9.0]], [1, 1, 0, 1])
    assert found.support == [0, 1]
    assert found.margin == pytest.approx(math.sqrt(2))


def test_logistic_regression_goes_to_the_margin_of_iris() -> None:
    """Normalised gradient descent: .945 of the optimum after 1,000 steps (Soudry et al. 2018: slowly, to 1)."""
    x, y = needs("sklearn.datasets", "test").load_iris(return_X_y=True)
    x, y = (x - x.mean(0)) / x.std(0), np.where(y == 0, 1.0, -1.0)
    best = max_margin(x, y)
    assert best.margin == pytest.approx(best.bound, rel=1e-10)
    w, signed = np.zeros(4), x * y[:, None]
    shares = []
    for step in range(1, 1001):
        p = 1 / (1 + np.exp(np.clip(signed @ w, -500, 500)))
        g = p @ signed
        w = w + g / np.linalg.norm(g) / math.sqrt(step)
        if step in (100, 1000):
            shares.append(normalized_margin(w, x, y) / best.margin)
    assert shares[0] < shares[1] < 1.0
    assert shares[1] > 0.9


def test_effective_rank() -> None:
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert effective_rank(q[:, :3] @ q[:3]) == pytest.approx(3.0)
    p = np.array([0.7, 0.2, 0.1])
    assert effective_rank(np.diag(10 * p)) == pytest.approx(math.exp(-(p * np.log(p)).sum()))


def test_scale_of_a_product() -> None:
    an.random.manual_seed(0)
    for depth in (1, 2, 3, 4):
        net = DeepMatrixFactorization(40, 30, depth=depth, scale=1e-2, dtype="float64")
        product = np.eye(30)
        for w in net.W:
            product = w.numpy() @ product
        np.testing.assert_allclose(net().numpy(), product, atol=1e-12)
        assert net().numpy().std() == pytest.approx(1e-2, rel=0.25)
    assert [tuple(w.shape) for w in DeepMatrixFactorization(4, 3, depth=3, width=2).W] == [
        (2, 3),
        (2, 2),
        (4, 2),
    ]


def test_depth_prefers_low_rank() -> None:
    """A 12×12 matrix of rank 1 from half of its entries: deeper is better at those not seen."""
    truth = np.outer(rng.normal(size=12), rng.normal(size=12))
    seen = rng.permutation(144) < 80
    seen = an.asarray(seen.reshape(12, 12).astype(float))
    target = an.asarray(truth)
    errors = []
    for depth in (1, 3):
        an.random.manual_seed(0)
        net = DeepMatrixFactorization(12, 12, depth=depth, scale=1e-3, dtype="float64")
        opt = an.optim.SGD(net.parameters(), lr=0.1 if depth == 1 else 0.01)
        for _ in range(2000):
            opt.zero_grad()
            rest = (net() - target) * seen
            (0.5 * an.sum(rest * rest)).backward()
            opt.step()
        rest = ((net() - target) * (1 - seen)).numpy()
        errors.append(math.sqrt((rest**2).sum() / 64))
    assert errors[1] < 0.1 * errors[0]
    assert effective_rank(net()) < 1.2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: max_margin([[1.0], [2.0]], [1, -1]), "not linearly separable"),
        (lambda: max_margin([[1.0], [2.0]], [1, 2]), "−1 and 1"),
        (lambda: normalized_margin([0.0], [[1.0]], [1]), "no direction"),
        (lambda: normalized_margin([1.0, 2.0], [[1.0]], [1]), r"w must be \(1,\)"),
        (lambda: minimum_norm_distance([1.0, 1.0], [[1.0, 1.0]], [0.0]), "is 0"),
        (lambda: effective_rank(np.zeros((2, 2))), "is 0"),
        (lambda: DeepMatrixFactorization(2, 2, depth=0), "depth"),
        (lambda: DeepMatrixFactorization(2, 2, scale=0.0), "scale"),
    ],
)  # fmt: skip
def test_errors(call, text) -> None:
    with pytest.raises(ValueError, match=text):
        call()
