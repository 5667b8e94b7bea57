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


def convolutions() -> list[tuple[str, str]]:
    """How far convolutions by cuDNN and their gradients are from those of the CPU in float64, and whether they have the same bits twice."""
    import anynet as an
    from anynet.ops.convolution import conv
    from anynet_backends.cuda_kernels import convolution, cudnn

    if cudnn.LIBRARY.module is None:
        return [("cuDNN", cudnn.LIBRARY.status)]
    cases: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((8, 16, 24, 24), (32, 16, 3, 3), {"padding": 1}),
        ((8, 16, 25, 24), (32, 16, 3, 5), {"stride": (2, 3), "padding": (1, 2)}),
        ((4, 16, 24, 24), (32, 4, 3, 3), {"groups": 4, "padding": "same", "dilation": 2}),
        ((4, 16, 24, 24), (16, 1, 3, 3), {"groups": 16, "padding": 1}),
        ((8, 16, 240), (32, 16, 5), {"padding": 2}),
        ((2, 4, 6, 7, 8), (6, 4, 3, 3, 3), {"padding": 1}),
    ]
    rng = np.random.default_rng(0)

    def computed(
        arrays: list[Any], device: str, dtype: str, last: bool, options: dict[str, Any]
    ) -> list[Any]:
        xs = [an.asarray(a.astype(dtype), device=device) for a in arrays]
        if last:  # the image lies with its channels last
            xs[0] = an.asarray(
                an.moveaxis(an.asarray(np.moveaxis(arrays[0], 1, -1).astype(dtype), device=device), -1, 1)
            )
        xs = [x.detach().requires_grad_() for x in xs]
        y = conv(*xs, **options)
        an.sum(
            y * an.asarray(np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype), device=device)
        ).backward()
        return [t.numpy().astype(np.float64) for t in (y, *(x.grad for x in xs))]

    found, direct = [("cuDNN", cudnn.LIBRARY.status)], convolution.Limits.direct
    convolution.Limits.direct = 0
    try:
        for dtype, precision in (("float32", "float32"), ("float32", "tf32"), ("float16", "float32")):
            for last in (False, True):
                apart, same = 0.0, True
                for x, w, options in cases:
                    arrays = [rng.standard_normal(x).astype(dtype), rng.standard_normal(w).astype(dtype)]
                    expected = computed(arrays, "cpu", "float64", False, options)
                    with an.precision(precision):
                        once, twice = (computed(arrays, "cuda", dtype, last, options) for _ in range(2))
                    same &= all((a == b).all() for a, b in zip(once, twice, strict=True))
                    distances = (
                        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(once, expected, strict=True)
                    )
                    apart = max(apart, *distances)
                how = f"{dtype}{', tf32' * (precision == 'tf32')}, channels {'last' if last else 'first'}"
                bits = "the same bits twice" if same else "NOT the same bits twice"
                found.append((f"cuDNN {how}", f"largest relative distance from float64 {apart:.1e}; {bits}"))
    except Exception as error:  # noqa: BLE001 a report is about whatever fails
        found.append(("cuDNN", f"FAILED: {type(error).__name__}: {error}"))
    finally:
        convolution.Limits.direct = direct
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
    rows += convolutions()
except ImportError:
    rows.append(("CuPy", "not installed"))
rows += [(f"device {device}", answer) for device, answer in available().items()]

print("| what | value |\n| --- | --- |")
for key, value in rows:
    print(f"| {key} | {value} |")
