"""Options of `fit`, alone and together: splits, streams, accumulation, clipping, rates, precision, limits, a module's own step."""

import pathlib

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.train.splitting import split_off
from optional_libraries import needs

rng = np.random.default_rng(1)
X = rng.standard_normal((40, 4)).astype("f4")
Y = rng.integers(0, 3, 40)
W = rng.random(40).astype("f4") + 0.1
FEW = {"loss": "cross_entropy", "batch_size": 8, "progress": False, "device": "cpu"}


def network(drop=0.0):
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(drop), nn.Linear(6, 3))


def fit(net, data=(X, Y), val=None, **options):
    return an.fit(net, data, val, **{**FEW, **options})


def values(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def same(a, b):
    return all(a[k].tobytes() == b[k].tobytes() for k in a)


def close(a, b, tolerance=1e-6):
    return all(np.allclose(a[k], b[k], rtol=tolerance, atol=tolerance) for k in a)


# ----- optimizers and losses as plain data -----


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"optimizer": {"name": "sgd", "momentum": 0.9}, "lr": 0.1}, lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
        ({"optimizer": {"name": "SGD", "momentum": 0.9, "lr": 0.1}}, lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
        ({"weight_decay": 0.5}, lambda p: optim.Adam(p, weight_decay=0.5)),
        ({"optimizer": optim.AdamW, "lr": 0.01, "weight_decay": 0}, lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.0)),
        (
            {"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0.5}, "lr": {"0": 0.2, "": 0.1}, "weight_decay": 0.1},
            lambda p: optim.SGD(
                [{"params": p[:2], "lr": 0.2}, {"params": p[2:]}], lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.1
            ),
        ),
    ],
)  # fmt: skip
def test_options_of_an_optimizer_by_name(options, made):
    one, other = network(), network()
    fit(one, epochs=2, **options)
    fit(other, epochs=2, optimizer=made(list(other.parameters())))
    assert same(values(one), values(other))


def test_an_optimizer_as_a_mapping_is_recorded_and_resumed(tmp_path):
    options = {"optimizer": {"name": "sgd", "momentum": 0.9}, "lr": 0.1, "weight_decay": 0.01}
    whole, parts, other = network(), network(), network()
    fit(whole, epochs=3, **options)
    fit(parts, epochs=1, run_dir=tmp_path / "r", **options)
    recorded = an.open(tmp_path / "r", classes=parts).info["optimizer"]
    assert (recorded["name"], recorded["momentum"], recorded["weight_decay"]) == ("SGD", 0.9, 0.01)
    with pytest.raises(an.train.CheckpointError, match=r"momentum: 0.9 in the run, 0.5 now"):
        fit(
            other,
            epochs=3,
            run_dir=tmp_path / "r",
            resume=True,
            **{**options, "optimizer": {"name": "sgd", "momentum": 0.5}},
        )
    fit(other, epochs=3, run_dir=tmp_path / "r", resume=True, **options)
    assert same(values(whole), values(other))


