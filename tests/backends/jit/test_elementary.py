"""Elementary functions of float32 as machine code: values, exceptions, forms of arrays, and where they are used."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
from anynet_backends import backend_of
from anynet_backends.jit import availability, elementary

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")
ALL = (*elementary.ELEMENTARY, elementary.LOGISTIC)
ULPS = {"exp": 1.0, "expm1": 1.4, "log": 1.0, "log1p": 1.4, "tanh": 1.4, "logistic": 2.0}
SPECIAL = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, -2.0, 1e-45, -1e-45, 1e-40, -1e-40, 2.0**-24, -(2.0**-26), 3e38, -3e38,
    86.9, 87.1, 88.72, 88.73, 88.9, 104.5, -87.4, -103.9, -104.1, 17.3, -17.4, 9.02, -11.0,
)  # fmt: skip


def _exact(name: str, x: np.ndarray) -> np.ndarray:
    """In double precision, whose exponents reach where e^-x of any float32 is not 0 beside its logistic."""
    if name == "logistic":
        e = np.exp(-np.abs(x.astype(np.float64)))
        return np.where(x < 0, e, 1.0) / (1.0 + e)
    return getattr(np, name)(x.astype(np.float64))


def _numbers(name: str) -> np.ndarray:
    """Numbers of every size, of those sizes that count most, and the corners."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    some = rng.normal(size=200_000) * 3
    near = 2.0 ** rng.uniform(-30, 7, 100_000)
    edge = np.nextafter(np.float32(-1), np.float32(0)) if name == "log1p" else -0.6
    return np.concatenate([bits, *(np.asarray(a, np.float32) for a in (some, near, -near, SPECIAL, [edge]))])


@pytest.mark.parametrize("name", ALL)
def test_values(name):
    """Against NumPy in double precision, in units in the last place; the last bits of zero, infinities and NaN."""
    f, x = elementary.float32_ufunc(name), _numbers(name)
    with np.errstate(all="ignore"):
        y, exact = f(x), _exact(name, x)
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
    assert y.dtype == np.float32
    finite = np.isfinite(rounded)
    assert np.max(np.abs(y[finite] - exact[finite]) / unit[finite]) <= ULPS[name]
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    zero = rounded == 0
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(rounded[zero]))


def _warning(name: str, x: float) -> list[str]:
    """What IEEE 754 says of the function of a number in float32; NaN is quiet."""
    said = ""
    if name in ("exp", "expm1") and np.log(np.finfo(np.float32).max) < x < np.inf:
        said = "overflow encountered in"
    pole = {"log": 0.0, "log1p": -1.0}.get(name)
    if pole is not None and x <= pole:
        said = "divide by zero encountered in" if x == pole else "invalid value encountered in"
    return [f"{said} {name}"] if said else []


@pytest.mark.parametrize("name", ALL)
def test_warnings(name):
    """One number, and enough of them for vectors and a rest."""
    f = elementary.float32_ufunc(name)
    for number in np.asarray(SPECIAL, np.float32):
        for count in (1, 21):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                f(np.full(count, number, np.float32))
            assert [str(w.message) for w in caught] == _warning(name, float(number)), (name, number)


@pytest.mark.parametrize("name", ALL)
def test_forms_of_arrays(name):
    """The same bits in any place: strided, reversed, in place, one by one, more than a buffer."""
    f = elementary.float32_ufunc(name)
    x = np.random.default_rng(1).uniform(0.1, 3, (70, 11)).astype(np.float32)
    y = f(x)
    for key in (np.s_[::2], np.s_[::-1], np.s_[:, ::-3], np.s_[:, 4], np.s_[:0], np.s_[3, 5]):
        np.testing.assert_array_equal(f(x[key]), y[key])
    np.testing.assert_array_equal(f(x.T), y.T)
    wide = np.zeros((70, 22), np.float32)
    f(x, out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], y)
    assert not wide[:, 1::2].any()
    same = x.copy()
    f(same, out=same)
    np.testing.assert_array_equal(same, y)
    shifted = np.concatenate([x.ravel(), x.ravel()])
    f(shifted[:-1], out=shifted[1:])  # overlapping
    np.testing.assert_array_equal(shifted[1 : x.size + 1], y.ravel())


