"""Builds the emulator: an environment with CuPy, the libraries that stand in for NVIDIA's, and three modules of CuPy anew.

Everything lies in one folder under `home()`, named after what it was made from, and is made once; a build that was interrupted is made
again. Two builds at once wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ci.cuda_emulator import packages

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "source"
_DONE: Final = "complete"
# As a kernel is compiled: no contraction, so that the numbers do not depend on the processor.
_KERNEL_FLAGS: Final = (
    *(
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        "-w",
        "-fpermissive",
        "-fno-threadsafe-statics",
        "-ffp-contract=off",
    ),
    *("-DCUDA_EMULATOR_KERNEL", "-D__CUDACC_VER_MAJOR__=12", "-D__CUDACC_VER_MINOR__=9"),
)


class BuildError(RuntimeError):
    """The emulator cannot be built here; the message says what is missing."""


def home() -> Path:
    """CUDA_EMULATOR_HOME, or a folder of the user's cache."""
    named = os.environ.get("CUDA_EMULATOR_HOME")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cuda_emulator"


class Emulator:
    """Where the parts of a built emulator are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = folder / "environment"
        self.python = self.environment / "bin" / "python"
        self.beside = folder / "beside"  # NVIDIA's headers and NVRTC, OpenBLAS
        self.headers = folder / f"headers-{_digest(packages.HEADERS)}"  # of cuBLASLt and cuDNN
        self.libraries = folder / f"libraries-{_digest(_files(SOURCE))}"
        self.kernels = folder / f"kernels-{_digest(_files(SOURCE))}"  # CuPy's cache of compiled kernels

    def variables(self) -> dict[str, str]:
        """The environment variables with which a program finds the emulator instead of a GPU."""
        path = os.environ.get("LD_LIBRARY_PATH")
        return {
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "LD_LIBRARY_PATH": f"{self.libraries}{os.pathsep}{path}" if path else str(self.libraries),
            "CUDA_PATH": str(
                self.beside / "nvidia" / "cuda_runtime"
            ),  # never a toolkit that is installed here
            "CUPY_CACHE_DIR": os.environ.get("CUPY_CACHE_DIR", str(self.kernels)),
            "CUDA_EMULATOR": str(self.folder),
        }


def build(also: Sequence[str] = ()) -> Emulator:
    """The emulator, built where it is not there yet; `also` are further requirements for its environment."""
    _check_machine()
    interpreter, version = _interpreter()
    name = _digest([repr((version, packages.INSTALLED, packages.BESIDE, packages.TOOLS, packages.MODULES))])
    emulator = Emulator(home() / f"python{version}-{name}")
    emulator.folder.mkdir(parents=True, exist_ok=True)
    with _locked(emulator.folder / "lock"):
        _step(emulator.environment, lambda folder: _make_environment(interpreter, folder))
        _step(
            emulator.beside,
            lambda folder: _pip(
                emulator.python, "install", "--no-deps", "--target", folder, *packages.BESIDE
            ),
        )
        _step(emulator.folder / "modules", lambda folder: _make_modules(emulator, folder))
        _step(emulator.headers, lambda folder: _take_headers(emulator, folder))
        _step(emulator.libraries, lambda folder: _make_libraries(emulator, folder))
        if also:
            wanted = emulator.folder / f"also-{_digest(also)}"
            _step(wanted, lambda _: _pip(emulator.python, "install", *also))
    return emulator


def _check_machine() -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        msg = f"the CUDA emulator runs on Linux on x86-64 processors, not on {sys.platform} {os.uname().machine}"
        raise BuildError(msg)
    for tool, package in (
        (os.environ.get("CXX", "g++"), "a C++17 compiler (Debian: g++)"),
        ("nm", "binutils"),
    ):
        if shutil.which(tool) is None:
            msg = f"{tool} is not installed: the CUDA emulator needs {package}"
            raise BuildError(msg)


def _interpreter() -> tuple[str, str]:
    """A Python that CuPy has a wheel for, this one if it is."""
    if sys.version_info[:2] in packages.PYTHONS:
        return getattr(sys, "_base_executable", None) or sys.executable, _dotted(sys.version_info[:2])
    for version in packages.PYTHONS:
        installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{_dotted(version)}.*/bin/python"))
        found = shutil.which(f"python{_dotted(version)}") or (str(installed[-1]) if installed else None)
        if found:
            return found, _dotted(version)
    wanted = ", ".join(map(_dotted, sorted(packages.PYTHONS)))
    msg = f"CuPy {packages.CUPY} needs one of Python {wanted}; none is installed"
    raise BuildError(msg)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _step(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes the folder, unless it was made to its end before."""
    if (folder / _DONE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make(folder)
    (folder / _DONE).touch()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _files(folder: Path) -> list[str]:
    return [f"{p.relative_to(folder)}\0{p.read_text()}" for p in sorted(folder.rglob("*")) if p.is_file()]


def _run(command: Sequence[object], **variables: str) -> str:
    """Runs a command; where it fails, its output is the error."""
    result = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        shown = "\n".join(result.stdout.splitlines()[-40:])
        msg = f"{' '.join(map(str, command))[:500]} failed:\n{shown}"
        raise BuildError(msg)
    return result.stdout


def _pip(python: Path, command: str, *arguments: object, **variables: str) -> None:
    _run([python, "-m", "pip", command, "-q", *arguments], **variables)


def _make_environment(interpreter: str, folder: Path) -> None:
    _run([interpreter, "-m", "venv", folder])
    _pip(folder / "bin" / "python", "install", *packages.INSTALLED, *packages.TOOLS)


def _site(emulator: Emulator) -> Path:
    return next((emulator.environment / "lib").glob("python3*")) / "site-packages"


def _include_folders(emulator: Emulator) -> list[Path]:
    nvidia = emulator.beside / "nvidia"
    cupy = _site(emulator) / "cupy" / "_core" / "include"
    return [
        *(nvidia / name / "include" for name in ("cuda_runtime", "cuda_nvcc", "cuda_profiler_api")),
        emulator.headers,
        cupy,
        cupy / "cupy" / "_cccl" / "libcudacxx",
        cupy / "cupy" / "_cccl" / "thrust",
    ]


def _take_headers(emulator: Emulator, folder: Path) -> None:
    """The headers of wheels that have much else."""
    _pip(emulator.python, "download", "--no-deps", "--no-cache-dir", "-d", folder, *packages.HEADERS)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if "/include/" in name and name.endswith(".h"):
                    (folder / Path(name).name).write_bytes(archive.read(name))
        wheel.unlink()


# ---- the libraries ----


def _make_libraries(emulator: Emulator, folder: Path) -> None:
    """One library under the names of all of NVIDIA's. What CuPy asks for and the sources lack is answered with "not supported"."""
    compiler = [
        os.environ.get("CXX", "g++"),
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-Wall",
        "-Wno-unused-function",
        "-Werror",
    ]
    compiler += [f"-I{path}" for path in (SOURCE, *_include_folders(emulator))]
    objects = [folder / f"{source.stem}.o" for source in sorted(SOURCE.glob("*.cpp"))]

    def compile_one(object_file: Path) -> None:
        _run([*compiler, "-c", SOURCE / f"{object_file.stem}.cpp", "-o", object_file])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, objects))
    missing = sorted(_asked_for(emulator) - _defined(objects))
    stubs = folder / "unsupported.cpp"
    stubs.write_text(
        "namespace emulator { int unsupported(const char*); }\n"
        + "".join(
            f'extern "C" int {name}() {{ return emulator::unsupported("{name}"); }}\n' for name in missing
        )
    )
    objects.append(folder / "unsupported.o")
    _run([compiler[0], "-fPIC", "-c", stubs, "-o", objects[-1]])
    script = folder / "versions"
    script.write_text(
        "".join(f"{version} {{ {prefix}*; }};\n" for prefix, version in packages.VERSIONED.items())
    )
    openblas = emulator.beside / "scipy_openblas32" / "lib"
    library = folder / packages.LIBRARIES[0]
    linked = [
        f"-L{openblas}",
        "-lscipy_openblas",
        f"-Wl,-rpath,{openblas}",
        f"-Wl,--version-script={script}",
        "-ldl",
        "-pthread",
    ]
    _run([compiler[0], "-shared", "-o", library, *objects, *linked])
    for name in packages.LIBRARIES[1:]:
        (folder / name).symlink_to(library.name)
    _prepare_for_kernels(emulator, folder)
    for rest in [*objects, stubs, script]:
        rest.unlink()


