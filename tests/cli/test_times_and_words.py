"""Times on the command line are refused before anything is read; what is said of odd data."""

import pytest

from anynet.cli import main


@pytest.mark.parametrize("time", ["0s", "abc", "60", "-3min"])
def test_what_is_no_time_is_refused_at_once(time, tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_text("x,y\n" + "\n".join(f"{i},{2 * i}" for i in range(20)), encoding="utf-8")
    assert main(["train", str(file), "target=y", f"time={time}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"time={time!r}: expected a time such as 30s, 10min or 2h" in said.err


def test_names_of_several_lines_stay_in_one(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_text('"first\nline",y\n' + "\n".join(f"{i % 7},{2 * i}" for i in range(20)), encoding="utf-8")
    folder = tmp_path / "run"
    assert main(["train", str(file), "target=y", "epochs=1", "time=30s", f"run_dir={folder}"]) == 0
    assert "  first line  number" in capsys.readouterr().out


def test_without_a_held_out_part_the_numbers_of_training_are_shown(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_text("x,y\n" + "\n".join(f"{i},{2 * i}" for i in range(20)), encoding="utf-8")
    assert main(["train", str(file), "target=y", "valid=0", "epochs=1", f"run_dir={tmp_path / 'run'}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("nothing was held out; in training r2 ")
    assert "lr" not in last
