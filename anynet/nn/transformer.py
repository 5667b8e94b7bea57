"""The transformer (Vaswani et al.: Attention is all you need, 2017), with PyTorch's arguments and parameter names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.attention import MultiheadAttention
from anynet.nn.containers import ModuleList
from anynet.nn.dropout import Dropout
from anynet.nn.errors import ShapeError
from anynet.nn.fused_sequential import FusedSequential
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import LayerNorm
from anynet.ops import creation, elementwise
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer",
]  # fmt: skip

Activation = str | Callable[[Any], Any]


def _activation(where: str, activation: Activation) -> Callable[[Any], Any]:
    if callable(activation):
        return activation
    if activation not in ("relu", "gelu"):
        msg = f"{where}: activation must be 'relu', 'gelu' or a function, got {activation!r}"
        raise ValueError(msg)
    return F.relu if activation == "relu" else F.gelu


class _Layer(Module):
    """What encoder and decoder layers share: attention and feed-forward blocks with a residual around each."""

    _not_members = Module._not_members | {"_fused"}
    _pure_on_devices = True
    _fused: FusedSequential | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the fused form, which each makes again."""
        return {k: v for k, v in super().__getstate__().items() if k != "_fused"}

    def _at_once(self, x: Any, *more: Any, **options: Any) -> Tensor | None:
        """The output by a program of the device, where it has one; else None."""
        try:
            if not isinstance(x, Tensor) or not backend_of(x._data).fuses:
                return None
        except TypeError:  # what stands for an array, in vmap
            return None
        if self._fused is None:
            self.__dict__["_fused"] = FusedSequential()
        given = {k: v for k, v in options.items() if v is not None and v is not False}
        return self._fused(self, x, *more, **given)  # type: ignore[misc]

    @staticmethod
    def _attend(attention: Any, x: Any, seen: Any, padding: Any, mask: Any, causal: bool) -> Any:
        """Attention of x to `seen`, without the weights."""
        return attention(
            x, seen, seen, key_padding_mask=padding, need_weights=False, attn_mask=mask, is_causal=causal
        )[0]

    def _feed_forward(self, x: Any, last: Any) -> Tensor:
        return last(self.linear2(self.dropout(self.activation(self.linear1(x)))))  # type: ignore[no-any-return]

    def _make(
        self,
        d_model: int,
        dim_feedforward: int,
        dropout: float,
        activation: Activation,
        bias: bool,
        place: dict[str, Any],
    ) -> None:
        self.linear1 = Linear(d_model, dim_feedforward, bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **place)
        self.activation = _activation(type(self).__name__, activation)


