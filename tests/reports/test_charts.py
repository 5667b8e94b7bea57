"""Charts: drawings that say what they show, for numbers of any kind."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from anynet.reports.charts import Series, bars, heat_map, histogram, lines, radar, scatter, table_of, thinned
from anynet.viz.svg import log_ticks, number, tick_labels, ticks

NAME = "<a & b>"


def drawn(svg: object) -> ET.Element:
    """The drawing, parsed as XML; its coordinates are finite and its root has a title."""
    root = ET.fromstring(str(svg))
    assert root[0].tag == "title"
    assert "nan" not in str(svg).lower().replace(NAME, "").replace("nan<", "")
    return root


X = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0, 4.0], [5.0] * 4, [0.0] * 4, [1e-30, 1e30, 1.0, 2.0], [-1e9, 1e9, 0.0, math.nan],
                               [math.nan] * 4, [math.inf, 1.0, -math.inf, 2.0], [1e-12, 2e-12, 1e-12, 3e-12]])  # fmt: skip
def test_lines_and_bars_of_any_numbers(y: list[float]) -> None:
    drawn(
        lines(
            [Series(NAME, X, y), Series("b", X[:2], y[:2])],
            title=NAME,
            x_label="epoch",
            y_label="loss",
            whole=True,
        )
    )
    drawn(bars([NAME, "b", "c", "d"], y, title="bars", x_label="x"))
    drawn(bars([NAME, "b", "c", "d"], y, title="bars", log=True))
    drawn(scatter(X, y, title="s", x_label="x", y_label="y", diagonal=True, zero=True))
    drawn(radar([NAME, "b", "c", "d"], [Series("r", X, y)], title="r"))
    drawn(radar([NAME, "b", "c", "d"], [Series("r", X, y)], title="r", log=True))


def test_what_a_tooltip_says() -> None:
    root = drawn(lines([Series("loss", X, [1.0, 0.5, 0.25, 0.125])], title="t", x_label="epoch"))
    tips = [t.text for t in root.iter("title")]
    assert "loss, epoch 3: 0.25" in tips
    root = drawn(heat_map([[1.0, 0.0], [0.5, 0.5]], ["a", "b"], ["a", "b"], title="t"))
    assert "b, a: 0.5" in [t.text for t in root.iter("title")]
    root = drawn(histogram([0.0, 1.0, 2.0], [3, 4], title="t"))
    assert "1 to 2: 4" in [t.text for t in root.iter("title")]


def test_thinning_keeps_spikes_and_ends() -> None:
    y = [0.0] * 10_000
    y[4321] = 7.0
    found = thinned(range(10_000), y, 300)
    assert len(found) <= 310
    assert (4321, 7.0) in found
    assert found[0][0] == 0
    assert found[-1][0] == 9999
    assert [p[0] for p in found] == sorted(p[0] for p in found)
    head, rows, note = table_of([Series("y", list(range(10_000)), y)], "x")
    assert head == ["x", "y"]
    assert len(rows) <= 202
    assert "10,000" in note


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0.0, 1.0), (-3.0, 17.0), (1e-7, 3e-7), (1e6, 1.0001e6), (0.93, 0.97)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 12
        assert all(low - 1e-9 * abs(low) <= t <= high + 1e-9 * abs(high) for t in found)
        assert len(set(tick_labels(found))) == len(found)
    assert log_ticks(0.001, 10.0) == [0.001, 0.01, 0.1, 1.0, 10.0]


def test_numbers_as_people_write_them() -> None:
    cases = {
        0.1: "0.1",
        1234.5: "1,234",
        12: "12",
        -0.5: "−0.5",
        1e-9: "1×10⁻⁹",
        6.02e23: "6.02×10²³",
        0.0001234: "0.0001234",
    }
    assert {x: number(x) for x in cases} == cases
