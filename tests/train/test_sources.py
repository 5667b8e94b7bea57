"""`fit` on a Source: its parts, its loss, its preprocessing."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.data import Preprocessing, Source, TensorDataset
from anynet.train.setup import Setup

rng = np.random.RandomState(0)
X = rng.randn(24, 3).astype("f4")
Y = rng.randint(0, 2, 24)
OPTIONS = {
    "loss": None, "optimizer": "adam", "lr": None, "metrics": (), "epochs": 1, "batch_size": 8, "device": "cpu", "seed": 0,
    "scheduler": None, "schedule_by": "epoch", "clip_norm": None, "callbacks": (), "run_dir": None, "monitor": None,
    "mode": None, "checkpoint_every": None, "compile": False, "settings": None, "resume": False, "clip_value": None,
    "accumulate": 1, "class_weight": None, "precision": None, "steps": None, "steps_per_epoch": None, "time_limit": None,
    "restore_best": True, "weight_decay": None,
}  # fmt: skip


class Rows(Preprocessing):
    kind = "rows"
    task = "classification"

    def inputs(self, samples):
        return samples

    def targets(self, samples):
        return samples

    def decode(self, output, samples=None):
        raise NotImplementedError

    def to_json(self):
        return {}

    @classmethod
    def from_json(cls, data):
        return cls()


class Numbers(Source):
    def __init__(self, valid=True):
        self.preprocessing = Rows()
        self.train = TensorDataset(X[:16], Y[:16])
        self.valid = TensorDataset(X[16:], Y[16:]) if valid else None
        self.test = None

    def describe(self):
        return "numbers"

    def origin(self):
        return {}

    def network(self, name=None, **settings):
        return nn.Linear(3, 2)

    def defaults(self):
        return {"loss": "cross_entropy"}


def network():
    an.random.manual_seed(0)
    return nn.Linear(3, 2)


def test_a_source_is_its_parts_and_its_loss():
    nets = network(), network()
    found = an.fit(nets[0], Numbers(), epochs=2, progress=False)
    expected = an.fit(
        nets[1], (X[:16], Y[:16]), (X[16:], Y[16:]), loss="cross_entropy", epochs=2, progress=False
    )
    assert found.column("val_loss") == expected.column("val_loss")
    assert nets[0].weight.numpy().tobytes() == nets[1].weight.numpy().tobytes()
    assert "val_loss" not in an.fit(network(), Numbers(valid=False), progress=False)[0]
    other = an.fit(network(), Numbers(), (X[:4], Y[:4]), epochs=2, progress=False)
    assert other.column("val_loss") != found.column("val_loss")


def test_its_preprocessing_is_there_for_the_run():
    source = Numbers()
    assert Setup(network(), source, None, **OPTIONS).preprocessing is source.preprocessing
    assert Setup(network(), (X, Y), None, **{**OPTIONS, "loss": "mse"}).preprocessing is None


def test_what_is_no_source_needs_a_loss():
    with pytest.raises(TypeError, match="give a loss, such as loss='cross_entropy'"):
        an.fit(network(), (X, Y))
    with pytest.raises(TypeError, match=r"val=source\.valid"):
        an.fit(network(), (X, Y), Numbers(), loss="cross_entropy")
