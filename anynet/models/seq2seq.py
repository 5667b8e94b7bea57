"""The encoder-decoder transformer (Vaswani et al.: Attention is all you need, 2017): one sequence of tokens into another."""

from __future__ import annotations

import math
from typing import Any

from anynet.models.cache import KeyValueCache
from anynet.models.options import check_probability, check_sizes
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.attention.positions import SinusoidalPositionalEncoding
from anynet.nn.containers import ModuleList
from anynet.nn.dropout import Dropout
from anynet.nn.embedding import Embedding
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.nn.norm import LayerNorm
from anynet.ops.creation import arange, asarray
from anynet.ops.elementwise import not_equal
from anynet.ops.indexing import repeat
from anynet.ops.manipulation import permute_dims, reshape, unstack
from anynet.ops.softmax import log_softmax
from anynet.tensor import Tensor, no_grad, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["EncoderDecoder"]

Pair = tuple[Tensor, Tensor]


class _Attention(Module):
    """Attention of x to itself, or to keys and values that are given."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        self.heads, self.p = heads, dropout
        self.query, self.keys_values = Linear(width, width), Linear(width, 2 * width)
        self.out = Linear(width, width)

    def seen(self, x: Any) -> Pair:
        """Keys and values (n, heads, t, features) of x."""
        n, t, width = x.shape
        parts = reshape(self.keys_values(x), (n, t, 2, self.heads, width // self.heads))
        k, v = unstack(permute_dims(parts, (2, 0, 3, 1, 4)))
        return k, v

    def forward(self, x: Any, seen: Pair, mask: Any = None, causal: bool = False) -> Tensor:
        n, t, width = x.shape
        q = permute_dims(reshape(self.query(x), (n, t, self.heads, width // self.heads)), (0, 2, 1, 3))
        y = F.scaled_dot_product_attention(q, *seen, mask, self.p if self.training else 0.0, is_causal=causal)
        return self.out(reshape(permute_dims(y, (0, 2, 1, 3)), (n, t, width)))


class _Layer(Module):
    """x ← x + attention(ln x) [, x ← x + attention(ln x, memory)], x ← x + W₂ relu(W₁ ln x)."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, crossed: bool) -> None:
        self.attention, self.norm = _Attention(width, heads, dropout), LayerNorm(width)
        self.cross = _Attention(width, heads, dropout) if crossed else None
        self.cross_norm = LayerNorm(width) if crossed else None
        self.up, self.down, self.last_norm = (
            Linear(width, feedforward), Linear(feedforward, width), LayerNorm(width),
        )  # fmt: skip
        self.drop = Dropout(dropout)

    def rest(self, x: Any) -> Tensor:
        """The perceptron."""
        return x + self.drop(self.down(self.drop(F.relu(self.up(self.last_norm(x))))))  # type: ignore[no-any-return]

    def encode(self, x: Any, mask: Any) -> Tensor:
        """All see all that `mask` lets them."""
        y = self.norm(x)
        return self.rest(x + self.drop(self.attention(y, self.attention.seen(y), mask)))

    def decode(self, x: Any, memory: Pair, hidden: Any, cache: KeyValueCache | None, number: int) -> Tensor:
        """Each sees those before it, and of the memory what `hidden` lets it."""
        y = self.norm(x)
        seen, first, mask = self.attention.seen(y), 0, None
        if cache is not None:
            first = cache.length
            seen = cache.extend(number, *seen)
            mask = cache.mask(y.shape[1], y.device) if first else None
        x = x + self.drop(self.attention(y, seen, mask, causal=not first))
        assert self.cross is not None
        assert self.cross_norm is not None
        x = x + self.drop(self.cross(self.cross_norm(x), memory, hidden))
        return self.rest(x)


