"""Weights of samples and classes in `fit` and `evaluate`: Σ w l / Σ w."""

import copy

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.train.objectives import LOSSES, Objective

rng = np.random.default_rng(0)
X = rng.standard_normal((24, 4)).astype("f4")
Y = rng.integers(0, 3, 24)
W = rng.random(24).astype("f4")
W[:3] = 0.0
FEW = {"loss": "cross_entropy", "batch_size": 8, "progress": False, "device": "cpu"}


def network():
    an.random.manual_seed(0)
    return nn.Linear(4, 3)


def values(net):
    return [p.numpy().copy() for p in net.parameters()]


def close(a, b, tolerance=1e-6):
    return all(np.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in zip(a, b, strict=True))


# ----- losses -----

PROBABILITIES = an.nn.functional.softmax(an.asarray(rng.standard_normal((6, 4))), -1)
FORMS = {
    "real": (an.asarray(rng.standard_normal((6, 4))), an.asarray(rng.standard_normal((6, 4)))),
    "classes": (an.asarray(rng.standard_normal((6, 4))), an.asarray(rng.integers(0, 4, 6))),
    "log": (nn.functional.log_softmax(an.asarray(rng.standard_normal((6, 4))), -1), PROBABILITIES),
    "yes": (PROBABILITIES, an.asarray(rng.integers(0, 2, (6, 4)).astype("f8"))),
    "signs": (an.asarray(rng.standard_normal((6, 4))), an.asarray(rng.choice([-1.0, 1.0], (6, 4)))),
    "positive": (PROBABILITIES, an.asarray(rng.random((6, 4)) + 0.1)),
    "labels": (an.asarray(rng.standard_normal((6, 4))), an.asarray([[0, 1, -1, -1]] * 6)),
}
OF = {
    "mse": "real", "l1": "real", "huber": "real", "smooth_l1": "real", "log_cosh": "real", "mape": "positive", "msle": "positive",
    "cross_entropy": "classes", "nll": "classes", "focal": "classes", "multi_margin": "classes", "bce": "yes",
    "bce_with_logits": "yes", "binary_focal": "yes", "kl_div": "log", "poisson_nll": "positive", "soft_margin": "signs",
    "hinge": "signs", "squared_hinge": "signs", "hinge_embedding": "signs", "multi_label_margin": "labels",
    "multi_label_soft_margin": "yes", "categorical_hinge": "yes", "token_cross_entropy": "classes", "circle": "classes",
}  # fmt: skip


@pytest.mark.parametrize("name", OF)
def test_weighted_losses_of_samples(name):
    """Weights of one are the mean; a weight of 2 is the sample twice; a weight of 0 is the sample left out."""
    output, target = FORMS[OF[name]]
    objective = Objective(name)
    one, mass = objective.weighted(output, target, an.ones(6, dtype="float64"))
    np.testing.assert_allclose(float(one), float(objective(output, target)), rtol=1e-12)
    assert float(mass) == objective.weight(output, target)
    if name == "circle":  # the loss of a row depends on the others
        return
    weight = an.asarray([2.0, 1.0, 0.0, 1.0, 3.0, 1.0], dtype="float64")
    rows = an.asarray([0, 0, 1, 3, 4, 4, 4, 5])
    found, mass = objective.weighted(output, target, weight)
    repeated = an.take(output, rows, axis=0), an.take(target, rows, axis=0)
    np.testing.assert_allclose(float(found), float(objective(*repeated)), rtol=1e-12)
    assert float(mass) == objective.weight(*repeated)


def test_every_loss_has_weights_or_is_refused():
    by_hand = {"nll_loss2d", "gaussian_nll", "ctc", "cosine_embedding", "margin_ranking", "triplet_margin",
               "triplet_margin_with_distance", "dice", "tversky", "linear_cross_entropy", "nll_2d", "nll_loss_2d"}  # fmt: skip
    assert set(LOSSES) - set(OF) - by_hand == set()


