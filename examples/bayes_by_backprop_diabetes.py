"""Bayesian linear regression on diabetes: Bayes by backprop and Laplace against the posterior in closed form.

σ² = 0.5, prior N(0, 1), X and y standardised. With independent weights the best q is N(mᵢ, 1/Λᵢᵢ), Λ = I + XᵀX/σ², and its bound on
ln p(y) is −500.4047; the evidence itself is −496.5992. Laplace's approximation is exact here.
"""

import math

import anynet as an
from anynet.gallery import Figure, Series, example, lines, scatter
from anynet.methods import BayesianLinearRegression, BayesLinear, Laplace, elbo, kl_to_prior

NOISE = 0.5


def bound(layer, X, y):
    """The evidence lower bound in closed form: the model is linear, so E_q of the squares is known."""
    q = layer.posterior()["weight"]
    squares = an.sum((y - layer._linear(X, q.loc, None)[:, 0]) ** 2) + an.sum(
        an.sum(X * X, axis=0) * q.variance[0, :]
    )
    fit = -0.5 * (y.shape[0] * math.log(2 * math.pi * NOISE) + squares / NOISE)
    return float(fit - kl_to_prior(layer))


@example(
    topic="probability",
    figures=[
        Figure("evidence by Laplace", -496.599191, -496.599189, form=".6f", quick=True, source="closed form"),
        Figure("largest error of the means", at_most=0.005, quick=0.2, source="0.0011"),
        Figure("largest relative error of the standard deviations", at_most=0.03, source="1.6 %"),
        Figure("evidence lower bound", at_least=-500.43, form=".4f", quick=-580.0, source="best: −500.4047"),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    table = run.data("diabetes")
    y = an.asarray([float(v) for v in table.pop("progression")])
    X = an.stack([an.asarray([float(v) for v in column]) for column in table.values()], axis=1)
    X, y = (X - an.mean(X, axis=0)) / an.std(X, axis=0), (y - an.mean(y)) / an.std(y)
    exact = BayesianLinearRegression(NOISE).fit(X, y)
    sd = 1.0 / an.sqrt(an.linalg.diagonal(exact.precision))
    run.say(
        f"closed form: evidence {exact.log_evidence:.6f}, best factorised bound {exact.factorised_elbo():.4f}"
    )

    net = an.nn.Linear(10, 1, bias=False)
    net.weight.assign_(an.reshape(exact.mean, (1, 10)))
    run.figure(
        "evidence by Laplace",
        Laplace(net, "regression", noise_variance=NOISE).fit(X, y[:, None]).log_evidence(),
    )

    layer, steps, samples = BayesLinear(10, 1, bias=False), run.pick(4000, 200), 8
    optimizer = an.optim.Adam(layer.parameters(), lr=run.pick(0.02, 0.05))
    schedule = an.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows, target, at, curve = an.tile(X, (samples, 1)), an.tile(y, (samples,)), [], []
    for step in range(1, steps + 1):
        terms = an.distributions.Normal(layer(rows)[:, 0], math.sqrt(NOISE), validate_args=False).log_prob(
            target
        )
        optimizer.zero_grad()
        (-elbo(layer, terms, n=y.shape[0])).backward()
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 50) == 0:
            at.append(step)
            curve.append(bound(layer, X, y))
            run.progress(step, steps, f"bound {curve[-1]:.4f}")
    q = layer.posterior()["weight"]
    mean, scale = q.loc[0, :].detach(), q.scale[0, :].detach()
    best = Series("best factorised", [at[0], at[-1]], [exact.factorised_elbo()] * 2, dash=1)
    axes = {"x_label": "exact", "y_label": "learnt", "diagonal": True}
    run.picture(
        lines(
            [Series("bound", at, curve), best], title="evidence lower bound by step", y_range=(-510.0, None)
        ),
        scatter(exact.mean.tolist(), mean.tolist(), title="means", **axes),
        scatter(sd.tolist(), scale.tolist(), title="standard deviations", **axes),
    )
    run.figure("largest error of the means", an.max(an.abs(mean - exact.mean)))
    run.figure("largest relative error of the standard deviations", an.max(an.abs(scale / sd - 1.0)))
    run.figure("evidence lower bound", bound(layer, X, y))


if __name__ == "__main__":
    main()
