"""ONNX's own tests of nodes: those of offered operators and dtypes all pass, in float32 and float64; all others are refused by name."""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np
import pytest

import anynet as an
from anynet.onnx.operators.calling import DTYPES
from ci.onnx_operators import offered
from optional_libraries import needs

onnx = needs("onnx", "onnx")

DRAWN = {f"test_training_dropout{name}" for name in ("", "_default", "_mask", "_default_mask")}
DRAWN |= {f"test_bernoulli{name}{form}" for name in ("", "_double", "_seed") for form in ("", "_expanded")}
"""They compare with what NumPy's generator draws for a seed."""
TIES = {
    f"test_dynamicquantizelinear{name}{form}"
    for name in ("", "_max_adjusted", "_min_adjusted")
    for form in ("", "_expanded")
}
"""Quotients that are half-way between integers in float32 are on one side of it in float64."""
OLD = {"test_scan_sum"}
"""Scan of version 8, which has a batch of its own."""
FLOAT16 = 2.0**-9
"""Two units in the last place: these tests compare float16 with what was rounded at other places."""


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as ONNX makes its examples
        from onnx.backend.test.loader import load_node_model_tests

        found = defaultdict(list)
        for case in load_node_model_tests():
            found["+".join(sorted({n.op_type for n in case.model.graph.node}))[:80]].append(case)
    return found


CASES = cases()


def kinds(case):
    """The numbers of the dtypes of what goes in and out; 0 for what is no array."""
    return {v.type.tensor_type.elem_type for v in (*case.model.graph.input, *case.model.graph.output)}


def is_offered(case):
    nodes = [*case.model.graph.node]
    for node in nodes:  # grows while it is read
        nodes += [n for a in node.attribute for n in a.g.node]
    return (
        kinds(case) <= set(DTYPES)
        and all(offered(n.op_type, n.domain) for n in nodes)
        and case.name not in OLD
    )


def host(x):
    return onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


def compare(case, double):
    net = an.onnx.load("model.onnx")
    net = net.double() if double else net
    for inputs, outputs in case.data_sets:
        given = [x.astype(np.float64) if double and x.dtype == np.float32 else x for x in map(host, inputs)]
        found = net(*map(an.asarray, given))
        for a, b in zip(found if isinstance(found, tuple) else (found,), outputs, strict=True):
            a, b = a.numpy(), host(b)
            assert a.shape == b.shape
            assert double or a.dtype == b.dtype
            rtol, atol = (max(case.rtol, FLOAT16) if b.dtype == np.float16 else case.rtol), case.atol
            if double:  # what is expected has the errors of float32
                atol += 4 * np.finfo(np.float32).eps * float(np.max(np.abs(b), initial=0))
                atol += case.name in TIES and b.dtype == np.uint8
            if case.name not in DRAWN:
                np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # logarithms of negative numbers and the like are among the examples
@pytest.mark.parametrize("name", CASES)
def test_operator(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for case in CASES[name]:
        onnx.save(case.model, "model.onnx")
        if not is_offered(case):
            with pytest.raises(an.onnx.ONNXError, match=r"node '.*' \(\w+\): |the input '"):
                compare(case, False)
            continue
        compare(case, False)
        if 1 in kinds(case):
            compare(case, True)


def test_most_of_them_are_offered():
    count = [is_offered(case) for group in CASES.values() for case in group]
    assert sum(count) >= 1560
