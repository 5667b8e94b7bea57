"""`fit` on a CUDA device: as on the CPU, and after a break bit for bit as without one."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.train import fit


def train(device, folder=None, *, epochs=2, resume=False):
    """The weights after a training of a small network with dropout, and its history."""
    data = np.random.default_rng(5)
    x, y = data.standard_normal((40, 6)).astype(np.float32), data.integers(0, 3, 40)
    an.random.manual_seed(2)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    history = fit(
        net, (x[:30], y[:30]), (x[30:], y[30:]), loss="cross_entropy", optimizer="adam", lr=1e-2, metrics=["accuracy"],
        epochs=epochs, batch_size=8, device=device, run_dir=folder, resume=resume, restore_best=False,
        progress=False,
    )  # fmt: skip
    return [p.numpy() for p in net.parameters()], history


def test_a_training_is_that_of_the_cpu():
    (here, first), (there, second) = train("cpu"), train("cuda")
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(first, second, strict=True):
        assert a["accuracy"] == b["accuracy"]
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)


def test_a_training_goes_on_as_if_there_had_been_no_break(tmp_path):
    whole, _ = train("cuda", epochs=3)
    train("cuda", tmp_path / "run", epochs=1)
    parts, _ = train("cuda", tmp_path / "run", epochs=3, resume=True)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
