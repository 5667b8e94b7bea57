"""Recurrent operators and Fourier transforms."""

from __future__ import annotations

import functools
from typing import Any

import anynet as an
from anynet.nn import functional as F
from anynet.onnx.operators.calling import Number, Row, room
from anynet.onnx.operators.pointwise import TABLE as POINTWISE
from anynet.onnx.operators.pointwise import axes_of

__all__ = ["ACTIVATIONS", "TABLE"]

ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
# those with numbers of their own, and what these are where the file has none
_OPTIONS = {"LeakyRelu": (0.01,), "HardSigmoid": (0.2, 0.5), "Elu": (1.0,)}


def _activation(name: str, alpha: list[float], beta: list[float]) -> Row:
    if name not in (*_OPTIONS, "Tanh", "Sigmoid", "Relu", "Softsign", "Softplus"):
        raise ValueError(f"its activation {name!r:.80} is not offered")
    sources = zip(("alpha", "beta"), (alpha, beta), _OPTIONS.get(name, ()), strict=False)
    return functools.partial(
        POINTWISE[name], **{key: given.pop(0) if given else own for key, given, own in sources}
    )


def _recurrent(
    kind: str, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, peep: Any = None, *,
    hidden_size: int | None = None, direction: str, activations: Any = None, activation_alpha: Any = None, activation_beta: Any = None,
    clip: float | None = None, layout: int = 0, linear_before_reset: int = 0, input_forget: int = 0, count: int,
) -> Any:  # fmt: skip
    """One layer, in one direction or both: x (steps, batch, in) → all states (steps, directions, batch, hidden), and the last ones."""
    if layout:
        x, h, c = (s if s is None else an.moveaxis(s, 0, 1) for s in (x, h, c))
    (steps, batch, _), (directions, _, n) = x.shape, r.shape
    each, alpha, beta = len(ACTIVATIONS[kind]), list(activation_alpha or ()), list(activation_beta or ())
    names = activations or ACTIVATIONS[kind] * directions
    if directions != 1 + (direction == "bidirectional") or len(names) < each * directions:
        raise ValueError(
            f"direction {direction!r:.80} does not fit weights for {directions}, and activations {names!r:.200}"
        )
    functions = [_activation(name, alpha, beta) for name in names[: each * directions]]
    gates = w.shape[1] // n
    bias = an.zeros((directions, 2 * gates * n), dtype=x.dtype, device=x.device) if b is None else b
    zeros = an.zeros((directions, batch, n), dtype=x.dtype, device=x.device)
    outputs, last = [], []
    room([steps, batch, directions, gates, n])
    for d in range(directions):
        f, g, k = (functions[each * d : each * (d + 1)] * 3)[:3]
        bounded = (lambda v: an.clip(v, -clip, clip)) if clip else lambda v: v
        state = (zeros if h is None else h)[d, ...]
        cell = (zeros if c is None else c)[d, ...] if kind == "LSTM" else None
        peepholes: Any = [0, 0, 0] if peep is None else [peep[d, i * n : (i + 1) * n] for i in range(3)]
        inputs, rb = F.linear(x, w[d, ...], bias[d, : gates * n]), bias[d, gates * n :]
        found: list[Any] = [None] * steps
        for t in reversed(range(steps)) if direction == "reverse" or d else range(steps):
            before = state, cell
            own = F.linear(state, r[d, ...], rb)
            a, v = ([m[..., i * n : (i + 1) * n] for i in range(gates)] for m in (inputs[t, ...], own))
            if kind == "RNN":
                state = f(bounded(a[0] + v[0]))
            elif kind == "GRU":
                z, reset = (f(bounded(a[i] + v[i])) for i in (0, 1))
                inner = (
                    reset * v[2]
                    if linear_before_reset
                    else F.linear(reset * state, r[d, 2 * n :, :], rb[2 * n :])
                )
                state = (1 - z) * g(bounded(a[2] + inner)) + z * state
            else:
                i, forget = (f(bounded(a[j] + v[j] + peepholes[j] * cell)) for j in (0, 2))
                cell = (1 - i if input_forget else forget) * cell + i * g(bounded(a[3] + v[3]))
                state = f(bounded(a[1] + v[1] + peepholes[1] * cell)) * k(cell)
            found[t] = state
            if lengths is not None:
                active = an.expand_dims(lengths > t, 1)
                found[t] = an.where(active, state, zeros[d, ...])
                state = an.where(active, state, before[0])
                cell = cell if cell is None else an.where(active, cell, before[1])
        outputs.append(an.stack(found))
        last.append([state] if cell is None else [state, cell])
    y, ends = an.stack(outputs, axis=1), [an.stack(s) for s in zip(*last, strict=True)]
    if layout:
        y, ends = an.permute_dims(y, (2, 0, 1, 3)), [an.moveaxis(s, 0, 1) for s in ends]
    return [y, *ends][:count]


def _dft(
    x: Any, length: Number = None, axis: Number = None, *, inverse: int, onesided: int, version: int
) -> Any:
    (at,) = axes_of(x, [(1 if version < 20 else -2) if axis is None else int(axis)])
    n = x.shape[at] if length is None else int(length)
    room([n if i == at else m for i, m in enumerate(x.shape)])
    z = an.astype(x[..., 0], an.complex128 if x.dtype == an.float64 else an.complex64)
    z = z if x.shape[-1] == 1 else z + x[..., 1] * 1j
    if inverse and onesided:
        return an.expand_dims(an.fft.irfft(z, n=n if length is not None else 2 * (n - 1), axis=at), -1)
    z = (an.fft.ifft if inverse else an.fft.fft)(z, n=n, axis=at)
    if onesided:
        z = z[(slice(None),) * at + (slice(0, n // 2 + 1), ...)]
    return an.stack([an.real(z), an.imag(z)], axis=-1)


def _stft(x: Any, step: Number, window: Any = None, length: Number = None, *, onesided: int) -> Any:
    n = window.shape[0] if length is None else int(length)
    room([x.shape[0], x.shape[1] // max(int(step), 1), n, 2])
    frames = an.sliding_windows(an.reshape(x, (*x.shape[:2], -1)), n, axis=1, step=int(step))
    frames = an.moveaxis(frames, -1, 2)
    return _dft(
        frames if window is None else frames * an.reshape(window, (-1, 1)),
        axis=2,
        inverse=0,
        onesided=onesided,
        version=17,
    )


TABLE: dict[str, Row] = {
    **{kind: functools.partial(_recurrent, kind) for kind in ACTIVATIONS},
    "DFT": _dft,
    "STFT": _stft,
}
