"""Padding layers: what stands around an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops.padding import pad
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    axes: ClassVar[int]
    mode: ClassVar[str] = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        n = 2 * self.axes
        self.padding = (padding,) * n if isinstance(padding, int) else tuple(int(p) for p in padding)
        if len(self.padding) != n:
            msg = f"{type(self).__name__}: padding is a number or {n} of them, the last axis first, got {padding!r}"
            raise ValueError(msg)

    def forward(self, x: ArrayLike) -> Tensor:
        """x with its last axes made longer."""
        if len(x.shape) not in (self.axes + 1, self.axes + 2):
            msg = (
                f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or {self.axes + 1} "
                "without the batch"
            )
            raise ShapeError(msg)
        return pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class CircularPad1d(_Pad):
    """The other end around the last axes of (n, c, length), or without n.

    >>> import anynet as an
    >>> an.nn.CircularPad1d(1)(an.ones((1, 1, 3))).shape
    (1, 1, 5)
    """

    axes = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """The other end around the last axes of (n, c, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.CircularPad2d(1)(an.ones((1, 1, 3, 3))).shape
    (1, 1, 5, 5)
    """

    axes = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """The other end around the last axes of (n, c, depth, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.CircularPad3d(1)(an.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 5, 5, 5)
    """

    axes = 3
    mode = "circular"


class ConstantPad1d(_ConstantPad):
    """`value` around the last axes of (n, c, length), or without n.

    >>> import anynet as an
    >>> an.nn.ConstantPad1d(1, 2.0)(an.ones((1, 1, 3))).shape
    (1, 1, 5)
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """`value` around the last axes of (n, c, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ConstantPad2d(1, 2.0)(an.ones((1, 1, 3, 3))).shape
    (1, 1, 5, 5)
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """`value` around the last axes of (n, c, depth, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ConstantPad3d(1, 2.0)(an.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 5, 5, 5)
    """

    axes = 3


class ReflectionPad1d(_Pad):
    """A mirror image, without the edge itself, around the last axes of (n, c, length), or without n.

    >>> import anynet as an
    >>> an.nn.ReflectionPad1d(1)(an.ones((1, 1, 3))).shape
    (1, 1, 5)
    """

    axes = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """A mirror image, without the edge itself, around the last axes of (n, c, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ReflectionPad2d(1)(an.ones((1, 1, 3, 3))).shape
    (1, 1, 5, 5)
    """

    axes = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """A mirror image, without the edge itself, around the last axes of (n, c, depth, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ReflectionPad3d(1)(an.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 5, 5, 5)
    """

    axes = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """The edge repeated around the last axes of (n, c, length), or without n.

    >>> import anynet as an
    >>> an.nn.ReplicationPad1d(1)(an.ones((1, 1, 3))).shape
    (1, 1, 5)
    """

    axes = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """The edge repeated around the last axes of (n, c, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ReplicationPad2d(1)(an.ones((1, 1, 3, 3))).shape
    (1, 1, 5, 5)
    """

    axes = 2
    mode = "replicate"


class ReplicationPad3d(_Pad):
    """The edge repeated around the last axes of (n, c, depth, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ReplicationPad3d(1)(an.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 5, 5, 5)
    """

    axes = 3
    mode = "replicate"


class ZeroPad1d(_Pad):
    """Zeros around the last axes of (n, c, length), or without n.

    >>> import anynet as an
    >>> an.nn.ZeroPad1d(1)(an.ones((1, 1, 3))).shape
    (1, 1, 5)
    """

    axes = 1


class ZeroPad2d(_Pad):
    """Zeros around the last axes of (n, c, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ZeroPad2d(1)(an.ones((1, 1, 3, 3))).shape
    (1, 1, 5, 5)
    """

    axes = 2


class ZeroPad3d(_Pad):
    """Zeros around the last axes of (n, c, depth, height, width), or without n.

    >>> import anynet as an
    >>> an.nn.ZeroPad3d(1)(an.ones((1, 1, 3, 3, 3))).shape
    (1, 1, 5, 5, 5)
    """

    axes = 3
