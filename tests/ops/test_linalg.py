"""linalg: values, gradients to second order, real and complex; torch's gradients; what has none raises."""

import math

import pytest

import anynet as an
from anynet_backends import philox, registry

L = an.linalg


def _matrix(seed, shape, kind):
    real = philox.normal(seed, 1, 0, shape)
    return real if kind == "real" else real + 1j * philox.normal(seed, 2, 0, shape)


def _input(seed, shape, kind):
    return an.Tensor(_matrix(seed, shape, kind), requires_grad=True)


def leaf(x):
    return an.Tensor(x, requires_grad=True)


def H(x):
    return an.conj(x.mT)


def hermitian(x):
    return (x + H(x)) * 0.5


def positive(x):
    return x @ H(x) + an.eye(x.shape[-1], dtype=x.dtype)


def projector(v):
    """Per vector v vᴴ, which does not depend on the phase."""
    return an.expand_dims(v.mT, axis=-1) @ an.expand_dims(an.conj(v.mT), axis=-2)


def _parts(x):
    return an.real(x), (an.imag(x) if an.isdtype(x.dtype, "complex floating") else an.real(x))


FUNCTIONS = {
    "inv": (L.inv, [(2, 3, 3)]),
    "solve": (L.solve, [(2, 3, 3), (3, 2)]),
    "solve, a vector": (L.solve, [(2, 3, 3), (3,)]),
    "det": (L.det, [(2, 3, 3)]),
    "det of 1 by 1": (L.det, [(1, 1)]),
    "slogdet": (lambda x: tuple(L.slogdet(x)), [(2, 3, 3)]),
    "cholesky": (lambda x: L.cholesky(positive(x)), [(2, 3, 3)]),
    "cholesky, upper": (lambda x: L.cholesky(positive(x), upper=True), [(3, 3)]),
    "qr, tall": (lambda x: tuple(L.qr(x)), [(4, 3)]),
    "qr, square": (lambda x: tuple(L.qr(x, mode="complete")), [(2, 3, 3)]),
    "qr, wide": (lambda x: tuple(L.qr(x)), [(3, 5)]),
    "eigh": (lambda x: (L.eigh(hermitian(x))[0], projector(L.eigh(hermitian(x))[1])), [(2, 3, 3)]),
    "eigvalsh": (lambda x: L.eigvalsh(hermitian(x)), [(2, 3, 3)]),
    "eig": (lambda x: (L.eig(x)[0], projector(L.eig(x)[1])), [(3, 3)]),
    "eigvals": (L.eigvals, [(2, 3, 3)]),
    "svd, tall": (lambda x: _svd(x), [(4, 3)]),
    "svd, square": (lambda x: _svd(x, full_matrices=True), [(3, 3)]),
    "svd, wide": (lambda x: _svd(x), [(2, 3, 4)]),
    "svdvals": (L.svdvals, [(2, 4, 3)]),
    "pinv, tall": (L.pinv, [(4, 3)]),
    "pinv, wide": (L.pinv, [(2, 2, 3)]),
    "matrix_power": (lambda x: L.matrix_power(x, 5), [(3, 3)]),
    "matrix_power, negative": (lambda x: L.matrix_power(x, -2), [(3, 3)]),
    "cross": (L.cross, [(2, 3), (3,)]),
    "outer": (L.outer, [(3,), (4,)]),
    "diagonal": (lambda x: L.diagonal(x, offset=-1), [(2, 4, 3)]),
    "trace": (lambda x: L.trace(x, offset=1), [(2, 3, 4)]),
    "vector_norm": (L.vector_norm, [(3, 4)]),
    "vector_norm, p = 3": (lambda x: L.vector_norm(x, axis=0, ord=3), [(3, 4)]),
    "vector_norm, p = -2.5": (lambda x: L.vector_norm(x, axis=(0, 1), ord=-2.5, keepdims=True), [(3, 4)]),
    "vector_norm, 1": (lambda x: L.vector_norm(x, axis=1, ord=1), [(3, 4)]),
    "vector_norm, inf": (lambda x: L.vector_norm(x, axis=1, ord=math.inf), [(3, 4)]),
    "vector_norm, -inf": (lambda x: L.vector_norm(x, axis=1, ord=-math.inf), [(3, 4)]),
    **{f"matrix_norm, {o}": (lambda x, o=o: L.matrix_norm(x, ord=o), [(2, 3, 4)])
       for o in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)},
    "matmul": (L.matmul, [(2, 3, 4), (4, 2)]),
    "vecdot": (L.vecdot, [(3, 4), (4,)]),
    "tensordot": (L.tensordot, [(2, 3, 4), (3, 4, 2)]),
    "matrix_transpose": (L.matrix_transpose, [(2, 3, 4)]),
}  # fmt: skip


