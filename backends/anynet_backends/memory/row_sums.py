"""Values added to rows of a table by NumPy, in the order in which they come."""

from __future__ import annotations

from typing import Final

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["add_to_rows"]

MANY: Final = 1 << 16
WIDE: Final = 32
TOGETHER: Final = 16
"""Numbers, numbers of a row, and rows at a time from which on whole rows are added."""


def add_to_rows(rows: Array, index: Array, values: Array) -> None:
    """``rows[index[k]] += values[k]`` for each k, in place; indices are in range, and rows lie in memory one behind the other."""
    large = values.size >= MANY and rows.shape[1] >= WIDE and len(rows) >= TOGETHER
    if not large or rows.dtype != values.dtype or not _in_rounds(rows, index, values):
        _one_by_one(rows, index, values)


def _one_by_one(rows: Array, index: Array, values: Array) -> None:
    # NumPy is quick only where arrays have one axis: numbers at places of the flat array take a third to a fifth of the time, with the
    # same sums in the same order; in blocks, so that the places stay in cache
    width = rows.shape[1]
    one = rows.reshape(-1)
    starts, columns = index.astype(np.intp) * width, np.arange(width)
    step = max(1, (1 << 16) // width)
    for first in range(0, len(starts), step):
        places = starts[first : first + step, None] + columns
        np.add.at(one, places.reshape(-1), values[first : first + step].reshape(-1))


def _in_rounds(rows: Array, index: Array, values: Array) -> bool:
    """The first value of each row at once, then the second of each that has two, and so on: the same sums in the same order, by whole
    rows. What few rows have is added one by one; False, and nothing is added, where that would be much."""
    count = len(index)
    bits = (count - 1).bit_length()
    both = np.where(index < 0, index + len(rows), index).astype(np.int64)
    # row and place in one number, so that any sort is stable
    both = np.sort((both << bits) | np.arange(count))
    order, row = both & ((1 << bits) - 1), both >> bits
    starts = np.concatenate(([0], np.flatnonzero(row[1:] != row[:-1]) + 1))
    lengths = np.diff(starts, append=count)
    longest = np.argsort(-lengths)  # so that the rows of each round are the first ones
    starts, lengths = starts[longest], lengths[longest]
    targets = row[starts]
    taken = np.searchsorted(-lengths, -np.arange(1, lengths[0] + 1), side="right")
    rounds = max(1, int(np.count_nonzero(taken >= TOGETHER)))
    if taken[:rounds].sum() < count * 3 // 4:
        return False
    total, room = np.take(rows, targets, axis=0), np.empty((len(targets), rows.shape[1]), rows.dtype)
    for at, many in enumerate(taken[:rounds].tolist()):
        np.take(values, order[starts[:many] + at], axis=0, out=room[:many], mode="clip")
        np.add(total[:many], room[:many], out=total[:many])
    rows[targets] = total
    if rounds < len(taken):
        begins = np.zeros(count, np.int64)
        begins[starts] = starts
        late = np.arange(count) - np.maximum.accumulate(begins) >= rounds
        _one_by_one(rows, row[late], values[order[late]])
    return True
