"""Deep stacking networks: closed form, modules that improve, labels, errors."""

import numpy as np
import pytest

import anynet as an
from anynet.methods import DeepStackingNetwork

rng = np.random.default_rng(0)


def test_each_module_is_ridge_regression_on_its_units(xp_device: str) -> None:
    an.random.manual_seed(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    net = DeepStackingNetwork(hidden=7, modules=2, steps=0, ridge=0.01)
    net.fit(an.asarray(x, device=xp_device), an.asarray(y, device=xp_device))
    inputs = np.hstack([(x - x.mean(0)) / x.std(0), np.ones((30, 1))])
    for i, (w, u) in enumerate(net.layers):
        h = 1 / (1 + np.exp(-inputs @ w.numpy()))
        expected = np.linalg.solve(h.T @ h + 0.3 * np.eye(7), h.T @ y)
        np.testing.assert_allclose(u.numpy(), expected, atol=1e-8)
        assert net.errors[i] == pytest.approx(((y - h @ expected) ** 2).mean())
        np.testing.assert_allclose(
            net.predict(an.asarray(x, device=xp_device), modules=i + 1).numpy(), h @ expected, atol=1e-8
        )
        inputs = np.hstack([inputs[:, :-1], h @ expected, inputs[:, -1:]])


def test_steps_and_modules_lower_the_error() -> None:
    x = rng.normal(size=(150, 2))
    y = np.sin(3 * x[:, 0]) * x[:, 1]
    errors = {}
    for steps in (0, 20):
        an.random.manual_seed(0)
        errors[steps] = DeepStackingNetwork(hidden=10, modules=3, steps=steps).fit(x, y).errors
        assert errors[steps] == sorted(errors[steps], reverse=True)
    assert errors[20][0] < 0.9 * errors[0][0]


def test_labels() -> None:
    an.random.manual_seed(0)
    x = rng.normal(size=(60, 2))
    labels = ["out" if a * a + b * b > 1 else "in" for a, b in x.tolist()]
    net = DeepStackingNetwork(hidden=20, modules=2, steps=20, task="classification").fit(x, labels)
    assert net.classes == ["in", "out"]
    assert net.score(x, labels) > 0.95
    assert set(net.predict(x[:5])) <= {"in", "out"}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: DeepStackingNetwork(hidden=0), ValueError, "hidden"),
        (lambda: DeepStackingNetwork(task="ranking"), ValueError, "task"),
        (lambda: DeepStackingNetwork().fit([[1.0], [2.0]], [1.0]), ValueError, "y must be finite"),
        (lambda: DeepStackingNetwork().fit([[1.0], [np.inf]], [1.0, 2.0]), ValueError, "not finite"),
        (lambda: DeepStackingNetwork().predict([[1.0]]), RuntimeError, "needs fit"),
    ],
)  # fmt: skip
def test_errors(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()
