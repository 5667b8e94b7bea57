"""Attention: softmax(Q Kᵀ · scale + mask) V, never holding the whole matrix of scores.

Scores are made in blocks. Over the blocks of one row the softmax is a running one: with the largest score so far m and
the sum so far l, a new block of scores s gives m' = max(m, max s), l' = l e^{m−m'} + Σ e^{s−m'}, and what was summed of
e^{s} V is scaled by e^{m−m'} too (Milakov, Gimelshein 2018; Rabe, Staats 2021; Dao et al. 2022). The forward pass keeps
ln Σ eˢ of each row, from which the backward pass makes each block of probabilities p = e^{s − ln Σ eˢ} again:

    ∂L/∂V = pᵀ G,   ∂L/∂s = p ∘ (G Vᵀ − (G ∘ Y) 1),   ∂L/∂Q = scale · ∂L/∂s K,   ∂L/∂K = scale · (∂L/∂s)ᵀ Q
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes, streams
from anynet.autograd.broadcasting import sum_to
from anynet.autograd.primitive import primitive
from anynet.equations import equation
from anynet.ops import elementwise as e
from anynet.ops.creation import constant_like
from anynet.ops.linear import matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import astype, concat, expand_dims, reshape
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = ["BLOCK", "scaled_dot_product_attention"]

BLOCK = 256
"""Rows and columns of a block of scores."""

Block = tuple[int, int]
"""Where a block begins and ends."""


def _blocks(n: int, size: int) -> list[Block]:
    return [(a, min(a + size, n)) for a in range(0, max(n, 1), size)]


def _part(x: Any, rows: Block, columns: Block) -> Any:
    """The block of a mask, whose axes may have length 1."""
    r = slice(*rows) if x.shape[-2] != 1 else slice(None)
    c = slice(*columns) if x.shape[-1] != 1 else slice(None)
    return x[..., r, c]


def _masked(s: Any, mask: Any, rows: Block, columns: Block, causal: bool) -> Any:
    """Scores with −∞ where a key is masked, and the mask's numbers added."""
    plain = unwrap(s)
    xp = backend_of(plain)
    if mask is not None:
        part = _part(mask, rows, columns)
        boolean = xp.isdtype(unwrap(part).dtype, "bool")
        s = e.where(part, s, -math.inf) if boolean else s + part
    if causal and columns[1] - 1 > rows[0]:
        i = xp.arange(*rows, device=plain.device)
        j = xp.arange(*columns, device=plain.device)
        s = e.where(xp.expand_dims(j, axis=0) <= xp.expand_dims(i, axis=1), s, -math.inf)
    return s


def _drop(like: Any, p: float, seed: int, step: int, part: int) -> Any:
    """0 with probability p, else 1 / (1 − p): the dropout mask of one block."""
    plain = unwrap(like)
    xp = backend_of(plain)
    bits = streams.mask_bits(xp, seed, step, math.prod(plain.shape), xp.device_of(plain), part)
    threshold = xp.asarray(min(int(p * 2**32), 2**32 - 1), dtype=xp.uint32, device=bits.device)
    keep = xp.astype(xp.greater_equal(bits, threshold), plain.dtype) * (1.0 / (1.0 - p))
    return xp.reshape(keep, plain.shape)


def _pairs(n: int, m: int, causal: bool, size: int) -> list[tuple[Block, list[tuple[int, Block]]]]:
    """For each block of queries the numbered blocks of keys that it attends to."""
    width = len(_blocks(m, size))
    return [
        (
            rows,
            [
                (i * width + j, cols)
                for j, cols in enumerate(_blocks(m, size))
                if not causal or not j or cols[0] < rows[1]
            ],
        )
        for i, rows in enumerate(_blocks(n, size))
    ]


