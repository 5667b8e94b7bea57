"""Reports of runs that were really trained."""

from __future__ import annotations

from pathlib import Path

import pytest

import anynet as an
from anynet import nn

ROWS = {"a": [float(i % 13) for i in range(120)], "b": ["x" if i % 3 else "y" for i in range(120)]}
TABLE = {
    **ROWS,
    "target": [2.0 * a + (5.0 if b == "x" else 0.0) for a, b in zip(*ROWS.values(), strict=True)],
}


def test_a_table_from_rows_to_its_report(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        ",".join(TABLE) + "\n" + "".join(f"{a},{b},{t}\n" for a, b, t in zip(*TABLE.values(), strict=True))
    )
    run = an.train_on(
        an.data.Table(file, target="target"), run_dir=tmp_path / "run", epochs=2, progress=False
    )
    path = run.report()
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "What is missing" not in text
    for said in (
        "on 24 held-out rows",
        "Permutation importance",
        "category of 2 values",
        "Gradients and updates",
    ):
        assert said in text, said
    assert run.path.name in run._repr_html_()


def test_arrays_and_several_runs(tmp_path: Path) -> None:
    x = an.random.normal((60, 3), generator=an.random.Generator(0))
    data = x[:40, ...], x[:40, :1]
    held_out = x[40:, ...], x[40:, :1]
    for name, lr in (("slow", 1e-5), ("quick", 0.05)):
        an.random.manual_seed(0)
        an.fit(
            nn.Linear(3, 1),
            data,
            val=held_out,
            loss="mse",
            optimizer="adam",
            lr=lr,
            epochs=25,
            run_dir=tmp_path / name,
            progress=False,
        )
    alone = an.report(tmp_path / "slow", out=tmp_path / "alone.html").read_text(encoding="utf-8")
    assert "The validation data could not be read" in alone
    full = (
        an.open(tmp_path / "slow").report(tmp_path / "full.html", data=held_out).read_text(encoding="utf-8")
    )
    assert "on 20 held-out samples" in full
    assert "What is missing" not in full
    both = an.report(tmp_path / "slow", an.open(tmp_path / "quick"), data=held_out)
    assert both == tmp_path / "slow" / "report.html"
    text = both.read_text(encoding="utf-8")
    assert "by R² is quick" in text
    assert "optimizer.lr" in text


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        an.report()
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        an.report(tmp_path / "nowhere")
