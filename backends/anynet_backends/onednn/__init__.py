"""oneDNN, through its C API on NumPy's memory: what cuDNN is to a GPU.

The extra `onednn` brings the library (the wheel `onednn-cpu-gomp`, oneDNN 3.2). It is loaded when the first kernel
asks for it. Images have the logical shape (n, c, *spatial) and are stored channels last, which its fastest implementations need;
NumPy's element-wise functions keep that layout. A plan (the primitives for given shapes, with their memory descriptors) is created
once and cached. ``ANYNET_ONEDNN=off`` disables it.

`library` loads it, `primitive` executes one of its primitives, and the other modules are families of kernels.

Its threads are those of the OpenMP runtime: ``OMP_NUM_THREADS`` sets their number, and a forked process has one. NumPy's
OpenBLAS has a thread pool of its own, and two pools on the same cores get in each other's way (a step of LeNet-5 took four times
as long). So OpenBLAS is set to one thread when oneDNN is loaded, and all but small float32 products go to oneDNN, too.

**Rounding errors.** Convolutions use the direct algorithm in float32 (no Winograd, no multiplications of lower precision). With channels
last each output is one running sum over channels and kernel; PyTorch's blocked layout adds partial sums of 16 channels, OpenBLAS
partial sums of some 300 products. Over 64 channels and a 3×3 kernel (576 products) the relative errors against float64 are 4.2e-7,
2.2e-7 and 3.0e-7, respectively, of outputs and of gradients of inputs, as these orders of summation imply; those of gradients of
weights are 8e-7, PyTorch's 3e-6.

Source: https://oneapi-src.github.io/oneDNN (the C API of version 3).
"""

from __future__ import annotations

from anynet_backends.kernel_table import KernelTable
from anynet_backends.onednn import (
    attention,
    convolution,
    normalization,
    pooling,
    primitive,
    recurrent,
    softmax,
)
from anynet_backends.onednn.library import OneDNNError, find, problem, team, threads, version, works
from anynet_backends.onednn.matmul import Product, affine, matmul, product
from anynet_backends.onednn.primitive import Step

__all__ = [
    "KERNELS", "OneDNNError", "Product", "Step", "affine", "find", "matmul", "primitive", "problem", "product", "team", "threads",
    "version", "works",
]  # fmt: skip
KERNELS: KernelTable = {
    name: kernel
    for family in (convolution, pooling, normalization, softmax, attention, recurrent)
    for name, kernel in family.KERNELS.items()
}
"""By the name of the primitive."""
