"""Decompositions and functions of matrices beyond the standard's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet import dtypes
from anynet.ops import creation as c
from anynet.ops import elementwise as e
from anynet.ops import linalg as la
from anynet.ops import manipulation as m
from anynet.ops import reductions as r
from anynet.ops.linear import matmul, matrix_transpose
from anynet.torch.functions.creation import place
from anynet.torch.functions.linear import matrix_norm, vector_norm
from anynet.torch.table import TABLE, offered

_PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0, 10559470521600.0,
         670442572800.0,
         33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)  # fmt: skip


@offered("torch.matrix_exp(sq)", "(sq * 9).matrix_exp() / 1e5", "torch.matrix_exp(torch.stack([sq, sq.t()]))")
def matrix_exp(input: Any) -> Any:
    """Scaling and squaring with the Padé approximant of order 13 (Higham 2005)."""
    if input.ndim < 2 or input.shape[-1] != input.shape[-2] or input.dtype.kind not in ("real", "complex"):
        msg = f"matrix_exp: input must be square matrices of floats, got {input.dtype} of shape {tuple(input.shape)}"
        raise RuntimeError(msg)
    if not input.size:
        return input
    largest = float(r.max(r.sum(e.abs(input.detach()), axis=-2)))
    halvings = max(0, math.ceil(math.log2(largest / 5.4))) if math.isfinite(largest) and largest > 0 else 0
    a = input / 2.0**halvings
    one = c.eye(input.shape[-1], dtype=input.dtype, device=place(input.device))
    a2 = matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)
    b = _PADE
    odd = matmul(
        a, matmul(a6, b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * one
    )
    even = matmul(a6, b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * one
    y = la.solve(even - odd, even + odd)
    for _ in range(halvings):
        y = matmul(y, y)
    return y


class LstsqResult(NamedTuple):
    """What `torch.linalg.lstsq` returns."""

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """`torch.linalg.lstsq`: the X of least ‖X‖ among those with least ‖A X − B‖, by singular values, whatever the driver."""
    vector = B.ndim == A.ndim - 1
    b = m.expand_dims(B, axis=-1) if vector else B
    x = matmul(la.pinv(A, rtol=rcond), b)
    rank = la.matrix_rank(A.detach(), rtol=rcond)
    rows, columns = A.shape[-2:]
    full = driver not in (None, "gelsy") and rows > columns and bool(r.all(e.equal(rank, columns)))
    left = (
        r.sum(e.square(e.abs(matmul(A, x) - b)), axis=-2)
        if full
        else c.empty(0, dtype=B.dtype, device=place(B.device))
    )
    return LstsqResult(
        m.squeeze(x, axis=-1) if vector else x, left, rank, c.empty(0, dtype=B.dtype, device=place(B.device))
    )


@offered(
    "torch.cholesky_solve(x[:, :2], torch.linalg.cholesky(spd))",
    "x.cholesky_solve(torch.linalg.cholesky(spd).mT, upper=True)",
)
def cholesky_solve(input: Any, L: Any, upper: bool = False) -> Any:
    lower = _adjoint(L) if upper else L
    return la.solve(_adjoint(lower), la.solve(lower, input))


@offered("torch.cholesky_inverse(torch.linalg.cholesky(spd))")
def cholesky_inverse(input: Any, upper: bool = False) -> Any:
    lower = _adjoint(input) if upper else input
    return la.inv(matmul(lower, _adjoint(lower)))


def _adjoint(x: Any) -> Any:
    return e.conj(matrix_transpose(x)) if x.dtype.kind == "complex" else matrix_transpose(x)


def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """`torch.linalg.solve_triangular`: X with A X = B (or X A = B), the other triangle of A not read."""
    t = c.triu(A) if upper else c.tril(A)
    if unitriangular:
        one = c.eye(A.shape[-1], dtype=A.dtype, device=place(A.device))
        t = t * (1 - one) + one
    return la.solve(t, B) if left else matrix_transpose(la.solve(matrix_transpose(t), matrix_transpose(B)))


@offered(
    "torch.triangular_solve(x[:, :2], spd)[0]", "x.triangular_solve(spd, upper=False, transpose=True)[0]"
)
def triangular_solve(
    input: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    t = c.triu(A) if upper else c.tril(A)
    t, upper = (matrix_transpose(t), not upper) if transpose else (t, upper)
    return solve_triangular(t, input, upper=upper, unitriangular=unitriangular), c.triu(
        A
    ) if upper != transpose else c.tril(A)


@offered("torch.addbmm(sq, b, b.mT)", "sq.addbmm(b, b.mT, beta=0.5, alpha=2)", in_place=True)
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    product = r.sum(matmul(batch1, batch2), axis=0) * alpha
    return product if beta == 0 else input * beta + product


@offered("torch.frobenius_norm(x, 1)", "torch.frobenius_norm(x, (0, 1), keepdim=True)", method=False)
def frobenius_norm(input: Any, dim: Any, keepdim: bool = False) -> Any:
    return vector_norm(input, 2, tuple(dim) if not isinstance(dim, int) else dim, keepdim)


@offered("torch.nuclear_norm(x)", method=False)
def nuclear_norm(input: Any, dim: Any = (-2, -1), keepdim: bool = False) -> Any:
    return matrix_norm(input, "nuc", dim, keepdim)


@offered("torch.renorm(x, 2, 0, 1.0)", "b.renorm(1, 1, 0.5)", in_place=True)
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    axes = tuple(k for k in range(input.ndim) if k != dim % input.ndim)
    size = la.vector_norm(input, axis=axes, keepdims=True, ord=p)
    return input * e.where(e.greater(size, maxnorm), maxnorm / (size + 1e-7), 1.0)


# ----- torch.linalg -----


def out_taking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A row's function without its row: for names that stand in torch.linalg alone."""
    from anynet.torch.tensor import adopt  # late: this module is imported by the table's

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return adopt(function(*args, **kwargs))

    return call


