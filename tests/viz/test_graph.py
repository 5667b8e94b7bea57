"""Graphs as SVG: the layout has its properties, and the drawing says what autograd recorded."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import anynet as an
from anynet import nn
from anynet.viz.layered import layered


def random_graph(seed: int, nodes: int) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    draw = random.Random(seed)
    sizes = {f"n{i}": (draw.uniform(10, 80), draw.uniform(10, 30)) for i in range(nodes)}
    pairs = [
        (f"n{i}", f"n{j}") for i, j in itertools.combinations(range(nodes), 2) if draw.random() < 2.0 / nodes
    ]
    return sizes, pairs


@pytest.mark.parametrize("seed", range(8))
def test_boxes_do_not_overlap_and_edges_go_down(seed: int) -> None:
    sizes, edges = random_graph(seed, 5 + 6 * seed)
    found = layered(sizes, edges)
    assert set(found.places) == set(sizes)
    for a, b in itertools.combinations(sizes, 2):
        (xa, ya), (xb, yb) = found.places[a], found.places[b]
        apart_x = abs(xa - xb) - (sizes[a][0] + sizes[b][0]) / 2
        apart_y = abs(ya - yb) - (sizes[a][1] + sizes[b][1]) / 2
        assert max(apart_x, apart_y) > 0, (a, b)
    for (a, b), points in found.edges.items():
        assert points[0] == (found.places[a][0], found.places[a][1] + sizes[a][1] / 2)
        assert points[-1][0] == found.places[b][0]
        assert [p[1] for p in points] == sorted(p[1] for p in points)
    for name, (x, y) in found.places.items():
        assert sizes[name][0] / 2 - 1e-6 <= x <= found.width - sizes[name][0] / 2 + 1e-6
        assert sizes[name][1] / 2 - 1e-6 <= y <= found.height - sizes[name][1] / 2 + 1e-6


def test_a_chain_is_straight_and_a_circle_is_refused() -> None:
    found = layered({"a": (10, 10), "b": (50, 10), "c": (20, 10)}, [("a", "b"), ("b", "c")])
    assert len({round(x, 6) for x, _ in found.places.values()}) == 1
    with pytest.raises(ValueError, match="must not go in a circle"):
        layered({"a": (1, 1), "b": (1, 1)}, [("a", "b"), ("b", "a")])


def texts(svg: object) -> list[str]:
    root = ET.fromstring(str(svg))
    return [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_names_values_and_gradients() -> None:
    w, x = an.asarray(-2.0, requires_grad=True), an.asarray(1.5, requires_grad=True)
    y = an.tanh(w * x)
    y.backward(retain_graph=True)
    said = texts(an.viz.graph(y, names={"w": w, "x & y": x}))
    assert {"w", "x & y", "multiply", "tanh", "value −2", "value 1.5", "value −0.99505"} <= set(said)
    assert f"grad {1.5 * (1 - 0.9950547536867305**2):.5g}"[:12] in " ".join(said)


def test_parameters_of_a_module_have_their_names() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    loss = an.sum(net(an.ones((4, 2))))
    said = texts(an.viz.graph(loss, names=net))
    assert {"0.weight", "0.bias", "2.weight", "2.bias"} <= set(said)
    assert "3×2" in said


def test_a_value_used_twice_and_several_outputs() -> None:
    x = an.asarray(3.0, requires_grad=True)
    assert "2×" in texts(an.viz.graph(x * x))
    parts = an.unstack(an.asarray([1.0, 2.0], requires_grad=True))
    said = texts(an.viz.graph(parts[0] * parts[1]))
    assert "output 0, 1" in said


def test_where_drawings_go(tmp_path: Path) -> None:
    x = an.asarray([1.0, 2.0], requires_grad=True)
    drawing = an.viz.graph(an.sum(x * x), title="<b>")
    assert drawing._repr_svg_() == drawing._repr_html_() == str(drawing)
    assert "<b>" not in str(drawing)
    drawing.save(tmp_path / "a.svg")
    ET.parse(tmp_path / "a.svg")
    drawing.save(tmp_path / "a.html")
    assert "<svg" in (tmp_path / "a.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"must end in \.svg or \.html"):
        drawing.save(tmp_path / "a.png")


def test_what_cannot_be_drawn() -> None:
    x = an.asarray([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="a constant: nothing in it requires a gradient"):
        an.viz.graph(an.ones(3))
    with pytest.raises(ValueError, match="at least one result"):
        an.viz.graph()
    with pytest.raises(ValueError, match="drawn with an input"):
        an.viz.graph(nn.Linear(2, 1))
    y = x
    for _ in range(20):
        y = an.sin(y)
    with pytest.raises(ValueError, match="more than most=10 nodes"):
        an.viz.graph(y, most=10)
    with pytest.raises(TypeError, match="names must be Tensors by name, got int for 'a'"):
        an.viz.graph(y, names={"a": 1})  # type: ignore[dict-item]


def test_models_and_compiled_steps_are_drawn() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    drawn = str(an.viz.graph(net, an.ones((4, 2))))
    assert "tanh" in drawn
    assert "0.weight" in drawn
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)

    @an.compile
    def step(x: an.Tensor, y: an.Tensor) -> an.Tensor:
        optimizer.zero_grad()
        loss = an.losses.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(ValueError, match="call it once"):
        an.viz.graph(step)
    step(an.ones((4, 2)), an.ones((4, 1)))
    drawn = str(an.viz.graph(step))
    ET.fromstring(drawn)
    assert "Sequential.1 forward" in drawn
    assert "Sequential.1 backward" in drawn
    assert "Optimizer.step" in drawn
