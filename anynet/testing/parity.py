"""Parity: the same operations on every backend, values and gradients against NumPy in float64.

The error of one operation in one dtype is ‖Δ‖ / ‖reference‖ (norm-wise), the worst of its value and its gradients.
The limits are those that the project promises: float64 1e-10; float32 1e-5 for values and 1e-4 for gradients.

``anynet parity record FILE [DEVICE]`` keeps what a device computes, and ``anynet parity check FILE`` compares it on
another machine: so a machine without a GPU checks that what it computes is what a GPU computed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import anynet_backends
from anynet.ops import reductions
from anynet.tensor import Tensor, host_dtype
from anynet.testing.cases import Case, every
from anynet.testing.comparing import LIMITS, devices, distance
from anynet_backends import backend_of, philox, registry, safetensors_io

__all__ = ["CASES", "LIMITS", "Case", "Row", "check", "compare", "devices", "measure", "record", "table"]


@dataclass(frozen=True)
class Row:
    """The worst errors of one operation in one dtype on one device."""

    case: str
    device: str
    dtype: str
    value: float
    gradient: float
    raised: str = ""

    @property
    def ok(self) -> bool:
        """Whether both are within the limits, and nothing was raised."""
        value, gradient = LIMITS[self.dtype]
        return not self.raised and self.value <= value and self.gradient <= gradient


CASES = every()


def compute(case: Case, device: str, dtype: str) -> list[Any]:
    """Value and gradients of a case on a device, on the host; their dtype and device are checked."""
    inputs = []
    host = host_dtype(dtype)
    for i, shape in enumerate(case.shapes):
        values = philox.uniform(5, 9, i, shape, case.low, case.high)
        values = registry.asarray(values, dtype=host)  # on the host: the device may have no float64
        inputs.append(Tensor(values, dtype=dtype, device=device, requires_grad=True))
    y = case.function(*inputs)
    weights = registry.asarray(philox.uniform(6, 9, 0, tuple(y.shape), 0.5, 1.5), dtype=host)
    weights = Tensor(weights, dtype=dtype, device=device)
    reductions.sum(y * weights).backward()
    out = [y]
    for x in inputs:
        if x.grad is not None:
            out.append(x.grad)
    for t in out:
        home = anynet_backends.resolve(device)[1]
        if t.dtype != dtype or t.device != home:
            msg = f"{case.name}: got {t.dtype} on {t.device}, expected {dtype} on {home}"
            raise TypeError(msg)
    return [backend_of(t.data).to_host(t.data) for t in out]


def compare(case: Case, device: str, dtype: str) -> Row:
    """One row of the table."""
    return _row(case, device, dtype, compute(case, device, dtype))


def _row(case: Case, device: str, dtype: str, got: list[Any]) -> Row:
    reference = compute(case, "cpu", "float64")
    errors = [distance(a, b) for a, b in zip(got, reference, strict=True)]
    return Row(case.name, device, dtype, errors[0], max(errors[1:], default=0.0))


def measure(names: Iterable[str] | None = None) -> list[Row]:
    """All rows: every case, device and dtype. One that raises is a row with its error."""
    rows = []
    for device in devices() if names is None else names:
        for dtype in LIMITS:
            for case in CASES:
                try:
                    rows.append(compare(case, device, dtype))
                except Exception as error:  # noqa: BLE001 whatever a device raises, the other cases are still to be seen
                    rows.append(_failed(case, device, dtype, _said(error)))
    return rows


def _failed(case: Case, device: str, dtype: str, raised: str) -> Row:
    return Row(case.name, device, dtype, math.nan, math.nan, raised)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def record(path: str | os.PathLike[str], device: str) -> int:
    """Write what `device` computes for every case and dtype to a safetensors file; returns the number of arrays. Of a case that raises
    the error is written."""
    name = anynet_backends.resolve(device)[1]
    arrays: dict[str, Any] = {}
    raised: dict[str, str] = {}
    for case in CASES:
        for dtype in LIMITS:
            try:
                found = compute(case, name, dtype)
            except Exception as error:  # noqa: BLE001 as in `measure`
                raised[f"{case.name}|{dtype}"] = _said(error)
                continue
            arrays |= {f"{case.name}|{dtype}|{i}": array for i, array in enumerate(found)}
    safetensors_io.save(path, arrays, {"anynet parity": name, "raised": json.dumps(raised)})
    return len(arrays)


def check(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a recorded device. Cases that the file lacks, or knows and this version lacks, raise ValueError."""
    arrays, metadata = safetensors_io.load(path)
    if "anynet parity" not in metadata:
        msg = f"{os.fspath(path)} was not written by `anynet parity record`"
        raise ValueError(msg)
    found: dict[tuple[str, str], list[Any]] = {}
    for key in sorted(arrays, key=lambda k: (k.rpartition("|")[0], int(k.rpartition("|")[2]))):
        name, dtype, _ = key.rsplit("|", 2)
        found.setdefault((name, dtype), []).append(arrays[key])
    raised = {
        tuple(key.rsplit("|", 1)): error for key, error in json.loads(metadata.get("raised", "{}")).items()
    }
    wanted = {(case.name, dtype) for case in CASES for dtype in LIMITS}
    if differ := wanted ^ {*found, *raised}:
        names = ", ".join(sorted({name for name, _ in differ})[:5])
        msg = f"{os.fspath(path)} was recorded with other cases than these ({names}): record it again with this version"
        raise ValueError(msg)
    device = metadata["anynet parity"]
    return [
        _failed(c, device, t, raised[c.name, t])
        if (c.name, t) in raised
        else _row(c, device, t, found[c.name, t])
        for t in LIMITS
        for c in CASES
    ]


def table(rows: list[Row]) -> str:
    """The rows as text, the worst error of value and gradient for each operation and dtype."""
    lines = [f"{'operation':<26}{'device':<16}{'dtype':<9}{'value':>10}{'gradient':>10}"]
    for r in rows:
        mark = "" if r.ok else f"  raised {r.raised}" if r.raised else "  BEYOND ITS LIMIT"
        lines.append(f"{r.case:<26}{r.device:<16}{r.dtype:<9}{r.value:>10.1e}{r.gradient:>10.1e}{mark}")
    bad = sum(not r.ok for r in rows)
    lines.append(
        f"{len(rows)} comparisons, {bad} beyond their limits (float64 1e-10; float32 1e-5, gradients 1e-4)"
    )
    return "\n".join(lines)
