"""Convolutional LSTMs over sequences, images and volumes."""

from __future__ import annotations

from typing import Any, ClassVar

from anynet.equations import equation
from anynet.nn.conv import Conv1d, Conv2d, Conv3d, Size
from anynet.nn.errors import ShapeError
from anynet.nn.spatial import Spatial
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.activations import sigmoid
from anynet.ops.manipulation import reshape, stack
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["ConvLSTM1d", "ConvLSTM2d", "ConvLSTM3d"]


@equation(
    'r = 0 if p == "valid" else d * (K - 1) // 2 if p == "same" else p',
    'q = 0 if p == "valid" else d * (K - 1) if p == "same" else 2 * p',
    "L = (T + q - d * (K - 1) - 1) // s + 1",
    "h[-1, n: N, j: H, t: L] = h_0[n, j, t]",
    "c[-1, n: N, j: H, t: L] = c_0[n, j, t]",
    """
        a[τ, n, o, t: L] = b[o] + sum[k, e](W[o, k, e] * x[τ, n, k, s * t + d * e - r]) + sum[k, e](U[o, k, e] * h[τ -
            1, n, k, t + e - (K - 1) // 2])
    """,
    "i[τ, n, j: H, t: L] = sigmoid(a[τ, n, j, t])",
    "f[τ, n, j: H, t: L] = sigmoid(a[τ, n, H + j, t])",
    "g[τ, n, j: H, t: L] = tanh(a[τ, n, 2 * H + j, t])",
    "o[τ, n, j: H, t: L] = sigmoid(a[τ, n, 3 * H + j, t])",
    "c[τ, n, j, t: L] = f[τ, n, j, t] * c[τ - 1, n, j, t] + i[τ, n, j, t] * g[τ, n, j, t]",
    "h[τ, n, j, t: L] = o[τ, n, j, t] * tanh(c[τ, n, j, t])",
    "h_S[n, j: H, t: L] = h[S - 1, n, j, t]",
    "c_S[n, j: H, t: L] = c[S - 1, n, j, t]",
    where="""
        x[S, N, C, T]
        H = out_channels
        W[O, C, K] = input.weight
        b[O] = input.bias or 0
        U[O, H, K] = hidden.weight
        h_0[N, H, L] = hx[0] or 0
        c_0[N, H, L] = hx[1] or 0
        s = input.stride
        p = input.padding
        d = input.dilation
    """,
    spatial="t e r q s p d T K L",
    result="h h_S c_S",
)
class _ConvLSTM(Spatial):
    """An LSTM over $data whose products are convolutions (without peepholes): with a = W_x ∗ x_t + W_h ∗ h_{t−1} + b in the parts i, f,
    g, o, each of out_channels channels, c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t).

    x (steps, batch, in_channels, $spatial), hx = (h_0, c_0), zeros unless given → the outputs h_t of all steps (steps, batch,
    out_channels, $out) and the last states (h, c), each (batch, out_channels, $out).

    `kernel_size`, `stride`, `padding` ("same" by default) and `dilation`, each $integers, are those of W_x, `input`; W_h, `hidden`,
    has the same kernel size and keeps the size of the states.

    Parameters: `input.weight` (4 · out_channels, in_channels, *kernel_size), `input.bias` (4 · out_channels,), `hidden.weight`
    (4 · out_channels, out_channels, *kernel_size), drawn as those of `Conv${axes}d`.

    Errors: ValueError for sizes that are not positive; ShapeError for an input of other axes or channels.

    >>> import anynet as an
    >>> y, (h, c) = an.nn.$name(2, 3, 3)(an.ones((4, 1, 2, $5)))
    >>> y.shape, h.shape
    ((4, 1, 3, $5), (1, 3, $5))

    Source: Shi et al.: Convolutional LSTM network (2015).
    """

    _conv: ClassVar[Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = "same",
        dilation: Size = 1,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.out_channels = out_channels
        made = {"device": device, "dtype": dtype}
        self.input = self._conv(
            in_channels, 4 * out_channels, kernel_size, stride, padding, dilation, bias=bias, **made
        )
        self.hidden = self._conv(
            out_channels, 4 * out_channels, kernel_size, padding="same", bias=False, **made
        )

    def forward(
        self, x: ArrayLike, hx: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (steps, batch, in_channels, *spatial) → outputs (steps, batch, out_channels, *spatial), (h, c)."""
        if len(x.shape) != self.axes + 3 or x.shape[2] != self.input.in_channels:
            msg = f"got {tuple(x.shape)}: expected (steps, batch, {self.input.in_channels}, *spatial) of {self.axes} axes"
            raise ShapeError(msg)
        steps, batch = x.shape[:2]
        gates = self.input(reshape(x, (steps * batch, *x.shape[2:])))
        gates = reshape(gates, (steps, batch, *gates.shape[1:]))
        h: Any
        c: Any
        if hx is None:
            shape = (batch, self.out_channels, *gates.shape[3:])
            h = c = creation.zeros(shape, dtype=gates.dtype, device=gates.device)
        else:
            h, c = hx
        outs = []
        n = self.out_channels
        for t in range(steps):
            a = gates[t, ...] + self.hidden(h)
            i, f, g, o = (a[:, k * n : (k + 1) * n, ...] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * e.tanh(g)
            h = sigmoid(o) * e.tanh(c)
            outs.append(h)
        return stack(outs), (h, c)


class ConvLSTM1d(_ConvLSTM):
    _conv, axes = Conv1d, 1


class ConvLSTM2d(_ConvLSTM):
    _conv, axes = Conv2d, 2


class ConvLSTM3d(_ConvLSTM):
    _conv, axes = Conv3d, 3
