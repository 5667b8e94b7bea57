"""Least squares with signs: non-negative least squares, and the shortest vector that satisfies linear inequalities.

These are exact methods for small problems, one column at a time: they run on the host in float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from anynet.tensor import Tensor, to_plain, wrap
from anynet_backends import Array, Backend, resolve

__all__ = ["NonNegative", "least_distance", "nnls", "on_host", "solve_nnls"]


class NonNegative(NamedTuple):
    """The result of `nnls`: x ≥ 0, and ‖Ax − b‖."""

    x: Tensor
    residual_norm: float


def on_host(where: str, name: str, x: Any, dimensions: int) -> tuple[Backend, Array]:
    """An argument as an array of NumPy's in float64; ValueError for another number of axes, and for what is not finite."""
    xp, device = resolve("cpu")
    data = xp.astype(to_plain(x, device=device), xp.float64)
    if len(data.shape) != dimensions:
        msg = f"{where}: {name} must have {dimensions} axes, got shape {tuple(data.shape)}"
        raise ValueError(msg)
    if not bool(xp.all(xp.isfinite(data))):
        msg = f"{where}: {name} has numbers that are not finite"
        raise ValueError(msg)
    return xp, data


def nnls(a: Any, b: Any, *, max_iterations: int | None = None) -> NonNegative:
    """min ‖Ax − b‖ over x ≥ 0, for A (m, n) and b (m,), as `scipy.optimize.nnls`; float64.

    The active-set method of Lawson and Hanson, which ends with the exact solution after finitely many steps: at x the gradient
    w = Aᵀ(b − Ax) is 0 where x > 0 and ≤ 0 elsewhere (Karush, Kuhn, Tucker). `max_iterations` is 3n + 30 unless given.

    Errors: ValueError for shapes that do not fit and numbers that are not finite; RuntimeError where the iterations do not suffice.

    Source: Lawson, Hanson: Solving Least Squares Problems (1974), chapter 23.

    >>> import anynet as an
    >>> an.methods.nnls([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0])
    NonNegative(x=Tensor([2., 0.], dtype=float64), residual_norm=1.0)
    """
    xp, matrix = on_host("nnls", "A", a, 2)
    _, vector = on_host("nnls", "b", b, 1)
    if vector.shape[0] != matrix.shape[0]:
        msg = f"nnls: expected A (m, n) and b (m,), got {tuple(matrix.shape)} and {tuple(vector.shape)}"
        raise ValueError(msg)
    x = solve_nnls(xp, matrix, vector, max_iterations)
    rest = xp.matmul(matrix, x) - vector
    return NonNegative(wrap(x), float(xp.sum(rest * rest)) ** 0.5)


def _unconstrained(xp: Backend, a: Array, b: Array, passive: list[int], l1: float) -> Array:
    """The solution for the columns `passive` alone, whatever its signs, by QR."""
    q, r = xp.linalg.qr(xp.take(a, xp.asarray(passive), axis=1))
    right = xp.matmul(b, q)
    if l1:
        right = right - l1 * xp.linalg.solve(xp.matrix_transpose(r), xp.ones((len(passive), 1)))[:, 0]
    return xp.linalg.solve(r, right[:, None])[:, 0]


def _exchange(xp: Backend, a: Array, x: Array, passive: list[int], closed: Array, new: int) -> None:
    """Bring a column in for one that goes to 0, with Ax unchanged."""
    index = xp.asarray(passive)
    share = xp.linalg.solve(xp.take(a, index, axis=1), a[:, new][:, None])[:, 0]
    inside = xp.take(x, index)
    positive = share > 0
    steps = xp.where(
        positive, inside / xp.where(positive, share, xp.ones_like(share)), xp.full_like(share, math.inf)
    )
    first = int(xp.argmin(steps))
    step = float(steps[first])
    inside = inside - step * share
    x[index] = xp.where(inside > 0, inside, xp.zeros_like(inside))
    x[new] = step
    closed[passive[first]] = False
    closed[new] = True
    x[passive[first]] = 0.0
    passive[first] = new


