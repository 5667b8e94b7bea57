"""`torchvision.models.resnet`: residual networks (He et al. 2016), with groups (Xie et al. 2017), and wider ones (Zagoruyko and Komodakis
2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynet.torch import nn as _room

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "conv1x1", "conv3x3"]

_nn: Any = _room


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> Any:
    """A convolution of 3×3 that keeps the size, with a stride of 1."""
    return _nn.Conv2d(
        in_planes, out_planes, 3, stride, padding=dilation, groups=groups, bias=False, dilation=dilation
    )


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> Any:
    """A convolution of 1×1."""
    return _nn.Conv2d(in_planes, out_planes, 1, stride, bias=False)


class BasicBlock(_nn.Module):  # type: ignore[misc]
    """Two convolutions of 3×3, and what goes around them."""

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: Any = None, groups: int = 1, base_width: int = 64, dilation: int = 1,
        norm_layer: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        norm = norm_layer or _nn.BatchNorm2d
        if groups != 1 or base_width != 64 or dilation > 1:
            msg = f"BasicBlock: groups, base_width and dilation must be 1, 64 and 1, got {groups}, {base_width} and {dilation}"
            raise ValueError(msg)
        self.conv1, self.bn1 = conv3x3(inplanes, planes, stride), norm(planes)
        self.relu = _nn.ReLU()
        self.conv2, self.bn2 = conv3x3(planes, planes), norm(planes)
        self.downsample, self.stride = downsample, stride

    def forward(self, x: Any) -> Any:
        """x and what the convolutions add to it."""
        same = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + same)


class Bottleneck(_nn.Module):  # type: ignore[misc]
    """Convolutions of 1×1, 3×3 and 1×1, and what goes around them; the stride is that of 3×3."""

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: Any = None, groups: int = 1, base_width: int = 64, dilation: int = 1,
        norm_layer: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        norm = norm_layer or _nn.BatchNorm2d
        width = int(planes * (base_width / 64.0)) * groups
        self.conv1, self.bn1 = conv1x1(inplanes, width), norm(width)
        self.conv2, self.bn2 = conv3x3(width, width, stride, groups, dilation), norm(width)
        self.conv3, self.bn3 = conv1x1(width, planes * self.expansion), norm(planes * self.expansion)
        self.relu = _nn.ReLU()
        self.downsample, self.stride = downsample, stride

    def forward(self, x: Any) -> Any:
        """x and what the convolutions add to it."""
        same = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + same)


class ResNet(_nn.Module):  # type: ignore[misc]
    """A convolution of 7×7, four stages of blocks, and a linear layer on the means of the last maps.

    `replace_stride_with_dilation` says of the last three stages whether they keep the size, with gaps in their kernels instead.
    """

    def __init__(
        self, block: Any, layers: Sequence[int], num_classes: int = 1000, zero_init_residual: bool = False, groups: int = 1,
        width_per_group: int = 64, replace_stride_with_dilation: Sequence[bool] | None = None, norm_layer: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        gaps = (
            (False, False, False)
            if replace_stride_with_dilation is None
            else tuple(replace_stride_with_dilation)
        )
        if len(gaps) != 3:
            msg = f"ResNet: replace_stride_with_dilation must be None or three values, got {replace_stride_with_dilation}"
            raise ValueError(msg)
        self._norm_layer = norm_layer or _nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = 64, 1, groups, width_per_group
        self.conv1 = _nn.Conv2d(3, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = self._norm_layer(self.inplanes), _nn.ReLU()
        self.maxpool = _nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, 64, layers[0])
        for i, gap in enumerate(gaps):
            setattr(
                self, f"layer{i + 2}", self._make_layer(block, 128 << i, layers[i + 1], stride=2, dilate=gap)
            )
        self.avgpool = _nn.AdaptiveAvgPool2d((1, 1))
        self.fc = _nn.Linear(512 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, _nn.Conv2d):
                _nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (_nn.BatchNorm2d, _nn.GroupNorm)):
                _nn.init.constant_(m.weight, 1)
                _nn.init.constant_(m.bias, 0)
            elif zero_init_residual and isinstance(m, (BasicBlock, Bottleneck)):
                last = m.bn3 if isinstance(m, Bottleneck) else m.bn2
                _nn.init.constant_(last.weight, 0)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> Any:
        """A stage, of which the first block has the stride."""
        before, downsample = self.dilation, None
        if dilate:
            self.dilation *= stride
            stride = 1
        if stride != 1 or self.inplanes != planes * block.expansion:
            out = planes * block.expansion
            downsample = _nn.Sequential(conv1x1(self.inplanes, out, stride), self._norm_layer(out))
        common = (self.groups, self.base_width)
        made = [block(self.inplanes, planes, stride, downsample, *common, before, self._norm_layer)]
        self.inplanes = planes * block.expansion
        made += [
            block(self.inplanes, planes, 1, None, *common, self.dilation, self._norm_layer)
            for _ in range(1, blocks)
        ]
        return _nn.Sequential(*made)

    def _forward_impl(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))

    def forward(self, x: Any) -> Any:
        """The logits of pictures."""
        return self._forward_impl(x)


NETWORKS: dict[str, tuple[Any, list[int], dict[str, Any]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2], {}), "resnet34": (BasicBlock, [3, 4, 6, 3], {}), "resnet50": (Bottleneck, [3, 4, 6, 3], {}),
    "resnet101": (Bottleneck, [3, 4, 23, 3], {}), "resnet152": (Bottleneck, [3, 8, 36, 3], {}),
    "resnext50_32x4d": (Bottleneck, [3, 4, 6, 3], {"groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": (Bottleneck, [3, 4, 23, 3], {"groups": 32, "width_per_group": 8}),
    "resnext101_64x4d": (Bottleneck, [3, 4, 23, 3], {"groups": 64, "width_per_group": 4}),
    "wide_resnet50_2": (Bottleneck, [3, 4, 6, 3], {"width_per_group": 128}),
    "wide_resnet101_2": (Bottleneck, [3, 4, 23, 3], {"width_per_group": 128}),
}  # fmt: skip
"""Block, number of blocks and options of the networks by name."""
