"""Language models: networks that say which token comes next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anynet.models.cache import KeyValueCache, RecurrentCache
from anynet.models.options import activation_function, check_probability, check_sizes
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.attention.positions import RoPE
from anynet.nn.containers import ModuleDict, ModuleList
from anynet.nn.dropout import Dropout
from anynet.nn.embedding import Embedding
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import LayerNorm
from anynet.nn.rnn import LSTM
from anynet.ops.manipulation import permute_dims, reshape, unstack
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["GPT", "LSTMLanguageModel"]


def _check_tokens(where: str, tokens: ArrayLike) -> None:
    shape: tuple[int, ...] = getattr(tokens, "shape", ())
    if len(shape) != 2 or shape[1] < 1:
        msg = f"{where}: tokens must be (n, t), integers, got an array of shape {tuple(shape)}"
        raise ShapeError(msg)


class _Block(Module):
    """x ← x + attention(ln₁ x), x ← x + mlp(ln₂ x)."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        bias: bool,
        rotary: bool,
        activation: str,
        eps: float,
    ) -> None:
        self.heads, self.p, self.activation = heads, dropout, activation
        self.ln_1 = LayerNorm(width, eps, bias=bias)
        self.attn = ModuleDict(
            {"c_attn": Linear(width, 3 * width, bias), "c_proj": Linear(width, width, bias)}
        )
        self.ln_2 = LayerNorm(width, eps, bias=bias)
        self.mlp = ModuleDict(
            {"c_fc": Linear(width, mlp_width, bias), "c_proj": Linear(mlp_width, width, bias)}
        )
        self.drop = Dropout(dropout)
        self.turn = RoPE(width // heads) if rotary else None

    def forward(self, x: Any, cache: KeyValueCache | None = None, number: int = 0) -> Tensor:
        x = x + self.drop(self.attn["c_proj"](self._attend(self.attn["c_attn"](self.ln_1(x)), cache, number)))
        y = activation_function("GPT", self.activation)(self.mlp["c_fc"](self.ln_2(x)))
        return x + self.drop(self.mlp["c_proj"](y))  # type: ignore[no-any-return]

    def _attend(self, qkv: Any, cache: KeyValueCache | None, number: int) -> Tensor:
        n, t, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        parts = reshape(qkv, (n, t, 3, self.heads, width // self.heads))
        q, k, v = unstack(permute_dims(parts, (2, 0, 3, 1, 4)))
        first = 0 if cache is None else cache.length
        if self.turn is not None:
            q, k = self.turn(q, first), self.turn(k, first)
        mask = None
        if cache is not None:
            k, v = cache.extend(number, k, v)
            mask = cache.mask(t, q.device) if first else None
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=not first)
        return reshape(permute_dims(y, (0, 2, 1, 3)), (n, t, width))


class GPT(Module):
    """A transformer that predicts the next token (Radford et al. 2019): for token i of a text the scores of token i + 1, from the
    tokens 0 … i.

        x = W_e[tokens] + W_p[0 … t − 1];  x ← x + attention(ln x),  x ← x + W₂ f(W₁ ln x)  `layers` times;  scores = ln(x) W_eᵀ

    Shapes: tokens (n, t ≤ context), integers → (n, t, vocabulary).

    Parameters:
      vocabulary, context: how many tokens there are, and how many of a text it sees at once.
      width, layers, heads: features of a token, blocks, and heads of attention, which divide `width`.
      dropout: on the sum of the embeddings, the weights of attention, and what each block adds.
      positions: "learned" (W_p), or "rotary": queries and keys are turned by their places (Su et al. 2021), and there is no W_p.
      tied: the scores use the embedding's matrix W_e (Press and Wolf 2017), else a matrix `lm_head` of their own.
      bias: whether linear layers and norms have biases.
      mlp_width: features between W₁ and W₂; 4 width unless given.
      activation: f: "gelu_tanh", GELU by its approximation with tanh, as in GPT-2, "gelu", "quick_gelu", "relu" or "silu".
      eps: of the norms.

    Parameters' names are those of Hugging Face's GPT-2: wte, wpe, h.0.ln_1, h.0.attn.c_attn, h.0.attn.c_proj, h.0.ln_2, h.0.mlp.c_fc,
    h.0.mlp.c_proj, …, ln_f; `anynet.models.load_weights` loads its files into ``GPT()``. Weights begin as N(0, 0.02²), those of
    the two matrices that end in the sum of a block as N(0, 0.02² / (2 layers)).

    ``cache = net.new_cache()`` and ``net(tokens, cache)`` within `no_grad` read a text piece by piece: the scores of new tokens, each after
    all that the cache has, are those of one call with the whole text.

    Errors: ValueError for sizes that do not fit; `ShapeError` for tokens that are no (n, t), and for more than `context` of them.

    >>> import anynet as an
    >>> net = an.models.GPT(vocabulary=65, context=32, width=16, layers=2, heads=2)
    >>> net(an.zeros((3, 10), dtype=an.int64)).shape
    (3, 10, 65)
    """

    def __init__(
        self,
        vocabulary: int = 50257,
        context: int = 1024,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        dropout: float = 0.0,
        positions: str = "learned",
        tied: bool = True,
        bias: bool = True,
        mlp_width: int | None = None,
        activation: str = "gelu_tanh",
        eps: float = 1e-5,
    ) -> None:
        inner = 4 * width if mlp_width is None else mlp_width
        check_sizes(
            "GPT", vocabulary=vocabulary, context=context, width=width, layers=layers, heads=heads, mlp_width=inner,
        )  # fmt: skip
        activation_function("GPT", activation)
        check_probability("GPT", dropout=dropout)
        rotary = positions == "rotary"
        if not rotary and positions != "learned":
            msg = f"GPT: positions must be 'learned' or 'rotary', got {positions!r}"
            raise ValueError(msg)
        if width % heads or (rotary and width // heads % 2):
            even = " with an even quotient for rotary positions" if rotary else ""
            msg = f"GPT: heads must divide width{even}, got {heads} and {width}"
            raise ValueError(msg)
        self.vocabulary, self.context = vocabulary, context
        self.wte = Embedding(vocabulary, width)
        self.wpe = None if rotary else Embedding(context, width)
        self.drop = Dropout(dropout)
        self.h = ModuleList([
            _Block(width, heads, inner, dropout, bias, rotary, activation, eps) for _ in range(layers)
        ])  # fmt: skip
        self.ln_f = LayerNorm(width, eps, bias=bias)
        self.lm_head = None if tied else Linear(width, vocabulary, bias=False)
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                init.normal_(p, std=0.02 / math.sqrt(2 * layers))
            elif p.ndim == 2:
                init.normal_(p, std=0.02)
            elif name.endswith("bias"):
                init.zeros_(p)

    def new_cache(self) -> KeyValueCache:
        """An empty cache, with room for `context` tokens."""
        return KeyValueCache(len(self.h), self.context)

    def forward(self, tokens: ArrayLike, cache: KeyValueCache | None = None) -> Tensor:
        """The scores of the token after each."""
        _check_tokens("GPT", tokens)
        first = 0 if cache is None else cache.length
        last = first + tokens.shape[1]
        if last > self.context:
            before = f" after {first}" if first else ""
            msg = f"GPT: a text has at most context={self.context} tokens, got {tokens.shape[1]}{before}"
            raise ShapeError(msg)
        x = self.wte(tokens)
        if self.wpe is not None:
            x = x + self.wpe.weight[first:last, :]
        x = self.drop(x)
        for number, block in enumerate(self.h):
            x = block(x, cache, number)
        if cache is not None:
            cache.advance(tokens.shape[1])
        x = self.ln_f(x)
        return F.linear(x, self.wte.weight) if self.lm_head is None else self.lm_head(x)

    def adapt_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of Hugging Face's GPT-2 under this module's names: its linear layers hold transposed matrices."""
        found: dict[str, Any] = {}
        theirs = any(name.endswith(".attn.bias") for name in state) or _transposed(state)
        for name, value in state.items():
            short = name.removeprefix("transformer.")
            if short.endswith((".attn.bias", ".attn.masked_bias")):
                continue  # the causal mask
            if theirs and short == "lm_head.weight" and self.lm_head is None:
                continue  # the embedding's matrix once more
            turned = theirs and short.endswith(".weight") and (".attn." in short or ".mlp." in short)
            found[short] = value.mT if turned else value
        return found


def _transposed(state: Mapping[str, Any]) -> bool:
    """Whether the matrices of attention are (width, 3 width), as Hugging Face's."""
    for name, value in state.items():
        if name.endswith("attn.c_attn.weight"):
            return bool(value.shape[1] > value.shape[0])
    return False


class LSTMLanguageModel(Module):
    """Long short-term memory over a text: for token i the scores of token i + 1.

        x = W_e[tokens];  h = LSTM(x), `layers` of `hidden` numbers;  scores = h W_oᵀ + b

    Shapes: tokens (n, t), integers → (n, t, vocabulary).

    Parameters: `width` numbers an embedding; `hidden` is `width` unless given; `dropout` acts on the embeddings, between layers and on the
    last outputs; with `tied` W_o is W_e, for which `hidden` must be `width`.

    ``cache = net.new_cache()`` and ``net(tokens, cache)`` within `no_grad` read a text piece by piece, of any length.

    Errors: ValueError for sizes that do not fit; `ShapeError` for tokens that are no (n, t).

    >>> import anynet as an
    >>> net = an.models.LSTMLanguageModel(vocabulary=65, width=16, layers=1)
    >>> net(an.zeros((3, 10), dtype=an.int64)).shape
    (3, 10, 65)
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 256,
        layers: int = 2,
        hidden: int | None = None,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        hidden = width if hidden is None else hidden
        check_sizes("LSTMLanguageModel", vocabulary=vocabulary, width=width, layers=layers, hidden=hidden)
        check_probability("LSTMLanguageModel", dropout=dropout)
        if tied and hidden != width:
            msg = f"LSTMLanguageModel: tied needs hidden = width, got {hidden} and {width}"
            raise ValueError(msg)
        self.vocabulary = vocabulary
        self.embedding = Embedding(vocabulary, width)
        self.drop = Dropout(dropout)
        self.lstm = LSTM(width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.head = Linear(hidden, vocabulary)
        init.normal_(self.embedding.weight, std=1.0 / math.sqrt(width) if tied else 1.0)
        if tied:
            self.head.weight = self.embedding.weight

    def new_cache(self) -> RecurrentCache:
        """The state before the first token."""
        return RecurrentCache()

    def forward(self, tokens: ArrayLike, cache: RecurrentCache | None = None) -> Tensor:
        """The scores of the token after each."""
        _check_tokens("LSTMLanguageModel", tokens)
        x, state = self.lstm(self.drop(self.embedding(tokens)), None if cache is None else cache.state)
        if cache is not None:
            if x.requires_grad:
                msg = "a cache keeps no graph for gradients: call the model within anynet.no_grad()"
                raise RuntimeError(msg)
            cache.advance(tokens.shape[1], state)
        return self.head(self.drop(x))
