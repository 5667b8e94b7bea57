"""Modules under PyTorch's paths: anynet's own classes, whose tensors are this room's.

`nn.Linear` stands for `anynet.nn.Linear`: calling it makes one, and its parameters take the class of this room; isinstance and comparison
see through it; a subclass of it is a subclass of anynet's. So networks are networks of anynet, with all that is done with them.
"""

from __future__ import annotations

import contextlib as _contextlib
import enum as _enum
import sys
from types import ModuleType
from typing import Any

from anynet import nn as _nn
from anynet import tensor as _tensor
from anynet.nn.members import named_tensors as _named_tensors
from anynet.torch.memory import fitted as _fitted
from anynet.torch.memory import write as _write
from anynet.torch.nn import bases as _bases
from anynet.torch.nn import functional as functional
from anynet.torch.nn import init as init
from anynet.torch.nn.averages import CLASSES as _AVERAGED
from anynet.torch.nn.averages import translation as _translation
from anynet.torch.nn.overridden import METHODS as _METHODS
from anynet.torch.nn.overridden import OF_USERS as _OF_USERS
from anynet.torch.nn.overridden import heard as _heard
from anynet.torch.tensor import Buffer as Buffer
from anynet.torch.tensor import Parameter as Parameter
from anynet.torch.tensor import Tensor as _Tensor
from anynet.torch.tensor import adopt as _adopt


def adopted(module: Any) -> Any:
    """A module, its tensors those of this room; layers that are to work in place do."""
    for _, t, _ in _named_tensors(module, _tensor.Tensor, once=False):
        _adopt(t)
    for layer in module.modules():
        own = (type(layer).forward.__module__ or "").startswith(
            "anynet.nn."
        )  # others write into their input by themselves
        if own and getattr(layer, "inplace", False) is True and _into_the_input not in layer._forward_hooks:
            layer.register_forward_hook(_into_the_input)
        if isinstance(layer, _SOFTMAXES) and layer.dim is None and _implied not in layer._forward_pre_hooks:
            layer.register_forward_pre_hook(_implied)
    return module


_SOFTMAXES = (_nn.Softmax, _nn.Softmin, _nn.LogSoftmax)


def _implied(layer: Any, args: Any) -> None:
    """The hook of a softmax without an axis, which follows from the number of the input's."""
    layer.dim = functional.implied_axis(type(layer).__name__.lower(), len(args[0].shape))


def _into_the_input(layer: Any, args: Any, output: Any) -> Any:
    """The hook of layers with ``inplace=True``, of which anynet's own never overwrite: the input takes the values of the output."""
    if output is args[0] or not layer.inplace or not isinstance(args[0], _Tensor):
        return None
    return _write(args[0], _fitted(args[0], output, type(layer).__name__))


class _Stand(type):
    """The type of a class that stands for one of anynet's, and of what is derived from such."""

    _stands: Any

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        own = cls.__dict__.get("_stands")
        if "_translated" in cls.__dict__:
            args, kwargs = cls.__dict__["_translated"](args, kwargs)
        made = adopted(type.__call__(own if own is not None else cls, *args, **kwargs))
        if own is None:
            _heard(made)
        return made

    def __instancecheck__(cls, instance: object) -> bool:
        own = cls.__dict__.get("_stands")
        if own is None:
            return type.__instancecheck__(cls, instance)
        return isinstance(instance, own) and not isinstance(instance, cls.__dict__["_without"])

    def __subclasscheck__(cls, subclass: type) -> bool:
        own = cls.__dict__.get("_stands")
        if own is None:
            return type.__subclasscheck__(cls, subclass)
        there = subclass.__dict__.get("_stands", subclass) if isinstance(subclass, type) else subclass
        return issubclass(there, own) and not issubclass(there, cls.__dict__["_without"])

    def __eq__(cls, other: object) -> bool:
        own = cls.__dict__.get("_stands", cls)
        there = other.__dict__.get("_stands", other) if isinstance(other, _Stand) else other
        return own is there

    def __hash__(cls) -> int:
        return type.__hash__(cls.__dict__.get("_stands", cls))


