"""The network and the data of the optimizers' tests, and PyTorch's twin of it."""

import numpy as np

import anynet as an
from torch_oracle import torch


def network():
    an.random.manual_seed(1)
    return an.nn.Sequential(
        an.nn.Linear(3, 5, dtype="float64"), an.nn.Tanh(), an.nn.Linear(5, 2, dtype="float64")
    )


def data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(8, 3)), rng.normal(size=(8, 2))


def twins():
    net = network()
    twin = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    twin.load_state_dict({k: torch.tensor(v.numpy().copy()) for k, v in net.state_dict().items()})
    return net, twin


def groups(net, matrices=False):
    first, last = list(net[0].parameters()), list(net[2].parameters())
    if matrices:
        first, last = first[:1], last[:1]
    return [{"params": first}, {"params": last, "lr": 0.002}]


def agree(net, twin, tolerance=1e-10):
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert abs(p.numpy() - q.detach().numpy()).max() <= tolerance * max(
            1.0, abs(q.detach().numpy()).max()
        )