@primitive(keeps_aux=True)
def attention(
    xp: Backend,
    q: Array,
    k: Array,
    v: Array,
    mask: Array = None,
    /,
    *,
    scale: float,
    causal: bool = False,
    p: float = 0.0,
    seed: int = 0,
    step: int = 0,
    block: int = BLOCK,
) -> tuple[Array, Array]:
    """softmax(q kᵀ · scale + mask) v, and for the rule ln Σ e^{scores} of each row, in blocks.

    q (…, l, e), k (…, s, e), v (…, s, w), mask (…, l, s), boolean (True: attend) or numbers to add → (…, l, w) and
    (…, l, 1). A row whose keys are all masked gives 0.
    """
    outs, sums = [], []
    for rows, others in _pairs(q.shape[-2], k.shape[-2], causal, block):
        qi = q[..., slice(*rows), :] * scale
        top = total = out = None
        for number, columns in others:
            s = xp.matmul(qi, xp.matrix_transpose(k[..., slice(*columns), :]))
            s = _masked(s, mask, rows, columns, causal)
            if 0 in s.shape:
                new = xp.zeros((*s.shape[:-1], 1), dtype=s.dtype, device=s.device)
            else:
                new = xp.max(s, axis=-1, keepdims=True)
            new = new if top is None else xp.maximum(top, new)
            safe = xp.where(new == -math.inf, xp.zeros_like(new), new)  # −∞ − −∞ is not a number
            weights = xp.exp(s - safe)
            part = xp.sum(weights, axis=-1, keepdims=True)
            if p:
                weights = weights * _drop(weights, p, seed, step, number)
            y = xp.matmul(weights, v[..., slice(*columns), :])
            if top is None:
                total, out = part, y
            else:
                decay = xp.exp(top - safe)
                total, out = total * decay + part, out * decay + y
            top = new
        empty = total == 0
        safe = xp.where(empty, xp.ones_like(total), total)
        outs.append(out / safe)
        sums.append(xp.where(empty, xp.zeros_like(total), xp.log(safe) + xp.where(empty, safe, top)))
    if len(outs) == 1:
        return outs[0], sums[0]
    return xp.concat(outs, axis=-2), xp.concat(sums, axis=-2)


@attention.vjps("q", "k", "v", "mask")
def _attention_rule(
    g: Any, y: Any, aux: Any, q: Any, k: Any, v: Any, mask: Any, scale: float, causal: bool, p: float, seed: int, step: int,
    block: int, need: tuple[bool, ...],
) -> tuple[Any, ...]:  # fmt: skip
    # the weights are divided by their sum, so that what depends on ln Σ eˢ as a constant has the derivatives of second order, too
    (sums,) = aux
    dtype = unwrap(q).dtype
    if unwrap(sums).dtype != dtype:  # of a kernel that sums in float32
        sums = astype(sums, dtype)
    inner = sum_(g * y, axis=-1, keepdims=True)
    m = k.shape[-2]
    ends = _blocks(m, block)
    gq: list[Any] = []
    gk: list[Any] = [None] * len(ends)
    gv: list[Any] = [None] * len(ends)
    gmask: list[Any] = []
    for rows, others in _pairs(q.shape[-2], m, causal, block):
        r = slice(*rows)
        qi, gi, here = q[..., r, :] * scale, g[..., r, :], inner[..., r, :]
        weights_of = _weights_again(qi, k, mask, sums[..., r, :], rows, [c for _, c in others], causal)
        total: Any = None
        strip: list[Any] = []
        for number, columns in others:
            c = slice(*columns)
            kj, vj = k[..., c, :], v[..., c, :]
            weights = weights_of(columns)
            back = matmul(gi, mT(vj))
            dropped = weights
            if p:
                drop = _drop(weights, p, seed, step, number)
                dropped, back = weights * drop, back * drop
            ds = weights * (back - here)
            j = number % len(ends)
            gv[j] = _plus(gv[j], matmul(mT(dropped), gi))
            gk[j] = _plus(gk[j], matmul(mT(ds), qi))
            total = _plus(total, matmul(ds, kj))
            if len(need) > 3 and need[3]:
                shape = _part(mask, rows, columns).shape
                strip.append(sum_to(ds, shape=(*(1,) * (len(ds.shape) - len(shape)), *shape)))
        gq.append(total * scale)
        if strip:
            gmask.append((strip, columns[1]))
    dq = gq[0] if len(gq) == 1 else concat(gq, axis=-2)
    dk, dv = _joined(gk, k, ends, q), _joined(gv, v, ends, q)
    return dq, dk, dv, _gather_mask(gmask, mask, m) if gmask else None


def _plus(total: Any, part: Any) -> Any:
    return part if total is None else total + part


def _weights_again(
    q: Any, k: Any, mask: Any, log_sum: Any, rows: Block, others: list[Block], causal: bool
) -> Callable[[Block], Any]:
    """The weights of a block of queries as a function of the block of keys, made again from ln Σ eˢ.

    e^{s − ln Σ eˢ} is divided once more by its sum: beside scores of −1e9 the logarithm of a sum is lost in rounding.
    """

    def part(columns: Block) -> Any:
        s = matmul(q, mT(k[..., slice(*columns), :]))
        return e.exp(_masked(s, mask, rows, columns, causal) - log_sum)

    only = part(others[0]) if len(others) == 1 else None
    whole: Any = None
    for columns in others:
        whole = _plus(whole, sum_(part(columns) if only is None else only, axis=-1, keepdims=True))
    whole = e.where(e.equal(whole, 0.0), 1.0, whole)
    return lambda columns: (part(columns) if only is None else only) / whole


