"""anynet.special against SciPy, and its gradients to second order."""

import math

import pytest

import anynet as an
from anynet_backends import host

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
    a, b = host.asarray(a), host.asarray(b)
    assert ((a == b) | (abs(a - b) <= limit * (1 + abs(b)))).all(), (a, b)


@pytest.mark.parametrize("name", ONE)
def test_values_of_one(name):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    values = [v for v in GRID[ONE[name]] if name != "erfcinv" or v < 2]
    y = getattr(S, name)(an.Tensor(host.asarray(values)))
    assert y.dtype == an.float64
    close(y.numpy(), getattr(special, name)(host.asarray(values)))
    assert getattr(S, name)(an.asarray([0.2, 0.7])).dtype == an.float32


@pytest.mark.parametrize("name", TWO)
def test_values_of_two(name):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = host.asarray([0.0, 1e-8, 0.3, 1.0, 2.5, 11.0])
    y = x[1:, None]
    close(getattr(S, name)(an.Tensor(x[1:]), an.Tensor(y)).numpy(), getattr(special, name)(x[1:], y))
    if name != "betaln":
        close(getattr(S, name)(an.Tensor(x), an.Tensor(x)).numpy(), getattr(special, name)(x, x))


def test_tails_keep_their_relative_precision():
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = host.asarray([1.0, 3.0, 6.0, 12.0, 20.0, 26.0])
    for name, v in (("erfc", x), ("ndtr", -x), ("log_ndtr", -10 * x), ("log_ndtr", x / 4)):
        y, expected = getattr(S, name)(an.Tensor(v)).numpy(), getattr(special, name)(v)
        assert (abs(y - expected) <= 2e-13 * abs(expected)).all(), name


def test_polygamma():
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    x = host.asarray([0.05, 0.5, 1.0, 3.3, 20.0, 300.0])
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
    inputs = tuple(an.Tensor(host.uniform(3, 1, i, (5,), low, high), requires_grad=True) for i in range(n))
    f = getattr(S, name)
    if name == "polygamma":
        assert an.gradgradcheck(lambda x: S.polygamma(2, x), inputs)
        f = lambda x: S.polygamma(1, x)  # noqa: E731
    elif name == "multigammaln":
        f = lambda x: S.multigammaln(x + 2, 3)  # noqa: E731
    assert an.gradcheck(f, inputs)
    assert an.gradgradcheck(f, inputs)


def test_derivatives_of_sinc_at_zero():
    x = an.Tensor(host.asarray([0.0, 1e-3]), requires_grad=True)
    assert an.gradcheck(S.sinc, x)
    assert an.gradgradcheck(S.sinc, x)


@pytest.mark.parametrize("call", [lambda: S.polygamma(-1, an.ones(2)), lambda: S.multigammaln(an.ones(2), 0)])
def test_bad_input(call):
    with pytest.raises(ValueError, match="integer of at least"):
        call()