def test_a_loss_as_a_mapping():
    smooth = {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [1.0, 2.0, 3.0]}
    one, other = network(), network()
    fit(one, epochs=2, loss=smooth)
    weight = an.asarray([1.0, 2.0, 3.0])
    fit(other, epochs=2, loss=nn.CrossEntropyLoss(label_smoothing=0.1, weight=weight))
    assert same(values(one), values(other))
    measured = an.evaluate(one, (X, Y), loss=smooth)
    assert measured == an.evaluate(one, (X, Y), loss=nn.CrossEntropyLoss(label_smoothing=0.1, weight=weight))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": {"momentum": 0.9}}, TypeError, "an optimizer as a mapping has a name and options"),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, ValueError, "unknown option of SGD 'momentun'; did you mean 'momentum'"),
        ({"optimizer": {"name": "sgd", "momentum": -1}}, ValueError, "momentum"),
        ({"optimizer": {"name": "sgd", "lr": 0.1}, "lr": 0.1}, ValueError, "the learning rate is given twice"),
        ({"optimizer": {"name": "adamw", "weight_decay": 0.1}, "weight_decay": 0.1}, ValueError, "weight_decay is given twice"),
        ({"optimizer": optim.SGD(network().parameters(), lr=0.1), "weight_decay": 0.1}, ValueError, "this SGD has its own"),
        ({"optimizer": lambda p: optim.SGD(p, lr=0.1), "weight_decay": 0.1}, ValueError, "weight_decay is for an optimizer given by"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, ValueError, "unknown option of LBFGS 'weight_decay'"),
        ({"weight_decay": "much"}, TypeError, "weight_decay must be a number"),
        ({"loss": {"label_smoothing": 0.1}}, TypeError, "a loss as a mapping has a name and options"),
        ({"loss": {"name": "cross_entropy", "label_smooting": 0.1}}, ValueError, "did you mean 'label_smoothing'"),
        ({"label_smoothing": 0.1}, TypeError, r"give loss=\{'name': 'cross_entropy', 'label_smoothing'"),
        ({"momentum": 0.9}, TypeError, r"give optimizer=\{'name': 'sgd', 'momentum'"),
    ],
)  # fmt: skip
def test_options_as_data_that_are_refused(options, error, message):
    net = network()
    before = values(net)
    with pytest.raises(error, match=message):
        fit(net, **options)
    assert same(before, values(net))


# ----- one number a sample -----


@pytest.mark.parametrize(
    "loss",
    ["mse", "l1", "huber", "bce_with_logits", "hinge", nn.MSELoss(reduction="sum"), an.losses.mse_loss],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_of_one_number_are_a_column(loss, weighted):
    y = (X[:, 0] > 0).astype("f4") * 2 - 1 if loss == "hinge" else (X[:, 0] > 0).astype("f4")
    found = []
    for target in (y, y[:, None]):
        an.random.manual_seed(0)
        net = nn.Linear(4, 1)
        data = (X, target, W) if weighted else (X, target)
        found.append((fit(net, data, (X, target), loss=loss, epochs=2), values(net)))
    assert found[0][0].column("loss") == found[1][0].column("loss")
    assert found[0][0].column("val_loss") == found[1][0].column("val_loss")
    assert same(found[0][1], found[1][1])


def test_other_shapes_of_targets_are_refused():
    with pytest.raises(ValueError, match=r"input and target must have equal shapes, got \(8, 2\) and \(8,\)"):
        fit(nn.Linear(4, 2), (X, X[:, 0]), loss="mse")
    with pytest.raises(ValueError, match=r"must have shape \(8,\), got \(8, 1\); take the axis away"):
        fit(network(), (X, Y[:, None]))


# ----- data that a source reads -----


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("houses.csv", r"got the path 'houses.csv'; write anynet.data.Table\('houses.csv', target='…'\)"),
        (pathlib.Path("book.txt"), r"write anynet.data.Text\('book.txt'\)"),
        (str(pathlib.Path(__file__).parent), r"write anynet.data.ImageFolder\("),
    ],
)  # fmt: skip
def test_files_and_folders_are_refused_with_the_line_to_write(data, message):
    with pytest.raises(TypeError, match=message):
        fit(network(), data)


