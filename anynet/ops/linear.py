"""Products of matrices: the linear algebra that every layer is made of.

For C = A B and the gradient G = ∂L/∂C, the chain rule gives ∂L/∂A = G Bᴴ and ∂L/∂B = Aᴴ G (ᴴ: transposed, and
conjugated where complex).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import adjoint, primitive
from anynet.equations import equation
from anynet.ops import elementwise as e
from anynet.ops.manipulation import permute_dims, reshape
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import TYPES, Array, Backend

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot"]


@primitive(view=True)
def matrix_transpose(xp: Backend, x: Array, /) -> Array:
    """Swap the last two axes: (…, m, n) → (…, n, m)."""
    return xp.matrix_transpose(x)


adjoint(matrix_transpose, matrix_transpose)
mT = matrix_transpose


@primitive(name="matmul")
def _matmul(xp: Backend, a: Array, b: Array, /) -> Array:
    return xp.matmul(xp.side_by_side(a), xp.side_by_side(b))


def _matmul_b(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if len(b_shape) == 2 and len(a.shape) > 2:
        # one matrix for a whole batch: contract the batch in one product
        return _matmul(e.conj(mT(reshape(a, (-1, a.shape[-1])))), reshape(g, (-1, g.shape[-1])))
    return _matmul(e.conj(mT(a)), g)


_matmul.vjp(a=lambda g, b: _matmul(g, e.conj(mT(b))), b=_matmul_b)


def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The matrix product: (…, m, k) @ (…, k, n) → (…, m, n); 1-d arguments are vectors, batches broadcast.

    >>> import anynet as an
    >>> an.matmul(an.asarray([[1.0, 2.0]]), an.asarray([[3.0], [4.0]]))
    Tensor([[11.]])
    """
    d1, d2 = _ndim(x1), _ndim(x2)
    if d1 == 0 or d2 == 0:
        msg = f"matmul: both arguments must have at least one dimension, got {d1}-d and {d2}-d; use * for scalars"
        raise ValueError(msg)
    if d1 > 1 and d2 > 1:
        return _matmul(x1, x2)
    if d1 == 1:
        x1 = reshape(x1, (1, x1.shape[0]))
    if d2 == 1:
        x2 = reshape(x2, (x2.shape[0], 1))
    y = _matmul(x1, x2)
    shape = list(y.shape)
    if d2 == 1:
        del shape[-1]
    if d1 == 1:
        del shape[-1 if d2 == 1 else -2]
    return reshape(y, tuple(shape))


def _ndim(x: Any) -> int:
    shape = getattr(x._data if isinstance(x, Tensor) else x, "shape", None)
    if shape is None:
        msg = f"matmul: arguments must be arrays or Tensors, got {type(x).__name__}"
        raise TypeError(msg)
    return len(shape)


def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """The inner product of vectors along `axis`: Σ conj(x1) · x2, the other axes broadcast."""
    if not -min(len(x1.shape), len(x2.shape)) <= axis < 0:
        n = min(len(x1.shape), len(x2.shape))
        if not (len(x1.shape) == len(x2.shape) and 0 <= axis < n):
            msg = f"vecdot: axis {axis} is out of range for shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
            raise ValueError(msg)
    if x1.shape[axis] != x2.shape[axis]:
        msg = f"vecdot: lengths along axis {axis} must be equal, got {tuple(x1.shape)} and {tuple(x2.shape)}"
        raise ValueError(msg)
    product = e.conj(x1) * x2
    return sum_(product, axis=axis, dtype=product.dtype)


def tensordot(
    x1: ArrayLike, x2: ArrayLike, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2
) -> Tensor:
    """Contract axes of x1 with axes of x2: one matrix product after bringing those axes together.

    `axes` is a number N (the last N of x1 with the first N of x2), or two sequences of axes.
    """
    n1, n2 = len(x1.shape), len(x2.shape)
    if isinstance(axes, int):
        if axes < 0 or axes > min(n1, n2):
            msg = f"tensordot: cannot contract {axes} axes of shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
            raise ValueError(msg)
        left, right = list(range(n1 - axes, n1)), list(range(axes))
    else:
        left, right = (
            [a % n if -n <= a < n else a for a in ax] for ax, n in zip(axes, (n1, n2), strict=True)
        )
        if len(left) != len(right):
            msg = f"tensordot: axes must be two sequences of equal length, got {axes}"
            raise ValueError(msg)
    if [x1.shape[a] for a in left] != [x2.shape[a] for a in right]:
        msg = f"tensordot: contracted axes must have equal lengths, got axes {left} of {tuple(x1.shape)} and {right} of {tuple(x2.shape)}"
        raise ValueError(msg)
    free1 = [a for a in range(n1) if a not in left]
    free2 = [a for a in range(n2) if a not in right]
    k = math.prod(x1.shape[a] for a in left)
    shape1, shape2 = [x1.shape[a] for a in free1], [x2.shape[a] for a in free2]
    m1, m2 = math.prod(shape1), math.prod(shape2)
    first = reshape(permute_dims(x1, (*free1, *left)), (m1, k))
    second = reshape(permute_dims(x2, (*right, *free2)), (k, m2))
    return reshape(_matmul(first, second), (*shape1, *shape2))


