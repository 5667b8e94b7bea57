"""Pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from ci.bench.library import F, nn, xp
from ci.bench.workload import Training, labels, normal, uniform, workload


def classifier(net: Any, batch: int, channels: int, size: int, classes: int = 10, **options: Any) -> Training:
    """Cross entropy of a network of pictures."""
    data = normal(batch, channels, size, size), labels(batch, classes=classes)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data, **options)


@workload("vision", "LeNet-5 on 28×28", batch=64, source="LeCun et al. 1998, with ReLU", images=True)
def lenet(batch: int) -> Training:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    return classifier(net, batch, 1, 28)


@workload(
    "vision",
    "MNIST ConvNet of PyTorch's examples",
    batch=64,
    source="pytorch/examples mnist/main.py",
    images=True,
)
def mnist_convnet(batch: int) -> Training:
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10), nn.LogSoftmax(dim=1),
    )  # fmt: skip
    data = normal(batch, 1, 28, 28), labels(batch)
    return Training(net, lambda x, y: F.nll_loss(net(x), y), data)


class BasicBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        shortcut = (
            ()
            if same
            else (nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
        )
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet(widths: tuple[int, ...], counts: tuple[int, ...]) -> Any:
    """A ResNet for 32×32: widths of its stages, and how many blocks each has."""
    layers: list[Any] = [
        nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    inputs = widths[0]
    for i, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for j in range(count):
            layers.append(BasicBlock(inputs, width, 2 if i and not j else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


@workload("vision", "ResNet-8 on 32×32", batch=32, source="He et al. 2016, CIFAR form, n = 1", images=True)
def resnet8(batch: int) -> Training:
    return classifier(resnet((16, 32, 64), (1, 1, 1)), batch, 3, 32)


@workload(
    "vision", "ResNet-18 on 32×32", batch=16, source="kuangliu/pytorch-cifar models/resnet.py", images=True
)
def resnet18(batch: int) -> Training:
    net = resnet((64, 128, 256, 512), (2, 2, 2, 2))
    return classifier(net, batch, 3, 32, optimizer="momentum", lr=0.01)


@workload(
    "vision",
    "VGG-11 with batch norm on 32×32",
    batch=16,
    source="kuangliu/pytorch-cifar models/vgg.py",
    images=True,
)
def vgg11(batch: int) -> Training:
    layers: list[Any] = []
    inputs = 3
    for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
    return classifier(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10)), batch, 3, 32, optimizer="momentum", lr=0.01
    )


class Bottleneck(nn.Module):  # type: ignore[misc]
    """DenseNet-BC's layer: batch norm, ReLU, 1×1, batch norm, ReLU, 3×3, and the input beside the output."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = (
            nn.BatchNorm2d(4 * growth),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Any) -> Any:
        y = self.conv1(F.relu(self.bn1(x)))
        return xp.concat([self.conv2(F.relu(self.bn2(y))), x], axis=1)


@workload(
    "vision", "DenseNet-BC, depth 40, growth 12, on 32×32", batch=16, source="Huang et al. 2017", images=True
)
def densenet(batch: int) -> Training:
    layers: list[Any] = [nn.Conv2d(3, 24, 3, padding=1, bias=False)]
    width = 24
    for block in range(3):
        for _ in range(6):
            layers.append(Bottleneck(width, 12))
            width += 12
        if block < 2:
            layers += [
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            width //= 2
    net = nn.Sequential(
        *layers, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )
    return classifier(net, batch, 3, 32, optimizer="momentum", lr=0.01)


def _conv_bn(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, act: Any = nn.ReLU6) -> list[Any]:
    conv = nn.Conv2d(a, b, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b), *([act()] if act else [])]