def _joined(parts: list[Any], like: Any, blocks: list[Block], q: Any) -> Any:
    """The gradients of the blocks of keys as one; 0 for a block to which no query attends (causal, more keys than queries)."""
    if len(parts) == 1:
        return parts[0]
    shape = tuple(q.shape[:-2])
    filled = [
        x if x is not None else constant_like(q, (*shape, b - a, like.shape[-1]), 0.0)
        for x, (a, b) in zip(parts, blocks, strict=True)
    ]
    return concat(filled, axis=-2)


def _gather_mask(strips: list[tuple[list[Any], int]], mask: Any, m: int) -> Any:
    """The gradient of an added mask from its blocks."""
    made = []
    for strip, end in strips:
        if mask.shape[-1] == 1:
            row = strip[0]
            for x in strip[1:]:
                row = row + x
        else:
            if end < m:  # keys to which these queries do not attend
                strip = [*strip, constant_like(strip[0], (*strip[0].shape[:-1], m - end), 0.0)]
            row = concat(strip, axis=-1) if len(strip) > 1 else strip[0]
        made.append(row)
    if mask.shape[-2] != 1:
        return concat(made, axis=-2) if len(made) > 1 else made[0]
    total = made[0]
    for row in made[1:]:
        total = total + row
    return total


def _check_inputs(where: str, query: ArrayLike, key: ArrayLike, value: ArrayLike) -> None:
    if min(len(query.shape), len(key.shape), len(value.shape)) < 2:
        msg = f"{where}: query, key and value must have at least two axes (length, features), got {_shapes(query, key, value)}"
        raise ValueError(msg)
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        msg = (
            f"{where}: query and key must have the same width, key and value the same length, got "
            f"{_shapes(query, key, value)}"
        )
        raise ValueError(msg)
    dtype = unwrap(query).dtype
    for name, x in (("key", key), ("value", value)):
        if unwrap(x).dtype != dtype:
            msg = f"{where}: {name} must have the dtype of query, {dtypes.of(dtype)}, got {dtypes.of(unwrap(x).dtype)}"
            raise TypeError(msg)


def _shapes(query: Any, key: Any, value: Any) -> str:
    return f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"


