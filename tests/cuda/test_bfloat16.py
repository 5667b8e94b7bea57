"""bfloat16 of CuPy: results against float64 of the same numbers, the dtype of each result and gradient, and what is refused."""

import dataclasses
import functools

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.nn import functional as F
from anynet.ops.precision import rounded
from anynet.testing.parity import CASES, compute, distance
from anynet_backends import cupy_bfloat16, get_backend
from ci.cuda_emulator.log import Log

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
pytest.importorskip("ml_dtypes", reason="CuPy has bfloat16 with ml_dtypes")

UNIT = 2.0**-8  # of its size: what rounding to 8 bits changes a number by, at most
REFUSED = ("linalg.", "fft.", "conj, imag")  # the last is of a Fourier transform
SOLVED = {"linalg.vecdot", "linalg.cross", "linalg.outer", "linalg.tensordot", "linalg.trace", "linalg.diagonal", "linalg.matrix_power",
          "linalg.vector_norm", "linalg.matrix_transpose", "fft.fftshift", "fft.ifftshift"}  # fmt: skip
new = functools.partial(an.asarray, device="cuda")


def short(x):
    """The numbers of bfloat16 nearest to x, in the dtype of x, and its gradient as it is."""
    return an.astype(rounded(an.astype(x, an.float32), forward="bfloat16", backward=None), x.dtype)


@pytest.fixture
def on_cuda():
    an.set_default_device("cuda")  # lazy layers are made there
    yield
    an.set_default_device(None)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_operation(case, on_cuda):
    """Within 8 units, or, of what depends more on its numbers, 8 times what rounding its inputs changes."""
    if case.name.startswith(REFUSED) and case.name not in SOLVED:
        with pytest.raises(TypeError, match="bfloat16"):
            compute(case, "cuda", "bfloat16")
        return
    found = compute(case, "cuda", "bfloat16")  # which looks at dtypes
    exact = compute(case, "cpu", "float64")
    on_short = dataclasses.replace(case, function=lambda *xs: case.function(*map(short, xs)))
    reference = compute(on_short, "cpu", "float64")
    moved = max(map(distance, exact, reference))
    limit = 8 * max(UNIT, moved)
    assert max(map(distance, found, reference)) <= limit


