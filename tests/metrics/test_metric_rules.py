"""What metrics refuse, what they keep, and metrics of one's own."""

import math
import pickle

import numpy as np
import pytest
import sklearn.metrics as sk

import anynet as an
from anynet import metrics

rng = np.random.default_rng(0)
NAMES = sorted(metrics.METRICS)
REGRESSION = {"mse", "rmse", "mae", "mape", "r2", "explained_variance", "pearson"}
P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
Y = np.array([0, 2, 1, 1])


def batch(name):
    if name == "bleu":
        return ["a b c d e"], ["a b c d f"]
    if name in REGRESSION:
        return P[:, 0], P[:, 1]
    return P, Y


def made(name, **options):
    return metrics.METRICS[name](**({"k": 2} if name == "top_k" else {}), **options)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_measure_and_nan_have_no_value(name):
    metric = made(name)
    with pytest.raises(metrics.UndefinedError, match="nothing has been measured"):
        metric.compute()
    if name == "bleu":
        return
    output, target = batch(name)
    metric.update(output[:0], target[:0])
    if name != "confusion":
        with pytest.raises(metrics.UndefinedError, match=name):
            metric.compute()
        metric.update(output, target, np.zeros(4))
        with pytest.raises(metrics.UndefinedError, match=name):
            metric.compute()
    metric.update(output, target)
    found = np.asarray(getattr(metric.compute(), "data", metric.compute()))
    whole = made(name)
    whole.update(output, target)
    np.testing.assert_allclose(
        found, np.asarray(getattr(whole.compute(), "data", whole.compute())), rtol=1e-12
    )
    bad = np.array(output)
    bad[1] = np.nan
    metric.update(bad, target)
    with pytest.raises(metrics.UndefinedError, match="NaN"):
        metric.compute()
    if name in REGRESSION:
        metric.reset()
        metric.update(output, np.where(np.arange(4) == 2, np.nan, target))
        with pytest.raises(metrics.UndefinedError, match="NaN"):
            metric.compute()


@pytest.mark.parametrize("name", NAMES)
def test_after_an_error_a_metric_is_as_it_was(name):
    metric, (output, target) = made(name), batch(name)
    metric.update(output, target)
    before = repr(metric.state_dict())
    for wrong in ((output, target[:-1]), (output, np.zeros((4, 5, 2))), (["x"], 3.0), ({"a": 1}, target)):
        with pytest.raises((ValueError, TypeError, IndexError), match=name):
            metric.update(*wrong)
    if name != "bleu":
        with pytest.raises(ValueError, match="weight must have shape"):
            metric.update(output, target, np.ones(3))
    assert repr(metric.state_dict()) == before


@pytest.mark.parametrize("name", NAMES)
def test_states_travel_between_processes(name):
    metric, (output, target) = made(name), batch(name)
    metric.update(output, target)
    there = pickle.loads(pickle.dumps(metric))
    assert repr(there) == repr(metric)
    there.merge(metric)
    twice = made(name)
    twice.update(output, target)
    twice.update(output, target)
    assert repr(there.compute()) == repr(twice.compute())
    assert there.mode == metric.mode in ("max", "min", None)
    with pytest.raises(ValueError, match="same class and options"):
        there.merge(metrics.Mean(lambda o, t: 1.0))
    with pytest.raises(ValueError, match="its state has"):
        metric.load_state_dict({"nonsense": 1})
    assert pickle.loads(pickle.dumps(getattr(metrics, name))) is getattr(metrics, name)


def test_merging_asks_for_the_same_options():
    with pytest.raises(ValueError, match="same class and options"):
        metrics.F1(average="macro").merge(metrics.F1())
    assert repr(metrics.F1(average="macro", logits=True)) == "F1(average='macro', logits=True)"


def test_what_is_no_probability_is_refused():
    for name in ("log_loss", "brier", "calibration", "perplexity", "bits_per_character"):
        function = getattr(metrics, name)
        with pytest.raises(ValueError, match=f"{name}: .*say logits=True"):
            function([2.0, -1.0], [1, 0])
        with pytest.raises(ValueError, match="sum to 1"):
            function([[0.5, 0.1], [0.5, 0.1]], [1, 0])
        with pytest.raises(ValueError, match="probabilities or logits"):
            function([1, 0], [1, 0])
    with pytest.raises(ValueError, match="logits=True"):
        metrics.accuracy([2.0, -1.0], [1, 0])
    assert metrics.accuracy([2.0, -1.0], [1, 0], threshold=0.0) == 1.0
    assert metrics.accuracy([2.0, -1.0], [1, 0], logits=True) == 1.0
    assert metrics.roc_auc([2.0, -1.0], [1, 0]) == 1.0  # any scores order


@pytest.mark.parametrize("name", ["f1", "log_loss", "confusion", "accuracy", "top_k", "roc_auc"])
def test_targets_that_are_no_classes_are_refused(name):
    options = {"k": 2} if name == "top_k" else {}
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"{name}: the target {wrong} is not among the 3 classes"):
            getattr(metrics, name)(P, [0, 1, wrong, 2], **options)
    with pytest.raises(TypeError, match="integers, got float64"):
        getattr(metrics, name)(P, [0.0, 1.0, 1.0, 2.0], **options)
    with pytest.raises(TypeError, match="number the classes"):
        getattr(metrics, name)(P, ["a", "b", "a", "b"], **options)


