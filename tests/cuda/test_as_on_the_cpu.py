"""What works on the CPU works on a CUDA device: NumPy's scalars, errors of singular matrices, compile, clipping, NaN in clip and sign."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
import anynet.nn.functional as F
from anynet import nn, optim
from anynet.autograd.primitive import use_kernels
from anynet_backends import get_backend
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")


def on_the_device(values, **options):
    return an.asarray(np.asarray(values), device="cuda", **options)


def test_scalars_of_numpy_are_numbers():
    x = on_the_device(np.ones(3, np.float32))
    for y in (x * np.float64(2), np.float32(2) * x, x + np.int64(1), an.maximum(x, np.float32(2))):
        assert (y.device, y.dtype, y.tolist()) == ("cuda:0", an.float32, [2.0, 2.0, 2.0])


def test_clip_and_sign_of_the_backend_wait_for_nothing():
    """As they are called before operations are programs: array-api-compat's index with masks, whose size the host must know."""
    xp, x = get_backend("cupy"), cupy.asarray([-2.0, np.nan, 0.5], dtype=np.float32)
    for _ in range(2):
        with Log() as log:
            found = xp.clip(x, -1.0, xp.asarray(1.0)), xp.clip(x, None, 0.0), xp.sign(x)
    assert log.synchronisations == 0
    for y, expected in zip(found, ([-1, np.nan, 0.5], [-2, np.nan, 0], [-1, np.nan, 1]), strict=True):
        np.testing.assert_array_equal(y.get(), np.float32(expected))


def _random(*shape):
    return on_the_device(np.random.default_rng(2).uniform(0.1, 0.9, shape).astype(np.float32))


FIRST_CALLS = {
    "gelu": (F.gelu, [(4, 6)]),
    "erf": (an.special.erf, [(4, 6)]),
    "erfc": (an.special.erfc, [(4, 6)]),
    "clip": (lambda x: an.clip(x, 0.2, 0.8), [(4, 6)]),
    "abs": (an.abs, [(4, 6)]),
    "copysign": (an.copysign, [(4, 6), (4, 6)]),
    "L1": (F.l1_loss, [(4, 6), (4, 6)]),
    "Huber": (F.huber_loss, [(4, 6), (4, 6)]),
    "smooth L1": (F.smooth_l1_loss, [(4, 6), (4, 6)]),
    "binary cross-entropy": (F.binary_cross_entropy, [(4, 6), (4, 6)]),
    "cosine similarity": (F.cosine_similarity, [(4, 6), (4, 6)]),
    "pairwise distance": (F.pairwise_distance, [(4, 6), (4, 6)]),
    "vector norm": (an.linalg.vector_norm, [(4, 6)]),
    "grid_sample": (lambda x, g: F.grid_sample(x, g, align_corners=False), [(1, 2, 4, 4), (1, 3, 3, 2)]),
}


@pytest.mark.parametrize("name", FIRST_CALLS)
def test_the_first_call_waits_for_nothing(name):
    """Before operations are programs, and with the gradients: what array-api-compat's `clip` and `sign` are in would wait."""
    function, shapes = FIRST_CALLS[name]
    xs = [_random(*shape) for shape in shapes]
    xs[0].requires_grad_()
    with Log() as log:
        an.sum(function(*xs)).backward()
    assert log.synchronisations == 0


@pytest.mark.parametrize("make", [optim.Lion, optim.Rprop])
def test_the_first_step_of_what_takes_signs_waits_for_nothing(make):
    net = nn.Linear(3, 2).to("cuda")
    optimizer = make(net.parameters(), lr=0.01)
    for kernels in (True, False):
        an.sum(net(_random(4, 3))).backward()
        with use_kernels(kernels), Log() as log:
            optimizer.step()
        assert log.synchronisations == 0


@pytest.mark.skipif(not present(), reason="launches are counted by the CUDA emulator")
@pytest.mark.parametrize("function", [F.gelu, an.special.erf, an.special.erfc])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_error_function_is_one_kernel_from_the_first_call(function, dtype):
    """A polynomial with cuts, as the reference has it, would be a dozen."""
    x = an.astype(_random(5, 7), dtype).requires_grad_()
    with Log() as log:
        function(x)
    assert log.launches == 1


