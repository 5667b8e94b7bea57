"""Double descent: the peak at the number of samples, the limits, and the formula."""

import numpy as np
import pytest

import anynet as an
from anynet.methods import double_descent

rng = np.random.default_rng(0)


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 5))
    return x, x[:, 0] - np.abs(x[:, 1]) + 0.3 * rng.normal(size=n)


def test_peak_where_the_fit_becomes_exact(xp_device: str) -> None:
    an.random.manual_seed(0)
    given = [an.asarray(a, device=xp_device) for a in (*data(30), *data(200))]
    curve = double_descent(*given, [8, 30, 600], repeats=5)
    errors = [w.test_error for w in curve]
    assert errors[1] > 3 * max(errors[0], errors[2])
    assert [w.train_error < 1e-12 for w in curve] == [False, True, True]
    assert curve[1].norm > curve[2].norm


def test_ridge_takes_the_peak_away() -> None:
    sets = (*data(30), *data(200))
    an.random.manual_seed(0)
    [bare] = double_descent(*sets, [30], repeats=3)
    an.random.manual_seed(0)
    [ridge] = double_descent(*sets, [30], ridge=1.0, repeats=3)
    assert ridge.test_error < 0.3 * bare.test_error


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"widths": [0]}, "width"),
        ({"widths": [1], "ridge": -1}, "ridge"),
        ({"widths": [1], "repeats": 0}, "repeats"),
    ],
)
def test_errors(options, text) -> None:
    with pytest.raises(ValueError, match=text):
        double_descent(*data(5), *data(5), **options)
    with pytest.raises(ValueError, match=r"x \(n, d\)"):
        double_descent(*data(5), data(5)[0], data(4)[1], widths=[1])
