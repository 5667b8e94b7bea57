"""Trains one network for 20 steps on the CPU and on another device, and compares: ci/gpu_training.py cuda."""

import sys

import anynet as an
from anynet import nn
from anynet.data import DataLoader, load
from anynet.optim import Adam

STEPS, LIMIT = 20, 1e-4  # float32: the relative difference of losses and, norm-wise, of weights


def train(device: str) -> tuple[list[float], dict[str, an.Tensor]]:
    """The losses of 20 steps and the weights after them, on the host."""
    an.random.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Dropout(0.1), nn.Linear(100, 10)
    ).to(device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()
    losses: list[float] = []
    for x, y in DataLoader(load("digits", scaled=True), batch_size=64, shuffle=True, seed=0, device=device):
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
        if len(losses) == STEPS:
            break
    return losses, {name: value.to("cpu") for name, value in model.state_dict().items()}


def main() -> int:
    """0 where both agree."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    (here, weights), (there, others) = train("cpu"), train(device)
    for step, (a, b) in enumerate(zip(here, there, strict=True), 1):
        print(f"step {step:2}  loss on cpu {a:.7f}  on {device} {b:.7f}")
    worst = max(abs(a - b) / abs(a) for a, b in zip(here, there, strict=True))
    for name, weight in weights.items():
        difference = float(an.sum((weight - others[name]) ** 2) / an.sum(weight**2)) ** 0.5
        print(f"{name:12} relative difference {difference:.2e}")
        worst = max(worst, difference)
    print(f"largest relative difference {worst:.2e}, limit {LIMIT:.0e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
