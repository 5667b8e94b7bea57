"""The import lines of a PyTorch script as they are for this room; nothing else of the script is touched."""

from __future__ import annotations

import ast

__all__ = ["with_changed_imports"]

_ROOMS = {"torch": "anynet.torch", "torchvision": "anynet.torchvision", "einops": "anynet.torch.einops"}


def _room(module: str) -> str | None:
    """The path here of a module's; None for one that is not PyTorch's."""
    if module == "torch.utils.tensorboard":
        return "tensorboardX"  # the same writer in a package of its own
    top, _, rest = module.partition(".")
    if top not in _ROOMS:
        return None
    return _ROOMS[top] + (f".{rest}" if rest else "")


def _changed(node: ast.Import | ast.ImportFrom) -> str | None:
    """An import statement of this room's for one of PyTorch's; None where nothing changes."""
    if isinstance(node, ast.ImportFrom):
        room = None if node.level or node.module is None else _room(node.module)
        if room is None:
            return None
        return ast.unparse(ast.ImportFrom(module=room, names=node.names, level=0))
    if not any(_room(alias.name) for alias in node.names):
        return None
    lines = []
    for alias in node.names:
        room, top = _room(alias.name), alias.name.partition(".")[0]
        if room is None:
            lines.append(ast.unparse(ast.Import(names=[alias])))
        elif alias.asname is not None:
            lines.append(f"import {room} as {alias.asname}")
        else:  # `import torch.nn` names torch
            lines += [f"import {room}"] * ("." in alias.name) + [f"import {_ROOMS[top]} as {top}"]
    return "; ".join(lines)


def with_changed_imports(source: str, name: str = "<script>") -> str:
    """The script with the import lines of torch, torchvision and einops changed to this room's; every other line is as it was.

    SyntaxError for what is no Python.

    >>> with_changed_imports("import torch, math\\nfrom torch.nn import Linear\\nx = torch.ones(2)")
    'import anynet.torch as torch; import math\\nfrom anynet.torch.nn import Linear\\nx = torch.ones(2)'
    """
    lines = source.encode().splitlines(keepends=True)
    nodes = [
        n for n in ast.walk(ast.parse(source, filename=name)) if isinstance(n, (ast.Import, ast.ImportFrom))
    ]
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        new = _changed(node)
        if new is None:
            continue
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        rest = lines[last][node.end_col_offset :]
        lines[first : last + 1] = [lines[first][: node.col_offset] + new.encode() + rest]
    return b"".join(lines).decode()