def _grouped(where: str, query: Any, key: Any, value: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The heads of query in groups, one for each head of key and value: (…, heads, l, e) → (…, kv heads, group, l, e)."""
    q_heads, kv_heads = (query.shape[-3], key.shape[-3]) if len(query.shape) > 2 < len(key.shape) else (0, 0)
    if not kv_heads or q_heads % kv_heads or value.shape[-3] != kv_heads:
        msg = (
            f"{where}: with enable_gqa key and value must have the same number of heads, which divides that of query, got "
            f"{_shapes(query, key, value)}"
        )
        raise ValueError(msg)
    group = q_heads // kv_heads
    query = reshape(query, (*query.shape[:-3], kv_heads, group, *query.shape[-2:]))
    if mask is not None and len(mask.shape) > 2:
        split = (1, 1) if mask.shape[-3] == 1 else (kv_heads, group)
        mask = reshape(mask, (*mask.shape[:-3], *split, *mask.shape[-2:]))
    return query, expand_dims(key, axis=-3), expand_dims(value, axis=-3), mask


@equation(
    "τ = 1 / sqrt(E) if scale == 0 else scale",
    "r = H // G",
    "s[..., h, i, j] = τ * sum[e](Q[..., h, i, e] * K[..., h // r, j, e]) + M[..., h, i, j]",
    "A[..., h, i, j] = softmax[j](s[..., h, i, j] if B[..., h, i, j] and (not is_causal or j <= i) else -inf)",
    "d ~ Bernoulli(1 - p)",
    "a[..., h, i, j] = A[..., h, i, j] * (d[..., h, i, j] / (1 - p) if p > 0 else 1)",
    "y[..., h, i, w] = sum[j](a[..., h, i, j] * V[..., h // r, j, w])",
    where="""
        Q[..., H?, L, E] = query
        K[..., G?, S, E] = key
        V[..., G?, S, W] = value
        M[..., H?, L?, S?] = attn_mask of floats or 0
        B[..., H?, L?, S?] = attn_mask of booleans or 1
        is_causal
        p = dropout_p
        scale = scale or 0: 1 / √E unless given
    """,
    gradient="""
        dV[..., g: G, j, w] = sum[h, i, h // r == g](a[..., h, i, j] * dy[..., h, i, w])
        dA[..., h, i, j] = sum[w](dy[..., h, i, w] * V[..., h // r, j, w]) * (d[..., h, i, j] / (1 - p) if p > 0 else 1)
        ds[..., h, i, j] = A[..., h, i, j] * (dA[..., h, i, j] - sum[k](A[..., h, i, k] * dA[..., h, i, k]))
        dQ[..., h, i, e] = τ * sum[j](ds[..., h, i, j] * K[..., h // r, j, e])
        dK[..., g: G, j, e] = τ * sum[h, i, h // r == g](ds[..., h, i, j] * Q[..., h, i, e])
    """,
)
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) V; memory grows with the length of the sequences, not with its square.

    Shapes: query (…, heads, l, e), key (…, heads, s, e), value (…, heads, s, w) → (…, heads, l, w). attn_mask
    broadcasts to (…, l, s): boolean, True where a query may attend to a key, or numbers that are added to the scores. With
    `is_causal` query i attends to keys 0 … i. `scale` is 1/√e by default. Weights are dropped with probability
    `dropout_p` (always: pass 0 in evaluation). With `enable_gqa` key and value may have fewer heads, each of which
    serves a group of query heads (Ainslie et al. 2023). A query whose keys are all masked gets 0.

    Errors: ValueError for shapes that do not fit, a mask together with `is_causal`, or a probability outside [0, 1];
    TypeError for a mask of integers.

    Equation:
      τ = 1 / √E if scale = 0, else scale
      r = ⌊H / G⌋
      s[h, i, j] = τ · (Σ_e Q[h, i, e] K[⌊h / r⌋, j, e]) + M[h, i, j]
      A[h, i, j] = softmax_j(s[h, i, j] if B[h, i, j] and (not is_causal or j ≤ i), else −∞)
      d ∼ Bernoulli(1 − p)
      a[h, i, j] = A[h, i, j] · (d[h, i, j] / (1 − p) if p > 0, else 1)
      y[h, i, w] = Σ_j a[h, i, j] V[⌊h / r⌋, j, w]
      (Q: query (…, H, L, E); K: key (…, G, S, E); V: value (…, G, S, W); M: attn_mask of floats or 0 (…, H, L, S); B:
      attn_mask of booleans or 1 (…, H, L, S); is_causal; p: dropout_p; scale: or 0: 1 / √E unless given)

    >>> import anynet as an
    >>> q = k = an.eye(2)
    >>> an.nn.functional.scaled_dot_product_attention(q, k, an.asarray([[1.0], [2.0]]), is_causal=True)[0]
    Tensor([1.])

    Source: Vaswani et al.: Attention is all you need (2017), equation 1.
    """
    where = "scaled_dot_product_attention"
    _check_inputs(where, query, key, value)
    if attn_mask is not None and is_causal:
        msg = f"{where}: attn_mask must be None with is_causal=True; put the causal mask into attn_mask, or leave one out"
        raise ValueError(msg)
    if not 0.0 <= dropout_p <= 1.0:
        msg = f"{where}: dropout_p must be in [0, 1], got {dropout_p}"
        raise ValueError(msg)
    if dropout_p == 1.0:  # products with weights of 0: a value that is not finite gives NaN, as in PyTorch
        value, dropout_p = value * 0.0, 0.0
    heads = tuple(query.shape[:-2])
    if enable_gqa:
        query, key, value, attn_mask = _grouped(where, query, key, value, attn_mask)
    masks = () if attn_mask is None else (_check_mask(where, attn_mask, query, key),)
    options: dict[str, Any] = {}
    if dropout_p:
        seed, step = streams.next_mask()
        options = {"p": float(dropout_p), "seed": seed, "step": step}
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    y = attention(query, key, value, *masks, scale=scale, causal=is_causal, block=BLOCK, **options)
    return reshape(y, (*heads, *y.shape[-2:])) if enable_gqa else y


def _check_mask(where: str, mask: Any, query: Any, key: Any) -> Any:
    """The mask, of a dtype and shape that fit."""
    plain = unwrap(mask)
    xp = backend_of(plain)
    if not xp.isdtype(plain.dtype, ("bool", "real floating")):
        msg = f"{where}: attn_mask must be boolean or of floating-point numbers, got {dtypes.of(plain.dtype)}"
        raise TypeError(msg)
    n, m = query.shape[-2], key.shape[-2]
    if len(mask.shape) == 1:
        mask = expand_dims(mask, axis=0)
    if len(mask.shape) < 2 or mask.shape[-2] not in (1, n) or mask.shape[-1] not in (1, m):
        msg = f"{where}: attn_mask must have shape (…, {n}, {m}), got {tuple(mask.shape)}"
        raise ValueError(msg)
    dtype = unwrap(query).dtype
    if not xp.isdtype(plain.dtype, "bool") and plain.dtype != dtype:
        msg = f"{where}: attn_mask must be boolean or of the dtype of query, {dtypes.of(dtype)}, got {dtypes.of(plain.dtype)}"
        raise TypeError(msg)
    return mask
