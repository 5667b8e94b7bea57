"""Convolutions by number of axes, and images as columns of patches, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.equations import equation
from anynet.nn.docstrings import shared_docstring
from anynet.ops import convolution
from anynet.ops.manipulation import permute_dims
from anynet.ops.resampling import fold, unfold
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold",
    "unfold",
]  # fmt: skip

Size = int | Sequence[int]

# ----- what the variants by number of axes have in common -----

_CONV = """
    y[o, p] = b[o] + Σ_c Σ_k w[o, c, k] x[c, p · stride + k · dilation − padding], where x is 0 outside; with `groups` the outputs
    of a group see the channels of that group alone.

    Shapes: input (n, c, $spatial) or (c, $spatial), weight (o, c / groups, *kernel), bias (o,)
    → (n, o, $out) or (o, $out), with
    out = ⌊(size + 2 · padding − dilation · (kernel − 1) − 1) / stride⌋ + 1. `stride`, `padding` and `dilation` are each
    $integers; `padding` may be "valid" (none) or "same" (as much as keeps the size, for stride 1).

    Errors: ValueError for shapes that do not fit, TypeError for different dtypes.
"""

_CONV_TRANSPOSE = """
    y[o, q · stride + k · dilation − padding] is the sum of x[c, q] w[c, o, k] over all c, q and k that lead there, plus b[o]: what
    the gradient of a convolution with these options computes, as a function that enlarges its input.

    Shapes: input (n, c, $spatial) or (c, $spatial), weight (c, o / groups, *kernel), bias (o,)
    → (n, o, $out) or (o, $out), with
    out = (size − 1) · stride − 2 · padding + dilation · (kernel − 1) + output_padding + 1. `stride`, `padding`,
    `output_padding` (less than stride or dilation) and `dilation` are each $integers.

    Errors: ValueError for shapes that do not fit, TypeError for different dtypes.
"""


def _check(where: str, weight: Any, axes: int) -> None:
    if len(weight.shape) != axes + 2:
        msg = f"{where}: weight must have {axes + 2} axes, got shape {tuple(weight.shape)}"
        raise ValueError(msg)


@equation(
    "L = (T + 2 * p - d * (K - 1) - 1) // s + 1",
    "y[n, o, t: L] = b[o] + sum[c, i](W[o, c, i] * x[n, o // (O // G) * C + c, s * t + d * i - p])",
    where="""
        x[N?, D, T] = input
        W[O, C, K] = weight
        b[O] = bias or 0
        s = stride
        p = padding
        d = dilation
        G = groups
    """,
    gradient="""
        db[o] = sum[n, t](dy[n, o, t])
        dW[o, c: C, i: K] = sum[n, t](dy[n, o, t] * x[n, o // (O // G) * C + c, s * t + d * i - p])
        dx[n, k: D, u: T] = sum[o, c, t, i, o // (O // G) * C + c == k, s * t + d * i - p == u](W[o, c, i] * dy[n, o,
            t])
    """,
    spatial="t i u s p d T K L",
    result="y",
)
@shared_docstring(_CONV, 1)
def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over sequences.

    Equation:
      L = ⌊(T + 2 p − d · (K − 1) − 1) / s⌋ + 1
      y[n, o, t] = bₒ + Σ_{c,i} W[o, c, i] x[n, ⌊o / ⌊O / G⌋⌋ · C + c, s t + d i − p]  for 0 ≤ t < L
      (x: input (N, D, T); W: weight (O, C, K); b: bias or 0 (O); s: stride; p: padding; d: dilation; G: groups; one for each
      spatial axis: t, i, u, s, p, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv1d(an.asarray([[1.0, 2.0, 4.0]]), an.asarray([[[1.0, -1.0]]])).tolist()
    [[-1.0, -2.0]]
    """
    _check("conv1d", weight, 1)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv1d"
    )


@equation(conv1d)
@shared_docstring(_CONV, 2)
def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over images.

    Equation:
      L = ⌊(T + 2 p − d · (K − 1) − 1) / s⌋ + 1
      y[n, o, t] = bₒ + Σ_{c,i} W[o, c, i] x[n, ⌊o / ⌊O / G⌋⌋ · C + c, s t + d i − p]  for 0 ≤ t < L
      (x: input (N, D, T); W: weight (O, C, K); b: bias or 0 (O); s: stride; p: padding; d: dilation; G: groups; one for each
      spatial axis: t, i, u, s, p, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv2d(an.ones((1, 1, 4, 4)), an.ones((2, 1, 3, 3))).shape
    (1, 2, 2, 2)
    """
    _check("conv2d", weight, 2)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv2d"
    )


@equation(conv1d)
@shared_docstring(_CONV, 3)
def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over volumes.

    Equation:
      L = ⌊(T + 2 p − d · (K − 1) − 1) / s⌋ + 1
      y[n, o, t] = bₒ + Σ_{c,i} W[o, c, i] x[n, ⌊o / ⌊O / G⌋⌋ · C + c, s t + d i − p]  for 0 ≤ t < L
      (x: input (N, D, T); W: weight (O, C, K); b: bias or 0 (O); s: stride; p: padding; d: dilation; G: groups; one for each
      spatial axis: t, i, u, s, p, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv3d(an.ones((1, 1, 4, 4, 4)), an.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 2, 2)
    """
    _check("conv3d", weight, 3)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv3d"
    )


