"""Maximum likelihood against exact solutions, and heads trained to them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an

M, D = an.methods, an.distributions


def f64(x):
    return an.asarray(np.asarray(x).tolist(), dtype="float64")


def diabetes():
    sets = pytest.importorskip("sklearn.datasets", reason="the data set, pip install scikit-learn")
    X, y = sets.load_diabetes(return_X_y=True)
    return X, y


def irises():
    found = an.data.load("iris")
    names = list(found)
    kinds = found[names[-1]]
    first = sorted(set(kinds))[0]
    keep = [i for i, k in enumerate(kinds) if k != first]
    X = np.array([[found[n][i] for n in names[:-1]] for i in keep])
    return X, np.array([kinds[i] == sorted(set(kinds))[2] for i in keep], dtype=float)


def test_least_squares_on_diabetes():
    """R² .517748 and ln L −2385.9929; standard errors of the coefficients σ² (XᵀX)⁻¹."""
    X, y = diabetes()
    X = np.hstack([X, np.ones((len(y), 1))])
    A, t = f64(X), f64(y)
    start = {"w": f64(np.zeros(11)), "log_sd": f64(4.0)}
    found = M.maximum_likelihood(lambda p: D.Normal(A @ p["w"], an.exp(p["log_sd"])).log_prob(t), start)
    exact = np.linalg.lstsq(X, y, rcond=None)[0]
    assert np.allclose(found.params["w"].numpy(), exact, rtol=1e-6)
    off = y - X @ found.params["w"].numpy()
    assert 1 - np.sum(off**2) / np.sum((y - y.mean()) ** 2) == pytest.approx(0.517748, abs=1e-6)
    assert found.log_likelihood == pytest.approx(-2385.9929, abs=1e-4)
    assert found.aic == pytest.approx(2 * 12 + 2 * 2385.9929, abs=1e-3)
    assert found.bic == pytest.approx(12 * math.log(442) + 2 * 2385.9929, abs=1e-3)
    variance = np.mean(off**2)
    errors = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * variance)
    assert np.allclose(found.standard_errors["w"].numpy(), errors, rtol=1e-5)
    assert float(found.standard_errors["log_sd"]) == pytest.approx(1 / math.sqrt(2 * 442), rel=1e-5)


def test_logistic_regression_on_irises():
    X, t = irises()
    A, y = f64(np.hstack([X, np.ones((100, 1))])), f64(t)
    found = M.maximum_likelihood(lambda w: D.Bernoulli(logits=A @ w).log_prob(y), f64(np.zeros(5)))
    assert -found.log_likelihood == pytest.approx(5.949273, abs=1e-6)
    assert np.allclose(found.params.numpy(), [-2.4652, -6.6809, 9.4294, 18.2861, -42.6378], atol=1e-4)


def test_separable_classes_have_no_maximum():
    x, y = f64([[-1.0], [1.0]]), f64([0.0, 1.0])
    with pytest.raises(RuntimeError, match="may have no maximum"):
        M.maximum_likelihood(
            lambda w: D.Bernoulli(logits=an.sum(x * w, axis=1)).log_prob(y), f64([0.0]), max_steps=8
        )


def test_information():
    """Observed and empirical agree in expectation: for a Poisson rate both are n / rate."""
    y = D.Poisson(f64(3.0)).sample((4000,), generator=an.random.Generator(0))
    mean = an.mean(y)
    terms = lambda r: D.Poisson(r).log_prob(y)  # noqa: E731
    observed = M.fisher_information(terms, mean)
    assert float(observed[0, 0]) == pytest.approx(4000 / float(mean), rel=1e-9)
    assert float(M.fisher_information(terms, mean, "empirical")[0, 0]) == pytest.approx(4000 / 3, rel=0.06)
    with pytest.raises(ValueError, match="kind must be"):
        M.fisher_information(terms, mean, "exact")
    with pytest.raises(ValueError, match="must return ln p of each sample"):
        M.fisher_information(lambda r: an.sum(terms(r)), mean)
    with pytest.raises(ValueError, match="must be positive definite"):
        M.standard_errors(an.asarray([[1.0, 1.0], [1.0, 1.0]]))


@pytest.mark.parametrize("name", ["Gaussian", "Laplace", "Poisson", "Categorical", "MixtureDensity"])
def test_heads_learn_what_made_the_data(name, xp_device):
    """Of y that does not depend on x every head finds the parameters that maximise the likelihood."""
    an.random.manual_seed(0)
    n = 64
    x = an.zeros((n, 2), device=xp_device)
    values = {
        "Gaussian": [1.0, 3.0], "Laplace": [1.0, 3.0], "Poisson": [1.0, 3.0], "Categorical": [0, 2], "MixtureDensity": [-2.0, 2.0],
    }[name]  # fmt: skip
    y = an.asarray([values[i % 2] for i in range(n)], device=xp_device)
    head = M.CategoricalHead(2, 3) if name == "Categorical" else getattr(M, f"{name}Head")(2)
    if name == "MixtureDensity":
        head = M.MixtureDensityHead(2, components=2, least=0.1)
    head = head.to(xp_device)
    target = y if name == "Categorical" else an.reshape(y, (n, 1))
    optimizer = an.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(120):
        value = M.negative_log_likelihood(head(x), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    p = head(x)
    if name == "Gaussian":
        assert float(p.mean[0, 0]) == pytest.approx(2.0, abs=0.05)
        assert float(p.base_dist.scale[0, 0]) == pytest.approx(1.0, abs=0.05)
    elif name == "Laplace":
        assert float(p.base_dist.scale[0, 0]) == pytest.approx(1.0, abs=0.1)
    elif name == "Poisson":
        assert float(an.reshape(p.mean, (-1,))[0]) == pytest.approx(2.0, abs=0.05)
    elif name == "Categorical":
        assert np.allclose(an.to_device(p.probs[0, :], "cpu").numpy(), [0.5, 0.0, 0.5], atol=0.03)
    else:
        assert abs(float(p.mean[0, 0])) < 0.2
        assert float(p.variance[0, 0]) == pytest.approx(4.0, abs=0.4)
    assert p.log_prob(target).shape == (n,)


def test_fit_takes_a_head():
    an.random.manual_seed(0)
    x = an.random.normal((64, 1))
    net = M.GaussianHead(1, shared=True)
    an.fit(
        net,
        (x, 2.0 * x + 1.0),
        loss=M.negative_log_likelihood,
        optimizer="adam",
        lr=0.1,
        epochs=40,
        progress=False,
    )
    assert float(net.linear.weight[0, 0]) == pytest.approx(2.0, abs=0.2)
