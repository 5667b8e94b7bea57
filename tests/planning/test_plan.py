"""`plan`: what a training takes, by shapes and by a trial; nothing is changed by asking."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pytest

import anynet as an
from anynet import _trials, nn, planning
from anynet.cli import main
from anynet.planning import bytes_of


def network():
    return nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))


def test_sizes_that_can_be_counted_by_hand():
    found = an.plan(network(), (20, 100), trial=False)
    count = 100 * 50 + 50 + 50 * 10 + 10
    assert (found.parameters, found.trainable, found.batch) == (count, count, 20)
    assert (found.weights, found.gradients, found.optimizer) == (4 * count, 4 * count, 8 * count)
    assert (found.inputs, found.outputs) == ([(20, 100)], [(20, 10)])
    assert found.activations >= 4 * 20 * (50 + 10)
    assert found.peak >= found.weights + found.gradients + found.optimizer
    first, second = 2 * 20 * 100 * 50, 2 * 20 * 50 * 10
    products = 2 * first + 3 * second  # two of them backwards, for the first layer one
    assert products <= found.flops <= 1.02 * products
    assert found.flops == an.plan(network(), (20, 100), trial=False).flops
    assert [(row.layer, row.parameters) for row in found.layers if row.parameters] == [
        ("0", 5050),
        ("2", 510),
    ]
    assert json.loads(json.dumps(found.to_json()))["by"] == "shapes"


def test_optimizers_and_frozen_parts():
    states = {
        name: an.plan(network(), (4, 100), optimizer=name, trial=False).optimizer
        for name in ("sgd", "adam", "lion")
    }
    assert states["sgd"] < states["lion"] < states["adam"]
    net = network()
    for p in net[0].parameters():
        p.requires_grad = False
    found = an.plan(net, (4, 100), trial=False)
    assert (found.trainable, found.gradients) == (510, 4 * 510)


def test_the_largest_batch():
    found = an.plan(network(), (1000, 100), memory="3 MB", trial=False)
    assert found.largest_batch is not None
    assert found.fits is (found.peak <= 3e6)
    for batch, fits in ((found.largest_batch, True), (found.largest_batch + 2, False)):
        assert an.plan(network(), (batch, 100), memory="3 MB", trial=False).fits is fits
    assert an.plan(network(), (8, 100), memory="1 kB", trial=False).largest_batch == 0
    assert "not even a batch of 1 fits" in str(an.plan(network(), (8, 100), memory="1 kB", trial=False))


@pytest.mark.skipif(sys.platform != "linux", reason="the trial reads /proc")
def test_the_trial_and_what_it_leaves():
    net = network()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = an.random.get_state()
    small, large = (an.plan(net, (n, 100)) for n in (4000, 16_000))
    assert (small.by, large.by) == ("trial", "trial")
    assert 0 < small.peak < large.peak
    assert large.per_sample > 100
    assert small.seconds > 0
    assert all(np.array_equal(before[k], v.numpy()) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert an.random.get_state() == state
    assert "measured with small batches" in str(small)


@pytest.mark.skipif(sys.platform != "linux", reason="the trial reads /proc")
def test_a_trial_that_cannot_be_made_is_said(monkeypatch):
    class Broken(nn.Module):
        def forward(self, x):
            if x.device == "cpu":
                raise RuntimeError("only of shapes")
            return an.square(x)

    found = an.plan(Broken(), (8, 3))
    assert (found.by, found.why) == (
        "shapes",
        "a trial with a batch of 8 failed with RuntimeError: only of shapes",
    )
    assert "estimates from below" in str(found)
    assert found.why in str(found)
    assert an.plan(network(), (8, 100), trial=False).why == "no trial was asked for"
    assert an.plan(network(), (8, 100)).why is None


@pytest.mark.skipif(sys.platform != "linux", reason="the trial reads /proc")
def test_what_becomes_of_a_trial():
    """By the processor's time: a busy machine is no reason to give up."""

    def busy(batch):
        while True:
            pass

    def killed(batch):
        os.kill(os.getpid(), signal.SIGKILL)
        return 0, 0.0

    assert _trials.measured(lambda batch: (10 * batch, 0.5), 3) == (30, 0.5)
    late = _trials.measured(busy, 3, limit=0.3)
    assert isinstance(late, _trials.TooLong)
    assert late == "a trial with a batch of 3 took more than 0.3 s of the processor"
    assert "ended by signal 9; is there enough memory?" in _trials.measured(killed, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the trial reads /proc")
def test_where_a_trial_takes_too_long_a_smaller_one_is_carried_over(monkeypatch):
    asked = []

    def measured(trial, batch):
        asked.append(batch)
        return _trials.TooLong("took too long") if batch > 200 else (1000 * batch + 5000, 0.01 * batch)

    monkeypatch.setattr(planning, "measured", measured)
    found = an.plan(network(), (1600, 100))
    assert asked == [1600, 400, 100, 50]
    assert (found.by, found.why) == ("trial", None)
    assert (found.peak, found.per_sample) == (1000 * 1600 + 5000 + found.weights, 1000.0)
    assert found.seconds == pytest.approx(16.0)
    monkeypatch.setattr(planning, "measured", lambda trial, batch: _trials.TooLong(f"{batch} took too long"))
    assert an.plan(network(), (1600, 100)).why == "6 took too long"


def test_a_network_that_is_too_large_for_the_machine():
    found = an.plan(
        nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()),
        (100_000, 3, 1000, 1000),
        trial=False,
        memory="12GB",
    )
    assert found.peak > 1e13
    assert 0 < found.largest_batch < 100


