"""anynet doctor: what works on this machine, shown by computing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

import anynet_backends
from anynet import dtypes, nn, optim, random
from anynet._optional import EXTRAS
from anynet._version import __version__
from anynet.cli.grammar import Output, Result, command
from anynet.nn import functional as F
from anynet.tensor import Tensor
from anynet_backends import onednn
from anynet_backends.config import VARIABLES
from anynet_backends.jit import availability
from anynet_backends.jit.compiler import compiler

__all__ = ["doctor", "examine"]


def _training_step(device: str) -> str:
    """One real training step; the loss before and after."""
    random.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8, device="cpu"), nn.Tanh(), nn.Linear(8, 3, device="cpu")).to(device)
    x = random.normal((16, 4), dtype="float32", device=device)
    y = Tensor([i % 3 for i in range(16)], device=device)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if not losses[1] < losses[0]:
        msg = f"the loss did not fall: {losses[0]:.6f} → {losses[1]:.6f}"
        raise ArithmeticError(msg)
    return f"one training step: loss {losses[0]:.6f} → {losses[1]:.6f}"


def _speed() -> list[tuple[str, str]]:
    """What makes this machine's CPU faster, and why it is not in use where it is not."""
    versions = anynet_backends.get_backend("numpy").versions()
    rows = []
    if onednn.problem():
        rows.append(("oneDNN", f"installed and not used: {onednn.problem()}"))
    elif "oneDNN" in versions:
        rows.append(("oneDNN", versions["oneDNN"]))
    elif sys.platform.startswith("linux") and platform.machine() == "x86_64":
        rows.append(
            (
                "oneDNN",
                "not installed (convolutions up to three times as fast): pip install 'anynet-nn[onednn]'",
            )
        )
    if availability.problem():
        faster = "steps of small networks twice, compiled ones four times as fast"
        rows.append(("machine code", f"{faster}: {availability.problem()}"))
    else:
        rows.append(("machine code", f"kept on disk: {compiler().cache.status()}"))
    return rows


def _extras() -> list[tuple[str, str]]:
    """The extras around the engine, with the version of their library or how to install it."""
    rows = []
    for extra, (library, purpose) in EXTRAS.items():
        try:
            rows.append((extra, f"{library} {importlib.metadata.version(library)}"))
        except importlib.metadata.PackageNotFoundError:
            rows.append((extra, f"not installed ({purpose}): pip install 'anynet-nn[{extra}]'"))
    return rows


def _variables() -> list[tuple[str, str]]:
    """The environment variables, as they are set or by default, and what they are for."""
    rows = []
    for variable in VARIABLES:
        given = os.environ.get(variable.name)
        shown = "set" if variable.secret else repr(given)
        value = shown if given else f"{variable.default!r} (default)" if variable.default else "not set"
        rows.append((variable.name, f"{value:18} {variable.meaning}"))
    return rows


def examine() -> dict[str, list[tuple[str, str]]]:
    """What was found: pairs of a name and a text, by section."""
    devices: list[tuple[str, str]] = []
    for device, state in anynet_backends.available().items():
        if device.startswith("strict:"):
            continue  # array-api-strict's other fake devices are for tests
        if state == "ok":
            try:
                state = _training_step(device)
            except Exception as error:  # noqa: BLE001 - the report is about whatever is wrong with a backend
                state = f"FAILED: {type(error).__name__}: {error}"
        else:
            state = f"not usable: {state}"
        devices.append((device, state))
    libraries: list[tuple[str, str]] = []
    for name, xp in anynet_backends.loaded().items():
        libraries.append((name, ", ".join(f"{k} {v}" for k, v in xp.versions().items())))
        info: dict[str, Any] = xp.blas_info()
        if info:
            libraries.append(("", "BLAS: " + ", ".join(f"{k} {v}" for k, v in info.items())))
    threads = ", ".join(f"{k}={os.environ[k]}" for k in _THREADS if k in os.environ)
    settings = [
        ("default device", repr(anynet_backends.get_default_device())),
        ("default float", f"{dtypes.default_float()}, TF32 off, mixed precision off"),
        ("threads", threads or "not limited by the environment"),
    ]
    settings += [
        (k, f"{os.environ[k]}: not the kernels that the library would choose")
        for k in _KERNELS
        if k in os.environ
    ]
    return {
        "devices": devices, "libraries": libraries, "settings": settings, "speed": _speed(), "extras": _extras(),
        "variables": _variables(),
    }  # fmt: skip


@command("doctor")
def doctor(output: Output) -> Result:
    """What works on this machine: each device and each extra, shown by computing, and what to install for the rest.

    The exit code is 1 where the CPU does not train.
    """
    found = examine()
    title = f"anynet {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"
    sections = ["\n".join(f"{name:15} {text}".rstrip() for name, text in rows) for rows in found.values()]
    good = any(name == "cpu" and text.startswith("one training step") for name, text in found["devices"])
    data = {
        "anynet": __version__,
        "works": good,
        **{k: [list(row) for row in rows] for k, rows in found.items()},
    }
    return Result(data, "\n\n".join([title, *sections]), 0 if good else 1)


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_KERNELS = (
    "OPENBLAS_CORETYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
)  # overrides of a processor's own