def _svd(x, full_matrices=False):
    u, s, vh = L.svd(x, full_matrices=full_matrices)
    pairs = an.expand_dims(u.mT, axis=-1) @ an.expand_dims(vh, axis=-2)  # u_k v_kᴴ: no phase is left
    return s, pairs, projector(H(vh))


LINEAR = {"diagonal", "trace", "matrix_transpose", "vector_norm, 1"}


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name, kind):
    f, shapes = FUNCTIONS[name]
    inputs = tuple(_input(3 + i, s, kind) for i, s in enumerate(shapes))
    assert an.gradcheck(f, inputs)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in LINEAR])
def test_second_order(name, kind):
    f, shapes = FUNCTIONS[name]
    if kind == "real" and name in ("vector_norm, inf", "vector_norm, -inf", "matrix_norm, 1", "matrix_norm, -1",
                                   "matrix_norm, inf", "matrix_norm, -inf"):  # fmt: skip
        pytest.skip("piecewise linear in real numbers")
    inputs = tuple(_input(3 + i, s, kind) for i, s in enumerate(shapes))
    assert an.gradgradcheck(f, inputs)


def test_every_function_is_covered():
    from anynet_backends.array_api import LINALG

    covered = {n.split(",")[0].split(" ")[0] for n in FUNCTIONS} | {"matrix_rank"}
    assert covered == set(LINALG)
    assert set(L.__all__) == set(LINALG)


TORCH = {
    "inv": lambda t, x: t.linalg.inv(x),
    "det": lambda t, x: t.linalg.det(x),
    "slogdet": lambda t, x: tuple(t.linalg.slogdet(x)),
    "qr, tall": lambda t, x: tuple(t.linalg.qr(x)),
    "qr, wide": lambda t, x: tuple(t.linalg.qr(x)),
    "eigvals": lambda t, x: t.linalg.eigvals(x),
    "svdvals": lambda t, x: t.linalg.svdvals(x),
    "pinv, tall": lambda t, x: t.linalg.pinv(x),
    "vector_norm, p = 3": lambda t, x: t.linalg.vector_norm(x, 3, dim=0),
    "matrix_norm, nuc": lambda t, x: t.linalg.matrix_norm(x, "nuc"),
}


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("name", TORCH)
def test_as_torch(name, kind):
    torch = pytest.importorskip("torch", reason="the oracle, pip install torch==2.13.0")
    f, [shape] = FUNCTIONS[name]
    value = _matrix(5, shape, kind)
    x, tx = an.Tensor(value, requires_grad=True), torch.tensor(value, requires_grad=True)
    ys, tys = f(x), TORCH[name](torch, tx)
    ys, tys = (y if isinstance(y, tuple) else (y,) for y in (ys, tys))
    total, expected = 0.0, 0.0
    for i, (y, ty) in enumerate(zip(ys, tys, strict=True)):
        assert y.shape == tuple(ty.shape)
        if name == "eigvals":  # in no particular order
            y, ty = y**2, ty**2
            w = registry.asarray(1.0)
        else:
            assert abs(y.numpy() - ty.detach().numpy()).max() < 1e-12
            w = philox.uniform(9, 9, i, tuple(y.shape), 0.5, 1.5)
        total = total + an.sum(an.real(y * an.Tensor(w, dtype=y.dtype)))
        expected = expected + (ty * torch.tensor(w)).real.sum()
    total.backward()
    expected.backward()
    assert abs(x.grad.numpy() - tx.grad.numpy()).max() < 1e-10


def test_the_gradient_of_a_singular_determinant():
    x = an.asarray([[1.0, 2.0], [2.0, 4.0]], dtype=an.float64, requires_grad=True)
    L.det(x).backward()
    assert abs(x.grad.numpy() - [[4.0, -2.0], [-2.0, 1.0]]).max() < 1e-14
    zero = leaf(an.zeros((3, 3), dtype=an.float64))
    L.det(zero).backward()
    assert not zero.grad.numpy().any()


