"""Metrics in fit and evaluate: names, directions, records, checkpoints."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import expit, softmax

import anynet as an
from anynet import nn, train
from anynet.train.checkpoint import load

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4)).astype("f4")
Y = rng.integers(0, 3, 50)
CLASSES = ["accuracy", "top_2", "balanced_accuracy", "precision", "recall", "f1", "auc", "average_precision", "log_loss", "brier",
           "calibration", "perplexity", "bits_per_character", "iou", "cohen_kappa", "matthews", "confusion"]  # fmt: skip
NUMBERS = ["mse", "rmse", "mae", "mape", "r2", "explained_variance", "pearson"]


def network(outputs=3):
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


def fit(net, data=(X, Y), **options):
    given = {"loss": "cross_entropy", "progress": False, "device": "cpu", "batch_size": 8, "lr": 0.01}
    return an.fit(net, data, **{**given, **options})


def test_all_names_in_evaluate():
    net = network()
    logits = an.predict(net, X).numpy().astype("f8")
    p, said = softmax(logits, axis=1), logits.argmax(1)
    for size in (7, 50):
        found = an.evaluate(net, (X, Y), loss="cross_entropy", metrics=CLASSES, batch_size=size)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(Y, said))
        assert found["f1"] == pytest.approx(sk.f1_score(Y, said, average="macro"))
        assert found["auc"] == pytest.approx(sk.roc_auc_score(Y, p, multi_class="ovr"))
        assert found["log_loss"] == pytest.approx(sk.log_loss(Y, p), rel=1e-5)
        assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-5)
        assert found["confusion"] == sk.confusion_matrix(Y, said).tolist()
        json.dumps(found)
    real = Y[:, None].astype("f4")
    net = network(1)
    guess = an.predict(net, X).numpy().astype("f8")
    found = an.evaluate(net, (X, real), loss="mse", metrics=NUMBERS, batch_size=7)
    assert found["r2"] == pytest.approx(sk.r2_score(real, guess), rel=1e-5)
    assert (
        found["mse"] == pytest.approx(found["loss"], rel=1e-5) == pytest.approx(found["rmse"] ** 2, rel=1e-5)
    )
    assert set(found) == {"loss", *NUMBERS}


def test_what_the_loss_says_of_the_output():
    net, yes = network(1), (Y == 1).astype("f4")[:, None]
    logit = an.predict(net, X).numpy().astype("f8")[:, 0]
    found = an.evaluate(
        net, (X, yes), loss="bce_with_logits", metrics=["f1", "log_loss", "brier", "roc_auc"], batch_size=7
    )
    assert found["f1"] == pytest.approx(sk.f1_score(yes[:, 0], logit > 0))
    assert found["log_loss"] == pytest.approx(sk.log_loss(yes[:, 0], expit(logit)), rel=1e-5)
    net = nn.Sequential(net, nn.Sigmoid())
    other = an.evaluate(net, (X, yes), loss="bce", metrics=["f1", "log_loss", "brier", "roc_auc"])
    assert {k: pytest.approx(v, rel=1e-5) for k, v in found.items()} == other
    own = lambda output, target: an.mean((output - target) ** 2)  # noqa: E731
    for metric in ("f1", "log_loss"):
        with pytest.raises(ValueError, match="logits="):
            an.evaluate(net, (X, yes), loss=own, metrics=[metric])
    metric = an.metrics.F1(logits=False)
    assert an.evaluate(net, (X, yes), loss=own, metrics=[metric])["f1"] == pytest.approx(found["f1"])
    assert metric.state_dict() == {}  # the caller's is not touched


@pytest.mark.parametrize(("monitor", "better"), [("val_auc", max), ("val_log_loss", min), ("val_top_2", max)])
def test_directions_are_the_metrics_own(monitor, better, tmp_path):
    metrics, val = [monitor.removeprefix("val_"), "accuracy"], (X[:20], Y[:20])
    history = fit(network(), val=val, metrics=metrics, monitor=monitor, epochs=4, run_dir=tmp_path, lr=0.3)
    net, best = network(), load(tmp_path / "best.safetensors")
    net.load_state_dict(best.get("model", best))
    found = an.evaluate(net, val, loss="cross_entropy", metrics=metrics)
    assert found[metrics[0]] == pytest.approx(better(history.column(monitor)), rel=1e-5)


def test_what_is_no_number_is_recorded_and_not_monitored():
    class Ends(an.metrics.Metric):
        name = "ends"
        states = {"low": "min", "high": "max"}  # noqa: RUF012

        def measure(self, output, target, weight):
            return {"low": an.min(output), "high": an.max(output)}

        def result(self, state):
            return {"low": float(state["low"]), "high": an.asarray(state["high"])}

    history = fit(network(), val=(X[:9], Y[:9]), metrics=["confusion", Ends()], epochs=2)
    assert np.sum(history[-1]["confusion"]) == 50
    assert np.sum(history[-1]["val_confusion"]) == 9
    assert set(history[-1]["val_ends"]) == {"low", "high"}
    json.dumps(history)
    for monitor, metric in (("confusion", "confusion"), ("f1", an.metrics.F1(average=None))):
        with pytest.raises(ValueError, match="not a single number"):
            fit(network(), metrics=[metric], monitor=monitor, mode="max")
    with pytest.raises(TypeError, match="'ends', which must be a number, got dict"):
        fit(network(), metrics=[Ends()], monitor="ends", mode="max")


def test_numbers_of_a_batch_count_by_its_samples():
    error = lambda output, target: float(an.mean(an.abs(output[:, 0])))  # noqa: E731
    error.__name__ = "error"
    net = network()
    found = an.evaluate(net, (X, Y), loss="cross_entropy", metrics=[error], batch_size=7)
    assert found["error"] == pytest.approx(float(np.abs(an.predict(net, X).numpy()[:, 0]).mean()), rel=1e-5)


def test_objects_of_others_with_update_compute_and_reset():
    class Theirs:
        higher_is_better = True

        def __init__(self):
            self.reset()

        def reset(self):
            self.seen = []

        def update(self, output, target):
            self.seen += target.tolist()

        def compute(self):
            return float(len(self.seen))

    mine = Theirs()
    history = fit(network(), val=(X[:9], Y[:9]), metrics=[mine], epochs=2, monitor="val_Theirs")
    assert [r["Theirs"] for r in history] == [50.0, 50.0]
    assert [r["val_Theirs"] for r in history] == [9.0, 9.0]
    assert mine.seen == []


class _Stop(train.Callback):
    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (2, 3):
            raise KeyboardInterrupt


def test_resumed_in_the_middle_of_an_epoch_metrics_go_on_exactly(tmp_path):
    metrics = [*CLASSES, lambda o, t: (1.0, len(t))]
    whole = fit(network(), metrics=metrics, epochs=3, run_dir=tmp_path / "a", checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(
            network(),
            metrics=metrics,
            epochs=3,
            run_dir=tmp_path / "b",
            checkpoint_every=1,
            callbacks=[_Stop()],
        )
    resumed = fit(
        network(), metrics=metrics, epochs=3, run_dir=tmp_path / "b", checkpoint_every=1, resume=True
    )
    strip = lambda h: [{k: v for k, v in r.items() if k != "seconds"} for r in h]  # noqa: E731
    assert strip(resumed) == strip(whole)


def test_language_models_have_their_classes_last():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 5))
    tokens = rng.integers(0, 5, (8, 9))
    data = tokens[:, :-1], tokens[:, 1:]
    names = ["perplexity", "accuracy", "f1", "bleu"]
    found = an.evaluate(net, data, loss="token_cross_entropy", metrics=names, batch_size=3)
    logits = an.predict(net, data[0]).numpy()
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == data[1]).mean())
    assert found["bleu"] == pytest.approx(an.metrics.bleu(logits.argmax(-1).tolist(), data[1].tolist()))
