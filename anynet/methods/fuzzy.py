"""Fuzzy logic: truth in [0, 1], connectives by a t-norm, quantifiers, and layers of them; exact counting for sums of classified digits.

Sources: Klement, Mesiar and Pap: Triangular norms (2000); Badreddine et al.: Logic tensor networks (2022); sums: Manhaeve et al.:
DeepProbLog (2018).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.methods.propositional import Formula
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops.creation import arange, asarray, full, zeros_like
from anynet.ops.elementwise import clip, maximum, minimum
from anynet.ops.elementwise import where as choose
from anynet.ops.indexing import take
from anynet.ops.manipulation import astype, broadcast_to, concat, expand_dims, reshape
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import mean, prod
from anynet.ops.reductions import min as min_over
from anynet.ops.reductions import sum as sum_over
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["FormulaLayer", "FuzzyLogic", "LogicLayer", "addition_loss", "log_sum_distribution"]

_NORMS = ("godel", "product", "lukasiewicz")


class FuzzyLogic:
    """The connectives of a t-norm, of truths in [0, 1] of any shapes that broadcast:

    ================  ==================  ======================  =========================
    connective        "godel"             "product"               "lukasiewicz"
    ================  ==================  ======================  =========================
    ``a and b``       min(a, b)           a b                     max(0, a + b − 1)
    ``a or b``        max(a, b)           a + b − a b             min(1, a + b)
    a → b, residuum   1 if a ≤ b else b   1 if a ≤ b else b / a   min(1, 1 − a + b)
    a → b, strong     max(1 − a, b)       1 − a + a b             min(1, 1 − a + b)
    ================  ==================  ======================  =========================

    not a = 1 − a. The residuum is the largest c with T(a, c) ≤ b; the strong implication is (not a) or b.

    Parameters:
      norm: which t-norm ("gödel" and "łukasiewicz" are understood).
      implication: "residuum" or "strong".

    Errors: ValueError for another norm or implication.

    >>> import anynet as an
    >>> logic = an.methods.FuzzyLogic("lukasiewicz")
    >>> round(logic.conjunction(an.asarray(0.7), an.asarray(0.6)).item(), 4)
    0.3
    >>> round(logic.truth("rain -> wet", rain=an.asarray(0.9), wet=an.asarray(0.6)).item(), 4)
    0.7
    """

    def __init__(self, norm: str = "product", implication: str = "residuum") -> None:
        word = str(norm).lower().replace("ö", "o").replace("ł", "l")
        if word not in _NORMS:
            msg = f"FuzzyLogic: norm must be one of {', '.join(_NORMS)}, got {norm!r}"
            raise ValueError(msg)
        if implication not in ("residuum", "strong"):
            msg = f"FuzzyLogic: implication must be 'residuum' or 'strong', got {implication!r}"
            raise ValueError(msg)
        self.norm, self.implication = word, implication

    def negation(self, a: ArrayLike) -> Tensor:
        """1 − a."""
        return 1.0 - asarray(a)

    def conjunction(self, *parts: ArrayLike) -> Tensor:
        """The t-norm of any number of truths."""
        return functools.reduce(self._and, map(asarray, parts))

    def disjunction(self, *parts: ArrayLike) -> Tensor:
        """The t-conorm, 1 − T(1 − a, 1 − b), of any number of truths."""
        return functools.reduce(self._or, map(asarray, parts))

    def _and(self, a: Tensor, b: Tensor) -> Tensor:
        if self.norm == "godel":
            return minimum(a, b)
        return a * b if self.norm == "product" else clip(a + b - 1.0, 0.0, None)

    def _or(self, a: Tensor, b: Tensor) -> Tensor:
        if self.norm == "godel":
            return maximum(a, b)
        return a + b - a * b if self.norm == "product" else clip(a + b, None, 1.0)

    def implies(self, a: ArrayLike, b: ArrayLike) -> Tensor:
        """a → b."""
        a, b = asarray(a), asarray(b)
        if self.implication == "strong":
            return self._or(1.0 - a, b)
        if self.norm == "lukasiewicz":
            return clip(1.0 - a + b, None, 1.0)
        less = a <= b
        # where a ≤ b the quotient is not read; a denominator of 1 keeps its gradient finite
        other = b if self.norm == "godel" else b / choose(less, 1.0, a)
        return choose(less, 1.0, other)

    def iff(self, a: ArrayLike, b: ArrayLike) -> Tensor:
        """(a → b) and (b → a)."""
        return self._and(self.implies(a, b), self.implies(b, a))

    def forall(
        self, a: ArrayLike, axis: int | None = None, p: float | None = None, where: ArrayLike | None = None
    ) -> Tensor:
        """All along `axis` (all axes): the t-norm of them, or with p logic tensor networks' 1 − (mean (1 − a)^p)^(1/p).

        `where`, booleans that broadcast with a, guards the quantifier: all for which it holds. True where it holds for none.

        >>> import anynet as an
        >>> a = an.asarray([0.5, 0.9, 0.0])
        >>> logic = an.methods.FuzzyLogic()
        >>> round(logic.forall(a, where=a > 0).item(), 4), round(logic.forall(a, p=1, where=a > 0).item(), 4)
        (0.45, 0.7)
        """
        a = asarray(a)
        if p is None and self.norm == "godel":
            return min_over(a if where is None else choose(where, a, 1.0), axis=axis)
        return 1.0 - self.exists(1.0 - a, axis, p, where)

    def exists(
        self, a: ArrayLike, axis: int | None = None, p: float | None = None, where: ArrayLike | None = None
    ) -> Tensor:
        """One along `axis` (all axes): the t-conorm of them, or with p logic tensor networks' (mean a^p)^(1/p).

        `where`, booleans that broadcast with a, guards the quantifier: one for which it holds. False where it holds for none.
        """
        a = asarray(a)
        if p is not None:
            return self._mean(a, axis, p, where)
        if where is not None:
            a = choose(where, a, 0.0)
        if self.norm == "godel":
            return max_over(a, axis=axis)
        return (
            1.0 - prod(1.0 - a, axis=axis)
            if self.norm == "product"
            else clip(sum_over(a, axis=axis), None, 1.0)
        )

    @staticmethod
    def _mean(a: Tensor, axis: int | None, p: float, guard: ArrayLike | None) -> Tensor:
        check_number("FuzzyLogic", "p", p, 1)
        # the root's gradient is infinite at 0: logic tensor networks' "stable" form moves truths away from it by 1e-4
        powers = a if p == 1 else ((1.0 - 1e-4) * a + 1e-4) ** p
        if guard is None:
            average = mean(powers, axis=axis)
        else:
            guard = broadcast_to(asarray(guard, device=a.device), a.shape)
            count = sum_over(astype(guard, a.dtype), axis=axis)
            average = sum_over(choose(guard, powers, 0.0), axis=axis) / maximum(count, 1.0)
        if p == 1:
            return average
        if guard is None:
            return average ** (1.0 / p)
        # an empty guard leaves 0, at which the root has no finite gradient
        some = count > 0
        return choose(some, choose(some, average, 1.0) ** (1.0 / p), 0.0)

    def truth(self, formula: str | Formula, **values: ArrayLike) -> Tensor:
        """How true a formula is for these truths of its variables."""
        formula = Formula(formula)
        if missing := [v for v in formula.variables if v not in values]:
            msg = f"FuzzyLogic.truth: no value for {', '.join(missing)}"
            raise ValueError(msg)
        return asarray(formula.evaluate(lambda name: asarray(values[name]), self._operations()))

    def _operations(self) -> dict[str, Callable[..., Any]]:
        def xor(a: Any, b: Any) -> Any:
            return self._and(self._or(a, b), 1.0 - self._and(a, b))

        def alone(*parts: Any) -> list[Any]:
            return [
                self.conjunction(*(q if i == k else 1.0 - q for i, q in enumerate(parts)))
                for k in range(len(parts))
            ]

        def none(*parts: Any) -> Any:
            return self.conjunction(*(1.0 - q for q in parts))

        return {
            "constant": lambda v: asarray(1.0 if v else 0.0), "not": self.negation, "and": self.conjunction, "or": self.disjunction,
            "xor": xor, "implies": self.implies, "iff": self.iff, "at_least_one": self.disjunction,
            "exactly_one": lambda *q: self.disjunction(*alone(*q)), "at_most_one": lambda *q: self.disjunction(none(*q), *alone(*q)),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"FuzzyLogic({self.norm!r}, {self.implication!r})"


class FormulaLayer(Module):
    """How true a formula is, as a layer: truths in [0, 1] (…, variables), a column for each → (…).

    Errors: ValueError for variables that are missing; `ShapeError` for another number of columns.

    >>> import anynet as an
    >>> layer = an.methods.FormulaLayer("a & ~b", ["a", "b"])
    >>> round(layer(an.asarray([[0.5, 0.2]])).item(), 4)
    0.4
    """

    def __init__(
        self,
        formula: str | Formula,
        variables: Sequence[str] | None = None,
        norm: str = "product",
        implication: str = "residuum",
    ) -> None:
        self.formula, self.logic = Formula(formula), FuzzyLogic(norm, implication)
        self.variables = self.formula.variables if variables is None else tuple(variables)
        if unknown := [v for v in self.formula.variables if v not in self.variables]:
            msg = f"FormulaLayer: the formula has {', '.join(unknown)}, not among the variables {', '.join(self.variables)}"
            raise ValueError(msg)

    def forward(self, truths: ArrayLike) -> Tensor:
        """The truth of each row."""
        if not truths.shape or truths.shape[-1] != len(self.variables):
            msg = f"FormulaLayer: truths must have {len(self.variables)} columns, got shape {tuple(truths.shape)}"
            raise ShapeError(msg)
        x = asarray(truths)
        return self.logic.truth(self.formula, **{v: x[..., i] for i, v in enumerate(self.variables)})


class LogicLayer(Module):
    """Conjunctions, or disjunctions, of learned subsets of the inputs: y_j = T_i(m_ij → x_i), or S_i(T(m_ij, x_i)); m = σ(w) in (0, 1) says
    how much input i belongs to rule j; T, S the t-norm and its conorm, → the strong implication.

    Shapes: truths (n, in_features) → (n, out_features). For the product, 1 − m (1 − x) and m x, it is Payani and Fekri's.

    Parameters: kind "and" or "or"; norm as for `FuzzyLogic`. `rules(names)` reads the rules off.

    Errors: ValueError for sizes below 1 and another kind; `ShapeError` for other shapes.

    >>> import anynet as an
    >>> layer = an.methods.LogicLayer(2, 1, "and")
    >>> layer.weight.assign_(an.asarray([[9.0, -9.0]]))
    Parameter([[ 9., -9.]], requires_grad=True)
    >>> [round(v, 2) for v in layer(an.asarray([[1.0, 0.0], [0.0, 1.0]]))[:, 0].tolist()], layer.rules(["a", "b"])
    ([1.0, 0.0], ['a'])

    Source: Payani and Fekri: Learning algorithms via neural logic networks (2019), equations 3 and 4.
    """

    def __init__(self, in_features: int, out_features: int, kind: str = "and", norm: str = "product") -> None:
        check_count("LogicLayer", "in_features", in_features)
        check_count("LogicLayer", "out_features", out_features)
        if kind not in ("and", "or"):
            msg = f"LogicLayer: kind must be 'and' or 'or', got {kind!r}"
            raise ValueError(msg)
        self.kind, self.logic = kind, FuzzyLogic(norm, "strong")
        self.weight = Parameter(random.normal((out_features, in_features), mean=-1.0, std=0.5))

    def forward(self, x: ArrayLike) -> Tensor:
        """The truth of each rule."""
        if len(x.shape) != 2 or x.shape[1] != self.weight.shape[1]:
            msg = f"LogicLayer: truths must have the shape (n, {self.weight.shape[1]}), got {tuple(x.shape)}"
            raise ShapeError(msg)
        member, truths = F.sigmoid(self.weight), expand_dims(asarray(x), axis=1)
        if self.kind == "and":
            return self.logic.forall(self.logic.implies(member, truths), axis=-1)
        return self.logic.exists(self.logic.conjunction(member, truths), axis=-1)

    def rules(self, names: Sequence[str]) -> list[str]:
        """Each rule in words, of the inputs whose m is above ½."""
        word = f" {self.kind} "
        return [
            word.join(n for n, w in zip(names, row, strict=True) if w > 0)
            or ("true" if self.kind == "and" else "false")
            for row in self.weight.tolist()
        ]


# ----- sums, counted exactly -----


def log_sum_distribution(*log_probabilities: ArrayLike) -> Tensor:
    """log P(Σ dᵢ = s) of independent digits with log-probabilities (n, kᵢ), digit 0 first: → (n, Σ (kᵢ − 1) + 1), s from 0.

    P(s) = Σ_a P₁(a) P₂(s − a), one digit after the other, in log space: all worlds are counted.

    Errors: ValueError without digits; `ShapeError` for other shapes.

    >>> import anynet as an
    >>> coin = an.log(an.asarray([[0.5, 0.5]]))
    >>> [round(p, 4) for p in an.exp(an.methods.log_sum_distribution(coin, coin))[0, :].tolist()]
    [0.25, 0.5, 0.25]

    Source: Manhaeve et al. (2018), the addition of section 5.
    """
    if not log_probabilities:
        msg = "log_sum_distribution: there must be at least one digit, got none"
        raise ValueError(msg)
    if any(len(q.shape) != 2 or q.shape[0] != log_probabilities[0].shape[0] for q in log_probabilities):
        shapes = ", ".join(str(tuple(q.shape)) for q in log_probabilities)
        msg = (
            f"log_sum_distribution: digits must have the shapes (n, k₁), (n, k₂), … with one n, got {shapes}"
        )
        raise ShapeError(msg)
    return functools.reduce(_convolved, map(asarray, log_probabilities))


def _convolved(a: Tensor, b: Tensor) -> Tensor:
    n, k = a.shape
    m = int(b.shape[1])
    # row i of the table is b moved i to the right; a column of −∞ stands where s − a is no digit
    padded = concat([b, full((n, 1), float("-inf"), dtype=b.dtype, device=b.device)], axis=1)
    columns = expand_dims(arange(k + m - 1, device=b.device), axis=0) - expand_dims(
        arange(k, device=b.device), axis=1
    )
    columns = choose((columns >= 0) & (columns < m), columns, zeros_like(columns) + m)
    table = reshape(take(padded, reshape(columns, (-1,)), axis=1), (n, k, k + m - 1))
    return F.logsumexp(expand_dims(a, axis=-1) + table, dim=1)


def addition_loss(logits: Sequence[ArrayLike], sums: ArrayLike) -> Tensor:
    """The mean of −log P(sum) of digits that are known by their sum alone: what trains a classifier of digits from sums.

    Logits: a sequence of (n, kᵢ), the digits of each row; sums integers (n,). Errors: those of `log_sum_distribution`, and of
    `nll_loss` for sums that cannot be.

    >>> import anynet as an
    >>> z = an.zeros((1, 2))
    >>> round(an.methods.addition_loss([z, z], an.asarray([1])).item(), 4)  # −log ½
    0.6931
    """
    return F.nll_loss(log_sum_distribution(*(F.log_softmax(z, dim=-1) for z in logits)), sums)
