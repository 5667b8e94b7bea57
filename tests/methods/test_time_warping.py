"""DTW and soft-DTW against the recursion written out, gradients of first and second order, nearest neighbours."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.methods import DTWNeighbors, SoftDTWLoss, dtw, dtw_distances, soft_dtw

rng = np.random.default_rng(0)


def written_out(x: np.ndarray, y: np.ndarray, gamma: float, window: int | None = None) -> float:
    """Cuturi and Blondel (2017), algorithm 1."""
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    r = np.full((len(x) + 1, len(y) + 1), math.inf)
    r[0, 0] = 0.0
    for i in range(1, len(x) + 1):
        for j in range(1, len(y) + 1):
            if window is not None and abs(i - j) > window:
                continue
            a = np.array([r[i - 1, j], r[i, j - 1], r[i - 1, j - 1]])
            low = a.min()
            if gamma and math.isfinite(low):
                low = low - gamma * math.log(np.exp((low - a) / gamma).sum())
            r[i, j] = ((x[i - 1] - y[j - 1]) ** 2).sum() + low
    return float(r[-1, -1])


SHAPES = [((4,), (4,)), ((5,), (3,)), ((1,), (6,)), ((4, 2), (6, 2)), ((5, 7), (4, 7))]


@pytest.mark.parametrize(("one", "other"), SHAPES)
def test_values(one: tuple[int, ...], other: tuple[int, ...], xp_device: str) -> None:
    x, y = rng.normal(size=(3, *one)), rng.normal(size=(3, *other))
    given = an.asarray(x, device=xp_device), an.asarray(y, device=xp_device)
    hard = [written_out(a, b, 0.0) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(dtw(*given).numpy(), hard, atol=1e-10)
    all_pairs = [[math.sqrt(written_out(a, b, 0.0)) for b in y] for a in x]
    np.testing.assert_allclose(dtw_distances(*given).numpy(), all_pairs, atol=1e-10)
    for gamma in (0.01, 1.0, 30.0):
        soft = [written_out(a, b, gamma) for a, b in zip(x, y, strict=True)]
        found = soft_dtw(*given, gamma, reduction="none")
        assert found.dtype == an.float64
        np.testing.assert_allclose(found.numpy(), soft, atol=1e-9)
        assert soft_dtw(*given, gamma).item() == pytest.approx(np.mean(soft))
        assert (found.numpy() <= np.array(hard) + 1e-12).all()


@pytest.mark.parametrize("window", [1, 2, 4])
def test_window(window: int) -> None:
    x, y = rng.normal(size=(2, 6)), rng.normal(size=(2, 5))
    expected = [written_out(a, b, 0.0, window) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(dtw(x, y, window=window).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(np.diag(dtw_distances(x, y, window=window).numpy()) ** 2, expected, atol=1e-12)
    soft = [written_out(a, b, 0.5, window) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(soft_dtw(x, y, 0.5, window=window, reduction="none").numpy(), soft, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"divergence": True}])
def test_gradients_to_second_order(options: dict[str, object]) -> None:
    y = an.asarray(rng.normal(size=(1, 4, 2)))
    x = an.asarray(rng.normal(size=(1, 3, 2)), requires_grad=True)
    assert an.gradcheck(lambda a: soft_dtw(a, y, 0.7, **options), x)
    assert an.gradgradcheck(lambda a: soft_dtw(a, y, 0.7, **options), x)


def test_gradient_is_the_expected_alignment() -> None:
    """As γ → 0 the gradient is that of DTW: each pair on the best path counts once."""
    x = an.asarray([[0.0, 1.0, 2.0]], dtype="float64", requires_grad=True)
    soft_dtw(x, an.asarray([[0.1, 1.1, 2.3]], dtype="float64"), 1e-4).backward()
    np.testing.assert_allclose(x.grad.numpy(), [[-0.2, -0.2, -0.6]], atol=1e-9)


def test_divergence_and_loss() -> None:
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    assert soft_dtw(x, x, 1.0).item() < 0
    assert soft_dtw(x, x, 1.0, divergence=True).item() == pytest.approx(0.0, abs=1e-12)
    assert SoftDTWLoss(1.0, divergence=True, reduction="none")(an.asarray(x), an.asarray(y)).numpy().min() > 0


def test_neighbours_ignore_shifts() -> None:
    t = np.arange(30.0)

    def bump(at: float, sign: float) -> np.ndarray:
        return sign * np.exp(-((t - at) ** 2) / 8)

    train = np.stack([bump(8, 1), bump(8, -1), bump(20, 1)])
    test = np.stack([bump(at, sign) for at in (6, 11, 22) for sign in (1, -1)])
    model = DTWNeighbors().fit(train, ["up", "down", "up"])
    assert model.predict(test) == ["up", "down"] * 3
    assert model.score(test, ["up", "down"] * 3) == 1.0
    assert DTWNeighbors(3).fit(train, [1, 0, 1]).predict(test) == [1] * 6


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: soft_dtw(an.zeros((2, 3)), an.zeros((2, 3)), gamma=0), ValueError, "gamma"),
        (lambda: soft_dtw(an.zeros((2, 3)), an.zeros((3, 3))), ValueError, "agree in n and d"),
        (lambda: soft_dtw(an.zeros((2, 3)), an.zeros((2, 3)), reduction="max"), ValueError, "reduction"),
        (lambda: dtw(an.zeros((2, 3)), an.zeros((2, 7)), window=2), ValueError, "window must be ≥ 4"),
        (lambda: dtw(an.zeros(3), an.zeros(3)), ValueError, "series"),
        (lambda: dtw(an.asarray([[1]]), an.asarray([[1]])), TypeError, "floating-point"),
        (lambda: DTWNeighbors().predict(an.zeros((1, 2))), RuntimeError, "needs fit"),
        (lambda: DTWNeighbors(2).fit(an.zeros((1, 2)), [1]), ValueError, "at least 2"),
    ],
)  # fmt: skip
def test_errors(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()
