"""Fine-tuning: frozen parts keep their bits, rates fall towards the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import models, nn
from anynet.train import layer_groups

rng = np.random.default_rng(0)
X = rng.standard_normal((24, 3, 8, 8)).astype(np.float32)
Y = rng.integers(0, 3, 24)


def network() -> models.ResNet:
    an.random.manual_seed(4)
    return models.ResNet((1, 1), num_classes=3, width=4, stem="cifar")


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def tune(model: nn.Module, **options: Any) -> Any:
    given = {"loss": "cross_entropy", "epochs": 2, "batch_size": 8, "progress": False, "lr": 0.01} | options
    return an.fine_tune(model, (X, Y), **given)


class Rates(an.train.Callback):
    """What is trained, and how fast, in each epoch."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_epoch_end(self, run: Any) -> None:
        names = {id(p): name for name, p in run.model.named_parameters()}
        rates = {names[id(p)]: g["lr"] for g in run.optimizer.param_groups for p in g["params"]}
        frozen = {name for name, p in run.model.named_parameters() if not p.requires_grad}
        self.seen.append(
            (rates, frozen, [m.training for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)])
        )


def test_layer_groups() -> None:
    groups = layer_groups(network())
    assert [group[0] for group in groups] == [
        "conv1.weight",
        "layer1.0.conv1.weight",
        "layer2.0.conv1.weight",
        "fc.weight",
    ]
    assert groups[0] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    vit = models.ViT(8, 4, 3, 2, 8, 8, num_classes=2)
    groups = layer_groups(vit)
    assert [group[0] for group in groups] == [
        "class_token", "encoder.pos_embedding", "encoder.layers.encoder_layer_1.ln_1.weight",
        "encoder.layers.encoder_layer_2.ln_1.weight", "heads.head.weight",
    ]  # fmt: skip
    for model in (
        vit,
        network(),
        models.UNet(1, 2, width=2, depth=2),
        nn.Linear(2, 2),
        nn.Sequential(network(), nn.ReLU(), nn.Linear(3, 2)),
    ):
        names = [name for group in layer_groups(model) for name in group]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("backbone", {"fc"}),
        (2, {"layer2", "fc"}),
        (-2, {"layer2", "fc"}),
        ("layer1", {"conv1", "bn1", "layer2", "fc"}),
        (["conv1", "bn1", "layer*"], {"fc"}),
        (None, {"conv1", "bn1", "layer1", "layer2", "fc"}),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("compile", [False, True])
def test_frozen_parts_keep_their_bits(freeze: Any, trained: set[str], optimizer: str, compile: bool) -> None:
    model = network()
    before = bits(model)
    weight_decay = (
        an.optim.AdamW
        if optimizer == "adamw"
        else lambda groups, lr: an.optim.SGD(groups, lr=lr, momentum=0.9, weight_decay=0.1)
    )
    tune(model, freeze=freeze, optimizer=weight_decay, compile=compile)
    after = bits(model)
    changed = {name.split(".")[0] for name in before if before[name] != after[name]}
    assert changed == trained
    assert all(p.requires_grad for p in model.parameters())  # afterwards all may be trained
    assert all(m.training for m in model.modules())


def test_parts_that_were_frozen_already_stay_so_and_modes_too() -> None:
    model = network()
    model.layer1.requires_grad_(False)
    model.layer1.eval()
    before = bits(model.layer1)
    tune(model, freeze="conv1")
    assert bits(model.layer1) == before
    assert [p.requires_grad for p in model.layer1.parameters()] == [False] * 6
    assert not model.layer1.training
    model.eval()
    tune(model)
    assert not model.training


@pytest.mark.parametrize("compile", [False, True])
def test_unfreezing(compile: bool) -> None:
    model, rates = network(), Rates()
    start = bits(model)
    tune(model, unfreeze_after=1, epochs=2, callbacks=[rates], compile=compile)
    (_, frozen, modes), (_, later, modes_later) = rates.seen
    assert frozen == {name for name, _ in model.named_parameters() if not name.startswith("fc.")}
    assert later == set()
    assert (set(modes), set(modes_later)) == ({False}, {True})
    assert all(start[name] != value for name, value in bits(model).items())
    once = network()
    tune(once, epochs=1)
    assert [name for name, value in bits(once).items() if start[name] != value] == ["fc.weight", "fc.bias"]


