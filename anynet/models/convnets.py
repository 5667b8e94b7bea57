"""Small convolutional networks for pictures that are trained from the beginning, also on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anynet.models.options import check_probability, check_sizes
from anynet.nn import (
    AdaptiveMaxPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from anynet.ops.reductions import max as max_over
from anynet.tensor import Tensor

__all__ = ["ResNet9", "SmallCNN"]


def _block(into: int, out: int, pool: bool = False) -> Sequential:
    """Convolution 3×3, the largest of 2×2 places, batch norm, ReLU: pooled first, since norm and ReLU then have a quarter to do."""
    layers: list[Module] = [Conv2d(into, out, 3, padding=1, bias=False)]
    if pool:
        layers.append(MaxPool2d(2))
    return Sequential(*layers, BatchNorm2d(out), ReLU())


class _Residual(Module):
    def __init__(self, channels: int) -> None:
        self.branch = Sequential(_block(channels, channels), _block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


class SmallCNN(Module):
    """Convolutions of 3×3 that halve the picture until it is about 4×4, one more there, the maximum of each channel, a linear layer.

    x (n, in_channels, height, width) → (n, num_classes). The last convolutions have `width` channels, each one before half as many
    (but at least 8), so that larger pictures do not cost more for each channel. `size` is the height and width that the pictures will
    have (or one number): it decides how often they are halved; pictures of other sizes work, too.

    >>> import anynet as an
    >>> net = an.models.SmallCNN(num_classes=10)
    >>> net(an.zeros((2, 3, 32, 32))).shape, sum(p.size for p in net.parameters())
    ((2, 10), 242474)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        size: int | Sequence[int] = 32,
        width: int = 128,
        dropout: float = 0.0,
    ) -> None:
        shortest = size if isinstance(size, int) else min(size)
        check_sizes("SmallCNN", num_classes=num_classes, in_channels=in_channels, size=shortest, width=width)
        check_probability("SmallCNN", dropout=dropout)
        halvings = max(1, round(math.log2(max(shortest, 8) / 4)))
        widths = [max(8, width >> (halvings - 1 - k)) for k in range(halvings)]
        widths[-1] = width
        blocks: list[Module] = []
        for before, after in zip([in_channels, *widths], widths, strict=False):
            blocks.append(_block(before, after, pool=True))
        self.features = Sequential(*blocks, _block(width, width))
        self.pool = AdaptiveMaxPool2d(1)
        self.flatten = Flatten()
        self.dropout = Dropout(dropout)
        self.head = Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, num_classes) of pictures (n, in_channels, height, width)."""
        return self.head(self.dropout(self.flatten(self.pool(self.features(x)))))


class ResNet9(Module):
    """Eight convolutions and a linear layer, two residual blocks among them, as in the fast trainings of CIFAR-10.

    x (n, in_channels, height, width) → (n, num_classes); height and width at least 8. Channels: `width`, then 2, 4 and 8 times as many.

    >>> import anynet as an
    >>> an.models.ResNet9(width=8)(an.zeros((2, 3, 32, 32))).shape
    (2, 10)

    Source: Page: How to train your ResNet (2018).
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, width: int = 64, dropout: float = 0.0
    ) -> None:
        check_sizes("ResNet9", num_classes=num_classes, in_channels=in_channels, width=width)
        check_probability("ResNet9", dropout=dropout)
        self.features = Sequential(
            _block(in_channels, width), _block(width, 2 * width, pool=True), _Residual(2 * width),
            _block(2 * width, 4 * width, pool=True), _block(4 * width, 8 * width, pool=True), _Residual(8 * width),
        )  # fmt: skip
        self.dropout = Dropout(dropout)
        self.head = Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, num_classes) of pictures (n, in_channels, height, width)."""
        largest: Tensor = max_over(self.features(x), axis=(2, 3))
        return self.head(self.dropout(largest))
