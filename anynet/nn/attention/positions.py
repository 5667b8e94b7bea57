"""Where a token stands in its sequence, and attention with fewer keys than queries: layers of MLX and Keras."""

from __future__ import annotations

import math
from typing import Any

from anynet.equations import equation
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.manipulation import concat, expand_dims, reshape, stack
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["ALiBi", "RoPE", "SinusoidalPositionalEncoding"]


@equation(
    "u[l: L, j: D // 2] = (offset + l) * κ * B**(-2 * j / D)",
    "a[l: L, k: F] = u[l, k // 2] if traditional else u[l, k % (D // 2)]",
    """
        q[k: F] = (k + 1 if k % 2 == 0 else k - 1) if traditional else (k + D // 2 if k < D // 2 else k - D // 2)
    """,
    "s[k: F] = (-1 if k % 2 == 0 else 1) if traditional else (-1 if k < D // 2 else 1)",
    """
        y[..., l, k] = x[..., l, k] * cos(a[l, k]) + s[k] * x[..., l, q[k]] * sin(a[l, k]) if k < D else x[..., l, k]
    """,
    where="x[..., L, F]; D = dims; B = base; κ = scale; traditional; offset",
)
class RoPE(Module):
    """Rotary positions (Su et al. 2021): of x (…, length, features) the pairs of the first `dims` features are turned by
    the angle (offset + i) · scale · base^(−2j / dims), i the place in the sequence and j the number of the pair.

    `traditional`: pairs are neighbours (2j, 2j + 1); else feature j is paired with j + dims / 2.

    >>> import anynet as an
    >>> x = an.asarray([[1.0, 0.0], [1.0, 0.0]])
    >>> an.round(an.nn.RoPE(2)(x) * 1000) / 1000  # the second by one radian
    Tensor([[1.   , 0.   ],
            [0.54 , 0.841]])
    """

    def __init__(
        self, dims: int, traditional: bool = False, base: float = 10000.0, scale: float = 1.0
    ) -> None:
        if dims < 2 or dims % 2 or base <= 0:
            msg = f"RoPE: dims must be even and ≥ 2 and base > 0, got {dims} and {base}"
            raise ValueError(msg)
        self.dims, self.traditional, self.base, self.scale = dims, traditional, base, scale

    def forward(self, x: ArrayLike, offset: int = 0) -> Tensor:
        """x with its pairs turned."""
        if len(x.shape) < 2 or x.shape[-1] < self.dims:
            msg = f"got {tuple(x.shape)}: expected (…, length, features) with at least {self.dims} features"
            raise ShapeError(msg)
        half = self.dims // 2
        rate = e.exp(creation.arange(half, dtype=x.dtype, device=x.device) * (-math.log(self.base) / half))
        place = (creation.arange(x.shape[-2], dtype=x.dtype, device=x.device) + offset) * self.scale
        angle = expand_dims(place, axis=1) * rate
        c, s = e.cos(angle), e.sin(angle)
        if self.traditional:
            a, b = x[..., 0 : self.dims : 2], x[..., 1 : self.dims : 2]
            turned = stack([a * c - b * s, a * s + b * c], axis=-1)
            turned = reshape(turned, (*x.shape[:-1], self.dims))
        else:
            a, b = x[..., :half], x[..., half : self.dims]
            turned = concat([a * c - b * s, a * s + b * c], axis=-1)
        return turned if self.dims == x.shape[-1] else concat([turned, x[..., self.dims :]], axis=-1)

    def extra_repr(self) -> str:
        return f"{self.dims}, traditional={self.traditional}, base={self.base}, scale={self.scale}"


@equation(
    "y[..., h: H, i, j] = s[..., h, i, j] - 2**(-8 * (h + 1) / H) * abs(offset + i - j)",
    where="s[..., H, I, J] = scores; offset",
)
class ALiBi(Module):
    """Attention with linear biases (Press et al. 2022): −2^(−8 h / heads) |i − j| is added to the score of query i and
    key j in head h = 1 … heads. Scores (…, heads, queries, keys); the first query stands at place `offset`.

    >>> import anynet as an
    >>> an.nn.ALiBi()(an.zeros((1, 1, 2, 2)))[0, 0] * 256
    Tensor([[ 0., -1.],
            [-1.,  0.]])
    """

    def forward(self, scores: ArrayLike, offset: int = 0) -> Tensor:
        """The scores with their biases."""
        if len(scores.shape) < 3:
            msg = f"got {tuple(scores.shape)}: expected (…, heads, queries, keys)"
            raise ShapeError(msg)
        return scores + self.bias(*scores.shape[-3:], like=scores, offset=offset)

    @staticmethod
    def bias(heads: int, queries: int, keys: int, *, like: ArrayLike, offset: int = 0) -> Tensor:
        """The biases (heads, queries, keys) alone, as an `attn_mask`, in the dtype and on the device of `like`."""

        def places(n: int, first: int = 0) -> Any:
            return creation.arange(first, first + n, dtype=like.dtype, device=like.device)

        slope = 2.0 ** (places(heads, 1) * (-8.0 / heads))
        apart = e.abs(expand_dims(places(queries, offset), axis=1) - places(keys))
        return -reshape(slope, (heads, 1, 1)) * apart


@equation(
    "ω[j: D // 2] = r[j]",
    """
        y[..., k: D] = κ * (cos(x * ω[k % (D // 2)]) if (k < D // 2) == cos_first else sin(x * ω[k % (D // 2)]))
    """,
    where="x; D = dims; κ = scale; r[K] = _rates: a geometric row between max_freq and min_freq; cos_first",
)
class SinusoidalPositionalEncoding(Module):
    """Positions x (any shape) → (…, dims): scale · [sin(x ω), cos(x ω)] with dims / 2 rates ω between `max_freq` and
    `min_freq` in a geometric row (Vaswani et al. 2017); scale is √(2 / (dims / 2)) unless given.

    `cos_first`: cosines before sines; `full_turns`: rates in turns instead of radians.

    >>> import anynet as an
    >>> an.nn.SinusoidalPositionalEncoding(4, scale=1.0)(an.asarray([0.0]))
    Tensor([[0., 0., 1., 1.]])
    """

    def __init__(
        self,
        dims: int,
        min_freq: float = 0.0001,
        max_freq: float = 1.0,
        scale: float | None = None,
        cos_first: bool = False,
        full_turns: bool = False,
    ) -> None:
        if dims < 2 or dims % 2 or not 0 < min_freq <= max_freq:
            msg = f"SinusoidalPositionalEncoding: dims must be even, ≥ 2, and 0 < min_freq ≤ max_freq, got {dims}, {min_freq}, {max_freq}"
            raise ValueError(msg)
        half = dims // 2
        low, high = math.log(min_freq), math.log(max_freq)
        rates = [math.exp(high + (low - high) * i / max(half - 1, 1)) for i in range(half)]
        self._rates = [w * (2 * math.pi if full_turns else 1.0) for w in rates]
        self.scale = math.sqrt(2 / half) if scale is None else scale
        self.dims, self.cos_first = dims, cos_first

    def forward(self, x: ArrayLike) -> Tensor:
        """The encoding of each position."""
        angle = expand_dims(x, axis=-1) * creation.asarray(self._rates, dtype=x.dtype, device=x.device)
        s, c = e.sin(angle), e.cos(angle)
        return concat([c, s] if self.cos_first else [s, c], axis=-1) * self.scale

    def extra_repr(self) -> str:
        return f"{self.dims}"
