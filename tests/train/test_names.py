"""A training state numbers the optimizer's parameters and names them; files of before, numbered in another order, load by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import anynet as an
from anynet import nn

# a file that was written when a module's tensors and its children were walked together: after two epochs of `train`
FORMER = Path(__file__).parent / "files" / "former_order.safetensors"

# what that version had after four epochs
AFTER = {
    "block.first.weight": [[0.0520022288, -0.4279693067], [0.2752897739, 0.0297648348]],
    "block.scale": [[1.0965409279, 0.6939871311], [0.2521125078, 0.7729942799]],
    "block.second.weight": [[-0.6510417461, 0.5062131286], [-0.1314148605, -0.5838118196]],
    "block.shift": [[0.1944285184, 0.1701585054], [0.1003978401, 0.2509153485]],
    "gain": [[0.7724555135, 0.0712177083], [-0.2964516878, 2.0896728039]],
    "norm.weight": [1.0303676128, 0.8991752863],
    "norm.bias": [0.0934960395, 0.1002868488],
    "norm.running_mean": [0.0296985973, 0.0648573190],
    "norm.running_var": [0.5211379528, 1.7829196453],
    "norm.num_batches_tracked": 12,
}


class Block(nn.Module):
    def __init__(self):
        self.first = nn.Linear(2, 2, bias=False)
        self.scale = nn.Parameter(an.asarray([[1.0, 0.5], [0.25, 1.0]]))
        self.second = nn.Linear(2, 2, bias=False)
        self.shift = nn.Parameter(an.asarray([[0.0, 0.1], [0.2, 0.3]]))

    def forward(self, x):
        return self.second(an.tanh(self.first(x) @ self.scale)) @ self.shift


class Net(nn.Module):
    """Its parameters have equal shapes, so that only names tell them apart."""

    def __init__(self):
        self.block = Block()
        self.gain = nn.Parameter(an.asarray([[1.0, 0.0], [0.0, 2.0]]))
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.block(self.norm(x @ self.gain))


def train(folder, net, optimizer="adam", epochs=4, resume=True):
    x = an.reshape(an.sin(an.arange(24, dtype="float32")), (12, 2))
    y = an.reshape(an.cos(an.arange(24, dtype="float32") * 0.7), (12, 2))
    options = {"lr": 0.05} if isinstance(optimizer, str) else {}
    an.fit(
        net, (x, y), loss="mse", epochs=epochs, batch_size=4, optimizer=optimizer, run_dir=folder, progress=False,
        device="cpu", resume=resume, **options,
    )  # fmt: skip
    return net


def former(tmp_path):
    shutil.copy(FORMER, tmp_path / "last.safetensors")
    return tmp_path


def test_former_file_goes_on_by_name(tmp_path):
    net = train(former(tmp_path), Net())
    assert list(net.state_dict()) == [
        "gain", "block.scale", "block.shift", "block.first.weight", "block.second.weight", "norm.weight", "norm.bias",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    ]  # fmt: skip
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), AFTER[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_former_file_with_a_group_for_each_module(tmp_path):
    tree = an.load(FORMER)
    (group,) = tree["optimizer"]["param_groups"]
    tree["optimizer"]["param_groups"] = [
        {**group, "params": [5, 6]}, {**group, "params": [0, 1, 2, 3]}, {**group, "params": [4]},
    ]  # fmt: skip
    an.save(tmp_path / "last.safetensors", tree)
    net = Net()
    parts = [{"params": net.norm.parameters()}, {"params": net.block.parameters()}, {"params": [net.gain]}]
    train(tmp_path, net, an.optim.Adam(parts, lr=0.05))
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value.numpy(), AFTER[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_former_file_that_leaves_open_which_is_which_is_refused(tmp_path):
    net = Net()
    optimizer = an.optim.Adam([*net.norm.parameters(), net.gain, *net.block.parameters()], lr=0.05)
    with pytest.raises(ValueError, match="does not say which parameter is which in the optimizer's group 0"):
        train(former(tmp_path), net, optimizer)


def test_other_order_of_the_same_parameters_goes_on_by_name(tmp_path):
    an.random.manual_seed(0)
    net = Net()
    start = {k: an.asarray(v, copy=True) for k, v in net.state_dict().items()}
    train(tmp_path / "a", net, epochs=4, resume=False)
    other = Net()
    other.load_state_dict(start)
    train(tmp_path / "b", other, epochs=2, resume=False)
    again = Net()
    optimizer = an.optim.Adam(reversed(list(again.parameters())), lr=0.05)
    train(tmp_path / "b", again, optimizer)
    for (name, p), q in zip(net.named_parameters(), again.parameters(), strict=True):
        assert (p.numpy() == q.numpy()).all(), name


def test_other_parameters_are_refused_and_nothing_changes(tmp_path):
    an.random.manual_seed(0)
    train(tmp_path, Net(), epochs=1, resume=False)
    net = Net()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    optimizer = an.optim.Adam(
        [{"params": list(net.block.parameters())}, {"params": [net.gain, *net.norm.parameters()]}]
    )
    with pytest.raises(ValueError, match=r"groups of \[7\] parameters, this optimizer of \[4, 3\]"):
        train(tmp_path, net, optimizer)
    assert all((v.numpy() == before[k]).all() for k, v in net.state_dict().items())
    with pytest.raises(ValueError, match="group 0 holds other parameters than this optimizer's: gain, other"):
        an.train.names.by_name({"param_groups": [{"params": [0]}]}, [["gain"]], [["other"]])
