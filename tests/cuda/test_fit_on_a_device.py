"""`fit` on a CUDA device: as on the CPU, and after a break bit for bit as without one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.train import Callback, fit
from anynet.train.precision import LossScale
from anynet.train.unread import UnreadUpdates
from ci.cuda_emulator.log import Log


def train(device, folder=None, *, epochs=2, resume=False):
    """The weights after a training of a small network with dropout, and its history."""
    data = np.random.default_rng(5)
    x, y = data.standard_normal((40, 6)).astype(np.float32), data.integers(0, 3, 40)
    an.random.manual_seed(2)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    history = fit(
        net, (x[:30], y[:30]), (x[30:], y[30:]), loss="cross_entropy", optimizer="adam", lr=1e-2, metrics=["accuracy"],
        epochs=epochs, batch_size=8, device=device, run_dir=folder, resume=resume, restore_best=False,
        progress=False,
    )  # fmt: skip
    return [p.numpy() for p in net.parameters()], history


def test_a_training_is_that_of_the_cpu():
    (here, first), (there, second) = train("cpu"), train("cuda")
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(first, second, strict=True):
        assert a["accuracy"] == b["accuracy"]
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)


def test_a_training_goes_on_as_if_there_had_been_no_break(tmp_path):
    whole, _ = train("cuda", epochs=3)
    train("cuda", tmp_path / "run", epochs=1)
    parts, _ = train("cuda", tmp_path / "run", epochs=3, resume=True)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


# ----- steps that are captured as graphs -----


class Own(nn.Module):
    """A loss of its own."""

    def __init__(self):
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch):
        y = self.net(batch[0])
        return {"loss": nn.functional.cross_entropy(y, batch[1]), "size": an.mean(y * y)}


class Halving(Callback):
    """Sees each batch, and changes the rate."""

    def __init__(self):
        self.losses = []

    def on_batch_end(self, run):
        self.losses.append(run.loss)
        if run.steps == 9:
            run.optimizer.param_groups[0]["lr"] *= 0.5


def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


TRAININGS = {
    "plain": {},
    "a smaller last batch": {"samples": 38},
    "clipped": {"clip_norm": 0.05},
    "clipped values": {"clip_value": 1e-3},
    "accumulated": {"accumulate": 3},
    "a schedule by batches": {"scheduler": "onecycle"},
    "accuracy": {"metrics": ["accuracy"]},
    "callbacks": {"callbacks": Halving},
    "class weights": {"class_weight": "balanced"},
    "LAMB": {"optimizer": lambda p: optim.LAMB(p, lr=1e-2)},
    "NAdam": {"optimizer": lambda p: optim.NAdam(p, lr=1e-2)},
    "a Tensor as rate": {"optimizer": lambda p: optim.SGD(p, lr=an.asarray(0.1), momentum=0.9)},
    "tf32": {"precision": "tf32"},
    "mixed-bf16": {"precision": "mixed-bf16"},
    "mixed-fp16": {"precision": "mixed-fp16"},
    "a step of its own": {"net": Own, "loss": None},
    "a mean of the weights": {"callbacks": lambda: "ema"},
}


def trained(net=normed, samples=32, folder=None, epochs=4, resume=False, **options):
    """All that a training leaves, as bytes, and its history."""
    data = np.random.default_rng(5)
    x, y = data.standard_normal((samples, 6)).astype(np.float32), data.integers(0, 3, samples)
    an.random.manual_seed(2)
    made = net()
    options = {"loss": "cross_entropy", "optimizer": "adam", "lr": 1e-2} | options
    if callable(options["optimizer"]):
        del options["lr"]
    if "callbacks" in options:
        options["callbacks"] = options["callbacks"]()
    history = fit(
        made, (x, y), batch_size=4, device="cuda", progress=False, epochs=epochs, restore_best=False,
        run_dir=folder, resume=resume, **options,
    )  # fmt: skip
    seen = getattr(options.get("callbacks"), "losses", [])
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in history]
    return [v.numpy().tobytes() for v in made.state_dict().values()], records, seen


@pytest.mark.parametrize("name", TRAININGS)
def test_a_captured_training_has_the_bits_of_the_functions(name):
    options = TRAININGS[name]
    trained(compile=False, **options)  # by then the programs of its operations are there
    eager = trained(compile=False, **options)
    for how in (True, "auto"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Log() as log:
                assert trained(compile=how, **options) == eager
        assert len(log.having("graph ")) > 15  # of 32 batches, or 40


def large(output, target):
    return nn.functional.cross_entropy(output, target) * 50.0


class Scales(Callback):
    """What the scale of the loss was after each batch, and how many updates there were."""

    def __init__(self):
        self.losses = []

    def on_batch_end(self, run):
        scale = run._updates.scale
        self.losses.append(
            (run.loss, run.steps, run.optimizer.param_groups[0]["lr"], scale.value, scale.good)
        )


@pytest.mark.parametrize("optimizer", ["adam", "nadam"])
def test_updates_that_overflow_are_left_out_on_the_device(optimizer, monkeypatch):
    """As where each gradient is waited for: the loss is so large that some scales are too large, and a growth is tried early."""
    options = {
        "precision": "mixed-fp16", "loss": large, "callbacks": Scales, "optimizer": optimizer, "clip_value": 0.1,
        "scheduler": "onecycle", "metrics": ["accuracy"],
    }  # fmt: skip
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**16, 2.0, 0.5, 6))
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(UnreadUpdates, "serve", lambda updates: False)
            waiting = trained(compile=False, **options)
    steps = [entry[1] for entry in waiting[2]]
    assert 16 < steps[-1] < 32
    assert len({entry[3] for entry in waiting[2]}) > 2
    assert trained(compile=False, **options) == waiting
    with Log() as log:
        assert trained(compile=True, **options) == waiting
    assert len(log.having("graph ")) > 20


def test_a_batch_of_another_form_has_a_graph_of_its_own():
    with Log() as log:
        trained(compile=True, samples=38, epochs=8)
    ran = 10 * 8 - 1 - 2 * 3  # all but the first, and three of each form
    assert len(log.having("graph ")) >= ran - 2


def test_a_captured_training_goes_on_as_if_there_had_been_no_break(tmp_path):
    whole = trained(compile=True, epochs=4)
    trained(compile=True, epochs=2, folder=tmp_path / "run")
    parts = trained(compile=True, epochs=4, folder=tmp_path / "run", resume=True)
    assert parts[0] == whole[0]
    once = trained(compile=True, steps=13, epochs=None, folder=tmp_path / "short")
    assert once[0] != whole[0]
    on = trained(
        compile=True, folder=tmp_path / "short", resume=True, epochs=None, steps=32
    )  # from within an epoch
    assert on[0] == whole[0]


class Reading(nn.Module):
    """A network that cannot be captured."""

    def __init__(self):
        self.net = nn.Linear(6, 3)

    def forward(self, x):
        return self.net(x) * float(an.max(x) > -1e9)


def test_what_cannot_be_captured_is_trained_as_it_is():
    eager = trained(Reading, compile=False)
    for how, expected in (("auto", 0), (True, 1)):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            assert trained(Reading, compile=how) == eager
        said = [str(w.message) for w in found]
        assert sum("cannot be captured as a CUDA graph" in text for text in said) >= expected, said
        assert expected or not said


def test_a_short_training_captures_nothing_by_itself():
    with Log() as log:
        trained(compile="auto", epochs=1)
    assert not log.having("graph ")
