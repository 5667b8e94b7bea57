"""The factors of a matrix with exchanged rows, A = P L U: `torch.linalg.lu` and what solves with them.

Which rows are exchanged is found first; the elimination of the rows in that order is then made of operations, so that gradients follow.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import anynet.torch.tensor as _room
from anynet.dtypes import int32
from anynet.ops import linalg as la
from anynet.ops import manipulation as m
from anynet.ops.creation import asarray, eye, tril, triu, zeros
from anynet.ops.elementwise import conj, where
from anynet.ops.indexing import take_along_axis
from anynet.ops.linear import matrix_transpose
from anynet.tensor import no_grad
from anynet.torch.functions.matrices import out_taking, solve_triangular
from anynet.torch.table import offered

__all__ = ["FACTORS"]


class _Factors(NamedTuple):
    P: Any
    L: Any
    U: Any


class _Packed(NamedTuple):
    LU: Any
    pivots: Any


class _Told(NamedTuple):
    LU: Any
    pivots: Any
    info: Any


def _eliminated(A: Any) -> Any:
    """L below the diagonal and U from it on, in one matrix, of rows as they are."""
    rest, k = A, min(A.shape[-2:])
    rows, columns = [], []
    for _ in range(k):
        top, pivot = rest[..., :1, :], rest[..., :1, :1]
        safe = where(pivot == 0, 1.0, pivot)
        below = where(pivot == 0, 0.0, rest[..., 1:, :1] / safe)
        rows.append(top)
        columns.append(below)
        rest = rest[..., 1:, 1:] - below @ top[..., 1:]
    # each step is a row of U and, below it, a column of L: packed from the last step to the first
    packed = rest
    for top, below in zip(reversed(rows), reversed(columns), strict=True):
        packed = m.concat((top, m.concat((below, packed), axis=-1)), axis=-2)
    return packed


def _exchanges(A: Any, pivot: bool) -> tuple[list[list[int]], list[list[int]]]:
    """For each matrix: with which row each was exchanged, and the order of the rows."""
    with no_grad():
        host = _room.adopt(asarray(A)).detach().to("cpu").numpy()
    *batch, n, width = host.shape
    swaps, orders = [], []
    for matrix in host.reshape(math.prod(batch), n, width).copy():
        own, order = [], list(range(n))
        for j in range(min(n, width)):
            at = j + int(abs(matrix[j:, j]).argmax()) if pivot else j
            own.append(at)
            order[j], order[at] = order[at], order[j]
            matrix[[j, at]] = matrix[[at, j]]
            if matrix[j, j] != 0:
                factors = matrix[j + 1 :, j : j + 1] / matrix[j, j]
                matrix[j + 1 :, j:] -= factors * matrix[j, j:]
        swaps.append(own)
        orders.append(order)
    return swaps, orders


def _table(rows: list[list[int]], batch: Any, like: Any, width: int) -> Any:
    return m.reshape(asarray(rows, dtype="int64", device=like.device), (*batch, width))


def lu_factor(A: Any, *, pivot: bool = True) -> Any:
    """L (below the diagonal) and U in one matrix (…, m, n), and with which row each was exchanged, counted from 1, as LAPACK does."""
    batch, (n, width) = tuple(A.shape[:-2]), A.shape[-2:]
    swaps, orders = _exchanges(A, pivot)
    order = _table(orders, batch, A, n)
    turned = take_along_axis(A, m.broadcast_to(m.expand_dims(order, axis=-1), A.shape), axis=-2)
    pivots = m.astype(_table(swaps, batch, A, min(n, width)) + 1, int32)
    return _Packed(_eliminated(turned), pivots)


def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """`lu_factor`, and the number of the first zero on U's diagonal, 0 without one."""
    found = lu_factor(A, pivot=pivot)
    diagonal = la.diagonal(found.LU) == 0
    host = _room.adopt(diagonal).to("cpu").numpy()
    first = host.argmax(-1) + 1
    info = m.astype(asarray(first * host.any(-1), device=A.device), int32)
    if check_errors and host.any():
        msg = "lu_factor_ex: a matrix is singular: U has a zero on its diagonal"
        raise RuntimeError(msg)
    return _Told(found.LU, found.pivots, info)


