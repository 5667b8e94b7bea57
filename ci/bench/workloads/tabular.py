"""Rows of numbers and categories."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ci.bench.library import F, nn, xp
from ci.bench.workload import Training, integers, labels, normal, uniform, workload


def _mlp(widths: tuple[int, ...], act: Any = nn.ReLU) -> Any:
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def _classifier(
    net: Any, batch: int, inputs: int, classes: int, optimizer: str = "adam", lr: float = 1e-3
) -> Training:
    data = normal(batch, inputs), labels(batch, classes=classes)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data, optimizer, lr)


@workload("tabular", "tiny MLP, 2-16-1, tanh", batch=32, source="XOR and product toys of textbooks")
def tiny_mlp(batch: int) -> Training:
    net = _mlp((2, 16, 1), nn.Tanh)
    x = normal(batch, 2)
    return Training(net, lambda x, y: F.mse_loss(net(x), y), (x, (x[:, :1] * x[:, 1:])))


@workload("tabular", "digits MLP, 64-128-64-10", batch=64, source="scikit-learn's digits")
def digits_mlp(batch: int, depth: int = 0) -> Training:
    return _classifier(_mlp((64, *(128,) * depth, 10) if depth else (64, 128, 64, 10)), batch, 64, 10)


@workload("tabular", "MNIST MLP, 784-512-512-10", batch=128, source="PyTorch's quickstart tutorial")
def mnist_mlp(batch: int) -> Training:
    return _classifier(_mlp((784, 512, 512, 10)), batch, 784, 10)


@workload("tabular", "MNIST MLP with SGD", batch=128, source="PyTorch's quickstart tutorial")
def mnist_mlp_sgd(batch: int) -> Training:
    return _classifier(_mlp((784, 512, 512, 10)), batch, 784, 10, "sgd", 1e-2)


@workload("tabular", "wide MLP, 1024-2048-2048-1000, SGD", batch=256)
def wide_mlp(batch: int) -> Training:
    return _classifier(_mlp((1024, 2048, 2048, 1000)), batch, 1024, 1000, "sgd", 1e-2)


@workload(
    "tabular", "self-normalizing MLP, 8 SELU layers, width 256", batch=128, source="Klambauer et al. 2017"
)
def snn(batch: int) -> Training:
    return _classifier(_mlp((54, *(256,) * 8, 7), nn.SELU), batch, 54, 7, "momentum", 1e-2)


class TabularModel(nn.Module):  # type: ignore[misc]
    """fastai's: embeddings of categories beside normalised numbers, blocks of Linear, ReLU, BatchNorm."""

    def __init__(self, sizes: list[tuple[int, int]], numbers: int, out: int, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(n, d) for n, d in sizes])
        self.bn_cont = nn.BatchNorm1d(numbers)
        widths = (sum(d for _, d in sizes) + numbers, *layers)
        parts: list[Any] = []
        for a, b in itertools.pairwise(widths):
            parts += [nn.Linear(a, b, bias=False), nn.ReLU(), nn.BatchNorm1d(b)]
        self.layers = nn.Sequential(*parts, nn.Linear(widths[-1], out))

    def forward(self, x_cat: Any, x_cont: Any) -> Any:
        x = [e(x_cat[:, i]) for i, e in enumerate(self.embeds)]
        return self.layers(xp.concat([*x, self.bn_cont(x_cont)], axis=1))


@workload(
    "tabular",
    "embeddings of 8 categories, 200-100, batch norm",
    batch=256,
    source="fastai TabularModel, Adult",
)
def tabular_embeddings(batch: int) -> Training:
    sizes = [(10, 6), (17, 8), (8, 5), (16, 8), (7, 5), (6, 4), (3, 3), (43, 13)]
    net = TabularModel(sizes, 6, 2, (200, 100))
    x_cat = np.stack([integers(batch, below=n, seed=i) for i, (n, _) in enumerate(sizes)], axis=1)
    data = x_cat, normal(batch, 6), labels(batch, classes=2)
    return Training(net, lambda c, x, y: F.cross_entropy(net(c, x), y), data, inputs=2)


