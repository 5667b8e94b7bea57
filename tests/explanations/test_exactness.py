"""Digits that are true: of a step beside float64, by layer."""

from __future__ import annotations

import math

import pytest

import anynet as an
from anynet import nn
from anynet.explanations import ExplanationError

FULL = 24 * math.log10(2)


def test_a_step_keeps_most_digits_and_leaves_the_model_as_it_is() -> None:
    an.random.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 5)
    )
    x, y = an.random.normal((8, 1, 6, 6)), an.asarray([0, 1, 2, 3, 4, 0, 1, 2])
    net[0].weight.grad = an.ones_like(net[0].weight)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    drawn = an.random.get_state()
    found = an.exactness(net, (x, y), loss="cross_entropy")
    data = found.to_json()
    assert data["loss"]["digits"] > 5
    assert [d["layer"] for d in data["layers"]] == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
        "Flatten",
        "Dropout",
        "Linear",
    ]
    for layer in data["layers"]:
        assert 4 < layer["forward"] <= FULL
        assert 3 < layer["backward"] <= FULL
        assert -1e-9 <= layer["lost_forward"] < 2
    assert data["layers"][3]["lost_forward"] == 0  # Flatten only moves numbers
    assert (
        data["parameters"]["0.bias"] < 3
    )  # what follows subtracts the mean: the gradient is 0, and all of it is rounding
    assert all((v.numpy() == before[k]).all() for k, v in net.state_dict().items())
    assert an.random.get_state() == drawn
    assert (net[0].weight.grad.numpy() == 1).all()
    assert net[5].weight.grad is None
    assert "Most is lost in" in str(found)
    assert "<table>" in found.to_html()


def test_cancellation_is_found_in_its_layer() -> None:
    class Shift(nn.Module):
        def forward(self, x: an.Tensor) -> an.Tensor:
            return (x + 1e5) - 1e5

    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), Shift(), nn.Tanh(), nn.Linear(4, 1))
    data = an.exactness(net, (an.random.normal((5, 3)), an.zeros((5, 1))), loss="mse").to_json()
    lost = {d["layer"]: d["lost_forward"] for d in data["layers"]}
    assert lost["Shift"] > 4
    assert max(lost["Linear"], lost["Tanh"]) < 1.5
    assert data["layers"][2]["forward"] < 3.5  # and it stays lost


def test_other_dtypes_and_models() -> None:
    an.random.manual_seed(0)
    assert an.exactness(nn.LSTM(3, 2), an.random.normal((4, 1, 3))).to_json()["dtype"] == "float32"
    block = an.exactness(nn.TransformerEncoderLayer(4, 2, 8), an.random.normal((3, 2, 4))).to_json()
    assert {"LayerNorm", "Linear", "MultiheadAttention"} <= {d["layer"] for d in block["layers"]}
    with pytest.raises(ValueError, match="the step is in float64"):
        an.exactness(nn.Linear(2, 1).to("float64"), an.ones((1, 2), dtype="float64"))
    with pytest.raises(ValueError, match=r"pair \(inputs, targets\)"):
        an.exactness(nn.Linear(2, 1), an.ones((1, 2)), loss="mse")
    with pytest.raises(ExplanationError, match=r"does not take 2 inputs .* with targets give loss="):
        an.exactness(nn.Linear(2, 1), (an.ones((1, 2)), an.ones((1, 1))))
    with pytest.raises(TypeError, match="must be a Module"):
        an.exactness(an.tanh, an.ones((1, 2)))
