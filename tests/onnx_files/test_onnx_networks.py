"""Whole networks in ONNX files: of other tools, of `export to=onnx`, of PyTorch's own exporter."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.autograd.pytree import flatten
from ci.onnx_operators import PAGE, page
from export.exported_cases import CASES, NETWORKS, NOT_EXPORTED, Function, close, given
from optional_libraries import needs

onnx = needs("onnx", "onnx")
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = [
    p.parent
    for kind in ("pytorch-converted", "pytorch-operator", "simple")
    for p in sorted((DATA / kind).glob("*/model.onnx"))
]
OTHER = ("sequence", "strnorm", "gradient")
"""In the names of models of sequences, of texts, and of a preview of gradients: none of them is offered."""


def arrays(folder: Path, kind: str) -> list[np.ndarray]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [onnx.numpy_helper.to_array(onnx.load_tensor(folder / f"{kind}_{i}.pb")) for i in range(count)]


def as_tuple(found):
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.filterwarnings("ignore:invalid value")  # roots of negative numbers are among the examples
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_models_of_onnx(folder):
    if any(name in folder.name for name in OTHER):
        with pytest.raises(an.onnx.ONNXError, match=r"node '.*' \(\w+\): "):
            an.onnx.load(folder / "model.onnx")
        return
    net = an.onnx.load(folder / "model.onnx")
    for data in folder.glob("test_data_set_*"):
        found = as_tuple(net(*map(an.asarray, arrays(data, "input"))))
        for a, b in zip(found, arrays(data, "output"), strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-6)  # as ONNX's runner compares


@pytest.mark.parametrize("name", ["resnet50", "shufflenet", "densenet121", "inception_v2"])
def test_light_models(name):
    """Well-known networks, with weights that are written as constants. Not squeezenet: with these all its logits are 1.6e10, and what
    their softmax shows is how they were rounded."""
    path = DATA / "light" / f"light_{name}.onnx"
    net = an.onnx.load(path)
    ((dtype, shape),) = net._inputs.values()
    with an.no_grad():
        found = net(an.ones(shape, dtype=dtype))
    expected = onnx.numpy_helper.to_array(onnx.load_tensor(path.with_name(f"light_{name}_output_0.pb")))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_export_writes_comes_back(name, tmp_path):
    net, example = NETWORKS[name]()
    an.export.onnx(net, example, tmp_path / "net.onnx", check=False)
    same = an.onnx.load(tmp_path / "net.onnx")
    inputs = flatten(example)[0]
    with an.no_grad():
        expected = flatten(net.eval()(*example) if isinstance(example, tuple) else net.eval()(example))[0]
        found = as_tuple(same(*inputs))
    for a, b in zip(found, expected, strict=True):
        assert close(b.numpy(), a.numpy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of a branch of Where that is not taken
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in NOT_EXPORTED], ids=lambda case: case.name)
def test_every_operation_that_export_writes(case, tmp_path):
    inputs, refused = given(case), ""
    try:
        an.export.onnx(Function(case), inputs, tmp_path / "net.onnx", dynamic=False, check=False)
    except an.export.ExportError as error:
        refused = str(error)
    if refused:
        assert "which ONNX has no form for" in refused
        return
    with an.no_grad():
        expected = Function(case).eval()(*inputs)
        found = an.onnx.load(tmp_path / "net.onnx")(*inputs)
    assert close(expected.numpy(), found.numpy())


def trained(net, x, target):
    """The losses of a few steps."""
    optimizer, found = an.optim.SGD(net.parameters(), lr=0.1), []
    for _ in range(5):
        loss = nn.functional.mse_loss(net(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_have_names_and_are_trained_further(dtype, tmp_path):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 3, 2, 2),
        nn.InstanceNorm2d(3, affine=True), nn.Flatten(), nn.Linear(108, 6), nn.LayerNorm(6), nn.Linear(6, 2, bias=False),
    ).to(dtype)  # fmt: skip
    x, target = an.astype(an.random.normal((5, 2, 6, 6)), dtype), an.ones((5, 2), dtype=dtype)
    an.export.onnx(net, x, tmp_path / "net.onnx", check=False)
    same = an.onnx.load(tmp_path / "net.onnx")
    assert not same.get_submodule("1").training
    kinds = {name: type(m) for name, m in net.named_modules() if list(m.parameters(recurse=False))}
    found = {name: type(m) for name, m in same.named_modules() if list(m.parameters(recurse=False))}
    assert {n: k for n, k in found.items() if n in ("0", "1", "4", "7", "9")} == {
        n: kinds[n] for n in ("0", "1", "4", "7", "9")
    }
    losses = trained(same.train(), x, target)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(
        losses, trained(net.train(), x, target), rtol=1e-4 if dtype == "float32" else 1e-10
    )
    for copied in (copy.deepcopy(same), pickle.loads(pickle.dumps(same))):
        np.testing.assert_array_equal(copied.eval()(x).numpy(), same.eval()(x).numpy())
    restored = an.onnx.load(tmp_path / "net.onnx")
    restored.load_state_dict(same.state_dict())
    np.testing.assert_array_equal(restored(x).numpy(), same.eval()(x).numpy())


def test_the_result_is_exported_again(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    an.export.onnx(net, an.ones((5, 4)), tmp_path / "net.onnx", check=False)
    an.export.onnx(an.onnx.load(tmp_path / "net.onnx"), an.ones((5, 4)), tmp_path / "again.onnx", check=False)
    again = an.onnx.load(tmp_path / "again.onnx")
    assert list(again.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_array_equal(again(an.ones((7, 4))).numpy(), net(an.ones((7, 4))).numpy())


@pytest.mark.parametrize("training", [False, True])
def test_files_of_pytorch(training, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.LayerNorm(128), torch.nn.Dropout(0.3), torch.nn.Linear(128, 10),
    )  # fmt: skip
    x = torch.randn(2, 3, 8, 8)
    mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter, which needs no other packages, will be replaced
        torch.onnx.export(
            module, (x,), tmp_path / "net.onnx", dynamo=False, training=mode, do_constant_folding=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    net = an.onnx.load(tmp_path / "net.onnx")
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: tuple(v.shape) for k, v in module.state_dict().items()
    }
    assert [m.training for m in net.modules() if isinstance(m, (nn.BatchNorm2d, nn.Dropout))] == [
        training
    ] * (1 + training)
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        assert close(module.eval()(x).numpy(), net.eval()(x.numpy()).numpy())


def test_a_shared_weight_stays_one(tmp_path):
    """An array that two nodes read is one parameter, and its gradient is the sum of both."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    w = onnx.helper.make_tensor("shared.weight", 1, [3, 3], np.eye(3, dtype=np.float32).ravel())
    nodes = [make("MatMul", ["x", "shared.weight"], ["h"]), make("MatMul", ["h", "shared.weight"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])], [w])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]), tmp_path / "net.onnx"
    )
    net = an.onnx.load(tmp_path / "net.onnx")
    assert [n for n, _ in net.named_parameters()] == ["shared.weight"]
    an.sum(net(an.ones((1, 3)))).backward()
    np.testing.assert_array_equal(next(net.parameters()).grad.numpy(), np.full((3, 3), 2.0))


