"""Every family against PyTorch and SciPy: densities, moments, gradients, quantiles, samples, edges."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import anynet as an

D = an.distributions
CONTINUOUS = {
    "Normal": ((0.3, 1.7), [-2.0, 0.4, 9.0], ("norm", lambda a, b: (a, b))),
    "Laplace": ((0.3, 1.7), [-2.0, 0.4, 9.0], ("laplace", lambda a, b: (a, b))),
    "Cauchy": ((0.3, 1.7), [-2.0, 0.4, 9.0], ("cauchy", lambda a, b: (a, b))),
    "Gumbel": ((0.3, 1.7), [-2.0, 0.4, 9.0], ("gumbel_r", lambda a, b: (a, b))),
    "StudentT": ((3.5, 0.3, 1.7), [-2.0, 0.4, 9.0], ("t", lambda n, a, b: (n, a, b))),
    "Uniform": ((-1.0, 3.0), [-0.9, 0.4, 2.9], ("uniform", lambda a, b: (a, b - a))),
    "HalfNormal": ((1.7,), [0.1, 0.4, 5.0], ("halfnorm", lambda s: (0, s))),
    "HalfCauchy": ((1.7,), [0.1, 0.4, 5.0], ("halfcauchy", lambda s: (0, s))),
    "LogNormal": ((0.3, 0.7), [0.1, 0.4, 5.0], ("lognorm", lambda a, s: (s, 0, math.exp(a)))),
    "Exponential": ((1.7,), [0.1, 0.4, 5.0], ("expon", lambda r: (0, 1 / r))),
    "Gamma": ((2.3, 1.7), [0.1, 0.4, 5.0], ("gamma", lambda a, r: (a, 0, 1 / r))),
    "Chi2": ((2.3,), [0.1, 0.4, 5.0], ("chi2", lambda n: (n,))),
    "InverseGamma": ((4.3, 1.7), [0.1, 0.4, 5.0], ("invgamma", lambda a, r: (a, 0, r))),
    "Weibull": ((1.7, 2.3), [0.1, 0.4, 5.0], ("weibull_min", lambda s, k: (k, 0, s))),
    "Pareto": ((0.7, 3.3), [0.8, 1.4, 5.0], ("pareto", lambda s, a: (a, 0, s))),
    "Beta": ((2.3, 0.7), [0.1, 0.4, 0.95], ("beta", lambda a, b: (a, b))),
}
DISCRETE = {
    "Bernoulli": ((0.3,), [0.0, 1.0], ("bernoulli", lambda p: (p,))),
    "Binomial": ((7.0, 0.3), [0.0, 2.0, 7.0], ("binom", lambda n, p: (n, p))),
    "Geometric": ((0.3,), [0.0, 2.0, 7.0], ("geom", lambda p: (p, -1))),
    "Poisson": ((2.3,), [0.0, 2.0, 7.0], ("poisson", lambda r: (r,))),
    "NegativeBinomial": ((3.5, 0.3), [0.0, 2.0, 7.0], ("nbinom", lambda r, p: (r, 1 - p))),
}
SCALAR = {**CONTINUOUS, **DISCRETE}


def f64(x, **options):
    return an.asarray(x, dtype="float64", **options)


def make(name, **options):
    return getattr(D, name)(*(f64(p) for p in SCALAR[name][0]), **options)


def close(a, b, limit=1e-9):
    a, b = np.asarray(a.numpy() if isinstance(a, an.Tensor) else a), np.asarray(b)
    assert np.allclose(a, b, rtol=limit, atol=limit, equal_nan=True), (a, b)


def scipy_of(name):
    stats = pytest.importorskip("scipy.stats", reason="the oracle, pip install scipy")
    parameters, values, (other, order) = SCALAR[name]
    return getattr(stats, other)(*order(*parameters)), np.array(values)


@pytest.mark.parametrize("name", SCALAR)
def test_as_scipy(name):
    """Densities, distribution functions, mean, variance, entropy."""
    other, values = scipy_of(name)
    p = make(name)
    density = other.logpmf if name in DISCRETE else other.logpdf
    close(p.log_prob(f64(values.tolist())), density(values))
    close(p.cdf(f64(values.tolist())), other.cdf(values))
    assert p.log_prob(f64(values.tolist())).dtype == an.float64
    if name not in ("Cauchy", "HalfCauchy"):
        close(p.mean, other.mean())
        close(p.variance, other.var())
        close(p.stddev, other.std())
    if name not in ("Poisson", "NegativeBinomial"):
        close(p.entropy(), other.entropy())
    else:
        with pytest.raises(NotImplementedError, match="no entropy"):
            p.entropy()


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if hasattr(getattr(D, n), "icdf")])
def test_quantiles(name):
    other, _ = scipy_of(name)
    p, u = make(name), [0.01, 0.3, 0.5, 0.99]
    if getattr(D, name).icdf is D.Distribution.icdf:
        with pytest.raises(NotImplementedError, match="no icdf"):
            p.icdf(f64(u))
        return
    close(p.icdf(f64(u)), other.ppf(u))
    with pytest.raises(ValueError, match=r"value must be in \[0, 1\], got 1.5"):
        make("Normal").icdf(1.5)


@pytest.mark.parametrize("name", SCALAR)
def test_samples(name, xp_device):
    """Their distribution by the Kolmogorov-Smirnov distance; the same on every device; float32 as float64."""
    other, _ = scipy_of(name)
    parameters = SCALAR[name][0]
    host = make(name).sample((4000,), generator=an.random.Generator(3))
    p = getattr(D, name)(*(an.asarray(x, dtype="float64", device=xp_device) for x in parameters))
    there = p.sample((4000,), generator=an.random.Generator(3))
    assert there.device == an.zeros(0, device=xp_device).device
    close(an.to_device(there, "cpu"), host.numpy(), 1e-12)
    values = np.sort(host.numpy())
    steps = np.arange(1, 4001) / 4000
    if name in DISCRETE:
        at = np.unique(values)
        distance = np.abs(np.searchsorted(values, at, side="right") / 4000 - other.cdf(at)).max()
    else:
        distance = np.abs(steps - other.cdf(values)).max()
    assert distance < 0.026  # of which chance gives more once in a hundred
    assert getattr(D, name)(*parameters).sample((3,)).dtype == an.float32


def torch_of(name, parameters):
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    leaves = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in parameters]
    return torch, leaves, getattr(torch.distributions, name)(*leaves, validate_args=False)


@pytest.mark.parametrize("name", SCALAR)
def test_gradients_of_densities_as_torch(name):
    """Of the value and of each parameter, to second order by finite differences."""
    parameters, values, _ = SCALAR[name]
    torch, leaves, other = torch_of(name, parameters)
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    other.log_prob(x).sum().backward()

    def total(x, *parameters):
        return an.sum(getattr(D, name)(*parameters, validate_args=False).log_prob(x))

    inputs = [f64(values), *(f64(p) for p in parameters)]
    for k, leaf in enumerate([x, *leaves]):
        if name == "Uniform" or (name in DISCRETE and k == 0) or (name == "Binomial" and k == 1):
            continue
        close(an.grad(total, argnums=k)(*inputs), leaf.grad.numpy())
    if name not in DISCRETE:
        points = [f64(v, requires_grad=True) for v in (values, *parameters)]
        assert an.gradgradcheck(lambda *a: total(*a) * 1.0, points) or name == "Uniform"


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if n not in ("HalfCauchy",)])
def test_gradients_of_samples(name):
    """At a fixed probability a sample is the quantile: its derivative by central differences of SciPy's."""
    stats = pytest.importorskip("scipy.stats", reason="the oracle, pip install scipy")
    parameters, _, (other, order) = SCALAR[name]
    if name == "StudentT":
        return  # of two draws, so not along the quantile
    x = make(name).rsample((5,), generator=an.random.Generator(1)).numpy()
    u = getattr(stats, other)(*order(*parameters)).cdf(x)

    def drawn(*parameters):
        return an.sum(getattr(D, name)(*parameters).rsample((5,), generator=an.random.Generator(1)))

    for k, p in enumerate(parameters):
        h = 1e-5 * abs(p)
        moved = [[q + s * h if i == k else q for i, q in enumerate(parameters)] for s in (1, -1)]
        up, down = (getattr(stats, other)(*order(*m)).ppf(u) for m in moved)
        close(an.grad(drawn, argnums=k)(*map(f64, parameters)), np.sum((up - down) / (2 * h)), 1e-5)


