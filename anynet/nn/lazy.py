"""Lazy layers: the size of the input is taken from the first one, and the layer becomes the one without "Lazy"."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from anynet import streams
from anynet.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from anynet.nn.docstrings import wrapped
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from anynet.ops import creation
from anynet.tensor import Buffer, Leaf, Parameter, Tensor, module_version, to_plain
from anynet_backends.concurrency import BUILD_LOCK

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
    "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
    "LazyInstanceNorm3d", "LazyLinear", "UninitializedBuffer", "UninitializedParameter",
]  # fmt: skip

_NORM = {"weight": 0, "running_mean": 0}
_C = TypeVar("_C", bound="type[_Lazy]")


class _Uninitialized(Tensor):
    """Stands in a lazy layer for a tensor of unknown shape: it has a dtype, a device and `requires_grad`, but no values. Once the shape
    is known it becomes that tensor in place, so that an optimizer that holds it has the right one."""

    __slots__ = ()
    becomes: ClassVar[Any]  # the class that it takes

    def materialize(self, value: Tensor, device: str) -> None:
        """Become a Parameter or Buffer with the numbers of `value`, in the dtype that is expected."""
        self._data = to_plain(value, dtype=self.dtype, device=device)
        if isinstance(self.edge, Leaf):
            leaf = Leaf(self._data)
            leaf.hooks, self.edge = self.edge.hooks, leaf
        self.__class__ = self.becomes

    def _unknown(self) -> Any:
        msg = (
            "a tensor of a lazy layer has no shape before the layer's first call; call the network once on an example, or load "
            "a state into it"
        )
        raise RuntimeError(msg)

    shape = ndim = size = property(_unknown)
    numpy = tolist = item = _unknown

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dtype={self.dtype}, device={self.device!r})"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter of a lazy layer before the layer's first call: it can be moved, converted, frozen and given to an
    optimizer, but has no shape yet. It becomes a `Parameter` then.

    >>> import anynet as an
    >>> layer = an.nn.LazyLinear(2).double()
    >>> layer.weight
    UninitializedParameter(dtype=float64, device='cpu')
    >>> layer(an.ones((1, 3), dtype=an.float64)).dtype, layer.weight.shape
    (anynet.float64, (2, 3))
    """

    __slots__ = ()
    becomes: ClassVar[Any] = Parameter

    def __init__(self, requires_grad: bool = True, *, dtype: Any = None, device: str | None = None) -> None:
        super().__init__(creation.zeros(0, dtype=dtype, device=device), requires_grad)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer of a lazy layer before the layer's first call: it can be moved and converted, but has no shape yet. It becomes a
    `Buffer` then.

    >>> import anynet as an
    >>> an.nn.LazyBatchNorm1d().running_mean
    UninitializedBuffer(dtype=float32, device='cpu')
    """

    __slots__ = ()
    becomes: ClassVar[Any] = Buffer

    def __init__(self, *, persistent: bool = True, dtype: Any = None, device: str | None = None) -> None:
        super().__init__(creation.zeros(0, dtype=dtype, device=device), persistent=persistent)


class _Lazy(Module):
    """Keeps its arguments until the first call, or until a state is loaded. Until then its tensors have no shape."""

    waiting = True
    _not_members = Module._not_members | {"_given"}
    _layer: ClassVar[type[Module]]
    _axis: ClassVar[Callable[[int], int]]  # of the input's axes, the one whose length is the missing argument
    _missing: ClassVar[str]  # the name of that argument
    _told: ClassVar[
        dict[str, int]
    ]  # by tensors of a state: of which axis the length is the argument, over `groups`
    _given: tuple[tuple[Any, ...], dict[str, Any]]
    _groups: int
    _where: str  # the device on which it was made

    def _begin(self, groups: int) -> None:
        """All that the layer has, but for the missing argument and the tensors whose shape depends on it."""
        self._groups = groups
        with streams.fork_rng():  # a layer made to see what it has draws nothing
            like = self._make(groups)
        for name, value in vars(like).items():
            new: Any = value
            if isinstance(value, Parameter):
                new = UninitializedParameter(value.requires_grad, dtype=value.dtype, device=value.device)
            elif isinstance(value, Buffer) and value.shape:
                new = UninitializedBuffer(persistent=value.persistent, dtype=value.dtype, device=value.device)
            if name not in ("_defined", "_made"):
                setattr(self, name, new)
        setattr(self, self._missing, 0)
        self._where = creation.empty(0).device

    def _make(self, size: int) -> Module:
        given, options = self._given
        return self._layer(size, *given, **options)

    def sized(self, path: str, state: Mapping[str, Any]) -> Module | None:
        """The layer of the size that a state has for it; None where the state does not say."""
        for name, axis in self._told.items():
            value = state.get(f"{path}.{name}" if path else name)
            shape = tuple(getattr(value, "shape", ()))
            if len(shape) > axis:
                with streams.fork_rng():
                    return self._make(shape[axis] * (self._groups if axis else 1))
        return None

    def become(self, made: Module, device: str | None = None) -> None:
        """Take the shapes, numbers and class of the layer that has been made."""
        for name, value in list(vars(made).items()):
            mine = vars(self).get(name)
            if isinstance(mine, _Uninitialized):
                mine.materialize(value, device if device and mine.device == self._where else mine.device)
            elif not isinstance(value, Tensor) and name not in ("training", "_defined"):
                self.__dict__[name] = value
        self.__class__ = self._layer  # type: ignore[assignment]
        for name in ("_given", "_groups", "_where"):
            del self.__dict__[name]
        module_version.bump()

    def forward(self, x: Any, *args: Any) -> Any:
        """Become the layer, and call it."""
        with BUILD_LOCK:  # another thread may call it for the first time, too
            if isinstance(self, _Lazy):
                axis = type(self)._axis(len(x.shape))
                if not -len(x.shape) <= axis < len(x.shape):
                    msg = f"got {tuple(x.shape)}: too few axes"
                    raise ShapeError(msg)
                self.become(self._make(x.shape[axis]), None if self._given[1].get("device") else x.device)
        return self.forward(x, *args)

    def extra_repr(self) -> str:
        given, options = self._given
        return ", ".join([*map(repr, given), *(f"{k}={v!r}" for k, v in options.items())])


class _LazyDocstring:
    """A lazy layer's ``__doc__``, made when it is read: what the layer's says, and what is known only after the first call."""

    def __init__(self, cls: type[_Lazy], example: str, defaults: dict[str, Any]) -> None:
        self.cls, self.example, self.defaults = cls, example.strip(), defaults

    def __get__(self, instance: object, owner: type) -> str:
        layer, missing = self.cls._layer, self.cls._missing
        usual = ", ".join(f"{k}={v}" for k, v in self.defaults.items())
        begin = (
            f"`{layer.__name__}` whose `{missing}` is taken from the first input, or from a state that is loaded"
            f"{f', and with other defaults: {usual}' if usual else ''}. Until then its tensors have no shape "
            "(`UninitializedParameter`, `UninitializedBuffer`), but can be moved, converted and given to an optimizer; then it "
            "becomes that layer."
        )
        text, _, after = str(layer.__doc__).partition("    >>> ")
        source = after[after.index("    Source:") :] if "    Source:" in after else ""
        paragraphs = wrapped(begin).lstrip(), f"    {text.strip()}", f"    {self.example}", source.rstrip()
        return "\n\n".join(p for p in paragraphs if p)


def _of(
    layer: type[Module], axis: Callable[[int], int], told: dict[str, int], **defaults: Any
) -> Callable[[_C], _C]:
    """Give a lazy class the arguments of a layer but the first, some with other defaults, and the layer's docstring around its own
    example."""
    own = inspect.signature(layer.__init__)
    receiver, missing, *others = own.parameters.values()
    others = [p.replace(default=defaults[p.name]) if p.name in defaults else p for p in others]
    signature = own.replace(parameters=[receiver, *others])

    def decorate(cls: _C) -> _C:
        @functools.wraps(layer.__init__)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                bound = signature.bind(self, *args, **kwargs)
            except TypeError as error:
                msg = f"{cls.__name__}: {error}"
                raise TypeError(msg) from None
            free = [p.name for p in others if p.kind is p.POSITIONAL_OR_KEYWORD][len(args) :]
            self._given = args, {**{k: v for k, v in defaults.items() if k in free}, **kwargs}
            self._begin(bound.arguments.get("groups", 1))

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[method-assign]
        cls._layer, cls._axis, cls._missing, cls._told = layer, staticmethod(axis), missing.name, told
        if cls.__doc__ is not None:
            cls.__doc__ = cast("str", _LazyDocstring(cls, cls.__doc__, defaults))
        return cls

    return decorate


def _channels(axes: int) -> Callable[[int], int]:
    return lambda ndim: ndim - axes - 1


def _second(ndim: int) -> int:
    return 1


@_of(Linear, lambda ndim: ndim - 1, {"weight": 1})
class LazyLinear(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyLinear(3)(an.ones((2, 5))).shape
    (2, 3)
    >>> net = an.nn.Sequential(an.nn.Flatten(), an.nn.LazyLinear(3))
    >>> net(an.ones((2, 4, 5))).shape, net[1]
    ((2, 3), Linear(in_features=20, out_features=3, bias=True))
    """