def graph_of(nodes, inputs, outputs, initializers=(), opsets=(("", 21),)):
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [make(*i) for i in inputs], [make(n, k, None) for n, k in outputs], list(initializers)
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(*o) for o in opsets])


def test_weights_within_loops_are_trained(tmp_path):
    """h ← tanh(x_t + W h) by Scan: values, and gradients through all its steps, as those of the steps written out."""
    rng = np.random.default_rng(0)
    w, x, h = rng.normal(size=(3, 3)), rng.normal(size=(4, 3)), np.zeros(3)
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    steps = [
        make("MatMul", ["w", "h"], ["wh"]),
        make("Add", ["wh", "x_t"], ["a"]),
        make("Tanh", ["a"], ["h_t"]),
        make("Identity", ["h_t"], ["y_t"]),
    ]
    body = onnx.helper.make_graph(
        steps,
        "body",
        [value("h", 11, [3]), value("x_t", 11, [3])],
        [value("h_t", 11, [3]), value("y_t", 11, [3])],
    )
    scan = make(
        "Scan",
        ["h0", "x"],
        ["last", "y"],
        num_scan_inputs=1,
        body=body,
        scan_input_directions=[1],
        scan_output_axes=[1],
    )
    given = [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(h, "h0")]
    onnx.save(graph_of([scan], [("x", 11, [4, 3])], [("last", 11), ("y", 11)], given), tmp_path / "net.onnx")
    net = an.onnx.load(tmp_path / "net.onnx")
    assert {"w"} <= {n for n, _ in net.named_parameters()}
    last, y = net(an.asarray(x))
    an.sum(last).backward()
    ours, state, states = an.Parameter(w), an.asarray(h), []
    for t in reversed(range(4)):
        state = an.tanh(an.matmul(ours, state) + an.asarray(x[t]))
        states.append(state)
    an.sum(state).backward()
    np.testing.assert_allclose(last.numpy(), state.numpy(), rtol=1e-14)
    np.testing.assert_allclose(y.numpy(), np.stack([s.numpy() for s in states], axis=1), rtol=1e-14)
    np.testing.assert_allclose(dict(net.named_parameters())["w"].grad.numpy(), ours.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operators_of_scikit_learns_exporter(dtype, tmp_path):
    """Scaler, Normalizer, Binarizer, ArrayFeatureExtractor and LinearRegressor of ai.onnx.ml by their definitions; some tools name a
    domain twice."""
    kind, x = (1 if dtype == "float32" else 11), np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    make = onnx.helper.make_node
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        make("Scaler", ["x"], ["scaled"], offset=[1.0, 2.0, 3.0], scale=[0.5, 0.25, 2.0], **ml),
        *(make("Normalizer", ["x"], [n], norm=n, **ml) for n in ("MAX", "L1", "L2")), make("Binarizer", ["x"], ["b"], threshold=0.5, **ml),
        make("ArrayFeatureExtractor", ["x", "i"], ["columns"], **ml),
        make("LinearRegressor", ["x"], ["y"], coefficients=[1.0, 2.0, 3.0, -1.0, 0.5, 0.0], intercepts=[0.5, -0.5], targets=2, **ml),
    ]  # fmt: skip
    names = ["scaled", "MAX", "L1", "L2", "b", "columns", "y"]
    index = onnx.numpy_helper.from_array(np.array([[2, 0]]), "i")
    proto = graph_of(
        nodes,
        [("x", kind, ["n", 3])],
        [(n, kind) for n in names],
        [index],
        (("ai.onnx.ml", 1), ("", 21), ("", 21)),
    )
    onnx.save(proto, tmp_path / "net.onnx")
    found = dict(zip(names, an.onnx.load(tmp_path / "net.onnx")(an.asarray(x)), strict=True))
    expected = {
        "scaled": (x - [1, 2, 3]) * [0.5, 0.25, 2], "MAX": x / np.abs(x).max(1, keepdims=True), "L1": x / np.abs(x).sum(1, keepdims=True),
        "L2": x / np.sqrt((x * x).sum(1, keepdims=True)), "b": x > 0.5, "columns": x[:, [2, 0]],
        "y": x @ np.array([[1, 2, 3], [-1, 0.5, 0]]).T + [0.5, -0.5],
    }  # fmt: skip
    for name, y in expected.items():
        assert str(found[name].dtype) == dtype
        np.testing.assert_allclose(
            found[name].numpy(),
            y,
            rtol=1e-5 if dtype == "float32" else 1e-13,
            atol=1e-6 if dtype == "float32" else 0,
        )


def test_two_versions_of_a_domain_are_refused(tmp_path):
    make = onnx.helper.make_node
    proto = graph_of([make("Relu", ["x"], ["y"])], [("x", 1, ["n"])], [("y", 1)], opsets=(("", 21), ("", 20)))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(an.onnx.ONNXError, match="one version of each domain"):
        an.onnx.load(tmp_path / "net.onnx")


def test_the_table_of_operators_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m ci.onnx_operators"


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r"onnx\.load needs onnx: pip install 'anynet-nn\[onnx\]'"):
        an.onnx.load(tmp_path / "net.onnx")
