"""The chain rule with numbers: the table has them all, they are right, and what is wrong is marked."""

from __future__ import annotations

import json
import math

import pytest

import anynet as an
from anynet import nn
from anynet.explanations import ExplanationError, FormulaError


def gradients(found: an.explanations.Explanation) -> dict[str, object]:
    return {g["name"]: g["gradient"] for g in found.to_json()["gradients"]}


EXPRESSIONS = [
    ("tanh(w*x+b)", {"w": -2, "x": 1.5, "b": 0}, {"w": 1.5 / math.cosh(3) ** 2, "x": -2 / math.cosh(3) ** 2, "b": 1 / math.cosh(3) ** 2}),
    ("x**3 - 2*x", {"x": 2}, {"x": 10.0}),
    ("sin(x)/x", {"x": 1}, {"x": math.cos(1) - math.sin(1)}),
    ("exp(-x^2/2)", {"x": 0.5}, {"x": -0.5 * math.exp(-0.125)}),
    ("relu(x)", {"x": 0}, {"x": 0.0}),
    ("max(x, y)", {"x": 1, "y": 1}, {"x": 0.5, "y": 0.5}),
    ("log(1 + exp(x))", {"x": 2}, {"x": 1 / (1 + math.exp(-2))}),
    ("sum(x**2)", {"x": [1, 2, 3]}, {"x": [2.0, 4.0, 6.0]}),
    ("mean((w*x - t)**2)", {"w": 2, "x": "1,2", "t": [2, 3]}, {"w": 2.0, "x": [0.0, 2.0], "t": [0.0, -1.0]}),
    ("where(x > 0, x, 0.1*x)", {"x": -1}, {"x": 0.1}),
    ("x**y", {"x": 2, "y": 3}, {"x": 12.0, "y": 8 * math.log(2)}),
    ("atan2(y, x)", {"x": 1, "y": 2}, {"x": -0.4, "y": 0.2}),
    ("sqrt(x**2 + y**2)", {"x": 3, "y": 4}, {"x": 0.6, "y": 0.8}),
    ("floor(x)*x", {"x": 1.5}, {"x": 1.0}),
    ("x*x*x", {"x": 2}, {"x": 12.0}),
    ("2**x", {"x": 3}, {"x": 8 * math.log(2)}),
    ("norm(x)", {"x": [3, 4]}, {"x": [0.6, 0.8]}),
    ("prod(x)", {"x": [1, 2, 4]}, {"x": [8.0, 4.0, 2.0]}),
    ("sum(tanh(A @ v)) * 0 + sum(A @ v)", {"A": [[1, 2], [3, 4]], "v": [1, 1]}, {"v": [4.0, 6.0]}),
    ("log(x)", {"x": 1e-8}, {"x": 1e8}),
    ("an.sin(x)", {"x": 0}, {"x": 1.0}),
    ("sum(x*[1, 2])", {"x": [1, 1]}, {"x": [1.0, 2.0]}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "values", "expected"), EXPRESSIONS, ids=[e[0] for e in EXPRESSIONS])
def test_expressions_have_the_gradients_of_the_textbook(source, values, expected) -> None:
    found = an.explain(source, **values)
    assert found.ok, str(found)
    got = gradients(found)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-12, abs=1e-14)
    checks = [i for o in found.to_json()["operations"] for i in o["inputs"]]
    assert all(i["autograd"]["ok"] is not False and i["difference"]["ok"] is not False for i in checks)
    assert all(len(line) <= 80 for line in str(found).splitlines())
    json.dumps(found.to_json())
    assert "<math>" in found.to_html()
    assert "http" not in found.to_html()
    assert r"\frac{\partial" in found.to_latex()


@pytest.mark.parametrize(
    "name", ["elu", "selu", "leaky_relu", "sigmoid", "logsigmoid", "silu", "softplus", "softsign", "gelu", "mish", "tanhshrink", "hardtanh",
             "hardsigmoid", "hardswish", "erf", "erfc", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "atanh", "log1p", "expm1",
             "log2", "log10", "cbrt", "logit", "ndtr"],
)  # fmt: skip
def test_formulas_of_functions_agree_with_their_rules(name: str) -> None:
    for x in (0.3, 0.8):
        found = an.explain(f"{name}(x)", x=x)
        assert found.ok
        for operation in found.to_json()["operations"]:
            for term in operation["inputs"]:
                assert term["rule"] is not None, operation
                assert term["difference"]["ok"]


