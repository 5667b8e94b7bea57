"""`fit` on a CUDA device waits for nothing between batches: what is wrong with a batch is found on the device, and nothing is changed by
it or by those after it, until the host reads the losses."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.train import Callback, NonFiniteGradientError, NonFiniteLossError, fit, unread
from ci.cuda_emulator.log import Log

BATCHES, WRONG = 9, 6  # batches of 4; the sixth is wrong


class Root(nn.Module):
    """A network whose gradient is infinite, and whose loss is not, where an input is 0."""

    def __init__(self):
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return an.sqrt(an.abs(self.linear(x) * x[:, :3]))


def data(wrong: str | None):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4 * BATCHES, 6)).astype(np.float32), rng.integers(0, 3, 4 * BATCHES)
    if wrong == "loss":
        x[4 * (WRONG - 1) + 1, 2] = np.nan
    elif wrong == "gradient":
        x[4 * (WRONG - 1) + 1, :3] = 0
    elif wrong == "label":
        y[4 * (WRONG - 1) + 2] = 7
    return x, y


def network(kind: str):
    an.random.manual_seed(1)
    if kind == "root":
        return Root()
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def train(net, wrong=None, batches=BATCHES, epochs=1, **options):
    """`fit` without shuffling, with a schedule that goes by batches; the optimizer and the history."""
    x, y = data(wrong)
    loader = an.data.DataLoader(an.data.TensorDataset(x[: 4 * batches], y[: 4 * batches]), batch_size=4)
    net = net.to("cuda")
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    loss = nn.CrossEntropyLoss()
    if wrong == "label":  # of a function nothing is known before
        options["loss"] = lambda output, target: loss(output, target)
    options = {"loss": loss, "schedule_by": "batch", "progress": False, "epochs": epochs} | options
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    found = {"optimizer": optimizer, "schedule": schedule}
    history = fit(net, loader, optimizer=optimizer, scheduler=schedule, device="cuda", **options)
    return found, history


def state(net, optimizer):
    """All that a step changes, on the host."""
    numbers = {k: v.numpy() for k, v in net.state_dict().items()}
    for i, entry in optimizer.state_dict()["state"].items():
        numbers |= {f"{i}.{k}": v.numpy() if isinstance(v, an.Tensor) else v for k, v in entry.items()}
    return numbers


CASES = {
    "loss": (NonFiniteLossError, "the loss is nan in epoch 1, batch 6; nothing was updated", "plain"),
    "gradient": (NonFiniteGradientError, "linear.weight is NaN .* in epoch 1, batch 6, though", "root"),
    "label": (IndexError, "class index 7 is out of range for 3 classes", "plain"),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.5}, {"clip_value": 0.1}, {"compile": True}, {"compile": True, "clip_norm": 0.5}],
    ids=["plain", "norm", "value", "captured", "captured, norm"],
)
@pytest.mark.parametrize("wrong", CASES)
def test_nothing_is_changed_by_a_wrong_batch_or_those_after_it(wrong, options, monkeypatch):
    error, message, kind = CASES[wrong]
    optimizers = []
    monkeypatch.setattr(optim.Adam, "__init__", keeping(optim.Adam.__init__, optimizers))
    good, bad = network(kind), network(kind)
    train(good, None, WRONG - 1, **options)
    with pytest.raises(error, match=message) as found:
        train(bad, wrong, **options)
    if wrong == "label":
        assert any("epoch 1, batch 6" in note for note in found.value.__notes__)
    expected, got = (state(net, o) for net, o in zip((good, bad), optimizers, strict=True))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, got[name], err_msg=name)
    assert all(p.grad is None for p in bad.parameters())
    rates = [o.param_groups[0]["lr"] for o in optimizers]
    assert rates[0] == rates[1]


def keeping(function, made):
    def call(self, *args, **kwargs):
        made.append(self)
        function(self, *args, **kwargs)

    return call


@pytest.mark.parametrize("wrong", CASES)
def test_the_checkpoint_is_that_before_the_wrong_batch(wrong, tmp_path):
    error, _, kind = CASES[wrong]
    with pytest.raises(error) as found:
        train(network(kind), wrong, run_dir=tmp_path / "run")
    assert any("epoch 1 after batch 5" in note for note in found.value.__notes__)


class Watching(Callback):
    """Reads each loss, so that the training waits for each batch."""

    def __init__(self):
        self.losses = []

    def on_batch_end(self, run):
        self.losses.append(run.loss)


@pytest.mark.parametrize("room", [1, 2, 32])
def test_the_numbers_are_those_of_a_training_that_waits(room, monkeypatch):
    watching = Watching()
    waiting, going_on = network("plain"), network("plain")
    _, first = train(waiting, epochs=2, callbacks=[watching], metrics=["accuracy"])
    monkeypatch.setattr(unread, "ROOM", room)
    _, second = train(going_on, epochs=2, metrics=["accuracy"])
    assert len(watching.losses) == 2 * BATCHES
    for a, b in zip(first, second, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
    for a, b in zip(waiting.state_dict().values(), going_on.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


class OwnStep(nn.Module):
    """Computes its loss itself, and gives a number beside it."""

    def __init__(self):
        self.linear = nn.Linear(6, 3)

    def training_step(self, batch):
        x, y = batch
        loss = nn.CrossEntropyLoss()(self.linear(x), y)
        return {"loss": loss, "twice": 2 * loss}


def test_numbers_of_a_step_of_ones_own_are_recorded():
    _, history = train(OwnStep(), loss=None)
    assert history[0]["twice"] == pytest.approx(2 * history[0]["loss"], rel=1e-6)


def test_a_callback_is_not_called_after_a_wrong_batch():
    watching = Watching()
    with pytest.raises(NonFiniteLossError):
        train(network("plain"), "loss", callbacks=[watching])
    assert len(watching.losses) == WRONG - 1


def test_the_device_is_not_waited_for_between_batches():
    waits = []
    for batches in (4, 4, 9):
        with Log() as log:
            train(network("plain"), batches=batches)
        waits.append(log.synchronisations)
    assert waits[1] == waits[2]
