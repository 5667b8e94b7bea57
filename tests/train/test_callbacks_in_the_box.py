"""The callbacks of the library: means of weights, checkpoints, statistics of layers, loggers; the learning-rate finder."""

import csv
import json
import shutil
import sys
import types

import numpy as np
import pytest

import anynet as an
from anynet import nn, train
from optional_libraries import needs

rng = np.random.default_rng(2)
X = rng.standard_normal((40, 4)).astype("f4")
Y = rng.integers(0, 3, 40)


def network(norm=False, drop=0.0):
    an.random.manual_seed(0)
    middle = [nn.BatchNorm1d(6)] if norm else []
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.ReLU(), nn.Dropout(drop), nn.Linear(6, 3))


def fit(net, data=(X, Y), val=None, **options):
    given = {
        "loss": "cross_entropy",
        "progress": False,
        "device": "cpu",
        "batch_size": 8,
        "restore_best": False,
        **options,
    }
    return an.fit(net, data, val, **given)


def values(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def same(a, b):
    return all(a[k].tobytes() == b[k].tobytes() for k in a)


# ----- means of weights -----


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_formula_and_what_is_evaluated(warmup):
    seen, evaluated = [], []
    net = network()
    watch = train.on(
        batch_end=lambda run: seen.append(values(run.model)),
        epoch_end=lambda run: evaluated.append(values(run.model)),
    )
    history = fit(net, val=(X, Y), epochs=2, lr=0.1, callbacks=[watch, train.EMA(0.9, warmup=warmup)])
    average = {k: v.astype("f8") for k, v in seen[0].items()}
    for n, weights in enumerate(seen[1:], 1):
        decay = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        average = {k: decay * average[k] + (1 - decay) * weights[k] for k in average}
    assert all(np.allclose(values(net)[k], average[k], atol=1e-6) for k in average)
    assert same(values(net), evaluated[-1])
    found = an.evaluate(net, (X, Y), loss="cross_entropy")["loss"]
    assert found == pytest.approx(history[-1]["val_loss"], abs=1e-6)
    plain = []
    fit(
        network(), epochs=2, lr=0.1, callbacks=train.on(batch_end=lambda run: plain.append(values(run.model)))
    )
    assert all(same(a, b) for a, b in zip(seen, plain, strict=True))  # the training itself is as it was


def test_swa_is_the_mean_of_the_epochs_with_statistics_of_its_own():
    points = []
    watch = train.on(
        epoch_begin=lambda run: points.append(values(run.model)),
        train_end=lambda run: points.append(values(run.model)),
    )
    fit(network(norm=True), epochs=4, lr=0.1, callbacks=watch)
    net = network(norm=True)
    fit(net, epochs=4, lr=0.1, callbacks=train.SWA(start=3))
    mean = (points[3]["0.weight"].astype("f8") + points[4]["0.weight"]) / 2
    np.testing.assert_allclose(values(net)["0.weight"], mean, atol=1e-6)
    expected = network(norm=True)
    expected.load_state_dict(net.state_dict())
    loader = an.data.DataLoader((X, Y), batch_size=8, shuffle=True, seed=0)
    loader.set_epoch(3)
    an.optim.swa_utils.update_bn(loader, expected)
    np.testing.assert_allclose(
        values(net)["1.running_mean"], values(expected)["1.running_mean"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        values(net)["1.running_var"], values(expected)["1.running_var"], rtol=1e-5, atol=1e-6
    )
    assert net[1].momentum == 0.1
    with pytest.raises(ValueError, match="another pass over the training data"):
        fit(network(norm=True), iter([(X, Y)]), callbacks=train.SWA())
    with pytest.raises(ValueError, match="each hold a mean of the weights"):
        fit(network(), callbacks=[train.EMA(), train.SWA()])
    with pytest.raises(ValueError, match="each hold a mean of the weights"):
        fit(network(), callbacks=[train.EMA()], optimizer="schedulefreeadamw")


@pytest.mark.parametrize("make", [lambda: train.EMA(0.9), lambda: train.SWA(start=2), train.LayerStatistics])
def test_they_resume_exactly(make, tmp_path):
    def breaks(run):
        if (run.epoch, run.batch) == (3, 2):
            raise ZeroDivisionError

    whole, watched = network(norm=True, drop=0.3), make()
    expected = fit(whole, val=(X, Y), epochs=4, lr=0.05, callbacks=watched, accumulate=2)
    options = {"val": (X, Y), "epochs": 4, "lr": 0.05, "accumulate": 2, "run_dir": tmp_path / "r"}
    with pytest.raises(ZeroDivisionError):
        fit(network(norm=True, drop=0.3), callbacks=[make(), train.on(batch_end=breaks)], **options)
    net = network(norm=True, drop=0.3)
    found = fit(net, callbacks=[make()], resume=True, **options)
    assert same(values(net), values(whole))
    assert found.column("val_loss") == expected.column("val_loss")
    if make is train.LayerStatistics:
        lines = (tmp_path / "r" / "statistics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == watched.records
        assert found.column("gradient_norm") == expected.column("gradient_norm")


# ----- by name -----


def test_callbacks_by_name_are_those_of_the_library(tmp_path):
    given = [
        "csv",
        {"name": "early_stopping", "patience": 1, "min_delta": 9.0, "monitor": "loss"},
        train.LayerStatistics(),
    ]
    history = fit(network(), epochs=5, callbacks=given, run_dir=tmp_path / "r")
    assert len(history) == 2
    assert "has not improved" in history.stopped
    assert len((tmp_path / "r" / "history.csv").read_text().splitlines()) == 3
    made = {
        **dict.fromkeys(set(train.CALLBACKS) - {"mlflow", "tensorboard", "time_limit", "wandb"}),
        "time_limit": "1s",
    }
    for name, limit in made.items():
        one = train.named_callbacks.callback_of(
            {"name": name} if limit is None else {"name": name, "limit": limit}
        )
        assert isinstance(one, train.Callback)


@pytest.mark.parametrize(("given", "error", "said"), [
    ("early_stoping", ValueError, "early_stopping"), ({"patience": 2}, ValueError, "callback"),
    ({"name": "early_stopping", "patients": 2}, TypeError, "patience"), ({"name": "early_stopping", "patience": 0}, ValueError, "patience"),
])  # fmt: skip
def test_unknown_callbacks_are_refused(given, error, said):
    with pytest.raises(error, match=said):
        fit(network(), callbacks=given)


# ----- texts -----


def test_texts_of_each_epoch(tmp_path):
    text = an.data.Text.from_text("to be or not to be " * 40, context=12)
    an.random.manual_seed(0)
    net = text.network("lstm", width=12)
    state = net.state_dict()
    plain = an.fit(net, text, epochs=2, progress=False)
    weights = values(net)
    again = text.network("lstm", width=12)
    again.load_state_dict(state)
    samples = train.TextSamples("to ", length=15)
    history = an.fit(again, text, epochs=2, progress=False, callbacks=samples, run_dir=tmp_path / "r")
    lines = [json.loads(line) for line in (tmp_path / "r" / "samples.jsonl").read_text().splitlines()]
    assert lines == samples.records
    assert [r["epoch"] for r in lines] == [1, 2]
    assert all(len(r["text"]) == 15 and set(r["text"]) <= set("to bernt") for r in lines)
    assert history.column("loss") == plain.column("loss")
    assert same(values(again), weights)
    last = "".join(an.generate(again, "to ", length=15, preprocessing=text.preprocessing))
    assert last == lines[-1]["text"]
    with pytest.raises(ValueError, match="é"):
        an.fit(again, text, progress=False, callbacks=train.TextSamples("é"))


# ----- early stopping -----


class Falls(train.Callback):
    """A quantity of each epoch, to be monitored."""

    adds = ("score",)

    def __init__(self, scores):
        self.scores, self.kept = scores, []

    def on_epoch_end(self, run):
        run.record["score"] = self.scores[run.epoch - 1]
        self.kept.append(values(run.model))


@pytest.mark.parametrize(("options", "epochs"), [
    ({}, 4), ({"min_epochs": 5}, 5), ({"baseline": 0.95}, 2), ({"baseline": 0.6}, 4), ({"min_delta": 0.5}, 3),
])  # fmt: skip
def test_early_stopping_with_a_baseline_and_least_epochs(options, epochs):
    scores = Falls([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    stop = train.EarlyStopping("score", mode="max", patience=2, **options)
    assert len(fit(network(), epochs=6, callbacks=[scores, stop])) == epochs


def test_early_stopping_restores_its_best_also_after_a_break(tmp_path):
    def breaks(run):
        if run.epoch == 3:
            raise ZeroDivisionError

    def stop():
        return train.EarlyStopping("score", mode="max", patience=3, restore_best=True)

    net, scores = network(), Falls([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    fit(net, epochs=6, lr=0.05, callbacks=[scores, stop()])
    assert same(values(net), scores.kept[1])
    options = {"epochs": 6, "lr": 0.05, "run_dir": tmp_path / "r"}
    with pytest.raises(ZeroDivisionError):
        fit(network(), callbacks=[Falls(scores.scores), stop(), train.on(batch_end=breaks)], **options)
    again = network()
    fit(again, callbacks=[Falls(scores.scores), stop()], resume=True, **options)
    assert same(values(again), values(net))


# ----- checkpoints -----


def test_checkpoints_are_kept_and_go_on(tmp_path):
    whole = network(drop=0.3)
    fit(
        whole,
        epochs=5,
        callbacks=train.Checkpoint(keep=2),
        run_dir=tmp_path / "r",
        optimizer="schedulefreeadamw",
    )
    folder = tmp_path / "r" / "checkpoints"
    assert sorted(f.name for f in folder.iterdir()) == ["epoch-0004.safetensors", "epoch-0005.safetensors"]
    shutil.copy(folder / "epoch-0004.safetensors", tmp_path / "r" / "last.safetensors")
    net = network(drop=0.3)
    fit(
        net,
        epochs=5,
        callbacks=train.Checkpoint(),
        run_dir=tmp_path / "r",
        resume=True,
        optimizer="schedulefreeadamw",
    )
    assert same(values(net), values(whole))
    fit(network(), epochs=2, callbacks=train.Checkpoint(tmp_path / "c", steps=3, keep=None))
    assert sorted(f.name for f in (tmp_path / "c").iterdir()) == [
        f"step-{n:06d}.safetensors" for n in (3, 6, 9)
    ]
    fit(network(), callbacks=train.Checkpoint(tmp_path / "m", minutes=1e-9, keep=1))
    assert [f.name for f in (tmp_path / "m").iterdir()] == ["step-000005.safetensors"]
    with pytest.raises(ValueError, match="give it a folder, or fit a run_dir"):
        fit(network(), callbacks=train.Checkpoint())


# ----- statistics -----


def test_statistics_of_layers(tmp_path):
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Tanh())
    net[0].bias.assign_(an.asarray([-1e3, -1e3, -1e3, 0.0, 0.0, 0.0]))
    statistics = train.LayerStatistics()
    norms, weights = [], []

    def first(run):
        if run.batch == 1:
            norms.append(float(np.sqrt(sum((p.grad.numpy() ** 2).sum() for p in run.model.parameters()))))
            weights.append(values(run.model))

    before = values(net)
    history = fit(
        net,
        epochs=2,
        optimizer="sgd",
        lr=0.1,
        callbacks=[statistics, train.on(batch_end=first)],
        run_dir=tmp_path / "r",
    )
    layers = statistics.records[0]["layers"]
    assert layers["1"]["dead"] == 0.5
    assert 0 <= layers["3"]["saturated"] <= 1
    assert "saturated" not in layers["0"]
    kept = [json.loads(line) for line in (tmp_path / "r" / "statistics.jsonl").read_text().splitlines()]
    assert kept == statistics.records
    assert history[0]["gradient_norm"] == pytest.approx(norms[0], rel=1e-5)
    moved = np.sqrt(sum(((weights[0][k] - before[k]) ** 2).sum() for k in ("2.weight", "2.bias")))
    size = np.sqrt(sum((before[k] ** 2).sum() for k in ("2.weight", "2.bias")))
    assert layers["2"]["update_ratio"] == pytest.approx(moved / size, rel=1e-4)
    assert layers["2"]["weight_norm"] == pytest.approx(size, rel=1e-5)
    with an.no_grad():
        out = an.nn.functional.relu(net[0](history and an.asarray(X[:8])))
    assert out.shape == (8, 6)


# ----- loggers -----


def test_a_table_of_the_history(tmp_path):
    fit(network(), val=(X, Y), epochs=2, callbacks=train.CSVLogger(), run_dir=tmp_path / "r")
    history = fit(
        network(), val=(X, Y), epochs=3, callbacks=train.CSVLogger(), run_dir=tmp_path / "r", resume=True
    )
    with open(tmp_path / "r" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["val_loss"]) for r in rows] == history.column("val_loss")
    with pytest.raises(ValueError, match="give it a path"):
        fit(network(), callbacks=train.CSVLogger())


def test_tensorboard(tmp_path):
    needs("tensorboardX", "tensorboard").SummaryWriter  # noqa: B018
    fit(network(), val=(X, Y), epochs=2, callbacks=train.TensorBoard(every=2), run_dir=tmp_path / "r")
    [file] = (tmp_path / "r" / "tensorboard").iterdir()
    written = file.read_bytes()
    assert b"loss/valid" in written
    assert b"batch_loss/train" in written


class Library:
    """A stand-in for wandb and mlflow, which notes what it is told."""

    def __init__(self):
        self.calls = []
        self.id = "abc"
        self.info = types.SimpleNamespace(run_id="abc")

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return self

        return call


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_services(name, monkeypatch, tmp_path):
    library = Library()
    monkeypatch.setitem(sys.modules, name, library)
    make = (lambda: train.WandB("p")) if name == "wandb" else (lambda: train.MLflow("p", uri="file:x"))
    history = fit(network(), epochs=2, callbacks=make(), run_dir=tmp_path / "r")
    names = [c[0] for c in library.calls]
    log = "log" if name == "wandb" else "log_metrics"
    logged = [c for c in library.calls if c[0] == log]
    assert [c[1][0]["loss"] for c in logged] == history.column("loss")
    assert [c[2]["step"] for c in logged] == [5, 10]
    assert names[-1] == ("finish" if name == "wandb" else "end_run")
    library.calls.clear()
    fit(network(), epochs=3, callbacks=make(), run_dir=tmp_path / "r", resume=True)
    begin = next(c for c in library.calls if c[0] in ("init", "start_run"))
    assert begin[2]["id" if name == "wandb" else "run_id"] == "abc"
    library.calls.clear()
    with pytest.raises(ZeroDivisionError):
        fit(network(), epochs=2, callbacks=[make(), train.on(epoch_end=lambda run: 1 // 0)])
    ended = library.calls[-1]
    assert ended == (("finish", (), {"exit_code": 1}) if name == "wandb" else ("end_run", ("FAILED",), {}))


@pytest.mark.parametrize(("callback", "name"), [(train.WandB, "wandb"), (train.MLflow, "mlflow")])
def test_a_missing_library_is_named_before_anything_begins(callback, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=name):
        fit(network(), callbacks=callback())


# ----- the learning-rate finder -----


def test_lr_find_leaves_everything_as_it_was():
    net = network(norm=True, drop=0.3)
    optimizer = an.optim.Adam(net.parameters(), lr=0.01)
    fit(net, optimizer=optimizer)
    before, state = values(net), an.random.get_state()
    kept = {k: v for k, v in optimizer.state_dict()["state"][0].items()}
    found = an.lr_find(net, (X, Y), "cross_entropy", optimizer=optimizer, steps=60, batch_size=8)
    assert same(values(net), before)
    assert an.random.get_state() == state
    assert optimizer.param_groups[0]["lr"] == 0.01
    after = optimizer.state_dict()["state"][0]
    assert after["step"] == kept["step"]
    assert after["exp_avg"].tolist() == kept["exp_avg"].tolist()
    assert found.rates[0] == 1e-7
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e8) / 59)
    assert len(found.rates) == len(found.losses) == len(found.smooth)


def test_lr_find_suggests_a_rate_that_learns():
    weights = rng.standard_normal((4, 1)).astype("f4")
    data = X, X @ weights
    found = an.lr_find(nn.Linear(4, 1), data, "mse", optimizer="sgd", batch_size=8)
    assert 1e-2 < found.suggestion < 1.0
    net = nn.Linear(4, 1)
    first, *_, last = an.fit(
        net, data, loss="mse", optimizer="sgd", lr=found.suggestion, epochs=20, progress=False
    ).column("loss")
    assert last < first / 10
    assert "suggestion=" in repr(found)
    for change, message in (({"start": 1.0, "end": 0.1}, "start must be below end"), ({"steps": 1}, "steps")):
        with pytest.raises(ValueError, match=message):
            an.lr_find(net, data, "mse", **change)


def test_lr_find_plots():
    needs("matplotlib", "plot").use("Agg")
    ax = an.lr_find(network(), (X, Y), "cross_entropy", steps=30, batch_size=8).plot()
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "learning rate"
    needs("matplotlib.pyplot", "plot").close("all")
