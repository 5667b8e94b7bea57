"""The incomplete gamma and beta functions against SciPy, and the gradients of samples against the quantiles'."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.ops.incomplete import sampled_beta, sampled_gamma

S = an.special
rng = np.random.default_rng(0)


def tensor(values, **options):
    return an.asarray(values.tolist(), dtype=options.pop("dtype", "float64"), **options)


def near(y, expected, limit):
    """To `limit` of the value, or to some units in the last place of 1."""
    off = 20 * np.finfo(y.numpy().dtype).eps
    assert np.all(np.abs(y.numpy() - expected) <= limit * np.abs(expected) + off)


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-11), ("float32", 3e-3)])
def test_gamma_in_both_tails(dtype, limit):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    a = 10 ** rng.uniform(-3, 4, 500)
    x = a * np.exp(rng.normal(size=500) * 2 / np.sqrt(a + 0.1)) + 1e-20
    a, x = tensor(a, dtype=dtype), tensor(x, dtype=dtype)
    for name in ("gammainc", "gammaincc"):
        y = getattr(S, name)(a, x)
        expected = getattr(special, name)(np.float64(a.numpy()), np.float64(x.numpy()))
        assert y.dtype == an.dtypes.of(dtype)
        near(y, expected, limit)


def test_gamma_where_scipy_rounds():
    # 40 digits of mpmath; scipy.special.gammainc 1.17 is off by 6e-7 of it here
    near(
        S.gammainc(tensor(np.array([976752.0260851985])), 970942.2001392699), [1.93192847696612238e-9], 1e-12
    )
    # the same, off by 1.2e-5 of it in SciPy (docs/errata.md)
    near(S.gammainc(tensor(np.array([1e6])), 995500.0), [3.2963040141976456275e-6], 1e-12)


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-11), ("float32", 5e-3)])
def test_beta(dtype, limit):
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    a, b = 10 ** rng.uniform(-2, 3, (2, 500))
    x = np.clip(rng.beta(a, b), 1e-20, 1 - 1e-6)
    a, b, x = (tensor(v, dtype=dtype) for v in (a, b, x))
    expected = special.betainc(*(np.float64(v.numpy()) for v in (a, b, x)))
    near(S.betainc(a, b, x), expected, limit)


def test_ends():
    inf, nan = math.inf, math.nan
    a, x = an.asarray([0.0, 0.0, 1.0, 1.0, -1.0, 1.0, inf]), an.asarray([1.0, 0.0, 0.0, inf, 1.0, -1.0, 1.0])
    assert str(S.gammainc(a, x).tolist()) == str([1.0, nan, 0.0, 1.0, nan, nan, 0.0])
    assert str(S.gammaincc(a, x).tolist()) == str([0.0, nan, 1.0, 0.0, nan, nan, 1.0])
    x = an.asarray([0.0, 1.0, -0.1, 1.1])
    assert str(S.betainc(2.0, 3.0, x).tolist()) == str([0.0, 1.0, nan, nan])
    assert S.gammainc(2, 3.0).dtype == an.float32


@pytest.mark.parametrize("name", ["gammainc", "gammaincc", "betainc"])
def test_gradients_to_second_order(name):
    arguments = [
        tensor(np.array(v), requires_grad=True) for v in ([0.4, 1.7, 5.3], [0.7, 0.6, 8.3], [0.3, 0.8, 0.4])
    ]
    arguments = arguments[: 3 if name == "betainc" else 2]
    assert an.gradcheck(getattr(S, name), arguments)
    assert an.gradgradcheck(getattr(S, name), arguments)


def test_samples_move_as_their_quantile():
    """dz/da at a fixed probability, by central differences of SciPy's quantile; and the derivative of that."""
    special = pytest.importorskip("scipy.special", reason="the oracle, pip install scipy")
    a, u = np.array([0.05, 0.5, 3.0, 80.0]), np.array([0.9, 0.2, 0.7, 0.4])
    h = 1e-4 * a
    at = [special.gammaincinv(a + k * h, u) for k in (-1, 0, 1)]
    p = tensor(a, requires_grad=True)
    first = an.grad(lambda p: an.sum(sampled_gamma(p, tensor(at[1]))))(p)
    near(first, (at[2] - at[0]) / (2 * h), 1e-6)
    second = an.grad(lambda p: an.sum(an.grad(lambda p: an.sum(sampled_gamma(p, tensor(at[1]))))(p)))(p)
    near(second, (at[2] - 2 * at[1] + at[0]) / (h * h), 1e-3)
    b = np.array([2.0, 0.4, 5.0, 60.0])
    at = [special.betaincinv(a + k * h, b, u) for k in (-1, 0, 1)]
    near(
        an.grad(lambda p: an.sum(sampled_beta(p, tensor(b), tensor(at[1]))))(p),
        (at[2] - at[0]) / (2 * h),
        1e-6,
    )
    g = 1e-4 * b
    move = (special.betaincinv(a, b + g, u) - special.betaincinv(a, b - g, u)) / (2 * g)
    near(an.grad(lambda q: an.sum(sampled_beta(p, q, tensor(at[1]))))(tensor(b)), move, 1e-6)
