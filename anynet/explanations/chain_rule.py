"""The chain rule with numbers: for each operation of a graph its formula, its value, its derivative, and what it passes on.

    ∂L/∂u = Σ over uses v of u   ∂L/∂v · ∂v/∂u

Each term is computed three times: from the textbook's formula (`anynet.explanations.derivatives`), by the gradient rule that a backward
pass runs, and by finite differences of the operation alone. The sums are compared with a backward pass of the graph as it was given, and
with finite differences of the whole chain.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynet import dtypes
from anynet.autograd.backward import backprop
from anynet.autograd.graph import Leaf, walk
from anynet.explanations import differences, formula
from anynet.explanations.derivatives import DERIVATIVES, FUNCTIONS, Derivative
from anynet.explanations.explanation import (
    Block,
    Cell,
    Check,
    Explanation,
    Paragraph,
    Table,
    equal,
    formatted,
    math_cell,
    partial,
    plain,
    value_cell,
)
from anynet.explanations.naming import Names
from anynet.explanations.recording import Operation, repeated
from anynet.ops.manipulation import reshape
from anynet.tensor import Tensor, no_grad, wrap
from anynet_backends import backend_of, resolve

__all__ = ["explain_graph", "explain_operations", "jsonable"]

_REDUCTIONS = frozenset(("sum", "mean", "prod", "logsumexp"))
_JACOBIAN = 64
_WHOLE = 24


@dataclass
class _Term:
    """How one input of an operation receives its gradient."""

    name: str
    edge: Any
    rule: ast.expr | None  # the slope, or the gradient itself where `pullback`
    pullback: bool
    words: str
    local: Any
    upstream: Any
    product: Any
    autograd: Check
    difference: Check
    note: str = ""  # what is to be said of a derivative that is not finite here


@dataclass
class _Row:
    """One operation."""

    name: str
    label: str
    formula: ast.expr
    value: Any
    upstream: Any
    terms: list[_Term] = field(default_factory=list)


def jsonable(x: Any, most: int = 512) -> Any:
    """A number, the elements of an array, or its shape and norm where there are many."""
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, float):
        return x if math.isfinite(x) else str(x)
    values = x.numpy() if isinstance(x, Tensor) else x
    if values.size <= most:
        listed = values.tolist()
        return _finite(listed)
    norm = float((values.astype("float64") ** 2).sum()) ** 0.5 if values.dtype.kind == "f" else None
    return {"shape": list(values.shape), "norm": norm}


def _finite(x: Any) -> Any:
    return [_finite(v) for v in x] if isinstance(x, list) else jsonable(x)


def explain_graph(loss: Tensor, names: Names, digits: int) -> Explanation:
    """The explanation of a Tensor with a graph, which is computed again in double precision."""
    again = repeated(loss)
    own = Names()
    for key, tensor in again.made.items():
        name = names.edges.get(key)
        if name is not None:
            own.add(name, tensor)
    for leaf in again.leaves:
        if leaf.name and id(leaf) not in names.edges:
            own.add(leaf.name, again.made[id(leaf)])
    for tensor, array in again.constants:
        if id(array) in names.arrays:
            own.arrays[id(tensor._data)] = names.arrays[id(array)]
    name = dtypes.of(loss._data.dtype).name
    gradients = _gradients(loss, again.leaves)
    given = {id(again.made[id(leaf)].edge): g for leaf, g in zip(again.leaves, gradients, strict=True)}
    return explain_operations(again.root, again.operations, own, digits, given, name, float(loss))


def _gradients(loss: Tensor, leaves: Sequence[Leaf]) -> list[Any]:
    """What a backward pass of the graph itself gives, without leaving anything behind."""
    xp = backend_of(loss._data)
    one = xp.ones_like(loss._data)
    found = backprop([(loss.edge, one)], targets=list(leaves), retain_graph=True) if leaves else []
    return [None if g is None else g for g in found or ()]


def explain_operations(
    root: Tensor, operations: Sequence[Operation], names: Names, digits: int, given: Mapping[int, Any], dtype: str, value: float,
    title: str = "",
) -> Explanation:  # fmt: skip
    """The explanation of operations whose values are in double precision, of which `root` is the last result."""
    reach = {id(n) for n in walk([root.edge], 0)}
    chain = [o for o in operations if o.node is not None and id(o.node) in reach]
    leaves = _leaves(chain, root)
    labels = _Labels(names, root, chain, leaves)
    for o in chain:
        for y in o.outputs:
            if y.edge is not None:
                y.retain_grad()
    for x in leaves.values():
        x.grad = None
    with resolve("cpu")[0].errstate():  # what is not finite is a result here
        root.backward(retain_graph=True)
        rows = [_row(o, labels) for o in chain]
        return _written(rows, root, chain, leaves, labels, digits, given, dtype, value, title)


def _leaves(chain: Sequence[Operation], root: Tensor) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for x in (*(a for o in chain for a in o.args), root):
        if isinstance(x, Tensor) and type(x.edge) is Leaf:
            found.setdefault(id(x.edge), x)
    return found


class _Labels:
    """A name for each variable and each result."""

    def __init__(
        self, names: Names, root: Tensor, chain: Sequence[Operation], leaves: Mapping[int, Tensor]
    ) -> None:
        self.by_edge: dict[int, str] = {}
        self.arrays = names.arrays
        self.taken = set(names.edges.values()) | set(names.arrays.values())
        self.constants: dict[int, tuple[str, Tensor]] = {}
        self.root = names.edges.get(id(root.edge)) or self._free("L", plain=True)
        self.by_edge[id(root.edge)] = self.root
        for key, _ in leaves.items():
            self.by_edge.setdefault(key, names.edges.get(key) or self._free("x"))
        for o in chain:
            for y in o.outputs:
                if y.edge is not None and id(y.edge) not in self.by_edge:
                    self.by_edge[id(y.edge)] = names.edges.get(id(y.edge)) or self._free("u")

    def _free(self, letter: str, plain: bool = False) -> str:
        if plain and letter not in self.taken:
            self.taken.add(letter)
            return letter
        k = 1
        while f"{letter}{k}" in self.taken:
            k += 1
        self.taken.add(f"{letter}{k}")
        return f"{letter}{k}"

    def of(self, x: Any) -> ast.expr:
        """An argument in a formula."""
        if not isinstance(x, Tensor):
            return (
                ast.Constant(x)
                if x is None or isinstance(x, (bool, int, float))
                else ast.Name(f"{type(x).__name__}", ast.Load())
            )
        if x.edge is not None:
            return ast.Name(self.by_edge[id(x.edge)], ast.Load())
        if x._data.shape == () or math.prod(x.shape) == 1:
            name = self.arrays.get(id(x._data))
            return ast.Name(name, ast.Load()) if name else ast.Constant(x.item())
        if id(x._data) not in self.constants:
            self.constants[id(x._data)] = (self.arrays.get(id(x._data)) or self._free("c"), x)
        return ast.Name(self.constants[id(x._data)][0], ast.Load())


# ----- one operation -----


def _row(o: Operation, labels: _Labels) -> _Row:
    y = next(y for y in o.outputs if y.edge is not None)
    name = labels.by_edge[id(y.edge)]
    known = DERIVATIVES.get(o.label) if o.prim is not None else None
    symbols = _symbols(o, labels, name)
    upstream = [v.grad if v.edge is not None else None for v in o.outputs]
    row = _Row(
        name,
        o.label,
        _formula(o, known, symbols, labels),
        y,
        next((g for g in upstream if g is not None), None),
    )
    full = [
        g if g is not None else wrap(backend_of(v._data).zeros_like(v._data))
        for g, v in zip(upstream, o.outputs, strict=True)
    ]
    node = o.node
    several = bool(getattr(node, "count", 0))
    g: Any = tuple(v._data for v in full) if several else full[0]._data
    gradients = differences.rule_gradients(o, g)
    for i, x in enumerate(o.args):
        if not isinstance(x, Tensor) or x.edge is None or not x.dtype.is_floating:
            continue
        got = gradients.get(i)
        contribution = None if got is None else differences.fitted(got, x)
        row.terms.append(_term(o, i, known, symbols, labels, full, contribution))
    return row


def _symbols(o: Operation, labels: _Labels, y: str) -> dict[str, ast.expr]:
    """What stands for the names in the formulas of a primitive."""
    if o.prim is None:
        return {}
    found: dict[str, ast.expr] = {n: labels.of(x) for n, x in zip(o.prim.inputs, o.args, strict=False)}
    found["y"] = ast.Name(y, ast.Load())
    if o.prim.variadic:
        found[o.prim.variadic] = ast.List([labels.of(x) for x in o.args[len(o.prim.inputs) :]], ast.Load())
    for key, value in {**o.prim.defaults, **o.meta}.items():
        found[key] = _meta(value)
    found["G"] = ast.Name(f"∂{labels.root}/∂{y}", ast.Load())
    return found


def _meta(value: Any) -> ast.expr:
    if value is None or isinstance(value, (bool, int, float)):
        return ast.Constant(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return ast.Name("index", ast.Load())
    return ast.Name(_key(value), ast.Load())


def _key(value: Any) -> str:
    if isinstance(value, slice):
        parts = ["" if v is None else str(v) for v in (value.start, value.stop)]
        return ":".join([*parts, str(value.step)] if value.step not in (None, 1) else parts)
    if value is Ellipsis:
        return "…"
    if isinstance(value, (tuple, list)):
        inner = ", ".join(_key(v) for v in value)
        return inner if len(inner) < 40 else "…"
    return str(value)[:40]


def _formula(
    o: Operation, known: Derivative | None, symbols: Mapping[str, ast.expr], labels: _Labels
) -> ast.expr:
    if known is not None:
        tree = formula.folded(formula.substitute(formula.parse(known.formula), symbols))
        axis = o.meta.get("axis")
        if (
            o.label
            in ("sum", "mean", "prod", "max", "min", "var", "std", "softmax", "log_softmax", "logsumexp")
            and axis is not None
        ):
            if isinstance(tree, ast.Call):
                tree = ast.Call(
                    tree.func,
                    tree.args,
                    [ast.keyword("axis", _meta(axis if not isinstance(axis, tuple) else list(axis)))],
                )
        return tree
    args = [labels.of(x) for x in o.args if x is not None]
    keywords = [
        ast.keyword(k, _meta(v)) for k, v in o.meta.items()
        if isinstance(v, (bool, int, float, str)) or (isinstance(v, tuple) and len(v) <= 4 and all(isinstance(n, int) for n in v))
    ]  # fmt: skip
    return ast.Call(ast.Name(o.label, ast.Load()), args, keywords)


def _term(
    o: Operation, i: int, known: Derivative | None, symbols: Mapping[str, ast.expr], labels: _Labels, upstream: Sequence[Tensor],
    contribution: Any,
) -> _Term:  # fmt: skip
    x = o.args[i]
    name = labels.by_edge[id(x.edge)]
    g = upstream[0]
    if contribution is None:
        contribution = x.numpy() * 0.0
    if o.prim is None:
        words = "a gradient rule of its own"
        return _Term(
            name, x.edge, None, False, words, None, g, contribution, Check(None, words), Check(None, words)
        )
    key = o.prim.inputs[i] if i < len(o.prim.inputs) else o.prim.variadic
    slope = known.slopes.get(str(key)) if known else None
    pullback = known.pullbacks.get(str(key)) if known else None
    host = [v.numpy() for v in upstream]
    local: Any = None
    by_formula: Any = None
    said: Any = None  # the derivative as the formula has it, where that is not finite
    if slope is not None:
        local, by_formula = _by_slope(o, i, slope, g)
    elif pullback is not None and _plain_matrices(o):
        by_formula = _by_pullback(o, pullback, g)
        if by_formula is not None and by_formula.shape != contribution.shape:
            by_formula = None
    if o.prim.elementwise:
        expected = ours = _local_by_rule(o, i)
        if local is not None:
            said = local = _spread_to(local, o.outputs[0])
            expected = differences.filled(local, ours)
        _, difference = differences.elementwise_slope(o, i, expected)
        local = expected if local is None else local
    else:
        difference = differences.compared(o, i, host, contribution)
        if local is None and 0 < x.size * sum(v.size for v in o.outputs) <= _JACOBIAN:
            local = _jacobian(o, i)
    none = Check(None, "no formula in elementary functions: the rule is compared with the finite difference")
    autograd = none if by_formula is None else differences.agree_where_finite(contribution, by_formula, 1e-9)
    if not o.prim.elementwise:
        said, ours = by_formula, contribution
    words = known.words if known else "the gradient rule of " + o.label
    rule = _rule(o, i, slope if slope is not None else pullback, symbols)
    only = slope is None and pullback is not None
    y = labels.by_edge[id(next(v for v in o.outputs if v.edge is not None).edge)]
    what = _named(f"∂{y if o.prim.elementwise else labels.root}/∂{name}")
    note = _not_finite(what, said, ours, difference)
    return _Term(name, x.edge, rule, only, words, local, g, contribution, autograd, difference, note)


def _not_finite(what: str, said: Any, ours: Any, difference: Check) -> str:
    """What is to be said where a formula has no finite value: what it gives, what anynet takes, and whether that is the slope."""
    if said is None or said.shape != ours.shape:
        return ""
    odd = ~(abs(said) < math.inf)
    if not bool(odd.any()):
        return ""
    k = int(odd.reshape(-1).argmax())
    gives, takes = (formula.number_text(float(v.reshape(-1)[k])) for v in (said, ours))
    if not math.isfinite(float(ours.reshape(-1)[k])):
        return f"{what} is {takes} here: there is no finite derivative"
    if difference.ok:
        return f"the formula of {what} has no finite value here ({gives}); the derivative is {takes}, by autograd and by the difference"
    return f"{what} is not defined here (the formula gives {gives}); anynet takes {takes}"


def _rule(o: Operation, i: int, source: str | None, symbols: Mapping[str, ast.expr]) -> ast.expr | None:
    """The formula of a derivative, in the names of this graph."""
    if source is None:
        return None
    tree = formula.parse(source)
    if o.label == "mean":
        tree = formula.substitute(tree, {"n": o.args[i].size // max(o.outputs[0].size, 1)})
    return formula.folded(formula.substitute(tree, symbols))


def _plain_matrices(o: Operation) -> bool:
    """Whether the formulas of products hold as they stand: for matrices; those of softmax hold for all."""
    if o.label.endswith("softmax"):
        return True
    return all(
        not isinstance(a, Tensor) or a.ndim == 2 or (a.ndim == 1 and o.label == "linear" and i > 1)
        for i, a in enumerate(o.args)
    )


def _values(o: Operation) -> dict[str, Any]:
    assert o.prim is not None
    values: dict[str, Any] = {**o.prim.defaults, **o.meta}
    for n, a in zip(o.prim.inputs, o.args, strict=False):
        values[n] = a.detach() if isinstance(a, Tensor) else a
    values["y"] = o.outputs[0].detach()
    return values


def _by_slope(o: Operation, i: int, slope: str, g: Tensor) -> tuple[Any, Any]:
    """The derivative and the product, by the textbook's formula, as host arrays."""
    x = o.args[i]
    values = _values(o)
    up: Any = g.detach()
    if o.label in _REDUCTIONS:
        shape = _kept_shape(x.shape, o.meta.get("axis"))
        values["y"], up = reshape(values["y"], shape), reshape(up, shape)
        values["n"] = x.size / max(o.outputs[0].size, 1)
    with no_grad(), backend_of(x._data).errstate():
        try:
            local = formula.evaluate(formula.parse(slope), values, FUNCTIONS)
        except formula.FormulaError:
            return None, None
        product = up * local
        if o.label in _REDUCTIONS:
            product = product + wrap(backend_of(x._data).zeros_like(x._data))
        data = product._data if isinstance(product, Tensor) else product
    return local, differences.fitted(data, x)


