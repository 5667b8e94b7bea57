"""The command line: what it prints, returns and refuses."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import anynet as an
from anynet.cli import main
from optional_libraries import needs


def test_train_eval_predict_resume_digits(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", "digits", "epochs=6", "--run-dir", run, "--seed=1"]) == 0
    out = capsys.readouterr().out
    accuracy = float(re.search(r"test accuracy (\d+\.\d\d) %", out).group(1))
    assert accuracy > 93
    assert "epoch 6/6" in out
    assert main(["eval", run]) == 0
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out
    assert main(["eval", run, "which=best"]) == 0
    capsys.readouterr()
    images = tmp_path / "images.idx.gz"
    from anynet.data import load

    x, y = load("digits", "test")
    images.write_bytes(
        gzip.compress(
            bytes([0, 0, 8, 3, *len(x[:50]).to_bytes(4, "big"), 0, 0, 0, 8, 0, 0, 0, 8]) + x[:50].tobytes()
        )
    )
    assert main(["predict", run, str(images)]) == 0
    said = [int(line.split(",")[0]) for line in capsys.readouterr().out.split()[1:]]
    assert sum(a == b for a, b in zip(said, y[:50], strict=True)) > 43
    assert main(["resume", run]) == 0
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out


def test_mlp_and_script(tmp_path, capsys):
    assert main(["train", "digits", "model=mlp", "epochs=1", "limit=200", f"run_dir={tmp_path / 'm'}"]) == 0
    assert "180 to train" in capsys.readouterr().out
    script = tmp_path / "mine.py"
    script.write_text("import sys\nprint('script got', sys.argv[1:])\n")
    assert main(["train", str(script), "a", "b=1"]) == 0
    assert "script got ['a', 'b=1']" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["trian", "digits"], 2, "did you mean 'train'"),
        (["train", "digit"], 1, "did you mean digits?"),
        (["train"], 2, "expected a table, a folder"),
        (["train", "digits", "epoch=3"], 2, "did you mean 'epochs'"),
        (["train", "digits", "epochs=three"], 2, "expected a whole number"),
        (["train", "digits", "epochs=0"], 2, "at least 1"),
        (["train", "digits", "model=mpl"], 1, "did you mean 'mlp'"),
        (["train", "digits", "model=lenet"], 1, "28×28"),
        (["train", "digits", "--epochs"], 2, "needs a value"),
        (["train", "digits", "lr=1", "--lr", "2"], 2, "given twice"),
        (["train", "digits", "device=cudda"], 1, "cuda"),
        (["train", "none.py"], 1, "no script"),
        (["eval", "nowhere"], 1, "nowhere"),
        (["resume", "nowhere"], 1, "nowhere"),
        (["predict", "nowhere"], 2, "expected a table, pictures"),
        (["train", "digits", "class_weight=3"], 2, "such as cat=1,dog=2.5"),
        (["train", "digits", "class_weight=11=3"], 1, "a key must be one of the classes"),
        (["train", "digits", "width=9"], 1, "no option 'width'"),
        (["generate", "nowhere"], 1, "nowhere"),
        (["plan", "resnet50"], 2, "needs the shape"),
        (["compare", "a"], 2, "expected another run folder"),
        (["doctor", "x"], 2, "no arguments"),
    ],
)
def test_wrong_command_lines(args, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_options_of_the_training_reach_fit(tmp_path):
    run = tmp_path / "run"
    words = (
        "model=mlp epochs=1 limit=64 optimizer=sgd momentum=0.5 weight_decay=0.1 label_smoothing=0.2 "
        "class_weight=3=2,4=0.5 clip_norm=2 clip_value=1 accumulate=2 precision=float64 monitor=val_accuracy restore_best=no "
        "checkpoint_every=1 patience=3"
    )
    assert main(["train", "digits", *words.split(), f"run_dir={run}", "quiet=1"]) == 0
    found = json.loads((run / "run.json").read_text("utf-8"))
    optimizer, given = found["optimizer"], found["settings"]["train_on"]["fit"]
    assert (optimizer["name"], optimizer["momentum"], optimizer["weight_decay"]) == ("SGD", 0.5, 0.1)
    assert found["loss"]["label_smoothing"] == 0.2
    assert found["class_weight"] == {"3": 2.0, "4": 0.5}
    assert [found[k] for k in ("clip_norm", "clip_value", "accumulate", "precision")] == [
        2.0,
        1.0,
        2,
        "float64",
    ]
    assert [found[k] for k in ("monitor", "mode")] == ["val_accuracy", "max"]
    assert (given["restore_best"], given["checkpoint_every"]) == (False, 1)
    assert {"name": "early_stopping", "patience": 3} in given["callbacks"]
    assert main(["resume", str(run), "epochs=2", "quiet=1"]) == 0


def test_help(capsys):
    assert main([]) == 0
    assert "anynet train houses.csv" in capsys.readouterr().out


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"cpu +one training step: loss \d", out)
    assert "numpy" in out


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors", "run.json", "model.json"])
def test_damaged_files(name, tmp_path, capsys):
    """A file of a run that is not what it was is an error that names the file, and stays as it is."""
    run = tmp_path / "run"
    assert main(["train", "digits", "model=mlp", "epochs=2", "limit=64", f"run_dir={run}"]) == 0
    whole = (run / name).read_bytes()
    command = ["resume", str(run), "epochs=3"] if name == "last.safetensors" else ["eval", str(run)]
    for damaged in (whole[:-7], b"", b"{", b"[]", b"\0" * 40, b"[" * 100_000):
        (run / name).write_bytes(damaged)
        capsys.readouterr()
        assert main(command) == 1, damaged[:20]
        err = capsys.readouterr().err
        assert name in err or "run.json" in err
        assert "Traceback" not in err
        assert (run / name).read_bytes() == damaged


def test_a_table_from_the_file_to_the_export(tmp_path, capsys, monkeypatch):
    """No Python is written: train, eval, predict, report, export, plan, runs, compare, verify."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{'ab'[i % 2]},{3 * (i % 7) + (i % 2) + i / 64}" for i in range(120)]
    (tmp_path / "t.csv").write_text("x,kind,price\n" + "\n".join(rows) + "\n")
    (tmp_path / "new.csv").write_text("kind,x\na,3\nb,5\n")
    assert main(["train", "t.csv"]) == 1
    assert "target='price'" in capsys.readouterr().err
    assert main(["plan", "t.csv", "target=price", "trial=0"]) == 0
    for name in ("one", "two"):
        assert main(["train", "t.csv", "target=price", "epochs=3", f"run_dir=runs/{name}", "quiet=1"]) == 0
    out = capsys.readouterr().out
    assert "epoch" not in out
    assert "rmse" in out
    assert main(["eval", "runs/one", "json=1"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"loss", "r2", "rmse", "mae"}
    assert main(["predict", "runs/one", "new.csv", "out=answers.csv"]) == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3
    capsys.readouterr()
    for text in ("kind,x\na,3\n", "x;kind\n3;a\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert main(["predict", "runs/one", "-", "json=1"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(" "))
    assert main(["predict", "runs/one", "-"]) == 1
    assert "standard input is empty" in capsys.readouterr().err
    assert main(["predict", "runs/one", "-", "new.csv"]) == 2
    assert "without other samples" in capsys.readouterr().err
    assert main(["report", "runs/one", "runs/two", "out=r.html"]) == 0
    assert "</html>" in (tmp_path / "r.html").read_text()
    assert main(["export", "runs/one", "to=numpy"]) == 0
    assert main(["runs"]) == 0
    assert "one" in capsys.readouterr().out
    assert main(["compare", "runs/one", "runs/two"]) == 0
    assert main(["verify", "runs/one"]) == 0
    assert "same bits" in capsys.readouterr().out


def test_options_of_reading(tmp_path, capsys, monkeypatch):
    """A file without a header, with a separator, an encoding and a suffix of its own; a column is named by its number."""
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"{i % 7}~caf\xe9 {i % 2}~{3 * (i % 7) + i / 64}" for i in range(80))
    (tmp_path / "t.log").write_bytes(rows.encode("latin-1"))
    told = ["separator=~", "encoding=latin-1", "epochs=1", "header=0"]
    assert main(["train", "t.log", "target=-1", *told, "run_dir=r"]) == 0
    out = capsys.readouterr().out
    assert "column_3  target" in out
    assert "café 0, café 1" in out
    assert main(["plan", "t.log", "target=c", "names=a,b,c", "trial=0", *told[:2]]) == 0
    assert main(["train", "t.log", "target=0", "missing=error", *told, "run_dir=q"]) == 0
    for wrong in (["target=9"], ["target=0", "size=8"], ["target=0", "header=maybe"]):
        assert main(["train", "t.log", *wrong, "run_dir=w"]) > 0
    assert not (tmp_path / "w").exists()


def test_pictures_on_standard_input_and_their_options(tmp_path, capsys, monkeypatch):
    pillow = needs("PIL.Image", "images")
    monkeypatch.chdir(tmp_path)
    for i in range(16):
        folder = tmp_path / "p" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pillow.new("RGB", (8, 12), (200 * (i % 2), i, 0)).save(folder / f"{i}.png")
    (tmp_path / "p" / "a" / "broken.png").write_bytes(b"x")
    assert main(["train", "p", "epochs=1"]) == 1
    assert "broken=skip" in capsys.readouterr().err.replace("'", "")
    assert (
        main(["train", "p", "epochs=1", "broken=skip", "channels=1", "resize=pad", "size=8", "run_dir=r"])
        == 0
    )
    assert "8×8 grey" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "p/b/1.png").read_bytes())))
    assert main(["predict", "r", "-", "top=1", "json=1"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["class_1"] in ("a", "b")


def test_a_text_that_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("the cat sat on the mat. " * 60)
    assert (
        main(
            [
                "train",
                "book.txt",
                "epochs=1",
                "context=16",
                "model=gpt",
                "width=16",
                "layers=1",
                "heads=2",
                "run_dir=r",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["generate", "r", "prompt=the ", "length=20", "seed=1"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("the ")
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat s"))
    assert main(["predict", "r", "-", "json=1"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["generate", "r", "prompt=the ", "length=20", "seed=1", "json=1"]) == 0
    assert "the " + json.loads(capsys.readouterr().out)["text"].removeprefix("the ") == first.rstrip("\n")


def test_a_run_folder_that_another_run_uses(tmp_path, capsys):
    run = tmp_path / "run"
    with an.train.RunFolder(run):
        assert main(["train", "digits", "epochs=1", "limit=64", f"run_dir={run}"]) == 1
    assert f"the run folder {run} is in use: this process" in capsys.readouterr().err
    assert os.listdir(run) == []


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_stops_cleanly_and_resumes(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "anynet"]
    child = subprocess.Popen(
        [*command, "train", "digits", "epochs=400", "schedule=constant", f"run_dir={run}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (run / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert f"anynet resume {run}" in err
    assert "Traceback" not in err
    epochs = len((run / "history.jsonl").read_text().splitlines())
    done = subprocess.run(
        [*command, "resume", str(run), f"epochs={epochs + 1}"], capture_output=True, text=True, check=True
    )
    assert "test accuracy" in done.stdout
