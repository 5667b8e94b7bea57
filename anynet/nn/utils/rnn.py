"""Sequences of different lengths: padded to one array, or packed step after step without the padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from anynet.ops.creation import full
from anynet.ops.indexing import take
from anynet.ops.manipulation import concat, moveaxis, reshape, stack
from anynet.tensor import Tensor, to_plain
from anynet.typing import ArrayLike

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class PackedSequence(NamedTuple):
    """The elements of all sequences, step after step: `data` (Σ lengths, …), `batch_sizes` how many sequences are as long
    as each step, longest first; `sorted_indices` says which sequence stands where, `unsorted_indices` is its inverse
    (both None where the sequences were sorted). Made by `pack_padded_sequence` and `pack_sequence`.

    >>> import anynet as an
    >>> packed = an.nn.utils.rnn.pack_sequence([an.asarray([1, 2]), an.asarray([3])])
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 3, 2], [2, 1])
    """

    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


def _indices(values: Sequence[int], like: Any) -> Tensor:
    return (
        Tensor(list(values), dtype="int64", device=like.device)
        if values
        else full(0, 0, dtype="int64", device=like.device)
    )


def _ints(values: Any) -> list[int]:
    return [int(v) for v in (values.tolist() if hasattr(values, "tolist") else to_plain(values).tolist())]


def invert_permutation(permutation: ArrayLike | None) -> Tensor | None:
    """The permutation that undoes one; None of None.

    >>> import anynet as an
    >>> an.nn.utils.rnn.invert_permutation(an.asarray([2, 0, 1])).tolist()
    [1, 2, 0]
    """
    if permutation is None:
        return None
    order = _ints(permutation)
    out = [0] * len(order)
    for i, j in enumerate(order):
        out[j] = i
    return _indices(out, permutation)


def _flat(x: Any) -> Any:
    """(a, b, …) → (a b, …)."""
    return reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def pack_padded_sequence(
    input: ArrayLike,
    lengths: ArrayLike | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """The elements of padded sequences (steps, batch, …), or (batch, steps, …) with `batch_first`, without the padding.

    `lengths` (batch,) are positive and, with `enforce_sorted`, decreasing; without it they are sorted here.

    >>> import anynet as an
    >>> packed = an.nn.utils.rnn.pack_padded_sequence(an.asarray([[1, 2], [3, 4], [5, 0]]), [3, 2])
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([1, 2, 3, 4, 5], [2, 2, 1])
    """
    found = _ints(lengths)
    x = moveaxis(input, 0, 1) if batch_first else input
    steps, batch = x.shape[:2]
    if len(found) != batch or not found or min(found) < 1 or max(found) > steps:
        msg = f"pack_padded_sequence: lengths must be {batch} numbers in [1, {steps}], got {found[:10]}"
        raise ValueError(msg)
    order = sorted(range(batch), key=lambda i: -found[i])
    if enforce_sorted and order != list(range(batch)):
        msg = f"pack_padded_sequence: lengths must decrease, got {found[:10]}; sort them, or give enforce_sorted=False"
        raise ValueError(msg)
    ranked = [found[i] for i in order]
    sizes = [sum(n > t for n in ranked) for t in range(ranked[0])]
    cells = [t * batch + order[i] for t, size in enumerate(sizes) for i in range(size)]
    data = take(_flat(x), _indices(cells, input), axis=0)
    places = None if enforce_sorted else _indices(order, input)
    return PackedSequence(
        data, Tensor(sizes, dtype="int64", device="cpu"), places, invert_permutation(places)
    )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Any, Tensor]:
    """(padded, lengths): the inverse of `pack_padded_sequence`, in the order in which the sequences came.

    >>> import anynet as an
    >>> padded, lengths = an.nn.utils.rnn.pad_packed_sequence(an.nn.utils.rnn.pack_sequence([an.asarray([1, 2]), an.asarray([3])]))
    >>> padded.tolist(), lengths.tolist()
    ([[1, 3], [2, 0]], [2, 1])
    """
    sizes = _ints(sequence.batch_sizes)
    steps, batch = len(sizes), sizes[0]
    if total_length is not None:
        if total_length < steps:
            msg = f"pad_packed_sequence: total_length must be ≥ {steps}, the longest sequence, got {total_length}"
            raise ValueError(msg)
        steps = total_length
    x, places = (
        sequence.data,
        _ints(sequence.unsorted_indices) if sequence.unsorted_indices is not None else range(batch),
    )
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    count = x.shape[0]
    cells = [
        starts[t] + i if t < len(sizes) and i < sizes[t] else count for t in range(steps) for i in places
    ]  # `count` is the row of padding
    row = full((1, *x.shape[1:]), padding_value, dtype=x.dtype, device=x.device)
    padded = take(concat([x, row], axis=0), _indices(cells, x), axis=0)
    padded = reshape(padded, (steps, batch, *x.shape[1:]))
    lengths = [sum(size > i for size in sizes) for i in places]
    return moveaxis(padded, 0, 1) if batch_first else padded, Tensor(lengths, dtype="int64", device="cpu")


def pad_sequence(
    sequences: Sequence[ArrayLike],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (length, …) as one array (longest, batch, …), or (batch, longest, …), filled up with `padding_value`.

    >>> import anynet as an
    >>> an.nn.utils.rnn.pad_sequence([an.asarray([1, 2]), an.asarray([3])], batch_first=True).tolist()
    [[1, 2], [3, 0]]
    """
    if padding_side not in ("left", "right"):
        msg = f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}"
        raise ValueError(msg)
    if not sequences:
        msg = "pad_sequence: no sequences were given"
        raise ValueError(msg)
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        missing = longest - s.shape[0]
        if missing:
            fill = full((missing, *s.shape[1:]), padding_value, dtype=s.dtype, device=s.device)
            s = concat([s, fill] if padding_side == "right" else [fill, s], axis=0)
        rows.append(s)
    return stack(rows, axis=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: ArrayLike, lengths: ArrayLike | Sequence[int], batch_first: bool = False
) -> list[Any]:
    """The sequences of a padded array, without the padding.

    >>> import anynet as an
    >>> [s.tolist() for s in an.nn.utils.rnn.unpad_sequence(an.asarray([[1, 3], [2, 0]]), an.asarray([2, 1]))]
    [[1, 2], [3]]
    """
    x = padded_sequences if batch_first else moveaxis(padded_sequences, 0, 1)
    return [x[(i, slice(0, n), *(slice(None),) * (len(x.shape) - 2))] for i, n in enumerate(_ints(lengths))]


