# ruff: noqa: E501 - a table: one line a row
"""Special points of the differentiable functions: corners, ends of domains, ties, ±inf, one element, none.

A row says what a function gives at a point, and the gradient of the sum of its results with respect to each argument.
Where `torch` names PyTorch's function, that must agree wherever PyTorch has a number; where it stands alone, the
value is the convention that the function's docstring states. `NO_POINT` says of all others why they have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import anynet as an
from anynet.autograd.primitive import PRIMITIVES
from anynet.ops.probability import log_probability
from anynet.ops.softmax import softmax_or_zero

inf, nan = math.inf, math.nan
F = an.nn.functional
S = an.special
L = an.linalg


class Point(NamedTuple):
    """One special point."""

    of: str  # the functions and primitives that it is about
    f: Callable[..., Any]
    at: list[Any]  # one nested list an argument
    value: Any
    slopes: list[Any]  # of the sum of the results, one an argument; None: not asked for
    torch: str | None = None  # an expression of torch and its arguments a, b, …
    second: Any = None  # the gradient of the sum of the first argument's gradient; nan: there is none
    narrow: bool = True  # whether float32 can hold it


def taken(f: Callable[..., Any], condition: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """f where the condition holds, else 0, in one `where`."""
    return lambda x: an.where(condition(x), f(x), 0.0)


def weighted(f: Callable[..., Any], *weights: float) -> Callable[..., Any]:
    """Results that are told apart in their sum."""

    def g(*args: Any) -> Any:
        y = f(*args)
        return y * an.asarray(weights, dtype=y.dtype, device=y.device)

    return g


def norm(p: Any) -> Callable[[Any], Any]:
    return lambda x: L.vector_norm(x, ord=p)


def matrix_norm(p: Any) -> Callable[[Any], Any]:
    return lambda x: L.matrix_norm(x, ord=p)


def or_zero(x: Any) -> Any:
    return softmax_or_zero(x, axis=0)


SQUARE = [[0.0, 0.0], [0.0, 0.0]]
EYE = [[1.0, 0.0], [0.0, 1.0]]
RANK_1 = [[1.0, 2.0], [2.0, 4.0]]

POINTS = [
    # ----- corners, and the ends of domains -----
    Point("abs", an.abs, [[0.0, -0.0, 2.0, -inf]], [0, 0, 2, inf], [[0, 0, 1, -1]], "a.abs()"),
    Point("abs", lambda x: an.abs(x * (1 + 0j)), [[0.0, 2.0]], [0, 2], [[0, 1]]),
    Point("sign", an.sign, [[0.0, -3.0, inf]], [0, -1, 1], [[0, 0, 0]], "a.sign()"),
    Point("copysign", an.copysign, [[0.0, 1.0], [1.0, -0.0]], [0, -1], [[0, -1], [0, 0]], "torch.copysign(a, b)"),
    Point("sqrt", an.sqrt, [[0.0, 4.0, inf]], [0, 2, inf], [[inf, 0.25, 0]], "a.sqrt()"),
    Point("cbrt", S.cbrt, [[0.0, -8.0]], [0, -2], [[inf, 1 / 12]]),
    Point("square", an.square, [[0.0, -3.0]], [0, 9], [[0, -6]], "a.square()", [2, 2]),
    Point("reciprocal", an.reciprocal, [[0.0, inf]], [inf, 0], [[-inf, 0]], "a.reciprocal()"),
    Point("divide", an.divide, [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [inf, 0, nan], [[inf, 0.5, inf], [-inf, 0, nan]], "a / b"),
    Point("remainder", an.remainder, [[4.0, -3.0], [2.0, 2.0]], [0, 1], [[1, 1], [-2, 2]], "torch.remainder(a, b)"),
    Point("exp", an.exp, [[-inf, 0.0, 1000.0]], [0, 1, inf], [[0, 1, inf]], "a.exp()"),
    Point("expm1", an.expm1, [[-inf, 0.0]], [-1, 0], [[0, 1]], "a.expm1()"),
    Point("exp2", S.exp2, [[-inf, 0.0]], [0, 1], [[0, math.log(2)]], "a.exp2()"),
    Point("log", an.log, [[0.0, inf]], [-inf, inf], [[inf, 0]], "a.log()"),
    Point("log1p", an.log1p, [[-1.0, 0.0]], [-inf, 0], [[inf, 1]], "a.log1p()"),
    Point("log2", an.log2, [[0.0, 1.0]], [-inf, 0], [[inf, 1 / math.log(2)]], "a.log2()"),
    Point("log10", an.log10, [[0.0, 1.0]], [-inf, 0], [[inf, 1 / math.log(10)]], "a.log10()"),
    Point("asin", an.asin, [[1.0, -1.0, 0.0]], [math.pi / 2, -math.pi / 2, 0], [[inf, inf, 1]], "a.asin()"),
    Point("acos", an.acos, [[1.0, -1.0, 0.0]], [0, math.pi, math.pi / 2], [[-inf, -inf, -1]], "a.acos()"),
    Point("acosh", an.acosh, [[1.0]], [0], [[inf]], "a.acosh()"),
    Point("atanh", an.atanh, [[1.0, -1.0]], [inf, -inf], [[inf, inf]], "a.atanh()"),
    Point("atan", an.atan, [[inf, 0.0]], [math.pi / 2, 0], [[0, 1]], "a.atan()", second=nan),
    Point("asinh", an.asinh, [[inf, 0.0]], [inf, 0], [[0, 1]], "a.asinh()"),
    Point("tanh", an.tanh, [[inf, -inf, 0.0]], [1, -1, 0], [[0, 0, 1]], "a.tanh()"),
    Point("sinh", an.sinh, [[0.0, inf]], [0, inf], [[1, inf]], "a.sinh()"),
    Point("cosh", an.cosh, [[0.0, -inf]], [1, inf], [[0, -inf]], "a.cosh()"),
    Point("hypot", an.hypot, [[0.0, 3.0, 0.0], [0.0, 4.0, -2.0]], [0, 5, 2], [[0, 0.6, 0], [0, 0.8, -1]], "torch.hypot(a, b)"),
    Point("atan2", an.atan2, [[0.0, 0.0, inf], [0.0, -1.0, 1.0]], [0, math.pi, math.pi / 2], [[0, -1, 0], [0, 0, 0]], "torch.atan2(a, b)", second=nan),
    Point("atan2", an.atan2, [[1e-200, 1e200], [0.0, 1e200]], [math.pi / 2, math.pi / 4], [[0, 5e-201], [-1e200, -5e-201]], second=nan, narrow=False),
    # ----- powers -----
    Point("pow power", lambda x: x**2, [[0.0, -3.0]], [0, 9], [[0, -6]], "a**2", [2, 2]),
    Point("pow", lambda x: x**1, [[0.0, -3.0]], [0, -3], [[1, 1]], "a**1", [0, 0]),
    Point("pow", lambda x: x**0, [[0.0, inf, -2.0]], [1, 1, 1], [[0, 0, 0]], "a**0", [0, 0, 0]),
    Point("pow", lambda x: x**0.5, [[0.0, 4.0]], [0, 2], [[inf, 0.25]], "a**0.5"),
    Point("pow", lambda x: x**1.5, [[0.0, 4.0]], [0, 8], [[0, 3]], "a**1.5"),
    Point("pow", lambda x: x**-1, [[0.0, -2.0]], [inf, -0.5], [[-inf, -0.25]], "a**-1"),
    Point("pow", an.pow, [[0.0, 0.0, 0.0, 2.0], [0.0, 2.0, 0.5, 0.0]], [1, 0, 0, 1], [[0, 0, inf, 0], [0, 0, 0, math.log(2)]], "a**b"),
    Point("pow", an.pow, [[-2.0, 0.0], [3.0, -1.0]], [-8, inf], [[12, -inf], [nan, -inf]], "a**b"),
    Point("pow", lambda x: an.pow(0.0, x), [[0.0, 2.0]], [1, 0], [[0, 0]], "0.0**a"),
    Point("pow", lambda x: an.pow(1.0, x), [[0.0, inf]], [1, 1], [[0, 0]], "1.0**a"),
    Point("pow", lambda x: an.pow(1j, x), [[0.0, 1.0]], [1, 1j], [[0, -math.pi / 2]]),
    # ----- what is not taken leaves no trace -----
    Point("where", lambda x: an.where(an.isnan(x), 0.0, x), [[nan, 2.0]], [0, 2], [[0, 1]], "torch.where(a.isnan(), 0.0, a)"),
    Point("where log", taken(an.log, lambda x: x > 0), [[0.0, 1.0]], [0, 0], [[0, 1]]),
    Point("where log1p", taken(an.log1p, lambda x: x > -1), [[-1.0, 1.0]], [0, math.log(2)], [[0, 0.5]]),
    Point("where log2 log10", taken(lambda x: an.log2(x) + an.log10(x), lambda x: x > 0), [[0.0]], [0], [[0]]),
    Point("where sqrt", taken(an.sqrt, lambda x: x > 0), [[0.0, 4.0]], [0, 2], [[0, 0.25]]),
    Point("where cbrt", taken(S.cbrt, lambda x: x > 0), [[0.0, 8.0]], [0, 2], [[0, 1 / 12]]),
    Point("where reciprocal", taken(an.reciprocal, lambda x: x != 0), [[0.0, 2.0]], [0, 0.5], [[0, -0.25]]),
    Point("where divide divide_no_nan", taken(lambda x: 1.0 / x, lambda x: x != 0), [[0.0, 2.0]], [0, 0.5], [[0, -0.25]]),
    Point("where divide multiply_no_nan", taken(lambda x: x / x, lambda x: x != 0), [[0.0, 2.0]], [0, 1], [[0, 0]]),
    Point("where pow", taken(lambda x: x**-0.5, lambda x: x > 0), [[0.0, 4.0]], [0, 0.5], [[0, -1 / 16]]),
    Point("where exp", taken(an.exp, lambda x: x < 100), [[1000.0, 0.0]], [0, 1], [[0, 1]]),
    Point("where acos asin", taken(lambda x: an.acos(x) + an.asin(x), lambda x: an.abs(x) < 1), [[1.0, 0.0]], [0, math.pi / 2], [[0, 0]]),
    Point("where acosh atanh", taken(lambda x: an.acosh(x) + an.atanh(x), lambda x: x > 1), [[1.0]], [0], [[0]]),
    Point("where sinh cosh", taken(lambda x: an.sinh(x) + an.cosh(x), lambda x: x < 100), [[1000.0]], [0], [[0]]),
    Point("where erfinv", taken(S.erfinv, lambda x: an.abs(x) < 1), [[1.0, 0.0]], [0, 0], [[0, math.sqrt(math.pi) / 2]]),
    Point("where ndtri logit", taken(lambda x: S.ndtri(x) + S.logit(x), lambda x: x > 0), [[0.0]], [0], [[0]]),
    Point("where gammaln polygamma", taken(lambda x: S.gammaln(x) + S.digamma(x), lambda x: x > 0), [[0.0]], [0], [[0]]),
    Point("where entr xlogy", taken(lambda x: S.entr(x) + S.xlogy(x, x), lambda x: x > 0), [[0.0]], [0], [[0]]),
    Point("where logsumexp", lambda x: (lambda y: an.where(y == -inf, 0.0, y))(F.logsumexp(x, 1)), [[[-inf, -inf], [0.0, 0.0]]], [0, math.log(2)], [[[0, 0], [0.5, 0.5]]]),
    Point("where slogdet", lambda x: (lambda y: an.where(y == -inf, 0.0, y))(L.slogdet(x)[1]), [[SQUARE, EYE]], [0, 0], [[SQUARE, EYE]], second=nan),
    Point("where std", lambda x: (lambda y: an.where(y > 0, y, 0.0))(an.std(x, axis=1)), [[[1.0, 1.0], [0.0, 2.0]]], [0, 1], [[[0, 0], [-0.5, 0.5]]]),
    # ----- ties and bounds -----
    Point("maximum", an.maximum, [[1.0, -inf, 2.0], [1.0, -inf, 3.0]], [1, -inf, 3], [[0.5, 0.5, 0], [0.5, 0.5, 1]], "torch.maximum(a, b)"),
    Point("minimum", an.minimum, [[1.0, inf, 2.0], [1.0, inf, 3.0]], [1, inf, 2], [[0.5, 0.5, 1], [0.5, 0.5, 0]], "torch.minimum(a, b)"),
    Point("clip_between", lambda x: an.log(an.clip(x, 0.0, 1.0)), [[-1.0, 2.0]], [-inf, 0], [[0, 0]], "a.clamp(0.0, 1.0).log()"),
    Point("clip_between", lambda x: an.clip(x, 0.0, 1.0), [[0.0, 1.0, 0.5, -1.0, inf]], [0, 1, 0.5, 0, 1], [[1, 1, 1, 0, 0]], "a.clamp(0.0, 1.0)"),
    Point("clip", an.clip, [[0.0, 5.0, 3.0], [4.0], [2.0]], [2, 2, 2], [[0, 0, 0], [0], [3]], "torch.clamp(a, b, c)"),
    Point("clip", an.clip, [[0.0, 5.0, 3.0], [3.0], [3.0]], [3, 3, 3], [[0, 0, 1], [1], [1]]),
    Point("max", an.max, [[2.0, 2.0, 1.0, 2.0]], 2, [[1 / 3, 1 / 3, 0, 1 / 3]], "a.amax()", [0, 0, 0, 0]),
    Point("max", lambda x: an.max(x, axis=1), [[[-inf, -inf], [3.0, 1.0]]], [-inf, 3], [[[0.5, 0.5], [1, 0]]], "a.amax(1)"),
    Point("max", lambda x: an.max(x, axis=(0, 1)), [[[1.0, 1.0], [1.0, 0.0]]], 1, [[[1 / 3, 1 / 3], [1 / 3, 0]]], "a.amax((0, 1))"),
    Point("max", an.max, [[7.0]], 7, [[1]], "a.amax()"),
    Point("max", lambda x: an.max(x, axis=0), [[[nan, 1.0], [2.0, 0.0]]], [nan, 1], [[[1, 1], [0, 0]]], "a.amax(0)"),
    Point("min", an.min, [[2.0, 2.0, 3.0, 2.0]], 2, [[1 / 3, 1 / 3, 0, 1 / 3]], "a.amin()"),
    Point("min", lambda x: an.min(x, axis=0, keepdims=True), [[[inf, 1.0], [inf, 1.0]]], [[inf, 1]], [[[0.5, 0.5], [0.5, 0.5]]], "a.amin(0, keepdim=True)"),
    Point("sort", weighted(an.sort, 1, 2, 3), [[1.0, 1.0, 0.0]], [0, 2, 3], [[2, 3, 1]], "a.sort(stable=True)[0] * torch.tensor([1.0, 2, 3])"),
    Point("unique_values unique_all unique_counts unique_inverse", an.unique_values, [[1.0, 0.0, 1.0]], [0, 1], [[1, 1, 0]]),
    # ----- reductions -----
    Point("sum", an.sum, [[]], 0, [[]], "a.sum()"),
    Point("sum", lambda x: an.sum(x, axis=0), [[[], []]], [], [[[], []]], "a.sum(0)"),
    Point("mean", an.mean, [[]], nan, [[]]),
    Point("mean", an.mean, [[3.0]], 3, [[1]], "a.mean()"),
    Point("prod", an.prod, [[]], 1, [[]], "a.prod()"),
    Point("prod", an.prod, [[0.0, 2.0, 3.0]], 0, [[6, 0, 0]], "a.prod()"),
    Point("prod", an.prod, [[0.0, 0.0, 3.0]], 0, [[0, 0, 0]], "a.prod()", [3, 3, 0]),
    Point("prod", an.prod, [[inf, 2.0]], inf, [[2, inf]], "a.prod()"),
    Point("prod", an.prod, [3.0], 3, [1], "a.prod()"),
    Point("prod", lambda x: an.prod(x, axis=1), [[[5.0], [0.0]]], [5, 0], [[[1], [1]]], "a.prod(1)"),
    Point("cumulative_prod", an.cumulative_prod, [[2.0, 0.0, 3.0]], [2, 0, 0], [[1, 8, 0]], "a.cumprod(0)"),
    Point("cumulative_prod", an.cumulative_prod, [[2.0, 0.0, 0.0]], [2, 0, 0], [[1, 2, 0]], "a.cumprod(0)"),
    Point("cumulative_prod", an.cumulative_prod, [[]], [], [[]], "a.cumprod(0)"),
    Point("cumulative_sum", an.cumulative_sum, [[]], [], [[]], "a.cumsum(0)"),
    Point("diff", an.diff, [[5.0]], [], [[0]], "a.diff()"),
    Point("var", an.var, [[2.0, 2.0, 2.0]], 0, [[0, 0, 0]], "a.var(correction=0)", [0, 0, 0]),
    Point("var", an.var, [[7.0]], 0, [[0]], "a.var(correction=0)"),
    Point("var", lambda x: an.var(x, axis=0, correction=1), [[[1.0, 2.0], [1.0, 4.0]]], [0, 2], [[[0, -2], [0, 2]]], "a.var(0)"),
    Point("std", an.std, [[2.0, 2.0, 2.0]], 0, [[0, 0, 0]], "a.std(correction=0)", [0, 0, 0]),
    Point("std", lambda x: an.std(x, correction=1), [[2.0, 2.0, 2.0]], 0, [[0, 0, 0]], "a.std()"),
    Point("std", an.std, [[7.0]], 0, [[0]], "a.std(correction=0)"),
    Point("std", an.std, [7.0], 0, [0], "a.std(correction=0)"),
    Point("std", lambda x: an.std(x, axis=1, keepdims=True), [[[1.0, 1.0], [0.0, 2.0]]], [[0], [1]], [[[0, 0], [-0.5, 0.5]]], "a.std(1, correction=0, keepdim=True)"),
    # ----- logarithms of sums -----
    Point("logaddexp", an.logaddexp, [[-inf, -inf, 1.0], [-inf, 0.0, 1.0]], [-inf, 0, 1 + math.log(2)], [[0, 0, 0.5], [0, 1, 0.5]], "torch.logaddexp(a, b)"),
    Point("logsumexp", F.logsumexp, [[-inf, -inf]], -inf, [[0, 0]], "a.logsumexp(0)"),
    Point("logsumexp", F.logsumexp, [[-inf, 1.0]], 1, [[0, 1]], "a.logsumexp(0)"),
    Point("logsumexp", F.logsumexp, [[5.0]], 5, [[1]], "a.logsumexp(0)"),
    Point("logsumexp", F.logsumexp, [5.0], 5, [1]),
    Point("logsumexp", F.logsumexp, [[]], -inf, [[]], "a.logsumexp(0)"),
    Point("logsumexp", F.logsumexp, [[inf, 1000.0]], inf, [[1, 0]], "a.logsumexp(0)"),
    Point("softmax", weighted(F.softmax, 1, 2), [[-inf, 3.0]], [0, 2], [[0, 0]], "a.softmax(0) * torch.tensor([1.0, 2])"),
    Point("softmax", F.softmax, [[3.0]], [1], [[0]], "a.softmax(0)"),
    Point("softmax", F.softmax, [[-inf, -inf]], [nan, nan], [[nan, nan]], "a.softmax(0)"),
    Point("softmax_or_zero", weighted(or_zero, 1, 2), [[-inf, -inf]], [0, 0], [[0, 0]], second=[0, 0]),
    Point("softmax_or_zero", weighted(or_zero, 1, 2), [[-inf, 3.0]], [0, 2], [[0, 0]], second=[0, 0]),
    Point("log_softmax", F.log_softmax, [[-inf, 3.0]], [-inf, 0], [[1, -1]], "a.log_softmax(0)"),
    Point("log_softmax", F.log_softmax, [[3.0]], [0], [[0]], "a.log_softmax(0)"),
    # ----- norms and matrices -----
    Point("linalg.vector_norm vector_norm", norm(2), [[0.0, 0.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a)", [0, 0]),
    Point("linalg.vector_norm vector_norm", norm(2), [[0.0, -3.0]], 3, [[0, -1]], "torch.linalg.vector_norm(a)"),
    Point("linalg.vector_norm", norm(1), [[0.0, -3.0]], 3, [[0, -1]], "torch.linalg.vector_norm(a, 1)", [0, 0]),
    Point("linalg.vector_norm vector_norm", norm(0.5), [[0.0, 4.0]], 4, [[0, 1]], "torch.linalg.vector_norm(a, 0.5)"),
    Point("linalg.vector_norm vector_norm", norm(1.5), [[0.0, 0.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a, 1.5)", [0, 0]),
    Point("linalg.vector_norm vector_norm", norm(3), [[0.0, 0.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a, 3)", [0, 0]),
    Point("linalg.vector_norm vector_norm", norm(-1), [[0.0, 2.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a, -1)"),
    Point("linalg.vector_norm", norm(inf), [[2.0, -2.0, 1.0]], 2, [[0.5, -0.5, 0]], "torch.linalg.vector_norm(a, inf)"),
    Point("linalg.vector_norm", norm(inf), [[0.0, 0.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a, inf)"),
    Point("linalg.vector_norm", norm(-inf), [[0.0, 1.0]], 0, [[0, 0]], "torch.linalg.vector_norm(a, -inf)"),
    Point("linalg.vector_norm", norm(0), [[0.0, 5.0]], 1, [[0, 0]]),
    Point("linalg.vector_norm", norm(2), [[]], 0, [[]], "torch.linalg.vector_norm(a)"),
    Point("linalg.matrix_norm", matrix_norm("fro"), [SQUARE], 0, [SQUARE], "torch.linalg.matrix_norm(a)"),
    Point("linalg.matrix_norm svdvals linalg.svdvals", matrix_norm("nuc"), [EYE], 2, [EYE], "torch.linalg.matrix_norm(a, 'nuc')", second=nan),
    Point("linalg.matrix_norm", matrix_norm(2), [EYE], 1, [[[0.5, 0], [0, 0.5]]], "torch.linalg.matrix_norm(a, 2)", nan),
    Point("linalg.matrix_norm", matrix_norm(1), [SQUARE], 0, [SQUARE], "torch.linalg.matrix_norm(a, 1)"),
    Point("linalg.matrix_norm", matrix_norm(inf), [[[1.0, 1.0], [2.0, 0.0]]], 2, [[[0.5, 0.5], [0.5, 0]]], "torch.linalg.matrix_norm(a, inf)"),
    Point("linalg.det det cofactors", L.det, [SQUARE], 0, [SQUARE], "torch.linalg.det(a)", second=nan),
    Point("linalg.det det cofactors", L.det, [RANK_1], 0, [[[4, -2], [-2, 1]]], "torch.linalg.det(a)", second=nan),
    Point("linalg.det det", L.det, [[[3.0]]], 3, [[[1]]], "torch.linalg.det(a)", second=nan),
    Point("linalg.slogdet slogdet", lambda x: L.slogdet(x)[1], [SQUARE], -inf, [[[nan, nan], [nan, nan]]]),
    Point("linalg.eigvalsh eigvalsh", L.eigvalsh, [EYE], [1, 1], [EYE], "torch.linalg.eigvalsh(a)", second=nan),
    Point("linalg.eigh eigh", lambda x: L.eigh(x)[0], [EYE], [1, 1], [EYE], "torch.linalg.eigh(a)[0]", second=nan),
    Point("linalg.eigvals eigvals", lambda x: an.real(L.eigvals(x)), [EYE], [1, 1], [EYE], "torch.linalg.eigvals(a).real", second=nan),
    Point("linalg.eig eig", lambda x: an.real(L.eig(x)[0]), [EYE], [1, 1], [EYE], "torch.linalg.eig(a)[0].real", second=nan),
    Point("linalg.svd svd", lambda x: L.svd(x)[1], [EYE], [1, 1], [EYE], "torch.linalg.svd(a)[1]", second=nan),
    Point("linalg.pinv pinv", L.pinv, [SQUARE], SQUARE, [SQUARE]),
    Point("linalg.matrix_power", lambda x: L.matrix_power(x, 0), [SQUARE], EYE, [SQUARE], "torch.linalg.matrix_power(a, 0)"),
    # ----- special functions -----
    Point("erfinv", S.erfinv, [[1.0, -1.0]], [inf, -inf], [[inf, inf]], "torch.erfinv(a)"),
    Point("erfcinv", S.erfcinv, [[1.0]], [0], [[-math.sqrt(math.pi) / 2]]),
    Point("erf", F.erf if hasattr(F, "erf") else S.erf, [[0.0, inf]], [0, 1], [[2 / math.sqrt(math.pi), 0]], "torch.erf(a)", second=nan),
    Point("erfc", S.erfc, [[0.0, -inf]], [1, 2], [[-2 / math.sqrt(math.pi), 0]], "torch.erfc(a)", second=nan),
    Point("ndtr", S.ndtr, [[0.0, -inf]], [0.5, 0], [[1 / math.sqrt(2 * math.pi), 0]], "torch.special.ndtr(a)", second=nan),
    Point("ndtri", S.ndtri, [[0.0, 0.5, 1.0]], [-inf, 0, inf], [[inf, math.sqrt(2 * math.pi), inf]], "torch.special.ndtri(a)"),
    Point("log_ndtr normal_hazard", S.log_ndtr, [[0.0, -1e10, inf]], [-math.log(2), -5e19, 0], [[math.sqrt(2 / math.pi), 1e10, 0]], second=nan),
    Point("logit", S.logit, [[0.0, 0.5, 1.0]], [-inf, 0, inf], [[inf, 4, inf]], "torch.logit(a)"),
    Point("sigmoid expit", S.expit, [[-inf, 0.0, inf]], [0, 0.5, 1], [[0, 0.25, 0]], "a.sigmoid()"),
    Point("log_expit", S.log_expit, [[-inf, 0.0, inf]], [-inf, -math.log(2), 0], [[1, 0.5, 0]], "F.logsigmoid(a)"),
    Point("sinc", S.sinc, [[0.0, 1.0]], [1, 0], [[0, -1]], "torch.sinc(a)", [-(math.pi**2) / 3, 2]),
    Point("xlogy", S.xlogy, [[0.0, 0.0, 0.0, 1.0], [0.0, 2.0, -1.0, 0.0]], [0, 0, 0, -inf], [[0, math.log(2), 0, -inf], [0, 0, 0, inf]], "torch.xlogy(a, b)"),
    Point("xlog1py", S.xlog1py, [[0.0, 0.0], [-1.0, 1.0]], [0, 0], [[0, math.log(2)], [0, 0]], "torch.special.xlog1py(a, b)"),
    Point("log_probability", log_probability, [[0.0, 0.5]], [-inf, math.log(0.5)], [[0, 2]]),
    Point("entr", S.entr, [[0.0, 1.0]], [0, 0], [[inf, -1]], "torch.special.entr(a)"),
    Point("rel_entr", S.rel_entr, [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [0, 0, 0], [[0, -inf, 1], [0, 0, -1]]),
    Point("kl_div", S.kl_div, [[0.0, 1.0], [0.0, 1.0]], [0, 0], [[-1, 0], [1, 0]]),
    Point("gammaln polygamma", S.gammaln, [[0.0, 1.0, -1.0]], [inf, 0, inf], [[-inf, -0.5772156649015329, nan]], "torch.lgamma(a)"),
    Point("digamma psi polygamma", S.digamma, [[0.0, -1.0, -0.5]], [-inf, nan, 0.03648997397857652], [[inf, inf, 8.934802200544679]]),
    Point("polygamma", lambda x: S.polygamma(1, x), [[-0.5, -1.5, 0.5]], [8.934802200544679, 9.379246644989123, 4.934802200544679], [[-0.8287966442343252, -0.23620405164172715, -16.8287966442343199]]),
    Point("betaln", S.betaln, [[1.0], [1.0]], [0], [[-1], [-1]]),
    Point("multigammaln", lambda x: S.multigammaln(x, 1), [[1.0]], [0], [[-0.5772156649015329]], "torch.special.multigammaln(a, 1)"),
    Point("gammainc", S.gammainc, [[1.0, 2.0, 1.0], [0.0, 0.0, inf]], [0, 0, 1], [[0, 0, 0], [1, 0, 0]], second=nan),
    Point("gammaincc", S.gammaincc, [[1.0, 2.0, 1.0], [0.0, 0.0, inf]], [1, 1, 0], [[0, 0, 0], [-1, 0, 0]], second=nan),
    Point("betainc", S.betainc, [[1.0, 2.0], [1.0, 1.0], [0.0, 1.0]], [0, 1], [[0, 0], [0, 0], [1, 2]], second=nan),
    # ----- activations -----
    Point("relu", F.relu, [[0.0, -inf, inf]], [0, 0, inf], [[0, 0, 1]], "a.relu()"),
    Point("leaky_relu", F.leaky_relu, [[0.0, -1.0]], [0, -0.01], [[0.01, 0.01]], "F.leaky_relu(a)"),
    Point("elu", F.elu, [[0.0, -inf, inf]], [0, -1, inf], [[1, 0, 1]], "F.elu(a)"),
    Point("hardtanh", F.hardtanh, [[-1.0, 1.0, 0.5]], [-1, 1, 0.5], [[0, 0, 1]], "F.hardtanh(a)"),
    Point("hardtanh", lambda x: an.log(F.hardtanh(x, 0.0, 1.0)), [[-1.0]], [-inf], [[0]], "F.hardtanh(a, 0.0, 1.0).log()"),
    Point("hardsigmoid", F.hardsigmoid, [[-3.0, 3.0, 0.0]], [0, 1, 0.5], [[0, 0, 1 / 6]]),
    Point("hardswish", F.hardswish, [[-4.0, 4.0, 0.0]], [0, 4, 0], [[0, 1, 0.5]], "F.hardswish(a)"),
    Point("hardshrink", F.hardshrink, [[-0.5, 0.5, 0.0, 2.0]], [0, 0, 0, 2], [[0, 0, 0, 1]], "F.hardshrink(a)"),
    Point("softshrink", F.softshrink, [[-0.5, 0.5, 0.0, 2.0]], [0, 0, 0, 1.5], [[0, 0, 0, 1]], "F.softshrink(a)"),
    Point("threshold", lambda x: F.threshold(x, 1.0, 5.0), [[1.0, 2.0, -inf, inf]], [5, 2, 5, inf], [[0, 1, 0, 1]],
          "F.threshold(a, 1.0, 5.0)"),
    Point("glu", F.glu, [[2.0, 2.0, 2.0, 0.0, -inf, inf, 0.0, inf]], [0, 2, 1, 0], [[0, 1, 0.5, 1, 0, 0, 0.5, 0]],
          "F.glu(a)"),
    Point("tanhshrink", F.tanhshrink, [[0.0, -inf]], [0, -inf], [[0, 1]], "F.tanhshrink(a)", second=nan),
    Point("softsign", F.softsign, [[0.0, 1.0]], [0, 0.5], [[1, 0.25]], "F.softsign(a)"),
    Point("logsigmoid", F.logsigmoid, [[0.0, -inf, inf]], [-math.log(2), -inf, 0], [[0.5, 1, 0]], "F.logsigmoid(a)"),
    Point("mish", F.mish, [[0.0, 30.0]], [0, 30], [[0.6, 1]], "F.mish(a)"),
    Point("softplus", F.softplus, [[0.0, -inf, inf]], [math.log(2), 0, inf], [[0.5, 0, 1]], "F.softplus(a)"),
]  # fmt: skip

SMOOTH = "smooth wherever it has a value"
LINEAR = "linear in each argument"
MOVES = "moves elements about, or repeats them"
LAYER = "of layers and losses, whose points are those of the layers"
LAYERS = {f"anynet.ops.{m}" for m in ("attention", "collectives", "convolution", "normalization", "padding", "pooling",
                                      "recurrent", "resampling")}  # fmt: skip

NO_POINT: dict[str, str] = {
    **dict.fromkeys(
        ("sin", "cos", "tan", "gammainc_ratio", "betainc_ratio", "sampled_gamma", "sampled_beta", "sampled_dirichlet",
         "gamma_rest", "log1p_less"), SMOOTH
    ),
    "rounded": "its gradient is the gradient that comes in, rounded, wherever the number lies",
    **dict.fromkeys((
        "add", "subtract", "multiply", "multiply_add", "negative", "positive", "conj", "real", "imag", "matmul", "vecdot", "tensordot",
        "linalg.matmul", "linalg.vecdot", "linalg.tensordot", "linalg.cross", "linalg.outer", "linalg.trace", "linear",
        "sum_to", "cast_to", "astype", "fft", "ifft", "rfft", "irfft", "fft.fft", "fft.ifft", "fft.fftn", "fft.ifftn", "fft.rfft",
        "fft.irfft", "fft.rfftn", "fft.irfftn", "fft.hfft", "fft.ihfft", "dropout", "sparse_matmul",
    ), LINEAR),
    **dict.fromkeys((
        "matrix_transpose", "linalg.matrix_transpose", "take", "take_along_axis", "broadcast_arrays", "broadcast_to", "concat",
        "expand_dims", "flip", "moveaxis", "permute_dims", "rearrange", "repeat", "reshape", "roll", "squeeze", "stack", "tile", "unstack",
        "meshgrid", "tril", "triu", "asarray", "from_dlpack", "linalg.diagonal", "diagonal", "fill_diagonal", "getitem",
        "setitem", "put", "put_rows", "gather_rows", "scatter_rows", "embedding", "fft.fftshift", "fft.ifftshift",
    ), MOVES),
    **dict.fromkeys(("linalg.inv", "inv", "linalg.solve", "solve", "linalg.cholesky", "cholesky"),
                    "a matrix without inverse or root is an error already in the forward pass"),
    "extreme_at": "equal ones share the gradient, as those of max and min do",
    **dict.fromkeys(("linalg.qr", "qr"), "only of full rank (its docstring)"),
    **dict.fromkeys((
        "binary_cross_entropy", "cross_entropy_rows", "divide_by_count", "gelu", "gelu_tanh", "huber", "logit_cross_entropy", "nll_rows", "silu",
        "squared_error",
    ), LAYER),
}  # fmt: skip


def differentiable() -> set[str]:
    """Every function with a gradient rule: those of the standard, of `anynet.special`, and the primitives (but for the
    modules of `LAYERS`)."""
    from anynet.ops import sparse  # noqa: F401  # which nothing but `anynet.torch` imports
    from anynet.ops.differentiability import TABLE

    names = {n for n, entry in TABLE.items() if entry.gradient == "rule"}
    own = {n for n, p in PRIMITIVES.items() if p.kind == "rule" and p.__module__ not in LAYERS}
    return names | set(S.__all__) | own
