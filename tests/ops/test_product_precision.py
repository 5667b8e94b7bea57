"""`an.precision`: the numbers to which operands are rounded, and products under it, against NumPy's and PyTorch's 16-bit formats."""

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import use_kernels
from anynet.nn import functional as F
from anynet.ops.precision import rounded
from anynet_backends import resolve
from torch_oracle import torch

rng = np.random.default_rng(0)
TINY, LARGE = 2.0**-149, float(np.finfo("f4").max)
EDGES = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, TINY, -TINY, 2.0**-126, LARGE, -LARGE, 65504.0, 65519.0, 65520.0, 6e-8, 2e-8, 1.0, -1.0],
    "f4",
)  # fmt: skip
TIES = (np.float32(1) + np.arange(64, dtype="f4") * np.float32(2.0**-9)).astype("f4")  # of 8 bits
FINE = (np.float32(-1) - np.arange(64, dtype="f4") * np.float32(2.0**-12)).astype("f4")  # of 11 bits


def numbers():
    anything = rng.integers(0, 2**32, 4000, dtype=np.uint32).view("f4")
    return np.concatenate([EDGES, TIES, FINE, rng.standard_normal(1000).astype("f4"), anything])


def same(a, b):
    return ((a.view("u4") == b.view("u4")) | (np.isnan(a) & np.isnan(b))).all()


def nearest_away(x, bits):
    """Rounded to so many bits of fraction by arithmetic in float64; ties away from zero."""
    with np.errstate(all="ignore"):
        wide = x.astype("f8")
        _, exponent = np.frexp(wide)
        place = np.ldexp(1.0, np.maximum(exponent - 1, -126) - bits)
        return (np.sign(wide) * np.floor(np.abs(wide) / place + 0.5) * place).astype("f4")


def test_bfloat16_is_pytorchs(xp_device):
    x = numbers()
    y = rounded(an.asarray(x, device=xp_device), forward="bfloat16", backward=None)
    assert y.dtype == "float32"
    assert y.device == resolve(xp_device)[1]
    assert same(y.numpy(), torch.tensor(x).bfloat16().float().numpy())


def test_float16_is_numpys(xp_device):
    x = numbers()
    with np.errstate(all="ignore"):
        expected = x.astype("f2").astype("f4")
    assert same(rounded(an.asarray(x, device=xp_device), forward="float16", backward=None).numpy(), expected)


def test_tf32_has_ten_bits_of_fraction(xp_device):
    x = numbers()
    got = rounded(an.asarray(x, device=xp_device), forward="tf32", backward=None).numpy()
    expected = nearest_away(x, 10)
    finite = np.isfinite(x)
    assert same(got[finite] + np.float32(0), expected[finite] + np.float32(0))
    assert same(got[~finite], x[~finite])
    assert not (got[finite].view("u4") & 0x1FFF).any()


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1, 3)])
def test_any_shape_and_strides(shape):
    x = an.asarray(np.full(shape, 1.001, "f4"))
    y = rounded(x, forward="bfloat16", backward=None)
    assert y.shape == shape
    assert (y.numpy() == 1.0).all()
    z = an.asarray(np.arange(1, 13, dtype="f4").reshape(3, 4) + np.float32(2.0**-9)).mT
    assert (rounded(z, forward="bfloat16", backward=None).numpy() == np.arange(1, 13).reshape(3, 4).T).all()


def test_gradients_are_rounded_as_asked():
    x = an.asarray(np.array([1.0, 2.0], "f4"), requires_grad=True)
    y = rounded(x, forward=None, backward="bfloat16")
    an.sum(y * (1.0 + 2.0**-9)).backward()
    assert (y.numpy() == [1.0, 2.0]).all()
    assert (x.grad.numpy() == 1.0).all()


SHORT = {"mixed-bf16": ("bfloat16", 2.0**-8), "mixed-fp16": ("float16", 2.0**-11)}


def pairs(*arrays):
    mine = [an.asarray(a, requires_grad=True) for a in arrays]
    return mine, [torch.tensor(a, requires_grad=True) for a in arrays]


