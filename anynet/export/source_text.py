"""Arguments of a program as Python source, for targets that are Python."""

from __future__ import annotations

import math
from typing import Any

from anynet.export.program import Size, Value

__all__ = ["SourceText"]


class SourceText:
    """Writes arguments; `names` says what the values are called, `batch` becomes true where the size of the batch is used."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.helpers: set[str] = set()
        self.batch = False

    def text(self, x: Any) -> str:
        """An argument."""
        if isinstance(x, Value):
            return self.names[x.number]
        if isinstance(x, Size):
            self.batch = True
            scaled = "batch" if x.scale == 1 else f"{x.scale} * batch"
            return scaled if not x.offset else f"{scaled} {'+' if x.offset > 0 else '-'} {abs(x.offset)}"
        if isinstance(x, tuple):
            return f"({', '.join(map(self.text, x))}{',' if len(x) == 1 else ''})"
        if isinstance(x, list):
            return f"[{', '.join(map(self.text, x))}]"
        if x is Ellipsis:
            return "..."
        if isinstance(x, float) and not math.isfinite(x):
            return self.special("nan" if x != x else "inf" if x > 0 else "-inf")
        if hasattr(x, "itemsize") and hasattr(x, "name"):
            return self.dtype(x.name)
        return repr(x)

    def special(self, word: str) -> str:
        """ "nan", "inf" or "-inf" as an expression."""
        raise NotImplementedError

    def dtype(self, name: str) -> str:
        """A dtype as an expression."""
        raise NotImplementedError

    def key(self, key: Any) -> str:
        """What stands between the brackets of an index."""
        parts = key if isinstance(key, tuple) else (key,)
        return ", ".join(self.slice(p) if isinstance(p, slice) else self.text(p) for p in parts) or "()"

    def slice(self, part: slice) -> str:
        """A slice within brackets."""
        ends = ["" if e is None else self.text(e) for e in (part.start, part.stop)]
        return ":".join(ends if part.step is None else [*ends, self.text(part.step)])
