"""Densely connected networks (Huang et al.: Densely connected convolutional networks, 2017), in the forms for ImageNet and for CIFAR.

The names of the parameters are torchvision's, so that its weights load by name (`anynet.models.load_weights`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from anynet.models.options import check_probability, check_sizes
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.activations import ReLU
from anynet.nn.containers import Sequential
from anynet.nn.conv import Conv2d
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm2d
from anynet.nn.pooling import AvgPool2d, MaxPool2d
from anynet.ops.manipulation import concat
from anynet.ops.reductions import mean
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["DenseNet", "densenet100", "densenet121", "densenet161", "densenet169", "densenet201"]


class _DenseLayer(Module):
    """`growth` new channels from all before: batch norm, ReLU, 1×1 to bn_size · growth channels, batch norm, ReLU, 3×3."""

    def __init__(self, channels: int, growth: int, bn_size: int, dropout: float) -> None:
        self.norm1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv1 = Conv2d(channels, bn_size * growth, 1, bias=False)
        self.norm2 = BatchNorm2d(bn_size * growth)
        self.relu2 = ReLU()
        self.conv2 = Conv2d(bn_size * growth, growth, 3, padding=1, bias=False)
        self.dropout = dropout

    def forward(self, x: Any) -> Tensor:
        y = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y


class _DenseBlock(Module):
    """Layers each of which sees the input and what all layers before it have made."""

    def __init__(self, layers: int, channels: int, growth: int, bn_size: int, dropout: float) -> None:
        for i in range(layers):
            layer = _DenseLayer(channels + i * growth, growth, bn_size, dropout)
            setattr(self, f"denselayer{i + 1}", layer)
        self.layers = layers

    def forward(self, x: Any) -> Tensor:
        for i in range(self.layers):
            x = concat([x, getattr(self, f"denselayer{i + 1}")(x)], axis=1)
        return x  # type: ignore[no-any-return]


def _transition(channels: int, out: int) -> Sequential:
    return Sequential({
        "norm": BatchNorm2d(channels), "relu": ReLU(), "conv": Conv2d(channels, out, 1, bias=False), "pool": AvgPool2d(2),
    })  # fmt: skip


class DenseNet(Module):
    """Blocks in which each layer adds `growth_rate` channels to all before it: x_l = H_l([x_0, …, x_{l−1}]); between blocks a 1×1
    convolution keeps the share `compression` of the channels and the picture is halved; in the end the mean and a linear layer.

    Shapes: (n, in_channels, height, width) → (n, num_classes), logits. At least 32 rows and columns with the stem "imagenet", and 2 for
    each transition with "cifar".

    Parameters:
      growth_rate: the channels that a layer adds (k).
      block_config: the number of layers in each block.
      num_init_features: channels of the stem.
      bn_size: the bottleneck of a layer has bn_size · growth_rate channels.
      dropout: after each layer's last convolution.
      num_classes, in_channels: of the outputs; of the pictures.
      stem: "imagenet" (7×7 with stride 2, then a maximum over 3×3 with stride 2) or "cifar" (3×3).
      compression: θ, in (0, 1].

    Parameters' names: torchvision's, features.conv0, norm0, denseblock1.denselayer1.norm1, conv1, norm2, conv2, …, transition1.norm, conv,
    …, norm5, classifier (norm5 also where there are three blocks).

    Errors: ValueError for sizes below 1, unknown words, a compression outside (0, 1].

    >>> import anynet as an
    >>> net = an.models.DenseNet(4, (2, 2), 8, num_classes=5, stem="cifar")
    >>> net(an.zeros((2, 3, 16, 16))).shape
    (2, 5)

    Source: Huang et al. (2017), DenseNet-BC.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        num_init_features: int = 64,
        bn_size: int = 4,
        dropout: float = 0.0,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        compression: float = 0.5,
    ) -> None:
        check_sizes(
            "DenseNet", growth_rate=growth_rate, num_init_features=num_init_features, bn_size=bn_size, num_classes=num_classes,
            in_channels=in_channels, block_config=len(block_config), **{f"block_config[{i}]": n for i, n in enumerate(block_config)},
        )  # fmt: skip
        check_probability("DenseNet", dropout=dropout)
        if stem not in ("imagenet", "cifar"):
            msg = f"DenseNet: stem must be 'imagenet' or 'cifar', got {stem!r}"
            raise ValueError(msg)
        if not 0 < compression <= 1:
            msg = f"DenseNet: compression must be in (0, 1], got {compression!r}"
            raise ValueError(msg)
        size, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
        parts: dict[str, Module] = {
            "conv0": Conv2d(in_channels, num_init_features, size, stride=stride, padding=padding, bias=False),
        }
        if stem == "imagenet":
            parts |= {
                "norm0": BatchNorm2d(num_init_features), "relu0": ReLU(), "pool0": MaxPool2d(3, stride=2, padding=1),
            }  # fmt: skip
        channels = num_init_features
        for i, layers in enumerate(block_config):
            parts[f"denseblock{i + 1}"] = _DenseBlock(layers, channels, growth_rate, bn_size, dropout)
            channels += layers * growth_rate
            if i < len(block_config) - 1:
                out = max(1, int(channels * compression))
                parts[f"transition{i + 1}"] = _transition(channels, out)
                channels = out
        parts["norm5"] = BatchNorm2d(channels)
        self.features = Sequential(parts)
        self.classifier = Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight)
            elif isinstance(module, Linear) and module.bias is not None:
                init.zeros_(module.bias)

    @staticmethod
    def adapt_state(state: Mapping[str, Any]) -> dict[str, Any]:
        """The files that torchvision publishes call layers "denselayer1.norm.1" and "denselayer1.conv.2"; here, as in its code, norm1 and
        conv2."""
        return {
            re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", name): value
            for name, value in state.items()
        }

    def forward(self, x: ArrayLike) -> Tensor:
        """The logits of pictures."""
        y: Any = F.relu(self.features(x))
        return self.classifier(mean(y, axis=(2, 3)))


