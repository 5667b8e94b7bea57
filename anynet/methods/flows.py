"""Normalizing flows: an invertible network between data and a normal distribution, with the exact likelihood.

Sources: Dinh, Sohl-Dickstein and Bengio: Density estimation using Real NVP (2017); Kingma and Dhariwal: Glow (2018).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.activations import ReLU
from anynet.nn.containers import ModuleList, Sequential
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.creation import asarray, zeros
from anynet.ops.elementwise import exp, log, tanh
from anynet.ops.manipulation import broadcast_to
from anynet.ops.reductions import mean, std
from anynet.ops.reductions import sum as sum_over
from anynet.streams import Generator
from anynet.tensor import Buffer, Parameter, Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["ActNorm", "AffineCoupling", "RealNVP", "dequantize", "logit_transform"]


class AffineCoupling(Module):
    """y = m x + (1 − m)(x e^s + t), s, t functions of m x alone: so the inverse is as easy, and log|det| = Σ (1 − m) s.

    `forward(x)`: (n, d) → (y, log|det ∂y/∂x| (n,)); `inverse(y)` the same backwards. s = scale · tanh(·), `scale` learned.

    Parameters: `mask` of 0 and 1 (1: stays); `hidden`, the widths of the network; its last layer begins at zero, the layer as the identity.

    Errors: ValueError for a mask that is not of 0 and 1 or has only one of them; `ShapeError` for other shapes.

    >>> import anynet as an
    >>> layer = an.methods.AffineCoupling([1, 0], hidden=(8,))
    >>> y, log_det = layer(an.asarray([[1.0, 2.0]]))
    >>> y.tolist(), log_det.tolist()
    ([[1.0, 2.0]], [0.0])

    Source: Dinh et al. (2017), equations 7 to 9.
    """

    def __init__(self, mask: Sequence[int], hidden: Sequence[int] = (64, 64)) -> None:
        values = [float(m) for m in mask]
        if set(values) != {0.0, 1.0}:
            msg = f"AffineCoupling: mask must hold 0 and 1, and both, got {list(mask)[:8]}"
            raise ValueError(msg)
        d = len(values)
        self.mask = Buffer(asarray(values, dtype="float32"))
        widths = [d, *hidden]
        layers: list[Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [Linear(a, b), ReLU()]
        last = Linear(widths[-1], 2 * d)
        for p in last.parameters():
            init.zeros_(p)
        self.network = Sequential(*layers, last)
        self.scale = Parameter(zeros((d,)) + 1.0)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        d = int(self.mask.shape[0])
        out, free = self.network(kept), 1.0 - self.mask
        return free * self.scale * tanh(out[:, :d]), free * out[:, d:]

    def forward(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """y and log|det ∂y/∂x|."""
        x = _rows("AffineCoupling", x, int(self.mask.shape[0]))
        s, t = self._scale_and_shift(x * self.mask)
        return x * exp(s) + t, sum_over(s, axis=1)

    def inverse(self, y: ArrayLike) -> tuple[Tensor, Tensor]:
        """x and log|det ∂x/∂y|."""
        y = _rows("AffineCoupling", y, int(self.mask.shape[0]))
        s, t = self._scale_and_shift(y * self.mask)
        return (y - t) * exp(-s), -sum_over(s, axis=1)


class ActNorm(Module):
    """y = (x + b) e^l, each column by itself; b and l begin so that the first batch in training has mean 0 and deviation 1 (Glow).

    >>> import anynet as an
    >>> layer = an.methods.ActNorm(1)
    >>> y, log_det = layer(an.asarray([[1.0], [3.0]]))
    >>> [round(v, 3) for v in y[:, 0].tolist()]
    [-1.0, 1.0]
    """

    def __init__(self, features: int) -> None:
        check_count("ActNorm", "features", features)
        self.bias = Parameter(zeros((features,)))
        self.log_scale = Parameter(zeros((features,)))
        self.begun = Buffer(zeros((), dtype="int64"))

    def forward(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """y and log|det ∂y/∂x|."""
        x = _rows("ActNorm", x, int(self.bias.shape[0]))
        if self.training and not int(self.begun):
            with no_grad():
                self.bias.assign_(-mean(x.detach(), axis=0))
                self.log_scale.assign_(-log(std(x.detach(), axis=0) + 1e-6))
                self.begun.assign_(self.begun + 1)
        return (x + self.bias) * exp(self.log_scale), self._log_det(x, 1.0)

    def inverse(self, y: ArrayLike) -> tuple[Tensor, Tensor]:
        """x and log|det ∂x/∂y|."""
        y = _rows("ActNorm", y, int(self.bias.shape[0]))
        return y * exp(-self.log_scale) - self.bias, self._log_det(y, -1.0)

    def _log_det(self, x: Tensor, sign: float) -> Tensor:
        return broadcast_to(sign * sum_over(self.log_scale), (x.shape[0],))


class RealNVP(Module):
    """Coupling layers in a row with masks in turn, each after an `ActNorm`, between data x and z ~ N(0, I):
    log p(x) = log N(f(x); 0, I) + log|det ∂f/∂x|, exactly.

    `forward(x)` is the mean negative log-likelihood in nats of a batch (n, d), what is minimised; `log_prob(x)` (n,); `encode(x)` → (z,
    log|det|); `decode(z)` → x; `sample(n)`.

    Parameters:
      features: d, at least 2.
      layers: how many couplings.
      hidden: the widths of their networks.
      norm: the `ActNorm`s.
      masks: for each coupling the mask; else every second column, in turn (columns 0, 2, …, then 1, 3, …).

    Errors: ValueError for fewer than 2 features and masks of another number or length; `ShapeError` for other shapes.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> flow = an.methods.RealNVP(2, layers=2, hidden=(8,), norm=False)  # begins as the identity
    >>> round(flow.log_prob(an.zeros((1, 2))).item(), 4), flow.sample(5).shape
    (-1.8379, (5, 2))

    Source: Dinh et al. (2017).
    """

    def __init__(
        self,
        features: int,
        layers: int = 6,
        hidden: Sequence[int] = (64, 64),
        norm: bool = True,
        masks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        check_count("RealNVP", "features", features, least=2)
        check_count("RealNVP", "layers", layers)
        if masks is None:
            masks = [[(i + k) % 2 for i in range(features)] for k in range(layers)]
        if len(masks) != layers or any(len(m) != features for m in masks):
            msg = f"RealNVP: {layers} layers need as many masks of {features} numbers, got {len(masks)} of {[len(m) for m in masks][:4]}"
            raise ValueError(msg)
        self.features = features
        parts: list[Module] = []
        for mask in masks:
            parts += [ActNorm(features)] * bool(norm) + [AffineCoupling(mask, hidden)]
        self.parts = ModuleList(parts)

    def encode(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """z = f(x) and log|det ∂z/∂x| (n,)."""
        z = _rows("RealNVP", x, self.features)
        total: Any = 0.0
        for part in self.parts:
            z, log_det = part(z)
            total = total + log_det
        return z, total

    def decode(self, z: ArrayLike) -> Tensor:
        """x = f⁻¹(z)."""
        x = _rows("RealNVP", z, self.features)
        for part in reversed(list(self.parts)):
            x, _ = part.inverse(x)
        return x

    def log_prob(self, x: ArrayLike) -> Tensor:
        """log p(x) of rows (n, d): (n,), in nats."""
        z, log_det = self.encode(x)
        return log_det - 0.5 * sum_over(z * z, axis=1) - 0.5 * self.features * math.log(2 * math.pi)

    def forward(self, x: ArrayLike) -> Tensor:
        """The mean negative log-likelihood."""
        return -mean(self.log_prob(x))

    def sample(self, n: int, *, temperature: float = 1.0, generator: Generator | None = None) -> Tensor:
        """n draws; a temperature below 1 takes z ~ N(0, temperature²)."""
        check_count("RealNVP.sample", "n", n)
        check_number("RealNVP.sample", "temperature", temperature, 0)
        first = next(iter(self.parameters()))
        with no_grad():
            z = random.normal((n, self.features), dtype=first.dtype, device=first.device, generator=generator)
            return self.decode(temperature * z)


def dequantize(x: ArrayLike, levels: int = 256, *, generator: Generator | None = None) -> Tensor:
    """(x + u) / levels of whole numbers 0 … levels − 1, u uniform on [0, 1): in [0, 1), with a density that bounds the probabilities.

    >>> import anynet as an
    >>> y = an.methods.dequantize(an.asarray([[0.0, 255.0]]))
    >>> bool(an.all((y >= 0) & (y < 1)))
    True

    Source: Theis, van den Oord and Bethge: A note on the evaluation of generative models (2016).
    """
    check_count("dequantize", "levels", levels, least=2)
    x = asarray(x)
    noise = random.uniform(tuple(x.shape), dtype=x.dtype, device=x.device, generator=generator)
    return (x + noise) / levels


def logit_transform(x: ArrayLike, alpha: float = 0.05) -> tuple[Tensor, Tensor]:
    """logit(α + (1 − 2α) x) of rows in [0, 1], and log|det| (n,): pictures as numbers without bounds.

    Errors: ValueError for α outside (0, ½); `ShapeError` for other than (n, d).

    >>> import anynet as an
    >>> y, log_det = an.methods.logit_transform(an.asarray([[0.5]]))
    >>> abs(y.item()) < 1e-6, round(log_det.item(), 4)  # log(0.9 · 4)
    (True, 1.2809)

    Source: Dinh et al. (2017), section 4.1.
    """
    check_number("logit_transform", "alpha", alpha, 0, 0.5, open=True)
    x = _rows("logit_transform", x)
    p = alpha + (1.0 - 2.0 * alpha) * x
    y = log(p) - log(1.0 - p)
    return y, sum_over(math.log(1.0 - 2.0 * alpha) + F.softplus(y) + F.softplus(-y), axis=1)


def _rows(where: str, x: ArrayLike, features: int | None = None) -> Tensor:
    if len(x.shape) != 2 or (features is not None and x.shape[1] != features):
        msg = f"{where}: rows must have the shape (n, {'d' if features is None else features}), got {tuple(x.shape)}"
        raise ShapeError(msg)
    return asarray(x)
