"""Metrics against scikit-learn's (SciPy's, sacrebleu's), in every split into batches, dtype and library of arrays."""

import itertools
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.special import expit, softmax
from scipy.stats import pearsonr
from sklearn.calibration import calibration_curve

import anynet as an
from anynet import metrics
from anynet_backends import resolve
from optional_libraries import needs

rng = np.random.default_rng(0)
CUTS = ([], [1], [3, 3, 20], [10, 40])


def quiet(function, *args, **options):
    """scikit-learn's value without its warnings: NaN or 0 says the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


def splits(metric, output, target, weight=None):
    """The values of a metric over the whole, and over several splits, joined by update and by merge."""
    for cuts in CUTS:
        bounds = [0, *(min(c, len(target)) for c in cuts), len(target)]
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a or len(target) == 0]
        whole, merged = metric.fresh(), metric.fresh()
        for part in parts:
            weights = None if weight is None else weight[part]
            whole.update(output[part], target[part], weights)
            other = metric.fresh()
            other.update(output[part], target[part], weights)
            merged.merge(other)
        restored = metric.fresh()
        restored.load_state_dict(whole.state_dict())
        yield whole.compute()
        yield merged.compute()
        yield restored.compute()


def check(metric, output, target, expected, weight=None, tolerance=1e-12):
    for value in splits(metric, output, target, weight):
        if isinstance(value, an.Tensor):
            assert str(value.dtype) in ("float64", "int64")
            value = value.numpy()
        else:
            assert type(value) is float
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


def classes(n=60, c=4, seed=0):
    r = np.random.default_rng(seed)
    logits = r.normal(size=(n, c))
    return logits, softmax(logits, axis=1), r.integers(0, c, n), r.random(n)


# ----- decisions -----

AVERAGED = [
    (metrics.Precision, sk.precision_score),
    (metrics.Recall, sk.recall_score),
    (metrics.F1, sk.f1_score),
    (metrics.IoU, sk.jaccard_score),
]


@pytest.mark.parametrize("zero_division", [0.0, 1.0, math.nan])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize(("ours", "theirs"), AVERAGED)
def test_averages_over_classes(ours, theirs, average, zero_division):
    if theirs is sk.jaccard_score and math.isnan(zero_division):
        zero_division = 0.0  # it takes no NaN
    for seed, c in ((0, 3), (1, 4), (2, 7)):
        logits, _, y, w = classes(40, c, seed)
        if seed == 1:
            y = np.where(y == 2, 1, y)  # a class that is said and never true
        if seed == 2:
            logits[:, 5] = -99.0  # one that is true and never said
        said = logits.argmax(1)
        labels = range(c) if average is None else None
        metric = ours(average=average, zero_division=zero_division)
        for weight in (None, w, np.where(np.arange(40) < 20, 0.0, 1.0)):
            if weight is not None and weight[0] == 0 and average is not None:
                labels = np.unique(np.concatenate([y[20:], said[20:]]))
            options = {"average": average, "zero_division": zero_division, "labels": labels}
            expected = quiet(theirs, y, said, sample_weight=weight, **options)
            check(metric, logits, y, expected, weight)
            check(
                metric,
                said,
                y,
                expected if average is not None else expected[: max(said.max(), y.max()) + 1],
                weight,
            )


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize(("ours", "theirs"), AVERAGED)
def test_averages_of_two_classes_and_of_labels(ours, theirs, zero_division):
    logit, y = rng.normal(size=50), rng.integers(0, 2, 50)
    for truth in (y, np.zeros_like(y), np.ones_like(y)):
        for positive in (0, 1):
            expected = quiet(theirs, truth, logit > 0, pos_label=positive, zero_division=zero_division)
            metric = ours(pos_label=positive, zero_division=zero_division, logits=True)
            check(metric, logit, truth, expected)
            check(metric, logit[:, None], truth[:, None].astype("f4"), expected)
            check(metric, (logit > 0).astype(int), truth, expected)
            check(metric, logit > 0, truth > 0, expected)
            check(metric, np.stack([-logit, logit], 1), truth, expected)
    labels, true, w = rng.normal(size=(50, 3)), rng.integers(0, 2, (50, 3)), rng.random(50)
    true[:, 1] = 0
    for average in ("macro", "micro", "weighted", None):
        for weight in (None, w):
            expected = quiet(
                theirs, true, labels > 0, average=average, zero_division=zero_division, sample_weight=weight
            )
            metric = ours(average=average, zero_division=zero_division, logits=True)
            check(metric, labels, true, expected, weight)
            check(
                ours(average=average, zero_division=zero_division, multilabel=True),
                (labels > 0).astype(int), true, expected, weight,
            )  # fmt: skip


def test_shares_of_right_answers():
    logits, p, y, w = classes()
    said = logits.argmax(1)
    for weight in (None, w):
        check(metrics.Accuracy(), logits, y, sk.accuracy_score(y, said, sample_weight=weight), weight)
        check(
            metrics.BalancedAccuracy(),
            p,
            y,
            sk.balanced_accuracy_score(y, said, sample_weight=weight),
            weight,
        )
        expected = sk.balanced_accuracy_score(y, said, sample_weight=weight, adjusted=True)
        check(metrics.BalancedAccuracy(adjusted=True), p, y, expected, weight)
        check(metrics.Matthews(), logits, y, sk.matthews_corrcoef(y, said, sample_weight=weight), weight)
        for weights in (None, "linear", "quadratic"):
            expected = sk.cohen_kappa_score(y, said, weights=weights, sample_weight=weight)
            check(metrics.CohenKappa(weights=weights), logits, y, expected, weight)
        for normalize in (None, "true", "pred", "all"):
            expected = sk.confusion_matrix(y, said, normalize=normalize, sample_weight=weight)
            check(metrics.Confusion(normalize=normalize), logits, y, expected, weight)
        for k in (1, 2, 3):
            for scores in (logits, np.round(logits)):  # with ties
                expected = sk.top_k_accuracy_score(y, scores, k=k, sample_weight=weight)
                check(metrics.TopK(k=k), scores, y, expected, weight)
    labels, true = rng.random((30, 4)), rng.integers(0, 2, (30, 4))
    check(metrics.Accuracy(), labels, true, ((labels > 0.5) == true).mean())
    check(metrics.Accuracy(subset=True), labels, true, sk.accuracy_score(true, labels > 0.5))
    assert metrics.confusion(logits, y).dtype == an.int64
    assert metrics.matthews([0, 0], [0, 1]) == sk.matthews_corrcoef([0, 1], [0, 0]) == 0.0


def test_one_class_and_one_sample():
    assert metrics.balanced_accuracy([0, 1], [0, 0]) == 0.5
    assert metrics.accuracy([1], [1]) == metrics.f1([1], [1]) == metrics.iou([1], [1]) == 1.0
    assert metrics.f1([0, 0], [0, 0]) == 0.0
    assert metrics.confusion([0, 0], [0, 0]).tolist() == [[2]]


# ----- probabilities -----


def test_probabilities_of_classes():
    for dtype, tolerance in (("f8", 1e-12), ("f4", 2e-6)):
        for c in (2, 5):
            logits, p, y, w = classes(c=c)
            p[0] = np.eye(c)[(y[0] + 1) % c]  # certain, and wrong
            p, logits = p.astype(dtype), logits.astype(dtype)
            for weight in (None, w):
                expected = sk.log_loss(y, p, sample_weight=weight, labels=range(c))
                check(metrics.LogLoss(), p, y, expected, weight, tolerance)
                check(metrics.Perplexity(), p, y, np.exp(expected), weight, tolerance * 10)
                check(metrics.BitsPerCharacter(), p, y, expected / np.log(2), weight, tolerance)
                q = softmax(logits.astype("f8"), axis=1)
                expected = sk.log_loss(y, q, sample_weight=weight, labels=range(c))
                check(metrics.LogLoss(logits=True), logits, y, expected, weight, tolerance)
                for half in ("auto", True, False):
                    expected = sk.brier_score_loss(
                        y, q, sample_weight=weight, labels=range(c), scale_by_half=half
                    )
                    check(
                        metrics.Brier(logits=True, scale_by_half=half), logits, y, expected, weight, tolerance
                    )


def test_probabilities_of_yes_or_no():
    logit, y, w = rng.normal(size=70), rng.integers(0, 2, 70), rng.random(70)
    p = expit(logit)
    for weight in (None, w):
        expected = sk.log_loss(y, p, sample_weight=weight)
        check(metrics.LogLoss(), p, y, expected, weight)
        check(metrics.LogLoss(logits=True), logit[:, None], y, expected, weight)
        expected = sk.brier_score_loss(y, p, sample_weight=weight)
        check(metrics.Brier(), p, y > 0, expected, weight)
        check(metrics.Brier(logits=True), logit, y.astype("f4"), expected, weight)
    true, predicted = calibration_curve(y, p, n_bins=10)
    count = np.histogram(p, np.linspace(0, 1, 11))[0]
    gaps, shares = abs(true - predicted), count[count > 0] / 70
    check(metrics.Calibration(bins=10), p, y, (shares * gaps).sum())
    check(metrics.Calibration(bins=10, norm="max"), p, y, gaps.max())
    check(metrics.Calibration(bins=10, norm="l2", logits=True), logit, y, np.sqrt((shares * gaps**2).sum()))
    assert metrics.log_loss([1.0, 0.0], [0, 0]) == pytest.approx(
        sk.log_loss([0, 0], [1.0, 0.0], labels=[0, 1])
    )
    assert metrics.log_loss([-1000.0], [1], logits=True) == 1000.0  # no rounding to a probability of 0


def test_calibration_of_classes():
    logits, p, y, w = classes(200, 5)
    top, right = p.max(1), p.argmax(1) == y
    place = np.digitize(top, np.arange(1, 15) / 15, right=True)
    for weight in (None, w):
        u = np.ones(200) if weight is None else weight
        gaps = [abs((u * (right - top))[place == b].sum()) for b in range(15)]
        check(metrics.Calibration(logits=True), logits, y, sum(gaps) / u.sum(), weight)


# ----- order -----


@pytest.mark.parametrize("digits", [9, 1])  # with ties
def test_order_of_yes_or_no(digits):
    score, y, w = np.round(rng.normal(size=80), digits), rng.integers(0, 2, 80), rng.random(80)
    w[::7] = 0.0
    for weight in (None, w):
        for dtype in ("f8", "f4"):
            s = score.astype(dtype)
            check(metrics.RocAuc(), s, y, sk.roc_auc_score(y, s, sample_weight=weight), weight)
            expected = sk.average_precision_score(y, s, sample_weight=weight)
            check(metrics.AveragePrecision(), s[:, None], y.astype("f4"), expected, weight)
    two = np.stack([np.zeros(80), score], 1)
    check(metrics.RocAuc(logits=True), two, y, sk.roc_auc_score(y, score))


@pytest.mark.parametrize("digits", [9, 1])
def test_order_of_classes_and_labels(digits):
    logits, _, y, w = classes()
    logits = np.round(logits, digits)
    p = softmax(logits, axis=1)
    p = p / p.sum(1, keepdims=True)
    for average in ("macro", "weighted", "micro", None):
        for weight in (None, w):
            expected = sk.roc_auc_score(y, p, multi_class="ovr", average=average, sample_weight=weight)
            check(metrics.RocAuc(average=average), p, y, expected, weight)
            expected = sk.average_precision_score(y, p, average=average, sample_weight=weight)
            check(metrics.AveragePrecision(average=average), p, y, expected, weight)
    for average in ("macro", "weighted"):
        expected = sk.roc_auc_score(y, p, multi_class="ovo", average=average)
        check(metrics.RocAuc(multi_class="ovo", average=average), p, y, expected)
    scores, true = np.round(rng.normal(size=(60, 3)), digits), rng.integers(0, 2, (60, 3))
    for average in ("macro", "weighted", "micro", None):
        expected = sk.roc_auc_score(true, scores, average=average, sample_weight=w)
        check(metrics.RocAuc(average=average), scores, true, expected, w)
        expected = sk.average_precision_score(true, scores, average=average, sample_weight=w)
        check(metrics.AveragePrecision(average=average), scores, true, expected, w)


def test_order_without_a_class():
    score = rng.normal(size=9)
    for y in (np.zeros(9, int), np.ones(9, int)):
        check(metrics.RocAuc(), score, y, quiet(sk.roc_auc_score, y, score))
        check(metrics.AveragePrecision(), score, y, quiet(sk.average_precision_score, y, score))


# ----- numbers -----

REGRESSION = [
    (metrics.MSE, sk.mean_squared_error),
    (metrics.RMSE, sk.root_mean_squared_error),
    (metrics.MAE, sk.mean_absolute_error),
    (metrics.MAPE, sk.mean_absolute_percentage_error),
    (metrics.R2, sk.r2_score),
    (metrics.ExplainedVariance, sk.explained_variance_score),
]


@pytest.mark.parametrize(("ours", "theirs"), REGRESSION)
def test_numbers(ours, theirs):
    for shape in ((50,), (50, 1), (50, 3)):
        y, w = rng.normal(size=shape), rng.random(50)
        guess = y + 0.3 * rng.normal(size=shape)
        for weight in (None, w):
            for multioutput in ("uniform_average", "raw_values"):
                expected = theirs(y, guess, sample_weight=weight, multioutput=multioutput)
                check(ours(multioutput=multioutput), guess, y, expected, weight)
        check(ours(), guess.astype("f4"), y.astype("f4"), theirs(y, guess), tolerance=2e-6)
        far = 1e6 + y  # the mean is large, the spread is not
        check(ours(), guess + 1e6, far, theirs(far, guess + 1e6), tolerance=1e-9)
    y, guess = np.arange(4), np.array([1, 1, 2, 5])  # integers, and a target of 0
    check(ours(), guess, y, theirs(y, guess))
    check(ours(), guess.astype("f8")[:, None], y, theirs(y, guess))


@pytest.mark.parametrize(("ours", "theirs"), REGRESSION)
def test_numbers_that_are_constant_or_alone(ours, theirs):
    for value in (0.1, 3.0):
        y = np.full(37, value)
        for guess in (y, y + 1.0, rng.normal(size=37)):
            if theirs is sk.r2_score or theirs is sk.explained_variance_score:
                wrong = guess is not y and not (
                    theirs is sk.explained_variance_score and np.ptp(guess - y) < 1e-9
                )
                check(ours(), guess, y, 0.0 if wrong else 1.0)
            else:
                check(ours(), guess, y, theirs(y, guess))
    check(ours(), np.array([2.0]), np.array([3.0]), quiet(theirs, [3.0], [2.0]))


def test_pearson():
    y = rng.normal(size=50)
    guess = y + rng.normal(size=50)
    check(metrics.Pearson(), guess, y, pearsonr(guess, y)[0])
    check(metrics.Pearson(), 1e6 + guess, y, pearsonr(guess, y)[0], tolerance=1e-8)
    check(metrics.Pearson(), -2 * y, y, -1.0)
    assert math.isnan(metrics.pearson(np.ones(5), y[:5]))


def test_images_have_their_outputs_along_axis_1():
    y, guess = rng.normal(size=(2, 5, 3, 4, 6))
    flat = [np.moveaxis(a, 1, -1).reshape(-1, 3) for a in (y, guess)]
    check(
        metrics.RMSE(multioutput="raw_values"),
        guess,
        y,
        sk.root_mean_squared_error(*flat, multioutput="raw_values"),
    )
    check(metrics.R2(), guess, y, sk.r2_score(*flat))
    w = rng.random(5)
    expected = sk.mean_absolute_error(*flat, sample_weight=np.repeat(w, 24))
    check(metrics.MAE(), guess, y, expected, w)


# ----- texts -----

SAID = [
    "the cat sat on the mat.",
    "It is a guide to action, which ensures that",
    "",
    'Hello "world" 3.5-4 & more',
    "a b",
]
RIGHT = [["the cat sat on a mat."], ["It is a guide to action that", "it is the guide, which ensures"], ["nothing"],
         ["Hello world 3.5-4 &amp; more"], ["a b", "a c"]]  # fmt: skip


@pytest.mark.parametrize("tokenize", ["13a", "none", "char"])
@pytest.mark.parametrize("smoothing", ["exp", "floor", "add-k", "none"])
def test_bleu(smoothing, tokenize):
    sacrebleu = needs("sacrebleu", "product")
    for rows in ([0, 1, 2, 3, 4], [0], [4], [2], [4, 2]):
        said, right = [SAID[i] for i in rows], [RIGHT[i] for i in rows]
        width = max(map(len, right))
        references = [[r[i] if i < len(r) else None for r in right] for i in range(width)]
        for lowercase in (False, True):
            theirs = sacrebleu.metrics.BLEU(tokenize=tokenize, smooth_method=smoothing, lowercase=lowercase)
            metric = metrics.Bleu(tokenize=tokenize, smoothing=smoothing, lowercase=lowercase)
            check(metric, said, right, theirs.corpus_score(said, references).score, tolerance=1e-9)


def test_bleu_of_tokens():
    tokens = [["the", "cat", "sat", "on", "the", "mat"]]
    expected = metrics.bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert metrics.bleu(tokens, [["the", "cat", "sat", "on", "a", "mat"]]) == expected
    assert metrics.bleu([[1, 2, 3, 4, 1, 5]], [[[9], [1, 2, 3, 4, 6, 5]]]) == pytest.approx(expected)
    scores = np.eye(7)[[[1, 2, 3, 4, 1, 5, 0]]].transpose(0, 2, 1)
    assert metrics.bleu(scores, np.array([[1, 2, 3, 4, 6, 5, -100]])) == pytest.approx(expected)


# ----- everywhere -----


def every_case():
    logits, _, y, w = classes(30, 3)
    for name, cls in metrics.METRICS.items():
        if name == "bleu":
            continue
        if issubclass(
            cls,
            (metrics.MSE, metrics.MAE, metrics.MAPE, metrics.R2, metrics.ExplainedVariance, metrics.Pearson),
        ):
            yield name, {}, logits[:, 0], logits[:, 1], w
        else:
            options = {"top_k": {"k": 2}}.get(name, {})
            yield name, {**options, "logits": True}, logits, np.where(np.arange(30) % 5 == 0, -100, y), w


@pytest.mark.parametrize("name", [case[0] for case in every_case()])
def test_on_each_device(name, xp_device):
    options, output, target, weight = next(case[1:] for case in every_case() if case[0] == name)
    function = getattr(metrics, name)
    xp, device = resolve(xp_device)
    for w in (None, weight):
        expected = function(output, target, w, **options)
        moved = [None if a is None else xp.from_host(np.asarray(a), device) for a in (output, target, w)]
        metric = metrics.get(name).__class__(**options)
        metric.update(*(None if a is None else a[:11, ...] for a in moved))
        metric.update(*(None if a is None else an.asarray(a[11:, ...], device=device) for a in moved))
        found = metric.compute()
        if isinstance(expected, an.Tensor):
            expected, found = expected.numpy(), np.asarray(found.to("cpu").numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        half = function(
            moved[0][:11, ...], target[:11], None if w is None else w[:11], **options
        )  # targets are moved
        assert np.shape(half) == np.shape(expected)
        restored = metrics.get(name).__class__(**options)
        restored.load_state_dict(metric.state_dict())
        more = [None if a is None else a[:5, ...] for a in moved]
        restored.update(*more)
        metric.update(*more)
        found = [m.compute() for m in (restored, metric)]
        assert [x.tolist() if isinstance(x, an.Tensor) else x for x in found[:1]] == [
            x.tolist() if isinstance(x, an.Tensor) else x for x in found[1:]
        ]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_each_dtype(dtype):
    logits, p, y, _ = classes(30, 3)
    exact = {"float16": 3e-3, "float32": 2e-6, "float64": 1e-12}[dtype]
    rounded = logits.astype(dtype)
    for kind in ("uint8", "int32", "int64"):
        assert metrics.accuracy(rounded, y.astype(kind)) == (rounded.argmax(1) == y).mean()
        found = metrics.log_loss(rounded, y.astype(kind), logits=True)
        assert found == pytest.approx(sk.log_loss(y, p), rel=exact)
        assert metrics.f1(rounded, y.astype(kind)) == pytest.approx(
            sk.f1_score(y, rounded.argmax(1), average="macro")
        )
    assert metrics.rmse(rounded, rounded.astype("f8")) == 0.0
