"""fit, evaluate, predict, checkpoints, resume."""

import json
import math
import os

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.train import Callback, CheckpointError, EarlyStopping, Interrupted, NonFiniteLossError


def network():
    an.random.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 10))


def digits(split="train", n=400):
    x, y = an.data.load("digits", split, scaled=True)
    return x[:n].reshape(-1, 64), y[:n]


OPTIONS = {"loss": "cross_entropy", "metrics": ["accuracy"], "batch_size": 32, "seed": 5, "progress": False}


def values(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)


def test_learns_the_digits():
    net = network()
    history = an.fit(net, digits(n=1442), digits("test"), epochs=8, lr=3e-3, **OPTIONS)
    assert history[-1]["val_accuracy"] > 0.93
    assert history.column("loss")[-1] < history.column("loss")[0]
    assert (
        an.evaluate(net, digits("test"), loss="cross_entropy", metrics=["accuracy"])["accuracy"]
        == (history[-1]["val_accuracy"])
    )
    assert an.predict(net, digits("test")[0]).shape == (355, 10)


def test_resume_between_epochs_is_bit_for_bit(tmp_path):
    whole, broken = network(), network()
    an.fit(whole, digits(), epochs=4, run_dir=tmp_path / "a", **OPTIONS)
    an.fit(broken, digits(), epochs=2, run_dir=tmp_path / "b", **OPTIONS)
    again = network()
    history = an.fit(again, digits(), epochs=4, run_dir=tmp_path / "b", resume=True, **OPTIONS)
    assert same(values(whole), values(again))
    assert len(history) == 4


class Stopper(Callback):
    """Presses Ctrl-C after some batches."""

    def __init__(self, after):
        self.left = after

    def on_batch_end(self, run):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), 2)


def test_ctrl_c_in_an_epoch_saves_and_resumes_bit_for_bit(tmp_path):
    def schedule(optimizer):
        return optim.CosineAnnealingLR(optimizer, 60)

    options = {**OPTIONS, "scheduler": schedule, "schedule_by": "batch", "clip_norm": 1.0}
    whole = network()
    expected = an.fit(whole, digits(), epochs=3, callbacks=[Callback()], **options)
    with pytest.raises(Interrupted, match="resume=True"):
        an.fit(network(), digits(), epochs=3, callbacks=[Stopper(17)], run_dir=tmp_path / "r", **options)
    again = network()
    history = an.fit(
        again, digits(), epochs=3, callbacks=[Callback()], run_dir=tmp_path / "r", resume=True, **options
    )
    assert same(values(whole), values(again))
    assert [r["loss"] for r in history] == [r["loss"] for r in expected]


def test_nan_loss_names_the_batch_and_updates_nothing(tmp_path):
    x, y = digits()
    x = x.copy()
    x[70:90] = math.nan
    net = network()
    seen = []

    class Keep(Callback):
        def on_batch_end(self, run):
            seen.append(values(run.model))

    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch \d+; nothing was updated"):
        an.fit(net, (x, y), epochs=2, callbacks=[Keep()], **OPTIONS)
    if seen:
        assert same(values(net), seen[-1])


def test_early_stopping_and_the_run_folder(tmp_path):
    history = an.fit(
        network(), digits(), digits("test"), epochs=50, lr=0.05, run_dir=tmp_path / "r", settings={"note": "x"},
        callbacks=[EarlyStopping(patience=2)], **OPTIONS,
    )  # fmt: skip
    assert len(history) < 50
    folder = tmp_path / "r"
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"] == {"note": "x"}
    assert "anynet" in record["environment"]
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert lines == list(history)
    best = network()
    best.load_state_dict(an.load(folder / "best.safetensors"))
    losses = history.column("val_loss")
    assert an.evaluate(best, digits("test"), loss="cross_entropy")["loss"] == pytest.approx(
        min(losses), rel=1e-6
    )


def test_same_training_on_strict_device():
    results = []
    for device in ("cpu", "strict:device1"):
        net = network()
        history = an.fit(net, digits(n=96), epochs=2, device=device, **OPTIONS)
        assert all(p.device == device for p in net.parameters())
        results.append((history[-1]["loss"], values(net)))
    (a, va), (b, vb) = results
    assert a == pytest.approx(b, rel=1e-5)
    assert all(abs(va[k] - vb[k]).max() < 1e-5 for k in va)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"loss": "cross_entrpy"}, ValueError, "did you mean 'cross_entropy'"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'ada"),
        ({"metrics": ["acuracy"]}, ValueError, "did you mean 'accuracy'"),
        ({"epochs": 0}, ValueError, "at least 1"),
        ({"device": "cpuu"}, ValueError, "cpu"),
        ({"resume": True}, ValueError, "run_dir"),
        ({"schedule_by": "step"}, ValueError, "epoch"),
    ],
)
def test_bad_options_change_nothing(change, error, match):
    net = network()
    before = values(net)
    with pytest.raises(error, match=match):
        an.fit(net, digits(), **{**OPTIONS, "epochs": 1, **change})
    assert same(before, values(net))