@pytest.mark.parametrize(
    ("source", "values", "words"),
    [
        ("__import__('os').system('ls')", {}, "a formula holds"),
        ("x.__class__", {"x": 1}, "has no value in a formula"),
        ("(lambda: 1)()", {}, "a formula holds"),
        ("[y for y in x]", {"x": 1}, "a formula holds"),
        ("open('f')", {"f": 1}, "no variable f"),
        ("open(x)", {"x": 1}, "no function 'open'"),
        ("thanh(x)", {"x": 1}, "did you mean 'tanh'"),
        ("w*x", {"w": 1}, "needs a value for x: give x=1"),
        ("x", {"x": 1, "z": 2}, "has no variable z"),
        ("10**10**10*x", {"x": 1}, "exponent"),
        ("1/0*x", {"x": 1}, "division by zero"),
        ("x+", {"x": 1}, "is no formula"),
        ("x > 0", {"x": 1}, "does not depend on x"),
        ("2*3", {}, "no variable to differentiate"),
        ("x*2", {"x": "a"}, "x='a' is no number or array"),
        ("(" * 300 + "x" + ")" * 300, {"x": 1}, "is no formula"),
        ("x if x > 0 else 1", {"x": 1}, "use where"),
    ],
)
def test_what_is_no_expression_is_refused(source, values, words) -> None:
    with pytest.raises(FormulaError, match=words.replace("(", r"\(")):
        an.explain(source, **values)
    with pytest.raises(ExplanationError, match=r"sum\(x\*2\)"):
        an.explain("x*2", x=[1, 2])


def test_a_graph_has_names_values_and_sums_of_uses() -> None:
    w, x = an.asarray(-2.0, requires_grad=True), an.asarray(1.5, requires_grad=True)
    u = w * x + 1.0
    loss = an.tanh(u) ** 2 + w * w
    found = an.explain(loss)
    data = found.to_json()
    assert found.ok
    assert data["loss"] == "loss"
    assert "u" in [o["name"] for o in data["operations"]]
    s = 2 * math.tanh(-2) * (1 - math.tanh(-2) ** 2)
    assert gradients(found) == pytest.approx({"w": 1.5 * s - 4, "x": -2 * s})
    assert [g["uses"] for g in data["gradients"]] == [3, 1]
    assert " + (−2) + (−2) = " in str(found)
    assert w.grad is None
    loss.backward()  # the graph is as it was
    assert w.grad.item() == pytest.approx(1.5 * s - 4, rel=1e-6)


slope = an.asarray(2.0, requires_grad=True)


def test_names_are_found_outside_of_the_function() -> None:
    factor = an.asarray(3.0, requires_grad=True)
    product = slope * factor
    text = str(an.explain(product))
    assert "∂product/∂slope = 3" in text


def test_names_are_given_or_found_in_containers_and_modules() -> None:
    params = {"a": an.asarray(1.0, requires_grad=True)}
    listed = [an.asarray(2.0, requires_grad=True)]
    net = nn.Linear(1, 1)
    y = an.sum(net(an.ones((1, 1)))) * params["a"] * listed[0]
    assert {g["name"] for g in an.explain(y).to_json()["gradients"]} == {
        "net.weight",
        "net.bias",
        "params['a']",
        "listed[0]",
    }
    named = an.explain(y, names={"alpha": params["a"]})
    assert "alpha" in {g["name"] for g in named.to_json()["gradients"]}
    with pytest.raises(TypeError, match="names must be"):
        an.explain(y, names=[1])


