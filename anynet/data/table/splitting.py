"""Rows for training, validation and testing: at random, by class, by group, by time."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from anynet.data.table.frame import HOST
from anynet.streams import SHUFFLES
from anynet_backends import Array, host, philox, registry

__all__ = ["PARTS", "fingerprint", "parts_named", "split_rows"]

PARTS = ("train", "valid", "test")

_NAMES = {
    **dict.fromkeys(("train", "training", "fit", "0", "false"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev", "1", "true"), 1),
    **dict.fromkeys(("test", "testing", "holdout"), 2),
}


def split_rows(
    n: int,
    fractions: tuple[float, float],
    seed: int,
    *,
    strata: Sequence[Any] | None = None,
    group: Sequence[Any] | None = None,
    time: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The rows of the three parts, each in the order of the table; `fractions` are those of validation and test.

    `strata`: each of these values is spread over the parts alike. `group`: rows of one value stay together. `time`: the earliest
    rows train, the latest test; rows of one time stay together.
    """
    if time is not None:
        order = HOST.argsort(time, stable=True)
        first, second = _edges(HOST.take(time, order, axis=0).tolist(), fractions)
        found = order[:first], order[first:second], order[second:]
    elif group is not None:
        found = _by_group(n, fractions, seed, group)
    else:
        order = philox.permutation(seed, SHUFFLES, 0, n)
        if strata is not None:
            order = _spread(order, strata)
        counts = [_share(n, f) for f in fractions]
        valid, test = counts
        found = order[valid + test :], order[:valid], order[valid : valid + test]
    train, valid_rows, test_rows = (HOST.sort(rows) for rows in found)
    return train, valid_rows, test_rows


def _share(n: int, fraction: float) -> int:
    """How many of n rows, at least one of several."""
    return max(round(n * fraction), 1 if fraction > 0 and n > 1 else 0)


def _spread(order: Array, strata: Sequence[Any]) -> Array:
    """The rows in an order in which each stretch has all the values in their proportions: row k of the m with a value stands at
    the place (k + a part of 1) / m. A value that is there once comes last, where the training part is."""
    rows: dict[Any, list[int]] = {}
    for row in order.tolist():
        rows.setdefault(strata[row], []).append(row)
    places = []
    for i, members in enumerate(rows.values()):
        m = len(members)
        offset = ((i + 1) * 0.6180339887498949) % 1.0
        places += [((k + offset) / m if m > 1 else 1.0, i, row) for k, row in enumerate(members)]
    return registry.asarray([row for _, _, row in sorted(places)], "int64")


def _edges(times: Sequence[float], fractions: tuple[float, float]) -> tuple[int, int]:
    """Where validation and test begin in rows in the order of their times: near the shares, and where one time ends."""
    n = len(times)
    ends = [0] + [i for i in range(1, n) if times[i] != times[i - 1]] + [n]
    needed = 1 + sum(f > 0 for f in fractions)
    if len(ends) <= needed:
        msg = (
            f"Table: a split by time needs {needed} different times, one for each part, got {len(ends) - 1} in {n} rows "
            "(rows of one time stay together)"
        )
        raise ValueError(msg)
    # each part that is asked for has one time at least; what is between two times goes to the earlier part
    later = [int(fractions[0] > 0) + int(fractions[1] > 0), int(fractions[1] > 0)]
    edges: list[int] = []
    for asked, after in zip(
        (round(n * (1 - sum(fractions))), round(n * (1 - fractions[1]))), later, strict=True
    ):
        least = 1 if not edges else ends.index(edges[0]) + int(fractions[0] > 0)
        most = len(ends) - 1 - after
        edges.append(ends[min(max(bisect_left(ends, asked), least), most)])
    return edges[0], edges[1]


def _by_group(n: int, fractions: tuple[float, float], seed: int, group: Sequence[Any]) -> Any:
    members: dict[Any, list[int]] = {}
    for row, value in enumerate(group):
        members.setdefault(value, []).append(row)
    needed = 1 + sum(f > 0 for f in fractions)
    if len(members) < needed:
        msg = f"Table: a split by group needs {needed} groups, one for each part, got {len(members)}"
        raise ValueError(msg)
    names = list(members)
    order = [names[i] for i in philox.permutation(seed, SHUFFLES, 0, len(names)).tolist()]
    parts: list[list[int]] = [[], [], []]
    for part in (2, 1):
        wanted = n * fractions[part - 1]
        reserve = 1 + (part == 2 and fractions[0] > 0)
        while wanted > 0 and len(order) > reserve:
            size = len(members[order[-1]])
            if parts[part] and len(parts[part]) + size / 2 > wanted:
                break
            if size / 2 > wanted:  # far too large: the last that fits, or the smallest
                fitting = [name for name in order if len(members[name]) / 2 <= wanted]
                chosen = fitting[-1] if fitting else min(order, key=lambda name: len(members[name]))
                order.append(order.pop(order.index(chosen)))
            parts[part] += members[order.pop()]
    for value in order:
        parts[0] += members[value]
    return tuple(registry.asarray(part, "int64") for part in parts)


def parts_named(where: str, values: Sequence[Any]) -> tuple[Array, Array, Array]:
    """The rows of the parts that a column names: train, valid, test; true or 1 means valid."""
    parts: list[list[int]] = [[], [], []]
    for row, value in enumerate(values):
        key = str(value).strip().lower()
        if key not in _NAMES:
            msg = f"{where}: row {row + 1} has {value!r}, expected train, valid or test (or true for valid)"
            raise ValueError(msg)
        parts[_NAMES[key]].append(row)
    train, valid, test = (registry.asarray(part, "int64") for part in parts)
    return train, valid, test


def fingerprint(parts: Sequence[Array]) -> str:
    """The SHA-256 of the rows of the parts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + host.to_bytes(registry.asarray(part, "int64")))
    return found.hexdigest()
