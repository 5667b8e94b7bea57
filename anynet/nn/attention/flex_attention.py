"""Attention with scores and masks that the user writes as functions of positions, never holding the whole matrix of scores.

    y_i = Σ_j e^{s_ij − m_i} v_j / Σ_j e^{s_ij − m_i},   s_ij = score_mod(q_i · k_j · scale, b, h, i, j),  −∞ where masked

The queries go block by block, each against the keys that the mask lets it see; for the gradient each block is computed once more,
so memory grows with the length of the sequences, not with its square.

Source: Dong et al.: Flex attention (2024); Dao et al.: FlashAttention (2022) for the recomputation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.autograd.checkpoint import checkpoint
from anynet.nn.errors import ShapeError
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.indexing import repeat
from anynet.ops.linear import matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import broadcast_to, concat, reshape, squeeze
from anynet.ops.reductions import all as all_over
from anynet.ops.reductions import any as any_over
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.typing import ArrayLike

__all__ = [
    "AuxOutput", "AuxRequest", "BlockMask", "and_masks", "create_block_mask", "create_mask", "flex_attention", "noop_mask",
    "or_masks",
]  # fmt: skip

Mod = Callable[..., Any]
BLOCK = 128


class AuxRequest(NamedTuple):
    """What `flex_attention` returns besides its output."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """ln Σ_j e^{s_ij} and max_j s_ij of each query, (batch, heads, queries), where they were asked for."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def noop_mask(batch: ArrayLike, head: ArrayLike, token_q: ArrayLike, token_kv: ArrayLike) -> Tensor:
    """A mask that hides nothing.

    >>> import anynet as an
    >>> from anynet.nn.attention.flex_attention import noop_mask
    >>> noop_mask(*an.zeros((4, 2), dtype=an.int64)).tolist()
    [True, True]
    """
    return e.equal(token_q, token_q)


def _joined(operation: Callable[[Any, Any], Any], first: Mod, mods: tuple[Mod, ...]) -> Mod:
    return lambda b, h, q, k: functools.reduce(operation, (mod(b, h, q, k) for mod in (first, *mods)))


def and_masks(*mask_mods: Mod) -> Mod:
    """The mask of what all of these let see.

    >>> from anynet.nn.attention.flex_attention import and_masks, create_mask
    >>> causal, near = (lambda b, h, q, k: q >= k), (lambda b, h, q, k: q - k < 2)
    >>> create_mask(and_masks(causal, near), 1, 1, 3, 3)[0, 0, ...].tolist()
    [[True, False, False], [True, True, False], [False, True, True]]
    """

    return _joined(e.logical_and, noop_mask, mask_mods)


def or_masks(*mask_mods: Mod) -> Mod:
    """The mask of what at least one of these lets see.

    >>> from anynet.nn.attention.flex_attention import create_mask, or_masks
    >>> same, first = (lambda b, h, q, k: q == k), (lambda b, h, q, k: k == 0)
    >>> create_mask(or_masks(same, first), 1, 1, 2, 3)[0, 0, ...].tolist()
    [[True, False, False], [True, True, False]]
    """

    return _joined(e.logical_or, lambda *at: e.logical_not(noop_mask(*at)), mask_mods)


def _places(b: int, h: int, rows: range, columns: range, device: str | None) -> tuple[Any, Any, Any, Any]:
    """Batch, head, query and key as arrays that broadcast to (b, h, rows, columns)."""

    def count(where: range, *shape: int) -> Any:
        return reshape(creation.arange(where.start, where.stop, dtype=dtypes.int64, device=device), shape)

    return (
        count(range(b), b, 1, 1, 1), count(range(h), 1, h, 1, 1), count(rows, 1, 1, len(rows), 1), count(columns, 1, 1, 1, len(columns)),
    )  # fmt: skip