DROP = (nn.Dropout(0.5),)
NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (5, 3)),
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *DROP, nn.Linear(8, 2)),
        (5, 1, 6, 6),
    ),
    "norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)), (5, 3)),
    "pool": (lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.AvgPool1d(2), nn.Flatten(), nn.Softplus(), nn.Linear(6, 2)), (5, 2, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_of_networks(name: str) -> None:
    make, shape = NETWORKS[name]
    an.random.manual_seed(3)
    net = make()
    x, y = an.random.normal(shape), an.asarray([0, 1, 1, 0, 1])
    loss = nn.functional.cross_entropy(net(x), y)
    found = an.explain(loss)
    assert found.ok, str(found)
    assert len(found.to_json()["gradients"]) == len(list(net.parameters()))
    loss.backward()
    for (_, p), g in zip(
        net.named_parameters(), sorted(found.to_json()["gradients"], key=lambda g: g["name"]), strict=False
    ):
        assert p.grad is not None
        assert g["autograd"]["ok"]


def test_recurrent_attention_and_fused_graphs() -> None:
    an.random.manual_seed(1)
    lstm = nn.LSTM(2, 3, batch_first=True)
    out, _ = lstm(an.random.normal((2, 3, 2)))
    assert an.explain(an.sum(out * out)).ok
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    x = an.random.normal((2, 3, 4))
    assert an.explain(an.sum(attention(x, x, x)[0] ** 2)).ok
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    data = an.random.normal((4, 2))
    for _ in range(40):  # by now it is one built-in function where there is a compiler
        loss = an.mean(net(data) ** 2)
    found = an.explain(loss)
    assert found.ok
    assert "linear" in [o["operation"] for o in found.to_json()["operations"]]


def test_kinks_and_ends_of_domains_are_said() -> None:
    found = an.explain("relu(x) + abs(y)", x=0, y=0)
    assert found.ok
    marks = [i["difference"] for o in found.to_json()["operations"] for i in o["inputs"]]
    assert sum("a kink: " in m.get("note", "") for m in marks) == 2
    assert "0 from the left, 1 from the right" in str(found)
    root = an.explain("sqrt(x)", x=0)
    assert gradients(root) == {"x": "inf"}
    assert root.ok


def test_second_order_in_place_broadcasting_and_constants() -> None:
    x = an.asarray([0.5, 1.0], requires_grad=True)
    g = an.grad(lambda v: an.sum(v**3))(x)
    second = an.sum(g * x)
    assert an.explain(second).ok if second.edge is not None else True
    bias = an.asarray([[1.0], [2.0], [3.0]], requires_grad=True)
    shift = an.asarray([1.0, 2.0])
    y = an.zeros((3, 2)) + bias
    y[0] = x * 2.0
    loss = an.sum((y + shift) ** 2)
    found = an.explain(loss)
    assert found.ok, str(found)
    assert "shift = [1, 2]" in str(found)
    assert gradients(found)["bias"] == [[0.0], [14.0], [18.0]]


def test_a_wrong_rule_is_found() -> None:
    from anynet.autograd.primitive import PRIMITIVES, primitive

    @primitive(name="wrong_cube")
    def cube(xp, v):
        return v * v * v

    try:
        cube.vjp(v=lambda g, v: g * 2 * v)
        x = an.asarray(1.5, requires_grad=True)
        found = an.explain(cube(x))
        assert not found.ok
        assert "✗" in str(found)
    finally:
        del PRIMITIVES["wrong_cube"]


def test_rules_of_ones_own_are_said_to_be_so() -> None:
    @an.custom_vjp
    def clipped(v):
        return v * 1.0

    clipped.defvjp(lambda v: (v * 1.0, None), lambda _, g: (an.clip(g, -0.1, 0.1),))
    x = an.asarray(2.0, requires_grad=True)
    y = clipped(x)
    found = an.explain(y * 3.0)
    assert found.ok
    assert gradients(found) == {"x": pytest.approx(0.1)}
    assert "a gradient rule of its own" in str(found)


def test_what_has_no_chain_rule_is_refused() -> None:
    x = an.asarray([1.0, 2.0], requires_grad=True)
    with pytest.raises(ExplanationError, match="requires_grad=True"):
        an.explain(an.asarray(1.0))
    with pytest.raises(ExplanationError, match=r"begins at one number, got shape \(2,\)"):
        an.explain(x * 2)
    loss = an.sum(x * x)
    loss.backward()
    with pytest.raises(ExplanationError, match="retain_graph=True"):
        an.explain(loss)
    p = an.Parameter([1.0])
    kept = an.sum(p * p)
    p.assign_(an.asarray([2.0]))
    with pytest.raises(an.GradientError, match="overwritten"):
        an.explain(kept)
    with pytest.raises(TypeError, match="explain takes"):
        an.explain(3)
    with pytest.raises(ValueError, match="digits must be"):
        an.explain("x", x=1, digits=0)
    with pytest.raises(TypeError, match="given by name"):
        an.explain("x", 1)


def test_functions_and_files(tmp_path) -> None:
    found = an.explain(lambda a, b: an.sum(a * b), an.asarray([1.0, 2.0]), an.asarray([3.0, 4.0]))
    assert gradients(found) == {"a": [3.0, 4.0], "b": [1.0, 2.0]}
    for ending in ("html", "tex", "json", "txt"):
        found.save(tmp_path / f"e.{ending}")
        assert (tmp_path / f"e.{ending}").stat().st_size > 500
    with pytest.raises(ValueError, match="must end in"):
        found.save(tmp_path / "e.pdf")
    assert "an-explanation" in found._repr_html_()


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_on_devices(device: str) -> None:
    if device == "strict":
        pytest.importorskip("array_api_strict")
    x = an.asarray([[0.5, -1.0]], requires_grad=True, device=device)
    w = an.asarray([[1.0, 2.0], [0.5, 1.0]], requires_grad=True, device=device)
    assert an.explain(an.sum(an.tanh(x @ w.mT) * 2.0)).ok


def test_command(capsys, tmp_path) -> None:
    from anynet.cli import main

    assert main(["explain", "tanh(w*x+b)", "w=-2", "x=1.5", "b=0"]) == 0
    assert "∂y/∂u₂ = 1 − y² = 0.00986604  ✓ ✓" in capsys.readouterr().out
    assert main(["explain", "-x**2", "x=3", "json=1"]) == 0
    assert json.loads(capsys.readouterr().out)["gradients"][0]["gradient"] == -6.0
    assert main(["explain", "sum(A@v)", "A=[[1,2],[3,4]]", "v=1,2", f"out={tmp_path / 'e.html'}"]) == 0
    assert "<math>" in (tmp_path / "e.html").read_text()
    assert main(["explain", "w*x", "w=1"]) == 1
    assert "needs a value for x" in capsys.readouterr().err
    assert main(["explain"]) == 2


def test_an_infinite_value_has_no_difference_to_compare_with() -> None:
    said = str(an.explain("1/x", x=0.0))
    assert "∂y/∂x = −1 / x² = −∞  ✓ –" in said
    assert "do not agree" not in said


SINGULAR = [
    (
        "x**y",
        {"x": 0, "y": 0},
        {"x": 0.0, "y": 0.0},
        ("(NaN); the derivative is 0", "∂L/∂y is not defined here (the formula gives −∞)"),
    ),
    (
        "x**y",
        {"x": 0, "y": 0.5},
        {"y": 0.0},
        ("∂L/∂x is ∞ here: there is no finite derivative", "the derivative is 0"),
    ),
    ("cbrt(x)", {"x": 0}, {}, ("∂y/∂x is ∞ here",)),
    ("sqrt(x)", {"x": 0}, {}, ("∂y/∂x is ∞ here",)),
    ("log(x)", {"x": 0}, {}, ("∂y/∂x is ∞ here",)),
    ("asin(x)", {"x": 1}, {}, ("∂y/∂x is ∞ here",)),
    ("prod(x)", {"x": [0, 2, 3]}, {"x": [6.0, 0.0, 0.0]}, ("(NaN); the derivative is 6",)),
    ("atan2(y, x)", {"x": 0, "y": 0}, {}, ("∂L/∂y is not defined here", "∂L/∂x is not defined here")),
    ("x/abs(x)", {"x": 0}, {}, ("∂y/∂u₁ is NaN here",)),
    ("norm(x)", {"x": [0, 0]}, {}, ("there is no finite derivative",)),
    ("sin(x)/x", {"x": 0}, {}, ("there is no finite derivative",)),
]


@pytest.mark.parametrize(
    ("source", "values", "expected", "said"), SINGULAR, ids=[f"{e[0]} at {e[1]}" for e in SINGULAR]
)
def test_where_a_derivative_is_not_finite_it_is_said_and_nothing_disagrees(
    source, values, expected, said
) -> None:
    found = an.explain(source, **values)
    text = " ".join(str(found).split())
    assert found.ok, str(found)
    assert "✗" not in text
    assert all(words in text for words in said), str(found)
    for name, value in expected.items():
        assert gradients(found)[name] == pytest.approx(value, abs=1e-14)


def test_the_empty_text_is_refused() -> None:
    with pytest.raises(ExplanationError, match="the text is empty; give an expression"):
        an.explain("  ")
    with pytest.raises(FormulaError, match="is no formula: invalid syntax at its end"):
        an.explain("x +", x=1)
