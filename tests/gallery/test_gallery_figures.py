"""Figures to reach, and the pictures of examples."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

import anynet as an
from anynet.gallery import Figure, Series, bars, compose, lines, text_block, tiles


def test_directions() -> None:
    assert Figure("a", at_least=1.0).reached(1.0)
    assert not Figure("a", at_least=1.0).reached(0.999)
    assert not Figure("a", at_most=1.0).reached(math.nan)
    between = Figure("a", 1.0, 2.0)
    assert [between.reached(x) for x in (0.9, 1.0, 2.0, 2.1)] == [False, True, True, False]
    assert Figure("a").reached(3.0) is None


def test_the_quick_form_has_its_own_bound() -> None:
    figure = Figure("error", at_most=0.1, quick=0.5)
    assert figure.reached(0.4, quick=True)
    assert not figure.reached(0.4)
    assert figure.line(0.4, quick=True) == "error 0.4 (to reach: ≤ 0.5): reached"
    told = Figure("error", at_most=0.1)
    assert told.reached(0.4, quick=True) is None
    assert told.line(0.4, quick=True) == "error 0.4 (quick form; the full form is to reach ≤ 0.1)"
    assert Figure("a", 1.0, 2.0, quick=True).reached(3.0, quick=True) is False


def test_what_was_changed_stands_in_the_table() -> None:
    """The words are those of the file today, the numbers those of the run; a figure says what was changed once, and only if it was."""
    run_all = pytest.importorskip("examples.run_all", reason="needs the repository's folder of examples")
    entry = next(e for e in run_all.entries(run_all.HERE) if e.name == "gpt2")
    record = {
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "figures": [Figure("loss of the last epoch in nats", at_most=2.2).record(2.5)],
    }
    page = run_all.table({"gpt2": record}, [entry])
    assert "| 2.5 | 1.0 | 1.0 | **not reached** |" in page
    assert (
        "gpt2, loss of the last epoch in nats**: 3 epochs at first: 2.374" in page.partition("## Changed")[2]
    )


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at_least .2.0. must not be above at_most"):
        Figure("a", 2.0, 1.0)
    with pytest.raises(ValueError, match="one bound"):
        Figure("a", 1.0, 2.0, quick=0.5)
    with pytest.raises(ValueError, match="expected a drawing"):
        compose("a", ["<p>"])  # type: ignore[list-item]


def test_a_picture_is_one_valid_file() -> None:
    parts = [
        lines([Series("a < b", [1, 2, 3], [1.0, 4.0, 2.0])], title="x & y"),
        tiles(an.zeros((10, 8, 8)), ["one"] * 10, title="tiles"),
        bars(["p", "q"], [1.0, 2.0], title="bars"),
        text_block("a  <b>\n" + "c" * 200, title="text"),
    ]
    root = ElementTree.fromstring(compose("a title & more", parts))
    inner = root.findall("{http://www.w3.org/2000/svg}svg")
    assert len(inner) == 4
    ends = [float(part.attrib["y"]) + float(part.attrib["height"]) for part in inner]
    assert all(end <= float(later.attrib["y"]) for end, later in zip(ends, inner[1:], strict=False))
    assert ends[-1] <= float(root.attrib["height"])
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 10


def test_a_long_title_is_whole() -> None:
    title = "word " * 40
    root = ElementTree.fromstring(compose(title, [bars(["p", "q"], [1.0, 2.0], title="bars")]))
    rows = [t.text or "" for t in root.findall("{http://www.w3.org/2000/svg}text")]
    above = [row for row in rows if row.startswith("word")]
    assert len(above) > 2
    assert " ".join(above) == title.strip()