def test_networks_of_several_kinds():
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, x, y):
            return self.a(x) + self.b(y)

    assert an.plan(Two(), [(8, 3), (8, 5)], trial=False).outputs == [(8, 4)]
    tokens = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 2))
    assert an.plan(tokens, (4, 7), trial=False).outputs == [(4, 7, 2)]
    cross = an.plan(network(), (8, 100), loss=an.losses.cross_entropy, targets=(8,), trial=False)
    assert cross.outputs == [(8, 10)]
    assert an.plan(network(), (8, 100), batch_size=64, trial=False).batch == 64


def test_a_table():
    rows = {"x": [float(i) for i in range(40)], "y": [2.0 * i for i in range(40)]}
    found = an.plan(an.data.Table(rows, target="y"), trial=False)
    assert found.parameters > 0
    assert found.batch >= 1


def test_a_source_with_another_network():
    rows = [{"a": i, "b": i % 3, "y": i % 2} for i in range(60)]
    table = an.data.Table(rows, target="y")
    linear = table.network("linear")
    assert an.plan(table, network=linear, trial=False).parameters == sum(p.size for p in linear.parameters())
    with pytest.raises(ValueError, match="a source brings its own inputs and loss"):
        an.plan(table, (3, 4), loss=nn.functional.mse_loss, trial=False)
    with pytest.raises(TypeError, match="expected a source, to go with network=, got Linear"):
        an.plan(nn.Linear(2, 2), (3, 2), network=linear)


def test_options_of_the_network_reach_it(tmp_path, capsys):
    file = tmp_path / "t.csv"
    file.write_text("a,b,y\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(60)))

    def parameters(*more: str) -> int:
        assert main(["plan", str(file), "target=y", "trial=0", "json=1", *more]) == 0
        return json.loads(capsys.readouterr().out)["parameters"]

    assert parameters("model=linear") < parameters("hidden=8") < parameters("hidden=900") < parameters()
    for args, words in (
        ([str(file), "target=y", "model=mlpp"], "unknown network 'mlpp'; did you mean 'mlp'?"),
        ([str(file), "target=y", "heads=2"], "heads"),
        ([str(file), "target=y", "input=3,4"], "a source brings its own inputs"),
        (["resnet18", "input=2,3,32,32", "target=y"], "resnet18 is a network, which has no option target"),
        (["resnet18", "input=2,3,32,32", "model=mlp"], "resnet18 is a network, which has no option model"),
    ):
        assert main(["plan", *args, "trial=0"]) in (1, 2)
        assert words in capsys.readouterr().err


def test_mistakes():
    with pytest.raises(TypeError, match="expected a network or a source, got int"):
        an.plan(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape of its input with the batch"):
        an.plan(network())
    with pytest.raises(ValueError, match="integers of at least 1"):
        an.plan(network(), (0, 100))
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        an.plan(network(), (4, 100), optimizer="adm")
    with pytest.raises(ValueError, match=r"in Sequential.0 \(Linear"):
        an.plan(network(), (4, 99), trial=False)
    with pytest.raises(ValueError, match=r"number with a unit"):
        an.plan(network(), (4, 100), memory="12 apples")


@pytest.mark.parametrize(
    ("text", "size"), [("12GB", 12e9), ("1 GiB", 2**30), ("512", 512), ("1.5kB", 1500), (2048, 2048)]
)
def test_sizes(text, size):
    assert bytes_of(text) == size
