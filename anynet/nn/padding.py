"""Padding layers: constants, reflections, repeated edges or the other end around the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from anynet.equations import equation
from anynet.nn.spatial import Spatial
from anynet.ops.padding import pad
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Spatial):
    mode: ClassVar[str] = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        n = 2 * self.axes
        self.padding = (padding,) * n if isinstance(padding, int) else tuple(int(p) for p in padding)
        if len(self.padding) != n:
            msg = f"{type(self).__name__}: padding must be an integer or {n} of them, the last axis first, got {padding!r}"
            raise ValueError(msg)

    def forward(self, x: ArrayLike) -> Tensor:
        """x with its spatial axes made longer."""
        self._check_axes(x)
        return pad(x, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


@equation(
    "y[n, c, t: T + a + b] = x[n, c, t - a]",
    where="x[N?, C, T]; a = padding.before: the elements before each axis; b = padding.after",
    spatial="t T a b",
)
class _ZeroPad(_Pad):
    """Zeros around the $data.

    x (batch, channels, $spatial) or (channels, $spatial) → the same, each spatial axis longer by the two numbers of its
    padding. `padding` is an integer for all sides, or $sides of them: before and after the last axis, then the axis before it,
    as in PyTorch; a negative one crops.

    Errors: ValueError for another number of paddings, ShapeError for another number of axes.

    >>> import anynet as an
    >>> an.nn.$name(1)(an.ones((2, 4, $3))).shape
    (2, 4, $5)
    """


class ZeroPad1d(_ZeroPad):
    axes = 1


class ZeroPad2d(_ZeroPad):
    axes = 2


class ZeroPad3d(_ZeroPad):
    axes = 3


@equation(
    "y[n, c, t: T + a + b] = x[n, c, t - a] if all(0 <= t - a < T) else v",
    where="x[N?, C, T]; a = padding.before: the elements before each axis; b = padding.after; v = value",
    spatial="t T a b",
)
class _ConstantPad(_Pad):
    """`value` around the $data.

    x (batch, channels, $spatial) or (channels, $spatial) → the same, each spatial axis longer by the two numbers of its
    padding. `padding` is an integer for all sides, or $sides of them: before and after the last axis, then the axis before it,
    as in PyTorch; a negative one crops.

    Errors: ValueError for another number of paddings, ShapeError for another number of axes.

    >>> import anynet as an
    >>> an.nn.$name(1, 2.0)(an.ones((2, 4, $3))).shape
    (2, 4, $5)
    """

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    axes = 1


class ConstantPad2d(_ConstantPad):
    axes = 2


class ConstantPad3d(_ConstantPad):
    axes = 3


@equation(
    "y[n, c, t: T + a + b] = x[n, c, T - 1 - abs(T - 1 - abs(t - a))]",
    where="x[N?, C, T]; a = padding.before: the elements before each axis; b = padding.after",
    spatial="t T a b",
)
class _ReflectionPad(_Pad):
    """The $data mirrored at their edges, the edge itself not repeated: a b c d → c b a b c d c b.

    x (batch, channels, $spatial) or (channels, $spatial) → the same, each spatial axis longer by the two numbers of its
    padding. `padding` is an integer for all sides, or $sides of them: before and after the last axis, then the axis before it,
    as in PyTorch; a negative one crops.
    Each padding must be less than the axis is long.

    Errors: ValueError for another number of paddings, ShapeError for another number of axes.

    >>> import anynet as an
    >>> an.nn.$name(1)(an.ones((2, 4, $3))).shape
    (2, 4, $5)
    """

    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    axes = 1


class ReflectionPad2d(_ReflectionPad):
    axes = 2


class ReflectionPad3d(_ReflectionPad):
    axes = 3


@equation(
    "y[n, c, t: T + a + b] = x[n, c, clip(t - a, 0, T - 1)]",
    where="x[N?, C, T]; a = padding.before: the elements before each axis; b = padding.after",
    spatial="t T a b",
)
class _ReplicationPad(_Pad):
    """The edges of the $data repeated: a b c d → a a a b c d d d.

    x (batch, channels, $spatial) or (channels, $spatial) → the same, each spatial axis longer by the two numbers of its
    padding. `padding` is an integer for all sides, or $sides of them: before and after the last axis, then the axis before it,
    as in PyTorch; a negative one crops.

    Errors: ValueError for another number of paddings, ShapeError for another number of axes.

    >>> import anynet as an
    >>> an.nn.$name(1)(an.ones((2, 4, $3))).shape
    (2, 4, $5)
    """

    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    axes = 1


class ReplicationPad2d(_ReplicationPad):
    axes = 2


class ReplicationPad3d(_ReplicationPad):
    axes = 3


@equation(
    "y[n, c, t: T + a + b] = x[n, c, (t - a) % T]",
    where="x[N?, C, T]; a = padding.before: the elements before each axis; b = padding.after",
    spatial="t T a b",
)
class _CircularPad(_Pad):
    """The $data as one period of a periodic function: a b c d → c d a b c d a b.

    x (batch, channels, $spatial) or (channels, $spatial) → the same, each spatial axis longer by the two numbers of its
    padding. `padding` is an integer for all sides, or $sides of them: before and after the last axis, then the axis before it,
    as in PyTorch; a negative one crops.
    Each padding must be at most as long as the axis.

    Errors: ValueError for another number of paddings, ShapeError for another number of axes.

    >>> import anynet as an
    >>> an.nn.$name(1)(an.ones((2, 4, $3))).shape
    (2, 4, $5)
    """

    mode = "circular"


class CircularPad1d(_CircularPad):
    axes = 1


class CircularPad2d(_CircularPad):
    axes = 2


class CircularPad3d(_CircularPad):
    axes = 3
