"""What can be said about the CuPy backend where there is no GPU: its kernels' sources, run as C++ on the
CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from anynet_backends import philox
from anynet_backends.cupy_backend import PHILOX_SOURCE

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")

SHIM = r"""
#include <cstddef>
struct Dim { unsigned x; };
static Dim gridDim, blockDim, blockIdx, threadIdx;
#define __global__
#define __device__
#define __restrict__
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{ return (unsigned long long)(((unsigned __int128)a * b) >> 64); }
"""

LAUNCH = r"""
extern "C" void launch(unsigned grid, unsigned block, unsigned long long k0, unsigned long long k1,
    unsigned long long step, unsigned long long stream, unsigned int* out, unsigned long long n, bool in_cells)
{
    gridDim.x = grid; blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)
            if (in_cells) {  // as in a graph: the step is counted from that of the cells
                const unsigned long long cells[3] = {k0, k1, step - 5};
                anynet_philox4x64(stream, out, n, 1, 2, 5, cells);
            } else {
                anynet_philox4x64(stream, out, n, k0, k1, step, nullptr);
            }
}
"""


def build(tmp_path, source: str) -> ctypes.CDLL:
    file = tmp_path / "kernel.cpp"
    file.write_text(source)
    library = tmp_path / "kernel.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(file)],
        check=True,
        capture_output=True,
    )
    return ctypes.CDLL(str(library))


def test_philox_kernel_gives_numpys_bits(tmp_path):
    launch = build(tmp_path, SHIM + PHILOX_SOURCE + LAUNCH).launch
    launch.argtypes = (
        [ctypes.c_uint] * 2 + [ctypes.c_ulonglong] * 4 + [ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_bool]
    )
    top = 2**64 - 1
    for key, stream, step, n in ((0, 0, 0, 1), (2**128 - 1, top, top - 1, 8), (2**100 + 7, 3, 2**40, 4099)):
        for grid, block in ((1, 1), (3, 32), (40, 128)):  # too few threads stride, too many stay idle
            for in_cells in (False, True):
                out = np.zeros(n + 3, np.uint32)
                launch(grid, block, key & top, key >> 64, step, stream, out.ctypes.data, n, in_cells)
                assert np.array_equal(out[:n], philox.philox_words(key, stream, step, n))
                assert not out[n:].any()  # nothing is written past the end


def test_updates_are_written_as_kernels():
    """What is generated for an optimizer, without a GPU: each number is read, updated and written once."""
    from anynet.autograd.jit.compile import CompileError
    from anynet.autograd.jit.specialize import traceable_numpy
    from anynet.optim import SGD
    from anynet_backends import TYPES, cupy_programs
    from anynet_backends.jit.elementwise_program import ElementwiseProgram
    from anynet_backends.jit.tracer import TracedArray

    traceable_numpy()

    def program(optimizer, slots, names, dtype="float32"):
        def function(xp, vectors, c):
            p, g, *state = vectors
            optimizer.elementwise_update(xp, p, g, dict(zip(slots, state, strict=True)), c)

        return ElementwiseProgram(
            TYPES[TracedArray], function, [dtype] * (2 + len(slots)), names, np.dtype(dtype)
        )

    text = cupy_programs.source(program(SGD, (), ("lr",)))
    assert text.count("v0[i] = a0;") == 1
    assert "float* v0, float* v1, float n0" in text
    assert "v1[i] =" not in text
    assert "double" in cupy_programs.source(program(SGD, (), ("lr",), "float64"))
    with pytest.raises(CompileError, match="float16"):
        cupy_programs.source(program(SGD, (), ("lr",), "float16"))
