"""What fit refuses before the first update, with what it says; and what it takes."""

import functools
import random as python_random

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim, train

rng = np.random.RandomState(0)
X = rng.randn(20, 4).astype("f4")
Y = rng.randint(0, 3, 20)
REAL = rng.randn(20, 3).astype("f4")


def network():
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def state(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def fit(net, data=(X, Y), val=None, **options):
    given = {"loss": "cross_entropy", "progress": False, "device": "cpu", "batch_size": 8, **options}
    return an.fit(net, data, val, **given)


def unnamed(output, target):
    return 1.0, 1


def several(output, target):
    return output


bad_labels = np.where(np.arange(20) == 17, 3, Y)
one = train.EarlyStopping("loss")
other = optim.SGD(nn.Linear(4, 3).parameters(), lr=0.1)


class Part(nn.Module):
    pass


REFUSED = [
    ({"epochs": 1.5}, "epochs must be an integer of at least 1, got 1.5"),
    ({"epochs": "3"}, "got '3'; write epochs=3, without quotes"),
    ({"epochs": 2.0}, "write epochs=2"),
    ({"epochs": True}, "epochs"),
    ({"epochs": float("nan")}, "epochs"),
    ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
    ({"batch_size": 2.5}, "batch_size"),
    ({"seed": -1}, "seed"),
    ({"seed": 0.5}, "seed"),
    ({"lr": -0.1}, "lr must be a finite number of at least 0"),
    ({"lr": float("nan")}, "lr"),
    ({"lr": "0.1"}, "lr must be a number"),
    ({"clip_norm": 0.0}, "clip_norm must be a finite number above 0"),
    ({"clip_norm": -1.0}, "clip_norm"),
    ({"clip_norm": float("nan")}, "clip_norm"),
    ({"clip_norm": float("inf")}, "clip_norm"),
    ({"schedule_by": "batches"}, "did you mean 'batch'"),
    ({"loss": "cross_entrpy"}, "did you mean 'cross_entropy'"),
    ({"loss": 3}, "loss must be a name, a mapping with one, or a function"),
    ({"loss": nn.CrossEntropyLoss(reduction="none")}, "reduction='none'"),
    ({"loss": lambda o, t: an.nn.functional.cross_entropy(o, t, reduction="none")}, "expected one element"),
    ({"loss": lambda o, t: 0.5}, "returned float"),
    ({"loss": lambda o, t: an.asarray(0.5)}, "does not depend on the model's parameters"),
    ({"loss": "mse"}, "shape"),
    ({"optimizer": "adm"}, "did you mean 'adam'"),
    ({"optimizer": other}, "not the model's"),
    ({"optimizer": 3}, "optimizer must be a name"),
    ({"optimizer": lambda params: 3}, "it returned int"),
    ({"scheduler": optim.StepLR}, "StepLR needs step_size"),
    ({"scheduler": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
    ({"scheduler": 3}, "scheduler must be a schedule or a function"),
    ({"scheduler": lambda o: 3}, "it returned int"),
    ({"scheduler": optim.StepLR(other, 1)}, "another optimizer"),
    ({"scheduler": lambda o: optim.ReduceLROnPlateau(o), "schedule_by": "batch"}, "once an epoch"),
    ({"scheduler": lambda o: optim.ReduceLROnPlateau(o), "metrics": ["accuracy"], "monitor": "accuracy"}, "mode='max'"),
    ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
    ({"metrics": ["mae"]}, "one shape"),
    ({"metrics": [several]}, r"an array of shape .*expected a number"),
    ({"metrics": [unnamed, unnamed]}, "two quantities are called 'unnamed'"),
    ({"metrics": [an.metrics.Mean(unnamed, name="loss")]}, "called 'loss'"),
    ({"metrics": [an.metrics.F1]}, "class"),
    ({"monitor": "acuracy", "metrics": ["accuracy"]}, "did you mean 'accuracy'"),
    ({"monitor": "val_loss"}, "give fit a val set"),
    ({"monitor": "unnamed", "metrics": [unnamed]}, "mode='max' or mode='min'"),
    ({"monitor": "lr"}, "mode="),
    ({"monitor": "confusion", "mode": "max", "metrics": ["confusion"]}, "not a single number"),
    ({"mode": "maximum"}, "did you mean 'max'"),
    ({"callbacks": [train.EarlyStopping]}, r"write EarlyStopping\(\)"),
    ({"callbacks": [lambda: None]}, "instances of anynet.train.Callback"),
    ({"callbacks": [one, one]}, "twice"),
    ({"callbacks": [train.EarlyStopping("val_loss")]}, "val_loss"),
    ({"callbacks": [train.EarlyStopping("unnamed")], "metrics": [unnamed]}, "mode="),
    ({"resume": True}, "run_dir"),
    ({"checkpoint_every": 3}, "run_dir"),
    ({"checkpoint_every": "10 parsecs", "run_dir": "x"}, "checkpoint_every"),
    ({"checkpoint_every": 0, "run_dir": "x"}, "checkpoint_every"),
    ({"checkpoint_every": 1.5, "run_dir": "x"}, "checkpoint_every"),
    ({"val": (X[:0], Y[:0])}, "fit, val: the data are empty"),
    ({"val": (X[:, :3], Y)}, "shape|last axis|expected"),
    ({"val": (X, REAL[:, :2])}, "shape"),
    ({"val": X}, "targets are missing"),
    ({"data": X}, "targets are missing"),
    ({"data": (X, Y[:5])}, "equal length"),
    ({"data": (X, Y, Y, Y)}, "got 4 arrays"),
    ({"data": {"x": X}}, "a mapping must have inputs and one of targets, labels, label as its keys"),
    ({"data": (X[:0], Y[:0])}, "empty"),
    ({"data": (X, [str(y) for y in Y])}, "labels are integers"),
    ({"data": ([[1.0, 2.0], [3.0]], [0, 1])}, "inputs must be an array of numbers"),
    ({"data": (X, bad_labels)}, "out of range"),
    ({"val": (X, bad_labels)}, "out of range"),
    ({"data": iter([])}, "the stream gave no batch"),
    ({"data": an.data.DataLoader((X, Y, Y, Y), batch_size=4)}, r"\(\(x1, x2\), y\)"),
    ({"device": "cpuu"}, "cpu"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused_before_anything_changes(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, message = REFUSED[number]
    change = dict(change)
    data, val = change.pop("data", (X, Y)), change.pop("val", None)
    net = network()
    before, random = state(net), an.random.get_state()
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        fit(net, data, val, **change)
    after = state(net)
    assert all((before[k] == after[k]).all() for k in before)
    assert an.random.get_state() == random
    assert not any(tmp_path.iterdir())


def test_models_that_are_none():
    for model, message in (
        (nn.Linear, r"the class Linear; write Linear\(\)"),
        (lambda x: x, "must be a Module"),
    ):
        with pytest.raises(TypeError, match=message):
            fit(model)


def test_an_optimizer_over_a_part():
    net = network()
    head = optim.SGD(net[2].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"0\.weight, 0\.bias, 1\.weight, 1\.bias; freeze them"):
        fit(net, optimizer=head)
    for layer in (net[0], net[1]):
        layer.requires_grad_(False)
    before = state(net)
    fit(net, optimizer=head)
    assert (state(net)["0.weight"] == before["0.weight"]).all()
    assert not (state(net)["2.weight"] == before["2.weight"]).all()
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="all are frozen"):
        fit(net, optimizer="sgd")


NAMES = [n for n in train.OPTIMIZERS if n not in ("muon", "sparse_adam")]


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_by_name(name):
    for spelling in (train.OPTIMIZERS[name].__name__, name.upper()):
        net = network()
        before = state(net)
        history = fit(net, optimizer=spelling)
        assert all(np.isfinite(history.column("loss")))
        assert any((before[k] != v).any() for k, v in state(net).items() if "weight" in k)


@pytest.mark.parametrize("precision", [None, "mixed-fp16"])
def test_rows_of_a_table(precision):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 9, (40, 3)), rng.integers(0, 3, 40)
    table = nn.EmbeddingBag(9, 3, sparse=True)
    options = {} if precision is None else {"precision": precision}
    history = an.fit(
        table,
        data,
        loss="cross_entropy",
        optimizer="sparse_adam",
        lr=0.1,
        epochs=4,
        batch_size=8,
        progress=False,
        **options,
    )
    assert isinstance(table.weight.grad, an.SparseRows)
    assert history[-1]["loss"] < history[0]["loss"]
    with pytest.raises(RuntimeError, match=r"Adam: the gradient .* is sparse"):
        an.fit(table, data, loss="cross_entropy", optimizer="adam", epochs=1, batch_size=8, progress=False)


def test_optimizers_around_others():
    for make in (
        lambda net: optim.SAM(optim.SGD(net.parameters(), lr=0.1)),
        lambda net: optim.MultiSteps(optim.SGD(net.parameters(), lr=0.1), every=2),
    ):
        net = network()
        history = fit(net, optimizer=make(net), epochs=6)
        assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.StepLR(o, 1),
        lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.ExponentialLR(o, 0.9)], [1]),
        lambda o: optim.ChainedScheduler([optim.LinearLR(o), optim.ExponentialLR(o, 0.9)]),
        optim.ReduceLROnPlateau,
    ],
)
def test_schedules_as_instances(make):
    for around in (False, True):
        net = network()
        inner = optim.SGD(net.parameters(), lr=0.1)
        optimizer = optim.SAM(inner) if around else inner
        assert len(fit(net, optimizer=optimizer, scheduler=make(inner), epochs=3)) == 3
    with pytest.raises(ValueError, match="another optimizer"):
        fit(network(), optimizer="sgd", scheduler=make(inner))


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "cross_entropy_loss", "Cross_Entropy", "CrossEntropy"])
def test_spellings_of_a_loss(name):
    expected = fit(network())
    assert fit(network(), loss=name)[0]["loss"] == expected[0]["loss"]
    assert fit(network(), loss=nn.CrossEntropyLoss)[0]["loss"] == expected[0]["loss"]
    assert fit(network(), loss=an.losses.cross_entropy)[0]["loss"] == expected[0]["loss"]


