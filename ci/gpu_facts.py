"""Prints the devices and versions as a Markdown table, for ci/gpu.sh."""

import importlib.metadata
import platform

from anynet_backends import available

rows = [("machine", platform.platform()), ("Python", platform.python_version())]
for name in (
    "numpy",
    "cupy",
    "cupy-cuda12x",
    "cupy-cuda13x",
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
except ImportError:
    rows.append(("CuPy", "not installed"))
rows += [(f"device {device}", answer) for device, answer in available().items()]

print("| what | value |\n| --- | --- |")
for key, value in rows:
    print(f"| {key} | {value} |")
