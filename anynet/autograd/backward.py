"""The chain rule: a graph of what was computed, walked backwards.

Each recorded operation is a `Node`. Its gradient rules turn the gradient of its output into the gradients of its
inputs (vector-Jacobian products); `backprop` visits nodes in the reverse of the order in which they were made, so that
each has received all of its gradient before it passes it on:

    ∂L/∂x = Σ over uses u of x   (∂u/∂x)ᵀ ∂L/∂u

Nodes are numbered as they are made, so the order is a heap of numbers: no recursion, whatever the depth of the graph,
and what was kept for a node is freed as soon as the node has been visited.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from anynet.autograd.broadcasting import cast_to, sum_to
from anynet.autograd.graph import (
    CustomNode,
    GradientError,
    Node,
    OutputEdge,
    RemovableHandle,
    RetainedGrad,
    overwritten,
    take_apart,
    walk,
)
from anynet.autograd.rules import fit, plain_cast, run_rules
from anynet.sparse_rows import SparseRows
from anynet.tensor import Leaf, Tensor, clock, is_batched_array, module_version, wrap
from anynet_backends import TYPES, Array, backend_of
from anynet_backends.concurrency import ThreadStack, late_import, this_thread
from anynet_backends.memory.rows import Rows

__all__ = [
    "Observer",
    "Watcher",
    "accumulate",
    "backprop",
    "node_gradients",
    "observer",
    "start_gradient",
    "watch",
]

Copies = list[tuple[Array, Array]]
"""Arrays, each with the one whose numbers it is to have."""

_new = Tensor.__new__
_BUILTIN: Any = type(len)
"""The type of compiled pullbacks (`anynet.autograd.jit.specialize`), whose gradients have the inputs' shapes and dtypes."""


class Observer(Protocol):
    """Observer of a backward pass: called before and after each node (anomaly mode, profiling)."""

    def before(self, node: Node, g: Any) -> None:
        """Called before the node computes its inputs' gradients from its own."""

    def after(self, node: Node, grads: Sequence[Any]) -> None:
        """Called after that."""


observer: ThreadStack[Observer] = ThreadStack("backward_observers")


class Watcher(Protocol):
    """Watcher of variables: told in a backward pass when the gradient of each is whole, while the pass goes on."""

    def leaves(self) -> Iterable[Leaf]:
        """The variables, as they are now."""

    def ready(self, leaf: Leaf) -> None:
        """The gradient of a variable has been accumulated."""

    def done(self) -> None:
        """The backward pass, in which at least one of the variables took part, has ended."""


_watchers: list[weakref.ref[Watcher]] = []


def watch(watcher: Watcher) -> None:
    """Tell a watcher of all backward passes from now on, as long as it lives."""
    _watchers.append(weakref.ref(watcher, _watchers.remove))


class _Watched:
    """The watched variables of one backward pass, each with the number of the oldest node that uses it: before a node of a smaller
    number is visited, the gradient is whole."""

    def __init__(self, roots: Sequence[tuple[Any, Any]]) -> None:
        owners: dict[Leaf, Watcher] = {}
        for reference in list(_watchers):
            watcher = reference()
            if watcher is not None:
                owners.update(dict.fromkeys(watcher.leaves(), watcher))
        first: dict[Leaf, float] = {}
        for node in walk([edge for edge, _ in roots], 0) if owners else ():
            if type(node) is not Leaf:
                first.update(
                    dict.fromkeys((p for p in node.parents if type(p) is Leaf and p in owners), node.seq)
                )
        self.owners = owners
        self.due = sorted(((seq, leaf) for leaf, seq in first.items()), key=lambda pair: pair[0])
        self.told = list(dict.fromkeys(owners[leaf] for _, leaf in self.due))

    def __call__(self, seq: float, grads: dict[Any, Any], create_graph: bool) -> None:
        """Before the node of this number is visited: accumulate what is whole."""
        while self.due and self.due[-1][0] > seq:
            leaf = self.due.pop()[1]
            g = grads.pop(leaf, None)
            if g is not None:
                accumulate(leaf, g, create_graph)
                self.owners[leaf].ready(leaf)


