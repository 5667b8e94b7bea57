"""Dropout as Bayes: error and likelihood of predictions on two small tables, yacht and energy.

One hidden layer of 50 units; dropout is drawn again in predictions, which are averaged (Y. Gal and Z. Ghahramani 2016; its splits).
The rate and the precision τ of the noise are those of the best likelihood on a fifth of the training part; the test part is scored once.
"""

import math
import tarfile

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example
from anynet.methods import mc_dropout

RATES, PRECISIONS, SPLITS = (0.005, 0.05), (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 2


def read(archive, name):
    """The rows of a table, and for each split the rows of training and test."""

    def numbers(file):
        text = archive.extractfile(f"UCI_Datasets/{name}/data/{file}.txt").read().decode()
        return [[float(v) for v in line.split()] for line in text.splitlines() if line.strip()]

    rows = numbers("data")
    columns, target = [int(v[0]) for v in numbers("index_features")], int(numbers("index_target")[0][0])
    parts = ("train", "test")
    splits = [[[int(r[0]) for r in numbers(f"index_{p}_{k}")] for p in parts] for k in range(SPLITS)]
    return [[row[c] for c in columns] for row in rows], [row[target] for row in rows], splits


def fitted(x, y, rate, epochs, seed):
    """A network for standardised x and y, and the function (x, samples) → its outputs in units of y."""
    means, sds, mean, sd = an.mean(x, axis=0), an.std(x, axis=0), an.mean(y), an.std(y)
    sds = an.where(sds > 0, sds, 1.0)
    an.random.manual_seed(seed)
    net = nn.Sequential(
        nn.Dropout(rate), nn.Linear(x.shape[1], 50), nn.ReLU(), nn.Dropout(rate), nn.Linear(50, 1)
    )
    an.fit(
        net, ((x - means) / sds, ((y - mean) / sd)[:, None]), loss="mse", optimizer="adam", lr=1e-2, scheduler="cosine",
        batch_size=32, epochs=epochs, weight_decay=1e-5, device=an.get_default_device(), seed=seed, progress=False, restore_best=False,
    )  # fmt: skip
    return lambda x, samples: mc_dropout(net, (x - means) / sds, samples)[:, :, 0] * sd + mean


def log_likelihood(outputs, y, precision):
    """ln of the mean over samples of N(y; output, 1/τ), averaged over y."""
    logs = -0.5 * precision * (y - outputs) ** 2 + 0.5 * math.log(precision / (2 * math.pi))
    return float(an.mean(an.special.logsumexp(logs, axis=0) - math.log(outputs.shape[0])))


@example(
    topic="probability",
    figures=[
        Figure(
            "yacht: RMSE",
            at_most=1.0,
            form=".3f",
            quick=12.0,
            source="0.67 ± 0.05 (20 splits), 0.79, 0.80 (splits 0, 1)",
        ),
        Figure("yacht: log-likelihood", at_least=-1.5, form=".3f", source="−1.25"),
        Figure(
            "energy: RMSE",
            at_most=0.65,
            form=".3f",
            quick=6.0,
            source="0.54 ± 0.01 (20 splits), 0.43, 0.64 (splits 0, 1)",
        ),
        Figure("energy: log-likelihood", at_least=-1.3, form=".3f", source="−1.21"),
    ],
)
def main(run):
    epochs, samples, drawn = run.pick(400, 8), run.pick(200, 20), []
    with tarfile.open(run.file("uci/uci_regression_splits.tar.gz")) as archive:
        for name in ("yacht", "energy"):
            rows, targets, splits = read(archive, name)
            X, Y, scores = an.asarray(rows, dtype=an.float32), an.asarray(targets, dtype=an.float32), []
            for k, (train, test) in enumerate(splits[: run.pick(SPLITS, 1)]):
                inner, held = train[: len(train) * 4 // 5], train[len(train) * 4 // 5 :]
                found = []
                for rate in run.pick(RATES, RATES[:1]):
                    outputs = fitted(X[inner, :], Y[inner], rate, epochs, run.seed)(X[held, :], samples)
                    found += [(log_likelihood(outputs, Y[held], t), rate, t) for t in PRECISIONS]
                _, rate, precision = max(found)
                outputs = fitted(X[train, :], Y[train], rate, epochs, run.seed)(X[test, :], samples)
                error = math.sqrt(float(an.mean((an.mean(outputs, axis=0) - Y[test]) ** 2)))
                scores.append((error, log_likelihood(outputs, Y[test], precision)))
                run.say(
                    f"{name}, split {k}: p {rate}, τ {precision}: RMSE {error:.3f}, log-likelihood {scores[-1][1]:.3f}"
                )
            drawn += [(f"{name}, split {k}", s[0]) for k, s in enumerate(scores)]
            run.figure(f"{name}: RMSE", sum(s[0] for s in scores) / len(scores))
            run.figure(f"{name}: log-likelihood", sum(s[1] for s in scores) / len(scores))
    run.picture(bars([d[0] for d in drawn], [d[1] for d in drawn], title="test RMSE"))


if __name__ == "__main__":
    main()
