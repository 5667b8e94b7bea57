"""The network as a graph: which layer's output goes into which, found by running it once."""

from __future__ import annotations

import copy
from typing import Any

from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.graph import Leaf, Node, OutputEdge
from anynet.autograd.pytree import flatten, map_tree
from anynet.nn.layer_path import current_layer, watch
from anynet.nn.module import Module
from anynet.reports.layers import LayerOutput
from anynet.reports.sections import Figure, Section, Table
from anynet.streams import fork_rng
from anynet.tensor import Tensor, enable_grad
from anynet.train.batches import call
from anynet.viz.graph import Box, boxes_and_arrows

__all__ = ["architecture_section", "connections"]

_MOST = 120
# what only arranges numbers anew is left out between layers
_SILENT = {
    "reshape",
    "permute_dims",
    "astype",
    "expand_dims",
    "squeeze",
    "getitem",
    "flatten",
    "broadcast_to",
    "take",
    "moveaxis",
    "to_device",
    "slice",
    "matrix_transpose",
}


def connections(model: Module, inputs: Any) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Nodes (a layer's path, or an operation between layers: name → what it is) and edges between them, in the order of the data.

    A copy of the network runs in evaluation mode with everything requiring a gradient, and the recorded graph is folded: the
    operations of one layer without layers inside are one node.
    """
    twin = copy.deepcopy(model)
    twin.requires_grad_(True)
    twin.eval()
    kinds = {
        f"{type(twin).__name__}.{name}" if name else type(twin).__name__: (name, m)
        for name, m in twin.named_modules()
    }
    leaves_of_model = {path for path, (_, m) in kinds.items() if next(m.children(), None) is None}
    where: dict[int, str] = {}

    def handle(prim: Any, args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        out = prim.bind(args, meta)
        for y in out if isinstance(out, tuple) else (out,):
            if isinstance(y, Tensor) and y.edge is not None:
                node = y.edge.node if type(y.edge) is OutputEdge else y.edge
                where.setdefault(id(node), current_layer())
        return out

    def variable(x: Any) -> Any:
        return x.detach().requires_grad_() if isinstance(x, Tensor) and x.dtype.is_floating else x

    given = map_tree(variable, inputs)
    with fork_rng(), enable_grad():
        INTERCEPT.append(handle)
        watch(True)
        try:
            out = call(twin, given)
        finally:
            watch(False)
            INTERCEPT.remove(handle)
    ends = [y.edge for y in flatten(out)[0] if isinstance(y, Tensor) and y.edge is not None]
    sources = {
        id(x.edge): i
        for i, x in enumerate(flatten(given)[0])
        if isinstance(x, Tensor) and type(x.edge) is Leaf
    }
    return _folded(ends, sources, where, kinds, leaves_of_model)


def _folded(
    ends: list[Any], sources: dict[int, int], where: dict[int, str], kinds: dict[str, Any], layers: set[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    nodes: dict[str, str] = {}
    edges: dict[tuple[str, str], None] = {}
    carried: dict[int, list[str]] = {}  # which nodes of the drawing each node of autograd stands for
    used: dict[str, int] = {}
    for node in _behind(ends):
        if type(node) is Leaf:
            if id(node) in sources:
                name = "input" if len(sources) == 1 else f"input {sources[id(node)]}"
                nodes[name] = "input"
                carried[id(node)] = [name]
            else:
                carried[id(node)] = []
            continue
        parents = [p.node if type(p) is OutputEdge else p for p in node.parents if p is not None]
        before = list(dict.fromkeys(n for p in parents for n in carried.get(id(p), [])))
        path = where.get(id(node), "")
        if path in layers:
            name = kinds[path][0] or path
            nodes.setdefault(name, type(kinds[path][1]).__name__)
            carried[id(node)] = [name]
            edges.update({(b, name): None for b in before if b != name})
        elif (
            node.label in _SILENT
            or len(before) == 0
            or not isinstance(node, Node)
            or (len(before) == 1 and node.label not in ("attention",) and before[0] not in nodes)
        ):
            carried[id(node)] = before
        else:
            count = used[node.label] = used.get(node.label, 0) + 1
            name = f"{node.label}#{count}"
            nodes[name] = node.label
            carried[id(node)] = [name]
            edges.update({(b, name): None for b in before})
    nodes["output"] = "output"
    for e in ends:
        edges.update(
            {(b, "output"): None for b in carried.get(id(e.node if type(e) is OutputEdge else e), [])}
        )
    return _with_integers(nodes, list(edges))


def _behind(ends: list[Any]) -> list[Any]:
    """The nodes of autograd on which results depend, oldest first."""
    found: dict[int, Any] = {}
    stack = [e.node if type(e) is OutputEdge else e for e in ends]
    while stack:
        node = stack.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if type(node) is not Leaf:
            stack.extend(p.node if type(p) is OutputEdge else p for p in node.parents if p is not None)
    return sorted(found.values(), key=lambda n: n.seq)


def _with_integers(
    nodes: dict[str, str], edges: list[tuple[str, str]]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """An input for the layers that take integers, through which no gradient goes."""
    reached = {b for _, b in edges}
    roots = [
        n
        for n, kind in nodes.items()
        if n not in reached and "#" not in n and kind not in ("input", "output")
    ]
    if not roots:
        return nodes, edges
    name = "input (integers)" if "input" in nodes.values() else "input"
    return {name: "input", **nodes}, [*edges, *((name, root) for root in roots)]


def architecture_section(model: Module, inputs: Any, layers: list[LayerOutput]) -> Section | None:
    """The drawing of the network, and its edges as a table."""
    nodes, edges = connections(model, inputs)
    nodes, edges = _without_circles(nodes, edges)
    if len(nodes) < 3 or not edges:
        return None
    shapes = {x.name: x.shape for x in layers}
    sizes = {name: sum(p.size for p in m.parameters(recurse=False)) for name, m in model.named_modules()}
    table = Table(["from", "to"], [[a, b] for a, b in edges[:400]])
    if len(nodes) > _MOST:
        return Section(
            "Architecture",
            [table],
            f"The graph has {len(nodes)} nodes, too many for a drawing that can be read; its edges:",
        )
    boxes = {}
    for name, kind in nodes.items():
        if name == kind or name.startswith("input"):
            boxes[name] = Box([name], colour=2 if kind == "input" else 1, round=True)
        elif "#" in name:
            boxes[name] = Box([kind], colour=None, round=True, tip=f"{kind}, between layers")
        else:
            shape = shapes.get(name)
            second = "×".join(map(str, shape[1:])) if shape and len(shape) > 1 else ""
            lines = [f"{kind}", name if not second else f"{name} · {second}"]
            tip = (
                f"{name}: {kind}"
                + (f", output {shape}" if shape else "")
                + (f", {sizes[name]:,} parameters" if sizes.get(name) else "")
            )
            boxes[name] = Box(lines, colour=0 if sizes.get(name) else 6, tip=tip)
    svg = boxes_and_arrows(boxes, edges, title="Network")
    caption = (
        "Layers with parameters are blue, others grey; below the kind stand the "
        "layer's name and the shape of its output for one sample."
    )
    return Section("Architecture", [Figure(svg, "Network", caption, table, wide=True)])


def _without_circles(
    nodes: dict[str, str], edges: list[tuple[str, str]]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """A layer that is called again further on is drawn once: the edges back to it are left out."""
    order = {name: i for i, name in enumerate(nodes)}
    return nodes, [(a, b) for a, b in edges if order[a] < order[b]]
