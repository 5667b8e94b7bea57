"""Densities, entropies and samples of large concentrations in float32: large terms cancel, and the digits of what is left are right."""

import numpy as np
import pytest

import anynet as an
from anynet import distributions as D
from anynet.ops import incomplete

LARGE = [1e3, 1e4, 1e6, 1e8]
CLOSE = {"rtol": 5e-7, "atol": 5e-7}  # a few units in the last place


@pytest.fixture
def stats():
    return pytest.importorskip("scipy.stats", reason="the oracle, pip install scipy")


@pytest.fixture
def special():
    return pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")


def narrow(x):
    return np.asarray(x, dtype=np.float32)


def families(stats, a):
    """Of each a distribution of ours and of SciPy's, with values that it would draw, which float32 has."""
    rng = np.random.default_rng(3)
    a = float(np.float32(a))
    z = rng.standard_normal(9)
    gamma = narrow(rng.gamma(a, 0.5, 9)), stats.gamma(a, scale=0.5)
    return {
        "Gamma": (D.Gamma(narrow(a), narrow(2.0)), *gamma),
        "InverseGamma": (
            D.InverseGamma(narrow(a), narrow(2.0)),
            narrow(1.0 / gamma[0]),
            stats.invgamma(a, scale=2.0),
        ),
        "Beta": (D.Beta(narrow(a), narrow(2 * a)), narrow(rng.beta(a, 2 * a, 9)), stats.beta(a, 2 * a)),
        "Beta of which one is small": (
            D.Beta(narrow(3.5), narrow(a)),
            narrow(rng.beta(3.5, a, 9)),
            stats.beta(3.5, a),
        ),
        "StudentT": (D.StudentT(narrow(a)), narrow(z), stats.t(a)),
        "VonMises": (D.VonMises(narrow(0.0), narrow(a)), narrow(z / a**0.5), stats.vonmises(a)),
    }


@pytest.mark.parametrize("a", LARGE)
def test_densities(stats, a):
    for name, (ours, x, other) in families(stats, a).items():
        got = ours.log_prob(an.asarray(x)).numpy()
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, other.logpdf(x.astype(np.float64)), err_msg=name, **CLOSE)


@pytest.mark.parametrize("a", LARGE)
def test_entropies(stats, a):
    for name, (ours, _, other) in families(stats, a).items():
        np.testing.assert_allclose(ours.entropy().numpy(), other.entropy(), err_msg=name, **CLOSE)


@pytest.mark.parametrize("a", LARGE)
def test_dirichlet(special, a):
    wide = np.asarray([a, 2 * a, 3.5], dtype=np.float32).astype(np.float64)
    x = narrow(np.random.default_rng(1).dirichlet(wide, 9))
    ours, total = D.Dirichlet(narrow(wide)), wide.sum()
    norm = special.gammaln(total) - special.gammaln(wide).sum()
    expected = ((wide - 1) * np.log(x.astype(np.float64))).sum(axis=1) + norm
    np.testing.assert_allclose(ours.log_prob(an.asarray(x)).numpy(), expected, **CLOSE)
    entropy = -norm + (total - 3) * special.digamma(total) - ((wide - 1) * special.digamma(wide)).sum()
    np.testing.assert_allclose(ours.entropy().numpy(), entropy, **CLOSE)


@pytest.mark.parametrize("a", LARGE)
def test_divergences(a):
    """Of distributions that are a standard deviation apart: beside float64, and 0 of a distribution to itself."""
    b = a + a**0.5
    pairs = [(D.Gamma, (a, 2.0), (b, 2.0)), (D.Gamma, (a, 2.0), (a, 2.01)), (D.Beta, (a, 2 * a), (b, 2 * a)),
             (D.Beta, (3.5, a), (4.5, a)), (D.Dirichlet, ([a, 2 * a, 3.5],), ([b, 2 * a, 4.0],))]  # fmt: skip
    for kind, p, q in pairs:
        p, q = ([narrow(x) for x in one] for one in (p, q))
        wide = D.kl_divergence(*(kind(*(x.astype(np.float64) for x in one)) for one in (p, q))).numpy()
        np.testing.assert_allclose(D.kl_divergence(kind(*p), kind(*q)).numpy(), wide, rtol=2e-6, atol=2e-6)
        assert D.kl_divergence(kind(*p), kind(*p)).item() == 0.0


@pytest.mark.parametrize("a", LARGE)
def test_how_samples_move_with_the_concentration(a):
    rng = np.random.default_rng(4)
    x = narrow(rng.gamma(a, 1.0, 9))
    one, other = (incomplete.gamma_ratio(an.asarray(np.full(9, a, t)), an.asarray(x.astype(t)), n=1)
                  for t in (np.float32, np.float64))  # fmt: skip
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)
    for b in (a, 3.5):
        x = narrow(rng.beta(b, a, 9))
        given = [
            [an.asarray(v.astype(t)) for v in (np.full(9, b), np.full(9, a), x)]
            for t in (np.float32, np.float64)
        ]
        for order in ({"n": 1, "m": 0}, {"n": 0, "m": 1}):
            one, other = (incomplete.beta_ratio(*values, **order) for values in given)
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_samples_take_all_numbers_that_there_are():
    """The logarithm of a gamma draw of 1e8 has few numbers within its standard deviation; the sample has many."""
    generator = an.random.Generator(5)
    x = D.Beta(narrow(1e8), narrow(1e8)).rsample((1000,), generator=generator).numpy()
    y = D.Dirichlet(narrow([1e8, 1e8])).rsample((1000,), generator=generator).numpy()[:, 0]
    assert x.dtype == y.dtype == np.float32
    for drawn in (x, y):
        assert len(np.unique(drawn)) > 500
        np.testing.assert_allclose(np.std(drawn.astype(np.float64)), (1 / 8e8) ** 0.5, rtol=0.1)
