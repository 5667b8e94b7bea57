"""BERT: a transformer that reads a text in both directions, with the heads of its usual tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anynet import dtypes
from anynet.models.options import activation_function, check_probability, check_sizes
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.containers import ModuleDict, ModuleList
from anynet.nn.dropout import Dropout
from anynet.nn.embedding import Embedding
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import LayerNorm
from anynet.ops.creation import asarray, zeros, zeros_like
from anynet.ops.elementwise import tanh
from anynet.ops.manipulation import astype, expand_dims, permute_dims, reshape
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["BERT"]

_HEADS = (None, "masked", "classes", "tokens", "span")


class _Block(Module):
    """x ← ln(x + attention(x)), x ← ln(x + W₂ f(W₁ x))."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, dropout: float, activation: str, eps: float
    ) -> None:
        self.heads, self.p = heads, dropout
        self.attention = ModuleDict({
            "self": ModuleDict({name: Linear(width, width) for name in ("query", "key", "value")}),
            "output": ModuleDict({"dense": Linear(width, width), "LayerNorm": LayerNorm(width, eps)}),
        })  # fmt: skip
        self.intermediate = ModuleDict({"dense": Linear(width, mlp_width)})
        self.output = ModuleDict({"dense": Linear(mlp_width, width), "LayerNorm": LayerNorm(width, eps)})
        self.drop = Dropout(dropout)
        self.activation = activation

    def forward(self, x: Any, seen: Any = None) -> Tensor:
        n, t, width = x.shape
        shape = (n, t, self.heads, width // self.heads)
        parts = self.attention["self"]
        q, k, v = (
            permute_dims(reshape(parts[name](x), shape), (0, 2, 1, 3)) for name in ("query", "key", "value")
        )
        y = F.scaled_dot_product_attention(q, k, v, seen, self.p if self.training else 0.0)
        y = reshape(permute_dims(y, (0, 2, 1, 3)), (n, t, width))
        last = self.attention["output"]
        x = last["LayerNorm"](x + self.drop(last["dense"](y)))
        y = activation_function("BERT", self.activation)(self.intermediate["dense"](x))
        return self.output["LayerNorm"](x + self.drop(self.output["dense"](y)))  # type: ignore[no-any-return]


class BERT(Module):
    """A transformer that reads a text in both directions (Devlin et al. 2018).

        x = ln(W_e[tokens] + W_p[0 … t − 1] + W_s[segments]);  x ← ln(x + attention(x)),  x ← ln(x + W₂ f(W₁ x))  `layers` times

    Shapes: tokens (n, t ≤ context), integers → by `head`:

      - None: the features (n, t, width), and, with `pooler`, tanh(W x₀ + b) of the first token (n, width): a tuple of both.
      - "masked": the scores of the token at each place (n, t, vocabulary), by the embedding's matrix W_e and a bias.
      - "classes": the scores of a class for each text (n, num_classes), from the pooled first token.
      - "tokens": the scores of a class for each token (n, t, num_classes).
      - "span": the scores of each token as the beginning and as the end of an answer (n, t, 2).

    Parameters:
      vocabulary, context, segments: how many tokens, places and segments there are.
      width, layers, heads, mlp_width: features of a token, blocks, heads of attention, which divide `width`, and features between W₁
        and W₂ (4 width unless given).
      dropout: on the embeddings, the weights of attention, and what each block adds.
      activation: f: "gelu", "gelu_tanh", "quick_gelu", "relu" or "silu".
      eps: of the norms.

    ``net(tokens, mask, segments)``: `mask` (n, t) is nonzero where there is a token, 0 where a text is filled up; `segments` (n, t) are
    the numbers of the segments, 0 unless given. Parameters' names are those of Hugging Face's BertModel without "bert.".

    Errors: ValueError for sizes that do not fit; `ShapeError` for tokens that are no (n, t), and for more than `context` of them.

    >>> import anynet as an
    >>> net = an.models.BERT(vocabulary=65, context=32, width=16, layers=2, heads=2, head="classes", num_classes=3)
    >>> net(an.zeros((4, 10), dtype=an.int64)).shape
    (4, 3)
    """

    def __init__(
        self,
        vocabulary: int = 30522,
        context: int = 512,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp_width: int | None = None,
        segments: int = 2,
        dropout: float = 0.0,
        activation: str = "gelu",
        eps: float = 1e-12,
        head: str | None = None,
        num_classes: int = 2,
        pooler: bool = True,
    ) -> None:
        inner = 4 * width if mlp_width is None else mlp_width
        check_sizes(
            "BERT", vocabulary=vocabulary, context=context, width=width, layers=layers, heads=heads, mlp_width=inner,
            segments=segments, num_classes=num_classes,
        )  # fmt: skip
        check_probability("BERT", dropout=dropout)
        activation_function("BERT", activation)
        if width % heads:
            msg = f"BERT: heads must divide width, got {heads} and {width}"
            raise ValueError(msg)
        if head not in _HEADS:
            msg = f"BERT: head must be one of {', '.join(map(repr, _HEADS))}, got {head!r}"
            raise ValueError(msg)
        self.vocabulary, self.context, self.head = vocabulary, context, head
        self.activation = activation
        self.embeddings = ModuleDict({
            "word_embeddings": Embedding(vocabulary, width),
            "position_embeddings": Embedding(context, width),
            "token_type_embeddings": Embedding(segments, width),
            "LayerNorm": LayerNorm(width, eps),
        })  # fmt: skip
        self.drop = Dropout(dropout)
        blocks = [_Block(width, heads, inner, dropout, activation, eps) for _ in range(layers)]
        self.encoder = ModuleDict({"layer": ModuleList(blocks)})
        pooled = head == "classes" or (head is None and pooler)
        self.pooler = ModuleDict({"dense": Linear(width, width)}) if pooled else None
        if head == "masked":
            self.transform = ModuleDict({"dense": Linear(width, width), "LayerNorm": LayerNorm(width, eps)})
            self.bias = Parameter(zeros((vocabulary,)))
        elif head == "span":
            self.qa_outputs = Linear(width, 2)
        elif head is not None:
            self.classifier = Linear(width, num_classes)
        for p in self.parameters():
            if p.ndim == 2:
                init.normal_(p, std=0.02)

    def forward(
        self, tokens: ArrayLike, mask: ArrayLike | None = None, segments: ArrayLike | None = None
    ) -> Any:
        """What `head` says."""
        shape: tuple[int, ...] = getattr(tokens, "shape", ())
        if len(shape) != 2 or not 1 <= shape[1] <= self.context:
            msg = f"BERT: tokens must be (n, t ≤ {self.context}), integers, got an array of shape {tuple(shape)}"
            raise ShapeError(msg)
        for name, given in (("mask", mask), ("segments", segments)):
            if given is not None and tuple(given.shape) != tuple(shape):
                msg = f"BERT: {name} must be of the shape of tokens, {tuple(shape)}, got {tuple(given.shape)}"
                raise ShapeError(msg)
        tables = self.embeddings
        if segments is None:
            segments = zeros_like(asarray(tokens))
        x = tables["word_embeddings"](tokens) + tables["token_type_embeddings"](segments)
        x = self.drop(tables["LayerNorm"](x + tables["position_embeddings"].weight[: shape[1], :]))
        seen = None if mask is None else expand_dims(astype(asarray(mask), dtypes.bool), axis=(1, 2))
        for block in self.encoder["layer"]:
            x = block(x, seen)
        return self._heads(x)

    def _heads(self, x: Any) -> Any:
        if self.head == "masked":
            found = activation_function("BERT", self.activation)(self.transform["dense"](x))
            table = self.embeddings["word_embeddings"].weight
            return F.linear(self.transform["LayerNorm"](found), table, self.bias)
        if self.head == "span":
            return self.qa_outputs(x)
        if self.head == "tokens":
            return self.classifier(self.drop(x))
        if self.pooler is None:
            return x
        pooled = tanh(self.pooler["dense"](x[:, 0, :]))
        return (x, pooled) if self.head is None else self.classifier(self.drop(pooled))

    def adapt_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of Hugging Face's BERT under this module's names. What no head here uses (the prediction of the next
        sentence, the pooler before other heads, the embedding's matrix once more) is left out."""
        found: dict[str, Any] = {}
        for name, value in state.items():
            short = name.removeprefix("bert.")
            short = short.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
                "LayerNorm.beta", "LayerNorm.bias"
            )
            if short.startswith("cls.predictions."):
                short = short.removeprefix("cls.predictions.")
                if short.startswith("decoder.") or self.head != "masked":
                    continue  # decoder.weight is the embedding's matrix, decoder.bias is bias
            if short == "embeddings.position_ids" or short.startswith("cls.seq_relationship."):
                continue
            if short.startswith("pooler.") and self.pooler is None:
                continue
            found[short] = value
        return found
