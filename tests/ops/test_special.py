"""anynet.special against SciPy, and its gradients to second order."""

import math

import numpy as np
import pytest

import anynet as an
from anynet_backends import philox, registry

S = an.special
GRID = {
    "all": [
        -30.0,
        -6.1,
        -4.0,
        -1.3,
        -0.5,
        -0.46,
        -1e-3,
        0.0,
        1e-8,
        0.3,
        0.469,
        0.9,
        2.5,
        4.1,
        5.9,
        8.0,
        26.0,
    ],
    "positive": [1e-8, 1e-3, 0.3, 0.5, 1.0, 1.5, 2.0, 3.7, 11.9, 12.1, 40.0, 170.5, 1e6],
    "probability": [1e-300, 1e-12, 0.01, 0.07, 0.1, 0.4999, 0.5, 0.7, 0.925, 0.99, 1 - 1e-12],
    "both": [-40.3, -3.5, -2.2, -0.3, 0.4, 1.0, 3.2, 14.0],
    "centred": [-0.999, -0.5, -1e-5, 0.0, 0.2, 0.9, 0.999999],
}
ONE = {
    "erf": "all", "erfc": "all", "ndtr": "all", "log_ndtr": "all", "ndtri": "probability", "erfinv": "centred",
    "erfcinv": "positive", "expit": "all", "log_expit": "all", "logit": "probability", "entr": "positive",
    "gammaln": "both", "digamma": "both", "psi": "positive", "exp2": "all", "sinc": "all", "cbrt": "all",
}  # fmt: skip
TWO = ("xlogy", "xlog1py", "rel_entr", "kl_div", "betaln")


def close(a, b, limit=4e-14):
    a, b = registry.asarray(a), registry.asarray(b)
    assert ((a == b) | (abs(a - b) <= limit * (1 + abs(b)))).all(), (a, b)


@pytest.mark.parametrize("name", ONE)
def test_values_of_one(name):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    values = [v for v in GRID[ONE[name]] if name != "erfcinv" or v < 2]
    y = getattr(S, name)(an.Tensor(registry.asarray(values)))
    assert y.dtype == an.float64
    close(y.numpy(), getattr(special, name)(registry.asarray(values)))
    assert getattr(S, name)(an.asarray([0.2, 0.7])).dtype == an.float32


@pytest.mark.parametrize("name", TWO)
def test_values_of_two(name):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = registry.asarray([0.0, 1e-8, 0.3, 1.0, 2.5, 11.0])
    y = x[1:, None]
    close(getattr(S, name)(an.Tensor(x[1:]), an.Tensor(y)).numpy(), getattr(special, name)(x[1:], y))
    if name != "betaln":
        close(getattr(S, name)(an.Tensor(x), an.Tensor(x)).numpy(), getattr(special, name)(x, x))


def test_tails_keep_their_relative_precision():
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = registry.asarray([1.0, 3.0, 6.0, 12.0, 20.0, 26.0])
    for name, v in (("erfc", x), ("ndtr", -x), ("log_ndtr", -10 * x), ("log_ndtr", x / 4)):
        y, expected = getattr(S, name)(an.Tensor(v)).numpy(), getattr(special, name)(v)
        assert (abs(y - expected) <= 2e-13 * abs(expected)).all(), name


def test_polygamma():
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = registry.asarray([0.05, 0.5, 1.0, 3.3, 20.0, 300.0])
    for n in range(6):
        y = S.polygamma(n, an.Tensor(x)).numpy()
        assert (abs(y - special.polygamma(n, x)) <= 1e-12 * abs(special.polygamma(n, x)) + 1e-15).all()
    close(S.multigammaln(an.Tensor(x + 3), 4).numpy(), special.multigammaln(x + 3, 4))


def test_special_points():
    x = an.asarray([math.inf, -math.inf, math.nan], dtype=an.float64)
    assert S.erf(x).numpy()[:2].tolist() == [1.0, -1.0]
    assert S.erfc(x).numpy()[:2].tolist() == [0.0, 2.0]
    assert S.ndtri(an.asarray([0.0, 1.0])).numpy().tolist() == [-math.inf, math.inf]
    assert math.isnan(S.ndtri(an.asarray([1.5])).numpy()[0])
    assert S.gammaln(an.asarray([0.0, -2.0, 1.0, 2.0])).numpy().tolist()[:2] == [math.inf, math.inf]
    assert S.entr(an.asarray([0.0, -1.0])).numpy().tolist() == [0.0, -math.inf]
    assert S.xlogy(an.zeros(1), an.zeros(1)).numpy().tolist() == [0.0]
    for f in (S.erf, S.erfc, S.entr):
        assert math.isnan(f(x).numpy()[2])


SMOOTH = {"all": (-2.1, 2.3), "positive": (0.2, 3.0), "probability": (0.05, 0.95), "both": (-0.9, -0.1),
          "centred": (-0.9, 0.9)}  # fmt: skip


@pytest.mark.parametrize("name", [*ONE, *TWO, "polygamma", "multigammaln"])
def test_gradients(name):
    low, high = SMOOTH[ONE.get(name, "positive")]
    if name in ("cbrt", "erfcinv"):
        low, high = 0.2, 1.8
    n = 2 if name in TWO else 1
    inputs = tuple(an.Tensor(philox.uniform(3, 1, i, (5,), low, high), requires_grad=True) for i in range(n))
    f = getattr(S, name)
    if name == "polygamma":
        assert an.gradgradcheck(lambda x: S.polygamma(2, x), inputs)
        f = lambda x: S.polygamma(1, x)  # noqa: E731
    elif name == "multigammaln":
        f = lambda x: S.multigammaln(x + 2, 3)  # noqa: E731
    assert an.gradcheck(f, inputs)
    assert an.gradgradcheck(f, inputs)


