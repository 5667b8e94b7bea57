"""Residual networks (He et al.: Deep residual learning for image recognition, 2015), in the forms for ImageNet and for CIFAR.

The names of the parameters are torchvision's, so that its weights load by name (`anynet.models.load_weights`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from anynet.models.options import check_sizes
from anynet.nn import init
from anynet.nn.activations import ReLU
from anynet.nn.containers import Sequential
from anynet.nn.conv import Conv2d
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm2d
from anynet.nn.pooling import AdaptiveAvgPool2d, MaxPool2d
from anynet.nn.shape import Flatten
from anynet.ops.creation import zeros
from anynet.ops.manipulation import concat
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "ResNet", "resnet18", "resnet20", "resnet32", "resnet34", "resnet50", "resnet56", "resnet101", "resnet152",
]  # fmt: skip


class _PaddedShortcut(Module):
    """The input at every second place, with channels of zeros behind: He et al.'s shortcut without parameters ("option A")."""

    def __init__(self, channels: int, stride: int) -> None:
        self.channels, self.stride = channels, stride

    def forward(self, x: Any) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        n, c, h, w = x.shape
        more = (n, self.channels - c, h, w)
        return concat([x, zeros(more, dtype=x.dtype, device=x.device)], axis=1)


class BasicBlock(Module):
    """y = relu(x + bn(conv(relu(bn(conv x))))), two convolutions of 3×3; the first has the stride."""

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int, downsample: Module | None, groups: int, base_width: int
    ) -> None:
        if groups != 1 or base_width != 64:
            msg = "ResNet: groups and width_per_group are for bottleneck blocks; a basic block has groups=1, width_per_group=64"
            raise ValueError(msg)
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.relu = ReLU()
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Any) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + same)


