"""Non-negative least squares against SciPy; least distances against the conditions of Karush, Kuhn and Tucker."""

import numpy as np
import pytest

from anynet.methods import least_distance, nnls
from optional_libraries import needs

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (8, 8), (40, 20), (4, 60)])
def test_as_scipy(shape: tuple[int, int]) -> None:
    optimize = needs("scipy.optimize", "test")
    for _ in range(20):
        a, b = rng.normal(size=shape), rng.normal(size=shape[0])
        x, residual = nnls(a, b)
        assert x.numpy().min() >= 0
        assert residual == pytest.approx(optimize.nnls(a, b)[1], abs=1e-10)
        slope = a.T @ (b - a @ x.numpy())
        assert slope.max() < 1e-9
        assert abs(slope @ x.numpy()) < 1e-9


def test_repeated_columns_and_zero_matrices() -> None:
    column = rng.normal(size=(6, 1))
    x, residual = nnls(np.repeat(column, 4, axis=1), 2 * column[:, 0])
    assert residual < 1e-12
    assert x.numpy().sum() == pytest.approx(2.0)
    assert nnls(np.zeros((3, 2)), np.ones(3)).x.tolist() == [0.0, 0.0]
    assert nnls(np.zeros((3, 0)), np.ones(3)).x.shape == (0,)


def test_least_distance() -> None:
    for _ in range(20):
        g, h = rng.normal(size=(5, 3)), rng.normal(size=5)
        w, multipliers = least_distance(g, h)
        m = multipliers.numpy()
        assert m.min() >= 0
        if w is None:  # Farkas: a combination of the rows that no w can satisfy
            assert np.abs(g.T @ m).max() < 1e-8
            assert h @ m > 0
            continue
        slack = g @ w.numpy() - h
        assert slack.min() > -1e-9
        np.testing.assert_allclose(g.T @ m, w.numpy(), atol=1e-9)
        assert abs(m @ slack) < 1e-8


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [(np.ones((3, 2)), np.ones(2), r"A \(m, n\)"), (np.ones(3), np.ones(3), "2 axes"), (np.ones((1, 1)) * np.nan, np.ones(1), "finite")],
)  # fmt: skip
def test_errors(a, b, text) -> None:
    with pytest.raises(ValueError, match=text):
        nnls(a, b)
