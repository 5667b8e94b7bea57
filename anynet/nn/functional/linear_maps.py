"""Linear and bilinear maps of the last axis."""

from __future__ import annotations

from anynet.ops.linear import linear, matmul
from anynet.ops.manipulation import expand_dims, permute_dims, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["bilinear", "linear"]


def bilinear(
    input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> Tensor:
    """y_k = x₁ᵀ A_k x₂ + b_k: x₁ (…, m), x₂ (…, n), A (out, m, n), b (out,) → (…, out).

    >>> import anynet as an
    >>> an.nn.functional.bilinear(an.asarray([[1.0, 2.0]]), an.asarray([[3.0]]), an.ones((1, 2, 1))).tolist()
    [[9.0]]
    """
    out, m, n = weight.shape
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]) or (input1.shape[-1], input2.shape[-1]) != (m, n):
        msg = (
            f"bilinear: inputs must have shapes (…, {m}) and (…, {n}) with equal axes before, for a weight of shape "
            f"{tuple(weight.shape)}, got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
        raise ValueError(msg)
    lead = tuple(input1.shape[:-1])
    left = matmul(reshape(input1, (-1, m)), reshape(permute_dims(weight, (1, 0, 2)), (m, out * n)))
    y = sum(reshape(left, (-1, out, n)) * expand_dims(reshape(input2, (-1, n)), axis=1), axis=2)
    y = y if bias is None else y + bias
    return reshape(y, (*lead, out))