@equation(
    "O = Q * G",
    "L = (T - 1) * s - 2 * p + d * (K - 1) + r + 1",
    """
        y[n, o: O, u: L] = b[o] + sum[c, t, i, c // (I // G) == o // Q, s * t + d * i - p == u](x[n, c, t] * W[c, o % Q,
            i])
    """,
    where="""
        x[N?, I, T] = input
        W[I, Q, K] = weight
        b[B] = bias or 0
        s = stride
        p = padding
        r = output_padding
        d = dilation
        G = groups
    """,
    gradient="""
        db[o] = sum[n, u](dy[n, o, u])
        dx[n, c: I, t: T] = sum[o: O, i, c // (I // G) == o // Q](W[c, o % Q, i] * dy[n, o, s * t + d * i - p])
    """,
    spatial="t i u s p r d T K L",
    result="y",
)
@shared_docstring(_CONV_TRANSPOSE, 1)
def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv1d`, over sequences.

    Equation:
      O = Q G
      L = (T − 1) s − 2 p + d · (K − 1) + r + 1
      y[n, o, u] = bₒ + Σ_{c, t, i, ⌊c / ⌊I / G⌋⌋ = ⌊o / Q⌋, s t + d i − p = u} x[n, c, t] W[c, o mod Q, i]  for 0 ≤ o < O, 0
          ≤ u < L
      (x: input (N, I, T); W: weight (I, Q, K); b: bias or 0 (B); s: stride; p: padding; r: output_padding; d: dilation; G:
      groups; one for each spatial axis: t, i, u, s, p, r, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose1d(an.asarray([[1.0, 2.0]]), an.asarray([[[1.0, -1.0]]])).tolist()
    [[1.0, 1.0, -2.0]]
    """
    _check("conv_transpose1d", weight, 1)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose1d",
    )  # fmt: skip


@equation(conv_transpose1d)
@shared_docstring(_CONV_TRANSPOSE, 2)
def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv2d`, over images.

    Equation:
      O = Q G
      L = (T − 1) s − 2 p + d · (K − 1) + r + 1
      y[n, o, u] = bₒ + Σ_{c, t, i, ⌊c / ⌊I / G⌋⌋ = ⌊o / Q⌋, s t + d i − p = u} x[n, c, t] W[c, o mod Q, i]  for 0 ≤ o < O, 0
          ≤ u < L
      (x: input (N, I, T); W: weight (I, Q, K); b: bias or 0 (B); s: stride; p: padding; r: output_padding; d: dilation; G:
      groups; one for each spatial axis: t, i, u, s, p, r, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose2d(an.ones((1, 1, 4, 4)), an.ones((1, 2, 3, 3))).shape
    (1, 2, 6, 6)
    """
    _check("conv_transpose2d", weight, 2)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose2d",
    )  # fmt: skip


@equation(conv_transpose1d)
@shared_docstring(_CONV_TRANSPOSE, 3)
def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of `conv3d`, over volumes.

    Equation:
      O = Q G
      L = (T − 1) s − 2 p + d · (K − 1) + r + 1
      y[n, o, u] = bₒ + Σ_{c, t, i, ⌊c / ⌊I / G⌋⌋ = ⌊o / Q⌋, s t + d i − p = u} x[n, c, t] W[c, o mod Q, i]  for 0 ≤ o < O, 0
          ≤ u < L
      (x: input (N, I, T); W: weight (I, Q, K); b: bias or 0 (B); s: stride; p: padding; r: output_padding; d: dilation; G:
      groups; one for each spatial axis: t, i, u, s, p, r, d, T, K, L)

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose3d(an.ones((1, 1, 4, 4, 4)), an.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 6, 6, 6)
    """
    _check("conv_transpose3d", weight, 3)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose3d",
    )  # fmt: skip


@equation(
    "y[t: T + 2 * p - K + 1, n, o] = b[o] + sum[i, c](W[i, c, o] * x[t + i - p, n, c])",
    where="x[T, N, C] = input; W[K, C, O] = weight; b[O] = bias or 0; p = pad",
)
def conv_tbc(input: ArrayLike, weight: ArrayLike, bias: ArrayLike, pad: int = 0) -> Tensor:
    """A convolution over time with time first: input (time, batch, in), weight (kernel, in, out), bias (out,) →
    (time', batch, out), with `pad` zeros at both ends.

    Equation:
      y[t, n, o] = bₒ + Σ_{i,c} W[i, c, o] x[t + i − p, n, c]  for 0 ≤ t < T + 2 p − K + 1
      (x: input (T, N, C); W: weight (K, C, O); b: bias or 0 (O); p: pad)

    >>> import anynet as an
    >>> an.nn.functional.conv_tbc(an.ones((5, 2, 3)), an.ones((3, 3, 4)), an.zeros(4), pad=1).shape
    (5, 2, 4)
    """
    if len(input.shape) != 3 or len(weight.shape) != 3:
        msg = (
            "conv_tbc: input and weight must be (time, batch, in) and (kernel, in, out), got "
            f"{tuple(input.shape)} and {tuple(weight.shape)}"
        )
        raise ValueError(msg)
    y = conv1d(permute_dims(input, (1, 2, 0)), permute_dims(weight, (2, 1, 0)), bias, padding=pad)
    return permute_dims(y, (2, 0, 1))
