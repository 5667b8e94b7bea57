"""`torchvision.models`: networks under torchvision's names of layers. ResNets, DenseNets and vision transformers are those of
`anynet.models`; weights are loaded from files (`anynet.models.load_weights`), nothing is downloaded."""

from __future__ import annotations

import functools
from typing import Any

from anynet import models as _models
from anynet.ops.manipulation import reshape as _reshape
from anynet.torch import nn as _room

_FROM_ANYNET = (
    "densenet121", "densenet161", "densenet169", "densenet201", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vit_b_16",
    "vit_b_32", "vit_l_16", "vit_l_32",
)  # fmt: skip
_VGGS = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))
__all__ = ["VGG"]  # and those of the two lists


_nn: Any = _room


def _without_weights(name: str, weights: Any, pretrained: Any) -> None:
    if weights is not None or pretrained:
        msg = (
            f"{name}: weights must be None and pretrained False, nothing is downloaded; give a file to "
            "net.load_state_dict(torch.load(path)) or anynet.models.load_weights(net, path)"
        )
        raise NotImplementedError(msg)


class _ResNet(_models.ResNet):
    """Without a layer that flattens, so that the children are torchvision's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.flatten

    def forward(self, x: Any) -> Any:
        """The logits of pictures."""
        y = self.avgpool(self.features(x))
        return self.fc(_reshape(y, (y.shape[0], -1)))


def _network(name: str) -> Any:
    of = getattr(_models, name)

    @functools.wraps(of)
    def make(*, weights: Any = None, pretrained: bool = False, progress: bool = True, **options: Any) -> Any:
        _without_weights(name, weights, pretrained)
        made = of(**options)
        if type(made) is _models.ResNet:
            made.__class__ = _ResNet
            del made.flatten
        return _room.adopted(made)

    return make


class VGG(_nn.Module):  # type: ignore[misc]
    """Convolutions of 3×3 in five stages, halved after each, and three linear layers (Simonyan & Zisserman 2014)."""

    def __init__(
        self, features: Any, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.features = features
        self.avgpool = _nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = _nn.Sequential(
            _nn.Linear(512 * 7 * 7, 4096), _nn.ReLU(True), _nn.Dropout(dropout), _nn.Linear(4096, 4096), _nn.ReLU(True),
            _nn.Dropout(dropout), _nn.Linear(4096, num_classes),
        )  # fmt: skip
        for m in self.modules() if init_weights else ():
            if isinstance(m, _nn.Conv2d):
                _nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                _nn.init.zeros_(m.bias)
            elif isinstance(m, _nn.Linear):
                _nn.init.normal_(m.weight, 0, 0.01)
                _nn.init.zeros_(m.bias)

    def forward(self, x: Any) -> Any:
        """The logits of pictures."""
        y = self.avgpool(self.features(x))
        return self.classifier(_reshape(y, (y.shape[0], -1)))


_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _vgg(name: str) -> Any:
    depth, norm = int(name[3:5]), name.endswith("_bn")

    def make(*, weights: Any = None, pretrained: bool = False, progress: bool = True, **options: Any) -> Any:
        _without_weights(name, weights, pretrained)
        layers: list[Any] = []
        channels = 3
        for count, width in zip(_STAGES[depth], (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                layers.append(_nn.Conv2d(channels, width, 3, padding=1))
                layers += [_nn.BatchNorm2d(width)] * norm
                layers.append(_nn.ReLU(True))
                channels = width
            layers.append(_nn.MaxPool2d(2, 2))
        return VGG(_nn.Sequential(*layers), **options)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"VGG of {depth} layers{' with batch normalisation' if norm else ''}."
    return make


globals().update({name: _network(name) for name in _FROM_ANYNET} | {name: _vgg(name) for name in _VGGS})
__all__ += _FROM_ANYNET + _VGGS
