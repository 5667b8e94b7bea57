"""`anynet.nn.init`: initial values, written into a tensor and through its views."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from anynet.nn import init as _init
from anynet.torch.memory import memory_of, write
from anynet.torch.tensor import Parameter


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        own = memory_of(tensor)
        if own is None or own.parent is None:
            return function(tensor, *args, **kwargs)
        drawn = Parameter(tensor.detach().clone())  # a view: its values go to what it shows
        function(drawn, *args, **kwargs)
        return write(tensor, drawn.detach())

    return call


for _name in dir(_init):
    if _name.endswith("_") and not _name.startswith("_"):
        globals()[_name] = _offered(getattr(_init, _name))
calculate_gain, _calculate_fan_in_and_fan_out = _init.calculate_gain, _init._fans
for _name in ("uniform", "normal", "constant", "eye", "dirac", "xavier_uniform", "xavier_normal",
              "kaiming_uniform", "kaiming_normal", "orthogonal",
              "sparse"):  # fmt: skip
    globals()[_name] = globals()[f"{_name}_"]  # older names of the same


def _calculate_correct_fan(tensor: Any, mode: str) -> int:
    """The fan-in or the fan-out of a weight."""
    fans = dict(zip(("fan_in", "fan_out"), _init._fans(tensor), strict=True))
    if mode.lower() not in fans:
        msg = f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']"
        raise ValueError(msg)
    return fans[mode.lower()]
