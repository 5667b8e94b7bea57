"""Attention layers."""

from __future__ import annotations

from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.ops.manipulation import permute_dims
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["MultiheadAttention"]


@equation(
    "one = F == E and G == E",
    "q[i, n, d: E] = b[d] + sum[k](Q[i, n, k] * (W[d, k] if one else W_q[d, k]))",
    "J = S + (1 if r > 0 else 0) + add_zero_attn",
    """
        k[j: J, n, d: E] = b[E + d] + sum[m](K[j, n, m] * (W[E + d, m] if one else W_k[d, m])) if j < S else
            b_k[0, 0, d] if r > 0 and j == S else 0
        v[j: J, n, d: E] = b[2 * E + d] + sum[m](V[j, n, m] * (W[2 * E + d, m] if one else W_v[d, m])) if j < S else
            b_v[0, 0, d] if r > 0 and j == S else 0
    """,
    "w = E // H",
    "s[n, h: H, i, j] = sum[e: w](q[i, n, h * w + e] * k[j, n, h * w + e]) / sqrt(w)",
    """
        A[n, h: H, i: L, j: J] = softmax[j: J](-inf if D[(n * H + h) % Z, i, j] or c[n, j] else
            s[n, h, i, j] + M[(n * H + h) % Z, i, j] + m[n, j])
    """,
    "z ~ Bernoulli(1 - p)",
    "a[n, h: H, i, j] = A[n, h, i, j] * (z[n, h, i, j] / (1 - p) if training and p > 0 else 1)",
    "o[i, n, d: E] = sum[j](a[n, d // w, i, j] * v[j, n, d])",
    "y[i, n, d: E] = b_o[d] + sum[e](W_o[d, e] * o[i, n, e])",
    "P[n, i, j] = mean[h](a[n, h, i, j])",
    where="""
        Q[L, N?, E] = query swap batch_first
        K[S, N?, F] = key swap batch_first
        V[S, N?, G] = value swap batch_first
        H = num_heads
        W[R, B] = in_proj_weight or 0
        W_q[E, E] = q_proj_weight or 0
        W_k[E, F] = k_proj_weight or 0
        W_v[E, G] = v_proj_weight or 0
        b[R] = in_proj_bias or 0
        W_o[E, E] = out_proj.weight
        b_o[E] = out_proj.bias or 0
        M[Z?, L, S] = attn_mask of floats or 0
        D[Z?, L, S] = attn_mask of booleans or 0
        m[N?, S] = key_padding_mask of floats or 0
        c[N?, S] = key_padding_mask of booleans or 0
        p = dropout
        training
        b_k[A, A, E] = bias_k or 0
        b_v[A, A, E] = bias_v or 0
        r = bias_k.ndim or 0
        add_zero_attn
    """,
    result="y P",
)
class MultiheadAttention(Module):
    """Attention of several heads, each on linear maps of query, key and value, whose results a linear map brings together.

    query (l, n, embed_dim), key (s, n, kdim), value (s, n, vdim), with ``batch_first=True`` (n, l, ·), or all without
    the axis n → the output, shaped as query, and the weights: (n, l, s) averaged over heads, (n, heads, l, s) with
    ``average_attn_weights=False``, None with ``need_weights=False``, which is faster and takes memory linear in the
    length. Masks: True in a boolean mask hides a key (the opposite of `scaled_dot_product_attention`), numbers are added to the
    scores. attn_mask is (l, s) or (n · num_heads, l, s), key_padding_mask (n, s); `is_causal` says that attn_mask, which must be given,
    is the causal one. Where a query may look at nothing the output is that of zeros.

    `dropout` drops weights in training; `add_bias_kv` appends a learned key and value, `add_zero_attn` zeros.

    Parameters `in_proj_weight` (3e, e), or `q_proj_weight`, `k_proj_weight`, `v_proj_weight` where kdim or vdim differ
    from e; `in_proj_bias` (3e), `out_proj.weight`, `out_proj.bias`, `bias_k`, `bias_v` (1, 1, e).

    >>> import anynet as an
    >>> attention = an.nn.MultiheadAttention(8, num_heads=2)
    >>> x = an.ones((5, 3, 8))
    >>> y, weights = attention(x, x, x)
    >>> y.shape, weights.shape
    ((5, 3, 8), (3, 5, 5))

    Source: Vaswani et al.: Attention is all you need (2017).
    """

    _pure_on_devices = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            msg = f"MultiheadAttention: embed_dim must be a positive multiple of num_heads, got {embed_dim} and {num_heads}"
            raise ValueError(msg)
        if not 0 <= dropout <= 1:
            msg = f"MultiheadAttention: dropout must be in [0, 1], got {dropout}"
            raise ValueError(msg)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn

        def parameter(*shape: int) -> Parameter:
            return Parameter(creation.empty(shape, device=device, dtype=dtype))

        self.in_proj_weight: Parameter | None = None
        self.q_proj_weight: Parameter | None = None
        self.k_proj_weight: Parameter | None = None
        self.v_proj_weight: Parameter | None = None
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = parameter(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = parameter(embed_dim, embed_dim)
            self.k_proj_weight = parameter(embed_dim, self.kdim)
            self.v_proj_weight = parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections from Glorot's uniform distribution; biases 0."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def label(self) -> str:
        return f"MultiheadAttention {self.embed_dim}, {self.num_heads} heads"

    def forward(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        key_padding_mask: ArrayLike | None = None,
        need_weights: bool = True,
        attn_mask: ArrayLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Any]:
        """The output and the weights (None with ``need_weights=False``)."""
        for name, x, width in (
            ("query", query, self.embed_dim),
            ("key", key, self.kdim),
            ("value", value, self.vdim),
        ):
            if len(x.shape) not in (2, 3) or x.shape[-1] != width:
                msg = f"got {name} {tuple(x.shape)}: expected 3 axes, or 2 without a batch, the last of length {width}"
                raise ShapeError(msg)
        swap = self.batch_first and len(query.shape) == 3
        if swap:
            same = query is key and key is value
            query = permute_dims(query, (1, 0, 2))
            key, value = (
                (query, query) if same else (permute_dims(key, (1, 0, 2)), permute_dims(value, (1, 0, 2)))
            )
        y, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, self.training,
            key_padding_mask, need_weights, attn_mask, self.in_proj_weight is None, self.q_proj_weight,
            self.k_proj_weight, self.v_proj_weight, None, None, average_attn_weights, is_causal,
        )  # fmt: skip
        return permute_dims(y, (1, 0, 2)) if swap else y, weights

    def extra_repr(self) -> str:
        parts = [f"{self.embed_dim}, num_heads={self.num_heads}"]
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        if self.batch_first:
            parts.append("batch_first=True")
        return ", ".join(parts)
