"""Attention, with PyTorch's arguments: see `anynet.ops.attention`."""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.ops import elementwise as e
from anynet.ops.attention import scaled_dot_product_attention
from anynet.ops.creation import constant_like
from anynet.ops.dropout import dropout as drop
from anynet.ops.linear import linear, matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import astype, broadcast_to, concat, expand_dims, permute_dims, reshape, unstack
from anynet.ops.reductions import mean
from anynet.ops.softmax import softmax_or_zero
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def multi_head_attention_forward(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: ArrayLike | None, in_proj_bias: ArrayLike | None,
    bias_k: ArrayLike | None, bias_v: ArrayLike | None, add_zero_attn: bool, dropout_p: float,
    out_proj_weight: ArrayLike, out_proj_bias: ArrayLike | None, training: bool = True,
    key_padding_mask: ArrayLike | None = None, need_weights: bool = True, attn_mask: ArrayLike | None = None,
    use_separate_proj_weight: bool = False, q_proj_weight: ArrayLike | None = None,
    k_proj_weight: ArrayLike | None = None, v_proj_weight: ArrayLike | None = None,
    static_k: ArrayLike | None = None, static_v: ArrayLike | None = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """concat(head_1, …, head_h) W_oᵀ + b_o with head_i = attention(Q W_iᵠᵀ, K W_iᵏᵀ, V W_iᵛᵀ): `nn.MultiheadAttention`
    as a function of its parameters.

    query (l, n, e), key (s, n, ·), value (s, n, ·), or all without the axis n → (l, n, e) and the weights (n, l, s),
    averaged over the heads, (n, heads, l, s) with ``average_attn_weights=False``, None with ``need_weights=False``.

    Masks exclude: True in a boolean mask means that a key is ignored (the opposite of
    `scaled_dot_product_attention`); numbers are added. attn_mask is (l, s) or (n · heads, l, s), key_padding_mask
    (n, s). `is_causal` says that attn_mask is the causal one, which must be given too. Where all keys
    of a query are masked the output is that of zeros (PyTorch gives nan with weights).

    >>> import anynet as an
    >>> w = an.ones((6, 2))
    >>> x = an.ones((3, 1, 2))
    >>> y, weights = an.nn.functional.multi_head_attention_forward(
    ...     x, x, x, 2, 1, w, None, None, None, False, 0.0, an.ones((2, 2)), None
    ... )
    >>> y.shape, weights.shape
    ((3, 1, 2), (1, 3, 3))
    """
    _check_inputs(query, key, value, embed_dim_to_check, num_heads)
    if is_causal and attn_mask is None:
        msg = f"{_WHERE}: is_causal says that attn_mask is causal; give attn_mask too"
        raise ValueError(msg)
    same, batched = query is key and key is value, len(query.shape) == 3
    if not batched:
        query, key, value = (expand_dims(x, axis=1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else expand_dims(key_padding_mask, axis=0)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected(query, key, value, in_proj_weight, separate, in_proj_bias, same)
    mask, padding = _attention_mask(attn_mask, q, k, num_heads), _padding_mask(key_padding_mask, q, k)
    k, v, added = _with_more_keys(k, v, (bias_k, bias_v), (static_k, static_v), add_zero_attn, num_heads)
    mask, padding = _widened(mask, added), _widened(padding, added)
    bias = mask if padding is None else padding if mask is None else mask + padding
    y, weights = _attended(
        _heads(q, num_heads), k, v, bias, is_causal and padding is None and not added,
        dropout_p if training else 0.0, need_weights,
    )  # fmt: skip
    y = linear(reshape(permute_dims(y, (2, 0, 1, 3)), q.shape), out_proj_weight, out_proj_bias)
    if weights is not None and average_attn_weights:
        weights = mean(weights, axis=1)
    if not batched:
        y, weights = y[:, 0, :], None if weights is None else weights[0, ...]
    return y, weights


_WHERE = "multi_head_attention_forward"


def _check_inputs(query: Any, key: Any, value: Any, embed_dim: int, heads: int) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    axes = len(query.shape)
    if axes not in (2, 3) or {len(key.shape), len(value.shape)} != {axes}:
        msg = f"{_WHERE}: query, key and value must all have 3 axes, or 2 without a batch, got {shapes}"
        raise ValueError(msg)
    if query.shape[-1] != embed_dim or embed_dim % heads:
        msg = (
            f"{_WHERE}: the width of query must be {embed_dim}, a multiple of num_heads, got width {query.shape[-1]} and "
            f"num_heads={heads}"
        )
        raise ValueError(msg)
    batched = axes == 3
    if tuple(key.shape[:-1]) != tuple(value.shape[:-1]) or (batched and key.shape[1] != query.shape[1]):
        msg = f"{_WHERE}: key and value must have the same length, and the batch of query, got {shapes}"
        raise ValueError(msg)


def _projected(
    query: Any, key: Any, value: Any, packed: Any, separate: tuple[Any, ...] | None, bias: Any, same: bool
) -> tuple[Any, Any, Any]:
    """x Wᵀ + b for query, key and value: one product for all three where they are the same x."""
    embed = query.shape[-1]
    if same and separate is None:
        qkv = linear(query, packed, bias)
        q, k, v = unstack(reshape(qkv, (*qkv.shape[:-1], 3, embed)), axis=-2)
        return q, k, v
    weights = unstack(reshape(packed, (3, embed, embed)), axis=0) if separate is None else separate
    biases = (None,) * 3 if bias is None else unstack(reshape(bias, (3, embed)), axis=0)
    q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    return q, k, v


def _heads(x: Any, heads: int) -> Any:
    """(s, n, h · w) → (n, h, s, w)"""
    length, batch, width = x.shape
    return permute_dims(reshape(x, (length, batch, heads, width // heads)), (1, 2, 0, 3))


def _attention_mask(mask: Any, q: Any, k: Any, heads: int) -> Any:
    """(l, s), or (n · heads, l, s) as (n, heads, l, s)."""
    mask = _added(mask, "attn_mask", q)
    if mask is None:
        return None
    (length, batch, _), keys = q.shape, k.shape[0]
    shape = tuple(mask.shape)
    if shape == (length, keys):
        return mask
    if shape != (batch * heads, length, keys):
        msg = f"{_WHERE}: attn_mask must have shape ({length}, {keys}) or ({batch * heads}, {length}, {keys}), got {shape}"
        raise ValueError(msg)
    return reshape(mask, (batch, heads, length, keys))


def _padding_mask(mask: Any, q: Any, k: Any) -> Any:
    """(n, s) as (n, 1, 1, s)."""
    mask = _added(mask, "key_padding_mask", q)
    if mask is None:
        return None
    batch, keys = q.shape[1], k.shape[0]
    if tuple(mask.shape) != (batch, keys):
        msg = f"{_WHERE}: key_padding_mask must have shape ({batch}, {keys}), got {tuple(mask.shape)}"
        raise ValueError(msg)
    return reshape(mask, (batch, 1, 1, keys))


def _added(mask: Any, name: str, like: Any) -> Any:
    """A mask as numbers to add: −∞ where a boolean one says True."""
    if mask is None:
        return None
    plain, dtype = unwrap(mask), unwrap(like).dtype
    xp = backend_of(plain)
    if xp.isdtype(plain.dtype, "bool"):
        zeros = xp.zeros(plain.shape, dtype=dtype, device=plain.device)
        return e.where(mask, -math.inf, zeros)
    if not xp.isdtype(plain.dtype, "real floating"):
        msg = f"{_WHERE}: {name} must be boolean or of floating-point numbers, got {dtypes.of(plain.dtype)}"
        raise TypeError(msg)
    return mask if plain.dtype == dtype else astype(mask, dtype)


def _with_more_keys(
    k: Any, v: Any, bias: tuple[Any, Any], static: tuple[Any, Any], zero: bool, heads: int
) -> tuple[Any, Any, int]:
    """Keys and values by heads, or the `static` ones in their place, and how many were added, which every query attends to."""
    _, batch, embed = k.shape
    width, added = embed // heads, 0
    if bias[0] is not None and bias[1] is not None:
        k, v = (
            concat((x, broadcast_to(b, (1, batch, embed))), axis=0) for x, b in zip((k, v), bias, strict=True)
        )
        added += 1
    k, v = _heads(k, heads), _heads(v, heads)
    for name, given in zip(("static_k", "static_v"), static, strict=True):
        if given is None:
            continue
        if len(given.shape) != 3 or given.shape[0] != batch * heads or given.shape[2] != width:
            msg = f"{_WHERE}: {name} must have shape ({batch * heads}, s, {width}), got {tuple(given.shape)}"
            raise ValueError(msg)
        split = reshape(given, (batch, heads, given.shape[1], width))
        k, v = (split, v) if name == "static_k" else (k, split)
    if zero:
        zeros = constant_like(k, (batch, heads, 1, width), 0.0)
        k, v = concat((k, zeros), axis=2), concat((v, zeros), axis=2)
        added += 1
    return k, v, added


def _widened(mask: Any, added: int) -> Any:
    """A mask with columns of zeros for keys that were added."""
    if mask is None or not added:
        return mask
    plain = unwrap(mask)
    xp = backend_of(plain)
    zeros = xp.zeros((*plain.shape[:-1], added), dtype=plain.dtype, device=plain.device)
    return concat((mask, zeros), axis=-1)


def _attended(
    q: Any, k: Any, v: Any, bias: Any, causal: bool, dropout: float, need_weights: bool
) -> tuple[Any, Any]:
    """softmax(q kᵀ / √width + bias) v and the weights; in blocks, and None for the weights, where they are not needed."""
    if not need_weights:
        return scaled_dot_product_attention(q, k, v, None if causal else bias, dropout, causal), None
    scores = matmul(q * (1.0 / math.sqrt(q.shape[-1])), mT(k))
    if bias is not None:
        scores = scores + bias
    weights = drop(softmax_or_zero(scores, axis=3), dropout)
    return matmul(weights, v), weights
