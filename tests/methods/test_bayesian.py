"""Bayesian networks against what is known exactly: the posterior, evidence and predictions of linear regression."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an

M, D, nn = an.methods, an.distributions, an.nn


def f64(x):
    return an.asarray(np.asarray(x).tolist(), dtype="float64")


@pytest.fixture(scope="module")
def diabetes():
    sets = pytest.importorskip("sklearn.datasets", reason="the data set, pip install scikit-learn")
    X, y = sets.load_diabetes(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def exact(diabetes):
    return M.BayesianLinearRegression(noise_variance=0.5).fit(*map(f64, diabetes))


def linear(weights, bias=False):
    """A linear network in float64 with these weights."""
    net = nn.Linear(len(weights), 1, bias=bias).to("float64")
    net.weight.assign_(f64([weights]))
    return net


def test_closed_form(diabetes, exact):
    X, y = diabetes
    precision = np.eye(10) + X.T @ X / 0.5
    mean = np.linalg.solve(precision, X.T @ y / 0.5)
    assert np.allclose(exact.mean.numpy(), mean)
    cov = X @ X.T + 0.5 * np.eye(442)
    evidence = -0.5 * (y @ np.linalg.solve(cov, y) + np.linalg.slogdet(cov)[1] + 442 * math.log(2 * math.pi))
    assert exact.log_evidence == pytest.approx(evidence, abs=1e-8)
    assert exact.log_evidence == pytest.approx(-496.599190, abs=1e-6)
    assert exact.factorised_elbo() == pytest.approx(-500.4047, abs=1e-4)
    found = exact.predict(f64(X[:5]))
    assert np.allclose(
        found.epistemic.numpy(), np.einsum("ni,ij,nj->n", X[:5], np.linalg.inv(precision), X[:5])
    )
    assert np.allclose(exact.posterior.covariance_matrix.numpy(), np.linalg.inv(precision))


@pytest.mark.parametrize("hessian", ["full", "kronecker", "diagonal"])
def test_laplace_is_exact_on_linear_regression(hessian, diabetes, exact):
    X, y = diabetes
    found = M.Laplace(linear(exact.mean.numpy()), "regression", hessian=hessian, noise_variance=0.5)
    found.fit(f64(X), f64(y[:, None]))
    here, there = found.predict(f64(X[:7])), exact.predict(f64(X[:7]))
    assert np.allclose(here.mean.numpy()[:, 0], there.mean.numpy())
    if hessian == "diagonal":
        variance = (X[:7] ** 2) @ (1 / np.diag(exact.precision.numpy()))
        assert np.allclose(here.epistemic.numpy()[:, 0], variance)
    else:
        assert found.log_evidence() == pytest.approx(-496.599190, abs=1e-6)
        assert np.allclose(here.epistemic.numpy()[:, 0], there.epistemic.numpy())
    assert np.allclose(here.aleatoric.numpy(), 0.5)


def test_evidence_chooses_the_prior(diabetes):
    """optimize_prior against the maximum over a grid of the exact evidence (at fixed weights it is the Laplace one)."""
    X, y = diabetes
    net = M.Laplace(linear(np.linalg.lstsq(X, y, rcond=None)[0]), "regression", noise_variance=0.5)
    net.fit(f64(X), f64(y[:, None])).optimize_prior(points=41)
    values = {
        d: net.log_evidence(d)
        for d in (net.prior_precision / 2, net.prior_precision, 2 * net.prior_precision)
    }
    assert max(values, key=values.get) == net.prior_precision
    assert 1.0 < net.prior_precision < 100.0


def test_laplace_of_classes_is_the_hessian():
    """Of a linear model the Gauss-Newton matrix is the Hessian of −ln p; and the Kronecker one's shapes and symmetry."""
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to("float64")
    x, y = an.random.normal((9, 3), dtype="float64"), an.asarray([0, 1, 2] * 3)
    found = M.Laplace(net, "classification", hessian="full").fit(x, y)
    hidden = net[:2](x).detach()

    def nll(v):
        w, b = an.reshape(v[:12], (3, 4)), v[12:]
        return nn.functional.cross_entropy(hidden @ w.mT + b, y, reduction="sum")

    v = an.concat([an.reshape(net[2].weight.detach(), (-1,)), net[2].bias.detach()])
    h = an.hessian(nll)(v).numpy()
    w, u = found._factors[0].eigenvalues.numpy(), found._factors[0].eigenvectors.numpy()
    assert np.allclose((u * w) @ u.T, h, atol=1e-10)
    one = M.Laplace(net, "classification", hessian="diagonal").fit(x, y)
    assert np.allclose(one._factors[0].numpy(), np.diag(h), atol=1e-10)
    for kind in ("full", "diagonal", "kronecker"):
        every = M.Laplace(net, "classification", hessian=kind, layers="all", batch_size=4).fit(x, y)
        p = every.predict(x)
        assert np.allclose(an.sum(p.probabilities, axis=1).numpy(), 1.0)
        assert every.size == 31
        assert math.isfinite(every.optimize_prior().log_evidence())
        assert bool(an.all(p.entropy + 1e-12 >= 0))
        assert every.size > one.size
    assert not net[0].weight.grad


