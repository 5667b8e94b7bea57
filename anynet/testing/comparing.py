"""What the checks share: results as host arrays, distances between them, the devices of this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import anynet_backends
from anynet.tensor import Tensor
from anynet_backends import Array, backend_of, registry

__all__ = [
    "LIMITS", "all_finite", "devices", "distance", "dtypes_of", "norm", "require_same_bits", "tensors_in", "to_host",
]  # fmt: skip

LIMITS = {"float64": (1e-10, 1e-10), "float32": (1e-5, 1e-4)}
"""How far values and gradients in a dtype may be from NumPy's in float64: ‖Δ‖ / ‖reference‖."""


def devices() -> list[str]:
    """The usable devices of this machine, each library once: CPU, array-api-strict (on a device that is not its default),
    PyTorch, CUDA, and those of other installed backends."""
    found = [name for name, state in anynet_backends.available().items() if state == "ok"]
    return [name for name in found if name.split(":")[0] != "strict" or name == "strict:device1"]


def dtypes_of(device: str) -> list[str]:
    """Those of `LIMITS` that a device has."""
    xp, name = anynet_backends.resolve(device)
    known = xp.__array_namespace_info__().dtypes(device=xp.native_device(name))
    return [dtype for dtype in LIMITS if dtype in known]


def tensors_in(result: Any) -> list[Tensor]:
    """The Tensors of a nest of tuples, lists and dicts."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [t for part in result for t in tensors_in(part)]
    return []


def to_host(tensor: Tensor) -> Array:
    """A copy of a Tensor's values as an array of NumPy."""
    return backend_of(tensor.data).to_host(tensor.data).copy()


def all_finite(values: Array) -> bool:
    """Whether no value of a host array is NaN or infinite."""
    return bool((abs(values) < math.inf).all())


def distance(a: Any, b: Any) -> float:
    """‖a − b‖ / ‖b‖ of host arrays; ‖a‖ where b is zero, inf where the shapes differ or a value is NaN."""
    a, b = registry.asarray(a, dtype="float64"), registry.asarray(b, dtype="float64")
    if a.shape != b.shape:
        return math.inf
    scale, difference = norm(b), norm(a - b)
    out = difference / scale if scale else difference
    return math.inf if out != out else out


def norm(a: Any) -> float:
    """The root of the sum of squares of a host array, in float64."""
    a = registry.asarray(a, dtype="float64")
    return math.sqrt(float((a * a).sum()))


def require_same_bits(what: str, got: list[Tensor], expected: list[Tensor]) -> None:
    """AssertionError unless both are the same values of the same dtypes."""
    assert len(got) == len(expected), f"{what}: got {len(got)} Tensors, expected {len(expected)}"
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        which = what if len(got) == 1 else f"{what}, Tensor {i}"
        assert a.dtype == b.dtype, f"{which}: got {a.dtype}, expected {b.dtype}"
        assert tuple(a.shape) == tuple(b.shape), (
            f"{which}: got shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        )
        x, y = to_host(a), to_host(b)
        wrong = (x != y) & ~((x != x) & (y != y))
        assert not wrong.any(), (
            f"{which}: {int(wrong.sum())} of {x.size} values differ, worst by {float(abs(x - y).max()):.3g}"
        )