@pytest.mark.parametrize(
    ("other", "dtype"),
    [(1.5, "bfloat16"), (2, "bfloat16"), (True, "bfloat16"), (np.float32(0.5), "bfloat16"), (1j, "complex64"), ("bfloat16", "bfloat16"),
     ("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("complex64", "complex64"), ("int8", "bfloat16"),
     ("int64", "bfloat16"), ("uint8", "bfloat16")],
)  # fmt: skip
def test_promotion(other, dtype):
    x = new([1.5, -2.0], dtype="bfloat16")
    y = new([1, 2], dtype=other) if isinstance(other, str) else other
    for made in (x * y, y * x, x + y, an.where(x > 0, x, y)):
        assert made.dtype == dtype
    if isinstance(other, str):
        assert (x * y).tolist() == [1.5, -4.0]
    if not isinstance(other, np.generic):
        assert an.result_type(x, y) == an.result_type(y, x) == dtype


def test_dtypes():
    x = new([1.0, 2.0], dtype="bfloat16")
    assert an.isdtype(x.dtype, "real floating")
    assert an.can_cast(x, an.float32)
    assert not an.can_cast(an.float32, "bfloat16")
    assert an.can_cast("bfloat16", an.complex64)
    info, numbers = an.finfo(x), cupy_bfloat16.importlib.import_module("ml_dtypes").finfo("bfloat16")
    assert (info.bits, info.eps, info.max, info.smallest_normal) == (
        16,
        float(numbers.eps),
        float(numbers.max),
        float(numbers.smallest_normal),
    )


def test_made_converted_and_read():
    values = [1.5, -3.1, 1e-30, 3e38, float("inf"), float("nan")]
    nearest = an.asarray(values, dtype="float32")
    nearest = rounded(nearest, forward="bfloat16", backward=None).numpy()
    x = new(values, dtype="bfloat16")
    assert x.dtype == "bfloat16"
    assert x.numpy().dtype == np.float32  # NumPy has none: float32, of which it is a part
    np.testing.assert_array_equal(x.numpy(), nearest)
    np.testing.assert_array_equal(new(np.asarray(values), dtype="bfloat16").numpy(), nearest)
    np.testing.assert_array_equal(an.astype(x, an.float32).numpy(), nearest)
    assert an.astype(new([2.5, -1.5]), "bfloat16").tolist() == [2.5, -1.5]
    assert an.astype(new([2.5, -1.5], dtype="bfloat16"), an.int32).tolist() == [2, -1]
    for made in (
        an.zeros(3, dtype="bfloat16", device="cuda"), an.full(3, 0.1, dtype="bfloat16", device="cuda"), an.ones_like(x),
        an.arange(4, dtype="bfloat16", device="cuda"), an.random.normal((3,), dtype="bfloat16", device="cuda"),
    ):  # fmt: skip
        assert made.dtype == "bfloat16"
        assert made.device == "cuda:0"
    with pytest.raises(TypeError, match="numpy backend has no dtype bfloat16"):
        an.asarray(values, dtype="bfloat16", device="cpu")


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_float64_is_rounded_once(dtype, bits):
    """A little above the middle of two numbers: float32 would be the middle, and that goes to even."""
    step, little = 2.0**-bits, 2.0**-40
    values = [
        1 + step / 2 + little,
        -1 - step / 2 - little,
        1 + step / 2,
        1 + step / 2 - little,
        1e300,
        float("nan"),
        0.1,
        1e-320,
    ]
    with np.errstate(over="ignore"):
        reference = np.array(values).astype(np.float16).tolist() if dtype == "float16" else None
    expected = [1 + step, -1 - step, 1.0, 1.0, float("inf")]
    for x in [new(values, dtype="float64")] * 5:  # from the third call on as a program, too
        for y in (an.astype(x, dtype), an.astype(x + 0.0, dtype)):
            assert y.dtype == dtype
            assert y.tolist()[:5] == expected
            assert np.isnan(y.tolist()[5])
            assert reference is None or y.tolist()[6:] == reference[6:]


def test_sums_are_added_up_in_float32():
    """10,000 ones: in 8 bits a sum of ones ends at 256."""
    x = an.ones((3, 10_000), dtype="bfloat16", device="cuda")
    for made, expected in (
        (an.sum(x, axis=1), 9984.0),
        (an.mean(x, axis=1), 1.0),
        (x @ x[0], 9984.0),
        (an.cumulative_sum(x[0])[-1:], 9984.0),
    ):
        assert made.dtype == "bfloat16"
        assert set(made.tolist()) == {expected}


@pytest.mark.parametrize(
    "shapes",
    [
        ((5, 7), (7, 3)),
        ((4, 5, 7), (4, 7, 3)),
        ((2, 4, 5, 7), (2, 4, 7, 3)),
        ((7,), (7, 3)),
        ((0, 7), (7, 3)),
    ],
)
def test_products_are_cublaslts(shapes):
    """One launch, of operands and a result in 16 bits."""
    a, b = (new(np.random.default_rng(i).standard_normal(s), dtype="bfloat16") for i, s in enumerate(shapes))
    a @ b
    with Log() as log:
        y = a @ b
    assert y.dtype == "bfloat16"
    assert log.launches <= 1
    np.testing.assert_allclose(y.numpy(), a.numpy() @ b.numpy(), rtol=UNIT, atol=1e-6)


def test_a_product_with_float32_is_float32():
    a, b = new([[1.5, 2.0]], dtype="bfloat16"), new([[2.0], [0.25]])
    y = a @ b
    assert y.dtype == "float32"
    assert y.tolist() == [[3.5]]


def test_order():
    x = new([3.0, -1.5, float("inf"), 2.0, -1.5], dtype="bfloat16")
    assert an.sort(x).tolist() == [-1.5, -1.5, 2.0, 3.0, float("inf")]
    assert an.argsort(x).tolist() == [1, 4, 3, 0, 2]
    values, counts = an.unique_counts(x)
    assert (values.dtype, counts.tolist()) == (x.dtype, [2, 1, 1, 1])
    assert an.searchsorted(an.sort(x), new([2.5], dtype="bfloat16")).tolist() == [3]


@pytest.mark.parametrize(
    "refused",
    [lambda x: an.linalg.inv(x), lambda x: an.linalg.svd(x), lambda x: an.linalg.solve(x, x), lambda x: an.linalg.eigh(x),
     lambda x: an.fft.fft(x), lambda x: an.fft.rfft(x), lambda x: an.linalg.det(x), lambda x: an.linalg.matrix_rank(x)],
)  # fmt: skip
def test_what_has_no_meaning_in_few_bits_is_refused(refused):
    with pytest.raises(TypeError, match="got bfloat16"):
        refused(an.eye(3, dtype="bfloat16", device="cuda"))


def network():
    an.random.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))


