"""Padding: values around an array.

Padding with the array's own values (a mirror image, the edge, the other end) is written axis by axis into an array of the new size:
the padding of earlier axes is repeated by later ones, corners included. The transpose adds them, from the last axis to
the first, to where they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from anynet.autograd.primitive import adjoint, primitive
from anynet.ops.indexing import getitem
from anynet.ops.slicing import put
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = ["pad"]

Pairs = tuple[tuple[int, int], ...]
Key = tuple[slice, ...]


def _within(size: int, pair: tuple[int, int]) -> slice:
    return slice(pair[0], pair[0] + size)


def _borders(shape: tuple[int, ...], pairs: Pairs, mode: str) -> Iterator[tuple[Key, Key]]:
    """Pairs of keys of the padded array, target and source, for an array of this shape. Along the last axis each pair is one
    column: loops over many short rows take long."""
    keys = [_within(size, pair) for size, pair in zip(shape, pairs, strict=True)]
    for axis, (n, (lo, hi)) in enumerate(zip(shape, pairs, strict=True)):
        end = lo + n
        outside = (*range(lo), *range(end, end + hi))
        for at in outside:
            if mode == "reflect":
                source = 2 * lo - at if at < lo else 2 * (end - 1) - at
            elif mode == "circular":
                source = at + n if at < lo else at - n
            else:
                source = lo if at < lo else end - 1
            before, after = keys[:axis], keys[axis + 1 :]
            yield (*before, slice(at, at + 1), *after), (*before, slice(source, source + 1), *after)
        keys[axis] = slice(None)


@primitive
def pad_around(xp: Backend, x: Array, *, pairs: Pairs, mode: str) -> Array:
    """x with `pairs` (before, after) of its own values around each axis."""
    shape = tuple(x.shape)
    longer = tuple(lo + n + hi for n, (lo, hi) in zip(shape, pairs, strict=True))
    y = xp.empty(longer, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    y[tuple(map(_within, shape, pairs))] = x
    for target, source in _borders(shape, pairs, mode):
        y[target] = y[source]
    return y


@primitive
def fold_around(xp: Backend, x: Array, *, pairs: Pairs, mode: str) -> Array:
    """The transpose of `pad_around`."""
    shape = tuple(n - lo - hi for n, (lo, hi) in zip(x.shape, pairs, strict=True))
    y = xp.asarray(x, copy=True)
    for target, source in list(_borders(shape, pairs, mode))[::-1]:
        place = y[source]
        place += y[target]
    return xp.asarray(y[tuple(map(_within, shape, pairs))], copy=True)


adjoint(pad_around, fold_around)


@primitive
def pad_with(xp: Backend, x: Array, *, pairs: Pairs, value: float) -> Array:
    """x with one number around it."""
    shape = tuple(lo + n + hi for n, (lo, hi) in zip(x.shape, pairs, strict=True))
    y = xp.full(shape, value, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    y[tuple(map(_within, x.shape, pairs))] = x
    return y


pad_with.vjp(x=lambda g, x_shape, pairs: getitem(g, tuple(map(_within, x_shape, pairs))))


def pad(x: ArrayLike, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Make an array longer at the ends of its last axes, or shorter where a number is negative.

    `pad` lists (before, after) for the last axis, then the one before it, and so on, as PyTorch does. Modes:
    "constant" (with `value`), "reflect" (without the edge), "replicate" (the edge), "circular".

    >>> import anynet as an
    >>> from anynet.ops.padding import pad
    >>> pad(an.asarray([1.0, 2.0, 3.0]), (1, 2), "reflect")
    Tensor([2., 1., 2., 3., 2., 1.])
    """
    shape = tuple(x.shape)
    pads = [int(p) for p in pad]
    if len(pads) % 2 or len(pads) > 2 * len(shape):
        msg = f"pad: pad must be pairs (before, after) for the last axes of x {shape}, the last first, got {tuple(pad)}"
        raise ValueError(msg)
    pairs = [(0, 0)] * (len(shape) - len(pads) // 2)
    pairs += [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    if any(
        size + lo + hi < 0 or (mode not in _BEYOND and size + min(lo, 0) + min(hi, 0) < 0)
        for size, (lo, hi) in zip(shape, pairs, strict=True)
    ):
        msg = f"pad: pad must not cut away more than there is, got {tuple(pad)} for x of shape {shape}"
        raise ValueError(msg)
    if any(lo < 0 or hi < 0 for lo, hi in pairs):
        return _shorter(x, pairs, mode, value)
    if mode == "constant":
        if value:
            return pad_with(x, pairs=tuple(pairs), value=value)
        key = tuple(map(_within, shape, pairs))
        return put(x, key=key, shape=tuple(lo + n + hi for n, (lo, hi) in zip(shape, pairs, strict=True)))
    if mode not in ("reflect", "replicate", "circular"):
        msg = f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        raise ValueError(msg)
    for size, (lo, hi) in zip(shape, pairs, strict=True):
        limit = {"reflect": size - 1, "circular": size}.get(mode, max(lo, hi) if size else -1)
        if max(lo, hi) > limit and (lo or hi):
            msg = f"pad: pad must be at most {limit} at each end of an axis of length {size} in mode {mode!r}, got {(lo, hi)}"
            raise ValueError(msg)
    return pad_around(x, pairs=tuple(pairs), mode=mode)


_BEYOND: Final = ("reflect", "replicate")
"""Modes that look beyond what a negative number takes away."""


def _shorter(x: ArrayLike, pairs: list[tuple[int, int]], mode: str, value: float) -> Tensor:
    """`pad` where some numbers are negative."""
    longer = [max(n, 0) for pair in reversed(pairs) for n in pair]
    if mode in _BEYOND:
        x = pad(x, longer, mode)
    key = tuple(slice(max(-lo, 0), n + min(hi, 0)) for n, (lo, hi) in zip(x.shape, pairs, strict=True))
    return getitem(x, key) if mode in _BEYOND else pad(getitem(x, key), longer, mode, value)
