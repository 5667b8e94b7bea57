"""Mistakes that a type checker must find: each line that ends with `# error`, and no other."""

from __future__ import annotations

import anynet as an
import anynet.nn.functional as F
from anynet import nn, optim
from anynet.typing import ArrayLike

x = an.ones((2, 3))
layer = nn.Linear(3, 2)

# missing and surplus arguments
nn.Linear(3)  # error
nn.Conv2d(1, 8)  # error
nn.Linear(3, 2, bais=False)  # error
layer()  # error
layer(x, x)  # error
nn.LSTM(3, 5)(x, None, 1)  # error
F.relu()  # error
F.cross_entropy(x)  # error
an.exp()  # error
an.matmul(x)  # error
an.sum(x, dim=1)  # error
optim.SGD()  # error
optim.Adam(layer.parameters(), learning_rate=0.1)  # error
an.save("weights.safetensors")  # error

# names that are not there
x.size(0)  # error
x.foo  # error
layer.wieght  # error
layer(x).foo  # error
F.relu(x).foo  # error
an.exp(x).cpuu()  # error
(x + 1).detatch()  # error
an.sum(x).itme()  # error
nn.Linaer(3, 2)  # error
F.sofmax(x)  # error
optim.Adamm(layer.parameters())  # error
an.maen(x)  # error
layer.parameter()  # error
optim.SGD(layer.parameters(), lr=0.1).zero_gradd()  # error

# wrong types
nn.Linear("3", 2)  # error
nn.Dropout("0.5")  # error
nn.Embedding(10, 2.5)  # error
layer("x")  # error
layer(3)  # error
F.relu("x")  # error
F.softmax(x, dim="rows")  # error
an.reshape(x, "2")  # error
an.exp("1")  # error
optim.SGD(layer.parameters(), lr="0.1")  # error
nn.Sequential(3)  # error
y: int = layer(x)  # error
n: str = an.sum(x)  # error


class Net(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(3, 4)

    def forward(self, a: an.Tensor, scale: float = 1.0) -> an.Tensor:
        return self.second(a)  # error


net = Net()
net(x, scale="big")  # error
net(x, sclae=2.0)  # error
net(x).foo  # error


def double(a: ArrayLike) -> ArrayLike:
    return a * 2


double("a")  # error
