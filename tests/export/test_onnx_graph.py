"""A network as an ONNX graph, run by onnxruntime and by ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from exported_cases import CASES, NETWORKS, NOT_EXPORTED, Function, close, given, normal

import anynet as an
from anynet import nn
from anynet.autograd.pytree import flatten
from anynet.export import ExportError
from anynet.export.onnx_graph import onnx_model
from anynet.export.program import program_of
from optional_libraries import needs

onnx = needs("onnx", "onnx")

REFUSED = {
    "cumulative_prod", "linalg.inv", "linalg.solve", "linalg.slogdet", "linalg.cholesky", "linalg.qr", "linalg.eigvalsh", "linalg.eigh",
    "linalg.eigvals", "linalg.eig", "linalg.svd", "linalg.svdvals", "linalg.pinv", "linalg.matrix_norm", "linalg.diagonal",
    "linalg.matrix_rank", "fft.fft", "fft.ifft", "fft.rfft", "fft.ihfft", "fft.irfft", "fft.hfft", "conj, imag", "searchsorted", "isin",
    "bitwise_left_shift", "bitwise_right_shift", "nextafter", "setitem", "window_spread",
    "einsum",  # of this case, which takes a diagonal
}  # fmt: skip
"""Operations that ONNX has no form for: no layer is among them."""


def run(model, inputs):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime of the extra product")
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs, strict=False)))


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in NOT_EXPORTED], ids=lambda case: case.name)
def test_every_operation(case):
    inputs = given(case)
    names = [f"x{i}" for i in range(len(inputs))]
    program = program_of(Function(case), inputs, dynamic=False)
    if case.name in REFUSED:
        with pytest.raises(ExportError, match=r"Function .*ONNX has no form for"):
            onnx_model(program, names, "case")
        return
    with an.no_grad():
        expected = Function(case).eval()(*inputs).numpy()
    assert close(expected, run(onnx_model(program, names, "case"), [x.numpy() for x in inputs])[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, tmp_path):
    net, example = NETWORKS[name]()
    found = an.export.onnx(net, example, tmp_path / "net.onnx")
    assert found.ulps < 64
    assert ("onnx.reference" in {d.by for d in found.differences}) is (
        name != "rnn"
    )  # it has no RNN with ReLU, and that is said
    assert len(found.unchecked) == (name == "rnn")
    model = onnx.load(tmp_path / "net.onnx")
    leaves = [x.numpy()[:2] for x in flatten(example)[0]]
    with an.no_grad():
        expected = flatten(net.eval()(*map(an.asarray, leaves)))[0]
    for a, b in zip(expected, run(model, leaves), strict=True):
        assert close(a.numpy(), b)


def test_layers_have_nodes_of_their_own(tmp_path):
    wanted = {
        "cnn": {"Conv", "MaxPool", "BatchNormalization", "LeakyRelu", "Gemm", "Softmax"},
        "unet": {"ConvTranspose", "AveragePool", "Gelu", "LogSoftmax"},
        "lstm": {"LSTM"}, "gru": {"GRU"}, "rnn": {"RNN"},
    }  # fmt: skip
    for name, kinds in wanted.items():
        net, example = NETWORKS[name]()
        an.export.onnx(net, example, tmp_path / "net.onnx", check=False)
        assert kinds <= {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}


def test_names_and_shapes(tmp_path):
    net, example = NETWORKS["several"]()
    found = an.export.onnx(net, example, tmp_path / "net.onnx", names=["sequence", "bias"])
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [i.name for i in graph.input] == ["sequence", "bias"]
    assert [o.name for o in graph.output] == ["output", "output_1", "output_2"]
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 4]
    assert {w.name for w in graph.initializer} >= {"scale"}
    assert len(found.differences) in (3, 6)


def test_dtypes(tmp_path):
    for dtype in ("float64", "float16"):
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
        found = an.export.onnx(net, an.astype(normal(5, 3), dtype), tmp_path / "net.onnx")
        assert found.ulps < 16
        assert np.isfinite(found.ulps)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'anynet-nn\[onnx\]'"):
        an.export.onnx(nn.Linear(2, 2), normal(1, 2), "x.onnx")