def multi_dot(tensors: Any) -> Any:
    """The product of matrices, the first and the last of which may be vectors."""
    return functools.reduce(matmul, tensors)


def cond(A: Any, p: Any = None) -> Any:
    """‖A‖ ‖A⁻¹‖."""
    if p in (None, 2, -2):
        s = la.svdvals(A)
        return s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0]
    return matrix_norm(A, p) * matrix_norm(la.inv(A), p)


class _Checked(NamedTuple):
    inverse: Any
    info: Any


def inv_ex(A: Any, *, check_errors: bool = False) -> Any:
    """The inverse, and zeros: a singular matrix is an error."""
    return _Checked(la.inv(A), c.zeros(A.shape[:-2], dtype=dtypes.int32, device=place(A.device)))


class _Factor(NamedTuple):
    L: Any
    info: Any


def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The Cholesky factor, and zeros: a matrix that has none is an error."""
    return _Factor(
        la.cholesky(A, upper=upper), c.zeros(A.shape[:-2], dtype=dtypes.int32, device=place(A.device))
    )


def eigh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues and vectors of a symmetric matrix, of which one triangle is read."""
    return la.eigh(_one_triangle(A, UPLO))


def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues of a symmetric matrix, of which one triangle is read."""
    return la.eigvalsh(_one_triangle(A, UPLO))


def _one_triangle(A: Any, UPLO: str) -> Any:
    if UPLO.upper() not in ("L", "U"):
        msg = f"linalg.eigh: UPLO must be 'L' or 'U', got {UPLO!r}"
        raise RuntimeError(msg)
    half = c.tril(A, k=-1) if UPLO.upper() == "L" else c.triu(A, k=1)
    one = c.eye(A.shape[-1], dtype=A.dtype, device=place(A.device))
    return half + _adjoint(half) + A * one


LINALG = {
    f.__name__: out_taking(f)
    for f in (lstsq, solve_triangular, multi_dot, cond, inv_ex, cholesky_ex, eigh, eigvalsh)
} | {
    "matrix_exp": TABLE["matrix_exp"].function,
    "vander": TABLE["vander"].function if "vander" in TABLE else None,
}
LINALG = {name: f for name, f in LINALG.items() if f is not None}
