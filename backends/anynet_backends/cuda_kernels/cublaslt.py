"""cuBLASLt through ctypes: what is declared here of it, and the products that it has found an algorithm for.

Matrices of the library lie by columns. A matrix by rows is its transpose there, so D = A B by rows is Dᵀ = Bᵀ Aᵀ: the second operand
comes first, and each is transposed by a flag where it lies by columns here.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import threading
from typing import Any, Final, NamedTuple

from anynet_backends.concurrency import once_property
from anynet_backends.config import CUBLASLT

__all__ = [
    "COMPUTE",
    "CONSTANTS",
    "LIBRARY",
    "CublasLtError",
    "Operand",
    "Plan",
    "Product",
    "Result",
    "opened",
]

CONSTANTS: Final = {
    "CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14, "CUDA_C_32F": 4, "CUDA_C_64F": 5,
    "CUBLAS_COMPUTE_32F": 68, "CUBLAS_COMPUTE_64F": 70, "CUBLAS_COMPUTE_32F_FAST_16BF": 75,
    "CUBLAS_COMPUTE_32F_FAST_TF32": 77,
    "CUBLAS_STATUS_INVALID_VALUE": 7, "CUBLAS_STATUS_NOT_SUPPORTED": 15,
    "CUBLAS_OP_N": 0, "CUBLAS_OP_T": 1,
    "CUBLASLT_MATMUL_DESC_TRANSA": 3, "CUBLASLT_MATMUL_DESC_TRANSB": 4, "CUBLASLT_MATMUL_DESC_EPILOGUE": 7,
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER": 8,
    "CUBLASLT_EPILOGUE_DEFAULT": 1, "CUBLASLT_EPILOGUE_BIAS": 4, "CUBLASLT_EPILOGUE_BGRADB": 512,
    "CUBLASLT_EPILOGUE_RELU_BIAS": 6, "CUBLASLT_EPILOGUE_GELU_BIAS": 36,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": 5, "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": 6,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": 1, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": 5,
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": 6, "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES": 7,
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": 8,
}  # fmt: skip
"""Of NVIDIA's headers, by their names there (tests/cuda/test_cublaslt.py compares)."""

_C: Final = CONSTANTS
_TYPES: Final = {
    "e": "CUDA_R_16F",
    "E": "CUDA_R_16BF",
    "f": "CUDA_R_32F",
    "d": "CUDA_R_64F",
    "F": "CUDA_C_32F",
    "D": "CUDA_C_64F",
}
_SCALES: Final[dict[str, tuple[Any, int]]] = {
    "CUDA_R_32F": (ctypes.c_float, 1),
    "CUDA_R_64F": (ctypes.c_double, 1),
    "CUDA_C_32F": (ctypes.c_float, 2),
    "CUDA_C_64F": (ctypes.c_double, 2),
}
"""How alpha and beta are written."""

COMPUTE: Final = {
    "tf32": "CUBLAS_COMPUTE_32F_FAST_TF32",
    "bfloat16": "CUBLAS_COMPUTE_32F_FAST_16BF",
}
"""How products of float32 numbers are computed that have been rounded to a shorter format; all others in full."""


class CublasLtError(RuntimeError):
    """A call of cuBLASLt has failed; the message has its name and the status."""


class Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algo", ctypes.c_uint64 * 8),
        ("workspaceSize", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("wavesCount", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


_P: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_SET: Final = (_P, _INT, _P, ctypes.c_size_t)
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "cublasLtCreate": (_P,),
    "cublasLtMatmulDescCreate": (_P, _INT, _INT),
    "cublasLtMatmulDescSetAttribute": _SET,
    "cublasLtMatmulDescDestroy": (_P,),
    "cublasLtMatrixLayoutCreate": (_P, _INT, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatrixLayoutSetAttribute": _SET,
    "cublasLtMatrixLayoutDestroy": (_P,),
    "cublasLtMatmulPreferenceCreate": (_P,),
    "cublasLtMatmulPreferenceSetAttribute": _SET,
    "cublasLtMatmulPreferenceDestroy": (_P,),
    "cublasLtMatmulAlgoGetHeuristic": (_P, _P, _P, _P, _P, _P, _P, _INT, _P, _P),
    "cublasLtMatmul": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _P, ctypes.c_size_t, _P),
}


class _Library:
    """The library, opened when it is first asked for, and its handles: one for each device, for all threads."""

    def __init__(self) -> None:
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()

    @once_property
    def _opened(self) -> tuple[Any, str]:
        """The library, or None and why."""
        if not CUBLASLT():
            return None, f"{CUBLASLT.name} is off"
        try:
            library = opened()
            for name, arguments in _FUNCTIONS.items():
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, _INT
            library.cublasLtGetStatusName.argtypes, library.cublasLtGetStatusName.restype = (
                (_INT,),
                ctypes.c_char_p,
            )
            library.cublasLtGetVersion.argtypes, library.cublasLtGetVersion.restype = (), ctypes.c_size_t
        except Exception as error:  # noqa: BLE001 whatever a broken installation raises: products are CuPy's then
            return None, str(error).strip().partition("\n")[0] or type(error).__name__
        return library, ""

    @property
    def functions(self) -> Any:
        """The library, None where there is none."""
        return self._opened[0]

    @property
    def problem(self) -> str:
        """Why the library is not used, "" where it is."""
        return self._opened[1]

    def version(self) -> str:
        """As NVIDIA writes it."""
        number = int(self.functions.cublasLtGetVersion())
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    def check(self, status: int, call: str, what: str = "") -> None:
        """CublasLtError where a call has failed."""
        if status:
            name = self.functions.cublasLtGetStatusName(status)
            msg = f"{call}: {name.decode() if name else 'unknown status'} ({status}){what and f', of {what}'}"
            raise CublasLtError(msg)

    def call(self, name: str, *args: Any) -> None:
        """Call a function."""
        self.check(getattr(self.functions, name)(*args), name)

    def made(self, name: str, *args: Any) -> int:
        """What a function that makes an object has made."""
        out = ctypes.c_void_p()
        self.call(name, ctypes.byref(out), *args)
        return out.value or 0

    def handle(self, device: int) -> int:
        """That of a device, which is the current one."""
        found = self._handles.get(device)
        if found is None:
            with self._lock:
                found = self._handles.get(device)
                if found is None:
                    found = self._handles[device] = self.made("cublasLtCreate")
        return found


def opened() -> Any:
    """The library of CuPy's CUDA, where CuPy finds its others."""
    cuda = importlib.import_module("cupy").cuda.runtime.runtimeGetVersion() // 1000
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    except Exception:  # noqa: BLE001 no pathfinder, or a toolkit that it does not know
        name = f"cublasLt64_{cuda}.dll" if sys.platform == "win32" else f"libcublasLt.so.{cuda}"
        return ctypes.CDLL(name)


LIBRARY: Final = _Library()


class Operand(NamedTuple):
    """How a matrix lies by rows here: `transposed` by columns; the elements between rows (or columns), and between those of a batch."""

    transposed: bool
    ld: int
    stride: int


class Product(NamedTuple):
    """What is to be computed by rows: (m, k) times (k, n), `batch` of them, of a dtype, with what is done besides, and how addresses
    are aligned: of A, B, D and the vector.

    `beside`: "" for nothing, "bias" for a vector (n,) added to each row, "sums" for the sums (m,) of A's rows.
    """

    letter: str
    m: int
    n: int
    k: int
    batch: int
    a: Operand
    b: Operand
    d: Operand
    compute: str | None
    beside: str
    aligned: tuple[int, int, int, int]

    def __str__(self) -> str:
        times = f"{self.batch} × " if self.batch > 1 else ""
        how = f"{self.compute or 'in full'}, {self.beside or 'alone'}"
        return f"{times}({self.m}, {self.k}) @ ({self.k}, {self.n}) of type {self.letter}, {how}"


_EPILOGUES: Final = {
    "": "CUBLASLT_EPILOGUE_DEFAULT",
    "bias": "CUBLASLT_EPILOGUE_BIAS",
    "sums": "CUBLASLT_EPILOGUE_BGRADB",
    "bias, relu": "CUBLASLT_EPILOGUE_RELU_BIAS",
    "bias, gelu": "CUBLASLT_EPILOGUE_GELU_BIAS",
}
"""No layer asks for the last two: NVIDIA documents ReLU as max(x, 0) and does not say what that is of NaN, nor which GELU its is. Until
`ci/gpu_facts.py` has shown on a GPU that they are those of this library, they stay off."""


class Plan:
    """The descriptors of a product and the algorithm that the library's heuristic has chosen, for one device.

    Attributes:
      found: whether it has chosen one; without, the product is to be computed otherwise.
      workspace: bytes that the algorithm needs.
    """

    def __init__(self, product: Product, device: int, workspace: int) -> None:
        self.product, self.handle = product, LIBRARY.handle(device)
        self._lock = threading.Lock()  # of the vector, which is a part of the descriptor
        self._made: list[tuple[str, int]] = []
        self._matmul = LIBRARY.functions.cublasLtMatmul
        scale = "CUDA_R_32F" if product.letter in "eE" else _TYPES[product.letter]
        number, parts = _SCALES[scale]
        self._scalars = (number * (2 * parts))()  # 0 and 1
        self._scalars[parts] = 1.0
        self._at_zero = ctypes.addressof(self._scalars)
        self._at_one = self._at_zero + parts * ctypes.sizeof(number)
        self._operation = self._make_operation(scale)
        p = product
        # D by columns is n × m: B, then A
        self._first = self._layout(p.b, p.n, p.k)
        self._second = self._layout(p.a, p.k, p.m)
        self._result = self._layout(p.d, p.n, p.m)
        self.found, self.workspace = self._choose(workspace)

    def _own(self, destroy: str, made: int) -> int:
        self._made.append((destroy, made))
        return made

    def _set(self, function: str, at: int, name: str, value: Any) -> None:
        LIBRARY.call(function, at, _C[name], ctypes.byref(value), ctypes.sizeof(value))

    def _make_operation(self, scale: str) -> int:
        p = self.product
        compute = COMPUTE[p.compute] if p.compute else f"CUBLAS_COMPUTE_{'64' if p.letter in 'dD' else '32'}F"
        made = self._own(
            "cublasLtMatmulDescDestroy", LIBRARY.made("cublasLtMatmulDescCreate", _C[compute], _C[scale])
        )
        name = "cublasLtMatmulDescSetAttribute"
        for side, operand in (("A", p.b), ("B", p.a)):
            flag = _C["CUBLAS_OP_T" if operand.transposed else "CUBLAS_OP_N"]
            self._set(name, made, f"CUBLASLT_MATMUL_DESC_TRANS{side}", ctypes.c_int32(flag))
        self._set(name, made, "CUBLASLT_MATMUL_DESC_EPILOGUE", ctypes.c_uint32(_C[_EPILOGUES[p.beside]]))
        if p.beside:  # the heuristic looks at how it is aligned
            self._set(name, made, "CUBLASLT_MATMUL_DESC_BIAS_POINTER", ctypes.c_void_p(p.aligned[3]))
        return made

    def _layout(self, operand: Operand, rows: int, columns: int) -> int:
        if operand.transposed:
            rows, columns = columns, rows
        p = self.product
        made = self._own(
            "cublasLtMatrixLayoutDestroy",
            LIBRARY.made("cublasLtMatrixLayoutCreate", _C[_TYPES[p.letter]], rows, columns, operand.ld),
        )
        if p.batch > 1:
            name = "cublasLtMatrixLayoutSetAttribute"
            self._set(name, made, "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT", ctypes.c_int32(p.batch))
            self._set(
                name, made, "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET", ctypes.c_int64(operand.stride)
            )
        return made

    def _choose(self, workspace: int) -> tuple[bool, int]:
        preference = LIBRARY.made("cublasLtMatmulPreferenceCreate")
        name, (a, b, d, _) = "cublasLtMatmulPreferenceSetAttribute", self.product.aligned
        try:
            self._set(
                name, preference, "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", ctypes.c_uint64(workspace)
            )
            for side, aligned in zip("ABCD", (b, a, d, d), strict=True):
                self._set(
                    name,
                    preference,
                    f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{side}_BYTES",
                    ctypes.c_uint32(aligned),
                )
            best, count = Result(), ctypes.c_int(0)
            status = LIBRARY.functions.cublasLtMatmulAlgoGetHeuristic(
                self.handle, self._operation, self._first, self._second, self._result, self._result, preference, 1,
                ctypes.byref(best), ctypes.byref(count),
            )  # fmt: skip
        finally:
            LIBRARY.call("cublasLtMatmulPreferenceDestroy", preference)
        refused = [
            "CUBLAS_STATUS_NOT_SUPPORTED",
            *["CUBLAS_STATUS_INVALID_VALUE"] * bool(self.product.beside),
        ]
        if status in [_C[name] for name in refused] or (not status and (not count.value or best.state)):
            return False, 0  # of products with something besides NVIDIA does not say which of both it answers
        LIBRARY.check(status, "cublasLtMatmulAlgoGetHeuristic", str(self.product))
        self._best, self._algo = best, ctypes.addressof(best)
        return True, int(best.workspaceSize)

    def run(self, a: int, b: int, d: int, vector: int, add: bool, workspace: int, stream: int) -> None:
        """Queue the product of what lies at these addresses; `add`: to what lies at d."""
        arguments = (
            self.handle, self._operation, self._at_one, b, self._first, a, self._second, self._at_one if add else self._at_zero, d,
            self._result, d, self._result, self._algo, workspace, self.workspace, stream,
        )  # fmt: skip
        if not self.product.beside:
            status = self._matmul(*arguments)
        else:
            with self._lock:
                at, name = ctypes.c_void_p(vector), "cublasLtMatmulDescSetAttribute"
                self._set(name, self._operation, "CUBLASLT_MATMUL_DESC_BIAS_POINTER", at)
                status = self._matmul(*arguments)
        if status:
            LIBRARY.check(status, "cublasLtMatmul", str(self.product))

    def __del__(self) -> None:
        for destroy, made in self.__dict__.get("_made", ()):
            getattr(LIBRARY.functions, destroy)(made)