def _imagenet(
    growth: int,
    blocks: tuple[int, ...],
    first: int,
    num_classes: int,
    in_channels: int,
    options: dict[str, Any],
) -> DenseNet:
    return DenseNet(growth, blocks, first, num_classes=num_classes, in_channels=in_channels, **options)


def densenet121(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> DenseNet:
    """torchvision's densenet121: 7,978,856 parameters for 1,000 classes. `options` are those of `DenseNet`."""
    return _imagenet(32, (6, 12, 24, 16), 64, num_classes, in_channels, options)


def densenet161(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> DenseNet:
    """torchvision's densenet161: 28,681,000 parameters for 1,000 classes. `options` are those of `DenseNet`."""
    return _imagenet(48, (6, 12, 36, 24), 96, num_classes, in_channels, options)


def densenet169(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> DenseNet:
    """torchvision's densenet169: 14,149,480 parameters for 1,000 classes. `options` are those of `DenseNet`."""
    return _imagenet(32, (6, 12, 32, 32), 64, num_classes, in_channels, options)


def densenet201(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> DenseNet:
    """torchvision's densenet201: 20,013,928 parameters for 1,000 classes. `options` are those of `DenseNet`."""
    return _imagenet(32, (6, 12, 48, 32), 64, num_classes, in_channels, options)


def densenet100(num_classes: int = 10, in_channels: int = 3, **options: Any) -> DenseNet:
    """The paper's DenseNet-BC of 100 layers for CIFAR, k = 12: 769,162 parameters for 10 classes (0.8 million in the paper's table).

    `options` are those of `DenseNet`.

    >>> import anynet as an
    >>> sum(p.size for p in an.models.densenet100().parameters())
    769162
    """
    chosen: dict[str, Any] = {
        "growth_rate": 12,
        "block_config": (16, 16, 16),
        "num_init_features": 24,
        "stem": "cifar",
    }
    return DenseNet(num_classes=num_classes, in_channels=in_channels, **(chosen | options))
