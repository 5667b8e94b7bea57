"""Scaled losses on a CUDA device: what overflows is left out there, and the host waits for nothing in `fit`, once a launch for a
`GradScaler`."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.train import NonFiniteGradientError, NonFiniteLossError, fit, unread
from anynet.train.precision import LossScale
from anynet.train.unread import UnreadUpdates
from ci.cuda_emulator.log import Log
from scaled_steps import BATCHES, LARGE, clipped, limited, plain, run

pytestmark = pytest.mark.filterwarnings("error")


def waiting(patch):
    """Have each batch waited for."""
    patch.setattr(UnreadUpdates, "serve", lambda updates: False)


def large(output, target):
    return nn.functional.cross_entropy(output, target) * 50.0


def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def trained(folder, data=None, net=normed, resume=False, **options):
    """The checkpoint after a training whose first scales are too large, and in which larger ones are tried early."""
    own = np.random.default_rng(5)
    x, y = data or (own.standard_normal((48, 6)).astype(np.float32), own.integers(0, 3, 48))
    loader = an.data.DataLoader(an.data.TensorDataset(x, y), batch_size=4)
    an.random.manual_seed(2)
    fit(
        net(), loader, device="cuda", progress=False, restore_best=False, precision="mixed-fp16", run_dir=folder,
        resume=resume, **{"loss": large, "optimizer": "adam", "lr": 1e-2, "epochs": 4} | options,
    )  # fmt: skip
    return state(folder)


def state(folder):
    """What a checkpoint holds, without times."""
    tree = an.load(folder / "last.safetensors")
    parts = {
        name: tree[name]
        for name in ("model", "optimizer", "scheduler", "updates", "random", "epoch", "batch", "sums")
    }
    parts["history"] = [{k: v for k, v in record.items() if k != "seconds"} for record in tree["history"]]
    return _bytes(parts)


def _bytes(x):
    if isinstance(x, dict):
        return {k: _bytes(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_bytes(v) for v in x]
    return np.asarray(x.numpy()).tobytes() if hasattr(x, "numpy") else x


@pytest.fixture(autouse=True)
def _a_scale_that_grows_early(monkeypatch):
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**17, 2.0, 0.5, 6))


FITS = {
    "adam": {},
    "nadam, whose product counts each update": {"optimizer": "nadam", "scheduler": "onecycle"},
    "radam, which changes its update": {"optimizer": "radam"},
    "momenta that go with the rate": {
        "optimizer": lambda p: optim.Adam(p, lr=1e-3), "schedule_by": "batch",
        "scheduler": lambda optimizer: optim.OneCycleLR(optimizer, 1e-2, total_steps=60),
    },
    "clipped": {"clip_norm": 0.5, "scheduler": "onecycle", "metrics": ["accuracy"]},
    "clipped values": {"clip_value": 0.1},
    "no more updates than this": {"epochs": None, "steps": 29, "scheduler": "onecycle"},
    "two groups": {"optimizer": lambda p: optim.AdamW([{"params": [q], "lr": 1e-2 / (i + 1)} for i, q in enumerate(p)])},
    "a mean of the weights": {"callbacks": "ema"},
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_a_training_that_waits_for_nothing_is_the_one_that_waits(name, tmp_path, monkeypatch):
    options = dict(FITS[name])
    if callable(options.get("optimizer")):
        options["lr"] = None
    for part in ("first", "waiting"):  # by the second the programs of its operations are there
        with monkeypatch.context() as patch:
            if "clip_norm" in options:  # there the norm is summed in another order
                patch.setattr(unread, "ROOM", 1)
            else:
                waiting(patch)
            expected = trained(tmp_path / part, compile=False, **options)
    assert expected["updates"]["count"] == options.get("steps", expected["updates"]["count"])
    assert expected["updates"]["count"] < 12 * len(expected["history"]) - 5  # some were left out
    for how in (False, True):
        for room in (1, 5, 32):
            with monkeypatch.context() as patch:
                patch.setattr(unread, "ROOM", room)
                assert trained(tmp_path / f"{how}{room}", compile=how, **options) == expected, (how, room)


def test_a_run_that_is_cut_goes_on_with_the_same_bits(tmp_path):
    trained(tmp_path / "first", compile=True)
    whole = trained(tmp_path / "whole", compile=True, epochs=None, steps=29)
    for steps in (3, 17):  # within an epoch, and among updates that are left out
        folder = tmp_path / f"cut{steps}"
        trained(folder, compile=True, epochs=None, steps=steps)
        trained(folder, compile=True, epochs=None, steps=29, resume=True)
        assert state(folder)["model"] == whole["model"]
        assert state(folder)["updates"] == whole["updates"]


class Steep(nn.Module):
    """A network whose gradient is infinite, and its loss not, where an input is 0."""

    def __init__(self):
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return an.sqrt(an.abs(self.linear(x) * x[:, :3]))


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(
    ("wrong", "error"), [("loss", NonFiniteLossError), ("gradient", NonFiniteGradientError)]
)
def test_what_no_scale_mends_is_an_error_with_the_state_before_it(
    wrong, error, compile, tmp_path, monkeypatch
):
    """A loss that is NaN; gradients that are infinite at any scale: those of all batches from one on."""
    own = np.random.default_rng(5)
    x, y = own.standard_normal((160, 6)).astype(np.float32), own.integers(0, 3, 160)
    if wrong == "loss":
        x[4 * 11 + 1, 0] = np.nan
    else:
        x[4 * 11 :, :3] = 0.0
    states, said = [], []
    for patched in (True, True, False):
        folder = tmp_path / str(len(states))
        with monkeypatch.context() as patch:
            if patched:
                waiting(patch)
            with pytest.raises(error) as found:
                trained(
                    folder, (x, y), Steep, scheduler="onecycle", epochs=1, compile=compile and not patched
                )
        states.append(state(folder))
        said.append(str(found.value))
    assert said[1] == said[2]
    assert states[1] == states[2]
    assert ("batch 12" in said[1]) == (wrong == "loss")


def test_a_scale_on_the_device_follows_the_rules_of_the_host():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    from anynet_backends import get_backend

    xp = get_backend("cupy")
    for value, growth, backoff, interval in (
        (2.0**16, 2.0, 0.5, 3),
        (3.0, 3.0, 0.3, 2),
        (2.0**126, 2.0, 0.5, 1),
    ):
        host = LossScale(value, growth, backoff, interval)
        grads = cupy.zeros(5, np.float32)
        watch = xp.watch([grads], [[2, 5]], 4, host.rule)
        watch.ahead.put(host.value, host.good)
        made = 0
        for i, finite in enumerate([True, True, False, *[True] * 9, False, False, True, True, True]):
            grads[3] = 1.0 if finite else np.inf
            watch.look(cupy.zeros((), np.float32))
            host.update(finite)
            assert watch.ahead.factor.item() == np.float32(host.value)
            assert bool(watch.stop) == (not finite)
            made += finite
            if i % 4 == 3:
                seen = watch.read()
                assert (seen.scale, seen.wrong, len(seen.losses)) == ((host.value, host.good), 0, 4)
                made -= seen.made
        assert made == watch.read().made


# ----- GradScaler in steps of one's own -----


@pytest.mark.parametrize("after", [plain, clipped, limited])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.NAdam, optim.RAdam])
def test_a_captured_step_with_a_scaler_has_the_bits_of_the_function(make, after):
    given = {"make": make, "after": after, "device": "cuda"}
    run(**given)
    (eager, _), (found, training) = run(**given), run(how=an.compile, **given)
    assert eager == found
    assert training.step.recorded == 1 + (make is optim.RAdam)
    assert eager[-1][1][1][0][0] == BATCHES - len(LARGE)


def test_a_launch_with_a_scaler_waits_once():
    _, training = run(how=an.compile, device="cuda")
    x = an.ones((5, 3), device="cuda")
    training.step(x)
    with Log() as log:
        training.step(x)
    assert (len(log.having("graph ")), log.synchronisations) == (1, 1)


def test_a_scaler_of_an_optimizer_of_array_code_runs_as_it_is():
    given = {"make": optim.LAMB, "device": "cuda"}
    run(**given)
    eager, _ = run(**given)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert run(how=an.compile, **given)[0] == eager
    assert ["GradScaler steps LAMB, whose step is not one kernel" in str(w.message) for w in found] == [True]
