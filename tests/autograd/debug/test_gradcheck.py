"""gradcheck finds wrong gradients, and says which."""

import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import GradcheckError, gradcheck, gradgradcheck


def var(x, dtype=an.float64):
    return an.asarray(x, dtype=dtype, requires_grad=True)


def test_right():
    x, w = var([[0.5, 2.0], [3.0, 4.0]]), var([[1.0, 2.0], [0.3, -1.0]])
    f = lambda x, w: {"a": an.tanh(x @ w), "b": (an.sum(x) * w,)}  # noqa: E731
    assert gradcheck(f, (x, w))
    assert gradgradcheck(f, (x, w))
    assert gradcheck(lambda x: x @ w, x, parameters={"w": w})


def test_complex():
    z = var([0.5 + 1j, -2.0 + 0.3j], an.complex128)
    f = lambda z: (an.exp(z) * an.conj(z), an.abs(z), an.real(z * z))  # noqa: E731
    assert gradcheck(f, z)
    assert gradgradcheck(f, z)


def test_wrong_is_named():
    x, y = var([1.0, 2.0]), var([[1.0, 2.0], [3.0, 4.0]])

    def f(x, y):
        return x * y + an.where(an.asarray([[False, False], [True, False]]), (y * y).detach(), 0.0)

    with pytest.raises(
        GradcheckError, match=r"input 1\[1, 0\]: got .*, expected .*finite difference.*1 of 4"
    ):
        gradcheck(f, (x, y))
    assert not gradcheck(f, (x, y), raise_exception=False)
    assert x.tolist() == [1.0, 2.0]


def test_unfit():
    with pytest.raises(ValueError, match="float64 or complex128"):
        gradcheck(an.exp, an.asarray([1.0], requires_grad=True))
    with pytest.raises(ValueError, match="no input requires a gradient"):
        gradcheck(an.exp, an.asarray([1.0]))
    with pytest.raises(TypeError, match="must return floating-point Tensors"):
        gradcheck(lambda x: 3, var([1.0]))
    calls = []

    def moody(x):
        calls.append(1)
        return x * len(calls)

    with pytest.raises(ValueError, match="deterministic"):
        gradcheck(moody, var([1.0]))
