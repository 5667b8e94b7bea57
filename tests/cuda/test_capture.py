"""Which hot operations can be captured as a CUDA graph, as CuPy and CUDA refuse what cannot be."""

from __future__ import annotations

import gc

import pytest
from counted_operations import HOT

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


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


@pytest.mark.parametrize("name", sorted(HOT))
def test_an_operation_is_captured_and_runs_again(name):
    graph = capture(HOT[name]())
    graph.launch()


def test_products_of_cupy_are_refused_during_a_capture():
    """Why products are cuBLASLt's: CuPy refuses cuBLAS (cupy/cupy#6290)."""
    x = cupy.ones((4, 4), "float32")
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
        capture(lambda: x @ x)
