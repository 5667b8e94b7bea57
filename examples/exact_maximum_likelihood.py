"""Maximum likelihood to all digits: least squares on diabetes and logistic regression on irises, with standard errors.

θ̂ maximises Σ ln p(yᵢ | θ) by Newton's method; its covariance is the inverse of the observed Fisher information −∂²ℓ/∂θ². The figures are
those of statistics packages: R² and log-likelihood of the normal model, and the two irises that no line separates.
"""

import anynet as an
from anynet.gallery import Figure, bars, example
from anynet.methods import fisher_information, maximum_likelihood, standard_errors

D = an.distributions


def columns(table, target):
    """The columns but for the target as (n, d), with a column of ones; the target."""
    y = table.pop(target)
    return an.asarray([[*row, 1.0] for row in zip(*table.values(), strict=True)]), y, [*table, "intercept"]


@example(
    topic="probability",
    figures=[
        Figure("R² of least squares on diabetes", 0.517747, 0.517749, form=".6f", quick=True),
        Figure("log-likelihood on diabetes", -2385.99295, -2385.99285, form=".4f", quick=True),
        Figure(
            "largest relative error of the standard errors",
            at_most=1e-6,
            form=".1e",
            quick=True,
            source="σ²(XᵀX)⁻¹",
        ),
        Figure(
            "logistic −ln L on irises", 5.949272, 5.949274, form=".6f", quick=True, source="R, statsmodels"
        ),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    X, y, names = columns(run.data("diabetes"), "progression")
    scale = an.max(an.abs(X), axis=0)
    X, y = X / scale, an.asarray(y)
    start = {"w": an.zeros((11,)), "log_sd": an.asarray(4.0)}
    normal = maximum_likelihood(
        lambda p: D.Normal(an.matmul(X, p["w"]), an.exp(p["log_sd"])).log_prob(y), start
    )
    off = y - an.matmul(X, normal.params["w"])
    r2 = 1.0 - float(an.sum(off**2)) / float(an.sum((y - an.mean(y)) ** 2))
    exact = an.sqrt(an.linalg.diagonal(an.linalg.inv(an.matmul(X.mT, X))) * an.mean(off**2))
    errors = normal.standard_errors["w"]
    for name, w, error in zip(
        names, (normal.params["w"] / scale).tolist(), (errors / scale).tolist(), strict=True
    ):
        run.say(f"{name:28} {w:10.4f} ± {error:.4f}{'  ***' if abs(w) > 3.29 * error else ''}")
    run.say(f"AIC {normal.aic:.2f}, BIC {normal.bic:.2f}, {normal.steps} Newton steps")
    run.figure("R² of least squares on diabetes", r2)
    run.figure("log-likelihood on diabetes", normal.log_likelihood)
    run.figure("largest relative error of the standard errors", an.max(an.abs(errors / exact - 1.0)))

    table = run.data("iris")
    keep = [i for i, kind in enumerate(table["species"]) if kind != "setosa"]
    A, kinds, _ = columns({k: [v[i] for i in keep] for k, v in table.items()}, "species")
    t = an.asarray([float(kind == "virginica") for kind in kinds])

    def terms(w):
        return D.Bernoulli(logits=an.matmul(A, w)).log_prob(t)

    found = maximum_likelihood(terms, an.zeros((5,)))
    observed = standard_errors(found.information).tolist()
    empirical = standard_errors(fisher_information(terms, found.params, "empirical")).tolist()
    for w, a, b in zip(found.params.tolist(), observed, empirical, strict=True):
        run.say(f"iris: {w:9.4f} ± {a:.4f} (observed information), ± {b:.4f} (empirical)")
    z = [abs(w) / e for w, e in zip(found.params.tolist(), observed, strict=True)]
    run.picture(
        bars(
            names, an.abs(normal.params["w"] / errors).tolist(), title="diabetes: |estimate| / standard error"
        ),
        bars([*list(table)[:4], "intercept"], z, title="irises: |estimate| / standard error"),
    )
    run.figure("logistic −ln L on irises", -found.log_likelihood)


if __name__ == "__main__":
    main()
