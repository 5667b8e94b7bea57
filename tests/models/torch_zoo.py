"""torchvision's ResNet and ViT and the usual PyTorch U-Net, written out as far as their names and mathematics go: oracles of the zoo."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import nn


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Any) -> Any:
        same = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + same)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = downsample

    def forward(self, x: Any) -> Any:
        same = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + same)


class ResNet(nn.Module):
    def __init__(self, block: Any, layers: tuple[int, ...], num_classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i, blocks in enumerate(layers):
            setattr(self, f"layer{i + 1}", self._make(block, width << i, blocks, 1 if i == 0 else 2))
        self.stages = len(layers)
        self.fc = nn.Linear(self.inplanes, num_classes)

    def _make(self, block: Any, planes: int, blocks: int, stride: int) -> nn.Sequential:
        down = None
        if stride != 1 or self.inplanes != planes * block.expansion:
            out = planes * block.expansion
            down = nn.Sequential(nn.Conv2d(self.inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        made = [block(self.inplanes, planes, stride, down)]
        self.inplanes = planes * block.expansion
        made += [block(self.inplanes, planes, 1, None) for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int, bn_size: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, bn_size * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth)
        self.conv2 = nn.Conv2d(bn_size * growth, growth, 3, 1, 1, bias=False)

    def forward(self, before: Any) -> Any:
        y = self.conv1(torch.relu(self.norm1(torch.cat(before, 1))))
        return self.conv2(torch.relu(self.norm2(y)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, channels: int, growth: int, bn_size: int) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(channels + i * growth, growth, bn_size))

    def forward(self, x: Any) -> Any:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self, growth: int, blocks: tuple[int, ...], first: int, num_classes: int) -> None:
        super().__init__()
        parts: list[tuple[str, nn.Module]] = [
            ("conv0", nn.Conv2d(3, first, 7, 2, 3, bias=False)), ("norm0", nn.BatchNorm2d(first)), ("relu0", nn.ReLU()),
            ("pool0", nn.MaxPool2d(3, 2, 1)),
        ]  # fmt: skip
        channels = first
        for i, layers in enumerate(blocks):
            parts.append((f"denseblock{i + 1}", DenseBlock(layers, channels, growth, 4)))
            channels += layers * growth
            if i < len(blocks) - 1:
                names = {
                    "norm": nn.BatchNorm2d(channels), "relu": nn.ReLU(), "conv": nn.Conv2d(channels, channels // 2, 1, bias=False),
                    "pool": nn.AvgPool2d(2, 2),
                }  # fmt: skip
                parts.append((f"transition{i + 1}", nn.Sequential(OrderedDict(names))))
                channels //= 2
        parts.append(("norm5", nn.BatchNorm2d(channels)))
        self.features = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


class EncoderBlock(nn.Module):
    def __init__(self, heads: int, width: int, mlp: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.ln_1 = norm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp), nn.GELU(), nn.Dropout(0.0), nn.Linear(mlp, width), nn.Dropout(0.0)
        )

    def forward(self, x: Any) -> Any:
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    def __init__(self, length: int, layers: int, heads: int, width: int, mlp: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, length, width).normal_(std=0.02))
        self.layers = nn.Sequential(
            OrderedDict((f"encoder_layer_{i}", EncoderBlock(heads, width, mlp)) for i in range(layers))
        )
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Any) -> Any:
        return self.ln(self.layers(x + self.pos_embedding))


class ViT(nn.Module):
    def __init__(
        self, size: int, patch: int, layers: int, heads: int, width: int, mlp: int, num_classes: int
    ) -> None:
        super().__init__()
        self.width = width
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.encoder = Encoder((size // patch) ** 2 + 1, layers, heads, width, mlp)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))

    def forward(self, x: Any) -> Any:
        n = x.shape[0]
        x = self.conv_proj(x).reshape(n, self.width, -1).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(n, -1, -1), x], dim=1)
        return self.heads(self.encoder(x)[:, 0])


class DoubleConv(nn.Module):
    def __init__(self, a: int, b: int, mid: int | None = None) -> None:
        super().__init__()
        mid = mid or b
        self.double_conv = nn.Sequential(
            nn.Conv2d(a, mid, 3, padding=1, bias=False), nn.BatchNorm2d(mid), nn.ReLU(),
            nn.Conv2d(mid, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(a, b))

    def forward(self, x: Any) -> Any:
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, a: int, b: int, bilinear: bool) -> None:
        super().__init__()
        if bilinear:
            self.up: Any = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(a, b, a // 2)
        else:
            self.up = nn.ConvTranspose2d(a, a // 2, 2, 2)
            self.conv = DoubleConv(a, b)

    def forward(self, x: Any, beside: Any) -> Any:
        x = self.up(x)
        dy, dx = beside.shape[2] - x.shape[2], beside.shape[3] - x.shape[3]
        x = nn.functional.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([beside, x], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels: int, n_classes: int, width: int, bilinear: bool) -> None:
        super().__init__()
        w, factor = width, 2 if bilinear else 1
        self.inc = DoubleConv(n_channels, w)
        self.down1, self.down2, self.down3 = Down(w, 2 * w), Down(2 * w, 4 * w), Down(4 * w, 8 * w)
        self.down4 = Down(8 * w, 16 * w // factor)
        self.up1, self.up2 = Up(16 * w, 8 * w // factor, bilinear), Up(8 * w, 4 * w // factor, bilinear)
        self.up3, self.up4 = Up(4 * w, 2 * w // factor, bilinear), Up(2 * w, w, bilinear)
        self.outc = nn.Sequential(OrderedDict(conv=nn.Conv2d(w, n_classes, 1)))

    def forward(self, x: Any) -> Any:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        return self.outc(self.up4(self.up3(self.up2(self.up1(x5, x4), x3), x2), x1))
