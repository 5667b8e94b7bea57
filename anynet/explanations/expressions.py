"""Expressions as text, ``tanh(w*x + b)`` with ``w=-2, x=1.5, b=0``: a graph of numbers, and its chain rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anynet.explanations import formula
from anynet.explanations.chain_rule import explain_operations
from anynet.explanations.derivatives import FUNCTIONS
from anynet.explanations.explanation import Explanation
from anynet.explanations.formula import FormulaError
from anynet.explanations.naming import Names
from anynet.explanations.recording import ExplanationError, recorded
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, enable_grad
from anynet_backends import resolve

__all__ = ["explain_expression", "value_of"]


def value_of(text: str) -> Any:
    """A number or nested list written as text: ``-2``, ``1/3``, ``[1, 2, 3]``, ``1,2,3``.

    >>> value_of("1/4"), value_of("1,2"), value_of("[[1], [2]]")
    (0.25, (1, 2), [[1], [2]])
    """
    return formula.evaluate(formula.parse(text), {}, {"sqrt": lambda v: v**0.5})


def explain_expression(source: str, values: Mapping[str, Any], digits: int) -> Explanation:
    """The chain rule of an expression. Errors: `FormulaError` for what is no expression, and for names without a value."""
    tree = formula.parse(source)
    variables = [n for n in formula.names_of(tree) if n not in formula.CONSTANTS or n in values]
    missing = [n for n in variables if n not in values]
    if missing:
        given = " ".join(f"{n}=1" for n in missing)
        functions = [n for n in missing if n in FUNCTIONS]
        hint = f"; {functions[0]} is a function: {functions[0]}(…)" if functions else ""
        msg = f"{source!r} needs a value for {', '.join(missing)}: give {given}{hint}"
        raise FormulaError(msg)
    unused = [n for n in values if n not in variables]
    if unused:
        msg = f"{source!r} has no variable {', '.join(unused)}; it has {', '.join(variables) or 'none'}"
        raise FormulaError(msg)
    if not variables:
        msg = f"{source!r} has no variable to differentiate in"
        raise FormulaError(msg)
    names = Names()
    tensors = {}
    for n in variables:
        tensors[n] = _tensor(n, values[n])
        names.add(n, tensors[n])
    with recorded() as operations, enable_grad(), resolve("cpu")[0].errstate():
        y = formula.evaluate(tree, tensors, FUNCTIONS)
    if not isinstance(y, Tensor) or y.edge is None:
        msg = f"{source!r} does not depend on {', '.join(variables)} in a way that has a derivative"
        raise FormulaError(msg)
    if y.size != 1:
        msg = f"{source!r} is an array of shape {tuple(y.shape)}; the chain rule begins at one number: sum({source}) or mean({source})"
        raise ExplanationError(msg)
    if "y" not in variables:
        names.add("y", y)
    title = f"{'y' if 'y' not in variables else 'L'} = {formula.text(tree)} = {formula.number_text(y.item(), digits)}"
    made = explain_operations(y, operations, names, digits, {}, "float64", y.item(), title)
    made.data["expression"] = source
    return made


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        value = value.detach()
    try:
        if isinstance(value, str):
            value = value_of(value)
        made = asarray(value, dtype="float64", copy=True)
    except (TypeError, ValueError):
        msg = (
            f"{name}={value!r:.60} is no number or array; numbers are written -2, 1/3, 1,2,3 or [[1,2],[3,4]]"
        )
        raise FormulaError(msg) from None
    return made.requires_grad_()