@pytest.mark.parametrize("name", ALL)
def test_same_bits_in_every_way(name):
    """A call, a call that has become machine code, blocks, a compiled function."""
    function = an.nn.functional.sigmoid if name == "logistic" else getattr(an, name)
    for shape in ((5, 7), (300, 401)):
        x = np.random.default_rng(2).uniform(0.1, 3, shape).astype(np.float32)
        want = elementary.logistic(x)(x) if name == "logistic" else elementary.suited(getattr(np, name), x)(x)
        tensor = an.asarray(x)
        for _ in range(30 if x.size < 100 else 4):
            np.testing.assert_array_equal(function(tensor).numpy(), want)
        np.testing.assert_array_equal(an.compile(function)(tensor).numpy(), want)
        np.testing.assert_array_equal(an.compile(lambda t: function(t * 1.0) + 0.0)(tensor).numpy(), want)


def test_numpys_are_kept_where_they_are_vector_code(monkeypatch):
    from numpy._core import _multiarray_umath as core

    for wide in (False, True):
        monkeypatch.setattr(core, "__cpu_features__", {"AVX512_SKX": wide})
        assert elementary._numpys_are_fast() == wide


def test_other_types_are_numpys():
    xp = backend_of(np.zeros(1))
    for dtype in (np.float16, np.float64, np.complex64, ">f4"):
        x = np.linspace(0.1, 2, 9).astype(dtype)
        for name in elementary.ELEMENTARY:
            y, want = getattr(xp, name)(x), getattr(np, name)(x)
            assert y.dtype == want.dtype
            np.testing.assert_array_equal(y, want)


def test_numpys_own_functions_are_left_alone():
    elementary.float32_ufunc("exp")
    assert "d->d" in np.exp.types
    assert elementary.suited(np.exp, np.zeros(3)) is np.exp
    assert elementary.suited(np.sin, np.zeros(3, np.float32)) is np.sin
    assert elementary.suited(np.copyto, np.zeros(3, np.float32)) is np.copyto


def test_logistic_neither_overflows_nor_underflows_where_it_is_one():
    """Any exception counts here, as for somebody who has `np.seterr(all="raise")`."""
    f = elementary.float32_ufunc("logistic")
    x = np.asarray([0, -0.0, 17, 80, 88, 104, 3e38, np.inf, np.nan, -17, -80, -86], np.float32)
    with np.errstate(all="raise"):
        y = f(x)
    assert y[:2].tolist() == [0.5, 0.5]
    assert y[3:8].tolist() == [1.0] * 5
    assert np.isnan(y[8])
    assert f(np.float32(-np.inf)) == 0
    assert f(np.float32(-100)) > 0  # a subnormal number


@pytest.mark.parametrize("name", ["exp", "expm1", "logistic"])
def test_a_loop_that_has_it_gives_the_bits_of_the_call(name):
    """What stands in one loop with other operations, on numbers of every size, eager, in blocks and compiled."""
    x = np.resize(_numbers(name), (1000, 601))
    f = elementary.float32_ufunc(name)
    function = an.nn.functional.sigmoid if name == "logistic" else getattr(an, name)
    tensor = an.asarray(x)

    def chain(t):
        return an.where(t > 0, function(t), function(t * 0.5) - t) * 0.25

    with np.errstate(all="ignore"):
        want = np.where(x > 0, f(x), f(x * np.float32(0.5)) - x) * np.float32(0.25)
        for _ in range(3):
            np.testing.assert_array_equal(an.compile(chain)(tensor).numpy(), want)
            np.testing.assert_array_equal(chain(tensor).numpy(), want)


def test_loops_have_elementary_functions(capfd, monkeypatch):
    """SiLU is one loop: no row of a segment for the exponential alone."""
    monkeypatch.setenv("ANYNET_PASSES", "loops")
    x = an.asarray(np.linspace(-3, 3, 77, dtype=np.float32))
    silu = an.compile(an.nn.functional.silu)
    for _ in range(2):
        silu(x)
    text = capfd.readouterr().err
    assert text.count("loop over") == text.count("v0 = an_logistic(in0)\n  v1 = multiply(in0, v0)") > 0
