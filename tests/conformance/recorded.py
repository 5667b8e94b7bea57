"""The namespace `anynet` with every floating array recorded: what the official suite runs against in its second lane.

Each floating Tensor that a function of the namespace returns without a history is replaced by a result of a variable
with the same values, so that whatever is computed from it afterwards goes through the tape (a result and not the
variable itself, which in-place operators refuse).
"""

import functools
from types import ModuleType, SimpleNamespace
from typing import Any

import anynet as an
from anynet.dtypes import DType

TAKES_PART = ("real floating", "complex floating")


def record(value: Any) -> Any:
    """`value` with the floating Tensors in it (alone, or in a tuple or named tuple) recorded."""
    if isinstance(value, an.Tensor):
        if an.isdtype(value.dtype, TAKES_PART) and not value.requires_grad:
            return an.positive(value.detach().requires_grad_())
        return value
    if isinstance(value, tuple):
        parts = map(record, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def recording(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return record(function(*args, **kwargs))

    return call


def namespace(module: Any) -> dict[str, Any]:
    """The public names of a namespace, its functions wrapped."""
    names: dict[str, Any] = {}
    for name in module.__all__ if hasattr(module, "__all__") else dir(module):
        value = getattr(module, name)
        plain = isinstance(value, (type, ModuleType, DType)) or not callable(value)
        names[name] = value if plain or name.startswith("__") else recording(value)
    return names


globals().update(namespace(an))
linalg = SimpleNamespace(**namespace(an.linalg))
fft = SimpleNamespace(**namespace(an.fft))
__array_namespace_info__ = an.__array_namespace_info__
__array_api_version__ = an.__array_api_version__
