"""Ends of supports, values outside of them, small probabilities and extreme parameters, against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an

D = an.distributions
INF = math.inf
# parameters, SciPy's name and parameters, values outside of the support with the distribution function there
OUTSIDE = {
    "Exponential": ((1.7,), ("expon", (0, 1 / 1.7)), {-1.0: 0.0}),
    "Gamma": ((2.3, 1.7), ("gamma", (2.3, 0, 1 / 1.7)), {-1.0: 0.0}),
    "Chi2": ((2.3,), ("chi2", (2.3,)), {-1.0: 0.0}),
    "InverseGamma": ((4.3, 1.7), ("invgamma", (4.3, 0, 1.7)), {-1.0: 0.0, 0.0: 0.0}),
    "Weibull": ((1.7, 0.3), ("weibull_min", (0.3, 0, 1.7)), {-1.0: 0.0}),
    "Pareto": ((0.7, 3.3), ("pareto", (3.3, 0, 0.7)), {-1.0: 0.0, 0.0: 0.0, 0.5: 0.0}),
    "Beta": ((2.3, 0.7), ("beta", (2.3, 0.7)), {-1.0: 0.0, 1.5: 1.0}),
    "HalfNormal": ((1.7,), ("halfnorm", (0, 1.7)), {-1.0: 0.0}),
    "HalfCauchy": ((1.7,), ("halfcauchy", (0, 1.7)), {-1.0: 0.0}),
    "LogNormal": ((0.3, 0.7), ("lognorm", (0.7, 0, math.exp(0.3))), {-1.0: 0.0, 0.0: 0.0}),
    "Uniform": ((-1.0, 3.0), ("uniform", (-1.0, 4.0)), {-2.0: 0.0, 4.0: 1.0}),
    "Bernoulli": ((0.3,), ("bernoulli", (0.3,)), {-1.0: 0.0, 0.5: 0.7, 2.0: 1.0}),
    "Binomial": ((7.0, 0.3), ("binom", (7, 0.3)), {-1.0: 0.0, 2.5: None, 8.0: 1.0}),
    "Geometric": ((0.3,), ("geom", (0.3, -1)), {-1.0: 0.0, 2.5: None}),
    "Poisson": ((2.3,), ("poisson", (2.3,)), {-1.0: 0.0, 2.5: None}),
    "NegativeBinomial": ((3.5, 0.3), ("nbinom", (3.5, 0.7)), {-1.0: 0.0, 2.5: None}),
}  # fmt: skip


def f64(x, **options):
    return an.asarray(x, dtype="float64", **options)


def scipy_of(name, parameters):
    stats = pytest.importorskip("scipy.stats", reason="the oracle, pip install scipy")
    return getattr(stats, name)(*parameters)


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_of_the_support(name):
    """No probability, and a gradient without NaN; with `validate_args` such values are refused."""
    parameters, other, outside = OUTSIDE[name]
    other = scipy_of(*other)
    leaves = [f64(p, requires_grad=True) for p in parameters]
    p = getattr(D, name)(*leaves, validate_args=False)
    inner = float(other.ppf(0.4))
    x = f64([*outside, inner], requires_grad=True)
    logs = p.log_prob(x)
    *none, some = logs.tolist()
    assert none == [-INF] * len(outside)
    inside = other.logpmf(inner) if hasattr(other.dist, "_pmf") else other.logpdf(inner)
    assert some == pytest.approx(inside, rel=1e-9)
    for value, expected in outside.items():
        got = float(p.cdf(value))
        assert got == pytest.approx(float(other.cdf(value)) if expected is None else expected, abs=1e-12)
    assert an.vmap(p.log_prob)(an.stack([x, x])).tolist() == [logs.tolist()] * 2
    an.sum(logs[-1]).backward()
    assert all(np.isfinite(v.grad.numpy()).all() for v in (x, *leaves) if v.grad is not None)
    for value in outside:
        with pytest.raises(ValueError, match="value must be"):
            getattr(D, name)(*parameters).log_prob(value)


QUANTILES = {
    "Exponential": ((1.7,), lambda u: -np.log1p(-u) / 1.7),
    "Weibull": ((1.7, 0.8), lambda u: 1.7 * (-np.log1p(-u)) ** 1.25),
    "Pareto": ((0.7, 3.3), lambda u: 0.7 * np.exp(-np.log1p(-u) / 3.3)),
    "HalfNormal": ((1.7,), lambda u: 1.7 * math.sqrt(2) * special().erfinv(u)),
    "HalfCauchy": ((1.7,), lambda u: 1.7 * np.tan(0.5 * math.pi * u)),
    "Cauchy": ((0.0, 1.7), lambda u: -1.7 / np.tan(math.pi * u)),
}


def special():
    return pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")


@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles_near_the_ends(name):
    """Relative to their size, in float32 too; at 0 and 1 the ends of the support."""
    parameters, expected = QUANTILES[name]
    for dtype, limit in (("float64", 1e-12), ("float32", 3e-6)):
        p = getattr(D, name)(*(an.asarray(v, dtype=dtype) for v in parameters))
        at = np.asarray([1e-12, 1e-7, 1e-3, 0.3, 0.5, 0.7, 0.9], dtype=dtype)
        got = p.icdf(at).numpy()
        assert got.dtype == dtype
        rounding = 1e-15 if name == "Cauchy" else 0.0  # of the tangent at its middle
        np.testing.assert_allclose(got, expected(at.astype("float64")), rtol=limit, atol=rounding)
        if name != "Pareto":  # whose values near its scale hold no small probability
            np.testing.assert_allclose(p.cdf(got).numpy(), at, rtol=10 * limit)
        low, high = p.icdf(an.asarray([0.0, 1.0], dtype=dtype)).tolist()
        assert low == {"Cauchy": -INF, "Pareto": pytest.approx(0.7)}.get(name, 0.0)
        assert high == INF


def test_small_probabilities():
    """Not those of the nearest number above 0, as in PyTorch."""
    for dtype in ("float32", "float64"):
        p = an.asarray([1e-10, 0.0, 1.0], dtype=dtype)
        ln = math.log(float(p[0]))
        assert D.Bernoulli(p).log_prob(1.0).tolist() == pytest.approx([ln, -INF, 0.0], rel=1e-6)
        assert D.Bernoulli(p).entropy().tolist() == pytest.approx([1e-10 * (1 - ln), 0.0, 0.0], rel=1e-6)
        g = D.Geometric(p[::2])
        assert g.entropy().tolist() == pytest.approx([1 - ln, 0.0], rel=1e-6)
        c = D.Categorical(an.stack([p[0], 1 - p[0], p[1]]))
        assert c.log_prob([0, 2]).tolist() == pytest.approx([ln, -INF], rel=1e-6)
        assert D.OneHotCategorical(c.probs).log_prob([1.0, 0.0, 0.0]).tolist() == pytest.approx(ln, rel=1e-6)
        counts = D.Multinomial(2, c.probs).log_prob([[2.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
        assert counts.tolist() == pytest.approx([2 * ln, -INF], rel=1e-6)
        weights = an.asarray([1.0, 0.0], dtype=dtype)
        parts = D.Uniform(an.asarray([0.0, 1.0], dtype=dtype), 2.0, validate_args=False)
        mixed = D.MixtureSameFamily(D.Categorical(weights), parts)
        assert mixed.log_prob([0.5, 1.5]).tolist() == pytest.approx([-math.log(2.0)] * 2, rel=1e-6)
        assert mixed.log_prob(3.0).tolist() == -INF


def test_gradients_at_probabilities_that_are_0():
    p = f64([0.0, 0.25], requires_grad=True)
    an.sum(D.Bernoulli(p).log_prob([0.0, 1.0])).backward()
    assert p.grad.tolist() == [-1.0, 4.0]
    q = f64([0.0, 0.25, 0.75], requires_grad=True)
    D.Categorical(q).log_prob(1).backward()
    assert np.isfinite(q.grad.numpy()).all()
    np.testing.assert_allclose(q.grad.numpy(), [-1.0, 3.0, -1.0])