# Over 60 lines: the walk is the hottest loop of an eager step, where a call more for each node costs 3 to 10 %.
def backprop(
    roots: Sequence[tuple[Any, Any]],
    *,
    targets: Sequence[Any] | None = None,
    create_graph: bool = False,
    retain_graph: bool = False,
    rows: bool = False,
) -> list[Any] | None:
    """Walk the graph backwards from `roots`: pairs of an edge and its gradient, a plain array, or a Tensor with `create_graph`.

    Without `targets`, gradients are accumulated into the leaves. With `targets` (edges), nothing is accumulated: the
    gradients of these edges are returned (None for one that no root depends on), and the walk stops there; with `rows`, those of
    tables as `Rows`, where lookups give such.
    """
    if create_graph:
        take_apart([edge for edge, _ in roots], min((t.seq for t in targets or ()), default=0))
    library = _library(roots)
    follow = None if library is None or not library.switches_devices else lambda g: library.follow(_plain(g))
    grads: dict[Any, Any] = {}
    heap: list[tuple[float, Node]] = []
    ends = None if targets is None else _Ends(roots, targets)
    watched = _Watched(roots) if _watchers and targets is None else None
    slices = _Slices(grads, heap if ends is None else None)
    recording, this_thread.recording = this_thread.recording, create_graph
    try:
        for edge, g in roots:
            _deposit(edge, g, grads, heap, ends, create_graph)
        while heap:
            node = heappop(heap)[1]
            if watched is not None:
                watched(node.seq, grads, create_graph)
            g = grads.pop(node)
            if follow is not None:
                follow(g)
            if node.count:
                if ends is not None and node in ends.picked and all(x is None for x in g):
                    continue
                g = _fill(node, g)
            elif node.hooks is not None:
                g = _run_hooks(node, g, create_graph)
            if ends is not None and node in ends.stops:
                grads[node] = g
                continue
            parents = node.parents
            native = type(node.pullback) is _BUILTIN and not create_graph and not _disturbed(node)
            if native:
                pulled: Any = node.pullback(g)  # type: ignore[misc]
                native = pulled is not NotImplemented
            if native:
                pulled = zip(parents, pulled)  # noqa: B905 - one for each
            elif not create_graph and node.prim is not None and node.prim.selects and slices.add(node, g):
                pulled = ()
            else:
                asked = None if ends is None else ends.asked(parents)
                pulled = [(parents[i], gi) for i, gi in node_gradients(node, g, create_graph, asked)]
            for parent, gi in pulled:
                if parent is None or gi is None:
                    continue
                if not native:
                    if type(gi) is Rows and (type(parent) is not Leaf or (ends is not None and not rows)):
                        gi = gi.dense()
                    if gi.shape != parent.shape or gi.dtype != parent.dtype:
                        gi = _fit(gi, parent, create_graph)
                if ends is not None or type(parent) is OutputEdge:
                    _deposit(parent, gi, grads, heap, ends, create_graph)
                elif parent in grads:
                    grads[parent] = grads[parent] + gi
                else:
                    grads[parent] = gi
                    if type(parent) is not Leaf:
                        heappush(heap, (-parent.seq, parent))
            if not retain_graph:
                node.saved = node.pullback = None
        if ends is not None:
            return [ends.found.get(t) if type(t) is OutputEdge else grads.get(t) for t in targets or ()]
        if watched is not None:
            watched(-1, grads, create_graph)
        _accumulate_all(grads, library, follow, create_graph)
        if watched is not None:
            for watcher in watched.told:
                watcher.done()
        return None
    finally:
        this_thread.recording = recording


