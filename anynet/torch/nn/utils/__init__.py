"""`anynet.nn.utils`, whose tensors are this room's."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from anynet.nn import Module as _Module
from anynet.nn import utils as _utils
from anynet.nn.members import named_tensors as _named_tensors
from anynet.tensor import Tensor as _Tensor
from anynet.torch.tensor import adopt as _adopt


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        y = _adopt(function(*args, **kwargs))
        for module in (y, *args[:1]):
            if isinstance(module, _Module):
                for _, t, _ in _named_tensors(module, _Tensor, once=False):
                    _adopt(t)
        return y

    return call


def _room(name: str, source: Any, target: ModuleType) -> ModuleType:
    for each in dir(source):
        value = getattr(source, each)
        if each.startswith("_") or isinstance(value, ModuleType):
            continue
        setattr(target, each, value if isinstance(value, type) or not callable(value) else _offered(value))
    sys.modules[name] = target
    return target


_room(__name__, _utils, sys.modules[__name__])
rnn = _room(f"{__name__}.rnn", _utils.rnn, ModuleType(f"{__name__}.rnn"))
parametrize = _room(f"{__name__}.parametrize", _utils.parametrize, ModuleType(f"{__name__}.parametrize"))
parametrizations = _room(
    f"{__name__}.parametrizations", _utils.parametrizations, ModuleType(f"{__name__}.parametrizations")
)
clip_grad = sys.modules[__name__]