def test_losses_of_several_arguments():
    a, b, c = (an.asarray(rng.standard_normal((6, 4))) for _ in range(3))
    signs = an.asarray(rng.choice([-1.0, 1.0], 6))
    rows, weight = an.asarray([0, 0, 1, 3, 4, 4, 4, 5]), an.asarray([2.0, 1.0, 0.0, 1.0, 3.0, 1.0])
    weight = an.astype(weight, "float64")

    def at(tree):
        return tuple(an.take(x, rows, axis=0) for x in tree)

    variance = an.exp(b)
    for loss, output, target in (
        (nn.GaussianNLLLoss(), (a, variance), c),
        (nn.CosineEmbeddingLoss(), (a, b), signs),
        (nn.TripletMarginLoss(), (a, b, c), signs),
    ):
        objective = Objective(loss)
        found, _ = objective.weighted(output, target, weight)
        expected = objective(at(output), at((target,))[0])
        np.testing.assert_allclose(float(found), float(expected), rtol=1e-12)
    steps = nn.functional.log_softmax(an.asarray(rng.standard_normal((7, 6, 4))), -1)
    labels, lengths = an.asarray(rng.integers(1, 4, (6, 3))), an.asarray([3, 2, 1, 3, 2, 3])
    sevens = an.asarray([7] * 6)
    objective = Objective(nn.CTCLoss())
    found, _ = objective.weighted(steps, (labels, sevens, lengths), weight)
    expected = objective(an.take(steps, rows, axis=1), at((labels, sevens, lengths)))
    np.testing.assert_allclose(float(found), float(expected), rtol=1e-12)
    with pytest.raises(ValueError, match="need the loss of each of the 6 samples, and dice_loss gives shape"):
        Objective("dice").weighted(PROBABILITIES, FORMS["yes"][1], weight)


def test_ignored_targets_and_weights_of_classes_count_as_in_the_mean():
    output = an.asarray(rng.standard_normal((6, 4, 5)))
    target = rng.integers(0, 4, (6, 5))
    target[0, :3] = target[2] = -100
    loss = nn.CrossEntropyLoss(weight=an.asarray([1.0, 2.0, 0.5, 3.0], dtype="float64"), label_smoothing=0.1)
    target = an.asarray(target)
    found, mass = Objective(loss).weighted(output, target, an.ones(6, dtype="float64"))
    np.testing.assert_allclose(float(found), float(loss(output, target)), rtol=1e-12)
    np.testing.assert_allclose(float(mass), Objective(loss).weight(output, target), rtol=1e-12)
    each = an.asarray(rng.random((6, 5)))  # a weight for each element
    with_each, _ = Objective("cross_entropy").weighted(output, target, each)
    one = nn.functional.cross_entropy(output, target, reduction="none")
    live = an.astype(target != -100, "float64") * each
    np.testing.assert_allclose(float(with_each), float(an.sum(one * each) / an.sum(live)), rtol=1e-12)


