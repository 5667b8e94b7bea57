"""NVIDIA's own cuDNN plans the convolutions and the attention that `anynet_backends.cuda_kernels` asks for, for GPUs that nobody needs
to have.

    python -m ci.real_cudnn [75 80 90 …]

cuDNN can be told a device's properties in place of a device. So its heuristics and the notes of its engines are looked at here as on a
GPU, and engines of attention are compiled by NVRTC for it; nothing is computed. Printed is how many signatures have a plan; those without
are computed by the kernels beneath. The exit status is 1 where planning fails.

Everything comes from the package index (about 1.3 GB, once) into CUDA_EMULATOR_HOME, else ~/.cache/cuda_emulator.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ci.cuda_emulator.build import home

PACKAGES: Final = (
    "nvidia-cudnn-frontend==1.24.1", "nvidia-cudnn-cu12==9.28.0.42", "nvidia-cublas-cu12==12.9.1.4",
    "nvidia-cuda-nvrtc-cu12==12.9.86", "numpy==2.4.6",
)  # fmt: skip
CAPABILITIES: Final = (75, 80, 90, 100, 120)
_SHARED: Final = {75: 65536, 80: 166912, 90: 232448, 100: 232448, 120: 101376}
"""Bytes of shared memory that a block may have."""
_PROPERTIES: Final = {
    "driverVer": 12090, "cudaDeviceId": 0, "multiProcessorCount": 128, "smCountOrigin": 0, "warpSize": 32,
    "maxGridSize": [2**31 - 1, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "maxSharedMemoryPerBlock": 49152,
    "oversizedSharedMemoryPerBlock": 0, "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
    "totalGlobalMem": 80 * 2**30, "smClockRateKHz": 1_900_000, "memClockRateKHz": 2_600_000, "memoryBusWidth": 5120,
    "l2CacheSize": 50 * 2**20, "deviceName": "none",
}  # fmt: skip


def folder() -> Path:
    """An environment with the packages, and beside it a driver that has no device."""
    place = home() / "real_cudnn_and_nvrtc"
    if (place / "complete").exists():
        return place
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    python = place / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PACKAGES], check=True)
    names = {"cuInit", "cuDriverGetVersion"}
    for library in _installed(place, "cudnn").glob("libcudnn_*.so.9"):
        found = re.findall(rb"\bcu(?!da|dnn|blas|DNN|BLAS)[A-Z]\w{3,60}(?=\0)", library.read_bytes())
        names.update(name.decode() for name in found)
    source, made = place / "driver.c", place / "libcuda.so.1"
    source.write_text("".join(map(_stub, sorted(names))))
    compiler = os.environ.get("CC", "gcc")
    subprocess.run(
        [compiler, "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", made], check=True
    )
    (place / "complete").touch()
    return place


def _installed(place: Path, package: str) -> Path:
    return next(place.glob("lib/python3*")) / "site-packages" / "nvidia" / package / "lib"


def _stub(name: str) -> str:
    """A function of the driver: there is no device, but code that was compiled for one is taken."""
    if name == "cuKernelGetFunction" or re.match(r"cu(Library|Module)(Load|Get)(?!ingMode)", name):
        return f"int {name}(void **out) {{ static long made[64]; *out = made; return 0; }}\n"
    if re.match(r"cu(Func|Kernel)GetAttribute", name):
        return f"int {name}(int *out) {{ *out = 0; return 0; }}\n"
    return f"int {name}() {{ return {0 if re.match(r'cu(Library|Kernel|Module|Func)', name) else 100}; }}\n"


def convolutions() -> Iterator[tuple[str, Any]]:
    """What is asked for, and how the signature is called: kinds of layers, in each way that they are computed."""
    from anynet_backends.cuda_kernels.cudnn import Convolution

    layers = {
        "plain": ((8, 16, 24, 24), (32, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        "stride": ((8, 16, 25, 24), (32, 16, 3, 5), (2, 3), ((1, 2), (1, 2)), (1, 1)),
        "dilation": ((8, 16, 24, 24), (32, 16, 3, 3), (1, 1), ((2, 4), (2, 4)), (2, 4)),
        "pointwise": ((8, 64, 14, 14), (128, 64, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
        "groups": ((8, 16, 24, 24), (32, 4, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        "depthwise": ((8, 16, 24, 24), (16, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        "one channel": ((64, 1, 28, 28), (32, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
        "odd": ((3, 5, 9, 11), (7, 5, 3, 2), (1, 2), ((1, 0), (1, 0)), (1, 1)),
        "one side": ((8, 16, 24, 24), (32, 16, 2, 2), (1, 1), ((0, 0), (1, 1)), (1, 1)),
        "large": ((256, 256, 56, 56), (512, 256, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
        "first of a network": ((32, 3, 224, 224), (64, 3, 7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1)),
        "single axis": ((8, 16, 240), (32, 16, 5), (1,), ((2,), (2,)), (1,)),
        "long single axis": ((4, 1, 160_000), (64, 1, 400), (160,), ((0,), (0,)), (1,)),
        "three axes": ((2, 4, 6, 7, 8), (6, 4, 3, 3, 3), (1, 1, 1), ((1, 1, 1), (1, 1, 1)), (1, 1, 1)),
        "three axes, depthwise": ((2, 4, 6, 7, 8), (8, 1, 3, 3, 3), (1, 2, 1), ((1, 1, 1), (1, 1, 1)), (1, 1, 1)),
        "beyond 2³¹ elements": ((2048, 64, 128, 129), (64, 64, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    }  # fmt: skip
    for name, (x, weight, stride, (low, high), dilation) in layers.items():
        sizes = zip(x[2:], weight[2:], stride, low, high, dilation, strict=True)
        out = tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, a, b, d in sizes)
        for result, (letter, short), last in itertools.product(
            ("y", "x", "weight"), (("f", False), ("f", True), ("e", False)), (False, True)
        ):
            yield (
                name,
                Convolution(
                    result, letter, x, weight, (x[0], weight[0], *out), stride, (low, high), dilation, last, short
                ),
            )  # fmt: skip


def attentions() -> Iterator[tuple[str, Any]]:
    """The same of attention, from Ampere on, forward with and without sums for the gradients, and these."""
    from anynet_backends.cuda_kernels.cudnn_attention import Attention

    def by_rows(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(math.prod(shape[i + 1 :]) for i in range(4))

    def by_positions(shape: tuple[int, ...]) -> tuple[int, ...]:
        _, h, n, d = shape
        return (h * n * d, d, h * d, 1)

    # batch, heads of queries and of keys, queries, keys, width of keys and of values
    layers: dict[str, tuple[int, ...]] = {
        "self": (4, 8, 8, 512, 512, 64, 64), "wide": (2, 4, 4, 512, 512, 128, 128), "narrow": (2, 4, 4, 512, 512, 8, 8),
        "odd width": (2, 4, 4, 512, 512, 72, 40), "odd lengths": (2, 4, 4, 333, 333, 64, 64), "cross": (2, 4, 4, 300, 700, 64, 64),
        "more queries": (2, 4, 4, 700, 300, 64, 64), "one query": (2, 4, 4, 1, 1000, 64, 64), "one key": (2, 4, 4, 1000, 1, 64, 64),
        "groups": (2, 8, 2, 512, 512, 64, 64), "one head": (1, 1, 1, 1024, 1024, 64, 64), "long": (1, 4, 4, 8192, 8192, 64, 64),
    }  # fmt: skip
    for name, (b, h, g, n, m, e, w) in layers.items():
        for bias, causal in ((None, False), (None, True), ((b, 1), False)):
            for result in ("y", "gradients"):
                shapes = {"q": (b, h, n, e), "k": (b, g, m, e), "v": (b, g, m, w)}
                shapes |= {} if bias is None else {"bias": (*bias, n, m)}
                shapes |= {"y": (b, h, n, w), "sums": (b, h, n, 1)}
                if result == "gradients":
                    shapes |= {"g": (b, h, n, w)} | {f"d{name}": shapes[name] for name in "qkv"}
                arrays = [
                    (k, s, (by_rows if k in ("bias", "sums") else by_positions)(s)) for k, s in shapes.items()
                ]
                yield f"{name}, {result}", Attention(result, "e", tuple(arrays), e**-0.5, causal)


class _Frontend:
    """The frontend's module, whose graphs are for the properties of a device in place of a handle."""

    def __init__(self, module: Any, capability: int) -> None:
        self._module = module
        given = {
            **_PROPERTIES, "deviceVer": capability * 10, "maxSharedMemoryPerBlockOptin": _SHARED[capability],
        }  # fmt: skip
        self._properties = module.create_device_properties(json.dumps(given))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def pygraph(self, *, handle: int, **options: Any) -> Any:
        return self._module.pygraph(device_property=self._properties, **options)


