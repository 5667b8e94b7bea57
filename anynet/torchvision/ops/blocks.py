"""Blocks of layers of which networks for pictures are made (`torchvision.ops.misc`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anynet.torch as _room

__all__ = [
    "MLP", "Conv2dNormActivation", "Conv3dNormActivation", "ConvNormActivation", "FrozenBatchNorm2d", "Permute", "SqueezeExcitation",
]  # fmt: skip

torch: Any = _room
_nn: Any = _room.nn


class FrozenBatchNorm2d(_nn.Module):  # type: ignore[misc]
    """Batch normalisation whose statistics and weights are fixed, as buffers: x · s + (bias − mean · s) with s = weight / √(var + eps)."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))
        self.register_load_state_dict_pre_hook(_without_count)

    def forward(self, x: Any) -> Any:
        """Each channel of (n, c, h, w), scaled and shifted."""
        weight, bias, mean, var = (
            b.reshape(1, -1, 1, 1) for b in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight * (var + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight.shape[0]}, eps={self.eps})"


def _without_count(module: Any, state: Any, prefix: str, *_: Any) -> None:
    """The state of an ordinary batch normalisation is taken, too, without how many batches it has seen."""
    state.pop(f"{prefix}num_batches_tracked", None)


def _each(value: Any, n: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,) * n


class ConvNormActivation(_nn.Sequential):  # type: ignore[misc]
    """A convolution, a normalisation and an activation; without `padding` the size stays, with a stride of 1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any = 3, stride: Any = 1, padding: Any = None, groups: int = 1,
        norm_layer: Callable[..., Any] | None = _nn.BatchNorm2d, activation_layer: Callable[..., Any] | None = _nn.ReLU, dilation: Any = 1,
        inplace: bool | None = True, bias: bool | None = None, conv_layer: Callable[..., Any] = _nn.Conv2d,
    ) -> None:  # fmt: skip
        if padding is None:
            n = next((len(v) for v in (kernel_size, dilation) if isinstance(v, Sequence)), 1)
            padding = tuple(
                (k - 1) // 2 * d for k, d in zip(_each(kernel_size, n), _each(dilation, n), strict=True)
            )
            padding = padding[0] if n == 1 else padding
        layers = [
            conv_layer(
                in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups,
                bias=norm_layer is None if bias is None else bias,
            )
        ]  # fmt: skip
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(**({} if inplace is None else {"inplace": inplace})))
        super().__init__(*layers)
        self.out_channels = out_channels


class Conv2dNormActivation(ConvNormActivation):
    """A convolution of pictures, a normalisation and an activation."""


class Conv3dNormActivation(ConvNormActivation):
    """A convolution of videos, a normalisation and an activation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any = 3, stride: Any = 1, padding: Any = None, groups: int = 1,
        norm_layer: Callable[..., Any] | None = _nn.BatchNorm3d, activation_layer: Callable[..., Any] | None = _nn.ReLU, dilation: Any = 1,
        inplace: bool | None = True, bias: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, groups, norm_layer, activation_layer, dilation, inplace, bias,
            _nn.Conv3d,
        )  # fmt: skip


class SqueezeExcitation(_nn.Module):  # type: ignore[misc]
    """The channels of x weighted by what two layers make of their means (Hu et al. 2018)."""

    def __init__(
        self, input_channels: int, squeeze_channels: int, activation: Callable[..., Any] = _nn.ReLU,
        scale_activation: Callable[..., Any] = _nn.Sigmoid,
    ) -> None:  # fmt: skip
        super().__init__()
        self.avgpool = _nn.AdaptiveAvgPool2d(1)
        self.fc1 = _nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = _nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    def forward(self, input: Any) -> Any:
        """x times a weight for each channel."""
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(input))))) * input


class MLP(_nn.Sequential):  # type: ignore[misc]
    """Linear layers, each but the last with a normalisation, an activation and dropout; the last with dropout."""

    def __init__(
        self, in_channels: int, hidden_channels: list[int], norm_layer: Callable[..., Any] | None = None,
        activation_layer: Callable[..., Any] | None = _nn.ReLU, inplace: bool | None = None, bias: bool = True, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        params = {} if inplace is None else {"inplace": inplace}
        layers: list[Any] = []
        for n, m in zip([in_channels, *hidden_channels[:-2]], hidden_channels[:-1], strict=False):
            layers.append(_nn.Linear(n, m, bias=bias))
            if norm_layer is not None:
                layers.append(norm_layer(m))
            layers += [activation_layer(**params)] if activation_layer is not None else []
            layers.append(_nn.Dropout(dropout, **params))
        last = [in_channels, *hidden_channels][-2]
        super().__init__(
            *layers, _nn.Linear(last, hidden_channels[-1], bias=bias), _nn.Dropout(dropout, **params)
        )


class Permute(_nn.Module):  # type: ignore[misc]
    """The axes of x in another order."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Any) -> Any:
        """`torch.permute`."""
        return torch.permute(x, self.dims)
