"""Attention, with PyTorch's arguments: see `anynet.ops.attention`."""

from __future__ import annotations

import math
from typing import Any

from anynet.ops import elementwise as e
from anynet.ops.attention import scaled_dot_product_attention
from anynet.ops.creation import constant_like
from anynet.ops.dropout import dropout as drop
from anynet.ops.linear import linear, matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import astype, broadcast_to, concat, expand_dims, permute_dims, reshape
from anynet.ops.reductions import mean
from anynet.ops.softmax import softmax_or_zero
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def multi_head_attention_forward(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: ArrayLike | None,
    in_proj_bias: ArrayLike | None,
    bias_k: ArrayLike | None,
    bias_v: ArrayLike | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: ArrayLike,
    out_proj_bias: ArrayLike | None,
    training: bool = True,
    key_padding_mask: ArrayLike | None = None,
    need_weights: bool = True,
    attn_mask: ArrayLike | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: ArrayLike | None = None,
    k_proj_weight: ArrayLike | None = None,
    v_proj_weight: ArrayLike | None = None,
    static_k: ArrayLike | None = None,
    static_v: ArrayLike | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Any]:
    """concat(head_1, …, head_h) W_oᵀ + b_o with head_i = attention(Q W_iᵠᵀ, K W_iᵏᵀ, V W_iᵛᵀ): `nn.MultiheadAttention`
    as a function of its parameters.

    query (l, n, e), key (s, n, ·), value (s, n, ·), or all without the axis n → (l, n, e) and the weights (n, l, s),
    averaged over the heads, (n, heads, l, s) with ``average_attn_weights=False``, None with ``need_weights=False``.

    Masks hide: True in a boolean mask means that a key is not looked at (the opposite of
    `scaled_dot_product_attention`); numbers are added. attn_mask is (l, s) or (n · heads, l, s), key_padding_mask
    (n, s). `is_causal` says that attn_mask is the causal one, which must be given too. Where a query may look at
    nothing the output is that of zeros (PyTorch gives nan with weights).

    >>> import anynet as an
    >>> w = an.ones((6, 2))
    >>> x = an.ones((3, 1, 2))
    >>> y, weights = an.nn.functional.multi_head_attention_forward(
    ...     x, x, x, 2, 1, w, None, None, None, False, 0.0, an.ones((2, 2)), None
    ... )
    >>> y.shape, weights.shape
    ((3, 1, 2), (1, 3, 3))
    """
    where = "multi_head_attention_forward"
    batched = len(query.shape) == 3
    if len(query.shape) not in (2, 3) or {len(key.shape), len(value.shape)} != {len(query.shape)}:
        msg = (
            f"{where}: query, key and value all have 3 axes, or 2 without a batch; "
            f"got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
        raise ValueError(msg)
    if is_causal and attn_mask is None:
        msg = f"{where}: is_causal says that attn_mask is causal; give attn_mask too"
        raise ValueError(msg)
    same = query is key and key is value
    if not batched:
        query, key, value = (expand_dims(x, axis=1) for x in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = expand_dims(key_padding_mask, axis=0)
    length, batch, embed = query.shape
    if embed != embed_dim_to_check or embed % num_heads:
        msg = f"{where}: query has width {embed}, expected {embed_dim_to_check}, a multiple of {num_heads} heads"
        raise ValueError(msg)
    if tuple(key.shape[:2]) != tuple(value.shape[:2]) or key.shape[1] != batch:
        msg = (
            f"{where}: key {tuple(key.shape)} and value {tuple(value.shape)} need the same length, and the batch of "
            f"query, {batch}"
        )
        raise ValueError(msg)
    width = embed // num_heads

    # the projections: one product for all three where they act on the same x
    if not use_separate_proj_weight:
        packed: Any = in_proj_weight
        if same:
            qkv = linear(query, packed, in_proj_bias)
            q, k, v = (qkv[..., i * embed : (i + 1) * embed] for i in range(3))
        else:
            q, k, v = (
                linear(
                    x,
                    packed[i * embed : (i + 1) * embed, :],
                    None if in_proj_bias is None else in_proj_bias[i * embed : (i + 1) * embed],
                )
                for i, x in enumerate((query, key, value))
            )
    else:
        separate: tuple[Any, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = (
            linear(x, w, None if in_proj_bias is None else in_proj_bias[i * embed : (i + 1) * embed])
            for i, (x, w) in enumerate(zip((query, key, value), separate, strict=True))
        )

    mask = _hidden(where, "attn_mask", attn_mask, q)
    if mask is not None:
        n = len(mask.shape)
        expected = (length, k.shape[0]) if n == 2 else (batch * num_heads, length, k.shape[0])
        if n not in (2, 3) or tuple(mask.shape) != expected:
            msg = (
                f"{where}: attn_mask has shape {tuple(mask.shape)}, expected ({length}, {k.shape[0]}) or "
                f"({batch * num_heads}, {length}, {k.shape[0]})"
            )
            raise ValueError(msg)
        if n == 3:
            mask = reshape(mask, (batch, num_heads, length, k.shape[0]))
    padding = _hidden(where, "key_padding_mask", key_padding_mask, q)
    if padding is not None:
        if tuple(padding.shape) != (batch, k.shape[0]):
            msg = f"{where}: key_padding_mask has shape {tuple(padding.shape)}, expected ({batch}, {k.shape[0]})"
            raise ValueError(msg)
        padding = reshape(padding, (batch, 1, 1, k.shape[0]))

    extra = 0  # keys that are added to the sequence, at which every query may look
    if bias_k is not None and bias_v is not None:
        k = concat((k, broadcast_to(bias_k, (1, batch, embed))), axis=0)
        v = concat((v, broadcast_to(bias_v, (1, batch, embed))), axis=0)
        extra += 1
    q, k, v = (_heads(x, num_heads) for x in (q, k, v))
    for name, static in (("static_k", static_k), ("static_v", static_v)):
        if static is None:
            continue
        if len(static.shape) != 3 or static.shape[0] != batch * num_heads or static.shape[2] != width:
            msg = (
                f"{where}: {name} has shape {tuple(static.shape)}, expected ({batch * num_heads}, s, {width})"
            )
            raise ValueError(msg)
        split = reshape(static, (batch, num_heads, static.shape[1], width))
        k, v = (split, v) if name == "static_k" else (k, split)
    if add_zero_attn:
        zeros = constant_like(k, (batch, num_heads, 1, width), 0.0)
        k, v = concat((k, zeros), axis=2), concat((v, zeros), axis=2)
        extra += 1
    mask, padding = _widen(mask, extra), _widen(padding, extra)
    bias = mask if padding is None else padding if mask is None else mask + padding
    dropout = dropout_p if training else 0.0

    weights: Any = None
    if need_weights:
        scores = matmul(q * (1.0 / math.sqrt(width)), mT(k))
        if bias is not None:
            scores = scores + bias
        weights = drop(softmax_or_zero(scores, axis=3), dropout)
        y = matmul(weights, v)
    else:
        causal = is_causal and padding is None and not extra
        y = scaled_dot_product_attention(q, k, v, None if causal else bias, dropout, causal)
    y = reshape(permute_dims(y, (2, 0, 1, 3)), (length, batch, embed))
    y = linear(y, out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = mean(weights, axis=1)
    if not batched:
        y = y[:, 0, :]
        weights = None if weights is None else weights[0, ...]
    return y, weights


def _heads(x: Any, heads: int) -> Any:
    """(s, n, h · w) → (n, h, s, w)"""
    length, batch, width = x.shape
    return permute_dims(reshape(x, (length, batch, heads, width // heads)), (1, 2, 0, 3))


def _hidden(where: str, name: str, mask: Any, like: Any) -> Any:
    """A mask as numbers to add: −∞ where a boolean one says True."""
    if mask is None:
        return None
    plain, dtype = unwrap(mask), unwrap(like).dtype
    xp = backend_of(plain)
    if xp.isdtype(plain.dtype, "bool"):
        zeros = xp.zeros(plain.shape, dtype=dtype, device=plain.device)
        return e.where(mask, -math.inf, zeros)
    if not xp.isdtype(plain.dtype, "real floating"):
        msg = f"{where}: {name} is boolean or of floating numbers, got {plain.dtype}"
        raise TypeError(msg)
    return mask if plain.dtype == dtype else astype(mask, dtype)


def _widen(mask: Any, extra: int) -> Any:
    """A mask with columns of zeros for keys that were added."""
    if mask is None or not extra:
        return mask
    plain = unwrap(mask)
    xp = backend_of(plain)
    zeros = xp.zeros((*plain.shape[:-1], extra), dtype=plain.dtype, device=plain.device)
    return concat((mask, zeros), axis=-1)