@pytest.mark.parametrize(
    "make",
    [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Lion, optim.Muon],
    ids=lambda m: m.__name__,
)
def test_training(make, on_cuda):
    """Each parameter and gradient stays what it is, the state is float32, and the loss falls as that of float32 does."""
    losses = {}
    for dtype in ("bfloat16", "float32"):
        net = network().to("cuda", dtype=dtype)
        parameters = [p for p in net.parameters() if p.ndim == 2 or make is not optim.Muon]
        optimizer = make(parameters, lr=0.01)
        x = an.random.normal((64, 8), dtype=dtype, generator=an.random.Generator(5))
        labels = new(np.arange(64) % 3)
        for _ in range(30):
            loss = F.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            loss.backward()
            assert {str(p.grad.dtype) for p in net.parameters()} == {dtype}
            optimizer.step()
            losses.setdefault(dtype, []).append(float(loss))
        assert loss.dtype == dtype
        assert {str(p.dtype) for p in net.parameters()} == {dtype}
    fell = {dtype: all_[0] - all_[-1] for dtype, all_ in losses.items()}
    assert fell["float32"] > 0.04
    assert abs(fell["bfloat16"] - fell["float32"]) < 0.25 * fell["float32"]


def test_a_network_is_saved_and_loaded(tmp_path):
    net = network().to("cuda", dtype="bfloat16")
    an.save(tmp_path / "net.safetensors", dict(net.state_dict()))
    other = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3)).to(
        "cuda", dtype="bfloat16"
    )
    other.load_state_dict(an.load(tmp_path / "net.safetensors"))
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert theirs.dtype == "bfloat16"
        assert (mine.numpy() == theirs.numpy()).all()


def test_layers_are_made_in_it():
    for layer, shape in (
        (nn.Linear(3, 4, dtype="bfloat16", device="cuda"), (2, 3)),
        (nn.Conv2d(2, 3, 2, dtype="bfloat16", device="cuda"), (1, 2, 4, 4)),
    ):
        y = layer(an.ones(shape, dtype="bfloat16", device="cuda"))
        an.sum(y).backward()
        assert y.dtype == "bfloat16"
        assert {str(p.grad.dtype) for p in layer.parameters()} == {"bfloat16"}