def test_derivatives_of_sinc_at_zero():
    x = an.Tensor(registry.asarray([0.0, 1e-3]), requires_grad=True)
    assert an.gradcheck(S.sinc, x)
    assert an.gradgradcheck(S.sinc, x)


@pytest.mark.parametrize("call", [lambda: S.polygamma(-1, an.ones(2)), lambda: S.multigammaln(an.ones(2), 0)])
def test_bad_input(call):
    with pytest.raises(ValueError, match="must be an integer"):
        call()


HALVES = {
    "cbrt": (27.0, 3.0), "erf": (0.5, math.erf(0.5)), "erfc": (2.0, math.erfc(2.0)), "erfinv": (0.5, 0.4769362762044699),
    "erfcinv": (0.3, 0.7328690779592166), "ndtri": (0.3, -0.5244005127080409), "log_ndtr": (-20.0, -203.9171553710),
    "gammaln": (50.0, math.lgamma(50.0)), "digamma": (-0.5, 0.03648997397857652), "logit": (0.25, math.log(1 / 3)),
    "entr": (8.0, -8 * math.log(8)), "expit": (1.0, 1 / (1 + math.exp(-1))),
}  # fmt: skip


@pytest.mark.parametrize("name", HALVES)
def test_halves_have_the_range_of_float32_inside(name):
    x, expected = HALVES[name]
    y = getattr(an.special, name)(an.asarray(np.array([x], dtype="float16")))
    assert y.dtype.name == "float16"
    np.testing.assert_allclose(y.numpy(), [expected], rtol=2e-3)


@pytest.mark.parametrize("kind", ["bool", "int64"])
def test_integers_are_taken_as_floats(kind):
    x = an.asarray(np.array([1, 1], dtype=kind))
    for got, expected in (
        (an.special.xlogy(x, 2.5), math.log(2.5)),  # not the 2 or True that fits into x
        (an.special.xlog1py(x, 0.5), math.log(1.5)),
        (an.special.rel_entr(x, 0.5), math.log(2)),
        (an.special.kl_div(x, 0.5), math.log(2) - 0.5),
        (an.special.gammaln(x), 0.0),
        (an.special.entr(x), 0.0),
        (an.special.polygamma(1, x), math.pi**2 / 6),
        (an.special.betaln(x, 2), -math.log(2)),
        (an.special.logsumexp(x), 1 + math.log(2)),
    ):
        assert got.dtype == an.float64
        np.testing.assert_allclose(got.numpy(), np.broadcast_to(expected, got.shape), rtol=1e-14, atol=3e-15)


def test_complex_numbers_are_refused():
    z = an.asarray([1 + 2j])
    for name in ("erf", "erfc", "ndtr", "gammaln", "digamma", "entr", "logit", "cbrt"):
        with pytest.raises(TypeError, match="must be real, got complex"):
            getattr(an.special, name)(z)


def test_polygamma_left_of_0_against_its_series():
    x = np.array([-0.3, -1.7, -6.5])
    k = np.arange(200_000)[:, None]
    for n in (1, 2, 3):
        terms = (-1) ** (n + 1) * math.factorial(n) * (1 / (x + k) ** (n + 1)).sum(0)
        np.testing.assert_allclose(an.special.polygamma(n, an.asarray(x)).numpy(), terms, rtol=1e-4)
    sum_of_sides = an.special.digamma(an.asarray(1 - x)).numpy() - an.special.digamma(an.asarray(x)).numpy()
    np.testing.assert_allclose(sum_of_sides, math.pi / np.tan(math.pi * x), rtol=1e-13, atol=1e-14)
    assert an.gradcheck(lambda x: an.special.polygamma(2, x), an.asarray(x, requires_grad=True))


def test_betaln_of_large_arguments():
    a, b = np.array([1e30, 1e300, 20.0, 0.5]), np.array([2.0, 1.0, 30.0, 1e8])
    got = an.special.betaln(an.asarray(a), an.asarray(b)).numpy()
    # B(x, 1) = 1/x, B(x, 2) = 1/(x (x + 1)); B(20, 30) from factorials; B(½, y) = Γ(½) y^{−½} (1 + 1/(8 y) + …)
    exact = math.log(math.factorial(19) * math.factorial(29) / math.factorial(49))
    expected = [-2 * math.log(1e30), -math.log(1e300), exact, 0.5 * math.log(math.pi / 1e8) + 1 / 8e8]
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert an.special.betaln(an.asarray([1.0]), 2).dtype == an.float32


def test_log_ndtr_keeps_its_slope_far_left():
    x = an.asarray(np.array([-1e4, -1e8, -1e12]))
    slopes = an.grad(lambda x: an.sum(an.special.log_ndtr(x)))(x).numpy()
    np.testing.assert_allclose(slopes, [1e4 + 1e-4, 1e8, 1e12], rtol=1e-14)
    narrow = an.grad(lambda x: an.sum(an.special.log_ndtr(x)))(an.asarray([-1e4])).numpy()
    np.testing.assert_allclose(narrow, [1e4], rtol=1e-6)