def plan(capabilities: list[int]) -> int:
    """The exit status."""
    import cudnn

    from anynet_backends.cuda_kernels import cudnn as own

    failed = 0
    for capability in capabilities:
        module = _Frontend(cudnn, capability)
        found: Counter[str] = Counter()
        for name, form in (*convolutions(), *(attentions() if capability >= 80 else ())):
            try:
                made = own.plan(module, form, 0, capability)
            except own.CudnnError as error:
                failed += 1
                print(f"sm_{capability}, {name}: {error}")
                continue
            found["planned" if made else "without an engine"] += 1
            if made is None:
                print(f"sm_{capability}, {name}: none for the {form}{', rounded' if form.short else ''}")
        print(f"cuDNN {cudnn.backend_version_string()}, sm_{capability}: {dict(found)}")
    return int(failed > 0)


if __name__ == "__main__":
    if "REAL_CUDNN" in os.environ:
        raise SystemExit(plan([int(text) for text in sys.argv[1:]] or list(CAPABILITIES)))
    place = folder()
    root = Path(__file__).parents[1]
    libraries = os.pathsep.join(map(str, (place, _installed(place, "cuda_nvrtc"))))
    variables = {
        **os.environ, "REAL_CUDNN": "1", "LD_LIBRARY_PATH": libraries, "PYTHONPATH": f"{root}{os.pathsep}{root / 'backends'}",
    }  # fmt: skip
    python = str(place / "bin" / "python")
    os.execve(python, [python, "-m", "ci.real_cudnn", *sys.argv[1:]], variables)
