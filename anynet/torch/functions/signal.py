"""Short-time Fourier transforms and windows."""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.nn import functional as F
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import fft, selection
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops.linear import matrix_transpose
from anynet.torch.functions.creation import place
from anynet.torch.promotion import as_float
from anynet.torch.table import offered


@offered("torch.i0(x)", "torch.i0(i)", in_place=True)
def i0(input: Any) -> Any:
    """The mean of exp(x cos t) over a circle: sums over equal steps agree with the integral to the last bits while |x| < 200."""
    size = e.abs(as_float(input))
    near = e.clip(size, None, 200.0)
    steps = 128
    total: Any = 0.0
    for k in range(steps // 2 + 1):  # cos is even: each step but the first and the last counts twice
        total = total + (1.0 if k % (steps // 2) == 0 else 2.0) * e.exp(
            near * (math.cos(2 * math.pi * k / steps) - 1.0)
        )
    inverse = 1.0 / (8.0 * e.maximum(size, 1.0))
    far = (1 + inverse * (1 + inverse * (4.5 + inverse * 37.5))) / e.sqrt(2 * math.pi * e.maximum(size, 1.0))
    return e.exp(size) * e.where(e.greater(size, 200.0), far, total / steps)


def _times(n: int, periodic: bool, dtype: Any, device: Any) -> tuple[Any, int]:
    """0, 1, …, n − 1 and what is the last of the window."""
    kind = dtypes.default_float() if dtype is None else dtype
    return c.arange(n, dtype=kind, device=place(device)), max(n if periodic else n - 1, 1)


@offered(
    "torch.bartlett_window(5)",
    "torch.bartlett_window(6, periodic=False)",
    "torch.bartlett_window(1)",
    method=False,
)
def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Any:
    at, last = _times(window_length, periodic, dtype, device)
    return at + 1.0 if window_length < 2 else 1.0 - e.abs(2.0 * at / last - 1.0)


@offered(
    "torch.blackman_window(5)",
    "torch.blackman_window(6, periodic=False)",
    "torch.blackman_window(1)",
    method=False,
)
def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None
) -> Any:
    at, last = _times(window_length, periodic, dtype, device)
    turn = 2.0 * math.pi / last * at
    return at + 1.0 if window_length < 2 else 0.42 - 0.5 * e.cos(turn) + 0.08 * e.cos(2.0 * turn)


@offered(
    "torch.kaiser_window(5)",
    "torch.kaiser_window(6, periodic=False, beta=4.0)",
    "torch.kaiser_window(1)",
    method=False,
)
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None, device: Any = None
) -> Any:
    at, last = _times(window_length, periodic, dtype, device)
    if window_length < 2:
        return at + 1.0
    inside = e.clip(1.0 - e.square(2.0 * at / last - 1.0), 0.0, None)
    return i0(beta * e.sqrt(inside)) / i0(c.full_like(at, beta))


def _window(window: Any, length: int, n_fft: int, x: Any, what: str) -> Any:
    """The window in the middle of n_fft numbers."""
    if not 0 < length <= n_fft:
        msg = f"{what}: win_length must be in [1, n_fft = {n_fft}], got {length}"
        raise RuntimeError(msg)
    if window is None:
        window = c.ones(length, dtype=x.dtype if x.dtype.kind == "real" else None, device=place(x.device))
    if tuple(window.shape) != (length,):
        msg = f"{what}: window must have shape ({length},), got {tuple(window.shape)}"
        raise RuntimeError(msg)
    left = (n_fft - length) // 2
    return F.pad(window, (left, n_fft - length - left))


@offered(
    "torch.stft(b[0, 0].repeat(5), 8, return_complex=True, window=torch.ones(8)).abs()",
    "torch.view_as_real(b.view(2, 12).stft(6, 2, 4, window=torch.hann_window(4), return_complex=True, normalized=True))",
    "torch.view_as_real(torch.stft(b.view(2, 12), 6, 3, center=False, onesided=False, return_complex=True, window=torch.ones(6)))",
)
def stft(
    input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None, center: bool = True,
    pad_mode: str = "reflect", normalized: bool = False, onesided: bool | None = None, return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:  # fmt: skip
    if align_to_window is not None:
        msg = "stft: align_to_window is not offered"
        raise NotImplementedError(msg)
    if return_complex is None:
        msg = "stft requires the return_complex parameter be given for real inputs"
        raise RuntimeError(msg)
    x = m.expand_dims(input, axis=0) if input.ndim == 1 else input
    hop, length = hop_length or n_fft // 4, win_length or n_fft
    taper = _window(window, length, n_fft, x, "stft")
    if center:
        side = n_fft // 2
        x = m.squeeze(F.pad(m.expand_dims(x, axis=1), (side, side), mode=pad_mode), axis=1)
    if x.shape[-1] < n_fft:
        msg = f"stft: n_fft must be at most the length {x.shape[-1]}, got {n_fft}"
        raise RuntimeError(msg)
    frames = selection.sliding_windows(x, n_fft, axis=-1, step=hop) * taper
    whole = onesided is False or frames.dtype.kind == "complex"
    y = matrix_transpose(fft.fft(frames) if whole else fft.rfft(frames))
    y = y / math.sqrt(n_fft) if normalized else y
    y = y if input.ndim == 2 else m.squeeze(y, axis=0)
    return y if return_complex else m.stack([e.real(y), e.imag(y)], axis=-1)


@offered(
    "torch.istft(torch.stft(b.view(2, 12), 4, 2, window=torch.hann_window(4), return_complex=True), 4, 2, window=torch.hann_window(4))",
    "torch.istft(torch.stft(b[0, 0].repeat(4), 8, 2, window=torch.ones(8), return_complex=True), 8, 2, window=torch.ones(8), length=15)",
)
def istft(
    input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None, window: Any = None, center: bool = True,
    normalized: bool = False, onesided: bool | None = None, length: int | None = None, return_complex: bool = False,
) -> Any:  # fmt: skip
    if return_complex:
        msg = "istft: return_complex must be False"
        raise NotImplementedError(msg)
    y = m.expand_dims(input, axis=0) if input.ndim == 2 else input
    hop = hop_length or n_fft // 4
    y = matrix_transpose(y * math.sqrt(n_fft) if normalized else y)
    frames = e.real(fft.ifft(y)) if onesided is False else fft.irfft(y, n=n_fft)
    taper = _window(window, win_length or n_fft, n_fft, frames, "istft")
    count = frames.shape[1]
    total = n_fft + hop * (count - 1)
    at = m.reshape(c.arange(n_fft)[None, :] + hop * c.arange(count)[:, None], (-1,))

    def overlapped(parts: Any) -> Any:
        zeros = c.zeros((total, parts.shape[0]), dtype=parts.dtype, device=place(parts.device))
        from anynet.ops.indexing import index_add  # late: the table has a function of that name

        return matrix_transpose(
            index_add(zeros, at, matrix_transpose(m.reshape(parts, (parts.shape[0], -1))))
        )

    x, weight = overlapped(frames * taper), overlapped(m.broadcast_to(taper * taper, (1, count, n_fft)))
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - (n_fft // 2 if center else 0)
    x, weight = x[:, start:end], weight[:, start:end]
    if bool(r.any(e.less(e.abs(weight), 1e-11))):
        msg = "istft: window overlap add min: 1; the window must not vanish where frames overlap"
        raise RuntimeError(msg)
    x = x / weight
    if length is not None and x.shape[1] < length:
        x = F.pad(x, (0, length - x.shape[1]))
    return x if input.ndim == 3 else m.squeeze(x, axis=0)
