"""More of the library as users write it: data, containers, transforms, own gradients, callbacks. Every line must pass."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

import anynet as an
from anynet import nn, optim
from anynet.data import DataLoader, Dataset
from anynet.nn import functional as F
from anynet.train import Callback, EarlyStopping, Training


class Squares(Dataset):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray([i], np.float32), np.asarray([i * i], np.float32)


class Report(Callback):
    def on_epoch_end(self, run: Training) -> None:
        print(sum(p.size for p in run.model.parameters()), run.record)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.named = nn.ModuleDict({"a": nn.Tanh(), "b": nn.ReLU()})
        self.register_buffer("seen", an.zeros(1))

    def forward(self, x: an.Tensor, mask: an.Tensor | None = None) -> tuple[an.Tensor, an.Tensor]:
        y, weights = self.attend(x, x, x, attn_mask=mask)
        for block in self.blocks:
            y = block(y)
        q = an.permute_dims(an.reshape(y, (*y.shape[:2], 2, -1)), (0, 2, 1, 3))
        z = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        return an.mean(z, axis=1), weights


def penalty(w: an.Tensor) -> an.Tensor:
    return an.sum(an.abs(w)) + 0.5 * an.vecdot(w, w)


def main(folder: Path) -> None:
    loader = DataLoader(Squares(64), batch_size=16, shuffle=True)
    for inputs, targets in loader:
        print(inputs.shape, targets.dtype)
    net = nn.Sequential(
        OrderedDict([("first", nn.Linear(1, 8)), ("act", nn.Tanh()), ("last", nn.Linear(8, 1))])
    )
    an.fit(
        net,
        loader,
        loss="mse",
        optimizer="adam",
        lr=0.01,
        epochs=2,
        callbacks=[Report(), EarlyStopping("loss", patience=3)],
        progress=False,
    )
    print(an.evaluate(net, loader, loss=nn.MSELoss())["loss"], an.predict(net, np.ones((2, 1), np.float32)))
    print(
        an.fit(
            nn.Linear(1, 1), loader, loss=nn.functional.mse_loss, run_dir=str(folder / "run"), progress=False
        )
    )
    value, gradient = an.value_and_grad(penalty)(an.asarray([1.0, -2.0]))
    print(float(value), gradient.tolist(), an.hessian(penalty)(an.asarray([1.0, 2.0])).shape)
    print(an.vmap(penalty)(an.ones((3, 2))).shape)
    step = an.compile(lambda a: an.sum(a * 2))
    print(step(an.ones(3)))
    out, weights = Attention(8, 2)(an.ones((1, 4, 8)))
    print(out.shape, weights.shape)
    optimizer = optim.SGD([{"params": net.parameters(), "lr": 0.1}], lr=0.01, momentum=0.9, nesterov=True)
    schedule = optim.SequentialLR(
        optimizer, [optim.LinearLR(optimizer, 0.1), optim.StepLR(optimizer, 30, gamma=0.1)], milestones=[5]
    )
    schedule.step()
    print(optimizer.param_groups[0]["lr"], schedule.state_dict())
    for name, p in net.named_parameters():
        print(name, p.shape, p.requires_grad, p.grad is None)
    x = an.asarray(np.eye(3), dtype=an.float64, requires_grad=True)
    y = an.linalg.solve(x + 2, an.ones(3, dtype=an.float64))
    an.sum(y).backward()
    assert x.grad is not None
    print(x.grad.numpy().sum(), an.linalg.vector_norm(x))
    u, s, vh = an.linalg.svd(x.detach(), full_matrices=False)
    print(u.shape, s.tolist(), vh.ndim)
    pooled, places = F.max_pool2d(an.ones((1, 1, 4, 4)), 2, return_indices=True)
    print(pooled.shape, places.shape)
    a, b = an.unstack(an.ones((2, 3)))
    print(
        an.concat([a, b]),
        an.stack((a, b)),
        an.where(a > 0, a, 0.0),
        2 * a,
        1 - b,
        -a,
        a @ b,
        bool(an.all(a == b)),
    )


if __name__ == "__main__":
    main(Path("runs"))
