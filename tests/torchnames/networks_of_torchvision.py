"""Two networks of torchvision's in PyTorch's terms, for runs beside PyTorch where torchvision is not installed."""

from __future__ import annotations

from typing import Any

__all__ = ["resnet18", "vgg16"]


def _block(torch: Any, before: int, width: int, stride: int) -> Any:
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            short = [nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)]
            self.downsample = nn.Sequential(*short) if stride != 1 or before != width else None

        def forward(self, x: Any) -> Any:
            same = x if self.downsample is None else self.downsample(x)
            return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + same)

    return Block()


def resnet18(torch: Any, num_classes: int) -> Any:
    """ResNet-18 with torchvision's names and order of layers."""
    nn = torch.nn

    class ResNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            widths = (64, 64, 128, 256, 512)
            for i in range(1, 5):
                blocks = [
                    _block(torch, widths[i - 1], widths[i], 1 + (i > 1)),
                    _block(torch, widths[i], widths[i], 1),
                ]
                setattr(self, f"layer{i}", nn.Sequential(*blocks))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(512, num_classes)

        def forward(self, x: Any) -> Any:
            y = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            y = self.layer4(self.layer3(self.layer2(self.layer1(y))))
            return self.fc(torch.flatten(self.avgpool(y), 1))

    return ResNet()


def vgg16(torch: Any, num_classes: int) -> Any:
    """The layers of VGG-16, under `features`."""
    nn = torch.nn
    layers: list[Any] = []
    before = 3
    for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
            before = width
        layers.append(nn.MaxPool2d(2, 2))
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    return net
