"""oneDNN, through its C API on NumPy's memory: what cuDNN is to a GPU.

The extra `onednn` brings the library (the wheel `onednn-cpu-gomp`, oneDNN 3.2). It is loaded when the first convolution
runs. Images are kept with the channels last in memory under the logical shape (n, c, *spatial), which its fastest
implementations want; element-wise functions of NumPy keep that order. A plan (the primitives of a shape with their memory
descriptors) is made once and cached. ``ANYNET_ONEDNN=off`` leaves it alone.

Its threads are those of the OpenMP runtime: ``OMP_NUM_THREADS`` sets their number, and a forked process has one. The
threads of NumPy's OpenBLAS are another pool, and two pools on the same cores take turns badly (a step of LeNet-5 took
four times as long); so when oneDNN is loaded, OpenBLAS is set to one thread, and all but small products in float32 go to
oneDNN too.

**Rounding errors.** Convolutions are the direct algorithm in float32 (no Winograd, no shorter multiplications). With the channels
last each number is one running sum over channels and kernel, where the blocked layout that PyTorch takes adds up parts of 16
channels, and OpenBLAS parts of some 300 products. Over 64 channels and 3×3 places, 576 products, the relative errors against
float64 are 4.2e-7, 2.2e-7 and 3.0e-7 in turn, of outputs and of gradients of inputs, which is what sums in these orders give; the
gradients of weights are at 8e-7, PyTorch's at 3e-6.

Source: https://oneapi-src.github.io/oneDNN (the C API of version 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet_backends.onednn import (
    attention,
    convolution,
    normalization,
    pooling,
    primitive,
    recurrent,
    softmax,
)
from anynet_backends.onednn.library import OneDNNError, find, problem, team, threads, version
from anynet_backends.onednn.matmul import Product, affine, matmul, product
from anynet_backends.onednn.primitive import Step

__all__ = [
    "KERNELS", "OneDNNError", "Product", "Step", "affine", "find", "matmul", "primitive", "problem", "product", "team", "threads",
    "version",
]  # fmt: skip
KERNELS: dict[str, Callable[..., Any]] = {
    name: kernel
    for family in (convolution, pooling, normalization, softmax, attention, recurrent)
    for name, kernel in family.KERNELS.items()
}
"""By the name of the primitive."""
