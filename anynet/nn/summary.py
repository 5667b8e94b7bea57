"""The table that `Module.summary` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet._html import html_table
from anynet.nn.members import walk
from anynet.nn.modes import evaluating
from anynet.ops.creation import zeros
from anynet.tensor import Tensor, no_grad

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["Summary", "summary"]


class Summary(str):
    """The table as text; a notebook shows it as a table."""

    __slots__ = ("note", "rows")
    rows: list[tuple[str, ...]]
    note: str

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(self.rows[0], self.rows[1:], self.note)


def summary(module: Module, *inputs: Any) -> Summary:
    """See `Module.summary`."""
    outputs: dict[int, tuple[str, int]] = {}
    modules = list(module.modules())
    if inputs:
        args = tuple(_example(module, x) for x in inputs)
        removers = [m.register_forward_hook(_note_output(outputs)) for m in modules]
        try:
            with no_grad(), evaluating(module):
                module(*args)
        finally:
            for remove in removers:
                remove()
    rows = [("layer", "output", "parameters")]
    for name, inner in module.named_modules():
        own = {id(p): p.size for p in inner.parameters()}
        count = sum(own.values())
        rows.append(
            (f"{name or '(all)'}: {type(inner).__name__}", outputs.get(id(inner), ("", 0))[0],
             f"{count:,}" if count else "")
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    if not inputs:
        rows = [(a, "", c) for a, _, c in rows]
        widths[1] = 0
    gap = "  " if widths[1] else ""
    lines = [f"{a:<{widths[0]}}{gap}{b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    total = sum(p.size for p in module.parameters())
    trained = sum(p.size for p in module.parameters() if p.requires_grad)
    memory = sum(t.size * t.dtype.itemsize for t in (*module.parameters(), *module.buffers()))
    last = f"total: {total:,} parameters, {trained:,} of them trained; {_bytes(memory)} of parameters and buffers"
    if inputs:
        leaves = [m for m in modules if next(m.children(), None) is None]
        last += f", {_bytes(sum(outputs.get(id(m), ('', 0))[1] for m in leaves))} of outputs"
    made = Summary("\n".join([*lines, last]))
    made.rows, made.note = [row if inputs else (row[0], row[2]) for row in rows], last
    return made


def _example(module: Module, x: Any) -> Any:
    """An input for `summary`: zeros where a shape is given."""
    if not (isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)):
        return x
    like = next(module.parameters(), None)
    return zeros(tuple(x)) if like is None else zeros(tuple(x), dtype=like.dtype, device=like.device)


def _bytes(n: int) -> str:
    if n < 1000:
        return f"{n} bytes"
    power, unit = next(u for u in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")) if n >= 1000 ** u[0])
    return f"{n / 1000**power:.3g} {unit}"


def _note_output(outputs: dict[int, tuple[str, int]]) -> Callable[..., None]:
    def note(module: Module, args: Any, out: Any) -> None:
        found = [t for _, t in walk(out, "", (Tensor,))]
        size = sum(t.size * t.dtype.itemsize for t in found)
        text = str(found[0].shape) if len(found) == 1 else ", ".join(str(t.shape) for t in found)
        outputs[id(module)] = (text or type(out).__name__, outputs.get(id(module), ("", 0))[1] + size)

    return note
