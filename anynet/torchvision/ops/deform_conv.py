"""Convolutions whose places of the input are computed (`torchvision.ops.deform_conv2d`)."""

from __future__ import annotations

import math
from typing import Any

import anynet.torch as _room

__all__ = ["DeformConv2d", "deform_conv2d"]

torch: Any = _room
_nn: Any = _room.nn


def _pair(value: Any) -> tuple[int, int]:
    a, b = (value, value) if isinstance(value, int) else value
    return a, b


def _sampled(input: Any, y: Any, x: Any) -> Any:
    """Pictures (n, c, h, w) between their pixels, at places (n, k) in pixels: (n, c, k); 0 outside."""
    n, c, h, w = input.shape
    flat, found = input.reshape(n, c, h * w), 0
    low_y, low_x = y.detach().floor(), x.detach().floor()
    part_y, part_x = y - low_y, x - low_x
    for iy, wy in ((low_y, 1 - part_y), (low_y + 1, part_y)):
        for ix, wx in ((low_x, 1 - part_x), (low_x + 1, part_x)):
            there = ((iy >= 0) & (iy < h) & (ix >= 0) & (ix < w))[:, None, :]
            place = torch.where(there[:, 0], iy * w + ix, 0.0).long()
            pixels = flat.gather(2, place[:, None, :].expand(n, c, place.shape[1]))
            found = found + torch.where(there, pixels * (wy * wx)[:, None, :], 0.0)
    return found


def deform_conv2d(
    input: Any, offset: Any, weight: Any, bias: Any = None, stride: Any = (1, 1), padding: Any = (0, 0), dilation: Any = (1, 1),
    mask: Any = None,
) -> Any:  # fmt: skip
    """A convolution of which each place of the input is moved by `offset`, and with `mask` weighted (Dai et al. 2017; Zhu et al. 2019).

    input (n, c, h, w), weight (o, c / groups, kh, kw), offset (n, 2 · g · kh · kw, H, W), for each of g groups of channels and each place
    of the kernel down and across, mask (n, g · kh · kw, H, W). Gradients go to all of them.
    """
    (dy, dx), (py, px), (ey, ex) = _pair(stride), _pair(padding), _pair(dilation)
    n, c, h, w = input.shape
    o, _, kh, kw = weight.shape
    tall, wide = (h + 2 * py - ey * (kh - 1) - 1) // dy + 1, (w + 2 * px - ex * (kw - 1) - 1) // dx + 1
    groups, sets = c // weight.shape[1], offset.shape[1] // (2 * kh * kw)
    if (
        not sets
        or c % sets
        or c != groups * weight.shape[1]
        or tuple(offset.shape) != (n, 2 * sets * kh * kw, tall, wide)
    ):
        msg = (
            f"deform_conv2d: offset must be (n, 2 · g · {kh} · {kw}, {tall}, {wide}) and weight (o, c / groups, {kh}, {kw}) for {n} "
            f"pictures of {c} channels, got {tuple(offset.shape)} and {tuple(weight.shape)}"
        )
        raise ValueError(msg)
    if mask is not None and tuple(mask.shape) != (n, sets * kh * kw, tall, wide):
        msg = f"deform_conv2d: mask must be {(n, sets * kh * kw, tall, wide)}, got {tuple(mask.shape)}"
        raise ValueError(msg)
    options = {"dtype": input.dtype, "device": input.device}
    down = (
        torch.arange(kh, **options).view(kh, 1, 1, 1) * ey
        - py
        + torch.arange(tall, **options).view(tall, 1) * dy
    )
    across = torch.arange(kw, **options).view(kw, 1, 1) * ex - px + torch.arange(wide, **options) * dx
    moved = offset.reshape(n * sets, kh, kw, 2, tall, wide)
    y, x = (moved[:, :, :, 0] + down).flatten(1), (moved[:, :, :, 1] + across).flatten(1)
    columns = _sampled(input.reshape(n * sets, c // sets, h, w), y, x)
    if mask is not None:
        columns = columns * mask.reshape(n * sets, 1, -1)
    columns = columns.reshape(n, groups, c // groups * kh * kw, tall * wide)
    result = (weight.reshape(1, groups, o // groups, -1) @ columns).reshape(n, o, tall, wide)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


class DeformConv2d(_nn.Module):  # type: ignore[misc]
    """`deform_conv2d` as a layer: offset, and mask, are given at each call."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if in_channels % groups or out_channels % groups:
            msg = f"DeformConv2d: in_channels and out_channels must be divisible by groups, got {in_channels}, {out_channels} and {groups}"
            raise ValueError(msg)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.weight = _nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", _nn.Parameter(torch.empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as those of convolutions."""
        _nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            _nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any, offset: Any, mask: Any = None) -> Any:
        """The convolution at moved places."""
        return deform_conv2d(
            input, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )
