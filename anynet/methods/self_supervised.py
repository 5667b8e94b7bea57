"""Learning without labels: contrastive (SimCLR), by a target that follows (BYOL), by variance and covariance (VICReg), by filling in masked
patches (MAE); and the linear probe that measures what was learned.

Sources: Chen et al.: A simple framework for contrastive learning of visual representations (2020); Grill et al.: Bootstrap your own latent
(2020); Bardes, Ponce and LeCun: VICReg (2021); He et al.: Masked autoencoders are scalable vision learners (2021).
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

from anynet import random
from anynet.data.transforms import Transform
from anynet.dtypes import int64
from anynet.methods.checks import check_count, check_number
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.activations import ReLU
from anynet.nn.containers import Sequential
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm1d, LayerNorm
from anynet.nn.transformer import TransformerEncoder, TransformerEncoderLayer
from anynet.ops.creation import arange, asarray, eye, zeros
from anynet.ops.elementwise import sqrt, where
from anynet.ops.indexing import take_along_axis
from anynet.ops.linear import matmul
from anynet.ops.manipulation import astype, broadcast_to, concat, expand_dims, permute_dims, reshape
from anynet.ops.reductions import argmax, cumulative_sum, mean, var
from anynet.ops.reductions import sum as sum_over
from anynet.ops.searching import argsort
from anynet.optim.lbfgs import LBFGS
from anynet.streams import Generator
from anynet.tensor import Buffer, Parameter, Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = [
    "BYOL", "MaskedAutoencoder", "Probe", "TwoViews", "byol_loss", "linear_probe", "nt_xent_loss", "patchify", "projector",
    "random_masking", "unpatchify", "vicreg_loss",
]  # fmt: skip


def _pair(where: str, a: ArrayLike, b: ArrayLike, least: int = 1) -> tuple[Tensor, Tensor]:
    if len(a.shape) != 2 or tuple(a.shape) != tuple(b.shape):
        msg = f"{where}: both views must have one shape (n, d), got {tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(msg)
    if a.shape[0] < least:
        msg = f"{where}: there must be at least {least} samples in a batch, got {a.shape[0]}"
        raise ValueError(msg)
    return asarray(a), asarray(b)


# ----- losses of two views -----


def nt_xent_loss(a: ArrayLike, b: ArrayLike, temperature: float = 0.5) -> Tensor:
    """SimCLR's loss: −log(exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ)), s = cosine, averaged over the 2n views i, j the other view of i.

    Shapes: two views a, b (n, d) of the same n samples → a number; n ≥ 2, since the other samples are the negatives.

    Errors: `ShapeError` for views of different shapes; ValueError for n < 2 and a temperature that is not > 0.

    >>> import anynet as an
    >>> a = an.asarray([[1.0, 0.0], [0.0, 1.0]])
    >>> round(an.methods.nt_xent_loss(a, a, temperature=1.0).item(), 4)  # log(e + 2) − 1
    0.5514

    Source: Chen et al. (2020), equation 1.
    """
    check_number("nt_xent_loss", "temperature", temperature, 0, open=True)
    a, b = _pair("nt_xent_loss", a, b, 2)
    n = int(a.shape[0])
    z = F.normalize(concat([a, b], axis=0), dim=-1)
    s = matmul(z, permute_dims(z, (1, 0))) / temperature
    # a view is no negative of itself
    s = where(
        eye(2 * n, dtype=s.dtype, device=s.device) > 0, asarray(-math.inf, dtype=s.dtype, device=s.device), s
    )
    other = concat([arange(n, 2 * n, device=s.device), arange(n, device=s.device)], axis=0)
    return F.cross_entropy(s, other)


def vicreg_loss(
    a: ArrayLike,
    b: ArrayLike,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """VICReg's loss λ·s(a, b) + μ·(v(a) + v(b)) / 2 + ν·(c(a) + c(b)).

    s is the mean squared difference; v(z) = mean_j max(0, 1 − √(Var z_j + ε)) keeps each column's deviation at 1 or more;
    c(z) = Σ_{i ≠ j} Cov(z)²_ij / d makes the columns uncorrelated. Variances are divided by n − 1. λ, μ, ν are `invariance`, `variance`,
    `covariance`.

    Shapes: a, b (n, d) → a number, n ≥ 2. Errors: `ShapeError` for views of different shapes; ValueError for n < 2 and negative weights.

    >>> import anynet as an
    >>> a = an.asarray([[1.0, -1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])  # deviations above 1, uncorrelated
    >>> an.methods.vicreg_loss(a, a).item()
    0.0

    Source: Bardes et al. (2021), equations 1 to 6, with the halves of v that the authors' code has.
    """
    for name, value in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        check_number("vicreg_loss", name, value, 0)
    check_number("vicreg_loss", "eps", eps, 0, open=True)
    a, b = _pair("vicreg_loss", a, b, 2)
    spread: Any = 0.0
    correlated: Any = 0.0
    for z in (a, b):
        n, d = z.shape
        spread = spread + mean(F.relu(1.0 - sqrt(var(z, axis=0, correction=1) + eps)))
        z = z - mean(z, axis=0, keepdims=True)
        cov = matmul(permute_dims(z, (1, 0)), z) / (n - 1)
        off = cov * (1.0 - eye(d, dtype=cov.dtype, device=cov.device))
        correlated = correlated + sum_over(off * off) / d
    difference = a - b
    total: Tensor = (
        invariance * mean(difference * difference) + variance * spread / 2.0 + covariance * correlated
    )
    return total


def byol_loss(prediction: ArrayLike, target: ArrayLike) -> Tensor:
    """BYOL's loss 2 − 2 q·z / (‖q‖ ‖z‖), the mean over the samples; no gradient flows to the target z.

    Shapes: (n, d), (n, d) → a number. Errors: `ShapeError` for views of different shapes.

    >>> import anynet as an
    >>> an.methods.byol_loss(an.asarray([[2.0, 0.0]]), an.asarray([[0.0, 1.0]])).item()
    2.0

    Source: Grill et al. (2020), equation 2.
    """
    q, z = _pair("byol_loss", prediction, target)
    return mean(2.0 - 2.0 * F.cosine_similarity(q, z.detach(), dim=-1))


def projector(features: int, hidden: int = 128, out: int = 64) -> Sequential:
    """The head on an encoder that the losses are taken of: linear, batch norm, ReLU, linear. (n, features) → (n, out).

    >>> import anynet as an
    >>> an.methods.projector(32)(an.zeros((4, 32))).shape
    (4, 64)
    """
    return Sequential(Linear(features, hidden, bias=False), BatchNorm1d(hidden), ReLU(), Linear(hidden, out))


class BYOL(Module):
    """Bootstrap your own latent: the network predicts, from one view, what a slowly following copy of it makes of the other.

    loss = Σ over both orders of `byol_loss`(q(g(f(x₁))), g′(f′(x₂))); after each step of the optimizer `update_target` moves the copy:
    ξ ← τ ξ + (1 − τ) θ. The target gets no gradient, and its batch norms use their batch, as the paper's.

    Parameters:
      encoder: f, a Module (n, …) → (n, features), what is kept afterwards.
      features: how many f gives.
      hidden, out: the sizes of projector g and predictor q.
      decay: τ, in [0, 1].

    Errors: ValueError for sizes below 1 and a decay outside [0, 1].

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> byol = an.methods.BYOL(an.nn.Linear(3, 4), 4, hidden=8, out=2)
    >>> x = an.random.normal((6, 3))
    >>> byol(x, x + 0.1).backward()
    >>> byol.target[0].weight.grad is None, byol.online[0].weight.grad is not None
    (True, True)
    >>> byol.update_target()

    Source: Grill et al. (2020).
    """

    def __init__(
        self, encoder: Module, features: int, hidden: int = 128, out: int = 64, decay: float = 0.99
    ) -> None:
        for name, value in (("features", features), ("hidden", hidden), ("out", out)):
            check_count("BYOL", name, value)
        self.decay = check_number("BYOL", "decay", decay, 0, 1)
        self.online = Sequential(encoder, projector(features, hidden, out))
        self.predictor = projector(out, hidden, out)
        self.target = copy.deepcopy(self.online)
        for p in self.target.parameters():
            p.requires_grad = False

    @property
    def encoder(self) -> Module:
        """The network f."""
        found: Module = self.online[0]
        return found

    def forward(self, first: ArrayLike, second: ArrayLike) -> Tensor:
        """The loss of two views of a batch, in both orders."""
        with no_grad():
            targets = [self.target(first).detach(), self.target(second).detach()]
        a = byol_loss(self.predictor(self.online(first)), targets[1])
        return a + byol_loss(self.predictor(self.online(second)), targets[0])

    def update_target(self, decay: float | None = None) -> None:
        """ξ ← τ ξ + (1 − τ) θ; with another τ than `decay` where a schedule says so."""
        tau = self.decay if decay is None else check_number("update_target", "decay", decay, 0, 1)
        with no_grad():
            for mine, theirs in zip(self.target.parameters(), self.online.parameters(), strict=True):
                mine.assign_(tau * mine.detach() + (1.0 - tau) * theirs.detach())


class TwoViews:
    """Two pictures of each, changed by a transform of `anynet.data.transforms` with independent draws.

    ``TwoViews(t)(x)`` gives (t(x), t(x)); `other` is a transform of its own for the second view. `generator` as for transforms.

    >>> import anynet as an
    >>> views = an.methods.TwoViews(an.data.transforms.RandomAffine(15, translate=(0.1, 0.1)))
    >>> a, b = views(an.random.uniform((4, 1, 8, 8)))
    >>> a.shape == b.shape, bool(an.all(a == b))
    (True, False)
    """

    def __init__(self, transform: Transform, other: Transform | None = None) -> None:
        for t in (transform, other):
            if t is not None and not callable(t):
                msg = f"TwoViews: a transform must be callable, got {type(t).__name__}"
                raise TypeError(msg)
        self.transform, self.other = transform, other or transform

    def __call__(self, x: Any, *, generator: Generator | None = None) -> tuple[Any, Any]:
        return self.transform(x, generator=generator), self.other(x, generator=generator)


# ----- masked autoencoders -----


def patchify(x: ArrayLike, size: int) -> Tensor:
    """Pictures as rows of patches: (n, channels, h, w) → (n, h/size · w/size, size² · channels), as in MAE's code (colours last).

    Errors: `ShapeError` for pictures that `size` does not divide.

    >>> import anynet as an
    >>> an.methods.patchify(an.reshape(an.arange(16), (1, 1, 4, 4)), 2).tolist()[0][1]
    [2, 3, 6, 7]
    """
    check_count("patchify", "size", size)
    shape = tuple(x.shape)
    if len(shape) != 4 or shape[2] % size or shape[3] % size:
        msg = f"patchify: pictures must be (n, channels, height, width), both sides divisible by {size}, got {shape}"
        raise ShapeError(msg)
    n, c, h, w = shape
    y = reshape(x, (n, c, h // size, size, w // size, size))
    return reshape(permute_dims(y, (0, 2, 4, 3, 5, 1)), (n, (h // size) * (w // size), size * size * c))


def unpatchify(patches: ArrayLike, size: int, channels: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: (n, count, size² · channels) → (n, channels, height, width).

    Errors: `ShapeError` where the numbers do not fit.

    >>> import anynet as an
    >>> x = an.random.uniform((2, 3, 4, 6))
    >>> bool(an.all(an.methods.unpatchify(an.methods.patchify(x, 2), 2, 3, 4, 6) == x))
    True
    """
    shape = tuple(patches.shape)
    rows, columns = height // size, width // size
    if (
        len(shape) != 3
        or shape[1:] != (rows * columns, size * size * channels)
        or height % size
        or width % size
    ):
        msg = (
            f"unpatchify: {height}×{width} pictures of {channels} channels have patches (n, {rows * columns}, "
            f"{size * size * channels}) of {size}×{size}, got {shape}"
        )
        raise ShapeError(msg)
    y = reshape(patches, (shape[0], rows, columns, size, size, channels))
    return reshape(permute_dims(y, (0, 5, 1, 3, 2, 4)), (shape[0], channels, height, width))


def random_masking(
    n: int, count: int, ratio: float = 0.75, *, device: str | None = None, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Which patches are kept, and a mask that is True where a patch is hidden: (n, kept) sorted indices and (n, count) booleans.

    Of `count` patches round(count · (1 − ratio)) are kept, at least one and not all, each choice equally likely, and independently for
    each of the n pictures.

    Errors: ValueError for a ratio outside (0, 1) and fewer than 2 patches.

    >>> import anynet as an
    >>> kept, mask = an.methods.random_masking(3, 16, 0.75)
    >>> kept.shape, an.sum(an.astype(mask, an.int64), axis=1).tolist()
    ((3, 4), [12, 12, 12])

    Source: He et al. (2021), section 3.
    """
    check_count("random_masking", "n", n)
    check_count("random_masking", "count", count, least=2)
    check_number("random_masking", "ratio", ratio, 0, 1, open=True)
    keep = min(max(1, round(count * (1 - ratio))), count - 1)
    order = argsort(random.uniform((n, count), device=device, generator=generator), axis=1)
    rank = argsort(order, axis=1)
    mask = rank >= keep
    # the kept ones in the order of their places: True sorts behind False
    kept = argsort(count * astype(mask, int64) + arange(count, device=mask.device), axis=1)[:, :keep]
    return kept, mask


def _positions(rows: int, columns: int, width: int) -> list[list[float]]:
    """Sines and cosines of the row and of the column, width/4 frequencies each."""
    quarter = width // 4
    rates = [1.0 / 10_000 ** (i / quarter) for i in range(quarter)]

    def waves(at: int) -> list[float]:
        return [math.sin(at * r) for r in rates] + [math.cos(at * r) for r in rates]

    return [waves(column) + waves(row) for row in range(rows) for column in range(columns)]


class MaskedAutoencoder(Module):
    """A transformer that sees a quarter of the patches and draws the others: the encoder works on the visible ones alone, a smaller decoder
    gets mask tokens in the places of the others, and the loss is the mean squared error on the hidden patches only.

    Shapes: pictures (n, in_channels, height, width) → the loss; `encode` gives features (n, width), the mean over all patches.

    Parameters:
      size, patch_size, in_channels: of the pictures (a side, or height and width) and of the patches.
      width, depth, num_heads: of the encoder; decoder_width, decoder_depth of the decoder. Widths must be divisible by 4 and num_heads.
      ratio: the share of patches that is hidden.
      norm_pixels: compare with patches of mean 0 and variance 1, as the paper's best.

    Errors: ValueError for sizes that do not divide.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> mae = an.methods.MaskedAutoencoder(size=8, patch_size=2, width=16, depth=1, num_heads=2, decoder_width=8, decoder_depth=1)
    >>> x = an.random.uniform((3, 1, 8, 8))
    >>> mae(x).shape, mae.encode(x).shape, mae.reconstruct(x)[0].shape
    ((), (3, 16), (3, 1, 8, 8))

    Source: He et al. (2021); positions: sines and cosines of row and column, fixed.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 28,
        patch_size: int = 4,
        in_channels: int = 1,
        width: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        decoder_width: int = 32,
        decoder_depth: int = 1,
        ratio: float = 0.75,
        norm_pixels: bool = False,
    ) -> None:
        where = "MaskedAutoencoder"
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        sizes = {
            "height": self.size[0], "width of pictures": self.size[1], "patch_size": patch_size, "in_channels": in_channels,
            "width": width, "depth": depth, "num_heads": num_heads, "decoder_width": decoder_width, "decoder_depth": decoder_depth,
        }  # fmt: skip
        for name, value in sizes.items():
            check_count(where, name, value)
        if self.size[0] % patch_size or self.size[1] % patch_size:
            msg = f"{where}: patch_size must divide the picture, got {patch_size} and {self.size[0]}×{self.size[1]}"
            raise ValueError(msg)
        for name, value in (("width", width), ("decoder_width", decoder_width)):
            if value % 4 or value % num_heads:
                msg = f"{where}: {name} must be divisible by 4 and by num_heads, got {value} and {num_heads}"
                raise ValueError(msg)
        self.ratio = check_number(where, "ratio", ratio, 0, 1, open=True)
        self.patch_size, self.in_channels, self.norm_pixels = patch_size, in_channels, norm_pixels
        rows, columns = self.size[0] // patch_size, self.size[1] // patch_size
        self.count = rows * columns
        pixels = patch_size**2 * in_channels
        self.embed = Linear(pixels, width)
        self.places = Buffer(asarray(_positions(rows, columns, width), dtype="float32"))
        self.encoder = _blocks(width, depth, num_heads)
        self.bridge = Linear(width, decoder_width)
        self.mask_token = Parameter(zeros((decoder_width,)))
        init.normal_(self.mask_token, std=0.02)
        self.decoder_places = Buffer(asarray(_positions(rows, columns, decoder_width), dtype="float32"))
        self.decoder = _blocks(decoder_width, decoder_depth, num_heads)
        self.head = Linear(decoder_width, pixels)

    def _patches(self, x: ArrayLike) -> Tensor:
        if tuple(x.shape[1:]) != (self.in_channels, *self.size):
            expected = f"(n, {self.in_channels}, {self.size[0]}, {self.size[1]})"
            msg = f"MaskedAutoencoder: the pictures must have the shape {expected}, got {tuple(x.shape)}"
            raise ShapeError(msg)
        return patchify(x, self.patch_size)

    def encode(self, x: ArrayLike) -> Tensor:
        """Features of whole pictures, nothing hidden."""
        found: Tensor = mean(self.encoder(self.embed(self._patches(x)) + self.places), axis=1)
        return found

    def predict_patches(
        self, x: ArrayLike, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The patches drawn, those of the picture, both (n, count, pixels), and the mask (n, count), True where hidden."""
        patches = self._patches(x)
        n = int(patches.shape[0])
        kept, mask = random_masking(n, self.count, self.ratio, device=patches.device, generator=generator)
        tokens = self.embed(patches) + self.places
        index = broadcast_to(expand_dims(kept, axis=-1), (*kept.shape, tokens.shape[-1]))
        seen = self.bridge(self.encoder(take_along_axis(tokens, index, axis=1)))
        width = int(seen.shape[-1])
        # each place takes the next visible token, or where it is hidden the mask token
        shown = astype(~mask, int64)
        nth = shown * (cumulative_sum(shown, axis=1) - 1)
        filled = take_along_axis(
            seen, broadcast_to(expand_dims(nth, axis=-1), (n, self.count, width)), axis=1
        )
        full = where(expand_dims(mask, axis=-1), self.mask_token, filled)
        return self.head(self.decoder(full + self.decoder_places)), patches, mask

    def forward(self, x: ArrayLike, generator: Generator | None = None) -> Tensor:
        """The mean squared error on hidden patches."""
        drawn, patches, mask = self.predict_patches(x, generator)
        if self.norm_pixels:
            centred = patches - mean(patches, axis=-1, keepdims=True)
            patches = centred / sqrt(var(patches, axis=-1, correction=1, keepdims=True) + 1e-6)
        error = mean((drawn - patches) ** 2, axis=-1)
        hidden = astype(mask, error.dtype)
        return sum_over(error * hidden) / sum_over(hidden)

    def reconstruct(self, x: ArrayLike, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The pictures with their hidden patches drawn, and with these grey (with `norm_pixels` what is drawn has no scale)."""
        drawn, patches, mask = self.predict_patches(x, generator)
        hidden = expand_dims(mask, axis=-1)
        shape = (self.patch_size, self.in_channels, *self.size)
        return unpatchify(where(hidden, drawn, patches), *shape), unpatchify(
            where(hidden, asarray(0.5, dtype=patches.dtype, device=patches.device), patches), *shape
        )


def _blocks(width: int, depth: int, num_heads: int) -> TransformerEncoder:
    block = TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return TransformerEncoder(block, depth, norm=LayerNorm(width))


# ----- what was learned -----


class Probe(NamedTuple):
    """A linear probe: its accuracies in [0, 1], and the layer (on standardised features)."""

    accuracy: float
    train_accuracy: float
    layer: Linear


def linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    l2: float = 1e-3,
    steps: int = 200,
) -> Probe:
    """Logistic regression on frozen features: min over W, b of mean cross-entropy + l2/2 ‖W‖², by L-BFGS from zero.

    Features are standardised by the training ones' means and deviations. Shapes: (n, d), integer labels (n,), (m, d), (m,).

    Errors: `ShapeError` for features that are not (n, d); ValueError for a negative l2.

    >>> import anynet as an
    >>> x = an.asarray([[-1.0], [-2.0], [1.0], [2.0]])
    >>> an.methods.linear_probe(x, an.asarray([0, 0, 1, 1]), x, an.asarray([0, 0, 1, 1])).accuracy
    1.0
    """
    check_number("linear_probe", "l2", l2, 0)
    check_count("linear_probe", "steps", steps)
    x, t = asarray(features).detach(), asarray(test_features).detach()
    if x.ndim != 2 or t.ndim != 2 or x.shape[1] != t.shape[1]:
        msg = f"linear_probe: features must be (n, d) and (m, d), got {tuple(x.shape)} and {tuple(t.shape)}"
        raise ShapeError(msg)
    y, y_test = asarray(labels), asarray(test_labels)
    centre, scale = mean(x, axis=0), sqrt(var(x, axis=0)) + 1e-6
    x, t = (x - centre) / scale, (t - centre) / scale
    classes = max(int(v) for v in [*y.tolist(), *y_test.tolist()]) + 1
    layer = Linear(int(x.shape[1]), classes).to(device=x.device, dtype=x.dtype)
    for p in layer.parameters():
        init.zeros_(p)
    optimizer = LBFGS(layer.parameters(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), y) + 0.5 * l2 * sum_over(layer.weight**2)
        loss.backward()
        return loss

    optimizer.step(closure)
    with no_grad():
        rates = [
            float(mean(astype(argmax(layer(a), axis=-1) == b, x.dtype))) for a, b in ((t, y_test), (x, y))
        ]
    return Probe(rates[0], rates[1], layer)
