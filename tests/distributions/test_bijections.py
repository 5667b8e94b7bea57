"""Transforms against PyTorch's, and what is made of them: transformed, independent and mixed distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an

D = an.distributions


def f64(x):
    return an.asarray(x, dtype="float64")


CASES = {
    "ExpTransform": ((), [-1.0, 0.3]),
    "PowerTransform": ((2.5,), [0.4, 1.3]),
    "SigmoidTransform": ((), [-1.0, 9.0]),
    "TanhTransform": ((), [-1.0, 0.3]),
    "SoftplusTransform": ((), [-1.0, 30.0]),
    "AffineTransform": ((0.3, -1.7), [-1.0, 0.3]),
    "StickBreakingTransform": ((), [-1.0, 0.3, 0.7]),
    "LowerCholeskyTransform": ((), [[0.3, 0.0], [0.5, -0.2]]),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torch(name):
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    arguments, x = CASES[name]
    t, u = getattr(D, name)(*arguments), getattr(torch.distributions, name)(*arguments)
    y, z = t(f64(x)), u(torch.tensor(x, dtype=torch.float64))
    assert np.allclose(y.numpy(), z, rtol=1e-12)
    assert np.allclose(t.inv(y).numpy(), x, rtol=1e-6)
    if name != "LowerCholeskyTransform":  # PyTorch has none of it
        expected = u.log_abs_det_jacobian(torch.tensor(x, dtype=torch.float64), z)
        assert np.allclose(t.log_abs_det_jacobian(f64(x), y).numpy(), expected, rtol=1e-9)
        assert np.allclose(t.inv.log_abs_det_jacobian(y, f64(x)).numpy(), -expected, rtol=1e-9)
    assert t.domain.event_dim == u.domain.event_dim
    assert t == getattr(D, name)(*arguments)
    assert t.forward_shape(np.shape(x)) == tuple(z.shape)


def test_composed_independent_reshaped():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    T = torch.distributions
    x = [[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]]
    for make in (
        lambda d: d.ComposeTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)]),
        lambda d: d.ComposeTransform([d.AffineTransform(1.0, 2.0), d.StickBreakingTransform()]),
        lambda d: d.IndependentTransform(d.ExpTransform(), 1),
        lambda d: d.ReshapeTransform((2, 3), (6,)),
        lambda d: (
            d.ComposeTransform(
                [d.StickBreakingTransform(), d.IndependentTransform(d.ExpTransform(), 1)]
            ).inv.inv
        ),
    ):
        t, u = make(D), make(T)
        a, b = f64(x), torch.tensor(x, dtype=torch.float64)
        y, z = t(a), u(b)
        assert np.allclose(y.numpy(), z)
        assert np.allclose(t.inv(y).numpy(), x)
        assert np.allclose(t.log_abs_det_jacobian(a, y).numpy(), u.log_abs_det_jacobian(b, z))
        assert (t.domain.event_dim, t.codomain.event_dim) == (u.domain.event_dim, u.codomain.event_dim)
    with pytest.raises(ValueError, match="must hold as many"):
        D.ReshapeTransform((2, 3), (5,))
    with pytest.raises(NotImplementedError, match="has no inverse"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), D.AbsTransform()).log_prob(1.0)


def test_transformed_distributions_as_torch():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    T = torch.distributions

    def cases(d, number):
        normal = d.Normal(number([[0.1, 0.2, 0.3]]), number(1.5))
        yield d.TransformedDistribution(normal, d.ExpTransform()), [[0.5, 1.0, 2.0]]
        yield (
            d.TransformedDistribution(normal, [d.SigmoidTransform(), d.AffineTransform(1.0, -2.0)]),
            [[0.5, -0.5, 0.2]],
        )
        yield d.TransformedDistribution(normal, d.StickBreakingTransform()), [[0.1, 0.2, 0.3, 0.4]]
        yield d.TransformedDistribution(d.Independent(normal, 2), d.ExpTransform()), [[0.5, 1.0, 2.0]]
        yield d.LogisticNormal(number([0.1, 0.2]), number([1.0, 2.0])), [0.2, 0.3, 0.5]
        uniform = d.Uniform(number(0.0), number(1.0))
        yield (
            d.TransformedDistribution(uniform, [d.SigmoidTransform().inv, d.AffineTransform(2.0, 0.5)]),
            [1.0, 3.0],
        )

    ours = list(cases(D, f64))
    for (p, x), (q, _) in zip(ours, cases(T, lambda v: torch.tensor(v, dtype=torch.float64)), strict=True):
        assert (p.batch_shape, p.event_shape) == (tuple(q.batch_shape), tuple(q.event_shape))
        assert np.allclose(p.log_prob(f64(x)).numpy(), q.log_prob(torch.tensor(x, dtype=torch.float64)))
        drawn = p.rsample((4,), generator=an.random.Generator(0))
        assert drawn.shape == (4, *p.batch_shape, *p.event_shape)
        assert bool(an.all(an.isfinite(p.log_prob(drawn))))
    logistic = ours[-1][0]
    assert np.allclose(logistic.cdf(f64([1.0, 3.0])).numpy(), 1 / (1 + np.exp([2.0, -2.0])))
    assert np.allclose(logistic.icdf(f64([0.2, 0.5])).numpy(), [2 + 0.5 * math.log(0.25), 2.0])
    assert ours[1][0].cdf(f64([[0.0, 0.0, 0.0]])).shape == (1, 3)


def test_mixtures_as_torch():
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch")
    T = torch.distributions

    def number(v):
        return torch.tensor(v, dtype=torch.float64)

    def cases(d, number):
        weights = d.Categorical(logits=number([[0.3, -0.2], [1.0, 0.0]]))
        yield (
            d.MixtureSameFamily(weights, d.Normal(number([[0.0, 3.0], [1.0, 2.0]]), number(0.7))),
            [0.5, 2.0],
        )
        spread = d.Independent(d.Normal(number([[0.0, 3.0], [1.0, -1.0]]), number(1.0)), 1)
        yield d.MixtureSameFamily(d.Categorical(number([0.2, 0.8])), spread), [0.5, 2.0]
        yield d.MixtureSameFamily(d.Categorical(number([0.2, 0.8])), d.Poisson(number([1.0, 5.0]))), [2.0]

    for (p, x), (q, _) in zip(cases(D, f64), cases(T, number), strict=True):
        assert (p.batch_shape, p.event_shape) == (tuple(q.batch_shape), tuple(q.event_shape))
        assert np.allclose(p.log_prob(f64(x)).numpy(), q.log_prob(number(x)))
        assert np.allclose(p.mean.numpy(), q.mean)
        assert np.allclose(p.variance.numpy(), q.variance)
        drawn = p.sample((6000,), generator=an.random.Generator(0))
        assert np.allclose(an.mean(drawn, axis=0).numpy(), q.mean, atol=0.1)
        assert np.allclose(an.var(drawn, axis=0).numpy(), q.variance, atol=0.25)
        assert p.expand((3, *p.batch_shape)).log_prob(f64(x)).shape[:1] == (3,)
    with pytest.raises(ValueError, match="must end with 2"):
        D.MixtureSameFamily(D.Categorical([0.5, 0.5]), D.Normal(an.zeros(3), 1.0))


def test_from_all_numbers_to_a_constraint():
    c = D.constraints
    x = f64([[-1.0, 0.2], [3.0, -0.4]])
    for constraint in (
        c.real, c.positive, c.unit_interval, c.interval(-2.0, 3.0), c.greater_than(1.0), c.less_than(1.0), c.simplex,
        c.lower_cholesky, c.independent(c.positive, 1),
    ):  # fmt: skip
        for registry in (D.biject_to, D.transform_to):
            assert bool(an.all(constraint.check(registry(constraint)(x)))), constraint
        assert np.allclose(
            D.biject_to(constraint).inv(D.biject_to(constraint)(x)).numpy(),
            np.tril(x.numpy()) if constraint is c.lower_cholesky else x.numpy(),
        )
    with pytest.raises(NotImplementedError, match="no transform"):
        D.biject_to(c.boolean)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("boolean", [0, 1], [2]), ("positive", [1e-30], [0.0]), ("nonnegative", [0.0], [-1.0]), ("unit_interval", [0, 1.0], [1.1]),
        ("positive_integer", [1], [0.0]), ("nonnegative_integer", [0, 3.0], [0.5]), ("real", [3.0], [math.nan]),
        ("simplex", [0.5, 0.5], [0.5, 0.6]), ("one_hot", [0.0, 1.0], [1.0, 1.0]), ("square", [[1.0]], [[1.0, 2.0]]),
        ("symmetric", [[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]]),
        ("positive_definite", [[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]),
        ("positive_semidefinite", [[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]),
        ("lower_triangular", [[1.0, 0.0], [2.0, 0.0]], [[1.0, 1.0], [2.0, 0.0]]),
        ("lower_cholesky", [[1.0, 0.0], [2.0, 1.0]], [[1.0, 0.0], [2.0, 0.0]]), ("real_vector", [1.0, 2.0], [math.inf, math.nan]),
    ],
)  # fmt: skip
def test_constraints(name, good, bad, xp_device):
    constraint = getattr(D.constraints, name)
    assert bool(an.all(constraint.check(an.asarray(good, device=xp_device))))
    assert not bool(an.all(constraint.check(an.asarray(bad, device=xp_device))))
