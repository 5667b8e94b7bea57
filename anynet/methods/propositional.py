"""Propositional formulas: parsed, compiled to ordered binary decision diagrams, and counted exactly, with weights and gradients.

A reduced ordered binary decision diagram (Bryant: Graph-based algorithms for Boolean function manipulation, 1986) is a deterministic,
decomposable circuit, so that one pass over it sums the weights of all models (Darwiche and Marquis: A knowledge compilation map, 2002).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from anynet._hints import nearest
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops.creation import asarray, full, zeros
from anynet.ops.elementwise import exp, log, log1p, logaddexp
from anynet.ops.indexing import take
from anynet.ops.manipulation import concat
from anynet.ops.reductions import mean
from anynet.ops.reductions import sum as sum_over
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["Circuit", "Formula", "SemanticLoss", "exactly_one_loss", "semantic_loss"]

_TOKEN = re.compile(r"\s*(?:(<->|<=>|->|=>|>>|[~!¬&∧|∨^⊕()→↔,])|([A-Za-z_][\w.\[\]]*)|([01⊤⊥]))")
_SYMBOLS = {
    "~": "not", "!": "not", "¬": "not", "&": "and", "∧": "and", "|": "or", "∨": "or", "^": "xor", "⊕": "xor", "->": "implies",
    "=>": "implies", ">>": "implies", "→": "implies", "<->": "iff", "<=>": "iff", "↔": "iff",
}  # fmt: skip
_WORDS = ("not", "and", "or", "xor", "implies", "iff")
_CONSTANTS = {"true": True, "false": False, "1": True, "0": False, "⊤": True, "⊥": False}
_COUNTED = ("exactly_one", "at_most_one", "at_least_one")
_LOOSEST = ("iff", "implies", "or", "xor", "and")

Node = tuple[Any, ...]


class _Parser:
    """Recursive descent: ↔ binds least, then →, ∨, ⊕, ∧, ¬; → leans to the right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        at = 0
        end = len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self.error(f"unknown sign {text[at]!r}", at)
            word = found[found.lastindex or 0]
            self.tokens.append((_SYMBOLS.get(word, word), found.start(found.lastindex or 0)))
            at = found.end()
        self.tokens.append(("", end))
        self.at = 0

    def error(self, problem: str, at: int) -> ValueError:
        return ValueError(f"Formula: {problem} at position {at}\n  {self.text}\n  {' ' * at}^")

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][0]

    def peek(self) -> str:
        return self.tokens[self.at][0]

    def expect(self, sign: str) -> None:
        if self.peek() != sign:
            raise self.error(
                f"expected {sign!r}, got {self.peek()!r}" if self.peek() else f"{sign!r} is missing",
                self.tokens[self.at][1],
            )
        self.at += 1

    def whole(self) -> Node:
        node = self.level(0)
        if self.peek():
            raise self.error(f"expected an operator or the end, got {self.peek()!r}", self.tokens[self.at][1])
        return node

    def level(self, i: int) -> Node:
        if i == len(_LOOSEST):
            return self.operand()
        op = _LOOSEST[i]
        parts = [self.level(i + 1)]
        while self.peek() == op:
            self.at += 1
            parts.append(self.level(i + 1))
        if len(parts) == 1:
            return parts[0]
        if op in ("and", "or"):
            return (op, *parts)
        if op == "implies":
            return functools.reduce(lambda right, left: (op, left, right), reversed(parts[:-1]), parts[-1])
        return functools.reduce(lambda left, right: (op, left, right), parts)

    def operand(self) -> Node:
        word, at = self.tokens[self.at]
        if word == "not":
            self.at += 1
            return ("not", self.operand())
        if word == "(":
            self.at += 1
            inner = self.level(0)
            self.expect(")")
            return inner
        if word.lower() in _CONSTANTS:
            self.at += 1
            return ("constant", _CONSTANTS[word.lower()])
        if not word or word in _WORDS or not (word[0].isalpha() or word[0] == "_"):
            raise self.error(f"expected a variable, 'not' or '(', got {word or 'the end'!r}", at)
        self.at += 1
        if self.peek() != "(":
            return ("variable", word)
        if word not in _COUNTED:
            raise self.error(f"unknown function {word!r}{nearest(word, _COUNTED)}", at)
        self.at += 1
        parts = [self.level(0)]
        while self.peek() == ",":
            self.at += 1
            parts.append(self.level(0))
        self.expect(")")
        return (word, *parts)