class FTTransformer(nn.Module):  # type: ignore[misc]
    """A token for each feature, then pre-norm transformer blocks with ReGLU."""

    def __init__(self, numbers: int, categories: int, d: int, blocks: int, heads: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(xp.zeros((numbers, d)) + 0.1)
        self.bias = nn.Parameter(xp.zeros((numbers, d)))
        self.categories = nn.Embedding(categories, d)
        self.cls = nn.Parameter(xp.zeros((1, 1, d)))
        self.blocks = nn.ModuleList([FTBlock(d, heads, first=i == 0) for i in range(blocks)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, out)

    def forward(self, x_num: Any, x_cat: Any) -> Any:
        n = x_num.shape[0]
        tokens = x_num[:, :, None] * self.weight + self.bias
        cls = xp.broadcast_to(self.cls, (n, 1, self.cls.shape[-1]))
        x = xp.concat([cls, tokens, self.categories(x_cat)], axis=1)
        for block in self.blocks:
            x = block(x)
        return self.head(F.relu(self.norm(x[:, 0])))


class FTBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, d: int, heads: int, first: bool) -> None:
        super().__init__()
        self.norm1 = nn.Identity() if first else nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, heads, batch_first=True)
        self.norm2, self.ff1, self.ff2 = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(2 * d, d)

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = self.ff1(self.norm2(x))
        half = y.shape[-1] // 2
        return x + self.ff2(y[..., :half] * F.relu(y[..., half:]))


@workload(
    "tabular", "FT-Transformer, 14 features, 3 blocks, width 64", batch=128, source="Gorishniy et al. 2021"
)
def ft_transformer(batch: int) -> Training:
    net = FTTransformer(6, 120, 64, 3, 8, 2)
    data = normal(batch, 6), integers(batch, 8, below=120), labels(batch, classes=2)
    return Training(net, lambda x, c, y: F.cross_entropy(net(x, c), y), data, "adamw", 1e-4, inputs=2)


class TabTransformer(nn.Module):  # type: ignore[misc]
    """Categories through nn.TransformerEncoder, then an MLP with the numbers."""

    def __init__(self, categories: int, columns: int, numbers: int, d: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(categories, d)
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(numbers)
        inputs = columns * d + numbers
        self.mlp = _mlp((inputs, 4 * inputs, 2 * inputs, 1))

    def forward(self, x_cat: Any, x_num: Any) -> Any:
        x = self.encoder(self.embed(x_cat))
        return self.mlp(xp.concat([xp.reshape(x, (x.shape[0], -1)), self.norm(x_num)], axis=1))[:, 0]


@workload(
    "tabular", "TabTransformer, 8 categories, 4 layers, width 32", batch=128, source="Huang et al. 2020"
)
def tab_transformer(batch: int) -> Training:
    net = TabTransformer(200, 8, 5, 32, 4, 8)
    data = integers(batch, 8, below=200), normal(batch, 5), uniform(batch).round().astype(np.float32)
    return Training(
        net, lambda c, x, y: F.binary_cross_entropy_with_logits(net(c, x), y), data, "adamw", 1e-4, inputs=2
    )


class WideAndDeep(nn.Module):  # type: ignore[misc]
    """DeepFM's form: a linear part, products of pairs, and an MLP over one large table."""

    def __init__(self, rows: int, fields: int, d: int) -> None:
        super().__init__()
        self.linear, self.embedding = nn.Embedding(rows, 1), nn.Embedding(rows, d)
        self.bias = nn.Parameter(xp.zeros((1,)))
        self.mlp = _mlp((fields * d, 400, 400, 1))

    def forward(self, x: Any) -> Any:
        e = self.embedding(x)
        wide = xp.sum(self.linear(x), axis=(1, 2)) + self.bias
        s = xp.sum(e, axis=1)
        pairs = 0.5 * xp.sum(s * s - xp.sum(e * e, axis=1), axis=-1)
        return wide + pairs + self.mlp(xp.reshape(e, (e.shape[0], -1)))[:, 0]


def _clicks(batch: int, rows: int, fields: int) -> tuple[Any, Any]:
    return integers(batch, fields, below=rows), uniform(batch, seed=1).round().astype(np.float32)


@workload(
    "tabular", "DeepFM, table of 200,000 × 16, SGD", batch=256, source="Guo et al. 2017; Criteo's 26 fields"
)
def deepfm_sgd(batch: int) -> Training:
    net = WideAndDeep(200_000, 26, 16)
    data = _clicks(batch, 200_000, 26)
    return Training(net, lambda x, y: F.binary_cross_entropy_with_logits(net(x), y), data, "sgd", 1e-2)


@workload("tabular", "DeepFM, table of 20,000 × 16, Adam", batch=256, source="Guo et al. 2017")
def deepfm(batch: int) -> Training:
    net = WideAndDeep(20_000, 26, 16)
    data = _clicks(batch, 20_000, 26)
    return Training(net, lambda x, y: F.binary_cross_entropy_with_logits(net(x), y), data)


class NeuralCF(nn.Module):  # type: ignore[misc]
    """Neural collaborative filtering: a product of factors beside an MLP."""

    def __init__(self, users: int, items: int, d: int) -> None:
        super().__init__()
        self.user_gmf, self.item_gmf = nn.Embedding(users, d), nn.Embedding(items, d)
        self.user_mlp, self.item_mlp = nn.Embedding(users, 4 * d), nn.Embedding(items, 4 * d)
        self.mlp = nn.Sequential(_mlp((8 * d, 4 * d, 2 * d, d)), nn.ReLU())
        self.out = nn.Linear(2 * d, 1)

    def forward(self, user: Any, item: Any) -> Any:
        gmf = self.user_gmf(user) * self.item_gmf(item)
        mlp = self.mlp(xp.concat([self.user_mlp(user), self.item_mlp(item)], axis=-1))
        return self.out(xp.concat([gmf, mlp], axis=-1))[:, 0]


@workload("tabular", "neural collaborative filtering, MovieLens-1M", batch=256, source="He et al. 2017")
def neural_cf(batch: int) -> Training:
    net = NeuralCF(6040, 3706, 8)
    data = (
        integers(batch, below=6040),
        integers(batch, below=3706, seed=2),
        uniform(batch, seed=1).round().astype(np.float32),
    )
    return Training(net, lambda u, i, y: F.binary_cross_entropy_with_logits(net(u, i), y), data, inputs=2)


class Factors(nn.Module):  # type: ignore[misc]
    """Matrix factorization: the product of a user's and an item's factors, and a bias of each; gradients are rows of the tables."""

    def __init__(self, users: int, items: int, d: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, d, sparse=True), nn.Embedding(items, d, sparse=True)
        self.user_bias, self.item_bias = (
            nn.Embedding(users, 1, sparse=True),
            nn.Embedding(items, 1, sparse=True),
        )

    def forward(self, user: Any, item: Any) -> Any:
        product = xp.sum(self.users(user) * self.items(item), axis=-1)
        return product + self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]