Tensor.T = property(lambda self: _transpose(self))  # type: ignore[method-assign, assignment]
Tensor.mT = property(lambda self: matrix_transpose(self))  # type: ignore[method-assign, assignment]


def _transpose(x: Tensor) -> Tensor:
    if x.ndim != 2:
        msg = (
            f"x.T: x must be a matrix (2-d), got shape {x.shape}; use x.mT for stacks or anynet.permute_dims"
        )
        raise ValueError(msg)
    return matrix_transpose(x)


# ----- x Wᵀ + b -----


@primitive(name="linear")
def _linear(xp: Backend, x: Array, weight: Array, bias: Array = None, /) -> Array:
    w = xp.matrix_transpose(weight)
    return xp.matmul(x, w) if bias is None else xp.affine(x, w, bias)


@_linear.vjps("x", "weight", "bias")
def _linear_rule(g: Any, x: Any, weight: Any, need: tuple[bool, ...]) -> tuple[Any, Any, Any]:
    flat = g if len(g.shape) == 2 else reshape(g, (-1, g.shape[-1]))
    gx = matmul(g, weight) if need[0] else None
    gw = None
    if need[1]:
        rows = x if len(x.shape) == 2 else reshape(x, (-1, x.shape[-1]))
        gw = matmul(mT(flat), e.conj(rows))
    gb = sum_(flat, axis=0) if need[2] else None
    return gx, gw, gb


@_linear.kernel("cupy", vjp=True)
@_linear.kernel("numpy", vjp=True)
def _linear_rows(
    xp: Backend, x: Array, weight: Array, bias: Array = None, /, *, need: tuple[bool, ...] | None
) -> Any:
    """The same, with the gradients on plain arrays in one go."""
    # one product, not one for each leading index
    rows = xp.side_by_side(x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1])))
    y = xp.matmul(rows, weight.T) if bias is None else xp.affine(rows, weight.T, bias)
    if x.ndim != 2:
        y = xp.reshape(y, (*x.shape[:-1], y.shape[-1]))
    if need is None:
        return y

    def pullback(g: Array) -> tuple[Any, ...]:
        flat = xp.side_by_side(g if g.ndim == 2 else xp.reshape(g, (-1, g.shape[-1])))
        gx = xp.matmul(flat, weight.conj()) if need[0] else None
        if gx is not None and g.ndim != 2:
            gx = xp.reshape(gx, x.shape)
        if len(need) > 2 and need[1] and need[2]:
            return gx, *xp.product_and_sums(flat, rows.conj())
        gw = None
        if need[1]:  # BLAS has nothing for the product of a column and a row
            gw = (xp.multiply if flat.shape[0] == 1 else xp.matmul)(flat.T, rows.conj())
        if len(need) == 2:
            return gx, gw
        return gx, gw, xp.sum(flat, axis=0) if need[2] else None

    form = xp.product_format
    if form is None:
        return y, pullback

    def rounded(g: Array) -> tuple[Any, ...]:
        with xp.computing(form):
            return pullback(g)

    return y, rounded


def _same_library(x: Any, w: Any) -> bool:
    """Whether both are plain arrays of one library, recorded or not."""
    one, other = TYPES.get(type(x)), TYPES.get(type(w))
    return one is not None and other is not None and one.name == other.name


@equation(
    "y[..., k] = sum[j](W[k, j] * x[..., j]) + b[k]",
    where="x[..., J] = input; W[K, J] = weight; b[K] = bias or 0",
    gradient="""
        dx[..., j] = sum[k](dy[..., k] * W[k, j])
        dW[k, j] = sum[...](dy[..., k] * x[..., j])
        db[k] = sum[...](dy[..., k])
    """,
)
def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Tensor:
    """An affine map of the last axis: x (…, in), W (out, in), b (out) → (…, out).

    Gradients: ∂L/∂x = g W, ∂L/∂W = gᵀ x, ∂L/∂b = Σ g, sums over all rows.

    Equation:
      yₖ = Σ_j W[k, j] xⱼ + bₖ
      (x: input (…, J); W: weight (K, J); b: bias or 0 (K))

    >>> import anynet as an
    >>> an.nn.functional.linear(an.asarray([[1.0, 2.0]]), an.asarray([[3.0, 4.0]]), an.asarray([0.5])).tolist()
    [[11.5]]
    """
    x, w = unwrap(input), unwrap(weight)
    shape, form = x.shape, w.shape
    if len(form) != 2 or len(shape) < 1 or shape[-1] != form[-1]:
        msg = f"linear: x and weight must be (…, in) and (out, in), got {tuple(shape)} and {tuple(form)}"
        raise ValueError(msg)
    if (type(x) is type(w) or _same_library(x, w)) and x.dtype != w.dtype:
        got, expected = dtypes.of(x.dtype), dtypes.of(w.dtype)
        msg = f"linear: x must have the dtype of weight, {expected}, got {got}; convert one: anynet.astype(x, …) or module.to(dtype)"
        raise TypeError(msg)
    if bias is not None and tuple(bias.shape) != (form[0],):
        msg = f"linear: bias must have shape ({form[0]},), got {tuple(bias.shape)}"
        raise ValueError(msg)
    if len(shape) == 1:
        return reshape(linear(reshape(input, (1, -1)), weight, bias), (-1,))
    return _linear(input, weight) if bias is None else _linear(input, weight, bias)
