"""The device "meta": every operation gives the shape and dtype that NumPy gives, or says that it depends on values."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.testing.cases import Case, every
from anynet_backends import philox, registry
from anynet_backends.meta_backend import Memory

CASES = every()
REFUSED = {
    name: "depends on values"
    for name in (
        "AdaptiveLogSoftmaxWithLoss",
        "LBFGS",
        "bincount",
    )
} | {"SparseAdam": "gradients that are rows", "SyncBatchNorm": "a sum over processes"}


def forms(case: Case, device: str) -> list[tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the output and the gradients."""
    given = [
        an.asarray(np.full(shape, 0.5 * (case.low + case.high), "float32"), device=device, requires_grad=True)
        if device == "meta"
        else an.asarray(
            philox.uniform(5, 9, i, shape, case.low, case.high).astype("float32"), requires_grad=True
        )
        for i, shape in enumerate(case.shapes)
    ]
    y = case.function(*given)
    an.sum(y).backward()
    found = [y, *(x.grad for x in given if x.grad is not None)]
    assert {t.device for t in found} == {device}
    return [(tuple(t.shape), str(t.dtype)) for t in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shapes_and_dtypes_are_numpys(case):
    if case.name in REFUSED:
        with pytest.raises((TypeError, an.CompileError), match=REFUSED[case.name]):
            forms(case, "meta")
        return
    assert forms(case, "meta") == forms(case, "cpu")


KEYS = [
    0, -1, (0, 1), (0, 1, 2), slice(1, 3), (slice(None), 1), (..., 0), None, (None, ..., None), (slice(None, None, -2), 2),
    [0, 2], ([0, 2], [1, 1]), (slice(None), [0, 0, 1]), ([0, 1], slice(None), [2, 2]), ([[0, 1], [2, 0]], 1), (0, ..., [1, 2]),
    ([0, 1], None, [2, 2]), (slice(0, 2), [1, 2, 3], [0, 0, 1]), (..., [3, 0]), ([0], ..., 1),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_shape_of_an_index_is_numpys(key):
    x = np.zeros((3, 4, 5), "float32")
    meta = registry.get_backend("meta")

    def other(k):
        return meta.from_host(np.asarray(k), "meta") if isinstance(k, list) else k

    keys = tuple(map(other, key)) if isinstance(key, tuple) else other(key)
    assert meta.from_host(x, "meta")[keys].shape == x[key].shape


def test_what_depends_on_values_is_refused():
    x = an.zeros((3,), device="meta")
    for needs in (
        bool,
        int,
        float,
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: an.nonzero(x),
        lambda x: x[x > 0],
    ):
        with pytest.raises(TypeError, match="depends on values"):
            needs(x[0] if needs in (bool, int, float) else x)
    with pytest.raises(ValueError, match="broadcast"):
        x + an.zeros((2,), device="meta")
    with pytest.raises(ValueError, match="go together"):
        x @ an.zeros((2,), device="meta")


def test_memory_counts_what_arrays_own():
    with Memory() as memory:
        x = an.zeros((10, 100), device="meta")
        assert memory.now == 4000
        views = x[:5, ...], an.reshape(x, (-1,)), x.T, an.broadcast_to(x, (3, 10, 100))
        assert memory.now == 4000
        y = x * 2
        assert memory.now == 8000
        copied = an.reshape(x.T, (-1,))
        assert memory.now == 12_000
        del y, copied
        assert (memory.now, memory.peak) == (4000, 12_000)
        memory.restart()
        assert memory.peak == 4000
        del x
        assert memory.now == 4000  # its views hold it
        del views
        assert memory.now == 0


def test_a_network_that_no_machine_holds():
    with Memory() as memory:
        net = an.nn.Linear(10, 10)
        net.to("meta")
        wide = an.zeros((10_000_000, 1_000_000), device="meta")
        y = wide @ an.zeros((1_000_000, 10), device="meta")
        assert net(y).shape == (10_000_000, 10)
        assert memory.peak > 4e13