def test_a_dataframe_is_refused_with_the_line_to_write():
    pandas = needs("pandas", "pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "price": [3.0, 4.0]})
    with pytest.raises(
        TypeError, match=r"got a table \(DataFrame\); write anynet.data.Table\(data, target='price'\)"
    ):
        fit(network(), frame)


def test_a_source_is_trained_on_directly():
    rows = {"x": [i / 10 for i in range(50)], "y": [3 * i / 10 + 1 for i in range(50)]}
    table = an.data.Table(rows, target="y")
    an.random.manual_seed(0)
    history = an.fit(table.network(), table, epochs=2, progress=False)
    assert "val_loss" in history[0]


# ----- val=0.2 -----


def test_a_fraction_is_split_off_by_class_and_seed():
    classes = np.asarray([0] * 30 + [1] * 8 + [2] * 2)
    train, valid, split = split_off((np.arange(40.0), classes), 0.25, 0)
    chosen = [int(valid[i][0]) for i in range(len(valid))]
    assert sorted(chosen + [int(train[i][0]) for i in range(len(train))]) == list(range(40))
    counts = np.bincount(classes[chosen], minlength=3).tolist()
    assert sum(counts) == 10
    assert counts in ([7, 2, 1], [8, 2, 0])
    assert str(split) == "validation: 10 of 40 samples, drawn stratified by class with seed 0"
    assert split.sha256 == split_off((np.arange(40.0), classes), 0.25, 0)[2].sha256
    assert split.sha256 != split_off((np.arange(40.0), classes), 0.25, 1)[2].sha256
    assert not split_off((X, X[:, 0]), 0.25, 0)[2].stratified


def test_fit_takes_a_fraction(tmp_path):
    history = fit(network(), val=0.2, epochs=2, run_dir=tmp_path / "r")
    train, valid, _ = split_off((X, Y), 0.2, 0)
    by_hand = fit(network(), train, valid, epochs=2)
    assert history.column("val_loss") == by_hand.column("val_loss")
    again = fit(network(), val=0.2, epochs=3, run_dir=tmp_path / "r", resume=True)
    whole = fit(network(), val=0.2, epochs=3)
    assert again.column("val_loss") == whole.column("val_loss")


@pytest.mark.parametrize(("data", "val", "message"), [
    ((X, Y), 0.0, r"fraction of the training data in \(0, 1\), got 0.0"), ((X, Y), 1, "got 1"), ((X, Y), True, "got True"),
    ((X, Y), 0.001, "no sample for validation"), ((X[:2], Y[:2]), 0.99, "no sample for training"),
    (iter([(X, Y)]), 0.2, "train is a stream, whose end is not known"),
    (an.data.DataLoader((X, Y), batch_size=4), 0.2, "train is a DataLoader; give its data set"),
])  # fmt: skip
def test_fractions_that_are_refused(data, val, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(network(), data, val)


# ----- streams -----


class Again:
    def __init__(self, n=5):
        self.n = n

    def __iter__(self):
        return ((X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]) for i in range(self.n))


def generator():
    yield from Again()


def test_streams_give_what_a_loader_gives():
    expected = network()
    fit(expected, an.data.DataLoader((X, Y), batch_size=8), epochs=2)
    for stream in (Again(), generator, lambda: iter(Again())):
        net = network()
        assert len(fit(net, stream, epochs=2)) == 2
        assert same(values(net), values(expected))
    net = network()  # ten batches in two epochs of five, from one iterator
    fit(net, (b for _ in range(2) for b in Again()), epochs=2, steps_per_epoch=5)
    assert same(values(net), values(expected))
    short = network()
    fit(short, Again(), epochs=5, steps_per_epoch=2)
    assert same(values(short), values(expected))


def test_a_stream_that_ends():
    history = fit(network(), iter(Again()), epochs=3, steps_per_epoch=3)
    assert len(history) == 2
    assert history.stopped == "the stream ended in epoch 2 after 2 batches"
    with pytest.raises(ValueError, match="can be gone through once; for several epochs"):
        fit(network(), iter(Again()), epochs=2)
    with pytest.raises(ValueError, match="val is an iterator"):
        fit(network(), val=iter(Again()), epochs=2)
    with pytest.raises(ValueError, match=r"the stream gave no batch"):
        fit(network(), [].__iter__)
    with pytest.raises(ValueError, match="steps_per_epoch is for streams"):
        fit(network(), steps_per_epoch=2)
    found = an.evaluate(net := network(), Again(), loss="cross_entropy")
    assert found["loss"] == pytest.approx(an.evaluate(net, (X, Y), loss="cross_entropy")["loss"])


@pytest.mark.parametrize("steps", [None, 3])
def test_a_stream_is_resumed_exactly(steps, tmp_path):
    def breaks(run):
        if (run.epoch, run.batch) == (2, 2):
            raise ZeroDivisionError

    options = {"epochs": 4, "steps_per_epoch": steps}
    whole, net = network(0.5), network(0.5)
    fit(whole, Again(), **options)
    with pytest.raises(ZeroDivisionError):
        fit(net, Again(), **options, callbacks=an.train.on(batch_end=breaks), run_dir=tmp_path / "r")
    fit(net := network(0.5), Again(), **options, callbacks=an.train.on(), run_dir=tmp_path / "r", resume=True)
    assert same(values(net), values(whole))


def test_samples_from_iterable_data_sets():
    torch = pytest.importorskip("torch", reason="PyTorch's data sets")

    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    net, expected = network(), network()
    fit(net, Rows())
    fit(expected, an.data.DataLoader((X, Y), batch_size=8))
    assert same(values(net), values(expected))


# ----- mappings -----


class Named(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, left, right):
        return self.a(left) + self.b(right)


@pytest.mark.parametrize("form", ["arrays", "rows", "several"])
def test_mappings_are_inputs_by_name(form):
    data = {
        "arrays": {"left": X, "right": X[:, :2], "labels": Y},
        "rows": [{"left": x, "right": x[:2], "labels": int(y)} for x, y in zip(X, Y, strict=True)],
        "several": ((X, X[:, :2]), Y),
    }[form]
    if form == "rows":
        data = an.data.DataLoader(data, batch_size=8, shuffle=True)
    an.random.manual_seed(0)
    net = Named()
    an.random.manual_seed(0)
    expected = Named()
    fit(net, data, epochs=2)
    fit(expected, ({"left": X, "right": X[:, :2]}, Y), epochs=2)
    assert same(values(net), values(expected))


# ----- accumulation, clipping, rates -----

TOGETHER = {
    "plain": {}, "weights": {"data": (X, Y, W)}, "norm": {"clip_norm": 0.05}, "value": {"clip_value": 0.01},
    "both": {"clip_norm": 0.05, "clip_value": 0.02}, "compiled": {"compile": True, "data": (X, Y, W)},
    "class weights": {"class_weight": "balanced", "data": (X, Y, W)}, "schedule-free": {"optimizer": "schedulefreeadamw"},
    "float64": {"precision": "float64"}, "all": {"data": (X, Y, W), "clip_norm": 0.05, "class_weight": {1: 2.0}, "compile": True,
                                                 "precision": "float64", "optimizer": "schedulefreeadamw"},
}  # fmt: skip


@pytest.mark.parametrize("case", TOGETHER)
def test_accumulation_is_one_large_batch(case):
    options = {"optimizer": "sgd", "lr": 0.5, "epochs": 3, **TOGETHER[case]}
    data = options.pop("data", (X, Y))
    parts, whole = network(), network()
    fit(parts, an.data.DataLoader(data, batch_size=8), accumulate=3, **options)
    # 40 samples in batches of 8, three at a time: 24 and 16
    fit(whole, lambda: iter([tuple(a[:24] for a in data), tuple(a[24:] for a in data)]), **_counted(options))
    assert close(values(parts), values(whole), 2e-6)


def _counted(options):
    """Streams do not say how often classes are there."""
    if options.get("class_weight") == "balanced":
        counts = np.bincount(Y)
        options = {**options, "class_weight": {i: float(40 / (3 * n)) for i, n in enumerate(counts)}}
    return options


@pytest.mark.parametrize("case", TOGETHER)
def test_all_options_resume_exactly(case, tmp_path):
    def breaks(run):
        if (run.epoch, run.batch) == (2, 2):
            raise ZeroDivisionError

    options = {"lr": 0.05, "epochs": 3, "accumulate": 3, **TOGETHER[case]}
    data = options.pop("data", (X, Y))
    whole = network(0.5)
    expected = fit(whole, data, (X, Y), **options)
    with pytest.raises(ZeroDivisionError):
        fit(
            network(0.5),
            data,
            (X, Y),
            **options,
            callbacks=an.train.on(batch_end=breaks),
            run_dir=tmp_path / "r",
        )
    net = network(0.5)
    if options.get("precision") == "float64":
        net = net.double()
    found = fit(net, data, (X, Y), **options, callbacks=an.train.on(), run_dir=tmp_path / "r", resume=True)
    assert same(values(net), values(whole))
    assert found.column("loss") == expected.column("loss")


def test_ignored_targets_count_in_accumulation():
    target = Y.copy()
    target[:6] = -100
    target[16:24] = -100  # a batch of which nothing counts
    parts, whole = network(), network()
    fit(parts, an.data.DataLoader((X, target), batch_size=8), accumulate=5, optimizer="sgd", lr=0.5)
    fit(whole, an.data.DataLoader((X, target), batch_size=40), optimizer="sgd", lr=0.5)
    assert close(values(parts), values(whole))


def test_a_schedule_by_batch_steps_with_the_updates():
    rates = []
    fit(
        network(), accumulate=2, epochs=2, scheduler=lambda o: optim.StepLR(o, 1, 0.5), schedule_by="batch", lr=1.0, optimizer="sgd",
        callbacks=an.train.on(epoch_end=lambda run: rates.append((run.steps, run.optimizer.param_groups[0]["lr"]))),
    )  # fmt: skip
    assert rates == [(3, 0.125), (6, 0.015625)]


def test_rates_of_parts():
    net, before = (n := network()), values(n)
    fit(net, lr={"0": 0.0, "": 0.1}, optimizer="sgd")
    after = values(net)
    assert same({k: before[k] for k in ("0.weight", "0.bias")}, after)
    assert not same({"3.weight": before["3.weight"]}, after)
    by_hand = network()
    groups = [
        {"params": [*by_hand[0].parameters()], "lr": 0.3},
        {"params": [*by_hand[3].parameters()], "lr": 0.01},
    ]
    fit(by_hand, optimizer=optim.SGD(groups, lr=1.0))
    for lr in (
        {"0": 0.3, "3": 0.01},
        {"0.": 0.3, "": 0.01},
        lambda name, p: 0.3 if name.startswith("0") else 0.01,
    ):
        fit(net := network(), optimizer="sgd", lr=lr)
        assert same(values(net), values(by_hand))
    for lr, message in (
        ({"encoder": 0.1}, "lr has 'encoder', and no parameter's name begins so"),
        ({"0": -1.0}, r"lr\['0'\]"),
        ({}, "mapping"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            fit(network(), lr=lr)


# ----- precision -----


def test_float64_and_float32():
    net = network()
    fit(net, precision="float64", epochs=2)
    assert {p.dtype.name for p in net.parameters()} == {"float64"}
    expected = network().double()
    fit(expected, epochs=2)
    assert same(values(net), values(expected))
    back = network().double()
    fit(back, precision="float32")
    assert {p.dtype.name for p in back.parameters()} == {"float32"}
    with pytest.raises(ValueError, match=r"write model\.to"):
        fit(n := network(), precision="float64", optimizer=optim.SGD(n.parameters(), lr=0.1))


@pytest.mark.parametrize("compile", [False, True])
def test_float16_products_with_a_scaled_loss(compile):
    net, exact = network(), network()
    found = fit(net, precision="mixed-fp16", epochs=4, lr=0.01, compile=compile)
    expected = fit(exact, epochs=4, lr=0.01)
    assert {p.dtype.name for p in net.parameters()} == {"float32"}
    np.testing.assert_allclose(found.column("loss"), expected.column("loss"), rtol=2e-3)
    assert found.column("loss") != expected.column("loss")


def test_a_scale_that_is_too_large_is_halved_and_the_batch_left_out(tmp_path):
    scales = []
    fit(
        nn.Linear(4, 3), (X * 30.0, Y), precision="mixed-fp16", lr=0.0, optimizer="sgd", run_dir=tmp_path / "r",
        callbacks=an.train.on(batch_end=lambda run: scales.append((run._updates.scale.value, run.steps))),
    )  # fmt: skip
    assert scales[0][0] < 2.0**16
    assert scales[0][1] == 0
    assert an.load(tmp_path / "r" / "last.safetensors")["updates"]["scale"]["value"] == scales[-1][0]


@pytest.mark.parametrize(("options", "message"), [
    ({"precision": "half"}, "precision must be"), ({"accumulate": 0}, "accumulate must be"), ({"clip_value": 0}, "clip_value"),
    ({"accumulate": 2, "optimizer": "lbfgs"}, "computes its loss several times"),
    ({"precision": "mixed-fp16", "optimizer": "lbfgs"}, "scales the loss"), ({"steps": 0}, "steps"),
    ({"time_limit": "soon"}, "a time such as"),
    ({"restore_best": 3}, "restore_best must be True or False"), ({"metrics": None}, "metrics must be a name, .* got None"),
    ({"monitor": 3}, "monitor must be the name of a quantity, got 3"), ({"class_weight": b"balanced"}, "class_weight must be"),
    ({"class_weight": [1.0, 2.0]}, "class_weight must have a weight for each of the 3 classes, got 2"),
])  # fmt: skip
def test_options_that_are_refused(options, message):
    net, before = (n := network()), values(n)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(net, **options)
    assert same(values(net), before)


# ----- how long -----


def test_steps_and_time_end_the_training(tmp_path):
    history = fit(network(), steps=7, run_dir=tmp_path / "r")
    assert (len(history), history.stopped) == (2, "7 updates are done")
    again = fit(network(), steps=12, run_dir=tmp_path / "r", resume=True)
    assert again.stopped == "12 updates are done"
    limited = fit(network(), time_limit=1e-9)
    assert limited.stopped == "the time limit of 1e-09 s is reached"
    assert len(fit(network(), epochs=2, time_limit="2h")) == 2


def test_the_best_epoch_is_restored(tmp_path):
    kept = []
    options = {
        "epochs": 6,
        "lr": 0.5,
        "optimizer": "sgd",
        "callbacks": an.train.on(epoch_end=lambda run: kept.append(values(run.model))),
    }
    net = network()
    history = fit(net, val=(X, (Y + 1) % 3), **options, run_dir=tmp_path / "r")
    losses = history.column("val_loss")
    assert history.best_epoch == 1 + losses.index(min(losses))
    assert history.best_epoch < 6
    assert same(values(net), kept[history.best_epoch - 1])
    again = network()
    resumed = fit(again, val=(X, (Y + 1) % 3), **options, run_dir=tmp_path / "r", resume=True)
    assert same(values(again), values(net))
    assert resumed.best_epoch == history.best_epoch
    last = network()
    fit(last, val=(X, (Y + 1) % 3), **options, restore_best=False)
    assert same(values(last), kept[-1])


# ----- a module's own step -----


class Own(nn.Module):
    def __init__(self):
        self.net = network()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch):
        x, y = batch
        output = self(x)
        right = an.astype(an.argmax(output, axis=1) == y, "float32")
        return {"loss": nn.functional.cross_entropy(output, y), "right": an.mean(right)}


class OwnValidation(Own):
    def validation_step(self, batch):
        return nn.functional.cross_entropy(self(batch[0]), batch[1]) * 2.0


@pytest.mark.parametrize("compile", [False, True, "auto"])
def test_a_module_brings_its_own_step(compile):
    own, plain = Own(), network()
    options = {"epochs": 3, "lr": 0.01, "compile": compile}
    found = fit(own, val=(X, Y), loss=None, **options)
    expected = fit(plain, val=(X, Y), metrics=["accuracy"], **options)
    assert same(values(own.net), values(plain))
    np.testing.assert_allclose(found.column("loss"), expected.column("loss"), rtol=1e-6)
    np.testing.assert_allclose(found.column("val_loss"), expected.column("val_loss"), rtol=1e-6)
    np.testing.assert_allclose(found.column("right"), expected.column("accuracy"), rtol=1e-6)
    np.testing.assert_allclose(found.column("val_right"), expected.column("val_accuracy"), rtol=1e-6)
    doubled = fit(OwnValidation(), val=(X, Y), loss=None, **options)
    np.testing.assert_allclose(
        doubled.column("val_loss"), 2 * np.asarray(found.column("val_loss")), rtol=1e-6
    )


def test_own_steps_that_are_refused():
    with pytest.raises(TypeError, match="has a training_step, which computes the loss; leave out loss="):
        fit(Own())
    with pytest.raises(ValueError, match="let it return what is to be recorded"):
        fit(Own(), loss=None, metrics=["accuracy"])
    for step, message in (
        (lambda self, batch: {"los": 1.0}, "a dict without 'loss'; it has los"),
        (lambda self, batch: 3.0, "must return the loss, a Tensor of one element"),
        (
            lambda self, batch, batch_idx: None,
            r"called with one argument, the batch: training_step\(self, batch\)",
        ),
    ):
        cls = type("Mine", (Own,), {"training_step": step})
        with pytest.raises((TypeError, KeyError), match=message):
            fit(cls(), loss=None)


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_a_schedule_over_the_whole_training_goes_on_with_more_epochs(scheduler, tmp_path):
    """However few updates there are: the rates at the beginning differ then."""
    options = {"scheduler": scheduler, "run_dir": tmp_path / "r", "batch_size": 20}
    fit(network(), epochs=1, **options)
    history = fit(network(), epochs=4, resume=True, **options)
    rates = [r["lr"] for r in history]
    assert rates[0] < 1e-6
    assert rates[1] > 1e-4
    assert rates[3] < 1e-6
    with pytest.raises(an.train.CheckpointError, match="max_lrs"):
        fit(network(), epochs=5, resume=True, lr=0.5, **options)


# ----- limits, and going on -----


class LimitAt(an.train.Callback):
    """As a limit of time that is reached after a batch."""

    def __init__(self, epoch, batch):
        self.place = (epoch, batch)

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == self.place:
            run.stop("enough", for_good=False)


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 3}, {"scheduler": "onecycle"}, {"optimizer": "schedulefreeadamw"}]
)
@pytest.mark.parametrize("place", [(1, 2), (2, 3), (2, 5)])
def test_an_epoch_that_a_limit_cut_short_goes_on(place, options, tmp_path):
    options = {"epochs": 3, "val": (X, Y), "metrics": "accuracy", **options}
    whole = network(0.3)
    expected = fit(whole, run_dir=tmp_path / "whole", **options)
    history = fit(network(0.3), run_dir=tmp_path / "r", callbacks=LimitAt(*place), **options)
    assert (history.stopped, len(history)) == ("enough", place[0])
    before = an.load(tmp_path / "r" / "best.safetensors")  # usable as it is
    assert all(np.isfinite(v.numpy()).all() for v in before.values())
    assert len(an.open(tmp_path / "r").history) == place[0]
    net = network(0.3)
    again = fit(net, run_dir=tmp_path / "r", resume=True, **options)
    assert same(values(whole), values(net))
    for found, record in zip(again, expected, strict=True):
        assert {k: v for k, v in found.items() if k != "seconds"} == {
            k: v for k, v in record.items() if k != "seconds"
        }
    assert (again.best_epoch, again.stopped) == (expected.best_epoch, None)
    best = [an.load(tmp_path / name / "best.safetensors") for name in ("r", "whole")]
    assert all((best[0][k].numpy() == best[1][k].numpy()).all() for k in best[1])
    assert not (tmp_path / "r" / "best-before.safetensors").exists()
    assert an.open(tmp_path / "r").info["best"] == an.open(tmp_path / "whole").info["best"]


