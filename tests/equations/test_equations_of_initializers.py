"""What initializers draw against their equations: the bounds of uniform numbers, the deviation of normal ones."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.equations import of
from anynet.nn import init

CASES = [
    ("xavier_uniform_", {}), ("xavier_uniform_", {"gain": 2.0}), ("xavier_normal_", {"gain": 0.5}), ("lecun_uniform_", {}),
    ("lecun_normal_", {}),
    *[(name, {"nonlinearity": f, "a": 0.3, "mode": mode}) for name in ("kaiming_uniform_", "kaiming_normal_")
      for f, mode in (("relu", "fan_in"), ("leaky_relu", "fan_out"), ("tanh", "fan_in"), ("selu", "fan_in"), ("linear", "fan_out"))],
]  # fmt: skip


@pytest.mark.parametrize("shape", [(200, 300), (40, 30, 5, 5)])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_scale(name, options, shape):
    an.random.manual_seed(0)
    function = getattr(init, name)
    tensor = function(an.zeros(shape, dtype=an.float64), **options)
    equation = of(function)
    made = equation.evaluate(equation.bind(function, tensor, **options))
    drawn = tensor.numpy()
    if "σ" in made:
        truncated = 0.8796256610342398 if name == "lecun_normal_" else 1.0
        assert drawn.std() == pytest.approx(float(made["σ"]) * truncated, rel=0.01)
        assert truncated == 1.0 or np.abs(drawn).max() <= 2 * float(made["σ"])
    else:
        bound = float(made["a"] if "a" in made else made["b"])
        assert 0.999 * bound < np.abs(drawn).max() <= bound
        assert drawn.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_given_bounds():
    function = init.normal_
    assert of(function).text() == "W ∼ Normal(μ, σ²)"
    assert of(init.uniform_).latex().startswith("\\begin{aligned}\nW &\\sim")


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("constant_", (2, 3), {"val": 0.5}), ("ones_", (2, 3), {}), ("zeros_", (2, 3), {}), ("eye_", (3, 4), {}), ("eye_", (4, 2), {}),
        ("dirac_", (4, 2, 3), {"groups": 2}), ("dirac_", (3, 4, 5, 4), {}), ("dirac_", (4, 1, 2, 3, 3), {"groups": 4}),
    ],
)  # fmt: skip
def test_what_is_not_drawn(name, shape, options):
    function, before = getattr(init, name), np.full(shape, 7.0)
    equation = of(function, axes=len(shape) - 2 or None)
    made = equation.result_of(equation.evaluate(equation.bind(function, an.asarray(before), **options)))
    filled = function(an.asarray(before), **options)
    np.testing.assert_array_equal(np.broadcast_to(np.asarray(made, dtype=float), shape), filled.numpy())


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "untruncated_normal", "truncated_normal"])
def test_variance_scaling(mode, distribution):
    """The deviation of the equation is that of the draws, whatever is drawn from, and its ends are theirs."""
    an.random.manual_seed(0)
    options = {"scale": 2.0, "mode": mode, "distribution": distribution}
    tensor = init.variance_scaling_(an.zeros((200, 300), dtype=an.float64), **options)
    equation = of(init.variance_scaling_)
    made = equation.evaluate(equation.bind(init.variance_scaling_, tensor, **options))
    drawn = np.abs(tensor.numpy())
    assert tensor.numpy().std() == pytest.approx(float(made["σ"]), rel=0.01)
    if distribution != "untruncated_normal":
        end = math.sqrt(3) * float(made["σ"]) if distribution == "uniform" else 2 * float(made["τ"])
        assert 0.99 * end < drawn.max() <= end


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
@pytest.mark.parametrize("param", [None, 0.3])
def test_gains(name, param):
    equation = of(init.calculate_gain)
    made = equation.evaluate(equation.bind(init.calculate_gain, name, param))
    assert float(made["g"]) == pytest.approx(init.calculate_gain(name, param), rel=1e-15)


def test_sparse_from_what_was_drawn():
    """The share of zeros in each column is the equation's; the draws themselves are given to it."""
    equation, rng = of(init.sparse_), np.random.default_rng(0)
    z, u, old = rng.normal(size=(10, 4)), rng.uniform(size=(10, 4)), np.zeros((10, 4))
    values = equation.bind(init.sparse_, an.asarray(old), 0.33) | {"z": z, "u": u}
    made = np.asarray(equation.result_of(equation.evaluate(values)))
    filled = init.sparse_(an.asarray(old), 0.33)
    assert (made == 0).sum(0).tolist() == (filled.numpy() == 0).sum(0).tolist() == [4] * 4
    np.testing.assert_array_equal(made[made != 0], z[made != 0])
