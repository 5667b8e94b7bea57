"""``anynet doctor``: what works on this machine, shown by computing."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import anynet_backends
from anynet import dtypes, nn, optim, random
from anynet._version import __version__
from anynet.nn import functional as F
from anynet.tensor import Tensor
from anynet_backends import onednn
from anynet_backends.config import VARIABLES
from anynet_backends.jit import availability
from anynet_backends.jit.compiler import compiler

__all__ = ["report"]


def _training_step(device: str) -> str:
    """One real training step; the loss before and after."""
    random.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8, device="cpu"), nn.Tanh(), nn.Linear(8, 3, device="cpu")).to(device)
    x = Tensor(Tensor(random.normal((16, 4)), dtype="float32"), device=device)
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


def _extras() -> list[str]:
    """What makes this machine's CPU faster, and why it is not in use where it is not."""
    known = anynet_backends.get_backend("numpy").versions()
    lines = []
    if onednn.problem():
        lines.append(f"oneDNN is installed and not used: {onednn.problem()}")
    elif "oneDNN" not in known and sys.platform.startswith("linux") and platform.machine() == "x86_64":
        lines.append(
            "not installed: oneDNN (convolutions up to three times as fast): pip install 'anynet-nn[onednn]'"
        )
    if availability.problem():
        lines.append(
            f"machine code (steps of small networks twice, compiled ones four times as fast): {availability.problem()}"
        )
    else:
        lines.append(f"machine code is kept on disk: {compiler().cache.status()}")
    return lines


def _variables() -> list[str]:
    """The environment variables, as they are set or by default, and what they are for."""
    lines = []
    for variable in VARIABLES:
        given = os.environ.get(variable.name)
        value = repr(given) if given else f"{variable.default!r} (default)" if variable.default else "not set"
        lines.append(f"{variable.name:15} {value:18} {variable.meaning}")
    return lines


def report() -> tuple[str, bool]:
    """The report as text, and whether the CPU works."""
    lines = [
        f"anynet {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs",
        "",
    ]
    good = False
    for device, state in anynet_backends.available().items():
        if device.startswith("strict:"):
            continue  # array-api-strict's other fake devices are for tests
        if state != "ok":
            lines.append(f"{device:12} not usable: {state}")
            continue
        try:
            said = _training_step(device)
            good = good or device == "cpu"
        except Exception as error:  # noqa: BLE001 - the report is about whatever is wrong with a backend
            said = f"FAILED: {type(error).__name__}: {error}"
        lines.append(f"{device:12} {said}")
    lines.append("")
    for name, xp in anynet_backends.loaded().items():
        versions = ", ".join(f"{k} {v}" for k, v in xp.versions().items())
        lines.append(f"{name:12} {versions}")
        info: dict[str, Any] = xp.blas_info()
        if info:
            lines.append(f"{'':12} BLAS: " + ", ".join(f"{k} {v}" for k, v in info.items()))
    lines += [
        "",
        f"default device {anynet_backends.get_default_device()!r}, "
        f"default float {dtypes.default_float()}, TF32 off, mixed precision off",
        "threads "
        + (
            ", ".join(f"{k}={os.environ[k]}" for k in _THREADS if k in os.environ)
            or "not limited by the environment"
        ),
        *(
            f"{k}={os.environ[k]}: not the kernels that the library would choose"
            for k in _KERNELS
            if k in os.environ
        ),
        *_extras(),
        "",
        *_variables(),
    ]
    return "\n".join(lines), good


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_KERNELS = (
    "OPENBLAS_CORETYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
)  # overrides of a processor's own
