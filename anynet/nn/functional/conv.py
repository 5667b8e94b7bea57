"""Convolutions by number of axes, and images as columns of patches, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

    >>> import anynet as an
    >>> an.nn.functional.conv1d(an.asarray([[1.0, 2.0, 4.0]]), an.asarray([[[1.0, -1.0]]])).tolist()
    [[-1.0, -2.0]]
    """
    _check("conv1d", weight, 1)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv1d"
    )


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

    >>> import anynet as an
    >>> an.nn.functional.conv2d(an.ones((1, 1, 4, 4)), an.ones((2, 1, 3, 3))).shape
    (1, 2, 2, 2)
    """
    _check("conv2d", weight, 2)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv2d"
    )


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

    >>> import anynet as an
    >>> an.nn.functional.conv3d(an.ones((1, 1, 4, 4, 4)), an.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 2, 2)
    """
    _check("conv3d", weight, 3)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv3d"
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

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose1d(an.asarray([[1.0, 2.0]]), an.asarray([[[1.0, -1.0]]])).tolist()
    [[1.0, 1.0, -2.0]]
    """
    _check("conv_transpose1d", weight, 1)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose1d",
    )  # fmt: skip


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

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose2d(an.ones((1, 1, 4, 4)), an.ones((1, 2, 3, 3))).shape
    (1, 2, 6, 6)
    """
    _check("conv_transpose2d", weight, 2)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose2d",
    )  # fmt: skip


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

    >>> import anynet as an
    >>> an.nn.functional.conv_transpose3d(an.ones((1, 1, 4, 4, 4)), an.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 6, 6, 6)
    """
    _check("conv_transpose3d", weight, 3)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose3d",
    )  # fmt: skip


def conv_tbc(input: ArrayLike, weight: ArrayLike, bias: ArrayLike, pad: int = 0) -> Tensor:
    """A convolution over time with time first: input (time, batch, in), weight (kernel, in, out), bias (out,) →
    (time', batch, out), with `pad` zeros at both ends.

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
