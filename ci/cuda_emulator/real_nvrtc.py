"""Compiles kernels' sources by NVIDIA's own NVRTC, for architectures that nobody needs to have: what g++ forgives it may not."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ARCHITECTURES: Final = ("sm_70", "sm_80", "sm_90", "sm_100")


def compile_all(beside: Path, folder: str, architectures: Sequence[str]) -> int:
    """Compiles each source that a run kept in the folder for each architecture; prints what fails. The exit status."""
    library = ctypes.CDLL(str(next((beside / "nvidia" / "cuda_nvrtc" / "lib").glob("libnvrtc.so.*"))))
    sources = sorted(Path(folder).glob("*.cu"))
    failed = 0
    for source in sources:
        lines = source.with_suffix(".options").read_text().splitlines()
        options = [
            line for line in lines if not line.startswith(("expression ", "-arch", "--gpu-architecture"))
        ]
        options += [f"-I{beside / 'nvidia' / name / 'include'}" for name in ("cuda_runtime", "cuda_nvcc")]
        for architecture in architectures:
            log = compile_one(library, source.read_text(), [*options, f"-arch={architecture}"])
            if log is not None:
                failed += 1
                print(f"{source} for {architecture}:\n{log}")
    print(f"{len(sources)} kernels for {' '.join(architectures)}: {failed} failed")
    return int(failed > 0 or not sources)


def compile_one(library: ctypes.CDLL, source: str, options: Sequence[str]) -> str | None:
    """None, or NVRTC's log where it refuses the source."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = library.nvrtcCompileProgram(program, len(options), given)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode(errors="replace") if status else None
