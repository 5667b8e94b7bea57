"""linalg, fft, special functions, and what gives booleans and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from anynet.ops import (
    einsum,
    fft,
    incomplete,
    linalg,
    manipulation,
    reductions,
    searching,
    selection,
    special,
)
from anynet.ops import elementwise as e
from anynet.ops.creation import eye, ones_like
from anynet.ops.probability import log_probability
from anynet.tensor import Tensor
from anynet.testing.cases import Case, index


def _eye(x: Tensor) -> Tensor:
    return eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _hermitian(x: Tensor) -> Tensor:
    return x + x.mT


def _positive(x: Tensor) -> Tensor:
    return x @ x.mT + _eye(x)


def _projectors(v: Tensor) -> Tensor:
    """v vᴴ of each column: the sign of an eigenvector is the library's choice."""
    v = linalg.matrix_transpose(v)
    return manipulation.expand_dims(v, axis=-1) * manipulation.expand_dims(e.conj(v), axis=-2)


def _real(f: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """Of a complex result the real part plus the imaginary one."""

    def parts(x: Tensor) -> Tensor:
        y = f(x)
        return e.real(y) + e.imag(y)

    return parts


def _counted(f: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """A result of booleans or integers times the input, so that there is a gradient to compare."""
    return lambda x: manipulation.astype(f(x), x.dtype) * reductions.sum(x)


def _svd(x: Tensor) -> Tensor:
    u, s, vh = linalg.svd(x, full_matrices=False)
    return u @ (manipulation.expand_dims(s * s, axis=-1) * vh)  # type: ignore[no-any-return]


def _qr(x: Tensor) -> Tensor:
    q, r = linalg.qr(x)
    return q * e.sign(linalg.diagonal(r))  # type: ignore[no-any-return]


def _eig(x: Tensor) -> Tensor:
    w, v = linalg.eig(x)
    return reductions.sum(_projectors(v) * manipulation.expand_dims(w * w, axis=(1, 2)), axis=0)


def _applied(name: str, arguments: Callable[[Tensor], tuple[Any, ...]]) -> Callable[[Tensor], Any]:
    return lambda x: getattr(e, name)(*arguments(x))


def _set(x: Tensor) -> Tensor:
    y = x * 1.0
    y[1:, ::2] = x[:-1, 1::2] * 3.0
    return y


def _linalg() -> Iterable[Case]:
    square = ((3, 3),)
    yield Case("linalg.inv", lambda x: linalg.inv(_positive(x)), square)
    yield Case("linalg.solve", lambda x, b: linalg.solve(_positive(x), b), ((3, 3), (3, 2)))
    yield Case("linalg.det", linalg.det, square)
    yield Case("linalg.slogdet", lambda x: linalg.slogdet(_positive(x)).logabsdet, square)
    yield Case("linalg.cholesky", lambda x: linalg.cholesky(_positive(x)), square)
    yield Case("linalg.qr", _qr, ((4, 3),))
    yield Case("linalg.eigvalsh", lambda x: linalg.eigvalsh(_hermitian(x)), square)
    yield Case("linalg.eigh", lambda x: _projectors(linalg.eigh(_hermitian(x)).eigenvectors), square)
    yield Case("linalg.eigvals", _real(lambda x: reductions.sum(linalg.eigvals(x) ** 3)), square)
    yield Case("linalg.eig", _real(_eig), square)
    yield Case("linalg.svd", _svd, ((4, 3),))
    yield Case("linalg.svdvals", linalg.svdvals, ((3, 4),))
    yield Case("linalg.pinv", linalg.pinv, ((4, 3),))
    yield Case("linalg.matrix_power", lambda x: linalg.matrix_power(x, 3), square)
    yield Case("linalg.matrix_norm", lambda x: linalg.matrix_norm(x, ord="nuc"), ((3, 4),))
    yield Case("linalg.vector_norm", lambda x: linalg.vector_norm(x, axis=1, ord=3), ((3, 4),))
    yield Case("linalg.diagonal", lambda x: linalg.diagonal(x, offset=1), ((2, 3, 4),))
    yield Case("linalg.cross", linalg.cross, ((4, 3), (3,)))
    yield Case("linalg.matrix_rank", _counted(linalg.matrix_rank), ((3, 4),))
    for name in ("fft", "ifft", "rfft", "ihfft"):
        yield Case(f"fft.{name}", _real(getattr(fft, name)), ((3, 5),))
    yield Case("fft.irfft", lambda x: fft.irfft(fft.rfft(x) ** 2, n=5), ((3, 5),))
    yield Case("fft.hfft", lambda x: fft.hfft(x, n=7), ((3, 5),))
    yield Case("conj, imag", lambda x: e.imag(e.conj(fft.fft(x)) * x), ((4,),))


def _special() -> Iterable[Case]:
    for name in ("erfc", "ndtr", "log_ndtr", "log_expit", "sinc"):
        yield Case(name, getattr(special, name), ((3, 4),))
    yield Case("erfinv", special.erfinv, ((3, 4),), -0.9, 0.9)
    for name in ("logit", "ndtri"):
        yield Case(name, getattr(special, name), ((3, 4),), 0.05, 0.95)
    yield Case("log_probability", log_probability, ((3, 4),), 0.1, 1.0)
    for name in ("cbrt", "entr", "gammaln", "gamma_rest", "digamma"):
        yield Case(name, getattr(special, name), ((3, 4),), 0.2, 3.0)
    for name in ("xlogy", "xlog1py", "rel_entr", "betaln"):
        yield Case(name, getattr(special, name), ((3, 4), (4,)), 0.2, 3.0)
    yield Case("multiply_add", special.multiply_add, ((3, 4), (4,), (3, 1)))
    yield Case("log1p_less", incomplete.log1p_less, ((3, 4),), -0.8, 2.0)
    for name in ("gammainc", "gammaincc"):
        yield Case(name, getattr(incomplete, f"_{name}"), ((3,), (3,)), 0.2, 3.0)
    yield Case("betainc", incomplete._betainc, ((3,), (3,), (3,)), 0.2, 0.9)
    yield Case("sampled_gamma", incomplete.sampled_gamma, ((3,), (3,)), 0.2, 3.0, steps=True)
    yield Case("sampled_dirichlet", incomplete.sampled_dirichlet, ((2, 3), (2, 3)), 0.2, 0.9, steps=True)
    yield Case("sampled_beta", incomplete.sampled_beta, ((3,), (3,), (3,)), 0.2, 0.9, steps=True)


def _positions() -> Iterable[Case]:
    for name in ("argmax", "argmin", "count_nonzero", "all", "any"):
        yield Case(name, _counted(getattr(reductions, name)), ((3, 4),), second_order=False)
    yield Case("argsort", _counted(searching.argsort), ((3, 4),), second_order=False)
    yield Case("sort", searching.sort, ((3, 4),), second_order=False)
    yield Case("searchsorted", _counted(lambda x: searching.searchsorted(searching.sort(x), x)), ((5,),))
    yield Case(
        "isin", _counted(lambda x: searching.isin(index(x, [1, 2, 3, 4, 5]), index(x, [2, 5]))), ((5,),)
    )
    for name in ("isfinite", "isinf", "isnan", "signbit"):
        yield Case(name, _counted(getattr(e, name)), ((3, 4),))
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        yield Case(name, _counted(_applied(name, lambda x: (x, x[:1, ...]))), ((3, 4),))
    for name in ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"):
        yield Case(name, _counted(_applied(name, lambda x: (e.less(x, 1.0), e.greater(x, -1.0)))), ((3, 4),))
    for name in ("logical_not", "bitwise_invert"):
        yield Case(name, _counted(_applied(name, lambda x: (e.less(x, 0.0),))), ((3, 4),))
    for name in ("bitwise_left_shift", "bitwise_right_shift"):
        yield Case(name, _counted(_applied(name, lambda x: (index(x, [5, 9]), index(x, [1, 2])))), ((2,),))
    yield Case(
        "nextafter", lambda x: e.nextafter(ones_like(x), x.detach() * 0.0) * x, ((3, 4),), second_order=False
    )
    yield Case("setitem", _set, ((3, 4),), second_order=False)


def _selection() -> Iterable[Case]:
    yield Case(
        "einsum",
        lambda a, b, c: einsum.einsum("bij,jk,...kk->...bi", a, b, c),
        ((2, 3, 4), (4, 3), (2, 3, 3)),
    )
    yield Case("topk", lambda x: selection.topk(x, 2, axis=0).values, ((3, 4),), second_order=False)
    at = [[0, 2, 1], [2, 0, 0]]
    once = [[0, 2, 1], [1, 0, 2]]
    yield Case("gather", lambda x: selection.gather(x, index(x, at), axis=1), ((2, 3),), second_order=False)
    yield Case(
        "scatter",
        lambda x, v: selection.scatter(x, index(x, once), v, axis=1),
        ((2, 3), (2, 3)),
        second_order=False,
    )
    yield Case(
        "scatter_add",
        lambda x, v: selection.scatter_add(x, index(x, at), v, axis=1),
        ((2, 3), (2, 3)),
        second_order=False,
    )
    yield Case("bincount", lambda w: selection.bincount(index(w, [1, 3, 1]), w), ((3,),), second_order=False)
    yield Case("diag", lambda x: selection.diag(x, offset=1), ((3,),), second_order=False)
    yield Case(
        "sliding_windows", lambda x: selection.sliding_windows(x, 3, axis=0), ((5, 2),), second_order=False
    )


CASES: tuple[Case, ...] = (*_linalg(), *_special(), *_positions(), *_selection())
