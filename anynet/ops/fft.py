"""Discrete Fourier transforms: linear maps, so each has its transpose as its rule.

y = F x with F_kj = e^{-2πi jk/n}; the gradient of x is Fᴴ g, which is the inverse transform without its factor 1/n. Of a real signal the
first n/2 + 1 coefficients are computed; all of them but the first and, for even n, the last stand for two, hence the factors 1/2 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.primitive import primitive
from anynet.ops.creation import zeros
from anynet.ops.elementwise import conj
from anynet.ops.indexing import getitem
from anynet.ops.manipulation import concat, roll
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of, resolve

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft",
    "rfftfreq", "rfftn",
]  # fmt: skip

_OTHER = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _norm(norm: str) -> str:
    if norm not in _OTHER:
        msg = f"fft: norm must be 'backward', 'ortho' or 'forward', got {norm!r}"
        raise ValueError(msg)
    return norm


@primitive(name="fft")
def _fft(xp: Backend, x: Array, *, axis: int, norm: str) -> Array:
    return xp.fft.fft(x, axis=axis, norm=norm)


@primitive(name="ifft")
def _ifft(xp: Backend, x: Array, *, axis: int, norm: str) -> Array:
    return xp.fft.ifft(x, axis=axis, norm=norm)


_fft.vjp(x=lambda g, axis, norm: _ifft(g, axis=axis, norm=_OTHER[norm]))
_ifft.vjp(x=lambda g, axis, norm: _fft(g, axis=axis, norm=_OTHER[norm]))


@primitive(name="rfft")
def _rfft(xp: Backend, x: Array, *, axis: int, norm: str) -> Array:
    return xp.fft.rfft(x, axis=axis, norm=norm)


@primitive(name="irfft")
def _irfft(xp: Backend, x: Array, *, n: int, axis: int, norm: str) -> Array:
    """n numbers from n // 2 + 1 coefficients; the imaginary parts of those that stand for themselves alone count for nothing."""
    return xp.fft.irfft(x, n=n, axis=axis, norm=norm)


