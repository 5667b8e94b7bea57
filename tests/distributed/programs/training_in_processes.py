"""Trains as many networks as there are cases, and writes weights and histories: run by one process and by several, they are compared."""

import sys

import numpy as np

import anynet as an
from anynet import nn


def data(n, weights=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6))
    y = rng.integers(0, 3, n)
    return (x, y, rng.uniform(0.0, 2.0, n)) if weights else (x, y)


def net(*, norm=False, dropout=False):
    an.random.manual_seed(1)
    layers = [nn.Linear(6, 8, bias=not norm), *([nn.BatchNorm1d(8)] if norm else []), nn.Tanh()]
    layers += [nn.Dropout(0.3)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(8, 3)).to(dtype="float64")


USUAL = {
    "loss": "cross_entropy",
    "metrics": ["accuracy", "f1"],
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.02,
    "progress": False,
}


def ignoring():
    x, y = data(37)
    return x, np.where(np.arange(37) % 3 == 0, -100, y)


def stream():
    x, y = data(37)
    return iter([(an.asarray(x[i : i + 8]), an.asarray(y[i : i + 8])) for i in range(0, 37, 8)])


class Own(nn.Module):
    """Computes its own loss."""

    def __init__(self):
        self.layer = nn.Linear(6, 1, dtype="float64")

    def training_step(self, batch):
        loss = an.mean((self.layer(batch[0])[:, 0] - an.astype(batch[1], an.float64)) ** 2)
        return {"loss": loss, "twice": 2.0 * loss}


def own():
    an.random.manual_seed(1)
    return Own()


class Bags(nn.Module):
    """The mean of the rows of a table that the numbers name."""

    def __init__(self, *, sparse):
        self.table = nn.EmbeddingBag(9, 3, sparse=sparse, dtype="float64")

    def forward(self, x):
        return self.table(an.clip(an.astype(x * 2 + 4, an.int64), 0, 8))


def bags(sparse=True):
    an.random.manual_seed(1)
    return Bags(sparse=sparse)


CASES = {  # 37 samples in batches of 8: the last has 5, in four processes 1, 1, 1, 2
    "plain": (net, data(37), {"val": data(13)}),
    "one left": (net, data(33), {}),  # the last batch has one sample: three of four processes have none
    "weights": (net, data(37, weights=True), {}),
    "class weights": (net, data(37), {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}),
    "ignored": (net, ignoring(), {}),
    "clipped": (net, data(37), {"clip_norm": 0.05, "optimizer": "sgd", "lr": 0.5}),
    "accumulated": (net, data(37), {"accumulate": 3}),
    "accumulated and clipped": (net, data(33), {"accumulate": 2, "clip_norm": 0.05}),
    "batch norm": (lambda: net(norm=True), data(34), {"val": data(13)}),
    "batch norm, accumulated": (lambda: net(norm=True), data(37), {"accumulate": 2}),
    "rows": (bags, data(37), {"optimizer": an.optim.SparseAdam, "clip_norm": 0.05}),
    "rows, one left": (bags, data(33), {"optimizer": an.optim.SparseAdam}),
    "rows, accumulated": (bags, data(33), {"optimizer": an.optim.Adagrad, "accumulate": 2}),
    "sum": (net, data(37), {"loss": nn.CrossEntropyLoss(reduction="sum"), "lr": 0.002}),
    "schedule": (net, data(37), {"scheduler": "onecycle"}),
    "line search": (  # a few evaluations: rounding grows in its differences of gradients
        net, data(37), {"optimizer": lambda p: an.optim.LBFGS(p, lr=0.5, max_iter=4), "lr": None, "batch_size": 37, "epochs": 2},
    ),
    "sharpness": (net, data(37), {"optimizer": lambda p: an.optim.SAM(an.optim.SGD(p, lr=0.1)), "lr": None}),
    "stream": (net, stream, {}),
    "own step": (own, data(37), {"loss": None, "metrics": ()}),
    "early stopping": (
        net, data(37), {"val": data(13), "epochs": 30, "lr": 0.2, "callbacks": an.train.EarlyStopping(patience=2)},
    ),
}  # fmt: skip


def run(name):
    make, samples, options = CASES[name]
    options = {k: v for k, v in {**USUAL, **options}.items() if v is not None}
    val = options.pop("val", None)
    model = make()
    history = an.fit(model, samples, val, **options)
    found = {f"{name}/{k}": v.to("cpu").numpy() for k, v in model.state_dict().items()}
    for key, values in history.to_dict().items():
        if key != "seconds":
            found[f"{name}/history/{key}"] = np.asarray(values)
    return found


def main(out, device, names):
    an.set_default_device(device)
    found = {}
    for name in names or CASES:
        found |= run(name)
    group = an.distributed.world()
    for other in group.gather(found):  # all processes end with the same network, and know the same of it
        for key, value in found.items():
            assert np.array_equal(value, other[key], equal_nan=True), key
    if group.rank == 0:
        np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