class Formula:
    """A propositional formula, from text or by Python's operators.

    not: ``~ ! ¬ not``; and: ``& ∧ and``; exclusive or: ``^ ⊕ xor``; or: ``| ∨ or``; implies: ``-> => >> → implies``; if and only if:
    ``<-> <=> ↔ iff``, in this order from the tightest; ``true``, ``false``; ``exactly_one(a, b, …)``, ``at_most_one(…)``,
    ``at_least_one(…)``. In Python ``~a``, ``a & b``, ``a | b``, ``a ^ b``, ``a >> b``. `variables` are the names in the order in which they
    appear.

    Errors: ValueError with the position for what is no formula.

    >>> import anynet as an
    >>> f = an.methods.Formula("rain -> (wet and not dry)")
    >>> f.variables, f(rain=True, wet=True, dry=False), f(rain=True, wet=False, dry=False)
    (('rain', 'wet', 'dry'), True, False)
    >>> (f & an.methods.Formula("rain")).compile().count()
    1
    """

    def __init__(self, text: str | Formula) -> None:
        if isinstance(text, Formula):
            self.node: Node = text.node
        elif isinstance(text, str):
            self.node = _Parser(text).whole()
        else:
            msg = f"Formula: text must be a string, got {type(text).__name__}"
            raise TypeError(msg)

    @classmethod
    def _of(cls, node: Node) -> Formula:
        made = cls.__new__(cls)
        made.node = node
        return made

    def __and__(self, other: Formula | str) -> Formula:
        return Formula._of(("and", self.node, Formula(other).node))

    def __or__(self, other: Formula | str) -> Formula:
        return Formula._of(("or", self.node, Formula(other).node))

    def __xor__(self, other: Formula | str) -> Formula:
        return Formula._of(("xor", self.node, Formula(other).node))

    def __rshift__(self, other: Formula | str) -> Formula:
        return Formula._of(("implies", self.node, Formula(other).node))

    def __invert__(self) -> Formula:
        return Formula._of(("not", self.node))

    @property
    def variables(self) -> tuple[str, ...]:
        """The names, in the order in which they appear."""

        def names(node: Node) -> Iterator[str]:
            if node[0] == "variable":
                yield node[1]
            elif node[0] != "constant":
                for part in node[1:]:
                    yield from names(part)

        return tuple(dict.fromkeys(names(self.node)))

    def __call__(self, **values: bool) -> bool:
        """Whether it holds for these values."""
        if missing := [v for v in self.variables if v not in values]:
            msg = f"Formula: no value for {', '.join(missing)}"
            raise ValueError(msg)
        return bool(self.evaluate(lambda name: bool(values[name]), _BOOLEAN))

    def evaluate(self, value: Callable[[str], Any], operations: dict[str, Callable[..., Any]]) -> Any:
        """The formula in other values: `operations` has what constants, not, and, or, xor, implies, iff, exactly_one, … are there."""

        def walk(node: Node) -> Any:
            if node[0] == "variable":
                return value(node[1])
            if node[0] == "constant":
                return operations["constant"](node[1])
            return operations[node[0]](*(walk(part) for part in node[1:]))

        return walk(self.node)

    def compile(self, variables: Sequence[str] | None = None, max_nodes: int = 1_000_000) -> Circuit:
        """A circuit over `variables` (those of the formula unless given), in the order of their columns."""
        return Circuit(self, variables, max_nodes)

    def __repr__(self) -> str:
        return f"Formula({_shown(self.node)!r})"


_BOOLEAN: dict[str, Callable[..., Any]] = {
    "constant": bool,
    "not": lambda a: not a,
    "and": lambda *a: all(a),
    "or": lambda *a: any(a),
    "xor": lambda a, b: a != b,
    "implies": lambda a, b: not a or b,
    "iff": lambda a, b: a == b,
    "exactly_one": lambda *a: sum(a) == 1,
    "at_most_one": lambda *a: sum(a) <= 1,
    "at_least_one": lambda *a: any(a),
}
_SHOWN = {"and": " & ", "or": " | ", "xor": " ^ ", "implies": " -> ", "iff": " <-> "}