@equation(
    "u = norm_1(x) if norm_first else x",
    "a = x + A(u, u, u)",
    "z = a if norm_first else norm_1(a)",
    "v = norm_2(z) if norm_first else z",
    "r = z + W_2(f(W_1(v)))",
    "y = r if norm_first else norm_2(r)",
    where="""
        x = src
        A = self_attn: the attention
        norm_1 = norm1
        norm_2 = norm2
        W_1 = linear1
        W_2 = linear2
        f = activation
        norm_first: in evaluation, without dropout
    """,
)
class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then two linear maps; the input of each is added and the sum normalized, or with `norm_first` the
    input normalized.

    src (s, n, d_model), with ``batch_first=True`` (n, s, d_model), or (s, d_model) → the same. `src_mask` (s, s) or
    (n · nhead, s, s) and `src_key_padding_mask` (n, s): True in a boolean mask hides a key, numbers are added to the scores;
    `is_causal` says that `src_mask` is the causal one.

    Parameters: those of `self_attn` (`MultiheadAttention`), `linear1` (d_model → dim_feedforward), `linear2` (back) and the norms
    `norm1`, `norm2`. `activation` f is "relu", "gelu" or a function; `dropout` acts on the attention's weights, after f and on both
    summands, in training. ValueError for sizes that are not positive and where nhead does not divide d_model.

    >>> import anynet as an
    >>> layer = an.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(an.ones((5, 3, 8))).shape
    (5, 3, 8)

    Source: Vaswani et al.: Attention is all you need (2017); `norm_first`: Xiong et al.: On layer normalization in
      the transformer architecture (2020).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        place = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place)
        self._make(d_model, dim_feedforward, dropout, activation, bias, place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        src: ArrayLike,
        src_mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The layer's output for src."""
        y = self._at_once(
            src, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=is_causal
        )
        if y is not None:
            return y

        def attend(x: Any) -> Any:
            return self.dropout1(
                self._attend(self.self_attn, x, x, src_key_padding_mask, src_mask, is_causal)
            )

        x = src
        if self.norm_first:
            x = x + attend(self.norm1(x))
            return x + self._feed_forward(self.norm2(x), self.dropout2)  # type: ignore[no-any-return]
        x = self.norm1(x + attend(x))
        return self.norm2(x + self._feed_forward(x, self.dropout2))


@equation(
    "u = norm_1(x) if norm_first else x",
    "a = x + A(u, u, u)",
    "z = a if norm_first else norm_1(a)",
    "v = norm_2(z) if norm_first else z",
    "b = z + B(v, m, m)",
    "w = b if norm_first else norm_2(b)",
    "q = norm_3(w) if norm_first else w",
    "r = w + W_2(f(W_1(q)))",
    "y = r if norm_first else norm_3(r)",
    where="""
        x = tgt
        m = memory
        A = self_attn: the attention
        B = multihead_attn: to the memory
        norm_1 = norm1
        norm_2 = norm2
        norm_3 = norm3
        W_1 = linear1
        W_2 = linear2
        f = activation
        norm_first: in evaluation, without dropout
    """,
)
class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself, then to `memory`, the encoder's output, then two linear maps; the input of each is added and the
    sum normalized, or with `norm_first` the input normalized.

    tgt (t, n, d_model), memory (s, n, d_model), with ``batch_first=True`` (n, t, d_model) and (n, s, d_model), or without n → the shape
    of tgt. `tgt_mask` (t, t), `memory_mask` (t, s), or with n · nhead before, `tgt_key_padding_mask` (n, t) and
    `memory_key_padding_mask` (n, s): True in a boolean mask hides a key, numbers are added to the scores; `tgt_is_causal` and
    `memory_is_causal` say that the masks are causal ones.

    Parameters: those of `self_attn` and `multihead_attn` (`MultiheadAttention`), `linear1` (d_model → dim_feedforward), `linear2` (back)
    and the norms `norm1`, `norm2`, `norm3`. `activation` f is "relu", "gelu" or a function; `dropout` acts on the attentions' weights,
    after f and on all summands, in training. ValueError for sizes that are not positive and where nhead does not divide d_model.

    >>> import anynet as an
    >>> layer = an.nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(an.ones((4, 3, 8)), an.ones((5, 3, 8))).shape
    (4, 3, 8)

    Source: Vaswani et al.: Attention is all you need (2017).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        place = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place)
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, **place
        )
        self._make(d_model, dim_feedforward, dropout, activation, bias, place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        tgt: ArrayLike,
        memory: ArrayLike,
        tgt_mask: ArrayLike | None = None,
        memory_mask: ArrayLike | None = None,
        tgt_key_padding_mask: ArrayLike | None = None,
        memory_key_padding_mask: ArrayLike | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The layer's output for tgt, given the encoder's output."""
        y = self._at_once(
            tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal,
        )  # fmt: skip
        if y is not None:
            return y

        def attend(x: Any) -> Any:
            return self.dropout1(
                self._attend(self.self_attn, x, x, tgt_key_padding_mask, tgt_mask, tgt_is_causal)
            )

        def look(x: Any) -> Any:
            padding, causal = memory_key_padding_mask, memory_is_causal
            return self.dropout2(self._attend(self.multihead_attn, x, memory, padding, memory_mask, causal))

        x = tgt
        if self.norm_first:
            x = x + attend(self.norm1(x))
            x = x + look(self.norm2(x))
            return x + self._feed_forward(self.norm3(x), self.dropout3)  # type: ignore[no-any-return]
        x = self.norm1(x + attend(x))
        x = self.norm2(x + look(x))
        return self.norm3(x + self._feed_forward(x, self.dropout3))


@equation(
    "h[0] = x",
    "h[k: 1: K + 1] = layers[k - 1](h[k - 1])",
    "y = h[K] if f == None else f(h[K])",
    where="x = src; layers; K = num_layers; f = norm",
)
class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, and `norm` at the end.

    `enable_nested_tensor` and `mask_check` are accepted as in PyTorch and change nothing.

    >>> import anynet as an
    >>> encoder = an.nn.TransformerEncoder(an.nn.TransformerEncoderLayer(8, 2, 16), num_layers=2)
    >>> encoder(an.ones((5, 3, 8))).shape
    (5, 3, 8)

    Source: Vaswani et al.: Attention is all you need (2017).
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        src: ArrayLike,
        mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The last layer's output for src."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)  # type: ignore[return-value]


@equation(
    "h[0] = x",
    "h[k: 1: K + 1] = layers[k - 1](h[k - 1], m)",
    "y = h[K] if f == None else f(h[K])",
    where="x = tgt; m = memory; layers; K = num_layers; f = norm",
)
class TransformerDecoder(Module):
    """`num_layers` copies of a decoder layer, one after the other, and `norm` at the end.

    >>> import anynet as an
    >>> decoder = an.nn.TransformerDecoder(an.nn.TransformerDecoderLayer(8, 2, 16), num_layers=2)
    >>> decoder(an.ones((4, 3, 8)), an.ones((5, 3, 8))).shape
    (4, 3, 8)

    Source: Vaswani et al.: Attention is all you need (2017).
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: ArrayLike,
        memory: ArrayLike,
        tgt_mask: ArrayLike | None = None,
        memory_mask: ArrayLike | None = None,
        tgt_key_padding_mask: ArrayLike | None = None,
        memory_key_padding_mask: ArrayLike | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The last layer's output for tgt, given the encoder's output."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)  # type: ignore[return-value]


@equation("m = encoder(x)", "y = decoder(z, m)", where="x = src; z = tgt; encoder; decoder")
class Transformer(Module):
    """Encoder and decoder of the paper; the matrices are drawn by Glorot's rule.

    >>> import anynet as an
    >>> net = an.nn.Transformer(8, 2, 1, 1, 16)
    >>> net(an.ones((5, 3, 8)), an.ones((4, 3, 8))).shape
    (4, 3, 8)

    Source: Vaswani et al.: Attention is all you need (2017).
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        place = {"device": device, "dtype": dtype}
        shared = (
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
        )
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*shared, **place),
            num_encoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, **place),
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*shared, **place),
            num_decoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias, **place),
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw all matrices from Glorot's uniform distribution."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: ArrayLike,
        tgt: ArrayLike,
        src_mask: ArrayLike | None = None,
        tgt_mask: ArrayLike | None = None,
        memory_mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        tgt_key_padding_mask: ArrayLike | None = None,
        memory_key_padding_mask: ArrayLike | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """src (s, n, d_model) and tgt (t, n, d_model) → (t, n, d_model)."""
        axis = 0 if self.batch_first else 1
        if len(src.shape) == 3 and src.shape[axis] != tgt.shape[axis]:
            msg = f"got src {tuple(src.shape)} and tgt {tuple(tgt.shape)}: expected batches of one size (axis {axis})"
            raise ShapeError(msg)
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            msg = f"got src {tuple(src.shape)} and tgt {tuple(tgt.shape)}: expected the last axis to be {self.d_model}"
            raise ShapeError(msg)
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(  # type: ignore[no-any-return]
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: str | None = None, dtype: Any = None) -> Tensor:
        """(sz, sz) with −∞ above the diagonal and 0 elsewhere: each place sees itself and what came before."""
        later = creation.triu(creation.ones((sz, sz), device=device, dtype=dtype), k=1)
        return elementwise.where(later > 0, float("-inf"), creation.zeros_like(later))