def test_the_best_weights_are_those_before_an_epoch_that_was_cut_short(tmp_path):
    """The part of the epoch was better than the whole of it is."""
    scores = {1: 5.0, 2: 1.0}

    def score(output, target):
        return scores.get(now[0], 9.0)

    class Now(an.train.Callback):
        def on_epoch_begin(self, run):
            now[0] = run.epoch

        def on_batch_begin(self, run):
            now[0] = run.epoch

    now, options = (
        [0],
        {"metrics": an.metrics.Mean(score, name="score", mode="min"), "monitor": "score", "epochs": 2},
    )
    fit(network(), run_dir=tmp_path / "r", callbacks=[Now(), LimitAt(2, 3)], **options)
    assert an.open(tmp_path / "r").info["best"]["epoch"] == 2
    first = an.load(tmp_path / "r" / "best-before.safetensors")
    scores[2] = 50.0
    history = fit(network(), run_dir=tmp_path / "r", resume=True, callbacks=Now(), **options)
    assert history.best_epoch == 1
    assert an.open(tmp_path / "r").info["best"]["epoch"] == 1
    best = an.load(tmp_path / "r" / "best.safetensors")
    assert all((best[k].numpy() == first[k].numpy()).all() for k in first)


def test_steps_are_exact_over_a_break(tmp_path):
    whole, parts = network(0.3), network(0.3)
    fit(whole, steps=12)
    fit(network(0.3), steps=7, run_dir=tmp_path / "r")
    fit(parts, steps=12, run_dir=tmp_path / "r", resume=True)
    assert same(values(whole), values(parts))


