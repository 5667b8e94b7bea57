"""Attention in which groups of query heads share keys and values."""

from __future__ import annotations

from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.attention.positions import RoPE
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.manipulation import permute_dims, reshape
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["GroupQueryAttention"]


@equation(
    "q[n, i, d] = b_q[d] + sum[k](W_q[d, k] * Q[n, i, k])",
    "k[n, j, d] = b_k[d] + sum[m](W_k[d, m] * K[n, j, m])",
    "v[n, j, d] = b_v[d] + sum[m](W_v[d, m] * V[n, j, m])",
    "q_h[n, h: H, i, e: w] = q[n, i, h * w + e]",
    "k_h[n, g: G, j, e: w] = k[n, j, g * w + e]",
    "r[n, h] = R(q_h[n, h]) if R else q_h[n, h]",
    "t[n, g] = R(k_h[n, g]) if R else k_h[n, g]",
    "s[n, h, i, j] = sum[e](r[n, h, i, e] * t[n, h // (H // G), j, e]) / sqrt(w) + M[n, h, i, j]",
    "A[n, h, i, j] = softmax[j](s[n, h, i, j] if C[n, h, i, j] and (not is_causal or j <= i) else -inf)",
    "m ~ Bernoulli(1 - p)",
    "a[n, h, i, j] = A[n, h, i, j] * (m[n, h, i, j] / (1 - p) if training and p > 0 else 1)",
    "o[n, i, d: H * w] = sum[j](a[n, d // w, i, j] * v[n, j, d // w // (H // G) * w + d % w])",
    "y[n, i, d] = b_o[d] + sum[e](W_o[d, e] * o[n, i, e])",
    where="""
        Q[N, L, E] = query
        K[N, S, E] = key
        V[N, S, E] = value
        H = num_query_heads
        G = num_key_value_heads
        w = head_dim
        W_q[A, E] = q_proj.weight
        b_q[A] = q_proj.bias or 0
        W_k[B, E] = k_proj.weight
        b_k[B] = k_proj.bias or 0
        W_v[B, E] = v_proj.weight
        b_v[B] = v_proj.bias or 0
        W_o[E, A] = out_proj.weight
        b_o[E] = out_proj.bias or 0
        R = rope
        M[N?, H?, L?, S?] = attn_mask of floats or 0
        C[N?, H?, L?, S?] = attn_mask of booleans or 1
        is_causal
        p = dropout
        training
    """,
)
class GroupQueryAttention(Module):
    """Attention in which a group of query heads shares a head of keys and values (Ainslie et al. 2023).

    query (batch, l, embed_dim), key and value (batch, s, embed_dim) → (batch, l, embed_dim). `num_key_value_heads` divides
    `num_query_heads`; 1 is multi-query attention. `rope`, a `RoPE`, turns queries and keys.

    >>> import anynet as an
    >>> x = an.ones((2, 5, 8))
    >>> an.nn.GroupQueryAttention(8, num_query_heads=4, num_key_value_heads=2)(x, x, x, is_causal=True).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        embed_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        head_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rope: RoPE | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if min(num_query_heads, num_key_value_heads) < 1 or num_query_heads % num_key_value_heads:
            msg = (
                f"GroupQueryAttention: num_key_value_heads must divide num_query_heads, got {num_key_value_heads} and "
                f"{num_query_heads}"
            )
            raise ValueError(msg)
        if head_dim is None and embed_dim % num_query_heads:
            msg = f"GroupQueryAttention: num_query_heads must divide embed_dim, got {num_query_heads} and {embed_dim}; or give head_dim"
            raise ValueError(msg)
        if not 0 <= dropout <= 1:
            msg = f"GroupQueryAttention: dropout must be in [0, 1], got {dropout}"
            raise ValueError(msg)
        self.head_dim = embed_dim // num_query_heads if head_dim is None else head_dim
        self.num_query_heads, self.num_key_value_heads, self.dropout = (
            num_query_heads,
            num_key_value_heads,
            dropout,
        )
        inner, shared = num_query_heads * self.head_dim, num_key_value_heads * self.head_dim
        self.q_proj = Linear(embed_dim, inner, bias, device, dtype)
        self.k_proj = Linear(embed_dim, shared, bias, device, dtype)
        self.v_proj = Linear(embed_dim, shared, bias, device, dtype)
        self.out_proj = Linear(inner, embed_dim, bias, device, dtype)
        self.rope = rope

    def _heads(self, x: Any, heads: int) -> Any:
        if len(x.shape) != 3:
            msg = f"got {tuple(x.shape)}: expected (batch, length, features)"
            raise ShapeError(msg)
        return permute_dims(reshape(x, (*x.shape[:2], heads, self.head_dim)), (0, 2, 1, 3))

    def forward(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        attn_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """What each query sees."""
        q = self._heads(self.q_proj(query), self.num_query_heads)
        k = self._heads(self.k_proj(key), self.num_key_value_heads)
        v = self._heads(self.v_proj(value), self.num_key_value_heads)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask, p, is_causal, enable_gqa=True)
        n, heads, length, width = y.shape
        return self.out_proj(reshape(permute_dims(y, (0, 2, 1, 3)), (n, length, heads * width)))

    def extra_repr(self) -> str:
        return f"{self.num_query_heads} query heads, {self.num_key_value_heads} key and value heads of {self.head_dim}"
