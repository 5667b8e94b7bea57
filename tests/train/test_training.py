"""What a training does: the best checkpoint, callbacks, means of weights, numbers that are not finite, threads."""

import functools
import math
import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim, train

rng = np.random.RandomState(0)
X = rng.randn(40, 4).astype("f4")
Y = rng.randint(0, 3, 40)


def network():
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def values(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def same(a, b):
    return all(a[k].tobytes() == b[k].tobytes() for k in a)


def fit(net, data=(X, Y), val=None, **options):
    given = {"loss": "cross_entropy", "progress": False, "device": "cpu", "batch_size": 8, **options}
    return an.fit(net, data, val, **given)


# ----- the best checkpoint -----

SERIES = {
    "max": ([0.2, 0.9, 0.5, 0.0], 1),
    "min": ([0.2, 0.9, 0.1, 0.5], 2),
    "nan": ([math.nan, 0.3, math.nan, 0.1], 1),
    "negative": ([-3.0, -5.0, -1.0, -2.0], 2),
    "inf": ([-math.inf, -2.0, -3.0, -math.inf], 1),
    "nan alone": ([math.nan] * 4, None),
}


HOW = ["mode of the metric", "higher_is_better", "Mean", "mode="]


@pytest.mark.parametrize("name", ["auc", "loss_of_accuracy"])
@pytest.mark.parametrize(("series", "how"), [(s, HOW[i % 4]) for i, s in enumerate(SERIES)])
def test_best_is_what_the_metric_says(name, series, how, tmp_path):
    numbers, expected = SERIES[series]
    mode = "min" if series == "min" else "max"
    at, seen = [0], []

    def metric(output, target):
        return numbers[at[0]] * len(output), len(output)

    metric.__name__ = name
    options, given = {}, metric
    if how == "mode of the metric":
        metric.mode = mode
    elif how == "higher_is_better":
        metric.higher_is_better = mode == "max"
    elif how == "Mean":
        given = an.metrics.Mean(metric, mode=mode)
    else:
        options = {"mode": mode}

    class Next(train.Callback):
        def on_epoch_end(self, run):
            seen.append(values(run.model))
            at[0] = min(at[0] + 1, 3)

    fit(
        network(), val=(X, Y), metrics=[given], epochs=4, run_dir=tmp_path / "r", monitor=f"val_{name}",
        callbacks=[Next()], **options,
    )  # fmt: skip
    file = tmp_path / "r" / "best.safetensors"
    assert file.exists() is (expected is not None)
    if expected is not None:
        assert same(seen[expected], {k: v.numpy() for k, v in an.load(file).items()})


def test_what_a_callback_adds_can_be_monitored(tmp_path):
    class Adds(train.Callback):
        adds = ("score",)

        def on_epoch_end(self, run):
            run.record["score"] = float(run.record["epoch"] == 2)

    history = fit(
        network(), epochs=3, run_dir=tmp_path / "r", monitor="score", mode="max", callbacks=[Adds()]
    )
    assert history.column("score") == [0.0, 1.0, 0.0]


# ----- callbacks -----


def test_early_stopping_can_be_used_again():
    stop = train.EarlyStopping("loss", patience=1, min_delta=1e9)
    assert [len(fit(network(), epochs=9, callbacks=stop)) for _ in range(3)] == [2, 2, 2]
    better = train.EarlyStopping("loss", patience=2)
    assert [len(fit(network(), epochs=8, lr=0.01, callbacks=[better])) for _ in range(3)] == [8, 8, 8]


@pytest.mark.parametrize(("mode", "series", "epochs"), [
    ("max", [0.5, 0.6, 0.55, 0.4, 0.3], 4), ("min", [0.5, 0.6, 0.55, 0.4, 0.3], 3),
    ("max", [0.5, math.nan, math.nan, 0.9, 0.9], 3),
])  # fmt: skip
def test_early_stopping_asks_the_metric(mode, series, epochs):
    at = [0]

    def score(output, target):
        return series[at[0]] * len(output), len(output)

    class Next(train.Callback):
        def on_epoch_end(self, run):
            at[0] += 1

    score.mode = mode
    stop = train.EarlyStopping("score", patience=2)
    assert len(fit(network(), metrics=[score], epochs=5, callbacks=[Next(), stop])) == epochs


def test_the_calls_in_their_order():
    calls = []

    class All(train.Callback):
        def on_train_begin(self, run):
            calls.append("begin")

        def on_epoch_begin(self, run):
            calls.append(f"epoch {run.epoch}")

        def on_batch_end(self, run):
            calls.append(f"batch {run.epoch}.{run.batch}")

        def on_epoch_end(self, run):
            calls.append(f"end {run.record['epoch']}")

        def on_train_end(self, run):
            calls.append("end")

    fit(network(), epochs=2, batch_size=20, callbacks=[All()])
    assert calls == [
        "begin", "epoch 1", "batch 1.1", "batch 1.2", "end 1", "epoch 2", "batch 2.1", "batch 2.2", "end 2", "end",
    ]  # fmt: skip


def test_a_callback_that_leaves_the_model_in_evaluation():
    class Look(train.Callback):
        def on_batch_end(self, run):
            run.model.eval()

    plain, watched = network(), network()
    for net, callbacks in ((plain, []), (watched, [Look()])):
        net[1].eval()
        fit(net, epochs=2, callbacks=callbacks)
    assert same(values(plain), values(watched))


# ----- optimizers that average -----


def test_schedule_free_is_at_its_mean_wherever_it_is_looked_at(tmp_path):
    net = network()
    optimizer = optim.ScheduleFreeAdamW(net.parameters(), lr=0.1)
    history = fit(net, val=(X, Y), epochs=3, optimizer=optimizer, run_dir=tmp_path / "r")
    after = values(net)
    found = an.evaluate(net, (X, Y), loss="cross_entropy")["loss"]
    assert history[-1]["val_loss"] == found
    optimizer.eval()
    assert same(values(net), after)
    last = an.load(tmp_path / "r" / "last.safetensors")
    assert same(after, {k: v.numpy() for k, v in last["model"].items()})
    assert not same(after, {k: v.numpy() for k, v in last["training_point"].items()})
    best = network()
    best.load_state_dict(an.load(tmp_path / "r" / "best.safetensors"))
    assert an.evaluate(best, (X, Y), loss="cross_entropy")["loss"] == min(history.column("val_loss"))
    plain = network()
    fit(plain, epochs=3, optimizer=optim.ScheduleFreeAdamW(plain.parameters(), lr=0.1))
    assert same(values(plain), after)  # looking changes nothing


# ----- what is not finite -----


class Root(nn.Module):
    """√ of a linear layer's output: where that is 0, the loss is finite and the gradient is not."""

    def __init__(self):
        self.inner = nn.Linear(4, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.outer = nn.Linear(6, 3)

    def forward(self, x):
        y = self.inner(x)
        return self.outer(self.norm(y) + an.sqrt(an.sum(y * y, axis=1, keepdims=True)) * 1e-3)


OPTIMIZERS = {
    "adam": optim.Adam, "sgd": functools.partial(optim.SGD, lr=0.1, momentum=0.9), "lamb": optim.LAMB,
    "lbfgs": functools.partial(optim.LBFGS, lr=1e-3), "sam": lambda p: optim.SAM(optim.SGD(p, lr=0.1)),
    "many": lambda p: optim.MultiSteps(optim.SGD(p, lr=0.1), 2),
}  # fmt: skip


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_updates_nothing(name, clip, tmp_path):
    an.random.manual_seed(0)
    net = Root()
    x = X.copy()
    data = an.data.DataLoader((x, Y), batch_size=8)
    kept = {}

    class Spoil(train.Callback):
        def on_batch_end(self, run):
            kept.update(values(run.model))
            if (run.epoch, run.batch) == (2, 3):
                x[31] = 0

    optimizer = OPTIMIZERS[name](net.parameters())
    message = r"gradient of inner.weight is NaN .* epoch 2, batch 4"
    options = {"epochs": 3, "optimizer": optimizer, "clip_norm": clip, "run_dir": tmp_path / "r"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(train.NonFiniteGradientError, match=message):
            fit(net, data, callbacks=[Spoil()], **options)
    assert same(values(net), kept)
    assert all(p.grad is None for p in net.parameters())
    tree = an.load(tmp_path / "r" / "last.safetensors")
    assert tree["epoch"] == 1
    assert all(np.isfinite(v.numpy()).all() for v in tree["model"].values())


def test_a_loss_that_is_not_finite_leaves_the_running_statistics():
    x = X.copy()
    x[33] = math.nan
    net, kept = network(), {}

    class Keep(train.Callback):
        def on_batch_end(self, run):
            kept.update(values(run.model))

    with pytest.raises(train.NonFiniteLossError, match=r"epoch 1, batch 5; nothing was updated"):
        fit(net, an.data.DataLoader((x, Y), batch_size=8), epochs=2, callbacks=[Keep()])
    assert same(values(net), kept)


def test_large_gradients_are_not_taken_for_infinite_ones():
    net = nn.Linear(4, 3)
    huge = lambda output, target: an.sum(output) * 1e25  # noqa: E731 - Σ g² overflows, no g does
    fit(net, loss=huge, optimizer="sgd", lr=1e-27)
    assert all(np.isfinite(v).all() for v in values(net).values())


def test_an_update_that_overflows_is_found_before_it_is_saved(tmp_path):
    net = nn.Linear(4, 3)

    class Break(train.Callback):
        def on_epoch_end(self, run):
            if run.record["epoch"] == 2:
                run.model.weight.assign_(run.model.weight.detach() * math.inf)

    with pytest.raises(
        train.NonFiniteError, match=r"weight holds NaN or infinite numbers; .*is left as it was"
    ):
        fit(net, epochs=3, callbacks=[Break()], run_dir=tmp_path / "r")
    for name in ("best", "last"):
        tree = an.load(tmp_path / "r" / f"{name}.safetensors")
        assert all(np.isfinite(v.numpy()).all() for v in tree.get("model", tree).values())


def test_infinities_that_belong_to_the_model_are_saved(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            self.inner, self.mask = nn.Linear(4, 4), an.Buffer([0.0, 0.0, 0.0, -math.inf])

        def forward(self, x):
            return self.inner(x) + self.mask

    fit(Masked(), run_dir=tmp_path / "r")
    assert an.load(tmp_path / "r" / "best.safetensors")["mask"].tolist()[3] == -math.inf


def test_a_batch_of_ignored_targets_updates_nothing():
    """Neither momentum nor decay: the batch is not there for the optimizer."""
    y = np.where(np.arange(40) < 16, -100, Y)
    net, seen = network(), []

    class Keep(train.Callback):
        def on_batch_end(self, run):
            seen.append((math.isnan(run.loss), values(run.model)["0.weight"]))

    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    data = an.data.DataLoader((X, y), batch_size=8)
    history = fit(net, data, epochs=2, optimizer=optimizer, callbacks=[Keep()])
    assert [nan for nan, _ in seen] == [True, True, False, False, False] * 2
    assert (seen[4][1] == seen[6][1]).all()
    assert not (seen[6][1] == seen[7][1]).all()
    assert math.isfinite(history[0]["loss"])


# ----- threads -----


def test_trainings_in_threads_are_those_alone(in_threads):
    def run(i):
        with an.random.fork_rng(i):
            net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3))
        fit(net, epochs=4, seed=i)
        return net[0].weight.numpy().tobytes()

    expected = [run(i) for i in range(3)]
    got = [b""] * 3
    in_threads(*(lambda i=i: got.__setitem__(i, run(i)) for i in range(3)))
    assert got == expected


def test_a_loss_with_weights_is_trained_and_saved(tmp_path):
    def run(net, loss, epochs, resume=False):
        return fit(net, loss=loss, epochs=epochs, run_dir=tmp_path / "r", resume=resume)

    an.random.manual_seed(0)
    loss = nn.LinearCrossEntropyLoss(6, 3)
    before = loss.linear.weight.numpy().copy()
    run(nn.Linear(4, 6), loss, 2)
    assert not (loss.linear.weight.numpy() == before).all()
    again = nn.LinearCrossEntropyLoss(6, 3)
    run(nn.Linear(4, 6), again, 2, resume=True)
    assert (loss.linear.weight.numpy() == again.linear.weight.numpy()).all()
