"""Texts, sounds and time series."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ci.bench.library import F, array, nn, xp
from ci.bench.workload import Training, integers, labels, normal, workload


def tokens_loss(y: Any, target: Any) -> Any:
    """Cross entropy of each token's scores (…, words) and its index (…)."""
    return F.cross_entropy(xp.reshape(y, (-1, y.shape[-1])), xp.reshape(target, (-1,)))


class LastState(nn.Module):  # type: ignore[misc]
    """Recurrent layers and a Linear on the last output; (length, n, inputs)."""

    def __init__(self, layer: Any, width: int, classes: int) -> None:
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(x)[0][-1, ...])


@workload(
    "sequence",
    "LSTM classifier, 64 → 128, 50 steps",
    batch=64,
    source="Keras' and PyTorch's first recurrent example",
)
def lstm(batch: int, length: int = 50) -> Training:
    net = LastState(nn.LSTM(64, 128), 128, 10)
    data = normal(length, batch, 64), labels(batch)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


class Tagger(nn.Module):  # type: ignore[misc]
    """Embeddings, a recurrent layer in both directions, a label for each word."""

    def __init__(self, words: int, d: int, width: int, tags: int, kind: Any) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, d)
        self.rnn = kind(d, width, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * width, tags)

    def forward(self, sentence: Any) -> Any:
        return self.hidden2tag(self.rnn(self.word_embeddings(sentence))[0])


@workload(
    "sequence",
    "GRU tagger in both directions, 40 words",
    batch=32,
    source="PyTorch's sequence-models tutorial, with GRU",
)
def gru_tagger(batch: int) -> Training:
    net = Tagger(5000, 64, 64, 17, nn.GRU)
    data = integers(batch, 40, below=5000), labels(batch, 40, classes=17)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data)


class RNNModel(nn.Module):  # type: ignore[misc]
    """The word language model of PyTorch's examples; (length, n)."""

    def __init__(self, tokens: int, width: int, layers: int) -> None:
        super().__init__()
        self.encoder, self.rnn, self.decoder = (
            nn.Embedding(tokens, width),
            nn.LSTM(width, width, layers),
            nn.Linear(width, tokens),
        )

    def forward(self, x: Any) -> Any:
        return self.decoder(self.rnn(self.encoder(x))[0])


@workload(
    "sequence",
    "LSTM language model, 2 × 200, 2,000 words, 35 steps",
    batch=20,
    source="pytorch/examples word_language_model/model.py",
)
def lstm_language_model(batch: int) -> Training:
    net = RNNModel(2000, 200, 2)
    data = integers(35, batch, below=2000), integers(35, batch, below=2000, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "sgd", 1.0)


class CharRNN(nn.Module):  # type: ignore[misc]
    """A hand-written loop over nn.GRUCell, as makemore writes it; (n, length)."""

    def __init__(self, symbols: int, d: int, width: int, kind: Any) -> None:
        super().__init__()
        self.wte, self.cell, self.lm_head = (
            nn.Embedding(symbols, d),
            kind(d, width),
            nn.Linear(width, symbols),
        )
        self.start = nn.Parameter(xp.zeros((1, width)))

    def forward(self, idx: Any) -> Any:
        x = self.wte(idx)
        h = xp.broadcast_to(self.start, (x.shape[0], self.start.shape[1]))
        hiddens = []
        for i in range(x.shape[1]):
            h = self.cell(x[:, i, :], h)
            hiddens.append(h)
        return self.lm_head(xp.stack(hiddens, axis=1))


@workload(
    "sequence",
    "makemore's GRU, cells in a loop, 16 letters",
    batch=32,
    source="karpathy/makemore makemore.py, RNN",
)
def makemore_gru(batch: int) -> Training:
    net = CharRNN(27, 64, 64, nn.GRUCell)
    data = integers(batch, 16, below=27), integers(batch, 16, below=27, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "adamw")