def test_kronecker_of_one_sample_is_exact():
    """The curvature of one sample is a Kronecker product in truth."""
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1, bias=False)).to("float64")
    x, y = an.random.normal((1, 3), dtype="float64"), an.zeros((1, 1), dtype="float64")
    layers = [M.Laplace(net, "regression", hessian=h).fit(x, y) for h in ("full", "kronecker")]
    assert np.allclose(*(one.predict(x).epistemic.numpy() for one in layers))
    assert layers[0].log_evidence() == pytest.approx(layers[1].log_evidence())


def test_bayes_by_backprop_at_the_optimum(diabetes, exact):
    """At μ = Λ⁻¹Xᵀy/σ², sd = 1/√Λᵢᵢ the bound is −500.4047, and no gradient is left but noise."""
    X, y = map(f64, diabetes)
    layer = M.BayesLinear(10, 1, bias=False).to("float64")
    sd = 1.0 / an.sqrt(an.linalg.diagonal(exact.precision))
    layer.weight.assign_(an.reshape(exact.mean, (1, 10)))
    layer.weight_rho.assign_(an.reshape(an.log(an.expm1(sd)), (1, 10)))
    an.random.manual_seed(0)
    values = []
    with an.no_grad():
        for _ in range(600):
            terms = D.Normal(layer(X)[:, 0], math.sqrt(0.5)).log_prob(y)
            values.append(float(M.elbo(layer, terms, n=442)))
    assert np.mean(values) == pytest.approx(-500.4047, abs=4 * np.std(values) / math.sqrt(600))
    assert np.std(values) / math.sqrt(600) < 0.15
    q = layer.posterior()["weight"]
    assert np.allclose(q.scale.numpy()[0], sd.numpy())
    prior = D.Normal(f64(np.zeros((1, 10))), 1.0)
    assert float(M.kl_to_prior(layer)) == pytest.approx(float(an.sum(D.kl_divergence(q, prior))))


def test_local_reparametrisation_is_the_distribution_of_drawn_weights(xp_device):
    an.random.manual_seed(1)
    layer = M.BayesLinear(3, 2, init_std=0.4).to(xp_device)
    x = an.asarray([[1.0, -2.0, 0.5]], device=xp_device)
    out = layer(an.tile(x, (3000, 1)))  # each row draws for itself
    weight, bias = layer.posterior()["weight"], layer.posterior()["bias"]
    mean = x @ weight.loc.mT + bias.loc
    variance = (x * x) @ weight.variance.mT + bias.variance
    host = lambda t: an.to_device(t.detach(), "cpu").numpy()  # noqa: E731
    assert np.allclose(host(an.mean(out, axis=0)), host(mean), atol=0.08)
    assert np.allclose(host(an.var(out, axis=0)), host(variance), rtol=0.12)
    with M.mean_weights(layer):
        assert np.allclose(host(layer(x)), host(mean), atol=1e-6)
    image = M.BayesConv2d(1, 2, 3, padding=1, init_std=0.1).to(xp_device)
    assert image(an.ones((2, 1, 4, 4), device=xp_device)).shape == (2, 2, 4, 4)


def test_conversion_and_training():
    """A converted network begins at the weights it had, trains by `fit` and compiled, and its uncertainty grows away from the data."""
    an.random.manual_seed(0)
    plain = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    x = an.reshape(an.linspace(-1.0, 1.0, 40), (40, 1))
    net = M.to_bayesian(plain, init_std=0.02)
    assert [type(m).__name__ for m in net] == ["BayesLinear", "Tanh", "BayesLinear"]
    assert type(plain[0]) is nn.Linear
    with M.mean_weights(net):
        assert np.allclose(net(x).numpy(), plain(x).numpy())
    loss = M.ELBOLoss(net, lambda f, y: -an.mean(D.Normal(f, 0.1).log_prob(y)), n=40)
    an.fit(
        net,
        (x, an.sin(3.0 * x)),
        loss=loss,
        optimizer="adam",
        lr=0.02,
        epochs=60,
        batch_size=40,
        progress=False,
    )
    inside = M.regression(M.mc_predict(net, x)).epistemic
    outside = M.regression(M.mc_predict(net, x + 5.0)).epistemic
    assert float(an.mean(outside)) > 2 * float(an.mean(inside))
    assert sorted(net.state_dict())[:2] == ["0.bias", "0.bias_rho"]
    with pytest.raises(ValueError, match="must have Linear or Conv2d layers"):
        M.to_bayesian(nn.ReLU())
    with pytest.raises(ValueError, match="must have Bayesian layers"):
        M.kl_to_prior(plain)