class _Slices:
    """Sums of gradients of parts of one array, in which a part is added where it belongs: not as an array of zeros with the part in it,
    which for n parts of an array of n elements would take n² steps.

    What nobody else knows, the first part among zeros or the sum of two gradients, the next parts are written into. The bits are those of
    sums of whole arrays: beside a part 0 is added, which makes 0 of −0; that can be but where the part before has been added.
    """

    __slots__ = ("grads", "heap", "last", "own")

    def __init__(self, grads: dict[Any, Any], heap: list[tuple[float, Node]] | None) -> None:
        self.grads = grads
        self.heap = heap  # None where a walk does not visit all nodes
        self.own: dict[Any, Any] = {}  # the sums by their edges, as they were left
        self.last: dict[Any, Any] = {}  # where the last part was added, and −0 may be

    def add(self, node: Node, g: Any) -> bool:
        """Add the gradient `g` of a part to that of the array; False, with nothing done, where that is left to others, as where somebody
        wants to see the gradient of each operation."""
        edge, saved, prim, plan = node.parents[0], node.saved, node.prim, node.plan
        if type(edge) is OutputEdge or saved is None or observer:
            return False
        kind: Any = type(g)
        xp = TYPES.get(kind)
        if xp is None or not xp.views_at_once or kind is not xp.array_type or g.dtype != edge.dtype:
            return False
        key = saved[plan.meta[prim.selects]]  # type: ignore[union-attr]
        if edge not in self.grads:
            if self.heap is None:
                return False
            ((_, whole),) = node_gradients(node, g, False)
            self.grads[edge] = self.own[edge] = whole
            if type(edge) is not Leaf:
                heappush(self.heap, (-edge.seq, edge))
        else:
            before: Any = self.grads[edge]
            if before.shape != edge.shape or type(before) is not kind:
                return False
            if edge not in self.own or self.own[edge] is not before:
                ((_, whole),) = node_gradients(node, g, False)
                self.own[edge] = self.grads[edge] = before + whole
                key = ...
            else:
                part = before[key] + g
                before[self.last[edge]] += 0.0
                before[key] = part
        self.last[edge] = key
        return True


def _library(roots: Sequence[tuple[Any, Any]]) -> Any:
    """The library of the first gradient, or None where nothing is known of it."""
    start = _plain(roots[0][1]) if roots else None
    found = TYPES.get(type(start))
    return backend_of(start) if found is None and hasattr(start, "device") else found


def _plain(g: Any) -> Any:
    """The array of a gradient, or of one of a node's several."""
    if isinstance(g, list | tuple):
        g = next((x for x in g if x is not None), None)
    if type(g) is Rows:
        g = g.values
    return g._data if isinstance(g, Tensor) else g


def _disturbed(node: Node) -> bool:
    """Whether the slow path is needed: an observer is active, or an input was modified in place."""
    if observer:
        return True
    seq = node.seq
    for parent in node.parents:  # noqa: SIM110 - a generator takes longer
        if type(parent) is Leaf and parent.written > seq:
            return True
    return False


class _Ends:
    """Where a walk for the gradients of some edges stops."""

    __slots__ = ("found", "picked", "stops", "useful")

    def __init__(self, roots: Sequence[tuple[Any, Any]], targets: Sequence[Any]) -> None:
        self.useful = _useful(roots, targets)
        self.stops = frozenset(targets)
        self.picked = {t.node for t in self.stops if type(t) is OutputEdge}
        self.found: dict[Any, Any] = {}  # the gradients of those that are one output of several

    def asked(self, parents: Sequence[Any]) -> tuple[bool, ...] | None:
        """Through which of the inputs of a node the walk goes on; None where that is each that has a gradient."""
        useful, there = self.useful, True
        asked = []
        for p in parents:
            it = p is not None and (p in useful or (type(p) is OutputEdge and p.node in useful))
            there = there and (it or p is None)
            asked.append(it)
        return None if there else tuple(asked)


def _deposit(
    edge: Any,
    g: Any,
    grads: dict[Any, Any],
    heap: list[tuple[float, Node]],
    ends: _Ends | None,
    create_graph: bool,
) -> None:
    """Add to the gradient of an edge, whose node is now to be visited."""
    if type(edge) is OutputEdge:
        if ends is not None:
            if edge in ends.stops:
                ends.found[edge] = g if edge not in ends.found else ends.found[edge] + g
                return
            if edge.node not in ends.useful:
                return
        node = edge.node
        if edge.hooks is not None:
            g = _run_hooks(edge, g, create_graph)
        slots = grads.get(node)
        if slots is None:
            slots = grads[node] = [None] * node.count
            heappush(heap, (-node.seq, node))
        before = slots[edge.index]
        slots[edge.index] = g if before is None else before + g
        return
    before = grads.get(edge)
    if before is not None:
        grads[edge] = before + g
    elif ends is None or edge in ends.useful:
        grads[edge] = g
        if type(edge) is not Leaf:
            heappush(heap, (-edge.seq, edge))


