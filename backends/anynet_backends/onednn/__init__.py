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
last each output is one running sum over channels and kernel, as PyTorch's is for images stored so. From 1024 products on images are copied
into blocks of 16 channels, whose sums are added up, as PyTorch's are for images in C order: the copies take less than what is
faster then. OpenBLAS has partial sums of some 300 products. Relative errors against float64 of outputs and of gradients of inputs, over 64
channels and a 3×3 kernel (576 products), are 3.3e-7 and 4.2e-7, PyTorch's 1.7e-7 and 2.2e-7; over 512 channels they are 1.8e-7 and 2.1e-7,
as PyTorch's (8.3e-7 and 1.1e-6 in one sum). Those of gradients of weights are at most 4.4e-7, PyTorch's 8.9e-7.
On processors without AVX-512 outputs are one sum, 8.3e-7 over 512 channels, as oneDNN has it there in either layout.

Source: https://oneapi-src.github.io/oneDNN (the C API of version 3).
"""

from __future__ import annotations

from anynet_backends.kernel_table import KernelTable
from anynet_backends.onednn import (
    convolution,
    normalization,
    pooling,
    primitive,
    recurrent,
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
    for family in (convolution, pooling, normalization, recurrent)
    for name, kernel in family.KERNELS.items()
}
"""By the name of the primitive."""