def _kept_shape(shape: Sequence[int], axis: Any) -> tuple[int, ...]:
    axes = (
        range(len(shape))
        if axis is None
        else [a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))]
    )
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _by_pullback(o: Operation, rule: str, g: Tensor) -> Any:
    with no_grad():
        try:
            found = formula.evaluate(formula.parse(rule), {**_values(o), "G": g.detach()}, FUNCTIONS)
        except formula.FormulaError:
            return None
    return found.numpy()


def _local_by_rule(o: Operation, i: int) -> Any:
    """The slope of an element-wise operation as its gradient rule has it."""
    y = o.outputs[0]
    got = differences.rule_gradients(o, backend_of(y._data).ones_like(y._data)).get(i)
    return _spread_to(wrap(got) if got is not None else 0.0, y)


def _spread_to(local: Any, y: Tensor) -> Any:
    """A slope in the shape of the result, as a host array."""
    xp = backend_of(y._data)
    where = {"dtype": y._data.dtype, "device": xp.native_device(y.device)}
    data = xp.astype(local._data, y._data.dtype) if isinstance(local, Tensor) else xp.asarray(local, **where)
    return wrap(xp.broadcast_to(data, y.shape)).numpy()


def _jacobian(o: Operation, i: int) -> Any:
    def f(moved: Tensor) -> Sequence[Any]:
        args = list(o.args)
        args[i] = moved
        return o.again(args)

    columns = differences.jacobian(f, o.args[i])
    return wrap(backend_of(o.args[i]._data).asarray(columns, dtype=o.args[i]._data.dtype)).mT.numpy()


