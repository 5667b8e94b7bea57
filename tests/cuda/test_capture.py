"""Which hot operations can be captured as a CUDA graph, as CuPy and CUDA refuse what cannot be."""

from __future__ import annotations

import gc

import pytest
from counted_operations import HOT

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

# CuPy refuses cuBLAS during a capture (cupy/cupy#6290); the reason of each other is said.
PRODUCTS = {
    "linear", "linear 3-d", "large convolution", "attention", "transformer layer",
    "LSTM of 10 steps", "LSTM of 50 steps", "GRU of 10 steps", "RNN of 10 steps",
    "MLP step with Adam", "MLP step with Adam and clipping", "MLP step with SGD and momentum", "MLP step with Lion",
}  # fmt: skip


def capture(step):
    """The graph of one step, after two outside of it."""
    stream = cupy.cuda.Stream(non_blocking=True)
    failed = None
    with stream:
        step()
        step()
        gc.collect()
        stream.begin_capture()
        try:
            step()
        except Exception as error:
            failed = error
        try:
            graph = stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError:
            if failed is None:
                raise
    if failed is not None:
        raise failed
    return graph


@pytest.mark.parametrize("name", sorted(HOT.keys() - PRODUCTS))
def test_an_operation_is_captured_and_runs_again(name):
    graph = capture(HOT[name]())
    graph.launch()


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_what_needs_cublas_is_refused_by_cupy(name):
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
        capture(HOT[name]())