def solve_nnls(xp: Backend, a: Array, b: Array, max_iterations: int | None = None, l1: float = 0.0) -> Array:
    """The x of `nnls` with ½‖Ax − b‖² + l1 Σx, for arrays of the host."""
    m, n = a.shape
    x = xp.zeros((n,), dtype=xp.float64)
    passive: list[int] = []
    closed = xp.zeros(
        (n,), dtype=xp.bool
    )  # columns that may not enter: in already, or lost to rounding until another moves
    lost: list[int] = []
    size = float(xp.sum(a * a)) ** 0.5 if n else 0.0
    tolerance = 1e-14 * size * float(xp.sum(b * b)) ** 0.5
    limit = 3 * n + 30 if max_iterations is None else max_iterations
    for _ in range(limit):
        slope = xp.matmul(b - xp.matmul(a, x), a) - l1
        slope[closed] = -1.0
        best = int(xp.argmax(slope)) if n else 0
        if not n or not float(slope[best]) > tolerance or (len(passive) == m and not l1):
            return x
        if (
            len(passive) == m
        ):  # more columns than rows: the sum of x falls while Ax stays, until a column is at 0
            _exchange(xp, a, x, passive, closed, best)
            solution = _unconstrained(xp, a, b, passive, l1)
            if not bool(xp.any(solution <= 0)):
                x[xp.asarray(passive)] = solution
            continue
        solution = _unconstrained(xp, a, b, [*passive, best], l1)
        closed[best] = True
        if not float(solution[-1]) > 0:
            lost.append(best)
            continue
        passive.append(best)
        for column in lost:
            closed[column] = False
        lost = []
        while passive and bool(xp.any(solution <= 0)):
            index = xp.asarray(passive)
            inside = xp.take(x, index)
            gap = xp.where(solution <= 0, inside - solution, xp.ones_like(inside))
            steps = xp.where(
                solution <= 0, inside / xp.where(gap > 0, gap, xp.ones_like(gap)), xp.ones_like(gap)
            )
            first = int(xp.argmin(steps))
            inside = inside + steps[first] * (solution - inside)
            out = (solution <= 0) & (inside <= 1e-15 * xp.max(xp.abs(inside)))
            out[first] = True
            x[index] = xp.where(out, xp.zeros_like(inside), inside)
            for column, gone in zip(list(passive), out.tolist(), strict=True):
                if gone:
                    passive.remove(column)
                    closed[column] = False
            if passive:
                solution = _unconstrained(xp, a, b, passive, l1)
        if passive:
            x[xp.asarray(passive)] = solution
    msg = f"nnls: no solution after {limit} iterations; give max_iterations="
    raise RuntimeError(msg)


def least_distance(g: Any, h: Any) -> tuple[Tensor | None, Tensor]:
    """min ‖w‖ subject to G w ≥ h, for G (m, n) and h (m,): w, or None where no w satisfies the inequalities, and multipliers
    λ ≥ 0 (m,) with w = Gᵀλ (for None: Gᵀλ = 0 and hᵀλ > 0, which proves it).

    By non-negative least squares: with E = [Gᵀ; hᵀ] and f = (0, …, 0, 1) the residual r = E λ − f of min ‖Eλ − f‖ over λ ≥ 0 is 0 where
    there is no solution, and else w = −r₁…ₙ / rₙ₊₁.

    Source: Lawson, Hanson (1974), chapter 23, problem LDP.

    >>> import anynet as an
    >>> an.methods.least_distance([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0])[0]
    Tensor([2., 0.], dtype=float64)
    """
    xp, rows = on_host("least_distance", "G", g, 2)
    _, bounds = on_host("least_distance", "h", h, 1)
    if bounds.shape[0] != rows.shape[0]:
        msg = (
            f"least_distance: expected G (m, n) and h (m,), got {tuple(rows.shape)} and {tuple(bounds.shape)}"
        )
        raise ValueError(msg)
    e = xp.concat((xp.matrix_transpose(rows), bounds[None, :]))
    f = xp.concat((xp.zeros((rows.shape[1],), dtype=xp.float64), xp.ones((1,), dtype=xp.float64)))
    u = solve_nnls(xp, e, f)
    r = xp.matmul(e, u) - f
    if float(xp.sum(r * r)) ** 0.5 < 1e-10:
        return None, wrap(u)
    scale = -float(r[-1])
    return wrap(r[:-1] / scale), wrap(u / scale)
