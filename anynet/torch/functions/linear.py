"""Products of vectors, matrices and tensors."""

from __future__ import annotations

from typing import Any

from anynet.nn import functional as F
from anynet.ops import einsum as einsum_
from anynet.ops import elementwise as e
from anynet.ops import linalg as la
from anynet.ops import linear as l
from anynet.ops import manipulation as m
from anynet.ops.reductions import sum as sum_
from anynet.torch.promotion import prepared_floats
from anynet.torch.table import alias, offered
from anynet.torch.tensor import adopt


@offered("torch.matmul(x, x.t())", "b.matmul(v)", "b @ x.t()", "v @ v")
def matmul(input: Any, other: Any) -> Any:
    return l.matmul(input, other)


def _of_rank(what: str, ranks: tuple[int, ...], *tensors: Any) -> None:
    got = tuple(x.ndim for x in tensors)
    if got != ranks:
        msg = f"{what}: the arguments must have {' and '.join(map(str, ranks))} dimensions, got {' and '.join(map(str, got))}"
        raise RuntimeError(msg)


@offered("torch.mm(x, x.t())", "x.mm(x.t())")
def mm(input: Any, mat2: Any) -> Any:
    _of_rank("mm", (2, 2), input, mat2)
    return l.matmul(input, mat2)


@offered("torch.bmm(b, b.transpose(1, 2))", "b.bmm(b.mT)")
def bmm(input: Any, mat2: Any) -> Any:
    _of_rank("bmm", (3, 3), input, mat2)
    return l.matmul(input, mat2)


@offered("torch.mv(x, v)", "x.mv(v)")
def mv(input: Any, vec: Any) -> Any:
    _of_rank("mv", (2, 1), input, vec)
    return l.matmul(input, vec)


@offered("torch.dot(v, v)", "v.dot(v)")
def dot(input: Any, tensor: Any) -> Any:
    _of_rank("dot", (1, 1), input, tensor)
    return sum_(input * tensor)


@offered("torch.vdot(v, v)")
def vdot(input: Any, other: Any) -> Any:
    _of_rank("vdot", (1, 1), input, other)
    return l.vecdot(input, other)


@offered("torch.inner(x, v)", "torch.inner(x, y)")
def inner(input: Any, other: Any) -> Any:
    return (
        input * other if not input.ndim or not other.ndim else l.tensordot(input, other, axes=((-1,), (-1,)))
    )


@offered("torch.outer(v, v)", "v.outer(x[:, 0])")
def outer(input: Any, vec2: Any) -> Any:
    _of_rank("outer", (1, 1), input, vec2)
    return m.expand_dims(input, axis=1) * m.expand_dims(vec2, axis=0)


alias("ger", "outer")


def _plus(input: Any, product: Any, beta: Any, alpha: Any) -> Any:
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return (input if beta == 1 else input * beta) + product


@offered("torch.addmm(sq, x, x.t())", "sq.addmm(x, x.t(), beta=0.5, alpha=2)", in_place=True)
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return _plus(input, l.matmul(mat1, mat2), beta, alpha)


@offered("torch.addmv(x[:, 0], x, v)", in_place=True)
def addmv(input: Any, mat: Any, vec: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return _plus(input, l.matmul(mat, vec), beta, alpha)


@offered("torch.addr(sq, sq[0], sq[1])", in_place=True)
def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return _plus(input, outer(vec1, vec2), beta, alpha)


@offered("torch.baddbmm(torch.zeros(2, 3, 3), b, b.mT, beta=0, alpha=0.5)", in_place=True)
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    return _plus(input, l.matmul(batch1, batch2), beta, alpha)


@offered(
    "torch.einsum('ij,kj->ik', x, y)",
    "torch.einsum('bij,j->bi', b, v)",
    "torch.einsum('...j,j', [b, v])",
    method=False,
)
def einsum(equation: str, *operands: Any) -> Any:
    if not isinstance(equation, str):
        msg = "einsum: the equation must be a string; lists of axes are not offered"
        raise NotImplementedError(msg)
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    return einsum_.einsum(equation, *given)


@offered("torch.tensordot(b, x, dims=([1, 2], [0, 1]))", "torch.tensordot(x, y.t(), dims=1)", method=False)
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    axes: Any = dims if isinstance(dims, int) else tuple(tuple(d) for d in dims)
    return l.tensordot(a, b, axes=axes)


@offered("torch.kron(sq, x)")
def kron(input: Any, other: Any) -> Any:
    n = max(input.ndim, other.ndim)
    a = m.reshape(input, (1,) * (n - input.ndim) + tuple(input.shape))
    b = m.reshape(other, (1,) * (n - other.ndim) + tuple(other.shape))
    wide = m.reshape(a, tuple(k for s in a.shape for k in (s, 1))) * m.reshape(
        b, tuple(k for s in b.shape for k in (1, s))
    )
    return m.reshape(wide, tuple(p * q for p, q in zip(a.shape, b.shape, strict=True)))


@offered("torch.cross(x[:, :3], y[:, :3], dim=1)")
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    where = dim if dim is not None else next(i for i, n in enumerate(input.shape) if n == 3)
    return la.cross(input, other, axis=where)


@offered("torch.cdist(x, y)", "torch.cdist(b, b, p=1.0)", method=False)
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = None) -> Any:
    return la.vector_norm(m.expand_dims(x1, axis=-2) - m.expand_dims(x2, axis=-3), axis=-1, ord=p)


