"""The picture of the rooms in docs/architecture.md, drawn from the imports: `python -m ci.architecture [--check]`.

A room is a package or a module of the first level. An arrow says "imports"; arrows that follow from others are left out, so what
stands above knows what stands below, and nothing else. The text in a room is the first sentence of its docstring.
"""

from __future__ import annotations

import ast
import pathlib
import sys
import textwrap
from collections.abc import Iterator
from html import escape

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
SOURCES = {"anynet": ROOT / "anynet", "anynet_backends": ROOT / "backends" / "anynet_backends"}
HIDDEN = {
    "anynet.__main__",
    "anynet._version",
    "anynet",
    "anynet_backends",
}  # the front doors and what is no room
WIDTH, HEIGHT, GAP, RISE = 212, 78, 14, 40  # of a room, between rooms, between rows


def modules() -> dict[str, pathlib.Path]:
    """Each module's name and file."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join((package, *path.relative_to(folder).with_suffix("").parts))
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: pathlib.Path, known: dict[str, pathlib.Path]) -> Iterator[str]:
    """The modules of these packages that a file imports when it runs; imports for type checkers do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = (n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
    typing = {id(inner) for test in tests for statement in test.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known or node.module in known:
                    yield full if full in known else node.module


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def rooms() -> dict[str, set[str]]:
    """Each room and the rooms that it imports."""
    known = modules()
    graph: dict[str, set[str]] = {room_of(m): set() for m in known if room_of(m) not in HIDDEN}
    for module, path in known.items():
        for target in imported(path, known):
            a, b = room_of(module), room_of(target)
            if a != b and a in graph and b in graph:
                graph[a].add(b)
    return graph


def rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """The rooms from the top down: each stands one row above the highest of what it imports."""
    depth: dict[str, int] = {}

    def height(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            sys.exit(f"a circle of imports: {' → '.join((*above[above.index(room) :], room))}")
        if room not in depth:
            depth[room] = 1 + max((height(r, (*above, room)) for r in sorted(graph[room])), default=-1)
        return depth[room]

    for room in graph:
        height(room)
    levels = [sorted(r for r in graph if depth[r] == d) for d in range(max(depth.values()), -1, -1)]
    place = {r: i - len(level) / 2 for level in levels for i, r in enumerate(level)}
    for _ in range(8):  # rooms stand near those that import them and that they import
        for level in levels:
            near = {r: [place[s] for s in graph if s in graph[r] or r in graph[s]] for r in level}
            level.sort(key=lambda r: (sum(near[r]) / len(near[r]) if near[r] else 0, r))
            place.update((r, i - (len(level) - 1) / 2) for i, r in enumerate(level))
    return levels


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others."""
    reach: dict[str, set[str]] = {}

    def below(room: str) -> set[str]:
        if room not in reach:
            reach[room] = set().union(*({r} | below(r) for r in graph[room]))
        return reach[room]

    return {
        room: {r for r in to if not any(r in below(other) for other in to - {r})}
        for room, to in graph.items()
    }


def sentence(room: str, known: dict[str, pathlib.Path]) -> str:
    """The first sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse(known[room].read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return first.split(". ")[0].rstrip(".:")


def draw() -> str:
    """The picture, as SVG."""
    known, graph = modules(), rooms()
    levels = rows(graph)
    most = max(len(level) for level in levels)
    width = most * (WIDTH + GAP) + GAP
    height = len(levels) * (HEIGHT + RISE) + RISE
    corner = {
        room: (
            (width - len(level) * (WIDTH + GAP) + GAP) // 2 + i * (WIDTH + GAP),
            RISE // 2 + d * (HEIGHT + RISE),
        )
        for d, level in enumerate(levels)
        for i, room in enumerate(level)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<style>text{fill:#1b1f24}.n{font-size:14px;font-weight:600}.d{font-size:11px}"
        "line{stroke:#8a94a0;stroke-width:1.2;marker-end:url(#a)}.anynet{fill:#e8f1fb;stroke:#3b78b5}"
        ".anynet_backends{fill:#fdf1e3;stroke:#c27a24}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8a94a0"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for room, targets in sorted(reduced(graph).items()):
        x, y = corner[room]
        for to in sorted(targets):
            u, v = corner[to]
            lines.append(f'<line x1="{x + WIDTH // 2}" y1="{y + HEIGHT}" x2="{u + WIDTH // 2}" y2="{v}"/>')
    for room, (x, y) in sorted(corner.items()):
        package, name = room.split(".")
        lines.append(f'<rect class="{package}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        lines.append(f'<text class="n" x="{x + 8}" y="{y + 19}">{escape(name)}</text>')
        for i, part in enumerate(textwrap.wrap(sentence(room, known), 32, max_lines=4, placeholder=" …")):
            lines.append(f'<text class="d" x="{x + 8}" y="{y + 34 + 13 * i}">{escape(part)}</text>')
    return "\n".join((*lines, "</svg>", ""))


def main() -> None:
    text = draw()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(text, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PICTURE.relative_to(ROOT)} is not what the imports say; run python -m ci.architecture")


if __name__ == "__main__":
    main()