def test_a_run_is_not_overwritten(tmp_path):
    an.fit(network(), digits(n=64), epochs=1, run_dir=tmp_path / "r", **OPTIONS)
    before = (tmp_path / "r" / "last.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="resume"):
        an.fit(network(), digits(n=64), epochs=1, run_dir=tmp_path / "r", **OPTIONS)
    assert (tmp_path / "r" / "last.safetensors").read_bytes() == before


def test_checkpoint_round_trip_and_bad_files(tmp_path):
    tree = {
        "a": an.asarray([1.0, 2.0]),
        "b": [1, {"c": (True, None, "x", math.inf)}],
        "d": {3: an.asarray([1])},
    }
    file = an.save(tmp_path / "c.safetensors", tree)
    back = an.load(file)
    assert back["a"].tolist() == [1.0, 2.0]
    assert back["b"] == tree["b"]
    assert back["d"][3].tolist() == [1]
    raw = file.read_bytes()
    for name, content in (
        ("short", raw[:-3]),
        ("head", raw[:20]),
        ("foreign", b"PK\x03\x04" + b"0" * 50),
        ("empty", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            an.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        an.load(tmp_path / "none")
    with pytest.raises(TypeError, match=r"b\.c"):
        an.save(file, {"b": {"c": object()}})
    assert file.read_bytes() == raw
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.safetensors",
        "empty",
        "foreign",
        "head",
        "short",
    ]


def test_complex_numbers_keep_their_bits(tmp_path):
    z = np.array([[complex(-0.0, math.inf), complex(math.nan, -0.0)]])
    tree = {
        "z": an.asarray(z),
        "y": an.asarray(z.astype(np.complex64)),
        "one": an.asarray(1j, dtype=an.complex128),
    }
    back = an.load(an.save(tmp_path / "z.safetensors", tree))
    for name, value in tree.items():
        assert back[name].dtype is value.dtype
        assert back[name].shape == value.shape
        assert back[name].numpy().tobytes() == value.numpy().tobytes()


def test_weights_are_ordinary_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors reads what anynet writes")
    net = network()
    an.save(tmp_path / "w.safetensors", dict(net.state_dict()))
    read = safetensors.load_file(tmp_path / "w.safetensors")
    assert same({k: v.copy() for k, v in read.items()}, values(net))


def test_a_foreign_state_is_refused_before_anything_changes(tmp_path):
    an.fit(network(), digits(n=64), epochs=1, run_dir=tmp_path / "r", **OPTIONS)
    other = nn.Sequential(nn.Linear(64, 10))
    before = values(other)
    with pytest.raises(ValueError, match="nothing was changed"):
        an.fit(other, digits(n=64), epochs=2, run_dir=tmp_path / "r", resume=True, **OPTIONS)
    assert same(before, values(other))


def test_schedules_by_name_last_the_whole_training():
    x, y = an.asarray([[1.0], [2.0], [3.0], [4.0]]), an.asarray([[1.0], [2.0], [3.0], [4.0]])
    for name, peak in (("onecycle", 10), ("cosine", 0)):
        net, rates = nn.Linear(1, 1), []
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)
        watch = an.train.Callback()
        watch.on_batch_end = lambda *a, o=optimizer, r=rates: r.append(o.param_groups[0]["lr"])
        an.fit(
            net, (x, y), loss="mse", optimizer=optimizer, scheduler=name, epochs=20, batch_size=2, progress=False, callbacks=watch
        )  # fmt: skip
        assert len(rates) == 40
        assert abs(max(rates) - 0.1) < 1e-3
        assert abs(rates.index(max(rates)) - peak) <= 1
        assert rates[-2] < 1e-3


def test_a_run_with_a_named_schedule_is_resumed_with_more_epochs(tmp_path):
    x, y = an.asarray([[1.0], [2.0], [3.0], [4.0]]), an.asarray([[1.0], [2.0], [3.0], [4.0]])
    options = {
        "loss": "mse",
        "optimizer": "sgd",
        "lr": 0.1,
        "scheduler": "onecycle",
        "batch_size": 2,
        "progress": False,
    }
    an.random.manual_seed(0)
    net = nn.Linear(1, 1)
    an.fit(net, (x, y), epochs=4, run_dir=tmp_path, **options)
    history = an.fit(net, (x, y), epochs=8, run_dir=tmp_path, resume=True, **options)
    assert [r["epoch"] for r in history] == list(range(1, 9))
    assert history[3]["lr"] < 1e-3 < history[4]["lr"]
    assert history[7]["lr"] < 1e-3
