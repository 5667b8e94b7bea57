"""Images at another size, read at places between their pixels, with rearranged channels or padded: PyTorch's vision functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet.autograd.jit.fused import fused
from anynet.autograd.vmap import each, is_batched
from anynet.equations import equation
from anynet.nn.errors import ShapeError
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.indexing import gather_rows
from anynet.ops.manipulation import broadcast_to, expand_dims, permute_dims, rearrange, reshape, stack
from anynet.ops.padding import pad as pad_
from anynet.ops.resampling import interpolate
from anynet.ops.sparse import sparse_matmul
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of

__all__ = [
    "affine_grid", "channel_shuffle", "grid_sample", "interpolate", "pad", "pixel_shuffle", "pixel_unshuffle",
    "upsample",
]  # fmt: skip

Size = int | Sequence[int]


@equation(
    "u[i: W] = (2 * i - W + 1) / (max(W - 1, 1) if align else W)",
    "v[j: H] = (2 * j - H + 1) / (max(H - 1, 1) if align else H)",
    "y[n, j, i, k] = θ[n, k, 0] * u[i] + θ[n, k, 1] * v[j] + θ[n, k, 2]",
    where="""
        θ[N, A, B] = theta
        H = size[2]
        W = size[3]
        align = align_corners or 0: of images
        volumes likewise
    """,
)
def affine_grid(theta: ArrayLike, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where `grid_sample` reads so that the output is the input under an affine map: theta (n, 2, 3) and size (n, c, h, w) →
    (n, h, w, 2) of (x, y); theta (n, 3, 4) and size (n, c, d, h, w) → (n, d, h, w, 3) of (x, y, z).

    Places run from −1 to 1 over the centres of the outermost pixels (`align_corners`), or over their outer edges.

    Equation:
      u[i] = (2 i − W + 1) / (max(W − 1, 1) if align, else W)  for 0 ≤ i < W
      v[j] = (2 j − H + 1) / (max(H − 1, 1) if align, else H)  for 0 ≤ j < H
      y[n, j, i, k] = θ[n, k, 0] uᵢ + θ[n, k, 1] vⱼ + θ[n, k, 2]
      (θ: theta (N, A, B); H: size[2]; W: size[3]; align: align_corners or 0: of images volumes likewise)

    >>> import anynet as an
    >>> an.nn.functional.affine_grid(an.asarray([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2))[0, 0]
    Tensor([[0., 0.],
            [1., 0.]])

    Source: Jaderberg et al.: Spatial transformer networks (2015), equation 1.
    """
    axes = len(size) - 2
    if axes not in (2, 3) or tuple(theta.shape) != (size[0], axes, axes + 1) or min(size) < 1:
        msg = (
            f"affine_grid: theta must be (n, 2, 3) for a size (n, c, h, w), or (n, 3, 4) for (n, c, d, h, w), got "
            f"{tuple(theta.shape)} and {tuple(size)}"
        )
        raise ValueError(msg)
    spatial = tuple(int(k) for k in size[2:])
    lines = []
    for axis in reversed(range(axes)):  # x is the last axis
        k = spatial[axis]
        reach = 1.0 if align_corners else (k - 1) / k
        line = (
            creation.linspace(-reach, reach, k, dtype=theta.dtype, device=theta.device)
            if k > 1
            else creation.zeros(1, dtype=theta.dtype, device=theta.device)
        )
        lines.append(broadcast_to(reshape(line, [k if a == axis else 1 for a in range(axes)]), spatial))
    lines.append(creation.ones(spatial, dtype=theta.dtype, device=theta.device))
    base = reshape(stack(lines, axis=-1), (1, math.prod(spatial), axes + 1))
    return reshape(base @ permute_dims(theta, (0, 2, 1)), (size[0], *spatial, axes))


def _reflected(x: Any, low: Any, span: Any) -> Any:
    """x mirrored into [low, low + span], along each axis; 0 where there is no span."""
    some = span > 0.0
    safe = e.where(some, span, 1.0)
    x = e.abs(x - low)
    turns = e.floor(x / safe)
    rest = x - turns * safe
    return e.where(some, e.where(e.equal(e.remainder(turns, 2.0), 0.0), rest, safe - rest) + low, x * 0.0)


def _placed(grid: Any, padding_mode: str) -> Any:
    """Coordinates that can be rounded to an index: −1 for NaN, and for places too far away to have a mirror image."""
    if padding_mode == "reflection":
        return e.where(e.abs(grid) < 1e30, grid, -1.0)
    return e.clip(e.where(e.isnan(grid), -1.0, grid), -8.0, 8.0)  # beyond, only padding is read