class Bottleneck(Module):
    """Convolutions of 1×1, 3×3 (with the stride, as in torchvision) and 1×1 with four times the channels; the sum as in `BasicBlock`."""

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int, downsample: Module | None, groups: int, base_width: int
    ) -> None:
        width = int(planes * (base_width / 64.0)) * groups
        self.conv1 = Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = Conv2d(width, planes * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(planes * self.expansion)
        self.relu = ReLU()
        self.downsample = downsample

    def forward(self, x: Any) -> Tensor:
        same = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + same)


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(Module):
    """A residual network: a stem, stages of blocks each of which halves the picture and doubles the channels, the mean, a linear layer.

    Shapes: (n, in_channels, height, width) → (n, num_classes), logits. Pictures of any size that the stages can halve.

    Parameters:
      layers: the number of blocks in each stage.
      block: "basic" (two 3×3 convolutions) or "bottleneck" (1×1, 3×3, 1×1).
      num_classes, in_channels: of the outputs; of the pictures (3 for colour, 1 for grey).
      width: the channels of the first stage.
      stem: "imagenet" (7×7 with stride 2, then a maximum over 3×3 with stride 2: an eighth of the work) or "cifar" (3×3, for pictures
        of about 32×32).
      shortcut: "projection" (a 1×1 convolution where the shape changes) or "padding" (He et al.'s option A: no parameters).
      groups, width_per_group: of the 3×3 convolutions of bottlenecks: ResNeXt, wide ResNet.
      zero_init_residual: begin with blocks that are the identity (the last norm of each has the weight 0).

    Parameters' names: conv1, bn1, layer1 … layerN, each with blocks 0, 1, … of conv1, bn1, conv2, bn2 (conv3, bn3) and, where the shape
    changes, downsample.0 and .1; fc. Weights of convolutions are drawn with `init.kaiming_normal_` (fan_out).

    Errors: ValueError for sizes below 1 and unknown words.

    >>> import anynet as an
    >>> net = an.models.ResNet((1, 1), num_classes=5, width=8, stem="cifar")
    >>> net(an.zeros((2, 3, 16, 16))).shape
    (2, 5)

    Source: He et al. (2015); ResNeXt: Xie et al. (2016); wide: Zagoruyko and Komodakis (2016); `zero_init_residual`: Goyal et al. (2017).
    """

    def __init__(
        self,
        layers: Sequence[int] = (2, 2, 2, 2),
        block: str = "basic",
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        stem: str = "imagenet",
        shortcut: str = "projection",
        groups: int = 1,
        width_per_group: int = 64,
        zero_init_residual: bool = False,
    ) -> None:
        check_sizes(
            "ResNet",
            num_classes=num_classes,
            in_channels=in_channels,
            width=width,
            groups=groups,
            width_per_group=width_per_group,
        )
        check_sizes("ResNet", layers=len(layers), **{f"layers[{i}]": n for i, n in enumerate(layers)})
        words = {
            "block": (block, tuple(_BLOCKS)),
            "stem": (stem, ("imagenet", "cifar")),
            "shortcut": (shortcut, ("projection", "padding")),
        }
        for name, (value, known) in words.items():
            if value not in known:
                msg = f"ResNet: {name} must be {' or '.join(map(repr, known))}, got {value!r}"
                raise ValueError(msg)
        self.stages = len(layers)
        size, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
        self.conv1 = Conv2d(in_channels, width, size, stride=stride, padding=padding, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else None
        cls, channels = _BLOCKS[block], width
        for stage, blocks in enumerate(layers):
            made = []
            for i in range(blocks):
                step = 2 if stage and i == 0 else 1
                out = (width << stage) * cls.expansion
                down: Module | None = None
                if step != 1 or channels != out:
                    down = _PaddedShortcut(out, step) if shortcut == "padding" else Sequential(
                        Conv2d(channels, out, 1, stride=step, bias=False), BatchNorm2d(out)
                    )  # fmt: skip
                made.append(cls(channels, width << stage, step, down, groups, width_per_group))
                channels = out
            setattr(self, f"layer{stage + 1}", Sequential(*made))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(channels, num_classes)
        self._initialise(zero_init_residual)

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                init.zeros_(last.weight)  # type: ignore[arg-type]

    def features(self, x: ArrayLike) -> Tensor:
        """The last stage's output: (n, channels, height, width)."""
        y: Any = self.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            y = self.maxpool(y)
        for stage in range(1, self.stages + 1):
            y = getattr(self, f"layer{stage}")(y)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def adapt_state(state: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict of Hugging Face's ResNet under this module's names; others (torchvision, timm) as they are."""
        return {_own_name(name): value for name, value in state.items()}

    def forward(self, x: ArrayLike) -> Tensor:
        """The logits of pictures."""
        return self.fc(self.flatten(self.avgpool(self.features(x))))


_PARTS = {"convolution": "conv", "normalization": "bn"}


def _own_name(name: str) -> str:
    """Hugging Face's name of a tensor, as in "encoder.stages.0.layers.1.layer.2.convolution.weight", under torchvision's."""
    short = name.removeprefix("resnet.")
    if short.startswith("classifier.1."):
        return "fc." + short.removeprefix("classifier.1.")
    if found := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", short):
        return f"{_PARTS[found[1]]}1.{found[2]}"
    if found := re.fullmatch(
        r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:(shortcut)|layer\.(\d))\.(convolution|normalization)\.(\w+)",
        short,
    ):
        block = f"layer{int(found[1]) + 1}.{found[2]}"
        if found[3]:
            return f"{block}.downsample.{0 if found[5] == 'convolution' else 1}.{found[6]}"
        return f"{block}.{_PARTS[found[5]]}{int(found[4]) + 1}.{found[6]}"
    return name


def _imagenet(
    layers: tuple[int, ...], block: str, num_classes: int, in_channels: int, options: dict[str, Any]
) -> ResNet:
    return ResNet(layers, block, num_classes, in_channels, **options)


def resnet18(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """torchvision's resnet18: 11,689,512 parameters for 1,000 classes. `options` are those of `ResNet`.

    >>> import anynet as an
    >>> an.models.resnet18(num_classes=10, stem="cifar")(an.zeros((1, 3, 32, 32))).shape
    (1, 10)
    """
    return _imagenet((2, 2, 2, 2), "basic", num_classes, in_channels, options)


def resnet34(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """torchvision's resnet34: 21,797,672 parameters for 1,000 classes. `options` are those of `ResNet`."""
    return _imagenet((3, 4, 6, 3), "basic", num_classes, in_channels, options)


def resnet50(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """torchvision's resnet50: 25,557,032 parameters for 1,000 classes. `options` are those of `ResNet`:
    ``groups=32, width_per_group=4`` is resnext50_32x4d, ``width_per_group=128`` wide_resnet50_2."""
    return _imagenet((3, 4, 6, 3), "bottleneck", num_classes, in_channels, options)


def resnet101(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """torchvision's resnet101: 44,549,160 parameters for 1,000 classes. `options` are those of `ResNet`."""
    return _imagenet((3, 4, 23, 3), "bottleneck", num_classes, in_channels, options)


def resnet152(num_classes: int = 1000, in_channels: int = 3, **options: Any) -> ResNet:
    """torchvision's resnet152: 60,192,808 parameters for 1,000 classes. `options` are those of `ResNet`."""
    return _imagenet((3, 8, 36, 3), "bottleneck", num_classes, in_channels, options)


def _cifar(depth: int, num_classes: int, in_channels: int, options: dict[str, Any]) -> ResNet:
    chosen: dict[str, Any] = {"width": 16, "stem": "cifar", "shortcut": "padding"} | options
    return ResNet((depth,) * 3, "basic", num_classes, in_channels, **chosen)


def resnet20(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResNet:
    """He et al.'s network of 20 layers for CIFAR: 269,722 parameters for 10 classes. `options` are those of `ResNet`.

    >>> import anynet as an
    >>> net = an.models.resnet20()
    >>> net(an.zeros((1, 3, 32, 32))).shape, sum(p.size for p in net.parameters())
    ((1, 10), 269722)
    """
    return _cifar(3, num_classes, in_channels, options)


def resnet32(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResNet:
    """He et al.'s network of 32 layers for CIFAR: 464,154 parameters for 10 classes. `options` are those of `ResNet`."""
    return _cifar(5, num_classes, in_channels, options)


def resnet56(num_classes: int = 10, in_channels: int = 3, **options: Any) -> ResNet:
    """He et al.'s network of 56 layers for CIFAR: 853,018 parameters for 10 classes. `options` are those of `ResNet`."""
    return _cifar(9, num_classes, in_channels, options)