def test_options_that_are_none_are_refused():
    for function, options, message in (
        (metrics.f1, {"average": "makro"}, "average must be one of"),
        (metrics.f1, {"average": "binary"}, "for two classes, got 3 classes"),
        (metrics.precision, {"zero_division": 2}, "zero_division"),
        (metrics.top_k, {"k": 0}, "at least 1"),
        (metrics.top_k, {"k": 3}, "choose k below 3"),
        (metrics.calibration, {"bins": 0}, "bins"),
        (metrics.roc_auc, {"multi_class": "ovx"}, "multi_class"),
        (metrics.roc_auc, {"multi_class": "ovo", "average": "micro"}, "ovo"),
        (metrics.confusion, {"normalize": "rows"}, "normalize"),
        (metrics.mse, {"multioutput": "sum"}, "multioutput"),
        (metrics.bleu, {"tokenize": "intl"}, "tokenize"),
    ):
        with pytest.raises(ValueError, match=message):
            function(P, Y, **options)
    with pytest.raises(TypeError, match="unexpected keyword"):
        metrics.f1(P, Y, avrage="macro")
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        metrics.get("acuracy")


def test_names():
    assert repr(metrics.get("top_3")) == "TopK(k=3)"
    for alias, name in (
        ("auc", "roc_auc"),
        ("jaccard", "iou"),
        ("mean_squared_error", "mse"),
        ("ece", "calibration"),
    ):
        metric = metrics.get(alias)
        assert type(metric) is metrics.METRICS[name]
        assert metric.name == alias
    assert metrics.get("RMSE").mode == "min"
    assert metrics.get("confusion").mode is None


def test_ignored_targets_do_not_count():
    y = np.where(np.arange(4) == 1, -100, Y)
    keep = y != -100
    assert metrics.accuracy(P, y) == (P.argmax(1) == Y)[keep].mean()
    assert metrics.log_loss(P, y) == pytest.approx(sk.log_loss(Y[keep], P[keep], labels=[0, 1, 2]))
    assert (
        metrics.confusion(P, y).tolist()
        == sk.confusion_matrix(Y[keep], P.argmax(1)[keep], labels=[0, 1, 2]).tolist()
    )
    assert metrics.f1(P, np.where(y < 0, 255, y), ignore_index=255, average="micro") == metrics.accuracy(P, y)
    with pytest.raises(metrics.UndefinedError, match="all are ignored"):
        metrics.accuracy(P, np.full(4, -100))


def test_positions_of_sequences_and_pictures():
    logits, y, w = rng.normal(size=(5, 4, 3, 2)), rng.integers(0, 4, (5, 3, 2)), rng.random(5)
    flat, labels = np.moveaxis(logits, 1, -1).reshape(-1, 4), y.reshape(-1)
    said, weight = flat.argmax(1), np.repeat(w, 6)
    assert metrics.accuracy(logits, y, w) == pytest.approx(
        sk.accuracy_score(labels, said, sample_weight=weight)
    )
    expected = sk.jaccard_score(labels, said, average="macro", sample_weight=weight)
    assert metrics.iou(logits, y, w) == pytest.approx(expected)
    each = rng.random((5, 3, 2))
    expected = sk.f1_score(labels, said, average="macro", sample_weight=each.reshape(-1))
    assert metrics.f1(logits, y, each) == pytest.approx(expected)


def test_a_metric_of_functions_of_output_and_target():
    scale = lambda y: 1000 * y + 5  # noqa: E731
    metric = metrics.Transformed("rmse", output=lambda o: scale(o[0]), target=scale, name="dollars")
    assert (metric.name, metric.mode) == ("dollars", "min")
    for rows in (slice(0, 1), slice(1, 4)):
        metric.update((P[rows, 0], "more"), P[rows, 1])
    assert metric.compute() == pytest.approx(1000 * metrics.rmse(P[:, 0], P[:, 1]))
    again = metric.fresh()
    again.load_state_dict(metric.state_dict())
    assert again.compute() == metric.compute()


def test_means_of_functions():
    pairs = metrics.Mean(lambda o, t: (an.sum(o - t), len(t)), name="bias")
    numbers = metrics.Mean(lambda o, t: float(an.mean(o - t)))
    arrays = metrics.Mean(lambda o, t: an.mean(o - t))
    o, t = an.asarray(P[:, 0]), an.asarray(P[:, 1])
    for metric in (pairs, numbers, arrays):
        metric.update(o[:3], t[:3])
        metric.update(o[3:], t[3:])
        assert metric.compute() == pytest.approx(float(an.mean(o - t)))
        assert metric.mode is None
    with pytest.raises(TypeError, match="expected a number for the batch"):
        metrics.Mean(lambda o, t: "good").update(o, t)
    with pytest.raises(TypeError, match="is a class"):
        metrics.get(metrics.F1)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        metrics.Mean(abs, mode="up")


def test_a_metric_of_ones_own():
    class Largest(metrics.Metric):
        name, higher_is_better = "largest", False
        states = {"most": "max", "seen": "add"}  # noqa: RUF012

        def measure(self, output, target, weight):
            return {"most": an.max(an.abs(output - target)), "seen": target.size}

        def result(self, state):
            return float(state["most"])

    metric, o, t = Largest(), an.asarray(P[:, 0]), an.asarray(P[:, 1])
    metric.update(o[:1], t[:1])
    metric.update(o[1:], t[1:])
    assert metric.compute() == float(abs(P[:, 0] - P[:, 1]).max())
    assert metric.state_dict() == {"most": metric.compute(), "seen": 4}


def test_values_do_not_wait_for_more_than_compute():
    metric = metrics.RocAuc()
    scores = np.array([0.1, 0.9])
    metric.update(scores, [0, 1])
    scores[:] = 0.5  # a buffer that is used again
    assert metric.compute() == 1.0
    metric.update([0.95], [0])
    assert metric.compute() == 0.5
    assert math.isnan(metrics.roc_auc([0.1, 0.2], [0, 0]))