# ----- the whole -----


def _replayed(chain: Sequence[Operation], root: Tensor, leaf: Tensor) -> Any:
    """The result as a function of one variable: everything that depends on it is computed again."""

    def f(moved: Tensor) -> list[Tensor]:
        now: dict[int, Any] = {id(leaf.edge): moved}
        for o in chain:
            if any(isinstance(a, Tensor) and id(a.edge) in now for a in o.args if a is not None):
                args = [
                    now.get(id(a.edge), a) if isinstance(a, Tensor) and a.edge is not None else a
                    for a in o.args
                ]
                for y, new in zip(o.outputs, o.again(args), strict=True):
                    if y.edge is not None:
                        now[id(y.edge)] = new
        return [now.get(id(root.edge), root.detach())]

    return f


def _whole(chain: Sequence[Operation], root: Tensor, leaf: Tensor, gradient: Any) -> Check:
    if any(o.prim is None for o in chain):
        return Check(None, "a part of the graph has a rule of its own and cannot be computed again")
    f = _replayed(chain, root, leaf)
    one = root.numpy() * 0.0 + 1.0
    return differences.directional(f, leaf, [one], gradient)


# Over 60 lines: the tables of one page, in the order in which they stand.
def _written(
    rows: Sequence[_Row], root: Tensor, chain: Sequence[Operation], leaves: Mapping[int, Tensor], labels: _Labels, digits: int,
    given: Mapping[int, Any], dtype: str, value: float, title: str,
) -> Explanation:  # fmt: skip
    loss = labels.root
    contributions: dict[int, list[Any]] = {}
    kinks: dict[str, str] = {}
    singular = [(row, t.note) for row in rows for t in row.terms if t.note]
    for row in rows:
        for t in row.terms:
            contributions.setdefault(id(t.edge), []).append(t.product)
            if t.difference.mark == "∠":
                kinks[row.name] = t.difference.note
    forward = Table(
        ["", "formula", "value"],
        [
            [math_cell(ast.Name(r.name, ast.Load())), math_cell(r.formula), value_cell(r.value, digits)]
            for r in rows
        ],
        "Forward",
        stacked=lambda i: _forward_lines(rows[i], digits),
    )
    backward_rows = [(r, t) for r in reversed(rows) for t in r.terms]
    backward = Table(
        ["operation", "derivative", "passed on", "to", "formula = autograd", "finite difference"],
        [
            [
                equal(math_cell(ast.Name(r.name, ast.Load())), math_cell(r.formula)),
                _derivative_cell(r, t, digits),
                value_cell(t.product, digits),
                partial(loss, t.name),
                t.autograd.cell,
                t.difference.cell,
            ]
            for r, t in backward_rows
        ],
        f"Chain rule, from {loss} back (marks: formula = autograd, finite difference)",
        stacked=lambda i: _backward_lines(backward_rows, i, loss, digits),
    )
    sums: list[list[Cell]] = []
    sums_data: list[dict[str, Any]] = []
    for key, x in leaves.items():
        total = x.grad.numpy() if x.grad is not None else x.numpy() * 0.0
        name = labels.by_edge[key]
        own = _own(given.get(key), total, dtype)
        parts = contributions.get(key, [])
        summed = differences.agree(sum(parts[1:], parts[0]), total, 1e-9) if parts else Check(None)
        autograd = summed if summed.ok is False else own
        difference = _whole(chain, root, x, total)
        if kinks and difference.ok is False:
            difference = Check(None, "a kink on the way", "∠")
        uses = (
            ""
            if len(parts) < 2 or x.size > 1
            else " + ".join(_in_sum(formatted(p, digits)) for p in parts) + " = "
        )
        cells = [
            partial(loss, name),
            plain(uses + formatted(total, digits)),
            value_cell(x, digits),
            autograd.cell,
            difference.cell,
        ]
        sums.append(cells)
        sums_data.append({
            "name": name, "value": jsonable(x.detach()), "gradient": jsonable(total), "uses": len(parts), "autograd": autograd.to_json(),
            "difference": difference.to_json(),
        })  # fmt: skip
    gradients = Table(["gradient", "is", "at", "backward()", "difference"], sums,
                      "Gradients (marks: backward() of the graph, finite difference of the whole chain)",
                      stacked=lambda i: _gradient_lines(sums[i]))  # fmt: skip
    notes = [f"{_named(name)}: {note}; anynet takes one slope between them." for name, note in kinks.items()]
    notes += [f"{_named(r.name)} = {formula.text(r.formula)}: {note}." for r, note in singular]
    constants = [f"{n} = {formatted(x, digits)}" for n, x in labels.constants.values()]
    told = f"{dtype} graph, " if dtype != "float64" else ""
    exact = root.item() if math.prod(root.shape) == 1 else float("nan")
    if abs(exact - value) > (1e-3 if dtype != "float64" else 1e-9) * max(1.0, abs(value)):
        notes.append(
            f"{loss} is {value:.8g} in the graph but {exact:.8g} when computed again: something was changed since, or "
            f"{dtype} has lost its digits; see an.exactness."
        )
    blocks: list[Block] = [
        Paragraph(f"{told}{_count(len(rows), 'operation')}, {_count(len(leaves), 'variable')}; computed again and checked in float64."
                  + (f" Constants: {'; '.join(constants)}." if constants else "")),
        forward, backward, gradients,
    ]  # fmt: skip
    if notes:
        blocks.append(Paragraph("\n".join(notes), "Notes"))
    checks = [c for _, t in backward_rows for c in (t.autograd, t.difference)]
    results = [c.ok for c in checks] + [d[k]["ok"] for d in sums_data for k in ("autograd", "difference")]
    made, wrong = sum(r is not None for r in results), results.count(False)
    verdict = (
        ("The check agrees." if made == 1 else f"All {made} checks agree.")
        if not wrong
        else f"{wrong} of {made} checks do not agree."
    )
    if kinks:
        verdict += " At a kink (∠) there is no slope to compare with."
    if singular:
        verdict += " Where a derivative is not finite there is nothing to compare with (–)."
    blocks.append(Paragraph(verdict))
    data = {
        "kind": "graph", "loss": loss, "value": value, "value_float64": exact, "dtype": dtype,
        "operations": [_row_json(r) for r in rows], "gradients": sums_data, "notes": notes, "ok": not wrong,
    }  # fmt: skip
    head = title or f"{loss} = {formula.number_text(exact, digits)}"
    return Explanation(head, blocks, data)


