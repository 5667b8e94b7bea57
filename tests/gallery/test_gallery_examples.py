"""How examples are declared, run and found; that those of the repository keep to the rules."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import anynet as an
from anynet.cli import main as anynet
from anynet.gallery import Figure, Series, entries, example, find, lines
from anynet.gallery.example import UNAVAILABLE, Unavailable

PICTURE = lines([Series("a", [1, 2], [1.0, 2.0])], title="a")


def declared(**options: Any) -> Any:
    @example(topic="tests", figures=[Figure("error", at_most=0.1, quick=0.5)], **options)
    def main(run: Any) -> None:
        an.dtypes.set_default_float("float64")
        run.say(run.device, run.seed, run.pick("full", "quick"), *run.arguments)
        run.picture(PICTURE)
        run.figure("error", an.asarray(0.4))

    return main


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = declared(arguments="words")(["--quick", "--seed", "3", "--out", str(tmp_path), "word"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "cpu 3 quick word"
    assert said[-1] == "error 0.4 (to reach: ≤ 0.5): reached"
    assert json.loads((tmp_path / f"{Path(__file__).stem}.json").read_text()) == record
    assert record["figures"][0]["reached"] is True
    assert an.dtypes.default_float() == an.float32  # as before


def test_a_figure_that_is_not_reached_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = declared()(["--out", str(tmp_path)])
    assert record["figures"][0]["reached"] is False
    assert capsys.readouterr().out.splitlines()[-1] == "error 0.4 (to reach: ≤ 0.1): not reached"


def ends(function: Any, tmp_path: Path) -> int:
    with pytest.raises(SystemExit) as stop:
        example(topic="tests", figures=[Figure("error", at_most=0.1, quick=0.5)])(function)(
            ["--quick", "--out", str(tmp_path)]
        )
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def misses(run: Any) -> None:
        run.picture(PICTURE)
        run.figure("error", 0.6)

    def lacks(run: Any) -> None:
        raise Unavailable("the file is not here")

    assert ends(misses, tmp_path) == 1
    assert ends(lacks, tmp_path) == UNAVAILABLE
    assert "the file is not here" in capsys.readouterr().err


def test_what_an_example_owes(tmp_path: Path) -> None:
    def nothing(run: Any) -> None:
        run.picture(PICTURE)

    def other(run: Any) -> None:
        run.figure("accuracy", 1.0)

    declare = example(topic="tests", figures=[Figure("error")])
    with pytest.raises(RuntimeError, match="ended without error"):
        declare(nothing)(["--out", str(tmp_path)])
    with pytest.raises(ValueError, match="'accuracy' is not declared; declared are 'error'"):
        declare(other)(["--out", str(tmp_path)])


def test_the_examples_of_the_repository() -> None:
    found = entries()
    assert "backprop_by_hand" in {entry.name for entry in found}
    for entry in found:
        source = entry.path.read_text(encoding="utf-8")
        assert source.count("\n") <= 100, f"{entry.path} has over 100 lines"
        assert entry.topic, f"{entry.path} has no topic"
        assert 10 < len(entry.about) <= 140, (
            f"{entry.path}: the docstring's first paragraph is one line that says what is shown"
        )
        assert source.endswith('if __name__ == "__main__":\n    main()\n')
        assert entry.name not in sys.stdlib_module_names
    with pytest.raises(ValueError, match="backprop_by_hand"):
        find("backprop_by_hnd")


def test_the_kept_results_are_those_of_examples_that_are_there() -> None:
    folder = find("backprop_by_hand").path.parent
    records, page = (
        json.loads((folder / "results.json").read_text(encoding="utf-8")),
        (folder / "RESULTS.md").read_text(encoding="utf-8"),
    )
    assert set(records) <= {entry.name for entry in entries()}
    for record in records.values():
        assert not record["quick"]
        for figure in record["figures"]:
            assert f"| {figure['written']} | {record['seconds']} |" in page
        for file in record["files"]:
            if file.endswith(".svg"):
                ElementTree.parse(folder.parent / "docs" / "gallery" / file)


def test_what_this_form_does_not_measure_is_left_out(tmp_path: Path) -> None:
    @example(topic="tests", figures=[Figure("error"), Figure("accuracy")])
    def main(run: Any) -> None:
        run.picture(PICTURE)
        run.figure("error", 1.0)
        run.figure("accuracy", None)

    assert [figure["name"] for figure in main(["--out", str(tmp_path)])["figures"]] == ["error"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert anynet(["examples"]) == 0
    assert "  backprop_by_hand " in capsys.readouterr().out
    assert anynet(["example", "backprop_by_hand", "source=1"]) == 0
    assert "@example(" in capsys.readouterr().out
    assert anynet(["example", "backprop-by-hand", "quick=1", f"out={tmp_path}", "json=1"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"][0]["reached"] is True
    assert (tmp_path / "backprop_by_hand.svg").is_file()
    assert anynet(["example", "no_such"]) == 1
