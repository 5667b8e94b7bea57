"""How much memory attention may take for its scores."""

from __future__ import annotations

from typing import Any

__all__ = ["ONE_HEAD", "scores_at_once"]

ONE_HEAD = 1 << 20
"""How many scores of one head a kernel may hold at a time."""


def scores_at_once(n: int, m: int, block: int, need: Any) -> bool | None:
    """Whether a kernel of attention keeps the (n, m) scores of all heads for the gradient (True, for short sequences) or holds those
    of one head at a time and recomputes them (False); None where one head is too large, or where a long sequence needs the
    gradient of its mask, which is as large as all scores."""
    if n * m <= block * block:
        return True
    masked = need is not None and len(need) > 3 and need[3]
    return False if n * m <= ONE_HEAD and block >= 256 and not masked else None
