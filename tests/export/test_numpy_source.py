"""A network as one NumPy file: every operation of the parity suite, networks of several kinds, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from exported_cases import CASES, NETWORKS, NOT_EXPORTED, Function, close, given, normal

import anynet as an
from anynet import nn
from anynet.autograd.pytree import flatten
from anynet.export import ExportError
from anynet.export.numpy_source import numpy_source
from anynet.export.program import program_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_operation(case):
    inputs = given(case)
    names = [f"x{i}" for i in range(len(inputs))]
    if case.name in NOT_EXPORTED:
        with pytest.raises((ExportError, an.CompileError), match=NOT_EXPORTED[case.name]):
            program_of(Function(case), inputs, dynamic=False)
        return
    with an.no_grad():
        expected = Function(case).eval()(*inputs).numpy()
    text = numpy_source(program_of(Function(case), inputs, dynamic=False), names, case.name)
    namespace: dict = {}
    exec(text, namespace)
    assert close(expected, namespace["predict"](*(x.numpy() for x in inputs)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, tmp_path):
    net, example = NETWORKS[name]()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    found = an.export.numpy(net, example, tmp_path / "net.py")
    assert found.ulps < 64
    assert found.samples == len(flatten(example)[0][0])
    assert json.loads((tmp_path / "net.py.certificate.json").read_text())["differences"][0]["by"] == "numpy"
    assert net.training
    assert all(np.array_equal(before[k], v.numpy()) for k, v in net.state_dict().items())
    namespace: dict = {}
    exec((tmp_path / "net.py").read_text(), namespace)
    leaves = [x.numpy() for x in flatten(example)[0]]
    for some in (slice(0, 1), [0, 1, 2, 3, 0, 1, 2]):  # other sizes of the batch
        if isinstance(some, list) and len(leaves[0]) < 4:
            continue
        part = [x[some] for x in leaves]
        with an.no_grad():
            expected = net.eval()(*map(an.asarray, part))
        for a, b in zip(flatten(expected)[0], flatten(namespace["predict"](*part))[0], strict=True):
            assert close(a.numpy(), b)


def test_the_file_needs_numpy_alone(tmp_path):
    an.export.numpy(*NETWORKS["cnn"](), tmp_path / "net.py")
    code = "import sys, numpy; from net import predict; predict(numpy.zeros((2, 1, 12, 12))); print('anynet' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )  # fmt: skip
    assert answer.stdout.strip() == "False"


def test_a_fixed_batch(tmp_path):
    class Flat(nn.Module):
        def forward(self, x):
            return an.reshape(x, (-1, 4)) if x.shape[0] == 3 else x

    with pytest.raises(ExportError, match="another size of the batch; dynamic=False fixes"):
        an.export.numpy(Flat(), normal(3, 8), tmp_path / "net.py")
    assert not list(tmp_path.iterdir())
    assert an.export.numpy(Flat(), normal(3, 8), tmp_path / "net.py", dynamic=False).ulps == 0


def test_what_cannot_be_exported_names_the_layer(tmp_path):
    class Branch(nn.Module):
        def forward(self, x):
            return x if an.sum(x) > 0 else -x

    class Draw(nn.Module):
        def forward(self, x):
            return x + an.random.normal(x.shape, device=x.device)

    class Held(nn.Module):
        def __init__(self):
            self.table = (an.asarray([1.0, 2.0]),)

        def forward(self, x):
            return x * self.table[0]

    for bad, words in ((Branch(), "depends on values"), (Draw(), "random"), (Held(), "make it a Buffer")):
        with pytest.raises((ExportError, an.DeviceError), match=words) as caught:
            an.export.numpy(nn.Sequential(nn.Linear(2, 2), bad), normal(3, 2), tmp_path / "net.py")
        said = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
        assert f"1 ({type(bad).__name__})" in said or "Sequential.1" in said
        assert not list(tmp_path.iterdir())


def test_mistakes():
    with pytest.raises(TypeError, match="must be a Module, got type"):
        an.export.numpy(nn.Linear, normal(1, 2), "x.py")
    with pytest.raises(ValueError, match="did you mean 'onnx'"):
        an.export.export(nn.Linear(2, 2), "onx", normal(1, 2))
    with pytest.raises(ValueError, match="samples along its first axis"):
        an.export.numpy(nn.Linear(2, 2), an.asarray(1.0), "x.py")
    with pytest.raises(ValueError, match="names must be 1 identifiers"):
        an.export.numpy(nn.Linear(2, 2), normal(1, 2), "x.py", names=["a b"])