def test_mc_dropout_of_a_linear_layer_has_the_variance_of_its_masks():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.25), linear([1.0, 2.0], bias=False))
    x = f64([[3.0, 1.0]])
    found = M.regression(M.mc_dropout(net, x, samples=2000), noise_variance=0.5)
    assert float(found.mean[0, 0]) == pytest.approx(5.0, abs=0.15)
    assert float(found.epistemic[0, 0]) == pytest.approx((9 + 4) * 0.25 / 0.75, rel=0.1)
    assert float(found.variance[0, 0]) == pytest.approx(float(found.epistemic[0, 0]) + 0.5)
    assert net.training
    assert net[0].training
    with pytest.raises(ValueError, match="must have a dropout layer"):
        M.mc_dropout(nn.Linear(2, 1), an.ones((1, 2)))


def test_parts_of_the_entropy():
    """Two sure networks that disagree: all is epistemic. Two unsure ones that agree: nothing is."""
    sure = M.classification(f64([[[0.0, 40.0]], [[40.0, 0.0]]]))
    assert float(sure.entropy[0]) == pytest.approx(math.log(2))
    assert float(sure.mutual_information[0]) == pytest.approx(math.log(2))
    unsure = M.classification(f64([[[0.0, 0.0]], [[0.0, 0.0]]]))
    assert float(unsure.entropy[0]) == pytest.approx(math.log(2))
    assert float(unsure.mutual_information[0]) == 0.0
    scores = M.regression(f64([[1.0], [3.0]]), 0.5).log_prob(f64([2.0]))
    assert float(scores[0]) == pytest.approx(-0.5 * math.log(2 * math.pi * 1.5))


def test_swag_is_the_distribution_of_what_was_collected():
    rng = np.random.default_rng(0)
    path = rng.normal(size=(60, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.2]])
    net = linear(path[0])
    swag = M.SWAG(net, rank=60)
    for w in path:
        net.weight.assign_(f64([w]))
        swag.collect()
    assert np.allclose(swag.mean["weight"].numpy()[0], path.mean(0))
    assert np.allclose(swag.variance["weight"].numpy()[0], path.var(0))
    drawn = np.array(
        [swag.sample(generator=g)["weight"].numpy()[0] for g in [an.random.Generator(1)] for _ in range(1500)]
    )
    cov = np.cov(path.T, bias=True)
    assert np.allclose(np.cov(drawn.T), 0.5 * cov + 0.5 * np.diag(np.diag(cov)), atol=0.15)
    x = f64([[1.0, 0.0, 0.0]])
    assert float(
        swag.predict(x, samples=400, generator=an.random.Generator(2)).epistemic[0, 0]
    ) == pytest.approx(cov[0, 0], rel=0.25)
    assert np.allclose(net.weight.numpy()[0], path[-1])
    with pytest.raises(RuntimeError, match="at least 2 collections"):
        M.SWAG(net).sample()


def test_deep_ensembles():
    an.random.manual_seed(0)
    made = M.DeepEnsemble.train(lambda: nn.Linear(2, 3), lambda net: None, members=4)
    x = an.ones((5, 2))
    p = made.classify(x)
    each = [an.special.softmax(m(x), axis=-1).numpy() for m in made.models]
    assert np.allclose(p.probabilities.numpy(), np.mean(each, axis=0), atol=1e-6)
    assert an.metrics.log_loss(p.probabilities, an.zeros(5, dtype="int64")) <= np.mean(
        [an.metrics.log_loss(an.asarray(e.tolist()), an.zeros(5, dtype="int64")) for e in each]
    )
    assert np.allclose(made.predict(x, 0.25).aleatoric.numpy(), 0.25)
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="must be different objects"):
        M.DeepEnsemble([net, net])
    with pytest.raises(ValueError, match="one Module or more"):
        M.DeepEnsemble([])


def test_laplace_refusals():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = an.ones((4, 2))
    with pytest.raises(
        ValueError, match="likelihood must be 'regression' or 'classification', got 'poisson'"
    ):
        M.Laplace(net, "poisson")
    with pytest.raises(RuntimeError, match=r"call fit\(x, y\) first"):
        M.Laplace(net, "regression").predict(x)
    with pytest.raises(ValueError, match=r"y must have the shape of the output, \(4, 3\), got \(4, 1\)"):
        M.Laplace(net, "regression").fit(x, an.ones((4, 1)))
    with pytest.raises(ValueError, match="class indices"):
        M.Laplace(net, "classification").fit(x, an.ones((4, 3)))
    with pytest.raises(ValueError, match="at most 5,000 parameters, got 6006"):
        M.Laplace(nn.Linear(2001, 3), "regression")
    with pytest.raises(ValueError, match="'kronecker' takes Linear layers alone, got 0"):
        M.Laplace(
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(4, 1)),
            "regression",
            hessian="kronecker",
            layers="all",
        )