class HandLSTM(nn.Module):  # type: ignore[misc]
    """LSTM equations as textbooks write them, a Linear for the four gates."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.gates, self.out, self.width = (
            nn.Linear(inputs + width, 4 * width),
            nn.Linear(width, classes),
            width,
        )

    def forward(self, x: Any) -> Any:
        h = c = xp.zeros((x.shape[1], self.width), dtype=x.dtype)
        for t in range(x.shape[0]):
            z = self.gates(xp.concat([x[t, ...], h], axis=1))
            i, f, g, o = (z[:, k * self.width : (k + 1) * self.width] for k in range(4))
            c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
            h = F.sigmoid(o) * F.tanh(c)
        return self.out(h)


@workload("sequence", "LSTM written by hand, 32 → 64, 20 steps", batch=32, source="textbook equations")
def hand_lstm(batch: int) -> Training:
    net = HandLSTM(32, 64, 5)
    return Training(
        net, lambda x, y: F.cross_entropy(net(x), y), (normal(20, batch, 32), labels(batch, classes=5))
    )


class MakemoreMLP(nn.Module):  # type: ignore[misc]
    """Bengio et al. 2003."""

    def __init__(self, symbols: int, block: int, d: int, width: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(symbols + 1, d)
        self.mlp = nn.Sequential(nn.Linear(block * d, width), nn.Tanh(), nn.Linear(width, symbols))
        self.block, self.symbols = block, symbols

    def forward(self, idx: Any) -> Any:
        embs = []
        for _ in range(self.block):
            embs.append(self.wte(idx))
            before = xp.zeros((idx.shape[0], 1), dtype=idx.dtype) + self.symbols
            idx = xp.concat([before, idx[:, :-1]], axis=1)
        return self.mlp(xp.concat(embs, axis=-1))


@workload("sequence", "makemore's MLP, 16 letters", batch=32, source="karpathy/makemore makemore.py, MLP")
def makemore_mlp(batch: int) -> Training:
    net = MakemoreMLP(27, 16, 64, 64)
    data = integers(batch, 16, below=27), integers(batch, 16, below=27, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "adamw")


class NewGELU(nn.Module):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


class CausalSelfAttention(nn.Module):  # type: ignore[misc]
    """Scores, mask and softmax written out (makemore), or PyTorch's function (nanoGPT)."""

    def __init__(self, d: int, heads: int, block: int, flash: bool) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.heads, self.flash = heads, flash
        if not flash:
            self.register_buffer("bias", xp.tril(xp.ones((block, block))))

    def forward(self, x: Any) -> Any:
        n, t, d = x.shape
        qkv = self.c_attn(x)
        q, k, v = (
            xp.permute_dims(
                xp.reshape(qkv[..., i * d : (i + 1) * d], (n, t, self.heads, d // self.heads)), (0, 2, 1, 3)
            )
            for i in range(3)
        )
        if self.flash:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = xp.matmul(q, xp.permute_dims(k, (0, 1, 3, 2))) * (1.0 / math.sqrt(d // self.heads))
            scores = xp.where(self.bias[:t, :t] == 0, -math.inf, scores)
            y = xp.matmul(F.softmax(scores, dim=-1), v)
        return self.c_proj(xp.reshape(xp.permute_dims(y, (0, 2, 1, 3)), (n, t, d)))


class GPTBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, d: int, heads: int, block: int, flash: bool) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = (
            nn.LayerNorm(d),
            CausalSelfAttention(d, heads, block, flash),
            nn.LayerNorm(d),
        )
        act = nn.GELU() if flash else NewGELU()
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), act, nn.Linear(4 * d, d))

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):  # type: ignore[misc]
    def __init__(self, symbols: int, block: int, d: int, layers: int, heads: int, flash: bool = True) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(symbols, d), nn.Embedding(block, d)
        self.h = nn.ModuleList([GPTBlock(d, heads, block, flash) for _ in range(layers)])
        self.ln_f, self.lm_head = nn.LayerNorm(d), nn.Linear(d, symbols, bias=False)

    def forward(self, idx: Any) -> Any:
        x = self.wte(idx) + self.wpe(xp.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


@workload(
    "sequence",
    "makemore's transformer, 4 layers, width 64, 16 letters",
    batch=32,
    source="karpathy/makemore makemore.py, Transformer",
)
def makemore_transformer(batch: int) -> Training:
    net = GPT(27, 16, 64, 4, 4, flash=False)
    data = integers(batch, 16, below=27), integers(batch, 16, below=27, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "adamw")


@workload(
    "sequence",
    "nanoGPT, 4 layers, width 128, 128 letters",
    batch=16,
    source="karpathy/nanoGPT model.py, Shakespeare on a CPU",
)
def nanogpt(batch: int, depth: int = 4, length: int = 128) -> Training:
    net = GPT(65, length, 128, depth, 4)
    data = integers(batch, length, below=65), integers(batch, length, below=65, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "adamw")


class RMSNorm(nn.Module):  # type: ignore[misc]
    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(xp.ones((d,)))

    def forward(self, x: Any) -> Any:
        return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * self.weight


class LlamaBlock(nn.Module):  # type: ignore[misc]
    """RMSNorm, rotary positions, SwiGLU."""

    def __init__(self, d: int, heads: int, length: int) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = RMSNorm(d), RMSNorm(d)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.w1, self.w2, self.w3 = (
            nn.Linear(d, 2 * d, bias=False),
            nn.Linear(2 * d, d, bias=False),
            nn.Linear(d, 2 * d, bias=False),
        )
        self.heads = heads
        half = d // heads // 2
        angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(half) / half)[None, :]
        self.register_buffer("cos", array(np.cos(angles).astype(np.float32)))
        self.register_buffer("sin", array(np.sin(angles).astype(np.float32)))

    def _rotary(self, x: Any) -> Any:
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        return xp.concat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], axis=-1)

    def forward(self, x: Any) -> Any:
        n, t, d = x.shape
        y = self.attention_norm(x)
        q, k, v = (
            xp.permute_dims(xp.reshape(w(y), (n, t, self.heads, -1)), (0, 2, 1, 3))
            for w in (self.wq, self.wk, self.wv)
        )
        y = F.scaled_dot_product_attention(self._rotary(q), self._rotary(k), v, is_causal=True)
        x = x + self.wo(xp.reshape(xp.permute_dims(y, (0, 2, 1, 3)), (n, t, d)))
        y = self.ffn_norm(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


@workload(
    "sequence", "Llama's blocks, 4 layers, width 128, 64 tokens", batch=8, source="karpathy/llama2.c model.py"
)
def llama(batch: int) -> Training:
    net = nn.Sequential(
        nn.Embedding(512, 128),
        *(LlamaBlock(128, 4, 64) for _ in range(4)),
        RMSNorm(128),
        nn.Linear(128, 512, bias=False),
    )
    data = integers(batch, 64, below=512), integers(batch, 64, below=512, seed=1)
    return Training(net, lambda x, y: tokens_loss(net(x), y), data, "adamw")


class Seq2Seq(nn.Module):  # type: ignore[misc]
    """Encoder GRU, decoder with Bahdanau's attention at every step."""

    def __init__(self, words: int, d: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, d), nn.Embedding(words, d)
        self.encoder, self.decoder = nn.GRU(d, d, batch_first=True), nn.GRUCell(2 * d, d)
        self.Wa, self.Ua, self.Va = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 1)
        self.out = nn.Linear(d, words)

    def forward(self, source: Any, target: Any) -> Any:
        keys, last = self.encoder(self.source(source))
        h, inputs, projected = last[0], self.target(target), self.Ua(keys)
        outputs = []
        for t in range(inputs.shape[1]):
            scores = self.Va(xp.tanh(self.Wa(h)[:, None, :] + projected))
            context = xp.sum(F.softmax(scores, dim=1) * keys, axis=1)
            h = self.decoder(xp.concat([inputs[:, t, :], context], axis=-1), h)
            outputs.append(h)
        return self.out(xp.stack(outputs, axis=1))


