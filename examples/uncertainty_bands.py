"""What a network does not know: bands that widen where there are no data, by an ensemble, Laplace and Bayes by backprop.

y = sin 3x + ε, ε ~ N(0, 0.1²), x from [−1, −0.3] and [0.3, 1]; the bands are mean ± 2 standard deviations of the prediction (of what the
network does not know, and of the noise). Compared: the first beyond the data against that at the data; and how many new points lie
within. A normal distribution of independent weights (Bayes by backprop) does not widen so (A. Foong et al. 2020): its figures are told
without one to reach.
"""

import math

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines
from anynet.methods import DeepEnsemble, ELBOLoss, Laplace, mc_predict, regression, to_bayesian

NOISE = 0.1


def network():
    return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


def data(n):
    side = an.where(an.random.bernoulli(0.5, (n, 1)), 1.0, -1.0)
    x = side * an.random.uniform((n, 1), low=0.3, high=1.0)
    return x, an.sin(3.0 * x) + NOISE * an.random.normal((n, 1))


@example(
    topic="probability",
    figures=[
        Figure("new points within the band, ensemble", 90.0, 99.5, unit="%"),
        Figure("new points within the band, Laplace", 90.0, 99.5, unit="%"),
        Figure("new points within the band, Bayes by backprop", form=".1f", unit="%"),
        Figure("epistemic deviation outside / at the data, ensemble", at_least=3.0, form=".1f", quick=1.2),
        Figure("epistemic deviation outside / at the data, Laplace", at_least=3.0, form=".1f", quick=1.2),
        Figure("epistemic deviation outside / at the data, Bayes by backprop", form=".1f"),
    ],
)
def main(run):
    (x, y), (new_x, new_y) = data(60), data(1000)

    def train(net, loss="mse", epochs=None):
        an.fit(
            net, (x, y), loss=loss, optimizer="adam", lr=0.01, epochs=epochs or run.pick(400, 40), batch_size=60, device=run.device,
            seed=run.seed, restore_best=False, progress=False,
        )  # fmt: skip

    ensemble = DeepEnsemble.train(network, train, members=run.pick(8, 4))
    run.say(f"{len(ensemble.models)} networks trained")
    laplace = (
        Laplace(ensemble.models[0], "regression", layers="all", noise_variance=NOISE**2)
        .fit(x, y)
        .optimize_prior()
    )
    run.say(
        f"Laplace: ln evidence {laplace.log_evidence():.2f}, prior precision {laplace.prior_precision:.3g}"
    )
    bayes = to_bayesian(ensemble.models[1], prior_std=1.0, init_std=0.02)
    normal = an.distributions.Normal
    loss = ELBOLoss(bayes, lambda f, t: -an.mean(normal(f, NOISE, validate_args=False).log_prob(t)), n=60)
    train(bayes, loss, epochs=run.pick(1500, 40))
    run.say("Bayes by backprop trained")
    predictions = {
        "ensemble": lambda x: ensemble.predict(x, NOISE**2),
        "Laplace": laplace.predict,
        "Bayes by backprop": lambda x: regression(mc_predict(bayes, x, 100), NOISE**2),
    }
    grid = an.reshape(an.linspace(-2.0, 2.0, 161), (161, 1))
    seen = an.logical_and(an.abs(grid[:, 0]) >= 0.3, an.abs(grid[:, 0]) <= 1.0)
    beyond = an.abs(grid[:, 0]) > 1.3
    charts = []
    for name, predict in predictions.items():
        p, at = predict(new_x), predict(grid)
        inside = an.mean(an.astype(an.abs(new_y - p.mean) <= 2.0 * p.stddev, new_x.dtype))
        sd = an.sqrt(at.epistemic[:, 0])
        ratio = float(an.mean(sd[beyond])) / float(an.mean(sd[seen]))
        run.figure(f"new points within the band, {name}", 100 * float(inside))
        run.figure(f"epistemic deviation outside / at the data, {name}", ratio)
        run.say(f"{name}: {100 * float(inside):.1f} % within, deviation outside / inside {ratio:.2f}")
        mean, width = at.mean[:, 0].tolist(), (2.0 * at.stddev[:, 0]).tolist()
        low, high = ([m + s * w for m, w in zip(mean, width, strict=True)] for s in (-1, 1))
        ticks = grid[:, 0].tolist()
        truth = Series("sin 3x", ticks, [math.sin(3 * v) for v in ticks], dash=1)
        charts.append(
            lines(
                [Series("mean ± 2 deviations", ticks, mean, low, high), truth],
                title=name,
                y_range=(-3.0, 3.0),
            )
        )
    run.picture(*charts)


if __name__ == "__main__":
    main()
