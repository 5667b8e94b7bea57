"""Branches and blocks that are left out by chance (`torchvision.ops.stochastic_depth`, `drop_block`)."""

from __future__ import annotations

import math
from typing import Any

import anynet.torch as _room

__all__ = [
    "DropBlock2d",
    "DropBlock3d",
    "StochasticDepth",
    "drop_block2d",
    "drop_block3d",
    "stochastic_depth",
]

torch: Any = _room
_nn: Any = _room.nn


def _chance(where: str, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        msg = f"{where}: p must be in [0, 1], got {p}"
        raise ValueError(msg)


def stochastic_depth(input: Any, p: float, mode: str, training: bool = True) -> Any:
    """Zeros with probability p, else x / (1 − p), for each sample (mode "row") or for all of them at once ("batch") (Huang et al. 2016)."""
    _chance("stochastic_depth", p)
    if mode not in ("batch", "row"):
        msg = f"stochastic_depth: mode must be 'batch' or 'row', got {mode!r}"
        raise ValueError(msg)
    if not training or p == 0.0:
        return input
    size = [len(input) if mode == "row" else 1] + [1] * (input.ndim - 1)
    noise = torch.empty(size, dtype=input.dtype, device=input.device).bernoulli_(1.0 - p)
    return input * (noise / (1.0 - p) if p < 1.0 else noise)


class StochasticDepth(_nn.Module):  # type: ignore[misc]
    """`stochastic_depth` as a layer, while it is trained."""

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, input: Any) -> Any:
        """x, or zeros."""
        return stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, mode={self.mode})"


def _drop_block(
    rank: int, input: Any, p: float, block_size: int, inplace: bool, eps: float, training: bool
) -> Any:
    where = f"drop_block{rank}d"
    _chance(where, p)
    if input.ndim != rank + 2:
        msg = f"{where}: input must have {rank + 2} axes, got {input.ndim}"
        raise ValueError(msg)
    if not training or p == 0.0:
        return input
    sizes = tuple(input.shape[2:])
    block = min(block_size, *sizes)
    if block % 2 == 0:
        msg = f"{where}: block_size must be odd, got {block}"
        raise ValueError(msg)
    inner = [n - block + 1 for n in sizes]
    gamma = p * math.prod(sizes) / (block**rank * math.prod(inner))
    noise = torch.empty((*input.shape[:2], *inner), dtype=input.dtype, device=input.device).bernoulli_(gamma)
    pooled = getattr(_nn.functional, f"max_pool{rank}d")
    noise = 1 - pooled(
        _nn.functional.pad(noise, [block // 2] * (2 * rank)), block, stride=1, padding=block // 2
    )
    scale = noise.numel() / (eps + noise.sum())
    return input.mul_(noise).mul_(scale) if inplace else input * noise * scale


def drop_block2d(
    input: Any, p: float, block_size: int, inplace: bool = False, eps: float = 1e-6, training: bool = True
) -> Any:
    """Zeros in square blocks of pictures (n, c, h, w), which are about a part p of them; what is left is scaled up (Ghiasi et al. 2018)."""
    return _drop_block(2, input, p, block_size, inplace, eps, training)


def drop_block3d(
    input: Any, p: float, block_size: int, inplace: bool = False, eps: float = 1e-6, training: bool = True
) -> Any:
    """`drop_block2d` of videos (n, c, d, h, w)."""
    return _drop_block(3, input, p, block_size, inplace, eps, training)


class DropBlock2d(_nn.Module):  # type: ignore[misc]
    """`drop_block2d` as a layer, while it is trained."""

    _rank = 2

    def __init__(self, p: float, block_size: int, inplace: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.p, self.block_size, self.inplace, self.eps = p, block_size, inplace, eps

    def forward(self, input: Any) -> Any:
        """x without some blocks."""
        return _drop_block(self._rank, input, self.p, self.block_size, self.inplace, self.eps, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, block_size={self.block_size}, inplace={self.inplace})"


class DropBlock3d(DropBlock2d):
    """`drop_block3d` as a layer, while it is trained."""

    _rank = 3