def test_gradient_of_the_mean_of_dirichlet_samples():
    """∂E x / ∂α, which is known, from the samples' gradients; and Student's t through df."""
    a = f64([0.5, 1.5, 3.0])

    def mean(a):
        return an.mean(D.Dirichlet(a).rsample((4000,), generator=an.random.Generator(2))[:, 0])

    total = 5.0
    close(an.grad(mean)(a), [1 / total - 0.5 / total**2, -0.5 / total**2, -0.5 / total**2], 6e-3)

    def square(df):
        return an.mean(D.StudentT(df).rsample((20000,), generator=an.random.Generator(2)) ** 2)

    close(an.grad(square)(f64(9.0)), -2 / 49, 6e-3)


def test_vectors_as_torch():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    rng = np.random.default_rng(0)
    root = np.tril(rng.normal(size=(2, 3, 3))) + 3 * np.eye(3)
    mean, factor, diagonal = rng.normal(size=3), rng.normal(size=(2, 3, 1)), rng.uniform(0.5, 2.0, (2, 3))
    a = rng.uniform(0.5, 2.0, (2, 3))
    x = rng.normal(size=(4, 2, 3))
    on = rng.dirichlet([1.0, 1.0, 1.0], size=(4, 2))
    counts = rng.multinomial(5, [0.2, 0.3, 0.5], size=(4, 2)).astype(float)
    hot = np.eye(3)[rng.integers(3, size=(4, 2))]
    cases = [
        ("MultivariateNormal", {"loc": mean, "scale_tril": root}, x),
        ("MultivariateNormal", {"loc": mean, "covariance_matrix": root @ root.mT}, x),
        ("MultivariateNormal", {"loc": mean, "precision_matrix": root @ root.mT}, x),
        ("LowRankMultivariateNormal", {"loc": mean, "cov_factor": factor, "cov_diag": diagonal}, x),
        ("Dirichlet", {"concentration": a}, on),
        ("Multinomial", {"total_count": 5, "probs": a}, counts),
        ("Multinomial", {"total_count": 5, "logits": a}, counts),
        ("OneHotCategorical", {"logits": a}, hot),
        ("Categorical", {"probs": a}, np.argmax(hot, axis=-1)),
        ("Categorical", {"logits": a}, np.argmax(hot, axis=-1)),
    ]
    for name, parameters, value in cases:
        own = {k: v if isinstance(v, int) else f64(v.tolist()) for k, v in parameters.items()}
        leaves = {
            k: v if isinstance(v, int) else torch.tensor(v, requires_grad=True) for k, v in parameters.items()
        }
        p, q = getattr(D, name)(**own), getattr(torch.distributions, name)(**leaves)
        assert (p.batch_shape, p.event_shape) == (tuple(q.batch_shape), tuple(q.event_shape))
        close(p.log_prob(f64(value.tolist())), q.log_prob(torch.tensor(value)).detach())
        for what in ("mean", "variance", "mode", "covariance_matrix", "precision_matrix"):
            if (name, what) != ("Multinomial", "mode") and hasattr(q, what):
                close(getattr(p, what), getattr(q, what).detach())
        close(
            p.entropy(), q.entropy().detach(), 1e-7 if name == "Multinomial" else 1e-9
        )  # torch counts in float32
        q.log_prob(torch.tensor(value)).sum().backward()
        for k, leaf in leaves.items():
            if not isinstance(leaf, int):
                total = lambda v, k=k, own=own, name=name, value=value: an.sum(  # noqa: E731
                    getattr(D, name)(**{**own, k: v}).log_prob(f64(value.tolist()))
                )
                got, expected = an.grad(total)(own[k]).numpy(), leaf.grad.numpy()
                if "matrix" in k:  # the gradient of a symmetric matrix is given symmetrically, or not
                    got, expected = got + got.mT, expected + expected.mT
                close(got, expected)
        draws = p.sample((3000,), generator=an.random.Generator(4))
        assert draws.shape == (3000, *p.batch_shape, *p.event_shape)
        if name != "Categorical":
            close(an.mean(draws, axis=0), p.mean.numpy(), 0.15)
            close(an.var(draws, axis=0), p.variance.numpy(), 1.2)


