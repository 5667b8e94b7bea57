"""evaluate: the loss and the metrics of a whole set, whatever the batches are; predict; modes of modules."""

import functools
import math

import numpy as np
import pytest

import anynet as an
from anynet import nn, train
from anynet.nn import functional as F

rng = np.random.RandomState(0)
X = rng.randn(23, 4).astype("f4")
CLASSES = rng.randint(0, 3, 23)
IGNORED = np.where(np.arange(23) % 3 == 0, -100, CLASSES)
ONE_HOT = np.eye(3, dtype="f4")[CLASSES]
REAL = rng.randn(23, 3).astype("f4")
YES = (rng.rand(23, 3) > 0.5).astype("f4")
SIGNS = 2 * YES - 1
WEIGHT = an.asarray(np.array([1.0, 5.0, 0.25], "f4"))


def model(*layers):
    an.random.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), *layers)


def log_softmax():
    return model(nn.LogSoftmax(1))


CASES = [
    ("cross_entropy", model, CLASSES),
    ("cross_entropy", model, IGNORED),
    ("cross_entropy", model, ONE_HOT),
    (nn.CrossEntropyLoss(ignore_index=1), model, CLASSES),
    (nn.CrossEntropyLoss(weight=WEIGHT), model, CLASSES),
    (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), model, IGNORED),
    (nn.CrossEntropyLoss(weight=WEIGHT), model, ONE_HOT),
    (nn.CrossEntropyLoss(reduction="sum"), model, IGNORED),
    (functools.partial(F.cross_entropy, ignore_index=0, weight=WEIGHT), model, CLASSES),
    (nn.NLLLoss(weight=WEIGHT), log_softmax, IGNORED),
    (nn.FocalLoss(), model, IGNORED),
    ("mse", model, REAL),
    (F.l1_loss, model, REAL),
    (nn.HuberLoss(reduction="sum"), model, REAL),
    ("smooth_l1", model, REAL),
    ("bce", lambda: model(nn.Sigmoid()), YES),
    ("bce_with_logits", model, YES),
    (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), model, YES),
    ("binary_focal", model, YES),
    (nn.KLDivLoss(reduction="batchmean"), log_softmax, ONE_HOT),
    ("kl_div", log_softmax, ONE_HOT),
    ("poisson_nll", model, YES),
    ("soft_margin", model, SIGNS),
    ("hinge", model, SIGNS),
    ("squared_hinge", model, SIGNS),
    ("hinge_embedding", model, SIGNS),
    ("multi_margin", model, CLASSES),
    (nn.MultiMarginLoss(weight=WEIGHT), model, CLASSES),
    ("multi_label_soft_margin", model, YES),
    ("multi_label_margin", model, np.tile(np.array([[1, 0, -1]]), (23, 1))),
    ("categorical_hinge", model, ONE_HOT),
    ("log_cosh", model, REAL),
    ("mape", model, REAL),
    ("msle", lambda: model(nn.ReLU()), YES),
    (nn.DiceLoss(dim=1), lambda: model(nn.Sigmoid()), YES),
]


@pytest.mark.parametrize("batch_size", [5, 8, 23])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_loss_is_that_of_the_whole_set(case, batch_size):
    loss, make, target = CASES[case]
    net = make()
    whole = train.Objective(loss)
    expected = float(whole(net(an.asarray(X)), an.asarray(target)))
    found = an.evaluate(net, (X, target), loss=loss, batch_size=batch_size)["loss"]
    assert found == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("case", [0, 1, 4, 7, 11, 13])
def test_the_loss_of_an_epoch_is_that_of_the_whole_set(case):
    loss, make, target = CASES[case]
    net = make()
    expected = an.evaluate(net, (X, target), loss=loss)["loss"]
    history = an.fit(
        net, (X, target), loss=loss, optimizer="sgd", lr=0.0, batch_size=5, progress=False, device="cpu"
    )
    assert history[0]["loss"] == pytest.approx(expected, rel=2e-5)


