"""What a computation consists of: each call of a primitive with the values that went in, in double precision.

A graph that exists already is computed again (`repeated`): it holds no values of its own but those that its gradient rules name, which
with the variables at its ends are enough to compute all others. A function is run while its calls are written down (`recorded`). Both
give `Operation`s whose Tensors are float64, so that finite differences have digits.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from anynet import dtypes
from anynet.autograd.backward import node_gradients
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.graph import (
    CustomNode,
    GradientError,
    Leaf,
    Node,
    OutputEdge,
    custom_node,
    overwritten,
    walk,
)
from anynet.autograd.primitive import Primitive
from anynet.tensor import Tensor, enable_grad, no_grad, wrap
from anynet_backends import Backend, backend_of

__all__ = [
    "ExplanationError",
    "Operation",
    "Repetition",
    "as_float64",
    "node_of",
    "of_function",
    "recorded",
    "repeated",
    "tensors_of",
]

_LOW = frozenset(("float16", "bfloat16", "float32"))


class ExplanationError(ValueError):
    """What was given cannot be explained; the message says what can."""


@dataclass(eq=False)
class Operation:
    """One call of a primitive: its arguments and results as Tensors (numbers stay numbers). `prim` is None for a rule of its own."""

    prim: Primitive[...] | None
    label: str
    args: tuple[Any, ...]
    meta: dict[str, Any]
    outputs: tuple[Tensor, ...]

    @property
    def node(self) -> Any:
        """Its node in the graph; None where nothing needs a gradient."""
        return next((node_of(y.edge) for y in self.outputs if y.edge is not None), None)

    def again(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The results for other arguments, which are constants."""
        assert self.prim is not None
        like = next(y._data for y in self.outputs)
        with no_grad(), backend_of(like).errstate():
            y: Any = self.prim.bind(tuple(args), self.meta)
        ys = y if isinstance(y, tuple) else (y,)
        return ys[:1] if self.prim.has_aux else ys


def node_of(edge: Any) -> Any:
    """The node of an edge, or the leaf."""
    return edge.node if type(edge) is OutputEdge else edge


def as_float64(x: Any) -> Any:
    """A Tensor or array in double precision where it is floating; numbers and integers as they are."""
    plain = x._data if isinstance(x, Tensor) else x
    if not hasattr(plain, "dtype") or not hasattr(plain, "shape"):
        return x
    xp = backend_of(plain)
    name = xp.dtype_name(plain.dtype)
    return wrap(xp.astype(plain, dtypes.native(xp, "float64")) if name in _LOW else plain)


def _as_now(x: Any) -> Any:
    """A Tensor as it is now: the object itself may be bound to another array later."""
    if not isinstance(x, Tensor):
        return x
    out = wrap(x._data)
    out.edge = x.edge
    return out


