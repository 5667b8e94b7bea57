"""Initial weights: the bounds and variances that the formulas promise, and the same draws everywhere."""

import math
import tracemalloc

import numpy as np
import pytest

import anynet as an
from anynet import nn, random, streams
from anynet.nn import init
from anynet.testing.comparing import to_host
from anynet_backends import philox


@pytest.fixture(autouse=True)
def seed():
    random.manual_seed(1)


def blank(*shape, device="cpu"):
    return an.Parameter(an.zeros(shape, dtype=an.float64, device=device))


def test_uniform_and_normal():
    t = blank(200, 100)
    assert init.uniform_(t, -1.0, 3.0) is t
    v = t.numpy()
    assert v.min() >= -1.0
    assert v.max() < 3.0
    assert abs(v.mean() - 1.0) < 0.03
    v = init.normal_(t, 2.0, 0.5).numpy()
    assert abs(v.mean() - 2.0) < 0.02
    assert abs(v.std() - 0.5) < 0.01
    assert t.requires_grad


def test_truncated_normal():
    v = init.trunc_normal_(blank(200, 100), 1.0, 2.0, -1.0, 1.5).numpy()
    assert v.min() >= -1.0
    assert v.max() <= 1.5
    with pytest.raises(ValueError, match="a must be less than b"):
        init.trunc_normal_(blank(2), a=1.0, b=1.0)
    with pytest.raises(ValueError, match="some probability"):
        init.trunc_normal_(blank(2), a=50.0, b=51.0)