def test_gradients_of_hermitian_functions_are_hermitian():
    for f in (L.cholesky, L.eigvalsh, lambda a: projector(L.eigh(a)[1])):
        a = an.Tensor((positive(_input(4, (3, 3), "complex"))).detach(), requires_grad=True)
        an.sum(an.real(f(a) * an.Tensor([2.0, 3.0, 5.0], dtype=an.float64))).backward()
        assert abs(a.grad.numpy() - a.grad.numpy().conj().T).max() < 1e-13


def test_what_has_no_gradient_raises():
    x = _input(1, (4, 3), "real")
    with pytest.raises(an.GradientError, match="full_matrices=False"):
        an.sum(L.svd(x)[0]).backward()
    with pytest.raises(an.GradientError, match="mode='reduced'"):
        an.sum(L.qr(x, mode="complete").Q).backward()
    rank = L.matrix_rank(x)
    assert int(rank) == 3
    assert not rank.requires_grad


def test_a_multiple_eigenvalue_has_a_gradient_but_not_its_vectors():
    x = leaf(an.eye(3, dtype=an.float64))
    an.sum(L.eigh(x)[0]).backward()
    assert (x.grad.numpy() == registry.asarray([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])).all()
    x = leaf(an.eye(3, dtype=an.float64))
    weights = an.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]], dtype=an.float64)
    an.sum(L.eigh(x)[1] * weights).backward()
    assert an.any(an.isnan(x.grad))


def test_norm_at_the_origin():
    x = leaf(an.zeros((3,), dtype=an.float64))
    (L.vector_norm(x) + L.vector_norm(x, ord=3)).backward()
    assert not x.grad.numpy().any()


def test_matrix_power_zero_of_infinities():
    assert (L.matrix_power(an.full((2, 2), an.inf), 0).numpy() == [[1, 0], [0, 1]]).all()


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0), (0, 0)])
def test_nothing(shape):
    for f in (L.inv, L.det, lambda x: L.eigvalsh(x), lambda x: L.svd(x)[1], lambda x: L.cholesky(x)):
        x = (
            an.zeros(shape, dtype=an.float64)
            if shape[0] == 2 or shape == (0, 0)
            else an.ones(shape, dtype=an.float64)
        )
        x.requires_grad = True
        an.sum(f(x)).backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: L.inv(an.ones((2, 3))), "square matrices"),
        (lambda: L.solve(an.eye(3), an.ones(2)), "length 3 for matrices .* got 2"),
        (lambda: L.solve(an.eye(3), an.ones((2, 2))), "right-hand side"),
        (lambda: L.qr(an.eye(3), mode="r"), "'reduced' or 'complete'"),
        (lambda: L.matrix_norm(an.eye(3), ord=3), "ord must be"),
        (lambda: L.matrix_power(an.eye(3), 2.0), "integer"),
        (lambda: L.cross(an.ones(2), an.ones(3)), "3 elements"),
        (lambda: L.outer(an.ones((2, 2)), an.ones(3)), "must be vectors"),
        (lambda: L.vector_norm(an.asarray([1, 2])), "floating-point"),
        (lambda: L.svdvals(an.ones(3)), "must be matrices"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_vmap_of_stacks():
    x = _input(2, (4, 3, 3), "real")
    b = _input(3, (3, 2), "real")
    for f in (
        L.inv,
        L.det,
        lambda a: L.svd(a)[1],
        lambda a: L.solve(a, b),
        L.trace,
        lambda a: L.diagonal(a, offset=1),
    ):
        assert abs(an.vmap(f)(x).numpy() - f(x).numpy()).max() < 1e-12
    gradient = an.vmap(an.grad(lambda a: L.slogdet(a)[1]))(x)
    assert abs(gradient.numpy() - L.inv(x).mT.numpy()).max() < 1e-10


def test_norms_of_nothing_and_of_integers():
    empty = an.zeros((0, 3), dtype=an.float64)
    assert an.linalg.vector_norm(empty, ord=math.inf).item() == 0
    assert an.linalg.matrix_norm(empty, ord=2).item() == 0
    assert an.linalg.matrix_norm(empty, ord=1).item() == 0
    for ord in ("fro", 1, math.inf):
        with pytest.raises(TypeError, match="floating-point dtype, got int64"):
            an.linalg.matrix_norm(an.asarray([[1, 2]]), ord=ord)
    for ord in (math.nan, "fro", True):
        with pytest.raises(ValueError, match="ord must be a number"):
            an.linalg.vector_norm(an.ones(2), ord=ord)
