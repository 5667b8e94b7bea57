"""Pure functions of shapes and axes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["as_shape", "axes_of", "broadcast_shapes"]

_INTS = frozenset((int,))


def axes_of(axis: int | Sequence[int] | None, ndim: int, what: str = "axis") -> tuple[int, ...]:
    """Axes as non-negative numbers, checked; None means all."""
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    out: list[int] = []
    for a in given:
        if not -ndim <= a < ndim:
            msg = f"{what} {a} is out of range for {ndim} dimensions"
            raise IndexError(msg)
        out.append(a % ndim)
    if len(set(out)) != len(out):
        msg = f"{what} {given} names one dimension twice"
        raise ValueError(msg)
    return tuple(out)


def as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """One length or a sequence of lengths as a tuple of ints."""
    if type(shape) is tuple and _INTS.issuperset(map(type, shape)):
        return shape
    return (int(shape),) if hasattr(shape, "__index__") else tuple(map(int, shape))


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape to which arrays of these shapes broadcast."""
    wide = {tuple(s) for s in shapes if len(s)}  # those without axes broadcast to any
    if len(wide) < 2:
        return wide.pop() if wide else ()
    out: list[int] = []
    for i in range(1, max((len(s) for s in shapes), default=0) + 1):
        lengths = {s[-i] for s in shapes if len(s) >= i} - {1}
        if len(lengths) > 1:
            msg = f"shapes do not broadcast: {', '.join(str(tuple(s)) for s in shapes)}"
            raise ValueError(msg)
        out.append(lengths.pop() if lengths else 1)
    return tuple(reversed(out))
