"""fit(compile=…): the same bits, whatever the network and the loss do besides, and nobody notices."""

import random

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim, train
from anynet.train import compilation, updates

rng = np.random.RandomState(0)
X = rng.randn(84, 4).astype("f4")
Y = rng.randint(0, 3, 84)


class Plain(nn.Module):
    def __init__(self):
        self.first, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(an.nn.functional.relu(self.norm(self.first(x)))))


class One(nn.Module):
    def __init__(self):
        self.linear = nn.Linear(4, 3)
        self.calls, self.seen = 0, []
        self.numpy, self.old = np.random.default_rng(0), np.random.RandomState(0)


class Counts(One):
    def forward(self, x):
        self.calls += 1
        return self.linear(x) * (1.0 if self.calls < 80 else 2.0)


class Notes(One):
    def forward(self, x):
        self.seen.append(x.shape)
        return self.linear(x)


class Draws(One):
    def forward(self, x):
        return self.linear(x) * (2.0 if random.random() < 0.01 else 1.0)


class DrawsOfNumpy(One):
    def forward(self, x):
        return self.linear(x) + float(self.numpy.normal())


class DrawsOfOldNumpy(One):
    def forward(self, x):
        return self.linear(x) + float(self.old.normal())


class Reads(One):
    def forward(self, x):
        y = self.linear(x)
        return 2 * y if float(an.sum(y)) > 0 else y


temperature = [1.0]


def own_loss(output, target):
    return an.nn.functional.cross_entropy(output * temperature[0], target)


class Anneal(train.Callback):
    def on_epoch_end(self, run):
        temperature[0] *= 0.9


class Thaw(train.Callback):
    """Changes the network between epochs."""

    def on_epoch_end(self, run):
        run.model.drop.p = 0.4 / run.record["epoch"]
        run.model.norm.eval() if run.record["epoch"] % 3 else run.model.norm.train()


def sgd(params):
    return optim.SGD(params, lr=0.1, momentum=0.9)


CASES = {
    "plain": (Plain, {}, "compiled"),
    "clipped": (Plain, {"clip_norm": 1.0, "optimizer": sgd}, "compiled"),
    "scheduled": (Plain, {"scheduler": lambda o: optim.CosineAnnealingLR(o, 300), "schedule_by": "batch"}, "compiled"),
    "with a metric and validation": (Plain, {"metrics": ["accuracy"], "val": (X, Y)}, "compiled"),
    "a loss of one's own": (Plain, {"loss": own_loss, "callbacks": [Anneal()]}, "compiled"),
    "changed between epochs": (Plain, {"callbacks": [Thaw()]}, "compiled"),
    "ignored targets": (Plain, {"data": (X, np.where(rng.rand(84) < 0.5, -100, Y))}, None),
    "several gradients a step": (Plain, {"optimizer": lambda p: optim.SAM(sgd(p))}, "never"),
    "counts": (Counts, {}, "eager"),
    "notes": (Notes, {}, "eager"),
    "draws": (Draws, {}, "eager"),
    "draws of NumPy": (DrawsOfNumpy, {}, "eager"),
    "draws of old NumPy": (DrawsOfOldNumpy, {}, "eager"),
    "reads": (Reads, {}, "eager"),
}  # fmt: skip


def run(make, how, options):
    an.random.manual_seed(0)
    random.seed(0)
    temperature[0] = 1.0
    net = make()
    given = {
        "loss": "cross_entropy",
        "batch_size": 8,
        "epochs": 12,
        "progress": False,
        "device": "cpu",
        **options,
    }
    data, val = given.pop("data", (X, Y)), given.pop("val", None)
    history = an.fit(net, data, val, compile=how, **given)
    state = {k: v.numpy().tobytes() for k, v in net.state_dict().items()}
    return (
        [{k: v for k, v in r.items() if k != "seconds"} for r in history],
        state,
        len(getattr(net, "seen", ())),
    )


@pytest.mark.parametrize("case", CASES)
def test_same_bits(case, monkeypatch):
    make, options, chosen = CASES[case]
    made = []

    class Spy(compilation.AutoCompiled):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        def _settle(self, chosen):  # which one is quicker is not asked of a machine that others use
            super()._settle("compiled" if self.checked else chosen)

    monkeypatch.setattr(compilation, "WORTH", 0.0)
    monkeypatch.setattr(updates, "AutoCompiled", Spy)
    expected = run(make, False, options)
    assert not made
    found = run(make, "auto", options)
    assert found[1:] == expected[1:]
    assert str(found[0]) == str(expected[0])
    if chosen == "never":
        assert not made
        with pytest.raises(ValueError, match="one gradient a step"):
            run(make, True, options)
    elif chosen == "eager":
        assert made[0].chosen == "eager"
        with pytest.raises(an.CompileError, match=r"test_fit_compiled\.py:\d+"):
            run(make, True, options)
    else:
        assert chosen is None or made[0].chosen == chosen
        assert str(run(make, True, options)) == str(expected)


def test_a_short_training_is_not_recorded(monkeypatch):
    monkeypatch.setattr(compilation, "compiled", None)
    run(Plain, "auto", {})


def test_what_differs_is_not_used(monkeypatch):
    """A program that computes something else is found out by the comparison."""

    class Wrong:
        def __init__(self, function, capture):
            assert capture == "off"
            self.function, self.calls = function, 0

        def __call__(self, x, y):
            self.calls += 1
            value, output = self.function(x, y)
            return (value if self.calls < 3 else value * 1.0000001), output

    monkeypatch.setattr(compilation, "WORTH", 0.0)
    monkeypatch.setattr(compilation, "compiled", Wrong)
    assert str(run(Plain, "auto", {})) == str(run(Plain, False, {}))
    with pytest.raises(ValueError, match="compile must be"):
        run(Plain, "always", {})
