"""Every kernel of a backend against the reference that it replaces: values and gradients, in both precisions."""

from importlib.util import find_spec

import numpy as np
import pytest

import anynet as an
import anynet_backends
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import PRIMITIVES, use_kernels
from anynet.testing.parity import CASES, LIMITS, compute
from anynet_backends import kernels, registry

HOME = {"numpy": "cpu", "cupy": "cuda"}
KERNELS = [
    *((name, backend) for name, p in PRIMITIVES.items() for backend in p.kernels),
    *((name, "numpy") for name in anynet_backends.get_backend("numpy").kernels),
    *((name, "cupy") for name in (anynet_backends.get_backend("cupy").kernels if find_spec("cupy") else ())),
]


def calls(case):
    """The primitives that a case calls."""
    seen = set()

    def watch(prim, args, meta):
        seen.add(prim.name)
        return prim.bind(args, meta)

    INTERCEPT.append(watch)
    try:
        with an.use_kernels(False):  # the rules of gradients are called, too
            compute(case, "cpu", "float64")
        compute(case, "cpu", "float64")
    finally:
        INTERCEPT.remove(watch)
    return seen


@pytest.fixture(scope="module")
def users():
    found = {name: [] for name, _ in KERNELS}
    for case in CASES:
        for name in calls(case) & found.keys():
            found[name].append(case)
    return found


def error(a, b):
    a, b = registry.asarray(a, dtype="float64"), registry.asarray(b, dtype="float64")
    assert a.shape == b.shape
    scale = float((b * b).sum()) ** 0.5
    return float(((a - b) ** 2).sum()) ** 0.5 / (scale or 1.0)


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize(("name", "backend"), KERNELS)
def test_kernel(name, backend, dtype, users, monkeypatch):
    monkeypatch.setattr(kernels.attention, "_SMALL", 0)  # smaller calls are left to specialization
    try:
        an.zeros(1, device=HOME[backend])
    except (RuntimeError, ValueError) as problem:
        pytest.skip(f"{backend}: {problem}")
    assert users[name], f"no case of the parity table runs the kernel of {name}"
    for case in users[name]:
        with an.use_kernels(True):
            fast = compute(case, HOME[backend], dtype)
        with an.use_kernels(False):
            plain = compute(case, HOME[backend], dtype)
        value, gradient = LIMITS[dtype]
        assert error(fast[0], plain[0]) <= value, case.name
        for a, b in zip(fast[1:], plain[1:], strict=True):
            assert error(a, b) <= gradient, case.name


@pytest.mark.parametrize("length", [40, 300])
@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "added"])
@pytest.mark.parametrize("numba", ["on", "off"])
def test_attention_short_and_long(monkeypatch, length, mask, numba):
    """300 is past the length up to which scores are kept: they are made again, head by head."""
    monkeypatch.setenv("ANYNET_NUMBA", numba)
    monkeypatch.setattr(kernels.attention, "_SMALL", 0)  # smaller calls are left to specialization

    def run(on):
        rng = np.random.default_rng(0)
        q, k, v = (an.asarray(rng.normal(size=(2, 2, length, 8)), requires_grad=True) for _ in range(3))
        given = None
        if mask == "boolean":
            may = rng.random((length, length)) > 0.3
            may[5] = False  # a query that may look at nothing
            given = an.asarray(may)
        elif mask == "added":
            given = an.asarray(rng.normal(size=(length, length)))
        with use_kernels(on):
            y = an.nn.functional.scaled_dot_product_attention(q, k, v, given, is_causal=mask == "causal")
            y.backward(an.asarray(rng.normal(size=y.shape)))
        return [y.data, q.grad.data, k.grad.data, v.grad.data]

    for a, b in zip(run(True), run(False), strict=True):
        assert abs(a - b).max() <= 1e-13 * max(1.0, abs(b).max())
