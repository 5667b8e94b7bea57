"""Diagnosis with a probability that can be believed: benign or malignant, calibrated, with what the network does not know.

Breast Cancer Wisconsin, 569 patients: half to train, a fifth to calibrate, the rest scored once. The temperature T in softmax(f / T) is
that of the largest posterior on the calibration part, ln T ~ N(0, ½²) (C. Guo et al. 2017; where no patient there is on the wrong side,
the likelihood alone has no maximum); an ensemble says where its networks disagree.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines
from anynet.methods import DeepEnsemble, maximum_likelihood


def network():
    return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))


def reliability(p, y, bins=5):
    """The mean probability and the share of malignant ones in each fifth of the probabilities that are given."""
    points = []
    for k in range(bins):
        inside = [(a, b) for a, b in zip(p, y, strict=True) if min(int(a * bins), bins - 1) == k]
        if inside:
            points.append(tuple(sum(column) / len(inside) for column in zip(*inside, strict=True)))
    return points


@example(
    topic="applications",
    figures=[
        Figure("test accuracy", at_least=95.0, unit="%", form=".1f", quick=88.0),
        Figure("area under the ROC curve", at_least=0.985, form=".4f", quick=0.95),
        Figure("test −ln p before", form=".4f"),
        Figure("test −ln p, calibrated", at_most=0.12, form=".4f", quick=0.5),
        Figure("calibration error", at_most=0.05, form=".3f", quick=0.25),
        Figure("malignant ones below a probability of 10 %", at_most=3.0, unit="%", form=".1f", quick=10.0),
    ],
)
def main(run):
    table = run.data("breast_cancer")
    truth = an.asarray([int(kind == "malignant") for kind in table.pop("diagnosis")])
    x = an.stack(
        [an.asarray([float(v) for v in column], dtype=an.float32) for column in table.values()], axis=1
    )
    order = an.random.permutation(569)
    train, calibrate, test = order[:284], order[284:398], order[398:]
    seen = an.take(x, train, axis=0)
    x = (x - an.mean(seen, axis=0)) / an.std(seen, axis=0)
    rows = {"fit": train, "cal": calibrate, "test": test}
    part = {name: (an.take(x, i, axis=0), an.take(truth, i)) for name, i in rows.items()}

    def fit(net):
        an.fit(
            net, part["fit"], loss="cross_entropy", optimizer="adam", lr=3e-3, weight_decay=1e-3, batch_size=32,
            epochs=run.pick(40, 8), device=run.device, restore_best=False, progress=False,
        )  # fmt: skip

    nets = DeepEnsemble.train(network, fit, run.pick(5, 2))

    def log_odds(name):
        outputs = nets.outputs(part[name][0])
        return an.mean(outputs[:, :, 1] - outputs[:, :, 0], axis=0)

    held, y = an.astype(log_odds("cal"), an.float64), an.astype(part["cal"][1], an.float64)

    def posterior(log_t):  # the prior is shared out among the patients
        prior = an.distributions.Normal(0.0, 0.5).log_prob(log_t) / y.shape[0]
        return an.distributions.Bernoulli(logits=held * an.exp(-log_t)).log_prob(y) + prior

    found = maximum_likelihood(posterior, an.zeros((), dtype=an.float64))
    temperature = float(an.exp(found.params))
    run.say(f"temperature {temperature:.3f}, ± {float(found.standard_errors) * temperature:.3f}")
    odds, target = log_odds("test"), part["test"][1]
    raw, p = (an.special.expit(odds / t) for t in (1.0, temperature))
    unsure = nets.classify(part["test"][0]).mutual_information
    rows = sorted(zip(p.tolist(), target.tolist(), unsure.tolist(), strict=True), key=lambda r: -r[2])
    for chance, label, nats in rows[:5]:
        run.say(f"least agreed on: {100 * chance:5.1f} %, was {label} (1: malignant), {nats:.3f} nats")
    points = reliability(p.tolist(), target.tolist())
    given, share = zip(*points, strict=True)
    tenths = [sum(min(int(10 * row[0]), 9) == k for row in rows) for k in range(10)]
    run.picture(
        lines([Series("share", given, share)], title="share of malignant ones by probability", guide=True),
        bars([f"from {10 * k} %" for k in range(10)], tenths, title="patients by probability"),
    )
    classes, sick = an.astype(p > 0.5, an.int64), int(an.sum(target))
    run.figure("area under the ROC curve", an.metrics.roc_auc(p, target))
    run.figure("test −ln p before", an.metrics.log_loss(raw, target))
    run.figure("test −ln p, calibrated", an.metrics.log_loss(p, target))
    run.figure("calibration error", an.metrics.calibration(p, target, bins=10))
    missed = sum(row[0] < 0.1 and row[1] for row in rows)
    run.figure("malignant ones below a probability of 10 %", 100 * missed / sick)
    run.figure("test accuracy", 100 * an.metrics.accuracy(classes, target))


if __name__ == "__main__":
    main()
