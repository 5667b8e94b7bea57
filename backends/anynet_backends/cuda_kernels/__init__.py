"""Kernels for CUDA written by hand, in families, by the name of the primitive that they replace: one or two launches for what the
reference takes many.

Each sums in an order of its own that is always the same, without atomics: the same bits at every run. float16 and bfloat16 are computed
in float32.
What a kernel does not take, the reference computes, and derivatives of higher order.
"""

import os

# in the wheel the families lie in an archive (hatch_build.py): who has no CuPy needs them neither open nor compiled
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet_backends.cuda_kernels import (  # noqa: E402  after the path
    convolution,
    cross_entropy,
    cudnn_attention,
    cudnn_convolution,
    normalization,
    pooling,
    products,
    recurrent,
    scatter,
)
from anynet_backends.cuda_kernels.copies import can_copy, copy_all  # noqa: E402
from anynet_backends.cuda_kernels.cudnn import LIBRARY as CUDNN  # noqa: E402
from anynet_backends.cuda_kernels.masks import drop  # noqa: E402
from anynet_backends.cuda_kernels.normalization import move_averages  # noqa: E402
from anynet_backends.cuda_kernels.norms import clip_norm  # noqa: E402
from anynet_backends.cuda_kernels.scatter import add_rows  # noqa: E402
from anynet_backends.cuda_kernels.watch import StepWatch  # noqa: E402
from anynet_backends.kernel_table import KernelTable  # noqa: E402

__all__ = [
    "CUDNN",
    "KERNELS",
    "StepWatch",
    "add_rows",
    "can_copy",
    "clip_norm",
    "copy_all",
    "drop",
    "move_averages",
    "products",
]

KERNELS: KernelTable = {
    **convolution.KERNELS,
    **cudnn_attention.KERNELS,
    **cudnn_convolution.KERNELS,
    **cross_entropy.KERNELS,
    **normalization.KERNELS,
    **pooling.KERNELS,
    **recurrent.KERNELS,
    **scatter.KERNELS,
}
"""By the name of the primitive that they replace."""
