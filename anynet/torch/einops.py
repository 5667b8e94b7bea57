"""einops on this room's tensors: ``from anynet.torch.einops import rearrange``; its layers in ``anynet.torch.einops.layers.torch``.

The functions are those of the installed library (`pip install einops`), which is told here how these tensors are reshaped.
Once this module has been imported, `einops.rearrange` itself takes them, too.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from anynet.torch import nn
from anynet.torch.table import TABLE
from anynet.torch.tensor import Tensor

try:
    import einops as _einops
    from einops import _backends, einsum, pack, parse_shape, rearrange, reduce, repeat, unpack
    from einops import layers as _layers
    from einops.layers._einmix import _EinmixMixin
except ImportError as error:
    msg = "anynet.torch.einops needs the library einops: pip install einops"
    raise ImportError(msg) from error

__all__ = [
    "EinopsError",
    "asnumpy",
    "einsum",
    "pack",
    "parse_shape",
    "rearrange",
    "reduce",
    "repeat",
    "unpack",
]

EinopsError = _einops.EinopsError
asnumpy = _einops.asnumpy
_f = {name: row.function for name, row in TABLE.items()}


class _Backend(_backends.AbstractBackend):
    """How einops reshapes a Tensor of this room."""

    framework_name = __name__

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor)

    def from_numpy(self, x: Any) -> Any:
        return _f["from_numpy"](x)

    def to_numpy(self, x: Any) -> Any:
        return x.detach().cpu().numpy()

    def arange(self, start: int, stop: int) -> Any:
        return _f["arange"](start, stop)

    def transpose(self, x: Any, axes: Any) -> Any:
        return x.permute(axes)

    def reduce(self, x: Any, operation: str, axes: Any) -> Any:
        if operation in ("min", "max"):
            operation = f"a{operation}"
        if operation == "prod" or operation in ("any", "all"):
            for axis in sorted(axes, reverse=True):
                x = getattr(x, operation)(dim=axis)
            return x
        return getattr(x, operation)(dim=tuple(axes))

    def stack_on_zeroth_dimension(self, tensors: list[Any]) -> Any:
        return _f["stack"](tensors)

    def add_axis(self, x: Any, new_position: int) -> Any:
        return x.unsqueeze(new_position)

    def add_axes(self, x: Any, n_axes: int, pos2len: dict[int, int]) -> Any:
        lengths = [-1] * n_axes
        for position, length in pos2len.items():
            x, lengths[position] = x.unsqueeze(position), length
        return x.expand(*lengths)

    def tile(self, x: Any, repeats: Any) -> Any:
        return x.repeat(repeats)

    def concat(self, tensors: Any, axis: int) -> Any:
        return _f["cat"](tensors, dim=axis)

    def is_float_type(self, x: Any) -> bool:
        return x.dtype.kind in ("real", "complex")

    def layers(self) -> Any:
        return sys.modules[f"{__name__}.layers.torch"]

    def einsum(self, pattern: str, *x: Any) -> Any:
        return _f["einsum"](pattern, *x)


class Rearrange(_layers.RearrangeMixin, nn.Module):  # type: ignore[misc]
    """`rearrange` as a layer."""

    def forward(self, input: Any) -> Any:
        return rearrange(input, self.pattern, **self.axes_lengths)


class Reduce(_layers.ReduceMixin, nn.Module):  # type: ignore[misc]
    """`reduce` as a layer."""

    def forward(self, input: Any) -> Any:
        return reduce(input, self.pattern, self.reduction, **self.axes_lengths)


class EinMix(_EinmixMixin, nn.Module):  # type: ignore[misc]
    """A linear layer by the names of its axes: einsum with a weight, between two rearrangements."""

    def _create_parameters(
        self, weight_shape: Any, weight_bound: float, bias_shape: Any, bias_bound: float
    ) -> None:
        self.weight = nn.Parameter(_f["zeros"](weight_shape).uniform_(-weight_bound, weight_bound))
        self.bias = None
        if bias_shape is not None:
            self.bias = nn.Parameter(_f["zeros"](bias_shape).uniform_(-bias_bound, bias_bound))

    def _create_rearrange_layers(
        self, before: Any, before_lengths: Any, after: Any, after_lengths: Any
    ) -> None:
        self.pre_rearrange = None if before is None else Rearrange(before, **before_lengths)
        self.post_rearrange = None if after is None else Rearrange(after, **after_lengths)

    def forward(self, input: Any) -> Any:
        x = input if self.pre_rearrange is None else self.pre_rearrange(input)
        y = _f["einsum"](self.einsum_pattern, x, self.weight)
        y = y if self.bias is None else y + self.bias
        return y if self.post_rearrange is None else self.post_rearrange(y)


layers = ModuleType(f"{__name__}.layers", "einops.layers")
layers.torch = ModuleType(f"{__name__}.layers.torch", "einops.layers.torch")  # type: ignore[attr-defined]
vars(layers.torch).update(Rearrange=Rearrange, Reduce=Reduce, EinMix=EinMix)
for _module in (layers, layers.torch):
    sys.modules[_module.__name__] = _module
