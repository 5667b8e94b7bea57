"""LLaMA and networks of its form (Mistral, Qwen2): which token comes next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anynet._hints import nearest
from anynet.models.cache import KeyValueCache
from anynet.models.options import activation_function, check_sizes
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.containers import ModuleDict, ModuleList
from anynet.nn.embedding import Embedding
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import RMSNorm
from anynet.ops.creation import asarray
from anynet.ops.elementwise import cos, sin
from anynet.ops.manipulation import astype, concat, permute_dims, reshape
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["Llama"]


def _rates(features: int, base: float, scaling: Mapping[str, Any]) -> list[float]:
    """The angle between neighbouring places, of each pair of features: base^(−2j / features), scaled."""
    rates = [base ** (-2 * j / features) for j in range(features // 2)]
    kind = scaling.get("type", "default")
    if kind == "default":
        return rates
    if kind not in ("linear", "llama3"):
        msg = f"Llama: the type of rope_scaling must be 'default', 'linear' or 'llama3', got {kind!r}"
        raise ValueError(msg)
    needed = ("factor",) if kind == "linear" else (
        "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"
    )  # fmt: skip
    unknown = [name for name in scaling if name not in (*needed, "type")]
    if unknown:
        msg = f"Llama: rope_scaling of type {kind!r} has no {unknown[0]!r}{nearest(unknown[0], needed)}"
        raise ValueError(msg)
    for name in needed:
        if not isinstance(scaling.get(name), (int, float)) or scaling[name] <= 0:
            msg = f"Llama: rope_scaling of type {kind!r} needs {name} > 0, got {scaling.get(name)!r}"
            raise ValueError(msg)
    factor = scaling["factor"]
    if kind == "linear":
        return [rate / factor for rate in rates]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    made = []
    for rate in rates:  # Dubey et al. 2024: slow turns are stretched, quick ones stay, between them a mixture
        turns = scaling["original_max_position_embeddings"] * rate / (2 * math.pi)
        part = min(max((turns - low) / (high - low), 0.0), 1.0) if high > low else float(turns >= high)
        made.append((1 - part) * rate / factor + part * rate)
    return made


class _Block(Module):
    """x ← x + attention(norm x), x ← x + W_d (f(W_g y) · W_u y) with y = norm x."""

    def __init__(
        self,
        width: int,
        heads: tuple[int, int, int],
        mlp_width: int,
        activation: str,
        eps: float,
        biases: Any,
    ) -> None:
        count, groups, features = self.heads = heads
        qkv, out, mlp = biases
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = ModuleDict({
            "q_proj": Linear(width, count * features, qkv), "k_proj": Linear(width, groups * features, qkv),
            "v_proj": Linear(width, groups * features, qkv), "o_proj": Linear(count * features, width, out),
        })  # fmt: skip
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.mlp = ModuleDict({
            "gate_proj": Linear(width, mlp_width, mlp), "up_proj": Linear(width, mlp_width, mlp),
            "down_proj": Linear(mlp_width, width, mlp),
        })  # fmt: skip
        self.activation = activation

    def forward(self, x: Any, turn: Any, cache: KeyValueCache | None, number: int) -> Tensor:
        x = x + self._attend(self.input_layernorm(x), turn, cache, number)
        y = self.post_attention_layernorm(x)
        gate = activation_function("Llama", self.activation)(self.mlp["gate_proj"](y))
        return x + self.mlp["down_proj"](gate * self.mlp["up_proj"](y))  # type: ignore[no-any-return]

    def _attend(self, y: Any, turn: Any, cache: KeyValueCache | None, number: int) -> Tensor:
        count, groups, features = self.heads
        n, t = y.shape[0], y.shape[1]

        def part(name: str, heads: int) -> Any:
            return permute_dims(reshape(self.self_attn[name](y), (n, t, heads, features)), (0, 2, 1, 3))

        q, k, v = turn(part("q_proj", count)), turn(part("k_proj", groups)), part("v_proj", groups)
        first = 0 if cache is None else cache.length
        mask = None
        if cache is not None:
            k, v = cache.extend(number, k, v)
            mask = cache.mask(t, q.device) if first else None
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not first, enable_gqa=groups != count)
        return self.self_attn["o_proj"](reshape(permute_dims(y, (0, 2, 1, 3)), (n, t, count * features)))  # type: ignore[no-any-return]


class Llama(Module):
    """A transformer that predicts the next token, in the form of LLaMA (Touvron et al. 2023): root mean square norms before each part,
    rotary positions, fewer heads of keys and values than of queries, a gated perceptron.

        x = W_e[tokens];  x ← x + attention(norm x),  x ← x + W_d (f(W_g y) · W_u y), y = norm x,  `layers` times;  scores = W_o norm(x)

    Shapes: tokens (n, t ≤ context), integers → (n, t, vocabulary).

    Parameters:
      vocabulary, context: how many tokens there are, and how many of a text it sees at once.
      width, layers, heads, mlp_width: features of a token, blocks, heads of queries, features between W_g and W_d.
      key_value_heads: heads of keys and values, which divide `heads`; as many as these unless given.
      head_features: features of a head; width / heads unless given.
      activation, eps: f; of the norms.
      rope_base, rope_scaling: of the rotary positions; {"type": "linear", "factor": 2.0} or {"type": "llama3", "factor": …,
        "low_freq_factor": …, "high_freq_factor": …, "original_max_position_embeddings": …} for contexts longer than those trained on.
      tied: the scores use the embedding's matrix, else a matrix `lm_head` of their own.
      qkv_bias, out_bias, mlp_bias: whether these linear layers have biases.

    Parameters' names are those of Hugging Face's LlamaForCausalLM without "model.". ``cache = net.new_cache()`` and ``net(tokens, cache)``
    as in `GPT`.

    Errors: ValueError for sizes that do not fit; `ShapeError` for tokens that are no (n, t), and for more than `context` of them.

    >>> import anynet as an
    >>> net = an.models.Llama(65, context=32, width=16, layers=2, heads=4, key_value_heads=2, mlp_width=24)
    >>> net(an.zeros((3, 10), dtype=an.int64)).shape
    (3, 10, 65)
    """

    # Over 60 lines with its signature: nothing but what each option makes.
    def __init__(
        self,
        vocabulary: int = 32000,
        context: int = 2048,
        width: int = 4096,
        layers: int = 32,
        heads: int = 32,
        mlp_width: int = 11008,
        key_value_heads: int | None = None,
        head_features: int | None = None,
        activation: str = "silu",
        eps: float = 1e-6,
        rope_base: float = 10000.0,
        rope_scaling: Mapping[str, Any] | None = None,
        tied: bool = False,
        qkv_bias: bool = False,
        out_bias: bool = False,
        mlp_bias: bool = False,
    ) -> None:
        groups = heads if key_value_heads is None else key_value_heads
        check_sizes(
            "Llama", vocabulary=vocabulary, context=context, width=width, layers=layers, heads=heads, mlp_width=mlp_width,
            key_value_heads=groups,
        )  # fmt: skip
        if head_features is None and width % heads:
            msg = f"Llama: heads must divide width, got {heads} and {width}; or give head_features"
            raise ValueError(msg)
        features = width // heads if head_features is None else head_features
        check_sizes("Llama", head_features=features)
        if heads % groups:
            msg = f"Llama: key_value_heads must divide heads, got {groups} and {heads}"
            raise ValueError(msg)
        if features % 2 or rope_base <= 0:
            msg = f"Llama: head_features must be even and rope_base > 0, got {features} and {rope_base}"
            raise ValueError(msg)
        activation_function("Llama", activation)
        self.vocabulary, self.context = vocabulary, context
        self.rates = _rates(features, rope_base, rope_scaling or {})
        self.embed_tokens = Embedding(vocabulary, width)
        biases = (qkv_bias, out_bias, mlp_bias)
        self.layers = ModuleList([
            _Block(width, (heads, groups, features), mlp_width, activation, eps, biases) for _ in range(layers)
        ])  # fmt: skip
        self.norm = RMSNorm(width, eps)
        self.lm_head = None if tied else Linear(width, vocabulary, bias=False)
        for p in self.parameters():
            if p.ndim == 2:
                init.normal_(p, std=0.02)

    def new_cache(self) -> KeyValueCache:
        """An empty cache, with room for `context` tokens."""
        return KeyValueCache(len(self.layers), self.context)

    def forward(self, tokens: ArrayLike, cache: KeyValueCache | None = None) -> Tensor:
        """The scores of the token after each."""
        shape: tuple[int, ...] = getattr(tokens, "shape", ())
        if len(shape) != 2 or shape[1] < 1:
            msg = f"Llama: tokens must be (n, t), integers, got an array of shape {tuple(shape)}"
            raise ShapeError(msg)
        first = 0 if cache is None else cache.length
        if first + shape[1] > self.context:
            before = f" after {first}" if first else ""
            msg = f"Llama: a text has at most context={self.context} tokens, got {shape[1]}{before}"
            raise ShapeError(msg)
        x = self.embed_tokens(tokens)
        turn = self._turn(first, shape[1], x)
        for number, block in enumerate(self.layers):
            x = block(x, turn, cache, number)
        if cache is not None:
            cache.advance(shape[1])
        x = self.norm(x)
        return F.linear(x, self.embed_tokens.weight) if self.lm_head is None else self.lm_head(x)

    def _turn(self, first: int, count: int, like: Any) -> Any:
        """The function that turns the pairs of features (j, j + half) of each place by its angles; these are computed in double
        precision, since a float32 of a late place has few digits behind the point."""
        angles = [[place * rate for rate in self.rates] for place in range(first, first + count)]
        angle = asarray(angles, dtype="float64")
        c, s = (astype(f(angle), like.dtype).to(like.device) for f in (cos, sin))
        half = len(self.rates)

        def turn(x: Any) -> Tensor:
            a, b = x[..., :half], x[..., half:]
            return concat([a * c - b * s, a * s + b * c], axis=-1)

        return turn

    def adapt_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of Hugging Face's LlamaForCausalLM under this module's names."""
        found = {}
        for name, value in state.items():
            short = name.removeprefix("model.")
            if short.endswith("rotary_emb.inv_freq") or (short == "lm_head.weight" and self.lm_head is None):
                continue  # computed here; the embedding's matrix once more
            found[short] = value
        return found
