"""The U-Net (Ronneberger et al.: U-Net: convolutional networks for biomedical image segmentation, 2015)."""

from __future__ import annotations

from typing import Any

from anynet.models.options import check_sizes
from anynet.nn import functional as F
from anynet.nn.activations import ReLU
from anynet.nn.containers import Sequential
from anynet.nn.conv import Conv2d, ConvTranspose2d
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm2d
from anynet.nn.pooling import MaxPool2d
from anynet.nn.resampling import Upsample
from anynet.ops.manipulation import concat
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["UNet"]


class _DoubleConv(Module):
    """Twice: 3×3 convolution, batch norm, relu."""

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None) -> None:
        mid = mid_channels or out_channels
        self.double_conv = Sequential(
            Conv2d(in_channels, mid, 3, padding=1, bias=False),
            BatchNorm2d(mid),
            ReLU(),
            Conv2d(mid, out_channels, 3, padding=1, bias=False),
            BatchNorm2d(out_channels),
            ReLU(),
        )

    def forward(self, x: Any) -> Tensor:
        return self.double_conv(x)  # type: ignore[no-any-return]


class _Down(Module):
    """The maximum of each 2×2, then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.maxpool_conv = Sequential(MaxPool2d(2), _DoubleConv(in_channels, out_channels))

    def forward(self, x: Any) -> Tensor:
        return self.maxpool_conv(x)  # type: ignore[no-any-return]


class _Up(Module):
    """Twice the size, the picture of the way down beside it, two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, bilinear: bool) -> None:
        self.up: Module
        if bilinear:
            self.up = Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = _DoubleConv(in_channels, out_channels, in_channels // 2)
        else:
            self.up = ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)
            self.conv = _DoubleConv(in_channels, out_channels)

    def forward(self, x: Any, beside: Any) -> Tensor:
        x = self.up(x)
        rows, columns = beside.shape[2] - x.shape[2], beside.shape[3] - x.shape[3]
        if rows or columns:  # an odd size was halved
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.conv(concat([beside, x], axis=1))


class UNet(Module):
    """A class (or a number) for each pixel: a way down that halves the picture `depth` times, and a way up that joins what it passed.

    Shapes: (n, in_channels, height, width) → (n, num_classes, height, width); height and width of at least 2^depth, any numbers.

    Parameters:
      in_channels, num_classes: of the pictures; of the outputs (logits for `cross_entropy` with targets (n, height, width), or one for
        `bce_with_logits`).
      width: the channels of the first level; each level below has twice as many.
      depth: how many times the picture is halved.
      bilinear: enlarge by interpolation and not by transposed convolutions: about half the parameters.

    Parameters' names: inc, down1 … down4, up1 … up4, outc, those of the widely used PyTorch code. 31,037,698 parameters for
    ``UNet(3, 2)``.

    Errors: ValueError for sizes below 1; `ShapeError` for pictures that are too small.

    >>> import anynet as an
    >>> an.models.UNet(1, 2, width=4, depth=2)(an.zeros((1, 1, 13, 16))).shape
    (1, 2, 13, 16)

    Source: Ronneberger et al. (2015), with batch norm and padded convolutions.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        width: int = 64,
        depth: int = 4,
        bilinear: bool = False,
    ) -> None:
        check_sizes("UNet", in_channels=in_channels, num_classes=num_classes, width=width, depth=depth)
        self.depth = depth
        widths = [width << i for i in range(depth + 1)]
        half = (
            2 if bilinear else 1
        )  # interpolation keeps the channels, so they are halved by the convolutions
        self.inc = _DoubleConv(in_channels, width)
        for i in range(depth):
            out = widths[i + 1] // (half if i == depth - 1 else 1)
            setattr(self, f"down{i + 1}", _Down(widths[i], out))
        for i in range(depth):
            at = depth - i
            out = widths[at - 1] // (half if at > 1 else 1)
            setattr(self, f"up{i + 1}", _Up(widths[at], out, bilinear))
        self.outc = Sequential({"conv": Conv2d(width, num_classes, 1)})

    def forward(self, x: ArrayLike) -> Tensor:
        """The logits of each pixel."""
        shape: tuple[int, ...] = getattr(x, "shape", ())
        least = 1 << self.depth
        if len(shape) == 4 and min(shape[2:]) < least:
            msg = (
                f"UNet: pictures must have at least {least} rows and columns, so that they can be halved {self.depth} times, "
                f"got {shape[2]}×{shape[3]}"
            )
            raise ShapeError(msg)
        passed = [self.inc(x)]
        for i in range(self.depth):
            passed.append(getattr(self, f"down{i + 1}")(passed[-1]))
        y = passed.pop()
        for i in range(self.depth):
            y = getattr(self, f"up{i + 1}")(y, passed.pop())
        return self.outc(y)  # type: ignore[no-any-return]
