"""Kullback-Leibler divergences against PyTorch's: every pair of families that has a rule there."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import anynet as an

D = an.distributions
PAIRS = {
    "Normal": [{"loc": 0.3, "scale": 1.7}, {"loc": -0.4, "scale": 0.8}],
    "Laplace": [{"loc": 0.3, "scale": 1.7}, {"loc": -0.4, "scale": 0.8}],
    "Cauchy": [{"loc": 0.3, "scale": 1.7}, {"loc": -0.4, "scale": 0.8}],
    "Gumbel": [{"loc": 0.3, "scale": 1.7}, {"loc": -0.4, "scale": 0.8}],
    "Uniform": [{"low": 0.2, "high": 0.7}, {"low": -0.5, "high": 1.5}],
    "HalfNormal": [{"scale": 1.7}, {"scale": 0.8}],
    "Exponential": [{"rate": 1.7}, {"rate": 0.8}],
    "Gamma": [{"concentration": 1.7, "rate": 2.3}, {"concentration": 0.8, "rate": 0.4}],
    "Pareto": [{"scale": 0.7, "alpha": 3.3}, {"scale": 0.1, "alpha": 2.5}],
    "Beta": [{"concentration1": 1.7, "concentration0": 2.3}, {"concentration1": 0.8, "concentration0": 0.4}],
    "Dirichlet": [{"concentration": [0.5, 1.5]}, {"concentration": [2.0, 0.3]}],
    "Bernoulli": [{"probs": 0.3}, {"probs": 0.6}],
    "Binomial": [{"total_count": 3.0, "probs": 0.3}, {"total_count": 3.0, "probs": 0.6}],
    "Geometric": [{"probs": 0.3}, {"probs": 0.6}],
    "Poisson": [{"rate": 1.7}, {"rate": 0.8}],
    "Categorical": [{"probs": [0.3, 0.7]}, {"logits": [0.3, 0.1]}],
    "OneHotCategorical": [{"probs": [0.3, 0.7]}, {"logits": [0.3, 0.1]}],
    "MultivariateNormal": [
        {"loc": [0.1, 0.2], "scale_tril": [[1.0, 0.0], [0.5, 2.0]]},
        {"loc": [0.0, 1.0], "covariance_matrix": [[2.0, 0.3], [0.3, 1.0]]},
    ],
    "LowRankMultivariateNormal": [
        {"loc": [0.1, 0.2], "cov_factor": [[1.0], [0.5]], "cov_diag": [0.5, 0.7]},
        {"loc": [0.0, 1.0], "cov_factor": [[0.4], [-0.5]], "cov_diag": [1.0, 0.7]},
    ],
    "LogNormal": [{"loc": 0.3, "scale": 1.7}, {"loc": -0.4, "scale": 0.8}],
}


def make(library, number, name, k):
    return getattr(library, name)(**{n: number(v) for n, v in PAIRS[name][k].items()})


def own(name, k):
    return make(D, lambda v: an.asarray(v, dtype="float64"), name, k)


def test_all_pairs_as_torch():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    seen = 0
    for a, b in itertools.product(PAIRS, PAIRS):
        p, q = (
            make(torch.distributions, lambda v: torch.tensor(v, dtype=torch.float64), n, k)
            for k, n in enumerate((a, b))
        )
        if a == b == "LogNormal":  # the transforms of PyTorch's are compared by identity of caches
            expected = torch.distributions.kl_divergence(p.base_dist, q.base_dist)
        else:
            try:
                expected = torch.distributions.kl_divergence(p, q)
            except NotImplementedError:
                with pytest.raises(NotImplementedError):
                    D.kl_divergence(own(a, 0), own(b, 1))
                continue
        got = D.kl_divergence(own(a, 0), own(b, 1))
        assert got.dtype == an.float64
        assert np.allclose(got.numpy(), expected.numpy(), rtol=1e-6), (a, b, got, expected)
        seen += 1
    assert seen > 60


def test_where_q_does_not_reach():
    inf = math.inf
    assert D.kl_divergence(D.Uniform(0.0, 2.0), D.Uniform(0.0, 1.0)).tolist() == inf
    assert D.kl_divergence(D.Bernoulli(0.5), D.Bernoulli(0.0)).tolist() == inf
    assert D.kl_divergence(D.Bernoulli(0.0), D.Bernoulli(0.5)).tolist() == pytest.approx(math.log(2.0))
    assert D.kl_divergence(D.Categorical([0.5, 0.5]), D.Categorical([1.0, 0.0])).tolist() == inf
    assert D.kl_divergence(D.Categorical([1.0, 0.0]), D.Categorical([1.0, 0.0])).tolist() == pytest.approx(
        0, abs=1e-6
    )
    assert D.kl_divergence(D.Normal(an.zeros(2), 1.0), D.Gamma(1.0, 1.0)).tolist() == [inf, inf]
    assert D.kl_divergence(D.Poisson(0.0), D.Poisson(2.0)).tolist() == 2.0


def test_gradients_and_independent():
    p = an.asarray([0.5, 1.5], dtype="float64", requires_grad=True)
    q = an.asarray([0.7, 0.3], dtype="float64", requires_grad=True)
    for name in ("Gamma", "Beta", "Laplace"):
        family = getattr(D, name)
        assert an.gradgradcheck(lambda a, b, f=family: D.kl_divergence(f(a, b), f(1.0, b + 0.5)), (p, q))
    one = D.kl_divergence(D.Independent(D.Normal(p, 1.0), 1), D.Independent(D.Normal(0.0 * p, 1.0), 1))
    assert float(one) == pytest.approx(0.5 * (0.25 + 2.25))


def test_registered_rules_are_those_of_the_nearest_class():
    class Child(D.Normal):
        pass

    assert D.kl_divergence(Child(0.0, 1.0), D.Normal(0.0, 1.0)).tolist() == 0.0
    with pytest.raises(TypeError, match="must be distributions"):
        D.register_kl(int, D.Normal)
    with pytest.raises(NotImplementedError, match="no rule for StudentT and Normal"):
        D.kl_divergence(D.StudentT(2.0), D.Normal(0.0, 1.0))