@workload(
    "tabular",
    "matrix factorization, 200,000 × 64 and 20,000 × 64, SparseAdam",
    batch=512,
    source="Koren et al. 2009",
)
def matrix_factorization(batch: int) -> Training:
    net = Factors(200_000, 20_000, 64)
    data = (
        integers(batch, below=200_000),
        integers(batch, below=20_000, seed=2),
        uniform(batch, seed=1).round().astype(np.float32),
    )
    loss = F.binary_cross_entropy_with_logits
    return Training(net, lambda u, i, y: loss(net(u, i), y), data, "sparse adam", 1e-3, inputs=2)


@workload(
    "tabular",
    "autoencoder, 784-128-64-12-3 and back",
    batch=128,
    source="the usual MNIST autoencoder in PyTorch",
)
def autoencoder(batch: int) -> Training:
    net = nn.Sequential(_mlp((784, 128, 64, 12, 3)), _mlp((3, 12, 64, 128, 784)), nn.Tanh())
    return Training(net, lambda x: F.mse_loss(net(x), x), (uniform(batch, 784, low=-1),))


class NBeats(nn.Module):  # type: ignore[misc]
    """Generic blocks with backcast and forecast."""

    def __init__(self, blocks: int, backcast: int, forecast: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(_mlp((backcast, *(width,) * 4)), nn.ReLU()) for _ in range(blocks)]
        )
        self.heads = nn.ModuleList([nn.Linear(width, backcast + forecast) for _ in range(blocks)])
        self.backcast = backcast

    def forward(self, x: Any) -> Any:
        forecast: Any = 0.0
        for block, head in zip(self.blocks, self.heads, strict=True):
            theta = head(block(x))
            x = x - theta[:, : self.backcast]
            forecast = forecast + theta[:, self.backcast :]
        return forecast


@workload("tabular", "N-BEATS, 6 generic blocks, width 256", batch=256, source="Oreshkin et al. 2020")
def nbeats(batch: int) -> Training:
    net = NBeats(6, 60, 12, 256)
    return Training(
        net, lambda x, y: F.smooth_l1_loss(net(x), y), (normal(batch, 60), normal(batch, 12, seed=1))
    )
