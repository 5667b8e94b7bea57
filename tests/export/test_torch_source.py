"""A network as a PyTorch module."""

from __future__ import annotations

import inspect
import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from exported_cases import CASES, NETWORKS, NOT_EXPORTED, Function, close, given

import anynet as an
from anynet import nn
from anynet.export import ExportError
from anynet.export.program import program_of
from anynet.export.torch_source import LAYERS, layer_source, torch_source
from torch_oracle import torch


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in NOT_EXPORTED], ids=lambda case: case.name)
def test_every_operation(case):
    inputs = given(case)
    names = [f"x{i}" for i in range(len(inputs))]
    net = Function(case)
    with an.no_grad():
        expected = net.eval()(*inputs).numpy()
    try:
        text, state = torch_source(
            program_of(net, inputs, dynamic=False), names, case.name, dict(net.named_modules())
        )
    except ExportError:
        assert case.name in REFUSED
        return
    assert case.name not in REFUSED
    given_ = [torch.from_numpy(x.numpy().copy()) for x in inputs]
    namespace: dict = {"__file__": "model.py"}
    exec(text, namespace)
    made = namespace["Model"]()
    made.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    with torch.no_grad():
        found = made.eval()(*given_)
    assert close(expected, found.numpy())


REFUSED: set[str] = set()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, tmp_path):
    net, example = NETWORKS[name]()
    found = an.export.torch(net, example, tmp_path / "net")
    assert {p.name for p in (tmp_path / "net").iterdir()} == {
        "model.py", "model.safetensors", "test_model.py", "test_model.safetensors", "certificate.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "net" / "certificate.json").read_text())["target"] == "PyTorch"
    _ = torch.float32  # what follows compares
    torch.zeros(1)
    assert found.ulps < 64
    assert not found.unchecked


def test_the_test_that_is_written_passes_and_can_fail(tmp_path):
    torch.zeros(1)
    net, example = NETWORKS["several"]()
    an.export.torch(net, example, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_model.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    state = an.load(tmp_path / "model.safetensors")
    first = next(iter(state))
    an.save(tmp_path / "model.safetensors", {**state, first: state[first] + 1.0})
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_layers_stand_as_layers():
    assert layer_source(nn.Linear(4, 3)) == "nn.Linear(4, 3)"
    assert (
        layer_source(nn.Conv2d(1, 2, (3, 5), padding=1, bias=False))
        == "nn.Conv2d(1, 2, (3, 5), padding=1, bias=False)"
    )
    assert layer_source(nn.BatchNorm2d(3)) == "nn.BatchNorm2d(3)"
    assert layer_source(nn.BatchNorm2d(3, bias=False)) is None  # PyTorch has no such option
    assert layer_source(nn.RoPE(4)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers_have_pytorchs_options(name):
    ours = set(inspect.signature(getattr(nn, name)).parameters) - {"device", "dtype", *LAYERS[name]}
    cls = getattr(torch.nn, name)
    torch.zeros(1)
    found = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in found.values()):
        assert ours <= set(found)


def test_a_full_disk_leaves_no_part(tmp_path):
    """Weights that do not fit: no folder is left, and an export that is there stays as it was."""
    net, x = nn.Linear(200, 200), an.ones((2, 200))
    an.export.torch(nn.Linear(2, 1), an.ones((2, 2)), tmp_path / "old")
    before = {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()}
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, size[1]))
        for folder in ("new/net", "old"):
            with pytest.raises(OSError, match=r"cannot write .*model\.safetensors"):
                an.export.torch(net, x, tmp_path / folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()} == before
