"""What the emulator is made of, all from the package index and pinned: a new version is another emulator."""

from __future__ import annotations

from typing import Final

CUPY: Final = "14.2.0"
CUDA_VERSION: Final = 12090  # of the headers below, as CUDA counts it

# In the environment, as a user of CuPy has them.
INSTALLED: Final = (f"cupy-cuda12x=={CUPY}", "cuda-pathfinder==1.9.0", "numpy==2.4.6")

# Beside it, where CuPy does not find them: NVIDIA's headers, its NVRTC for a check, and the BLAS and LAPACK that compute.
BESIDE: Final = (
    "nvidia-cuda-runtime-cu12==12.9.79",
    "nvidia-cuda-nvcc-cu12==12.9.86",
    "nvidia-cuda-nvrtc-cu12==12.9.86",
    "nvidia-cuda-profiler-api-cu12==12.9.79",
    "scipy-openblas32==0.3.34.481.3",
)

# NVIDIA's headers of cuBLASLt and cuDNN, against which what stands for them is compiled. They come with the libraries alone: the wheels
# are downloaded once (580 and 68 MB), and all but the headers deleted.
HEADERS: Final = ("nvidia-cublas-cu12==12.9.1.4", "nvidia-cudnn-jit-cu12==9.27.0.42")

# What builds three modules of CuPy anew from its sources (the wheel's have the CUDA runtime linked in).
TOOLS: Final = ("Cython==3.2.9", "setuptools==84.2.1", "wheel==0.48.0")
SOURCES: Final = f"cupy=={CUPY}"
MODULES: Final = ("cupy_backends/cuda/api/runtime", "cupy/cuda/cub", "cupy/cuda/thrust")

PYTHONS: Final = ((3, 12), (3, 13), (3, 11))  # with a wheel of this CuPy, the preferred one first

# The names under which CuPy looks for NVIDIA's libraries; `version` where its modules ask for symbols with the library's version.
LIBRARIES: Final = (
    "libcuda.so.1",
    "libcudart.so.12",
    "libnvrtc.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcufft.so.11",
    "libcurand.so.10",
    "libnvJitLink.so.12",
    "libnccl.so.2",
    "libcudnn.so.9",
)
VERSIONED: Final = {
    "cublas": "libcublas.so.12",
    "cusolver": "libcusolver.so.11",
    "cusparse": "libcusparse.so.12",
    "cufft": "libcufft.so.11",
    "curand": "libcurand.so.10",
}
