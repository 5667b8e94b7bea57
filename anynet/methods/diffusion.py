"""Denoising diffusion: pictures from noise, by a network that was trained to say what noise was added.

Sources: Ho, Jain and Abbeel: Denoising diffusion probabilistic models (2020); Nichol and Dhariwal: Improved denoising diffusion
probabilistic models (2021); Song, Meng and Ermon: Denoising diffusion implicit models (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.containers import ModuleList
from anynet.nn.conv import Conv2d
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import GroupNorm
from anynet.ops.creation import arange, asarray
from anynet.ops.elementwise import clip, cos, exp, maximum, sin, sqrt
from anynet.ops.indexing import take
from anynet.ops.linalg import eigh, trace
from anynet.ops.linear import matmul
from anynet.ops.manipulation import astype, concat, expand_dims, reshape
from anynet.ops.reductions import mean
from anynet.ops.reductions import sum as sum_over
from anynet.streams import Generator
from anynet.tensor import Buffer, Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = [
    "DDPM",
    "DenoisingUNet",
    "cosine_schedule",
    "frechet_distance",
    "linear_schedule",
    "time_embedding",
]


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """β₁ … β_T on a line, for T = 1000; for another T the ends are scaled by 1000/T, so that as much noise is added in the end.

    Errors: ValueError for fewer than 2 steps, and for ends outside (0, 1) after scaling.

    >>> import anynet as an
    >>> b = an.methods.linear_schedule()
    >>> b[0], b[-1]
    (0.0001, 0.02)

    Source: Ho et al. (2020), section 4.
    """
    check_count("linear_schedule", "steps", steps, least=2)
    low, high = first * 1000 / steps, last * 1000 / steps
    if not 0 < low <= high < 1:
        msg = f"linear_schedule: 0 < first ≤ last < 1 must hold (times 1000 / steps), got {low} and {high}"
        raise ValueError(msg)
    return [low + (high - low) * i / (steps - 1) for i in range(steps)]


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> list[float]:
    """β_t = 1 − ᾱ_t / ᾱ_{t−1} (at most `largest`), ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s) / (1 + s) · π/2): less noise early.

    Errors: ValueError for fewer than 2 steps and an offset below 0.

    >>> import anynet as an
    >>> b = an.methods.cosine_schedule(10)
    >>> round(b[0], 4), b[-1]
    (0.0279, 0.999)

    Source: Nichol and Dhariwal (2021), equation 17.
    """
    check_count("cosine_schedule", "steps", steps, least=2)
    check_number("cosine_schedule", "offset", offset, 0)
    check_number("cosine_schedule", "largest", largest, 0, 1, open=True)

    def f(t: int) -> float:
        return math.cos((t / steps + offset) / (1 + offset) * math.pi / 2) ** 2

    return [min(1 - f(t) / f(t - 1), largest) for t in range(1, steps + 1)]


def time_embedding(t: ArrayLike, width: int, longest: float = 10_000.0) -> Tensor:
    """sin(t ω_i), cos(t ω_i), ω_i = longest^(−i / (width/2)): (n,) → (n, width), float32.

    Errors: ValueError for an odd width.

    >>> import anynet as an
    >>> an.methods.time_embedding(an.asarray([0, 5]), 8).shape
    (2, 8)

    Source: Vaswani et al. (2017), section 3.5; in this order in the code of Ho et al.
    """
    if width % 2:
        msg = f"time_embedding: width must be even, got {width}"
        raise ValueError(msg)
    check_count("time_embedding", "width", width)
    t = asarray(t)
    half = width // 2
    rates = exp(arange(half, dtype="float32", device=t.device) * (-math.log(longest) / half))
    angles = expand_dims(astype(t, "float32"), axis=1) * rates
    return concat([sin(angles), cos(angles)], axis=1)


class _Block(Module):
    """x + conv(silu(norm(conv(silu(norm x)) + W·time))): a residual block that knows the time."""

    def __init__(self, into: int, out: int, time: int, groups: int) -> None:
        self.norm1, self.conv1 = GroupNorm(math.gcd(groups, into), into), Conv2d(into, out, 3, padding=1)
        self.time = Linear(time, out)
        self.norm2, self.conv2 = GroupNorm(math.gcd(groups, out), out), Conv2d(out, out, 3, padding=1)
        self.skip = Conv2d(into, out, 1) if into != out else None
        init.zeros_(self.conv2.weight)  # begins as the identity

    def forward(self, x: Any, time: Any) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + reshape(self.time(time), (y.shape[0], y.shape[1], 1, 1))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.skip is None else self.skip(x))


class DenoisingUNet(Module):
    """ε(x, t): a U-Net of residual blocks with group norm, to each of which the time is added.

    Shapes: (n, channels, height, width), times (n,) → (n, channels, height, width); height and width divisible by 2^(levels − 1).

    Parameters: channels of the pictures; `widths`, the channels of each level, each level half as large as the one before; `blocks` for
    each level and direction; `groups` of the norms.

    Errors: ValueError for sizes below 1; `ShapeError` for pictures that cannot be halved so often.

    >>> import anynet as an
    >>> net = an.methods.DenoisingUNet(1, (8, 16))
    >>> net(an.zeros((2, 1, 8, 8)), an.asarray([1, 5])).shape
    (2, 1, 8, 8)

    Source: Ho et al. (2020), appendix B, without attention.
    """

    def __init__(
        self, channels: int = 1, widths: Sequence[int] = (32, 64), blocks: int = 1, groups: int = 8
    ) -> None:
        for name, value in (
            ("channels", channels),
            ("blocks", blocks),
            ("groups", groups),
            ("widths", len(widths)),
        ):
            check_count("DenoisingUNet", name, value)
        for i, value in enumerate(widths):
            check_count("DenoisingUNet", f"widths[{i}]", value)
        self.levels, self.blocks, self.wide = len(widths), blocks, 2 * (widths[0] // 2) or 2
        time = 4 * widths[0]
        self.time1, self.time2 = Linear(self.wide, time), Linear(time, time)
        self.first = Conv2d(channels, widths[0], 3, padding=1)
        down, up, at, passed = [], [], widths[0], [widths[0]]
        for width in widths:
            for _ in range(blocks):
                down.append(_Block(at, width, time, groups))
                at = width
                passed.append(at)
        self.down = ModuleList(down)
        self.middle = _Block(at, at, time, groups)
        for width in reversed(widths):
            for _ in range(blocks):
                up.append(_Block(at + passed.pop(), width, time, groups))
                at = width
        self.up = ModuleList(up)
        self.norm = GroupNorm(math.gcd(groups, at), at)
        self.last = Conv2d(at, channels, 3, padding=1)
        init.zeros_(self.last.weight)

    def forward(self, x: ArrayLike, t: ArrayLike) -> Tensor:
        """The noise in x at times t."""
        divisor = 1 << (self.levels - 1)
        if len(x.shape) != 4 or x.shape[2] % divisor or x.shape[3] % divisor:
            msg = f"DenoisingUNet: pictures (n, channels, height, width) with sides divisible by {divisor}, got {tuple(x.shape)}"
            raise ShapeError(msg)
        time = F.silu(self.time2(F.silu(self.time1(time_embedding(t, self.wide)))))
        y = self.first(x)
        passed = []
        for i, block in enumerate(self.down):
            if i and i % self.blocks == 0:
                y = F.avg_pool2d(y, 2)
            y = block(y, time)
            passed.append(y)
        y = self.middle(y, time)
        for i, block in enumerate(self.up):
            if i and i % self.blocks == 0:
                y = F.interpolate(y, scale_factor=2, mode="nearest")
            y = block(concat([y, passed.pop()], axis=1), time)
        return self.last(F.silu(self.norm(y)))


class DDPM(Module):
    """Denoising diffusion: q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I), ᾱ_t = Π (1 − β_s); the network ε_θ(x_t, t) is trained with
    L = E ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖², t uniform, ε normal, the mean over all numbers.

    `forward(x0)` is that loss of a batch, data in about [−1, 1]; `sample` and `ddim` draw.

    Parameters:
      network: a Module (or function) of (x, t) with t integers (n,) from 0 to T − 1, which gives the shape of x.
      betas: β₁ … β_T, as `linear_schedule` and `cosine_schedule` give them.

    Errors: ValueError for β outside (0, 1).

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> ddpm = an.methods.DDPM(an.methods.DenoisingUNet(1, (8,)), an.methods.cosine_schedule(20))
    >>> ddpm(an.zeros((4, 1, 4, 4))).shape, ddpm.sample((2, 1, 4, 4)).shape, ddpm.ddim((2, 1, 4, 4), steps=5).shape
    ((), (2, 1, 4, 4), (2, 1, 4, 4))

    Source: Ho et al. (2020), algorithms 1 and 2; DDIM: Song et al. (2021), equation 12.
    """

    def __init__(self, network: Callable[..., Any], betas: Sequence[float]) -> None:
        values = [float(b) for b in betas]
        if not values or any(not 0 < b < 1 for b in values):
            msg = f"DDPM: each β must be in (0, 1), got {values[:3] or 'none'}"
            raise ValueError(msg)
        self.network = network
        self.betas = values
        self.alpha_bars = []
        product = 1.0
        for b in values:
            product *= 1 - b
            self.alpha_bars.append(product)
        self.signal = Buffer(asarray([math.sqrt(a) for a in self.alpha_bars], dtype="float32"))
        self.noise = Buffer(asarray([math.sqrt(1 - a) for a in self.alpha_bars], dtype="float32"))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    def q_sample(self, x0: ArrayLike, t: ArrayLike, noise: ArrayLike) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε for times t (n,), of the dtype of x_0."""
        x0 = asarray(x0)
        shape = (x0.shape[0], *(1,) * (x0.ndim - 1))

        def at(values: Any) -> Tensor:
            return reshape(take(astype(values, x0.dtype), t), shape)

        return at(self.signal) * x0 + at(self.noise) * noise

    def forward(self, x0: ArrayLike, generator: Generator | None = None) -> Tensor:
        """The loss of a batch."""
        x0 = asarray(x0)
        t = random.integers(0, self.steps, (x0.shape[0],), device=x0.device, generator=generator)
        noise = random.normal(tuple(x0.shape), dtype=x0.dtype, device=x0.device, generator=generator)
        return mean((self.network(self.q_sample(x0, t, noise), t) - noise) ** 2)

    def _guess(self, x: Tensor, t: int, clip_to: float | None) -> tuple[Tensor, Tensor]:
        """x_0 and ε, as the network sees them in x_t."""
        times = asarray([t] * x.shape[0], device=x.device)
        a = self.alpha_bars[t]
        noise = self.network(x, times)
        x0 = (x - math.sqrt(1 - a) * noise) / math.sqrt(a)
        if clip_to is not None:
            x0 = clip(x0, -clip_to, clip_to)
            noise = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        return x0, noise

    def sample(
        self, shape: Sequence[int], *, clip_to: float | None = 1.0, generator: Generator | None = None
    ) -> Tensor:
        """Draws, step by step from x_T: x_{t−1} = μ̃(x_t, x̂_0) + √β̃_t z, the posterior of q with the x_0 that the network sees.

        `clip_to` keeps x̂_0 in [−clip_to, clip_to]; None leaves it. On the device of the schedule, float32.
        """
        with no_grad():
            x = random.normal(tuple(shape), device=self.signal.device, generator=generator)
            for t in range(self.steps - 1, -1, -1):
                x0, _ = self._guess(x, t, clip_to)
                beta, a = self.betas[t], self.alpha_bars[t]
                before = self.alpha_bars[t - 1] if t else 1.0
                x = math.sqrt(before) * beta / (1 - a) * x0 + math.sqrt(1 - beta) * (1 - before) / (1 - a) * x
                if t:
                    z = random.normal(tuple(shape), device=x.device, generator=generator)
                    x = x + math.sqrt(beta * (1 - before) / (1 - a)) * z
        return x

    def ddim(
        self,
        shape: Sequence[int],
        steps: int = 50,
        eta: float = 0.0,
        *,
        clip_to: float | None = 1.0,
        start: ArrayLike | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draws in fewer steps: x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s − σ²) ε̂ + σ z from t to s, σ = η √((1 − ᾱ_s)/(1 − ᾱ_t)) √(1 − ᾱ_t/ᾱ_s).

        With η = 0 the result is a function of the noise `start` (drawn unless given); with η = 1 and all steps it is `sample`'s.

        Errors: ValueError for steps outside [1, T] and eta outside [0, 1].
        """
        check_count("ddim", "steps", steps)
        check_number("ddim", "eta", eta, 0, 1)
        if steps > self.steps:
            msg = f"ddim: steps must be at most {self.steps}, the steps of the schedule, got {steps}"
            raise ValueError(msg)
        times = [round((i + 1) * self.steps / steps) - 1 for i in range(steps)]
        with no_grad():
            device = self.signal.device
            x = (
                asarray(start)
                if start is not None
                else random.normal(tuple(shape), device=device, generator=generator)
            )
            for i in range(steps - 1, -1, -1):
                x0, noise = self._guess(x, times[i], clip_to)
                a, before = self.alpha_bars[times[i]], self.alpha_bars[times[i - 1]] if i else 1.0
                sigma = eta * math.sqrt((1 - before) / (1 - a) * (1 - a / before))
                x = math.sqrt(before) * x0 + math.sqrt(max(0.0, 1 - before - sigma**2)) * noise
                if i and sigma:
                    x = x + sigma * random.normal(tuple(shape), device=x.device, generator=generator)
        return x


def frechet_distance(a: ArrayLike, b: ArrayLike) -> Tensor:
    """‖μ_a − μ_b‖² + tr(C_a + C_b − 2 (C_a^½ C_b C_a^½)^½): the squared distance of the normal distributions with the means and the
    covariances (over n − 1) of two sets of rows; of features of pictures, how far drawn ones are from real ones.

    Shapes: (n, d), (m, d), n and m at least 2 → a number of float64. What rounding leaves below 0 in the roots is 0.

    Errors: `ShapeError` for other shapes; ValueError for fewer than 2 rows.

    >>> import anynet as an
    >>> a = an.asarray([[0.0], [2.0]])  # mean 1, variance 2
    >>> [round(an.methods.frechet_distance(a, b).item(), 6) for b in (a + 3, 2 * a)]  # 3²; 1² + (2√2 − √2)²
    [9.0, 3.0]

    Source: Dowson and Landau: The Fréchet distance between multivariate normal distributions (1982); Heusel et al.: GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium (2017).
    """
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[1]:
        msg = f"frechet_distance: rows must have the shapes (n, d) and (m, d), got {tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(msg)
    if min(a.shape[0], b.shape[0]) < 2:
        msg = (
            f"frechet_distance: there must be at least 2 rows in each set, got {a.shape[0]} and {b.shape[0]}"
        )
        raise ValueError(msg)
    (mean_a, cov_a), (mean_b, cov_b) = (_moments(astype(asarray(x), "float64")) for x in (a, b))
    root = _root(cov_a)
    cross = _root(matmul(matmul(root, cov_b), root))
    return sum_over((mean_a - mean_b) ** 2) + trace(cov_a + cov_b - 2.0 * cross)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of rows."""
    centre = mean(x, axis=0)
    return centre, matmul((x - centre).mT, x - centre) / (x.shape[0] - 1)


def _root(c: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix, which rounding may have left asymmetric."""
    values, vectors = eigh(0.5 * (c + c.mT))
    return matmul(vectors * sqrt(maximum(values, 0.0)), vectors.mT)