# ----- fit -----


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("form", ["tuple", "mapping", "loader", "data set"])
def test_fit_is_the_loop_by_hand(form, compile):
    data = {
        "tuple": (X, Y, W), "mapping": {"inputs": X, "targets": Y, "weights": W},
        "loader": an.data.DataLoader((X, Y, W), batch_size=8), "data set": an.data.TensorDataset(X, Y, W),
    }[form]  # fmt: skip
    if form != "loader":
        data = an.data.DataLoader(
            [(x, y, w) for x, y, w in zip(X, Y, W, strict=True)] if form == "data set" else (X, Y, W),
            batch_size=8,
        )
        if form == "mapping":
            data = an.data.DataLoader(
                [{"inputs": x, "labels": y, "weights": w} for x, y, w in zip(X, Y, W, strict=True)],
                batch_size=8,
            )
    net, hand = network(), network()
    history = an.fit(net, data, **FEW, epochs=3, optimizer="sgd", lr=0.5, compile=compile)
    optimizer = an.optim.SGD(hand.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        total = mass = 0.0
        for i in range(0, 24, 8):
            x, y, w = (an.asarray(a[i : i + 8]) for a in (X, Y, W))
            each = nn.functional.cross_entropy(hand(x), y, reduction="none")
            loss = an.sum(each * w) / an.sum(w)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, mass = total + float(loss) * float(an.sum(w)), mass + float(an.sum(w))
        losses.append(total / mass)
    assert close(values(net), values(hand))
    np.testing.assert_allclose(history.column("loss"), losses, rtol=1e-5)


def test_weights_in_validation_and_evaluate():
    net = network()
    expected = (
        an.sum(nn.functional.cross_entropy(net(an.asarray(X)), an.asarray(Y), reduction="none") * W) / W.sum()
    )
    found = an.evaluate(net, (X, Y, W), loss="cross_entropy", batch_size=7)
    np.testing.assert_allclose(found["loss"], float(expected), rtol=1e-6)
    history = an.fit(net, (X, Y), (X, Y, W), **FEW, lr=0.0, optimizer="sgd")
    np.testing.assert_allclose(history[0]["val_loss"], float(expected), rtol=1e-6)


def test_functions_give_the_losses_of_samples():
    def each(output, target):
        return an.sum((output - nn.functional.one_hot(target, 3)) ** 2, axis=1)

    options = {**FEW, "optimizer": "sgd", "lr": 0.1}
    a, b = network(), network()
    an.fit(a, (X, Y, np.ones(24, "f4")), **{**options, "loss": each})
    an.fit(b, (X, Y), **{**options, "loss": lambda o, t: an.mean(each(o, t))})
    assert close(values(a), values(b))
    with pytest.raises(ValueError, match=r"need the loss of each of the 8 samples, and .* gives shape \(\)"):
        an.fit(network(), (X, Y, W), **{**options, "loss": lambda o, t: an.mean(each(o, t))})


BAD = np.where(np.arange(24) == 3, -1.0, W)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_of_which_nothing_counts_changes_nothing(optimizer, compiled):
    """As if its samples were left out: no NaN, no warning, no update."""
    alone, both = network(), network()
    options = {
        **FEW,
        "optimizer": optimizer,
        "lr": 0.1,
        "metrics": ["accuracy"],
        "compile": compiled and optimizer == "sgd",
    }
    loader = an.data.DataLoader([*zip(X[:8], Y[:8], W[8:16], strict=True)], batch_size=8)
    an.fit(alone, loader, **options)
    w = np.concatenate([W[8:16], np.zeros(16, "f4")])
    an.fit(both, an.data.DataLoader([*zip(X, Y, w, strict=True)], batch_size=8), **options)
    assert close(values(both), values(alone), 0)
    assert an.evaluate(both, (X, Y, w), loss="cross_entropy", batch_size=8) == an.evaluate(
        both, (X[:8], Y[:8], w[:8]), loss="cross_entropy", batch_size=8
    )


@pytest.mark.parametrize("weights", [BAD, BAD * np.nan, np.zeros(24), W[:5]])
@pytest.mark.parametrize("form", ["arrays", "loader"])
def test_weights_that_are_none_are_refused(weights, form):
    net, before = (n := network()), values(n)
    data = (X, Y, weights)
    if form == "loader":
        if len(weights) != 24 or not weights.any():
            return
        data = an.data.DataLoader([*zip(X, Y, weights, strict=True)], batch_size=24)
    with pytest.raises(ValueError, match=r"weights|equal length"):
        an.fit(net, data, **FEW)
    assert close(values(net), before, 0)


# ----- classes -----


@pytest.mark.parametrize("given", ["balanced", {0: 1.0, 1: 2.0, 2: 0.5}, [1.0, 2.0, 0.5]])
def test_class_weights_are_weights_of_the_loss(given):
    counts = np.bincount(Y, minlength=3)
    table = 24 / (3 * counts) if given == "balanced" else np.asarray([1.0, 2.0, 0.5])
    a, b = network(), network()
    options = {**FEW, "optimizer": "sgd", "lr": 0.3, "epochs": 2}
    an.fit(a, (X, Y), **options, class_weight=given)
    an.fit(b, (X, Y), **{**options, "loss": nn.CrossEntropyLoss(weight=an.asarray(table.astype("f4")))})
    assert close(values(a), values(b))
    c, d = network(), network()
    an.fit(c, (X, Y, W), **options, class_weight=given)
    an.fit(d, (X, Y, (W * table[Y]).astype("f4")), **options)
    assert close(values(c), values(d))


def test_class_weights_of_yes_and_no():
    yes = (Y == 1).astype("f4")[:, None]
    an.random.manual_seed(0)
    a = nn.Linear(4, 1)
    b = copy.deepcopy(a)
    options = {**FEW, "loss": "bce_with_logits", "optimizer": "sgd", "lr": 0.3}
    an.fit(a, (X, yes), **options, class_weight={1: 3.0})
    an.fit(b, (X, yes, np.where(yes[:, 0] == 1, 3.0, 1.0)), **options)
    assert close(values(a), values(b))
    share = (24 / 2) / yes.sum()
    assert an.train.objectives.ClassWeights("balanced", [yes], None).of[1] == pytest.approx(share)


REFUSED = [
    ({"class_weight": "blanced"}, "'balanced' or the weights"),
    ({"class_weight": {0: -1.0}}, r"class_weight\[0\]"),
    ({"class_weight": {"cat": 1.0}}, "number of a class, got 'cat'"),
    ({"class_weight": {0: 0.0}}, "a weight above 0"),
    ({"class_weight": 3}, "a mapping or a sequence"),
    ({"class_weight": "balanced", "loss": "mse"}, "for losses of classes; mse_loss has none"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_class_weights_that_are_none_are_refused(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        an.fit(network(), (X, Y), **{**FEW, **change})
