"""Recurrent layers: RNN, LSTM, GRU, and their cells."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.nn.utils.rnn import PackedSequence, padded_sorted, reordered, repacked
from anynet.ops import creation
from anynet.ops.manipulation import concat, expand_dims, permute_dims, stack
from anynet.ops.recurrent import gru, gru_cell, lstm, lstm_cell, rnn_scan
from anynet.tensor import Parameter, Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def _zeros(like: Any, *shape: int) -> Tensor:
    plain = unwrap(like)
    xp = backend_of(plain)
    return wrap(xp.zeros(shape, dtype=plain.dtype, device=plain.device))


def _biases(b_ih: Any, b_hh: Any) -> Any:
    """Both biases at once: they are added to the same sum."""
    return None if b_ih is None else b_ih + b_hh


def _check_options(
    name: str, mode: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
    bidirectional: bool, proj_size: int,
) -> None:  # fmt: skip
    """Raise for options that make no recurrent layer."""
    if mode not in _GATES:
        msg = f"{name}: mode must be one of {', '.join(_GATES)}, got {mode!r}"
        raise ValueError(msg)
    for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if not isinstance(size, int) or isinstance(size, bool):
            msg = f"{name}: {what} must be an integer, got {size!r}"
            raise TypeError(msg)
    for what, flag in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
        if not isinstance(flag, bool):
            msg = f"{name}: {what} must be True or False, got {flag!r}"
            raise TypeError(msg)
    if input_size < 1 or hidden_size < 1 or num_layers < 1:
        msg = (
            f"{name}: input_size, hidden_size and num_layers must be ≥ 1, got input_size={input_size}, "
            f"hidden_size={hidden_size}, num_layers={num_layers}"
        )
        raise ValueError(msg)
    if isinstance(dropout, bool) or not 0 <= dropout <= 1:
        msg = f"{name}: dropout must be in [0, 1], got {dropout!r}"
        raise ValueError(msg)
    if dropout and num_layers == 1:
        msg = (
            f"{name}: dropout={dropout} acts between layers, and there is one layer; use num_layers=2 or more, "
            "or nn.Dropout after it"
        )
        warnings.warn(
            msg, UserWarning, stacklevel=3
        )  # as PyTorch does: scripts set both from one command line
    if proj_size and mode != "LSTM":
        msg = f"{name}: proj_size must be 0 unless the layer is an LSTM, got {proj_size}"
        raise ValueError(msg)
    if not 0 <= proj_size < hidden_size:
        msg = f"{name}: proj_size must be in [0, hidden_size), got {proj_size} with hidden_size={hidden_size}"
        raise ValueError(msg)


class RNNBase(Module):
    """What `RNN`, `LSTM` and `GRU` share: parameters, shapes, layers and directions. `mode` is one of RNN_TANH,
    RNN_RELU, LSTM and GRU.

    >>> import anynet as an
    >>> isinstance(an.nn.GRU(2, 3), an.nn.RNNBase), an.nn.GRU(2, 3).mode
    (True, 'GRU')
    """

    mode: str

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        _check_options(
            type(self).__name__, mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        )  # fmt: skip
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, proj_size
        for name, shape in self._shapes():
            setattr(self, name, Parameter(creation.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the parameters, in their order."""
        width, out = _GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        for layer in range(self.num_layers):
            for suffix in self._directions(layer):
                into = self.input_size if layer == 0 else out * (2 if self.bidirectional else 1)
                yield f"weight_ih{suffix}", (width, into)
                yield f"weight_hh{suffix}", (width, out)
                if self.bias:
                    yield f"bias_ih{suffix}", (width,)
                    yield f"bias_hh{suffix}", (width,)
                if self.proj_size:
                    yield f"weight_hr{suffix}", (self.proj_size, self.hidden_size)

    def _directions(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def reset_parameters(self) -> None:
        """Redraw all parameters from U(−1/√hidden, 1/√hidden)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        names += ["weight_hr"] if self.proj_size else []
        return [
            [getattr(self, n + suffix) for n in names]
            for layer in range(self.num_layers)
            for suffix in self._directions(layer)
        ]

    def flatten_parameters(self) -> None:
        """Nothing: for code written for PyTorch, where this lays out memory for cuDNN."""

    def label(self) -> str:
        return f"{type(self).__name__} {self.input_size}→{self.hidden_size}"

    def _begin(self, given: Any, name: str, x: Any, width: int, batched: bool) -> Any:
        count = self.num_layers * (2 if self.bidirectional else 1)
        shape = (count, x.shape[1], width)
        if given is None:
            return _zeros(x, *shape)
        expected = shape if batched else (count, width)
        if tuple(given.shape) != expected:
            msg = f"got {name} {tuple(given.shape)}: expected {expected}"
            raise ShapeError(msg)
        return given if batched else expand_dims(given, axis=1)

    def _states(self, hx: Any, x: Any, batched: bool) -> list[Any]:
        """The states at the beginning: those given, checked, or zeros."""
        lstm = self.mode == "LSTM"
        if hx is not None and lstm and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            msg = f"LSTM: hx must be a pair (h_0, c_0), got {type(hx).__name__}"
            raise TypeError(msg)
        given: tuple[Any, ...] = (None, None) if hx is None else tuple(hx) if lstm else (hx,)
        states = [self._begin(given[0], "h_0", x, self.proj_size or self.hidden_size, batched)]
        if lstm:
            states.append(self._begin(given[1], "c_0", x, self.hidden_size, batched))
        return states

    def _run(self, x: Any, hx: Any, sizes: tuple[int, ...] | None = None) -> tuple[Any, tuple[Any, ...]]:
        """x (t, n, in) and the states (layers · directions, n, …) → all outputs and the last states."""
        out_width = self.proj_size or self.hidden_size
        names = ("h_0", "c_0") if self.mode == "LSTM" else ("h_0",)
        last: list[list[Any]] = [[] for _ in names]
        at = 0
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outs = []
            for suffix in self._directions(layer):
                w_ih, w_hh = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}")
                b_ih = getattr(self, f"bias_ih{suffix}") if self.bias else None
                b_hh = getattr(self, f"bias_hh{suffix}") if self.bias else None
                reverse = suffix.endswith("_reverse")
                options: dict[str, Any] = {"reverse": reverse, "sizes": sizes}
                first = [state[at, ...] for state in hx]
                end = 0 if reverse else -1
                if self.mode == "LSTM":
                    project = getattr(self, f"weight_hr{suffix}") if self.proj_size else None
                    y, c = lstm(x, first[0], first[1], w_ih, w_hh, _biases(b_ih, b_hh), project, **options)
                    last[1].append(c)
                elif self.mode == "GRU":
                    y = gru(x, first[0], w_ih, w_hh, b_ih, b_hh, **options)
                else:
                    gates = F.linear(x, w_ih, _biases(b_ih, b_hh))
                    y = rnn_scan(gates, first[0], w_hh, relu=self.mode == "RNN_RELU", **options)
                outs.append(y)
                last[0].append(y[end, ...])
                at += 1
            x = outs[0] if len(outs) == 1 else concat(outs, axis=-1)
        assert x.shape[-1] == out_width * (2 if self.bidirectional else 1)
        return x, tuple(stack(s) for s in last)

    def forward(
        self, x: ArrayLike | PackedSequence, hx: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Any, Any]:
        """x (steps, batch, input_size), or (batch, steps, input_size) with `batch_first`, or (steps, input_size)
        without a batch, or a `PackedSequence` → outputs of all steps, in the same form, and the last states."""
        lstm = self.mode == "LSTM"
        if isinstance(x, PackedSequence):
            return self._packed(x, hx)
        if len(x.shape) not in (2, 3) or x.shape[-1] != self.input_size:
            order = "(batch, steps, " if self.batch_first else "(steps, batch, "
            msg = f"got {tuple(x.shape)}: expected {order}{self.input_size}) or, without a batch, (steps, {self.input_size})"
            raise ShapeError(msg)
        batched = len(x.shape) == 3
        if not batched:
            x = expand_dims(x, axis=1)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        if x.shape[0] == 0:
            msg = f"got {tuple(x.shape)}: expected at least one step"
            raise ShapeError(msg)
        states = self._states(hx, x, batched)
        y, last = self._run(x, states)
        if not batched:
            y, last = y[:, 0, :], tuple(s[:, 0, :] for s in last)
        elif self.batch_first:
            y = permute_dims(y, (1, 0, 2))
        return y, last if lstm else last[0]

    def _packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        """Sequences of different lengths: each gets what it gets alone, in both directions."""
        if len(packed.data.shape) != 2 or packed.data.shape[-1] != self.input_size:
            msg = f"got packed data of shape {tuple(packed.data.shape)}: expected (…, {self.input_size})"
            raise ShapeError(msg)
        x, sizes = padded_sorted(packed)
        states = [reordered(s, packed.sorted_indices) for s in self._states(hx, x, True)]
        y, last = self._run(x, states, sizes)
        last = tuple(reordered(s, packed.unsorted_indices) for s in last)
        return repacked(y, packed), last if self.mode == "LSTM" else last[0]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.proj_size:
            parts.append(f"proj_size={self.proj_size}")
        if self.num_layers != 1:
            parts.append(f"num_layers={self.num_layers}")
        if not self.bias:
            parts.append("bias=False")
        if self.batch_first:
            parts.append("batch_first=True")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        if self.bidirectional:
            parts.append("bidirectional=True")
        return ", ".join(parts)


@equation(
    "h[-1, n: N] = h_0[0, n]",
    "a[t, n] = W_ih @ x[t, n] + b_ih + W_hh @ h[t - 1, n] + b_hh",
    'h[t, n] = relu(a[t, n]) if nonlinearity == "relu" else tanh(a[t, n])',
    "h_T[n] = h[T - 1, n]",
    where="""
        x[T, N?, I] = x swap batch_first
        H = hidden_size
        W_ih[R, I] = weight_ih_l0
        W_hh[R, P] = weight_hh_l0
        b_ih[R] = bias_ih_l0 or 0
        b_hh[R] = bias_hh_l0 or 0
        h_0[L, N?, H] = hx or 0
        nonlinearity: layer 0, forward, while layer k reads the states of layer k − 1, the backward direction runs from
            the last step to the first
    """,
    gradient="""
        e[t, n] = dh[t, n] + (da[t + 1, n] @ W_hh if t < T - 1 else 0)
        da[t, n] = e[t, n] * ([a[t, n] > 0] if nonlinearity == "relu" else 1 - h[t, n] ** 2)
        dx[t, n] = da[t, n] @ W_ih
        dW_ih[r, k] = sum[t, n](da[t, n, r] * x[t, n, k])
        dW_hh[r, k: P] = sum[t, n](da[t, n, r] * (h[t - 1, n, k] if t > 0 else h_0[0, n, k]))
        db_ih[r] = sum[t, n](da[t, n, r]); db_hh[r] = sum[t, n](da[t, n, r])
        dh_0[l: 1, n] = da[0, n] @ W_hh
    """,
    result="h h_T",
)
class RNN(RNNBase):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), or ReLU for tanh with ``nonlinearity="relu"``.

    x (steps, batch, input_size), (batch, steps, input_size) with `batch_first`, (steps, input_size) without a batch, or a
    `PackedSequence`, hx = h_0 (num_layers · directions, batch, hidden_size), zeros unless given → output, h_t of all steps of
    the last layer, shaped as x with directions · hidden_size in the place of input_size, and h_n, the states after the last
    step of all layers, shaped as h_0.

    `num_layers` layers are stacked, each over the outputs of the one below; with `bidirectional` each has a second
    direction, from the last step to the first, whose outputs are concatenated with those of the first (directions = 2). `dropout` is the
    probability of dropout on the outputs of all layers but the last, in training.

    Parameters of layer k: `weight_ih_lk` (h, input_size; in upper layers directions · hidden_size), `weight_hh_lk` (h,
    hidden_size), and unless ``bias=False`` `bias_ih_lk`, `bias_hh_lk` (h,), h = hidden_size; those of the backward direction
    end with ``_reverse``. All are drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive, and for a dropout that is not in [0, 1] or has one layer only;
    ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> an.nn.RNN(3, 5)(an.ones((7, 4, 3)))[0].shape
    (7, 4, 5)
    >>> output, h = an.nn.RNN(3, 5, num_layers=2)(an.ones((7, 4, 3)))
    >>> output.shape, h.shape
    ((7, 4, 5), (2, 4, 5))

    Source: Elman: Finding structure in time (1990).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            msg = f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"
            raise ValueError(msg)
        self.nonlinearity = nonlinearity
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, 0, device, dtype,
        )  # fmt: skip


@equation(
    "h[-1, n: N] = h_0[0, n]",
    "c[-1, n: N] = c_0[0, n]",
    "a[t, n] = W_ih @ x[t, n] + b_ih + W_hh @ h[t - 1, n] + b_hh",
    "i[t, n, j: H] = sigmoid(a[t, n, j])",
    "f[t, n, j: H] = sigmoid(a[t, n, H + j])",
    "g[t, n, j: H] = tanh(a[t, n, 2 * H + j])",
    "o[t, n, j: H] = sigmoid(a[t, n, 3 * H + j])",
    "c[t, n] = f[t, n] * c[t - 1, n] + i[t, n] * g[t, n]",
    "h[t, n] = W_hr @ (o[t, n] * tanh(c[t, n])) if p > 0 else o[t, n] * tanh(c[t, n])",
    "h_T[n] = h[T - 1, n]",
    "c_T[n] = c[T - 1, n]",
    where="""
        x[T, N?, I] = x swap batch_first
        H = hidden_size
        W_ih[R, I] = weight_ih_l0
        W_hh[R, P] = weight_hh_l0
        b_ih[R] = bias_ih_l0 or 0
        b_hh[R] = bias_hh_l0 or 0
        h_0[L, N?, P] = hx[0] or 0
        c_0[L, N?, H] = hx[1] or 0
        W_hr[P, H] = weight_hr_l0 or 0
        p = proj_size: layer 0, forward, while layer k reads the states of layer k − 1, the backward direction runs from
            the last step to the first
    """,
    gradient="""
        b[t, n, j: H] = c[t - 1, n, j] if t > 0 else c_0[0, n, j]
        e[t, n] = dh[t, n] + (da[t + 1, n] @ W_hh if t < T - 1 else 0)
        q[t, n] = e[t, n] @ W_hr if p > 0 else e[t, n]
        dc[t, n] = q[t, n] * o[t, n] * (1 - tanh(c[t, n]) ** 2) + (dc[t + 1, n] * f[t + 1, n] if t < T - 1 else 0)
        ι[t, n] = dc[t, n] * g[t, n] * i[t, n] * (1 - i[t, n])
        φ[t, n] = dc[t, n] * b[t, n] * f[t, n] * (1 - f[t, n])
        γ[t, n] = dc[t, n] * i[t, n] * (1 - g[t, n] ** 2)
        ω[t, n] = q[t, n] * tanh(c[t, n]) * o[t, n] * (1 - o[t, n])
        da[t, n, r: R] = ι[t, n, r] + φ[t, n, r - H] + γ[t, n, r - 2 * H] + ω[t, n, r - 3 * H]
        dx[t, n] = da[t, n] @ W_ih
        dW_ih[r, k] = sum[t, n](da[t, n, r] * x[t, n, k])
        dW_hh[r, k: P] = sum[t, n](da[t, n, r] * (h[t - 1, n, k] if t > 0 else h_0[0, n, k]))
        db_ih[r] = sum[t, n](da[t, n, r]); db_hh[r] = sum[t, n](da[t, n, r])
        dh_0[l: 1, n] = da[0, n] @ W_hh
        dc_0[l: 1, n] = dc[0, n] * f[0, n]
        dW_hr[k, j] = sum[t, n](e[t, n, k] * o[t, n, j] * tanh(c[t, n, j]))
    """,
    result="h h_T c_T",
)
class LSTM(RNNBase):
    """i, f, o = σ(…), g = tanh(…) of the four parts of W_ih x_t + b_ih + W_hh h_{t−1} + b_hh; c_t = f c_{t−1} + i g; h_t = o
    tanh(c_t). With `proj_size` p > 0 the output is smaller: h_t = W_hr (o tanh(c_t)) has p numbers.

    x (steps, batch, input_size), (batch, steps, input_size) with `batch_first`, (steps, input_size) without a batch, or a
    `PackedSequence`, hx = (h_0, c_0), h_0 (num_layers · directions, batch, p or else hidden_size), c_0 (…, hidden_size), zeros
    unless given → output, h_t of all steps of the last layer, shaped as x with directions · (p or else hidden_size) in the
    place of input_size, and (h_n, c_n), the states after the last step of all layers, shaped as h_0 and c_0.

    `num_layers` layers are stacked, each over the outputs of the one below; with `bidirectional` each has a second
    direction, from the last step to the first, whose outputs are concatenated with those of the first (directions = 2). `dropout` is the
    probability of dropout on the outputs of all layers but the last, in training.

    Parameters of layer k: `weight_ih_lk` (4h, input_size; in upper layers directions · (p or else hidden_size)), `weight_hh_lk`
    (4h, (p or else hidden_size)), and unless ``bias=False`` `bias_ih_lk`, `bias_hh_lk` (4h,), their rows in the order i, f, g,
    o, and with `proj_size` `weight_hr_lk` (p, h), h = hidden_size; those of the backward direction end with ``_reverse``. All
    are drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive, and for a dropout that is not in [0, 1] or has one layer only;
    ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> an.nn.LSTM(3, 5)(an.ones((7, 4, 3)))[0].shape
    (7, 4, 5)
    >>> output, (h, c) = an.nn.LSTM(3, 5, bidirectional=True)(an.ones((7, 4, 3)))
    >>> output.shape, h.shape, c.shape
    ((7, 4, 10), (2, 4, 5), (2, 4, 5))

    Sources: Hochreiter, Schmidhuber: Long short-term memory (1997); Gers, Schmidhuber, Cummins: Learning to forget (2000); Sak et al.:
      Long short-term memory based recurrent neural network architectures (2014), for the projection.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip


@equation(
    "h[-1, n: N] = h_0[0, n]",
    "u[t, n] = W_ih @ x[t, n] + b_ih",
    "v[t, n: N] = W_hh @ h[t - 1, n] + b_hh",
    "r[t, n, j: H] = sigmoid(u[t, n, j] + v[t, n, j])",
    "z[t, n, j: H] = sigmoid(u[t, n, H + j] + v[t, n, H + j])",
    "m[t, n, j: H] = tanh(u[t, n, 2 * H + j] + r[t, n, j] * v[t, n, 2 * H + j])",
    "h[t, n] = (1 - z[t, n]) * m[t, n] + z[t, n] * h[t - 1, n]",
    "h_T[n] = h[T - 1, n]",
    where="""
        x[T, N?, I] = x swap batch_first
        H = hidden_size
        W_ih[R, I] = weight_ih_l0
        W_hh[R, P] = weight_hh_l0
        b_ih[R] = bias_ih_l0 or 0
        b_hh[R] = bias_hh_l0 or 0
        h_0[L, N?, H] = hx or 0: layer 0, forward, while layer k reads the states of layer k − 1, the backward direction
            runs from the last step to the first
    """,
    gradient="""
        b[t, n, j: H] = h[t - 1, n, j] if t > 0 else h_0[0, n, j]
        e[t, n] = dh[t, n] + (e[t + 1, n] * z[t + 1, n] + dv[t + 1, n] @ W_hh if t < T - 1 else 0)
        ζ[t, n] = e[t, n] * (b[t, n] - m[t, n]) * z[t, n] * (1 - z[t, n])
        γ[t, n] = e[t, n] * (1 - z[t, n]) * (1 - m[t, n] ** 2)
        κ[t, n] = γ[t, n] * r[t, n]
        ρ[t, n, j: H] = γ[t, n, j] * v[t, n, 2 * H + j] * r[t, n, j] * (1 - r[t, n, j])
        du[t, n, i: R] = ρ[t, n, i] + ζ[t, n, i - H] + γ[t, n, i - 2 * H]
        dv[t, n, i: R] = ρ[t, n, i] + ζ[t, n, i - H] + κ[t, n, i - 2 * H]
        dx[t, n] = du[t, n] @ W_ih
        dW_ih[i, k] = sum[t, n](du[t, n, i] * x[t, n, k])
        dW_hh[i, k] = sum[t, n](dv[t, n, i] * b[t, n, k])
        db_ih[i] = sum[t, n](du[t, n, i]); db_hh[i] = sum[t, n](dv[t, n, i])
        dh_0[l: 1, n] = e[0, n] * z[0, n] + dv[0, n] @ W_hh
    """,
    result="h h_T",
)
class GRU(RNNBase):
    """r, z = σ(…) of W_ih x_t + b_ih + W_hh h_{t−1} + b_hh; n = tanh(W_in x_t + b_in + r (W_hn h_{t−1} + b_hn));
    h_t = (1 − z) n + z h_{t−1}.

    x (steps, batch, input_size), (batch, steps, input_size) with `batch_first`, (steps, input_size) without a batch, or a
    `PackedSequence`, hx = h_0 (num_layers · directions, batch, hidden_size), zeros unless given → output, h_t of all steps of
    the last layer, shaped as x with directions · hidden_size in the place of input_size, and h_n, the states after the last
    step of all layers, shaped as h_0.

    `num_layers` layers are stacked, each over the outputs of the one below; with `bidirectional` each has a second
    direction, from the last step to the first, whose outputs are concatenated with those of the first (directions = 2). `dropout` is the
    probability of dropout on the outputs of all layers but the last, in training.

    Parameters of layer k: `weight_ih_lk` (3h, input_size; in upper layers directions · hidden_size), `weight_hh_lk` (3h,
    hidden_size), and unless ``bias=False`` `bias_ih_lk`, `bias_hh_lk` (3h,), their rows in the order r, z, n, h = hidden_size;
    those of the backward direction end with ``_reverse``. All are drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive, and for a dropout that is not in [0, 1] or has one layer only;
    ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> output, h = an.nn.GRU(3, 5, batch_first=True)(an.ones((4, 7, 3)))
    >>> output.shape, h.shape
    ((4, 7, 5), (1, 4, 5))

    Source: Cho et al.: Learning phrase representations using RNN encoder-decoder (2014).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )  # fmt: skip


class RNNCellBase(Module):
    """One step of a recurrent layer: what the cells share.

    >>> import anynet as an
    >>> isinstance(an.nn.LSTMCell(2, 3), an.nn.RNNCellBase)
    True
    """

    gates: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if input_size < 0 or hidden_size < 1:
            msg = f"{type(self).__name__}: input_size must be ≥ 0 and hidden_size ≥ 1, got {input_size} and {hidden_size}"
            raise ValueError(msg)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        width = self.gates * hidden_size
        self.weight_ih = Parameter(creation.empty((width, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(creation.empty((width, hidden_size), device=device, dtype=dtype))
        self.bias_ih = Parameter(creation.empty(width, device=device, dtype=dtype)) if bias else None
        self.bias_hh = Parameter(creation.empty(width, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw all parameters from U(−1/√hidden, 1/√hidden)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _prepare(self, x: Any, given: tuple[Any, ...]) -> tuple[Any, list[Any], bool]:
        if len(x.shape) not in (1, 2) or x.shape[-1] != self.input_size:
            msg = f"got {tuple(x.shape)}: expected (batch, {self.input_size}) or ({self.input_size},)"
            raise ShapeError(msg)
        batched = len(x.shape) == 2
        if not batched:
            x = expand_dims(x, axis=0)
        states = []
        for state in given:
            expected = (x.shape[0], self.hidden_size) if batched else (self.hidden_size,)
            if state is None:
                states.append(_zeros(x, x.shape[0], self.hidden_size))
            elif tuple(state.shape) != expected:
                msg = f"got a state {tuple(state.shape)}: expected {expected}"
                raise ShapeError(msg)
            else:
                states.append(state if batched else expand_dims(state, axis=0))
        return x, states, batched

    def _finish(self, state: Tensor, batched: bool) -> Tensor:
        return state if batched else state[0, ...]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


@equation(
    "a[n] = W_ih @ x[n] + b_ih + W_hh @ h_0[n] + b_hh",
    'h[n] = relu(a[n]) if nonlinearity == "relu" else tanh(a[n])',
    where="""
        x[N?, I]
        H = hidden_size
        W_ih[R, I] = weight_ih
        W_hh[R, H] = weight_hh
        b_ih[R] = bias_ih or 0
        b_hh[R] = bias_hh or 0
        h_0[N?, H] = hx or 0
        nonlinearity
    """,
    gradient="""
        da[n] = dh[n] * ([a[n] > 0] if nonlinearity == "relu" else 1 - h[n] ** 2)
        dx[n] = da[n] @ W_ih; dh_0[n] = da[n] @ W_hh
        dW_ih[r, k] = sum[n](da[n, r] * x[n, k]); dW_hh[r, k: H] = sum[n](da[n, r] * h_0[n, k])
        db_ih[r] = sum[n](da[n, r]); db_hh[r] = sum[n](da[n, r])
    """,
)
class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or ReLU for tanh with ``nonlinearity="relu"``: one step of `RNN`.

    x (batch, input_size) or (input_size,), h (batch, hidden_size) or (hidden_size,), zeros unless given → h', shaped as h.

    Parameters: `weight_ih` (h, input_size), `weight_hh` (h, h) and, unless ``bias=False``, `bias_ih`, `bias_hh` (h,),
    h = hidden_size, all drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive; ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> an.nn.RNNCell(3, 5)(an.ones((4, 3))).shape
    (4, 5)

    Source: Elman: Finding structure in time (1990).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            msg = f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"
            raise ValueError(msg)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, x: ArrayLike, hx: ArrayLike | None = None) -> Tensor:
        """The next state."""
        x, (h,), batched = self._prepare(x, (hx,))
        a = F.linear(x, self.weight_ih, _biases(self.bias_ih, self.bias_hh)) + F.linear(h, self.weight_hh)
        return self._finish(F.relu(a) if self.nonlinearity == "relu" else F.tanh(a), batched)


@equation(
    "a[n] = W_ih @ x[n] + b_ih + W_hh @ h_0[n] + b_hh",
    "i[n, j: H] = sigmoid(a[n, j])",
    "f[n, j: H] = sigmoid(a[n, H + j])",
    "g[n, j: H] = tanh(a[n, 2 * H + j])",
    "o[n, j: H] = sigmoid(a[n, 3 * H + j])",
    "c[n] = f[n] * c_0[n] + i[n] * g[n]",
    "h[n] = o[n] * tanh(c[n])",
    where="""
        x[N?, I]
        H = hidden_size
        W_ih[R, I] = weight_ih
        W_hh[R, H] = weight_hh
        b_ih[R] = bias_ih or 0
        b_hh[R] = bias_hh or 0
        h_0[N?, H] = hx[0] or 0
        c_0[N?, H] = hx[1] or 0
    """,
    gradient="""
        q[n] = dh[n] * o[n] * (1 - tanh(c[n]) ** 2)
        ι[n] = q[n] * g[n] * i[n] * (1 - i[n])
        φ[n] = q[n] * c_0[n] * f[n] * (1 - f[n])
        γ[n] = q[n] * i[n] * (1 - g[n] ** 2)
        ω[n] = dh[n] * tanh(c[n]) * o[n] * (1 - o[n])
        da[n, r: R] = ι[n, r] + φ[n, r - H] + γ[n, r - 2 * H] + ω[n, r - 3 * H]
        dx[n] = da[n] @ W_ih; dh_0[n] = da[n] @ W_hh
        dW_ih[r, k] = sum[n](da[n, r] * x[n, k]); dW_hh[r, k: H] = sum[n](da[n, r] * h_0[n, k])
        db_ih[r] = sum[n](da[n, r]); db_hh[r] = sum[n](da[n, r])
        dc_0[n] = q[n] * f[n]
    """,
    result="h c",
)
class LSTMCell(RNNCellBase):
    """i, f, o = σ(…), g = tanh(…) of the four parts of W_ih x + b_ih + W_hh h + b_hh; c' = f c + i g; h' = o tanh(c'): one step of
    `LSTM`.

    x (batch, input_size) or (input_size,), hx = (h, c), each (batch, hidden_size) or (hidden_size,), zeros unless given → (h',
    c'), shaped as h and c.

    Parameters: `weight_ih` (4h, input_size), `weight_hh` (4h, h) and, unless ``bias=False``, `bias_ih`, `bias_hh` (4h,) with
    rows in the order i, f, g, o, h = hidden_size, all drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive; ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> h, c = an.nn.LSTMCell(3, 5)(an.ones((4, 3)))
    >>> h.shape, c.shape
    ((4, 5), (4, 5))

    Source: Hochreiter, Schmidhuber: Long short-term memory (1997), with the forget gate of Gers et al. (2000).
    """

    gates = 4

    def forward(self, x: ArrayLike, hx: tuple[ArrayLike, ArrayLike] | None = None) -> tuple[Tensor, Tensor]:
        """The next states (h', c')."""
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            msg = f"LSTMCell: hx must be a pair (h, c), got {type(hx).__name__}"
            raise TypeError(msg)
        x, (h, c), batched = self._prepare(x, (None, None) if hx is None else tuple(hx))
        gates = F.linear(x, self.weight_ih, _biases(self.bias_ih, self.bias_hh))
        both = lstm_cell(gates, F.linear(h, self.weight_hh), c)
        return self._finish(both[0, ...], batched), self._finish(both[1, ...], batched)


@equation(
    "u[n] = W_ih @ x[n] + b_ih",
    "v[n: N] = W_hh @ h_0[n] + b_hh",
    "r[n, j: H] = sigmoid(u[n, j] + v[n, j])",
    "z[n, j: H] = sigmoid(u[n, H + j] + v[n, H + j])",
    "m[n, j: H] = tanh(u[n, 2 * H + j] + r[n, j] * v[n, 2 * H + j])",
    "h[n] = (1 - z[n]) * m[n] + z[n] * h_0[n]",
    where="""
        x[N?, I]
        H = hidden_size
        W_ih[R, I] = weight_ih
        W_hh[R, H] = weight_hh
        b_ih[R] = bias_ih or 0
        b_hh[R] = bias_hh or 0
        h_0[N?, H] = hx or 0
    """,
    gradient="""
        ζ[n] = dh[n] * (h_0[n] - m[n]) * z[n] * (1 - z[n])
        γ[n] = dh[n] * (1 - z[n]) * (1 - m[n] ** 2)
        κ[n] = γ[n] * r[n]
        ρ[n, j: H] = γ[n, j] * v[n, 2 * H + j] * r[n, j] * (1 - r[n, j])
        du[n, i: R] = ρ[n, i] + ζ[n, i - H] + γ[n, i - 2 * H]
        dv[n, i: R] = ρ[n, i] + ζ[n, i - H] + κ[n, i - 2 * H]
        dx[n] = du[n] @ W_ih; dh_0[n] = dh[n] * z[n] + dv[n] @ W_hh
        dW_ih[i, k] = sum[n](du[n, i] * x[n, k]); dW_hh[i, k: H] = sum[n](dv[n, i] * h_0[n, k])
        db_ih[i] = sum[n](du[n, i]); db_hh[i] = sum[n](dv[n, i])
    """,
)
class GRUCell(RNNCellBase):
    """r, z = σ(…) of W_ih x + b_ih + W_hh h + b_hh; n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 − z) n + z h: one step of
    `GRU`.

    x (batch, input_size) or (input_size,), h (batch, hidden_size) or (hidden_size,), zeros unless given → h', shaped as h.

    Parameters: `weight_ih` (3h, input_size), `weight_hh` (3h, h) and, unless ``bias=False``, `bias_ih`, `bias_hh` (3h,) with
    rows in the order r, z, n, h = hidden_size, all drawn from U(−1/√h, 1/√h).

    Errors: ValueError for sizes that are not positive; ShapeError for an input or a state of another shape.

    >>> import anynet as an
    >>> an.nn.GRUCell(3, 5)(an.ones((4, 3))).shape
    (4, 5)

    Source: Cho et al.: Learning phrase representations using RNN encoder–decoder (2014).
    """

    gates = 3

    def forward(self, x: ArrayLike, hx: ArrayLike | None = None) -> Tensor:
        """The next state."""
        x, (h,), batched = self._prepare(x, (hx,))
        a, b = F.linear(x, self.weight_ih, self.bias_ih), F.linear(h, self.weight_hh, self.bias_hh)
        return self._finish(gru_cell(a, b, h), batched)