@workload(
    "sequence",
    "translation by GRU with attention, 10 words, width 128",
    batch=32,
    source="PyTorch's seq2seq translation tutorial",
)
def seq2seq(batch: int) -> Training:
    net = Seq2Seq(2800, 128)
    data = tuple(integers(batch, 10, below=2800, seed=i) for i in range(3))
    return Training(net, lambda s, x, y: tokens_loss(net(s, x), y), data, inputs=2)


class TranslationTransformer(nn.Module):  # type: ignore[misc]
    def __init__(self, words: int, d: int, length: int) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(words, d), nn.Parameter(xp.zeros((1, length, d)))
        self.transformer = nn.Transformer(d, 4, 2, 2, 4 * d, 0.0, batch_first=True)
        self.out = nn.Linear(d, words)
        self.register_buffer("mask", array(np.triu(np.full((length, length), -1e9, np.float32), 1)))

    def forward(self, source: Any, target: Any) -> Any:
        y = self.transformer(
            self.embed(source) + self.positions, self.embed(target) + self.positions, tgt_mask=self.mask
        )
        return self.out(y)


@workload(
    "sequence",
    "nn.Transformer, 2 + 2 layers, width 128, 16 words",
    batch=16,
    source="PyTorch's translation tutorial",
)
def translation_transformer(batch: int) -> Training:
    net = TranslationTransformer(1000, 128, 16)
    data = tuple(integers(batch, 16, below=1000, seed=i) for i in range(3))
    return Training(net, lambda s, x, y: tokens_loss(net(s, x), y), data, inputs=2)