def _order(pivots: Any, n: int) -> Any:
    """The order of the rows that exchanges leave."""
    host = _room.adopt(pivots).to("cpu").numpy()
    rows = []
    for own in host.reshape(math.prod(host.shape[:-1]), host.shape[-1]):
        order = list(range(n))
        for j, at in enumerate(own):
            order[j], order[at - 1] = order[at - 1], order[j]
        rows.append(order)
    return _table(rows, tuple(pivots.shape[:-1]), pivots, n)


def _permutation(order: Any, dtype: Any) -> Any:
    """P, whose column j has its 1 where row j comes from."""
    n = order.shape[-1]
    ones = m.expand_dims(order, axis=-2) == m.reshape(asarray(list(range(n)), device=order.device), (n, 1))
    return m.astype(ones, dtype)


@offered("torch.lu_unpack(*torch.lu(sq))", "torch.lu_unpack(*torch.lu(x))", method=False)
def lu_unpack(LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    n, width = LU_data.shape[-2:]
    k = min(n, width)
    P = _permutation(_order(LU_pivots, n), LU_data.dtype)
    L = tril(LU_data[..., :k], k=-1) + eye(n, k, dtype=LU_data.dtype, device=LU_data.device)
    U = triu(LU_data[..., :k, :])
    none = zeros((0,), dtype=LU_data.dtype, device=LU_data.device)
    return _Factors(P if unpack_pivots else none, *((L, U) if unpack_data else (none, none)))


def lu(A: Any, *, pivot: bool = True) -> Any:
    """P (…, m, m), L (…, m, k) and U (…, k, n) with A = P L U, k the smaller of m and n; without `pivot` P is empty."""
    return lu_unpack(*lu_factor(A, pivot=pivot), unpack_pivots=pivot)


def lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """X with A X = B (X A = B with left=False; Aᴴ X = B with `adjoint`), A given by its `lu_factor`."""
    if not left:
        if adjoint:  # X Aᴴ = B is A Xᴴ = Bᴴ
            return matrix_transpose(_conj(lu_solve(LU, pivots, _conj(matrix_transpose(B)))))
        return matrix_transpose(_conj(lu_solve(LU, pivots, _conj(matrix_transpose(B)), adjoint=True)))
    order = _order(pivots, LU.shape[-1])
    P = _permutation(order, LU.dtype)
    L = tril(LU, k=-1) + eye(LU.shape[-1], dtype=LU.dtype, device=LU.device)
    U = triu(LU)
    if adjoint:
        first = solve_triangular(matrix_transpose(_conj(U)), B, upper=False)
        return P @ solve_triangular(matrix_transpose(_conj(L)), first, upper=True)
    return solve_triangular(U, solve_triangular(L, matrix_transpose(P) @ B, upper=False), upper=True)


def _conj(x: Any) -> Any:
    return conj(x) if x.dtype.kind == "complex" else x


@offered("torch.lu(sq)", "torch.lu(x)", name="lu")
def _lu(self: Any, pivot: bool = True, get_infos: bool = False) -> Any:
    found = lu_factor_ex(self, pivot=pivot) if get_infos else lu_factor(self, pivot=pivot)
    return tuple(found)


@offered("torch.lu_solve(x[:, :2], *torch.lu(spd))", name="lu_solve")
def _lu_solve(b: Any, LU_data: Any, LU_pivots: Any) -> Any:
    return lu_solve(LU_data, LU_pivots, b)


FACTORS = {f.__name__: out_taking(f) for f in (lu_factor, lu_factor_ex, lu, lu_solve)}
"""What `torch.linalg` has of this."""