def _alone(g: Any, n: int, axis: int) -> Array:
    """1 for the coefficients along an axis that stand for themselves alone, 0 for those that stand for two, in the precision of g."""
    plain = unwrap(g)
    xp = backend_of(plain)
    k = xp.arange(n // 2 + 1, device=plain.device)
    found = xp.astype(
        (k == 0) | (2 * k == n), xp.float32 if dtypes.of(plain.dtype).itemsize <= 8 else xp.float64
    )
    return xp.reshape(found, (-1, *(1,) * (len(g.shape) - 1 - axis)))


def _rfft_rule(g: Any, x_shape: tuple[int, ...], axis: int, norm: str) -> Any:
    n = x_shape[axis]
    return _irfft(g * (0.5 + 0.5 * _alone(g, n, axis)), n=n, axis=axis, norm=_OTHER[norm])


_rfft.vjp(x=_rfft_rule)
_irfft.vjp(x=lambda g, n, axis, norm: _rfft(g, axis=axis, norm=_OTHER[norm]) * (2.0 - _alone(g, n, axis)))


def _complex(x: Any) -> Any:
    """x as a complex array, through the graph."""
    kind = dtypes.of(unwrap(x).dtype)
    if kind.kind == "complex":
        return x
    if not kind.is_floating or kind == "bfloat16":
        msg = f"fft: x must be of a floating-point dtype with a complex one to it (float32, float64), got {kind}"
        raise TypeError(msg)
    return cast_to(x, dtype=dtypes.complex64 if kind.itemsize == 4 else dtypes.complex128)


def _resize(x: Any, n: int | None, axis: int) -> Any:
    """Cut or pad an axis with zeros to length n."""
    length = x.shape[axis]
    if n is None or n == length:
        return x
    if n < 1:
        msg = f"fft: n must be ≥ 1, got {n}"
        raise ValueError(msg)
    if n < length:
        return getitem(x, (*((slice(None),) * axis), slice(0, n), ...))
    plain = unwrap(x)
    shape = (*x.shape[:axis], n - length, *x.shape[axis + 1 :])
    pad = zeros(shape, dtype=dtypes.of(plain.dtype), device=backend_of(plain).device_of(plain))
    return concat([x, pad if isinstance(x, Tensor) else pad._data], axis=axis)


def fft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along an axis, cut or padded with zeros to n points."""
    (where,) = axes_of(axis, len(x.shape))
    return _fft(_resize(_complex(x), n, where), axis=where, norm=_norm(norm))


def ifft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`."""
    (where,) = axes_of(axis, len(x.shape))
    return _ifft(_resize(_complex(x), n, where), axis=where, norm=_norm(norm))


def _pairs(x: Any, s: Sequence[int] | None, axes: Sequence[int] | None) -> list[tuple[int, int | None]]:
    ndim = len(x.shape)
    if axes is None:
        axes = range(ndim) if s is None else range(ndim - len(s), ndim)
    where = axes_of(tuple(axes), ndim, "axes")
    if s is not None and len(s) != len(where):
        msg = f"fft: s and axes must have the same length, got {len(s)} and {len(where)}"
        raise ValueError(msg)
    return list(zip(where, s if s is not None else [None] * len(where), strict=True))


def fftn(
    x: ArrayLike,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The transform along several axes (None: all)."""
    x = _complex(x)
    for axis, n in _pairs(x, s, axes):
        x = fft(x, n=n, axis=axis, norm=norm)
    return x  # type: ignore[return-value]


def ifftn(
    x: ArrayLike,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The inverse of `fftn`."""
    x = _complex(x)
    for axis, n in _pairs(x, s, axes):
        x = ifft(x, n=n, axis=axis, norm=norm)
    return x  # type: ignore[return-value]


def rfft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The transform of a real array: the n/2 + 1 coefficients that the others mirror."""
    if dtypes.of(unwrap(x).dtype).kind != "real":
        msg = f"rfft: x must be of a real floating-point dtype, got {dtypes.of(unwrap(x).dtype)}"
        raise TypeError(msg)
    (where,) = axes_of(axis, len(x.shape))
    return _rfft(_resize(x, n, where), axis=where, norm=_norm(norm))


def irfft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`: n real numbers (None: 2 (m − 1) from m coefficients)."""
    (where,) = axes_of(axis, len(x.shape))
    x = _complex(x)
    n = 2 * (x.shape[where] - 1) if n is None else n
    if n < 1:
        msg = f"irfft: n must be ≥ 1, got {n}"
        raise ValueError(msg)
    return _irfft(_resize(x, n // 2 + 1, where), n=n, axis=where, norm=_norm(norm))


def hfft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The real spectrum of a signal with Hermitian symmetry."""
    return irfft(conj(_complex(x)), n=n, axis=axis, norm=_OTHER[_norm(norm)])


def ihfft(x: ArrayLike, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`."""
    return conj(rfft(x, n=n, axis=axis, norm=_OTHER[_norm(norm)]))


def rfftn(
    x: ArrayLike,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """`rfft` along the last of the axes, `fft` along the others."""
    *rest, (last, n) = _pairs(x, s, axes)
    y = rfft(x, n=n, axis=last, norm=norm)
    for axis, m in rest:
        y = fft(y, n=m, axis=axis, norm=norm)
    return y


def irfftn(
    x: ArrayLike,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The inverse of `rfftn`."""
    *rest, (last, n) = _pairs(x, s, axes)
    for axis, m in rest:
        x = ifft(x, n=m, axis=axis, norm=norm)
    return irfft(x, n=n, axis=last, norm=norm)


def _freq(name: str, n: int, d: float, dtype: Any, device: str | None) -> Tensor:
    xp, where = resolve(device)
    native = dtypes.native(xp, dtypes.default_float() if dtype is None else dtype)
    return wrap(getattr(xp.fft, name)(n, d=d, dtype=native, device=xp.native_device(where)))


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of `fft`'s coefficients for n samples at distance d."""
    return _freq("fftfreq", n, d, dtype, device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of `rfft`'s coefficients for n samples at distance d."""
    return _freq("rfftfreq", n, d, dtype, device)


def _axes(x: Any, axes: int | Sequence[int] | None) -> tuple[int, ...]:
    return axes_of(axes, len(x.shape), "axes")


def fftshift(x: ArrayLike, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Zero frequency to the middle."""
    where = _axes(x, axes)
    return roll(x, tuple(x.shape[a] // 2 for a in where), axis=where) if where else x  # type: ignore[return-value]


def ifftshift(x: ArrayLike, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    where = _axes(x, axes)
    return roll(x, tuple(-(x.shape[a] // 2) for a in where), axis=where) if where else x  # type: ignore[return-value]