@_of(Conv1d, _channels(1), {"weight": 1})
class LazyConv1d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConv1d(2, 3)(an.ones((1, 4, 5))).shape
    (1, 2, 3)
    """


@_of(Conv2d, _channels(2), {"weight": 1})
class LazyConv2d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConv2d(2, 3)(an.ones((1, 4, 5, 5))).shape
    (1, 2, 3, 3)
    """


@_of(Conv3d, _channels(3), {"weight": 1})
class LazyConv3d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConv3d(2, 3)(an.ones((1, 4, 3, 3, 3))).shape
    (1, 2, 1, 1, 1)
    """


@_of(ConvTranspose1d, _channels(1), {"weight": 0})
class LazyConvTranspose1d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConvTranspose1d(2, 3)(an.ones((1, 4, 5))).shape
    (1, 2, 7)
    """


@_of(ConvTranspose2d, _channels(2), {"weight": 0})
class LazyConvTranspose2d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConvTranspose2d(2, 2, stride=2)(an.ones((1, 4, 3, 3))).shape
    (1, 2, 6, 6)
    """


@_of(ConvTranspose3d, _channels(3), {"weight": 0})
class LazyConvTranspose3d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyConvTranspose3d(2, 2)(an.ones((1, 4, 2, 2, 2))).shape
    (1, 2, 3, 3, 3)
    """