def _seen(mod: Mod, b: int, h: int, rows: range, columns: range, device: str | None) -> Tensor:
    found = mod(*_places(b, h, rows, columns, device))
    if not isinstance(found, Tensor) or found.dtype != dtypes.bool:
        msg = f"flex_attention: a mask_mod must return booleans, got {getattr(found, 'dtype', type(found).__name__)}"
        raise TypeError(msg)
    return broadcast_to(found, (b, h, len(rows), len(columns)))


def create_mask(
    mod_fn: Mod, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: str | None = None
) -> Tensor:
    """What ``mod_fn(batch, head, query, key)`` gives for all of them: (B, H, Q_LEN, KV_LEN), with None for 1. A function of five
    arguments is a score_mod, and is given zeros as scores.

    >>> from anynet.nn.attention.flex_attention import create_mask
    >>> create_mask(lambda b, h, q, k: q >= k, None, None, 2, 2).tolist()
    [[[[True, False], [True, True]]]]
    """
    b, h = B or 1, H or 1
    if mod_fn.__code__.co_argcount == 5:
        zero = creation.zeros((b, h, Q_LEN, KV_LEN), device=device)
        return mod_fn(zero, *_places(b, h, range(Q_LEN), range(KV_LEN), device))  # type: ignore[no-any-return]
    return _seen(mod_fn, b, h, range(Q_LEN), range(KV_LEN), device)


class BlockMask:
    """A mask as a function of positions, and which blocks of queries and keys it leaves anything of: see `create_block_mask`.

    >>> from anynet.nn.attention.flex_attention import create_block_mask
    >>> create_block_mask(lambda b, h, q, k: q >= k, None, None, 256, 256)
    BlockMask(shape=(1, 1, 256, 256), sparsity=25.00%)
    """

    def __init__(
        self,
        mask_mod: Mod,
        seq_lengths: tuple[int, int],
        BLOCK_SIZE: tuple[int, int],
        some: list[Any],
        full: list[Any],
    ) -> None:
        self.mask_mod, self.seq_lengths, self.BLOCK_SIZE = mask_mod, seq_lengths, BLOCK_SIZE
        self._some, self._full = some, full  # [batch][head][block of queries][block of keys]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(batch, heads, queries, keys); batch and heads of 1 serve any number."""
        return len(self._some), len(self._some[0]), *self.seq_lengths

    def to_dense(self) -> Tensor:
        """1 for each block in which something is seen: (batch, heads, blocks of queries, blocks of keys)."""
        return creation.asarray([[[[int(v) for v in row] for row in head] for head in b] for b in self._some])

    def sparsity(self) -> float:
        """The share of blocks, in percent, in which nothing is seen."""
        cells = [v for b in self._some for head in b for row in head for v in row]
        return 100.0 * (1 - cells.count(True) / len(cells)) if cells else 0.0

    def keys(self, first: int, last: int) -> tuple[int, int, bool]:
        """The range of keys of which queries from `first` to `last` see anything, and whether they see all of it."""
        height, width = self.BLOCK_SIZE
        rows = range(first // height, -(-last // height))
        cells = [(b, h) for b in range(len(self._some)) for h in range(len(self._some[0]))]
        blocks = len(self._some[0][0][0]) if self._some[0][0] else 0
        seen = [j for j in range(blocks) if any(self._some[b][h][i][j] for b, h in cells for i in rows)]
        if not seen:
            return 0, 0, True
        whole = all(
            self._full[b][h][i][j] for b, h in cells for i in rows for j in range(seen[0], seen[-1] + 1)
        )
        return seen[0] * width, min((seen[-1] + 1) * width, self.seq_lengths[1]), whole

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%)"


