"""Each public layer, function, initializer and optimizer is compared with its equation when it is explained, or it is known why not."""

import inspect

import pytest

import anynet as an
from anynet import nn, optim
from anynet.explanations import ExplanationError, objects
from anynet.explanations.draws import drawn_checks
from anynet.explanations.examples import example_calls

F = nn.functional

PUBLIC = {
    **{f"nn.{n}": c for n, c in vars(nn).items() if inspect.isclass(c) and issubclass(c, nn.Module)},
    **{f"F.{n}": f for n, f in vars(F).items() if inspect.isfunction(f) and not n.startswith("_")},
    **{f"nn.init.{n}": getattr(nn.init, n) for n in nn.init.__all__},
    **{f"optim.{n}": c for n, c in vars(optim).items() if inspect.isclass(c)},
}
UNCHECKED = {
    "its equation needs the children's states, or what was drawn, which a call does not tell": {
        "nn.NCELoss", "nn.NegativeSampling", "nn.ChildSumTreeLSTM", "nn.NaryTreeLSTM",
    },
    "its result lies otherwise than the equation's": {"F.pdist", "F.triplet_margin_with_distance_loss"},
    "it has no equation": {"nn.AdaptiveLogSoftmaxWithLoss", "nn.Sequential", "nn.TimeDistributed", "optim.LBFGS", "optim.Optimizer",
                           "optim.ZeroRedundancyOptimizer"},
    "a step of it is not that of one gradient": {"optim.MultiSteps", "optim.SAM", "optim.Muon"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["nn", "F", "nn.init", "optim"])
def test_numbers_are_those_of_the_equation(kind):
    unchecked, wrong = set(), {}
    for name, thing in PUBLIC.items():
        if name.rpartition(".")[0] != kind:
            continue
        try:
            found = an.explain(thing).to_json()
        except ExplanationError:
            continue
        wrong |= {f"{name}, {c['what']}": c for c in found["checks"] if c["ok"] is False}
        said = {c["what"]: c["ok"] for c in found["checks"] if "equation" in c["what"]}
        if not said:
            unchecked.add(name)
    assert not wrong
    expected = set().union(*UNCHECKED.values())
    assert unchecked == {name for name in expected if name.rpartition(".")[0] == kind}


@pytest.mark.parametrize("thing", [nn.LSTM, nn.GRU, nn.RNNCell, nn.Conv2d, F.gelu])
def test_equation_gradient_shapes_source_and_check(thing):
    found = an.explain(thing).to_json()
    assert found["equation"]
    assert found["gradient"]
    assert found["shapes"]
    assert found["source"]
    assert {"gradients by autograd = central differences, float64", "the code = the equation, float64"} <= {
        c["what"] for c in found["checks"] if c["ok"]
    }


def test_without_lines_for_the_gradient_that_is_said():
    assert "by the chain rule" in str(an.explain(nn.MaxPool2d))


def test_a_wrong_equation_is_found():
    wrong = an.equations.read("y = a * x + 1", where="x = input; a")

    def scaled(input, a=1.0):
        return a * input

    x = an.asarray([1.0, 2.0])
    check = objects._equated(scaled, wrong, [x], [scaled(x, a=3.0)], {"a": 3.0})
    assert check.ok is False
    right = an.equations.read("y = a * x", where="x = input; a")
    assert objects._equated(scaled, right, [x], [scaled(x, a=3.0)], {"a": 3.0}).ok


def test_a_wrong_distribution_is_found():
    @an.equations.equation("W ~ Uniform(-a, a)", where="W = tensor; a = 1")
    def wide(tensor, a=1.0):
        return nn.init.uniform_(tensor, -1.5 * a, 1.5 * a)

    [(what, check)] = drawn_checks(wide, an.equations.of(wide))
    assert what == "what is drawn is distributed as the equation says"
    assert check.ok is False
    assert drawn_checks(nn.init.xavier_uniform_, an.equations.of(nn.init.xavier_uniform_))[0][1].ok


def test_the_examples_calls_are_found_in_double():
    [call] = example_calls(F.gelu)[:1]
    assert call.function is F.gelu
    assert [x.dtype for x in call.in_double().slopes()] == [an.float64]
    state = an.random.get_state()
    example_calls(nn.Dropout)
    assert an.random.get_state() == state
