"""Element-wise functions: values and gradients at ordinary and special points."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an

SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, -1.0, 2.0, -2.5, 1e-30, 3e15, -7.25]
EXPONENTS = [0, 1, 2, 3, 4, 5, 7, -1, -2, -3, -4, 0.5, -0.5, 1.5, 2.5, -1.5, 2.0, -3.0]
PRODUCTS = [p for p in EXPONENTS if p in (0.5, -0.5, 2, 3, -1, -2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_of_special_numbers(xp_device, dtype, exponent):
    """As IEEE 754's pow: signs of zeros and infinities too; of −∞ the root is NaN, as in PyTorch and NumPy."""
    got = an.asarray(SPECIAL, dtype=dtype, device=xp_device) ** exponent
    want = np.power(np.asarray(SPECIAL, dtype), np.full(len(SPECIAL), exponent, dtype))
    if abs(exponent) == 0.5:
        want[3] = math.nan
    assert got.dtype == an.dtypes.of(dtype)
    np.testing.assert_allclose(got.numpy(), want, rtol=4 * np.finfo(dtype).eps)
    assert (np.signbit(got.numpy()) == np.signbit(want))[~np.isnan(want)].all()


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradients_of_powers(exponent):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    points = [v for v in SPECIAL if not (abs(exponent) % 1 and v in (0.0, -math.inf))]  # torch's √−0 is −0
    x = an.asarray(points, requires_grad=True)
    t = torch.tensor(points, requires_grad=True)
    y, u = x**exponent, t**exponent
    an.sum(y).backward()
    u.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-6)
    if exponent in PRODUCTS:  # and rounded alike
        np.testing.assert_array_equal(y.numpy(), u.detach().numpy())
        np.testing.assert_array_equal(x.grad.numpy(), t.grad.numpy())


def summed_gradient(f):
    return lambda x: an.sum(an.grad(f)(x))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_orders_of_powers(exponent):
    x = an.asarray([0.5, 1.25, 3.0], dtype="float64")
    f, factor = (lambda x: an.sum(x**exponent)), 1.0
    for order in range(1, 4):
        f = summed_gradient(f)
        factor *= exponent - order + 1
        want = factor * x.numpy() ** (exponent - order)
        assert f(x).item() == pytest.approx(want.sum(), rel=1e-12, abs=1e-12)


def test_powers_are_the_same_bits_on_every_path():
    values = np.random.default_rng(0).normal(size=(8, 33)).astype(np.float32)
    for exponent in PRODUCTS:

        def step(x, p=exponent):
            y = an.abs(x) ** p
            return y, an.grad(lambda x: an.sum(an.abs(x) ** p))(x)

        x = an.asarray(values)
        first = [a.numpy() for a in step(x)]
        for _ in range(40):  # a built-in function by then
            again = [a.numpy() for a in step(x)]
        compiled = an.compile(step)
        compiled(x)
        for a, b, c in zip(first, again, compiled(x), strict=True):
            assert a.tobytes() == b.tobytes() == c.numpy().tobytes()


def test_powers_of_other_kinds():
    assert (an.asarray([3, -2]) ** 3).tolist() == [27, -8]
    assert (an.asarray([3, -2]) ** 2).dtype == an.int64
    assert (an.asarray([2.0, 3.0]) ** True).tolist() == [2.0, 3.0]
    assert (2.0 ** an.asarray([3.0, -1.0])).tolist() == [8.0, 0.5]
    z = an.asarray([1 + 2j], dtype="complex128")
    np.testing.assert_allclose((z**2).numpy(), [-3 + 4j])
    assert (an.asarray([2.0], dtype="float16") ** 3).dtype == an.dtypes.of("float16")
    assert an.pow(np.asarray([2.0, 4.0], np.float32), 0.5).dtype == np.float32  # arrays give arrays
