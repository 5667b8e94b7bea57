"""Products without NumPy's false warning."""

import numpy as np
import pytest

from anynet_backends import products
from anynet_backends.numpy_backend import NumpyBackend


@pytest.fixture
def wide(monkeypatch):
    """A processor with AVX-512."""
    monkeypatch.setattr(products, "WIDE", True)


def operands(length, matrix=(3, 4)):
    a = np.ones((*matrix, length), np.float32)
    a[0, 0, 0] = np.inf
    b = np.ones((matrix[0], length, 1), np.float32)
    b[0, 0, 0] = 0.0
    return a, b


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_vectors_of_five_are_silent(wide, side, out):
    """The flag of such a product says nothing, whatever raised it."""
    a, b = operands(5)
    if side == "left":
        a, b = b.swapaxes(-1, -2), a.swapaxes(-1, -2)
    room = np.empty((*a.shape[:-1], b.shape[-1]), np.float32) if out else None
    y = products.matmul(a, b, room)
    assert np.isnan(y).sum() == 1
    assert (y[1:] == 5).all()
    assert room is None or y is room


@pytest.mark.parametrize(
    ("length", "dtype", "columns"),
    [(4, "float32", 1), (6, "float32", 1), (5, "float64", 1), (5, "float32", 2)],
)
def test_all_others_warn_where_numpy_does(wide, length, dtype, columns):
    a, b = operands(length)
    a, b = a.astype(dtype), np.repeat(b, columns, axis=-1).astype(dtype)
    with pytest.warns(RuntimeWarning, match="invalid value encountered in matmul"):
        y = products.matmul(a, b)
    assert np.isnan(y).sum() == columns


def test_vectors_without_an_axis(wide):
    a, b = operands(5)
    assert np.isnan(products.matmul(a[0], b[0, :, 0])).tolist() == [True, False, False, False]
    assert products.matmul(a[1, 0], b[1, :, 0]) == 5


def test_other_processors_keep_numpys_warning(monkeypatch):
    monkeypatch.setattr(products, "WIDE", False)
    with pytest.warns(RuntimeWarning, match="invalid value"):
        products.matmul(*operands(5))


def test_backend_uses_it(monkeypatch, wide):
    monkeypatch.setattr("anynet_backends.onednn.find", lambda: None)
    assert NumpyBackend().matmul is products.matmul


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "forms",
    [((7, 1), (1, 5)), ((3, 7, 1), (1, 5)), ((2, 3, 7, 1), (3, 1, 5)), ((1, 1), (1, 1)), ((0, 1), (1, 5))],
)
def test_a_column_and_a_row_have_the_bits_of_blas(forms, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=form).astype(dtype) for form in forms)
    if a.size:
        a[..., 0, 0] = -0.0
        b[..., 0, 0] = np.inf
        b[..., 0, -1:] = 3.0
    with np.errstate(invalid="ignore"):
        found, expected = products.matmul(a, b), np.matmul(a, b)
        room = np.empty_like(expected)
        assert products.matmul(a, b, room) is room
    for y in (found, room):
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, expected)
        assert (np.signbit(y) == np.signbit(expected))[~np.isnan(expected)].all()


def test_columns_of_other_kinds_are_left_to_numpy():
    a, b = np.arange(3)[:, None], np.arange(4.0, dtype=np.float32)[None]
    assert (products.matmul(a, b) == np.matmul(a, b)).all()
    assert products.matmul(a, b).dtype == np.matmul(a, b).dtype
    z = a + 1j
    assert (products.matmul(z, z.T) == np.matmul(z, z.T)).all()
    with pytest.raises(ValueError, match="mismatch"):
        products.matmul(np.ones((3, 1)), np.ones((2, 4)))
