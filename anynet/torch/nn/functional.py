"""`anynet.nn.functional`, whose results are this room's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from anynet.nn import functional as _functional
from anynet.torch.memory import fitted, write
from anynet.torch.tensor import adopt


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return adopt(function(*args, **kwargs))

    return call


def _with_inplace(function: Callable[..., Any]) -> Callable[..., Any]:
    """``inplace=True`` of a function: the input takes the result's values."""
    place = (
        list(inspect.signature(function).parameters).index("inplace") - 1
    )  # among the arguments after the input

    @functools.wraps(function)
    def call(input: Any, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        if len(args) > place:
            inplace, args = args[place], (*args[:place], False, *args[place + 1 :])
        y = adopt(function(input, *args, **kwargs))
        if not inplace or y is input:
            return y
        return write(input, fitted(input, y, function.__name__))

    return call


def _in_place(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        return write(input, fitted(input, adopt(function(input, *args, **kwargs)), name))

    call.__name__ = call.__qualname__ = name
    return call


for _name in _functional.__all__:
    _own = getattr(_functional, _name)
    globals()[_name] = (_with_inplace if "inplace" in inspect.signature(_own).parameters else _offered)(_own)
for _name in ("celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "threshold"):
    globals()[f"{_name}_"] = _in_place(f"{_name}_", getattr(_functional, _name))


def __getattr__(name: str) -> Any:
    return getattr(_functional, name)
