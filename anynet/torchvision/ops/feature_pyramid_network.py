"""Maps of features of several sizes, each with what the smaller ones know (`torchvision.ops.feature_pyramid_network`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import anynet.torch as _room
from anynet.torchvision.ops.blocks import Conv2dNormActivation

__all__ = ["ExtraFPNBlock", "FeaturePyramidNetwork", "LastLevelMaxPool", "LastLevelP6P7"]

_nn: Any = _room.nn
_F: Any = _room.nn.functional


class ExtraFPNBlock(_nn.Module):  # type: ignore[misc]
    """The base of what makes further maps: `forward` takes the results, the inputs and the names, and returns results and names."""

    def forward(self, results: list[Any], x: list[Any], names: list[str]) -> tuple[list[Any], list[str]]:
        """More results and their names."""
        raise NotImplementedError


class FeaturePyramidNetwork(_nn.Module):  # type: ignore[misc]
    """Each map goes through a layer of 1×1, to which the enlarged map of the next smaller size is added, and one of 3×3 (Lin et al. 2017).

    `forward` takes a dict of maps, the largest first, and returns a dict of maps with `out_channels` channels.
    """

    def __init__(
        self, in_channels_list: list[int], out_channels: int, extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not all(in_channels_list):
            msg = f"FeaturePyramidNetwork: in_channels_list must not have 0, got {in_channels_list}"
            raise ValueError(msg)
        if extra_blocks is not None and not isinstance(extra_blocks, ExtraFPNBlock):
            msg = f"FeaturePyramidNetwork: extra_blocks must be an ExtraFPNBlock, got {type(extra_blocks).__name__}"
            raise TypeError(msg)
        options: dict[str, Any] = {"norm_layer": norm_layer, "activation_layer": None}
        self.inner_blocks = _nn.ModuleList(
            Conv2dNormActivation(n, out_channels, kernel_size=1, padding=0, **options)
            for n in in_channels_list
        )
        self.layer_blocks = _nn.ModuleList(
            Conv2dNormActivation(out_channels, out_channels, kernel_size=3, **options)
            for _ in in_channels_list
        )
        for m in self.modules():
            if isinstance(m, _nn.Conv2d):
                _begun(m)
        self.extra_blocks = extra_blocks
        self.register_load_state_dict_pre_hook(_older_names)

    def forward(self, x: Any) -> Any:
        """The maps, by their names."""
        names, maps = list(x.keys()), list(x.values())
        below: Any = None
        results: list[Any] = []
        for i in reversed(range(len(maps))):
            own = self.inner_blocks[i](maps[i])
            below = own if below is None else own + _F.interpolate(below, size=own.shape[-2:], mode="nearest")
            results.insert(0, self.layer_blocks[i](below))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results, strict=False))


def _begun(layer: Any) -> None:
    _nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        _nn.init.constant_(layer.bias, 0)


def _older_names(module: Any, state: Any, prefix: str, *_: Any) -> None:
    """States of older versions, whose blocks were convolutions alone."""
    for block in ("inner_blocks", "layer_blocks"):
        for i in range(len(module.inner_blocks)):
            for kind in ("weight", "bias"):
                if (old := f"{prefix}{block}.{i}.{kind}") in state:
                    state[f"{prefix}{block}.{i}.0.{kind}"] = state.pop(old)


class LastLevelMaxPool(ExtraFPNBlock):
    """One more map: every second place of the last one."""

    def forward(self, results: list[Any], x: list[Any], names: list[str]) -> tuple[list[Any], list[str]]:
        """The maps, and "pool"."""
        return [*results, _F.max_pool2d(results[-1], kernel_size=1, stride=2, padding=0)], [*names, "pool"]


class LastLevelP6P7(ExtraFPNBlock):
    """Two more maps, as RetinaNet has them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = _nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = _nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        for layer in (self.p6, self.p7):
            _begun(layer)
        self.use_P5 = in_channels == out_channels

    def forward(self, results: list[Any], x: list[Any], names: list[str]) -> tuple[list[Any], list[str]]:
        """The maps, "p6" and "p7"."""
        p6 = self.p6(results[-1] if self.use_P5 else x[-1])
        return [*results, p6, self.p7(_F.relu(p6))], [*names, "p6", "p7"]