def _shown(node: Node) -> str:
    kind = node[0]
    if kind in ("variable", "constant"):
        return str(node[1]).lower() if kind == "constant" else str(node[1])
    if kind == "not":
        return f"~{_shown(node[1])}"
    if kind in _COUNTED:
        return f"{kind}({', '.join(map(_shown, node[1:]))})"
    return f"({_SHOWN[kind].join(map(_shown, node[1:]))})"


class Circuit:
    """A formula as a reduced ordered binary decision diagram over named variables: one column each.

    `size` is the number of decisions, `count()` that of the models, `log_count` and `probability` sum over all models exactly, in one pass.

    Errors: ValueError for a formula with variables that are not among `variables`, for names twice, and where the diagram would get
    more than `max_nodes` decisions (another order of the variables may be smaller).

    >>> import anynet as an
    >>> c = an.methods.Formula("exactly_one(a, b, c)").compile()
    >>> c.size, c.count(), round(c.probability(an.asarray([[0.5, 0.5, 0.5]])).item(), 4)
    (5, 3, 0.375)
    """

    def __init__(
        self, formula: Formula | str, variables: Sequence[str] | None = None, max_nodes: int = 1_000_000
    ) -> None:
        formula = Formula(formula)
        self.formula = formula
        self.variables = formula.variables if variables is None else tuple(variables)
        if len(set(self.variables)) != len(self.variables):
            msg = f"Circuit: a variable is named twice in {self.variables}"
            raise ValueError(msg)
        if unknown := [v for v in formula.variables if v not in self.variables]:
            msg = f"Circuit: the formula has {', '.join(unknown)}, which is not among the variables {', '.join(self.variables)}"
            raise ValueError(msg)
        self._limit = max_nodes
        n = len(self.variables)
        # decisions as (variable, if false, if true); 0 and 1 are the constants, at the level n
        self._nodes: list[tuple[int, int, int]] = [(n, 0, 0), (n, 1, 1)]
        self._known: dict[tuple[int, int, int], int] = {}
        self._memo: dict[tuple[str, int, int], int] = {}
        index = {name: i for i, name in enumerate(self.variables)}
        operations: dict[str, Callable[..., Any]] = {
            "constant": int, "not": lambda a: self._apply("xor", a, 1), "xor": lambda a, b: self._apply("xor", a, b),
            "and": lambda *a: functools.reduce(lambda x, y: self._apply("and", x, y), a),
            "or": lambda *a: functools.reduce(lambda x, y: self._apply("or", x, y), a),
            "implies": lambda a, b: self._apply("or", self._apply("xor", a, 1), b),
            "iff": lambda a, b: self._apply("xor", self._apply("xor", a, b), 1),
            "exactly_one": lambda *a: self._counted(a)[1], "at_most_one": lambda *a: self._apply("or", *self._counted(a)[:2]),
            "at_least_one": lambda *a: functools.reduce(lambda x, y: self._apply("or", x, y), a),
        }  # fmt: skip
        self.root: int = formula.evaluate(lambda name: self._node(index[name], 0, 1), operations)
        self._levels = self._by_level()

    def _node(self, variable: int, low: int, high: int) -> int:
        if low == high:
            return low
        key = (variable, low, high)
        if key not in self._known:
            if len(self._nodes) >= self._limit:
                msg = (
                    f"Circuit: the formula takes more than max_nodes={self._limit} decisions in this order of the variables; "
                    "give `variables` in another order, those that belong together beside each other"
                )
                raise ValueError(msg)
            self._known[key] = len(self._nodes)
            self._nodes.append(key)
        return self._known[key]

    def _apply(self, op: str, f: int, g: int) -> int:
        """f ∧ g, f ∨ g or f ⊕ g, by their decisions; a stack of its own, since formulas may have thousands of variables."""
        stack = [(f, g)]
        memo, nodes = self._memo, self._nodes
        while stack:
            a, b = stack[-1]
            if (op, a, b) in memo:
                stack.pop()
                continue
            known = _TERMINAL[op](a, b)
            if known is None:
                level = min(nodes[a][0], nodes[b][0])
                a0, a1 = nodes[a][1:] if nodes[a][0] == level else (a, a)
                b0, b1 = nodes[b][1:] if nodes[b][0] == level else (b, b)
                low, high = memo.get((op, a0, b0)), memo.get((op, a1, b1))
                if low is None or high is None:
                    stack += [(a0, b0)] * (low is None) + [(a1, b1)] * (high is None)
                    continue
                known = self._node(level, low, high)
            memo[op, a, b] = known
            stack.pop()
        return memo[op, f, g]

    def _counted(self, parts: Sequence[int]) -> tuple[int, int]:
        """That none of them holds, and that exactly one does."""
        none, one = 1, 0
        for part in reversed(parts):
            away = self._apply("xor", part, 1)
            one = self._apply("or", self._apply("and", part, none), self._apply("and", away, one))
            none = self._apply("and", away, none)
        return none, one

    def _by_level(self) -> list[list[int]]:
        """The decisions that can be reached, by their variable."""
        levels: list[list[int]] = [[] for _ in self.variables]
        seen, stack = {0, 1}, [self.root]
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            variable, low, high = self._nodes[at]
            levels[variable].append(at)
            stack += [low, high]
        return [sorted(level) for level in levels]

    @property
    def size(self) -> int:
        """The number of decisions."""
        return sum(map(len, self._levels))

    def count(self) -> int:
        """How many assignments of all variables satisfy the formula, exactly."""
        counts = {0: 0, 1: 1}
        for level in reversed(self._levels):
            for at in level:
                variable, low, high = self._nodes[at]
                counts[at] = sum(counts[c] << (self._nodes[c][0] - variable - 1) for c in (low, high))
        found: int = counts[self.root] << self._nodes[self.root][0]
        return found

    def log_count(self, log_true: ArrayLike, log_false: ArrayLike) -> Tensor:
        """The weighted model count log Σ_{x ⊨ α} Π w(xᵢ), of log-weights of each variable being true and false: (…, variables) → (…).

        Weights need not sum to 1. −∞ where the formula has no model of positive weight.

        >>> import anynet as an
        >>> c = an.methods.Circuit("a | b")
        >>> w = an.log(an.asarray([[2.0, 3.0]]))  # weights 2 and 3 of true, 1 of false: 2·1 + 1·3 + 2·3
        >>> round(an.exp(c.log_count(w, an.zeros((1, 2)))).item(), 4)
        11.0
        """
        n = len(self.variables)
        if not log_true.shape or log_true.shape[-1] != n or tuple(log_true.shape) != tuple(log_false.shape):
            msg = (
                f"Circuit: weights must have the shape (…, {n}), a column for each of {', '.join(self.variables) or 'no variable'}, "
                f"got {tuple(log_true.shape)} and {tuple(log_false.shape)}"
            )
            raise ShapeError(msg)
        true, false = asarray(log_true), asarray(log_false)
        shape = (*true.shape[:-1], 1)
        # what a variable adds that no decision asks for: w(1) + w(0)
        either = logaddexp(true, false)
        values = concat(
            [full(shape, -math.inf, dtype=true.dtype, device=true.device), zeros(shape, dtype=true.dtype, device=true.device)],
            axis=-1,
        )  # fmt: skip
        places = {0: 0, 1: 1}
        for variable in range(n - 1, -1, -1):
            level = self._levels[variable]
            column = slice(variable, variable + 1)
            parts = []
            if level:
                lows, highs = (
                    asarray([places[self._nodes[at][k]] for at in level], device=true.device) for k in (1, 2)
                )
                parts.append(
                    logaddexp(
                        false[..., column] + take(values, lows, axis=-1),
                        true[..., column] + take(values, highs, axis=-1),
                    )
                )
            # those below skip this variable
            values = concat([values + either[..., column], *parts], axis=-1)
            for at in level:
                places[at] = len(places)
        found: Tensor = values[..., places[self.root]]
        return found

    def log_probability(self, logits: ArrayLike) -> Tensor:
        """log P(α) of independent variables with P(xᵢ) = σ(zᵢ): logits (…, variables) → (…)."""
        return self.log_count(F.logsigmoid(logits), F.logsigmoid(-asarray(logits)))

    def probability(self, p: ArrayLike) -> Tensor:
        """P(α) of independent variables with probabilities p: (…, variables) → (…)."""
        p = asarray(p)
        return exp(self.log_count(log(p), log1p(-p)))

    def __repr__(self) -> str:
        return f"Circuit({_shown(self.formula.node)!r}, variables={self.variables}, size={self.size})"


