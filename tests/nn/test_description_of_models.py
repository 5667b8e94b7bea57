"""The networks of `anynet.models` are described by their own constructors, after training and fine-tuning too."""

import json

import pytest

import anynet as an
from anynet import models, nn
from anynet.nn.description import build, describe

NETWORKS = {
    "EncoderDecoder": lambda: models.EncoderDecoder(11, 13, 8, 1, 2),
    "GPT": lambda: models.GPT(11, 8, 8, 2, 2),
    "LSTMLanguageModel": lambda: models.LSTMLanguageModel(11, 8, 1),
    "MLP": lambda: models.MLP(4, 2, (8,)),
    "ResNet": lambda: models.resnet20(),
    "TableLinear": lambda: models.TableLinear(3, (4, 2), 2),
    "TableMLP": lambda: models.TableMLP(3, (4, 2), 2, hidden=(8,)),
    "UNet": lambda: models.UNet(1, 2, 4, 2),
    "ViT": lambda: models.ViT(8, 4, 2, 2, 8, 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_models(name):
    net = NETWORKS[name]()
    described = json.loads(json.dumps(describe(net)))
    assert described["class"] == f"models.{name}"
    assert set(described) <= {"format", "class", "args", "kwargs"}
    twin = build(described)
    assert [(k, v.shape) for k, v in twin.state_dict().items()] == [
        (k, v.shape) for k, v in net.state_dict().items()
    ]
    assert repr(twin) == repr(net)


def test_a_new_head_on_a_frozen_body():
    net = models.resnet20()
    net.requires_grad_(False)
    net.fc = nn.Linear(net.fc.weight.shape[1], 3)
    twin = build(describe(net))
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in net.parameters()]
    twin.load_state_dict(net.state_dict())
    x = an.ones((2, 3, 8, 8))
    assert twin.eval()(x).tolist() == net.eval()(x).tolist()