PRODUCTS = {
    "linear": (lambda x, w, b: F.linear(x, w, b), lambda x, w, b: torch.nn.functional.linear(x, w, b), ((5, 7), (4, 7), (4,))),
    "linear of sequences": (lambda x, w: F.linear(x, w), lambda x, w: torch.nn.functional.linear(x, w), ((2, 5, 7), (4, 7))),
    "matmul": (an.matmul, lambda a, b: a @ b, ((2, 5, 7), (2, 7, 3))),
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1), lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1),
        ((2, 3, 6, 6), (4, 3, 3, 3), (4,)),
    ),
    "conv_transpose1d": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2), lambda x, w: torch.nn.functional.conv_transpose1d(x, w, stride=2),
        ((2, 3, 6), (3, 4, 3)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_are_those_of_pytorchs_autocast(product, name):
    """Values and gradients within one unit of the 16-bit format: sums may be taken in another order before they are rounded."""
    mine, theirs, shapes = PRODUCTS[product]
    kind, unit = SHORT[name]
    xs, ts = pairs(*(rng.standard_normal(shape).astype("f4") for shape in shapes))
    with an.precision(name):
        y = mine(*xs)
    with torch.autocast("cpu", dtype=getattr(torch, kind)):
        expected = theirs(*ts)
    assert y.dtype == "float32"
    assert expected.dtype == getattr(torch, kind)
    g = rng.standard_normal(y.shape).astype("f4")
    an.sum(y * an.asarray(g)).backward()
    (expected.float() * torch.tensor(g)).sum().backward()
    found = [(y, expected.detach().float()), *((x.grad, t.grad) for x, t in zip(xs, ts, strict=True))]
    for a, b in found:
        a, b = a.numpy(), b.numpy()
        assert a.dtype == "f4"
        assert same(a, rounded(an.asarray(a), forward=kind, backward=None).numpy()), (
            "a result is no 16-bit number"
        )
        assert np.abs(a - b).max() <= 2 * unit * np.abs(b).max()
    exact = mine(*xs)
    assert not same(exact.numpy(), y.numpy())


def test_tf32_rounds_operands_and_gradients_and_not_results():
    x, w = (rng.standard_normal(shape).astype("f4") for shape in ((5, 7), (4, 7)))
    xs = [an.asarray(v, requires_grad=True) for v in (x, w)]
    with an.precision("tf32"):
        y = F.linear(*xs)
    g = rng.standard_normal((5, 4)).astype("f4")
    an.sum(y * an.asarray(g)).backward()
    a, b, c = (nearest_away(v, 10).astype("f8") for v in (x, w, g))
    for got, exact in ((y, a @ b.T), (xs[0].grad, c @ b), (xs[1].grad, c.T @ a)):
        assert np.abs(got.numpy() - exact).max() < 7 * 2.0**-23 * np.abs(exact).max()
    assert np.abs(y.numpy() - x.astype("f8") @ w.T.astype("f8")).max() > 1e-5


@pytest.mark.parametrize("name", SHORT)
def test_attention_rounds_its_operands_and_result(name):
    kind, unit = SHORT[name]
    xs, ts = pairs(*(rng.standard_normal((2, 2, 5, 4)).astype("f4") for _ in range(3)))
    mask = np.tril(np.ones((5, 5), bool))
    with an.precision(name):
        y = F.scaled_dot_product_attention(*xs, an.asarray(mask))
    low = [t.detach().to(getattr(torch, kind)).float() for t in ts]
    exact = (
        torch.nn.functional.scaled_dot_product_attention(*low, torch.tensor(mask))
        .to(getattr(torch, kind))
        .float()
    )
    assert np.abs(y.numpy() - exact.numpy()).max() <= unit * np.abs(exact.numpy()).max()
    an.sum(y).backward()
    assert all(np.isfinite(x.grad.numpy()).all() and x.grad.dtype == "float32" for x in xs)


def test_everything_else_is_float32():
    x = an.asarray(rng.standard_normal((6, 8)).astype("f4"))
    t = an.asarray(rng.integers(0, 8, 6))
    norm, drop = an.nn.LayerNorm(8), an.nn.BatchNorm1d(8)
    drop.eval()  # so that its statistics stay
    functions = (
        an.sum, lambda v: v * v + v, an.exp, F.gelu, lambda v: F.softmax(v, dim=1), norm, drop, lambda v: F.cross_entropy(v, t),
    )  # fmt: skip
    for f in functions:
        with an.precision("mixed-bf16"):
            y = f(x)
        assert same(y.numpy().reshape(-1), f(x).numpy().reshape(-1))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("layer", [an.nn.LSTM, an.nn.GRU, an.nn.RNN])
def test_recurrent_layers_round_the_products_with_their_inputs(layer, kernels):
    net = layer(8, 4, bias=False)
    x = an.asarray(rng.standard_normal((5, 3, 8)).astype("f4"))
    with use_kernels(kernels):
        with an.precision("tf32"):
            y = net(x)[0].numpy()
        exact = net(x)[0].numpy()
        with an.no_grad():
            net.weight_ih_l0.assign_(rounded(net.weight_ih_l0, forward="tf32", backward=None))
            expected = net(rounded(x, forward="tf32", backward=None))[0].numpy()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
    assert np.max(np.abs(y - exact)) > 1e-5


def test_the_innermost_block_counts_and_is_of_its_thread(in_threads):
    x = an.asarray([[1.0 + 2.0**-9]])
    one = an.ones((1, 1))
    with an.precision("mixed-bf16"):
        with an.precision("float32"):
            assert (x @ one).item() == 1.0 + 2.0**-9
        with an.precision("mixed-fp16"):
            assert (x @ one).item() == 1.0 + 2.0**-9
        assert (x @ one).item() == 1.0
        found = []
        in_threads(lambda: found.append((x @ one).item()), lambda: found.append((x @ one).item()))
        assert found == [1.0 + 2.0**-9] * 2
    assert (x @ one).item() == 1.0 + 2.0**-9


def test_a_compiled_function_notices_the_block():
    x = an.asarray(np.full((2, 2), 1 + 2.0**-9, "f4"))
    step = an.compile(lambda a: a @ an.eye(2) + 1.0)
    exact = step(x).numpy()
    assert (step(x).numpy() == exact).all()
    with an.precision("mixed-bf16"):
        assert (step(x).numpy() == 2.0).all()
    assert (step(x).numpy() == exact).all()

    @an.compile
    def inside(a):
        with an.precision("mixed-bf16"):
            y = a @ an.eye(2)
        return y * 1.5

    for _ in range(3):
        assert (inside(x).numpy() == 1.5).all()


def test_float64_is_left_alone():
    x = an.asarray([[1.0 + 2.0**-40]], dtype="float64")
    with an.precision("mixed-fp16"):
        y = x @ an.ones((1, 1), dtype="float64")
    assert y.dtype == "float64"
    assert y.item() == 1.0 + 2.0**-40


@pytest.mark.parametrize("name", ["bfloat16", "float64", "mixed", None])
def test_other_names_are_refused(name):
    with (
        pytest.raises(
            ValueError,
            match="precision: name must be one of 'float32', 'tf32', 'mixed-bf16', 'mixed-fp16', got",
        ),
        an.precision(name),
    ):
        pass
