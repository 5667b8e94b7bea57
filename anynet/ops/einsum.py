"""Einstein summation: products of arrays over named axes, each pair of them as one matrix product.

All steps are operations that have gradients, so einsum has gradients of every order, and those of a product of matrices are
products of matrices again. The order of the pairs is NumPy's (`numpy.einsum_path`, the algorithm of opt_einsum).
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Callable, Sequence
from typing import Any

from anynet.ops import linalg
from anynet.ops.elementwise import multiply
from anynet.ops.linear import matmul
from anynet.ops.manipulation import moveaxis, permute_dims, reshape
from anynet.ops.reductions import sum as sum_
from anynet.ops.shapes import broadcast_shapes
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import host

__all__ = ["einsum"]

_REST = 1000  # the names of the axes that an ellipsis stands for begin here
_Names = tuple[int, ...]


def einsum(subscripts: str, /, *operands: ArrayLike) -> Tensor:
    """Products of arrays, summed over the axes that the result does not have: each letter names an axis, equal letters one axis.

    `subscripts` is ``"ij,jk->ik"``; without the arrow the result has the letters that occur once, in alphabetical order. ``...`` stands for
    axes that have no letter and broadcast. An axis of length 1 broadcasts against others of its letter. Spaces do not count.

    ValueError where the subscripts do not fit the arrays.

    >>> import anynet as an
    >>> a, b = an.asarray([[1.0, 2.0], [3.0, 4.0]]), an.asarray([[1.0, 0.0], [1.0, 1.0]])
    >>> an.einsum("ij,jk->ik", a, b).tolist(), an.einsum("ii", a).tolist(), an.einsum("ij->j", a).tolist()
    ([[3.0, 2.0], [7.0, 4.0]], 5.0, [4.0, 6.0])

    Source: the notation is that of ``numpy.einsum`` and ``torch.einsum``.
    """
    values: list[Any] = list(operands)
    plan = _plan(subscripts, tuple([tuple(x.shape) for x in operands]))
    for operation, places, arguments in plan:
        values.append(operation(*[values[i] for i in places], *arguments))
    return values[-1]  # type: ignore[no-any-return]


class _Term:
    """A value of which only the shape is known. Operations on it are steps of a plan: a function, the places of its arrays among the
    operands and the results so far, and its other arguments."""

    __slots__ = ("place", "plan", "shape")

    def __init__(self, plan: _Plan, shape: Sequence[int]) -> None:
        self.plan, self.shape = plan, tuple(shape)
        self.place = plan.count
        plan.count += 1

    def _then(
        self, operation: Callable[..., Any], shape: Sequence[int], *arguments: Any, other: _Term | None = None
    ) -> _Term:
        places = (self.place,) if other is None else (self.place, other.place)
        self.plan.steps.append((operation, places, arguments))
        return _Term(self.plan, shape)

    def reshape(self, shape: Sequence[int]) -> _Term:
        return self if tuple(shape) == self.shape else self._then(reshape, shape, tuple(shape))

    def permute(self, axes: tuple[int, ...]) -> _Term:
        same = axes == tuple(range(len(axes)))
        return self if same else self._then(permute_dims, [self.shape[i] for i in axes], axes)

    def sum(self, axes: tuple[int, ...]) -> _Term:
        return self._then(_sum_over, [n for i, n in enumerate(self.shape) if i not in axes], axes)

    def diagonal(self, i: int, j: int) -> _Term:
        """The diagonal of two axes of one length, as the last axis."""
        return self._then(
            _diagonal, [*(n for k, n in enumerate(self.shape) if k not in (i, j)), self.shape[i]], i, j
        )

    def times(self, other: _Term) -> _Term:
        return self._then(multiply, broadcast_shapes(self.shape, other.shape), other=other)

    def matmul(self, other: _Term) -> _Term:
        return self._then(matmul, (*self.shape[:-1], other.shape[-1]), other=other)


class _Plan:
    """The steps so far, and how many values there are."""

    def __init__(self) -> None:
        self.steps: list[tuple[Callable[..., Any], tuple[int, ...], tuple[Any, ...]]] = []
        self.count = 0


def _sum_over(x: Any, axes: tuple[int, ...]) -> Any:
    return sum_(x, axis=axes)


def _diagonal(x: Any, i: int, j: int) -> Any:
    return linalg.diagonal(moveaxis(x, (i, j), (-2, -1)))


@functools.lru_cache(maxsize=256)
def _plan(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    """The steps for operands of these shapes, at least one."""
    names, result, sizes = _read(subscripts, list(shapes))
    plan = _Plan()
    operands = [_Term(plan, shape) for shape in shapes]
    terms = [_prepared(x, own, sizes) for x, own in zip(operands, names, strict=True)]
    for step in _path([own for _, own in terms], result, sizes):
        chosen = [terms[i] for i in step]
        terms = [term for i, term in enumerate(terms) if i not in step]
        while len(chosen) > 1:  # NumPy multiplies several in one step where no order of pairs is better
            (a, b), chosen = chosen[:2], chosen[2:]
            kept = set(result).union(*(own for _, own in (*terms, *chosen)))
            chosen = [_two(*a, *b, kept), *chosen]
        terms += chosen
    ((x, own),) = terms
    x, own = _one(x, own, set(result))
    x = x.permute(tuple(own.index(n) for n in result))
    if not plan.steps:  # a result of its own all the same
        plan.steps.append((permute_dims, (0,), (tuple(range(len(x.shape))),)))
    return plan.steps


def _read(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[_Names], _Names, dict[int, int]]:
    """The names of each operand's axes, those of the result, and the length of each."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if not shapes or len(parts) != len(shapes):
        msg = f"einsum: {subscripts!r} must name as many operands as there are, got {len(parts)} and {len(shapes)}"
        raise ValueError(msg)
    names = [_names(part, len(shape), subscripts) for part, shape in zip(parts, shapes, strict=True)]
    hidden = max((n - _REST + 1 for own in names for n in own if n >= _REST), default=0)
    sizes: dict[int, int] = {}
    for own, shape in zip(names, shapes, strict=True):
        for name, length in zip(own, shape, strict=True):
            if sizes.setdefault(name, length) == 1:
                sizes[name] = length
            elif length not in (1, sizes[name]):
                what = "an axis of '...'" if name >= _REST else f"axis {chr(name)!r}"
                msg = f"einsum: {what} must have one length (or 1), got {sizes[name]} and {length} in {subscripts!r}"
                raise ValueError(msg)
    rest = tuple(_REST + i for i in reversed(range(hidden)))
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        return names, (*rest, *(ord(c) for c in sorted(set(letters)) if letters.count(c) == 1)), sizes
    result = _names(right, len(right.replace("...", "")) + hidden * ("..." in right), subscripts)
    if "..." in right and not hidden:
        result = tuple(n for n in result if n < _REST)
    for name in result:
        if name not in sizes or result.count(name) > 1:
            fault = "which no operand has" if name not in sizes else "twice"
            msg = f"einsum: the result of {subscripts!r} must name axes of the operands, each once; it has {chr(name)!r} {fault}"
            raise ValueError(msg)
    return names, result, sizes


