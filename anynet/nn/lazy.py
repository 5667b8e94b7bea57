"""Layers that learn the size of their input from the first one: then they become the layer without "Lazy"."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from anynet.nn.basic import Linear
from anynet.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from anynet.nn.module import Module, ShapeError
from anynet.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from anynet_backends.threads import BUILDING

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
    "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
    "LazyInstanceNorm3d", "LazyLinear",
]  # fmt: skip

_C = TypeVar("_C", bound="type[_Lazy]")


class _Lazy(Module):
    """Keeps its arguments until the first call. Until then it has no parameters, and asking for them is an error: an
    optimizer that did not see them would not train them."""

    waiting = True
    _layer: ClassVar[type[Module]]
    _axis: ClassVar[Callable[[int], int]]  # of the input's axes, the one whose length is the missing argument
    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def forward(self, x: Any, *args: Any) -> Any:
        """Become the layer, and call it."""
        axis = type(self)._axis(len(x.shape))
        if not -len(x.shape) <= axis < len(x.shape):
            msg = f"got {tuple(x.shape)}: too few axes"
            raise ShapeError(msg)
        with BUILDING:  # another thread may call it for the first time, too
            if isinstance(self, _Lazy):
                self._become(x, axis)
        return self.forward(x, *args)

    def _become(self, x: Any, axis: int) -> None:
        cls, (given, options) = type(self)._layer, self._given
        made = cls(x.shape[axis], *given, **options).to(device=options.get("device") or x.device)
        own = self.__dict__
        own.update({**made.__dict__, "training": self.training})
        self.__class__ = cls  # type: ignore[assignment]
        del own["_given"]

    def extra_repr(self) -> str:
        given, options = self._given
        return ", ".join([*map(repr, given), *(f"{k}={v!r}" for k, v in options.items())])


def _of(layer: type[Module], axis: Callable[[int], int], **defaults: Any) -> Callable[[_C], _C]:
    """Give a lazy class the arguments of a layer but the first, some with other defaults."""
    own = inspect.signature(layer.__init__)
    receiver, _, *others = own.parameters.values()
    others = [p.replace(default=defaults[p.name]) if p.name in defaults else p for p in others]
    signature = own.replace(parameters=[receiver, *others])

    def decorate(cls: _C) -> _C:
        @functools.wraps(layer.__init__)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                signature.bind(self, *args, **kwargs)
            except TypeError as error:
                msg = f"{cls.__name__}: {error}"
                raise TypeError(msg) from None
            free = [p.name for p in others if p.kind is p.POSITIONAL_OR_KEYWORD][len(args) :]
            self._given = args, {**{k: v for k, v in defaults.items() if k in free}, **kwargs}

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[method-assign]
        cls._layer, cls._axis = layer, staticmethod(axis)
        return cls

    return decorate


def _channels(axes: int) -> Callable[[int], int]:
    return lambda ndim: ndim - axes - 1


def _second(ndim: int) -> int:
    return 1


@_of(Linear, lambda ndim: ndim - 1)
class LazyLinear(_Lazy):
    """`Linear` without `in_features`: call the network once on an example before its parameters are asked for.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Flatten(), an.nn.LazyLinear(3))
    >>> net(an.ones((2, 4, 5))).shape, net[1]
    ((2, 3), Linear(in_features=20, out_features=3, bias=True))
    """


@_of(Conv1d, _channels(1))
class LazyConv1d(_Lazy):
    """`Conv1d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConv1d(2, 3)(an.ones((1, 4, 5))).shape
    (1, 2, 3)
    """


@_of(Conv2d, _channels(2))
class LazyConv2d(_Lazy):
    """`Conv2d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConv2d(2, 3)(an.ones((1, 4, 5, 5))).shape
    (1, 2, 3, 3)
    """


@_of(Conv3d, _channels(3))
class LazyConv3d(_Lazy):
    """`Conv3d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConv3d(2, 3)(an.ones((1, 4, 3, 3, 3))).shape
    (1, 2, 1, 1, 1)
    """


@_of(ConvTranspose1d, _channels(1))
class LazyConvTranspose1d(_Lazy):
    """`ConvTranspose1d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConvTranspose1d(2, 3)(an.ones((1, 4, 5))).shape
    (1, 2, 7)
    """


@_of(ConvTranspose2d, _channels(2))
class LazyConvTranspose2d(_Lazy):
    """`ConvTranspose2d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConvTranspose2d(2, 2, stride=2)(an.ones((1, 4, 3, 3))).shape
    (1, 2, 6, 6)
    """


@_of(ConvTranspose3d, _channels(3))
class LazyConvTranspose3d(_Lazy):
    """`ConvTranspose3d` without `in_channels`.

    >>> import anynet as an
    >>> an.nn.LazyConvTranspose3d(2, 2)(an.ones((1, 4, 2, 2, 2))).shape
    (1, 2, 3, 3, 3)
    """


@_of(BatchNorm1d, _second)
class LazyBatchNorm1d(_Lazy):
    """`BatchNorm1d` without `num_features`.

    >>> import anynet as an
    >>> an.nn.LazyBatchNorm1d()(an.ones((3, 4))).shape
    (3, 4)
    """


@_of(BatchNorm2d, _second)
class LazyBatchNorm2d(_Lazy):
    """`BatchNorm2d` without `num_features`.

    >>> import anynet as an
    >>> an.nn.LazyBatchNorm2d()(an.ones((3, 4, 2, 2))).shape
    (3, 4, 2, 2)
    """


@_of(BatchNorm3d, _second)
class LazyBatchNorm3d(_Lazy):
    """`BatchNorm3d` without `num_features`.

    >>> import anynet as an
    >>> an.nn.LazyBatchNorm3d()(an.ones((3, 4, 2, 2, 2))).shape
    (3, 4, 2, 2, 2)
    """


@_of(InstanceNorm1d, _channels(1), affine=True, track_running_stats=True)
class LazyInstanceNorm1d(_Lazy):
    """`InstanceNorm1d` without `num_features`, and as in PyTorch with affine weights and running statistics by default.

    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm1d()(an.ones((3, 4, 2))).shape
    (3, 4, 2)
    """


@_of(InstanceNorm2d, _channels(2), affine=True, track_running_stats=True)
class LazyInstanceNorm2d(_Lazy):
    """`InstanceNorm2d` without `num_features`.

    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm2d()(an.ones((3, 4, 2, 2))).shape
    (3, 4, 2, 2)
    """


@_of(InstanceNorm3d, _channels(3), affine=True, track_running_stats=True)
class LazyInstanceNorm3d(_Lazy):
    """`InstanceNorm3d` without `num_features`.

    >>> import anynet as an
    >>> an.nn.LazyInstanceNorm3d()(an.ones((3, 4, 2, 2, 2))).shape
    (3, 4, 2, 2, 2)
    """