class EncoderClassifier(nn.Module):  # type: ignore[misc]
    def __init__(self, words: int, d: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, d)
        layer = nn.TransformerEncoderLayer(d, 4, 4 * d, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(d, 2)

    def forward(self, x: Any) -> Any:
        return self.out(xp.mean(self.encoder(self.embed(x)), axis=1))


@workload(
    "sequence",
    "transformer encoder for texts, 2 layers, 100 words",
    batch=16,
    source="Keras' IMDB transformer, nn.TransformerEncoder",
)
def transformer_encoder(batch: int) -> Training:
    net = EncoderClassifier(5000, 64, 2)
    data = integers(batch, 100, below=5000), labels(batch, classes=2)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


class TextCNN(nn.Module):  # type: ignore[misc]
    def __init__(self, words: int, d: int, filters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, d)
        self.convs = nn.ModuleList([nn.Conv1d(d, filters, k) for k in (3, 4, 5)])
        self.fc = nn.Linear(3 * filters, 2)

    def forward(self, x: Any) -> Any:
        x = xp.permute_dims(self.embed(x), (0, 2, 1))
        return self.fc(xp.concat([xp.max(F.relu(conv(x)), axis=-1) for conv in self.convs], axis=1))


@workload(
    "sequence", "TextCNN, 3 widths × 100 filters, 60 words", batch=50, source="Kim 2014; yoonkim/CNN_sentence"
)
def text_cnn(batch: int) -> Training:
    net = TextCNN(10000, 128, 100)
    data = integers(batch, 60, below=10000), labels(batch, classes=2)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


class TemporalBlock(nn.Module):  # type: ignore[misc]
    """Two causal dilated convolutions and a shortcut."""

    def __init__(self, a: int, b: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.pad = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(a, b, kernel, padding=self.pad, dilation=dilation)
        self.conv2 = nn.Conv1d(b, b, kernel, padding=self.pad, dilation=dilation)
        self.downsample = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = F.relu(self.conv1(x)[:, :, : -self.pad])
        y = F.relu(self.conv2(y)[:, :, : -self.pad])
        return F.relu(y + self.downsample(x))


class TCN(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, width: int, levels: int, kernel: int, classes: int) -> None:
        super().__init__()
        self.tcn = nn.Sequential(
            *(TemporalBlock(inputs if i == 0 else width, width, kernel, 2**i) for i in range(levels))
        )
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        return self.linear(self.tcn(x)[:, :, -1])


@workload(
    "sequence",
    "TCN, 6 levels, width 25, kernel 7, sequential MNIST / 2",
    batch=32,
    source="locuslab/TCN tcn.py",
)
def tcn(batch: int) -> Training:
    net = TCN(1, 25, 6, 7, 10)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), (normal(batch, 1, 392), labels(batch)))


class WaveNet(nn.Module):  # type: ignore[misc]
    def __init__(self, classes: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, width)
        self.dilated = nn.ModuleList([nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(layers)])
        self.residual = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(layers)])
        self.skip = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(layers)])
        self.end1, self.end2 = nn.Conv1d(width, width, 1), nn.Conv1d(width, classes, 1)
        self.width = width

    def forward(self, x: Any) -> Any:
        x = xp.permute_dims(self.embed(x), (0, 2, 1))
        total: Any = 0.0
        for i, (conv, residual, skip) in enumerate(zip(self.dilated, self.residual, self.skip, strict=True)):
            y = conv(F.pad(x, (2**i, 0)))
            y = F.tanh(y[:, : self.width]) * F.sigmoid(y[:, self.width :])
            total = total + skip(y)
            x = x + residual(y)
        return self.end2(F.relu(self.end1(F.relu(total))))


@workload(
    "sequence", "WaveNet, 8 dilated layers, width 32, 512 samples", batch=4, source="van den Oord et al. 2016"
)
def wavenet(batch: int) -> Training:
    net = WaveNet(256, 32, 8)
    data = integers(batch, 512, below=256), integers(batch, 512, below=256, seed=1)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


class DeepAR(nn.Module):  # type: ignore[misc]
    """An LSTM that says mean and spread of the next value."""

    def __init__(self, covariates: int, series: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(series, 20)
        self.lstm = nn.LSTM(1 + covariates + 20, width, layers, batch_first=True)
        self.mu, self.sigma = nn.Linear(width, 1), nn.Linear(width, 1)

    def forward(self, x: Any, which: Any) -> Any:
        e = xp.broadcast_to(self.embedding(which)[:, None, :], (x.shape[0], x.shape[1], 20))
        h = self.lstm(xp.concat([x, e], axis=-1))[0]
        return self.mu(h)[..., 0], F.softplus(self.sigma(h)[..., 0])


@workload(
    "sequence",
    "DeepAR, LSTM 3 × 40, 96 steps",
    batch=64,
    source="Salinas et al. 2020; zhykoties/TimeSeries model/net.py",
)
def deepar(batch: int) -> Training:
    net = DeepAR(4, 370, 40, 3)

    def loss(x: Any, which: Any, target: Any) -> Any:
        mu, sigma = net(x, which)
        return xp.mean(xp.log(sigma) + 0.5 * ((target - mu) / sigma) ** 2)

    return Training(
        net, loss, (normal(batch, 96, 5), integers(batch, below=370), normal(batch, 96, seed=1)), inputs=2
    )
