"""Translates one module of CuPy's sources to C++, with the settings of CuPy's own build: cythonize.py TREE MODULE CUDA_VERSION.

Run by the emulator's own interpreter, which has Cython."""

import os
import sys

from Cython import __version__
from Cython.Compiler.Main import CompilationOptions, compile_single
from Cython.Compiler.Options import get_directive_defaults


def main() -> None:
    """Writes MODULE.cpp beside MODULE.pyx."""
    tree, module, cuda = sys.argv[1:]
    os.chdir(tree)
    directives = get_directive_defaults() | {
        "embedsignature": True,
        "c_api_binop_methods": True,
        "binding": False,
        "warn.deprecated.IF": False,
        "freethreading_compatible": True,
    }
    constants = {
        "CUPY_USE_CUDA_PYTHON": False,
        "CUPY_CUFFT_STATIC": False,
        "CUPY_CYTHON_VERSION": __version__,
        "CUPY_CUDA_VERSION": int(cuda),
        "CUPY_HIP_VERSION": 0,
    }
    options = CompilationOptions(
        language_level=3,
        cplus=True,
        compiler_directives=directives,
        compile_time_env=constants,
        output_file=f"{module}.cpp",
    )
    result = compile_single(f"{module}.pyx", options, full_module_name=module.replace("/", "."))
    sys.exit(int(result.num_errors > 0))


if __name__ == "__main__":
    main()