@pytest.mark.parametrize(("twice", "most"), [(False, 2), (True, 3)])
def test_rows_are_set_by_an_index_on_the_device(twice, most):
    """The host asks whether it names a row twice, and how many rows there are, whatever its length; it fetches no index."""
    for rows in (3, 300):
        index = list(range(2 * rows - 2, -1, -2)) + ([4, 0] if twice else [])
        values = np.arange(3.0 * len(index), dtype=np.float32).reshape(-1, 3)
        expected = np.zeros((2 * rows, 3), np.float32)
        expected[index] = values
        x, where, given = on_the_device(np.zeros_like(expected)), on_the_device(index), on_the_device(values)
        with Log() as log:
            x[where] = given
        assert log.synchronisations <= most
        np.testing.assert_array_equal(x.numpy(), expected)


SINGULAR = np.asarray([[1.0, 2.0], [2.0, 4.0]])
INDEFINITE = np.asarray([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(
    ("function", "matrix"),
    [
        (an.linalg.inv, SINGULAR),
        (lambda a: an.linalg.solve(a, an.ones(a.shape, dtype=a.dtype, device=a.device)), SINGULAR),
        (an.linalg.cholesky, INDEFINITE),
    ],
    ids=["inv", "solve", "cholesky"],
)
def test_singular_matrices_raise(function, matrix, batch):
    with pytest.raises(np.linalg.LinAlgError):
        function(on_the_device(np.broadcast_to(matrix, (*batch, 2, 2)).copy()))


def test_compile_runs_a_function_that_moves_its_arguments_as_it_is_and_says_so_once():
    net = nn.LayerNorm(3).to("cuda")
    moved_inside = an.compile(lambda v: an.sum(net(v.to("cuda"))).detach())
    expected = float(an.sum(net(on_the_device(np.ones((4, 3), np.float32)))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [moved_inside(an.ones((4, 3))) for _ in range(6)]
    np.testing.assert_allclose([y.item() for y in found], expected, atol=1e-6)
    assert len(said) == 1
    assert f"is called as it is, not as a program: {__file__}:" in str(said[0].message)


@pytest.mark.parametrize("flat", [True, False])
def test_clipping_gives_what_it_gives_on_the_cpu(flat):
    grads = {}
    for device in ("cpu", "cuda"):
        an.random.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(device)
        if flat:
            an.optim.SGD(net.parameters(), lr=0.1)  # whose gradients lie in one vector
        an.sum(net(an.ones((5, 3), device=device)) ** 2).backward()
        total = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        grads[device] = [float(total), *(p.grad.numpy() for p in net.parameters())]
    for a, b in zip(grads["cpu"], grads["cuda"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_nan_passes_through_clip_and_sign():
    x = on_the_device([np.nan, -2.0, 0.0, 3.0])
    np.testing.assert_array_equal(an.clip(x, -1.0, 1.0).numpy(), [np.nan, -1.0, 0.0, 1.0])
    np.testing.assert_array_equal(an.clip(x, on_the_device(np.nan), None).numpy(), [np.nan] * 4)
    np.testing.assert_array_equal(an.sign(x).numpy(), [np.nan, -1.0, 0.0, 1.0])
    small = on_the_device(np.asarray([-100, 5, 100], np.int8))
    assert an.clip(small, -1000, 50).tolist() == [-100, 5, 50]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sign_and_gelu_in_each_precision(dtype):
    values = np.asarray([-2.0, -0.5, 0.0, 0.5, 2.0], dtype)
    for function in (an.sign, F.gelu, an.special.erf):
        here, there = function(an.asarray(values)), function(on_the_device(values))
        assert there.dtype == dtype
        np.testing.assert_allclose(
            there.numpy(), here.numpy(), rtol=2e-3 if dtype == "float16" else 1e-6, atol=1e-7
        )


def test_an_error_of_memory_says_how_much_there_is():
    x = on_the_device(np.ones((1, 1), np.float32))
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError) as found:
        an.broadcast_to(x, (1 << 20, 1 << 16)) + 1.0
    notes = "\n".join(found.value.__notes__)
    assert "in anynet " in notes
    assert "free of" in notes
    assert "CuPy's pool holds" in notes
