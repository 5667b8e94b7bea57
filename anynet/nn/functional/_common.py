"""Shared helpers of losses: reductions, checked targets, and checks of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.ops.reductions import mean, sum
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of


def reduce(x: ArrayLike, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(x)
    if reduction == "sum":
        return sum(x)
    if reduction == "none":
        return x  # type: ignore[return-value]
    msg = f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
    raise ValueError(msg)


def device_of(x: ArrayLike) -> str:
    plain = unwrap(x)
    return backend_of(plain).device_of(plain)


def readable(x: Any) -> bool:
    """Whether values can be read at little cost: not on a GPU, which that would have to wait for, nor inside vmap or while tracing."""
    xp = backend_of(x)
    return xp.eager and xp.values_are_cheap_to_read and isinstance(x, xp.array_types)


def check_values(
    function: Callable[[Any], None], x: Any, within: int | None = None, ignored: int | None = None
) -> None:
    """Check the values of a plain array with a function that raises; skipped inside vmap."""
    xp = backend_of(x)
    if isinstance(x, xp.array_types):
        xp.check(function, x, within=within, ignored=ignored)


def bounds(found: Array) -> str:
    """The least and the greatest of some integers, for an error message."""
    xp = backend_of(found)
    return f"{int(xp.min(found))} to {int(xp.max(found))}"


def as_target(name: str, input: ArrayLike, target: Any) -> Tensor:
    """The target in the dtype of the input, where the shapes are equal."""
    if not hasattr(target, "shape"):
        target = to_plain(target, device=device_of(input))
    x, t = unwrap(input), unwrap(target)
    if tuple(x.shape) != tuple(t.shape):
        mend = "reshape one of them"
        if tuple(x.shape) == (*t.shape, 1):
            mend = 'give the target a second axis: y[:, None]; of a DataFrame, df[["y"]]'
        msg = (
            f"{name}: input and target must have equal shapes, got {tuple(x.shape)} and {tuple(t.shape)}; "
            f"nothing is broadcast ({mend})"
        )
        raise ValueError(msg)
    kind, want = dtypes.of(t.dtype), dtypes.of(x.dtype)
    if not want.is_floating:
        msg = f"{name}: input must be of a floating-point dtype, got {want}"
        raise TypeError(msg)
    return target if kind is want or kind.kind == "complex" else cast_to(target, dtype=want)


def check_same_shape(where: str, input: ArrayLike, target: ArrayLike) -> None:
    if tuple(input.shape) != tuple(target.shape):
        msg = f"{where}: input and target must have equal shapes, got {tuple(input.shape)} and {tuple(target.shape)}"
        raise ValueError(msg)