def pack_sequence(sequences: Sequence[ArrayLike], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (length, …) as a `PackedSequence`: their elements step by step, without padding. With `enforce_sorted` their lengths
    must decrease; without it they are sorted here.

    >>> import anynet as an
    >>> an.nn.utils.rnn.pack_sequence([an.asarray([1, 2]), an.asarray([3])]).data.tolist()
    [1, 3, 2]
    """
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The sequences of a packed one, in the order in which they came.

    >>> import anynet as an
    >>> [s.tolist() for s in an.nn.utils.rnn.unpack_sequence(an.nn.utils.rnn.pack_sequence([an.asarray([1, 2]), an.asarray([3])]))]
    [[1, 2], [3]]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def padded_sorted(sequence: PackedSequence) -> tuple[Any, tuple[int, ...]]:
    """What a recurrent layer works on: (steps, batch, …) with the longest first, and the batch sizes."""
    plain = sequence._replace(sorted_indices=None, unsorted_indices=None)
    return pad_packed_sequence(plain)[0], tuple(_ints(sequence.batch_sizes))


def repacked(x: ArrayLike, like: PackedSequence) -> PackedSequence:
    """The output (steps, batch, …) of a recurrent layer, packed as its input was."""
    sizes = _ints(like.batch_sizes)
    batch = x.shape[1]
    cells = [t * batch + i for t, size in enumerate(sizes) for i in range(size)]
    return like._replace(data=take(_flat(x), _indices(cells, x), axis=0))


def reordered(state: Any, order: Any) -> Tensor:
    """States (layers, batch, …) in another order of the batch; as they are for None."""
    return state if order is None else take(state, order, axis=1)
