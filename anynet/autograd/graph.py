"""The graph of what was computed: its nodes, its edges, and walks along them.

A recorded operation is a `Node`. What a Tensor holds of the graph is an edge to it: the node itself, an `OutputEdge`
where the operation has several outputs, or a `Leaf` where a variable begins. Nodes and leaves are numbered in the order
in which they are made, so a node has a higher number than all that it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anynet.tensor import Leaf, Tensor, clock
from anynet_backends import Array

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive
    from anynet.autograd.rules import RulePlan

__all__ = [
    "CustomNode",
    "GradientError",
    "Leaf",
    "Node",
    "OutputEdge",
    "RemovableHandle",
    "RetainedGrad",
    "custom_node",
    "depends_on_others",
    "overwritten",
    "reached",
    "take_apart",
    "walk",
]


class RemovableHandle:
    """What a registered hook is removed by: ``handle.remove()``, ``handle()``, or at the end of a ``with`` block; only once."""

    __slots__ = ("_remove",)

    def __init__(self, remove: Callable[[], None]) -> None:
        self._remove: Callable[[], None] | None = remove

    def remove(self) -> None:
        """Remove the hook."""
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()

    __call__ = remove

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class GradientError(RuntimeError):
    """A gradient was asked for that cannot be given."""


class Node:
    """A recorded operation. `parents` are the edges of its inputs, `saved` is what its rules named."""

    __slots__ = (
        "__weakref__", "count", "dtype", "hooks", "parents", "plan", "prim", "pullback", "saved", "seq", "shape", "where",
    )  # fmt: skip

    seq: float
    # None for nodes with a rule of their own (custom_vjp, checkpoint): see `CustomNode`
    prim: Primitive[...] | None
    plan: RulePlan | None
    parents: Sequence[Any]
    saved: tuple[Any, ...] | None
    pullback: Callable[..., Sequence[Any]] | None  # a kernel's own backward pass, first order only
    shape: Any  # of the output; a tuple of shapes where there are several
    dtype: Any
    count: int  # number of outputs, 0 where the output is a single array
    hooks: list[Callable[[Any], Any]] | None
    where: Any  # the layer in which it was made, while somebody wants to know

    @property
    def label(self) -> str:
        return self.prim.name if self.prim is not None else "custom"

    @property
    def apart(self) -> bool:
        """Whether it only passes gradients on, to the operations that it was taken apart into."""
        return False

    def take_apart(self, span: float = 1.0) -> None:
        """Where it stands for several operations: record these in its place, under numbers from its own down by less than `span`."""

    def gives(self, ys: tuple[Array, ...] | Array) -> None:
        """Note what the outputs are, or the one output that is an array itself."""
        if isinstance(ys, tuple):
            self.shape = tuple([tuple(y.shape) for y in ys])
            self.dtype = tuple([y.dtype for y in ys])
            self.count = len(ys)
        else:
            self.shape, self.dtype, self.count = ys.shape, ys.dtype, 0

    @property
    def kept_grad(self) -> Tensor | None:
        return next((h.grad for h in self.hooks or () if isinstance(h, RetainedGrad)), None)


class OutputEdge:
    """One output of a Node that has several."""

    __slots__ = ("hooks", "index", "node")

    def __init__(self, node: Node, index: int) -> None:
        self.node = node
        self.index = index
        self.hooks: list[Callable[[Any], Any]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape[self.index]  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.node.dtype[self.index]

    @property
    def seq(self) -> float:
        return self.node.seq

    @property
    def label(self) -> str:
        return f"{self.node.label}[{self.index}]"

    kept_grad = Node.kept_grad


class CustomNode(Node):
    """A node whose rule is a function of its own: ``rule(g, differentiable) -> gradients of the parents``."""

    __slots__ = ("name", "rule")
    rule: Callable[[Any, bool], Sequence[Any]]
    name: str

    @property
    def label(self) -> str:
        return self.name

    def gradients(self, g: Any, differentiable: bool, asked: tuple[bool, ...] | None) -> Sequence[Any]:
        """Those of the parents, for which others than the ones `asked` for may be None."""
        return self.rule(g, differentiable)


def custom_node(
    name: str,
    outputs: tuple[Array, ...] | Array,
    parents: Sequence[Any],
    rule: Callable[[Any, bool], Sequence[Any]],
) -> CustomNode:
    """A node outside the table of primitives, with the `rule` that gives its parents' gradients."""
    node = CustomNode()
    node.seq = clock()
    node.prim, node.plan, node.pullback, node.hooks = None, None, None, None
    node.parents, node.saved, node.rule, node.name = parents, (), rule, name
    node.gives(outputs)
    return node


class RetainedGrad:
    """The hook behind ``x.retain_grad()``."""

    __slots__ = ("grad",)

    def __init__(self) -> None:
        self.grad: Tensor | None = None

    def __call__(self, g: Tensor) -> None:
        self.grad = g if self.grad is None else self.grad + g


def overwritten(leaf: Leaf, name: str) -> GradientError:
    """The error where an operation needs a variable as it was."""
    return GradientError(
        f"a variable{f' ({leaf.name})' if leaf.name else ''} that {name} needs for its gradient "
        "was overwritten after the forward pass (by optimizer.step() or assign_); call backward() before the update"
    )


def reached(roots: Iterable[Any], ends: Container[Any]) -> Iterator[Any]:
    """The edges on which `roots` depend, each once, but for `ends` and what is behind these."""
    seen: set[Any] = set()
    stack = [e for e in roots if e is not None]
    while stack:
        edge = stack.pop()
        node = edge.node if type(edge) is OutputEdge else edge
        if edge in ends or node in ends or node in seen:
            continue
        seen.add(node)
        yield edge
        if type(node) is not Leaf:
            stack.extend(p for p in node.parents if p is not None)


def walk(roots: Sequence[Any], oldest: float) -> list[Any]:
    """All edges on which `roots` depend, newest first; stops at those older than `oldest`, which cannot depend on it."""
    seen: set[Any] = set()
    stack = [e.node if type(e) is OutputEdge else e for e in roots if e is not None]
    while stack:
        edge = stack.pop()
        if edge in seen or edge.seq < oldest:
            continue
        seen.add(edge)
        if type(edge) is not Leaf:
            stack.extend(p.node if type(p) is OutputEdge else p for p in edge.parents if p is not None)
    return sorted(seen, key=lambda e: -e.seq)


def take_apart(roots: Sequence[Any], oldest: float) -> None:
    """Nodes that stand for several operations become these operations, before a walk that is recorded itself: gradients of gradients
    are added up in the order of the operations, whether or not they have been one call, and so have the same bits."""
    for edge in walk(roots, oldest):
        if type(edge) is not Leaf:
            edge.take_apart()


def depends_on_others(roots: Sequence[Any], targets: Sequence[Any]) -> bool:
    """Whether `roots` depend on a variable that is neither among `targets` nor behind one of them."""
    ends = set(targets) | {t.node for t in targets if type(t) is OutputEdge}
    oldest = min((t.seq for t in ends), default=0)
    return any(not edge.private if type(edge) is Leaf else edge.seq < oldest for edge in reached(roots, ends))
