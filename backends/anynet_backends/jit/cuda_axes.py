"""Over which axes the results of a program for CUDA range, and what their sums go over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from anynet_backends.jit.cuda_operands import Operand
from anynet_backends.jit.instructions import Instruction, Variable
from anynet_backends.jit.iteration import REDUCTIONS, Atom, Axes, reduced_atoms, unify

__all__ = ["DIFFERENT", "align", "cut", "in_order", "is_sum", "sums_before"]

DIFFERENT: Final = "different"
"""Of what depends on sums over different axes."""


def align(
    calls: Sequence[Instruction], operands: Sequence[Operand], wanted: Sequence[Variable], axes: Axes
) -> None:
    """Let arrays range over the same axes, where that lets a kernel have more of them."""
    _align_operands(operands, axes)
    _align_sums(calls, axes)
    _align_results(wanted, axes)


def is_sum(i: Instruction, axes: Axes) -> bool:
    return i.name in REDUCTIONS and bool(reduced_atoms(i, axes))


def in_order(gone: frozenset[Atom], calls: Sequence[Instruction], axes: Axes) -> list[Atom]:
    """What is reduced, in the order of the axes of the first sum."""
    for i in calls:
        if is_sum(i, axes):
            return reduced_atoms(i, axes)
    return list(gone)


def _align_sums(calls: Sequence[Instruction], axes: Axes) -> None:
    """Let sums of as many numbers, of arrays that do not meet, go over the same axes, so that one pass gives both."""
    sums = [reduced_atoms(i, axes) for i in calls if is_sum(i, axes)]
    if len(sums) < 2:
        return
    together = [{a for own in axes.atoms(v) for a in own} for v in axes.shapes]
    first = sums[0]
    for other in sums[1:]:
        apart = set(first).isdisjoint(other) and [a.size for a in first] == [a.size for a in other]
        if apart and all(all_.isdisjoint(first) or all_.isdisjoint(other) for all_ in together):
            unify(first, other)
            return _align_sums(calls, axes)


def _align_operands(operands: Sequence[Operand], axes: Axes) -> None:
    """Let what is the same memory, seen in the same way, range over the same axes."""
    known: dict[Any, Operand] = {}
    for o in operands:
        first = known.setdefault((o.root, o.offset, o.strides, o.variable.shape), o)
        if first is not o:
            _join(axes.atoms(first.variable.var), axes.atoms(o.variable.var), axes)


def _join(first: Sequence[Sequence[Atom]], other: Sequence[Sequence[Atom]], axes: Axes) -> bool:
    """Make the axes of two arrays the same; False, with nothing done, where an array has those of both."""
    own, others = ({a for axis in atoms for a in axis} for atoms in (first, other))
    together = [{a for axis in axes.atoms(v) for a in axis} for v in axes.shapes]
    if not own.isdisjoint(others) or not all(
        all_.isdisjoint(own) or all_.isdisjoint(others) for all_ in together
    ):
        return False
    for a, b in zip(first, other, strict=True):
        unify(a, b)
    return True


def _align_results(wanted: Sequence[Variable], axes: Axes) -> None:
    """Let results of the same lengths, of arrays that do not meet, range over the same axes, so that one kernel gives them."""
    for at, x in enumerate(wanted):
        for y in wanted[:at]:
            first, other = ([a for own in axes.atoms(v.var) for a in own] for v in (x, y))
            left, pairs = list(other), []
            for a in first:
                b = next((b for b in left if b.size == a.size), None)
                if b is None:
                    break
                left.remove(b)
                pairs.append((a, b))
            if not left and len(pairs) == len(first):
                if _join([[a] for a, _ in pairs], [[b] for _, b in pairs], axes):
                    break


def sums_before(calls: Sequence[Instruction], axes: Axes) -> tuple[dict[int, Any], set[int]]:
    """For each variable the atoms that sums before it go over: None without sums, `DIFFERENT` where these differ; and which are sums."""
    over: dict[int, Any] = {}
    sums: set[int] = set()
    for i in calls:
        kinds = {over[v] for v in i.reads if over.get(v) is not None}
        found = None if not kinds else kinds.pop() if len(kinds) == 1 else DIFFERENT
        out: Any = i.out
        if is_sum(i, axes):
            gone = frozenset(reduced_atoms(i, axes))
            sums.add(out.var)
            found = gone if found in (None, gone) else DIFFERENT
        elif found not in (None, DIFFERENT):
            # rows must be the same for all that has the sums
            pass
        over[out.var] = found
    return over, sums


def cut(v: int, pending: dict[int, Instruction], over: dict[int, Any], sums: set[int]) -> list[int]:
    """The sums that have to be there before something that depends on different ones."""
    found: list[int] = []

    def nearest(u: int) -> None:
        if u in sums:
            found.append(u)
        elif over.get(u) is not None:
            for w in pending[u].reads:
                nearest(w)

    def search(u: int) -> None:
        for w in pending[u].reads:
            if over.get(w) is DIFFERENT:
                search(w)
            elif over.get(w) is not None:
                nearest(w)

    search(v)
    return found
