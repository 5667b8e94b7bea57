"""Recurrent layers against their equations: layers, cells, trees, convolutional LSTMs and the conditional random field."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.equations import of
from equations.equation_checks import agrees, normal

double = {"dtype": an.float64}


def pair(*shape):
    return tuple(an.asarray(normal(*shape, seed=k), requires_grad=True) for k in range(2))


@pytest.mark.parametrize(
    ("name", "options"),
    [("RNN", {}), ("RNN", {"nonlinearity": "relu", "bias": False}), ("GRU", {}), ("GRU", {"bias": False, "batch_first": True}),
     ("LSTM", {}),
     ("LSTM", {"batch_first": True}), ("LSTM", {"bias": False})],
)  # fmt: skip
def test_layer(name, options):
    layer = getattr(nn, name)(3, 4, **options, **double)
    x = normal(2, 5, 3) if options.get("batch_first") else normal(5, 2, 3)

    def turned(value):  # the outputs of all steps, with time first
        return (
            np.moveaxis(value.numpy(), 0, 1)
            if options.get("batch_first") and value.shape == (2, 5, 4)
            else value
        )

    agrees(layer, x, out=turned)
    state = pair(1, 2, 4) if name == "LSTM" else normal(1, 2, 4)
    agrees(layer, x, state, out=turned)
    agrees(layer, normal(5, 3))


def test_projection():
    layer = nn.LSTM(3, 4, proj_size=2, **double)
    state = pair(1, 2, 2)[0], pair(1, 2, 4)[1]
    agrees(layer, normal(5, 2, 3), state)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_layers_and_directions_are_the_equation_again(name):
    layer = getattr(nn, name)(3, 4, 2, bidirectional=True, **double)
    equation = of(layer)
    x = normal(5, 2, 3)
    y, _ = layer(an.asarray(x))
    for k in range(2):
        outputs = []
        for suffix in (f"_l{k}", f"_l{k}_reverse"):
            values = equation.bind(layer, an.asarray(x))
            values |= {s: getattr(layer, n + suffix).numpy()
                       for s, n in (("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh"))}  # fmt: skip
            step = -1 if "reverse" in suffix else 1
            outputs.append(equation.evaluate({**values, "x": x[::step]})["h"][::step])
        x = np.concatenate(outputs, axis=-1)
    np.testing.assert_allclose(y.numpy(), x, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("GRUCell", {}), ("LSTMCell", {"bias": False})],
)
def test_cell(name, options):
    cell = getattr(nn, name)(3, 4, **options, **double)
    agrees(cell, normal(2, 3))
    agrees(cell, normal(2, 3), pair(2, 4) if name == "LSTMCell" else normal(2, 4))
    agrees(cell, normal(3))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutional(axes):
    layer = getattr(nn, f"ConvLSTM{axes}d")(2, 3, 3 if axes < 3 else 2, **double)
    x = normal(3, 2, 2, *(4, 3, 2)[:axes])
    agrees(layer, x)
    agrees(layer, x, pair(2, 3, *(4, 3, 2)[:axes]))


def test_trees():
    children = [pair(2, 4), (an.asarray(normal(2, 4, seed=5)), an.asarray(normal(2, 4, seed=6)))]
    states = {
        "h": np.stack([h.numpy() for h, _ in children]),
        "c": np.stack([c.numpy() for _, c in children]),
    }
    agrees(nn.ChildSumTreeLSTM(3, 4, **double), normal(2, 3), children=children, given=states)
    layer = nn.NaryTreeLSTM(3, 4, **double)
    weights = np.stack([w.weight.numpy() for w in layer.children_weights])
    agrees(layer, normal(2, 3), children=children, given={**states, "U": weights})


@pytest.mark.parametrize("reduction", ["sum", "mean", "token_mean", "none"])
def test_conditional_random_field(reduction):
    layer = nn.CRF(3, **double)
    tags = np.asarray([[0, 2], [1, 1], [2, 0], [0, 0]])
    mask = np.asarray([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=bool)
    agrees(layer, normal(4, 2, 3), tags, reduction=reduction)
    agrees(layer, normal(4, 2, 3), tags, mask, reduction=reduction)
    first = nn.CRF(3, batch_first=True, **double)
    agrees(
        first, np.moveaxis(normal(4, 2, 3), 0, 1).copy(), tags.T.copy(), mask.T.copy(), reduction=reduction
    )