class InvertedResidual(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.use_res_connect = stride == 1 and inputs == outputs
        layers = _conv_bn(inputs, hidden, 1) if expand != 1 else []
        layers += _conv_bn(hidden, hidden, 3, stride, hidden) + _conv_bn(hidden, outputs, 1, act=None)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


@workload(
    "vision",
    "MobileNetV2, width 0.5, on 32×32",
    batch=32,
    source="torchvision models/mobilenetv2.py",
    images=True,
)
def mobilenet_v2(batch: int) -> Training:
    layers = _conv_bn(3, 16, 3)
    inputs = 16
    for t, c, n, s in (
        (1, 8, 1, 1),
        (6, 16, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    ):
        for i in range(n):
            layers.append(InvertedResidual(inputs, c, s if i == 0 else 1, t))
            inputs = c
    net = nn.Sequential(
        *layers, *_conv_bn(inputs, 640, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(640, 10)
    )
    return classifier(net, batch, 3, 32)


class MBConv(nn.Module):  # type: ignore[misc]
    """EfficientNet's block: expand, depthwise, squeeze and excite, project; SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.same = stride == 1 and inputs == outputs
        expanding = _conv_bn(inputs, hidden, 1, act=nn.SiLU) if expand != 1 else []
        self.before = nn.Sequential(*expanding, *_conv_bn(hidden, hidden, kernel, stride, hidden, nn.SiLU))
        squeezed = max(1, inputs // 4)
        self.fc1, self.fc2 = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.after = nn.Sequential(*_conv_bn(hidden, outputs, 1, act=None))

    def forward(self, x: Any) -> Any:
        y = self.before(x)
        y = self.after(y * F.sigmoid(self.fc2(F.silu(self.fc1(self.pool(y))))))
        return x + y if self.same else y


@workload(
    "vision",
    "EfficientNet-B0's blocks, half width, on 32×32",
    batch=16,
    source="torchvision models/efficientnet.py",
    images=True,
)
def efficientnet(batch: int) -> Training:
    layers = _conv_bn(3, 16, 3, act=nn.SiLU)
    inputs = 16
    for t, c, n, s, k in (
        (1, 8, 1, 1, 3),
        (6, 12, 2, 2, 3),
        (6, 20, 2, 1, 5),
        (6, 40, 3, 2, 3),
        (6, 56, 3, 1, 5),
        (6, 96, 2, 2, 5),
    ):
        for i in range(n):
            layers.append(MBConv(inputs, c, k, s if i == 0 else 1, t))
            inputs = c
    net = nn.Sequential(
        *layers,
        *_conv_bn(inputs, 320, 1, act=nn.SiLU),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(320, 10),
    )
    return classifier(net, batch, 3, 32)


class ShuffleUnit(nn.Module):  # type: ignore[misc]
    """ShuffleNet: grouped 1×1, shuffle of channels, depthwise 3×3, grouped 1×1."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv_bn(width, width // 4, 1, groups=groups, act=nn.ReLU))
        self.shuffle = nn.ChannelShuffle(groups)
        self.depthwise = nn.Sequential(*_conv_bn(width // 4, width // 4, 3, groups=width // 4, act=None))
        self.last = nn.Sequential(*_conv_bn(width // 4, width, 1, groups=groups, act=None))

    def forward(self, x: Any) -> Any:
        return F.relu(x + self.last(self.depthwise(self.shuffle(self.first(x)))))


@workload("vision", "ShuffleNet units, 3 groups, on 32×32", batch=32, source="Zhang et al. 2018", images=True)
def shufflenet(batch: int) -> Training:
    layers = _conv_bn(3, 60, 3, stride=2, act=nn.ReLU)
    layers += [ShuffleUnit(60, 3) for _ in range(3)] + _conv_bn(60, 120, 3, 2, 3, nn.ReLU)
    layers += [ShuffleUnit(120, 3) for _ in range(4)]
    return classifier(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(120, 10)), batch, 3, 32
    )


class LayerNorm2d(nn.LayerNorm):  # type: ignore[misc]
    """Over the channels of (n, c, h, w)."""

    def forward(self, x: Any) -> Any:
        y = F.layer_norm(
            xp.permute_dims(x, (0, 2, 3, 1)), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return xp.permute_dims(y, (0, 3, 1, 2))


class CNBlock(nn.Module):  # type: ignore[misc]
    """ConvNeXt's block: depthwise 7×7, layer norm, two Linears with GELU, a scale for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm, self.pwconv1, self.pwconv2 = (
            nn.LayerNorm(dim, eps=1e-6),
            nn.Linear(dim, 4 * dim),
            nn.Linear(4 * dim, dim),
        )
        self.gamma = nn.Parameter(xp.zeros((dim,)) + 1e-6)

    def forward(self, x: Any) -> Any:
        y = xp.permute_dims(self.dwconv(x), (0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))
        return x + xp.permute_dims(y, (0, 3, 1, 2))


@workload(
    "vision",
    "ConvNeXt, widths 48 to 192, on 64×64",
    batch=8,
    source="facebookresearch/ConvNeXt models/convnext.py",
    images=True,
)
def convnext(batch: int) -> Training:
    dims, depths = (48, 96, 192), (2, 2, 4)
    layers: list[Any] = [nn.Conv2d(3, dims[0], 4, stride=4), LayerNorm2d(dims[0], eps=1e-6)]
    for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if i:
            layers += [LayerNorm2d(dims[i - 1], eps=1e-6), nn.Conv2d(dims[i - 1], dim, 2, stride=2)]
        layers += [CNBlock(dim) for _ in range(depth)]
    net = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(dims[-1], eps=1e-6),
        nn.Linear(dims[-1], 10),
    )
    return classifier(net, batch, 3, 64, optimizer="adamw")


class ViT(nn.Module):  # type: ignore[misc]
    def __init__(self, size: int, patch: int, d: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, patch, stride=patch)
        self.cls = nn.Parameter(xp.zeros((1, 1, d)))
        self.positions = nn.Parameter(xp.zeros((1, (size // patch) ** 2 + 1, d)))
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x: Any) -> Any:
        x = self.patch(x)
        n, d = x.shape[:2]
        x = xp.permute_dims(xp.reshape(x, (n, d, -1)), (0, 2, 1))
        x = xp.concat([xp.broadcast_to(self.cls, (n, 1, d)), x], axis=1) + self.positions
        return self.head(self.norm(self.encoder(x)[:, 0]))


@workload(
    "vision",
    "ViT, patch 4, width 192, 4 layers, on 32×32",
    batch=16,
    source="Dosovitskiy et al. 2021; DeiT-Ti's width",
)
def vit(batch: int) -> Training:
    return classifier(ViT(32, 4, 192, 4, 3), batch, 3, 32, optimizer="adamw", lr=1e-4)


class MixerBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, tokens: int, d: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.tokens = nn.Sequential(nn.Linear(tokens, d // 2), nn.GELU(), nn.Linear(d // 2, tokens))
        self.channels = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Any) -> Any:
        x = x + xp.permute_dims(self.tokens(xp.permute_dims(self.norm1(x), (0, 2, 1))), (0, 2, 1))
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):  # type: ignore[misc]
    def __init__(self, d: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, stride=4)
        self.blocks = nn.Sequential(*(MixerBlock(64, d) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x: Any) -> Any:
        x = self.patch(x)
        x = xp.permute_dims(xp.reshape(x, (x.shape[0], x.shape[1], -1)), (0, 2, 1))
        return self.head(xp.mean(self.norm(self.blocks(x)), axis=1))


@workload("vision", "MLP-Mixer, width 128, 6 blocks, on 32×32", batch=32, source="Tolstikhin et al. 2021")
def mlp_mixer(batch: int) -> Training:
    return classifier(Mixer(128, 6), batch, 3, 32)


class DoubleConv(nn.Module):  # type: ignore[misc]
    """(Conv, GroupNorm, SiLU) twice."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(8, b), nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1, bias=False), nn.GroupNorm(8, b), nn.SiLU(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.double_conv(x)


class UNet(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth + 1)]
        self.inc = DoubleConv(3, width)
        self.down = nn.ModuleList([DoubleConv(widths[i], widths[i + 1]) for i in range(depth)])
        self.up = nn.ModuleList(
            [DoubleConv(widths[i + 1] + widths[i], widths[i]) for i in reversed(range(depth))]
        )
        self.outc = nn.Conv2d(width, classes, 1)

    def forward(self, x: Any) -> Any:
        kept = [self.inc(x)]
        for block in self.down:
            kept.append(block(F.max_pool2d(kept[-1], 2)))
        x = kept.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(xp.concat([kept.pop(), x], axis=1))
        return self.outc(x)


@workload(
    "vision",
    "U-Net with GroupNorm, SiLU, bilinear, on 64×64",
    batch=4,
    source="milesial/Pytorch-UNet unet_model.py",
    images=True,
)
def unet(batch: int) -> Training:
    net = UNet(16, 3, 2)
    data = normal(batch, 3, 64, 64), labels(batch, 64, 64, classes=2)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


class StyleResidual(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.in1 = _ConvLayer(width, width, 3, 1), nn.InstanceNorm2d(width, affine=True)
        self.conv2, self.in2 = _ConvLayer(width, width, 3, 1), nn.InstanceNorm2d(width, affine=True)

    def forward(self, x: Any) -> Any:
        return self.in2(self.conv2(F.relu(self.in1(self.conv1(x))))) + x


class _ConvLayer(nn.Module):  # type: ignore[misc]
    """A convolution of the picture continued by reflection; enlarged before where `upsample` is given."""

    def __init__(self, a: int, b: int, kernel: int, stride: int, upsample: int = 0) -> None:
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(a, b, kernel, stride)

    def forward(self, x: Any) -> Any:
        if self.upsample:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        return self.conv2d(self.reflection_pad(x))


@workload(
    "vision",
    "fast style transfer's network on 64×64",
    batch=2,
    source="pytorch/examples fast_neural_style/transformer_net.py",
    images=True,
)
def style_transfer(batch: int) -> Training:
    norm = lambda n: nn.InstanceNorm2d(n, affine=True)  # noqa: E731
    net = nn.Sequential(
        _ConvLayer(3, 32, 9, 1), norm(32), nn.ReLU(), _ConvLayer(32, 64, 3, 2), norm(64), nn.ReLU(), _ConvLayer(64, 128, 3, 2), norm(128),
        nn.ReLU(), *(StyleResidual(128) for _ in range(5)), _ConvLayer(128, 64, 3, 1, 2), norm(64), nn.ReLU(), _ConvLayer(64, 32, 3, 1, 2),
        norm(32), nn.ReLU(), _ConvLayer(32, 3, 9, 1),
    )  # fmt: skip
    return Training(
        net, lambda x, y: F.mse_loss(net(x), y), (normal(batch, 3, 64, 64), normal(batch, 3, 64, 64, seed=1))
    )


@workload(
    "vision",
    "super-resolution by pixel shuffle, 4×, to 128×128",
    batch=4,
    source="pytorch/examples super_resolution/model.py",
    images=True,
)
def super_resolution(batch: int) -> Training:
    net = nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 16, 3, padding=1), nn.PixelShuffle(4),
    )  # fmt: skip
    data = uniform(batch, 1, 32, 32), uniform(batch, 1, 128, 128, seed=1)
    return Training(net, lambda x, y: F.mse_loss(net(x), y), data)


@workload(
    "vision",
    "Siamese network with contrastive loss, pairs of 28×28",
    batch=64,
    source="Koch et al. 2015, Hadsell et al. 2006",
)
def siamese(batch: int) -> Training:
    net = nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.PReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(32, 64, 5), nn.PReLU(), nn.MaxPool2d(2, 2), nn.Flatten(),
        nn.Linear(1024, 256), nn.PReLU(), nn.Linear(256, 2),
    )  # fmt: skip

    def loss(a: Any, b: Any, same: Any) -> Any:
        squared = xp.sum((net(a) - net(b)) ** 2, axis=1)
        distance = xp.sqrt(squared + 1e-8)
        return xp.mean(same * squared + (1.0 - same) * F.relu(1.0 - distance) ** 2)

    data = (
        normal(batch, 1, 28, 28),
        normal(batch, 1, 28, 28, seed=1),
        uniform(batch).round().astype("float32"),
    )
    return Training(net, loss, data)


@workload("vision", "SimCLR's NT-Xent on ResNet-8, two views of 32×32", batch=16, source="Chen et al. 2020")
def simclr(batch: int) -> Training:
    net = nn.Sequential(
        *list(resnet((16, 32, 64), (1, 1, 1)))[:-1], nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)
    )

    def loss(a: Any, b: Any, positives: Any, diagonal: Any) -> Any:
        z = F.normalize(xp.concat([net(a), net(b)], axis=0), dim=1)
        similar = xp.where(diagonal, -1e9, xp.matmul(z, xp.permute_dims(z, (1, 0))) / 0.5)
        return F.cross_entropy(similar, positives)

    positives = np.concatenate([np.arange(batch) + batch, np.arange(batch)])
    data = (
        normal(batch, 3, 32, 32),
        normal(batch, 3, 32, 32, seed=1),
        positives,
        np.eye(2 * batch, dtype=bool),
    )
    return Training(net, loss, data)
