"""How far an exported network is from the one that it was made from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from anynet._version import __version__
from anynet.export.program import ExportError
from anynet_backends import Array, backend_of

__all__ = ["Certificate", "Difference", "difference"]


@dataclass(frozen=True)
class Difference:
    """The largest differences of one output of one program that ran the export.

    `absolute` is max |y − z|, `relative` that over max |y|. `ulps` is max |y − z| in units in the last place of max |y|, so 1.0 is the
    distance between two neighbouring numbers of that size; `ulps_each` the same with the ulp of each number itself, which is large where
    an output is near zero by cancellation.
    """

    output: str
    by: str  # "numpy", "onnx.reference", "onnxruntime", "torch"
    absolute: float
    relative: float
    ulps: float
    ulps_each: float


@dataclass
class Certificate:
    """What was exported, to what, and how far it is from the original on so many samples; kept as JSON beside the export."""

    target: str
    path: str
    samples: int
    differences: list[Difference] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    anynet: str = __version__

    @property
    def ulps(self) -> float:
        """The largest of all differences, in ulps; NaN where nothing has been compared."""
        return max((d.ulps for d in self.differences), default=math.nan)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.target}"]
        lines += [
            f"  {d.output} by {d.by}: at most {d.absolute:.2g} from the original, {d.ulps:.1f} ulps, on {self.samples} samples"
            for d in self.differences
        ]
        return "\n".join([*lines, *(f"  {text}" for text in self.unchecked)])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def text(self) -> str:
        """It as JSON."""
        return json.dumps(self.to_json(), indent=2) + "\n"


def difference(output: str, by: str, expected: Array, got: Array) -> Difference:
    """Compare two host arrays of one shape; NaN and infinities must be at the same places."""
    xp = backend_of(expected)
    if tuple(expected.shape) != tuple(got.shape):
        msg = (
            f"export: the network gives {output} the shape {tuple(expected.shape)} for the example, what was written (run by {by}) "
            f"{tuple(got.shape)}: it does otherwise for another size of the batch; dynamic=False fixes the size"
        )
        raise ExportError(msg)
    if 0 in expected.shape:
        return Difference(output, by, 0.0, 0.0, 0.0, 0.0)
    if not xp.isdtype(expected.dtype, "real floating"):
        apart = float(xp.sum(xp.astype(expected != got, xp.float64)))
        return Difference(output, by, apart, apart, apart, apart)
    a, b = xp.astype(expected, xp.float64), xp.astype(got, xp.float64)
    if bool(xp.any(xp.isfinite(a) != xp.isfinite(b))):
        msg = f"export: {by} gives NaN or infinities in {output} where the network gives numbers, or the other way round"
        raise ArithmeticError(msg)
    finite = xp.isfinite(a)
    a, b = a[finite], b[finite]
    if not a.shape[0]:
        return Difference(output, by, 0.0, 0.0, 0.0, 0.0)
    apart, size = xp.abs(a - b), xp.abs(a)
    eps, tiny = float(xp.finfo(expected.dtype).eps), float(xp.finfo(expected.dtype).smallest_normal)
    largest, most = float(xp.max(size)), float(xp.max(apart))

    def ulp(x: float) -> float:
        return float(eps * 2.0 ** math.floor(math.log2(max(x, tiny))))

    steps = eps * 2.0 ** xp.floor(xp.log2(xp.maximum(size, xp.asarray(tiny, dtype=xp.float64))))
    each = float(xp.max(apart / steps))
    return Difference(output, by, most, most / largest if largest else most, most / ulp(largest), each)


def outputs_of(count: int) -> Sequence[str]:
    """The names of the outputs."""
    return ["output", *(f"output_{i}" for i in range(1, count))]
