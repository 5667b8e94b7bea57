"""Layers, functions, optimizers, models: equation, gradient, source, checks; what cannot be explained is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.cli import main
from anynet.explanations import ExplanationError, objects
from anynet.testing.cases import Case

F = nn.functional


@pytest.mark.parametrize(
    "thing", [nn.Linear, nn.LSTMCell, nn.Conv2d, nn.CrossEntropyLoss, F.gelu, F.softmax, F.mse_loss, an.tanh, an.matmul, an.sum, nn.ReLU()],
    ids=str,
)  # fmt: skip
def test_objects_have_formula_source_and_checks(thing) -> None:
    found = an.explain(thing)
    data = found.to_json()
    assert found.ok
    assert data["checks"]
    assert all(c["ok"] for c in data["checks"])
    assert any("anynet/" in line for line in data["source"])
    assert data["summary"] in " ".join(found.to_json()["summary"].split())
    assert "Checks" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80
    assert "</div>" in found.to_html()
    assert r"\section*" in found.to_latex()


@pytest.mark.parametrize("thing", [F.softmax, nn.Upsample, nn.Conv2d])
def test_code_is_compared_with_the_equation(thing) -> None:
    """Also where the number of axes is that of the input."""
    assert "the code = the equation, float64" in {c["what"] for c in an.explain(thing).to_json()["checks"]}


def test_equations_are_those_of_the_library() -> None:
    found = an.explain(F.softmax)
    assert found.to_json()["equation"] == an.equations.of(F.softmax).text()
    assert found.to_json()["gradient"] == an.equations.of(F.softmax).text("gradient")
    assert an.equations.of(F.softmax).mathml() in found.to_html()
    assert {c["what"] for c in found.to_json()["checks"]} >= {"the code = the equation, float64"}
    assert an.explain(an.tanh).to_json()["gradient"] == "∂y/∂x = 1 − y²"


def test_optimizers_and_names() -> None:
    found = an.explain(an.optim.SGD)
    assert found.ok
    assert "Polyak 1964" in found.to_json()["source"]
    assert an.explain("nn.GELU").title == an.explain(nn.GELU).title
    assert an.explain("F.relu").ok
    with pytest.raises(ExplanationError, match="did you mean LSTM"):
        an.explain("Lstm")
    with pytest.raises(ExplanationError, match="there are nn, F, init, optim"):
        an.explain("foo.bar")
    with pytest.raises(ExplanationError, match="has no equation"):
        an.explain(an.fit)
    with pytest.raises(ValueError, match=r"tanh is a function: tanh\(…\)"):
        an.explain("tanh", x=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nn.lstm", r"did you mean nn.LSTM\?"),  # not nn.tree_lstm, a module
        ("nn", "'nn' holds layers or functions: give one of them, such as nn\\."),
        ("an.F", "'an.F' holds layers or functions"),
        (
            "optim.lr_scheduler.OneCycleLR",
            "optim.lr_scheduler.OneCycleLR has no equation; its phases are a table",
        ),
        ("nn.init.orthogonal_", "nn.init.orthogonal_ has no equation; it is the Q of a QR decomposition"),
    ],
)
def test_names_that_cannot_be_explained(name, said) -> None:
    with pytest.raises(ExplanationError, match=said):
        an.explain(name)


class Reused(nn.Module):
    def __init__(self) -> None:
        self.a, self.b = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x: an.Tensor) -> an.Tensor:
        return self.b(F.relu(self.b(self.a(x))))


def networks() -> dict[str, tuple[nn.Module, tuple[object, ...], str | None]]:
    an.random.manual_seed(0)
    images, classes = an.random.normal((4, 1, 6, 6)), an.asarray([0, 1, 2, 0])
    rows = an.random.normal((4, 3))
    return {
        "mlp": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)), (rows, classes), "cross_entropy"),
        "conv": (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
            (images, classes),
            "cross_entropy",
        ),
        "lstm": (nn.LSTM(3, 2), (an.random.normal((4, 1, 3)),), None),
        "attention": (nn.TransformerEncoderLayer(4, 2, 8), (an.random.normal((3, 2, 4)),), None),
        "reused": (Reused(), (an.asarray([1, 2]), an.zeros((2, 3))), "mse"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mlp", "conv", "lstm", "attention", "reused"])
def test_models_layer_by_layer(name: str) -> None:
    model, batch, loss = networks()[name]
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    drawn = an.random.get_state()
    found = an.explain(model, *batch, loss=loss)
    data = found.to_json()
    assert found.ok, str(found)
    assert {p["name"] for p in data["parameters"]} == {n for n, _ in model.named_parameters()}
    assert all(p["check"]["ok"] is not False for p in data["parameters"])
    assert all(
        (v.numpy() == before[k]).all() for k, v in model.state_dict().items()
    )  # also the running statistics
    assert an.random.get_state() == drawn
    assert all(p.grad is None for p in model.parameters())
    assert all(p.dtype == an.float32 for p in model.parameters())
    assert max(map(len, str(found).splitlines())) <= 82
    json.dumps(data)
    found.to_html()
    found.to_latex()
    if loss is not None and name != "mlp":  # the same gradients as a step in float32
        value = (
            an.losses.cross_entropy(model(batch[0]), batch[1])
            if loss == "cross_entropy"
            else an.losses.mse_loss(model(batch[0]), batch[1])
        )
        value.backward()
        for p, row in zip(model.parameters(), data["parameters"], strict=True):
            assert abs(p.grad.numpy() - row["gradient"]).max() < 1e-5


def test_a_wrong_layer_is_found() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter([2.0])

        def forward(self, x: an.Tensor) -> an.Tensor:
            return an.tanh(x * self.weight) + (x * self.weight).detach()

    found = an.explain(nn.Sequential(nn.Linear(1, 1), Wrong()), an.ones((2, 1)))
    assert not found.ok
    assert "✗" in str(found)


def test_what_a_model_needs_is_said() -> None:
    net, x = nn.Linear(2, 1), an.ones((1, 2))
    with pytest.raises(ExplanationError, match="give loss="):
        an.explain(net, x, x)
    q = an.random.normal((2, 1, 4))
    assert an.explain(nn.MultiheadAttention(4, 2), q, q, q).ok  # three inputs
    with pytest.raises(ExplanationError, match="needs targets"):
        an.explain(net, x, loss="mse")
    with pytest.raises(ValueError, match="loss"):
        an.explain(net, x, an.ones((1, 1)), loss="nonsense")
    assert an.explain(net).title.startswith("nn.Linear")
    with pytest.raises(TypeError, match="explained on a batch"):
        an.explain(nn.Sequential(net, nn.Tanh()))  # its own layers, not those of an example


def test_the_loss_is_shown_with_its_equation() -> None:
    found = an.explain(nn.Linear(2, 3), an.ones((1, 2)), an.asarray([1]), loss="cross_entropy")
    assert "L: cross_entropy" in str(found)
    assert found.to_json()["gradient"] == an.equations.of(F.cross_entropy).text("gradient")
    found = an.explain(
        nn.Linear(2, 1), an.ones((1, 2)), an.ones((1, 1)), loss=lambda y, t: an.sum((y - t) ** 2)
    )
    assert "equation" not in found.to_json()


def test_command_for_objects_and_runs(tmp_path, capsys) -> None:
    assert main(["explain", "nn.Linear"]) == 0
    assert "Σ_j" in capsys.readouterr().out
    assert main(["explain", "nn.Liner"]) == 1
    assert "did you mean nn.Linear" in capsys.readouterr().err
    run = str(tmp_path / "run")
    assert main(["train", "iris", "epochs=1", "hidden=8", f"run_dir={run}", "quiet=1"]) == 0
    capsys.readouterr()
    assert main(["explain", run, "sample=2", "json=1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "model"
    assert data["ok"]
    assert main(["explain", f"{run}s"]) == 1
    assert "there is no run at" in capsys.readouterr().err
    assert main(["explain", run, "sample=9999"]) == 1
    assert "sample must be in [0, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "BatchNorm2d",
        "LayerNorm",
        "CReLU",
        "DiceLoss",
        "HingeEmbeddingLoss",
        "Unflatten",
        "GRUCell",
        "Dropout",
        "Embedding",
    ],
)
def test_no_false_alarms(name: str) -> None:
    found = an.explain(getattr(nn, name))
    assert found.ok, str(found)
    assert max(map(len, str(found).splitlines())) <= 80


def test_five_steps_of_an_optimizer_are_those_of_its_equation() -> None:
    for name in ("Adam", "RMSprop"):
        checks = an.explain(getattr(an.optim, name)).to_json()["checks"]
        assert checks[0] == {
            "what": "five steps of the code = the equation, float64",
            "ok": True,
            "note": "60 numbers",
        }


def test_many_slopes_are_checked_along_directions() -> None:
    """Of a network: seconds, and one wrong number among hundreds is found."""
    rng = np.random.default_rng(0)
    inputs = [an.asarray(rng.normal(size=shape), requires_grad=True) for shape in ((20, 12), (3,))]
    scale = an.asarray(rng.normal(size=(20, 12)))

    def right(x, y):
        return an.sum(scale * an.tanh(x)) * an.sum(y * y)

    def wrong(x, y):
        one = an.asarray([[0.1 * (i == j == 7) for j in range(12)] for i in range(20)], dtype="float64")
        return right(x, y) + an.sum(one * (x - x.detach()))

    checks = [
        objects._gradchecked(Case("of 243 slopes", f, ((20, 12), (3,))), inputs) for f in (right, wrong)
    ]
    assert checks[0].ok is True
    assert checks[0].note == "243 slopes, along a random direction of each argument, arguments 20×12, 3"
    assert checks[1].ok is False
    assert "wrong gradient of input 0" in checks[1].note


def test_a_network_of_a_file_on_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(
        "from anynet import nn\n"
        "net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))\n"
        "def words(): return nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))\n"
        "def whole(): return nn.Linear(2, 1), [[1.0, 2.0]]\n"
        "class Two(nn.Module):\n"
        "    def __init__(self): self.a, self.b = nn.Linear(2, 1), nn.Linear(3, 1)\n"
        "    def forward(self, x, y): return self.a(x) + self.b(y)\n"
    )
    monkeypatch.chdir(tmp_path)
    shown = []
    for words in (
        ["net.py:net", "x=[[1,2]]", "y=[[1]]", "loss=mse"],
        ["net.py:net", "x=[[1,2]]", "y=[[1]]", "loss=mse"],
        ["net.py:words", "x=[1,2]", "y=[0,1]", "loss=cross_entropy"],
        ["net.py:whole"],
        ["net.py:Two", "x=[[1,2]]", "y=[[1,2,3]]", "t=[[1]]", "loss=mse"],
        ["net.py:Two", "t=[[1]]", "y=[[1,2,3]]", "x=[[1,2]]", "loss=mse"],
    ):
        assert main(["explain", *words]) == 0
        shown.append(capsys.readouterr().out)
    assert "0: Linear(in_features=2, out_features=3, bias=True)" in shown[0]
    assert "checks agree" in shown[0]
    assert shown[0] == shown[1]
    assert shown[4] == shown[5]
    for words, code, message in (
        (["net.py:net"], 2, "net.py:net needs inputs: x="),
        (["net.py:nett"], 2, "net.py has no nett"),
        (["no.py:net", "x=1"], 2, "there is no file no.py"),
        (["net.py:net", "x=[[1,2]]", "loss=mse"], 1, "loss= needs targets"),
        (["net.py:net", "x=[[1,2]]", "y=[[1]]", "loss=ms"], 1, "unknown loss 'ms'"),
        (["net.py:Two", "x=[[1,2]]", "z=[[1,2,3]]"], 2, "forward takes x, y; got x, z"),
        (
            ["net.py:Two", "y=[[1,2,3]]", "z=[[1]]", "loss=mse"],
            2,
            "forward takes x, y, and a target under another name; got y, z",
        ),
    ):
        assert main(["explain", *words]) == code
        assert message in capsys.readouterr().err