@pytest.mark.parametrize(
    "name", ["gelu", "silu", "softmax", "log_softmax", "layer_norm", "mse_loss", "dropout", "mean"]
)
def test_programs(name):
    """From the third call on an operation and its gradient are programs of the device, which round as the calls did."""
    x = new(np.random.default_rng(1).standard_normal((6, 33)), dtype="bfloat16")
    options = {
        "softmax": (1,),
        "log_softmax": (1,),
        "layer_norm": ((33,),),
        "mse_loss": (x[::-1],),
        "dropout": (0.0,),
    }
    function = an.mean if name == "mean" else getattr(F, name)
    weights = new(
        np.random.default_rng(2).uniform(0.5, 1.5, () if name in ("mean", "mse_loss") else x.shape),
        dtype="bfloat16",
    )
    found, reference = [], []
    for dtype, all_ in (("float64", reference), *[("bfloat16", found)] * 5):
        p = an.Parameter(an.astype(x, dtype))
        y = function(
            p, *(an.astype(o, dtype) if isinstance(o, an.Tensor) else o for o in options.get(name, ()))
        )
        an.sum(y * an.astype(weights, dtype)).backward()
        assert {str(y.dtype), str(p.grad.dtype)} == {dtype}
        all_.append((y.numpy(), p.grad.numpy()))
    for made in found:
        assert distance(made[0], reference[0][0]) <= 2 * UNIT
        assert distance(made[1], reference[0][1]) <= 4 * UNIT


def test_losses_of_likely_classes():
    """What is left of 1 − p where p is near 1."""
    x = new([[9.0, 1.0, 0.0], [0.0, 8.0, 1.0]], dtype="bfloat16")
    for loss in (
        lambda p: F.cross_entropy(p, new([0, 1])),
        lambda p: F.nll_loss(F.log_softmax(p, 1), new([0, 1])),
    ):
        grads = []
        for dtype in ("bfloat16", "float64"):
            p = an.Parameter(an.astype(x, dtype))
            loss(p).backward()
            grads.append(p.grad.numpy())
        np.testing.assert_allclose(grads[0], grads[1], rtol=3 * UNIT)


def test_a_chain_is_one_launch():
    """An operation that has become a program takes as few launches as in float32, but for the rounding of a product with a number."""
    counts = {}
    for dtype in ("float32", "bfloat16"):
        x = an.Parameter(an.full((8, 64), 0.5, dtype=dtype, device="cuda"))
        for _ in range(5):
            with Log() as log:
                y = F.silu(x)
        counts[dtype] = log.launches
        assert y.dtype == dtype
    assert counts["bfloat16"] == counts["float32"]


def test_clipping():
    """The norm of all gradients, in which no sum of squares is cut off."""
    parameters = [an.Parameter(an.ones((30, 40), dtype="bfloat16", device="cuda")) for _ in range(2)]
    for p in parameters:
        p.grad = an.full((30, 40), 3.0, dtype="bfloat16", device="cuda")
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    assert norm.dtype == "bfloat16"
    assert abs(float(norm) - 3.0 * 2400**0.5) <= UNIT * float(norm)
    for p in parameters:
        assert p.grad.dtype == "bfloat16"
        np.testing.assert_allclose(p.grad.numpy(), 2400**-0.5, rtol=2 * UNIT)


def test_compiled():
    step = an.compile(lambda x: an.tanh(x * 0.3) + 1.0)
    x = new([1.5, -2.0], dtype="bfloat16")
    found = [step(x) for _ in range(6)]
    assert {str(y.dtype) for y in found} == {"bfloat16"}
    assert len({tuple(y.tolist()) for y in found}) == 1


def test_names_of_torch():
    import anynet.torch as torch

    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16, device="cuda")
    assert (x * 1.5).dtype is torch.bfloat16
    assert (x + torch.ones(2, device="cuda")).dtype is torch.float32
    assert (x + torch.ones(2, dtype=torch.float16, device="cuda")).dtype is torch.float32
    assert (x * torch.tensor([1, 2], device="cuda")).dtype is torch.bfloat16
    assert torch.ones(2, device="cuda").bfloat16().dtype is torch.bfloat16
    assert torch.finfo(torch.bfloat16).eps == 2.0**-7
    torch.testing.assert_close(x, x * 1.001)


def test_without_ml_dtypes_it_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(cupy_bfloat16, "dtype", lambda: None)
    xp = type(get_backend("cupy"))()
    assert "bfloat16" not in xp.native_dtype
    with pytest.raises(TypeError, match="the cupy backend has no dtype bfloat16"):
        an.dtypes.native(xp, "bfloat16")
