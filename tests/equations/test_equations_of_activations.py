"""Activations against their equations, as functions and as layers; SymPy's derivative of each against autograd."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from equations.equation_checks import agrees, normal

X = normal(4, 6) * 3
PLAIN = [
    "relu",
    "sigmoid",
    "silu",
    "tanh",
    "relu6",
    "hardsigmoid",
    "hardswish",
    "tanhshrink",
    "softsign",
    "logsigmoid",
    "mish",
    "selu",
]
OPTIONS = [
    ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("elu", {}),
    ("elu", {"alpha": 0.7}), ("celu", {"alpha": 2.0}), ("celu", {"alpha": 0.5}), ("softplus", {}),
    ("softplus", {"beta": 2.0, "threshold": 1.5}), ("hardtanh", {}), ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("hardshrink", {}), ("hardshrink", {"lambd": 1.2}), ("softshrink", {}), ("softshrink", {"lambd": 1.2}),
    ("threshold", {"threshold": 0.3, "value": -2.0}), ("squareplus", {}), ("squareplus", {"b": 1.0}),
    *[(name, {"dim": d}) for name in ("softmax", "log_softmax", "softmin", "sparsemax", "glu", "crelu", "logsumexp") for d in (0, -1)],
    *[(name, {}) for name in ("softmax", "log_softmax", "softmin", "sparsemax", "glu", "crelu")],
]  # fmt: skip
LAYERS = dict(
    relu="ReLU", sigmoid="Sigmoid", silu="SiLU", tanh="Tanh", relu6="ReLU6", hardsigmoid="Hardsigmoid", hardswish="Hardswish",
    tanhshrink="Tanhshrink", softsign="Softsign", logsigmoid="LogSigmoid", mish="Mish", selu="SELU", gelu="GELU",
    leaky_relu="LeakyReLU", elu="ELU", celu="CELU", softplus="Softplus", hardtanh="Hardtanh", hardshrink="Hardshrink",
    softshrink="Softshrink", threshold="Threshold", squareplus="SquarePlus", softmax="Softmax", log_softmax="LogSoftmax",
    softmin="Softmin", sparsemax="Sparsemax", glu="GLU", crelu="CReLU",
)  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [*[(n, {}) for n in PLAIN], *OPTIONS])
def test_function_and_layer(name, options):
    agrees(getattr(F, name), X, **options)
    if name in LAYERS:
        agrees(getattr(nn, LAYERS[name])(**options), X)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
@pytest.mark.parametrize("n", [1, 3])
def test_prelu(shape, n):
    layer = nn.PReLU(n, dtype=an.float64)
    if n == 1 or len(shape) == 2:
        agrees(layer, normal(*shape))
        agrees(F.prelu, normal(*shape), np.abs(normal(n)))


def test_softmax_over_channels():
    agrees(nn.Softmax2d(), normal(2, 3, 4, 5))
    agrees(nn.Softmax2d(), normal(3, 4, 5))


def test_drawn_slopes():
    layer = nn.RReLU()
    layer.eval()
    agrees(layer, X, given={"a": 0.0})
    layer.train()
    agrees(layer, X, given=lambda y: {"a": np.where(X < 0, y.numpy() / X, 0.0)})


def test_gumbel_softmax():
    def noise(y):  # up to a constant for each row, which softmax does not see
        return {"G": np.log(y.numpy()) * 0.7 - X}

    agrees(F.gumbel_softmax, X, tau=0.7, given=noise)
