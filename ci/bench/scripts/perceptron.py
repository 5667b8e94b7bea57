"""Digits by a perceptron, with updates written by hand."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
x = torch.randn(4096, 784)
y = torch.randint(0, 10, (4096,))
net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
net.train()
while True:
    for i in range(0, 4096, 128):
        loss = F.cross_entropy(net(x[i : i + 128]), y[i : i + 128])
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p.data.add_(p.grad, alpha=-0.05)