@_of(BatchNorm1d, _second, _NORM)
class LazyBatchNorm1d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyBatchNorm1d()(an.ones((3, 4))).shape
    (3, 4)
    """


@_of(BatchNorm2d, _second, _NORM)
class LazyBatchNorm2d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyBatchNorm2d()(an.ones((3, 4, 2, 2))).shape
    (3, 4, 2, 2)
    """


@_of(BatchNorm3d, _second, _NORM)
class LazyBatchNorm3d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyBatchNorm3d()(an.ones((3, 4, 2, 2, 2))).shape
    (3, 4, 2, 2, 2)
    """


@_of(InstanceNorm1d, _channels(1), _NORM, affine=True, track_running_stats=True)
class LazyInstanceNorm1d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm1d()(an.ones((3, 4, 2))).shape
    (3, 4, 2)
    """


@_of(InstanceNorm2d, _channels(2), _NORM, affine=True, track_running_stats=True)
class LazyInstanceNorm2d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm2d()(an.ones((3, 4, 2, 2))).shape
    (3, 4, 2, 2)
    """


@_of(InstanceNorm3d, _channels(3), _NORM, affine=True, track_running_stats=True)
class LazyInstanceNorm3d(_Lazy):
    """
    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm3d()(an.ones((3, 4, 2, 2, 2))).shape
    (3, 4, 2, 2, 2)
    """
