"""The formulas of the primitives and of their derivatives, as they stand in a textbook: written once more, apart from the gradient
rules, so that a rule is compared with something that is not itself.

In a formula an input and a keyword of the primitive stand by their names, y is the result. `slopes` are derivatives of an element of the
result in the element of the input: for element-wise functions as they are, for reductions with y spread over what it was made of.
`pullbacks` are the gradient of an input in terms of G, the gradient of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anynet import special
from anynet.nn import functional as F
from anynet.ops import elementwise as e
from anynet.ops import linear, manipulation, reductions
from anynet.ops.creation import asarray
from anynet.ops.softmax import softmax

__all__ = ["DERIVATIVES", "FUNCTIONS", "Derivative"]


@dataclass(frozen=True)
class Derivative:
    """What the textbook says of a primitive."""

    formula: str
    slopes: Mapping[str, str] = field(default_factory=dict)
    pullbacks: Mapping[str, str] = field(default_factory=dict)
    words: str = ""


def _one(formula: str, x: str, name: str = "x") -> Derivative:
    return Derivative(formula, {name: x})


def _two(formula: str, x1: str, x2: str) -> Derivative:
    return Derivative(formula, {"x1": x1, "x2": x2})


_SAME = "the same elements, in their old places"
_GATE = "where(x > 0, {}, {})"

DERIVATIVES: dict[str, Derivative] = {
    # arithmetic
    "add": _two("x1 + x2", "1", "1"),
    "subtract": _two("x1 - x2", "1", "-1"),
    "multiply": _two("x1 * x2", "x2", "x1"),
    "divide": _two("x1 / x2", "1 / x2", "-(x1 / x2**2)"),
    "multiply_no_nan": _two("x1 * x2", "x2", "x1"),
    "divide_no_nan": _two("x1 / x2", "1 / x2", "-(x1 / x2**2)"),
    "divide_by_count": Derivative("x / count", {"x": "1 / count"}),
    "pow": _two("x1**x2", "x2 * x1**(x2 - 1)", "y * log(x1)"),
    "power": _one("x**exponent", "exponent * x**(exponent - 1)"),
    "negative": _one("-x", "-1"),
    "positive": _one("x", "1"),
    "reciprocal": _one("1 / x", "-1 / x**2"),
    "square": _one("x**2", "2 * x"),
    "sqrt": _one("sqrt(x)", "1 / (2 * y)"),
    "cbrt": _one("cbrt(x)", "1 / (3 * y**2)"),
    "abs": _one("abs(x)", "sign(x)"),
    "remainder": _two("x1 % x2", "1", "-floor(x1 / x2)"),
    "hypot": _two("sqrt(x1**2 + x2**2)", "x1 / y", "x2 / y"),
    "maximum": _two("max(x1, x2)", "where(x1 > x2, 1, where(x1 == x2, 0.5, 0))", "where(x2 > x1, 1, where(x1 == x2, 0.5, 0))"),
    "minimum": _two("min(x1, x2)", "where(x1 < x2, 1, where(x1 == x2, 0.5, 0))", "where(x2 < x1, 1, where(x1 == x2, 0.5, 0))"),
    "where": Derivative("where(condition, x1, x2)", {"x1": "where(condition, 1, 0)", "x2": "where(condition, 0, 1)"}),
    "clip_between": Derivative("clip(x, low, high)"),
    "squared_error": Derivative("(x - target)**2", {"x": "2 * (x - target)", "target": "-2 * (x - target)"}),
    # exponentials, logarithms
    "exp": _one("exp(x)", "y"),
    "expm1": _one("exp(x) - 1", "y + 1"),
    "log": _one("log(x)", "1 / x"),
    "log1p": _one("log(1 + x)", "1 / (1 + x)"),
    "log2": _one("log2(x)", "1 / (x * log(2))"),
    "log10": _one("log10(x)", "1 / (x * log(10))"),
    "logaddexp": _two("log(exp(x1) + exp(x2))", "exp(x1 - y)", "exp(x2 - y)"),
    "xlogy": Derivative("x * log(w)", {"x": "log(w)", "w": "x / w"}),
    "logit": Derivative("log(p / (1 - p))", {"p": "1 / (p * (1 - p))"}),
    # trigonometry
    "sin": _one("sin(x)", "cos(x)"),
    "cos": _one("cos(x)", "-sin(x)"),
    "tan": _one("tan(x)", "1 + y**2"),
    "asin": _one("asin(x)", "1 / sqrt(1 - x**2)"),
    "acos": _one("acos(x)", "-1 / sqrt(1 - x**2)"),
    "atan": _one("atan(x)", "1 / (1 + x**2)"),
    "sinh": _one("sinh(x)", "cosh(x)"),
    "cosh": _one("cosh(x)", "sinh(x)"),
    "tanh": _one("tanh(x)", "1 - y**2"),
    "asinh": _one("asinh(x)", "1 / sqrt(x**2 + 1)"),
    "acosh": _one("acosh(x)", "1 / sqrt(x**2 - 1)"),
    "atanh": _one("atanh(x)", "1 / (1 - x**2)"),
    "atan2": _two("atan2(x1, x2)", "x2 / (x1**2 + x2**2)", "-(x1 / (x1**2 + x2**2))"),
    # the normal distribution and its relatives
    "erf": _one("erf(x)", "2 / sqrt(pi) * exp(-x**2)"),
    "erfc": _one("erfc(x)", "-2 / sqrt(pi) * exp(-x**2)"),
    "ndtr": _one("Phi(x)", "phi(x)"),
    # activations
    "relu": _one("relu(x)", _GATE.format(1, 0)),
    "leaky_relu": _one("where(x > 0, x, negative_slope * x)", _GATE.format(1, "negative_slope")),
    "elu": _one(
        "where(x > 0, scale * x, scale * alpha * (exp(rate * x) - 1))", _GATE.format("scale", "scale * alpha * rate * exp(rate * x)")
    ),
    "sigmoid": _one("sigmoid(x)", "y * (1 - y)"),
    "logsigmoid": _one("log(sigmoid(x))", "1 - sigmoid(x)"),
    "log_expit": _one("log(sigmoid(x))", "1 - sigmoid(x)"),
    "silu": _one("x * sigmoid(x)", "sigmoid(x) * (1 + x * (1 - sigmoid(x)))"),
    "softplus": _one("log(1 + exp(beta * x)) / beta", "sigmoid(beta * x)"),
    "softsign": _one("x / (1 + abs(x))", "1 / (1 + abs(x))**2"),
    "gelu": _one("x * Phi(x)", "Phi(x) + x * phi(x)"),
    "gelu_tanh": _one("x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))",
        "(1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2 + x / 2 * (1 - tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))**2)"
        " * sqrt(2 / pi) * (1 + 0.134145 * x**2)"),
    "mish": _one("x * tanh(softplus(x))", "tanh(softplus(x)) + x * sigmoid(x) * (1 - tanh(softplus(x))**2)"),
    "tanhshrink": _one("x - tanh(x)", "tanh(x)**2"),
    "hardtanh": _one("clip(x, low, high)", "where(abs(x - (low + high) / 2) < (high - low) / 2, 1, 0)"),
    "hardsigmoid": _one("clip(x / 6 + 0.5, 0, 1)", "where(abs(x) < 3, 1 / 6, 0)"),
    "hardswish": _one("x * clip(x / 6 + 0.5, 0, 1)", "where(x <= -3, 0, where(x >= 3, 1, x / 3 + 0.5))"),
    "hardshrink": _one("where(abs(x) > bound, x, 0)", "where(abs(x) > bound, 1, 0)"),
    "softshrink": _one("sign(x) * max(abs(x) - bound, 0)", "where(abs(x) > bound, 1, 0)"),
    "threshold": _one("where(x > bound, x, value)", "where(x > bound, 1, 0)"),
    # losses, element by element
    "binary_cross_entropy": Derivative("-(target * log(p) + (1 - target) * log(1 - p))", {"p": "(p - target) / (p * (1 - p))"}),
    "huber": Derivative("huber(x - target, delta)", {
        "x": "clip(x - target, -delta, delta)", "target": "-clip(x - target, -delta, delta)"}),
    # reductions
    "sum": _one("sum(x)", "1"),
    "mean": _one("mean(x)", "1 / n"),
    "prod": _one("prod(x)", "y / x"),
    "logsumexp": _one("logsumexp(x)", "exp(x - y)"),
    # arrays
    "matmul": Derivative("a @ b", {}, {"a": "G @ b.T", "b": "a.T @ G"}),
    "linear": Derivative("x @ weight.T + bias", {}, {"x": "G @ weight", "weight": "G.T @ x", "bias": "sum(G, axis=0)"}),
    "softmax": Derivative("softmax(x)", {}, {"x": "y * (G - sum(G * y, axis=axis))"}),
    "log_softmax": Derivative("log(softmax(x))", {}, {"x": "G - softmax(x, axis=axis) * sum(G, axis=axis)"}),
    "cross_entropy_rows": Derivative("-log(softmax(x)[index])", words="G times (softmax(x) − the one-hot target), row by row"),
    "nll_rows": Derivative("-x[index]", words="−G at the target's place, 0 elsewhere"),
    "logit_cross_entropy": Derivative("-(target * log(sigmoid(x)) + (1 - target) * log(1 - sigmoid(x)))",
        words="G · (σ(x) − target)"),
    "conv": Derivative("conv(x, weight) + bias", words="x: transposed convolution of G and weight; weight: x correlated with G; bias: Σ G"),
    "max_pool": Derivative("max_pool(x)", words="G at the place of each window's largest element"),
    "window_sum": Derivative("window_sum(x)", words="G, spread over each window"),
    "normalize": Derivative("(x - mean(x)) / sqrt(var(x) + eps) * weight + bias",
        words="x: w/√(σ²+ε) · (G − mean G − x̂ mean(G x̂)); w: Σ G x̂; b: Σ G"),
    "normalize_by": Derivative("(x - mean) / sqrt(variance + eps) * weight + bias", words="x: G w / √(variance + ε)"),
    "attention": Derivative("softmax(q @ k.T * scale) @ v", words="through softmax's rule: v: Aᵀ G; q, k through A ⊙ (G vᵀ − Σ)"),
    "embedding": Derivative("weight[index]", words="G added to the rows that were taken"),
    "getitem": Derivative("x[key]", words="G at the places that were taken, 0 elsewhere"),
    "gather_rows": Derivative("x[index]", words="G added to the rows that were taken"),
    "dropout": Derivative("dropout(x)", words="G · mask / (1 − p)"),
    "reshape": Derivative("reshape(x, shape)", words=_SAME),
    "permute_dims": Derivative("permute_dims(x, axes)", words=_SAME),
    "matrix_transpose": Derivative("x.T", words=_SAME),
    "flip": Derivative("flip(x)", words=_SAME),
    "roll": Derivative("roll(x, shift)", words=_SAME),
    "broadcast_to": Derivative("broadcast_to(x, shape)", words="G, summed over the axes that were spread"),
    "sum_to": Derivative("sum_to(x, shape)", words="G, spread over the axes that were summed"),
    "concat": Derivative("concat(arrays)", words="each its part of G"),
    "stack": Derivative("stack(arrays)", words="each its part of G"),
    "unstack": Derivative("unstack(x)", words="the parts of G, stacked"),
    "astype": Derivative("x", words=_SAME),
    "cast_to": Derivative("x", words=_SAME),
    "setitem": Derivative("setitem(x, key, value)", words="x: G with 0 at the places written to; value: G there"),
    "max": Derivative("max(x)", words="G at the largest element, shared where several are"),
    "min": Derivative("min(x)", words="G at the smallest element, shared where several are"),
    "var": Derivative("var(x)", words="G · 2 (x − mean x) / (n − correction)"),
    "std": Derivative("std(x)", words="G · (x − mean x) / ((n − correction) y)"),
    "vector_norm": Derivative("norm(x)", words="G · x / ‖x‖ for the Euclidean norm"),
    "lstm_layer": Derivative("lstm(x, h, c)", words="backpropagation through time (explain(nn.LSTM) has the equations)"),
    "lstm_scan": Derivative("lstm(gates, h, c)", words="backpropagation through time (explain(nn.LSTM) has the equations)"),
    "lstm_cell": Derivative("lstm(gates, c)", words="explain(nn.LSTMCell) has the equations"),
    "gru_cell": Derivative("gru(gates, h)", words="explain(nn.GRUCell) has the equations"),
    "gru_layer": Derivative("gru(x, h)", words="backpropagation through time (explain(nn.GRU) has the equations)"),
    "gru_scan": Derivative("gru(gates, h)", words="backpropagation through time (explain(nn.GRU) has the equations)"),
    "rnn_scan": Derivative("rnn(gates, h)", words="backpropagation through time (explain(nn.RNN) has the equations)"),
    **{name: _one(f"{name}(x)", "0") for name in ("floor", "ceil", "round", "trunc", "sign")},
}  # fmt: skip
"""By the name of the primitive."""


def _max(*xs: Any) -> Any:
    return e.maximum(*xs) if len(xs) == 2 else reductions.max(xs[0])


def _min(*xs: Any) -> Any:
    return e.minimum(*xs) if len(xs) == 2 else reductions.min(xs[0])


def _sum(x: Any, axis: Any = None) -> Any:
    return reductions.sum(x, axis=axis, keepdims=axis is not None and axis != 0)


def _phi(x: Any) -> Any:
    return e.exp(-0.5 * x * x) * 0.3989422804014327


def _number_safe(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Tensors that takes numbers, too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(a, (int, float)) for a in args) and not any(hasattr(a, "dtype") for a in args):
            args = tuple(asarray(float(a), dtype="float64") for a in args)
        return f(*args, **kwargs)

    return call


def _functions() -> dict[str, Callable[..., Any]]:
    table: dict[str, Callable[..., Any]] = {n: getattr(e, n) for n in (
        "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "clip", "cos", "cosh", "exp", "expm1", "floor", "hypot",
        "log", "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "maximum", "minimum", "pow",
        "reciprocal", "remainder", "round", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
    )}  # fmt: skip
    table |= {n: getattr(F, n) for n in (
        "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu", "selu", "sigmoid", "silu",
        "softplus", "softsign", "softmin", "tanhshrink",
    )}  # fmt: skip
    table |= {
        n: getattr(special, n)
        for n in ("erf", "erfc", "gammaln", "cbrt", "xlogy", "entr", "logit", "ndtr", "log_ndtr")
    }
    table |= {n: getattr(reductions, n) for n in ("mean", "prod", "std", "var")}
    table |= {n: getattr(manipulation, n) for n in ("reshape", "concat", "stack", "flip", "permute_dims")}
    table |= {
        "matmul": linear.matmul,
        "softmax": softmax,
        "log_softmax": F.log_softmax,
        "logsumexp": special.logsumexp,
    }
    table |= {
        "max": _max, "min": _min, "sum": _sum, "Phi": special.ndtr, "phi": _phi, "ln": e.log, "swish": F.silu, "lgamma": special.gammaln,
        "arcsin": e.asin, "arccos": e.acos, "arctan": e.atan, "power": e.pow, "norm": _norm, "where": _where,
    }  # fmt: skip
    return {name: _number_safe(f) for name, f in table.items()}


def _where(condition: Any, x1: Any, x2: Any) -> Any:
    a, b = (asarray(float(v), dtype="float64") if isinstance(v, (int, float)) else v for v in (x1, x2))
    return e.where(condition, a, b)


def _norm(x: Any) -> Any:
    return e.sqrt(reductions.sum(x * x))


FUNCTIONS: dict[str, Callable[..., Any]] = _functions()
"""What formulas may call."""