def _inside(x: Any, lengths: Any, padding_mode: str, align_corners: bool) -> Any:
    """Coordinates in pixels, (…, axes), moved into the image, according to the padding mode."""
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        x = _reflected(x, 0.0, lengths - 1.0) if align_corners else _reflected(x, -0.5, lengths)
    # on the edge there is no gradient, as in PyTorch
    return e.where(x <= 0.0, 0.0, e.where(x >= lengths - 1.0, lengths - 1.0, x))


def _pixels(corners: Any, spatial: tuple[int, ...]) -> Array:
    """The rows (points · taps) that are read, of images of which each pixel is a row, for each combination of taps: whole-numbered
    corners (n, points, taps, axes), the last axis of space first."""
    at = unwrap(corners)
    xp = backend_of(at)
    n, points, taps, axes = at.shape
    rows: Any = None
    for d, k in enumerate(spatial):
        place = xp.astype(xp.clip(at[..., axes - 1 - d], 0, k - 1), xp.int64)
        place = xp.reshape(place, (n, points, *(taps if a == d else 1 for a in range(axes))))
        rows = place if rows is None else rows * k + place
    if n > 1:
        images = xp.arange(n, dtype=xp.int64, device=xp.native_device(xp.device_of(at))) * math.prod(spatial)
        rows = rows + xp.reshape(images, (n, *[1] * (axes + 1)))
    return xp.reshape(rows, (-1,))


def _cubic(t: Any) -> list[Any]:
    """The weights of the four pixels around a place at distance t from the second (Keys 1981, a = −0.75)."""
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


