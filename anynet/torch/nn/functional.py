"""`anynet.nn.functional`, whose results are this room's."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from anynet.nn import functional as _functional
from anynet.torch.memory import fitted, write
from anynet.torch.nn.averages import FUNCTIONS, translation
from anynet.torch.tensor import adopt

SOFTMAXES = ("softmax", "softmin", "log_softmax")


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return adopt(function(*args, **kwargs))

    return call


def _averaged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loss, which takes ``size_average`` and ``reduce``, too."""
    translated = translation(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = translated(args, kwargs)
        return adopt(function(*args, **kwargs))

    return call


def implied_axis(name: str, ndim: int) -> int:
    """The axis that PyTorch takes where none is given, with its warning."""
    what = f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument."
    warnings.warn(what, UserWarning, stacklevel=4)
    return 0 if ndim in (0, 1, 3) else 1


def _along_an_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    """A softmax, which chooses an axis where none is given."""

    @functools.wraps(function)
    def call(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
        if dim is None:
            dim = implied_axis(function.__name__, len(input.shape))
        return adopt(function(input, dim=dim, dtype=dtype))

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
    _inplace = "inplace" in inspect.signature(_own).parameters
    _made = (
        _averaged
        if _name in FUNCTIONS
        else _along_an_axis
        if _name in SOFTMAXES
        else _with_inplace
        if _inplace
        else _offered
    )
    globals()[_name] = _made(_own)
for _name in ("celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "threshold"):
    globals()[f"{_name}_"] = _in_place(f"{_name}_", getattr(_functional, _name))


def __getattr__(name: str) -> Any:
    return getattr(_functional, name)
