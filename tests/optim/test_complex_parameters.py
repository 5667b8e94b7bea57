"""Complex parameters: each part is a number of its own to an element-wise optimizer, as in PyTorch."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

CASES = [
    ("Adam", {}), ("Adam", {"amsgrad": True}), ("AdamW", {"weight_decay": 0.1}), ("Adamax", {}), ("NAdam", {}), ("RAdam", {}),
    ("RMSprop", {"momentum": 0.9}), ("Adagrad", {}), ("Adadelta", {}), ("Rprop", {}), ("SGD", {"momentum": 0.9}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_as_pytorch(name, options):
    """Over enough steps that the update becomes a program, and machine code where there is LLVM."""
    draws = np.random.default_rng(0).normal(size=(2, 3, 4))
    start = draws[0] + 1j * draws[1]
    p, q = an.Parameter(an.asarray(start)), torch.nn.Parameter(torch.tensor(start))
    mine, theirs = (
        getattr(an.optim, name)([p], lr=0.01, **options),
        getattr(torch.optim, name)([q], lr=0.01, **options),
    )
    for _ in range(40):
        mine.zero_grad()
        theirs.zero_grad()
        an.sum(an.abs(p) ** 4).backward()
        (q.abs() ** 4).sum().backward()
        mine.step()
        theirs.step()
    # of NAdam's factors PyTorch keeps the product in float32
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-8 if name == "NAdam" else 1e-10)
    assert (p.numpy() != start).all()
