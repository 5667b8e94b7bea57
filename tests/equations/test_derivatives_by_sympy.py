"""The derivative that SymPy finds of each element-wise equation, against autograd."""

import ast

import numpy as np
import pytest

import anynet as an
from anynet.equations import of
from anynet.nn import functional as F

sympy = pytest.importorskip("sympy", reason="SymPy comes with PyTorch, which is not installed")

FUNCTIONS = {
    "exp": sympy.exp, "log": sympy.log, "sqrt": sympy.sqrt, "abs": sympy.Abs, "sign": sympy.sign, "tanh": sympy.tanh, "cosh": sympy.cosh,
    "max": sympy.Max, "min": sympy.Min, "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
    "Phi": lambda x: (1 + sympy.erf(x / sympy.sqrt(2))) / 2,
}  # fmt: skip
RELATIONS = {
    ast.Eq: sympy.Eq,
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
    ast.NotEq: sympy.Ne,
}


def symbolic(node, values):
    """A tree of the language as an expression of SymPy."""
    match node:
        case ast.Constant():
            return node.value if isinstance(node.value, str) else sympy.nsimplify(node.value)
        case ast.Name():
            return {"pi": sympy.pi, "inf": sympy.oo}.get(node.id, values.get(node.id))
        case ast.BinOp():
            a, b = symbolic(node.left, values), symbolic(node.right, values)
            return {ast.Add: lambda: a + b, ast.Sub: lambda: a - b, ast.Mult: lambda: a * b, ast.Div: lambda: a / b,
                    ast.Pow: lambda: a**b}[type(node.op)]()  # fmt: skip
        case ast.UnaryOp():
            return -symbolic(node.operand, values)
        case ast.IfExp():
            test = symbolic(node.test, values)
            if test in (True, False):
                return symbolic(node.body if test else node.orelse, values)
            return sympy.Piecewise((symbolic(node.body, values), test), (symbolic(node.orelse, values), True))
        case ast.Compare():
            a, b = symbolic(node.left, values), symbolic(node.comparators[0], values)
            return a == b if isinstance(b, str) else RELATIONS[type(node.ops[0])](a, b)
        case ast.BoolOp():
            parts = [symbolic(v, values) for v in node.values]
            return sympy.And(*parts) if isinstance(node.op, ast.And) else sympy.Or(*parts)
        case ast.Call():
            return FUNCTIONS[node.func.id](*[symbolic(a, values) for a in node.args])
    raise AssertionError(ast.dump(node))


ELEMENTWISE = [
    *[(name, {}) for name in ("relu", "sigmoid", "silu", "tanh", "relu6", "hardsigmoid", "hardswish", "tanhshrink", "softsign",
                              "logsigmoid", "mish", "selu")],
    ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("leaky_relu", {"negative_slope": 0.25}), ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}), ("softplus", {"beta": 2.0, "threshold": 1.5}), ("hardtanh", {"min_val": -0.5, "max_val": 1.5}),
    ("hardshrink", {}), ("softshrink", {}), ("threshold", {"threshold": 0.5, "value": 2.0}), ("squareplus", {}),
]  # fmt: skip
LOSSES = [
    ("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {"delta": 0.5}), ("smooth_l1_loss", {"beta": 0.5}), ("log_cosh_loss", {}),
    ("poisson_nll_loss", {}), ("binary_cross_entropy_with_logits", {}), ("soft_margin_loss", {}), ("hinge_embedding_loss", {}),
]  # fmt: skip
POINTS = np.asarray([-2.3, -0.7, 0.2, 0.9, 3.4])


def _exact(value):
    return value if value is None or isinstance(value, str | bool) else sympy.nsimplify(value)


def derivative(equation, given, result, target=None):
    """SymPy's derivative of the symbol `result` with respect to x, at the points."""
    x = sympy.Symbol("x", real=True)
    slopes = []
    for k, point in enumerate(POINTS):
        values = {n: _exact(v) for n, v in given.items() if not hasattr(v, "shape")} | {"x": x}
        if target is not None:
            values["t"] = sympy.nsimplify(target[k])
        for line in equation.lines:
            if line.name == "L":
                break
            values[line.name] = symbolic(line.value, values)
        slopes.append(float(sympy.diff(values[result], x).subs(x, point).evalf()))
    return np.asarray(slopes)


@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
def test_activation(name, options):
    function = getattr(F, name)
    x = an.asarray(POINTS, requires_grad=True)
    an.sum(function(x, **options)).backward()
    given = of(function).bind(function, x, **options)
    np.testing.assert_allclose(x.grad.numpy(), derivative(of(function), given, "y"), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("name", "options"), LOSSES)
def test_loss(name, options):
    function = getattr(F, name)
    target = np.asarray([1.0, -1.0, 1.0, 1.0, -1.0])
    x = an.asarray(POINTS, requires_grad=True)
    function(x, an.asarray(target), reduction="sum", **options).backward()
    given = of(function).bind(function, x, an.asarray(target), **options)
    np.testing.assert_allclose(
        x.grad.numpy(), derivative(of(function), given, "l", target), rtol=1e-10, atol=1e-13
    )
