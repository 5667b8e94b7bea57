"""Where the nodes of a directed graph without circles lie in a drawing: in layers, with few crossings and short, straight edges.

The method of Sugiyama, Tagawa and Toda (1981): longest paths give the layers, long edges get a bend in each layer that they
cross, sweeps with means of neighbours order the layers, and places across are the least-squares fit to those of the neighbours that
keeps order and distance (pool adjacent violators).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Layout", "layered"]

_SWEEPS = 8
_BEND = 6.0  # the width that an edge takes where it passes a layer


@dataclass
class Layout:
    """Centres of the nodes; the points of each edge, from its beginning to its end; the size of the whole."""

    places: dict[str, tuple[float, float]]
    edges: dict[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def layered(
    sizes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str]],
    *,
    gap: float = 18.0,
    rise: float = 30.0,
) -> Layout:
    """Places for nodes of these (width, height), each edge pointing down. ValueError where the edges go in a circle.

    >>> found = layered({"a": (10, 10), "b": (10, 10), "c": (10, 10)}, [("a", "b"), ("b", "c"), ("a", "c")])
    >>> found.places["a"][1] < found.places["b"][1] < found.places["c"][1], len(found.edges["a", "c"])
    (True, 3)
    """
    edges = [e for e in dict.fromkeys(edges) if e[0] != e[1]]
    ranks = _ranks(list(sizes), edges)
    layers: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for name in sizes:
        layers[ranks[name]].append(name)
    chains: dict[tuple[str, str], list[str]] = {}
    widths = {name: size[0] for name, size in sizes.items()}
    pieces: list[tuple[str, str]] = []
    for a, b in edges:
        chain = [a]
        for rank in range(ranks[a] + 1, ranks[b]):
            bend = f"\0{a}\0{b}\0{rank}"
            widths[bend] = _BEND
            layers[rank].append(bend)
            chain.append(bend)
        chain.append(b)
        chains[a, b] = chain
        pieces += itertools.pairwise(chain)
    above: dict[str, list[str]] = {name: [] for name in widths}
    below: dict[str, list[str]] = {name: [] for name in widths}
    for a, b in pieces:
        below[a].append(b)
        above[b].append(a)
    _order(layers, above, below)
    x = _across(layers, above, below, widths, gap)
    y, tops = {}, 0.0
    for layer in layers:
        tall = max((sizes[n][1] for n in layer if n in sizes), default=0.0)
        for name in layer:
            y[name] = tops + tall / 2
        tops += tall + rise
    left = min((x[n] - widths[n] / 2 for n in x), default=0.0)
    right = max((x[n] + widths[n] / 2 for n in x), default=0.0)
    places = {n: (x[n] - left, y[n]) for n in sizes}
    lines = {}
    for (a, b), chain in chains.items():
        inner = [(x[n] - left, y[n]) for n in chain[1:-1]]
        begin = (places[a][0], places[a][1] + sizes[a][1] / 2)
        end = (places[b][0], places[b][1] - sizes[b][1] / 2)
        lines[a, b] = [begin, *inner, end]
    return Layout(places, lines, right - left, max(0.0, tops - rise))


def _ranks(names: list[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The length of the longest path to each node; what has no predecessor lies right above its first successor."""
    after: dict[str, list[str]] = {n: [] for n in names}
    missing = dict.fromkeys(names, 0)
    for a, b in edges:
        after[a].append(b)
        missing[b] += 1
    ready = [n for n in names if not missing[n]]
    roots = set(ready)
    ranks, order = dict.fromkeys(names, 0), list[str]()
    while ready:
        name = ready.pop()
        order.append(name)
        for other in after[name]:
            ranks[other] = max(ranks[other], ranks[name] + 1)
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    if len(order) < len(names):
        msg = "layered: the edges must not go in a circle"
        raise ValueError(msg)
    for name in roots:
        if after[name]:
            ranks[name] = min(ranks[other] for other in after[name]) - 1
    return ranks


def _order(layers: list[list[str]], above: dict[str, list[str]], below: dict[str, list[str]]) -> None:
    """Sort each layer by the mean place of the neighbours, down and up in turn; the order with the fewest crossings is kept."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        sequence = range(1, len(layers)) if down else range(len(layers) - 2, -1, -1)
        near = above if down else below
        for i in sequence:
            other = {n: k for k, n in enumerate(layers[i - 1 if down else i + 1])}
            own = {n: k for k, n in enumerate(layers[i])}

            def place(
                n: str,
                other: dict[str, int] = other,
                own: dict[str, int] = own,
                near: dict[str, list[str]] = near,
            ) -> tuple[float, int]:
                at = [other[m] for m in near[n] if m in other]
                return (sum(at) / len(at) if at else float(own[n])), own[n]

            layers[i].sort(key=place)
        count = _crossings(layers, below)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    layers[:] = best


def _crossings(layers: list[list[str]], below: dict[str, list[str]]) -> int:
    total = 0
    for upper, lower in itertools.pairwise(layers):
        at = {n: k for k, n in enumerate(lower)}
        ends = [at[m] for n in upper for m in sorted(below[n], key=lambda m, at=at: at.get(m, 0)) if m in at]  # type: ignore[misc]
        if len(ends) > 400:  # counting is quadratic, and such a layer has crossings in any order
            return 1 << 30
        total += sum(1 for i, a in enumerate(ends) for b in ends[i + 1 :] if b < a)
    return total


def _across(
    layers: list[list[str]], above: dict[str, list[str]], below: dict[str, list[str]], widths: dict[str, float], gap: float
) -> dict[str, float]:  # fmt: skip
    x: dict[str, float] = {}
    for layer in layers:
        at = 0.0
        for name in layer:
            x[name] = at + widths[name] / 2
            at += widths[name] + gap
        for name in layer:
            x[name] -= (at - gap) / 2
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for name in layer:
                near = (above if down else below)[name] or (below if down else above)[name]
                wanted.append(sum(x[m] for m in near) / len(near) if near else x[name])
            for name, place in zip(layer, _spread(layer, wanted, widths, gap), strict=True):
                x[name] = place
    return x


def _spread(layer: list[str], wanted: list[float], widths: dict[str, float], gap: float) -> list[float]:
    """The places nearest to those wanted (least squares) in this order and with this distance."""
    offsets, at = [], 0.0
    for i, name in enumerate(layer):
        if i:
            at += (widths[layer[i - 1]] + widths[name]) / 2 + gap
        offsets.append(at)
    blocks: list[list[float]] = []  # sum, count
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append([want - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    means = [total / count for total, count in blocks for _ in range(int(count))]
    return [m + o for m, o in zip(means, offsets, strict=True)]
