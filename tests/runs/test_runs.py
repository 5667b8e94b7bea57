"""Runs: what `fit` leaves in a folder is opened, used, gone on with, compared and verified."""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.cli import main
from anynet.runs import RunError, compare, runs_in, verify
from anynet.runs.comparing import first_difference
from anynet.train import Callback, CheckpointError

X = np.random.default_rng(0).normal(size=(60, 4)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
OPTIONS = {"loss": "cross_entropy", "metrics": ["accuracy"], "lr": 0.05, "progress": False}


def network():
    an.random.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "arrays"
    net = network()
    an.fit(net, (X, Y), (X, Y), epochs=3, run_dir=folder, **OPTIONS)
    return folder, net


def rows(n=80):
    return {
        "x": [i / n for i in range(n)],
        "kind": ["ab"[i % 2] for i in range(n)],
        "y": [3 * i / n + i % 2 for i in range(n)],
    }


def write_csv(path, n=80):
    table = rows(n)
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- what fit leaves ----


def test_the_files(trained):
    folder, _ = trained
    info = json.loads((folder / "run.json").read_text())
    assert (info["format"], info["status"], info["reason"]) == ("anynet-run/1", "done", None)
    assert info["model"] == {"class": "Sequential", "parameters": 58, "trained": 58}
    assert info["source"]["kind"] == "arrays"
    assert info["split"]["sizes"] == {"train": 60, "valid": 60}
    assert info["loss"]["name"] == "CrossEntropyLoss"
    assert info["optimizer"]["name"] == "Adam"
    assert info["command"]
    assert info["environment"]["versions"]["numpy"]
    assert info["best"]["monitor"] == "val_loss"
    assert info["seconds"] > 0
    assert json.loads((folder / "model.json").read_text())["args"][0] == {
        "class": "nn.Linear",
        "args": [4, 8],
    }
    proof = [json.loads(line) for line in (folder / "proof.jsonl").read_text().splitlines()]
    assert [(p["epoch"], p["batch"]) for p in proof] == [(1, 1), (1, 0), (2, 0), (3, 0)]
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_opened_and_used(trained):
    folder, net = trained
    run = an.open(folder)
    assert run.status == "done"
    assert len(run.history) == 3
    model = run.model("last")
    assert not model.training
    assert model(X).tolist() == net.eval()(X).tolist()
    found = run.predict(X[:5])
    assert set(found.values) <= {0, 1}
    p = nn.functional.softmax(run.model()(X[:5]), dim=1).numpy()
    assert found.values == p.argmax(1).tolist()
    np.testing.assert_allclose(found.columns["probability"], p.max(1), rtol=1e-6)
    assert run.evaluate((X, Y)) == an.evaluate(
        run.model(), (X, Y), loss="cross_entropy", metrics=["accuracy"]
    )
    assert run.evaluate((X, Y))["loss"] == pytest.approx(run.info["best"]["value"])
    assert "accuracy" in repr(run)
    assert run._repr_html_()
    with pytest.raises(RunError, match="trained on arrays, which are not kept; give the data"):
        run.evaluate()
    with pytest.raises(ValueError, match=r"shape \(n, 4\) as in training, got \(4,\); for one sample"):
        run.predict(X[0])


def test_one_file_is_a_model(trained, tmp_path):
    shutil.copy(trained[0] / "best.safetensors", tmp_path / "model.safetensors")
    run = an.open(tmp_path / "model.safetensors")
    assert run.predict(X).values == an.open(trained[0]).predict(X).values
    assert run.classes is None
    with pytest.raises(RunError, match="the best weights alone"):
        run.model("last")


def test_several_inputs_and_numbers(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 1), nn.Linear(2, 1)

        def forward(self, x, z):
            return self.a(x) + self.b(z)

    z, y = X[:, :2], X[:, :1]
    an.fit(Two(), ((X, z), y), loss="mse", run_dir=tmp_path / "two", progress=False)
    run = an.open(tmp_path / "two", classes=Two)
    assert len(run.predict((X, z))) == 60
    assert isinstance(run.predict((X, z))[0], float)
    found = run.evaluate(((X, z), y))
    out = run.model()(an.asarray(X), an.asarray(z)).numpy()
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((out - y) ** 2))), rel=1e-5)
    with pytest.raises(ValueError, match="must be a tuple of 2 arrays"):
        run.predict(X)
    with pytest.raises(RunError, match=r"Two is a class of .* and no code is run that you do not name"):
        an.open(tmp_path / "two").model()