def _named(name: str) -> str:
    """A variable as formulas have it."""
    return formula.text(ast.Name(name, ast.Load()))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _in_sum(text: str) -> str:
    return f"({text})" if text.startswith("−") else text


def _own(given: Any, total: Any, dtype: str) -> Check:
    """The gradient that a backward pass of the graph as it was given has."""
    if given is None:
        return Check(True)
    tolerance = {"float64": 1e-8, "float32": 1e-4}.get(dtype, 2e-2)
    return differences.agree(wrap(given).numpy().astype("float64"), total, tolerance)


def _derivative_cell(r: _Row, t: _Term, digits: int) -> Cell:
    if t.pullback and t.rule is not None:
        return math_cell(t.rule)
    parts = [partial(r.name, t.name)]
    if t.rule is not None:
        parts.append(math_cell(t.rule))
    if t.local is not None and not (isinstance(t.rule, ast.Constant)):
        parts.append(value_cell(t.local, digits))
    if len(parts) == 1:
        return plain(t.words)
    return equal(*parts)


def _forward_lines(r: _Row, digits: int) -> list[str]:
    left = f"  {formula.text(ast.Name(r.name, ast.Load()))} = {formula.text(r.formula)}"
    value = formatted(r.value, digits)
    if len(left) + len(value) + 4 <= 80:
        return [f"{left:<44}  {value}" if len(left) <= 44 and len(value) <= 32 else f"{left}  =  {value}"]
    return [*_cut(left, 6), *_cut(f"      = {value}", 8)]