def _and(a: int, b: int) -> int | None:
    if a == 0 or b == 0:
        return 0
    return b if a == 1 or a == b else a if b == 1 else None


def _or(a: int, b: int) -> int | None:
    if a == 1 or b == 1:
        return 1
    return b if a == 0 or a == b else a if b == 0 else None


def _xor(a: int, b: int) -> int | None:
    if a == b:
        return 0
    if a + b == 1:
        return 1
    return b if a == 0 else a if b == 0 else None


_TERMINAL: dict[str, Callable[[int, int], int | None]] = {"and": _and, "or": _or, "xor": _xor}


# ----- losses -----


class SemanticLoss(Module):
    """L = −log Σ_{x ⊨ α} Π_{xᵢ} pᵢ Π_{¬xᵢ} (1 − pᵢ), pᵢ = σ(zᵢ): how unlikely it is that independent draws satisfy the formula α.

    Summed exactly over all models by a compiled circuit, in log space. `forward(logits)`: (n, variables) → the mean, ``reduction="sum"``
    the sum, "none" (n,).

    Parameters:
      formula: a text, a `Formula` or a `Circuit`.
      variables: the names of the columns, in their order; those of the formula, in the order in which they appear, unless given.

    Errors: ValueError for a formula that nothing satisfies, and for another `reduction`; `ShapeError` for another number of columns.

    >>> import anynet as an
    >>> loss = an.methods.SemanticLoss("a xor b")
    >>> round(loss(an.asarray([[0.0, 0.0]])).item(), 4)  # −log ½
    0.6931

    Source: Xu et al.: A semantic loss function for deep learning with symbolic knowledge (2018), definition 1.
    """

    def __init__(
        self,
        formula: str | Formula | Circuit,
        variables: Sequence[str] | None = None,
        reduction: str = "mean",
    ) -> None:
        if reduction not in ("mean", "sum", "none"):
            msg = f"SemanticLoss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
            raise ValueError(msg)
        self.circuit = formula if isinstance(formula, Circuit) else Circuit(formula, variables)
        if self.circuit.root == 0:
            msg = "SemanticLoss: no assignment satisfies the formula, so the loss would be infinite"
            raise ValueError(msg)
        self.reduction = reduction

    def forward(self, logits: ArrayLike) -> Tensor:
        """The loss of logits (n, variables)."""
        return _reduced(-self.circuit.log_probability(logits), self.reduction)


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum_over(losses)


