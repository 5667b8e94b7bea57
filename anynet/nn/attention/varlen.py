"""Attention within sequences of different lengths that are concatenated along one axis, without padding."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from anynet.nn.attention.flex_attention import create_block_mask, flex_attention
from anynet.nn.errors import ShapeError
from anynet.ops.manipulation import concat, permute_dims, reshape
from anynet.tensor import Tensor, to_plain
from anynet.typing import ArrayLike

__all__ = ["AuxRequest", "varlen_attn"]

WHERE = "varlen_attn"


class AuxRequest(NamedTuple):
    """What `varlen_attn` returns besides its output."""

    lse: bool = False


def _numbers(where: str, name: str, values: Any) -> list[int]:
    plain = to_plain(values, device="cpu")
    if plain.ndim != 1 or plain.dtype.kind not in "iu":
        msg = f"{where}: {name} must be a vector of integers, got shape {tuple(plain.shape)} of {plain.dtype}"
        raise ValueError(msg)
    return [int(v) for v in plain.tolist()]


def _bounds(where: str, name: str, values: Any, length: int | None, longest: int) -> list[tuple[int, int]]:
    """The first and the last place of each sequence."""
    numbers = _numbers(where, name, values)
    pairs = list(itertools.pairwise(numbers))
    if (
        not numbers
        or numbers[0] != 0
        or any(a > b for a, b in pairs)
        or (length is not None and numbers[-1] != length)
    ):
        msg = f"{where}: {name} must begin with 0, never decrease and end with {length}, got {numbers[:8]}"
        raise ValueError(msg)
    if any(b - a > longest for a, b in pairs):
        msg = f"{where}: the sequences of {name} must have lengths ≤ {longest}, got one of {max(b - a for a, b in pairs)}"
        raise ValueError(msg)
    return pairs


def varlen_attn(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    cu_seq_q: ArrayLike,
    cu_seq_k: ArrayLike,
    max_q: int,
    max_k: int,
    *,
    return_aux: AuxRequest | None = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: ArrayLike | None = None,
    block_table: ArrayLike | None = None,
    num_splits: int | None = None,
) -> Tensor:
    """softmax(Q Kᵀ · scale) V within each of N sequences.

    query (tokens, heads, d), key and value (tokens of keys, heads, d) → (tokens, heads, d). `cu_seq_q` and `cu_seq_k` (N + 1) say
    where the sequences begin, and where the last ends. `window_size` (left, right): query i of l, aligned at the end with the s keys
    so that it stands at p = i + s − l, sees keys from p − left to p + right; −1 is no bound, (−1, 0) causal. `enable_gqa`: fewer
    heads of keys, each for a group. `seqused_k` (N): only so many keys of each sequence count. `block_table` (N, pages): key and
    value are pages (number, size, heads, d), and sequence n has those that row n lists, `seqused_k[n]` keys of them in all.
    `max_q` and `max_k` bound the lengths; `num_splits` is accepted and changes nothing. With ``AuxRequest(lse=True)`` also
    ln Σ e^s, (tokens, heads).

    >>> import anynet as an
    >>> from anynet.nn.attention.varlen import varlen_attn
    >>> q, ends = an.ones((5, 2, 4)), an.asarray([0, 3, 5])
    >>> varlen_attn(q, q, q, ends, ends, 3, 3, window_size=(-1, 0)).shape
    (5, 2, 4)

    Source: Dao: FlashAttention-2 (2023), for the alignment of windows.
    """
    queries, keys, pages = _sequences(
        query, key, cu_seq_q, cu_seq_k, max_q, max_k, window_size, seqused_k, block_table
    )
    left, right = window_size
    parts: list[Tensor] = []
    sums: list[Tensor] = []
    for n, ((a, b), (c, d)) in enumerate(zip(queries, keys, strict=True)):
        own = (key, value) if pages is None else _listed(key, value, pages[n], d)
        q, k, v = (
            permute_dims(x, (1, 0, 2))[None, ...]
            for x in (query[a:b, ...], own[0][c:d, ...], own[1][c:d, ...])
        )
        mask = None
        if left >= 0 or right >= 0:
            mask = create_block_mask(
                _window(left, right, d - c - (b - a)), None, None, b - a, d - c, query.device
            )
        y, lse = flex_attention(q, k, v, block_mask=mask, scale=scale, enable_gqa=enable_gqa, return_lse=True)
        parts.append(permute_dims(y[0, ...], (1, 0, 2)))
        sums.append(permute_dims(lse[0, ...], (1, 0)))
    y = concat(parts, axis=0)
    return (y, concat(sums, axis=0)) if return_aux is not None and return_aux.lse else y  # type: ignore[return-value]


def _sequences(
    query: ArrayLike, key: ArrayLike, cu_seq_q: ArrayLike, cu_seq_k: ArrayLike, max_q: int, max_k: int,
    window_size: tuple[int, int], seqused_k: ArrayLike | None, block_table: ArrayLike | None,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[list[int]] | None]:  # fmt: skip
    """The first and last queries and keys of each sequence, and with `block_table` the pages of each; arguments that do not fit raise."""
    if len(query.shape) != 3 or len(key.shape) != (3 if block_table is None else 4) or min(window_size) < -1:
        msg = (
            f"{WHERE}: query and key must be (tokens, heads, d) and window_size numbers ≥ −1, got {tuple(query.shape)}, "
            f"{tuple(key.shape)} and {window_size}"
        )
        raise ShapeError(msg)
    queries = _bounds(WHERE, "cu_seq_q", cu_seq_q, query.shape[0], max_q)
    used = None if seqused_k is None else _numbers(WHERE, "seqused_k", seqused_k)
    pages: list[list[int]] | None = None
    if block_table is None:
        keys = _bounds(WHERE, "cu_seq_k", cu_seq_k, key.shape[0], max_k)
    else:
        if used is None:
            msg = f"{WHERE}: seqused_k, the number of keys of each sequence, must be given with block_table, got None"
            raise ValueError(msg)
        pages = [[int(v) for v in row] for row in to_plain(block_table, device="cpu").tolist()]
        keys = [(0, count) for count in used]
        if len(pages) != len(queries):
            msg = f"{WHERE}: block_table must have a row for each sequence of queries, got {len(pages)} for {len(queries)}"
            raise ValueError(msg)
    if len(keys) != len(queries) or (used is not None and len(used) != len(queries)):
        msg = (
            f"{WHERE}: cu_seq_q and the keys must have as many sequences, got {len(queries)} and {len(keys)}"
        )
        raise ValueError(msg)
    if used is not None:
        keys = [(c, min(d, c + count)) for (c, d), count in zip(keys, used, strict=True)]
    return queries, keys, pages


def _listed(key: ArrayLike, value: ArrayLike, pages: list[int], count: int) -> list[Tensor]:
    """The keys and values on the pages that hold the first `count` of a sequence."""
    size = key.shape[1]
    needed = pages[: -(-count // size)]
    if count > size * len(pages) or any(not 0 <= p < key.shape[0] for p in needed):
        msg = f"{WHERE}: the pages of a sequence must exist and hold its {count} keys, got {pages} of {size} keys each"
        raise ValueError(msg)
    if not needed:
        return [reshape(x, (-1, *x.shape[2:])) for x in (key, value)]
    return [concat([x[p, ...] for p in needed], axis=0) for x in (key, value)]


def _window(left: int, right: int, shift: int) -> Any:
    def seen(b: Any, h: Any, q: Any, k: Any) -> Any:
        place = q + shift
        found = k == k
        if left >= 0:
            found = found & (k >= place - left)
        return found & (k <= place + right) if right >= 0 else found

    return seen