def test_numbers_of_numpy_are_numbers():
    plain = fit(network(), epochs=2, lr=0.25, seed=3, clip_norm=1.0)
    given = fit(
        network(), epochs=np.int64(2), batch_size=np.int32(8), lr=np.float32(0.25), seed=np.uint8(3),
        clip_norm=np.float64(1.0),
    )  # fmt: skip
    assert plain.column("loss") == given.column("loss")


@pytest.mark.parametrize(
    "form",
    [
        (X.astype("f8"), Y),
        (X.astype("f8"), Y.astype("i4")),
        (X.tolist(), Y.tolist()),
        [X, Y],
        (an.asarray(X), an.asarray(Y)),
        (list(X), list(Y)),
        list(zip(X, Y, strict=True)),
        an.data.TensorDataset(X.astype("f8"), Y),
        an.data.Subset(an.data.TensorDataset(X, Y), range(20)),
    ],
)
def test_forms_of_data(form):
    expected = fit(network()).column("loss")
    assert fit(network(), form).column("loss") == expected


def test_integers_are_converted_unless_the_model_takes_them():
    images, y = rng.randint(0, 255, (12, 2, 2)).astype("u1"), rng.randint(0, 3, 12)
    for dtype in ("u1", "i8", "f8", "?"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        fit(net, (images.astype(dtype), y))
        assert an.predict(net, images.astype(dtype)).dtype is an.float32
    words = rng.randint(0, 7, (12, 2))
    net = nn.Sequential(nn.Embedding(7, 2), nn.Flatten(), nn.Linear(4, 3))
    before = state(net)
    fit(net, (words, y))
    assert any((before[k] != v).any() for k, v in state(net).items())

    class Mixed(nn.Module):
        def __init__(self):
            self.words, self.linear = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, words, x):
            return self.linear(self.words(words) + x)

    fit(Mixed(), ((words[:, 0], X[:12].astype("f8")), y))
    double = nn.Linear(4, 3).double()
    fit(double, (X, Y))
    assert double.weight.dtype is an.float64