@equation(
    "q[n, p] = (g[n, p] + 1) * (T - 1) / 2 if align else ((g[n, p] + 1) * T - 1) / 2",
    "u[n, p, k: 4] = floor(q[n, p]) + k - 1 if mode == 'bicubic' else q[n, p]",
    "a = 0 if align else -1 / 2",
    "b = max(T - 1, 1) if align else T",
    "r[n, p, k] = a + b - abs(abs(u[n, p, k] - a) % (2 * b) - b) if padding_mode == 'reflection' else u[n, p, k]",
    "v[n, p, k] = r[n, p, k] if padding_mode == 'zeros' else clip(r[n, p, k], 0, T - 1)",
    "h[n, p, k: 4] = abs(q[n, p] - floor(q[n, p]) + 1 - k)",
    "κ[n, p, k] = (5 * h[n, p, k] / 4 - 9 / 4) * h[n, p, k]**2 + 1 if h[n, p, k] < 1 else"
    " 3 - 3 * ((h[n, p, k] - 5) * h[n, p, k] + 8) * h[n, p, k] / 4",
    "w[n, p, i: T] = [i == round(v[n, p, 0])] if mode == 'nearest' else max(0, 1 - abs(v[n, p, 0] - i)) if mode == 'bilinear'"
    " else sum[k](κ[n, p, k] * [i == v[n, p, k]])",
    "y[n, c, p] = sum[i: T](x[n, c, i] * prod(w[n, p, i]))",
    where="x[N, C, T] = input; g[N, P*] = grid: x for the last axis; align = align_corners or 0; mode; padding_mode",
    spatial="q g u a b r v h κ w i T",
)
def grid_sample(
    input: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """input (n, c, h, w) read at grid (n, h', w', 2) of (x, y) → (n, c, h', w'); or (n, c, d, h, w) at (n, d', h', w', 3).

    −1 and 1 are the centres of the outermost pixels (`align_corners`) or their outer edges. `mode`: "bilinear" (also of
    volumes), "nearest" (halves to even) or "bicubic" (images only). Outside the image `padding_mode` "zeros", "border" or
    "reflection". NaN in the grid is read as −1, as PyTorch documents it, and so is what is beyond 1e30 under "reflection";
    such places have no gradient.

    Equation:
      q[n, p] = (g[n, p] + 1) (T − 1) / 2 if align, else ((g[n, p] + 1) T − 1) / 2
      u[n, p, k] = ⌊q[n, p]⌋ + k − 1 if mode = "bicubic", else q[n, p]  for 0 ≤ k < 4
      a = 0 if align, else −1 / 2
      b = max(T − 1, 1) if align, else T
      r[n, p, k] = a + b − ||u[n, p, k] − a| mod (2 b) − b| if padding_mode = "reflection", else u[n, p, k]
      v[n, p, k] = r[n, p, k] if padding_mode = "zeros", else clip(r[n, p, k], 0, T − 1)
      h[n, p, k] = |q[n, p] − ⌊q[n, p]⌋ + 1 − k|  for 0 ≤ k < 4
      κ[n, p, k] = (5 h[n, p, k] / 4 − 9 / 4) · h[n, p, k]² + 1 if h[n, p, k] < 1, else 3 − 3 · ((h[n, p, k] − 5) h[n, p, k] +
          8) h[n, p, k] / 4
      w[n, p, i] = [i = round(v[n, p, 0])] if mode = "nearest", max(0, 1 − |v[n, p, 0] − i|) if mode = "bilinear", else Σ_k
          κ[n, p, k] · [i = v[n, p, k]]  for 0 ≤ i < T
      y[n, c, p] = Σ_{0 ≤ i < T} x[n, c, i] · (Π w[n, p, i])
      (x: input (N, C, T); g: grid (N, P): x for the last axis; align: align_corners or 0; mode; padding_mode; one for each
      spatial axis: q, g, u, a, b, r, v, h, κ, w, i, T)

    >>> import anynet as an
    >>> x = an.asarray([[[[1.0, 3.0]]]])
    >>> an.nn.functional.grid_sample(x, an.asarray([[[[0.0, 0.0]]]])).item()
    2.0

    Source: Jaderberg et al.: Spatial transformer networks (2015), equation 3.
    """
    _check_grid(input, grid, mode, padding_mode)
    if is_batched(input, grid):
        return each(_sample, input, grid, mode, padding_mode, bool(align_corners))
    y: Tensor = _sample(input, grid, mode, padding_mode, bool(align_corners))
    return y


@fused(2, any_layout=True)
def _sample(input: Any, grid: Any, mode: str, padding_mode: str, align: bool) -> Any:
    """`grid_sample` of what has been checked. Each pixel is a row of channels, and what is read are sums of rows with weights."""
    spatial, outputs = tuple(input.shape[2:]), tuple(grid.shape[1:-1])
    (n, c), axes, points = input.shape[:2], len(spatial), math.prod(outputs)
    plain = unwrap(grid)
    xp = backend_of(plain)
    device = xp.native_device(xp.device_of(plain))
    lengths = wrap(xp.asarray([float(k) for k in reversed(spatial)], dtype=plain.dtype, device=device))
    q = reshape(_placed(grid, padding_mode), (n, points, axes)) + 1.0  # x is the last axis of space
    q = q * ((lengths - 1.0) / 2.0) if align else (q * lengths - 1.0) / 2.0
    if mode != "bicubic":
        q = _inside(q, lengths, padding_mode, align)
    if mode == "nearest":
        corners = expand_dims(e.round(q), axis=2)
    else:
        first = e.floor(q)
        if mode == "bicubic":
            weights = stack(_cubic(q - first), axis=2)
            corners = stack([first - 1.0, first, first + 1.0, first + 2.0], axis=2)
            corners = _inside(corners, lengths, padding_mode, align)
        else:
            weights = stack([first + 1.0 - q, q - first], axis=2)
            corners = stack([first, first + 1.0], axis=2)
    pixels = permute_dims(input, (0, *range(2, axes + 2), 1))
    if padding_mode == "zeros":  # one more pixel on each side, so that what lies outside is read, too
        pixels = pad_(pixels, (0, 0, *(1, 1) * axes), "constant", 0.0)
        spatial, corners = tuple(k + 2 for k in spatial), corners + 1.0
    rows = _pixels(corners, spatial)
    pixels = reshape(pixels, (n * math.prod(spatial), c))
    if mode == "nearest":
        y = gather_rows(pixels, index=rows)
    else:
        weight: Any = None
        for d in range(axes):
            shape = (n * points, *(weights.shape[2] if a == d else 1 for a in range(axes)))
            along = reshape(weights[..., axes - 1 - d], shape)
            weight = along if weight is None else weight * along
        taps = weights.shape[2] ** axes
        number = xp.arange(n * points, dtype=xp.int64, device=device)
        number = xp.reshape(xp.broadcast_to(xp.expand_dims(number, axis=1), (n * points, taps)), (-1,))
        y = sparse_matmul(reshape(weight, (-1,)), pixels, rows=number, columns=rows, count=n * points)
    return permute_dims(reshape(y, (n, *outputs, c)), (0, axes + 1, *range(1, axes + 1)))


def _check_grid(input: ArrayLike, grid: ArrayLike, mode: str, padding_mode: str) -> None:
    """Refuse inputs that do not fit."""
    axes = len(input.shape) - 2
    shapes = f"input {tuple(input.shape)} and grid {tuple(grid.shape)}"
    if (
        axes not in (2, 3)
        or len(grid.shape) != axes + 2
        or grid.shape[0] != input.shape[0]
        or grid.shape[-1] != axes
    ):
        msg = (
            "grid_sample: input and grid must be (n, c, h, w) and (n, h', w', 2), or (n, c, d, h, w) and (n, d', h', w', 3), "
            f"got {shapes}"
        )
        raise ShapeError(msg)
    if mode not in ("bilinear", "nearest", "bicubic") or (mode == "bicubic" and axes == 3):
        msg = f"grid_sample: mode must be 'bilinear', 'nearest' or, for images, 'bicubic', got {mode!r}"
        raise ValueError(msg)
    if padding_mode not in ("zeros", "border", "reflection"):
        msg = f"grid_sample: padding_mode must be 'zeros', 'border' or 'reflection', got {padding_mode!r}"
        raise ValueError(msg)
    if 0 in tuple(input.shape[2:]):
        msg = f"grid_sample: input must have at least one pixel, got {shapes}"
        raise ShapeError(msg)


# ----- fractional pooling -----


@equation(
    "r = R",
    "y[..., c: C // r**2, h: H * r, w: W * r] = x[..., c * r**2 + h % r * r + w % r, h // r, w // r]",
    where="x[..., C, H, W] = input; R = upscale_factor",
)
def pixel_shuffle(input: ArrayLike, upscale_factor: int) -> Tensor:
    """(…, c r², h, w) → (…, c, h r, w r): channels become places (Shi et al. 2016).

    Equation:
      r = R
      y[c, h, w] = x[c r² + h mod r r + w mod r, ⌊h / r⌋, ⌊w / r⌋]  for 0 ≤ c < ⌊C / r²⌋, 0 ≤ h < H r, 0 ≤ w < W r
      (x: input (…, C, H, W); R: upscale_factor)

    >>> import anynet as an
    >>> an.nn.functional.pixel_shuffle(an.asarray([[[1]], [[2]], [[3]], [[4]]]), 2).tolist()
    [[[1, 2], [3, 4]]]
    """
    r, shape = upscale_factor, tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        msg = f"pixel_shuffle: input must be (…, channels, h, w) with channels divisible by {r}², got shape {shape}"
        raise ValueError(msg)
    *lead, c, h, w = shape
    n, c = len(lead), c // (r * r)
    axes = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return rearrange(input, split=(*lead, c, r, r, h, w), axes=axes, shape=(*lead, c, h * r, w * r))


@equation(
    "y[..., c: C * r**2, h: H // r, w: W // r] = x[..., c // r**2, h * r + c % r**2 // r, w * r + c % r]",
    where="x[..., C, H, W] = input; r = downscale_factor",
)
def pixel_unshuffle(input: ArrayLike, downscale_factor: int) -> Tensor:
    """(…, c, h r, w r) → (…, c r², h, w): the inverse of `pixel_shuffle`.

    Equation:
      y[c, h, w] = x[⌊c / r²⌋, h r + ⌊c mod r² / r⌋, w r + c mod r]  for 0 ≤ c < C r², 0 ≤ h < ⌊H / r⌋, 0 ≤ w < ⌊W / r⌋
      (x: input (…, C, H, W); r: downscale_factor)

    >>> import anynet as an
    >>> an.nn.functional.pixel_unshuffle(an.asarray([[[1, 2], [3, 4]]]), 2).tolist()
    [[[1]], [[2]], [[3]], [[4]]]
    """
    r, shape = downscale_factor, tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-1] % r or shape[-2] % r:
        msg = f"pixel_unshuffle: input must be (…, channels, h, w) with h and w divisible by {r}, got shape {shape}"
        raise ValueError(msg)
    *lead, c, h, w = shape
    n, h, w = len(lead), h // r, w // r
    axes = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return rearrange(input, split=(*lead, c, h, r, w, r), axes=axes, shape=(*lead, c * r * r, h, w))