class EncoderDecoder(Module):
    """A transformer from sequences to sequences (Vaswani et al. 2017), with the norms before the layers (Xiong et al. 2020).

    ``net(source, target)``: for token i of the target the scores of token i + 1, from the whole source and the target's tokens 0 … i.

    Shapes: source (n, s), target (n, t), integers → (n, t, target_vocabulary). To train, the target begins with a token for the
    beginning, and what is to be said is the target moved by one: ``loss(net(source, target[:, :-1]), target[:, 1:])`` with
    `nn.TokenCrossEntropyLoss(ignore_index=padding)`.

    Parameters: `width` divisible by `heads`; `layers` in each half; `feedforward` numbers inside the perceptrons (4 width unless given);
    `dropout` on embeddings, attention's weights and in perceptrons and sums; `padding`, the token that fills sequences up, is not
    looked at in the source; `context`, the longest sequence; with `tied` the scores use the matrix of the target's embedding.

    `generate` says the likeliest target of a source: greedily, or with a beam.

    Errors: ValueError for sizes that do not fit; `ShapeError` for tokens that are no (n, t) or too many.

    >>> import anynet as an
    >>> net = an.models.EncoderDecoder(20, 30, width=16, layers=1, heads=2)
    >>> net(an.ones((3, 7), dtype=an.int64), an.ones((3, 5), dtype=an.int64)).shape
    (3, 5, 30)
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        width: int = 256,
        layers: int = 3,
        heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.1,
        padding: int = 0,
        context: int = 512,
        tied: bool = True,
    ) -> None:
        feedforward = 4 * width if feedforward is None else feedforward
        check_sizes(
            "EncoderDecoder", source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary, width=width, layers=layers,
            heads=heads, feedforward=feedforward, context=context,
        )  # fmt: skip
        check_probability("EncoderDecoder", dropout=dropout)
        if width % heads or width % 2:
            msg = f"EncoderDecoder: width must be even and a multiple of heads, got {width} and {heads}"
            raise ValueError(msg)
        self.width, self.padding, self.context = width, padding, context
        self.source_embedding = Embedding(source_vocabulary, width)
        self.target_embedding = Embedding(target_vocabulary, width)
        self.positions = SinusoidalPositionalEncoding(width, scale=1.0)
        self.drop = Dropout(dropout)
        self.encoder = ModuleList([_Layer(width, heads, feedforward, dropout, False) for _ in range(layers)])
        self.encoder_norm = LayerNorm(width)
        self.decoder = ModuleList([_Layer(width, heads, feedforward, dropout, True) for _ in range(layers)])
        self.decoder_norm = LayerNorm(width)
        self.head = None if tied else Linear(width, target_vocabulary, bias=False)
        for name, p in self.named_parameters():
            if "embedding" in name:
                init.normal_(p, std=1 / math.sqrt(width))
            elif p.ndim == 2:
                init.xavier_uniform_(p)
            elif name.endswith("bias"):
                init.zeros_(p)

    def _embedded(self, tokens: Any, embedding: Embedding, first: int = 0) -> Tensor:
        shape: tuple[int, ...] = getattr(tokens, "shape", ())
        if len(shape) != 2 or not 1 <= shape[1] <= self.context - first:
            msg = f"EncoderDecoder: tokens must be (n, t), integers, t from 1 to {self.context - first}, got shape {tuple(shape)}"
            raise ShapeError(msg)
        x = embedding(tokens) * math.sqrt(self.width)
        places = arange(first, first + shape[1], dtype=x.dtype, device=x.device)
        return self.drop(x + self.positions(places))

    def encode(self, source: ArrayLike) -> tuple[list[Pair], Tensor]:
        """What decoding needs of a source: keys and values for each layer, and which places are no padding."""
        x = self._embedded(source, self.source_embedding)
        mask = reshape(not_equal(source, self.padding), (source.shape[0], 1, 1, source.shape[1]))
        for layer in self.encoder:
            x = layer.encode(x, mask)
        x = self.encoder_norm(x)
        return [layer.cross.seen(x) for layer in self.decoder], mask

    def decode(
        self, target: ArrayLike, memory: tuple[list[Pair], Tensor], cache: KeyValueCache | None = None
    ) -> Tensor:
        """The scores of the token after each of the target, given what `encode` gave; with a cache, of new tokens."""
        pairs, mask = memory
        x = self._embedded(target, self.target_embedding, 0 if cache is None else cache.length)
        for number, (layer, pair) in enumerate(zip(self.decoder, pairs, strict=True)):
            x = layer.decode(x, pair, mask, cache, number)
        if cache is not None:
            cache.advance(target.shape[1])
        x = self.decoder_norm(x)
        return F.linear(x, self.target_embedding.weight) if self.head is None else self.head(x)

    def forward(self, source: ArrayLike, target: ArrayLike) -> Tensor:
        """The scores of the token after each of the target."""
        return self.decode(target, self.encode(source))

    def generate(
        self,
        source: ArrayLike,
        *,
        begin: int,
        end: int,
        length: int = 100,
        beams: int = 1,
        length_penalty: float = 0.6,
    ) -> list[list[int]]:
        """The tokens of a target for each source (n, s), without `begin` and `end`.

        Of `beams` beginnings, each time those with the largest probability go on (one: the likeliest token each time); of the finished ones
        that with the largest ln p / ((5 + tokens) / 6)^length_penalty is taken (Wu et al. 2016). At most `length` tokens.

        It computes in evaluation mode and without recording.
        """
        check_sizes("EncoderDecoder.generate", length=length, beams=beams)
        vocabulary = self.target_embedding.weight.shape[0]
        for name, token in (("begin", begin), ("end", end)):
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocabulary:
                msg = f"EncoderDecoder.generate: {name} must be a token in [0, {vocabulary}), got {token!r}"
                raise ValueError(msg)
        if length > self.context:
            msg = f"EncoderDecoder.generate: length must be at most context={self.context}, got {length}"
            raise ValueError(msg)
        with no_grad(), evaluating(self):
            pairs, mask = self.encode(source)
            memory = [(repeat(k, beams, axis=0), repeat(v, beams, axis=0)) for k, v in pairs]
            search = _Beams(source.shape[0], beams, end, length_penalty, length)
            cache = KeyValueCache(len(self.decoder), length)
            tokens = [begin] * (source.shape[0] * beams)
            for number in range(length):
                step = asarray([[t] for t in tokens], device=mask.device)
                scores = self.decode(step, (memory, repeat(mask, beams, axis=0)), cache)[:, -1, :]
                rows, tokens = search.step(
                    to_plain(unwrap(log_softmax(scores, axis=-1)), device="cpu"), number + 1 == length
                )
                if search.done:
                    break
                cache.reorder(rows)
        return search.best()


class _Beams:
    """The beginnings that are kept, for each of n sources `width` of them, and the finished ones."""

    def __init__(self, n: int, width: int, end: int, penalty: float, length: int) -> None:
        self.n, self.width, self.end, self.penalty, self.length = n, width, end, penalty, length
        self.texts: list[list[int]] = [[] for _ in range(n * width)]
        # at first all beginnings of a source are the same: one of them goes on
        self.scores = [0.0 if i % width == 0 else -math.inf for i in range(n * width)]
        self.finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(n)]

    def _value(self, score: float, tokens: int) -> float:
        return float(score / ((5 + tokens) / 6) ** self.penalty)

    @property
    def done(self) -> bool:
        """Whether no beginning can become better than what is finished."""
        return all(
            len(found) >= self.width
            and max(f[0] for f in found)
            >= max(self._bound(i) for i in range(k * self.width, (k + 1) * self.width))
            for k, found in enumerate(self.finished)
        )

    def _bound(self, i: int) -> float:
        """What beginning i can come to at best: its probability as it is, at the length that favours it."""
        if self.scores[i] == -math.inf:
            return -math.inf
        return self._value(self.scores[i], self.length if self.penalty > 0 else len(self.texts[i]) + 1)

    def step(self, chances: Any, last: bool) -> tuple[list[int], list[int]]:
        """Take ln p (n · width, vocabulary) of the next tokens: which beginnings go on, and with which tokens."""
        xp = backend_of(chances)
        size = int(chances.shape[-1])
        before = xp.reshape(xp.asarray(self.scores, dtype=xp.float64), (-1, 1))
        total = xp.reshape(xp.astype(chances, xp.float64) + before, (self.n, self.width * size))
        order = xp.argsort(total, axis=-1, descending=True, stable=True)[:, : 2 * self.width].tolist()
        rows, tokens, texts, scores = [], [], [], []
        for k, candidates in enumerate(order):
            kept = 0
            for rank, place in enumerate(candidates):
                row, token, score = k * self.width + place // size, place % size, float(total[k, place])
                if token == self.end or last:
                    text = self.texts[row] if token == self.end else [*self.texts[row], token]
                    if rank < self.width and score > -math.inf:
                        self.finished[k].append((self._value(score, len(text) + 1), text))
                    if not last:
                        continue
                if kept < self.width:
                    rows.append(row)
                    tokens.append(token)
                    texts.append([*self.texts[row], token])
                    scores.append(score)
                    kept += 1
            while kept < self.width:  # a vocabulary smaller than the beam
                rows.append(k * self.width)
                tokens.append(self.end)
                texts.append([])
                scores.append(-math.inf)
                kept += 1
        self.texts, self.scores = texts, scores
        return rows, tokens

    def best(self) -> list[list[int]]:
        """The best finished text of each source."""
        return [max(found, key=lambda f: f[0])[1] for found in self.finished]