@pytest.mark.parametrize("name", [*SCALAR, "Dirichlet", "Categorical", "MultivariateNormal"])
def test_shapes_and_expand(name):
    if name in SCALAR:
        p = make(name)
    elif name == "MultivariateNormal":
        p = D.MultivariateNormal(an.zeros(3), an.eye(3))
    else:
        p = getattr(D, name)(an.ones(3))
    wide = p.expand((4, 2))
    assert (wide.batch_shape, wide.event_shape) == ((4, 2), p.event_shape)
    x = wide.sample((5,))
    assert x.shape == (5, 4, 2, *p.event_shape)
    assert wide.log_prob(x).shape == (5, 4, 2)
    assert type(wide) is type(p)
    with pytest.raises(ValueError, match="does not broadcast"):
        wide.expand((3,))


def test_refusals():
    for call, text in (
        (lambda: D.Normal(0.0, -1.0), "Normal: scale must be greater than 0, got -1.0"),
        (lambda: D.Normal(float("nan"), 1.0), "loc must be a real number, got nan"),
        (lambda: D.Normal(an.zeros(2), an.ones(3)), r"must broadcast, got loc \(2,\), scale \(3,\)"),
        (lambda: D.Uniform(1.0, 0.0), "high - low must be greater than 0"),
        (lambda: D.Uniform(0.0, 1.0).log_prob(2.0), "value must be in"),
        (lambda: D.Gamma(1.0, 1.0).log_prob(-1.0), "value must be at least 0, got -1.0"),
        (lambda: D.Bernoulli(0.2).log_prob(0.5), "value must be 0 or 1, got 0.5"),
        (lambda: D.Bernoulli(), "exactly one of probs, logits must be given, got none"),
        (lambda: D.Bernoulli(0.5, 0.5), "got probs, logits"),
        (lambda: D.Categorical([0.5, -0.5]), "probs must be"),
        (lambda: D.Categorical([0.0, 0.0]), "sum of probs must be greater than 0"),
        (lambda: D.Categorical([0.5, 0.5]).log_prob(2), r"value must be an integer in \[0, 1\], got 2"),
        (lambda: D.Dirichlet([1.0, 1.0]).log_prob([0.5, 0.6]), "sum to 1"),
        (
            lambda: D.MultivariateNormal(an.zeros(2), an.asarray([[1.0, 2.0], [2.0, 1.0]])),
            "positive definite",
        ),
        (lambda: D.MultivariateNormal(an.zeros(2), an.eye(3)), r"must be \(…, d, d\)"),
        (lambda: D.Normal(an.zeros(3), 1.0).log_prob(an.zeros(2)), "does not broadcast with batch_shape"),
        (lambda: D.Multinomial(2.5, [0.5, 0.5]), "total_count must be one integer"),
        (lambda: D.Multinomial(2, [0.5, 0.5]).log_prob([1.0, 2.0]), "sum to 2"),
        (lambda: D.Independent(D.Normal(0.0, 1.0), 1), "reinterpreted_batch_ndims must be in"),
        (lambda: D.Binomial(2.5, 0.5), "total_count must be an integer"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match="loc must be a number or an array, got 'a'"):
        D.Normal("a", 1.0)
    with pytest.raises(NotImplementedError, match="use sample"):
        D.Poisson(1.0).rsample()


def test_without_validation_outside_has_no_probability():
    inf = math.inf
    assert D.Uniform(0.0, 1.0, validate_args=False).log_prob([-1.0, 2.0]).tolist() == [-inf, -inf]
    assert D.Exponential(1.0, validate_args=False).log_prob(-1.0).tolist() == -inf
    assert D.HalfNormal(1.0, validate_args=False).log_prob(-1.0).tolist() == -inf
    D.Distribution.set_default_validate_args(False)
    try:
        D.Normal(0.0, -1.0)
    finally:
        D.Distribution.set_default_validate_args(True)


def test_edges_of_supports():
    inf = math.inf
    assert D.Gamma(1.0, 2.0).log_prob(0.0).tolist() == pytest.approx(math.log(2.0))
    assert D.Beta(1.0, 1.0).log_prob([0.0, 1.0]).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert D.Beta(2.0, 0.5).log_prob([0.0]).tolist() == [-inf]
    assert D.Binomial(3, 0.0).log_prob([0.0, 1.0]).tolist() == [0.0, -inf]
    assert D.Poisson(0.0).log_prob([0.0, 1.0]).tolist() == [0.0, -inf]
    assert D.Geometric(1.0).log_prob([0.0]).tolist() == [0.0]
    assert D.Bernoulli([0.0, 1.0]).sample().tolist() == [0.0, 1.0]
    assert D.Normal(0.0, 1.0).icdf([0.0, 1.0]).tolist() == [-inf, inf]
    assert D.Categorical([0.0, 1.0]).entropy().tolist() == 0.0
    small = D.Gamma(f64(1e-4), 1.0).rsample((100,), generator=an.random.Generator(0))
    assert bool(an.all(small > 0.0))
    tiny = D.Dirichlet(an.asarray([1e-3, 1e-3])).rsample((50,), generator=an.random.Generator(0))
    assert bool(an.all(an.isfinite(an.log(tiny))))


def test_enumerated_supports():
    assert D.Bernoulli(probs=[0.5, 0.5]).enumerate_support().tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert D.Bernoulli(probs=[0.5, 0.5]).enumerate_support(expand=False).tolist() == [[0.0], [1.0]]
    assert D.Categorical(an.ones(3)).enumerate_support().tolist() == [0, 1, 2]
    assert D.Binomial(2, 0.5).enumerate_support().tolist() == [0.0, 1.0, 2.0]
    assert D.OneHotCategorical(an.ones(2)).enumerate_support().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(NotImplementedError, match="same for the whole batch"):
        D.Binomial(an.asarray([1.0, 2.0]), 0.5).enumerate_support()


def test_repr_and_pickles():
    p = D.Bernoulli(logits=an.zeros(3))
    assert repr(p) == "Bernoulli(logits: (3,))"
    assert repr(D.Normal(0.0, 2.0)) == "Normal(loc: Tensor(0.), scale: Tensor(2.))"
    assert pickle.loads(pickle.dumps(p)).log_prob(1.0).tolist() == p.log_prob(1.0).tolist()


def test_von_mises_as_torch():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    k, x = [0.05, 1.0, 4.0, 300.0], [-3.0, 0.1, 2.0, 0.2]
    p, q = (
        D.VonMises(f64(0.3), f64(k)),
        torch.distributions.VonMises(torch.tensor(0.3), torch.tensor(k).double()),
    )
    close(
        p.log_prob(f64(x)), q.log_prob(torch.tensor(x).double()), 2e-6
    )  # torch's Bessel functions have 7 digits
    close(p.variance, q.variance, 2e-6)
    drawn = p.sample((4000,), generator=an.random.Generator(0))
    close(1.0 - an.mean(an.cos(drawn - 0.3), axis=0), p.variance.numpy(), 0.03)


def test_in_compiled_functions_and_vmap():
    """Densities compile, with their checks; samples are drawn outside."""
    step = an.compile(lambda mean, x: an.sum(D.Normal(mean, 1.0).log_prob(x)))
    for shift in (0.0, 1.0, 2.0):
        assert float(step(an.asarray([shift]), an.asarray([0.5]))) == pytest.approx(
            -0.5 * (shift - 0.5) ** 2 - 0.9189385
        )
    gamma = an.compile(lambda x: D.Gamma(2.0, 1.0).log_prob(x))
    gamma(an.asarray([1.0]))
    gamma(an.asarray([2.0]))
    with pytest.raises(ValueError, match="value must be at least 0"):
        gamma(an.asarray([-1.0]))
    rows = an.vmap(lambda m: D.Normal(m, 1.0).log_prob(m))(an.asarray([1.0, 2.0]))
    close(rows, [-0.9189385] * 2, 1e-6)
