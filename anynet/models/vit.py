"""The vision transformer (Dosovitskiy et al.: An image is worth 16×16 words, 2020), with torchvision's parameter names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from anynet.models.options import check_probability, check_sizes
from anynet.nn import init
from anynet.nn.activations import GELU
from anynet.nn.attention import MultiheadAttention
from anynet.nn.containers import Sequential
from anynet.nn.conv import Conv2d
from anynet.nn.dropout import Dropout
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import LayerNorm
from anynet.ops.creation import asarray, zeros
from anynet.ops.linear import matrix_transpose
from anynet.ops.manipulation import broadcast_to, concat, reshape
from anynet.tensor import Parameter, Tensor, to_plain
from anynet.typing import ArrayLike

__all__ = ["ViT", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"]


class _EncoderBlock(Module):
    """x ← x + attention(ln₁ x), x ← x + mlp(ln₂ x)."""

    def __init__(
        self,
        heads: int,
        width: int,
        mlp_width: int,
        dropout: float,
        attention_dropout: float,
        eps: float,
    ) -> None:
        self.ln_1 = LayerNorm(width, eps=eps)
        self.self_attention = MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.dropout = Dropout(dropout)
        self.ln_2 = LayerNorm(width, eps=eps)
        self.mlp = Sequential(
            Linear(width, mlp_width), GELU(), Dropout(dropout), Linear(mlp_width, width), Dropout(dropout)
        )

    def forward(self, x: Any) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class _Encoder(Module):
    """Positions added, blocks in a row, a last norm."""

    def __init__(
        self,
        length: int,
        layers: int,
        heads: int,
        width: int,
        mlp_width: int,
        dropout: float,
        attention_dropout: float,
        eps: float,
    ) -> None:
        self.pos_embedding = Parameter(zeros((1, length, width)))
        self.dropout = Dropout(dropout)
        self.layers = Sequential(
            {
                f"encoder_layer_{i}": _EncoderBlock(heads, width, mlp_width, dropout, attention_dropout, eps)
                for i in range(layers)
            }
        )
        self.ln = LayerNorm(width, eps=eps)

    def forward(self, x: Any) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class ViT(Module):
    """Patches of a picture as words: a linear map of each, a class token before them, positions added, a transformer's encoder, a linear
    layer on the class token.

    Shapes: (n, in_channels, image_size, image_size) → (n, num_classes), logits.

    Parameters: torchvision's names. `patch_size` must divide `image_size`, and `num_heads` `hidden_dim`; `dropout` acts on the sum
    with the positions, on the attention's output and in the perceptrons, `attention_dropout` on the attention's weights; `eps` is that
    of the norms.

    Parameters' names: class_token, conv_proj, encoder.pos_embedding, encoder.layers.encoder_layer_0 … (ln_1, self_attention, ln_2,
    mlp.0, mlp.3), encoder.ln, heads.head. The last layer begins with zeros, as in the paper.

    Errors: ValueError for sizes that do not fit; `ShapeError` for pictures of another size.

    >>> import anynet as an
    >>> net = an.models.ViT(image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10)
    >>> net(an.zeros((3, 3, 8, 8))).shape
    (3, 10)
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        num_layers: int = 12,
        num_heads: int = 12,
        hidden_dim: int = 768,
        mlp_dim: int = 3072,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        num_classes: int = 1000,
        in_channels: int = 3,
        eps: float = 1e-6,
    ) -> None:
        check_sizes(
            "ViT", image_size=image_size, patch_size=patch_size, num_layers=num_layers, num_heads=num_heads, hidden_dim=hidden_dim,
            mlp_dim=mlp_dim, num_classes=num_classes, in_channels=in_channels,
        )  # fmt: skip
        check_probability("ViT", dropout=dropout, attention_dropout=attention_dropout)
        if image_size % patch_size:
            msg = f"ViT: patch_size must divide image_size, got {patch_size} and {image_size}"
            raise ValueError(msg)
        if hidden_dim % num_heads:
            msg = f"ViT: num_heads must divide hidden_dim, got {num_heads} and {hidden_dim}"
            raise ValueError(msg)
        self.image_size, self.hidden_dim = image_size, hidden_dim
        self.class_token = Parameter(zeros((1, 1, hidden_dim)))
        self.conv_proj = Conv2d(in_channels, hidden_dim, patch_size, stride=patch_size)
        length = (image_size // patch_size) ** 2 + 1
        self.encoder = _Encoder(
            length, num_layers, num_heads, hidden_dim, mlp_dim, dropout, attention_dropout, eps
        )
        self.heads = Sequential({"head": Linear(hidden_dim, num_classes)})
        self._initialise()

    def _initialise(self) -> None:
        fan_in = math.prod(self.conv_proj.weight.shape[1:])
        init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / fan_in))
        init.zeros_(self.conv_proj.bias)  # type: ignore[arg-type]
        init.normal_(self.encoder.pos_embedding, std=0.02)
        for block in self.encoder.layers:
            for linear in (block.mlp[0], block.mlp[3]):
                init.xavier_uniform_(linear.weight)
                init.normal_(linear.bias, std=1e-6)
        head = self.heads[0]
        init.zeros_(head.weight)
        init.zeros_(head.bias)

    def features(self, x: ArrayLike) -> Tensor:
        """The class token after the encoder: (n, hidden_dim)."""
        shape: tuple[int, ...] = getattr(x, "shape", ())
        if len(shape) != 4 or shape[2] != self.image_size or shape[3] != self.image_size:
            msg = f"ViT: pictures must be (n, channels, {self.image_size}, {self.image_size}), got {tuple(shape)}"
            raise ShapeError(msg)
        y = self.conv_proj(x)
        n = y.shape[0]
        y = matrix_transpose(reshape(y, (n, self.hidden_dim, -1)))
        token = broadcast_to(self.class_token, (n, 1, self.hidden_dim))
        return self.encoder(concat([token, y], axis=1))[:, 0, :]

    @staticmethod
    def adapt_state(state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of timm's or Hugging Face's ViT, or of an early torchvision's, under this module's names."""
        found: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for name, value in state.items():
            new = _own_name(name)
            base, _, part = new.rpartition(":")
            if base:
                parts.setdefault(base, {})[part] = value
            else:
                found[new] = value
        for base, qkv in parts.items():  # queries, keys and values are one matrix here
            if len(qkv) == 3:
                found[base] = concat(
                    [asarray(to_plain(qkv[part])) for part in ("query", "key", "value")], axis=0
                )
            else:
                found.update({f"{base}:{part}": value for part, value in qkv.items()})
        return found

    def forward(self, x: ArrayLike) -> Tensor:
        """The logits of pictures."""
        return self.heads(self.features(x))  # type: ignore[no-any-return]


_TIMM = {
    "norm1": "ln_1", "norm2": "ln_2", "attn.qkv": "self_attention.in_proj", "attn.proj": "self_attention.out_proj", "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}  # fmt: skip
_HUGGING_FACE = {
    "layernorm_before": "ln_1", "layernorm_after": "ln_2", "attention.output.dense": "self_attention.out_proj",
    "intermediate.dense": "mlp.0", "output.dense": "mlp.3",
}  # fmt: skip
_WHOLE = {
    "cls_token": "class_token", "pos_embed": "encoder.pos_embedding", "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln", "head": "heads.head",
    "embeddings.cls_token": "class_token", "embeddings.position_embeddings": "encoder.pos_embedding",
    "embeddings.patch_embeddings.projection": "conv_proj", "layernorm": "encoder.ln", "classifier": "heads.head",
}  # fmt: skip


def _own_name(name: str) -> str:
    """The name here of a tensor of timm's ("blocks.0.attn.qkv.weight") or Hugging Face's ("encoder.layer.0.output.dense.weight");
    a third of a matrix is "the matrix:query" and so on."""
    short = name.removeprefix("vit.")
    if short in _WHOLE:
        return _WHOLE[short]
    layer, _, leaf = short.rpartition(".")
    if layer in _WHOLE:
        return f"{_WHOLE[layer]}.{leaf}"
    if found := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
        inner, block = _TIMM.get(found[2]), f"encoder.layers.encoder_layer_{found[1]}"
        if inner is not None:
            return f"{block}.{inner}{'_' if inner.endswith('in_proj') else '.'}{leaf}"
    if found := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", layer):
        inner, block = _HUGGING_FACE.get(found[2]), f"encoder.layers.encoder_layer_{found[1]}"
        if inner is not None:
            return f"{block}.{inner}.{leaf}"
        if third := re.fullmatch(r"attention\.attention\.(query|key|value)", found[2]):
            return f"{block}.self_attention.in_proj_{leaf}:{third[1]}"
    if found := re.fullmatch(r"(encoder\.layers\.encoder_layer_\d+\.mlp)\.linear_([12])", layer):
        return f"{found[1]}.{0 if found[2] == '1' else 3}.{leaf}"
    return name


def vit_b_16(num_classes: int = 1000, image_size: int = 224, **options: Any) -> ViT:
    """torchvision's vit_b_16: 86,567,656 parameters for 1,000 classes. `options` are those of `ViT`."""
    return ViT(image_size, 16, 12, 12, 768, 3072, num_classes=num_classes, **options)


def vit_b_32(num_classes: int = 1000, image_size: int = 224, **options: Any) -> ViT:
    """torchvision's vit_b_32: 88,224,232 parameters for 1,000 classes. `options` are those of `ViT`."""
    return ViT(image_size, 32, 12, 12, 768, 3072, num_classes=num_classes, **options)


def vit_l_16(num_classes: int = 1000, image_size: int = 224, **options: Any) -> ViT:
    """torchvision's vit_l_16: 304,326,632 parameters for 1,000 classes. `options` are those of `ViT`."""
    return ViT(image_size, 16, 24, 16, 1024, 4096, num_classes=num_classes, **options)


def vit_l_32(num_classes: int = 1000, image_size: int = 224, **options: Any) -> ViT:
    """torchvision's vit_l_32: 306,535,400 parameters for 1,000 classes. `options` are those of `ViT`."""
    return ViT(image_size, 32, 24, 16, 1024, 4096, num_classes=num_classes, **options)
