"""Products by cuBLASLt: values whatever way the operands lie, how many launches they take, what is chosen and kept, and what is declared of
the library against NVIDIA's headers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F
from anynet.ops.linear import _linear
from anynet.train.precision import said as said_of
from anynet_backends import get_backend
from anynet_backends.cuda_kernels import cublaslt, products
from anynet_backends.cuda_kernels.cublaslt import LIBRARY, CublasLtError, Operand, Plan, Product
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

XP = get_backend("cupy")
LIMITS = {"float16": 4e-3, "float32": 1e-5, "float64": 1e-12, "complex64": 1e-5, "complex128": 1e-12}
SHAPES = [
    ((5, 7), (7, 3)), ((1, 7), (7, 3)), ((5, 1), (1, 3)), ((5, 7), (7, 1)), ((1, 1), (1, 1)), ((33, 100), (100, 17)),
    ((7,), (7, 3)), ((5, 7), (7,)), ((7,), (7,)), ((3, 5, 7), (7,)), ((0, 7), (7, 3)), ((5, 0), (0, 3)), ((2, 0, 7), (7, 3)),
    ((4, 5, 7), (7, 3)), ((4, 5, 7), (4, 7, 3)), ((2, 4, 5, 7), (4, 7, 3)), ((2, 1, 5, 7), (1, 4, 7, 3)), ((5, 7), (4, 7, 3)),
]  # fmt: skip


def drawn(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def by_columns(x):
    return cupy.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if x.ndim > 1 else x


def within_rows(x):
    whole = cupy.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    whole[..., 1:-2] = x
    return whole[..., 1:-2]


def strided(x):
    whole = cupy.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = whole[(slice(None, None, 2),) * x.ndim]
    view[...] = x
    return view


def heads_behind(x):
    return cupy.ascontiguousarray(x.swapaxes(0, -2)).swapaxes(0, -2) if x.ndim > 2 else x


def backwards(x):
    return cupy.ascontiguousarray(x[..., ::-1])[..., ::-1]


LAYOUTS = [cupy.asarray, by_columns, within_rows, strided, heads_behind, backwards]


def recorded():
    """What the emulator is asked for; of a GPU nothing is known."""
    return Log() if present() else contextlib.nullcontext(Log())


def kinds(log):
    return [line for line in log.lines if line.startswith("launch")]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_a_product_is_that_of_numpy(shapes, dtype):
    a, b = (drawn(shape, dtype, seed) for seed, shape in enumerate(shapes))
    expected = a.astype("complex128") @ b.astype("complex128")
    for first in LAYOUTS:
        for second in LAYOUTS:
            with recorded() as log:
                y = XP.matmul(first(cupy.asarray(a)), second(cupy.asarray(b)))
            assert y.shape == expected.shape
            assert y.dtype == dtype
            limit = LIMITS[dtype] * max(1.0, np.abs(expected).max(initial=0.0))
            np.testing.assert_allclose(cupy.asnumpy(y), expected, rtol=0, atol=limit)
            if present() and expected.size and a.shape[-1]:
                assert log.having("launch cublasLtMatmul")


@pytest.mark.skipif(not present(), reason="counts what the emulator is asked")
@pytest.mark.parametrize("shapes", [SHAPES[0], SHAPES[5], SHAPES[13], SHAPES[14]], ids=str)
def test_nothing_is_copied_that_lies_by_rows_or_columns(shapes):
    a, b = (cupy.asarray(drawn(shape)) for shape in shapes)
    for first in (cupy.asarray, by_columns, within_rows):
        for second in (cupy.asarray, by_columns, within_rows):
            x, y = first(a), second(b)
            with recorded() as log:
                XP.matmul(x, y)
            assert kinds(log) == ["launch cublasLtMatmul"]
            assert not log.having("copy", "memset", "synchronize")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_a_vector_is_added_to_each_row(lead, dtype):
    a, b, c = drawn((*lead, 5, 7), dtype), drawn((7, 3), dtype, 1), drawn((3,), dtype, 2)
    with recorded() as log:
        y = XP.affine(*map(cupy.asarray, (a, b, c)))
    np.testing.assert_allclose(cupy.asnumpy(y), (a @ b + c).astype(dtype), rtol=0, atol=10 * LIMITS[dtype])
    if present() and dtype in ("float16", "float32"):
        assert kinds(log) == ["launch cublasLtMatmul bias"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_is_added_to_what_is_there(dtype):
    a, b, c = drawn((4, 5, 7), dtype), drawn((4, 7, 3), dtype, 1), drawn((4, 5, 3), dtype, 2)
    out = cupy.asarray(c)
    with recorded() as log:
        products.accumulate(cupy, XP.matmul, cupy.asarray(a), cupy.asarray(b), out)
    np.testing.assert_allclose(cupy.asnumpy(out), c + a @ b, rtol=0, atol=10 * LIMITS[dtype])
    if present():
        assert kinds(log) == ["launch cublasLtMatmul"]
    turned = by_columns(cupy.asarray(c))  # not by rows: computed otherwise
    products.accumulate(cupy, XP.matmul, cupy.asarray(a), cupy.asarray(b), turned)
    np.testing.assert_allclose(cupy.asnumpy(turned), c + a @ b, rtol=0, atol=10 * LIMITS[dtype])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(6, 7), (2, 3, 7), (1, 7)], ids=str)
def test_a_linear_layer_has_the_gradients_of_the_cpu(shape, dtype):
    found = []
    for device in ("cpu", "cuda"):
        xs = [
            an.asarray(drawn(s, dtype, k), device=device, requires_grad=True)
            for k, s in enumerate((shape, (5, 7), (5,)))
        ]
        y = F.linear(*xs)
        an.sum(y * an.asarray(drawn(y.shape, dtype, 4), device=device)).backward()
        found.append([y.numpy(), *(x.grad.numpy() for x in xs)])
    for here, there in zip(*found, strict=True):
        assert here.dtype == there.dtype
        np.testing.assert_allclose(here, there, rtol=0, atol=20 * LIMITS[dtype])


@pytest.mark.skipif(not present(), reason="counts what the emulator is asked")
def test_a_linear_layer_is_one_launch_forward_and_two_backward():
    xp, (x, w, b) = XP, (cupy.asarray(drawn(s, "float32", k)) for k, s in enumerate(((6, 7), (5, 7), (5,))))
    with recorded() as log:
        y, pull = _linear.kernels["cupy"](xp, x, w, b, need=(True, True, True))
    assert kinds(log) == ["launch cublasLtMatmul bias"]
    with recorded() as log:
        pull(y)
    assert kinds(log) == ["launch cublasLtMatmul", "launch cublasLtMatmul bias gradient"]


def test_what_is_not_taken_cupy_computes():
    whole = cupy.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(cupy.asnumpy(XP.matmul(whole, whole.T)), [[5, 14], [14, 50]])
    mixed = XP.matmul(cupy.ones((2, 3), "float32"), cupy.ones((3, 2), "float64"))
    assert mixed.dtype == "float64"
    with pytest.raises(ValueError, match=r"mismatch|not aligned|core dimension"):
        XP.matmul(cupy.ones((2, 3)), cupy.ones((2, 3)))


def test_float32_is_computed_in_full_and_shorter_by_choice_alone():
    # 1 + 2⁻¹², which tf32 rounds to 1
    x = cupy.full((8, 8), 1 + 2.0**-12, "float32")
    assert float(XP.matmul(x, x)[0, 0]) > 8.003
    eye = an.asarray(np.eye(8, dtype="float32"), device="cuda")
    fine = an.Tensor(x)
    for name in ("tf32", "mixed-bf16", "mixed-fp16"):
        with an.precision(name):
            assert float(F.linear(fine, eye)[0, 0]) == 1.0
            with an.precision("float32"):
                assert float(F.linear(fine, eye)[0, 0]) == 1 + 2.0**-12
    assert float(F.linear(fine, eye)[0, 0]) == 1 + 2.0**-12
    with products.computing("float16"):  # numbers that have this format are kept in it
        assert float(XP.matmul(x, x)[0, 0]) > 8.003


@pytest.mark.skipif(not present(), reason="the emulator rounds as it is told")
@pytest.mark.parametrize("kind", ["tf32", "bfloat16"])
def test_a_shorter_format_is_asked_for(kind):
    x = cupy.full((8, 8), 1 + 2.0**-12, "float32")
    with products.computing(kind):
        assert float(XP.matmul(x, x)[0, 0]) == 8.0
        assert float(XP.matmul(x.astype("float64"), x.astype("float64"))[0, 0]) > 8.003


@pytest.mark.parametrize("name", ["tf32", "mixed-bf16"])
def test_a_rounded_layer_has_the_numbers_of_the_cpu(name):
    found = []
    for device in ("cpu", "cuda"):
        xs = [
            an.asarray(drawn(s, "float32", k), device=device, requires_grad=True)
            for k, s in enumerate(((6, 33), (5, 33), (5,)))
        ]
        with an.precision(name):
            y = F.linear(*xs)
        an.sum(y * y).backward()
        found.append([y.numpy(), *(x.grad.numpy() for x in xs)])
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(here, there, rtol=2e-2 if name == "mixed-bf16" else 1e-5, atol=1e-4)


def test_what_a_run_says_of_its_products(monkeypatch):
    for name, kind in (("tf32", "tf32"), ("mixed-bf16", "bfloat16")):
        found = said_of(name, "cuda")
        assert f"operands rounded to {kind}, in which cuBLASLt may compute linear layers" in found["words"]
        assert not found["emulated"]
        assert said_of(name, "cpu")["emulated"]
    assert "computed in float16" in said_of("mixed-fp16", "cuda")["words"]
    monkeypatch.setattr(type(LIBRARY), "functions", None)
    assert said_of("tf32", "cuda")["words"].count("its numbers, not its speed") == 1


# ----- what is kept -----


def test_the_algorithms_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(products, "MOST_PLANS", 8)
    own = products._Products(cupy, 0)
    a = cupy.ones((40, 3), "float32")
    for n in range(1, 30):
        own(a[:n], a[:3].T)
        own(a[:1], a[:3].T)  # used again and again
    assert len(own.ways) <= 8
    assert any(key[1] == (1, 3) for key in own.ways)


def test_addresses_that_are_little_aligned():
    whole = cupy.asarray(drawn(100))
    for i in range(1, 6):
        a, b = whole[i : i + 12].reshape(3, 4), whole[2 * i + 20 : 2 * i + 28].reshape(4, 2)
        y = XP.affine(a, b, whole[i + 60 : i + 62])
        expected = cupy.asnumpy(a) @ cupy.asnumpy(b) + cupy.asnumpy(whole[i + 60 : i + 62])
        np.testing.assert_allclose(cupy.asnumpy(y), expected, rtol=1e-5, atol=1e-5)


def test_each_stream_has_a_workspace():
    own = products._Products(cupy, 0)
    a = cupy.ones((16, 16), "float32")
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    for stream in [*streams, *streams]:
        with stream:
            own(a, a)
    assert len({own.workspace(s.ptr) for s in streams}) == 2
    assert len(own.workspaces) == 2


def test_threads_share_a_layer(in_threads):
    a, b = cupy.asarray(drawn((9, 8))), cupy.asarray(drawn((8, 7), seed=1))
    vectors = [cupy.full(7, float(k), "float32") for k in range(4)]
    base, wrong = cupy.asnumpy(a) @ cupy.asnumpy(b), []

    def work(k):
        for _ in range(50):
            y = cupy.asnumpy(XP.affine(a, b, vectors[k]))
            if np.abs(y - base - k).max() > 1e-4:
                wrong.append(k)

    in_threads(*(functools.partial(work, k) for k in range(4)))
    assert not wrong


def test_each_device_has_its_own():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        x = an.asarray(drawn((3, 4)), device=device)
        with recorded() as log:
            y = F.linear(x, x, an.ones(3, device=device))
        assert y.device == device
        assert not log.having("foreign pointer", "refused")
        np.testing.assert_allclose(y.numpy(), x.numpy() @ x.numpy().T + 1, rtol=1e-5, atol=1e-5)


def test_without_the_library_cupy_multiplies(monkeypatch):
    monkeypatch.setitem(LIBRARY.__dict__, "_opened", (None, "no library"))
    x = an.asarray(drawn((3, 4)), device="cuda", requires_grad=True)
    with recorded() as log:
        y = F.linear(x, x, an.ones(3, device="cuda"))
        an.sum(y).backward()
    np.testing.assert_allclose(y.numpy(), x.numpy() @ x.numpy().T + 1, rtol=1e-5, atol=1e-5)
    assert not log.having("launch cublasLt")
    assert "no library" in XP.blas_info()["cuBLASLt"]


def test_a_captured_product_reads_what_is_there_when_it_runs():
    a, b, c = (
        cupy.asarray(drawn((9, 16))),
        cupy.asarray(drawn((16, 7), seed=1)),
        cupy.asarray(drawn(7, seed=2)),
    )
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        XP.affine(a, b, c)
        stream.begin_capture()
        y = XP.affine(a, b, c)
        graph = stream.end_capture()
        a *= 2
        c += 1
        graph.launch(stream)
        stream.synchronize()
    expected = cupy.asnumpy(a) @ cupy.asnumpy(b) + cupy.asnumpy(c)
    np.testing.assert_allclose(cupy.asnumpy(y), expected, rtol=1e-5, atol=1e-5)


# ----- what is asked of the library -----

PLAIN = Product(
    "f",
    5,
    3,
    7,
    1,
    Operand(False, 7, 0),
    Operand(False, 3, 0),
    Operand(False, 3, 0),
    None,
    "",
    (16, 16, 16, 16),
)


@pytest.mark.skipif(not present(), reason="what the emulator refuses")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": Operand(False, 6, 0)}, "columns overlap"),
        ({"b": Operand(True, 3, 0)}, "columns overlap"),
        ({"d": Operand(True, 5, 0)}, "shapes do not fit"),
        ({"batch": 3, "d": Operand(False, 3, 4)}, "results of a batch overlap"),
        ({"aligned": (3, 16, 16, 16)}, "no power of two"),
        ({"aligned": (2, 16, 16, 16)}, "below a number's"),
    ],
)
def test_a_wrong_description_is_refused(changes, said, capfd):
    with pytest.raises(
        CublasLtError,
        match=r"cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_INVALID_VALUE \(7\), of .*\(5, 7\) @ \(7, 3\)",
    ):
        Plan(PLAIN._replace(**changes), 0, 1 << 20)
    assert said in capfd.readouterr().err


@pytest.mark.skipif(not present(), reason="what the emulator refuses")
def test_what_the_library_does_not_do_besides_is_done_behind_the_product(capfd):
    assert not Plan(PLAIN._replace(beside="bias", aligned=(16, 16, 16, 0)), 0, 0).found
    assert "epilogue has no vector" in capfd.readouterr().err
    wide = PLAIN._replace(letter="d", beside="sums")
    assert not Plan(wide, 0, 0).found
    assert Plan(wide._replace(beside=""), 0, 0).found


@pytest.mark.skipif(not present(), reason="what the emulator refuses")
def test_wrong_addresses_are_refused(capfd):
    plan = Plan(PLAIN, 0, 0)
    x = cupy.zeros(100, "float32")
    at = x.data.ptr
    for a, b, said in (
        (at + 4, at, "B is not aligned to 16"),
        (at, 0, "A is a null pointer"),
        (at, x.get().ctypes.data // 16 * 16, "A reaches outside"),
    ):
        with pytest.raises(CublasLtError, match="cublasLtMatmul: CUBLAS_STATUS_"):
            plan.run(a, b, at, 0, False, 0, 0)
        assert said in capfd.readouterr().err
    plan = Plan(PLAIN._replace(k=64, a=Operand(False, 64, 0)), 0, 1 << 16)
    assert plan.workspace
    x = cupy.zeros(1000, "float32")
    at = x.data.ptr
    with pytest.raises(CublasLtError, match="cublasLtMatmul: CUBLAS_STATUS_INVALID_VALUE"):
        plan.run(at, at, at, 0, False, 0, 0)
    assert "the workspace is a null pointer" in capfd.readouterr().err


# ----- NVIDIA's headers -----


@pytest.mark.skipif(not present(), reason="NVIDIA's headers are the emulator's")
def test_what_is_declared_is_what_nvidias_headers_say(tmp_path):
    """A program made with the headers prints the constants, the sizes and the offsets."""
    compiler = os.environ.get("CXX", "g++")
    assert shutil.which(compiler)
    written = Path(os.environ["LD_LIBRARY_PATH"].split(os.pathsep)[0], "compiler").read_text()
    include = [
        word for word in shlex.split(written) if word.startswith("-I")
    ]  # where the emulator's kernels find NVIDIA's headers
    fields = [name for name, _ in cublaslt.Result._fields_]
    attributes = {  # what is set, and the type that the header names for it
        "CUBLASLT_MATMUL_DESC_TRANSA": "int32_t", "CUBLASLT_MATMUL_DESC_EPILOGUE": "uint32_t",
        "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": "int32_t", "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": "int64_t",
        "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": "uint64_t", "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": "uint32_t",
    }  # fmt: skip
    lines = [f'say("{name}", {name});' for name in cublaslt.CONSTANTS]
    lines += [f'say("{f}", offsetof(cublasLtMatmulHeuristicResult_t, {f}));' for f in fields]
    lines += [
        'say("size", sizeof(cublasLtMatmulHeuristicResult_t));',
        'say("algo size", sizeof(cublasLtMatmulAlgo_t));',
    ]
    lines += [
        f'say("{kind}", sizeof({kind}));'
        for kind in ("cublasComputeType_t", "cudaDataType", "cublasStatus_t")
    ]
    source = "#include <cublasLt.h>\n#include <stddef.h>\n#include <stdio.h>\n"
    source += 'static void say(const char* name, long long value) { printf("%s=%lld\\n", name, value); }\n'
    source += "int main() {\n" + "\n".join(lines) + "\n}\n"
    (tmp_path / "say.cpp").write_text(source)
    program = tmp_path / "say"
    subprocess.run([compiler, "-w", *include, tmp_path / "say.cpp", "-o", program], check=True)
    text = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    said = {name: int(value) for name, value in (line.split("=") for line in text.splitlines())}
    for name, value in cublaslt.CONSTANTS.items():
        assert said[name] == value, name
    for field in fields:
        assert said[field] == getattr(cublaslt.Result, field).offset, field
    assert said["size"] == ctypes.sizeof(cublaslt.Result)
    assert said["algo size"] == cublaslt.Result.algo.size
    assert {said[kind] for kind in ("cublasComputeType_t", "cudaDataType", "cublasStatus_t")} == {
        ctypes.sizeof(ctypes.c_int)
    }
    header = next(Path(os.environ["CUDA_EMULATOR"]).glob("headers-*/cublasLt.h")).read_text()
    for name, kind in attributes.items():  # the comment before an attribute ends with its type
        before = header[: header.index(f"  {name} =")].rpartition("/**")[2]
        assert f" {kind}" in before.replace(",", " ").replace(";", " "), name