def create_block_mask(
    mask_mod: Mod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: str | None = None,
    BLOCK_SIZE: int | tuple[int, int] = BLOCK,
) -> BlockMask:
    """Find the blocks of the mask ``mask_mod(batch, head, query, key)`` in which something is seen; `flex_attention` leaves out the
    others. The arguments are arrays of integers that are broadcast; B and H are None where the mask is the same for all.

    >>> from anynet.nn.attention.flex_attention import create_block_mask
    >>> create_block_mask(lambda b, h, q, k: q >= k, None, None, 8, 8, BLOCK_SIZE=2).to_dense()[0, 0, ...].tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """
    height, width = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else BLOCK_SIZE
    if height < 1 or width < 1 or min(Q_LEN, KV_LEN) < 0:
        msg = f"create_block_mask: Q_LEN and KV_LEN must be ≥ 0 and BLOCK_SIZE ≥ 1, got {Q_LEN}, {KV_LEN}, {BLOCK_SIZE}"
        raise ValueError(msg)
    b, h = B or 1, H or 1
    some: list[Any] = [[[] for _ in range(h)] for _ in range(b)]
    full: list[Any] = [[[] for _ in range(h)] for _ in range(b)]
    columns = -(-KV_LEN // width)
    for top in range(0, Q_LEN, height):
        rows = range(top, min(top + height, Q_LEN))
        seen = _seen(mask_mod, b, h, rows, range(KV_LEN), device)
        parts = [seen[..., j * width : (j + 1) * width] for j in range(columns)]
        for table, over in ((some, any_over), (full, all_over)):
            found = [to_plain(over(part, axis=(2, 3)), device="cpu").tolist() for part in parts]
            for i in range(b):
                for j in range(h):
                    table[i][j].append([bool(column[i][j]) for column in found])
    return BlockMask(mask_mod, (Q_LEN, KV_LEN), (height, width), some, full)


def _attend(
    q: Any,
    k: Any,
    v: Any,
    scale: float,
    score_mod: Mod | None,
    mask_mod: Mod | None,
    rows: range,
    columns: range,
) -> tuple[Any, Any, Any]:
    """Output, ln Σ e^s and max s of a block of queries against a range of keys."""
    b, h = q.shape[:2]
    s = widened(matmul(q * scale, mT(k)))
    if score_mod is not None:
        s = broadcast_to(score_mod(s, *_places(b, h, rows, columns, q.device)), tuple(s.shape))
    if mask_mod is not None:
        s = e.where(_seen(mask_mod, b, h, rows, columns, q.device), s, -math.inf)
    top = max_over(s, axis=-1, keepdims=True).detach()
    p = e.exp(s - e.where(e.isfinite(top), top, 0.0))
    total = sum(p, axis=-1, keepdims=True)
    some = e.greater(total, 0.0)
    y = matmul(cast_to(p / e.where(some, total, 1.0), dtype=dtypes.of(unwrap(v).dtype)), v)
    lse = e.where(some, e.log(e.where(some, total, 1.0)) + e.where(e.isfinite(top), top, 0.0), -math.inf)
    return y, squeeze(lse, axis=-1), squeeze(top, axis=-1)


def flex_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    score_mod: Mod | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    return_aux: AuxRequest | None = None,
) -> Tensor:
    """softmax(score_mod(Q Kᵀ · scale)) V where `block_mask` lets see, 0 where a query sees nothing.

    query (batch, heads, l, d), key (batch or 1, heads, s, d), value (batch or 1, heads, s, dv) → (batch, heads, l, dv); with
    `enable_gqa` key and value may have fewer heads, each for a group of those of query. `scale` is 1/√d unless given.

    ``score_mod(score, batch, head, query, key)`` changes the scores: it is called with the scores of a block and arrays of
    integers that broadcast to their shape, so it is written as for single numbers (the standard converts integers that meet
    fractions only by `astype`, NumPy and CuPy do by themselves). Gradients flow through it, to parameters that it reads too.
    `block_mask`: see `create_block_mask`. With `return_lse` (output, ln Σ e^s); with `return_aux` (output, `AuxOutput`).
    `kernel_options` tunes PyTorch's kernels; it is accepted and changes nothing.

    >>> import anynet as an
    >>> from anynet.nn.attention.flex_attention import flex_attention
    >>> q = an.ones((1, 2, 3, 4))
    >>> flex_attention(q, q, q, lambda score, b, h, q, k: score - an.abs(q - k)).shape
    (1, 2, 3, 4)
    """
    n, m = _check(query, key, value, block_mask, enable_gqa)
    if query.shape[1] != key.shape[1]:
        key, value = (repeat(a, query.shape[1] // a.shape[1], axis=1) for a in (key, value))
    factor = 1.0 / math.sqrt(query.shape[3] or 1) if scale is None else float(scale)
    block = BLOCK if block_mask is None else max(block_mask.BLOCK_SIZE[0], 1)
    blocks: list[tuple[Any, Any, Any]] = []
    for top in range(0, n, block):
        rows = range(top, min(top + block, n))
        first, last, whole = (0, m, True) if block_mask is None else block_mask.keys(rows.start, rows.stop)
        if first == last:
            blocks.append(_nothing(query, value, rows))
            continue
        args = (
            query[:, :, rows.start : rows.stop, :], key[:, :, first:last, :], value[:, :, first:last, :], factor, score_mod,
            None if whole or block_mask is None else block_mask.mask_mod, rows, range(first, last),
        )  # fmt: skip
        blocks.append(checkpoint(_attend, *args) if n > block else _attend(*args))
    if not blocks:
        blocks.append(_nothing(query, value, range(0)))
    y, lse, most = (
        concat([part[i] for part in blocks], axis=2) if len(blocks) > 1 else blocks[0][i] for i in range(3)
    )
    if return_aux is not None:
        return y, AuxOutput(lse if return_aux.lse else None, most if return_aux.max_scores else None)  # type: ignore[return-value]
    return (y, lse) if return_lse else y  # type: ignore[return-value]


def _check(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, block_mask: BlockMask | None, enable_gqa: bool
) -> tuple[int, int]:
    """The numbers of queries and keys; shapes that do not fit raise."""
    shapes = [tuple(a.shape) for a in (query, key, value)]
    if any(len(s) != 4 for s in shapes) or shapes[1][:3] != shapes[2][:3] or shapes[0][3] != shapes[1][3]:
        msg = (
            f"flex_attention: got query {shapes[0]}, key {shapes[1]}, value {shapes[2]}; expected (b, h, l, d), (b, h, s, d), "
            "(b, h, s, dv)"
        )
        raise ShapeError(msg)
    (b, h, n, _), (kb, kh, m, _) = shapes[0], shapes[1]
    if kb not in (1, b) or (h != kh and (not enable_gqa or not kh or h % kh)):
        hint = "" if enable_gqa else "; with enable_gqa fewer heads of keys may serve groups of queries'"
        msg = f"flex_attention: got query of batch {b} and {h} heads, keys of batch {kb} and {kh} heads{hint}"
        raise ShapeError(msg)
    if block_mask is not None:
        batch, heads, *lengths = block_mask.shape
        if tuple(lengths) != (n, m) or batch not in (1, b) or heads not in (1, h):
            msg = f"flex_attention: the mask is for {block_mask.shape}, got (batch, heads, queries, keys) {(b, h, n, m)}"
            raise ShapeError(msg)
    return n, m


def _nothing(query: Any, value: Any, rows: range) -> tuple[Any, Any, Any]:
    """What queries get that see no key: zeros, whatever the queries are, which depend on them with gradient zero."""
    never = creation.zeros((1,), dtype="bool", device=query.device)
    zero = e.where(never, query[:, :, rows.start : rows.stop, :], 0.0)
    low = widened(sum(zero, axis=-1))
    y = broadcast_to(sum(zero, axis=-1, keepdims=True), (*zero.shape[:3], value.shape[3]))
    return y, low - math.inf, low.detach() - math.inf
