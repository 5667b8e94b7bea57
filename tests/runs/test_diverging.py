"""Where two runs part: the step, the layer, the units in the last place."""

from __future__ import annotations

import json

import pytest

import anynet as an
from anynet.cli import main
from anynet.runs import diff
from anynet.runs.comparing import apart


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on iris: two alike, one with another rate, one with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"epochs": 2, "progress": False}
    for name, more in (("a", {}), ("same", {}), ("rate", {"lr": 0.002}), ("seed", {"seed": 1})):
        given = {"lr": 0.001, **common, **more}
        an.train_on("iris", model="mlp", run_dir=folder / name, **given)
    return folder


def test_equal_runs_are_identical(runs) -> None:
    found = diff(runs / "a", runs / "same")
    assert found.identical
    assert "same bits in all" in str(found)


def test_another_rate_is_found_in_the_first_update(runs) -> None:
    found = diff(runs / "a", runs / "rate")
    assert not found.identical
    assert found.step == (1, 1)
    assert found.place == "update"
    assert found.ulps > 0
    assert 0 < found.count <= found.size
    assert "a gives its own bits, rate gives its own bits" in found.replayed
    assert ("lr", 0.001, 0.002) in found.comparison.settings
    json.dumps(found.to_json())


def test_long_values_are_shown_where_they_differ() -> None:
    a, b = apart("x" * 60 + "seed=0", "x" * 60 + "seed=1")
    assert (a[-6:], b[-6:]) == ("seed=0", "seed=1")
    assert apart("short", None) == ["short", "–"]
    assert max(map(len, apart("y" * 90, "z" * 90))) <= 48


def test_another_seed_is_different_from_the_start(runs) -> None:
    found = diff(runs / "a", runs / "seed")
    assert found.place == "initial weights"
    assert "different from the start" in str(found)


def test_runs_of_other_machines_are_told_by_their_hashes(runs, tmp_path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(runs / "a", other)
    lines = [json.loads(line) for line in (other / "proof.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        line["sha256"] = "0" * 64
        line["tensors"] = dict.fromkeys(line["tensors"], "0" * 16)
    (other / "proof.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = diff(runs / "a", other)
    assert found.step is None
    assert "a gives its own bits, other gives other bits than it had" in found.replayed
    assert "differ by their machines or versions" in found.replayed
    assert found.comparison.first["batch"] == 4
    quick = diff(runs / "a", other, replay=False)
    assert quick.replayed == ""


def test_runs_of_scripts_need_their_data(tmp_path) -> None:
    x = an.asarray([[0.0], [1.0], [2.0], [3.0]])
    for name, lr in (("a", 0.1), ("b", 0.2)):
        an.random.manual_seed(0)
        an.fit(
            an.nn.Linear(1, 1),
            (x, 2 * x),
            loss="mse",
            lr=lr,
            epochs=1,
            run_dir=tmp_path / name,
            progress=False,
        )
    found = diff(tmp_path / "a", tmp_path / "b")
    assert not found.identical
    assert "not trained again" in found.replayed
    assert found.comparison.first["epoch"] == 1


def test_command(runs, capsys) -> None:
    assert main(["diff", str(runs / "a"), str(runs / "same")]) == 0
    assert main(["diff", str(runs / "a"), str(runs / "rate"), "replay=0", "json=1"]) == 1
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["identical"] is False
    assert main(["diff", str(runs / "a"), str(runs / "none")]) == 1