def _names(part: str, ndim: int, subscripts: str) -> _Names:
    """The names of one operand's axes. Those of an ellipsis count from its last axis, since they broadcast as shapes do."""
    before, dots, after = part.partition("...")
    if not all(c in string.ascii_letters for c in before + after):
        msg = f"einsum: subscripts must be letters, ',', '...' and '->', got {subscripts!r}"
        raise ValueError(msg)
    hidden = ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        msg = f"einsum: {part!r} in {subscripts!r} must name all axes, got an operand of {ndim} of them"
        raise ValueError(msg)
    return (*map(ord, before), *(_REST + i for i in reversed(range(hidden))), *map(ord, after))


def _prepared(x: _Term, own: _Names, sizes: dict[int, int]) -> tuple[_Term, _Names]:
    """An operand whose names are different: diagonals are taken, axes of length 1 that broadcast are dropped."""
    drop = [
        i for i, (name, length) in enumerate(zip(own, x.shape, strict=True)) if length == 1 != sizes[name]
    ]
    if drop:
        x = x.reshape([length for i, length in enumerate(x.shape) if i not in drop])
        own = tuple(name for i, name in enumerate(own) if i not in drop)
    for name in dict.fromkeys(own):
        while own.count(name) > 1:
            i = own.index(name)
            j = own.index(name, i + 1)
            x = x.diagonal(i, j)
            own = (*(n for k, n in enumerate(own) if k not in (i, j)), name)
    return x, own


def _path(names: list[_Names], result: _Names, sizes: dict[int, int]) -> list[tuple[int, ...]]:
    """Which operands are multiplied first, by their places; each product comes last."""
    if len(names) <= 2:
        return [tuple(range(len(names)))]
    letter = dict(zip(sizes, string.ascii_letters, strict=False))
    if len(letter) < len(sizes):  # more than 52 axes have names: from left to right
        return [(0, 1), *((0, len(names) - 1 - k) for k in range(1, len(names) - 1))]
    text = ",".join("".join(letter[n] for n in own) for own in names)
    shapes = [tuple(sizes[n] for n in own) for own in names]
    return host.einsum_path(f"{text}->{''.join(letter[n] for n in result)}", shapes)


def _one(x: _Term, own: _Names, kept: set[int]) -> tuple[_Term, _Names]:
    """An operand summed over the axes that nothing else has."""
    over = tuple(i for i, name in enumerate(own) if name not in kept)
    if not over:
        return x, own
    return x.sum(over), tuple(name for name in own if name in kept)


def _two(a: _Term, of_a: _Names, b: _Term, of_b: _Names, kept: set[int]) -> tuple[_Term, _Names]:
    """The product of two operands, summed over the axes that nothing else has: a matrix product (batch, m, k) @ (batch, k, n)."""
    a, of_a = _one(a, of_a, kept | set(of_b))
    b, of_b = _one(b, of_b, kept | set(of_a))
    both = [n for n in of_a if n in of_b]
    batch, inner = [n for n in both if n in kept], [n for n in both if n not in kept]
    rows, columns = [n for n in of_a if n not in both], [n for n in of_b if n not in both]
    made = (*batch, *rows, *columns)
    if not inner:  # nothing is summed: elements times elements
        a = _arranged(a, of_a, [*batch, *rows])
        a = a.reshape((*a.shape, *(1,) * len(columns)))
        b = _arranged(b, of_b, [*batch, *columns])
        b = b.reshape((*b.shape[: len(batch)], *(1,) * len(rows), *b.shape[len(batch) :]))
        return a.times(b), made
    lengths = {**dict(zip(of_a, a.shape, strict=True)), **dict(zip(of_b, b.shape, strict=True))}

    def joined(names: Sequence[int]) -> int:
        return math.prod(lengths[n] for n in names)

    a = _arranged(a, of_a, [*batch, *rows, *inner]).reshape((joined(batch), joined(rows), joined(inner)))
    b = _arranged(b, of_b, [*batch, *inner, *columns]).reshape(
        (joined(batch), joined(inner), joined(columns))
    )
    if not batch:
        a, b = a.reshape(a.shape[1:]), b.reshape(b.shape[1:])
    return a.matmul(b).reshape([lengths[n] for n in made]), made


def _arranged(x: _Term, own: _Names, names: list[int]) -> _Term:
    return x.permute(tuple(own.index(n) for n in names))