@equation(
    "y[n, c: C, i] = x[n, c % g * (C // g) + c // g, i]",
    where="x[N, C, I*] = input; g = groups",
)
def channel_shuffle(input: ArrayLike, groups: int) -> Tensor:
    """(n, g k, …) → channels in the order 0, k, 2k, …, 1, k+1, …: one of each group in turn (Zhang et al. 2018).

    Equation:
      y[n, c, i] = x[n, c mod g ⌊C / g⌋ + ⌊c / g⌋, i]  for 0 ≤ c < C
      (x: input (N, C, I); g: groups)

    >>> import anynet as an
    >>> an.nn.functional.channel_shuffle(an.asarray([[[1], [2], [3], [4]]]), 2).tolist()
    [[[1], [3], [2], [4]]]
    """
    shape = tuple(input.shape)
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        msg = f"channel_shuffle: input must be (batch, channels, …) with channels divisible by {groups}, got shape {shape}"
        raise ValueError(msg)
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    return rearrange(input, split=split, axes=(0, 2, 1, *range(3, len(shape) + 1)), shape=shape)


@equation(interpolate)
def upsample(
    input: ArrayLike,
    size: Size | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate`, under its older name.

    Equation:
      S = ⌊T φ⌋ if R = 0, else R
      ρ = (T − 1) / max(S − 1, 1) if align, T / S if R ≠ 0 or again, else 1 / φ
      u[t] = t ρ if align and not antialias, else (t + 1 / 2) · ρ − 1 / 2  for 0 ≤ t < S
      a = −1 / 2 if antialias, else −3 / 4
      h[t, k] = |k − 2 − uₜ| / (max(ρ, 1) if antialias, else 1)  for 0 ≤ t < S, 0 ≤ k < T + 4
      κ[t, k] = max(0, 1 − h[t, k]) if mode ≠ "bicubic", ((a + 2) h[t, k] − a − 3) h[t, k]² + 1 if h[t, k] < 1, a · (((h[t, k]
          − 5) h[t, k] + 8) h[t, k] − 4) if h[t, k] < 2, else 0  for 0 ≤ t < S, 0 ≤ k < T + 4
      e[t] = ⌊t T / S⌋ if mode = "area", else min(⌊(t + 1 / 2 if mode = "nearest-exact", else t) · ρ⌋, T − 1)  for 0 ≤ t < S
      f[t] = ⌈(t + 1) T / S⌉ if mode = "area", else eₜ + 1  for 0 ≤ t < S
      w[t, i] = [eₜ ≤ i < fₜ] / (fₜ − eₜ) if mode = "area" or mode = "nearest" or mode = "nearest-exact", κ[t, i + 2] / (Σ_{0
          ≤ k < T} κ[t, k + 2]) if antialias, else Σ_k κ[t, k] · [i = clip(k − 2, 0, T − 1)]  for 0 ≤ t < S, 0 ≤ i < T
      y[n, c, t] = Σ_{0 ≤ i < T} x[n, c, i] · (Π w[t, i])  for 0 ≤ t < S
      (x: input (N, C, T); R: size or 0; φ: scale_factor or 1; again: recompute_scale_factor or 0; align: align_corners or 0;
      antialias: or 0; mode; one for each spatial axis: t, i, k, u, h, κ, e, f, w, T, S, R, φ, ρ)

    >>> import anynet as an
    >>> an.nn.functional.upsample(an.asarray([[[1.0, 2.0]]]), scale_factor=2).tolist()
    [[[1.0, 1.0, 2.0, 2.0]]]
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


@equation(
    """
        y[..., t: T + a + b] = x[..., t - a] if mode == "constant" and v == 0 else (x[..., t - a] if 0 <= t - a < T else
            v) if mode == "constant" else x[..., T - 1 - abs(T - 1 - abs(t - a))] if mode == "reflect" else x[...,
            clip(t - a, 0, T - 1)] if mode == "replicate" else x[..., (t - a) % T]
    """,
    where="""
        x[..., T] = input
        a = pad[0]
        b = pad[1]
        mode
        v = value or 0: of the last axis
        the others are padded likewise
    """,
)
def pad(input: ArrayLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Make an array longer at the ends of its last axes, or shorter where a number is negative.

    `pad` lists (before, after) for the last axis, then for the one before it, and so on. Modes: "constant" (with `value`, 0 unless
    given), "reflect" (without the edge), "replicate" (the edge), "circular".

    Errors: ValueError for an unknown mode, and for more than there is to reflect, repeat or cut away.

    Equation:
      y[t] = x[t − a] if mode = "constant" and v = 0, (x[t − a] if 0 ≤ t − a < T, else v) if mode = "constant", x[T − 1 − |T −
          1 − |t − a||] if mode = "reflect", x[clip(t − a, 0, T − 1)] if mode = "replicate", else x[(t − a) mod T]  for 0 ≤ t
          < T + a + b
      (x: input (…, T); a: pad[0]; b: pad[1]; mode; v: value or 0: of the last axis the others are padded likewise)

    >>> import anynet as an
    >>> an.nn.functional.pad(an.asarray([1.0, 2.0]), (1, 2)).tolist()
    [0.0, 1.0, 2.0, 0.0, 0.0]
    """
    return pad_(input, pad, mode, 0.0 if value is None else value)
