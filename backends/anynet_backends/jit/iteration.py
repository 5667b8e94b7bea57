"""Along which axes the calls of a trace are independent, so that it can be carried out block by block.

The axes of all arrays of a trace are written as products of *atoms*: where one array is reshaped into another, their atoms are split
until both are products of the same, and where two meet element by element, their atoms are one. An atom may be iterated over, where no
result of a sum over it meets, in the same program, an array that has it: the sums are then partial ones, and what is computed
from them comes after the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from anynet_backends.jit.instructions import Instruction, Variable, collect, is_basic_key, made_by
from anynet_backends.jit.ordered_sums import reduced_axes

__all__ = [
    "CREATION", "REDUCTIONS", "Atom", "Axes", "NotBlocked", "is_elementwise", "needed_for", "product", "reduced_atoms",
    "split_at", "supported", "unify",
]  # fmt: skip


class NotBlocked(Exception):  # noqa: N818 - as an answer, not an error
    """The program cannot be carried out block by block."""


class Atom:
    """A part of an axis. Once it is split or joined to others, `parts` says into which."""

    __slots__ = ("parts", "size", "whole")

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: list[Atom] | None = None
        self.whole = False  # not to be cut


def flat(atoms: Iterable[Atom]) -> list[Atom]:
    """The atoms that these are made of."""
    found: list[Atom] = []
    for a in atoms:
        if a.parts is None:
            found.append(a)
        else:
            parts = flat(a.parts)
            if len(parts) > 1 or parts[0] is not a.parts[0]:
                a.parts = parts
            found += parts
    return found


def unify(first: Iterable[Atom], second: Iterable[Atom]) -> None:
    """Make two products of atoms, of the same size, one."""
    left, right = flat(first), flat(second)
    while left and right:
        a, b = left[0], right[0]
        if a is b:
            del left[0], right[0]
            continue
        if a.size > b.size:
            left, right, a, b = right, left, b, a
        if b.size % a.size:
            raise NotBlocked
        b.whole, a.whole = a.whole or b.whole, a.whole or b.whole
        if a.size == b.size:
            b.parts = [a]
            del left[0], right[0]
        else:
            rest = Atom(b.size // a.size)
            rest.whole = b.whole
            if b in left[1:]:  # an array with itself, turned round
                raise NotBlocked
            b.parts = [a, rest]
        left, right = flat(left), flat(right)
    if left or right:
        raise NotBlocked


Shape = list[list[Atom]]

REDUCTIONS: Final = frozenset(("sum", "mean", "max", "min"))
_ALIKE: Final = frozenset(
    ("where", "astype", "clip", "power", "zeros_like", "ones_like", "full_like", "arrange", "erf", "erfc", "logistic")
)  # fmt: skip
CREATION: Final = frozenset(("zeros", "ones", "full", "arange", "asarray", "random_words"))
_VIEWS: Final = frozenset(
    ("reshape", "expand_dims", "squeeze", "broadcast_to", "permute_dims", "transpose", "matrix_transpose", "getitem")
)  # fmt: skip


def is_elementwise(name: str) -> bool:
    """Whether a function of a trace acts on each element."""
    f = getattr(np, name, None)
    return name in _ALIKE or (isinstance(f, np.ufunc) and f.signature is None and f.nout == 1)


def supported(name: str) -> bool:
    """Whether a function of a trace can be a part of a blocked program."""
    return (
        is_elementwise(name) or name in REDUCTIONS or name in _VIEWS or name in CREATION or name == "concat"
    )


class Axes:
    """The atoms of the axes of each variable of a trace."""

    def __init__(self, instructions: Sequence[Instruction], given: Iterable[Variable]) -> None:
        self.shapes: dict[int, Shape] = {}
        for x in given:
            self._fresh(x)
        for i in instructions:
            if i.kind != "call" or not isinstance(i.out, Variable) or not supported(i.name):
                raise NotBlocked
            found: list[Variable] = []
            collect((i.args, tuple(i.kwargs.values())), Variable, found)
            for x in found:
                if x.var not in self.shapes:  # a constant
                    self._fresh(x, whole=True)
            if i.name in CREATION:
                self._fresh(i.out, whole=True)
            elif is_elementwise(i.name):
                self._alike(i.out, found)
            elif i.name in REDUCTIONS:
                gone = reduced_axes(found[0].ndim, i.kwargs.get("axis"))
                kept = [([] if a in gone else own) for a, own in enumerate(self.shapes[found[0].var])]
                if not i.kwargs.get("keepdims", False):
                    kept = [own for a, own in enumerate(kept) if a not in gone]
                self.shapes[i.out.var] = kept
            else:
                getattr(self, f"_{i.name}")(i, i.args[0], i.out)

    def atoms(self, var: int) -> Shape:
        """The atoms of each axis of a variable."""
        return [flat(own) for own in self.shapes[var]]

    def once(self) -> set[Atom]:
        """The atoms that may be cut: no array has them twice."""
        found = {a for shape in self.shapes.values() for own in shape for a in flat(own)}
        return {a for a in found if not a.whole} - self.twice()

    def twice(self) -> set[Atom]:
        """The atoms that an array has twice, as one that is added to itself transposed."""
        shapes = [[a for own in shape for a in flat(own)] for shape in self.shapes.values()]
        return {a for here in shapes if len(here) > len(set(here)) for a in here if here.count(a) > 1}

    def _fresh(self, x: Variable, whole: bool = False) -> Shape:
        made: Shape = []
        for n in x.shape:
            own = [Atom(n)] if n > 1 else []
            for a in own:
                a.whole = whole
            made.append(own)
        self.shapes[x.var] = made
        return made

    def _alike(self, out: Variable, inputs: Iterable[Variable]) -> None:
        made = self._fresh(out)
        for x in inputs:
            lead = out.ndim - x.ndim
            for a, own in enumerate(self.shapes[x.var]):
                if x.shape[a] > 1:
                    unify(own, made[lead + a])

    def _broadcast_to(self, i: Instruction, x: Variable, out: Variable) -> None:
        self._alike(out, (x,))

    def _reshape(self, i: Instruction, x: Variable, out: Variable) -> None:
        unify([a for own in self.shapes[x.var] for a in own], [a for own in self._fresh(out) for a in own])

    def _expand_dims(self, i: Instruction, x: Variable, out: Variable) -> None:
        self.shapes[out.var] = self._spread(self.shapes[x.var], x.shape, out.shape)

    _squeeze = _expand_dims

    @staticmethod
    def _spread(own: Shape, shape: tuple[int, ...], new: tuple[int, ...]) -> Shape:
        """The same axes, with other ones of length 1 between them."""
        rest = iter([atoms for n, atoms in zip(shape, own, strict=True) if n != 1])
        return [next(rest) if n != 1 else [] for n in new]

    def _permute_dims(self, i: Instruction, x: Variable, out: Variable) -> None:
        axes = i.args[1] if len(i.args) > 1 else i.kwargs["axes"]
        self.shapes[out.var] = [self.shapes[x.var][a] for a in axes]

    def _transpose(self, i: Instruction, x: Variable, out: Variable) -> None:
        self.shapes[out.var] = self.shapes[x.var][::-1]

    def _matrix_transpose(self, i: Instruction, x: Variable, out: Variable) -> None:
        *lead, a, b = self.shapes[x.var]
        self.shapes[out.var] = [*lead, b, a]

    def _getitem(self, i: Instruction, x: Variable, out: Variable) -> None:
        """An axis of which a part is taken is not cut, nor is the part."""
        key = i.args[1] if isinstance(i.args[1], tuple) else (i.args[1],)
        if not is_basic_key(key):
            raise NotBlocked
        given = self.shapes[x.var]
        left = x.ndim - sum(k is not None and k is not ... for k in key)
        made: Shape = []
        axis = 0
        for k in key if ... in key else (*key, ...):
            if k is ...:
                made += given[axis : axis + left]
                axis += left
            elif k is None:
                made.append([])
            else:
                own = given[axis]
                axis += 1
                if k == slice(None):
                    made.append(own)
                    continue
                self._keep(own)
                if isinstance(k, slice):
                    made.append(self._uncut(out.shape[len(made)]))
        self.shapes[out.var] = made

    def _concat(self, i: Instruction, parts: Sequence[Variable], out: Variable) -> None:
        """The axis along which arrays are joined is not cut."""
        axis = i.kwargs.get("axis", 0)
        if axis is None:
            raise NotBlocked
        axis %= out.ndim
        made = self._fresh(out)
        made[axis] = self._uncut(out.shape[axis])
        for x in parts:
            for a, own in enumerate(self.shapes[x.var]):
                if a == axis:
                    self._keep(own)
                elif x.shape[a] > 1:
                    unify(own, made[a])

    @staticmethod
    def _keep(atoms: Iterable[Atom]) -> None:
        for a in flat(atoms):
            a.whole = True

    @staticmethod
    def _uncut(n: int) -> list[Atom]:
        made = [Atom(n)] if n > 1 else []
        for a in made:
            a.whole = True
        return made


def needed_for(instructions: Sequence[Instruction], wanted: Iterable[int]) -> list[Instruction]:
    """The instructions that the variables depend on."""
    needed, found = set(wanted), []
    for i in reversed(instructions):
        if any(o.var in needed for o in made_by(i)):
            found.append(i)
            needed.update(i.reads)
    return found[::-1]


def reduced_atoms(i: Instruction, axes: Axes) -> list[Atom]:
    """The atoms that a reduction takes away."""
    x: Variable = i.args[0]
    own = axes.atoms(x.var)
    return [a for axis in reduced_axes(x.ndim, i.kwargs.get("axis")) for a in own[axis]]


def split_at(
    instructions: Sequence[Instruction], axes: Axes, over: set[Atom]
) -> tuple[list[Instruction], set[int]] | None:
    """The instructions of a block, and the variables that come after the blocks, where the atoms `over` are iterated over. None where that
    is not possible."""
    late: set[int] = set()
    block: list[Instruction] = []

    def moved(v: int) -> bool:
        return any(a in over for own in axes.atoms(v) for a in own)

    for i in instructions:
        out: Variable = i.out  # type: ignore[assignment]
        if any(v in late for v in i.reads):
            if any(v not in late and moved(v) for v in i.reads) or (moved(out.var) and i.name not in _VIEWS):
                return None
            late.add(out.var)
            continue
        if i.name in REDUCTIONS and not over.isdisjoint(reduced_atoms(i, axes)):
            if i.name not in ("sum", "mean"):
                return None
            late.add(out.var)
        block.append(i)
    return block, late


def product(atoms: Iterable[Atom], size: Callable[[Atom], int] = lambda a: a.size) -> int:
    """The product of the sizes of atoms."""
    return math.prod(map(size, atoms))
