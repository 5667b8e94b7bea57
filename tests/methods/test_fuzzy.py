"""Fuzzy logic by its laws, and the distribution of sums by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import anynet as an
from anynet import methods

rng = np.random.default_rng(0)
NORMS = ("godel", "product", "lukasiewicz")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("implication", ["residuum", "strong"])
def test_connectives_are_logic_at_the_corners(norm: str, implication: str) -> None:
    logic = methods.FuzzyLogic(norm, implication)
    for text in ("a & b | ~c", "a -> b", "a <-> b", "a ^ b", "exactly_one(a, b, c)", "at_most_one(a, b, c)"):
        formula = methods.Formula(text)
        for r in itertools.product([0.0, 1.0], repeat=3):
            values = dict(zip("abc", r, strict=True))
            known = formula(**{k: bool(v) for k, v in values.items()})
            assert logic.truth(formula, **{k: an.asarray(v) for k, v in values.items()}).item() == known


@pytest.mark.parametrize("norm", NORMS)
def test_laws_of_t_norms(norm: str, xp_device: str) -> None:
    logic = methods.FuzzyLogic(norm)
    a, b, c = (an.asarray(v, device=xp_device) for v in rng.uniform(size=(3, 50)))

    def equal(x: an.Tensor, y: an.Tensor) -> None:
        np.testing.assert_allclose(x.tolist(), y.tolist(), atol=1e-12)

    t, s = logic.conjunction, logic.disjunction
    equal(t(a, b), t(b, a))
    equal(t(a, t(b, c)), t(t(a, b), c))
    equal(t(a, an.ones_like(a)), a)
    equal(s(a, b), 1.0 - t(1.0 - a, 1.0 - b))
    assert bool(an.all(t(a, c) <= t(an.maximum(a, b), c) + 1e-12))
    # the residuum: T(a, a → b) ≤ b, and no larger value does
    r = logic.implies(a, b)
    assert bool(an.all(t(a, r) <= b + 1e-12))
    more = r + 1e-6
    assert bool(an.all((more > 1.0) | (t(a, more) > b)))
    parts = an.stack([a, b, c], axis=0)
    equal(logic.forall(parts, axis=0), t(a, b, c))
    equal(logic.exists(parts, axis=0), s(a, b, c))


def test_known_residua() -> None:
    a, b = an.asarray([0.8, 0.2]), an.asarray([0.4, 0.5])
    expected = {"godel": [0.4, 1.0], "product": [0.5, 1.0], "lukasiewicz": [0.6, 1.0]}
    for norm, values in expected.items():
        np.testing.assert_allclose(methods.FuzzyLogic(norm).implies(a, b).tolist(), values, rtol=1e-6)
    x = an.asarray([0.0, 0.5], dtype=an.float64, requires_grad=True)
    an.sum(methods.FuzzyLogic().implies(x, an.asarray([0.0, 0.25], dtype=an.float64))).backward()
    np.testing.assert_allclose(x.grad.tolist(), [0.0, -1.0])  # −b/a², and 0 where a ≤ b


def test_quantifiers_by_means() -> None:
    logic, a = methods.FuzzyLogic(), rng.uniform(size=20)
    np.testing.assert_allclose(logic.exists(an.asarray(a), p=2).item(), (a**2).mean() ** 0.5, rtol=1e-3)
    np.testing.assert_allclose(
        logic.forall(an.asarray(a), p=2).item(), 1 - ((1 - a) ** 2).mean() ** 0.5, rtol=1e-3
    )
    zero = an.zeros(3, dtype=an.float64)
    zero.requires_grad = True
    logic.forall(1.0 - zero, p=2).backward()
    assert bool(an.all(an.isfinite(zero.grad)))


@pytest.mark.parametrize("norm", ["godel", "product", "lukasiewicz"])
@pytest.mark.parametrize("p", [None, 1, 2, 6])
def test_guarded_quantifiers_are_those_of_what_is_left(norm: str, p: float | None) -> None:
    """Row by row the truths that the guard lets through; with none, "all" is true and "one" is false, and gradients stay finite."""
    logic, a = methods.FuzzyLogic(norm), rng.uniform(size=(4, 6))
    guard = rng.uniform(size=(4, 6)) < 0.5
    guard[:3, 0], guard[3] = True, False
    x = an.asarray(a, requires_grad=True)
    for quantifier, empty in ((logic.forall, 1.0), (logic.exists, 0.0)):
        found = quantifier(x, axis=1, p=p, where=an.asarray(guard))
        for i in range(3):
            alone = quantifier(an.asarray(a[i][guard[i]]), p=p)
            np.testing.assert_allclose(found[i].item(), alone.item(), rtol=1e-12)
        assert found[3].item() == empty
        x.grad = None
        an.sum(found).backward()
        gradient = x.grad
        assert bool(an.all(an.isfinite(gradient)))
        assert not an.any(gradient[3, :]).item()
    whole = an.asarray(True)
    np.testing.assert_allclose(
        logic.exists(x, p=p, where=whole).item(), logic.exists(x, p=p).item(), rtol=1e-12
    )


def test_logic_layer_learns_a_rule() -> None:
    """(a and c), found by gradient descent from its truth table."""
    an.random.manual_seed(0)
    x = an.asarray(list(itertools.product([0.0, 1.0], repeat=4)))
    y = x[:, 0:1] * x[:, 2:3]
    layer = methods.LogicLayer(4, 1, "and")
    optimizer = an.optim.Adam(layer.parameters(), lr=0.2)
    for _ in range(80):
        optimizer.zero_grad()
        an.nn.functional.mse_loss(layer(x), y).backward()
        optimizer.step()
    assert layer.rules("abcd") == ["a and c"]


@pytest.mark.parametrize("kind", ["and", "or"])
def test_logic_layer_is_its_formula(kind: str) -> None:
    layer = methods.LogicLayer(3, 2, kind).to(dtype=an.float64)
    x, m = rng.uniform(size=(5, 3)), 1 / (1 + np.exp(-np.asarray(layer.weight.tolist())))
    if kind == "and":
        expected = np.prod(1 - m[None] * (1 - x[:, None]), axis=-1)
    else:
        expected = 1 - np.prod(1 - m[None] * x[:, None], axis=-1)
    np.testing.assert_allclose(layer(an.asarray(x)).tolist(), expected, rtol=1e-12)


def test_sums_are_counted(xp_device: str) -> None:
    sizes = (3, 2, 4)
    digits = [rng.dirichlet(np.ones(k), size=5) for k in sizes]
    expected = np.zeros((5, 7))
    for world in itertools.product(*map(range, sizes)):
        expected[:, sum(world)] += np.prod([d[:, v] for d, v in zip(digits, world, strict=True)], axis=0)
    logs = [an.log(an.asarray(d, device=xp_device)) for d in digits]
    found = methods.log_sum_distribution(*logs)
    np.testing.assert_allclose(np.exp(found.tolist()), expected, rtol=1e-12)
    z = [an.asarray(rng.normal(size=(4, 3)), device=xp_device, requires_grad=True) for _ in range(2)]
    sums = an.asarray([0, 4, 2, 1], device=xp_device)
    assert an.gradcheck(lambda a, b: methods.addition_loss([a, b], sums), z)


def test_fuzzy_refusals() -> None:
    with pytest.raises(ValueError, match="norm must be one of godel, product, lukasiewicz, got 'min'"):
        methods.FuzzyLogic("min")
    assert methods.FuzzyLogic("Łukasiewicz").norm == "lukasiewicz"
    with pytest.raises(ValueError, match="no value for b"):
        methods.FuzzyLogic().truth("a & b", a=an.asarray(1.0))
    with pytest.raises(ValueError, match="must have 2 columns"):
        methods.FormulaLayer("a & b")(an.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least one digit"):
        methods.log_sum_distribution()
    with pytest.raises(ValueError, match="with one n"):
        methods.log_sum_distribution(an.zeros((2, 3)), an.zeros((1, 3)))
    with pytest.raises(ValueError, match="kind must be 'and' or 'or'"):
        methods.LogicLayer(2, 2, "xor")
    with pytest.raises(ValueError, match="p must be ≥ 1"):
        methods.FuzzyLogic().exists(an.zeros(2), p=0.5)
