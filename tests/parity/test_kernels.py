"""Every kernel of a backend against the reference that it replaces: values and gradients, in both precisions."""

import pytest

import anynet as an
import anynet_backends
from anynet.autograd.primitive import INTERCEPT, PRIMITIVES
from anynet.cli.parity import CASES, LIMITS, compute
from anynet_backends import host

HOME = {"numpy": "cpu", "cupy": "cuda"}
KERNELS = [
    *((name, backend) for name, p in PRIMITIVES.items() for backend in p._kernels),
    *((name, "numpy") for name in anynet_backends.backend("numpy").kernels),
]


def calls(case):
    """The primitives that a case calls."""
    seen = set()

    def watch(prim, args, meta):
        seen.add(prim.name)
        return prim.bind(args, meta)

    INTERCEPT.append(watch)
    try:
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
    a, b = host.asarray(a, dtype="float64"), host.asarray(b, dtype="float64")
    assert a.shape == b.shape
    scale = float((b * b).sum()) ** 0.5
    return float(((a - b) ** 2).sum()) ** 0.5 / (scale or 1.0)


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize(("name", "backend"), KERNELS)
def test_kernel(name, backend, dtype, users):
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
