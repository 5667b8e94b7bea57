"""`check_backend` passes the backends that are installed, and finds what is wrong with another."""

import pytest

from anynet.testing import CheckError, check_backend
from anynet.testing.cases import every
from anynet_backends import registry

FEW = [case for case in every() if case.name in ("add", "exp", "sum", "conv2d", "Adam", "Linear")]


@pytest.mark.parametrize("backend", ["numpy", "strict", "torch"])
def test_installed_backends_pass(backend):
    pytest.importorskip(
        {"strict": "array_api_strict"}.get(backend, backend), reason=f"{backend} is not installed"
    )
    report = check_backend(backend, cases=FEW)
    assert report.ok
    if backend == "strict":  # one of its devices has no float64
        assert any(c.skipped == "the device has no float64" for c in report.checks)


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="nowhere"):
        check_backend("nowhere")


def test_a_wrong_function_is_found_in_its_case(monkeypatch):
    pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    xp = registry.get_backend("strict")
    exp = xp.exp
    monkeypatch.setitem(xp.__dict__, "exp", lambda x: exp(x) * 1.001)
    with pytest.raises(CheckError, match=r"strict: exp, float32: the value differs by 0\.001") as caught:
        check_backend("strict", devices=["strict"], cases=[c for c in FEW if c.name in ("exp", "add")])
    failed = [c.name for c in caught.value.report.failures]
    assert failed == ["strict: protocol: arithmetic", "strict: exp, float64", "strict: exp, float32"]
