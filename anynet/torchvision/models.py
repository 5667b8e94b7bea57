"""`torchvision.models`: networks under torchvision's names of layers. DenseNets and vision transformers are those of `anynet.models`;
weights are loaded from files (`anynet.models.load_weights`), nothing is downloaded."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from types import ModuleType
from typing import Any

from anynet import models as _models
from anynet.ops.manipulation import reshape as _reshape
from anynet.torch import nn as _room
from anynet.torchvision import resnet as resnet
from anynet.torchvision.resnet import NETWORKS as _RESNETS
from anynet.torchvision.resnet import ResNet as ResNet

_FROM_ANYNET = (
    "densenet121", "densenet161", "densenet169", "densenet201", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32",
)  # fmt: skip
_VGGS = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))
__all__ = ["VGG", "ResNet"]  # and those of the lists


_nn: Any = _room


def _without_weights(name: str, weights: Any, pretrained: Any) -> None:
    if weights is not None or pretrained:
        msg = (
            f"{name}: weights must be None and pretrained False, nothing is downloaded; give a file to "
            "net.load_state_dict(torch.load(path)) or anynet.models.load_weights(net, path)"
        )
        raise NotImplementedError(msg)


def _network(name: str) -> Any:
    of = getattr(_models, name)

    @functools.wraps(of)
    def make(*, weights: Any = None, pretrained: bool = False, progress: bool = True, **options: Any) -> Any:
        _without_weights(name, weights, pretrained)
        return _room.adopted(of(**options))

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


def _resnet(name: str) -> Any:
    block, layers, fixed = _RESNETS[name]

    def make(*, weights: Any = None, pretrained: bool = False, progress: bool = True, **options: Any) -> Any:
        _without_weights(name, weights, pretrained)
        return ResNet(block, layers, **{**fixed, **options})

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A residual network with stages of {', '.join(map(str, layers))} blocks."
    return make


class IntermediateLayerGetter(_nn.ModuleDict):  # type: ignore[misc]
    """The children of a network up to the last one of `return_layers`, one after the other; the outputs of those that it names are returned
    under its names."""

    def __init__(self, model: Any, return_layers: dict[str, str]) -> None:
        wanted = {str(name) for name in return_layers}
        layers: OrderedDict[str, Any] = OrderedDict()
        for name, module in model.named_children():
            if not wanted:
                break
            layers[name] = module
            wanted.discard(name)
        if wanted:
            msg = f"IntermediateLayerGetter: the model has no layer {', '.join(sorted(wanted))}"
            raise ValueError(msg)
        super().__init__(layers)
        self.return_layers = return_layers

    def forward(self, x: Any) -> Any:
        """The outputs by name."""
        out: OrderedDict[str, Any] = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return out


class _Weights:
    """Weights that torchvision would download, by name; a network refuses them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Weights(f"{self.name}.{name}")

    def __repr__(self) -> str:
        return self.name


def __getattr__(name: str) -> Any:
    if name.endswith("_Weights"):
        return _Weights(name)
    msg = f"module {__name__!r} has no attribute {name!r}; there are {', '.join(__all__)}"
    raise AttributeError(msg)


globals().update({name: _network(name) for name in _FROM_ANYNET} | {name: _vgg(name) for name in _VGGS})
globals().update({name: _resnet(name) for name in _RESNETS})
__all__ += [*_FROM_ANYNET, *_VGGS, *_RESNETS]
vars(resnet).update({name: globals()[name] for name in _RESNETS})
vgg, _utils = ModuleType(f"{__name__}.vgg"), ModuleType(f"{__name__}._utils")
vars(vgg).update(VGG=VGG, **{name: globals()[name] for name in _VGGS})
vars(_utils).update(IntermediateLayerGetter=IntermediateLayerGetter)
for _path, _module in (("resnet", resnet), ("vgg", vgg), ("_utils", _utils)):
    sys.modules[f"{__name__}.{_path}"] = _module
