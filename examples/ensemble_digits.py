"""Five networks instead of one, on 300 digits: likelihood, calibration and Brier score of an ensemble and of Monte Carlo dropout.

Three draws of 300 training images, each tested on the other 1,497: a single network, the mean of five trained from different first weights
(Lakshminarayanan, Pritzel and Blundell 2017), and one network with dropout, with and without drawing it in predictions; its rate
is the best on a fifth of the first training part. The network is that paper's: 3 hidden layers of 200 units, batch norm, ReLU.
"""

from itertools import pairwise

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines
from anynet.methods import DeepEnsemble, classification, mc_dropout


def network(p=0.0):
    widths = [64, 200, 200, 200]
    hidden = [[nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(p)] for a, b in pairwise(widths)]
    return nn.Sequential(*(layer for block in hidden for layer in block), nn.Linear(200, 10))


def scores(p, y):
    """−ln p, calibration error, Brier score."""
    return [an.metrics.log_loss(p, y), an.metrics.calibration(p, y, bins=15), an.metrics.brier(p, y)]


NET = "one hidden layer of 100 units at first: {}; the paper's, 30 epochs at 1e-3, is best in fifths of the 300 held out in turn"
CAREFUL = "rates 0.05 to 0.5 on held-out digits, one hidden layer or three: drawing makes these predictions too careful"


def figure(name, least, most, before, form=".3f", **more):
    return Figure(name, least, most, form=form, changed=NET.format(before), **more)


@example(
    topic="probability",
    figures=[
        figure("−ln p, one network", None, 0.25, "0.194", source="0.215"),
        figure("−ln p, ensemble", None, 0.22, "0.192", source="0.203", quick=1.5),
        figure("calibration error, ensemble", None, 0.04, "0.009", source="0.021"),
        figure("Brier score, ensemble", None, 0.095, "0.089", source="0.084"),
        figure("−ln p gained by the ensemble", 0.005, None, "0.0029", ".4f", source="0.012", quick=0.0),
        figure("−ln p gained by drawing", 0.0, None, "−0.0128", ".4f", source="0.012", tried=CAREFUL),
    ],
)
def main(run):
    parts = [run.data("digits", split) for split in ("train", "test")]
    x = an.concat([an.reshape(run.array(p[0], dtype=an.float32), (-1, 64)) / 16.0 for p in parts])
    y = an.concat([run.array(p[1], dtype=an.int64) for p in parts])
    members, epochs, table, gains, rate = run.pick(5, 2), run.pick(30, 8), {}, [], 0.1
    for draw in range(run.pick(3, 1)):
        order = an.random.permutation(x.shape[0])
        train, test = order[:300], order[300:]
        seen, labels, new, truth = (an.take(a, i, axis=0) for i in (train, test) for a in (x, y))

        def fit(net, data=(seen, labels)):
            an.fit(
                net, data, loss="cross_entropy", optimizer="adam", lr=1e-3, batch_size=32, epochs=epochs,
                device=run.device, restore_best=False, progress=False,
            )  # fmt: skip

        ensemble = DeepEnsemble.train(network, fit, members=members)
        singles = [scores(DeepEnsemble([m]).classify(new).probabilities, truth) for m in ensemble.models]

        def held_out(p, x=seen, y=labels):
            fit(net := network(p), (x[:240, :], y[:240]))
            return an.metrics.log_loss(classification(mc_dropout(net, x[240:, :], 50)).probabilities, y[240:])

        rate = min(run.pick((0.05, 0.1, 0.25, 0.5), (0.1,)), key=held_out) if not draw else rate
        fit(dropped := network(rate))
        found = {
            "one network": [sum(s[k] for s in singles) / members for k in range(3)],
            "ensemble": scores(ensemble.classify(new).probabilities, truth),
            "dropout": scores(DeepEnsemble([dropped]).classify(new).probabilities, truth),
            "dropout, drawn": scores(classification(mc_dropout(dropped, new, 50)).probabilities, truth),
        }
        for name, row in found.items():
            table.setdefault(name, []).append(row)
            words = f"−ln p {row[0]:.4f}, calibration {row[1]:.4f}, Brier {row[2]:.4f}"
            run.say(f"draw {draw}: {name:15} {words}")
        if not draw:
            each = [classification(ensemble.outputs(new)[:k, ...]) for k in range(1, members + 1)]
            gains = [an.metrics.log_loss(p.probabilities, truth) for p in each]
    mean = {name: [sum(r[k] for r in rows) / len(rows) for k in range(3)] for name, rows in table.items()}
    run.picture(
        *(
            bars([*mean], [m[k] for m in mean.values()], title=what)
            for k, what in enumerate(("−ln p", "calibration error", "Brier score"))
        ),
        lines([Series("−ln p", list(range(1, members + 1)), gains)], title="by networks", whole=True),
    )
    run.figure("−ln p, one network", mean["one network"][0])
    for k, what in enumerate(("−ln p", "calibration error", "Brier score")):
        run.figure(f"{what}, ensemble", mean["ensemble"][k])
    run.figure("−ln p gained by the ensemble", mean["one network"][0] - mean["ensemble"][0])
    run.figure("−ln p gained by drawing", mean["dropout"][0] - mean["dropout, drawn"][0])


if __name__ == "__main__":
    main()