class _Members(dict[str, Any]):
    """PyTorch's dictionary of a module's own members: what is written into it becomes the module's."""

    def __init__(self, module: Any, found: Any, write: Any = setattr) -> None:
        super().__init__(found)
        self.module, self.write = module, write

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.write(self.module, name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        delattr(self.module, name)

    def pop(self, name: str, *default: Any) -> Any:
        if name in self:
            delattr(self.module, name)
        return super().pop(name, *default)


def _names_of_weights(rnn: Any) -> list[list[str]]:
    """The names of the tensors of each layer and direction of a recurrent network."""
    names = [name for name, _ in rnn.named_parameters(recurse=False)]
    ends = dict.fromkeys(name[name.index("_l") :] for name in names)
    return [[name for name in names if name[name.index("_l") :] == end] for end in ends]


# layers of this room are anynet's own, so that is where PyTorch's dictionaries of members and its other methods have to be
for _name, _method in _METHODS.items():
    setattr(_nn.Module, _name, _method)
_nn.Module._modules = property(lambda self: _Members(self, self.named_children()))  # type: ignore[attr-defined]
_nn.Module._parameters = property(lambda self: _Members(self, self.named_parameters(recurse=False)))  # type: ignore[attr-defined]
_nn.Module._buffers = property(  # type: ignore[attr-defined]
    lambda self: _Members(
        self, self.named_buffers(recurse=False), lambda module, *pair: module.register_buffer(*pair)
    )
)
_nn.RNNBase._all_weights = property(_names_of_weights)  # type: ignore[attr-defined]


def _standing(own: Any, name: str = "", without: tuple[Any, ...] = ()) -> Any:
    """The class of this room for one of anynet's; `without` those that are derived from it and not from PyTorch's."""
    name = name or own.__name__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        super(made, self).__setattr__(name, value)
        kept = self.__dict__.get(name)
        if type(kept) in (_tensor.Parameter, _tensor.Buffer):
            _adopt(kept)

    def get_attribute(self: Any, name: str) -> Any:
        """PyTorch's way to an attribute, which scripts call by itself."""
        if name in self.__dict__:
            return self.__dict__[name]
        above = getattr(super(made, self), "__getattr__", None)
        if above is not None:
            return above(name)
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        args, kwargs = translated(args, kwargs)
        super(made, self).__init__(*args, **kwargs)

    body = {
        "__module__": __name__, "__doc__": own.__doc__, "__qualname__": name, "_stands": own, "_without": without,
        "__setattr__": set_attribute, "__getattr__": get_attribute,
    }  # fmt: skip
    if name in _AVERAGED:
        translated = _translation(own.__init__)
        body |= {"__init__": begin, "_translated": staticmethod(translated)}
    made: Any = _Stand(name, (own,), body)
    return made


for _name in dir(_nn):
    _own = getattr(_nn, _name)
    if isinstance(_own, type) and issubclass(_own, _nn.Module):
        globals()[_name] = _standing(_own)
    elif isinstance(_own, type) and not hasattr(sys.modules[__name__], _name):
        globals()[_name] = _own
Container = globals()["Container"]
Module = globals()["Module"]
for _name, _method in _OF_USERS.items():
    setattr(Module, _name, _method)


def _submodule(name: str, contents: dict[str, Any]) -> ModuleType:
    """A path of PyTorch's, with what is found there."""
    made = ModuleType(f"{__name__}.{name}", f"torch.nn.{name}")
    vars(made).update(contents)
    sys.modules[made.__name__] = made
    return made


def _times(n: int) -> Any:
    return lambda x: tuple(x) if hasattr(x, "__iter__") else (x,) * n


parameter = _submodule("parameter", {"Parameter": Parameter, "Buffer": Buffer})
_classes = {n: v for n, v in globals().items() if isinstance(v, _Stand)}
modules = _submodule("modules", _classes)
for _path in (
    "module", "linear", "conv", "batchnorm", "normalization", "activation", "container", "dropout", "pooling", "loss", "rnn", "sparse",
    "transformer", "padding", "upsampling", "flatten", "instancenorm", "pixelshuffle", "distance", "fold",
):  # fmt: skip
    _there = {n: _standing(own, n, tuple(but)) for n, (own, *but) in _bases.BASES.get(_path, {}).items()}
    setattr(modules, _path, _submodule(f"modules.{_path}", {**_classes, **_there}))
vars(modules.transformer).update(_get_activation_fn=_bases.activation, _get_clones=_bases.clones)
modules.utils = _submodule(  # type: ignore[attr-defined]
    "modules.utils", {"_pair": _times(2), "_single": _times(1), "_triple": _times(3), "_ntuple": _times}
)
from anynet.torch.nn import utils as utils  # noqa: E402 - it takes modules of this room

attention = _submodule("attention", {n: v for n, v in vars(_nn.attention).items() if not n.startswith("_")})
for _path in ("flex_attention", "varlen"):
    if isinstance(getattr(attention, _path, None), ModuleType):
        sys.modules[f"{attention.__name__}.{_path}"] = getattr(attention, _path)


class SDPBackend(_enum.Enum):
    """PyTorch's kernels of attention; here there is one way to compute it."""

    ERROR, MATH, FLASH_ATTENTION, EFFICIENT_ATTENTION, CUDNN_ATTENTION, OVERRIDEABLE = -1, 0, 1, 2, 3, 4


@_contextlib.contextmanager
def sdpa_kernel(backends: Any, set_priority: bool = False) -> Any:
    """A block in which PyTorch would choose among kernels; there is one here, and nothing to choose."""
    yield


attention.SDPBackend, attention.sdpa_kernel = SDPBackend, sdpa_kernel  # type: ignore[attr-defined]
modules.linear.NonDynamicallyQuantizableLinear = globals()["Linear"]
functional_call = _nn.functional_call
