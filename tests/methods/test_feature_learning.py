"""AGOP, the neural feature ansatz, recursive feature machines: against formulas, scikit-learn and the paper's low-rank task."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.methods import RecursiveFeatureMachine, agop, jacobians, neural_feature_ansatz
from optional_libraries import needs

rng = np.random.default_rng(0)


def net(*layers: nn.Module, device: str = "cpu") -> nn.Module:
    an.random.manual_seed(0)
    for p in (made := nn.Sequential(*layers)).parameters():
        p.assign_(rng.normal(size=p.shape).astype("float32"))
    return made.to("float64").to(device)


def test_agop_is_the_mean_of_outer_products(xp_device: str) -> None:
    model = net(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), device=xp_device)
    x = an.asarray(rng.normal(size=(7, 4)), device=xp_device)
    j = jacobians(model, x).numpy()
    found = agop(model, x, batch_size=3)
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found.numpy(), np.einsum("nca,ncb->ab", j, j) / 7, atol=1e-12)
    np.testing.assert_allclose(agop(model, x, layer="0").numpy(), found.numpy(), atol=1e-12)
    hidden = np.tanh(model[0](x).numpy())
    tail = jacobians(model[2], an.asarray(hidden, device=xp_device)).numpy()
    np.testing.assert_allclose(
        agop(model, x, layer="2").numpy(), np.einsum("nca,ncb->ab", tail, tail) / 7, atol=1e-12
    )


def test_agop_of_patches() -> None:
    model = net(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    x = an.asarray(rng.normal(size=(5, 2, 3, 3)))
    w = model[0].weight.numpy().reshape(3, 8)
    patches = np.stack(
        [x.numpy()[:, :, i : i + 2, j : j + 2].reshape(5, 8) for i in (0, 1) for j in (0, 1)], axis=1
    )
    slope = 1 - np.tanh(patches @ w.T + model[0].bias.numpy()) ** 2  # (n, positions, channels)
    head = model[3].weight.numpy().reshape(2, 3, 4)
    j = np.einsum("ock,nkc,cd->nokd", head, slope, w)  # of outputs with respect to each patch
    np.testing.assert_allclose(
        agop(model, x, layer="0").numpy(), np.einsum("noka,nokb->ab", j, j) / 5, atol=1e-12
    )


def test_ansatz_is_exact_for_a_linear_network() -> None:
    model = net(nn.Linear(5, 1))
    x = an.asarray(rng.normal(size=(9, 5)))
    [found] = neural_feature_ansatz(model, x).values()
    assert found.correlation == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found.agop.numpy(), found.feature_matrix.numpy(), atol=1e-12)
    half = neural_feature_ansatz(model, x, power=0.5)["0"].agop.numpy()
    np.testing.assert_allclose(half @ half, found.agop.numpy(), atol=1e-10)


@pytest.mark.parametrize("kernel", ["laplace", "gaussian"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_machine_is_its_own_kernel_and_gradient(kernel: str, diagonal: bool, xp_device: str) -> None:
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    given = an.asarray(x, device=xp_device), an.asarray(y, device=xp_device)
    before = RecursiveFeatureMachine(kernel, bandwidth=2.0, ridge=0.1, iterations=0, diagonal=diagonal).fit(
        *given
    )

    def k(points: np.ndarray) -> np.ndarray:
        squares = ((points[:, None] - x[None]) ** 2).sum(-1)
        return np.exp(-np.sqrt(squares) / 2) if kernel == "laplace" else np.exp(-squares / 8)

    alpha = np.linalg.solve(k(x) + 0.1 * np.eye(12), y)
    np.testing.assert_allclose(before.alpha.numpy(), alpha, atol=1e-6 if kernel == "laplace" else 1e-10)
    points = an.asarray(x + 0.3, device=xp_device)
    np.testing.assert_allclose(before.predict(points).numpy(), k(x + 0.3) @ alpha, atol=1e-6)
    once = RecursiveFeatureMachine(kernel, bandwidth=2.0, ridge=0.1, iterations=1, diagonal=diagonal).fit(
        *given
    )
    step = 1e-6
    g = np.zeros((12, 2, 3))
    for d in range(3):  # central differences; at a kink of its own kernel the two sides cancel
        e = np.zeros(3)
        e[d] = step
        up, down = (k(x + sign * e) @ alpha for sign in (1, -1))
        g[:, :, d] = (up - down) / (2 * step)
    total = np.einsum("nca,ncb->ab", g, g) / 12
    np.testing.assert_allclose(once.M.numpy(), np.diag(total) if diagonal else total, rtol=1e-5, atol=1e-7)
    assert once.M.device == xp_device


def low_rank(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The task of the authors' repository."""
    x = np.random.default_rng(seed).normal(0, 0.5, (n, 20))
    return x, x[:, 0] * x[:, 1] * (x[:, 5] > 0)


def test_low_rank_task_of_the_paper() -> None:
    x, y = low_rank(600, 0)
    test_x, test_y = low_rank(600, 1)
    errors = []
    machine = RecursiveFeatureMachine(iterations=4).fit(
        x, y, callback=lambda _, m: errors.append(float(np.mean((m.predict(test_x).numpy() - test_y) ** 2)))
    )
    assert len(errors) == 5
    assert errors[-1] < 0.55 * errors[0]
    mass = np.diag(machine.M.numpy())
    assert mass[[0, 1, 5]].sum() > 0.9 * mass.sum()
    assert machine.score(test_x, test_y) == pytest.approx(1 - errors[-1] / test_y.var())


def test_classification_on_iris() -> None:
    datasets = needs("sklearn.datasets", "test")
    x, y = datasets.load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    names = ["setosa", "versicolor", "virginica"]
    machine = RecursiveFeatureMachine(bandwidth=5.0, iterations=2, task="classification")
    machine.fit(x[::2], [names[i] for i in y[::2]])
    assert machine.classes == names
    assert machine.score(x[1::2], [names[i] for i in y[1::2]]) >= 0.93


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: RecursiveFeatureMachine("linear"), "laplace"),
        (lambda: RecursiveFeatureMachine(bandwidth=0), "bandwidth must be > 0"),
        (lambda: RecursiveFeatureMachine(ridge=-1), "ridge must be ≥ 0"),
        (lambda: RecursiveFeatureMachine(iterations=1.5), "integer ≥ 0"),
        (lambda: RecursiveFeatureMachine().fit([[1.0], [float("nan")]], [1.0, 2.0]), "not finite"),
        (lambda: RecursiveFeatureMachine().fit([[1.0], [2.0]], [1.0]), r"y must be \(2,\)"),
        (lambda: RecursiveFeatureMachine(task="classification").fit([[1.0], [2.0]], ["a", "a"]), "2 classes"),
        (lambda: agop(net(nn.Tanh()), an.zeros((2, 2)), layer="0"), "must be the name of a Linear"),
        (lambda: agop(net(nn.Linear(2, 2)), an.zeros((2, 2)), batch_size=0), "batch_size"),
        (lambda: neural_feature_ansatz(nn.Tanh(), an.zeros((2, 2))), "no Linear"),
    ],
)  # fmt: skip
def test_errors(call, text) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_predict_before_fit() -> None:
    with pytest.raises(RuntimeError, match="needs fit first"):
        RecursiveFeatureMachine().predict([[1.0]])
