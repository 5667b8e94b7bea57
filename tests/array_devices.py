"""The devices that tests run on: `DEVICES`, and whether one is there."""

from __future__ import annotations

import pytest

from anynet_backends import probe

__all__ = ["DEVICES", "usable"]

DEVICES = ("cpu", "strict:device1", "torch:cpu", "cuda:0")


def usable(device: str) -> str:
    """ "ok", or why a device cannot be used here; without its library the test is skipped."""
    library = {"strict": "array_api_strict", "torch": "torch"}.get(device.split(":")[0])
    if library is not None:
        pytest.importorskip(library, reason=f"{device} needs {library}")
    return probe(device)