@pytest.mark.parametrize("limit", [{"steps": 7}, {"time_limit": 1e-9}])
def test_a_limit_that_is_used_up_leaves_nothing_to_do(limit, tmp_path):
    fit(network(), run_dir=tmp_path / "r", **limit)
    before = (tmp_path / "r" / "last.safetensors").read_bytes(), an.open(tmp_path / "r").history
    history = fit(network(), run_dir=tmp_path / "r", resume=True, **limit)
    assert history.stopped is not None
    assert before == ((tmp_path / "r" / "last.safetensors").read_bytes(), an.open(tmp_path / "r").history)


def test_early_stopping_stays_stopped(tmp_path):
    stop = {"name": "early_stopping", "patience": 1, "monitor": "val_loss"}
    options = {"val": (X, Y), "lr": 5.0, "run_dir": tmp_path / "r", "callbacks": stop}
    first = fit(network(), epochs=30, **options)
    assert len(first) < 30
    net = network()
    again = fit(net, epochs=60, resume=True, **options)
    assert (len(again), again.stopped, again.best_epoch) == (len(first), first.stopped, first.best_epoch)
    best = an.load(tmp_path / "r" / "best.safetensors")
    assert all((net.state_dict()[k].numpy() == best[k].numpy()).all() for k in best)


@pytest.mark.parametrize("compile", ["auto", True])
@pytest.mark.parametrize("target", [X[:, 0], X[:, :1]])
def test_a_loss_of_ones_own_must_not_broadcast_outputs_against_targets(target, compile):
    an.random.manual_seed(0)
    net = nn.Linear(4, 1)
    before = values(net)
    wrong = lambda output, y: an.mean((output - y) ** 2)  # noqa: E731
    if target.ndim == 1:
        with pytest.raises(
            ValueError, match=r"subtract of the output \(8, 1\) and the targets \(8,\) has shape \(8, 8\)"
        ):
            fit(net, (X, target), loss=wrong, compile=compile)
        assert same(values(net), before)
        fit(net, (X, target), loss=lambda output, y: an.mean((output[:, 0] - y) ** 2), compile=compile)
    else:
        fit(net, (X, target), loss=wrong, compile=compile)


@pytest.mark.parametrize("callback", [lambda run: None, an.train.Callback, 3])
def test_what_is_no_callback_is_refused(callback):
    with pytest.raises(TypeError, match="Callback"):
        fit(network(), callbacks=callback)
