"""Tests of kernels written by hand run without cuDNN, also where it is installed; those of it ask for `cudnn`."""

from __future__ import annotations

import pytest

from anynet_backends.cuda_kernels import convolution


@pytest.fixture(autouse=True)
def _without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYNET_CUDNN", "off")


@pytest.fixture
def cudnn(_without_cudnn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions by cuDNN, however small; without it the test is skipped."""
    pytest.importorskip("cudnn", reason="cuDNN's frontend is not installed")
    monkeypatch.setenv("ANYNET_CUDNN", "on")
    monkeypatch.setattr(convolution.Limits, "direct", 0)
