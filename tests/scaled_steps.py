"""Steps of a small network with `torch.amp.GradScaler`, some of whose gradients overflow."""

from __future__ import annotations

import numpy as np

import anynet as an
import anynet.torch as torch
from anynet import nn, optim

__all__ = ["BATCHES", "LARGE", "batches", "clipped", "limited", "plain", "run"]

BATCHES = 14
LARGE = (4, 5, 9)  # batches whose gradients overflow


def batches(device="cpu"):
    own = np.random.default_rng(2)
    for i in range(BATCHES):
        x = own.standard_normal((5, 3)).astype(np.float32)
        yield an.asarray(x * (1e38 if i in LARGE else 1.0), device=device)


def plain(scaler, optimizer, net):
    scaler.step(optimizer)
    scaler.update()


def clipped(scaler, optimizer, net):
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(net.parameters(), 0.05)
    scaler.step(optimizer)
    scaler.update()


def limited(scaler, optimizer, net):
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_value_(net.parameters(), 0.01)
    scaler.step(optimizer)
    scaler.update()


class Training:
    """A network whose gradients, and not its loss, overflow for large inputs."""

    def __init__(self, make=optim.Adam, device="cpu", after=plain, how=lambda step: step, enabled=True):
        an.random.manual_seed(4)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).to(device)
        self.optimizer = make(self.net.parameters(), lr=1e-2)
        self.schedule = optim.StepLR(self.optimizer, 2, 0.7)
        self.scaler = torch.amp.GradScaler(device, growth_interval=3, enabled=enabled)
        self.after = after
        self.step = how(self.of)

    def of(self, x):
        self.optimizer.zero_grad()
        loss = an.mean(self.net(x) ** 2) + 1e-3 * an.mean(self.net[0].weight @ an.matrix_transpose(x))
        self.scaler.scale(loss).backward()
        self.after(self.scaler, self.optimizer, self.net)
        self.schedule.step()
        return loss.detach()

    def state(self):
        entries = self.optimizer.state_dict()["state"].values()
        arrays = [
            *self.net.parameters(),
            *(v for e in entries for v in e.values() if isinstance(v, an.Tensor)),
        ]
        counts = [e["step"] for e in entries], self.scaler.state_dict(), self.optimizer.param_groups[0]["lr"]
        return [a.numpy().tobytes() for a in arrays], counts


def run(**options):
    """What a training is after each batch."""
    training = Training(**options)
    found = []
    for x in batches(options.get("device", "cpu")):
        with np.errstate(all="ignore"):
            loss = training.step(x)
        found.append((loss.numpy().tobytes(), training.state()))
    return found, training