def test_sequences_of_other_lengths_weigh_by_their_elements():
    """Elements, not rows: a batch of longer rows counts more."""
    batches = [np.ones((2, 2), "f4"), 3 * np.ones((2, 8), "f4")]

    class Ragged(an.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            row = batches[i // 2][i % 2]
            return row, 0 * row

    loader = an.data.DataLoader(Ragged(), batch_size=2)
    assert an.evaluate(nn.Identity(), loader, loss="mse")["loss"] == pytest.approx((4 * 1 + 16 * 9) / 20)


def test_a_loss_of_ones_own_says_what_it_is_divided_by():
    def masked(output, target):
        live = an.astype(target > 0, an.float32)
        return an.sum((output[:, 0] - target) ** 2 * live) / an.sum(live)

    y = np.abs(REAL[:, 0]) * (np.arange(23) % 5 > 1)
    net = model()
    expected = float(masked(net(an.asarray(X)), an.asarray(y)))
    masked.denominator = lambda output, target: an.sum(an.astype(target > 0, an.float32))
    assert an.evaluate(net, (X, y), loss=masked, batch_size=4)["loss"] == pytest.approx(expected, rel=1e-5)

    def summed(output, target):
        return an.sum((output[:, 0] - target) ** 2)

    summed.reduction = "sum"
    expected = float(summed(net(an.asarray(X)), an.asarray(y)))
    assert an.evaluate(net, (X, y), loss=summed, batch_size=4)["loss"] == pytest.approx(expected, rel=1e-5)


def test_losses_of_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x), an.exp(self.b(x))

    an.random.manual_seed(0)
    net = Two()
    mean, var = net(an.asarray(X))
    expected = float(F.gaussian_nll_loss(mean, an.asarray(REAL), var))
    assert an.evaluate(net, (X, REAL), loss="gaussian_nll", batch_size=5)["loss"] == pytest.approx(
        expected, rel=1e-5
    )
    sign = SIGNS[:, 0]
    expected = float(F.cosine_embedding_loss(mean, var, an.asarray(sign)))
    found = an.evaluate(net, (X, sign), loss="cosine_embedding", batch_size=5)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_several_inputs():
    class Sum(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

        def forward(self, x, z):
            return self.a(x) + self.b(z)

    an.random.manual_seed(0)
    net, z = Sum(), rng.randn(23, 2)
    expected = float(F.mse_loss(net(an.asarray(X), an.asarray(z.astype("f4"))), an.asarray(REAL)))
    for inputs in ((X, z), {"x": X, "z": z}):
        found = an.evaluate(net, (inputs, REAL), loss="mse", batch_size=5)["loss"]
        assert found == pytest.approx(expected, rel=1e-5)
        an.fit(net, (inputs, REAL), loss="mse", lr=0.0, progress=False, device="cpu")
        assert an.predict(net, inputs, batch_size=5).shape == (23, 3)


# ----- accuracy -----

SCORES = np.array([[3, 1], [0, 2], [5, 4], [1, 2]], "f4")
PIXELS = rng.randn(2, 3, 4, 5).astype("f4")
LABELS = np.where(rng.rand(2, 4, 5) < 0.3, 255, rng.randint(0, 3, (2, 4, 5)))


@pytest.mark.parametrize(
    ("loss", "output", "target", "expected"),
    [
        ("cross_entropy", SCORES, np.array([0, 1, 1, 1]), 3 / 4),
        ("cross_entropy", SCORES, np.array([0, -100, 1, -100]), 1 / 2),
        (nn.CrossEntropyLoss(ignore_index=1), SCORES, np.array([0, 1, 1, 1]), 1.0),
        ("cross_entropy", SCORES, np.eye(2, dtype="f4")[[0, 1, 1, 1]], 3 / 4),
        (nn.CrossEntropyLoss(ignore_index=255), PIXELS, LABELS,
         (PIXELS.argmax(1) == LABELS)[LABELS != 255].mean()),
        ("bce_with_logits", np.array([[-1.0], [0.2], [0.7]], "f4"), np.array([[0.0], [1.0], [0.0]], "f4"), 2 / 3),
        ("bce", np.array([[0.1], [0.4], [0.7]], "f4"), np.array([[0.0], [1.0], [1.0]], "f4"), 2 / 3),
        ("bce", np.array([0.1, 0.4, 0.7], "f4"), np.array([0.0, 0.0, 0.0], "f4"), 2 / 3),
        ("bce", np.array([[0.1, 0.9], [0.6, 0.4]], "f4"), np.array([[0, 1], [0, 0]], "f4"), 3 / 4),
        ("mse", np.array([0.1, 0.4, 0.7], "f4"), np.array([0.0, 1.0, 1.0], "f4"), 2 / 3),
        ("hinge", np.array([-0.1, 0.4, 0.7], "f4"), np.array([-1.0, -1.0, 1.0], "f4"), 2 / 3),
    ],
)  # fmt: skip
def test_accuracy(loss, output, target, expected):
    for size in (1, 3, 4):
        found = an.evaluate(nn.Identity(), (output, target), loss=loss, metrics="accuracy", batch_size=size)
        assert found["accuracy"] == pytest.approx(expected)


def test_accuracy_refuses_what_it_cannot_know():
    own = lambda output, target: an.mean((output - target) ** 2)  # noqa: E731
    data = (np.ones((3, 1), "f4"), np.ones((3, 1), "f4"))
    with pytest.raises(ValueError, match="threshold"):
        an.evaluate(nn.Identity(), data, loss=own, metrics=["accuracy"])
    half = functools.partial(an.metrics.accuracy, threshold=0.5)
    assert an.evaluate(nn.Identity(), data, loss=own, metrics=[half])["accuracy"] == 1.0
    with pytest.raises(ValueError, match="does not go with"):
        an.metrics.accuracy(an.ones((3, 2)), an.ones((3, 4)))
    with pytest.raises(ValueError, match="nothing is broadcast"):
        an.metrics.mae(an.ones((3, 2)), an.ones(3))


# ----- modes -----


def frozen():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    net.train()
    net[1].eval()
    return net


def boom(*args):
    raise RuntimeError("boom")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", ["evaluate", "predict", "fit", "fit with val", "update_bn"])
def test_each_module_keeps_its_mode(how, fails):
    for evaluates in (False, True):
        net = frozen()
        if evaluates:
            net.eval()
        before = [m.training for m in net.modules()]
        mean = net[1].running_mean.numpy().copy()
        if fails:
            net[3].forward = boom
        options = {"loss": "cross_entropy", "progress": False, "device": "cpu"}
        calls = {
            "evaluate": lambda net: an.evaluate(net, (X, CLASSES), loss="cross_entropy"),
            "predict": lambda net: an.predict(net, X),
            "fit": lambda net, options=options: an.fit(net, (X, CLASSES), **options),
            "fit with val": lambda net, options=options: an.fit(net, (X, CLASSES), (X, CLASSES), **options),
            "update_bn": lambda net: an.optim.swa_utils.update_bn([an.asarray(X)], net),
        }
        if fails:
            with pytest.raises(RuntimeError, match="boom"):
                calls[how](net)
        else:
            calls[how](net)
        assert [m.training for m in net.modules()] == before
        if not evaluates and how != "update_bn":
            assert (net[1].running_mean.numpy() == mean).all()


def test_predict_takes_data_and_gives_several_outputs():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": x, "b": (2 * x, x[:, 0])}

    out = an.predict(Two(), an.data.DataLoader((X, CLASSES), batch_size=5))
    assert (out["b"][0].numpy() == 2 * X).all()
    assert out["b"][1].shape == (23,)
    assert an.predict(nn.Identity(), X.tolist()[:3]).shape == (3, 4)
    assert an.predict(nn.Identity(), X[:0]).shape == (0, 4)
    assert an.predict(nn.Linear(4, 2), X.astype("f8")).dtype is an.float32


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        an.evaluate(nn.Linear(4, 3), (X[:0], CLASSES[:0]), loss="cross_entropy")
    assert math.isnan(an.evaluate(model(), (X, CLASSES * 0 - 100), loss="cross_entropy")["loss"])


def test_predict_takes_what_gives_samples_by_number():
    class Samples:  # as a data set of PyTorch: no subclass of anynet's
        def __init__(self, form):
            self.form = form

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return self.form(i)

    net = model()
    expected = an.predict(net, X)
    forms = (
        lambda i: (X[i], CLASSES[i]),
        lambda i: {"inputs": X[i], "targets": CLASSES[i]},
        lambda i: (X[i], CLASSES[i], 2.0),
        lambda i: X[i],
    )
    for form in forms:
        assert an.all(an.predict(net, Samples(form), batch_size=5) == expected)
