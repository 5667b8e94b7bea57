"""Figures with matplotlib: what they draw is what was computed, and the model is afterwards what it was."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anynet as an
from anynet import nn
from optional_libraries import needs

matplotlib = needs("matplotlib", "plot")
matplotlib.use("Agg")
plt = needs("matplotlib.pyplot", "plot")
viz = an.viz


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("plt.show was called")

    monkeypatch.setattr(plt, "show", refuse)
    yield
    plt.close("all")


def drawn(thing: Any) -> Any:
    """The figure, after it has really been drawn."""
    figure = thing if isinstance(thing, matplotlib.figure.Figure) else thing.get_figure()
    figure.canvas.draw()
    return figure


def numbers(*shape: int, seed: int = 0) -> an.Tensor:
    return an.random.normal(shape, generator=an.random.Generator(seed))


HISTORY = an.train.History(
    [
        {"epoch": i + 1, "loss": 1 / (i + 1), "val_loss": 2 / (i + 1), "accuracy": 0.5, "lr": 0.1}
        for i in range(3)
    ]
)


# ----- Tensors go into matplotlib as they are -----


def test_tensors_in_matplotlib() -> None:
    x, picture = an.asarray([1.0, 2.0, 4.0]), numbers(8, 8)
    _, ax = plt.subplots()
    [line] = ax.plot(x)
    assert line.get_ydata().tolist() == [1.0, 2.0, 4.0]
    ax.plot(x, x * x)
    ax.scatter(x, x)
    ax.bar(x, x)
    counts, edges, _ = ax.hist(x, bins=3)
    assert counts.tolist() == [1.0, 1.0, 1.0]
    assert edges[0] == 1.0
    ax.imshow(picture)
    ax.contour(picture)
    ax.fill_between(x, x, 2 * x)
    ax.errorbar(x, x, yerr=x)
    drawn(ax)


# ----- curves -----


def test_curves_of_one_history() -> None:
    figure = drawn(viz.curves(HISTORY))
    loss, accuracy = figure.axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    train, val = loss.get_lines()
    assert list(train.get_ydata()) == [1.0, 1 / 2, 1 / 3]
    assert list(val.get_ydata()) == [2.0, 1.0, 2 / 3]
    assert [t.get_text() for t in loss.get_legend().get_texts()] == ["training", "validation"]


def test_curves_of_several_runs_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    data = numbers(32, 3), numbers(32, 1, seed=1)
    an.fit(nn.Linear(3, 1), data, loss="mse", epochs=2, run_dir=folder, progress=False)
    figure = drawn(viz.curves(folder, HISTORY, names=["a", "b"], quantities="loss", log=True))
    [ax] = figure.axes
    assert ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b, training", "b, validation"]
    _, own = plt.subplots()
    assert viz.curves(HISTORY, quantities="val_loss", ax=own) is own.get_figure()
    assert len(own.get_lines()) == 1


def test_curves_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        viz.curves()
    with pytest.raises(KeyError, match=r"no run has 'acuracy'; did you mean 'accuracy'"):
        viz.curves(HISTORY, quantities="acuracy")
    with pytest.raises(TypeError, match="must be a History"):
        viz.curves(3)
    with pytest.raises(FileNotFoundError, match=r"has no history\.jsonl"):
        viz.curves("/nowhere/at/all")
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="ax takes one quantity, got loss, accuracy"):
        viz.curves(HISTORY, ax=ax)


# ----- activations -----


def test_activations_and_their_derivatives() -> None:
    figure = drawn(
        viz.activations("relu", "sigmoid", nn.Tanh(), lambda x: x * x, low=-2.0, high=2.0, points=9)
    )
    left, right = figure.axes
    x = list(left.get_lines()[0].get_xdata())
    assert x == pytest.approx([-2 + 0.5 * i for i in range(9)])
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["relu", "sigmoid", "Tanh", "f"]
    sigmoid = [1 / (1 + math.exp(-v)) for v in x]
    assert list(left.get_lines()[1].get_ydata()) == pytest.approx(sigmoid, rel=1e-6)
    assert list(right.get_lines()[1].get_ydata()) == pytest.approx([s * (1 - s) for s in sigmoid], rel=1e-5)
    assert list(right.get_lines()[3].get_ydata()) == pytest.approx([2 * v for v in x])


def test_activations_leave_parameters_alone() -> None:
    prelu = nn.PReLU()
    drawn(viz.activations(prelu, lambda x: an.ones_like(x)))
    assert prelu.weight.grad is None


def test_unknown_activations() -> None:
    with pytest.raises(ValueError, match=r"unknown function 'gelo'; did you mean 'gelu'\?"):
        viz.activations("gelo")
    with pytest.raises(ValueError, match="a number for each number"):
        viz.activations(lambda x: an.sum(x))
    with pytest.raises(ValueError, match="low must be less than high"):
        viz.activations("relu", low=1, high=1)


# ----- optimizers -----


def test_minima_of_the_problems() -> None:
    for problem in viz.PROBLEMS.values():
        for x, y in problem.minima:
            a, b = (an.asarray(v, dtype="float64", requires_grad=True) for v in (x, y))
            problem(a, b).backward()
            assert abs(float(a.grad)) < 1e-3, problem.name
            assert abs(float(b.grad)) < 1e-3, problem.name
            assert problem.x[0] <= x <= problem.x[1]
            assert problem.y[0] <= y <= problem.y[1]


def test_the_ways_are_those_of_the_optimizers() -> None:
    found = viz.race({"SGD": {"lr": 0.01}, "mine": lambda p: an.optim.SGD(p, lr=0.01)}, viz.ravine, steps=2)
    x, y = viz.ravine.start
    assert found.paths["SGD"][1] == pytest.approx((x - 0.01 * x, y - 0.01 * 50 * y))
    assert found.paths["mine"] == found.paths["SGD"]
    assert found.values["SGD"][0] == pytest.approx(0.5 * x * x + 25 * y * y)
    ax = viz.optimizers(["adam", "lbfgs"], "booth", steps=5)
    drawn(ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["adam", "lbfgs"]


def test_a_race_that_diverges_stops() -> None:
    found = viz.race({"SGD": {"lr": 10.0}}, "rosenbrock", steps=100)
    assert len(found.paths["SGD"]) < 100
    assert all(math.isfinite(v) for v in found.values["SGD"])
    drawn(found.plot())
    drawn(viz.optimizers({"SGD": {"lr": 0.1}}, lambda x, y: x * x + y * y, steps=3))


def test_races_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"unknown optimizer 'adem'; did you mean 'Adam'\?"):
        viz.race(["adem"])
    with pytest.raises(ValueError, match=r"unknown problem 'rosenbrok'; did you mean 'rosenbrock'\?"):
        viz.race(["adam"], "rosenbrok")
    with pytest.raises(TypeError, match="optimizers by name"):
        viz.race("adam")
    with pytest.raises(ValueError, match="steps must be a whole number"):
        viz.race(["adam"], steps=0)


# ----- landscapes -----


def network() -> tuple[nn.Module, tuple[an.Tensor, an.Tensor]]:
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 2))
    return net, (numbers(20, 2), an.asarray([0, 1] * 10))


def state_of(net: nn.Module) -> Any:
    return (
        {k: v.tolist() for k, v in net.state_dict().items()}, [m.training for m in net.modules()],
        [id(p.grad) for p in net.parameters()], [p.requires_grad for p in net.parameters()], an.random.get_state(),
        [len(m._forward_hooks) for m in net.modules()],
    )  # fmt: skip


def test_the_loss_on_the_grid_is_the_loss_at_those_weights() -> None:
    net, data = network()
    found = viz.Landscape(net, data, "cross_entropy", n=5, span=0.5, seed=3)
    assert found.steps == [-0.5, -0.25, 0.0, 0.25, 0.5]
    at = an.evaluate(net, data, loss="cross_entropy")["loss"]
    assert found.loss == pytest.approx(at, rel=1e-6)
    assert found.values[2][2] == found.loss
    again = viz.Landscape(net, data, "cross_entropy", n=5, span=0.5, seed=3)
    assert again.values == found.values
    other = viz.Landscape(net, data, "cross_entropy", n=5, span=0.5, seed=4)
    assert other.values != found.values


def test_given_directions() -> None:
    net = nn.Linear(1, 1)
    net.load_state_dict({"weight": an.asarray([[2.0]]), "bias": an.asarray([0.0])})
    data = an.asarray([[1.0]]), an.asarray([[2.0]])
    one = {"weight": an.asarray([[1.0]]), "bias": an.asarray([0.0])}
    found = viz.Landscape(net, data, "mse", directions=one, dims=1, n=5, span=2.0)
    assert found.values == pytest.approx([4.0, 1.0, 0.0, 1.0, 4.0])
    with pytest.raises(ValueError, match="2 dicts of arrays"):
        viz.Landscape(net, data, "mse", directions=one, n=5)
    with pytest.raises(ValueError, match=r"an array of shape \(1,\) for 'bias'"):
        viz.Landscape(net, data, "mse", directions={"weight": an.asarray([[1.0]])}, dims=1, n=5)


def test_filters_keep_their_norms() -> None:
    from anynet.streams import Generator
    from anynet.viz.landscape import _drawn

    net = nn.Conv2d(2, 3, 3)
    parameters = dict(net.named_parameters())
    drawn_ = _drawn(parameters, "filter", Generator(0))
    for i in range(3):
        own = float(an.sum(net.weight[i, ...] ** 2))
        assert float(an.sum(drawn_["weight"][i, ...] ** 2)) == pytest.approx(own, rel=1e-5)
    assert float(an.max(an.abs(drawn_["bias"]))) == 0.0
    plain = _drawn(parameters, "plain", Generator(0))
    norms = [
        sum(float(an.sum(t**2)) for t in tree.values())
        for tree in (plain, {k: v.detach() for k, v in parameters.items()})
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"dims": 1}, {"surface": True, "log": True}, {"directions": "layer"}]
)
def test_landscapes_are_drawn_and_the_model_stays(options: dict[str, Any]) -> None:
    net, data = network()
    net[2].eval()
    before = state_of(net)
    drawn(viz.landscape(net, data, "cross_entropy", n=5, **options))
    assert state_of(net) == before


def test_landscapes_that_cannot_be() -> None:
    net, data = network()
    for options, message in (
        ({"n": 4}, "odd number"), ({"dims": 3}, "dims must be 1 or 2"), ({"span": 0}, "span must be > 0"),
        ({"directions": "x"}, "'filter'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            viz.landscape(net, data, "cross_entropy", **options)
    with pytest.raises(ValueError, match="no parameters"):
        viz.landscape(nn.ReLU(), data, "mse")


# ----- boundaries, weights, filters, responses -----


def test_decision_boundaries() -> None:
    net, (x, y) = network()
    before = state_of(net)
    ax = viz.decision_boundary(net, x, y, classes=["no", "yes"], n=20)
    drawn(ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["no", "yes"]
    assert state_of(net) == before
    drawn(viz.decision_boundary(nn.Linear(2, 1), x, y, n=10))  # one score of class 1
    drawn(viz.decision_boundary(nn.Linear(2, 1), x, x[:, 0], n=10))  # a number
    drawn(viz.decision_boundary(nn.Linear(4, 3), numbers(9, 4), features=(1, 3), n=10))
    with pytest.raises(ValueError, match=r"shape \(samples, two or more features\)"):
        viz.decision_boundary(net, x[:, :1])
    with pytest.raises(ValueError, match="two of the 2 columns"):
        viz.decision_boundary(net, x, features=(0, 2))
    with pytest.raises(ValueError, match="must have 20 entries, got 3"):
        viz.decision_boundary(net, x, [0, 1, 1])


def test_the_colour_of_a_point_is_that_of_its_class() -> None:
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": an.asarray([[-50.0, 0.0], [50.0, 0.0]]), "bias": an.asarray([0.0, 0.0])})
    ax = viz.decision_boundary(net, an.asarray([[-1.0, -1.0], [1.0, 1.0]]), n=4)
    picture = ax.images[0].get_array()
    left, right = picture[0, 0], picture[0, -1]
    assert left[2] > left[0]  # blue
    assert right[0] > right[2]  # red


def test_weights_filters_and_responses() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 4))
    x = numbers(2, 3, 8, 8)
    net(x)
    before = state_of(net)
    assert len(drawn(viz.weights(net)).axes) == 6
    assert len(drawn(viz.filters(net)).axes) == 5
    assert len(drawn(viz.filters(net, "2", most=4)).axes) == 4
    assert len(drawn(viz.filters(net, net[4], shape=(6, 16))).axes) == 4
    figure = drawn(viz.responses(net, x[0, ...], "2"))
    expected = net[2](nn.functional.relu(net[0](x[:1, ...])))[0, 3, ...].tolist()
    shown = figure.axes[3].images[0].get_array().tolist()
    for row, want in zip(shown, expected, strict=True):
        assert row == pytest.approx(want, rel=1e-5, abs=1e-6)
    assert state_of(net) == before
    with pytest.raises(ValueError, match="no convolution"):
        viz.filters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"rows of 96 numbers; give shape=\(height, width\)"):
        viz.filters(net, "4")
    with pytest.raises(ValueError, match="has no parameters"):
        viz.weights(nn.ReLU())


def test_attention() -> None:
    an.random.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = numbers(1, 5, 8)
    before = state_of(net)
    found = viz.attention_weights(net, x)
    assert list(found) == ["self_attn"]
    assert found["self_attn"].shape == (1, 2, 5, 5)
    assert an.sum(found["self_attn"], axis=-1).tolist()[0][0] == pytest.approx([1.0] * 5, rel=1e-6)
    net.self_attn.eval()
    _, expected = net.self_attn(x, x, x, average_attn_weights=False)
    net.self_attn.train()
    assert found["self_attn"][0, 1, 2, ...].tolist() == pytest.approx(
        expected[0, 1, 2, ...].tolist(), rel=1e-5
    )
    figure = drawn(viz.attention(net, x, tokens=list("abcde")))
    assert len(figure.axes) == 2
    assert state_of(net) == before
    with pytest.raises(ValueError, match="uses no attention"):
        viz.attention(nn.Linear(8, 8), x)
    with pytest.raises(ValueError, match=r"'linear1' has no attention; those that have: self_attn"):
        viz.attention(net, x, layer="linear1")


def test_attention_of_a_causal_model() -> None:
    gpt = an.models.GPT(vocabulary=7, context=6, width=8, layers=2, heads=2)
    found = viz.attention_weights(gpt, an.asarray([[0, 1, 2, 3]]))
    assert len(found) == 2
    for weights in found.values():
        rows = weights[0, 0, ...].tolist()
        assert all(rows[i][j] == 0.0 for i in range(4) for j in range(i + 1, 4))
        assert [sum(r) for r in rows] == pytest.approx([1.0] * 4, rel=1e-6)


def test_confusion() -> None:
    ax = viz.confusion(
        [0, 0, 1, 2],
        an.asarray([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        classes=["a", "b", "c"],
    )
    drawn(ax)
    assert ax.images[0].get_array().tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    drawn(viz.confusion([[3, 1], [0, 2]], normalize=False))
    for arguments, message in (
        (([0, 1], [0]), "one class number a sample"), (([0, -1], [0, 1]), "class numbers must be in"), (([[1, 2, 3]],), "square matrix"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            viz.confusion(*arguments)


# ----- without matplotlib -----


def test_a_missing_matplotlib_is_named() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import anynet as an\n"
        "an.viz.race(['adam'], steps=2)\n"
        "try:\n    an.viz.activations('relu')\nexcept ModuleNotFoundError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "plotting needs matplotlib: pip install 'anynet-nn[plot]'" in done.stdout, done.stderr
