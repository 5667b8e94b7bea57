"""The standard's linalg extension, each decomposition beside its gradient.

With the pairing ⟨g, dx⟩ = Re tr(gᴴ dx), a rule follows from the differential of the definition, as in M. Giles,
"Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008), and for complex
matrices in the notes of PyTorch's `FunctionsManual`. ᴴ is the conjugate transpose. Leading axes are a stack of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.graph import GradientError
from anynet.autograd.primitive import Primitive, adjoint, primitive
from anynet.ops import elementwise as e
from anynet.ops import reductions
from anynet.ops.creation import tril, triu
from anynet.ops.indexing import getitem
from anynet.ops.linear import matmul, matrix_transpose, tensordot, vecdot
from anynet.ops.manipulation import concat, expand_dims, roll, squeeze
from anynet.ops.shapes import axes_of
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals",
    "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip


class EigResult(NamedTuple):
    """What `eig` returns."""

    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


# ----- small tools of the rules -----

_T = matrix_transpose


def _H(x: Any) -> Any:
    return e.conj(_T(x))


def _sym(x: Any) -> Any:
    """The Hermitian part ½ (x + xᴴ)."""
    return (x + _H(x)) * 0.5


def _plain_eye(x: Any, n: int, m: int | None = None, k: int = 0, dtype: Any = None) -> Array:
    plain = unwrap(x)
    xp = backend_of(plain)
    where = xp.native_device(xp.device_of(plain))
    return xp.eye(n, m, k=k, dtype=plain.dtype if dtype is None else dtype, device=where)


def _off_diagonal(x: Any) -> Array:
    """A mask of the elements off the diagonal of square matrices."""
    xp = backend_of(unwrap(x))
    return xp.logical_not(_plain_eye(x, x.shape[-1], dtype=xp.bool))


def _diag(x: Any) -> Any:
    """(…, n) → (…, n, n) with x on the diagonal."""
    return fill_diagonal(x, offset=0, shape=(*x.shape, x.shape[-1]))


def _cols(m: Any, d: Any) -> Any:
    """m diag(d), without the product of matrices."""
    return m * expand_dims(d, axis=-2)


def _rows(d: Any, m: Any) -> Any:
    """diag(d) m."""
    return expand_dims(d, axis=-1) * m


def _like(x: Any, other: Any) -> Any:
    """x in the dtype of `other` (real to complex)."""
    dtype = unwrap(other).dtype
    return x if unwrap(x).dtype == dtype else cast_to(x, dtype=dtypes.of(dtype))


def _ratio(a: Any, b: Any) -> Any:
    """a / b; where b is 0, nan, but 0 where a is 0 too: what no loss asked for is not undefined."""
    return e.divide_no_nan(a, e.where(e.equal(b, 0), math.nan, b))


def _gaps(w: Any) -> Any:
    """w_j − w_i, and 1 on the diagonal, which no rule uses."""
    gap = expand_dims(w, axis=-2) - expand_dims(w, axis=-1)
    return e.where(_off_diagonal(gap), gap, 1.0) if w.shape[-1] else gap


def _check_square(x: Any, what: str) -> None:
    shape = tuple(x.shape)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        msg = f"{what}: x must be square matrices (…, n, n), got shape {shape}"
        raise ValueError(msg)


def _check_matrix(x: Any, what: str) -> None:
    if len(x.shape) < 2:
        msg = f"{what}: x must be matrices (…, m, n), got shape {tuple(x.shape)}"
        raise ValueError(msg)


def _check_floating(x: Any, what: str) -> None:
    kind = dtypes.of(unwrap(x).dtype)
    if not kind.is_floating:
        msg = f"{what}: x must be of a floating-point dtype, got {kind}"
        raise TypeError(msg)


def _stacked(prim: Primitive[...]) -> Primitive[...]:
    prim.stacked = True
    return prim


# ----- inverse, solve, determinant -----


@primitive(name="inv")
def _inv(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.inv(x)


_inv.vjp(x=lambda g, y: -(_H(y) @ g @ _H(y)))  # d(A⁻¹) = −A⁻¹ dA A⁻¹
_stacked(_inv)


def inv(x: ArrayLike, /) -> Tensor:
    """The inverse A⁻¹ of square matrices (…, n, n).

    >>> import anynet as an
    >>> an.linalg.inv(an.asarray([[2.0, 0.0], [0.0, 4.0]]))
    Tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    _check_square(x, "inv")
    return _inv(x)


