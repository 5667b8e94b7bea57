"""How much memory attention may take for its scores, and from which size it has kernels."""

from __future__ import annotations

from typing import Any, Final

from anynet_backends.array_api import Array

__all__ = ["MIN_BYTES", "ONE_HEAD", "scores_at_once", "small"]

MIN_BYTES: Final = 1 << 20
"""The bytes of arguments up to which small attention is to be specialized."""
_SMALL: Final = 1 << 20

ONE_HEAD = 1 << 20
"""How many scores of one head a kernel may hold at a time."""


def small(q: Array, k: Array, block: int) -> bool:
    """Whether the reference as one built-in function is faster than kernels, by the multiplications for the scores."""
    n, m = q.shape[-2], k.shape[-2]
    return bool(q.size * m < _SMALL and max(n, m) <= block)


def scores_at_once(n: int, m: int, block: int, need: Any) -> bool | None:
    """Whether a kernel of attention keeps the (n, m) scores of all heads for the gradient (True, for short sequences) or holds those
    of one head at a time and recomputes them (False); None where one head is too large, or where a long sequence needs the
    gradient of its mask, which is as large as all scores."""
    if n * m <= block * block:
        return True
    masked = need is not None and len(need) > 3 and need[3]
    return False if n * m <= ONE_HEAD and block >= 256 and not masked else None
