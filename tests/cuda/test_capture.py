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


def test_a_stream_that_joins_a_capture_must_be_waited_for():
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    x, y = cupy.ones(3), cupy.zeros(3)

    def fork(join):
        with first:
            first.begin_capture()
            second.wait_event(first.record())
            with second:
                cupy.multiply(x, 2.0, out=y)
            if join:
                first.wait_event(second.record())
            return first.end_capture()

    graph = fork(join=True)
    assert y.tolist() == [0.0] * 3
    graph.launch()
    assert y.tolist() == [2.0] * 3
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Unjoined"):
        fork(join=False)
    assert not first.is_capturing()
    assert not second.is_capturing()


def test_an_event_from_outside_is_refused_in_a_capture():
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    event = second.record()
    first.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Isolation"):
        first.wait_event(event)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Invalidated"):
        first.end_capture()


def test_only_the_stream_that_began_a_capture_ends_it():
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    first.begin_capture()
    second.wait_event(first.record())
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Unmatched"):
        second.end_capture()
    first.end_capture()
    assert not second.is_capturing()