@offered("torch.cosine_similarity(x, y)", "torch.cosine_similarity(x, y, dim=0)", method=False)
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    a, b = prepared_floats(x1, x2)
    return F.cosine_similarity(a, b, dim=dim, eps=eps)


@offered("torch.inverse(spd)", "spd.inverse()")
def inverse(input: Any) -> Any:
    return la.inv(input)


@offered("torch.det(sq)", "sq.det()")
def det(input: Any) -> Any:
    return la.det(input)


@offered("torch.logdet(spd)", "spd.logdet()")
def logdet(input: Any) -> Any:
    sign, log = la.slogdet(input)
    return e.where(e.less(sign, 0), float("nan"), log)


@offered("torch.slogdet(sq)", "sq.slogdet()")
def slogdet(input: Any) -> Any:
    return tuple(la.slogdet(input))


@offered("torch.pinverse(x)", "x.pinverse()")
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    return la.pinv(input)


@offered("torch.matrix_power(sq, 3)", "sq.matrix_power(2)")
def matrix_power(input: Any, n: int) -> Any:
    return la.matrix_power(input, n)


@offered("torch.cholesky(spd)", "spd.cholesky()")
def cholesky(input: Any, upper: bool = False) -> Any:
    return la.cholesky(input, upper=upper)


@offered("torch.svd(x)[1]")
def svd(input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    u, s, vh = la.svd(input, full_matrices=not some)
    return u, s, e.conj(l.matrix_transpose(vh))


@offered("torch.chain_matmul(x, x.t(), x)", method=False)
def chain_matmul(*matrices: Any) -> Any:
    y = matrices[0]
    for other in matrices[1:]:
        y = l.matmul(y, other)
    return y


@offered("torch.result_type(i, 0.5)", "torch.result_type(x, i)", method=False)
def result_type(tensor1: Any, tensor2: Any) -> Any:
    from anynet.torch.promotion import result_type as found  # late: the same name

    return found(tensor1, tensor2)


# ----- torch.linalg: of matrices, where `torch.norm` is of all elements -----


def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """`torch.linalg.norm`: of vectors, or with `ord` and two axes (given, or all there are) of matrices."""
    axes = dim if dim is None or isinstance(dim, int) else tuple(dim)
    if ord is None:
        return vector_norm(A, 2, axes, keepdim, dtype=dtype)
    if axes is None and A.ndim not in (1, 2):
        msg = f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D."
        raise RuntimeError(msg)
    if axes is None:
        axes = tuple(range(A.ndim))
    if isinstance(axes, tuple) and len(axes) == 2:
        return matrix_norm(A, ord, axes, keepdim, dtype=dtype)
    return vector_norm(A, ord, axes, keepdim, dtype=dtype)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """`torch.linalg.vector_norm`: (Σ |x|ᵖ)^{1/p} along axes, of all elements where none are given."""
    x = x if dtype is None else m.astype(x, dtype)
    return adopt(
        la.vector_norm(x, axis=tuple(dim) if isinstance(dim, list) else dim, keepdims=keepdim, ord=ord)
    )


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """`torch.linalg.matrix_norm`: of the matrices of two axes."""
    x = A if dtype is None else m.astype(A, dtype)
    rows, columns = (d % x.ndim for d in dim)
    y = la.matrix_norm(m.moveaxis(x, (rows, columns), (-2, -1)), keepdims=keepdim, ord=ord)
    return adopt(m.moveaxis(y, (-2, -1), (rows, columns)) if keepdim else y)