def test_rates_fall_towards_the_input() -> None:
    rates = Rates()
    tune(network(), freeze=None, layer_decay=0.5, callbacks=rates)
    got = rates.seen[0][0]
    assert {name.split(".")[0]: rate for name, rate in got.items()} == {
        "fc": 0.01, "layer2": 0.005, "layer1": 0.0025, "conv1": 0.00125, "bn1": 0.00125,
    }  # fmt: skip
    assert tune(network(), freeze=None, layer_decay=0.5)[0]["lr"] == 0.01
    rates = Rates()
    tune(network(), freeze=1, layer_decay=0.5, callbacks=rates, scheduler="onecycle", epochs=1)
    last = rates.seen[-1][0]
    np.testing.assert_allclose(last["layer1.0.conv1.weight"] / last["fc.weight"], 0.25)


def test_a_step_has_the_rates_of_its_layers() -> None:
    """Plain gradient descent: the update is the rate times the gradient."""
    net = models.MLP(4, 2, hidden=(3,), activation="tanh")
    x, y = an.asarray(rng.standard_normal((5, 4)).astype(np.float32)), an.asarray([0, 1, 0, 1, 1])
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    nn.functional.cross_entropy(net(x), y).backward()
    grads = {k: p.grad.numpy().copy() for k, p in net.named_parameters()}
    net.zero_grad()
    an.fine_tune(
        net,
        (x, y),
        loss="cross_entropy",
        optimizer="sgd",
        lr=0.1,
        layer_decay=0.2,
        freeze=None,
        batch_size=5,
        progress=False,
    )
    for name, value in net.state_dict().items():
        rate = 0.1 if name.startswith("2.") else 0.02
        np.testing.assert_allclose(value.numpy(), before[name] - rate * grads[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("stop", [1, 2])
def test_resume_goes_on_frozen_or_unfrozen(stop: int, tmp_path: Path) -> None:
    options = {"unfreeze_after": 1, "layer_decay": 0.5}
    whole = network()
    tune(whole, epochs=3, **options)
    model = network()
    tune(model, epochs=stop, run_dir=tmp_path / "run", **options)
    other = network()
    tune(other, epochs=3, run_dir=tmp_path / "run", resume=True, **options)
    assert bits(other) == bits(whole)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"freeze": "layr1"},
            ValueError,
            r"freeze has 'layr1', which is the name of no part of the model; did you mean 'layer1'",
        ),
        ({"freeze": 4}, ValueError, "freeze must be less than the number of layers, 4"),
        ({"freeze": True}, TypeError, "freeze must be 'backbone', a number of layers, names or None"),
        ({"freeze": 1.5}, TypeError, "freeze must be"),
        ({"layer_decay": 0.0}, ValueError, "layer_decay"),
        ({"layer_decay": 1.5}, ValueError, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"unfreeze_after": 0}, ValueError, "unfreeze_after"),
        ({"freeze": None, "unfreeze_after": 1}, ValueError, "unfreeze_after is for what is frozen"),
        ({"optimizer": "adamww"}, ValueError, "did you mean 'adamw'"),
        ({"optimizer": 3}, TypeError, "a name, a class or a function of parameter groups"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = network()
    before = bits(model)
    with pytest.raises(error, match=message):
        tune(model, **options)
    assert bits(model) == before
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(TypeError, match="model must be a Module"):
        an.fine_tune(3, (X, Y))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="call it once on an example"):
        an.fine_tune(nn.Sequential(nn.LazyLinear(3)), (X, Y), loss="cross_entropy")


def test_from_weights_of_another_task() -> None:
    """The whole way: weights by name, a new head, the head trained, then everything."""
    trained = network()
    net = models.ResNet((1, 1), num_classes=5, width=4, stem="cifar")
    assert models.load_weights(net, trained, head="new").kept == ["fc.weight", "fc.bias"]
    history = an.fine_tune(
        net, (X, Y % 5), loss="cross_entropy", epochs=3, unfreeze_after=1, layer_decay=0.7, progress=False
    )
    assert len(history) == 3
