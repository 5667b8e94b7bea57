"""`check_module` passes layers that are right and finds what is wrong with others, one fault at a time."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.testing import CheckError, check_module

rng = np.random.default_rng(0)
X = rng.normal(size=(4, 3))
IMAGES = rng.normal(size=(2, 3, 4, 4))

RIGHT = {
    "linear": (nn.Linear(3, 2), (X,)),
    "convolution": (nn.Conv2d(3, 2, 3, padding=1), (IMAGES,)),
    "batch normalization": (nn.BatchNorm1d(3), (X,)),
    "dropout": (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.4)), (X,)),
    "recurrent, two results": (nn.GRU(3, 2), (rng.normal(size=(2, 2, 3)),)),
    "several inputs": (nn.Bilinear(3, 4, 2), (X, rng.normal(size=(4, 4)))),
    "integers": (nn.Embedding(5, 3), (np.asarray([[1, 2], [0, 4]]),)),
    "a loss": (nn.CrossEntropyLoss(), (X, np.asarray([0, 1, 2, 1]))),
    "lazy": (nn.LazyLinear(2), (X,)),
    "weight normalization": (nn.utils.weight_norm(nn.Linear(3, 2)), (X,)),
    "spectral normalization": (nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), (X,)),
    "piecewise linear": (nn.MaxPool2d(2), (IMAGES,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_layers_that_are_right_pass(name):
    module, inputs = RIGHT[name]
    assert check_module(module, *inputs).ok


class Weighted(nn.Module):
    """A layer that is right; each one below has one fault."""

    def __init__(self):
        self.w = an.Parameter(np.asarray([1.0, 2.0, -1.0]))

    def forward(self, x):
        return x * self.w


class WrongGradient(Weighted):
    def forward(self, x):
        return x * self.w + (x * self.w**2).detach()


class NoGradient(Weighted):
    def __init__(self):
        super().__init__()
        self.unused = an.Parameter(np.ones(2))


class NotRegistered(Weighted):
    def __init__(self):
        self.w = an.asarray(np.ones(3), requires_grad=True)

    def forward(self, x):
        return x * an.astype(self.w, x.dtype)


class FixedDtype(Weighted):
    def forward(self, x):
        return an.astype(super().forward(x), "float32")


class FixedDevice(Weighted):
    def forward(self, x):
        return super().forward(x) + an.zeros(3, dtype=x.dtype, device="cpu")


class ChangesItsParameter(Weighted):
    def forward(self, x):
        with an.no_grad():
            self.w.assign_(self.w * 1.5)
        return super().forward(x)


class RandomInEvaluation(Weighted):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5)


class StateInEvaluation(Weighted):
    def __init__(self):
        super().__init__()
        self.calls = an.Buffer(an.zeros(()))

    def forward(self, x):
        self.calls = an.Buffer(self.calls + 1)
        return super().forward(x)


class StateThatIsNotSaved(Weighted):
    """The values of its first call are its own, and in no state."""

    def __init__(self):
        super().__init__()
        self.scale = None

    def forward(self, x):
        if self.scale is None:
            self.scale = float(an.random.uniform(low=1.0, high=2.0))
        return super().forward(x) * self.scale


class NotPicklable(Weighted):
    def __init__(self):
        super().__init__()
        self.activation = lambda x: x

    def forward(self, x):
        return self.activation(super().forward(x))


class NotFinite(Weighted):
    def forward(self, x):
        return super().forward(x) + float("inf")


class ModeStaysHere(nn.Module):
    def __init__(self):
        self.inner = Weighted()

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x):
        return self.inner(x)


class NoTensor(nn.Module):
    def forward(self, x):
        return None


FAULTS = [
    (WrongGradient, "training: first derivatives", r"wrong gradient of input 0\[0, 0\]"),
    (NoGradient, "training: gradients", "no gradient reaches parameter unused"),
    (NotRegistered, "training: forward", r"w must be an\.Parameter"),
    (FixedDtype, "training: forward", "output is float32 where module and inputs are float64"),
    (FixedDevice, "training: float64 on strict:device1", "different devices"),
    (ChangesItsParameter, "training: inputs and parameters stay as they were", "w was changed by the call"),
    (RandomInEvaluation, "evaluation: nothing random, no state changed", "of 12 values differ"),
    (StateInEvaluation, "evaluation: nothing random, no state changed", "buffer calls was changed"),
    (StateThatIsNotSaved, "state_dict into another module", "values differ"),
    (NotPicklable, "pickle", "pickle"),
    (NotFinite, "training: forward", "are not finite"),
    (ModeStaysHere, "evaluation: forward", r"train\(False\) does not reach inner"),
    (NoTensor, "training: forward", "forward must return a Tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "check", "text"), FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_each_fault_is_found_by_its_check(make, check, text):
    if "strict" in check:
        pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    module = make()
    with pytest.raises(CheckError, match=text) as caught:
        check_module(module, X)
    assert check in [c.name for c in caught.value.report.failures]
    if make is not ChangesItsParameter:  # the base class has none of these faults
        assert check_module(Weighted(), X).ok


def test_the_module_and_the_random_numbers_stay_as_they_were():
    module = nn.BatchNorm1d(3)
    an.random.manual_seed(5)
    before = an.random.get_state()
    check_module(module, X, devices=["cpu"])
    assert an.random.get_state() == before
    assert module.running_mean.tolist() == [0.0, 0.0, 0.0]
    assert module.weight.dtype == "float32"
    assert module.weight.grad is None


def test_options():
    assert check_module(NoGradient(), X, allow_unused=["unused"], devices=["cpu"]).ok
    report = check_module(Weighted(), X, order=0, devices=["cpu"])
    assert {c.name for c in report.checks if c.skipped} >= {
        "training: gradients",
        "training: second derivatives",
    }
    report = check_module(WrongGradient(), X, raise_exception=False, devices=[])
    assert not report.ok
    assert str(report).startswith("WrongGradient: 2 of ")
    with pytest.raises(TypeError, match=r"module must be an anynet\.nn\.Module, got function"):
        check_module(check_module, X)
    with pytest.raises(ValueError, match="order must be 0, 1 or 2, got 3"):
        check_module(Weighted(), X, order=3)


def test_importing_anynet_does_not_load_it():
    import subprocess
    import sys

    code = "import sys, anynet; assert not any(m.startswith('anynet.testing') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
