"""The official conformance suite, where a checkout of it is at hand, and the namespace that its second lane runs on."""

import os
import pathlib
import subprocess
import sys

import pytest

import anynet as an
from anynet_backends import array_api

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import recorded

    return recorded


def test_the_second_lane_records_every_floating_array(recorded):
    for x in (
        recorded.asarray([1.0, 2.0]), recorded.linspace(0, 1, 5), recorded.ones((2, 3), dtype=an.complex64),
        recorded.empty_like(recorded.zeros(3)), *recorded.meshgrid(recorded.arange(3.0), recorded.arange(2.0)),
        recorded.linalg.eigh(recorded.eye(3)).eigenvalues, recorded.fft.fftfreq(4), recorded.zeros(()) + 1,
        recorded.from_dlpack(recorded.asarray([1.0])),
    ):  # fmt: skip
        assert x.requires_grad
        assert not x.is_leaf
    x = recorded.zeros(3)
    x[0] = 2.0
    x += 1
    assert x.requires_grad
    assert not recorded.arange(3).requires_grad
    assert not recorded.argmax(recorded.ones(3)).requires_grad
    for name in array_api.FUNCTIONS:
        assert getattr(recorded, name) is not getattr(an, name)


@pytest.mark.skipif(
    "ANYNET_ARRAY_API_TESTS" not in os.environ,
    reason="ANYNET_ARRAY_API_TESTS does not say where a checkout of data-apis/array-api-tests is",
)
def test_no_failure_that_the_library_under_it_does_not_have():
    command = [sys.executable, str(HERE / "run.py"), os.environ["ANYNET_ARRAY_API_TESTS"], "--examples", "10"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
