"""How much memory the scores of attention may take."""

from __future__ import annotations

from typing import Any

__all__ = ["ONE_HEAD", "scores_at_once"]

ONE_HEAD = 1 << 20
"""Numbers in the scores of one head of attention that there is room for."""


def scores_at_once(n: int, m: int, block: int, need: Any) -> bool | None:
    """Whether a kernel of attention keeps the (n, m) scores of all heads for the gradient (short sequences), or has room
    for those of one head at a time, and makes them again; None where it has room for neither, or where the gradient of a
    mask is asked for, which is as large."""
    if n * m <= block * block:
        return True
    masked = need is not None and len(need) > 3 and need[3]
    return False if n * m <= ONE_HEAD and block >= 256 and not masked else None