def _cut(line: str, indent: int) -> list[str]:
    """A line of at most 80 columns, and its rest."""
    out = []
    while len(line) > 80:
        at = line.rfind(" ", indent + 2, 79)
        at = at if at > 0 else 79
        out.append(line[:at].rstrip())
        line = " " * indent + line[at:].lstrip()
    return [*out, line]


def _backward_lines(pairs: Sequence[tuple[_Row, _Term]], i: int, loss: str, digits: int) -> list[str]:
    r, t = pairs[i]
    y, u, top = (formula.text(ast.Name(n, ast.Load())) for n in (r.name, t.name, loss))
    lines = _cut(f"  {y} = {formula.text(r.formula)}", 6) if i == 0 or pairs[i - 1][0] is not r else []
    rule = None if t.rule is None else formula.text(t.rule)
    product = formatted(t.product, digits)
    local = None if t.local is None else formatted(t.local, digits)
    slope = [
        f"∂{y}/∂{u}",
        *([rule] if rule else []),
        *([local] if local and not isinstance(t.rule, ast.Constant) else []),
    ]
    numbers = local is not None and getattr(t.local, "size", 2) == 1 and t.upstream.size == 1
    passed = [f"∂{top}/∂{u}"]
    if r.name == loss and numbers:  # the first step: the derivative is the gradient
        slope, passed = [], slope
    elif t.pullback and rule:
        slope, passed = [], [*passed, rule, product]
    elif numbers:
        times = f"{_in_sum(formatted(t.upstream, digits))} · {_in_sum(str(local))}"
        passed += [f"∂{top}/∂{y} · ∂{y}/∂{u}", times, product]
    else:
        passed.append(product)
    if len(slope) > 1:
        lines += _cut(f"      {' = '.join(slope)}", 10)
    if not rule and t.words and (i == 0 or pairs[i - 1][0] is not r):
        lines += _cut(f"      {t.words}", 10)
    return [*lines, *_cut(f"      {' = '.join(passed)}  {t.autograd} {t.difference}", 10)]


def _gradient_lines(cells: Sequence[Cell]) -> list[str]:
    what, total, at, *marks = (c.text for c in cells)
    variable = what.rpartition("∂")[2]
    place = f"    at {variable} = {at}" if len(at) <= 16 else ""
    return _cut(f"  {what} = {total}  {' '.join(marks)}{place}", 6)


def _row_json(r: _Row) -> dict[str, Any]:
    return {
        "name": r.name, "operation": r.label, "formula": formula.text(r.formula), "latex": formula.latex(r.formula),
        "value": jsonable(r.value.detach()), "upstream": None if r.upstream is None else jsonable(r.upstream),
        "inputs": [
            {
                "name": t.name, "rule": None if t.rule is None else formula.text(t.rule), "words": t.words or None,
                "derivative": jsonable(t.local) if t.local is not None else None, "product": jsonable(t.product),
                "autograd": t.autograd.to_json(), "difference": t.difference.to_json(),
            }
            for t in r.terms
        ],
    }  # fmt: skip
