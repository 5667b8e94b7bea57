"""Single commands: what is said first, what is said at the end, which extra is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anynet.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a table."""
    folder = tmp_path_factory.mktemp("commands")
    rows = [f"{i % 7},{'ab'[i % 2]},{3 * (i % 7) + (i % 2) + i / 64}" for i in range(80)]
    (folder / "t.csv").write_text("x,kind,price\n" + "\n".join(rows) + "\n")
    assert (
        main(
            ["train", str(folder / "t.csv"), "target=price", "epochs=2", f"run_dir={folder / 'r'}", "quiet=1"]
        )
        == 0
    )
    return folder / "r"


def test_a_device_that_is_not_there_is_said_first(run, tmp_path, capsys):
    assert (
        main(
            [
                "train",
                str(run.parent / "t.csv"),
                "target=price",
                "device=cuda:99",
                f"run_dir={tmp_path / 'q'}",
            ]
        )
        == 1
    )
    found = capsys.readouterr()
    assert found.out == ""
    assert "cuda" in found.err.lower()
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_profile_is_of_so_many_steps(steps, run, capsys):
    assert (
        main(
            ["profile", str(run.parent / "t.csv"), "target=price", f"steps={steps}", "batch_size=4", "json=1"]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == steps
    calls = {tuple(row["key"]): row["calls"] for row in found["rows"]}
    assert calls["squared_error", "forward"] == steps
    assert main(["profile", str(run.parent / "t.csv"), "target=price", "epochs=3"]) == 2
    assert "unknown option 'epochs'" in capsys.readouterr().err


def test_what_is_written_without_a_prompt(tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("gattaca\n" * 100)
    options = ["epochs=1", "context=8", "width=8", "quiet=1"]
    assert main(["train", str(lines), *options, f"run_dir={tmp_path / 'l'}"]) == 0
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "l"), "length=3"]) == 0
    assert capsys.readouterr().out.startswith("\n")
    (tmp_path / "dna.txt").write_text("gattaca" * 100)
    assert main(["train", str(tmp_path / "dna.txt"), *options, f"run_dir={tmp_path / 'r'}"]) == 0
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "r")]) == 2
    assert "say what the text begins with: prompt=TEXT" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "r"), "prompt=x"]) == 1
    assert "no 'x'" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 are Linux's")
def test_a_file_whose_name_is_not_utf_8(run, tmp_path, capsys):
    table = os.fsdecode(bytes(tmp_path) + b"/h\xff.csv")
    Path(table).write_text((run.parent / "t.csv").read_text())
    made = tmp_path / "r"
    assert main(["train", table, "target=price", "epochs=1", f"run_dir={made}", "quiet=1"]) == 0
    assert json.loads((made / "run.json").read_text())["source"]["path"].endswith("h\udcff.csv")
    for command in ("eval", "report"):
        assert main([command, str(made)]) == 0
    assert main(["resume", str(made), "epochs=2"]) == 0


def test_an_output_without_the_letters_of_an_equation():
    found = subprocess.run(
        [sys.executable, "-m", "anynet", "explain", "nn.LSTM"], capture_output=True, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, b"")
    assert rb"\u03c3" in found.stdout


def test_a_finished_run_says_so(run, capsys):
    assert main(["resume", str(run)]) == 0
    assert "is done: give epochs=N, or time=T" in capsys.readouterr().out


def test_runs_of_other_data_are_compared(run, capsys, tmp_path):
    assert (
        main(["train", "digits", "model=mlp", "limit=64", "epochs=1", f"run_dir={tmp_path / 'd'}", "quiet=1"])
        == 0
    )
    assert main(["compare", str(run), str(tmp_path / "d")]) == 1
    assert "of " in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "d"), "-"]) == 2
    assert "this run takes arrays; give an IDX file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "module", "words"),
    [
        (["export", "RUN", "to=onnx"], "onnx", "'anynet-nn[onnx]'"),
        (["train", "FOLDER"], "PIL", "'anynet-nn[images]'"),
        (["train", "TEXT", "tokens=bpe:300"], "tokenizers", "'anynet-nn[text]'"),
        (["train", "TABLE.parquet", "target=x"], "pyarrow", "'anynet-nn[tables]'"),
        (["train", "diabetes"], "sklearn", "'anynet-nn[sklearn]'"),
    ],
)
def test_a_missing_extra_is_named(args, module, words, run, tmp_path, capsys, monkeypatch):
    for name in [n for n in sys.modules if n == module or n.startswith(module + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    if module == "pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        monkeypatch.setitem(sys.modules, "polars", None)
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "1.png").write_bytes(b"x")
    (tmp_path / "t.txt").write_text("to be or not to be " * 50)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    places = {
        "RUN": run,
        "FOLDER": tmp_path / "p",
        "TEXT": tmp_path / "t.txt",
        "TABLE.parquet": tmp_path / "t.parquet",
    }
    assert main([str(places.get(a, a)) for a in args]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["class_weight=balanced"], ["accumulate=2"], ["precision=float64"], ["metrics=f1", "monitor=val_f1"],
        ["callbacks=csv,ema", "patience=3"], ["optimizer=sgd", "momentum=0.9"], ["weight_decay=0.1"],
    ],
)  # fmt: skip
def test_options_of_the_training_reach_it(options, run, tmp_path):
    rows = (run.parent / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(rows)
    base = ["train", str(tmp_path / "t.csv"), "target=kind", "epochs=1", "quiet=1"]
    assert main([*base, f"run_dir={tmp_path / 'a'}"]) == 0
    assert main([*base, *options, f"run_dir={tmp_path / 'b'}"]) == 0
    one, two = ((tmp_path / name / "run.json").read_text() for name in "ab")
    for option in options:
        key, _, value = option.partition("=")
        if key != "patience":
            assert value.split(",")[0] in two
    assert one != two


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("momentum=0.9", "'momentum'"),
        ("precision=float8", "unknown precision 'float8'"),
        ("class_weight=heavy", "class_weight must be balanced"),
        ("monitor=val_loos", "val_loos"),
        ("callbacks=ems", "ems"),
        ("size=8", "Table has no option 'size'"),
        ("heads=2", "has no setting 'heads'"),
    ],
)
def test_options_that_the_data_or_the_network_have_not(option, words, run, tmp_path, capsys):
    assert main(["train", str(run.parent / "t.csv"), "target=kind", option, f"run_dir={tmp_path / 'w'}"]) in (
        1,
        2,
    )
    assert words in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