def _prepare_for_kernels(emulator: Emulator, folder: Path) -> None:
    """The headers that every kernel begins with, compiled beforehand, and the command that compiles a kernel."""
    device = shutil.copytree(SOURCE / "device", folder / "device")
    compiler = [
        os.environ.get("CXX", "g++"),
        *_KERNEL_FLAGS,
        f"-I{device}",
        *(f"-I{path}" for path in _include_folders(emulator)),
    ]
    (folder / "compiler").write_text(shlex.join(compiler))
    for header in ("kernel.h", "with_cupy.h"):
        _run([*compiler, "-x", "c++-header", device / header, "-o", device / f"{header}.gch"])


_SYMBOL: Final = re.compile(r"\b(?:cuda|cublas|cusolver|cusparse|cufft|curand|nccl)[A-Z]\w*")


def _asked_for(emulator: Emulator) -> set[str]:
    """The functions that CuPy's modules expect of NVIDIA's libraries."""
    modules = [
        *(_site(emulator) / "cupy_backends").rglob("*.so"),
        *(_site(emulator) / "cupy" / "cuda").glob("cufft*.so"),
    ]
    return set(_SYMBOL.findall(_run(["nm", "-D", "--undefined-only", *modules])))


def _defined(objects: Sequence[Path]) -> set[str]:
    return set(_SYMBOL.findall(_run(["nm", "--defined-only", *objects])))