@functools.lru_cache(maxsize=32)
def _compiled(text: str, variables: tuple[str, ...] | None) -> SemanticLoss:
    return SemanticLoss(text, variables, "none")


def semantic_loss(
    formula: str | Formula | Circuit,
    logits: ArrayLike,
    variables: Sequence[str] | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`SemanticLoss` as a function; texts are compiled once.

    >>> import anynet as an
    >>> z = an.asarray([[0.3, -1.0, 2.0]])
    >>> a = an.methods.semantic_loss("exactly_one(a, b, c)", z)
    >>> abs(a - an.methods.exactly_one_loss(z)).item() < 1e-6
    True
    """
    if reduction not in ("mean", "sum", "none"):
        msg = f"semantic_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        raise ValueError(msg)
    if isinstance(formula, str):
        loss = _compiled(formula, None if variables is None else tuple(variables))
    else:
        loss = SemanticLoss(formula, variables, "none")
    return _reduced(loss(logits), reduction)


def exactly_one_loss(logits: ArrayLike, reduction: str = "mean") -> Tensor:
    """The semantic loss of "exactly one of the columns" in closed form: −[logsumexp(z) + Σ log σ(−z)], since
    Σᵢ pᵢ Π_{j ≠ i} (1 − pⱼ) = Σᵢ e^{zᵢ} · Πⱼ (1 − pⱼ).

    Logits (n, k) → a number, "none": (n,). Errors: ValueError for another `reduction`.

    >>> import anynet as an
    >>> round(an.methods.exactly_one_loss(an.asarray([[0.0, 0.0]])).item(), 4)
    0.6931

    Source: Xu et al. (2018), section 4.
    """
    if reduction not in ("mean", "sum", "none"):
        msg = f"exactly_one_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        raise ValueError(msg)
    z = asarray(logits)
    losses = -(F.logsumexp(z, dim=-1) + sum_over(F.logsigmoid(-z), axis=-1))
    return _reduced(losses, reduction)