def test_a_network_that_cannot_be_described(tmp_path):
    net = nn.Sequential(Called(lambda x: x * 2), nn.Linear(4, 2))
    an.fit(net, (X, Y), run_dir=tmp_path / "r", **OPTIONS)
    run = an.open(tmp_path / "r", classes=Called)
    with pytest.raises(
        RunError,
        match=r"(?s)could not be written down when it was trained: .*lambda.*run.model\(network=net\)",
    ):
        run.model()
    twin = nn.Sequential(Called(lambda x: x * 2), nn.Linear(4, 2))
    assert run.model("last", network=twin)(X).tolist() == net.eval()(X).tolist()


class Called(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


class Fails(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, run):
        if run.epoch == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("boom"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_the_status_after_an_error(error, status, tmp_path):
    with pytest.raises(type(error)):
        an.fit(network(), (X, Y), epochs=3, run_dir=tmp_path / "r", callbacks=[Fails(error)], **OPTIONS)
    run = an.open(tmp_path / "r")
    assert run.status == status
    assert run.reason
    assert len(run.history) == 1
    assert len(run.predict(X)) == 60


CHILD = """
import sys, numpy as np, anynet as an
from anynet import nn
from anynet.cli import main
x = np.ones((64, 4), "f4")
net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
print("go", flush=True)
an.fit(net, (x, x[:, :1]), loss="mse", epochs=100000, run_dir=sys.argv[1], progress=False, checkpoint_every=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_opens_and_has_died(tmp_path):
    rng = random.Random(1)
    for i in range(3):
        folder = tmp_path / str(i)
        with subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            while not (folder / "last.safetensors").exists():
                time.sleep(0.01)
            assert an.open(folder).status == "running"
            time.sleep(rng.random() * 0.2)
            child.send_signal(signal.SIGKILL)
        run = an.open(folder)
        assert run.status == "died"
        assert run.model("last")(np.ones((1, 4), "f4")).shape == (1, 1)
        assert len(run.history) >= 0


def test_killed_between_the_two_names_of_a_checkpoint(tmp_path):
    """previous.safetensors is the same file as last.safetensors then."""
    folder = tmp_path / "r"
    an.fit(network(), (X, Y), epochs=2, run_dir=folder, **OPTIONS)
    os.replace(folder / "last.safetensors", folder / "previous.safetensors")
    os.link(folder / "previous.safetensors", folder / "last.safetensors")
    an.fit(network(), (X, Y), epochs=4, run_dir=folder, resume=True, **OPTIONS)
    assert not [n for n in os.listdir(folder) if n.startswith(".")]
    assert an.load(folder / "previous.safetensors")["epoch"] == 3


# ---- train_on ----


def test_a_table_from_a_file(tmp_path):
    file = write_csv(tmp_path / "line.csv")
    run = an.train_on(
        file, target="y", epochs=3, run_dir=tmp_path / "r", hidden=(8,), batch_size=16, progress=False
    )
    assert run.status == "done"
    assert set(run.results) == {"loss", "mae", "rmse", "r2"}
    fresh = an.open(tmp_path / "r")
    assert fresh.evaluate() == run.results
    said = fresh.predict(file)
    assert len(said) == 80
    out = fresh.evaluate(file)
    assert out["rmse"] == pytest.approx(
        math.sqrt(np.mean((np.array(said.values) - np.array(rows()["y"])) ** 2)), rel=1e-6
    )
    assert fresh.info["source"]["path"] == str(file)
    write_csv(file, 79)
    with pytest.raises(RunError, match="have changed since"):
        an.open(tmp_path / "r").evaluate()
    file.unlink()
    with pytest.raises(RunError, match="are not there any more; give the data"):
        an.open(tmp_path / "r").evaluate()


def test_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "line.csv")
    for _ in range(2):
        an.train_on("line.csv", target="y", epochs=1, progress=False)
    found = runs_in()
    assert len(found) == 2
    assert all(r.name.startswith("line-") for r in found)
    assert "line.csv" in str(found)
    assert found.to_json()[0]["status"] == "done"
    assert found._repr_html_()
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    assert "broken: " in str(runs_in("runs"))


def test_the_same_seed_gives_the_same_bits(tmp_path):
    a, b, _ = (
        an.train_on(rows(), target="y", epochs=2, seed=seed, run_dir=tmp_path / name, progress=False)
        for seed, name in ((5, "a"), (5, "b"), (6, "c"))
    )
    same = compare(a, b)
    assert same.identical
    assert same.settings == []
    assert "same bits" in str(same)
    other = compare(tmp_path / "a", tmp_path / "c")
    assert other.first["epoch"] == 1
    assert other.first["batch"] == 1
    assert ("seed", 5, 6) in other.settings
    assert "first difference: epoch 1, batch 1" in str(other)
    assert json.dumps(other.to_json())
    assert other._repr_html_()
    assert set(other.curves) >= {"loss", "val_loss"}


class Stop(Callback):
    def __init__(self, epoch, batch):
        self.at = epoch, batch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == self.at:
            raise KeyboardInterrupt


def test_resumed_from_the_folder_alone(tmp_path):
    file = write_csv(tmp_path / "line.csv")
    options = {"target": "y", "epochs": 4, "batch_size": 16, "progress": False, "dropout": 0.1}
    whole = an.train_on(file, run_dir=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        an.train_on(file, run_dir=tmp_path / "r", callbacks=[Stop(2, 2)], **options)
    with pytest.raises(RunError, match="callbacks that a file cannot hold"):
        an.resume(tmp_path / "r")
    info = json.loads((tmp_path / "r" / "run.json").read_text())
    del info["settings"]["train_on"]["fit"]["callbacks"]
    (tmp_path / "r" / "run.json").write_text(json.dumps(info))
    assert an.open(tmp_path / "r").status == "stopped"
    run = an.resume(tmp_path / "r", progress=False)
    assert run.status == "done"
    assert run.results == whole.results
    state, expected = run.training_state(), whole.training_state()
    assert all((state["model"][k].numpy() == v.numpy()).all() for k, v in expected["model"].items())
    assert compare(run, whole).identical


def test_killed_before_the_first_checkpoint_a_run_begins_again_with_its_first_weights(tmp_path):
    """What the network of a run is opened with is memory that a checkpoint fills: without one the weights are drawn again."""
    file = write_csv(tmp_path / "line.csv")
    options = {"target": "y", "epochs": 2, "batch_size": 16, "progress": False, "seed": 3}
    whole = an.train_on(file, run_dir=tmp_path / "whole", hidden=(8,), **options)
    shutil.copytree(whole.path, tmp_path / "r")
    for name in (
        "last.safetensors",
        "best.safetensors",
        "previous.safetensors",
        "proof.jsonl",
        "history.jsonl",
    ):
        (tmp_path / "r" / name).unlink(missing_ok=True)
    assert compare(an.resume(tmp_path / "r", progress=False), whole).identical
    own = an.train_on(file, run_dir=tmp_path / "own", model=Line(), **options)
    for name in ("last.safetensors", "best.safetensors", "proof.jsonl"):
        (own.path / name).unlink()
    with pytest.raises(RunError, match="no checkpoint, and its network was a module"):
        an.resume(own.path, classes=Line)


def test_hashes_that_are_damaged_do_not_stop_a_run(tmp_path):
    run = an.train_on(
        write_csv(tmp_path / "l.csv"), target="y", epochs=1, run_dir=tmp_path / "r", progress=False
    )
    (run.path / "proof.jsonl").write_bytes(b"\xff\xfe{}\n")
    assert an.resume(run.path, epochs=2, progress=False).status == "done"


class Line(nn.Module):
    """Of the numbers of a table."""

    def __init__(self):
        self.fc = nn.Linear(1, 1)

    def forward(self, numbers, categories):
        return self.fc(numbers)


def test_a_network_of_ones_own(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            self.fc = nn.LazyLinear(1)

        def forward(self, numbers, categories):
            return self.fc(numbers)

    run = an.train_on(rows(), target="y", model=Own(), epochs=1, run_dir=tmp_path / "r", progress=False)
    assert len(run.predict(rows(5))) == 5
    with pytest.raises(RunError, match="classes=Own"):
        an.open(tmp_path / "r").predict(rows(5))
    assert an.open(tmp_path / "r", classes=Own).predict(rows(5)).values == run.predict(rows(5)).values


def test_a_limit_of_time(tmp_path):
    run = an.train_on(
        "digits", limit=200, time="0.3s", epochs=100_000, run_dir=tmp_path / "r", progress=False
    )
    assert run.status == "done"
    assert "time limit of 0.3 s" in run.reason
    assert set(run.results) == {"loss", "accuracy"}
    assert verify(run).same


def test_a_data_set_by_name(tmp_path):
    run = an.train_on("digits", limit=200, epochs=2, run_dir=tmp_path / "r", progress=False)
    images, _ = an.data.load("digits", "test")
    assert set(run.predict(images[:9]).values) <= set("0123456789")
    assert set(run.results) == {"loss", "accuracy"}
    assert an.open(tmp_path / "r").evaluate() == run.results


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("nothing.csv", {}, FileNotFoundError, "there is no file or folder nothing.csv"),
        ("digit", {}, FileNotFoundError, "did you mean digits"),
        ("line.cvs", {}, FileNotFoundError, "did you mean line.csv"),
        (
            "line.csv",
            {},
            ValueError,
            r"say which column is to be predicted: .*target='y'.*columns are x, kind, y",
        ),
        ("line.csv", {"target": "y", "hiden": (3,)}, TypeError, "hiden"),
        ("line.csv", {"target": "y", "learning_rate": 1}, TypeError, "learning_rate"),
        ("line.csv", {"target": "z"}, ValueError, "z"),
        ("empty", {}, ValueError, "is empty"),
        ("a.xlsx", {}, ValueError, "save it as CSV"),
        (3, {}, TypeError, "must be a path, the name of a data set"),
    ],
)
def test_errors_of_train_on(source, options, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "line.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(error, match=words):
        an.train_on(source, progress=False, epochs=1, **options)
    assert sorted(os.listdir(tmp_path)) == ["a.xlsx", "empty", "line.csv"]


# ---- verify and replay ----


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    write_csv(folder / "line.csv")
    return an.train_on(
        folder / "line.csv",
        target="y",
        epochs=3,
        batch_size=16,
        dropout=0.1,
        run_dir=folder / "r",
        progress=False,
    )


def test_verify(table_run):
    before = {f.name: f.read_bytes() for f in table_run.path.iterdir()}
    found = verify(table_run)
    assert found.same
    assert (found.begin, found.end, found.steps) == ("the end of epoch 2", "the end of epoch 3", 4)
    assert "same bits" in str(found)
    assert verify(table_run, from_start=True).steps == 12
    assert {f.name: f.read_bytes() for f in table_run.path.iterdir()} == before


class Enough(Callback):
    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (2, 3):
            run.stop("enough")


def test_verify_an_epoch_that_was_ended_early(table_run, tmp_path):
    source = table_run.source()
    run = an.train_on(
        source, epochs=3, batch_size=16, callbacks=[Enough()], run_dir=tmp_path / "r", progress=False
    )
    assert run.reason == "enough"
    found = verify(run, data=source, options={"callbacks": []})
    assert (found.same, found.end, found.steps) == (True, "the end of epoch 2", 3)


def test_verify_finds_what_is_other(table_run, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(table_run.path, folder)
    tree = an.load(folder / "last.safetensors")
    name = next(k for k in tree["model"] if k.endswith("weight"))
    value = tree["model"][name].numpy().copy()
    value.flat[0] = np.nextafter(value.flat[0], np.float32(np.inf))
    tree["model"][name] = an.asarray(value)
    an.save(folder / "last.safetensors", tree)
    found = verify(folder)
    assert not found.same
    assert found.ulps == {name: 1}
    assert f"most {name}: 1 ulp" in str(found)
    lines = (folder / "proof.jsonl").read_text().splitlines()
    other = json.loads(lines[-1])
    other["sha256"] = "0" * 64
    other["tensors"][name] = "0" * 16
    (folder / "proof.jsonl").write_text("\n".join([*lines[:-1], json.dumps(other)]) + "\n")
    assert verify(folder).first == {
        "epoch": 3,
        "batch": 0,
        "tensors": [name],
        "of": len(other["tensors"]),
        "equal": "the end of epoch 2",
    }
    assert json.dumps(found.to_json())


def test_verify_a_run_of_a_script(trained):
    with pytest.raises(RunError, match="made by a script: give data= and options="):
        verify(trained[0])


def test_replay(table_run):
    seen = []

    class Keep(Callback):
        def on_batch_end(self, run):
            seen.append((run.epoch, run.batch, run.loss, run.targets.tolist()))

    source = table_run.source()
    an.train_on(
        source,
        epochs=3,
        batch_size=16,
        dropout=0.1,
        run_dir=table_run.path.parent / "again",
        progress=False,
        callbacks=[Keep()],
    )
    for epoch, batch in ((1, 2), (3, 1)):
        moment = an.replay(table_run, epoch, batch)
        expected = next(s for s in seen if s[:2] == (epoch, batch))
        assert (moment.loss, moment.targets.tolist()) == expected[2:]
        assert set(moment.gradients) == {k for k, _ in moment.model.named_parameters()}
    with pytest.raises(RunError, match="has no batch 99"):
        an.replay(table_run, 1, 99)


# ---- what is no run ----


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "not the folder of a run"),
        ({"run.json": ""}, "is not JSON"),
        ({"run.json": "[1]"}, "expected a table"),
        ({"run.json": '{"format": "anynet-run/7"}'}, "written by a later one"),
        ({"run.json": '{"format": NaN}'}, "NaN is no number"),
        ({"run.json": '{"format": "anynet-run/1"}'}, "has no best.safetensors"),
        ({"run.json": "[" * 100000}, "nested too deeply"),
        ({"best.safetensors": "nonsense"}, "not a valid safetensors file"),
        ({"run.json": '{"format": "anynet-run/1"}', "history.jsonl": "{}\n3\n"}, "line 2 must be a table"),
        (
            {
                "run.json": '{"format": "anynet-run/1"}',
                "preprocessing.json": '{"kind": "arrays", "outputs": 3}',
            },
            "preprocessing is damaged",
        ),
        (
            {"run.json": '{"format": "anynet-run/1"}', "preprocessing.json": '{"kind": "../x"}'},
            "preprocessing is damaged",
        ),
    ],
)
def test_what_is_no_run(files, words, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def use():
        run = an.open(tmp_path)
        return run.history, run.preprocessing, run.model()

    with pytest.raises(RunError, match=words):
        use()


def test_other_weights_and_folders(tmp_path, trained):
    for ask in (lambda r: r.predict(0, which=[]), lambda r: r.predict(0, which=None)):
        with pytest.raises(ValueError, match="which must be 'best' or 'last', got"):
            ask(an.open(trained[0]))
    for to in (None, [], "tflite"):
        with pytest.raises((TypeError, ValueError), match="to"):
            an.open(trained[0]).export(to=to)
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        an.open(tmp_path / "none")
    an.save(tmp_path / "w.safetensors", network().state_dict())
    with pytest.raises(RunError, match="holds weights, but not the network"):
        an.open(tmp_path / "w.safetensors")
    with pytest.raises(RunError, match=f"the runs in it are {trained[0].name}"):
        an.open(trained[0].parent)
    with pytest.raises(TypeError, match="expected the path of a run, got int"):
        an.open(3)
    with pytest.raises(ValueError, match='state\\["model"\\]'):
        network().load_state_dict(an.load(trained[0] / "last.safetensors"))


def test_a_folder_of_an_earlier_version(tmp_path, trained):
    for name in ("last.safetensors", "history.jsonl"):
        shutil.copy(trained[0] / name, tmp_path / name)
    (tmp_path / "settings.json").write_text('{"note": 1}')
    run = an.open(tmp_path)
    assert run.status == "unknown"
    assert run.info["settings"] == {"note": 1}
    assert len(run.history) == 3
    assert run.preprocessing is None
    assert run.model("last", network=network())(X).shape == (60, 2)
    with pytest.raises(RunError, match="an earlier version"):
        run.model("last")


def test_damaged_files_are_said(trained, tmp_path):
    """Any byte of the files of a run may be another: what is raised says so."""
    rng = random.Random(0)
    for name in (
        "run.json",
        "model.json",
        "preprocessing.json",
        "history.jsonl",
        "best.safetensors",
        "proof.jsonl",
    ):
        data = (trained[0] / name).read_bytes()
        for _ in range(12):
            folder = tmp_path / "r"
            shutil.copytree(trained[0], folder, dirs_exist_ok=True)
            changed = bytearray(data)
            at = rng.randrange(len(changed))
            changed[at] = rng.randrange(256)
            (folder / name).write_bytes(bytes(changed[: rng.choice([at, len(changed)])]))
            with (
                warnings.catch_warnings(),
                contextlib.suppress(RunError, CheckpointError, nn.StateError, ValueError, TypeError),
            ):
                warnings.simplefilter("ignore")
                run = an.open(folder)
                _ = (
                    run.status,
                    run.results,
                    len(run.history),
                    repr(run),
                    str(runs_in(tmp_path)),
                    str(compare(run, trained[0])),
                )
                run.predict(X)


def test_runs_of_other_networks_differ_in_tensors_of_both() -> None:
    left = [{"epoch": 1, "batch": 1, "sha256": "p", "tensors": {"a": "1", "b": "2"}}]
    right = [{"epoch": 1, "batch": 1, "sha256": "q", "tensors": {"b": "3", "c": "4", "d": "5"}}]
    first, _ = first_difference(left, right)
    assert first is not None
    assert (first["tensors"], first["of"]) == (["a", "b", "c", "d"], 4)


def test_a_run_that_its_time_has_ended_goes_on_with_more(tmp_path):
    run = an.train_on(
        "digits", limit=200, model="mlp", time="0.3s", epochs=100_000, run_dir=tmp_path / "r", progress=False
    )
    done = len(run.history)
    again = an.resume(run.path, progress=False)  # its time is over: nothing to do
    assert (len(again.history), again.reason) == (done, run.reason)
    assert main(["resume", str(run.path), "time=0.8s", "quiet=1"]) == 0
    longer = an.open(run.path)
    assert "time limit of 0.8 s" in longer.reason
    assert len(longer.history) >= done
    assert [r["epoch"] for r in longer.history] == list(range(1, len(longer.history) + 1))


def test_what_a_resumed_run_was_given_is_among_its_settings(tmp_path):
    file = write_csv(tmp_path / "line.csv")
    run = an.train_on(file, target="y", epochs=1, run_dir=tmp_path / "r", progress=False)
    assert run.info["settings"]["train_on"]["fit"]["epochs"] == 1
    longer = an.resume(run.path, epochs=3, progress=False)
    asked = longer.info["settings"]["train_on"]
    assert (asked["fit"]["epochs"], len(longer.history), asked["own_limit"]) == (3, 3, False)
    assert len(an.resume(run.path, progress=False).history) == 3  # and it stays so
    limited = an.resume(run.path, epochs=4, time="1 h", progress=False).info["settings"]["train_on"]
    assert (limited["fit"]["epochs"], limited["fit"]["time_limit"], limited["own_limit"]) == (4, "1 h", True)
    assert limited["network"] == asked["network"]


def test_arrays_are_evaluated_in_the_forms_that_evaluate_takes(tmp_path):
    x = an.asarray([[float(i % 5), float(i % 3)] for i in range(20)])
    y, w = an.asarray([i % 2 for i in range(20)]), an.asarray([0.5 + i % 3 for i in range(20)])
    net = an.nn.Linear(2, 2)
    an.fit(net, (x, y), loss="cross_entropy", run_dir=tmp_path / "r", progress=False)
    run = an.open(tmp_path / "r")
    expected = an.evaluate(net, (x, y), loss="cross_entropy")["loss"]
    assert run.evaluate([x, y])["loss"] == run.evaluate((x, y))["loss"] == expected
    weighted = an.evaluate(net, (x, y, w), loss="cross_entropy")["loss"]
    assert run.evaluate((x, y, w))["loss"] == run.evaluate([x, y, w])["loss"] == weighted != expected