def node_gradients(
    node: Node, g: Any, create_graph: bool, asked: tuple[bool, ...] | None = None
) -> Iterable[tuple[int, Any]]:
    """The gradients that `node` gives its inputs, as (input, gradient). Those that are not `asked` for may be left out."""
    saved = node.saved
    if saved is None:
        msg = (
            f"the graph was freed by an earlier backward pass (at {node.label}); "
            "call backward(retain_graph=True) the first time to walk it again"
        )
        raise GradientError(msg)
    if observer:
        for watch in observer.own:
            watch.before(node, g)
    if isinstance(node, CustomNode):
        got = enumerate(node.gradients(g, create_graph, asked))
        if not observer:
            return got
        out = list(got)
    elif node.plan is None:  # piecewise constant
        out = [(i, _zeros(g, p.shape, p.dtype)) for i, p in enumerate(node.parents) if p is not None]
    else:
        plan = node.plan
        prim = node.prim
        if not plan.rules or prim is None:
            name, reason = (prim.name, prim.reason) if prim is not None else ("?", "")
            msg = f"no gradient through {name}: {reason}"
            raise GradientError(msg)
        for _slot, i in plan.inputs:
            for parent in node.parents if i < 0 else (node.parents[i],):
                if type(parent) is Leaf and parent.written > node.seq:
                    raise overwritten(parent, prim.name)
        pulled = NotImplemented if node.pullback is None or create_graph else node.pullback(g)
        if pulled is not NotImplemented:
            if not observer:
                return enumerate(pulled)
            out = list(enumerate(pulled))
        else:
            if asked is not None:
                plan = plan.narrow(prim, tuple([p is not None for p in node.parents]), asked)
            out = run_rules(plan, g, _tensors(node, saved) if create_graph else saved)
    if observer:
        seen = [gi.dense() if type(gi) is Rows else gi for _, gi in out]
        for watch in observer.own:
            watch.after(node, seen)
    return out


def _tensors(node: Node, saved: tuple[Any, ...]) -> tuple[Any, ...]:
    """What was kept, as Tensors with their edges, so that the rules record their own operations."""
    plan = node.plan
    values = list(saved)
    for slot, i in plan.inputs:  # type: ignore[union-attr]
        if i < 0:
            first = len(node.prim.inputs)  # type: ignore[union-attr]
            values[slot] = tuple(_box(x, node.parents[first + k]) for k, x in enumerate(values[slot]))
        else:
            values[slot] = _box(values[slot], node.parents[i])
    at = plan.output  # type: ignore[union-attr]
    if at is not None:
        y = values[at]
        values[at] = (
            tuple(_box(v, OutputEdge(node, k)) for k, v in enumerate(y)) if node.count else _box(y, node)
        )
    return tuple(values)


def _box(x: Any, edge: Any) -> Any:
    if not hasattr(x, "dtype"):
        return x
    out = _new(Tensor)
    out._data = x
    out.edge = edge
    return out


def _fill(node: Node, gs: list[Any]) -> tuple[Any, ...]:
    """Zeros for those outputs of a node that received no gradient."""
    like = next(g for g in gs if g is not None)
    return tuple(g if g is not None else _zeros(like, node.shape[i], node.dtype[i]) for i, g in enumerate(gs))


