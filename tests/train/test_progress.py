"""What `fit` shows: lines, a bar in terminals and notebooks; tables for notebooks; hints for other libraries' habits."""

import io
import re
import sys
import types

import numpy as np
import pytest

import anynet as an
from anynet import nn, train
from anynet.train.progress import Progress, duration, line
from optional_libraries import needs

rng = np.random.default_rng(3)
X = rng.standard_normal((40, 4)).astype("f4")
Y = rng.integers(0, 3, 40)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(**options):
    an.random.manual_seed(0)
    return an.fit(
        nn.Linear(4, 3), (X, Y), **{"loss": "cross_entropy", "batch_size": 8, "device": "cpu", **options}
    )


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "0.0 ms"), (0.0004, "0.4 ms"), (0.05, "50 ms"), (0.9996, "1.0 s"), (59.0, "59.0 s"), (61.2, "1 min 01 s"), (3600, "1 h 00 min"),
])  # fmt: skip
def test_times_in_their_units(seconds, text):
    assert duration(seconds) == text


def test_lines_in_a_log(capsys):
    fit(epochs=2, val=0.2)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "validation: 8 of 40 samples, drawn stratified by class with seed 0"
    assert re.fullmatch(r"epoch 1/2  loss \d\.\d{4}  val_loss \d\.\d{4}  lr 0\.001  [\d.]+ ms", said[1])
    assert len(said) == 3

    class Falls(train.Callback):
        adds = ("score",)

        def on_epoch_end(self, run):
            run.record["score"] = 1.0 / run.epoch
            if run.epoch == 2:
                run.stop("two are enough")

    fit(epochs=3, monitor="score", mode="max", callbacks=Falls())
    said = capsys.readouterr().out.splitlines()
    assert said[2:] == ["ended: two are enough", "the model has the weights of epoch 1, the best by score"]
    fit(steps=3)
    assert capsys.readouterr().out.startswith("epoch 1  loss")
    assert line(1, 10, {"epoch": 1, "loss": 0.00001234, "n": 3}) == "epoch  1/10  loss 1.23e-05"


@pytest.mark.parametrize("stream", [False, True])
def test_a_bar_in_a_terminal(stream, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    data = an.data.DataLoader((X, Y), batch_size=8)
    an.fit(
        nn.Linear(4, 3),
        (lambda: iter(data)) if stream else data,
        loss="cross_entropy",
        metrics=["accuracy"],
        epochs=2,
        device="cpu",
    )
    text = terminal.getvalue()
    assert "samples/s" in text
    assert ("left" in text) is not stream
    assert "accuracy" in text
    assert "epoch 2/2  loss" in text


def test_a_bar_in_a_notebook(monkeypatch):
    shown = []
    handle = types.SimpleNamespace(update=lambda made: shown.append(made))
    display = types.ModuleType("IPython.display")
    display.HTML, display.display = str, lambda made, display_id: handle
    python = types.ModuleType("IPython")
    python.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    fit(epochs=2)
    assert any("<progress" in text and "samples/s" in text for text in shown)
    assert "<progress" not in shown[-1]
    assert shown[-1].count("epoch ") == 2


def test_a_redrawing_is_due_when_it_costs_a_quarter_of_a_hundredth():
    class Slow:
        def draw(self, *_):
            calls.append(1)
            now[0] += 0.5

    calls, now = [], [0.0]
    bar = Progress(1, 1000, on=True, stream=Terminal())
    bar.display, bar.live = Slow(), True
    run = types.SimpleNamespace(epoch=1, batch=1, inputs=an.ones((8, 2)), metrics={"loss": 1.0})
    import anynet.train.progress as module

    real = module.time
    module.time = types.SimpleNamespace(perf_counter=lambda: now[0])
    try:
        for _ in range(4000):
            now[0] += 0.1
            bar.batch(run)
    finally:
        module.time = real
    assert len(calls) == 2  # 400 s of work, half a second each


# ----- tables for notebooks -----


def test_a_history_as_table_and_columns():
    history = fit(epochs=3, val=(X, Y), progress=False)
    assert history.to_dict()["loss"] == history.column("loss")
    table = history._repr_html_()
    assert table.count("<tr>") == 4
    assert "★" in table
    assert "&lt;" in train.History([{"<b>": 1.0}])._repr_html_()
    with pytest.raises(AttributeError, match=r"history.column\('loss'\)"):
        history.history  # noqa: B018
    with pytest.raises(KeyError, match="did you mean 'loss'"):
        history.column("los")


def test_a_history_is_plotted():
    needs("matplotlib", "plot").use("Agg")
    history = fit(epochs=3, val=(X, Y), metrics=["accuracy"], progress=False)
    ax = history.plot()
    assert [artist.get_label() for artist in ax.lines] == ["loss", "val_loss"]
    assert list(ax.lines[1].get_ydata()) == history.column("val_loss")
    assert history.plot("accuracy", ax=ax) is ax
    with pytest.raises(KeyError, match="accuracy"):
        history.plot("acuracy")
    needs("matplotlib.pyplot", "plot").close("all")


def test_tensors_modules_and_profiles_as_tables():
    assert an.asarray([[1.0, 2.5]])._repr_html_().endswith("<tr><td>1</td><td>2.5</td></tr></tbody></table>")
    assert "Tensor (2, 2, 2), float32, cpu" in an.ones((2, 2, 2))._repr_html_()
    x = an.asarray([1.0, 2.0], requires_grad=True)
    assert "requires a gradient" in x._repr_html_()
    assert "from " in (x * 2)._repr_html_()
    assert an.zeros((0, 3))._repr_html_()
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert "<td>0: Linear</td>" in net._repr_html_()
    table = net.summary((5, 4))
    assert "(5, 3)" in table._repr_html_()
    assert repr(table) == str(table)
    with an.profile() as p:
        net(an.ones((2, 4)))
    assert "linear" in p._repr_html_()
    assert repr(p) == p.table()


@pytest.mark.parametrize("name", ["fit", "compile", "predict", "evaluate", "save", "layers"])
def test_habits_of_keras_are_answered(name):
    class Net(nn.Module):
        def forward(self, x):
            return x

    for net in (Net(), nn.Linear(2, 2), nn.Sequential(nn.ReLU())):
        assert not hasattr(net, name)
        assert name not in dir(net)
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; .*(anynet\.|net\.)"):
            getattr(net, name)
        if not isinstance(net, nn.Sequential):
            setattr(net, name, nn.ReLU())
            assert isinstance(getattr(net, name), nn.ReLU)
            assert name in dir(net)
            assert name in dict(net.named_children())