def test_lazy_layers_are_made_by_the_first_batch():
    net = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3))
    history = fit(net, (X.astype("f8"), Y), epochs=2)
    assert len(history) == 2
    assert net[0].weight.shape == (5, 4)


def test_random_numbers_outside_are_left_alone():
    an.random.manual_seed(5)
    np.random.seed(5)
    python_random.seed(5)
    before = an.random.get_state(), np.random.get_state()[1].tolist(), python_random.getstate()
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    an.random.set_state(before[0])
    fit(net, epochs=2, seed=9)
    an.evaluate(net, (X, Y), loss="cross_entropy")
    an.predict(net, X)
    assert (an.random.get_state(), np.random.get_state()[1].tolist(), python_random.getstate()) == before


def test_a_metric_with_options_keeps_its_direction():
    metric = an.metrics.get(functools.partial(an.metrics.accuracy, threshold=0.5))
    assert (metric.name, metric.mode, metric.threshold) == ("accuracy", "max", 0.5)

    class Auc:
        higher_is_better = True

        def __call__(self, output, target):
            return 0.5 * len(target), len(target)

    assert an.metrics.Mean(Auc()).mode == "max"
    assert an.metrics.Mean(unnamed).mode is None
    assert an.metrics.Mean(unnamed, mode="min").mode == "min"


@pytest.mark.parametrize("call", [an.evaluate, an.predict])
def test_no_model_in_the_place_of_one(call):
    with pytest.raises(TypeError, match="the model must be a Module, got NoneType"):
        call(None, X, **({"loss": "mse"} if call is an.evaluate else {}))


def test_widths_and_callbacks_that_are_none():
    for make in (
        lambda: an.models.MLP(4, 3, hidden=None),
        lambda: an.models.TableMLP(4, [], 3, hidden=None),
        lambda: an.fine_tune(network(), (X, Y), loss="cross_entropy", callbacks=3),
    ):
        with pytest.raises((TypeError, ValueError), match=r"hidden\[0\]|callback"):
            make()