def test_constants():
    assert init.zeros_(init.ones_(blank(2, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert init.constant_(blank(2), 0.3).tolist() == [0.3, 0.3]
    assert init.eye_(blank(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match="must be a matrix"):
        init.eye_(blank(2))


@pytest.mark.parametrize(
    ("function", "options", "variance"),
    [
        (init.xavier_uniform_, {}, 2 / (50 * 9 + 40 * 9)),
        (init.xavier_normal_, {"gain": 3.0}, 9 * 2 / (50 * 9 + 40 * 9)),
        (init.kaiming_uniform_, {"nonlinearity": "relu"}, 2 / (50 * 9)),
        (init.kaiming_uniform_, {"a": math.sqrt(5)}, 2 / 6 / (50 * 9)),
        (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, 2 / (40 * 9)),
        (init.kaiming_normal_, {"nonlinearity": "tanh"}, 25 / 9 / (50 * 9)),
    ],
)
def test_glorot_and_he(function, options, variance):
    v = function(blank(40, 50, 3, 3), **options).numpy()
    assert abs(v.mean()) < 3 * math.sqrt(variance / v.size)
    np.testing.assert_allclose(v.var(), variance, rtol=0.04)
    if "uniform" in function.__name__:
        assert np.abs(v).max() <= math.sqrt(3 * variance)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (4, 3, 2)])
def test_orthogonal(shape):
    q = init.orthogonal_(blank(*shape), gain=2.0).numpy().reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, 4.0 * np.eye(len(gram)), atol=1e-12)


def test_gains_are_pytorchs():
    torch = pytest.importorskip("torch", reason="the gains are compared with PyTorch's")
    for name in ("linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    with pytest.raises(ValueError, match="unknown non-linearity 'rellu'"):
        init.calculate_gain("rellu")


def test_errors():
    with pytest.raises(ValueError, match="at least 2 axes"):
        init.xavier_uniform_(blank(3))
    with pytest.raises(ValueError, match="'fan_in' or 'fan_out', got 'both'"):
        init.kaiming_normal_(blank(3, 2), mode="both")
    with pytest.raises(ValueError, match="at least 2 axes"):
        init.orthogonal_(blank(3))


def test_the_same_on_every_device(xp_device):
    drawn = []
    for device in ("cpu", xp_device):
        random.manual_seed(9)
        t = blank(4, 5, device=device)
        drawn.append(
            [f(t).numpy().copy() for f in (init.uniform_, init.normal_, init.trunc_normal_, init.orthogonal_)]
        )
    for a, b in zip(*drawn, strict=True):
        np.testing.assert_array_equal(a, b)


def test_default_initialisation_is_pytorchs():
    random.manual_seed(0)
    layer = an.nn.Linear(400, 300)
    for p in layer.parameters():
        v = p.numpy()
        assert np.abs(v).max() <= 1 / math.sqrt(400)
        np.testing.assert_allclose(v.std(), 1 / math.sqrt(3 * 400), rtol=0.1)
    rows = an.nn.Embedding(300, 40, padding_idx=2).weight.numpy()
    np.testing.assert_allclose(rows.std(), 1.0, rtol=0.05)
    assert (rows[2] == 0).all()


@pytest.mark.parametrize("name", [
    "uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
    "orthogonal_", "sparse_",
])  # fmt: skip
def test_a_generator_takes_the_place_of_the_global_stream(name):
    function = getattr(an.nn.init, name)
    args = (0.3,) if name == "sparse_" else ()
    w = an.nn.Parameter(an.zeros((4, 5)))
    before = an.random.get_state()
    generator = an.random.Generator(7)
    one = function(w, *args, generator=generator).numpy().copy()
    two = function(w, *args, generator=generator).numpy().copy()
    assert an.random.get_state() == before
    assert (one != two).any()
    assert (function(w, *args, generator=generator.manual_seed(7)).numpy() == one).all()
    an.random.manual_seed(7)
    assert (function(w, *args).numpy() == one).all()


def test_a_generator_refuses_what_is_no_seed():
    with pytest.raises(ValueError, match="a seed must be"):
        an.random.Generator(-1)


def test_skipping_in_one_thread_skips_in_no_other(while_another):
    w = an.nn.Parameter(an.zeros((3,)))
    with while_another(an.nn.init.skipped()):
        an.nn.init.ones_(w)
    assert w.tolist() == [1.0, 1.0, 1.0]


def test_initial_values():
    an.random.manual_seed(0)
    for fill, variance in (
        (nn.init.lecun_normal_, 1 / 300), (nn.init.lecun_uniform_, 1 / 300),
        (lambda p: nn.init.variance_scaling_(p, 2.0, "fan_out", "untruncated_normal"), 2 / 200),
        (lambda p: nn.init.variance_scaling_(p, 1.0, "fan_avg", "uniform"), 1 / 250),
        (lambda p: nn.init.variance_scaling_(p, 1.0, "fan_avg"), 1 / 250),
    ):  # fmt: skip
        p = nn.Parameter(an.zeros((200, 300), dtype=an.float64))
        values = fill(p).numpy()
        assert abs(values.var() / variance - 1) < 0.03
        assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    values = nn.init.lecun_normal_(nn.Parameter(an.zeros((200, 300)))).numpy()
    assert np.abs(values).max() <= 2 / 0.8796 / math.sqrt(300)


def test_large_weights_are_drawn_in_place():
    """The numbers are those of one draw in double precision, rounded; no second array of the size is made."""
    shape = (400, 333)
    tensor = an.nn.Parameter(an.zeros(shape))
    an.random.manual_seed(3)
    tracemalloc.start()
    init.normal_(tensor, 1.0, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < tensor.size * 4 * 0.75
    an.random.manual_seed(3)
    drawn = philox.generator(*streams.next_draw(None)).standard_normal(shape) * 0.5 + 1.0
    np.testing.assert_array_equal(tensor.numpy(), drawn.astype(np.float32))
    an.random.manual_seed(3)
    for device in ("cpu", "strict:device1"):
        an.random.manual_seed(3)
        other = init.normal_(an.nn.Parameter(an.zeros(shape, device=device)), 1.0, 0.5)
        np.testing.assert_array_equal(to_host(other), tensor.numpy())
    an.random.manual_seed(3)
    turned = init.normal_(an.nn.Parameter(np.zeros((333, 400), np.float32).T), 1.0, 0.5)
    np.testing.assert_array_equal(turned.numpy(), tensor.numpy())
