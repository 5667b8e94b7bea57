"""`explain`: what is given decides what is explained."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

from anynet.explanations.chain_rule import explain_graph, explain_operations
from anynet.explanations.explanation import Explanation
from anynet.explanations.expressions import explain_expression
from anynet.explanations.layers import explain_model
from anynet.explanations.lookup import object_named
from anynet.explanations.naming import Names, names_from
from anynet.explanations.objects import equation_of, explain_object
from anynet.explanations.recording import ExplanationError, as_float64, of_function
from anynet.nn.module import Module
from anynet.optim.optimizer import Optimizer
from anynet.tensor import Tensor

__all__ = ["explain"]

_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


# Over 60 lines: the docstring.
def explain(
    target: Any, *inputs: Any, names: Any = None, digits: int = 6, loss: Any = None, **values: Any
) -> Explanation:
    """The mathematics of something, with its numbers, and the check of each of them.

    * ``explain(loss)``, a number with a graph: the whole chain rule. Each operation's formula, value, derivative and what it passes on:
      by the textbook's formula, by the rule of autograd, and by finite differences in double precision, which have to agree. The graph
      stays as it is; the values that it does not hold are computed again.
    * ``explain(model, x, y, loss="mse")``: a network layer by layer: its equation, input, output, the gradients of the output and of the
      parameters, each checked. Without `y` the sum of the outputs is differentiated.
    * ``explain(nn.LSTM)``, ``explain(F.gelu)``, ``explain(an.optim.Adam)``, ``explain(an.tanh)``: the equation, what its symbols mean, the
      gradient, the source, and a check with numbers made now.
    * ``explain("tanh(w*x + b)", w=-2, x=1.5, b=0)``: an expression; it is read, never run as code.
    * ``explain(f, x, …)``: a function of Tensors that gives one number.

    Parameters:
      names: names for Tensors, a dict or a Module; otherwise variables are called as they are where `explain` is called.
      digits: how many digits numbers are shown with, 1 to 17.
      loss: of a model: a name ("cross_entropy", "mse", …) or a function of output and target.

    The result prints itself, is shown by notebooks with rendered formulas, and has ``to_html()``, ``to_latex()``, ``to_json()``,
    ``save(path)``; ``ok`` says whether all checks agree.

    Errors: ValueError for a Tensor without a graph, with a freed graph, or of several elements, and for expressions that cannot be read;
    TypeError for what cannot be explained.

    >>> import anynet as an
    >>> w, x, b = (an.asarray(v, requires_grad=True) for v in (-2.0, 1.5, 0.0))
    >>> found = an.explain(an.tanh(w * x + b))
    >>> found.ok, [g["name"] for g in found.to_json()["gradients"]]
    (True, ['w', 'x', 'b'])
    """
    if isinstance(digits, bool) or not isinstance(digits, int) or not 1 <= digits <= 17:
        msg = f"explain: digits must be an integer in [1, 17], got {digits!r}"
        raise ValueError(msg)
    if isinstance(target, str):
        if inputs:
            msg = "explain: the values of an expression are given by name: explain('w*x', w=2, x=3)"
            raise TypeError(msg)
        if not target.strip():
            msg = (
                'explain: the text is empty; give an expression such as "tanh(w*x + b)" with w=-2 x=1.5 b=0, or the name of a layer, '
                "loss, optimizer or function such as nn.LSTM"
            )
            raise ExplanationError(msg)
        if not values and _NAME.fullmatch(target.strip()):
            return explain_object(object_named(target.strip()), digits)
        return explain_expression(target, values, digits)
    if values and not callable(target):
        msg = f"explain: unexpected {', '.join(values)}; values by name belong to an expression"
        raise TypeError(msg)
    caller = sys._getframe(1)
    frame = {**caller.f_globals, **caller.f_locals}
    if isinstance(target, Tensor):
        return _of_tensor(target, inputs, names_from(names, frame), digits)
    # without an equation of its own it is explained by its layers
    if isinstance(target, Module) and (inputs or equation_of(type(target)) is None):
        return explain_model(target, inputs, loss, digits)
    if isinstance(target, (Module, Optimizer)):
        target = type(target)
    if callable(target) and not inputs and not values:
        return explain_object(target, digits)
    if callable(target) and not isinstance(target, type) and inputs:
        return _of_function(target, inputs, values, names_from(names, frame), digits)
    msg = (
        f"explain takes a Tensor with a graph, a model and its inputs, a layer, loss, optimizer or function, or an expression; "
        f"got {type(target).__name__} {target!r:.60}"
    )
    raise TypeError(msg)


def _of_tensor(target: Tensor, inputs: Any, names: Names, digits: int) -> Explanation:
    if inputs:
        msg = "explain: a Tensor is explained alone; for a model give explain(model, x, y)"
        raise TypeError(msg)
    if target.edge is None:
        msg = (
            "explain: this Tensor depends on no variable: make one with requires_grad=True (x = an.asarray(1.5, requires_grad=True)), "
            "and check that the result was not computed under no_grad() or detached"
        )
        raise ExplanationError(msg)
    if target.size != 1:
        msg = f"explain: the chain rule begins at one number, got shape {tuple(target.shape)}; explain(an.sum(y)) or explain(y[0])"
        raise ExplanationError(msg)
    return explain_graph(target, names, digits)


def _of_function(f: Callable[..., Any], inputs: Any, values: Any, names: Names, digits: int) -> Explanation:
    """A function of Tensors, run in double precision."""
    own = Names()
    try:
        called = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        called = []
    args = []
    for i, x in enumerate(inputs):
        made = as_float64(x) if not isinstance(x, float) else as_float64(Tensor(x, dtype="float64"))
        if isinstance(made, Tensor) and made.dtype.is_floating:
            made = made.detach().requires_grad_()
            own.add(
                names.arrays.get(id(x._data if isinstance(x, Tensor) else x))
                or (called[i] if i < len(called) else f"x{i + 1}"),
                made,
            )
        args.append(made)
    y, operations = of_function(f, args, values)
    if not isinstance(y, Tensor) or y.size != 1 or y.edge is None:
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) and y.size != 1 else type(y).__name__
        msg = f"explain: the function must give one number that depends on its inputs, got {got}; an.sum(…) makes one of an array"
        raise ExplanationError(msg)
    return explain_operations(y, operations, own, digits, {}, "float64", y.item())
