"""Einstein summation: products of arrays over named axes, each pair of them as one matrix product.

All steps are operations that have gradients, so einsum has gradients of every order, and those of a product of matrices are
products of matrices again. The order of the pairs is NumPy's (`numpy.einsum_path`, the algorithm of opt_einsum).
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

from anynet.ops import linalg
from anynet.ops.linear import matmul
from anynet.ops.manipulation import moveaxis, permute_dims, reshape
from anynet.ops.reductions import sum as sum_
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
    names, result, sizes = _read(subscripts, [tuple(x.shape) for x in operands])
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
    return permute_dims(x, tuple(own.index(n) for n in result)) if own != result else x


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


def _prepared(x: Any, own: _Names, sizes: dict[int, int]) -> tuple[Any, _Names]:
    """An operand whose names are different: diagonals are taken, axes of length 1 that broadcast are dropped."""
    drop = [
        i for i, (name, length) in enumerate(zip(own, x.shape, strict=True)) if length == 1 != sizes[name]
    ]
    if drop:
        x = reshape(x, tuple(length for i, length in enumerate(x.shape) if i not in drop))
        own = tuple(name for i, name in enumerate(own) if i not in drop)
    for name in dict.fromkeys(own):
        while own.count(name) > 1:
            i = own.index(name)
            j = own.index(name, i + 1)
            x = linalg.diagonal(moveaxis(x, (i, j), (-2, -1)))
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


def _one(x: Any, own: _Names, kept: set[int]) -> tuple[Any, _Names]:
    """An operand summed over the axes that nothing else has."""
    over = tuple(i for i, name in enumerate(own) if name not in kept)
    if not over:
        return x, own
    return sum_(x, axis=over), tuple(name for name in own if name in kept)


def _two(a: Any, of_a: _Names, b: Any, of_b: _Names, kept: set[int]) -> tuple[Any, _Names]:
    """The product of two operands, summed over the axes that nothing else has: a matrix product (batch, m, k) @ (batch, k, n)."""
    a, of_a = _one(a, of_a, kept | set(of_b))
    b, of_b = _one(b, of_b, kept | set(of_a))
    both = [n for n in of_a if n in of_b]
    batch, inner = [n for n in both if n in kept], [n for n in both if n not in kept]
    rows, columns = [n for n in of_a if n not in both], [n for n in of_b if n not in both]
    made = (*batch, *rows, *columns)
    if not inner:  # nothing is summed: elements times elements
        one = (1,) * len(columns)
        a = (
            reshape(a := _arranged(a, of_a, [*batch, *rows]), (*a.shape, *one))
            if one
            else _arranged(a, of_a, [*batch, *rows])
        )
        b = _arranged(b, of_b, [*batch, *columns])
        b = reshape(b, (*b.shape[: len(batch)], *(1,) * len(rows), *b.shape[len(batch) :])) if rows else b
        return a * b, made
    lengths = {**dict(zip(of_a, a.shape, strict=True)), **dict(zip(of_b, b.shape, strict=True))}

    def joined(names: Sequence[int]) -> int:
        return math.prod(lengths[n] for n in names)

    a = reshape(_arranged(a, of_a, [*batch, *rows, *inner]), (joined(batch), joined(rows), joined(inner)))
    b = reshape(
        _arranged(b, of_b, [*batch, *inner, *columns]), (joined(batch), joined(inner), joined(columns))
    )
    if not batch:
        a, b = reshape(a, a.shape[1:]), reshape(b, b.shape[1:])
    return reshape(matmul(a, b), tuple(lengths[n] for n in made)), made


def _arranged(x: Any, own: _Names, names: list[int]) -> Any:
    order = tuple(own.index(n) for n in names)
    return x if order == tuple(range(len(order))) else permute_dims(x, order)
