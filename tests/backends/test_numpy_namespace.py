"""NumPy's own functions, mended where they differ from the standard, against array-api-compat's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from anynet_backends import array_api, resolve

xp, _ = resolve("cpu")


@pytest.fixture(scope="module")
def compat():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports numpy.f2py and everything else
        return pytest.importorskip("array_api_compat.numpy")


def test_every_name_of_compat_is_there(compat):
    for name in (*array_api.FUNCTIONS, *array_api.CONSTANTS, *array_api.DTYPES):
        assert hasattr(xp, name) == hasattr(compat, name), name
    for name in array_api.LINALG:
        assert hasattr(xp.linalg, name), name
    for name in array_api.FFT:
        assert hasattr(xp.fft, name), name


def test_dtypes_are_keys():
    table = {xp.float32: "f"}
    assert table[xp.zeros(1, dtype=xp.float32).dtype] == "f"
    assert xp.isdtype(xp.float32, "real floating")
    assert xp.isdtype(xp.float32, xp.float32)
    assert xp.finfo(xp.float32).eps == np.finfo(np.float32).eps
    assert xp.finfo(xp.ones(2, dtype=xp.float32)).bits == 32
    assert xp.iinfo(xp.ones(2, dtype=xp.int16)).max == 32767


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize(
    ("low", "high"),
    [(None, None), (2, 5), (-3, None), (None, 300), (-(2**70), 2**70), (2.5, 4.5), (300, None), (None, -3)],
)
def test_clip(dtype, low, high):
    x = np.arange(10).astype(dtype)
    y = xp.clip(x, low, high)
    assert y.dtype == x.dtype
    assert y is not x
    exact = np.clip(np.arange(10, dtype=object), None if low is None else low, None if high is None else high)
    info = np.iinfo(dtype) if x.dtype.kind in "iu" else None
    for got, want in zip(y.tolist(), exact, strict=True):
        if info is None:
            assert got == pytest.approx(float(want))
        elif info.min <= want <= info.max:
            assert low is None or got >= min(low, info.max)
            assert high is None or got <= max(high, info.min)


def test_clip_with_arrays_broadcasts():
    x = np.zeros((2, 3), np.float32)
    y = xp.clip(x, np.array([[1.0], [2.0]], np.float32), np.array([5, 6, 7], np.float32))
    assert y.tolist() == [[1, 1, 1], [2, 2, 2]]
    assert np.isnan(xp.clip(np.array([np.nan]), 0.0, 1.0)).all()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
def test_sorting(compat, descending, axis):
    x = np.random.default_rng(0).integers(0, 4, (7, 9))
    order = xp.argsort(x, axis=axis, descending=descending)
    assert (np.take_along_axis(x, order, axis) == xp.sort(x, axis=axis, descending=descending)).all()
    assert (order == compat.argsort(x, axis=axis, descending=descending)).all()
    ties = xp.argsort(np.zeros(5), descending=descending)
    assert ties.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_positions_of_many_short_numbers_are_those_of_a_stable_sort(axis, descending):
    """With ties, both zeros, infinities and NaN of both signs, and whatever way the array lies in memory."""
    x = np.random.default_rng(0).normal(size=(40, 64, 3)).round(1).astype(np.float32)
    x[:20, 0, 0], x[1, ::3, 0], x[2, ::5, 0], x[3, :40:2, 0], x[4, ::7, 0] = (
        0.0,
        -0.0,
        np.nan,
        -np.float32(np.nan),
        np.inf,
    )
    x[5, ::4, 0] = -np.inf
    for array in (x, x[:, ::-1], np.asfortranarray(x), np.round(x, 0)):
        assert array.size > 1 << 11
        expected = np.argsort(np.flip(array, axis) if descending else array, axis=axis, kind="stable")
        if descending:
            expected = array.shape[axis] - 1 - np.flip(expected, axis)
        assert (xp.argsort(array, axis=axis, descending=descending) == expected).all()


def test_diff_takes_none():
    x = np.array([1, 4, 9])
    assert xp.diff(x, prepend=None, append=None).tolist() == [3, 5]
    assert xp.diff(x, prepend=np.array([0])).tolist() == [1, 3, 5]


def test_array_scalars_are_accepted():
    s = np.float32(2.5)
    assert xp.astype(s, xp.float64).dtype == np.float64
    assert xp.exp(s).dtype == np.float32


def test_count_nonzero_gives_an_array():
    assert xp.count_nonzero(np.eye(3)).shape == ()
    assert xp.count_nonzero(np.eye(3), axis=0, keepdims=True).shape == (1, 3)


def test_linalg_differences(compat):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4, 4)).astype(np.float32)
    a = a + a.T
    assert xp.linalg.eigvals(a).dtype == np.complex64
    values, vectors = xp.linalg.eig(a)
    assert np.allclose(a @ vectors, vectors * values, atol=1e-4)
    thin = np.outer([1.0, 2, 3], [1.0, 1, 1]) + 1e-15 * np.eye(3)
    assert np.allclose(xp.linalg.pinv(thin), compat.linalg.pinv(thin))
    assert int(xp.linalg.matrix_rank(thin)) == 1
    assert xp.linalg.matrix_rank(np.stack([thin, np.eye(3)])).tolist() == [1, 3]
    with pytest.raises(np.linalg.LinAlgError, match="x must have at least 2 axes, got shape"):
        xp.linalg.matrix_rank(np.ones(3))
    b = rng.standard_normal((2, 4, 4))
    assert xp.linalg.solve(b, np.ones(4)).shape == (2, 4)
    for name in ("qr", "svd", "eigh", "slogdet"):
        got, expected = getattr(xp.linalg, name)(a), getattr(compat.linalg, name)(a)
        assert type(got)._fields == type(expected)._fields
        assert all(np.allclose(g, e) for g, e in zip(got, expected, strict=True))


def test_fft_differences(compat):
    x = np.random.default_rng(0).standard_normal((3, 4, 6)) + 0j
    assert np.allclose(xp.fft.fftn(x, s=(4, 4)), compat.fft.fftn(x, s=(4, 4), axes=(-2, -1)))
    assert np.allclose(xp.fft.fftn(x), np.fft.fftn(x))
    assert xp.fft.fftfreq(4, d=0.5, dtype=xp.float32, device="cpu").dtype == np.float32
    assert xp.fft.rfftfreq(5).tolist() == np.fft.rfftfreq(5).tolist()


def test_only_the_device_cpu():
    with pytest.raises(ValueError, match="cpu"):
        xp.astype(np.ones(2), xp.float32, device="cuda")
    with pytest.raises(ValueError, match="cuda"):
        xp.zeros(2, device="cuda")


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3)])
@pytest.mark.parametrize("axis", [0, -1])
def test_stack_is_numpys(shape, axis):
    for kinds in (("f4", "f4", "f4"), ("f4", "i8", "f4")):
        arrays = [
            np.arange(np.prod(shape, dtype=int), dtype=k).reshape(shape) + i for i, k in enumerate(kinds)
        ]
        found, expected = xp.stack(arrays, axis=axis), np.stack(arrays, axis=axis)
        assert found.dtype == expected.dtype
        assert found.strides == expected.strides or not found.size
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="same shape"):
        xp.stack([np.zeros(3), np.zeros(2)], axis=0)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (0, 2), (2, 0)])
@pytest.mark.parametrize("shift", [0, 1, -1, 7, -9])
def test_roll_is_numpys(shape, shift):
    x = np.asfortranarray(np.arange(np.prod(shape, dtype=int)).reshape(shape))
    for axis in range(len(shape)):
        for one, along in ((shift, axis), ((shift,), (axis,))):
            found, expected = xp.roll(x, one, axis=along), np.roll(x, shift, axis=axis)
            assert found.strides == expected.strides
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(xp.roll(x, shift), np.roll(x, shift))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (0, 5), (5000,), (90, 70), (20, 30, 10)])
@pytest.mark.parametrize("kind", ["?", "f4", "i8", "c16"])
def test_nonzero_is_numpys(shape, kind):
    draw = np.random.default_rng(0)
    x = draw.choice(
        np.asarray([0, 0, -0.0, 1, np.nan] if kind in ("f4", "c16") else [0, 0, 1]).astype(kind), shape
    )
    for y in (x, np.asfortranarray(x), x[::2]):
        found, expected = xp.nonzero(y), np.nonzero(y)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
