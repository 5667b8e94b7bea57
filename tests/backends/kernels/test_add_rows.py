"""Values added to rows of a table, by NumPy: one by one, or whole rows in rounds, with the sums in the order of the index."""

from __future__ import annotations

import numpy as np
import pytest

from anynet_backends.jit import rows
from anynet_backends.memory import row_sums


@pytest.fixture(autouse=True)
def numpy_alone(monkeypatch):
    monkeypatch.setattr(rows, "available", lambda: False)


def indices(kind, length, count):
    rng = np.random.default_rng(0)
    if kind == "few rows have many":
        return np.where(rng.random(count) < 0.2, rng.integers(0, 3, count), rng.integers(0, length, count))
    if kind == "most are one row":
        return np.where(rng.random(count) < 0.9, 7, rng.integers(0, length, count))
    return rng.integers(0, length, count)


@pytest.mark.parametrize("kind", ["even", "few rows have many", "most are one row"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ints", [np.int32, np.int64])
def test_bits_of_additions_one_by_one(kind, dtype, ints):
    rng = np.random.default_rng(1)
    index = indices(kind, 300, 4000)
    index[::5] -= 300  # from the end
    index = index.astype(ints)
    values, table = rng.normal(size=(4000, 40)).astype(dtype), rng.normal(size=(300, 40)).astype(dtype)
    values[3, 5], values[4, 6] = np.inf, np.nan
    wanted, made, alone = table.copy(), table.copy(), table.copy()
    np.add.at(wanted, index, values)
    rows.add_rows(made, index, values)
    assert made.tobytes() == wanted.tobytes()
    taken = row_sums._in_rounds(alone, index, values)
    assert taken == (kind != "most are one row")
    assert alone.tobytes() == (wanted if taken else table).tobytes()


def test_shapes_and_types():
    rng = np.random.default_rng(2)
    for shape, dtype, of in (
        ((300, 8, 5), np.float32, np.float32),
        ((300, 40), np.float64, np.float32),
        ((300, 40), np.int64, np.int64),
        ((300,), np.float32, np.float32),
    ):
        index, values = rng.integers(0, 300, 4000), (9 * rng.normal(size=(4000, *shape[1:]))).astype(of)
        wanted, made = np.zeros(shape, dtype), np.zeros(shape, dtype)
        np.add.at(wanted, index, values)
        rows.add_rows(made, index, values)
        np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("place", [300, -301])
def test_what_is_outside_is_refused(place):
    table, index = np.zeros((300, 40), np.float32), np.arange(4000) % 300
    index[3999] = place
    with pytest.raises(IndexError, match=str(place)):
        rows.add_rows(table, index, np.ones((4000, 40), np.float32))
