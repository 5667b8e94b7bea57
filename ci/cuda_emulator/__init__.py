"""A CUDA device without a GPU: the wheel of CuPy as it is on the package index, over a driver, a runtime, NVRTC, cuBLAS, cuSOLVER and
cuFFT that compute on the processor. How it works and what it cannot see: README.md beside this file."""