# ---- CuPy's modules ----


def _make_modules(emulator: Emulator, folder: Path) -> None:
    """Builds the modules into which the wheel has the CUDA runtime linked, and puts them in their places."""
    # Without CUDA, CuPy's setup.py refuses even to name itself, but where its documentation is built; pip asks for the name.
    source = ["--no-deps", "--no-build-isolation", "--no-binary", "cupy", "-d", folder, packages.SOURCES]
    _pip(emulator.python, "download", *source, READTHEDOCS="True")
    safely: dict[str, Any] = (
        {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    )  # Python 3.11.4 has it
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, **safely)
    tree = next(path for path in folder.iterdir() if path.is_dir())
    # The modules name the runtime as what they need; an empty library of its name is enough to link with.
    empty = [
        "-shared",
        "-x",
        "c",
        "/dev/null",
        "-o",
        folder / "libcudart.so.12",
        "-Wl,-soname,libcudart.so.12",
    ]
    _run([os.environ.get("CXX", "g++"), *empty])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(lambda name: _make_module(emulator, tree, name), packages.MODULES))
    for made, module in zip(built, packages.MODULES, strict=True):
        place = next((_site(emulator) / module).parent.glob(f"{Path(module).name}.*.so"))
        shutil.copy2(made, place)
    shutil.rmtree(tree)


def _make_module(emulator: Emulator, tree: Path, module: str) -> Path:
    _run([emulator.python, HERE / "cythonize.py", tree, module, packages.CUDA_VERSION])
    python = _run([emulator.python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"]).strip()
    out = tree / f"{module}.so"
    include = [tree, tree / "cupy" / "cuda", Path(python), *_include_folders(emulator)]
    compiler = [
        os.environ.get("CXX", "g++"),
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        "-w",
        *(f"-I{path}" for path in include),
    ]
    compiler += ['-DCYTHON_EXTERN_C=extern "C"', "-DCUPY_CUB_VERSION_CODE=-1"]
    _run(
        [*compiler, tree / f"{module}.cpp", "-o", out, "-Wl,--no-as-needed", tree.parent / "libcudart.so.12"]
    )
    return out
