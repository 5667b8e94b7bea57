"""Formulas: truth tables by Python, weighted counts by enumeration, gradients by differences, the closed form of exactly one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import anynet as an
from anynet import methods

rng = np.random.default_rng(0)

FORMULAS = {
    "a & b | ~c": lambda a, b, c: (a and b) or not c,
    "a -> b -> c": lambda a, b, c: not a or (not b or c),
    "a <-> b ^ c": lambda a, b, c: a == (b != c),
    "not (a or b) => c and true": lambda a, b, c: (a or b) or c,
    "exactly_one(a, b & c, ~b)": lambda a, b, c: a + (b and c) + (not b) == 1,
    "at_most_one(a, b, c) | (a & b & c)": lambda a, b, c: a + b + c in (0, 1, 3),
    "at_least_one(a, b) & !c": lambda a, b, c: (a or b) and not c,
    "¬a ∧ (b ∨ c) ⊕ a": lambda a, b, c: (not a and (b or c)) != a,
    "a ∨ ¬a ∨ b ∨ c": lambda a, b, c: True,
}


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_and_counts(text: str) -> None:
    formula, truth = methods.Formula(text), FORMULAS[text]
    circuit = formula.compile(["a", "b", "c", "unused"])
    rows = list(itertools.product([False, True], repeat=4))
    models = [r for r in rows if truth(*r[:3])]
    assert [r for r in rows if formula(a=r[0], b=r[1], c=r[2])] == models
    assert methods.Formula(repr(formula)[9:-2])(a=True, b=False, c=True) == truth(True, False, True)
    assert circuit.count() == len(models)
    p = rng.uniform(0.1, 0.9, (2, 4))
    expected = [
        sum(math.prod(q if v else 1 - q for q, v in zip(row, r, strict=True)) for r in models) for row in p
    ]
    np.testing.assert_allclose(circuit.probability(an.asarray(p)).tolist(), expected, rtol=1e-12)
    w = rng.uniform(0.5, 3.0, (2, 4))  # weights that do not sum to 1
    expected = [sum(math.prod(t if v else f for t, f, v in zip(w[0], w[1], r, strict=True)) for r in models)]
    found = circuit.log_count(an.asarray(np.log(w[:1])), an.asarray(np.log(w[1:])))
    np.testing.assert_allclose(np.exp(found.tolist()), expected, rtol=1e-12)


def test_the_loss_and_its_gradient(xp_device: str) -> None:
    z = rng.normal(size=(3, 4))
    text = "(a -> b) & (c ^ d)"
    p = 1 / (1 + np.exp(-z))
    total = 0.0
    for r in itertools.product([False, True], repeat=4):
        if (not r[0] or r[1]) and r[2] != r[3]:
            total = total + np.prod(np.where(r, p, 1 - p), axis=1)
    logits = an.asarray(z, device=xp_device, requires_grad=True)
    losses = methods.semantic_loss(text, logits, reduction="none")
    np.testing.assert_allclose(losses.tolist(), -np.log(total), rtol=1e-12)
    loss = methods.SemanticLoss(text)(logits)
    assert loss.device == logits.device
    assert abs(loss.item() - -np.log(total).mean()) < 1e-12
    assert an.gradcheck(methods.SemanticLoss(text), [logits])


def test_exactly_one_is_its_closed_form(xp_device: str) -> None:
    z = an.asarray(rng.normal(size=(5, 10)) * 4, device=xp_device, requires_grad=True)
    names = ", ".join(f"x{i}" for i in range(10))
    by_circuit = methods.semantic_loss(f"exactly_one({names})", z, reduction="none")
    closed = methods.exactly_one_loss(z, reduction="none")
    np.testing.assert_allclose(by_circuit.tolist(), closed.tolist(), rtol=1e-12)
    gradients = []
    for loss in (by_circuit, closed):
        z.grad = None
        an.sum(loss).backward()
        gradients.append(z.grad.tolist())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-14)


def test_extreme_logits_stay_finite() -> None:
    z = an.asarray([[800.0, -800.0, -800.0], [800.0, 800.0, -800.0]], dtype=an.float64, requires_grad=True)
    losses = methods.semantic_loss("exactly_one(a, b, c)", z, reduction="none")
    assert losses.tolist() == [0.0, 800.0 - math.log(2)]
    an.sum(losses).backward()
    assert bool(an.all(an.isfinite(z.grad)))


def test_diagrams_stay_small() -> None:
    names = [f"x{i}" for i in range(1500)]  # deeper than Python's stack
    circuit = methods.Circuit(f"exactly_one({', '.join(names)})")
    assert circuit.size == 2 * 1500 - 1
    assert circuit.count() == 1500
    parity = methods.Circuit(" ^ ".join(names[:300]))
    assert parity.size == 2 * 300 - 1
    assert parity.count() == 2**299


def test_formulas_made_in_python() -> None:
    a, b = methods.Formula("a"), methods.Formula("b")
    for made, text in [
        (a & b, "a & b"),
        (a | ~b, "a | ~b"),
        (a ^ b, "a ^ b"),
        (a >> b, "a -> b"),
        (a & "c", "a & c"),
    ]:
        names = made.variables
        for r in itertools.product([False, True], repeat=2):
            values = dict(zip(names, r, strict=True))
            assert made(**values) == methods.Formula(text)(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a &", "expected a variable, 'not' or '\\(', got 'the end' at position 3"),
        ("a b", "expected an operator or the end, got 'b' at position 2"),
        ("(a | b", "'\\)' is missing at position 6"),
        ("a $ b", "unknown sign '\\$' at position 2"),
        ("exactly_on(a, b)", "unknown function 'exactly_on'.*exactly_one"),
        ("", "got 'the end' at position 0"),
    ],
)
def test_what_is_no_formula(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.Formula(text)


def test_propositional_refusals() -> None:
    with pytest.raises(ValueError, match="no assignment satisfies the formula"):
        methods.SemanticLoss("a & ~a")
    with pytest.raises(ValueError, match="the formula has b, which is not among the variables a"):
        methods.Circuit("a & b", ["a"])
    with pytest.raises(ValueError, match=r"shape \(…, 2\), a column for each of a, b, got \(1, 3\)"):
        methods.semantic_loss("a & b", an.zeros((1, 3)))
    with pytest.raises(ValueError, match="more than max_nodes=4 decisions"):
        methods.Circuit("a & b | c & d", max_nodes=4)
    with pytest.raises(ValueError, match="no value for b"):
        methods.Formula("a & b")(a=True)
    with pytest.raises(ValueError, match="reduction must be"):
        methods.exactly_one_loss(an.zeros((1, 2)), "max")