def _zeros(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    plain = like._data if isinstance(like, Tensor) else like
    xp = backend_of(plain)
    make = _kept_zeros if xp.eager else _kept_zeros.__wrapped__
    zeros = make(xp, tuple(shape), dtype, xp.device_of(plain))
    return wrap(zeros) if isinstance(like, Tensor) else zeros


@functools.lru_cache(maxsize=256)
def _kept_zeros(xp: Any, shape: tuple[int, ...], dtype: Any, device: str) -> Any:
    """One number in memory: rules do not write into gradients."""
    return xp.broadcast_to(xp.zeros((), dtype=dtype, device=xp.native_device(device)), shape)


def _fit(g: Any, spec: Any, create_graph: bool) -> Any:
    """`fit`, recorded where the gradient itself is to be differentiated."""
    if not create_graph and not isinstance(g, Tensor):
        return fit(g, spec)
    if tuple(g.shape) != tuple(spec.shape):
        g = sum_to(g, shape=tuple(spec.shape))
    data = g._data if isinstance(g, Tensor) else g
    return g if data.dtype == spec.dtype else cast_to(g, dtype=spec.dtype)


def _accumulate_all(
    grads: dict[Any, Any], library: Any, follow: Callable[[Any], None] | None, create_graph: bool
) -> None:
    """Add the gradients to the leaves; those that go straight into a buffer do so together, where the library copies several at once."""
    copies: Copies | None = [] if library is not None and library.copies_together else None
    try:
        for leaf, g in grads.items():
            if follow is not None:
                follow(g)
            if copies and leaf.hooks:  # which may look at the gradients of others
                library.copy_all(copies)
                copies.clear()
            accumulate(leaf, g, create_graph, copies)
    finally:
        if copies:
            library.copy_all(copies)


def accumulate(leaf: Leaf, g: Any, create_graph: bool, copies: Copies | None = None) -> None:
    """Add a gradient to a leaf; the first one goes straight into the flat buffer where there is one: now, or as one of the `copies`
    that are then made together."""
    if leaf.frozen:
        return
    if type(g) is Rows:
        if g.sparse and not g.xp.eager:
            late_import("anynet.autograd.jit.host_callback").rows_in_a_program(leaf, g)
            return
        if g.sparse:
            g = SparseRows.of(g)
        elif leaf.hooks is None and _accumulate_rows(leaf, g):
            return
        else:
            g = g.dense()
    if leaf.hooks:
        g = _run_hooks(leaf, g, create_graph)
    if isinstance(g, SparseRows):
        if leaf.grad is None or isinstance(leaf.grad, SparseRows):
            leaf.grad = g if leaf.grad is None else leaf.grad + g
            return
        g = g.to_dense() if create_graph else g.rows.dense()
    leaf.rows, leaf.clean = None, False
    place: Any = leaf.buffer
    if leaf.grad is None and type(g) is type(place) and not create_graph:
        if copies is None:
            place[...] = g
        else:
            copies.append((place, g))
        grad = leaf.grad = _new(Tensor)
        grad._data = place
        grad.edge = None
        return
    if create_graph:
        leaf.grad = g if leaf.grad is None else leaf.grad + g
        return
    plain = g._data if isinstance(g, Tensor) else g
    xp = backend_of(plain)
    if type(plain) is not xp.array_type:
        plain = xp.asarray(plain)
    leaf.traced = leaf.traced or not xp.eager  # then programs write into the buffer
    buffer = None if leaf.buffer is None else xp.target(leaf.buffer)
    if leaf.grad is not None:
        held = leaf.grad._data
        if buffer is not None and (held is buffer or held is leaf.buffer):
            leaf.grad = wrap(xp.store(leaf.buffer, buffer + plain))
        else:
            leaf.grad = wrap(held + plain)
    elif buffer is not None:
        leaf.grad = wrap(xp.store(leaf.buffer, plain))
    else:
        leaf.grad = wrap(plain)


def _accumulate_rows(leaf: Leaf, g: Rows) -> bool:
    """Add rows to the gradient in an optimizer's buffer, which then costs no pass over the whole table; False where there is none."""
    place: Any = leaf.buffer
    if place is None or leaf.traced:
        return False
    if leaf.grad is None:
        if not leaf.clean:
            place[...] = 0
        elif leaf.rows is not None:
            place[leaf.rows] = 0
        leaf.rows = g.distinct()
        leaf.grad, leaf.clean = wrap(place), True
    elif leaf.grad._data is not place:
        return False
    elif leaf.rows is not None:
        leaf.rows = g.distinct(leaf.rows)
    g.add_to(place)
    return True


def _run_hooks(edge: Any, g: Any, create_graph: bool) -> Any:
    hooks = edge.hooks.values() if isinstance(edge.hooks, dict) else edge.hooks
    for hook in list(hooks):
        boxed = g if isinstance(g, Tensor) else wrap(g)
        new = hook(boxed)
        if new is not None:
            if tuple(new.shape) != tuple(edge.shape):
                msg = f"a gradient hook returned shape {tuple(new.shape)} for a gradient of shape {tuple(edge.shape)}"
                raise ValueError(msg)
            g = (
                new
                if create_graph or isinstance(new, SparseRows)
                else (new._data if isinstance(new, Tensor) else new)
            )
    return g


def _useful(roots: Sequence[tuple[Any, Any]], targets: Sequence[Any]) -> set[Any]:
    """The nodes through which a root depends on a target (and the targets themselves)."""
    ends = set(targets) | {t.node for t in targets if type(t) is OutputEdge}
    oldest = min((t.seq for t in ends), default=0)
    useful = set(ends)
    for edge in reversed(walk([e for e, _ in roots], oldest)):
        if edge in useful or type(edge) is Leaf:
            continue
        for p in edge.parents:
            if p is not None and (p in useful or (type(p) is OutputEdge and p.node in useful)):
                useful.add(edge)
                break
    return useful


# ----- the methods of Tensor -----


def backward(
    self: Tensor, gradient: Any = None, *, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Compute the gradient of this Tensor with respect to the variables it depends on, and add it to their ``.grad``.

    `gradient` is the gradient of this Tensor itself; it may be left out where the Tensor has one element. The graph is
    freed on the way unless `retain_graph`; with `create_graph` the gradients can be differentiated in turn.

    >>> import anynet as an
    >>> x = an.asarray(3.0, requires_grad=True)
    >>> (x**2).backward()
    >>> x.grad.item()
    6.0
    """
    if is_batched_array(self._data):
        msg = (
            "backward() inside vmap, where each example has its own loss; use anynet.grad inside vmap instead"
        )
        raise GradientError(msg)
    if self.edge is None:
        msg = (
            "backward() on a Tensor that depends on no variable: make one with requires_grad=True, "
            "and check that the result was not computed under no_grad() or detached"
        )
        raise GradientError(msg)
    g = start_gradient(self, gradient)
    backprop(
        [(self.edge, wrap(g) if create_graph else g)],
        create_graph=create_graph,
        retain_graph=create_graph if retain_graph is None else retain_graph,
    )


def start_gradient(y: Tensor, gradient: Any) -> Array:
    """The plain gradient with which a backward pass starts at `y`: ones for a scalar, else what is given, checked."""
    plain = y._data
    xp = backend_of(plain)
    if gradient is None:
        if y.size != 1:
            msg = (
                f"backward() of a Tensor of shape {y.shape} needs its gradient: y.backward(g), "
                "or reduce it to a scalar first, e.g. anynet.sum(y)"
            )
            raise GradientError(msg)
        if y.dtype.kind == "complex":
            msg = "backward() of a complex Tensor needs its gradient; a loss is real: take anynet.real or anynet.abs"
            raise GradientError(msg)
        return xp.ones_like(plain)
    plain = gradient._data if isinstance(gradient, Tensor) else gradient
    if not hasattr(plain, "shape"):
        plain = xp.full_like(y._data, plain)
    if tuple(plain.shape) != tuple(y.shape):
        msg = f"the gradient has shape {tuple(plain.shape)}, expected that of the Tensor, {y.shape}"
        raise ValueError(msg)
    return plain if plain.dtype == y._data.dtype else plain_cast(xp, plain, y._data.dtype)


def register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(gradient)` when the gradient of this Tensor is known; what it returns replaces it.

    ``remove()`` of what is returned removes the hook.
    """
    edge = self.edge
    if edge is None:
        msg = "a hook on a Tensor that requires no gradient would never run; set requires_grad first"
        raise RuntimeError(msg)
    if type(edge) is Leaf:
        key = clock()  # a hook that is registered twice is called twice
        edge.hooks = {**(edge.hooks or {}), key: hook}
        module_version.bump()

        def remove() -> None:
            edge.hooks = {k: h for k, h in (edge.hooks or {}).items() if k != key}
            module_version.bump()

        return RemovableHandle(remove)
    if edge.hooks is None:
        edge.hooks = []
    edge.hooks.append(hook)
    return RemovableHandle(lambda: edge.hooks.remove(hook))


def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this result in ``.grad``, as variables do."""
    if self.edge is None:
        msg = "retain_grad on a Tensor that requires no gradient"
        raise RuntimeError(msg)
    if type(self.edge) is not Leaf and self.edge.kept_grad is None:
        register_hook(self, RetainedGrad())


Tensor.backward = backward  # type: ignore[method-assign]
Tensor.register_hook = register_hook  # type: ignore[method-assign]
Tensor.retain_grad = retain_grad  # type: ignore[method-assign]
