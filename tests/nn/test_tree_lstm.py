"""LSTMs over trees against their formulas."""

import numpy as np

import anynet as an
from anynet import nn
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


def test_tree_lstms():
    an.random.manual_seed(0)
    x, y = draw(2, 3), draw(2, 3, seed=1)
    child_sum, binary = nn.ChildSumTreeLSTM(3, 2).to("float64"), nn.NaryTreeLSTM(3, 2, 2).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in child_sum.state_dict().items()}
    b = {k: torch.tensor(v.numpy()) for k, v in binary.state_dict().items()}

    def summed(x, children):
        a = x @ s["input.weight"].T + s["input.bias"]
        h = sum(h for h, _ in children) if children else torch.zeros(2, 2, dtype=torch.float64)
        i, o, u = (a[:, :6] + h @ s["hidden.weight"].T).chunk(3, 1)
        c = torch.sigmoid(i) * torch.tanh(u)
        for h, before in children:
            c = c + torch.sigmoid(a[:, 6:] + h @ s["forget.weight"].T) * before
        return torch.sigmoid(o) * torch.tanh(c), c

    def nary(x, children):
        a = x @ b["input.weight"].T + b["input.bias"]
        parts = [h @ b[f"children_weights.{k}.weight"].T for k, (h, _) in enumerate(children)]
        i, o, u = (a[:, :6] + sum(p[:, :6] for p in parts)).chunk(3, 1)
        c = torch.sigmoid(i) * torch.tanh(u)
        for k, (_, before) in enumerate(children):
            c = c + torch.sigmoid(a[:, 6:] + sum(p[:, 6 + 2 * k : 8 + 2 * k] for p in parts)) * before
        return torch.sigmoid(o) * torch.tanh(c), c

    def tree(node):
        return lambda x, y: node(y, [node(x, []), node(y, [node(x, [])] * 2)])[0]

    agree_with_gradients(
        lambda x, y: child_sum(y, [child_sum(x), child_sum(y, [child_sum(x)] * 2)])[0], tree(summed), x, y
    )
    agree_with_gradients(lambda x, y: binary(y, [binary(x), binary(y, [binary(x)] * 2)])[0], tree(nary), x, y)
