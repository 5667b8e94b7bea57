"""Prints the devices and versions as a Markdown table, for ci/gpu.sh."""

import importlib.metadata
import math
import platform
from typing import Any

import numpy as np

from anynet_backends import available


def epilogues(cupy: Any) -> list[tuple[str, str]]:
    """Whether ReLU and GELU as cuBLASLt adds them to a product are this library's: ReLU(NaN) = NaN, GELU(x) = x Φ(x), not the form with
    tanh. Decides whether products may use them (`cublaslt._EPILOGUES`)."""
    from anynet_backends.cuda_kernels import products  # only where there is a GPU

    x = np.asarray([math.nan, -math.inf, math.inf, -0.0, *np.linspace(-6, 6, 500)], np.float32)
    rows = np.zeros((len(x), 8), np.float32)
    rows[:, 0] = x
    rows[0] = math.nan
    given = [cupy.asarray(a) for a in (rows, np.ones((8, 8), np.float32), np.zeros(8, np.float32))]
    forms = {
        "x Φ(x)": [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x[4:].tolist()],
        "tanh": [
            v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x[4:].tolist()
        ],
    }
    found = []
    for name in ("relu", "gelu"):
        y = products._product(cupy, given[0], given[1], f"bias, {name}", given[2])
        if y is NotImplemented:
            found.append((f"cuBLASLt {name}", "not offered"))
            continue
        values = cupy.asnumpy(y)[:, 0].astype(np.float64)
        text = f"of NaN {values[0]}, −∞ {values[1]}, ∞ {values[2]}"
        if name == "relu":
            text += f"; else {'max(x, 0)' if (values[3:] == np.maximum(x[3:], 0)).all() else 'NOT max(x, 0)'}"
        else:
            apart = {form: np.abs(values[4:] - wanted).max() for form, wanted in forms.items()}
            text += "; largest difference from " + ", from ".join(f"{f} {d:.1e}" for f, d in apart.items())
        found.append((f"cuBLASLt {name}", text))
    return found


rows = [("machine", platform.platform()), ("Python", platform.python_version())]
for name in (
    "numpy",
    "cupy",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "nvidia-cudnn-frontend",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "torch",
    "array-api-compat",
    "array-api-strict",
):
    try:
        rows.append((name, importlib.metadata.version(name)))
    except importlib.metadata.PackageNotFoundError:
        continue
try:
    import cupy

    for number in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(number)
        memory = properties["totalGlobalMem"] / 2**30
        capability = f"{properties['major']}.{properties['minor']}"
        text = f"{properties['name'].decode()}, {memory:.0f} GiB, compute capability {capability}"
        rows.append((f"cuda:{number}", text))
    rows.append(("CUDA runtime", str(cupy.cuda.runtime.runtimeGetVersion())))
    rows.append(("CUDA driver", str(cupy.cuda.runtime.driverGetVersion())))
    rows += epilogues(cupy)
except ImportError:
    rows.append(("CuPy", "not installed"))
rows += [(f"device {device}", answer) for device, answer in available().items()]

print("| what | value |\n| --- | --- |")
for key, value in rows:
    print(f"| {key} | {value} |")
