"""The graph of autograd behind a result as SVG, without another program."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from anynet import dtypes
from anynet.autograd.graph import Leaf, OutputEdge
from anynet.autograd.jit.compile import Compiled
from anynet.autograd.pytree import flatten
from anynet.nn.module import Module
from anynet.tensor import Tensor, enable_grad
from anynet.viz.layered import layered
from anynet.viz.svg import drawing, element, number, text_width
from anynet_backends import backend_of, files

__all__ = ["Box", "Drawing", "boxes_and_arrows", "graph"]

_LINE, _MARGIN = 15.0, 9.0


class Drawing:
    """A drawing as SVG: shown by notebooks as it is, ``str(drawing)`` is the text, `save` writes a file."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Drawing(SVG, {len(self.svg):,} characters)"

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .svg file, or an .html file with the drawing in it; ValueError for another ending."""
        ending = os.fspath(path).rpartition(".")[2].lower()
        if ending not in ("svg", "html"):
            msg = f"Drawing.save: path must end in .svg or .html, got {os.fspath(path)!r}"
            raise ValueError(msg)
        if ending == "svg":
            files.write(path, self.svg + "\n")
        else:
            files.write(
                path,
                f'<!doctype html><html lang="en"><meta charset="utf-8"><title>graph</title><body>{self.svg}</body></html>\n',
            )


@dataclass
class Box:
    """A node of a drawing: lines of text (the first is its name), a colour of the palette or None, and what the pointer is told."""

    lines: Sequence[str]
    colour: int | None = None
    tip: str = ""
    round: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        wide = max(text_width(line, 13.5 if i == 0 else 11) for i, line in enumerate(self.lines))
        return wide + 2 * _MARGIN + 6, _LINE * len(self.lines) + _MARGIN + 2


def boxes_and_arrows(
    boxes: Mapping[str, Box],
    edges: Sequence[tuple[str, str]],
    *,
    title: str,
    standalone: bool = False,
    notes: Mapping[tuple[str, str], str] | None = None,
) -> Markup:
    """A graph in layers, from above to below. `notes` stand beside arrows."""
    layout = layered({name: box.size for name, box in boxes.items()}, edges)
    pad = 8.0
    parts: list[Markup] = []
    for edge, points in layout.edges.items():
        moved = [(x + pad, y + pad) for x, y in points]
        parts.append(element("path", d=_smooth(moved), class_="arrow"))
        x, y = moved[-1]
        parts.append(element("path", d=f"M{x:.1f} {y:.1f}l-3.6 -7.2h7.2z", class_="head"))
        note = (notes or {}).get(edge)
        if note:
            (ax, ay), (bx, by) = moved[-2], moved[-1]
            parts.append(
                element("text", note, x=(ax + bx) / 2 + 6, y=(ay + by) / 2 + 3, class_="soft small halo")
            )
    for name, box in boxes.items():
        parts += _box(box, layout.places[name][0] + pad, layout.places[name][1] + pad)
    spare = max((text_width(n, 11) for n in (notes or {}).values()), default=0.0) * 0.5
    said = f"{len(boxes)} nodes, {len(edges)} edges"
    return drawing(
        layout.width + 2 * pad + spare,
        layout.height + 2 * pad,
        title,
        said,
        *parts,
        sized=True,
        standalone=standalone,
    )


def _box(box: Box, x: float, y: float) -> list[Markup]:
    wide, tall = box.size
    tip = element("title", box.tip or " ".join(box.lines))
    left, top = x - wide / 2, y - tall / 2
    frame = {"x": left, "y": top, "width": wide, "height": tall, "rx": tall / 2 if box.round else 5.0}
    parts = [element("rect", tip, **frame, class_="box")]
    if box.colour is not None:
        parts = [
            element("rect", **frame, class_="box"),
            element("rect", tip, **frame, class_=f"f{box.colour}", fill_opacity="0.14"),
            element("rect", **frame, class_=f"s{box.colour}", pointer_events="none"),
        ]
    for i, line in enumerate(box.lines):
        parts.append(
            element(
                "text",
                line,
                x=x,
                y=top + _MARGIN + 7 + i * _LINE,
                text_anchor="middle",
                pointer_events="none",
                class_="strong" if i == 0 else "small soft",
            )
        )
    return parts


def _smooth(points: Sequence[tuple[float, float]]) -> str:
    """A curve through the points that leaves and arrives upright."""
    x, y = points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    for a, b in points[1:]:
        middle = (y + b) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {a:.1f} {middle:.1f} {a:.1f} {b:.1f}")
        x, y = a, b
    return "".join(parts)


# ----- autograd -----


def _of_model(model: Module, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    """The results that a network computes of its inputs, with their graph."""
    if not inputs:
        msg = "viz.graph: a network is drawn with an input: graph(model, x)"
        raise ValueError(msg)
    with enable_grad():
        found = flatten(model(*inputs))[0]
    return tuple(x for x in found if isinstance(x, Tensor) and x.edge is not None)


def graph(
    *results: Any,
    names: Mapping[str, Tensor] | Module | None = None,
    most: int = 300,
    title: str = "graph of autograd",
) -> Drawing:
    """What autograd has recorded for some results: variables above, operations below, each with its shape. ``graph(model, x)`` draws what a
    model does with an input, ``graph(step)`` the program of a step that `anynet.compile` has recorded.

    `names` are names for tensors, variables or results of operations on the way: a dict, or a Module, whose parameters then have
    theirs. Numbers (arrays of one element) show their value where it is known and, after ``backward()``, their gradient; arrays show
    the norm of theirs. Constants are not in the graph.

    The drawing is SVG: notebooks show it, ``graph(loss).save("loss.svg")`` writes it. ValueError for a result without a graph, and for
    more than `most` nodes.

    >>> import anynet as an
    >>> w, x = an.asarray(-2.0, requires_grad=True), an.asarray(1.5, requires_grad=True)
    >>> y = an.tanh(w * x)
    >>> y.backward(retain_graph=True)
    >>> "tanh" in str(an.viz.graph(y, names={"w": w, "x": x}))
    True
    """
    if results and isinstance(results[0], Compiled):
        return _of_program(results[0], most, title)
    if results and isinstance(results[0], Module):
        model, *inputs = results
        results = _of_model(model, inputs)
        names = model if names is None else names
    given = _given_names(names)
    roots = []
    for result in results:
        if not isinstance(result, Tensor) or result.edge is None:
            got = (
                type(result).__name__
                if not isinstance(result, Tensor)
                else "a constant: nothing in it requires a gradient"
            )
            msg = f"viz.graph: a result must be a Tensor with a graph, got {got}"
            raise ValueError(msg)
        roots.append(result)
    if not roots:
        msg = "viz.graph: give at least one result"
        raise ValueError(msg)
    found = _walk(roots, most)
    values = _values(found, roots, given)
    boxes, edges = dict[str, Box](), dict[tuple[str, str], list[Any]]()
    ends = {id(_node_of(r.edge)) for r in roots}
    for node in sorted(found, key=lambda n: n.seq):
        boxes[str(id(node))] = _described(node, given, values, id(node) in ends)
        if type(node) is Leaf:
            continue
        for parent in node.parents:
            if parent is not None:
                edges.setdefault((str(id(_node_of(parent))), str(id(node))), []).append(parent)
    notes = {edge: _note(parents) for edge, parents in edges.items()}
    drawn = boxes_and_arrows(boxes, list(edges), title=title, standalone=True, notes=notes)
    return Drawing(str(drawn))


def _of_program(step: Compiled, most: int, title: str) -> Drawing:
    """The latest program of a compiled step: its instructions, and what comes from outside."""
    program = next((s.program for kept in step.steps.values() for s in kept), None)
    if program is None:
        msg = "viz.graph: the compiled function has no program yet; call it once"
        raise ValueError(msg)
    if len(program.instructions) > most:
        msg = f"viz.graph: the program has more than most={most} instructions; give a larger most="
        raise ValueError(msg)
    boxes, edges, maker = dict[str, Box](), dict[tuple[str, str], None](), dict[int, str]()
    for n, instruction in enumerate(program.instructions):
        key, origin = f"i{n}", instruction.origin
        lines = [instruction.name, *([f"{origin.layer} {origin.phase}".strip()] if origin.phase else [])]
        boxes[key] = Box(
            lines, colour={"forward": 0, "backward": 1}.get(origin.phase), tip=" ".join(map(str, origin[:3]))
        )
        for var in dict.fromkeys(instruction.reads):
            if var not in maker:
                maker[var] = f"v{var}"
                boxes[maker[var]] = Box([program.trace.names.get(var, f"%{var}")], colour=2, round=True)
            edges[maker[var], key] = None
        out = instruction.out
        for made in out if isinstance(out, tuple) else () if out is None else (out,):
            maker[made.var] = key
        if instruction.writes is not None:
            maker[instruction.writes] = key
    return Drawing(
        str(boxes_and_arrows(boxes, [e for e in edges if e[0] != e[1]], title=title, standalone=True))
    )


def _note(parents: list[Any]) -> str:
    """What stands beside the arrow between two nodes: which outputs go along it, or how often the one does."""
    if any(type(p) is OutputEdge for p in parents):
        return "output " + ", ".join(str(p.index) for p in parents if type(p) is OutputEdge)
    return f"{len(parents)}×" if len(parents) > 1 else ""


def _node_of(edge: Any) -> Any:
    return edge.node if type(edge) is OutputEdge else edge


def _given_names(names: Mapping[str, Tensor] | Module | None) -> dict[int, tuple[str, Tensor]]:
    if names is None:
        return {}
    if isinstance(names, Module):
        names = dict(names.named_parameters())
    found = {}
    for name, tensor in names.items():
        if not isinstance(tensor, Tensor):
            msg = f"viz.graph: names must be Tensors by name, got {type(tensor).__name__} for {name!r}"
            raise TypeError(msg)
        if tensor.edge is not None:
            found[id(_node_of(tensor.edge))] = (str(name), tensor)
    return found


def _walk(roots: Sequence[Tensor], most: int) -> list[Any]:
    seen: dict[int, Any] = {}
    stack = [_node_of(r.edge) for r in roots]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        if len(seen) > most:
            msg = f"viz.graph: the graph has more than most={most} nodes; draw a smaller computation, or give a larger most="
            raise ValueError(msg)
        if type(node) is not Leaf:
            stack.extend(_node_of(p) for p in node.parents if p is not None)
    return list(seen.values())


def _values(
    found: list[Any], roots: Sequence[Tensor], given: dict[int, tuple[str, Tensor]]
) -> dict[int, Any]:
    """Arrays of one element that are known: results, named tensors, and what the rules of the nodes keep."""
    values: dict[int, Any] = {}
    for node in found:
        plan = getattr(node, "plan", None)
        saved = getattr(node, "saved", None)
        if plan is None or not saved:
            continue
        if plan.output is not None:
            values[id(node)] = saved[plan.output]
        for slot, position in plan.inputs:
            parent = node.parents[position] if 0 <= position < len(node.parents) else None
            if parent is not None and type(parent) is not OutputEdge:
                values.setdefault(id(parent), saved[slot])
    for tensor in (*(t for _, t in given.values()), *roots):
        if type(tensor.edge) is not OutputEdge:
            values[id(tensor.edge)] = tensor.detach()
    return values


def _described(
    node: Any, given: dict[int, tuple[str, Tensor]], values: dict[int, Any], is_result: bool
) -> Box:
    leaf = type(node) is Leaf
    name = given[id(node)][0] if id(node) in given else (node.name if leaf else None)
    shape = node.shape
    several = not leaf and node.count > 0
    lines = [(name or "variable") if leaf else f"{name} = {node.label}" if name else node.label]
    value = _one(values.get(id(node)))
    kept = node.grad if leaf else node.kept_grad
    if several:
        lines.append(", ".join(_shape(s) for s in shape))
    elif value is not None:
        lines.append(f"value {number(value, 5)}")
    else:
        lines.append(_shape(shape))
    if kept is not None:
        gradient = _one(kept)
        lines.append(
            f"grad {number(gradient, 5)}" if gradient is not None else f"‖grad‖ {number(_norm(kept))}"
        )
    kind = node.dtype if not several else node.dtype[0]
    tip = f"{lines[0]}, shape {shape}, {_dtype(kind)}"
    return Box(lines, colour=2 if leaf else 1 if is_result else 0, tip=tip, round=leaf)


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape)) if len(shape) else "number"


def _dtype(native: Any) -> str:
    try:
        return str(dtypes.of(native))
    except (TypeError, ValueError):
        return str(native)


def _one(value: Any) -> float | None:
    """The number in an array of one element."""
    plain = value._data if isinstance(value, Tensor) else value
    if plain is None or not hasattr(plain, "shape"):
        return float(plain) if isinstance(plain, (int, float)) and not isinstance(plain, bool) else None
    if any(int(n) != 1 for n in plain.shape):
        return None
    try:
        return float(backend_of(plain).reshape(plain, ()))
    except (TypeError, ValueError):  # complex, or on a device that does not tell
        return None


def _norm(value: Tensor) -> float:
    plain = value._data
    xp = backend_of(plain)
    return float(xp.sqrt(xp.sum(xp.abs(plain) ** 2)))
