"""The page of parity: the worst error of every operation on every backend, in each dtype.

NumPy, array-api-strict and PyTorch are measured when the site is built. CuPy's column is kept in ``tests/parity/cupy.json``:

    python -m ci.cuda_emulator run python -m ci.site.parity tests/parity/cupy.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from anynet.testing.parity import CASES, LIMITS, Row, measure
from anynet_backends import probe

__all__ = ["KEPT", "page", "write_parity"]

KEPT = Path(__file__).resolve().parents[2] / "tests" / "parity" / "cupy.json"
_MEASURED = {"cpu": "NumPy", "strict:device1": "strict", "torch:cpu": "PyTorch"}
_COLUMNS = [(device, dtype) for device in (*_MEASURED, "cuda") for dtype in LIMITS]
_COLUMNS.remove(("cpu", "float64"))  # the reference itself

_HEAD = """# Parity

The same operation on every backend beside NumPy in float64: ‖Δ‖ / ‖reference‖, the larger one of its value and its gradients, on inputs
that are the same everywhere. Limits: float64 1e-10; float32 1e-5 for values and 1e-4 for gradients; {count} comparisons, {beyond} beyond
them. NumPy, array-api-strict (`strict`) and PyTorch were measured when this page was made. CuPy is the real one over the emulated device of
`ci/cuda_emulator`, whose sums and elementary functions are those of the processor: **not a GPU** ({known} of {all} operations; a dash:
added since, measured by the tests only). On any machine: `anynet parity`.

"""


def page(rows: list[Row], kept: dict[str, dict[str, float]]) -> str:
    """The page: a row for each operation."""
    found = {(row.case, row.device, row.dtype): max(row.value, row.gradient) for row in rows}
    found |= {
        (case, "cuda", dtype): error for case, errors in kept.items() for dtype, error in errors.items()
    }
    names = [case.name for case in CASES]
    head = _HEAD.format(
        count=len(found),
        beyond=sum(not row.ok for row in rows),
        known=len({*kept} & {*names}),
        all=len(names),
    )
    titles = [f"{_MEASURED.get(device, 'CuPy')} {dtype}" for device, dtype in _COLUMNS]
    lines = [f"| operation | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for name in names:
        cells = [found.get((name, *column)) for column in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(_shown(error) for error in cells)} |")
    return head + "\n".join(lines) + "\n"


def _shown(error: float | None) -> str:
    return "—" if error is None else f"{error:.0e}" if error else "0"


def write_parity(path: Path) -> None:
    """Measure, and write the page; ValueError where an operation is beyond its limits."""
    rows = measure([device for device in _MEASURED if probe(device) == "ok"])
    if wrong := [row for row in rows if not row.ok]:
        msg = f"parity: beyond its limits or raised: {wrong[0]}"
        raise ValueError(msg)
    path.write_text(page(rows, json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")


def keep(path: Path) -> None:
    """Measure the CUDA device, which has to be the emulator's; write its errors."""
    errors: dict[str, dict[str, float]] = {}
    for row in measure(["cuda"]):
        if not row.ok:
            msg = f"parity: beyond its limits or raised: {row}"
            raise ValueError(msg)
        errors.setdefault(row.case, {})[row.dtype] = float(f"{max(row.value, row.gradient):.1e}")
    path.write_text(json.dumps(errors, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
