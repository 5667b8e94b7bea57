"""Linear and bilinear maps of the last axis."""

from __future__ import annotations

from anynet.equations import equation
from anynet.ops.linear import linear, matmul
from anynet.ops.manipulation import expand_dims, permute_dims, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["bilinear", "linear"]


@equation(
    "y[..., k] = sum[i, j](u[..., i] * A[k, i, j] * v[..., j]) + b[k]",
    where="u[..., I] = input1; v[..., J] = input2; A[K, I, J] = weight; b[K] = bias or 0",
    gradient="""
        du[..., i] = sum[k, j](dy[..., k] * A[k, i, j] * v[..., j])
        dv[..., j] = sum[k, i](dy[..., k] * A[k, i, j] * u[..., i])
        dA[k, i, j] = sum[...](dy[..., k] * u[..., i] * v[..., j])
        db[k] = sum[...](dy[..., k])
    """,
)
def bilinear(
    input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> Tensor:
    """A bilinear map for each output: x₁ (…, m), x₂ (…, n), A (out, m, n), b (out,) → (…, out).

    Equation:
      yₖ = Σ_{i,j} uᵢ A[k, i, j] vⱼ + bₖ
      (u: input1 (…, I); v: input2 (…, J); A: weight (K, I, J); b: bias or 0 (K))

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
