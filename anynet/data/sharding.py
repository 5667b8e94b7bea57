"""Parts of batches, for processes that train together."""

from __future__ import annotations

from typing import Any

from anynet.autograd.pytree import flatten, map_tree

__all__ = ["bounds", "length_of", "part_of"]


def bounds(index: int, count: int, n: int) -> tuple[int, int]:
    """Part `index` of `count` of 0 … n − 1, [a, b): each has ⌊n / count⌋ or one more.

    >>> [bounds(i, 3, 7) for i in range(3)]
    [(0, 2), (2, 4), (4, 7)]
    """
    return index * n // count, (index + 1) * n // count


def length_of(batch: Any) -> int:
    """How many samples a batch has: the length that all of its arrays have.

    Errors: ValueError for a batch without arrays, or with arrays of several lengths: nothing says what a part of it is.
    """
    lengths = {leaf.shape[0] if leaf.shape else None for leaf in flatten(batch)[0] if hasattr(leaf, "shape")}
    if len(lengths) != 1 or None in lengths:
        msg = (
            "a batch that processes share must be of arrays with the samples along their first axis, got lengths "
            f"{sorted(map(str, lengths))}; let the data set have an index, so that the loader divides the indices"
        )
        raise ValueError(msg)
    return int(lengths.pop() or 0)


def part_of(batch: Any, a: int, b: int) -> Any:
    """The samples a … b − 1 of a batch."""
    return map_tree(lambda x: x[a:b, ...] if hasattr(x, "shape") and x.shape else x, batch)
