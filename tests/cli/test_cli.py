"""The command line: what it prints, returns and refuses."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import anynet as an
from anynet.cli import main


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
    said = [int(line) for line in capsys.readouterr().out.split()]
    assert sum(a == b for a, b in zip(said, y[:50], strict=True)) > 43
    assert main(["resume", run]) == 0
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out


def test_mlp_and_script(tmp_path, capsys):
    assert main(["train", "digits", "model=mlp", "epochs=1", "limit=200", f"run_dir={tmp_path / 'm'}"]) == 0
    assert "model mlp" in capsys.readouterr().out
    script = tmp_path / "mine.py"
    script.write_text("import sys\nprint('script got', sys.argv[1:])\n")
    assert main(["train", str(script), "a", "b=1"]) == 0
    assert "script got ['a', 'b=1']" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["trian", "digits"], 2, "did you mean 'train'"),
        (["train", "digit"], 2, "did you mean 'digits'"),
        (["train"], 2, "expected a task"),
        (["train", "digits", "epoch=3"], 2, "did you mean 'epochs'"),
        (["train", "digits", "epochs=three"], 2, "expected a whole number"),
        (["train", "digits", "epochs=0"], 2, "at least 1"),
        (["train", "digits", "model=mpl"], 2, "did you mean 'mlp'"),
        (["train", "digits", "model=lenet"], 2, "28×28"),
        (["train", "digits", "--epochs"], 2, "needs a value"),
        (["train", "digits", "lr=1", "--lr", "2"], 2, "given twice"),
        (["train", "digits", "device=cudda"], 1, "cuda"),
        (["train", "none.py"], 1, "no script"),
        (["eval", "nowhere"], 1, "not a run folder"),
        (["resume", "nowhere"], 1, "not a run folder"),
        (["predict", "nowhere"], 2, "a run folder and a file"),
        (["doctor", "x"], 2, "no arguments"),
    ],
)
def test_wrong_command_lines(args, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_help(capsys):
    assert main([]) == 0
    assert "anynet train" in capsys.readouterr().out


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"cpu +one training step: loss \d", out)
    assert "numpy" in out


def test_damaged_checkpoint(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "digits", "epochs=1", "limit=64", f"run_dir={run}"]) == 0
    file = run / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    before = file.read_bytes()
    for command in ("eval", "resume"):
        capsys.readouterr()
        assert main([command, str(run)]) == 1
        assert "last.safetensors" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_damaged_run_folders(tmp_path, capsys):
    """Every file of a run that is not what it was is an error of one line that names the file."""
    run = tmp_path / "run"
    assert main(["train", "digits", "model=mlp", "epochs=1", "limit=64", f"run_dir={run}"]) == 0
    settings, last = run / "settings.json", run / "last.safetensors"
    whole, state = settings.read_text(), an.load(last)
    for text in ("", "{", "[]", "3", "{}", "[" * 100_000, "\0", '{"data": "digits"}', whole.replace('"mlp"', '"mpl"'),
                 whole.replace('"mlp"', "3"), whole.replace('"epochs": 1', '"epochs": "x"'), whole.replace('"digits"', '"x"'),
                 whole.replace('"epochs": 1', '"epochs": 1.5'), whole.replace('"epochs"', '"epoch"')):  # fmt: skip
        settings.write_text(text)
        for command in ("eval", "resume"):
            assert main([command, str(run)]) == 1, text[:50]
            assert "settings.json is not the settings of a built-in task" in capsys.readouterr().err
    settings.write_text(whole)
    for broken in ({}, {"model": 3}, {"model": {}}, {"model": {k: "x" for k in state["model"]}}):
        an.save(last, {**state, "model": None} | broken)
        assert main(["eval", str(run)]) == 1, broken
        assert "Traceback" not in capsys.readouterr().err


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
    settings = (run / "settings.json").read_text()
    (run / "settings.json").write_text(settings.replace('"epochs": 400', '"epochs": 2'))
    done = subprocess.run([*command, "resume", str(run)], capture_output=True, text=True, check=True)
    assert "test accuracy" in done.stdout