@primitive(name="solve")
def _solve(xp: Backend, a: Array, b: Array, /) -> Array:
    return xp.linalg.solve(a, b)


@_solve.vjps("a", "b")
def _solve_rule(g: Any, y: Any, a: Any, need: tuple[bool, ...]) -> tuple[Any, Any]:
    """A X = B: gB = A⁻ᴴ g and gA = −gB Xᴴ."""
    gb = _solve(_H(a), g)
    return (-(gb @ _H(y)) if need[0] else None), gb


_stacked(_solve)


def solve(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The solution X of A X = B: A (…, n, n), B (…, n, k), or one vector (n,)."""
    _check_square(x1, "solve")
    if len(x2.shape) == 1:
        if x2.shape[0] != x1.shape[-1]:
            msg = f"solve: the vector must have length {x1.shape[-1]} for matrices of shape {tuple(x1.shape)}, got {x2.shape[0]}"
            raise ValueError(msg)
        return squeeze(_solve(x1, expand_dims(x2, axis=-1)), axis=-1)
    if x2.shape[-2] != x1.shape[-1]:
        msg = (
            f"solve: the right-hand side must fit matrices of shape {tuple(x1.shape)}, got {tuple(x2.shape)}"
        )
        raise ValueError(msg)
    return _solve(x1, x2)


@primitive(name="det")
def _det(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.det(x)


@primitive
def cofactors(xp: Backend, x: Array, /) -> Array:
    """∂ det A / ∂A_ij, which is (det A) A⁻ᵀ where A has an inverse.

    Through A = U diag(s) Vᴴ: det U · det Vᴴ · conj(U) diag(Π_{j≠i} s_j) conj(Vᴴ), which needs no inverse.
    """
    if x.shape[-1] == 0:
        return xp.zeros_like(x)
    u, s, vh = xp.linalg.svd(x, full_matrices=False)
    one = xp.ones_like(s[..., :1])
    left = xp.cumulative_prod(xp.concat([one, s[..., :-1]], axis=-1), axis=-1)
    right = xp.flip(
        xp.cumulative_prod(xp.concat([one, xp.flip(s, axis=-1)[..., :-1]], axis=-1), axis=-1), axis=-1
    )
    others = xp.astype(left * right, x.dtype)
    if xp.isdtype(x.dtype, "complex floating"):
        uc, vhc = xp.conj(u), xp.conj(vh)
    else:
        uc, vhc = u, vh
    phase = xp.linalg.det(u) * xp.linalg.det(vh)
    scaled = uc * xp.expand_dims(others * xp.expand_dims(phase, axis=-1), axis=-2)
    return xp.matmul(scaled, vhc)


def _cofactors_rule(g: Any, y: Any, x: Any) -> Any:
    """C = (det A) A⁻ᵀ: dC = (Σ C_ij dA_ij) A⁻ᵀ − A⁻ᵀ dAᵀ C. Second derivatives need the inverse."""
    z = _inv(x)
    s = reductions.sum(g * e.conj(_T(z)), axis=(-2, -1), keepdims=True)
    return s * e.conj(y) - _H(z) @ _T(g) @ e.conj(y)


_det.vjp(x=lambda g, x: expand_dims(g, axis=(-2, -1)) * e.conj(cofactors(x)))
cofactors.vjp(x=_cofactors_rule)
_stacked(_det)
_stacked(cofactors)


def det(x: ArrayLike, /) -> Tensor:
    """The determinant of square matrices; its gradient, the matrix of cofactors, exists for singular ones too."""
    _check_square(x, "det")
    return _det(x)


@primitive(name="slogdet")
def _slogdet(xp: Backend, x: Array, /) -> tuple[Array, Array]:
    return tuple(xp.linalg.slogdet(x))


def _slogdet_rule(g: Any, y: Any, x: Any) -> Any:
    """d ln|det| = Re t and d sign = i sign Im t, with t = tr(A⁻¹ dA)."""
    (gs, gl), (sign, _) = g, y
    slope = _like(gl, x)
    if e.is_complex(x):
        slope = slope + 1j * _like(e.imag(gs * e.conj(sign)), x)
    # singular ones have no gradient (nan), and leave the others of a stack alone
    singular = expand_dims(e.equal(sign, 0), axis=(-2, -1))
    inverse = _H(_inv(e.where(singular, _plain_eye(x, x.shape[-1]), x)))
    return e.multiply_no_nan(expand_dims(slope, axis=(-2, -1)), e.where(singular, math.nan, inverse))


_slogdet.vjp(x=_slogdet_rule)
_stacked(_slogdet)


def slogdet(x: ArrayLike, /) -> SlogdetResult:
    """The sign (or phase) and the logarithm of the absolute value of the determinant.

    Of a singular matrix they are 0 and −inf, and the gradient is nan (0 where none of it is asked for).
    """
    _check_square(x, "slogdet")
    return SlogdetResult(*_slogdet(x))


# ----- Cholesky, QR -----


@primitive(name="cholesky")
def _cholesky(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.cholesky(x)


def _cholesky_rule(g: Any, y: Any) -> Any:
    """A = L Lᴴ: gA = ½ (S + Sᴴ), S = L⁻ᴴ Φ(Lᴴ g) L⁻¹, Φ the lower triangle with half the diagonal (I. Murray 2016)."""
    n = y.shape[-1]
    half = e.where(_off_diagonal(y), 1.0, 0.5) if n else 1.0
    phi = tril(_H(y) @ g) * (_like(half, y) if n else 1.0)
    z = _inv(y)
    return _sym(_H(z) @ phi @ z)


_cholesky.vjp(x=_cholesky_rule)
_stacked(_cholesky)


def cholesky(x: ArrayLike, /, *, upper: bool = False) -> Tensor:
    """L with A = L Lᴴ, lower triangular (or Lᴴ where `upper`), of positive definite Hermitian matrices.

    Only one triangle of A is read; the gradient is that over Hermitian matrices, so it is Hermitian itself.
    """
    _check_square(x, "cholesky")
    y = _cholesky(x)
    return _H(y) if upper else y


@primitive(name="qr")
def _qr(xp: Backend, x: Array, /, *, mode: str) -> tuple[Array, Array]:
    return tuple(xp.linalg.qr(x, mode=mode))


def _qr_rule(g: Any, y: Any, x: Any, mode: str) -> Any:
    """gA = (gQ + Q S(triu(gR Rᴴ − Qᴴ gQ))) R⁻ᴴ with S(X) = X + Xᴴ, its diagonal halved (Walter & Lehmann 2013)."""
    (gq, gr), (q, r) = g, y
    m, n = x.shape[-2:]
    if mode == "complete" and m > n:
        msg = (
            "no gradient through qr(mode='complete') of matrices with more rows than columns: "
            "the last columns of Q are arbitrary; use mode='reduced'"
        )
        raise GradientError(msg)
    rest = None
    if n > m:  # A = [A₁ A₂]: Q and R₁ come from A₁, and R₂ = Qᴴ A₂
        rest = getitem(x, (..., slice(m, None)))
        gr2 = getitem(gr, (..., slice(m, None)))
        gq = gq + rest @ _H(gr2)
        gr, r = getitem(gr, (..., slice(0, m))), getitem(r, (..., slice(0, m)))
    u = triu(gr @ _H(r) - _H(q) @ gq)
    if u.shape[-1]:
        off = _off_diagonal(u)
        u = e.where(off, u + _H(u), _like(e.real(u), u))
    left = _H(_solve(r, _H(gq + q @ u)))
    if rest is None:
        return left

    return concat([left, q @ gr2], axis=-1)


_qr.vjp(x=_qr_rule)
_stacked(_qr)


def qr(x: ArrayLike, /, *, mode: str = "reduced") -> QRResult:
    """A = Q R, Q with orthonormal columns, R upper triangular; `mode` is 'reduced' or 'complete'."""
    _check_matrix(x, "qr")
    if mode not in ("reduced", "complete"):
        msg = f"qr: mode must be 'reduced' or 'complete', got {mode!r}"
        raise ValueError(msg)
    return QRResult(*_qr(x, mode=mode))


# ----- eigenvalues -----


@primitive(name="eigh")
def _eigh(xp: Backend, x: Array, /) -> tuple[Array, Array]:
    return tuple(xp.linalg.eigh(x))


def _eigh_rule(g: Any, y: Any) -> Any:
    """A = V diag(w) Vᴴ: gA = V (diag(gw) + (Vᴴ gV)_ij / (w_j − w_i)) Vᴴ, made Hermitian."""
    (gw, gv), (w, v) = g, y
    vg = _H(v) @ gv
    anti = (vg - _H(vg)) * 0.5  # the Hermitian part of the quotient, before the division
    inner = e.where(_off_diagonal(vg), _ratio(anti, _like(_gaps(w), vg)), 0.0) if vg.shape[-1] else vg
    return v @ (inner + _diag(_like(gw, v))) @ _H(v)


_eigh.vjp(x=_eigh_rule)
_stacked(_eigh)


@primitive(name="eigvalsh")
def _eigvalsh(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.eigvalsh(x)


def _eigvalsh_rule(g: Any, x: Any) -> Any:
    v = _eigh(x)[1]
    return _cols(v, _like(g, v)) @ _H(v)


_eigvalsh.vjp(x=_eigvalsh_rule)
_stacked(_eigvalsh)


def eigh(x: ArrayLike, /) -> EighResult:
    """Eigenvalues (ascending) and eigenvectors (columns) of Hermitian matrices.

    Only one triangle of A is read, and the gradient is that over Hermitian matrices. Eigenvectors are defined up to
    their phase, and for a multiple eigenvalue up to a rotation: a loss that depends on that has no gradient (nan).
    """
    _check_square(x, "eigh")
    return EighResult(*_eigh(x))


def eigvalsh(x: ArrayLike, /) -> Tensor:
    """The eigenvalues (ascending) of Hermitian matrices."""
    _check_square(x, "eigvalsh")
    return _eigvalsh(x)


@primitive(name="eig")
def _eig(xp: Backend, x: Array, /) -> tuple[Array, Array]:
    return tuple(xp.linalg.eig(x))


def _eig_rule(g: Any, y: Any) -> Any:
    """A V = V diag(w), columns of norm 1: gA = V⁻ᴴ (diag(gw) + (Vᴴ gV − Vᴴ V Re diag(Vᴴ gV))_ij / conj(w_j − w_i)) Vᴴ."""
    (gw, gv), (w, v) = g, y
    vh = _H(v)
    vg = vh @ gv
    inner = vg - _cols(vh @ v, _like(e.real(diagonal(vg)), v))
    inner = e.where(_off_diagonal(vg), _ratio(inner, e.conj(_gaps(w))), 0.0) if vg.shape[-1] else vg
    return _solve(vh, (inner + _diag(gw)) @ vh)


_eig.vjp(x=_eig_rule)
_stacked(_eig)


@primitive(name="eigvals")
def _eigvals(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.eigvals(x)


def _eigvals_rule(g: Any, x: Any) -> Any:
    vh = _H(_eig(x)[1])
    return _solve(vh, _rows(g, vh))


_eigvals.vjp(x=_eigvals_rule)
_stacked(_eigvals)


def eig(x: ArrayLike, /) -> EigResult:
    """Eigenvalues and eigenvectors (columns, of norm 1) of square matrices, always complex.

    The gradient is defined for losses that do not depend on the phase of the eigenvectors, and simple eigenvalues.
    """
    _check_square(x, "eig")
    return EigResult(*_eig(x))


def eigvals(x: ArrayLike, /) -> Tensor:
    """The eigenvalues of square matrices, always complex."""
    _check_square(x, "eigvals")
    return _eigvals(x)


# ----- singular values -----


@primitive(name="svd")
def _svd(xp: Backend, x: Array, /, *, full_matrices: bool) -> tuple[Array, Array, Array]:
    return tuple(xp.linalg.svd(x, full_matrices=full_matrices))


def _svd_rule(g: Any, y: Any, full_matrices: bool) -> Any:
    """gA = U [(skew(Uᴴ gU) / E) S + S (skew(Vᴴ gV) / E) + diag(gS)] Vᴴ, E_ij = s_j² − s_i², and for rectangular
    matrices what leaves the spans of U and V; skew(X) = X − Xᴴ (Townsend 2016; Wan & Zhang 2019)."""
    (gu, gs, gvh), (u, s, vh) = g, y
    m, n, k = u.shape[-2], vh.shape[-1], s.shape[-1]
    if full_matrices and m != n:
        msg = (
            "no gradient through svd(full_matrices=True) of rectangular matrices: "
            "the last singular vectors are arbitrary; use full_matrices=False or svdvals"
        )
        raise GradientError(msg)
    ug, vg = _H(u) @ gu, vh @ _H(gvh)
    ug, vg = ug - _H(ug), vg - _H(vg)
    inner = _diag(_like(gs, u))
    if k:
        gap = _like(_gaps(s * s), u)
        sc = _like(s, u)
        off = _off_diagonal(ug)
        inner = inner + e.where(off, _cols(_ratio(ug, gap), sc) + _rows(sc, _ratio(vg, gap)), 0.0)
        if e.is_complex(u):  # the phase shared by a pair of singular vectors
            inner = inner + _diag(_ratio(diagonal(ug), 2 * sc))
    out = u @ inner @ vh
    if m > k:
        side = gu - u @ (_H(u) @ gu)
        out = out + _ratio(side, expand_dims(sc, axis=-2)) @ vh if k else out
    if n > k:
        side = gvh - (gvh @ _H(vh)) @ vh
        out = out + u @ _ratio(side, expand_dims(sc, axis=-1)) if k else out
    return out


_svd.vjp(x=_svd_rule)
_stacked(_svd)


@primitive(name="svdvals")
def _svdvals(xp: Backend, x: Array, /) -> Array:
    return xp.linalg.svdvals(x)


def _svdvals_rule(g: Any, x: Any) -> Any:
    u, _, vh = _svd(x, full_matrices=False)
    return _cols(u, _like(g, u)) @ vh


_svdvals.vjp(x=_svdvals_rule)
_stacked(_svdvals)


def svd(x: ArrayLike, /, *, full_matrices: bool = True) -> SVDResult:
    """A = U diag(S) Vᴴ with S descending.

    Singular vectors are defined up to a common phase, and for a multiple singular value up to a rotation: a loss that
    depends on that has no gradient (nan). Rectangular matrices with ``full_matrices=True`` have none either (raises).
    """
    _check_matrix(x, "svd")
    return SVDResult(*_svd(x, full_matrices=bool(full_matrices)))


def svdvals(x: ArrayLike, /) -> Tensor:
    """The singular values, descending."""
    _check_matrix(x, "svdvals")
    return _svdvals(x)


@primitive(name="pinv")
def _pinv(xp: Backend, x: Array, rtol: Array = None, /) -> Array:
    return xp.linalg.pinv(x) if rtol is None else xp.linalg.pinv(x, rtol=rtol)


def _pinv_rule(g: Any, y: Any, x: Any) -> Any:
    """dY = −Y dA Y + Y Yᴴ dAᴴ (I − A Y) + (I − Y A) dAᴴ Yᴴ Y, where the rank is constant (Golub & Pereyra 1973)."""
    yh, gh = _H(y), _H(g)
    a = gh @ y @ yh
    b = yh @ y @ gh
    return -(yh @ g @ yh) + (a - x @ (y @ a)) + (b - (b @ y) @ x)


_pinv.vjp(x=_pinv_rule)


def pinv(x: ArrayLike, /, *, rtol: float | ArrayLike | None = None) -> Tensor:
    """The Moore-Penrose pseudo-inverse; singular values up to rtol · the largest count as zero."""
    _check_matrix(x, "pinv")
    return _pinv(x, rtol)


@primitive(name="matrix_rank")
def _matrix_rank(xp: Backend, x: Array, rtol: Array = None, /) -> Array:
    return xp.linalg.matrix_rank(x) if rtol is None else xp.linalg.matrix_rank(x, rtol=rtol)


_matrix_rank.piecewise_constant()


def matrix_rank(x: ArrayLike, /, *, rtol: float | ArrayLike | None = None) -> Tensor:
    """The number of singular values above rtol · the largest."""
    _check_matrix(x, "matrix_rank")
    return _matrix_rank(x, rtol)


# ----- powers, products, diagonals -----


def matrix_power(x: ArrayLike, n: int, /) -> Tensor:
    """Aⁿ by repeated squaring; of the inverse where n < 0, the identity where n = 0."""
    _check_square(x, "matrix_power")
    if not isinstance(n, int):
        msg = f"matrix_power: n must be an integer, got {n!r}"
        raise TypeError(msg)
    if n == 0:
        one = wrap(_plain_eye(x, x.shape[-1])) if isinstance(x, Tensor) else _plain_eye(x, x.shape[-1])
        return e.add(_zeros(x), one)
    if n < 0:
        x, n = inv(x), -n
    out: Any = None
    while True:
        if n & 1:
            out = x if out is None else matmul(out, x)
        n >>= 1
        if not n:
            return out  # type: ignore[no-any-return]
        x = matmul(x, x)


def _zeros(x: Any) -> Any:
    """Zeros in the shape of x, without its values (0 · inf would be nan)."""
    plain = unwrap(x)
    zeros = backend_of(plain).zeros_like(plain)
    return wrap(zeros) if isinstance(x, Tensor) else zeros


def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """The cross product a × b of vectors of three elements along `axis`; the other axes broadcast."""
    for x in (x1, x2):
        (where,) = axes_of(axis, len(x.shape))
        if x.shape[where] != 3:
            msg = (
                f"cross: both arguments must hold vectors of 3 elements along axis {axis}, got shapes {tuple(x1.shape)} and "
                f"{tuple(x2.shape)}"
            )
            raise ValueError(msg)

    def turned(x: Any, n: int) -> Tensor:
        return roll(x, n, axis=axis)

    return turned(x1, -1) * turned(x2, -2) - turned(x1, -2) * turned(x2, -1)


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """a bᵀ of two vectors: (m,), (n,) → (m, n)."""
    if len(x1.shape) != 1 or len(x2.shape) != 1:
        msg = f"outer: both arguments must be vectors, got shapes {tuple(x1.shape)} and {tuple(x2.shape)}"
        raise ValueError(msg)
    return expand_dims(x1, axis=1) * expand_dims(x2, axis=0)


@primitive(name="diagonal")
def _diagonal(xp: Backend, x: Array, /, *, offset: int) -> Array:
    return xp.linalg.diagonal(x, offset=offset)


@primitive
def fill_diagonal(xp: Backend, x: Array, /, *, offset: int, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x on a diagonal: the transpose of `diagonal`."""
    m, n = shape[-2:]
    where = xp.native_device(xp.device_of(x))
    before = max(0, -offset)  # row i holds element i − before
    after = m - before - x.shape[-1]

    def zeros(k: int) -> Array:
        return xp.zeros((*x.shape[:-1], k), dtype=x.dtype, device=where)

    rows = xp.concat([zeros(before), x, zeros(max(after, 0))], axis=-1) if m else zeros(0)
    mask = xp.eye(m, n, k=offset, dtype=xp.bool, device=where)
    spread = xp.broadcast_to(xp.expand_dims(rows, axis=-1), (*x.shape[:-1], m, n))
    return xp.where(mask, spread, xp.zeros_like(spread))


adjoint(_diagonal, fill_diagonal)
_stacked(_diagonal)
_stacked(fill_diagonal)


def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices (…, m, n), `offset` above (or, negative, below) the main one."""
    _check_matrix(x, "diagonal")
    return _diagonal(x, offset=offset)


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of matrices."""
    return reductions.sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


# ----- norms -----


@primitive(name="vector_norm")
def _vector_norm(xp: Backend, x: Array, /, *, axis: tuple[int, ...], ord: float) -> Array:
    size = xp.abs(x) if ord != 2 or xp.isdtype(x.dtype, "complex floating") else x
    if ord == 2:
        return xp.sqrt(xp.sum(size * size, axis=axis, keepdims=True))
    powers = size**ord if ord > 0 else _powers(xp, size, ord, size == 0)
    total = xp.sum(powers, axis=axis, keepdims=True)
    return total ** (1 / ord) if ord > 0 else _powers(xp, total, 1 / ord, total == 0)


def _powers(xp: Backend, x: Array, exponent: float, zero: Array) -> Array:
    """x^p for p < 0, without NumPy's warning where x is 0."""
    return xp.where(zero, math.inf, xp.where(zero, 1.0, x) ** exponent)


def _vector_norm_rule(g: Any, y: Any, x: Any, ord: float) -> Any:
    """(Σ|x|ᵖ)^{1/p}: g (x / |x|) (|x| / y)^{p−1}, and 0 where x or y is 0."""
    none = e.equal(y, 0)
    length = e.where(none, 1.0, y)
    if ord == 2:
        return _like(e.where(none, 0.0, e.divide_no_nan(g, length)), x) * x
    size = e.abs(x)
    none = e.logical_or(none, e.equal(size, 0))
    ratio = e.where(none, 1.0, size / length)
    return e.where(none, 0.0, _like(e.multiply_no_nan(g, ratio ** (ord - 1)), x) * e.sign(x))


_vector_norm.vjp(x=_vector_norm_rule)


def vector_norm(
    x: ArrayLike, /, *, axis: int | Sequence[int] | None = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """The p-norm (Σ |x|ᵖ)^{1/p} along axes (None: of all elements), p = `ord`.

    ``inf`` and ``-inf``: the largest and smallest |x|; 0: the number of elements that are not zero. At x = 0, where
    the norm has a corner, the gradient is 0; equal largest elements share it.

    >>> import anynet as an
    >>> float(an.linalg.vector_norm(an.asarray([3.0, 4.0])))
    5.0
    """
    _check_floating(x, "vector_norm")
    if isinstance(ord, bool) or not isinstance(ord, (int, float)) or ord != ord:
        msg = f"vector_norm: ord must be a number, got {ord!r}"
        raise ValueError(msg)
    where = axes_of(axis, len(x.shape))
    if ord == math.inf and 0 not in x.shape:
        return reductions.max(e.abs(x), axis=where, keepdims=keepdims)
    if ord == -math.inf:
        return reductions.min(e.abs(x), axis=where, keepdims=keepdims)
    if ord in (1, math.inf):  # the latter of an empty array: 0
        return reductions.sum(e.abs(x), axis=where, keepdims=keepdims)
    if ord == 0:
        size = e.abs(x)
        one = e.where(e.equal(size, 0), e.sign(size), 1.0)  # nan counts
        return reductions.sum(one, axis=where, keepdims=keepdims)
    y = _vector_norm(x, axis=where, ord=ord)
    return y if keepdims else squeeze(y, axis=where)


def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Tensor:
    """A norm of matrices (…, m, n): 'fro' (Σ|a|²)^{1/2}, 'nuc' Σσ, 2 and -2 the largest and smallest singular value,
    1 and -1 the largest and smallest Σ|a| of a column, inf and -inf of a row."""
    _check_matrix(x, "matrix_norm")
    _check_floating(x, "matrix_norm")
    n = len(x.shape)
    if ord in ("fro", None):
        return vector_norm(x, axis=(n - 2, n - 1), keepdims=keepdims)
    largest = {1: True, -1: False, 2: True, -2: False, math.inf: True, -math.inf: False}
    if ord == "nuc":
        y = reductions.sum(svdvals(x), axis=-1)
    elif ord not in largest:
        msg = f"matrix_norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}"
        raise ValueError(msg)
    else:
        pick: Any = reductions.max if largest[ord] else reductions.min
        if largest[ord] and 0 in x.shape[-2:]:
            pick = reductions.sum  # of nothing: 0
        if ord in (2, -2):
            y = pick(svdvals(x), axis=-1)
        else:
            y = pick(reductions.sum(e.abs(x), axis=-2 if ord in (1, -1) else -1), axis=-1)
    return expand_dims(y, axis=(-2, -1)) if keepdims else y
