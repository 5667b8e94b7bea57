"""Numbers that are drawn, against the distribution function that an equation says: what `explain` checks of an initializer."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anynet import random
from anynet.equations.language import parse
from anynet.explanations.explanation import Check
from anynet.ops.creation import zeros

__all__ = ["drawn_checks"]

_FUNCTIONS = {
    "Normal": "Phi(({x} - ({0})) / sqrt({1}))",
    "Uniform": "({x} - ({0})) / ({1} - ({0}))",
    "TruncatedNormal": "(Phi(({x} - ({0})) / sqrt({1})) - Phi(({2} - ({0})) / sqrt({1})))"
    " / (Phi(({3} - ({0})) / sqrt({1})) - Phi(({2} - ({0})) / sqrt({1})))",
}
"""The distribution functions at x, in the language of equations."""


def _distribution_function(tree: ast.expr, x: str) -> str:
    if isinstance(tree, ast.IfExp):
        yes, no = (_distribution_function(part, x) for part in (tree.body, tree.orelse))
        return f"({yes}) if {ast.unparse(tree.test)} else ({no})"
    assert isinstance(tree, ast.Call)
    return _FUNCTIONS[ast.unparse(tree.func)].format(*map(ast.unparse, tree.args), x=x)


def drawn_checks(initializer: Callable[..., Any], equation: Any) -> list[tuple[str, Check]]:
    """5,000 numbers of a function whose equation ends with what it draws: the distance of Kolmogorov and Smirnov, below 1.95 / √n for
    999 of 1,000 draws from the right distribution."""
    line = equation.lines[-1]
    if not line.random or line.name != equation.result[0]:
        return []
    random.manual_seed(11)
    drawn = initializer(zeros((100, 50), dtype="float64"))
    made = replace(
        equation,
        lines=(*equation.lines[:-1], *parse(f"u = {_distribution_function(line.value, line.name)}")),
        result=("u",),
    )
    ranks = sorted(made.evaluate(made.bind(initializer, drawn))["u"].reshape(-1).tolist())
    n = len(ranks)
    distance = max(max(u - k / n, (k + 1) / n - u) for k, u in enumerate(ranks))
    note = f"{n} numbers, distance of their distribution {distance:.4f}, at most {1.95 / math.sqrt(n):.4f}"
    return [
        ("what is drawn is distributed as the equation says", Check(distance <= 1.95 / math.sqrt(n), note))
    ]