@contextmanager
def recorded() -> Iterator[list[Operation]]:
    """Within the block, the calls of primitives of this thread are written down."""
    found: list[Operation] = []

    def handle(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if meta.get("own"):  # `setitem` would write into the array of its input, which is kept here
            meta = {**meta, "own": False}
        y = prim.bind(args, meta)
        outputs = y if isinstance(y, tuple) else (y,)
        if all(isinstance(v, Tensor) for v in outputs):
            kept = outputs[:1] if prim.has_aux else outputs
            found.append(
                Operation(prim, prim.name, tuple(map(_as_now, args)), meta, tuple(map(_as_now, kept)))
            )
        return y

    INTERCEPT.append(handle)
    try:
        yield found
    finally:
        INTERCEPT.remove(handle)


# ----- a graph that is there -----


def tensors_of(edges: Sequence[Any]) -> dict[int, Tensor]:
    """The living Tensors by the identity of their edge: the graph itself does not know them."""
    wanted = {id(e) for e in edges}
    found: dict[int, Tensor] = {}
    for x in gc.get_referrers(*edges) if edges else ():
        if isinstance(x, Tensor) and id(x.edge) in wanted:
            found.setdefault(id(x.edge), x)
    return found


class _Values:
    """Arrays of a graph that are known: those of living Tensors, and what the rules have kept."""

    def __init__(self, order: Sequence[Any]) -> None:
        edges = [e for n in order for e in (n, *([] if type(n) is Leaf else n.parents)) if e is not None]
        self.known: dict[int, Any] = {k: t._data for k, t in tensors_of(edges).items()}
        self.constants: list[tuple[Tensor, Any]] = []
        for node in order:
            plan, saved = getattr(node, "plan", None), getattr(node, "saved", None)
            if (
                saved is not None and type(node) is not Leaf and hasattr(node, "function")
            ):  # several layers in one
                for parent, x in zip(node.parents, saved, strict=True):
                    if parent is not None:
                        self.known.setdefault(id(parent), x)
            if plan is None or saved is None:
                continue
            if plan.output is not None and not node.count:
                self.known.setdefault(id(node), saved[plan.output])
            for slot, i in plan.inputs:
                positions = range(len(node.prim.inputs), len(node.parents)) if i < 0 else (i,)
                for k, position in enumerate(positions):
                    if node.parents[position] is not None:
                        self.known.setdefault(
                            id(node.parents[position]), saved[slot][k] if i < 0 else saved[slot]
                        )

    def constant(self, x: Any) -> Any:
        """An input that is no part of the graph."""
        made = as_float64(x)
        if isinstance(made, Tensor):
            self.constants.append((made, x))
        return made

    def of(self, edge: Any, what: str) -> Any:
        if id(edge) not in self.known:
            msg = f"explain: the value of {what} is not kept; keep its Tensor in a variable, or explain the function: explain(f, x)"
            raise ExplanationError(msg)
        return self.known[id(edge)]


@dataclass(eq=False)
class Repetition:
    """A graph computed again: the new root, its operations, the new Tensors by the identity of the old edges, the old edges of the
    variables, and the constants with the arrays that they were."""

    root: Tensor
    operations: list[Operation]
    made: dict[int, Tensor]
    leaves: list[Leaf]
    constants: list[tuple[Tensor, Any]]


def repeated(root: Tensor) -> Repetition:
    """The graph behind `root`, computed again in float64.

    Errors: `ExplanationError` where the graph has been freed, or a value is nowhere; `GradientError` where a variable was overwritten.
    """
    order = walk([root.edge], 0)[::-1]
    _check_whole(order)
    values = _Values(order)
    made: dict[int, Tensor] = {}
    with recorded() as operations, enable_grad():
        for node in order:
            if type(node) is Leaf:
                made[id(node)] = as_float64(
                    values.of(node, f"a variable of shape {tuple(node.shape)}")
                ).requires_grad_()
                continue
            inputs = [None if p is None else made[id(p)] for p in node.parents]
            outputs = _run(node, inputs, values, operations)
            if node.count:
                for key, edge in _outputs_of(node, order, root).items():
                    made[key] = outputs[edge.index]
            else:
                made[id(node)] = outputs[0]
    leaves = [n for n in order if type(n) is Leaf]
    return Repetition(made[id(root.edge)], operations, made, leaves, values.constants)


def _check_whole(order: Sequence[Any]) -> None:
    for node in order:
        if type(node) is Leaf:
            continue
        if node.saved is None:
            msg = (
                f"explain: the graph was freed by backward() (at {node.label}); explain the loss before backward(), "
                "or call backward(retain_graph=True)"
            )
            raise ExplanationError(msg)
        dtype = node.dtype[0] if node.count else node.dtype
        if "complex" in str(dtype):
            msg = f"explain: {node.label} is complex; only real graphs are explained"
            raise ExplanationError(msg)
        for parent in node.parents:
            if type(parent) is Leaf and parent.written > node.seq:
                raise overwritten(parent, node.label)


def _outputs_of(node: Any, order: Sequence[Any], root: Tensor) -> dict[int, Any]:
    """The edges by which the outputs of a node are used."""
    found = {
        id(p): p
        for n in order
        if type(n) is not Leaf
        for p in n.parents
        if type(p) is OutputEdge and p.node is node
    }
    if type(root.edge) is OutputEdge and root.edge.node is node:
        found[id(root.edge)] = root.edge
    return found


def _run(node: Node, inputs: list[Any], values: _Values, operations: list[Operation]) -> tuple[Tensor, ...]:
    """A node computed again from its inputs."""
    if node.apart:
        return tuple(inputs)
    function: Any = getattr(node, "function", None)
    if function is not None:  # several layers in one call: the operations that they consist of
        given = [
            values.constant(s) if x is None else x for x, s in zip(inputs, node.saved or (), strict=True)
        ]
        return (function.run(given),)
    if isinstance(node, CustomNode):
        return _custom(node, inputs, values, operations)
    prim, plan, saved = node.prim, node.plan, node.saved
    assert prim is not None
    assert saved is not None
    args = list(inputs)
    meta: dict[str, Any] = {}
    if plan is not None:
        for i, slot in plan.constants.items():
            args[i] = values.constant(saved[slot])
        whole = plan.meta.get(None)
        named = {n: saved[s] for n, s in plan.meta.items() if n is not None}
        kept: dict[str, Any] = named if whole is None else saved[whole]
        xp = backend_of(next(x._data for x in args if isinstance(x, Tensor)))
        meta = {k: _wider(k, v, xp) for k, v in kept.items()}
    elif any(x is None for x in args):  # piecewise constant: nothing was kept
        return _custom(node, inputs, values, operations)
    y: Any = prim(*args, **meta)
    outputs = y if isinstance(y, tuple) else (y,)
    return tuple(outputs)


def _wider(name: str, value: Any, xp: Backend) -> Any:
    """Metadata for double precision: a data type of fewer bits becomes float64."""
    if name != "dtype" or value is None or dtypes.of(value).name not in _LOW:
        return value
    return dtypes.native(xp, "float64")


def _custom(
    node: Node, inputs: Sequence[Any], values: _Values, operations: list[Operation]
) -> tuple[Tensor, ...]:
    """A node whose forward pass is not known: its value as it was, and its own rule."""
    if node.count:
        msg = f"explain: {node.label} has several results and a rule of its own, which cannot be computed again; explain(f, x) can"
        raise ExplanationError(msg)
    plain = as_float64(values.of(node, f"{node.label}, an operation with a rule of its own,"))

    def rule(g: Any, differentiable: bool) -> Sequence[Any]:
        if differentiable:
            msg = f"no second gradient through {node.label} here"
            raise GradientError(msg)
        xp = backend_of(g)
        grads: list[Any] = [None] * len(node.parents)
        for i, gi in node_gradients(node, xp.astype(g, node.dtype), False):
            grads[i] = None if gi is None else xp.astype(gi, xp.float64)
        return grads

    parents = [None if x is None else x.edge for x in inputs]
    out = wrap(plain._data)
    out.edge = custom_node(node.label, plain._data, parents, rule)
    operations.append(Operation(None, node.label, tuple(inputs), {}, (out,)))
    return (out,)


def of_function(
    f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, list[Operation]]:
    """The result of a function, and its operations."""
    with recorded() as operations, enable_grad():
        y = f(*args, **kwargs)
    return y, operations
